//! How reverted groups are searched for, beyond what POT offers: the `holdfast` section.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the groups to revert are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Smallest prefix of the ranking by k-ary search, then re-admission of what is not needed.
    #[default]
    Bisect,
    /// One group after another, each on the whole validation set. Compat mode always does this, POT's way.
    Greedy,
}

/// What orders groups; only metrics decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankBy {
    /// The metric on the ranking subset.
    #[default]
    Metric,
    /// The distance of the outputs to the float model's.
    Distance,
}

/// Operations or groups by name, operator type or name pattern with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of operations or groups.
    pub names: Vec<String>,
    /// ONNX operator types.
    pub types: Vec<String>,
    /// Patterns of operation names; `*` stands for any characters.
    pub patterns: Vec<String>,
}

/// Where a search has to stop, met or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Wall time in seconds, from the start of the run. The one bound that is not deterministic; the report says so.
    pub seconds: Option<f64>,
    /// Evaluations on the whole validation set.
    pub evaluations: Option<usize>,
    /// Operations reverted.
    pub reverted_operations: Option<usize>,
}

/// Microseconds of an operation on codes and in float.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// On codes.
    pub int8: f64,
    /// In float.
    pub float: f64,
}

/// Parameters of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchParameters {
    /// `strategy`.
    pub strategy: Strategy,
    /// Parts a bisection cuts its range into, 2 to 16; probes of one round run side by side.
    pub bisect_arity: usize,
    /// Whether reverted groups are quantized again where the limits hold without them.
    pub readmission: bool,
    /// Whether hopeless probes are rejected on the hardest samples.
    pub hardest_first: bool,
    /// Error level of the sequential test that may stop undecided probes; `None`: no such test.
    pub racing: Option<f64>,
    /// What orders groups.
    pub rank_by: RankBy,
    /// Whether benefit is weighed against the latency lost.
    pub cost_aware: bool,
    /// Measured latencies by operation name; operations without one count by their multiply-accumulate operations.
    pub latencies: BTreeMap<String, Latency>,
    /// Share of the validation samples that the search never sees and acceptance is confirmed on; `None`: none.
    pub hold_out: Option<f64>,
    /// Confidence level of intervals in the report.
    pub confidence: f64,
    /// Groups that must stay quantized.
    pub keep_quantized: Selection,
    /// Groups that are reverted from the start.
    pub keep_float: Selection,
    /// An order of groups by name that replaces the first ranking.
    pub ranking: Option<Vec<String>>,
    /// Evaluations that idle workers may compute ahead at a time.
    pub ahead: usize,
    /// Where to stop.
    pub budget: Budget,
}

impl Default for SearchParameters {
    fn default() -> SearchParameters {
        SearchParameters {
            strategy: Strategy::Bisect,
            bisect_arity: 2,
            readmission: true,
            hardest_first: true,
            racing: None,
            rank_by: RankBy::Metric,
            cost_aware: false,
            latencies: BTreeMap::new(),
            hold_out: None,
            confidence: 0.95,
            keep_quantized: Selection::default(),
            keep_float: Selection::default(),
            ranking: None,
            ahead: 0,
            budget: Budget::default(),
        }
    }
}
