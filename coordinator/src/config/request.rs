//! What a run is asked to do, as plain data.

use crate::dataset::CocoNumbering;
use holdfast_common::dataset::Preprocessing;
use holdfast_common::metric::MetricSpec;
use holdfast_core::parameters::{Granularity, Mode, Parameters, SearchParameters, Strategy};
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

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
    /// What is to be done.
    pub algorithm: Algorithm,
    /// With which parameters. Of a request for DefaultQuantization only mode, seed and `quantization` have a meaning.
    pub parameters: Parameters,
    /// Whether calibration samples are drawn at random instead of taken from the front.
    pub shuffle_data: bool,
    /// Where the float model's predictions are the labels: the least confidence of those that count.
    pub annotation_free: Option<f64>,
    /// Whether the quantized model without bias correction is written as well.
    #[serde(skip)]
    pub dump_intermediate_model: bool,
    /// Threads this machine computes with; `None`: all cores.
    #[serde(skip)]
    pub threads: Option<NonZeroUsize>,
    /// Labelled samples that decide.
    pub validation: DatasetConfig,
    /// Samples statistics are collected on; `None`: the validation samples serve.
    pub calibration: Option<DatasetConfig>,
    /// What the user should know: `file:line:column: remark`, or the remark alone.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl RunRequest {
    /// Settles what depends on the mode, once that is final.
    ///
    /// POT gives depthwise convolutions one activation scale a channel. No integer kernel runs that (ONNX Runtime has
    /// none either), so activations stay per tensor unless the user asks otherwise, and the run says so.
    pub fn settled(mut self) -> RunRequest {
        let granularity = &mut self.parameters.quantization.activations.granularity;
        if self.parameters.mode == Mode::Compat && granularity.is_none() {
            *granularity = Some(Granularity::PerTensor);
            let remark = "compat mode: activations of depthwise convolutions are quantized per tensor, not per channel as in POT";
            self.warnings.push(remark.to_owned());
        }
        let idle = idle_parameters(&self.parameters);
        self.warnings.extend(idle.into_iter().map(|(name, why)| format!("`{name}` has no effect: {why}")));
        self
    }
}

/// Parameters that were set to something and that the mode or the strategy does not look at.
fn idle_parameters(parameters: &Parameters) -> Vec<(&'static str, &'static str)> {
    let (search, plain) = (&parameters.search, SearchParameters::default());
    let of_bisection = [
        ("holdfast.bisect_arity", search.bisect_arity != plain.bisect_arity),
        ("holdfast.readmission", search.readmission != plain.readmission),
        ("holdfast.hardest_first", search.hardest_first != plain.hardest_first),
        ("holdfast.racing", search.racing.is_some()),
    ];
    let of_default_mode = [
        ("holdfast.cost_aware", search.cost_aware),
        ("holdfast.hold_out", search.hold_out.is_some()),
        ("holdfast.ranking", search.ranking.is_some()),
        ("holdfast.budget", search.budget != plain.budget),
    ];
    let is_compat = parameters.mode == Mode::Compat;
    let bisects = !is_compat && search.strategy == Strategy::Bisect;
    let mut idle = Vec::new();
    if !bisects {
        let why = if is_compat { "compat mode takes POT's steps" } else { "the greedy strategy does not bisect" };
        idle.extend(of_bisection.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, why)));
    }
    if is_compat {
        idle.extend(
            of_default_mode
                .into_iter()
                .filter(|(_, is_set)| *is_set)
                .map(|(name, _)| (name, "compat mode takes POT's steps")),
        );
    }
    if bisects && !parameters.use_prev_if_drop_increase {
        idle.push(("use_prev_if_drop_increase", "bisection takes no steps back; `\"strategy\": \"greedy\"` does"));
    }
    idle
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Algorithm {
    /// Quantize everything, whatever it costs.
    DefaultQuantization,
    /// Quantize, then revert to float what it takes to stay within the goal.
    AccuracyAwareQuantization,
}

impl Algorithm {
    /// The name, as in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::DefaultQuantization => "DefaultQuantization",
            Algorithm::AccuracyAwareQuantization => "AccuracyAwareQuantization",
        }
    }
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
    /// How images are made to fit whatever the model's input is, in place of preprocessing (POT's simplified engine).
    pub fit: Option<Fit>,
    /// Metrics, with distinct names.
    pub metrics: Vec<MetricSpec>,
}

impl DatasetConfig {
    /// What happens to one model input.
    pub fn preprocessing_of(&self, input: &str) -> &Preprocessing {
        self.input_preprocessing.get(input).unwrap_or(&self.preprocessing)
    }
}

/// How POT's simplified engine makes an image fit the model: cut, resized, blue first, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Whether channels come first; `None`: as the model's input looks.
    pub channels_first: Option<bool>,
    /// Share of height and width that is kept, above 0, at most 1.
    pub central_fraction: f64,
}

/// Where samples lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// A folder of images: one sub-folder a class, or all in one with a label file.
    Folder(PathBuf),
    /// Images without labels, named by a `.txt` file or by a pattern with `*` or `?`.
    Listed(PathBuf),
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
