//! The `compression` section: which algorithm, with which of POT's parameters.
//!
//! Every parameter POT knows is recognised. One that this release does not carry out is refused where it is set to
//! anything but its default, so that no setting is ever silently lost.

use super::document::{Node, Object, flatten};
use super::ignored::read_ignored;
use super::{
    AccuracyConfig, Algorithm, DropType, Granularity, Ignored, Preset, QuantizationConfig, Symmetry, TargetDevice,
    TensorConfig,
};
use holdfast_common::metric::MetricSpec;

type Compression = (TargetDevice, Algorithm, QuantizationConfig);

/// `metrics` are those of the validation set, where that section could be read.
pub(super) fn read_compression(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<Compression> {
    let compression = node.object()?;
    let device = match compression.get("target_device") {
        None => Some(TargetDevice::Any),
        Some(node) => read_device(&node),
    };
    if let Some(node) = compression.get("model_type")
        && node.choice(&[("None", false), ("transformer", true)]) == Some(true)
    {
        node.unsupported("leave the key out");
    }
    let instead = "the model is written once, when the run ends";
    compression.only_boolean("dump_intermediate_model", false, instead);
    compression.without_effect("inplace_statistics", "statistics never leave the workers as whole tensors");
    compression.without_effect("inplace_statistic", "statistics never leave the workers as whole tensors");
    let algorithms = compression.required("algorithms");
    compression.finish();
    let algorithms = algorithms?;
    let list = algorithms.array()?;
    let [only] = list.as_slice() else {
        algorithms.refuse(&format!("should hold one algorithm, but holds {}", list.len()), None);
        return None;
    };
    let (algorithm, quantization) = read_algorithm(only, metrics)?;
    Some((device?, algorithm, quantization))
}

fn read_device(node: &Node<'_>) -> Option<TargetDevice> {
    let words = [
        ("ANY", Some(TargetDevice::Any)),
        ("CPU", Some(TargetDevice::Cpu)),
        ("CPU_SPR", Some(TargetDevice::CpuSpr)),
        ("GPU", Some(TargetDevice::Gpu)),
        ("VPU", None),
        ("GNA", None),
        ("GNA3", None),
        ("GNA3.5", None),
    ];
    let device = node.choice(&words)?;
    if device.is_none() {
        node.unsupported("ANY, CPU, CPU_SPR and GPU are known");
    }
    device
}

fn read_algorithm(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<(Algorithm, QuantizationConfig)> {
    let entry = node.object()?;
    let accuracy_aware = entry
        .required("name")
        .and_then(|node| node.choice(&[("AccuracyAwareQuantization", true), ("DefaultQuantization", false)]));
    let params = entry.required("params");
    entry.finish();
    let (accuracy_aware, params) = (accuracy_aware?, params?.object()?);
    let quantization = read_quantization(&params);
    if !accuracy_aware {
        params.finish();
        let (quantization, _) = quantization?;
        return Some((Algorithm::DefaultQuantization, quantization));
    }
    let accuracy = read_accuracy(&params, metrics);
    let convert = params.get("convert_to_mixed_preset");
    let wanted = convert.as_ref().and_then(|node| Some((node, node.boolean()?)));
    let possible = quantization.as_ref().is_some_and(|(_, is_performance)| *is_performance);
    let convert_to_mixed_preset = match wanted {
        Some((node, true)) if !possible => {
            node.warn("has no effect: the attempt with the mixed preset follows the performance preset only");
            false
        }
        Some((_, wanted)) => wanted,
        None => false,
    };
    params.finish();
    let (quantization, _) = quantization?;
    let accuracy = AccuracyConfig { convert_to_mixed_preset, ..accuracy? };
    Some((Algorithm::AccuracyAwareQuantization(accuracy), quantization))
}

fn read_accuracy(params: &Object<'_>, metrics: Option<&[MetricSpec]>) -> Option<AccuracyConfig> {
    let maximal_drop = params.get("maximal_drop").map_or(Some(0.01), |node| node.number());
    let drop_words = [("absolute", DropType::Absolute), ("relative", DropType::Relative)];
    let drop_type = params.get("drop_type").map_or(Some(DropType::Absolute), |node| node.choice(&drop_words));
    let ranking_subset_size = params.get("ranking_subset_size").map_or(Some(300), |node| node.count(1));
    let max_iter_num = params.get("max_iter_num").map(|node| node.count(0));
    let use_prev = params.get("use_prev_if_drop_increase").map_or(Some(true), |node| node.boolean());
    if let Some(node) = params.get("base_algorithm") {
        node.choice(&[("DefaultQuantization", ())]);
    }
    let ratio = params.get("metric_subset_ratio").map_or(Some(0.5), |node| {
        let ratio = node.number()?;
        if ratio <= 0.0 {
            node.refuse(&format!("should be above 0 and at most 1, but is {ratio}"), None);
            return None;
        }
        Some(ratio.min(1.0))
    });
    params.only_boolean("tune_hyperparams", false, "leave it out: reverting alone reaches the goal");
    params.only_boolean("annotation_free", false, "label the validation data");
    if let Some(node) = params.get("annotation_conf_threshold")
        && node.number().is_some_and(|threshold| threshold != 0.6)
    {
        node.unsupported("it belongs to `annotation_free`");
    }
    let selection = match params.get("metrics") {
        Some(node) => read_metrics(&node, metrics),
        None => all_metrics(params, metrics),
    };
    let (metrics, baseline_values) = selection?;
    Some(AccuracyConfig {
        metrics,
        baseline_values,
        maximal_drop: maximal_drop?,
        drop_type: drop_type?,
        ranking_subset_size: ranking_subset_size?,
        max_iter_num: flatten(max_iter_num)?,
        use_prev_if_drop_increase: use_prev?,
        convert_to_mixed_preset: false,
        metric_subset_ratio: ratio?,
    })
}

type Selection = (Vec<String>, Option<Vec<f64>>);

fn all_metrics(params: &Object<'_>, metrics: Option<&[MetricSpec]>) -> Option<Selection> {
    let names: Vec<String> = metrics?.iter().map(|metric| metric.name.clone()).collect();
    if names.is_empty() {
        let help = "add `metrics` to the evaluation data set, for instance [{\"type\": \"accuracy\", \"top_k\": 1}]";
        params.node().refuse("lacks a metric to hold: the validation data set has none", Some(help));
        return None;
    }
    Some((names, None))
}

/// A baseline counts only where every metric has one (POT measures all otherwise).
fn read_metrics(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<Selection> {
    let list = node.array()?;
    if list.is_empty() {
        node.refuse("is empty", Some("leave the key out to hold all metrics of the validation data set"));
        return None;
    }
    let mut names = Vec::new();
    let mut baselines = Vec::new();
    let mut complete = true;
    for element in &list {
        let entry = element.object()?;
        let name_node = entry.required("name");
        let name = name_node.as_ref().and_then(|node| find_metric(node, metrics));
        if let (Some(node), Some(metric)) = (entry.get("type"), find(&name, metrics)) {
            check_type(&node, metric);
        }
        baselines.push(entry.get("baseline_value").map(|node| node.number()));
        entry.finish();
        match name {
            Some(name) if names.contains(&name) => {
                element.refuse(&format!("names the metric `{name}` a second time"), None);
                complete = false;
            }
            Some(name) => names.push(name),
            None => complete = false,
        }
    }
    if !complete {
        return None;
    }
    let given = baselines.iter().flatten().count();
    if given > 0 && given < baselines.len() {
        node.warn("gives `baseline_value` for some metrics only: all are measured");
    }
    let baselines: Option<Vec<Option<f64>>> = baselines.into_iter().collect();
    let baseline_values = match baselines {
        Some(values) => Some(values.into_iter().collect::<Option<Vec<f64>>>()?),
        None => None,
    };
    Some((names, baseline_values))
}

fn find<'m>(name: &Option<String>, metrics: Option<&'m [MetricSpec]>) -> Option<&'m MetricSpec> {
    metrics?.iter().find(|metric| Some(&metric.name) == name.as_ref())
}

/// A type beside the name repeats what the data set's metric says.
fn check_type(node: &Node<'_>, metric: &MetricSpec) {
    let Some(kind) = node.string() else {
        return;
    };
    if !metric.definition.is_called(&kind) {
        node.refuse(&format!("is \"{kind}\", but metric `{}` is of another type", metric.name), None);
    }
}

/// The validation set's metric of this name; its bare type will do where that means one metric only.
fn find_metric(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<String> {
    let name = node.string()?;
    let metrics = metrics?;
    if metrics.iter().any(|metric| metric.name == name) {
        return Some(name);
    }
    if let [only] = metrics
        && name == "accuracy"
    {
        return Some(only.name.clone());
    }
    let known: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    let help = if known.is_empty() {
        "the validation data set has no metrics; add them under `engine.datasets`".to_owned()
    } else {
        format!("metrics of the validation data set: {}", known.join(", "))
    };
    node.refuse(&format!("is no metric of the validation data set: \"{name}\""), Some(&help));
    None
}

/// The parameters of the base algorithm, and whether they amount to POT's "performance" preset.
fn read_quantization(params: &Object<'_>) -> Option<(QuantizationConfig, bool)> {
    // The aliases are POT's for processors: there, fully asymmetric means mixed.
    let presets = [
        ("performance", Preset::Performance),
        ("mixed", Preset::Mixed),
        ("symmetric", Preset::Performance),
        ("asymmetric", Preset::Mixed),
        ("accuracy", Preset::Mixed),
    ];
    let preset = params.get("preset").map_or(Some(Preset::Performance), |node| node.choice(&presets));
    let weights = read_tensor(params, "weights", false);
    let activations = read_tensor(params, "activations", true);
    if let Some(node) = params.get("range_estimator") {
        read_range_estimator(&node, true);
    }
    let stat_subset_size = params.get("stat_subset_size").map(|node| node.count(1));
    let shuffle_data = params.get("shuffle_data").map_or(Some(false), |node| node.boolean());
    let seed = params.get("seed").map_or(Some(0), |node| node.count(0));
    let ignored = params.get("ignored").map_or(Some(Ignored::default()), |node| read_ignored(&node));
    refuse_what_is_missing(params);

    let (preset, weights, activations) = (preset?, weights?, activations?);
    let is_performance = match (weights.mode, activations.mode) {
        (Some(Symmetry::Symmetric), Some(Symmetry::Symmetric)) => true,
        (Some(Symmetry::Asymmetric), _) | (_, Some(Symmetry::Asymmetric)) => false,
        (Some(Symmetry::Symmetric) | None, None) | (None, Some(Symmetry::Symmetric)) => preset == Preset::Performance,
    };
    let activation_mode = match preset {
        Preset::Performance => Symmetry::Symmetric,
        Preset::Mixed => Symmetry::Asymmetric,
    };
    let quantization = QuantizationConfig {
        preset,
        weights: weights.with_default_mode(Symmetry::Symmetric),
        activations: activations.with_default_mode(activation_mode),
        stat_subset_size: flatten(stat_subset_size)?,
        shuffle_data: shuffle_data?,
        seed: seed? as u64,
        ignored: ignored?,
    };
    Some((quantization, is_performance))
}

/// POT's further parameters: recognised, refused unless they ask for what happens anyway.
fn refuse_what_is_missing(params: &Object<'_>) {
    params.only_boolean("use_fast_bias", true, "fast bias correction is there");
    params.only_boolean("apply_for_all_nodes", false, "biases of quantized operations are corrected");
    params.only_boolean("use_layerwise_tuning", false, "it needs a training framework");
    if let Some(node) = params.get("threshold")
        && node.number().is_some_and(|threshold| threshold != 2.0)
    {
        node.unsupported("the threshold of fast bias correction is 2.0");
    }
    if let Some(node) = params.get("stat_batch_size")
        && node.count(1).is_some_and(|size| size != 1)
    {
        node.unsupported("statistics are collected sample by sample");
    }
    let tuning = [
        "num_samples_for_tuning",
        "batch_size",
        "optimizer",
        "loss",
        "weight_decay",
        "calibration_indices_pool",
        "use_ranking_subset",
        "calculate_grads_on_loss_increase_only",
        "random_seed",
        "tuning_iterations",
    ];
    for key in tuning {
        params.without_effect(key, "it belongs to `use_layerwise_tuning`");
    }
    if let Some(node) = params.get("saturation_fix")
        && node.choice(&[("no", false), ("first_layer", true), ("all", true)]) == Some(true)
    {
        node.unsupported("write \"no\": Holdfast's int8 kernels cannot saturate");
    }
}

struct TensorOptions {
    bits: u8,
    mode: Option<Symmetry>,
    granularity: Option<Granularity>,
    level_low: Option<i32>,
    level_high: Option<i32>,
}

impl TensorOptions {
    fn with_default_mode(self, mode: Symmetry) -> TensorConfig {
        TensorConfig {
            bits: self.bits,
            mode: self.mode.unwrap_or(mode),
            granularity: self.granularity,
            level_low: self.level_low,
            level_high: self.level_high,
        }
    }
}

fn read_tensor(params: &Object<'_>, key: &'static str, has_aggregator: bool) -> Option<TensorOptions> {
    let Some(node) = params.get(key) else {
        return Some(TensorOptions { bits: 8, mode: None, granularity: None, level_low: None, level_high: None });
    };
    let tensor = node.object()?;
    let bits = tensor.get("bits").map_or(Some(8), |node| node.integer(2, 8));
    let modes = [("symmetric", Symmetry::Symmetric), ("asymmetric", Symmetry::Asymmetric)];
    let mode = tensor.get("mode").map(|node| node.choice(&modes));
    let granularities = [("pertensor", Granularity::PerTensor), ("perchannel", Granularity::PerChannel)];
    let granularity = tensor.get("granularity").map(|node| node.choice(&granularities));
    let (low_node, high_node) = (tensor.get("level_low"), tensor.get("level_high"));
    if let Some(node) = tensor.get("range_estimator") {
        read_range_estimator(&node, has_aggregator);
    }
    tensor.finish();
    let bits = bits?;
    // Signed codes and unsigned ones both fit: -2^(b-1) to 2^b - 1, and no more than 2^b of them.
    let low = low_node.as_ref().map(|node| node.integer(-(1 << (bits - 1)), 0));
    let high = high_node.as_ref().map(|node| node.integer(1, (1 << bits) - 1));
    let (low, high) = (flatten(low)?, flatten(high)?);
    let lowest = low.unwrap_or(-(1 << (bits - 1)));
    if let (Some(high), Some(node)) = (high, &high_node)
        && high - lowest >= 1 << bits
    {
        node.refuse(&format!("and the lowest level, {lowest}, are too far apart for {bits} bits"), None);
        return None;
    }
    Some(TensorOptions {
        bits: bits as u8,
        mode: flatten(mode)?,
        granularity: flatten(granularity)?,
        level_low: low.map(|level| level as i32),
        level_high: high.map(|level| level as i32),
    })
}

/// Recognises the whole section, then refuses anything but the default.
fn read_range_estimator(node: &Node<'_>, has_aggregator: bool) {
    let Some(estimator) = node.object() else {
        return;
    };
    let instead = "ranges come from minima and maxima; leave the key out";
    if let Some(node) = estimator.get("preset")
        && node.choice(&[("default", true), ("quantile", false)]) == Some(false)
    {
        node.unsupported(instead);
    }
    for key in ["min", "max"] {
        let Some(node) = estimator.get(key) else {
            continue;
        };
        let Some(side) = node.object() else {
            continue;
        };
        side.get("type").map(|node| node.string());
        side.get("outlier_prob").map(|node| node.number());
        side.get("clipping_value").map(|node| node.number());
        side.get("granularity").map(|node| node.string());
        if has_aggregator {
            side.get("aggregator").map(|node| node.string());
        }
        let is_default = side.entries().is_empty();
        side.finish();
        if !is_default {
            node.refuse("is not supported yet", Some(instead));
        }
    }
    estimator.finish();
}
