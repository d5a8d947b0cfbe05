//! The `compression` section: which algorithm, with which of POT's parameters.
//!
//! Every parameter POT knows reaches the algorithm. What the algorithm cannot carry out it refuses itself, so that no
//! setting is ever silently lost.

use super::document::{Node, Object};
use super::engine::EngineData;
use super::keys::{ACCURACY_AWARE, ALGORITHM, COMPRESSION, DEFAULT_QUANTIZATION, METRIC_CHOICE};
use super::quantization::{Quantization, read_quantization};
use super::request::Algorithm;
use holdfast_common::dataset::Truth;
use holdfast_common::metric::MetricSpec;
use holdfast_common::quantization::params::Symmetry;
use holdfast_core::parameters::{
    DropType, MetricParameters, ModelType, Parameters, Preset, QuantizationParameters, TargetDevice,
};

/// The least confidence of a prediction that becomes a label, as in POT.
const CONFIDENCE: f64 = 0.6;

/// What the section says.
pub(super) struct Compression {
    /// What is to be done.
    pub(super) algorithm: Algorithm,
    /// With which parameters; those of the `holdfast` section are still at their defaults.
    pub(super) parameters: Parameters,
    /// `shuffle_data`.
    pub(super) shuffle_data: bool,
    /// `annotation_free`, with its threshold.
    pub(super) annotation_free: Option<f64>,
    /// `dump_intermediate_model`.
    pub(super) dump_intermediate_model: bool,
}

/// `data` is what the engine section says, where it could be read.
pub(super) fn read_compression(node: &Node<'_>, data: Option<&EngineData>) -> Option<Compression> {
    let section = node.section(&COMPRESSION)?;
    let target_device = section.or("target_device", TargetDevice::Any, read_device);
    let models = [("None", None), ("transformer", Some(ModelType::Transformer))];
    let model_type = section.or("model_type", None, |node| node.choice(&models));
    let dump_intermediate_model = section.or("dump_intermediate_model", false, Node::boolean);
    for key in ["inplace_statistics", "inplace_statistic"] {
        if let Some(node) = section.get(key)
            && node.boolean() == Some(false)
        {
            node.warn("has no effect: statistics never leave the workers as whole tensors");
        }
    }
    let algorithms = section.required("algorithms")?;
    let list = algorithms.array()?;
    let [only] = list.as_slice() else {
        algorithms.refuse(&format!("should hold one algorithm, but holds {}", list.len()), None);
        return None;
    };
    let mut compression = read_algorithm(only, data)?;
    compression.parameters.quantization.target_device = target_device?;
    compression.parameters.quantization.model_type = model_type?;
    compression.dump_intermediate_model = dump_intermediate_model?;
    Some(compression)
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

fn read_algorithm(node: &Node<'_>, data: Option<&EngineData>) -> Option<Compression> {
    let metrics = data.map(|data| data.validation.metrics.as_slice());
    let entry = node.section(&ALGORITHM)?;
    let words = [
        ("AccuracyAwareQuantization", Algorithm::AccuracyAwareQuantization),
        ("DefaultQuantization", Algorithm::DefaultQuantization),
    ];
    let algorithm = entry.required("name").and_then(|node| node.choice(&words));
    let params = entry.required("params");
    if algorithm == Some(Algorithm::AccuracyAwareQuantization)
        && data.is_some_and(|data| data.is_simplified)
        && let Some(node) = entry.get("name")
    {
        let help = "use DefaultQuantization, or describe labelled data under `engine.datasets`";
        node.refuse("needs labels, which the simplified engine does not read", Some(help));
        return None;
    }
    let (algorithm, params) = (algorithm?, params?.owned_by(algorithm?.name()));
    match algorithm {
        Algorithm::DefaultQuantization => {
            let quantization = read_quantization(&params.section(&DEFAULT_QUANTIZATION)?)?;
            Some(finished(algorithm, Parameters::default(), quantization))
        }
        Algorithm::AccuracyAwareQuantization => {
            let params = params.section(&ACCURACY_AWARE)?;
            let quantization = read_quantization(&params);
            let accuracy = read_accuracy(&params, metrics);
            let convert = read_conversion(&params, quantization.as_ref().map(|quantization| &quantization.parameters));
            let accuracy = Parameters { convert_to_mixed_preset: convert?, ..accuracy? };
            let annotation_free = read_annotation_free(&params, metrics);
            let (mut accuracy, annotation_free) = (accuracy, annotation_free?);
            if annotation_free.is_some() {
                measure_baseline(&params, &mut accuracy);
            }
            Some(Compression { annotation_free, ..finished(algorithm, accuracy, quantization?) })
        }
    }
}

fn finished(algorithm: Algorithm, parameters: Parameters, read: Quantization) -> Compression {
    let Quantization { parameters: quantization, seed, shuffle_data } = read;
    Compression {
        algorithm,
        parameters: Parameters { quantization, seed, ..parameters },
        shuffle_data,
        annotation_free: None,
        dump_intermediate_model: false,
    }
}

/// POT converts from what it takes for the performance preset only.
fn read_conversion(params: &Object<'_>, quantization: Option<&QuantizationParameters>) -> Option<bool> {
    let Some(node) = params.get("convert_to_mixed_preset") else {
        return Some(false);
    };
    if !node.boolean()? {
        return Some(false);
    }
    let possible = is_performance(quantization?);
    if !possible {
        node.warn("has no effect: the attempt with the mixed preset follows the performance preset only");
    }
    Some(possible)
}

fn is_performance(quantization: &QuantizationParameters) -> bool {
    match (quantization.weights.mode, quantization.activations.mode) {
        (Some(Symmetry::Symmetric), Some(Symmetry::Symmetric)) => true,
        (Some(Symmetry::Asymmetric), _) | (_, Some(Symmetry::Asymmetric)) => false,
        (Some(Symmetry::Symmetric) | None, None) | (None, Some(Symmetry::Symmetric)) => {
            quantization.preset == Preset::Performance
        }
    }
}

fn read_accuracy(params: &Object<'_>, metrics: Option<&[MetricSpec]>) -> Option<Parameters> {
    let default = Parameters::default();
    let maximal_drop = params.or("maximal_drop", default.maximal_drop, Node::number);
    let drops = [("absolute", DropType::Absolute), ("relative", DropType::Relative)];
    let drop_type = params.or("drop_type", default.drop_type, |node| node.choice(&drops));
    let ranking_subset_size = params.or("ranking_subset_size", default.ranking_subset_size, |node| node.count(1));
    let max_iter_num = params.optional("max_iter_num", |node| node.count(0));
    let use_prev = params.or("use_prev_if_drop_increase", default.use_prev_if_drop_increase, Node::boolean);
    let base = params.or("base_algorithm", (), |node| node.choice(&[("DefaultQuantization", ())]));
    // POT takes 1 and more for "all".
    let ratio = params.or("metric_subset_ratio", default.metric_subset_ratio, |node| {
        node.number_within(|ratio| ratio > 0.0, "a number above 0").map(|ratio| ratio.min(1.0))
    });
    let tune_hyperparams = params.or("tune_hyperparams", default.tune_hyperparams, Node::boolean);
    let metrics = match params.get("metrics") {
        Some(node) => read_metrics(&node, metrics),
        None => all_metrics(params, metrics),
    };
    base?;
    Some(Parameters {
        metrics: metrics?,
        maximal_drop: maximal_drop?,
        drop_type: drop_type?,
        ranking_subset_size: ranking_subset_size?,
        max_iter_num: max_iter_num?,
        use_prev_if_drop_increase: use_prev?,
        metric_subset_ratio: ratio?,
        tune_hyperparams: tune_hyperparams?,
        ..default
    })
}

/// The float model is run anyway, and its value on labels of other origin would mean nothing.
fn measure_baseline(params: &Object<'_>, parameters: &mut Parameters) {
    for metric in &mut parameters.metrics {
        if metric.baseline_value.take().is_some()
            && let Some(node) = params.get("metrics")
        {
            node.warn("has a `baseline_value` that has no effect: with `annotation_free` it is measured");
        }
    }
}

/// `annotation_free` and its threshold; predictions can stand for class labels, for nothing else.
fn read_annotation_free(params: &Object<'_>, metrics: Option<&[MetricSpec]>) -> Option<Option<f64>> {
    let is_on = params.or("annotation_free", false, Node::boolean);
    let key = "annotation_conf_threshold";
    let threshold = params.or(key, CONFIDENCE, |node| {
        node.number_within(|confidence| (0.0..=1.0).contains(&confidence), "a number from 0 to 1")
    });
    let (is_on, threshold) = (is_on?, threshold?);
    let Some(node) = params.get("annotation_free").filter(|_| is_on) else {
        params.without_effect_unless_default(key, &ACCURACY_AWARE, "it belongs to `annotation_free`");
        return Some(None);
    };
    let metrics = metrics?;
    if let Some(metric) = metrics.iter().find(|metric| metric.definition.truth() != Truth::Label) {
        let needed = metric.definition.truth().name();
        let problem = format!("makes class labels of predictions, but metric `{}` needs {needed}", metric.name);
        node.refuse(&problem, Some("measure accuracy or another metric of classes, or annotate the data"));
        return None;
    }
    if let Some(odd) = metrics.iter().find(|metric| metric.output != metrics[0].output) {
        let problem = format!("makes labels of one output, but `{}` and `{}` read two", metrics[0].name, odd.name);
        node.refuse(&problem, Some("keep the metrics of one output"));
        return None;
    }
    Some(Some(threshold))
}

fn all_metrics(params: &Object<'_>, metrics: Option<&[MetricSpec]>) -> Option<Vec<MetricParameters>> {
    let metrics = metrics?;
    if metrics.is_empty() {
        let help = "add `metrics` to the evaluation data set, for instance [{\"type\": \"accuracy\", \"top_k\": 1}]";
        params.node().refuse("lacks a metric to hold: the validation data set has none", Some(help));
        return None;
    }
    let named = |metric: &MetricSpec| MetricParameters { name: metric.name.clone(), baseline_value: None };
    Some(metrics.iter().map(named).collect())
}

fn read_metrics(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<Vec<MetricParameters>> {
    let list = node.array()?;
    if list.is_empty() {
        node.refuse("is empty", Some("leave the key out to hold all metrics of the validation data set"));
        return None;
    }
    let mut chosen: Vec<MetricParameters> = Vec::new();
    let mut complete = true;
    for element in &list {
        let Some(metric) = read_metric_choice(element, metrics) else {
            complete = false;
            continue;
        };
        if chosen.iter().any(|other| other.name == metric.name) {
            element.refuse(&format!("names the metric `{}` a second time", metric.name), None);
            complete = false;
        }
        chosen.push(metric);
    }
    let given = chosen.iter().filter(|metric| metric.baseline_value.is_some()).count();
    if given > 0 && given < chosen.len() {
        node.warn("gives `baseline_value` for some metrics only: all are measured");
    }
    complete.then_some(chosen)
}

fn read_metric_choice(node: &Node<'_>, metrics: Option<&[MetricSpec]>) -> Option<MetricParameters> {
    let entry = node.section(&METRIC_CHOICE)?;
    let baseline_value = entry.optional("baseline_value", Node::number);
    let metric = entry.required("name").and_then(|node| find_metric(&node, metrics));
    let kind = entry.optional("type", Node::string)?;
    if let (Some(node), Some(word), Some(metric)) = (entry.get("type"), kind, metric)
        && !metric.definition.is_called(&word)
    {
        node.refuse(&format!("is \"{word}\", but metric `{}` is of another type", metric.name), None);
    }
    Some(MetricParameters { name: metric?.name.clone(), baseline_value: baseline_value? })
}

/// The validation set's metric of this name; its bare type will do where that means one metric only.
fn find_metric<'m>(node: &Node<'_>, metrics: Option<&'m [MetricSpec]>) -> Option<&'m MetricSpec> {
    let name = node.string()?;
    let metrics = metrics?;
    if let Some(metric) = metrics.iter().find(|metric| metric.name == name) {
        return Some(metric);
    }
    if let [only] = metrics
        && only.definition.is_called(&name)
    {
        return Some(only);
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
