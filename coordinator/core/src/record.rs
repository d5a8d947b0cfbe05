//! Everything a run decided and why, for the report; no clocks, no machines: the same run gives the same record.

use crate::evaluator::Stage;
use crate::parameters::{Mode, Preset, Strategy};
use crate::quantize::Passes;
use crate::quantize::bias_correction::BiasCorrection;
use crate::quantize::layer_tuning::LayerTuning;
use crate::transform::{Transformation, Transformed};
use holdfast_common::evaluation::SampleIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// There is no metric to hold the model to: the original model is the answer.
    NoUsableMetric,
    /// No operation of the model can be quantized: the original model is the answer.
    NothingQuantizable,
    /// The quantized model is within the limits, no group is reverted.
    MetByQuantization,
    /// The model quantized with the mixed preset is within the limits, no group is reverted.
    MetByMixedPreset,
    /// The model quantized with tuned parameters is within the limits, no group is reverted.
    MetByTuning,
    /// Within the limits with some groups reverted.
    MetByReverting {
        /// Groups reverted.
        reverted: usize,
        /// Groups there are.
        groups: usize,
    },
    /// The limits are not met; the answer is the best state there is (in compat mode, the last one kept).
    NotMet {
        /// Why the search ended.
        reason: StopReason,
    },
}

impl Outcome {
    /// Whether the limits hold for the answer.
    pub fn is_met(&self) -> bool {
        match self {
            Outcome::MetByQuantization
            | Outcome::MetByMixedPreset
            | Outcome::MetByTuning
            | Outcome::MetByReverting { .. } => true,
            Outcome::NoUsableMetric | Outcome::NothingQuantizable | Outcome::NotMet { .. } => false,
        }
    }
}

/// Why a search ended without meeting the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Every group is reverted, so that nothing is quantized any more.
    EverythingReverted,
    /// The ranking holds no further group.
    NoGroupLeft,
    /// `max_iter_num` rounds were made, or as many groups are reverted.
    RoundLimit,
    /// The time budget is used up.
    TimeBudget,
    /// The budget of evaluations is used up.
    EvaluationBudget,
    /// The budget of reverted operations does not suffice.
    OperationBudget,
    /// The limits hold on the samples of the search, but not on those held out.
    NotConfirmed,
    /// The limits hold, but the result is slower than the float model by the given latencies.
    SlowerThanFloat,
}

/// A model that was evaluated on the whole validation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: String,
    /// The preset it was quantized with; `None` for the baseline.
    pub preset: Option<Preset>,
    /// Metrics, in the order of [`RunRecord::metrics`].
    pub values: Vec<f64>,
    /// Drops.
    pub drops: Vec<f64>,
}

/// Parameters that were tried on the samples that suffered most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// What is different from the best parameters before it.
    pub change: String,
    /// Metrics on these samples, in the order of [`RunRecord::metrics`]; `None` where one is not defined.
    pub values: Vec<Option<f64>>,
    /// How much worse than the reference (the parameters so far; in compat mode, the first trial) as a mean share over
    /// metrics; negative is better, `None` where a metric is not defined.
    pub error: Option<f64>,
}

/// The search for better quantization parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuningRecord {
    /// The samples of all trials, ascending.
    pub samples: Vec<SampleIndex>,
    /// All trials, in order.
    pub trials: Vec<TrialRecord>,
    /// Whether the best trial was better on the whole validation set, and the search for groups began with it.
    pub adopted: bool,
}

/// What quantizing without a goal did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DefaultRecord {
    /// What was done to the float model before it was quantized.
    pub transformations: Vec<Transformation>,
    /// What became of every bias.
    pub bias_corrections: Vec<BiasCorrection>,
    /// What became of every layer that was tuned.
    pub layer_tunings: Vec<LayerTuning>,
}

/// One ranking of groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankingRecord {
    /// Rounds made before it.
    pub after_round: usize,
    /// The metric it is about, or the distance to the float model.
    pub metric: String,
    /// The ranking subset, ascending.
    pub samples: Vec<SampleIndex>,
    /// Groups with the metric on the subset when they alone are reverted in addition, best first; `None` where the
    /// metric is not defined on the subset. By distance: how much of it that reversion takes away.
    pub scores: Vec<(String, Option<f64>)>,
}

/// What became of a round's candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The group stays reverted, the search goes on.
    Kept,
    /// The group is quantized again.
    SteppedBack,
    /// The limits are met.
    Met,
    /// The search ends without meeting the limits.
    GaveUp,
}

/// One round of the revert loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Counted from 1.
    pub round: usize,
    /// The group that was reverted.
    pub group: String,
    /// Its operations.
    pub operations: Vec<String>,
    /// The metric being repaired.
    pub target: String,
    /// Metrics of the candidate.
    pub values: Vec<f64>,
    /// Drops of the candidate.
    pub drops: Vec<f64>,
    /// Groups reverted in the candidate.
    pub reverted: usize,
    /// What became of it.
    pub decision: Decision,
    /// Why.
    pub reason: String,
}

/// Why a state was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To find a prefix of the ranking that suffices.
    Prefix,
    /// To find the smallest prefix that suffices.
    Bisection,
    /// To quantize again what is reverted without need.
    Readmission,
    /// To find other groups that suffice and cost less.
    Exchange,
    /// To know whether what looks sufficient is.
    Proposal,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// All drops are within their limits.
    Passed {
        /// The drops.
        drops: Vec<f64>,
    },
    /// A drop is beyond its limit.
    Refuted {
        /// Every drop is at least this; exact where all samples were needed.
        at_least: Vec<f64>,
    },
    /// A sequential test stopped it as most probably beyond a limit.
    Raced {
        /// Every drop is at least this, as far as it is proven.
        at_least: Vec<f64>,
    },
    /// Contested samples made it look hopeless, and it was not asked about.
    SetAside {
        /// Samples that were probably missing for the limit.
        missing: f64,
    },
}

/// One pass-or-fail question about a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Why it was asked.
    pub purpose: Purpose,
    /// Groups reverted in the state, in group order.
    pub reverted: Vec<String>,
    /// Operations reverted in it.
    pub operations: usize,
    /// Validation samples the answer took.
    pub samples: usize,
    /// The answer.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A state on the frontier: no other that was measured is both faster and nearer to the limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierRecord {
    /// Groups reverted, in group order.
    pub reverted: Vec<String>,
    /// Operations reverted.
    pub operations: usize,
    /// Estimated latency as a share of the float model's, over the quantizable operations.
    pub latency: f64,
    /// Metrics.
    pub values: Vec<f64>,
    /// Drops.
    pub drops: Vec<f64>,
}

/// How sure a drop is, from the same samples run through both models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Confidence level.
    pub level: f64,
    /// Lower end of the drop.
    pub low: f64,
    /// Upper end of the drop.
    pub high: f64,
}

/// Samples that are judged otherwise than by the float model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    /// Right before, wrong now.
    pub broken: usize,
    /// Wrong before, right now.
    pub fixed: usize,
    /// Broken and fixed samples by class label, classes without any left out; empty where there are no labels.
    pub classes: BTreeMap<u32, (usize, usize)>,
}

/// What the paired comparison of answer and float model says about one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedRecord {
    /// The metric.
    pub metric: String,
    /// Interval of the drop; `None` where the metric is no mean over samples.
    pub interval: Option<Interval>,
    /// Flips; `None` where samples are not right or wrong.
    pub flips: Option<Flips>,
}

/// The answer on samples that the search never saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldOutRecord {
    /// Samples held out.
    pub samples: usize,
    /// The float model's metrics there, or those given.
    pub baseline: Vec<f64>,
    /// The answer's metrics there.
    pub values: Vec<f64>,
    /// Drops.
    pub drops: Vec<f64>,
    /// Whether they are within their limits.
    pub is_met: bool,
}

/// What the algorithm asked for, whether or not it had to be computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Evaluations on the whole validation set, the baseline's included.
    pub full_evaluations: usize,
    /// Evaluations that were stopped on a part of the validation set.
    pub partial_evaluations: usize,
    /// Evaluations of groups on the ranking subset.
    pub ranking_evaluations: usize,
    /// Samples asked for, by stage.
    pub samples: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, stage: Stage, evaluations: usize, samples: usize, of: usize) {
        match stage {
            Stage::Ranking => self.ranking_evaluations += evaluations,
            Stage::Baseline | Stage::Quantized | Stage::Validation if samples == of => {
                self.full_evaluations += evaluations;
            }
            Stage::Baseline | Stage::Quantized | Stage::Validation | Stage::Calibration | Stage::Tuning => {}
        }
        self.add_samples(stage, evaluations * samples);
    }

    pub(crate) fn add_samples(&mut self, stage: Stage, samples: usize) {
        *self.samples.entry(stage.to_string()).or_default() += samples as u64;
    }
}

/// The whole run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// Compat or default.
    pub mode: Mode,
    /// Names of the constrained metrics.
    pub metrics: Vec<String>,
    /// Their baselines.
    pub baseline: Vec<f64>,
    /// Whether the baselines were given and not measured.
    pub baseline_given: bool,
    /// The largest allowed drop of each.
    pub limits: Vec<f64>,
    /// Groups there are.
    pub groups: usize,
    /// Quantizable operations there are.
    pub operations: usize,
    /// What was done to the float model before it was quantized.
    pub transformations: Vec<Transformation>,
    /// What became of every bias in the model the search began with.
    pub bias_corrections: Vec<BiasCorrection>,
    /// What became of every layer of it that was tuned.
    pub layer_tunings: Vec<LayerTuning>,
    /// Models evaluated before the search.
    pub stages: Vec<StageRecord>,
    /// The tuning of parameters, where it was asked for and needed.
    pub tuning: Option<TuningRecord>,
    /// All rankings.
    pub rankings: Vec<RankingRecord>,
    /// How groups were searched for.
    pub strategy: Strategy,
    /// All rounds of the greedy strategy.
    pub rounds: Vec<RoundRecord>,
    /// All questions of the bisecting strategy.
    pub probes: Vec<ProbeRecord>,
    /// Groups that were reverted for a time and are quantized in the answer.
    pub readmitted: Vec<String>,
    /// Error level of the sequential test that could stop undecided questions; `None`: all answers are proven.
    pub racing: Option<f64>,
    /// The budget that ended the search early, also where the limits are met.
    pub spent: Option<StopReason>,
    /// States that were measured in full and are not worse than another in both latency and quality, fastest first.
    pub frontier: Vec<FrontierRecord>,
    /// What was asked for.
    pub counts: Counts,
    /// How it ended.
    pub outcome: Outcome,
    /// Groups reverted in the answer, in group order.
    pub reverted_groups: Vec<String>,
    /// Operations reverted in the answer.
    pub reverted_operations: Vec<String>,
    /// Reported metrics; in compat mode they can be those of a candidate that was discarded, and a note says so.
    pub final_values: Vec<f64>,
    /// Reported drops.
    pub final_drops: Vec<f64>,
    /// Answer and float model compared sample by sample, on the samples held out or, where none are, those of the search;
    /// empty where the float model was not run on them.
    pub paired: Vec<PairedRecord>,
    /// The answer on the samples held out.
    pub hold_out: Option<HoldOutRecord>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

impl RunRecord {
    /// Notes what was done to the model before the run.
    pub fn add_transformations(&mut self, transformed: &Transformed) {
        self.transformations.clone_from(&transformed.record);
        let Passes { evaluations, samples } = transformed.passes;
        self.counts.add(Stage::Calibration, evaluations, samples, samples);
    }

    pub(crate) fn new(mode: Mode) -> RunRecord {
        RunRecord {
            mode,
            metrics: Vec::new(),
            baseline: Vec::new(),
            baseline_given: false,
            limits: Vec::new(),
            groups: 0,
            operations: 0,
            transformations: Vec::new(),
            bias_corrections: Vec::new(),
            layer_tunings: Vec::new(),
            stages: Vec::new(),
            tuning: None,
            rankings: Vec::new(),
            strategy: Strategy::Greedy,
            rounds: Vec::new(),
            probes: Vec::new(),
            readmitted: Vec::new(),
            racing: None,
            spent: None,
            frontier: Vec::new(),
            counts: Counts::default(),
            outcome: Outcome::NoUsableMetric,
            reverted_groups: Vec::new(),
            reverted_operations: Vec::new(),
            final_values: Vec::new(),
            final_drops: Vec::new(),
            paired: Vec::new(),
            hold_out: None,
            notes: Vec::new(),
        }
    }
}
