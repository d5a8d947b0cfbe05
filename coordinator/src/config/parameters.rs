//! The request in the algorithm's own types.

use super::{Algorithm, DropType, Granularity, Mode, Preset, RunRequest, Symmetry, TensorConfig};
use holdfast_common::quantization::params::{self, Width};
use holdfast_core::parameters::{
    self, IgnoredOperation, MetricParameters, Parameters, QuantizationParameters, TensorParameters,
};

impl RunRequest {
    /// What the algorithm is given. Of a request for DefaultQuantization only the `quantization` part has a meaning.
    pub fn parameters(&self) -> Parameters {
        let mode = match self.mode {
            Mode::Default => parameters::Mode::Default,
            Mode::Compat => parameters::Mode::Compat,
        };
        let common =
            Parameters { mode, seed: self.quantization.seed, quantization: self.quantization(), ..Default::default() };
        let accuracy = match &self.algorithm {
            Algorithm::DefaultQuantization => return common,
            Algorithm::AccuracyAwareQuantization(accuracy) => accuracy,
        };
        let baseline = |index: usize| accuracy.baseline_values.as_ref().and_then(|values| values.get(index).copied());
        let metric =
            |(index, name): (usize, &String)| MetricParameters { name: name.clone(), baseline_value: baseline(index) };
        Parameters {
            ranking_subset_size: accuracy.ranking_subset_size,
            max_iter_num: accuracy.max_iter_num,
            maximal_drop: accuracy.maximal_drop,
            drop_type: match accuracy.drop_type {
                DropType::Absolute => parameters::DropType::Absolute,
                DropType::Relative => parameters::DropType::Relative,
            },
            use_prev_if_drop_increase: accuracy.use_prev_if_drop_increase,
            convert_to_mixed_preset: accuracy.convert_to_mixed_preset,
            tune_hyperparams: false,
            metrics: accuracy.metrics.iter().enumerate().map(metric).collect(),
            metric_subset_ratio: accuracy.metric_subset_ratio,
            ..common
        }
    }

    /// Whether POT would give depthwise convolutions one activation scale a channel here. No integer kernel runs that
    /// (ONNX Runtime has none either), so activations stay per tensor; the run says so.
    pub fn lacks_channel_activations(&self) -> bool {
        self.mode == Mode::Compat && self.quantization.activations.granularity.is_none()
    }

    fn activations(&self) -> TensorParameters {
        let mut activations = tensor(&self.quantization.activations);
        if self.lacks_channel_activations() {
            activations.granularity = Some(parameters::Granularity::PerTensor);
        }
        activations
    }

    fn quantization(&self) -> QuantizationParameters {
        let config = &self.quantization;
        QuantizationParameters {
            preset: match config.preset {
                Preset::Performance => parameters::Preset::Performance,
                Preset::Mixed => parameters::Preset::Mixed,
            },
            stat_subset_size: config.stat_subset_size,
            ignored: parameters::Ignored {
                scope: config.ignored.scope.clone(),
                operations: config.ignored.operations.iter().map(|operator| ignored(operator)).collect(),
                ..parameters::Ignored::default()
            },
            weights: tensor(&config.weights),
            activations: self.activations(),
            ..QuantizationParameters::default()
        }
    }
}

fn ignored(operator: &str) -> IgnoredOperation {
    IgnoredOperation { operator: operator.to_owned(), ..IgnoredOperation::default() }
}

fn tensor(config: &TensorConfig) -> TensorParameters {
    TensorParameters {
        mode: Some(match config.mode {
            Symmetry::Symmetric => params::Symmetry::Symmetric,
            Symmetry::Asymmetric => params::Symmetry::Asymmetric,
        }),
        granularity: config.granularity.map(|granularity| match granularity {
            Granularity::PerTensor => parameters::Granularity::PerTensor,
            Granularity::PerChannel => parameters::Granularity::PerChannel,
        }),
        width: Width { bits: config.bits.into(), level_low: config.level_low, level_high: config.level_high },
        range_estimator: None,
    }
}
