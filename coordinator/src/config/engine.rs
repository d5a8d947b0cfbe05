//! The `engine` section: where the data are described, here or in an evaluation file of accuracy-checker.

use super::dataset::{Surroundings, read_dataset};
use super::document::{Node, Object};
use super::files::{parser, read_beside};
use super::keys::{DATASETS, ENGINE, EVALUATED_MODEL, EVALUATION, LAUNCHER};
use super::request::{DataSource, DatasetConfig, Fit};
use holdfast_common::dataset::Preprocessing;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

/// What the section says.
pub(super) struct EngineData {
    /// Labelled samples that decide.
    pub(super) validation: DatasetConfig,
    /// Samples statistics are collected on; `None` where one data set serves both.
    pub(super) calibration: Option<DatasetConfig>,
    /// Samples computed side by side on this machine.
    pub(super) threads: Option<NonZeroUsize>,
    /// Whether the data have no labels and cannot have any.
    pub(super) is_simplified: bool,
}

type Pair = (DatasetConfig, Option<DatasetConfig>);

const INLINE: &str = "describe the data under `datasets`";

/// Reads the section; relative paths are taken from `directory`. `makes_labels`: the data need not have any.
pub(super) fn read_engine(node: &Node<'_>, directory: &Path, makes_labels: bool) -> Option<EngineData> {
    let engine = node.section(&ENGINE)?;
    let types = [("accuracy_checker", false), ("simplified", true)];
    let is_simplified = engine.or("type", false, |node| node.choice(&types))?;
    for key in ["module", "module_config"] {
        if let Some(node) = engine.get(key) {
            node.refuse("asks for code to be run, which Holdfast does not do", Some(INLINE));
        }
    }
    engine.without_effect("name", "the model is named by `model.model_name`");
    engine.without_effect("device", "workers say themselves what they run on");
    let threads = read_requests(&engine);
    if is_simplified {
        let validation = read_simplified(&engine, directory)?;
        return Some(EngineData { validation, calibration: None, threads: threads?, is_simplified });
    }
    for key in ["data_source", "layout", "central_fraction"] {
        if let Some(node) = engine.get(key) {
            node.refuse("belongs to the simplified engine", Some(INLINE));
        }
    }
    let (validation, calibration) = match (engine.get("config"), engine.get("datasets")) {
        (Some(config), Some(_)) => {
            config.refuse("stands beside `datasets`", Some("keep one of the two"));
            None
        }
        (Some(config), None) => read_evaluation(&config, directory, makes_labels),
        (None, _) => read_inline(&engine, directory, makes_labels),
    }?;
    Some(EngineData { validation, calibration, threads: threads?, is_simplified })
}

/// POT's simplified engine: images without labels, resized to the model's input, blue first.
fn read_simplified(engine: &Object<'_>, directory: &Path) -> Option<DatasetConfig> {
    for key in ["config", "launchers", "datasets"] {
        if let Some(node) = engine.get(key) {
            node.refuse("does not go with the simplified engine", Some("describe the images by `data_source`"));
        }
    }
    let layouts = [("NCHW", true), ("CHW", true), ("NHWC", false), ("HWC", false)];
    let channels_first = engine.optional("layout", |node| node.choice(&layouts));
    let central_fraction = engine.or("central_fraction", 1.0, |node| {
        node.number_within(|share| share > 0.0 && share <= 1.0, "a number above 0, at most 1")
    });
    let path = directory.join(engine.required("data_source")?.string()?);
    let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_list = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"));
    let is_listed = is_list || last.contains(['*', '?']);
    Some(DatasetConfig {
        name: "images".to_owned(),
        source: if is_listed { DataSource::Listed(path) } else { DataSource::Folder(path) },
        annotation: None,
        subsample: None,
        preprocessing: Preprocessing::default(),
        input_preprocessing: BTreeMap::new(),
        fit: Some(Fit { channels_first: channels_first?, central_fraction: central_fraction? }),
        metrics: Vec::new(),
    })
}

/// POT's numbers of parallel requests: here, samples computed side by side on this machine.
fn read_requests(engine: &Object<'_>) -> Option<Option<NonZeroUsize>> {
    let of_statistics = engine.optional("stat_requests_number", |node| node.count(0));
    let of_evaluations = engine.optional("eval_requests_number", |node| node.count(0));
    let (of_statistics, of_evaluations) = (of_statistics?, of_evaluations?);
    if of_statistics.is_some() && of_statistics != of_evaluations {
        engine.without_effect("stat_requests_number", "`eval_requests_number` sets the threads of the whole run");
    }
    Some(of_evaluations.and_then(NonZeroUsize::new))
}

/// An evaluation file of accuracy-checker; relative paths in it are taken from its own directory.
fn read_evaluation(node: &Node<'_>, directory: &Path, makes_labels: bool) -> Option<Pair> {
    let name = node.string()?;
    let Some(parse) = parser(Path::new(&name)) else {
        node.refuse("should be a .yml, .yaml or .json file", None);
        return None;
    };
    let file = read_beside(node, directory, parse)?;
    let root = node.findings().root(&file.source).section(&EVALUATION)?;
    if let Some(node) = root.get("evaluations") {
        node.refuse("ask for code to be run, which Holdfast does not do", Some("describe the data under `models`"));
        return None;
    }
    let models = root.required("models")?;
    let list = models.array()?;
    let [only] = list.as_slice() else {
        models.refuse(&format!("should hold one model, but holds {}", list.len()), None);
        return None;
    };
    let model = only.section(&EVALUATED_MODEL)?;
    read_inline(&model, &file.directory, makes_labels)
}

/// `launchers` and `datasets`, of the section itself or of an evaluation file.
fn read_inline(object: &Object<'_>, directory: &Path, makes_labels: bool) -> Option<Pair> {
    let adapter = object.get("launchers").and_then(|node| read_launchers(&node));
    let around = Surroundings { directory, preprocessing: None, adapter, makes_labels };
    let datasets = object.required("datasets")?;
    if datasets.is_object() { read_pair(&datasets, around) } else { read_single(&datasets, &around) }
}

/// Adapters whose outputs every metric of classes or values reads as they are.
const PLAIN_ADAPTERS: [&str; 3] = ["classification", "regression", "segmentation"];

/// Launchers say how accuracy-checker would run the model; of interest is the adapter that metrics are to know about.
fn read_launchers<'d>(node: &Node<'d>) -> Option<Node<'d>> {
    let mut adapters = node.array()?.into_iter().filter_map(|node| node.section(&LAUNCHER)?.get("adapter"));
    let adapter = adapters.next()?;
    let named = if adapter.is_object() { adapter.object()?.required("type")? } else { adapter.clone() };
    let is_plain = PLAIN_ADAPTERS.contains(&named.string()?.as_str());
    (!is_plain).then_some(adapter)
}

fn read_single(node: &Node<'_>, around: &Surroundings<'_, '_>) -> Option<Pair> {
    let list = node.array()?;
    let [only] = list.as_slice() else {
        let help = "for two data sets write {\"optimization\": {…}, \"evaluation\": {…}}";
        node.refuse(&format!("should hold one data set, but holds {}", list.len()), Some(help));
        return None;
    };
    Some((read_dataset(only, around)?, None))
}

fn read_pair<'d>(node: &Node<'d>, around: Surroundings<'d, '_>) -> Option<Pair> {
    let pair = node.section(&DATASETS)?;
    let around = Surroundings { preprocessing: pair.get("preprocessing"), ..around };
    let validation = pair.required("evaluation").and_then(|node| read_dataset(&node, &around));
    let calibration = pair.required("optimization").map(|node| read_dataset(&node, &around));
    Some((validation?, Some(calibration??)))
}
