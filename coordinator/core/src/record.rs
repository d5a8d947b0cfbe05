//! Everything a run decided and why, for the report; no clocks, no machines: the same run gives the same record.

use crate::evaluator::Stage;
use crate::parameters::{Mode, Preset};
use crate::quantize::Passes;
use crate::quantize::bias_correction::BiasCorrection;
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
            Outcome::MetByQuantization | Outcome::MetByMixedPreset | Outcome::MetByReverting { .. } => true,
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
    /// `max_iter_num` rounds were made.
    RoundLimit,
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

/// One ranking of groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankingRecord {
    /// Rounds made before it.
    pub after_round: usize,
    /// The metric it is about.
    pub metric: String,
    /// The ranking subset, ascending.
    pub samples: Vec<SampleIndex>,
    /// Groups with the metric on the subset when they alone are reverted in addition, best first; `None` where the
    /// metric is not defined on the subset.
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

/// What the algorithm asked for, whether or not it had to be computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Evaluations on the whole validation set, the baseline's included.
    pub full_evaluations: usize,
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
        *self.samples.entry(stage.to_string()).or_default() += (evaluations * samples) as u64;
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
    /// Models evaluated before the search.
    pub stages: Vec<StageRecord>,
    /// All rankings.
    pub rankings: Vec<RankingRecord>,
    /// All rounds.
    pub rounds: Vec<RoundRecord>,
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
            stages: Vec::new(),
            rankings: Vec::new(),
            rounds: Vec::new(),
            counts: Counts::default(),
            outcome: Outcome::NoUsableMetric,
            reverted_groups: Vec::new(),
            reverted_operations: Vec::new(),
            final_values: Vec::new(),
            final_drops: Vec::new(),
            notes: Vec::new(),
        }
    }
}
