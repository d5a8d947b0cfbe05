//! Acceptance on samples that the search never saw.

use super::goal::Goal;
use super::measure::Measure;
use super::{Conclusion, Problem, SampleSet, constrained, paired_records, search_all};
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::observer::Observer;
use crate::parameters::Parameters;
use crate::record::{HoldOutRecord, Outcome, StopReason};
use crate::seed::SplitMix64;
use holdfast_common::evaluation::Candidate;

/// Searches on a part of the validation samples and confirms the answer on the others, a seeded share.
///
/// Where the baseline is measured, drops of either part are measured against the float model on the same part. An answer
/// that is within the limits on the samples of the search only has the outcome "not confirmed"; it is not searched on,
/// for then the others would be part of the search.
pub(super) async fn run<E: Evaluator>(
    evaluator: &E,
    problem: &Problem<'_>,
    parameters: &Parameters,
    observer: &dyn Observer,
    share: f64,
) -> Result<Conclusion, CoreError> {
    let total = problem.validation.samples.len();
    let count = ((share * total as f64).round() as usize).clamp(1, total.max(2) - 1);
    if total < 2 {
        return Err(CoreError::NoSamples("held-out"));
    }
    let held = SplitMix64::new(parameters.seed).choose(count, total);
    let seen: Vec<usize> = (0..total).filter(|position| held.binary_search(position).is_err()).collect();
    let (seen_labels, held_labels) = (labels(problem, &seen), labels(problem, &held));
    let searched = part(problem, &seen, seen_labels.as_deref());
    let (mut conclusion, digest) = search_all(evaluator, &searched, parameters, observer).await?;
    let (true, Some(digest)) = (conclusion.record.outcome.is_met(), digest) else { return Ok(conclusion) };

    let problem = part(problem, &held, held_labels.as_deref());
    let constrained = constrained(&problem, parameters)?;
    let counts = conclusion.record.counts.clone();
    let mut measure = Measure { evaluator, problem: &problem, observer, constrained, counts };
    let samples = &problem.validation.samples;
    let float = match conclusion.record.baseline_given {
        true => None,
        false => Some(measure.one(Stage::Baseline, Candidate::baseline(), samples).await?),
    };
    let baseline = float.as_ref().map_or_else(|| conclusion.record.baseline.clone(), |float| float.values.clone());
    let orientations = (0..measure.constrained.len()).map(|metric| measure.metric(metric).orientation()).collect();
    let goal = Goal::new(orientations, baseline.clone(), parameters);
    let candidate = Candidate { scheme: Some(digest), reverted: conclusion.reverted.clone() };
    let answer = measure.one(Stage::Validation, candidate, samples).await?;
    let drops = goal.drops(&answer.values);
    if let Some(float) = float {
        conclusion.record.paired = paired_records(&measure, parameters, &goal, &float.results, &answer.results, &drops);
    }
    let is_met = goal.is_met(&drops);
    if !is_met {
        conclusion.record.outcome = Outcome::NotMet { reason: StopReason::NotConfirmed };
    }
    conclusion.record.counts = measure.counts;
    conclusion.record.hold_out = Some(HoldOutRecord { samples: count, baseline, values: answer.values, drops, is_met });
    Ok(conclusion)
}

fn labels(problem: &Problem<'_>, positions: &[usize]) -> Option<Vec<u32>> {
    problem.labels.map(|labels| positions.iter().filter_map(|position| labels.get(*position).copied()).collect())
}

/// The problem on a part of its validation samples.
fn part<'a>(problem: &Problem<'a>, positions: &[usize], labels: Option<&'a [u32]>) -> Problem<'a> {
    let all = &problem.validation;
    let samples = positions.iter().map(|position| all.samples[*position]).collect();
    Problem {
        graph: problem.graph,
        calibration: problem.calibration.clone(),
        validation: SampleSet { workload: all.workload, samples },
        baseline: problem.baseline,
        metrics: problem.metrics,
        labels,
    }
}
