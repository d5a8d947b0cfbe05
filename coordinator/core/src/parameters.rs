//! What the user may set, in POT's words, with POT's defaults.

use crate::error::CoreError;
use holdfast_common::evaluation::Statistic;
use holdfast_common::quantization::params::{Rules, Symmetry, TensorClass, Width, levels};
use holdfast_common::quantization::statistics::Aggregator;
use serde::{Deserialize, Serialize};

/// Whether POT's decisions are reproduced or its known flaws are repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Never worse than the best state seen, no evaluation repeated.
    #[default]
    Default,
    /// POT's decisions, without its crashes and hangs.
    Compat,
}

impl Mode {
    /// The rules for ranges that go with it.
    pub fn rules(self) -> Rules {
        match self {
            Mode::Default => Rules::Fixed,
            Mode::Compat => Rules::Compat,
        }
    }
}

/// Which symmetry weights and activations get (`accuracy` means `mixed` on a CPU).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Symmetric weights, symmetric activations.
    #[default]
    Performance,
    /// Symmetric weights, asymmetric activations.
    #[serde(alias = "accuracy")]
    Mixed,
}

/// One set of quant params for the tensor, or one per slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Granularity {
    /// One set.
    #[serde(rename = "pertensor")]
    PerTensor,
    /// One per output channel of weights; of activations, only where a depthwise convolution reads them.
    #[serde(rename = "perchannel")]
    PerChannel,
}

/// How `weights` or `activations` are to be quantized; what is not set follows the preset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TensorParameters {
    /// Symmetric or asymmetric.
    pub mode: Option<Symmetry>,
    /// Per tensor or per channel.
    pub granularity: Option<Granularity>,
    /// Bits and levels.
    pub width: Width,
    /// Statistics that make the range; `None` is the default for the symmetry and granularity.
    pub range_estimator: Option<RangeEstimator>,
}

/// A statistic of every sample, and how samples are aggregated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimator {
    /// Per-sample statistic.
    pub statistic: Statistic,
    /// Aggregator over samples; weights are one sample and have no use for it.
    pub aggregator: Aggregator,
}

/// The two ends of a range. In symmetric mode the lower one only tells signed from unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeEstimator {
    /// Lower end.
    pub min: Estimator,
    /// Upper end.
    pub max: Estimator,
}

impl RangeEstimator {
    /// POT's `default` estimator preset.
    pub fn preset(class: TensorClass, symmetry: Symmetry, granularity: Granularity) -> RangeEstimator {
        let per_channel = granularity == Granularity::PerChannel || class == TensorClass::Weights;
        let (low, high) =
            if per_channel { (Aggregator::Min, Aggregator::Max) } else { (Aggregator::Mean, Aggregator::Mean) };
        match symmetry {
            Symmetry::Symmetric => RangeEstimator {
                min: Estimator { statistic: Statistic::Min, aggregator: Aggregator::Min },
                max: Estimator { statistic: Statistic::AbsMax, aggregator: high },
            },
            Symmetry::Asymmetric => RangeEstimator {
                min: Estimator { statistic: Statistic::Min, aggregator: low },
                max: Estimator { statistic: Statistic::Max, aggregator: high },
            },
        }
    }
}

/// Operations that are to stay float.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// Operation names.
    pub scope: Vec<String>,
    /// ONNX operator types, as [`holdfast_common::graph::OpKind::name`] gives them.
    pub operations: Vec<String>,
}

/// Families of models with their own list of ignored operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// Attention models: element-wise arithmetic and means stay float, products of activations are symmetric.
    Transformer,
}

/// Weights whose codes are halved, for runtimes whose 16-bit pair sums saturate; our kernels do not need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaturationFix {
    /// None.
    No,
    /// The convolutions first met on the way down from the model's inputs.
    FirstLayer,
    /// Every convolution and product.
    All,
}

/// Parameters of DefaultQuantization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationParameters {
    /// `preset`.
    pub preset: Preset,
    /// `stat_subset_size`: the first so many calibration samples; `None` is all.
    pub stat_subset_size: Option<usize>,
    /// `use_fast_bias`: false asks for full bias correction.
    pub use_fast_bias: bool,
    /// `threshold`: a bias correction is applied where its magnitude is below this. The magnitude is the largest
    /// |shift| over |bias| in compat mode; in default mode over the mean absolute maximum of the output, so that
    /// operations without a bias are corrected as well.
    pub threshold: f64,
    /// `ignored`.
    pub ignored: Ignored,
    /// `model_type`.
    pub model_type: Option<ModelType>,
    /// `weights`.
    pub weights: TensorParameters,
    /// `activations`.
    pub activations: TensorParameters,
    /// `saturation_fix`; `None` is `no`, in compat mode `first_layer`.
    pub saturation_fix: Option<SaturationFix>,
}

impl Default for QuantizationParameters {
    fn default() -> QuantizationParameters {
        QuantizationParameters {
            preset: Preset::Performance,
            stat_subset_size: None,
            use_fast_bias: true,
            threshold: 2.0,
            ignored: Ignored::default(),
            model_type: None,
            weights: TensorParameters::default(),
            activations: TensorParameters::default(),
            saturation_fix: None,
        }
    }
}

impl QuantizationParameters {
    /// The symmetry this class of tensors gets: what the user set, else what the preset says.
    pub fn symmetry(&self, class: TensorClass) -> Symmetry {
        match class {
            TensorClass::Weights => self.weights.mode.unwrap_or(Symmetry::Symmetric),
            TensorClass::Activations => self.activations.mode.unwrap_or(match self.preset {
                Preset::Performance => Symmetry::Symmetric,
                Preset::Mixed => Symmetry::Asymmetric,
            }),
        }
    }

    /// The parameters of this class of tensors.
    pub fn tensor(&self, class: TensorClass) -> &TensorParameters {
        match class {
            TensorClass::Weights => &self.weights,
            TensorClass::Activations => &self.activations,
        }
    }

    /// The same parameters with the mixed preset, as `convert_to_mixed_preset` means them.
    pub fn converted_to_mixed(&self) -> QuantizationParameters {
        let mut mixed = self.clone();
        mixed.preset = Preset::Mixed;
        mixed.activations.mode = mixed.activations.mode.map(|_| Symmetry::Asymmetric);
        mixed.weights.mode = mixed.weights.mode.map(|_| Symmetry::Symmetric);
        mixed
    }

    /// Whether quantization is symmetric throughout, so that converting to mixed changes something.
    pub fn is_performance(&self) -> bool {
        self.symmetry(TensorClass::Weights) == Symmetry::Symmetric
            && self.symmetry(TensorClass::Activations) == Symmetry::Symmetric
    }
}

/// How a drop is measured against `maximal_drop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropType {
    /// In the metric's own unit.
    #[default]
    Absolute,
    /// As a share of the baseline.
    Relative,
}

/// One constrained metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricParameters {
    /// Its declared name.
    pub name: String,
    /// `baseline_value`: believed where every constrained metric has one.
    pub baseline_value: Option<f64>,
}

/// Parameters of AccuracyAwareQuantization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Compat or default.
    pub mode: Mode,
    /// Seeds the draw of the comparison subset.
    pub seed: u64,
    /// Parameters of DefaultQuantization.
    pub quantization: QuantizationParameters,
    /// `ranking_subset_size`.
    pub ranking_subset_size: usize,
    /// `max_iter_num`: bound on rounds, rolled-back ones included; `None` is no bound.
    pub max_iter_num: Option<usize>,
    /// `maximal_drop`; negative demands an improvement.
    pub maximal_drop: f64,
    /// `drop_type`.
    pub drop_type: DropType,
    /// `use_prev_if_drop_increase`.
    pub use_prev_if_drop_increase: bool,
    /// `convert_to_mixed_preset`.
    pub convert_to_mixed_preset: bool,
    /// `tune_hyperparams`.
    pub tune_hyperparams: bool,
    /// `metrics`; empty constrains all there are.
    pub metrics: Vec<MetricParameters>,
    /// `metric_subset_ratio`: share of the validation set the ranking subset is picked from where baselines are given.
    pub metric_subset_ratio: f64,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            mode: Mode::Default,
            seed: 0,
            quantization: QuantizationParameters::default(),
            ranking_subset_size: 300,
            max_iter_num: None,
            maximal_drop: 0.01,
            drop_type: DropType::Absolute,
            use_prev_if_drop_increase: true,
            convert_to_mixed_preset: false,
            tune_hyperparams: false,
            metrics: Vec::new(),
            metric_subset_ratio: 0.5,
        }
    }
}

impl Parameters {
    /// Refuses values that mean nothing, and what is not built yet, before anything is paid for.
    pub fn check(&self) -> Result<(), CoreError> {
        let refuse = |parameter: &'static str, problem: String| Err(CoreError::Parameter { parameter, problem });
        if !self.maximal_drop.is_finite() {
            return refuse("maximal_drop", format!("it is {}, but must be a finite number", self.maximal_drop));
        }
        if !(self.metric_subset_ratio > 0.0 && self.metric_subset_ratio.is_finite()) {
            let problem = format!("it is {}, but must be above 0 (1 means all samples)", self.metric_subset_ratio);
            return refuse("metric_subset_ratio", problem);
        }
        if self.ranking_subset_size == 0 {
            return refuse("ranking_subset_size", "it is 0, but ranking needs at least one sample".to_owned());
        }
        if self.quantization.stat_subset_size == Some(0) {
            return refuse("stat_subset_size", "it is 0, but calibration needs at least one sample".to_owned());
        }
        if self.quantization.threshold.is_nan() || self.quantization.threshold <= 0.0 {
            return refuse("threshold", format!("it is {}, but must be above 0", self.quantization.threshold));
        }
        if self.tune_hyperparams {
            return Err(CoreError::NotSupported { parameter: "tune_hyperparams", value: "true" });
        }
        if !self.quantization.use_fast_bias {
            return Err(CoreError::NotSupported { parameter: "use_fast_bias", value: "false" });
        }
        for (section, class) in [("weights", TensorClass::Weights), ("activations", TensorClass::Activations)] {
            for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
                levels(class, symmetry, self.quantization.tensor(class).width)
                    .map_err(|error| CoreError::Parameter { parameter: section, problem: error.to_string() })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        let full = QuantizationParameters { use_fast_bias: false, ..Default::default() };
        let error = Parameters { quantization: full, ..Default::default() }.check().expect_err("not built");
        assert!(error.to_string().contains("use_fast_bias"), "{error}");
        let error = Parameters { tune_hyperparams: true, ..Default::default() }.check().expect_err("not built");
        assert!(error.to_string().contains("tune_hyperparams"), "{error}");
    }

    #[test]
    fn meaningless_numbers_are_refused() {
        for parameters in [
            Parameters { maximal_drop: f64::NAN, ..Default::default() },
            Parameters { metric_subset_ratio: 0.0, ..Default::default() },
            Parameters { ranking_subset_size: 0, ..Default::default() },
        ] {
            assert!(matches!(parameters.check(), Err(CoreError::Parameter { .. })));
        }
        assert!(Parameters { maximal_drop: -0.01, ..Default::default() }.check().is_ok());
    }

    #[test]
    fn accuracy_is_another_word_for_mixed() {
        let preset: Preset = serde_json::from_str("\"accuracy\"").expect("a preset");
        assert_eq!(preset, Preset::Mixed);
    }
}
