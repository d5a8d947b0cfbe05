//! The flow around the loops: outcomes, edge cases, subsets, and which group is reverted first.

use super::{Conclusion, Problem, run};
use crate::error::CoreError;
use crate::evaluator::Stage;
use crate::observer::Silent;
use crate::parameters::{
    DropType, Ignored, IgnoredOperation, MetricParameters, Mode, Parameters, QuantizationParameters, SearchParameters,
    Strategy,
};
use crate::record::{Decision, Outcome, StopReason};
use crate::testing::{
    TableEvaluator, chain, plain_statistics, quantized_groups, run_ready, samples, small_problem, statistics_answer,
    table_metrics,
};
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult};
use holdfast_common::metric::Orientation::{self, HigherBetter, HigherWorse};
use holdfast_common::scheme::CodeType;

struct Asked {
    conclusion: Result<Conclusion, CoreError>,
    ranking: Vec<Vec<Evaluation>>,
    baseline: Vec<Vec<Evaluation>>,
}

/// Runs on a chain of these groups; `value` gives the metric of a state (its quantized groups, `None` the float model),
/// and every sample's own metric is `sample` of its index.
fn run_on(
    names: &[&str],
    orientation: Orientation,
    parameters: &Parameters,
    value: impl Fn(Option<&str>, Stage) -> f64 + Sync,
    sample: impl Fn(u32, bool) -> f64 + Sync,
) -> Asked {
    let graph = chain(names);
    let metrics = table_metrics(&[("quality", orientation)]);
    let evaluator = TableEvaluator::new(|stage, evaluation, published| {
        if stage == Stage::Calibration {
            return statistics_answer(evaluation, published, plain_statistics);
        }
        let quantized = quantized_groups(evaluation, published);
        let value = value(quantized.as_deref(), stage);
        let part = |index: &SampleIndex| vec![value, sample(index.0, quantized.is_some())];
        evaluation.samples.iter().map(|index| SampleResult { parts: vec![part(index)] }).collect()
    });
    let problem = Problem {
        graph: &graph,
        calibration: samples(b"calibration", 4),
        validation: samples(b"validation", 20),
        baseline: None,
        metrics: &metrics,
        labels: None,
    };
    let conclusion = run_ready(run(&evaluator, &problem, parameters, &Silent));
    Asked { conclusion, ranking: evaluator.batches(Stage::Ranking), baseline: evaluator.batches(Stage::Baseline) }
}

fn even(_: u32, _: bool) -> f64 {
    1.0
}

#[test]
fn the_baseline_is_that_of_the_model_as_it_was_given() {
    let graph = chain(&["a", "b"]);
    let metrics = table_metrics(&[("quality", HigherBetter)]);
    let evaluator = TableEvaluator::new(|stage, evaluation, published| {
        if stage == Stage::Calibration {
            return statistics_answer(evaluation, published, plain_statistics);
        }
        let value = if evaluation.candidate.scheme.is_some() { 0.5 } else { 1.0 };
        vec![SampleResult { parts: vec![vec![value, value]] }; evaluation.samples.len()]
    });
    let (given, transformed) = (samples(b"given", 20), samples(b"transformed", 20));
    let problem = Problem {
        graph: &graph,
        calibration: samples(b"calibration", 4),
        validation: transformed.clone(),
        baseline: Some(given.workload),
        metrics: &metrics,
        labels: None,
    };
    run_ready(run(&evaluator, &problem, &Parameters::default(), &Silent)).expect("a conclusion");
    let asked = evaluator.asked.lock().expect("no test thread panicked");
    let others = asked.iter().filter(|(stage, _)| *stage != Stage::Calibration);
    for (stage, evaluation) in others.flat_map(|(stage, batch)| batch.iter().map(move |one| (stage, one))) {
        let expected = if *stage == Stage::Baseline { given.workload } else { transformed.workload };
        assert_eq!(evaluation.workload, expected, "{stage}");
    }
}

fn with_baseline(value: f64) -> Parameters {
    let metrics = vec![MetricParameters { name: "quality".to_owned(), baseline_value: Some(value) }];
    Parameters { metrics, ..Default::default() }
}

#[test]
fn groups_that_hurt_most_are_reverted_first_in_both_orientations() {
    let harm = |state: &str| -> f64 {
        let of = |group: char| match group {
            'c' => 0.2,
            'e' => 0.1,
            _ => 0.001,
        };
        state.chars().map(of).sum()
    };
    for (orientation, sign) in [(HigherBetter, -1.0), (HigherWorse, 1.0)] {
        for mode in [Mode::Default, Mode::Compat] {
            let search = SearchParameters { strategy: Strategy::Greedy, ..Default::default() };
            let parameters = Parameters { mode, search, ..Default::default() };
            let value = |state: Option<&str>, _| 0.9 + sign * state.map_or(0.0, harm);
            let asked = run_on(&["a", "b", "c", "d", "e"], orientation, &parameters, value, even);
            let conclusion = asked.conclusion.expect("a conclusion");
            let order: Vec<&str> = conclusion.record.rounds.iter().map(|round| round.group.as_str()).collect();
            assert_eq!(order, ["c", "e"], "{orientation:?} {mode:?}");
            assert_eq!(conclusion.record.outcome, Outcome::MetByReverting { reverted: 2, groups: 5 });
            assert_eq!(conclusion.record.reverted_operations, ["c", "e"]);
            assert_eq!(asked.ranking.len(), 1);
            assert_eq!(asked.ranking[0].len(), 5, "all groups are in one batch");
            assert_eq!(conclusion.record.rounds[1].decision, Decision::Met);
        }
    }
}

#[test]
fn the_ranking_subset_is_the_samples_that_suffer_most_in_sample_order() {
    let parameters = Parameters { ranking_subset_size: 3, max_iter_num: Some(1), ..Default::default() };
    let suffering = |index: u32, quantized: bool| match (index, quantized) {
        (4 | 17, true) => 0.0,
        (9, true) => 0.5,
        _ => 1.0,
    };
    let asked = run_on(&["a", "b"], HigherBetter, &parameters, |s, _| if s.is_some() { 0.5 } else { 1.0 }, suffering);
    assert_eq!(asked.ranking[0][0].samples, [4, 9, 17].map(SampleIndex));
    let conclusion = asked.conclusion.expect("a conclusion");
    assert_eq!(conclusion.record.counts.samples["ranking"], 2 * 3);
    assert!(conclusion.record.notes.iter().any(|note| note.contains("score the same")));
}

#[test]
fn of_equal_samples_the_first_rank_groups_and_in_compat_mode_the_last() {
    for (errors, size, first, last) in [
        (&[-0.1, 0.02, 0.2, 0.1, 0.05][..], 4, [1, 2, 3, 4].as_slice(), [1, 2, 3, 4].as_slice()),
        (&[1.0, 2.0, 1.0, 2.0, 3.0, 1.0], 4, &[0, 1, 3, 4], &[1, 3, 4, 5]),
        (&[0.1; 4], 3, &[0, 1, 2], &[1, 2, 3]),
        (&[0.1; 20], 10_000, &EVERY, &EVERY),
    ] {
        for (mode, expected) in [(Mode::Default, first), (Mode::Compat, last)] {
            let search = SearchParameters { strategy: Strategy::Greedy, ..Default::default() };
            let parameters =
                Parameters { mode, search, ranking_subset_size: size, max_iter_num: Some(1), ..Default::default() };
            // Samples beyond the list are better than before.
            let error = |index: u32| errors.get(index as usize).copied().unwrap_or(-1.0);
            let own = |index, quantized| if quantized { 5.0 - error(index) } else { 5.0 };
            let value = |state: Option<&str>, _| if state.is_some() { 0.5 } else { 1.0 };
            let asked = run_on(&["a", "b"], HigherBetter, &parameters, value, own);
            let expected: Vec<SampleIndex> = expected.iter().copied().map(SampleIndex).collect();
            assert_eq!(asked.ranking[0][0].samples, expected, "{mode:?} {errors:?}");
        }
    }
}

/// All samples of the validation set.
const EVERY: [u32; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

#[test]
fn a_baseline_for_one_metric_of_two_is_not_believed() {
    let graph = chain(&["a"]);
    let metrics = table_metrics(&[("x", HigherBetter), ("y", HigherBetter)]);
    for mode in [Mode::Default, Mode::Compat] {
        let evaluator = TableEvaluator::new(|stage, evaluation, published| {
            if stage == Stage::Calibration {
                return statistics_answer(evaluation, published, plain_statistics);
            }
            let parts = vec![vec![0.7, 0.7], vec![0.4, 0.4]];
            vec![SampleResult { parts }; evaluation.samples.len()]
        });
        let problem = small_problem(&graph, &metrics);
        let named = |name: &str, baseline_value| MetricParameters { name: name.to_owned(), baseline_value };
        let parameters =
            Parameters { mode, metrics: vec![named("x", Some(0.1)), named("y", None)], ..Default::default() };
        let record = run_ready(run(&evaluator, &problem, &parameters, &Silent)).expect("a conclusion").record;
        assert_eq!((record.baseline, record.baseline_given), (vec![0.7, 0.4], false), "{mode:?}");
        assert_eq!(evaluator.batches(Stage::Baseline)[0][0].samples.len(), 5, "the float model is run in full");
    }
}

#[test]
fn a_given_baseline_is_believed_and_ranks_on_a_seeded_part_of_the_samples() {
    let parameters = Parameters { max_iter_num: Some(1), ..with_baseline(1.0) };
    let asked = |seed| {
        let parameters = Parameters { seed, ..parameters.clone() };
        run_on(&["a", "b"], HigherBetter, &parameters, |s, _| if s.is_some() { 0.5 } else { 0.1 }, even)
    };
    let first = asked(1);
    assert_eq!(first.baseline.len(), 1);
    assert_eq!(first.baseline[0][0].samples.len(), 10, "half of the samples, and only once they are needed");
    assert_eq!(first.ranking[0][0].samples.len(), 10, "a ranking subset cannot be larger than its pool");
    assert_eq!(first.baseline, asked(1).baseline);
    assert_ne!(first.baseline, asked(2).baseline);
    let record = first.conclusion.expect("a conclusion").record;
    assert_eq!((record.baseline, record.baseline_given), (vec![1.0], true));
    assert_eq!(record.counts.full_evaluations, 2, "the quantized model and one round");
}

#[test]
fn a_quantized_model_within_the_limits_is_the_answer_at_once() {
    let value = |state: Option<&str>, _: Stage| if state.is_some() { 0.995 } else { 1.0 };
    let asked = run_on(&["a"], HigherBetter, &with_baseline(1.0), value, even);
    let conclusion = asked.conclusion.expect("a conclusion");
    assert_eq!(conclusion.record.outcome, Outcome::MetByQuantization);
    assert!(asked.baseline.is_empty() && asked.ranking.is_empty() && conclusion.reverted.is_empty());
}

#[test]
fn the_mixed_preset_is_tried_where_asked_and_the_better_of_the_two_goes_on() {
    let converting =
        |mode| Parameters { mode, convert_to_mixed_preset: true, max_iter_num: Some(0), ..Default::default() };
    let zero_point = |performance: f64, mixed: f64, mode| {
        let graph = chain(&["a"]);
        let metrics = table_metrics(&[("quality", HigherBetter)]);
        let evaluator = TableEvaluator::new(|stage, evaluation, published| {
            if stage == Stage::Calibration {
                return statistics_answer(evaluation, published, |spec| match spec.statistic {
                    holdfast_common::evaluation::Statistic::Max => vec![3.0],
                    _ => plain_statistics(spec),
                });
            }
            let scheme =
                evaluation.candidate.scheme.map(|digest| String::from_utf8_lossy(&published[&digest]).into_owned());
            let value = match scheme {
                None => 1.0,
                Some(text) if text.contains("\"zero_points\":[128]") => performance,
                Some(_) => mixed,
            };
            vec![SampleResult { parts: vec![vec![value, value]] }; evaluation.samples.len()]
        });
        let problem = Problem {
            graph: &graph,
            calibration: samples(b"calibration", 2),
            validation: samples(b"validation", 2),
            baseline: None,
            metrics: &metrics,
            labels: None,
        };
        let conclusion = run_ready(run(&evaluator, &problem, &converting(mode), &Silent)).expect("a conclusion");
        assert_eq!(evaluator.batches(Stage::Calibration).len(), 1, "one calibration serves both presets");
        let params = conclusion.scheme.expect("a scheme").quantizers[0].params.clone();
        assert_eq!(params.code_type, CodeType::U8);
        (params.zero_points[0], conclusion.record.outcome)
    };
    let missed = Outcome::NotMet { reason: StopReason::RoundLimit };
    assert_eq!(zero_point(0.5, 0.995, Mode::Default), (64, Outcome::MetByMixedPreset));
    assert_eq!(zero_point(0.8, 0.7, Mode::Default), (128, missed.clone()));
    assert_eq!(zero_point(0.7, 0.8, Mode::Default), (64, missed.clone()));
    assert_eq!(zero_point(0.8, 0.7, Mode::Compat).1, missed);
    assert_ne!(zero_point(0.8, 0.7, Mode::Compat).0, 128, "the worse mixed model goes on");
}

#[test]
fn a_baseline_of_zero_has_an_outcome() {
    let reached = |mode, drop_type, maximal_drop| {
        let parameters = Parameters { mode, drop_type, maximal_drop, ..Default::default() };
        let value = |state: Option<&str>, _: Stage| state.map_or(0.0, |state| state.len() as f64 / 10.0);
        let asked = run_on(&["a", "b"], HigherWorse, &parameters, value, even);
        let record = asked.conclusion.expect("a conclusion").record;
        (record.outcome, record.limits)
    };
    let all = Outcome::MetByReverting { reverted: 2, groups: 2 };
    assert_eq!(reached(Mode::Default, DropType::Relative, 0.01), (all, vec![0.0]));
    // For POT a model with nothing left to revert has failed.
    let failed = Outcome::NotMet { reason: StopReason::EverythingReverted };
    assert_eq!(reached(Mode::Compat, DropType::Relative, 0.01), (failed, vec![0.0]));
    let one = Outcome::MetByReverting { reverted: 1, groups: 2 };
    for mode in [Mode::Default, Mode::Compat] {
        assert_eq!(reached(mode, DropType::Absolute, 0.15), (one.clone(), vec![0.15]), "{mode:?}");
    }
}

#[test]
fn a_metric_that_is_nan_is_an_error_that_names_it() {
    let value = |state: Option<&str>, _: Stage| if state.is_some() { f64::NAN } else { 1.0 };
    let error = run_on(&["a"], HigherBetter, &Parameters::default(), value, even).conclusion.expect_err("NaN");
    assert!(
        matches!(&error, CoreError::MetricNotFinite { metric, stage: Stage::Quantized, .. } if metric == "quality")
    );
}

#[test]
fn nothing_to_quantize_and_no_metric_give_the_original_model() {
    let ignored = Ignored {
        operations: vec![IgnoredOperation { operator: "Conv".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let quantization = QuantizationParameters { ignored, ..Default::default() };
    let parameters = Parameters { quantization, ..Default::default() };
    let conclusion = run_on(&["a"], HigherBetter, &parameters, |_, _| 0.7, even).conclusion.expect("a conclusion");
    assert_eq!(conclusion.record.outcome, Outcome::NothingQuantizable);
    assert!(conclusion.scheme.is_none() && conclusion.record.final_values == [0.7]);

    let graph = chain(&["a"]);
    let evaluator = TableEvaluator::new(|_, _, _| Vec::new());
    let (calibration, validation) = (samples(b"calibration", 1), samples(b"validation", 1));
    let problem = Problem { graph: &graph, calibration, validation, baseline: None, metrics: &[], labels: None };
    let conclusion = run_ready(run(&evaluator, &problem, &Parameters::default(), &Silent)).expect("a conclusion");
    assert_eq!(conclusion.record.outcome, Outcome::NoUsableMetric);
}

#[test]
fn an_unknown_metric_and_an_empty_set_are_errors() {
    let mut parameters = with_baseline(1.0);
    parameters.metrics[0].name = "qualty".to_owned();
    let error = run_on(&["a"], HigherBetter, &parameters, |_, _| 1.0, even).conclusion.expect_err("unknown");
    assert!(error.to_string().contains("`qualty`") && error.to_string().contains("quality"), "{error}");

    let graph = chain(&["a"]);
    let metrics = table_metrics(&[("quality", HigherBetter)]);
    let evaluator = TableEvaluator::new(|_, _, _| Vec::new());
    let (calibration, validation) = (samples(b"calibration", 1), samples(b"validation", 0));
    let problem = Problem { graph: &graph, calibration, validation, baseline: None, metrics: &metrics, labels: None };
    let error = run_ready(run(&evaluator, &problem, &Parameters::default(), &Silent)).expect_err("no samples");
    assert!(matches!(error, CoreError::NoSamples("validation")));
}

#[test]
fn an_answer_of_another_length_is_an_error() {
    let graph = chain(&["a"]);
    let metrics = table_metrics(&[("quality", HigherBetter)]);
    let evaluator = TableEvaluator::new(|_, _, _| vec![SampleResult { parts: vec![vec![1.0]] }]);
    let (calibration, validation) = (samples(b"calibration", 1), samples(b"validation", 2));
    let problem = Problem { graph: &graph, calibration, validation, baseline: None, metrics: &metrics, labels: None };
    let error = run_ready(run(&evaluator, &problem, &Parameters::default(), &Silent)).expect_err("one of two");
    assert!(matches!(error, CoreError::Answer { what: "samples", found: 1, expected: 2, .. }));
}

#[test]
fn the_same_run_gives_the_same_record_to_the_byte() {
    let record = || {
        let value = |state: Option<&str>, _: Stage| 1.0 - state.map_or(0.0, |state| state.len() as f64 / 50.0);
        let asked = run_on(&["a", "b", "c"], HigherBetter, &with_baseline(1.0), value, even);
        serde_json::to_vec(&asked.conclusion.expect("a conclusion").record).expect("finite numbers")
    };
    assert_eq!(record(), record());
}
