//! From the algorithm's record to the few numbers people look at first.

use crate::config::RunRequest;
use crate::report::{
    AnswerOverview, MetricOverview, Outcome, Overview, QuestionOverview, RankedGroup, RoundOverview, TrialOverview,
    TuningOverview,
};
use holdfast_common::Digest;
use holdfast_common::scheme::Scheme;
use holdfast_core::Conclusion;
use holdfast_core::evaluator::Stage;
use holdfast_core::record::{
    Decision, Flips, Interval, PairedRecord, ProbeRecord, Purpose, RoundRecord, RunRecord, TrialRecord, TuningRecord,
    Verdict,
};

/// An accuracy-aware run at a glance.
pub fn overview(request: &RunRequest, model_digest: Digest, conclusion: &Conclusion) -> Overview {
    let record = &conclusion.record;
    let evaluations = record.counts.full_evaluations + record.counts.ranking_evaluations;
    Overview {
        model_name: request.model_name.clone(),
        model_digest,
        algorithm: request.algorithm.name().to_owned(),
        metrics: metrics(record),
        operations_quantized: record.operations,
        operations_reverted: record.reverted_operations.clone(),
        groups_reverted: record.reverted_groups.len(),
        groups: record.groups,
        tuning: record.tuning.as_ref().map(tuning),
        ranking: record.rankings.first().map_or(Vec::new(), |ranking| {
            let defined = ranking.scores.iter().filter_map(|(name, score)| score.map(|score| (name, score)));
            defined.map(|(name, score)| RankedGroup { name: name.clone(), score }).collect()
        }),
        rounds: record.rounds.iter().map(round).collect(),
        questions: record.probes.iter().map(question).collect(),
        certainty: record.paired.iter().filter_map(certainty).collect(),
        evaluations: evaluations as u64,
        samples: record.counts.samples.values().sum(),
        outcome: if record.outcome.is_met() { Outcome::GoalMet } else { Outcome::GoalMissed },
    }
}

fn metrics(record: &RunRecord) -> Vec<MetricOverview> {
    let quantized = record.stages.iter().rfind(|stage| stage.stage == Stage::Quantized.to_string());
    let at = |values: &[f64], index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let names = record.metrics.iter().enumerate();
    names
        .map(|(index, name)| MetricOverview {
            name: name.clone(),
            baseline: at(&record.baseline, index),
            int8: quantized.map_or(f64::NAN, |stage| at(&stage.values, index)),
            result: at(&record.final_values, index),
            int8_drop: quantized.map_or(f64::NAN, |stage| at(&stage.drops, index)),
            result_drop: at(&record.final_drops, index),
            limit: record.limits.get(index).copied(),
        })
        .collect()
}

fn tuning(tuning: &TuningRecord) -> TuningOverview {
    let trial = |trial: &TrialRecord| TrialOverview {
        change: trial.change.clone(),
        value: trial.values.first().copied().flatten().unwrap_or(f64::NAN),
        error: trial.error.unwrap_or(f64::NAN),
    };
    TuningOverview {
        samples: tuning.samples.len(),
        trials: tuning.trials.iter().map(trial).collect(),
        adopted: tuning.adopted,
    }
}

fn round(round: &RoundRecord) -> RoundOverview {
    RoundOverview {
        group: round.group.clone(),
        operations: round.operations.clone(),
        value: round.values.first().copied().unwrap_or(f64::NAN),
        drop: round.drops.first().copied().unwrap_or(f64::NAN),
        decision: round.reason.clone(),
        kept: matches!(round.decision, Decision::Kept | Decision::Met),
    }
}

fn question(probe: &ProbeRecord) -> QuestionOverview {
    let purpose = match probe.purpose {
        Purpose::Prefix => "does the best of the ranking suffice?",
        Purpose::Bisection => "does less suffice?",
        Purpose::Readmission => "is all of it needed?",
        Purpose::Exchange => "do others suffice?",
        Purpose::Proposal => "does what looks sufficient suffice?",
    };
    let first = |drops: &[f64]| drops.first().copied().unwrap_or(f64::NAN);
    let answer = match &probe.verdict {
        Verdict::Passed { drops } => AnswerOverview::Passed(first(drops)),
        Verdict::Refuted { at_least } => AnswerOverview::Refuted(first(at_least)),
        Verdict::Raced { at_least } => AnswerOverview::Raced(first(at_least)),
        Verdict::SetAside { missing } => AnswerOverview::SetAside(*missing),
    };
    QuestionOverview {
        purpose: purpose.to_owned(),
        groups: probe.reverted.clone(),
        operations: probe.operations,
        samples: probe.samples,
        answer,
    }
}

fn certainty(paired: &PairedRecord) -> Option<String> {
    let interval = paired.interval.map(|interval| {
        let Interval { level, low, high } = interval;
        format!("the drop lies between {low:.5} and {high:.5} with {:.0} % confidence", level * 100.0)
    });
    let flips = paired.flips.as_ref().map(|flips| {
        let Flips { broken, fixed, .. } = flips;
        format!("{broken} samples that the float model gets right are wrong now, {fixed} wrong ones are right")
    });
    let parts: Vec<String> = interval.into_iter().chain(flips).collect();
    (!parts.is_empty()).then(|| format!("{}: {}.", paired.metric, parts.join("; ")))
}

/// A run without a goal at a glance.
pub fn default_overview(request: &RunRequest, model_digest: Digest, scheme: &Scheme) -> Overview {
    Overview {
        model_name: request.model_name.clone(),
        model_digest,
        algorithm: request.algorithm.name().to_owned(),
        metrics: Vec::new(),
        operations_quantized: scheme.groups.iter().map(|group| group.operations.len()).sum(),
        operations_reverted: Vec::new(),
        groups_reverted: 0,
        groups: scheme.groups.len(),
        tuning: None,
        ranking: Vec::new(),
        rounds: Vec::new(),
        questions: Vec::new(),
        certainty: Vec::new(),
        evaluations: 0,
        samples: 0,
        outcome: Outcome::NoGoal,
    }
}
