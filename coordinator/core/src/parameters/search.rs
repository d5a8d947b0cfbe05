//! How reverted groups are searched for, beyond what POT offers: the `holdfast` section.

use crate::error::CoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the groups to revert are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// As many groups at once as a forecast from the ranking says, then the smallest prefix by k-ary search, re-admission
    /// of what is not needed, and exchange for what costs less.
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
    /// Candidates asked about on the validation set after the quantized model, whether or not they were stopped early.
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
    /// Parts a bisection cuts its range into, 2 to 16; the probes between them run side by side.
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

impl Selection {
    /// Whether it selects nothing.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.types.is_empty() && self.patterns.is_empty()
    }
}

impl SearchParameters {
    /// Refuses values that mean nothing.
    pub(super) fn check(&self) -> Result<(), CoreError> {
        let refuse = |parameter: &'static str, problem: String| Err(CoreError::Parameter { parameter, problem });
        let is_share = |value: f64| value > 0.0 && value < 1.0;
        if !(2..=16).contains(&self.bisect_arity) {
            return refuse("bisect_arity", format!("it is {}, but must be 2 to 16", self.bisect_arity));
        }
        if let Some(level) = self.racing.filter(|level| !(*level > 0.0 && *level <= 0.5)) {
            return refuse("racing", format!("it is {level}, but an error level is above 0 and at most 0.5"));
        }
        if let Some(share) = self.hold_out.filter(|share| !is_share(*share)) {
            return refuse("hold_out", format!("it is {share}, but a share lies between 0 and 1"));
        }
        if !is_share(self.confidence) {
            return refuse("confidence", format!("it is {}, but a level lies between 0 and 1", self.confidence));
        }
        if let Some(seconds) = self.budget.seconds.filter(|seconds| seconds.is_nan() || *seconds < 0.0) {
            return refuse("budget", format!("`seconds` is {seconds}, but must be 0 or more"));
        }
        for (operation, Latency { int8, float }) in &self.latencies {
            if !(int8.is_finite() && float.is_finite() && *int8 >= 0.0 && *float >= 0.0) {
                let problem = format!("`{operation}` takes {int8} and {float} µs, but both must be 0 or more");
                return refuse("latencies", problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        let refused = |parameter: &str, search: SearchParameters| {
            let error = search.check().expect_err(parameter).to_string();
            assert!(error.contains(parameter), "{error}");
        };
        let plain = SearchParameters::default;
        assert!(plain().check().is_ok());
        refused("bisect_arity", SearchParameters { bisect_arity: 1, ..plain() });
        refused("racing", SearchParameters { racing: Some(0.0), ..plain() });
        refused("hold_out", SearchParameters { hold_out: Some(1.0), ..plain() });
        refused("confidence", SearchParameters { confidence: f64::NAN, ..plain() });
        refused("budget", SearchParameters { budget: Budget { seconds: Some(-1.0), ..Budget::default() }, ..plain() });
        let latency = Latency { int8: -1.0, float: 1.0 };
        refused("latencies", SearchParameters { latencies: [("a".to_owned(), latency)].into(), ..plain() });
    }
}
