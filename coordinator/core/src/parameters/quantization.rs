//! Parameters of DefaultQuantization.

use holdfast_common::quantization::params::{Symmetry, TensorClass, Width};
use holdfast_common::quantization::statistics::Aggregator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// `range_estimator`; `None` falls back to the one above both classes, and that to the default preset.
    pub range_estimator: Option<RangeEstimatorParameters>,
}

/// A named set of estimators to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatorPreset {
    /// Extremes.
    #[default]
    Default,
    /// Quantiles at 1e-4 in place of extremes.
    Quantile,
}

/// `range_estimator` as the user gives it: a preset, and what replaces parts of it at each end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeEstimatorParameters {
    /// `preset`.
    pub preset: EstimatorPreset,
    /// Lower end.
    pub min: EndParameters,
    /// Upper end.
    pub max: EndParameters,
}

/// What replaces the preset's choice at one end of a range, key by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndParameters {
    /// `type`.
    pub statistic: Option<StatisticKind>,
    /// `outlier_prob`: 0 to 1, exclusive of 1; the upper end looks at its complement.
    pub outlier_prob: Option<f64>,
    /// `aggregator`; weights are one sample and have no use for it.
    pub aggregator: Option<Aggregator>,
    /// `granularity` of the statistic; that of the quantizer where absent.
    pub granularity: Option<Granularity>,
    /// `clipping_value`: the end lies no further out than this.
    pub clipping_value: Option<f64>,
}

/// Per-sample statistics by POT's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatisticKind {
    /// Smallest element.
    Min,
    /// Largest element.
    Max,
    /// Largest absolute value.
    AbsMax,
    /// Quantile at `outlier_prob`.
    Quantile,
    /// Quantile of absolute values.
    AbsQuantile,
}

/// Operations that are to stay float.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// `skip_model`: the whole model stays float.
    pub skip_model: bool,
    /// Operation names.
    pub scope: Vec<String>,
    /// Operations by type and attributes.
    pub operations: Vec<IgnoredOperation>,
}

/// Operations of one type whose attributes all have these values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredOperation {
    /// ONNX operator type, as [`holdfast_common::graph::OpKind::name`] gives it.
    pub operator: String,
    /// Attributes by ONNX name and value in JSON.
    pub attributes: BTreeMap<String, serde_json::Value>,
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
    /// `apply_for_all_nodes`: biases of operations whose weights are float are corrected as well.
    pub apply_for_all_nodes: bool,
    /// `threshold`: a bias correction is applied where its magnitude is below this. The magnitude is the largest
    /// |shift| over |bias| in compat mode; in default mode over the mean absolute maximum of the output, so that
    /// operations without a bias are corrected as well.
    /// `None` is 2 for the fast correction, 1000 for the full one.
    pub threshold: Option<f64>,
    /// `ignored`.
    pub ignored: Ignored,
    /// `model_type`.
    pub model_type: Option<ModelType>,
    /// `weights`.
    pub weights: TensorParameters,
    /// `activations`.
    pub activations: TensorParameters,
    /// `range_estimator` for whichever class of tensors has none of its own.
    pub range_estimator: Option<RangeEstimatorParameters>,
    /// `saturation_fix`; `None` is `no`, in compat mode `first_layer`.
    pub saturation_fix: Option<SaturationFix>,
    /// `target_device`.
    pub target_device: TargetDevice,
    /// Activation channel alignment; `None` is on in compat mode, where POT always does it, and off otherwise.
    pub channel_alignment: Option<bool>,
    /// SmoothQuant's alpha for matrix products; `None` is 0.95 for transformers in default mode and off otherwise, a
    /// negative value is off.
    pub smooth_quant_alpha: Option<f64>,
    /// Operations whose weights a transformation has rescaled: their codes are halved as well where `saturation_fix`
    /// halves any. No user sets this.
    pub rescaled: Vec<String>,
    /// `use_layerwise_tuning` with its knobs; `None` is off.
    pub layerwise_tuning: Option<LayerwiseTuning>,
}

/// Devices whose rules for quantization are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TargetDevice {
    /// Any device.
    #[default]
    Any,
    /// A processor.
    Cpu,
    /// A processor with matrix extensions.
    CpuSpr,
    /// A graphics processor.
    Gpu,
}

/// Knobs of layer-wise fine-tuning, with POT's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerwiseTuning {
    /// `num_samples_for_tuning`.
    pub samples: usize,
    /// `batch_size`.
    pub batch_size: usize,
    /// `weight_decay`.
    pub weight_decay: f64,
    /// `calibration_indices_pool`: samples that batches are drawn from.
    pub pool: usize,
}

impl Default for LayerwiseTuning {
    fn default() -> LayerwiseTuning {
        LayerwiseTuning { samples: 5000, batch_size: 25, weight_decay: 0.0, pool: 300 }
    }
}

impl Default for QuantizationParameters {
    fn default() -> QuantizationParameters {
        QuantizationParameters {
            preset: Preset::Performance,
            stat_subset_size: None,
            use_fast_bias: true,
            apply_for_all_nodes: false,
            threshold: None,
            ignored: Ignored::default(),
            model_type: None,
            weights: TensorParameters::default(),
            activations: TensorParameters::default(),
            range_estimator: None,
            saturation_fix: None,
            target_device: TargetDevice::Any,
            channel_alignment: None,
            smooth_quant_alpha: None,
            rescaled: Vec::new(),
            layerwise_tuning: None,
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

    /// `threshold`, with the default of the kind of correction.
    pub fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(if self.use_fast_bias { 2.0 } else { 1000.0 })
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
