//! The one thing the algorithm may wait for: per-sample results of evaluations.

use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleResult};
use std::fmt;

/// Why a batch of evaluations is asked for; names progress bars and report rows, decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The float model on the validation set.
    Baseline,
    /// Statistics of the float model on the calibration set.
    Calibration,
    /// A fully quantized model on the validation set.
    Quantized,
    /// All groups on the ranking subset.
    Ranking,
    /// A round's candidate on the validation set.
    Validation,
    /// Trials of the tuning search.
    Tuning,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Baseline => "baseline",
            Stage::Calibration => "calibration",
            Stage::Quantized => "quantized model",
            Stage::Ranking => "ranking",
            Stage::Validation => "validation",
            Stage::Tuning => "tuning",
        })
    }
}

/// Results could not be had.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    /// A sample, the model or a worker failed in a way that retries cannot mend.
    #[error("{stage}: {message}")]
    Failed {
        /// The stage that asked.
        stage: Stage,
        /// What happened where, and what to do.
        message: String,
    },
    /// The run is being stopped.
    #[error("{0}: stopped before all results were in")]
    Stopped(Stage),
}

/// Whoever can evaluate: the cluster, or a table in a test.
///
/// Results are pure functions of the evaluation, so an implementation may remember them; the algorithm counts what it
/// asked for, not what was computed.
pub trait Evaluator {
    /// Makes bytes (a scheme, a list of statistics) available to workers under their digest.
    fn publish(&self, bytes: Vec<u8>) -> impl Future<Output = Result<Digest, EvaluatorError>> + Send;

    /// Evaluates all of these, side by side; the answer has one list per evaluation, in the order of its samples.
    fn evaluate(
        &self,
        stage: Stage,
        evaluations: Vec<Evaluation>,
    ) -> impl Future<Output = Result<Vec<Vec<SampleResult>>, EvaluatorError>> + Send;

    /// Evaluations that will probably be asked for next, likeliest first. Whoever has idle workers may begin them; no
    /// answer depends on it. Each call replaces the list of the one before.
    fn anticipate(&self, _stage: Stage, _evaluations: Vec<Evaluation>) {}
}
