//! What is left to read when a run has ended: `report.json` for programs, `report.html` for people.
//!
//! Never here: deciding, measuring, opening files.

mod chart;
mod html;
mod overview;
#[cfg(test)]
mod tests;

pub use html::render_html;
pub use overview::{
    AnswerOverview, MetricOverview, Outcome, Overview, QuestionOverview, RankedGroup, RoundOverview, TrialOverview,
    TuningOverview,
};

use crate::config::{DatasetConfig, RunRequest};
use holdfast_common::Digest;
use serde::Serialize;

/// Version of the report's layout; raised when a reader of the old one would misread the new one.
pub const REPORT_SCHEMA: u32 = 1;

/// The whole report. Everything but `timings` depends on the request and the data alone: repeated anywhere, with any
/// workers, it is the same text.
///
/// `R` is the algorithm's own record of the run: baseline, rankings, rounds, counts, final state.
#[derive(Clone, Debug, Serialize)]
pub struct Report<R> {
    /// [`REPORT_SCHEMA`].
    pub schema: u32,
    /// Which arithmetic the numbers come from.
    pub engine: EngineInfo,
    /// The float model.
    pub model: ModelInfo,
    /// The data.
    pub data: DataInfo,
    /// Parameters as used, defaults filled in.
    pub parameters: RunRequest,
    /// How the run ended.
    pub outcome: Outcome,
    /// What the algorithm did.
    pub run: R,
    /// Everything that another repetition would change.
    pub timings: Timings,
}

/// The program's version, and that of its arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Version of the program.
    pub version: String,
    /// [`holdfast_common::ENGINE_SEMANTICS`]: equal numbers mean equal results.
    pub semantics: u32,
}

impl EngineInfo {
    /// This program.
    pub fn current() -> EngineInfo {
        EngineInfo { version: env!("CARGO_PKG_VERSION").to_owned(), semantics: holdfast_common::ENGINE_SEMANTICS }
    }
}

/// A model by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Digest of the self-contained ONNX bytes.
    pub digest: Digest,
}

/// The data sets by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataInfo {
    /// Samples that decided.
    pub validation: DatasetInfo,
    /// Samples statistics were collected on.
    pub calibration: DatasetInfo,
}

/// A data set by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatasetInfo {
    /// Its name.
    pub name: String,
    /// Digest of its manifest, which names every sample's content.
    pub manifest: Digest,
    /// Samples in it.
    pub samples: usize,
}

impl DatasetInfo {
    /// Describes a data set by its configured name.
    pub fn new(config: &DatasetConfig, manifest: Digest, samples: usize) -> DatasetInfo {
        DatasetInfo { name: config.name.clone(), manifest, samples }
    }
}

/// What another repetition would change: clocks, machines, and how much the memo store spared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Wall time of the whole run, in seconds.
    pub wall_seconds: f64,
    /// Wall time by stage, in order.
    pub stages: Vec<StageTiming>,
    /// Who computed.
    pub workers: Vec<WorkerInfo>,
    /// Sample evaluations computed in this run.
    pub samples_computed: u64,
    /// Sample evaluations taken from the memo store.
    pub samples_reused: u64,
    /// The coordinator's machine.
    pub host: HostInfo,
}

/// One stage's wall time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTiming {
    /// The stage, as progress shows it.
    pub stage: String,
    /// Seconds; a stage entered several times is summed.
    pub seconds: f64,
    /// Sample evaluations computed in it.
    pub samples_computed: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerInfo {
    /// Its name.
    pub name: String,
    /// The instruction set its kernels use.
    pub isa: String,
    /// Threads it computes with.
    pub threads: usize,
    /// Sample evaluations whose results counted.
    pub samples: u64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostInfo {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Cores this process may use; 0 where that is unknown.
    pub cores: usize,
}

impl Default for HostInfo {
    fn default() -> HostInfo {
        HostInfo {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

impl<R: Serialize> Report<R> {
    /// The text of `report.json`, indented, with a final line break.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}
