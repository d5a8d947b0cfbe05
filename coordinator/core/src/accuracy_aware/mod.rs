//! AccuracyAwareQuantization: quantize, then give the groups that matter most their float precision back until every
//! metric is within its limit. This file is the flow from top to bottom.

mod compat_loop;
mod default_loop;
mod goal;
#[cfg(test)]
mod loop_tests;
mod measure;
mod ranking;
#[cfg(test)]
mod run_tests;
mod search;

use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::observer::Observer;
use crate::parameters::{Mode, Parameters, QuantizationParameters};
use crate::quantize::calibration::Calibration;
use crate::quantize::default_quantization::wanted_statistics;
use crate::quantize::{Passes, Quantized, place, quantize};
use crate::record::{Outcome, RunRecord, StageRecord};
use crate::seed::SplitMix64;
use goal::Goal;
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex};
use holdfast_common::graph::Graph;
use holdfast_common::metric::{Metric, MetricSpec};
use holdfast_common::scheme::{GroupId, Scheme};
use measure::{Measure, Measured, SampleValues};
use search::{Ending, Pool, Search, State};
use std::collections::BTreeSet;

/// Samples for one purpose.
#[derive(Clone, Debug)]
pub struct SampleSet {
    /// Digest of the workload artifact.
    pub workload: Digest,
    /// Which samples, in order, without repetition.
    pub samples: Vec<SampleIndex>,
}

/// What is to be quantized and how its quality is measured.
pub struct Problem<'a> {
    /// The float model.
    pub graph: &'a Graph,
    /// Samples whose statistics make the ranges.
    pub calibration: SampleSet,
    /// Samples that decide about acceptance, and that the ranking subset is picked from.
    pub validation: SampleSet,
    /// The metrics of the validation workload, in its order.
    pub metrics: &'a [(MetricSpec, Box<dyn Metric>)],
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The scheme; `None` is the original model.
    pub scheme: Option<Scheme>,
    /// Groups of the scheme that are float, ascending.
    pub reverted: Vec<GroupId>,
    /// How it came about.
    pub record: RunRecord,
}

/// Runs the algorithm. Missing the goal is an outcome; errors are what keeps a run from having any.
pub async fn run<E: Evaluator>(
    evaluator: &E,
    problem: &Problem<'_>,
    parameters: &Parameters,
    observer: &dyn Observer,
) -> Result<Conclusion, CoreError> {
    parameters.check()?;
    let mut record = RunRecord::new(parameters.mode);
    let constrained = constrained(problem, parameters)?;
    if constrained.is_empty() {
        record.notes.push("there is no metric to hold the model to; the original model is the answer".to_owned());
        return Ok(Conclusion { scheme: None, reverted: Vec::new(), record });
    }
    record.metrics = constrained.iter().map(|index| problem.metrics[*index].0.name.clone()).collect();
    if problem.validation.samples.is_empty() {
        return Err(CoreError::NoSamples("validation"));
    }
    let placement = place(problem.graph, &parameters.quantization, parameters.mode)?;
    if !placement.groups.is_empty() && problem.calibration.samples.is_empty() {
        return Err(CoreError::NoSamples("calibration"));
    }
    record.groups = placement.groups.len();
    record.operations = placement.groups.iter().map(|group| group.operations.len()).sum();
    let mut measure = Measure { evaluator, problem, observer, constrained, counts: Default::default() };
    note_shared_samples(&mut record, problem);

    let Baseline { values, float } = baseline(&mut measure, parameters).await?;
    record.baseline_given = float.is_none();
    let orientations = measure.constrained.iter().map(|index| problem.metrics[*index].1.orientation()).collect();
    let goal = Goal::new(orientations, values.clone(), parameters);
    record.limits.clone_from(&goal.limits);
    record.baseline.clone_from(&values);
    note_stage(&mut record, observer, Stage::Baseline, None, &values, &goal);
    if placement.groups.is_empty() {
        record.final_drops = goal.drops(&values);
        record.final_values = values;
        record.outcome = Outcome::NothingQuantizable;
        record.counts = measure.counts;
        return Ok(Conclusion { scheme: None, reverted: Vec::new(), record });
    }

    let attempts = attempts(parameters);
    let calibration = calibrate(&mut measure, parameters, &attempts).await?;
    let mut entering: Option<Entering> = None;
    for (attempt, outcome) in attempts.iter().zip([Outcome::MetByQuantization, Outcome::MetByMixedPreset]) {
        let new = Entering::of(&mut measure, attempt, &calibration, parameters.mode, &goal).await?;
        note_stage(&mut record, observer, Stage::Quantized, Some(attempt), &new.measured.values, &goal);
        let met = goal.is_met(&new.drops);
        let keep_old = parameters.mode == Mode::Default
            && entering.as_ref().is_some_and(|old| goal.violation(&old.drops) <= goal.violation(&new.drops));
        if met || !keep_old {
            entering = Some(new);
        }
        if met {
            return Ok(conclude(record, measure, entering, outcome));
        }
    }
    let Some(entering) = entering else { return Ok(conclude(record, measure, None, Outcome::NothingQuantizable)) };

    record.bias_corrections.clone_from(&entering.quantized.corrections);
    let pool = pool(&mut measure, parameters, float).await?;
    let state = State {
        reverted: BTreeSet::new(),
        samples: pool.reduce(&entering.measured.samples),
        drops: entering.drops.clone(),
        values: entering.measured.values.clone(),
    };
    let scheme = &entering.quantized.scheme;
    let mut search = Search { measure, goal: &goal, parameters, scheme, digest: entering.digest, pool, record };
    let Ending { state, values, stopped } = match parameters.mode {
        Mode::Compat => compat_loop::revert(&mut search, state).await?,
        Mode::Default => default_loop::revert(&mut search, state).await?,
    };
    if values != state.values {
        search.note("the reported metrics are those of the last candidate, which was discarded");
    }

    let Search { measure, mut record, .. } = search;
    record.counts = measure.counts;
    record.outcome = match stopped {
        None => Outcome::MetByReverting { reverted: state.reverted.len(), groups: scheme.groups.len() },
        Some(reason) => Outcome::NotMet { reason },
    };
    let reverted_groups = state.reverted.iter().filter_map(|id| scheme.group(*id));
    record.reverted_groups = reverted_groups.clone().map(|group| group.name.clone()).collect();
    record.reverted_operations = reverted_groups.flat_map(|group| group.operations.clone()).collect();
    record.final_drops = goal.drops(&values);
    record.final_values = values;
    let reverted = state.reverted.into_iter().collect();
    Ok(Conclusion { scheme: Some(entering.quantized.scheme), reverted, record })
}

/// Ranges, rankings and acceptance on the same samples flatter the result; the reader should know.
fn note_shared_samples(record: &mut RunRecord, problem: &Problem<'_>) {
    let calibration: BTreeSet<&SampleIndex> = problem.calibration.samples.iter().collect();
    let shared = problem.validation.samples.iter().filter(|sample| calibration.contains(sample)).count();
    if problem.calibration.workload == problem.validation.workload && shared > 0 {
        record.notes.push(format!("{shared} validation samples were used for calibration too"));
    }
}

/// The constrained metrics, as indices into the problem's: those named, or all.
fn constrained(problem: &Problem<'_>, parameters: &Parameters) -> Result<Vec<usize>, CoreError> {
    if parameters.metrics.is_empty() {
        return Ok((0..problem.metrics.len()).collect());
    }
    let declared: Vec<String> = problem.metrics.iter().map(|(spec, _)| spec.name.clone()).collect();
    let find = |name: &String| {
        let index = declared.iter().position(|known| known == name);
        index.ok_or_else(|| CoreError::UnknownMetric { name: name.clone(), declared: declared.clone() })
    };
    parameters.metrics.iter().map(|metric| find(&metric.name)).collect()
}

/// The float model's metrics, and its per-sample metrics on all validation samples where it was run.
struct Baseline {
    values: Vec<f64>,
    float: Option<SampleValues>,
}

/// Given baselines are believed where every constrained metric has one; otherwise they are measured.
async fn baseline<E: Evaluator>(measure: &mut Measure<'_, E>, parameters: &Parameters) -> Result<Baseline, CoreError> {
    let given: Option<Vec<f64>> = parameters.metrics.iter().map(|metric| metric.baseline_value).collect();
    if let Some(values) = given.filter(|values| !values.is_empty()) {
        for (metric, value) in parameters.metrics.iter().zip(&values) {
            if !value.is_finite() {
                let problem = format!("it is {value} for metric `{}`, but must be a finite number", metric.name);
                return Err(CoreError::Parameter { parameter: "baseline_value", problem });
            }
        }
        return Ok(Baseline { values, float: None });
    }
    let samples = &measure.problem.validation.samples;
    let Measured { values, samples } = measure.one(Stage::Baseline, Candidate::baseline(), samples).await?;
    Ok(Baseline { values, float: Some(samples) })
}

/// The parameter sets to quantize with, in order: the user's, then the mixed preset where that is asked for.
fn attempts(parameters: &Parameters) -> Vec<QuantizationParameters> {
    let mut attempts = vec![parameters.quantization.clone()];
    if parameters.convert_to_mixed_preset && parameters.quantization.is_performance() {
        attempts.push(parameters.quantization.converted_to_mixed());
    }
    attempts
}

/// One pass over the calibration samples for all that any attempt needs.
async fn calibrate<E: Evaluator>(
    measure: &mut Measure<'_, E>,
    parameters: &Parameters,
    attempts: &[QuantizationParameters],
) -> Result<Calibration, CoreError> {
    let problem = measure.problem;
    let mut wanted = Vec::new();
    for attempt in attempts {
        let placement = place(problem.graph, attempt, parameters.mode)?;
        wanted.extend(wanted_statistics(problem.graph, &placement, attempt, parameters.mode));
    }
    let mut set = problem.calibration.clone();
    set.samples.truncate(parameters.quantization.stat_subset_size.unwrap_or(usize::MAX));
    measure.observer.stage_started(Stage::Calibration, 1, set.samples.len());
    measure.counts.add(Stage::Calibration, 1, set.samples.len(), set.samples.len());
    Calibration::collect(measure.evaluator, &set, wanted).await
}

/// A quantized model on the validation set.
struct Entering {
    quantized: Quantized,
    digest: Digest,
    measured: Measured,
    drops: Vec<f64>,
}

impl Entering {
    async fn of<E: Evaluator>(
        measure: &mut Measure<'_, E>,
        parameters: &QuantizationParameters,
        calibration: &Calibration,
        mode: Mode,
        goal: &Goal,
    ) -> Result<Entering, CoreError> {
        let graph = measure.problem.graph;
        let placement = place(graph, parameters, mode)?;
        let quantized = quantize(measure.evaluator, graph, &placement, calibration, parameters, mode).await?;
        let Passes { evaluations, samples } = quantized.passes;
        measure.counts.add(Stage::Calibration, evaluations, samples, samples);
        let unwritable = |source| CoreError::Json { what: "scheme", source };
        let expected = quantized.scheme.digest().map_err(unwritable)?;
        let bytes = serde_json::to_vec(&quantized.scheme).map_err(unwritable)?;
        let digest = measure.evaluator.publish(bytes).await?;
        if digest != expected {
            return Err(CoreError::SchemeDigest { expected, found: digest });
        }
        let candidate = Candidate { scheme: Some(digest), reverted: Vec::new() };
        let samples = &measure.problem.validation.samples;
        let measured = measure.one(Stage::Quantized, candidate, samples).await?;
        let drops = goal.drops(&measured.values);
        Ok(Entering { quantized, digest, measured, drops })
    }
}

/// The pool that ranking subsets are picked from: all validation samples where the baseline was measured; otherwise a
/// seeded draw of them, on which the float model is run now.
async fn pool<E: Evaluator>(
    measure: &mut Measure<'_, E>,
    parameters: &Parameters,
    float: Option<SampleValues>,
) -> Result<Pool, CoreError> {
    let all = &measure.problem.validation.samples;
    if let Some(float) = float {
        return Ok(Pool { positions: (0..all.len()).collect(), float });
    }
    if parameters.max_iter_num == Some(0) {
        return Ok(Pool { positions: Vec::new(), float: vec![Vec::new(); measure.constrained.len()] });
    }
    let wanted = (parameters.metric_subset_ratio * all.len() as f64).floor() as usize;
    let positions = SplitMix64::new(parameters.seed).choose(wanted.max(1), all.len());
    let samples: Vec<SampleIndex> = positions.iter().map(|position| all[*position]).collect();
    let measured = measure.one(Stage::Baseline, Candidate::baseline(), &samples).await?;
    Ok(Pool { positions, float: measured.samples })
}

fn note_stage(
    record: &mut RunRecord,
    observer: &dyn Observer,
    stage: Stage,
    parameters: Option<&QuantizationParameters>,
    values: &[f64],
    goal: &Goal,
) {
    let preset = parameters.map(|parameters| parameters.preset);
    let stage = StageRecord { stage: stage.to_string(), preset, values: values.to_vec(), drops: goal.drops(values) };
    observer.measured(&stage);
    record.stages.push(stage);
}

/// The end of a run that reverted nothing.
fn conclude<E>(
    mut record: RunRecord,
    measure: Measure<'_, E>,
    entering: Option<Entering>,
    outcome: Outcome,
) -> Conclusion {
    record.counts = measure.counts;
    record.outcome = outcome;
    let Some(entering) = entering else { return Conclusion { scheme: None, reverted: Vec::new(), record } };
    record.bias_corrections = entering.quantized.corrections;
    record.final_values = entering.measured.values;
    record.final_drops = entering.drops;
    Conclusion { scheme: Some(entering.quantized.scheme), reverted: Vec::new(), record }
}
