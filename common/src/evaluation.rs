//! What is asked of workers and what comes back, sample by sample.

use crate::dataset::Preprocessing;
use crate::digest::Digest;
use crate::metric::MetricSpec;
use crate::scheme::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Samples a leaf of the memo store holds, and the grid tasks are cut on.
pub const LEAF_SAMPLES: usize = 64;

/// Position of a sample in its data set's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleIndex(pub u32);

/// The model a sample is run through: the float baseline, or a scheme with some groups reverted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// Digest of the scheme artifact; `None` is the float model.
    pub scheme: Option<Digest>,
    /// Reverted groups, ascending, without repetition; empty for the float model.
    pub reverted: Vec<GroupId>,
}

impl Candidate {
    /// The float model.
    pub fn baseline() -> Candidate {
        Candidate { scheme: None, reverted: Vec::new() }
    }
}

/// Everything that does not change between the candidates of one run on one data set; an artifact of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Digest of the self-contained ONNX model.
    pub model: Digest,
    /// Digest of the data set manifest.
    pub manifest: Digest,
    /// How a stored sample becomes each model input, by input name.
    pub preprocessing: BTreeMap<String, Preprocessing>,
    /// Metrics whose contributions are wanted, in this order.
    pub metrics: Vec<MetricSpec>,
}

/// One per-sample statistic of one tensor of the float model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticSpec {
    /// Tensor name.
    pub tensor: String,
    /// What is observed.
    pub statistic: Statistic,
    /// `None`: one value a sample. `Some(axis)`: one value per index of this ONNX axis.
    pub axis: Option<usize>,
}

/// Per-sample statistics (spec §2.3; means serve bias correction).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "probability")]
pub enum Statistic {
    /// Smallest element.
    Min,
    /// Largest element.
    Max,
    /// Largest absolute value.
    AbsMax,
    /// Arithmetic mean, accumulated in f64 in ascending element order, rounded to f32.
    Mean,
    /// Linearly interpolated quantile at this probability.
    Quantile(f64),
    /// The same of absolute values.
    AbsQuantile(f64),
}

/// What is wanted of every sample.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// The contribution to every metric of the workload: one part a metric.
    Contributions,
    /// What the model says by itself: one part a metric of the workload, as [`crate::metric::Metric::prediction`] gives it.
    Predictions,
    /// Distances of the outputs to the float model's: one part, as [`crate::distance::distances`] gives it.
    Distance,
    /// Statistics of the float model: one part per [`StatisticSpec`] of the artifact (a JSON list) with this digest.
    Statistics(Digest),
}

/// One candidate over some samples for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evaluation {
    /// Digest of the [`Workload`] artifact.
    pub workload: Digest,
    /// Which model.
    pub candidate: Candidate,
    /// What is wanted.
    pub want: Want,
    /// Which samples, in the order the results come back; no repetition.
    pub samples: Vec<SampleIndex>,
}

/// What one sample gave: one list of numbers per metric or statistic asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleResult {
    /// The parts, in the order of the workload's metrics or of the statistics list.
    pub parts: Vec<Vec<f64>>,
}

/// The key a result is stored under, next to its sample: a digest of all that decides its bits.
pub fn context_digest(workload: Digest, candidate: &Candidate, want: &Want) -> Result<Digest, serde_json::Error> {
    Digest::of_json(&(crate::ENGINE_SEMANTICS, workload, candidate, want))
}
