//! What a run is asked to do: POT's configuration file, or command-line flags, turned into one validated request.
//!
//! Never here: opening models or data, decisions about quality.

mod annotation;
mod data;
mod document;
mod ignored;
mod metric;
mod parameters;
mod params;
mod preprocessing;
mod problem;
#[cfg(test)]
mod tests;

pub use annotation::annotation_advice;

pub use preprocessing::{ImageReader, Steps};
pub use problem::{ConfigError, InvalidConfig, Problem, render};

use crate::dataset::CocoNumbering;
use document::{Context, Node};
use holdfast_common::dataset::Preprocessing;
use holdfast_common::metric::MetricSpec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A configuration larger than this is no configuration.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What a run is asked to do: plain data, validated, paths resolved.
///
/// Serialised it holds what the report shows as parameters: everything that can change a result, but no path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRequest {
    /// Name of the model, for file names and the report; a plain file name.
    pub model_name: String,
    /// The float ONNX model.
    #[serde(skip)]
    pub model: PathBuf,
    /// Whose decisions are taken.
    pub mode: Mode,
    /// The hardware table quantizers are placed by.
    pub target_device: TargetDevice,
    /// What is to be done.
    pub algorithm: Algorithm,
    /// How numbers become int8.
    pub quantization: QuantizationConfig,
    /// Labelled samples that decide.
    pub validation: DatasetConfig,
    /// Samples statistics are collected on; `None`: the validation samples serve.
    pub calibration: Option<DatasetConfig>,
    /// What the user should know: `file:line:column: remark`, or the remark alone.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Whose decisions are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// POT's algorithm with its known flaws mended.
    #[default]
    Default,
    /// POT's decisions, flaws included.
    Compat,
}

/// Devices whose quantization rules are known; on the layers supported here they agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", content = "params")]
pub enum Algorithm {
    /// Quantize everything, whatever it costs.
    DefaultQuantization,
    /// Quantize, then revert to float what it takes to stay within the goal.
    AccuracyAwareQuantization(AccuracyConfig),
}

impl Algorithm {
    /// The name, as in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::DefaultQuantization => "DefaultQuantization",
            Algorithm::AccuracyAwareQuantization(_) => "AccuracyAwareQuantization",
        }
    }
}

/// The goal and the search for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccuracyConfig {
    /// Metrics that must hold, a non-empty selection of the validation set's, in their order here.
    pub metrics: Vec<String>,
    /// Their values for the float model, in the same order, where all are known; else they are measured.
    pub baseline_values: Option<Vec<f64>>,
    /// Largest drop allowed, in the metric's unit or as a share of the baseline; negative asks for a gain.
    pub maximal_drop: f64,
    /// How drops are measured.
    pub drop_type: DropType,
    /// Samples groups are ranked on, at least 1; at most the validation set.
    pub ranking_subset_size: usize,
    /// Rounds of the loop at most, rolled-back ones included; `None`: as many as there are groups.
    pub max_iter_num: Option<usize>,
    /// Whether a round that increases the drop is rolled back.
    pub use_prev_if_drop_increase: bool,
    /// Whether a second attempt with asymmetric activations comes before reverting; only from the performance preset.
    pub convert_to_mixed_preset: bool,
    /// Share of the validation set compared when the baseline is given; above 0, at most 1.
    pub metric_subset_ratio: f64,
}

/// How a drop is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DropType {
    /// In the metric's own unit.
    #[default]
    Absolute,
    /// As a share of the baseline's value.
    Relative,
}

/// How numbers become int8.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationConfig {
    /// The preset after aliases.
    pub preset: Preset,
    /// Weights.
    pub weights: TensorConfig,
    /// Activations.
    pub activations: TensorConfig,
    /// Calibration samples; `None`: all there are.
    pub stat_subset_size: Option<usize>,
    /// Whether calibration samples are drawn at random instead of taken from the front.
    pub shuffle_data: bool,
    /// Seed of every draw.
    pub seed: u64,
    /// Operations that stay float.
    pub ignored: Ignored,
}

/// POT's presets for processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Symmetric weights and activations.
    #[default]
    Performance,
    /// Symmetric weights, asymmetric activations.
    Mixed,
}

/// How one kind of tensor is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TensorConfig {
    /// Bits of a code, 2 to 8, stored in 8.
    pub bits: u8,
    /// Whether the zero point is fixed, after the preset is applied.
    pub mode: Symmetry,
    /// One scale, or one per channel; `None`: weights per channel, activations by the hardware table.
    pub granularity: Option<Granularity>,
    /// Smallest code, where given.
    pub level_low: Option<i32>,
    /// Largest code, where given.
    pub level_high: Option<i32>,
}

/// Whether the zero point is fixed at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Symmetry {
    /// Fixed at 0.
    Symmetric,
    /// Free.
    Asymmetric,
}

/// One set of quantization parameters, or one per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// One for the tensor.
    #[value(name = "pertensor")]
    PerTensor,
    /// One a channel.
    #[value(name = "perchannel")]
    PerChannel,
}

/// Operations that stay float.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ignored {
    /// By name.
    pub scope: Vec<String>,
    /// By ONNX operator type.
    pub operations: Vec<String>,
}

/// Where samples come from and what becomes of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetConfig {
    /// Name for people.
    pub name: String,
    /// The samples.
    #[serde(skip)]
    pub source: DataSource,
    /// Labels, unless the folders' names say them or there are none.
    #[serde(skip)]
    pub annotation: Option<AnnotationSource>,
    /// Samples used of those there are; `None`: all.
    pub subsample: Option<Subsample>,
    /// What happens to every input without an entry below.
    pub preprocessing: Preprocessing,
    /// What happens to these inputs instead.
    pub input_preprocessing: BTreeMap<String, Preprocessing>,
    /// Metrics, with distinct names.
    pub metrics: Vec<MetricSpec>,
}

impl DatasetConfig {
    /// What happens to one model input.
    pub fn preprocessing_of(&self, input: &str) -> &Preprocessing {
        self.input_preprocessing.get(input).unwrap_or(&self.preprocessing)
    }
}

/// Where samples lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// A folder of images: one sub-folder a class, or all in one with a label file.
    Folder(PathBuf),
    /// An `.npy` array whose first axis counts the samples; feeds the model's only input.
    Array(PathBuf),
    /// One such array per model input.
    Arrays(BTreeMap<String, PathBuf>),
}

/// Where labels lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnotationSource {
    /// An array in sample order, in an `.npy` or `.npz` file; what the metrics need says what its rows stand for.
    Array(PathBuf),
    /// A text file of lines `file index` or `file text`, or a folder of label files or of class maps: as the metrics need.
    LabelFile(PathBuf),
    /// A COCO `instances` file.
    Coco {
        /// The JSON file.
        file: PathBuf,
        /// How the model counts its categories.
        numbering: CocoNumbering,
    },
    /// YOLO label files in this folder; `None`: where the images' path says `images`, but in `labels`.
    Yolo(Option<PathBuf>),
}

/// How many samples are used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subsample {
    /// This many.
    Count(usize),
    /// This share, above 0, at most 1.
    Share(f64),
}

/// Reads and validates a configuration file; relative paths in it are taken from its directory.
pub fn load(path: &Path) -> Result<RunRequest, ConfigError> {
    let refuse = |problem: String| ConfigError::Read { path: path.to_owned(), problem };
    let yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    if yaml {
        return Err(refuse("YAML is not supported yet; write the same content as JSON".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(refuse(format!("it is larger than {CONFIG_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| refuse(format!("it is not UTF-8 text: {error}")))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&text, &path.display().to_string(), directory)
}

/// Validates the text of a configuration; `file` names it in messages.
pub fn parse(text: &str, file: &str, directory: &Path) -> Result<RunRequest, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let context = Context::new(text);
    let request = context.parse().and_then(|value| read_file(&context.root(&value), directory));
    let (problems, warnings) = context.into_findings();
    match request {
        Some(mut request) if problems.is_empty() => {
            let place = |warning: &Problem| format!("{file}:{}:{}: {}", warning.line, warning.column, warning.message);
            request.warnings = warnings.iter().map(place).collect();
            Ok(request)
        }
        _ => Err(ConfigError::Invalid(Box::new(InvalidConfig::new(file, text, problems)))),
    }
}

/// Reads every section even where one is broken, so that all mistakes are told at once.
fn read_file(root: &Node<'_>, directory: &Path) -> Option<RunRequest> {
    let file = root.object()?;
    let mode = file.get("holdfast").and_then(|node| read_holdfast(&node)).unwrap_or_default();
    let model = file.required("model").and_then(|node| read_model(&node, directory));
    let data = file.required("engine").and_then(|node| data::read_engine(&node, directory));
    let metrics = data.as_ref().map(|(validation, _)| validation.metrics.as_slice());
    let compression = file.required("compression").and_then(|node| params::read_compression(&node, metrics));
    file.finish();
    let (model_name, model) = model?;
    let (validation, calibration) = data?;
    let (target_device, algorithm, quantization) = compression?;
    let warnings = Vec::new();
    let request = RunRequest {
        model_name,
        model,
        mode,
        target_device,
        algorithm,
        quantization,
        validation,
        calibration,
        warnings,
    };
    Some(request)
}

fn read_holdfast(node: &Node<'_>) -> Option<Mode> {
    let object = node.object()?;
    let words = [("default", Mode::Default), ("compat", Mode::Compat)];
    let mode = object.get("mode").map_or(Some(Mode::Default), |node| node.choice(&words));
    object.finish();
    mode
}

fn read_model(node: &Node<'_>, directory: &Path) -> Option<(String, PathBuf)> {
    let object = node.object()?;
    let path = object.required("model").and_then(|node| {
        let path = PathBuf::from(node.string()?);
        if path.extension().is_some_and(|extension| extension == "xml") {
            node.refuse("is an OpenVINO model", Some("export the model to ONNX and name the .onnx file here"));
            return None;
        }
        Some(directory.join(path))
    });
    object.without_effect("weights", "an ONNX model carries its weights, or names their files itself");
    if let Some(node) = object.get("cascade") {
        node.unsupported("quantize the models of a cascade one by one");
    }
    let name = match object.get("model_name") {
        Some(node) => node.string().filter(|name| {
            let plain = is_file_name(name);
            if !plain {
                node.refuse("should be a plain file name, without `/`", None);
            }
            plain
        }),
        None => path.as_deref().map(model_name),
    };
    object.finish();
    Some((name?, path?))
}

/// The name of a model nobody named: the stem of its file.
pub fn model_name(model: &Path) -> String {
    let stem = model.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| is_file_name(stem)).unwrap_or_else(|| "model".to_owned())
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
