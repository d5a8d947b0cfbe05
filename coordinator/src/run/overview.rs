//! From the algorithm's record to the few numbers people look at first.

use crate::config::RunRequest;
use crate::report::{MetricOverview, Outcome, Overview, RankedGroup, RoundOverview};
use holdfast_common::Digest;
use holdfast_common::scheme::Scheme;
use holdfast_core::Conclusion;
use holdfast_core::evaluator::Stage;
use holdfast_core::record::{Decision, RoundRecord, RunRecord};

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
        ranking: record.rankings.first().map_or(Vec::new(), |ranking| {
            let defined = ranking.scores.iter().filter_map(|(name, score)| score.map(|score| (name, score)));
            defined.map(|(name, score)| RankedGroup { name: name.clone(), score }).collect()
        }),
        rounds: record.rounds.iter().map(round).collect(),
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
        ranking: Vec::new(),
        rounds: Vec::new(),
        evaluations: 0,
        samples: 0,
        outcome: Outcome::NoGoal,
    }
}
