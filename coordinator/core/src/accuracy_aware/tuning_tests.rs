//! Tuning: its subset, its trials, what it pays for, and when it is believed.

use super::tuning::{hardest, is_better};
use super::{Conclusion, Problem, run};
use crate::accuracy_aware::goal::Goal;
use crate::evaluator::Stage;
use crate::observer::Silent;
use crate::parameters::{MetricParameters, Mode, Parameters};
use crate::record::{Outcome, TuningRecord};
use crate::testing::{TableEvaluator, chain, run_ready, samples, statistics_answer, table_metrics};
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult, Statistic, StatisticSpec};
use holdfast_common::metric::Orientation::{self, HigherBetter, HigherWorse};
use holdfast_common::scheme::{QuantParams, Scheme};
use std::collections::BTreeSet;

fn some(values: [f64; 6]) -> Vec<Option<f64>> {
    values.map(Some).to_vec()
}

#[test]
fn the_hardest_samples_of_all_metrics_are_chosen() {
    let float = vec![some([1.0; 6]), some([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])];
    let quantized = vec![some([0.1, 0.2, 0.9, 0.8, 0.7, 0.6]), some([0.9, 0.7, 0.1, 0.6, 0.5, 0.1])];
    let chosen = |size, mode| hardest(&[HigherBetter; 2], &float, &quantized, size, mode);
    assert_eq!(chosen(4, Mode::Compat), [0, 1, 2, 5]);
    assert_eq!(chosen(4, Mode::Default), [0, 1, 2, 5]);
    // Rounding up takes one of each metric; a sample that comes again counts again.
    assert_eq!(chosen(3, Mode::Compat), [0, 1, 2, 5]);
    assert_eq!(chosen(3, Mode::Default), [0, 1, 2]);
    for mode in [Mode::Compat, Mode::Default] {
        assert!(chosen(100, mode).len() <= 6, "a pool smaller than the subset ends the search");
    }
    assert_eq!(chosen(100, Mode::Default), [0, 1, 2, 3, 4, 5]);
    let nothing = vec![vec![None; 6]; 2];
    assert!(hardest(&[HigherBetter; 2], &nothing, &quantized, 4, Mode::Compat).is_empty());
}

#[test]
fn a_tuned_model_is_taken_where_its_mean_drop_is_smaller_and_no_limit_pays_for_it() {
    let goal = Goal::new(vec![HigherBetter; 2], vec![1.0; 2], &Parameters::default());
    let better = |mode, new: [f64; 2], old: [f64; 2]| is_better(&goal, mode, &new, &old);
    for mode in [Mode::Default, Mode::Compat] {
        assert!(better(mode, [0.02, 0.02], [0.03, 0.02]));
        assert!(!better(mode, [0.03, 0.02], [0.03, 0.02]));
    }
    assert!(better(Mode::Compat, [0.04, -0.05], [0.03, 0.02]), "POT looks at the mean alone");
    assert!(!better(Mode::Default, [0.04, -0.05], [0.03, 0.02]));
    assert!(better(Mode::Default, [0.01, 0.01], [0.02, -0.05]), "within the limits is the goal");
    assert!(!better(Mode::Compat, [0.01, 0.01], [0.02, -0.05]));
}

/// Tensors reach from −1 to 1; without one in a thousand elements they reach to 0.5, without one in ten thousand to 0.75.
fn statistics(spec: &StatisticSpec) -> Vec<f64> {
    let inner = |share: f64| if share > 5e-4 { 0.5 } else { 0.75 };
    vec![match spec.statistic {
        Statistic::Mean => return vec![0.0; 2],
        Statistic::Min => -1.0,
        Statistic::Max | Statistic::AbsMax => 1.0,
        Statistic::Quantile(p) if p < 0.5 => -inner(p),
        Statistic::Quantile(p) | Statistic::AbsQuantile(p) => inner(1.0 - p),
        Statistic::Patches(_) | Statistic::Rows(_) => panic!("no layer is tuned"),
    }]
}

/// What the float model reaches, and how far its first activation reaches in a quantized model.
const FLOAT: f64 = 0.9;

fn reach(params: &QuantParams) -> f64 {
    f64::from(params.scales[0]) * f64::from(255 - params.zero_points[0])
}

struct Tuned {
    conclusion: Conclusion,
    tuning: Vec<Vec<Evaluation>>,
    /// Batches of float statistics.
    calibrations: usize,
}

impl Tuned {
    fn record(&self) -> &TuningRecord {
        self.conclusion.record.tuning.as_ref().expect("tuning was needed")
    }

    fn best(&self) -> &str {
        let known = self.record().trials.iter().filter_map(|trial| Some((trial.error?, trial.change.as_str())));
        known.reduce(|a, b| if b.0 < a.0 { b } else { a }).map_or("", |(_, change)| change)
    }

    fn reach(&self) -> f64 {
        reach(&self.conclusion.scheme.as_ref().expect("a scheme").quantizers[0].params)
    }
}

/// Runs with tuning; `value` gives the metric of a scheme on so many samples. A second metric is declared that no limit
/// is set for.
fn tuned(
    mode: Mode,
    orientation: Orientation,
    edit: impl Fn(&mut Parameters),
    value: impl Fn(&Scheme, usize) -> f64 + Sync,
) -> Tuned {
    let graph = chain(&["a", "b"]);
    let metrics = table_metrics(&[("other", HigherBetter), ("quality", orientation)]);
    let evaluator = TableEvaluator::new(|stage, evaluation, published| {
        if stage == Stage::Calibration {
            return statistics_answer(evaluation, published, statistics);
        }
        let scheme = evaluation
            .candidate
            .scheme
            .map(|digest| serde_json::from_slice::<Scheme>(&published[&digest]).expect("a published scheme"));
        let value = scheme.as_ref().map_or(FLOAT, |scheme| value(scheme, evaluation.samples.len()));
        // Every third sample suffers.
        let own = |index: &SampleIndex| f64::from(u8::from(scheme.is_none() || !index.0.is_multiple_of(3)));
        let own = |index: &SampleIndex| orientation.sign() * own(index);
        let result = |index| SampleResult { parts: vec![vec![f64::NAN, 0.0], vec![value, own(index)]] };
        evaluation.samples.iter().map(result).collect()
    });
    let problem = Problem {
        graph: &graph,
        calibration: samples(b"calibration", 4),
        validation: samples(b"validation", 30),
        metrics: &metrics,
        labels: None,
        baseline: None,
    };
    let mut parameters = Parameters {
        mode,
        tune_hyperparams: true,
        ranking_subset_size: 10,
        max_iter_num: Some(0),
        metrics: vec![MetricParameters { name: "quality".to_owned(), baseline_value: None }],
        ..Default::default()
    };
    edit(&mut parameters);
    let conclusion = run_ready(run(&evaluator, &problem, &parameters, &Silent)).expect("a conclusion");
    let float = |batch: &&Vec<Evaluation>| batch.iter().any(|evaluation| evaluation.candidate.scheme.is_none());
    let calibrations = evaluator.batches(Stage::Calibration).iter().filter(float).count();
    Tuned { conclusion, tuning: evaluator.batches(Stage::Tuning), calibrations }
}

/// Better the nearer the first activation reaches to 0.5.
fn by_reach(sign: f64) -> impl Fn(&Scheme, usize) -> f64 + Sync {
    move |scheme, _| FLOAT - sign * (reach(&scheme.quantizers[0].params) - 0.5).abs()
}

#[test]
fn the_best_range_is_found_in_both_modes_and_orientations() {
    for mode in [Mode::Default, Mode::Compat] {
        for (orientation, sign) in [(HigherBetter, 1.0), (HigherWorse, -1.0)] {
            let found = tuned(mode, orientation, |_| {}, by_reach(sign));
            assert_eq!(found.conclusion.record.outcome, Outcome::MetByTuning, "{mode:?} {orientation:?}");
            assert!(found.record().adopted && (found.reach() - 0.5).abs() < 0.01, "{}", found.best());
            assert!(found.best().ends_with("to mean quantile at 1e-3"), "{}", found.best());
            assert!(found.conclusion.record.final_drops[0].abs() < 0.01);
            assert_eq!(found.calibrations, 1, "one pass over the calibration samples serves all trials");
        }
    }
}

#[test]
fn trials_run_side_by_side_on_the_samples_that_suffered_and_none_runs_twice() {
    for (mode, batches, trials) in [(Mode::Default, 5, 15), (Mode::Compat, 2, 12)] {
        let found = tuned(mode, HigherBetter, |_| {}, by_reach(1.0));
        assert!(found.tuning.len() <= batches, "{mode:?}: {} batches", found.tuning.len());
        assert_eq!(found.record().trials.len(), trials, "{mode:?}");
        let suffered: Vec<SampleIndex> = (0..30).step_by(3).map(SampleIndex).collect();
        assert_eq!(found.record().samples, suffered);
        let evaluations: Vec<&Evaluation> = found.tuning.iter().flatten().collect();
        assert!(evaluations.iter().all(|evaluation| evaluation.samples == suffered));
        let different: BTreeSet<_> = evaluations.iter().map(|evaluation| &evaluation.candidate).collect();
        assert_eq!(different.len(), evaluations.len(), "{mode:?}");
        assert_eq!(found.conclusion.record.counts.full_evaluations, 3, "float, quantized, tuned");
    }
}

#[test]
fn the_reference_is_the_unchanged_model_and_in_compat_mode_the_first_trial() {
    let worst = |scheme: &Scheme, _: usize| {
        // The unchanged model is best: it reaches to 1, and both weights have the scale of their extremes.
        FLOAT
            - 0.1
            - (1.0 - reach(&scheme.quantizers[0].params)).abs()
            - f64::from(scheme.quantizers[0].params.code_min)
    };
    let found = tuned(Mode::Default, HigherBetter, |_| {}, worst);
    assert_eq!((found.best(), found.record().trials[0].error), ("nothing", Some(0.0)));
    assert!(!found.record().adopted && found.conclusion.record.stages.len() == 2, "nothing more is evaluated");
    let compat = tuned(Mode::Compat, HigherBetter, |_| {}, worst);
    assert_eq!((compat.best(), compat.record().trials[0].error), ("weights by extremes", Some(0.0)));
}

#[test]
fn what_is_better_on_the_hardest_samples_only_is_not_believed() {
    for mode in [Mode::Default, Mode::Compat] {
        let overfitted = |scheme: &Scheme, samples: usize| {
            let gain = 1.0 - reach(&scheme.quantizers[0].params);
            if samples < 30 { 0.5 + gain } else { 0.7 - gain }
        };
        let found = tuned(mode, HigherBetter, |_| {}, overfitted);
        assert!(!found.record().adopted && found.record().trials.iter().any(|trial| trial.error < Some(0.0)));
        assert!((found.reach() - 1.0).abs() < 0.01, "the model before tuning is the answer");
        assert_eq!(found.conclusion.record.stages.last().map(|stage| stage.stage.as_str()), Some("tuning"));
    }
}

#[test]
fn of_equal_trials_the_first_wins() {
    let constant = |_: &Scheme, _: usize| 0.5;
    assert_eq!(tuned(Mode::Default, HigherBetter, |_| {}, constant).best(), "nothing");
    assert_eq!(tuned(Mode::Compat, HigherBetter, |_| {}, constant).best(), "weights by extremes");
}

#[test]
fn a_given_baseline_lets_tuning_work_on_the_drawn_samples() {
    let given = |parameters: &mut Parameters| parameters.metrics[0].baseline_value = Some(FLOAT);
    let found = tuned(Mode::Default, HigherBetter, given, by_reach(1.0));
    assert_eq!(found.conclusion.record.outcome, Outcome::MetByTuning);
    assert!(found.record().samples.len() <= 10 && !found.record().samples.is_empty());
}

#[test]
fn without_need_nothing_is_tuned() {
    let found = tuned(Mode::Default, HigherBetter, |_| {}, |_, _| FLOAT);
    assert!(found.conclusion.record.tuning.is_none() && found.tuning.is_empty());
}
