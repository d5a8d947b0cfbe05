//! Carrying commands out: files and data in, the algorithm over the cluster, results out.
//!
//! Never here: decisions about quality.

mod annotate;
mod compare;
mod data;
mod evaluate;
mod files;
mod inspect;
mod machine;
mod overview;
mod plan;
mod prepare;
mod quantize;
mod verify;
mod watch;
mod worker;

pub use compare::compare;
pub use evaluate::evaluate;
pub use inspect::Inspection;
pub use plan::plan;
pub use quantize::quantize;
pub use verify::{RuntimeError, verify};
pub use worker::worker;

use crate::artifact::ProviderError;
use crate::cli::exit;
use crate::dataset::DatasetError;
use crate::memo::MemoError;
use crate::output::OutputError;
use crate::server::ServerError;
use holdfast_common::dataset::ManifestError;
use holdfast_common::metric::MetricError;
use holdfast_common::model::{ModelError, SampleShapeError};
use holdfast_core::CoreError;
use holdfast_core::evaluator::EvaluatorError;
use holdfast_proto::message::TaskFailure;
use holdfast_worker::artifact::ArtifactError;
use holdfast_worker::engine::EngineError;
use holdfast_worker::session::SessionError;
use std::path::PathBuf;

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model cannot be used.
    #[error("model {}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModelError,
    },
    /// The model is quantized already.
    #[error(
        "model {} is an int8 model that Holdfast wrote; quantize the float model it was made from (`holdfast evaluate` \
         measures this one, `holdfast verify` runs it elsewhere)", path.display()
    )]
    Quantized {
        /// The file.
        path: PathBuf,
    },
    /// The model cannot be run one sample at a time.
    #[error(transparent)]
    Shapes(#[from] SampleShapeError),
    /// The simplified engine resizes images to an input whose extents the model leaves free, or that is no image.
    #[error(
        "model input `{input}` is no image of 1 or 3 channels with fixed height and width, which the simplified engine \
         needs; say where its channels are by `layout`, or describe the data with the accuracy_checker engine"
    )]
    NoImageInput {
        /// The input.
        input: String,
    },
    /// `--shape` names an input the model does not have.
    #[error("the model has no input `{name}`; its inputs: {}", known.join(", "))]
    UnknownInput {
        /// The name given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A file is no report of ours.
    #[error("{}: {problem}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A data set cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// `annotation_free` finds no label.
    #[error(
        "`annotation_free`: no prediction of {samples} samples has a confidence of {threshold}; lower \
         `annotation_conf_threshold`, or look whether data and preprocessing are the model's"
    )]
    NothingConfident {
        /// The confidence asked for.
        threshold: f64,
        /// Samples there are.
        samples: usize,
    },
    /// A manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A metric cannot be built or folded.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The machine does not offer what was asked for.
    #[error("HOLDFAST_ISA is `{value}`; this machine offers {offered}")]
    Isa {
        /// What was asked for.
        value: String,
        /// What there is.
        offered: String,
    },
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The memo store cannot be used.
    #[error(transparent)]
    Memo(#[from] MemoError),
    /// Artifacts cannot be offered.
    #[error(transparent)]
    Artifacts(#[from] ProviderError),
    /// A worker's artifact cache cannot be used.
    #[error(transparent)]
    Cache(#[from] ArtifactError),
    /// Remote workers cannot be accepted.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A worker ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The algorithm ended without a conclusion.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A sample or the model cannot be computed.
    #[error(transparent)]
    Task(TaskFailure),
    /// The model cannot be run outside.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The finished model cannot be exported.
    #[error("export the quantized model")]
    Export(#[source] ModelError),
    /// A value cannot be written as JSON.
    #[error("write {what} as JSON")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A result cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The program's own threads fail.
    #[error("run the program's threads")]
    Threads(#[source] std::io::Error),
}

impl RunError {
    /// The program's exit code for it: what the user must change is told from what went wrong while running.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Isa { .. }
            | RunError::Read { .. }
            | RunError::Model { .. }
            | RunError::Quantized { .. }
            | RunError::Shapes(_)
            | RunError::NoImageInput { .. }
            | RunError::UnknownInput { .. }
            | RunError::Report { .. }
            | RunError::Dataset(_)
            | RunError::NothingConfident { .. }
            | RunError::Manifest(_)
            | RunError::Core(
                CoreError::UnknownMetric { .. }
                | CoreError::Parameter { .. }
                | CoreError::UnknownOperation(_)
                | CoreError::NoSamples(_),
            ) => exit::CONFIGURATION,
            RunError::Runtime(failure) if failure.is_missing_software() => exit::CONFIGURATION,
            _ => exit::FAILURE,
        }
    }

    /// Whether the user stopped the run; it can be taken up again.
    pub fn is_stopped(&self) -> bool {
        matches!(self, RunError::Core(CoreError::Evaluator(EvaluatorError::Stopped(_))))
    }
}

/// An error with everything that caused it, one cause a line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.ends_with(&line) {
            text.push_str("\n  because: ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}
