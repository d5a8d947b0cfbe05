//! AccuracyAwareQuantization: quantize, then give the groups that matter most their float precision back until every
//! metric is within its limit. This file is the flow from top to bottom.

mod assess;
mod bisect;
mod compat_loop;
mod cost;
mod default_loop;
mod descent;
mod distance;
mod forecast;
mod frontier;
mod goal;
mod hardness;
mod hold_out;
#[cfg(test)]
mod loop_tests;
mod measure;
mod paired;
mod probe;
mod racing;
mod ranking;
#[cfg(test)]
mod run_tests;
mod screen;
mod search;
mod selection;
#[cfg(test)]
mod simulation_tests;
mod trials;
mod tuning;
#[cfg(test)]
mod tuning_tests;

use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::observer::Observer;
use crate::parameters::{Mode, Parameters, QuantizationParameters, Strategy};
use crate::quantize::calibration::Calibration;
use crate::quantize::default_quantization::wanted_statistics;
use crate::quantize::{Passes, Quantized, place, quantize};
use crate::record::{Outcome, PairedRecord, RunRecord, StageRecord, StopReason};
use crate::seed::SplitMix64;
use cost::Costs;
use frontier::Frontier;
use goal::Goal;
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult};
use holdfast_common::graph::Graph;
use holdfast_common::metric::{Metric, MetricSpec};
use holdfast_common::scheme::{GroupId, Scheme};
use measure::{Measure, Measured, SampleValues};
use search::{Ending, Pool, Search, State};
use selection::Kept;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// The validation workload of the model as it was given, where the graph's has been transformed: its metrics are
    /// the baseline.
    pub baseline: Option<Digest>,
    /// The metrics of the validation workload, in its order.
    pub metrics: &'a [(MetricSpec, Box<dyn Metric>)],
    /// Class labels of the validation samples, in their order, where there are any; flips are reported by them.
    pub labels: Option<&'a [u32]>,
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
    if let Some(labels) = problem.labels.filter(|labels| labels.len() != problem.validation.samples.len()) {
        let expected = problem.validation.samples.len();
        return Err(CoreError::Answer { stage: Stage::Baseline, what: "labels", found: labels.len(), expected });
    }
    match parameters.search.hold_out.filter(|_| parameters.mode == Mode::Default) {
        Some(share) => hold_out::run(evaluator, problem, parameters, observer, share).await,
        None => {
            let (conclusion, _) = search_all(evaluator, problem, parameters, observer).await?;
            Ok(conclusion)
        }
    }
}

/// The digest under which the answer's scheme was published.
type SchemeDigest = Option<Digest>;

/// Runs the algorithm on all validation samples of the problem.
async fn search_all<E: Evaluator>(
    evaluator: &E,
    problem: &Problem<'_>,
    parameters: &Parameters,
    observer: &dyn Observer,
) -> Result<(Conclusion, SchemeDigest), CoreError> {
    let mut record = RunRecord::new(parameters.mode);
    record.strategy = strategy(parameters);
    let constrained = constrained(problem, parameters)?;
    if constrained.is_empty() {
        record.notes.push("there is no metric to hold the model to; the original model is the answer".to_owned());
        return Ok((Conclusion { scheme: None, reverted: Vec::new(), record }, None));
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
        return Ok((Conclusion { scheme: None, reverted: Vec::new(), record }, None));
    }

    let attempts = attempts(parameters);
    let calibration = calibrate(&mut measure, parameters, &attempts).await?;
    let mut entering: Option<Entering> = None;
    for (attempt, outcome) in attempts.iter().zip([Outcome::MetByQuantization, Outcome::MetByMixedPreset]) {
        let new = Entering::of(&mut measure, attempt, &calibration, parameters, &goal).await?;
        note_stage(&mut record, observer, Stage::Quantized, Some(attempt), &new.measured.values, &goal);
        let met = goal.is_met(&new.drops);
        let keep_old = parameters.mode == Mode::Default
            && entering.as_ref().is_some_and(|old| goal.violation(&old.drops) <= goal.violation(&new.drops));
        if met || !keep_old {
            entering = Some(new);
        }
        if met {
            return Ok(conclude(record, measure, &goal, parameters, entering, outcome, float));
        }
    }
    let Some(mut entering) = entering else {
        return Ok(conclude(record, measure, &goal, parameters, None, Outcome::NothingQuantizable, float));
    };

    let all_float = float.clone();
    let pool = pool(&mut measure, parameters, float).await?;
    if parameters.tune_hyperparams {
        let tuned = tuning::tune(&mut measure, parameters, &goal, &calibration, &pool, &entering).await?;
        let (mut tuning, winner) = tuned;
        if let Some(winner) = winner {
            let new = Entering::of(&mut measure, &winner, &calibration, parameters, &goal).await?;
            note_stage(&mut record, observer, Stage::Tuning, Some(&winner), &new.measured.values, &goal);
            tuning.adopted = tuning::is_better(&goal, parameters.mode, &new.drops, &entering.drops);
            if tuning.adopted {
                entering = new;
            }
        }
        record.tuning = Some(tuning);
        if goal.is_met(&entering.drops) {
            let outcome = Outcome::MetByTuning;
            return Ok(conclude(record, measure, &goal, parameters, Some(entering), outcome, all_float));
        }
    }
    record.bias_corrections.clone_from(&entering.quantized.corrections);
    record.layer_tunings.clone_from(&entering.quantized.tunings);
    let results = Arc::new(entering.measured.results);
    let state = State {
        reverted: entering.kept.float.clone(),
        samples: pool.reduce(&measure.sample_values(&results)),
        drops: entering.drops.clone(),
        values: entering.measured.values.clone(),
        results: results.clone(),
    };
    let scheme = &entering.quantized.scheme;
    let mut search = Search {
        measure,
        goal: &goal,
        parameters,
        scheme,
        digest: entering.digest,
        pool,
        entering: results,
        kept: &entering.kept,
        costs: Costs::new(scheme, &parameters.search),
        frontier: Frontier::default(),
        record,
    };
    search.saw(&state);
    let Ending { state, values, stopped } = match (parameters.mode, parameters.search.strategy) {
        (Mode::Compat, _) => compat_loop::revert(&mut search, state).await?,
        (Mode::Default, Strategy::Greedy) => default_loop::revert(&mut search, state).await?,
        (Mode::Default, Strategy::Bisect) => bisect::revert(&mut search, state).await?,
    };
    if values != state.values {
        search.note("the reported metrics are those of the last candidate, which was discarded");
    }

    let latency = search.costs.latency(&state.reverted);
    let Search { measure, mut record, frontier, .. } = search;
    record.frontier = frontier.into_records();
    record.outcome = match stopped {
        None if parameters.search.cost_aware && latency > 1.0 => {
            record
                .notes
                .push(format!("by the given latencies the result takes {latency:.3} of the float model's time"));
            Outcome::NotMet { reason: StopReason::SlowerThanFloat }
        }
        None => Outcome::MetByReverting { reverted: state.reverted.len(), groups: scheme.groups.len() },
        Some(reason) => Outcome::NotMet { reason },
    };
    if let Some(reason) = stopped.filter(|reason| is_budget(*reason)) {
        record.spent = Some(reason);
    }
    note_racing(&mut record, parameters);
    record.readmitted = readmitted(&record, scheme, &state.reverted);
    note_reverted(&mut record, scheme, &state.reverted);
    record.final_drops = goal.drops(&values);
    record.final_values = values;
    if let Some(float) = &all_float {
        record.paired = paired_records(&measure, parameters, &goal, float, &state.results, &record.final_drops);
    }
    record.counts = measure.counts;
    let reverted = state.reverted.into_iter().collect();
    Ok((Conclusion { scheme: Some(entering.quantized.scheme), reverted, record }, Some(entering.digest)))
}

/// Compat mode knows one strategy.
fn strategy(parameters: &Parameters) -> Strategy {
    match parameters.mode {
        Mode::Compat => Strategy::Greedy,
        Mode::Default => parameters.search.strategy,
    }
}

fn is_budget(reason: StopReason) -> bool {
    match reason {
        StopReason::TimeBudget | StopReason::EvaluationBudget | StopReason::OperationBudget => true,
        StopReason::EverythingReverted
        | StopReason::NoGroupLeft
        | StopReason::RoundLimit
        | StopReason::NotConfirmed
        | StopReason::SlowerThanFloat => false,
    }
}

fn note_racing(record: &mut RunRecord, parameters: &Parameters) {
    let is_used = record.strategy == Strategy::Bisect && parameters.search.hardest_first;
    record.racing = parameters.search.racing.filter(|_| is_used);
}

/// Groups that some state had reverted and the answer has not, in group order.
fn readmitted(record: &RunRecord, scheme: &Scheme, reverted: &BTreeSet<GroupId>) -> Vec<String> {
    let passed = record.probes.iter().filter(|probe| matches!(probe.verdict, crate::record::Verdict::Passed { .. }));
    let tried: BTreeSet<&String> = passed.flat_map(|probe| &probe.reverted).collect();
    let groups = scheme.group_ids().zip(&scheme.groups);
    let out = groups.filter(|(id, group)| !reverted.contains(id) && tried.contains(&group.name));
    out.map(|(_, group)| group.name.clone()).collect()
}

fn note_reverted(record: &mut RunRecord, scheme: &Scheme, reverted: &BTreeSet<GroupId>) {
    let groups = reverted.iter().filter_map(|id| scheme.group(*id));
    record.reverted_groups = groups.clone().map(|group| group.name.clone()).collect();
    record.reverted_operations = groups.flat_map(|group| group.operations.clone()).collect();
}

/// The paired comparison of two models' results on all validation samples.
fn paired_records<E: Evaluator>(
    measure: &Measure<'_, E>,
    parameters: &Parameters,
    goal: &Goal,
    float: &[SampleResult],
    answer: &[SampleResult],
    drops: &[f64],
) -> Vec<PairedRecord> {
    let (float, answer) = (measure.sample_values(float), measure.sample_values(answer));
    let mut records = Vec::with_capacity(drops.len());
    for (metric, drop) in drops.iter().enumerate() {
        let pairs = paired::pairs(&float[metric], &answer[metric]);
        let name = measure.problem.metrics[measure.constrained[metric]].0.name.clone();
        let (orientation, level) = (goal.orientations[metric], parameters.search.confidence);
        records.push(PairedRecord {
            metric: name,
            interval: pairs.as_ref().and_then(|pairs| paired::interval(pairs, orientation, *drop, level)),
            flips: pairs.as_ref().and_then(|pairs| paired::flips(pairs, measure.problem.labels)),
        });
    }
    records
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

/// The float model's metrics, and its results on all validation samples where it was run.
struct Baseline {
    values: Vec<f64>,
    float: Option<Vec<SampleResult>>,
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
    let Measured { values, results } = measure.one(Stage::Baseline, Candidate::baseline(), samples).await?;
    Ok(Baseline { values, float: Some(results) })
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
    let trials = match (parameters.tune_hyperparams, parameters.mode) {
        (false, _) => Vec::new(),
        (true, Mode::Compat) => trials::all_statistics(parameters.mode, &attempts[..1]),
        (true, Mode::Default) => trials::all_statistics(parameters.mode, attempts),
    };
    for attempt in attempts.iter().chain(&trials) {
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
    parameters: QuantizationParameters,
    quantized: Quantized,
    digest: Digest,
    kept: Kept,
    measured: Measured,
    drops: Vec<f64>,
}

impl Entering {
    async fn of<E: Evaluator>(
        measure: &mut Measure<'_, E>,
        attempt: &QuantizationParameters,
        calibration: &Calibration,
        parameters: &Parameters,
        goal: &Goal,
    ) -> Result<Entering, CoreError> {
        let (quantized, digest) = publish(measure, attempt, calibration, parameters.mode).await?;
        measure.observer.quantized(&quantized.scheme);
        let kept = Kept::new(&parameters.search, measure.problem.graph, &quantized.scheme)?;
        let candidate = Candidate { scheme: Some(digest), reverted: kept.float.iter().copied().collect() };
        let samples = &measure.problem.validation.samples;
        let measured = measure.one(Stage::Quantized, candidate, samples).await?;
        let drops = goal.drops(&measured.values);
        Ok(Entering { parameters: attempt.clone(), quantized, digest, kept, measured, drops })
    }
}

/// Quantizes, and lets the workers have the scheme.
async fn publish<E: Evaluator>(
    measure: &mut Measure<'_, E>,
    parameters: &QuantizationParameters,
    calibration: &Calibration,
    mode: Mode,
) -> Result<(Quantized, Digest), CoreError> {
    let graph = measure.problem.graph;
    let placement = place(graph, parameters, mode)?;
    let quantized = quantize(measure.evaluator, graph, &placement, calibration, parameters, mode).await?;
    for Passes { evaluations, samples } in [quantized.passes, quantized.tuning_passes] {
        measure.counts.add(Stage::Calibration, evaluations, samples, samples);
    }
    let unwritable = |source| CoreError::Json { what: "scheme", source };
    let expected = quantized.scheme.digest().map_err(unwritable)?;
    let bytes = serde_json::to_vec(&quantized.scheme).map_err(unwritable)?;
    let digest = measure.evaluator.publish(bytes).await?;
    if digest != expected {
        return Err(CoreError::SchemeDigest { expected, found: digest });
    }
    Ok((quantized, digest))
}

/// The pool that ranking subsets are picked from: all validation samples where the baseline was measured; otherwise a
/// seeded draw of them, on which the float model is run now.
async fn pool<E: Evaluator>(
    measure: &mut Measure<'_, E>,
    parameters: &Parameters,
    float: Option<Vec<SampleResult>>,
) -> Result<Pool, CoreError> {
    let all = &measure.problem.validation.samples;
    if let Some(results) = float {
        return Ok(Pool { positions: (0..all.len()).collect(), float: measure.sample_values(&results), results });
    }
    if parameters.max_iter_num == Some(0) && !parameters.tune_hyperparams {
        let float: SampleValues = vec![Vec::new(); measure.constrained.len()];
        return Ok(Pool { positions: Vec::new(), float, results: Vec::new() });
    }
    let wanted = (parameters.metric_subset_ratio * all.len() as f64).floor() as usize;
    let positions = SplitMix64::new(parameters.seed).choose(wanted.max(1), all.len());
    let samples: Vec<SampleIndex> = positions.iter().map(|position| all[*position]).collect();
    let measured = measure.one(Stage::Baseline, Candidate::baseline(), &samples).await?;
    Ok(Pool { positions, float: measure.sample_values(&measured.results), results: measured.results })
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

/// The end of a run that searched for nothing.
fn conclude<E: Evaluator>(
    mut record: RunRecord,
    measure: Measure<'_, E>,
    goal: &Goal,
    parameters: &Parameters,
    entering: Option<Entering>,
    outcome: Outcome,
    float: Option<Vec<SampleResult>>,
) -> (Conclusion, SchemeDigest) {
    record.outcome = outcome;
    let Some(entering) = entering else {
        record.counts = measure.counts;
        return (Conclusion { scheme: None, reverted: Vec::new(), record }, None);
    };
    let Entering { quantized, digest, kept, measured, drops, .. } = entering;
    if !kept.float.is_empty() {
        let groups = quantized.scheme.groups.len();
        record.outcome = Outcome::MetByReverting { reverted: kept.float.len(), groups };
    }
    if let Some(float) = &float {
        record.paired = paired_records(&measure, parameters, goal, float, &measured.results, &drops);
    }
    note_reverted(&mut record, &quantized.scheme, &kept.float);
    record.counts = measure.counts;
    record.bias_corrections = quantized.corrections;
    record.layer_tunings = quantized.tunings;
    record.final_values = measured.values;
    record.final_drops = drops;
    let reverted = kept.float.into_iter().collect();
    (Conclusion { scheme: Some(quantized.scheme), reverted, record }, Some(digest))
}
