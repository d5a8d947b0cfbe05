//! The run as a person wants to see it: the few numbers both the terminal summary and the HTML page are made of.

use holdfast_common::Digest;
use serde::Serialize;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every metric is within its limit.
    GoalMet,
    /// Some metric is not; the best model found is saved.
    GoalMissed,
    /// Nothing had to hold.
    NoGoal,
}

/// One run at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// The model's name.
    pub model_name: String,
    /// The model's digest.
    pub model_digest: Digest,
    /// The algorithm's name.
    pub algorithm: String,
    /// Constrained metrics, the one rounds are drawn by first.
    pub metrics: Vec<MetricOverview>,
    /// Operations that the fully quantized model runs in int8.
    pub operations_quantized: usize,
    /// Of these, the ones the final model runs in float, in graph order.
    pub operations_reverted: Vec<String>,
    /// Groups reverted.
    pub groups_reverted: usize,
    /// Groups there are.
    pub groups: usize,
    /// Quantization parameters that were tried, where any were.
    pub tuning: Option<TuningOverview>,
    /// The first ranking, best first; empty where none was needed.
    pub ranking: Vec<RankedGroup>,
    /// Rounds of the loop, in order.
    pub rounds: Vec<RoundOverview>,
    /// Pass-or-fail questions of a search that asks such, in order.
    pub questions: Vec<QuestionOverview>,
    /// How sure the drops are, one sentence a metric.
    pub certainty: Vec<String>,
    /// Evaluations the algorithm asked for.
    pub evaluations: u64,
    /// Samples in these.
    pub samples: u64,
    /// How the run ended.
    pub outcome: Outcome,
}

/// One metric from float to final.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricOverview {
    /// Its name.
    pub name: String,
    /// Of the float model.
    pub baseline: f64,
    /// Of the fully quantized model.
    pub int8: f64,
    /// Of the model that was written.
    pub result: f64,
    /// Drop of the fully quantized model, positive where worse, in the metric's unit.
    pub int8_drop: f64,
    /// Drop of the model that was written.
    pub result_drop: f64,
    /// The largest drop allowed, in the metric's unit; `None`: nothing had to hold.
    pub limit: Option<f64>,
}

/// Quantization parameters that were tried on the samples that suffered most.
#[derive(Clone, Debug, PartialEq)]
pub struct TuningOverview {
    /// Samples of every trial.
    pub samples: usize,
    /// All trials, in order.
    pub trials: Vec<TrialOverview>,
    /// Whether the search for groups began with the best of them.
    pub adopted: bool,
}

/// One trial.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialOverview {
    /// What is different in it.
    pub change: String,
    /// The first metric on its samples; NaN where it is not defined.
    pub value: f64,
    /// How much worse than the reference, as a mean share over all metrics; negative is better, NaN where it is not defined.
    pub error: f64,
}

/// A group and what it was ranked by.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedGroup {
    /// Its name.
    pub name: String,
    /// Higher is better to revert.
    pub score: f64,
}

/// One round of the loop.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundOverview {
    /// The group tried.
    pub group: String,
    /// Operations that became float with it.
    pub operations: Vec<String>,
    /// The first metric's value for this candidate.
    pub value: f64,
    /// Its drop.
    pub drop: f64,
    /// What was decided, in a few words.
    pub decision: String,
    /// Whether the group stayed reverted.
    pub kept: bool,
}

/// One pass-or-fail question about a state.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionOverview {
    /// Why it was asked, in a few words.
    pub purpose: String,
    /// Groups reverted in the state.
    pub groups: Vec<String>,
    /// Operations reverted in it.
    pub operations: usize,
    /// Validation samples the answer took.
    pub samples: usize,
    /// The answer.
    pub answer: AnswerOverview,
}

/// What became of a question, with drops of the first metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AnswerOverview {
    /// All limits hold; the drop.
    Passed(f64),
    /// One does not; the drop is at least this.
    Refuted(f64),
    /// A test of chance stopped it; the drop is at least this.
    Raced(f64),
    /// It was not worth a question: so many samples seemed to be missing.
    SetAside(f64),
}
