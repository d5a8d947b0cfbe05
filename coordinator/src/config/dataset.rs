//! A data set in accuracy-checker's words: samples, annotations, reader, preprocessing, metrics.

use super::document::{Node, Object};
use super::keys::{CONVERSIONS, DATASET, READER};
use super::metrics::{needs_targets, read_metrics};
use super::preprocessing::{ImageReader, read_steps};
use super::request::{AnnotationSource, DataSource, DatasetConfig, Subsample};
use holdfast_common::dataset::Preprocessing;
use holdfast_common::metric::MetricSpec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads one data set; `common` is the preprocessing of those that have none of their own.
pub(super) fn read_dataset(node: &Node<'_>, common: Option<&Node<'_>>, directory: &Path) -> Option<DatasetConfig> {
    let dataset = node.section(&DATASET)?;
    let name = dataset.or("name", "dataset".to_owned(), Node::string);
    let source_node = dataset.required("data_source");
    let source = source_node.as_ref().and_then(|node| read_source(node, directory));
    let annotation = read_annotation(&dataset, directory);
    let subsample = dataset.optional("subsample_size", read_subsample);
    let reader = read_reader(&dataset, source.as_ref());
    let steps = dataset.get("preprocessing");
    let preprocessing = match steps.as_ref().or(common) {
        None => Some(Pipelines { every: Preprocessing::default(), by_input: BTreeMap::new() }),
        Some(node) => read_pipelines(node, reader, source.as_ref()),
    };
    if reader == ImageReader::Bgr && dataset.get("reader").is_none() && !mentions_channels(steps.as_ref().or(common)) {
        dataset.node().warn(
            "does not say in which order the model reads channels: blue first, as with accuracy-checker's default \
             reader. `\"reader\": \"pillow_imread\"` means red first; \"opencv_imread\" silences this",
        );
    }
    let metrics = dataset.or("metrics", Vec::new(), read_metrics);
    if let Some(node) = dataset.get("postprocessing")
        && node.array().is_some_and(|list| !list.is_empty())
    {
        node.refuse("is not supported yet", Some("metrics read the model's outputs as they are"));
    }
    dataset.without_effect("batch", "every sample is computed by itself");
    dataset.without_effect("dataset_meta", "class names do not change a metric");

    let (source, metrics) = (source?, metrics?);
    let annotation = annotation?;
    let is_folder = matches!(source, DataSource::Folder(_));
    let unserved = |metric: &&MetricSpec| !is_folder || needs_targets(&metric.definition);
    if let (None, Some(metric), Some(node)) = (&annotation, metrics.iter().find(unserved), &source_node) {
        let problem = format!("comes without the truth that metric `{}` compares with", metric.name);
        node.refuse(&problem, Some("add `annotation`: an .npy array of class indices, or of target values"));
    }
    let Pipelines { every: preprocessing, by_input: input_preprocessing } = preprocessing?;
    let (name, subsample) = (name?, subsample?);
    Some(DatasetConfig { name, source, annotation, subsample, preprocessing, input_preprocessing, metrics })
}

fn read_source(node: &Node<'_>, directory: &Path) -> Option<DataSource> {
    let is_array = |path: &Path| path.extension().is_some_and(|extension| extension == "npy");
    if !node.is_object() {
        if !node.is_string() {
            node.refuse("should be a path, or an object of one .npy file per model input", None);
            return None;
        }
        let path = directory.join(node.string()?);
        return Some(if is_array(&path) { DataSource::Array(path) } else { DataSource::Folder(path) });
    }
    let mut arrays = BTreeMap::new();
    for (input, node) in node.object()?.entries() {
        let path = PathBuf::from(node.string()?);
        if !is_array(&path) {
            node.refuse("should be an .npy file", None);
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

/// The outer `None` is a mistake, the inner one the absence of labels.
fn read_annotation(dataset: &Object<'_>, directory: &Path) -> Option<Option<AnnotationSource>> {
    let (plain, conversion) = (dataset.get("annotation"), dataset.get("annotation_conversion"));
    if let (Some(_), Some(node)) = (&plain, &conversion) {
        node.refuse("stands beside `annotation`", Some("keep one of the two"));
        return None;
    }
    match (plain, conversion) {
        (Some(node), _) => annotation_file(&node, directory).map(Some),
        (None, Some(node)) => read_conversion(&node, directory).map(Some),
        (None, None) => Some(None),
    }
}

fn annotation_file(node: &Node<'_>, directory: &Path) -> Option<AnnotationSource> {
    let path = directory.join(node.string()?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Some(AnnotationSource::Array(path)),
        Some("pickle" | "pkl" | "json" | "xml") => {
            let help = "give a text file of lines `file index`, or an .npy array of class indices";
            node.refuse("is in a format that is not read", Some(help));
            None
        }
        _ => Some(AnnotationSource::LabelFile(path)),
    }
}

/// Converters of accuracy-checker that are known by name; those with a section in [`CONVERSIONS`] are there.
const CONVERTERS: [(&str, bool); 14] = [
    ("imagenet", true),
    ("cifar", false),
    ("mnist", false),
    ("mnist_csv", false),
    ("mscoco_detection", false),
    ("mscoco_segmentation", false),
    ("mscoco_keypoints", false),
    ("coco_panoptic", false),
    ("voc_detection", false),
    ("voc_segmentation", false),
    ("cityscapes", false),
    ("common_semantic_segmentation", false),
    ("ade20k", false),
    ("squad", false),
];

fn read_conversion(node: &Node<'_>, directory: &Path) -> Option<AnnotationSource> {
    let conversion = node.object()?;
    let converter = conversion.required("converter")?;
    if !converter.choice(&CONVERTERS)? {
        converter.unsupported("\"imagenet\" reads a text file of lines `file index`; class folders need no annotation");
        return None;
    }
    let [imagenet] = CONVERSIONS;
    conversion.refuse_unknown(imagenet, Some("converter"));
    conversion.only_boolean("has_background", false, "shift the class indices in the label file");
    for key in ["labels_file", "dataset_meta_file"] {
        conversion.without_effect(key, "class names do not change a metric");
    }
    conversion.without_effect("images_dir", "files are named relative to `data_source`");
    conversion.required("annotation_file").and_then(|node| annotation_file(&node, directory))
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
    let types = ["bgr_to_rgb", "rgb_to_bgr", "grayscale"];
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
