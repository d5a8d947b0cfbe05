//! Metrics: what one sample contributes, how contributions fold, which way is better; one file each.

use crate::dataset::Annotation;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

/// Whether higher or lower values of a metric are better (POT: `higher-better`, `higher-worse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orientation {
    /// Accuracy-like.
    #[serde(rename = "higher-better")]
    HigherBetter,
    /// Error-like.
    #[serde(rename = "higher-worse")]
    HigherWorse,
}

impl Orientation {
    /// +1 where higher is better, −1 where it is worse.
    pub fn sign(self) -> f64 {
        match self {
            Orientation::HigherBetter => 1.0,
            Orientation::HigherWorse => -1.0,
        }
    }
}

/// One metric as declared: its name in reports and its definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSpec {
    /// The name the configuration refers to it by.
    pub name: String,
    /// Which output of the model it reads; `None` is the first.
    pub output: Option<String>,
    /// What it computes.
    pub definition: MetricDefinition,
}

/// The metrics there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum MetricDefinition {
    /// Share of samples whose label is among the `top_k` largest scores.
    Accuracy {
        /// How many of the best scores count.
        top_k: usize,
    },
}

/// The model outputs of one sample, without the batch axis removed: shapes begin with 1.
pub struct Outputs<'a> {
    /// Output names, in model order.
    pub names: &'a [String],
    /// Values, in model order.
    pub values: &'a [ArrayD<f32>],
}

/// A metric cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// The sample's annotation is of another kind.
    #[error("metric `{metric}` needs {expected}, but the sample carries {found}")]
    Annotation {
        /// Metric name.
        metric: String,
        /// What it needs.
        expected: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// The model output has another shape or name than the metric can read.
    #[error("metric `{metric}`: {problem}")]
    Output {
        /// Metric name.
        metric: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// Nothing to fold.
    #[error("metric `{metric}` has no samples to fold")]
    Empty {
        /// Metric name.
        metric: String,
    },
    /// A contribution has another length than the metric writes; the memo store or a worker is broken.
    #[error("metric `{metric}`: a contribution of {found} numbers where {expected} were expected")]
    Contribution {
        /// Metric name.
        metric: String,
        /// Expected length.
        expected: usize,
        /// Found length.
        found: usize,
    },
}

/// A metric: contributions are computed by workers, folded by the coordinator in sample order.
pub trait Metric: Send + Sync {
    /// Which way is better.
    fn orientation(&self) -> Orientation;

    /// What one sample contributes.
    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError>;

    /// The metric of one sample by itself; `None` where that means nothing.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64>;

    /// Folds contributions, given in sample order, in f64 from left to right.
    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError>;
}
