//! What the user may set, in POT's words, with POT's defaults.

mod quantization;
mod search;

pub use quantization::{
    EndParameters, EstimatorPreset, Granularity, Ignored, IgnoredOperation, LayerwiseTuning, ModelType, Preset,
    QuantizationParameters, RangeEstimatorParameters, SaturationFix, StatisticKind, TargetDevice, TensorParameters,
};
pub use search::{Budget, Latency, RankBy, SearchParameters, Selection, Strategy};

use crate::error::CoreError;
use holdfast_common::quantization::params::{Rules, Symmetry, TensorClass, levels};
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
    /// Beyond POT: how reverted groups are searched for.
    pub search: SearchParameters,
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
            search: SearchParameters::default(),
        }
    }
}

impl Parameters {
    /// Refuses values that mean nothing before anything is paid for.
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
        if let Some(threshold) = self.quantization.threshold
            && (threshold.is_nan() || threshold <= 0.0)
        {
            return refuse("threshold", format!("it is {threshold}, but must be above 0"));
        }
        self.search.check()?;
        if self.mode == Mode::Compat && self.search.rank_by == RankBy::Distance {
            let problem = "compat mode ranks by the metric, as POT does; leave it out, or use the default mode";
            return refuse("rank_by", problem.to_owned());
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
