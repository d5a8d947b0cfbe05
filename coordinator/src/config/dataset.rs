//! A data set in accuracy-checker's words: samples, annotations, reader, preprocessing, metrics.

use super::annotation::{annotation_advice, read_annotation};
use super::document::{Node, Object};
use super::keys::{DATASET, READER};
use super::metric::{Shared, read_metrics};
use super::preprocessing::{ImageReader, read_steps};
use super::request::{DataSource, DatasetConfig, Subsample};
use crate::dataset::is_array_path;
use holdfast_common::dataset::{Preprocessing, Truth};
use holdfast_common::metric::MetricSpec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a data set takes over from what stands around it.
pub(super) struct Surroundings<'d, 'p> {
    /// Relative paths are taken from here.
    pub(super) directory: &'p Path,
    /// Preprocessing of data sets that have none of their own.
    pub(super) preprocessing: Option<Node<'d>>,
    /// What the model's outputs mean, where a launcher says so.
    pub(super) adapter: Option<Node<'d>>,
    /// Whether labels are made in the run, so that data sets need not have them.
    pub(super) makes_labels: bool,
}

/// Reads one data set.
pub(super) fn read_dataset(node: &Node<'_>, surroundings: &Surroundings<'_, '_>) -> Option<DatasetConfig> {
    let dataset = node.section(&DATASET)?;
    let directory = surroundings.directory;
    let name = dataset.or("name", "dataset".to_owned(), Node::string);
    let source_node = dataset.required("data_source");
    let source = source_node.as_ref().and_then(|node| read_source(node, directory));
    let annotation = read_annotation(&dataset, directory);
    let subsample = dataset.optional("subsample_size", read_subsample);
    let reader = read_reader(&dataset, source.as_ref());
    let steps = dataset.get("preprocessing");
    let preprocessing = match steps.as_ref().or(surroundings.preprocessing.as_ref()) {
        None => Some(Pipelines { every: Preprocessing::default(), by_input: BTreeMap::new() }),
        Some(node) => read_pipelines(node, reader, source.as_ref()),
    };
    if reader == ImageReader::Bgr
        && dataset.get("reader").is_none()
        && !mentions_channels(steps.as_ref().or(surroundings.preprocessing.as_ref()))
    {
        dataset.node().warn(
            "does not say in which order the model reads channels: blue first, as with accuracy-checker's default \
             reader. `\"reader\": \"pillow_imread\"` means red first; \"opencv_imread\" silences this",
        );
    }
    let adapter = dataset.get("adapter").or_else(|| surroundings.adapter.clone());
    let shared = Shared { adapter, postprocessing: dataset.get("postprocessing") };
    let metric_list = dataset.get("metrics");
    let metrics = metric_list.as_ref().map_or(Some(Vec::new()), |node| read_metrics(node, &shared));
    if metric_list.is_some() {
        shared.finish(&metric_list.and_then(|node| node.array()).unwrap_or_default());
    }
    dataset.without_effect("batch", "every sample is computed by itself");
    dataset.without_effect("dataset_meta", "class names do not change a metric");

    let (source, metrics) = (source?, metrics?);
    let annotation = annotation?;
    let is_folder = matches!(source, DataSource::Folder(_));
    let unserved = |metric: &&MetricSpec| !is_folder || metric.definition.truth() != Truth::Label;
    if let (None, Some(metric), Some(node)) =
        (&annotation, metrics.iter().find(unserved).filter(|_| !surroundings.makes_labels), &source_node)
    {
        let problem = format!("comes without the truth that metric `{}` compares with", metric.name);
        let advice = annotation_advice(metric.definition.truth());
        node.refuse(&problem, Some(&format!("add `annotation`: {advice}")));
    }
    let Pipelines { every: preprocessing, by_input: input_preprocessing } = preprocessing?;
    let (name, subsample) = (name?, subsample?);
    let fit = None;
    Some(DatasetConfig { name, source, annotation, subsample, preprocessing, input_preprocessing, fit, metrics })
}

fn read_source(node: &Node<'_>, directory: &Path) -> Option<DataSource> {
    if !node.is_object() {
        if !node.is_string() {
            node.refuse("should be a path, or an object of one .npy or .npz file per model input", None);
            return None;
        }
        let path = directory.join(node.string()?);
        return Some(if is_array_path(&path) { DataSource::Array(path) } else { DataSource::Folder(path) });
    }
    let mut arrays = BTreeMap::new();
    for (input, node) in node.object()?.entries() {
        let path = PathBuf::from(node.string()?);
        if !is_array_path(&path) {
            node.refuse("should be an .npy or .npz file", None);
            return None;
        }
        arrays.insert(input, directory.join(path));
    }
    if arrays.is_empty() {
        node.refuse("names no input", Some("write {\"input name\": \"file.npy\"}"));
        return None;
    }
    Some(DataSource::Arrays(arrays))
}

fn read_subsample(node: &Node<'_>) -> Option<Subsample> {
    if !node.is_string() {
        return node.count(1).map(Subsample::Count);
    }
    let text = node.string()?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent.filter(|percent| *percent > 0.0 && *percent <= 100.0) {
        Some(percent) => Some(Subsample::Share(percent / 100.0)),
        None => {
            node.refuse("should be a whole number of samples, or a share such as \"20%\"", None);
            None
        }
    }
}

fn read_reader(dataset: &Object<'_>, source: Option<&DataSource>) -> ImageReader {
    let words = [
        ("opencv_imread", ImageReader::Bgr),
        ("pillow_imread", ImageReader::Rgb),
        ("numpy_reader", ImageReader::Array),
    ];
    let declared = dataset.get("reader");
    let declared =
        declared.and_then(|node| if node.is_object() { node.section(&READER)?.required("type") } else { Some(node) });
    let declared = declared.as_ref().and_then(|node| Some((node, node.choice(&words)?)));
    let is_folder = matches!(source, Some(DataSource::Folder(_)) | None);
    match declared {
        Some((node, reader)) if source.is_some() && is_folder == (reader == ImageReader::Array) => {
            node.refuse("does not fit `data_source`", Some("images are read from a folder, arrays from .npy files"));
            reader
        }
        Some((_, reader)) => reader,
        None if is_folder => ImageReader::Bgr,
        None => ImageReader::Array,
    }
}

/// Whether some step says which order the channels have, or that there is one channel only.
fn mentions_channels(steps: Option<&Node<'_>>) -> bool {
    let Some(steps) = steps.filter(|node| node.is_array()) else {
        return false;
    };
    let types = ["bgr_to_rgb", "rgb_to_bgr", "grayscale", "bgr_to_gray", "rgb_to_gray"];
    let step_type = |node: &Node<'_>| node.json().get("type").and_then(|kind| kind.as_str().map(str::to_owned));
    let steps = steps.array().unwrap_or_default();
    steps.iter().filter_map(step_type).any(|kind| types.contains(&kind.as_str()))
}

struct Pipelines {
    every: Preprocessing,
    by_input: BTreeMap<String, Preprocessing>,
}

/// A list of steps for every input, or an object with a list per input.
fn read_pipelines(node: &Node<'_>, reader: ImageReader, source: Option<&DataSource>) -> Option<Pipelines> {
    if !node.is_object() {
        return Some(Pipelines { every: read_steps(node, reader)?, by_input: BTreeMap::new() });
    }
    let mut by_input = BTreeMap::new();
    for (input, steps) in node.object()?.entries() {
        if let Some(DataSource::Arrays(arrays)) = source
            && !arrays.contains_key(&input)
        {
            let known = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
            steps.refuse("is no input of `data_source`", Some(&format!("its inputs: {known}")));
        }
        by_input.insert(input, read_steps(&steps, reader)?);
    }
    Some(Pipelines { every: Preprocessing::default(), by_input })
}
