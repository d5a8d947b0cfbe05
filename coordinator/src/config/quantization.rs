//! DefaultQuantization's parameters: how numbers become codes.

use super::document::{Node, Object};
use super::ignored::read_ignored;
use super::keys::{
    ACTIVATION_END, ACTIVATION_ESTIMATOR, ACTIVATIONS, DEFAULT_QUANTIZATION, Section, WEIGHT_END, WEIGHT_ESTIMATOR,
    WEIGHTS,
};
use holdfast_common::quantization::params::{Symmetry, TensorClass, Width};
use holdfast_common::quantization::statistics::Aggregator;
use holdfast_core::parameters::{
    EndParameters, EstimatorPreset, Granularity, Ignored, LayerwiseTuning, Preset, QuantizationParameters,
    RangeEstimatorParameters, SaturationFix, StatisticKind, TensorParameters,
};

/// What the keys of DefaultQuantization say.
pub(super) struct Quantization {
    /// The algorithm's own parameters.
    pub(super) parameters: QuantizationParameters,
    /// `seed`.
    pub(super) seed: u64,
    /// `shuffle_data`.
    pub(super) shuffle_data: bool,
}

/// Reads the keys; the caller has refused unknown ones.
pub(super) fn read_quantization(params: &Object<'_>) -> Option<Quantization> {
    // The aliases are POT's for processors: there, fully asymmetric means mixed.
    let presets = [
        ("performance", Preset::Performance),
        ("mixed", Preset::Mixed),
        ("symmetric", Preset::Performance),
        ("asymmetric", Preset::Mixed),
        ("accuracy", Preset::Mixed),
    ];
    let preset = params.or("preset", Preset::default(), |node| node.choice(&presets));
    let weights = params.or("weights", TensorParameters::default(), |node| read_tensor(node, TensorClass::Weights));
    let activations =
        params.or("activations", TensorParameters::default(), |node| read_tensor(node, TensorClass::Activations));
    let range_estimator =
        params.optional("range_estimator", |node| read_range_estimator(node, TensorClass::Activations));
    let stat_subset_size = params.optional("stat_subset_size", |node| node.count(1));
    let shuffle_data = params.or("shuffle_data", false, Node::boolean);
    let seed = params.or("seed", 0, |node| node.integer(0, i64::MAX).map(i64::unsigned_abs));
    if let Some(node) = params.get("stat_batch_size")
        && node.count(1).is_some_and(|size| size != 1)
    {
        node.warn("has no effect: every sample is a batch of its own, which gives the same statistics");
    }
    let ignored = params.or("ignored", Ignored::default(), read_ignored);
    let use_fast_bias = params.or("use_fast_bias", true, Node::boolean);
    let apply_for_all_nodes = params.or("apply_for_all_nodes", false, Node::boolean);
    let threshold =
        params.optional("threshold", |node| node.number_within(|threshold| threshold > 0.0, "a number above 0"));
    let fixes = [("no", SaturationFix::No), ("first_layer", SaturationFix::FirstLayer), ("all", SaturationFix::All)];
    let saturation_fix = params.optional("saturation_fix", |node| node.choice(&fixes));
    let layerwise_tuning = read_tuning(params);
    let parameters = QuantizationParameters {
        preset: preset?,
        stat_subset_size: stat_subset_size?,
        use_fast_bias: use_fast_bias?,
        apply_for_all_nodes: apply_for_all_nodes?,
        threshold: threshold?,
        ignored: ignored?,
        weights: weights?,
        activations: activations?,
        range_estimator: range_estimator?,
        saturation_fix: saturation_fix?,
        layerwise_tuning: layerwise_tuning?,
        ..QuantizationParameters::default()
    };
    Some(Quantization { parameters, seed: seed?, shuffle_data: shuffle_data? })
}

/// Keys that mean something only where layer-wise tuning is on.
const TUNING_KEYS: [&str; 10] = [
    "num_samples_for_tuning",
    "batch_size",
    "weight_decay",
    "calibration_indices_pool",
    "optimizer",
    "loss",
    "use_ranking_subset",
    "calculate_grads_on_loss_increase_only",
    "random_seed",
    "tuning_iterations",
];

/// `use_layerwise_tuning` and its knobs: all are checked, and carried only where tuning is on.
fn read_tuning(params: &Object<'_>) -> Option<Option<LayerwiseTuning>> {
    let default = LayerwiseTuning::default();
    let on = params.or("use_layerwise_tuning", false, Node::boolean);
    let samples = params.or("num_samples_for_tuning", default.samples, |node| node.count(1));
    let batch_size = params.or("batch_size", default.batch_size, |node| node.count(1));
    let weight_decay = params.or("weight_decay", default.weight_decay, |node| {
        node.number_within(|decay| decay >= 0.0, "a number, 0 or more")
    });
    let pool = params.or("calibration_indices_pool", default.pool, |node| node.count(1));
    let optimizer = params.get("optimizer").map(|node| (node.choice(&[("Adam", true), ("SGD", false)]), node));
    let loss = params.or("loss", (), |node| node.choice(&[("l2", ())]));
    let switches = ["use_ranking_subset", "calculate_grads_on_loss_increase_only"]
        .map(|key| params.get(key).map(|node| (node.boolean(), node)));
    if on == Some(true) {
        if let Some((Some(false), node)) = &optimizer {
            node.unsupported("\"Adam\" is there");
        }
        for (value, node) in switches.iter().flatten() {
            if *value == Some(true) {
                node.unsupported("leave it out");
            }
        }
        params.without_effect("random_seed", "`seed` is what counts, as in POT");
        params.without_effect("tuning_iterations", "POT does not read it either");
    } else {
        for key in TUNING_KEYS {
            params.without_effect_unless_default(key, &DEFAULT_QUANTIZATION, "`use_layerwise_tuning` is off");
        }
    }
    loss?;
    let tuning =
        LayerwiseTuning { samples: samples?, batch_size: batch_size?, weight_decay: weight_decay?, pool: pool? };
    Some(on?.then_some(tuning))
}

const GRANULARITIES: [(&str, Granularity); 2] =
    [("pertensor", Granularity::PerTensor), ("perchannel", Granularity::PerChannel)];

fn read_tensor(node: &Node<'_>, class: TensorClass) -> Option<TensorParameters> {
    let section = match class {
        TensorClass::Weights => &WEIGHTS,
        TensorClass::Activations => &ACTIVATIONS,
    };
    let tensor = node.section(section)?;
    let bits = tensor.or("bits", 8, |node| node.integer(2, 8));
    let modes = [("symmetric", Symmetry::Symmetric), ("asymmetric", Symmetry::Asymmetric)];
    let mode = tensor.optional("mode", |node| node.choice(&modes));
    let granularity = tensor.optional("granularity", |node| node.choice(&GRANULARITIES));
    if let (TensorClass::Activations, Some(Some(Granularity::PerChannel))) = (class, &granularity)
        && let Some(node) = tensor.get("granularity")
    {
        node.unsupported(
            "no kernel reads codes of activations with a scale a channel, here or in ONNX Runtime: pertensor",
        );
    }
    let range_estimator = tensor.optional("range_estimator", |node| read_range_estimator(node, class));
    let bits = bits?;
    // Signed codes and unsigned ones both fit: -2^(b-1) to 2^b - 1, and no more than 2^b of them.
    let low = tensor.optional("level_low", |node| node.integer(-(1 << (bits - 1)), 0));
    let high_node = tensor.get("level_high");
    let high = tensor.optional("level_high", |node| node.integer(1, (1 << bits) - 1));
    let (low, high) = (low?, high?);
    let lowest = low.unwrap_or(-(1 << (bits - 1)));
    if let (Some(high), Some(node)) = (high, &high_node)
        && high - lowest >= 1 << bits
    {
        node.refuse(&format!("and the lowest level, {lowest}, are too far apart for {bits} bits"), None);
        return None;
    }
    let level = |level: i64| i32::try_from(level).ok();
    let width =
        Width { bits: u32::try_from(bits).ok()?, level_low: low.and_then(level), level_high: high.and_then(level) };
    Some(TensorParameters { mode: mode?, granularity: granularity?, width, range_estimator: range_estimator? })
}

fn read_range_estimator(node: &Node<'_>, class: TensorClass) -> Option<RangeEstimatorParameters> {
    let (section, end) = match class {
        TensorClass::Weights => (&WEIGHT_ESTIMATOR, &WEIGHT_END),
        TensorClass::Activations => (&ACTIVATION_ESTIMATOR, &ACTIVATION_END),
    };
    let estimator = node.section(section)?;
    let presets = [("default", EstimatorPreset::Default), ("quantile", EstimatorPreset::Quantile)];
    let preset = estimator.or("preset", EstimatorPreset::Default, |node| node.choice(&presets));
    let min = estimator.or("min", EndParameters::default(), |node| read_end(node, end));
    let max = estimator.or("max", EndParameters::default(), |node| read_end(node, end));
    Some(RangeEstimatorParameters { preset: preset?, min: min?, max: max? })
}

fn read_end(node: &Node<'_>, section: &Section) -> Option<EndParameters> {
    let end = node.section(section)?;
    let statistics = [
        ("min", StatisticKind::Min),
        ("max", StatisticKind::Max),
        ("abs_max", StatisticKind::AbsMax),
        ("quantile", StatisticKind::Quantile),
        ("abs_quantile", StatisticKind::AbsQuantile),
    ];
    let aggregators = [
        ("mean", Aggregator::Mean),
        ("max", Aggregator::Max),
        ("min", Aggregator::Min),
        ("median", Aggregator::Median),
        ("mean_no_outliers", Aggregator::MeanNoOutliers),
        ("median_no_outliers", Aggregator::MedianNoOutliers),
        ("hl_estimator", Aggregator::HlEstimator),
    ];
    let statistic = end.optional("type", |node| node.choice(&statistics));
    let outlier_prob = end.optional("outlier_prob", |node| {
        node.number_within(|share| (0.0..1.0).contains(&share), "a number, 0 or more and below 1")
    });
    let aggregator = end.optional("aggregator", |node| node.choice(&aggregators));
    let granularity = end.optional("granularity", |node| node.choice(&GRANULARITIES));
    let clipping_value = end.optional("clipping_value", Node::number);
    Some(EndParameters {
        statistic: statistic?,
        outlier_prob: outlier_prob?,
        aggregator: aggregator?,
        granularity: granularity?,
        clipping_value: clipping_value?,
    })
}
