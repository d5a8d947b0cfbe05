//! Why a run ends without a conclusion.

use crate::evaluator::{EvaluatorError, Stage};
use holdfast_common::Digest;
use holdfast_common::metric::MetricError;
use holdfast_common::model::ModelError;
use holdfast_common::quantization::params::ParamsError;

/// A run cannot go on. Missing the goal is no error but an outcome.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// Results could not be had.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// Contributions could not be folded.
    #[error("{stage}: {source}")]
    Metric {
        /// The stage they come from.
        stage: Stage,
        /// What the metric says.
        source: MetricError,
    },
    /// A metric came out as NaN or infinite, which no limit can be compared with.
    #[error(
        "{stage}: metric `{metric}` is {value}; look for samples it is not defined for, or for overflow in the model"
    )]
    MetricNotFinite {
        /// The stage.
        stage: Stage,
        /// Metric name.
        metric: String,
        /// What it is.
        value: f64,
    },
    /// `metrics` names one that is not declared.
    #[error("metric `{name}` is not declared; there are: {}", declared.join(", "))]
    UnknownMetric {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: Vec<String>,
    },
    /// A data set without samples.
    #[error("the {0} set holds no samples; check the paths and filters of its data source")]
    NoSamples(&'static str),
    /// A parameter has a value that means nothing.
    #[error("`{parameter}`: {problem}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// `ignored` names an operation the model does not have.
    #[error("`ignored` names the operation `{0}`, which the model does not have")]
    UnknownOperation(String),
    /// A range could not be turned into quant params.
    #[error("tensor `{tensor}`: {source}")]
    Params {
        /// Tensor name.
        tensor: String,
        /// What is wrong.
        source: ParamsError,
    },
    /// An answer has another shape than was asked for; a worker or the store of results is broken.
    #[error("{stage}: the evaluator answered {found} {what} where {expected} were asked for")]
    Answer {
        /// The stage.
        stage: Stage,
        /// What was counted.
        what: &'static str,
        /// How many came.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// A scheme was stored under another digest than its own.
    #[error("the scheme {expected} was published as {found}; the artifact store is broken")]
    SchemeDigest {
        /// Its digest.
        expected: Digest,
        /// The digest that came back.
        found: Digest,
    },
    /// A transformed model is none.
    #[error("transform the model")]
    Transformation {
        /// What is wrong.
        source: ModelError,
    },
    /// A value could not be written as JSON.
    #[error("a {what} could not be written as JSON: {source}")]
    Json {
        /// What it was.
        what: &'static str,
        /// What the writer says.
        source: serde_json::Error,
    },
}
