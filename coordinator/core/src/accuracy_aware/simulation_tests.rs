//! Strategies on planted models: samples with margins, groups whose quantization moves them, some of them badly, some only
//! together with another.
//!
//! A sample's margin is the float model's plus what every quantized group adds. Of a pair, both have to be reverted to
//! take the pair's noise away, so that a ranking of single groups sees nothing of it.

use super::{Conclusion, Problem, run};
use crate::evaluator::Stage;
use crate::observer::{Observer, Silent};
use crate::parameters::{Budget, MetricParameters, Parameters, SearchParameters, Selection, Strategy};
use crate::record::{Outcome, Purpose, StopReason, Verdict};
use crate::seed::SplitMix64;
use crate::testing::{TableEvaluator, chain, plain_statistics, run_ready, samples, statistics_answer};
use holdfast_common::evaluation::{Evaluation, SampleResult};
use holdfast_common::metric::{Metric, MetricDefinition, MetricSpec, build};
use holdfast_common::scheme::GroupId;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Planted {
    names: Vec<String>,
    float: Vec<f64>,
    /// Per group, what it adds to every margin while it is quantized.
    noise: Vec<Vec<f64>>,
    /// Two groups, and what is added to every margin while one of them is quantized.
    pairs: Vec<(usize, usize, Vec<f64>)>,
}

/// About normal: the sum of twelve uniform numbers.
fn normal(random: &mut SplitMix64) -> f64 {
    (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
}

impl Planted {
    /// So many groups, some of them bad, and pairs that are bad together.
    fn new(seed: u64, samples: usize, groups: usize, bad: usize, pairs: usize) -> Planted {
        let mut random = SplitMix64::new(seed);
        let float = (0..samples).map(|_| 2.0 + 1.4 * normal(&mut random)).collect();
        let chosen = random.choose(bad, groups);
        let moved = |size: f64, random: &mut SplitMix64| -> Vec<f64> {
            (0..samples).map(|_| size * (normal(random) - 0.4)).collect()
        };
        let noise = (0..groups)
            .map(|group| {
                let size = match chosen.contains(&group) {
                    true => 0.15 + 0.5 * random.below(1000) as f64 / 1000.0,
                    false => 0.02,
                };
                moved(size, &mut random)
            })
            .collect();
        let pairs = (0..pairs)
            .map(|_| {
                let both = random.choose(2, groups);
                (both[0], both[1], moved(0.5, &mut random))
            })
            .collect();
        Planted { names: (0..groups).map(|group| format!("g{group:02}")).collect(), float, noise, pairs }
    }

    fn margin(&self, sample: usize, reverted: Option<&BTreeSet<usize>>) -> f64 {
        let Some(reverted) = reverted else { return self.float[sample] };
        let groups = self.noise.iter().enumerate().filter(|(group, _)| !reverted.contains(group));
        let single: f64 = groups.map(|(_, noise)| noise[sample]).sum();
        let pairs = self.pairs.iter().filter(|(a, b, _)| !reverted.contains(a) || !reverted.contains(b));
        self.float[sample] + single + pairs.map(|(_, _, noise)| noise[sample]).sum::<f64>()
    }

    /// One accuracy for each threshold that margins must be above.
    fn answer(&self, evaluation: &Evaluation, thresholds: &[f64]) -> Vec<SampleResult> {
        let of = |id: &GroupId| id.0 as usize;
        let reverted: Option<BTreeSet<usize>> =
            evaluation.candidate.scheme.map(|_| evaluation.candidate.reverted.iter().map(of).collect());
        let part = |margin: f64| vec![f64::from(u8::from(margin > 0.0)), margin];
        let result = |margin: f64| thresholds.iter().map(|threshold| part(margin - threshold)).collect();
        let margins = evaluation.samples.iter().map(|sample| self.margin(sample.0 as usize, reverted.as_ref()));
        margins.map(|margin| SampleResult { parts: result(margin) }).collect()
    }

    fn accuracy(&self, reverted: Option<&BTreeSet<usize>>) -> f64 {
        self.accuracy_above(0.0, reverted)
    }

    fn accuracy_above(&self, threshold: f64, reverted: Option<&BTreeSet<usize>>) -> f64 {
        let hits = (0..self.float.len()).filter(|sample| self.margin(*sample, reverted) > threshold).count();
        hits as f64 / self.float.len() as f64
    }

    fn run(&self, parameters: &Parameters) -> Conclusion {
        self.run_watched(parameters, &Silent, None)
    }

    fn run_watched(&self, parameters: &Parameters, observer: &dyn Observer, labels: Option<&[u32]>) -> Conclusion {
        self.run_with(parameters, observer, labels, &[0.0])
    }

    fn run_with(
        &self,
        parameters: &Parameters,
        observer: &dyn Observer,
        labels: Option<&[u32]>,
        thresholds: &[f64],
    ) -> Conclusion {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let graph = chain(&names);
        let metrics: Vec<_> = (0..thresholds.len()).map(accuracy).collect();
        let evaluator = TableEvaluator::new(|stage, evaluation, published| match stage {
            Stage::Calibration => statistics_answer(evaluation, published, plain_statistics),
            _ => self.answer(evaluation, thresholds),
        });
        let problem = Problem {
            graph: &graph,
            calibration: samples(b"calibration", 2),
            validation: samples(b"validation", self.float.len() as u32),
            baseline: None,
            metrics: &metrics,
            labels,
        };
        run_ready(run(&evaluator, &problem, parameters, observer)).expect("a conclusion")
    }
}

fn accuracy(index: usize) -> (MetricSpec, Box<dyn Metric>) {
    let definition = MetricDefinition::accuracy(1);
    let name = if index == 0 { "accuracy".to_owned() } else { format!("accuracy{index}") };
    let spec = MetricSpec { name, output: None, definition };
    let metric = build(&spec).expect("a metric");
    (spec, metric)
}

fn parameters(search: SearchParameters) -> Parameters {
    Parameters { maximal_drop: 0.005, search, ..Default::default() }
}

fn greedy() -> Parameters {
    parameters(SearchParameters { strategy: Strategy::Greedy, ..Default::default() })
}

fn bisect() -> Parameters {
    parameters(SearchParameters::default())
}

/// Samples asked for after the quantized model was measured.
fn searched(conclusion: &Conclusion) -> u64 {
    let samples = &conclusion.record.counts.samples;
    ["ranking", "validation"].iter().filter_map(|stage| samples.get(*stage)).sum()
}

/// The planted models that strategies are compared on: `(seed, bad groups, pairs)`.
fn models() -> impl Iterator<Item = (u64, usize, usize)> {
    let single = (1..=12).flat_map(|bad| (0..4).map(move |seed| (seed, bad, 0)));
    let paired =
        [(2, 1), (4, 1), (6, 2)].into_iter().flat_map(|(bad, pairs)| (10..14).map(move |seed| (seed, bad, pairs)));
    single.chain(paired)
}

#[test]
fn no_planted_model_has_more_reverted_than_by_the_greedy_strategy() {
    let (mut ratios, mut more) = (Vec::new(), Vec::new());
    println!("seed bad pairs | drop   | greedy: full samples reverted | bisect: full part samples reverted");
    for (seed, bad, pairs) in models() {
        let planted = Planted::new(seed, 2_000, 20, bad, pairs);
        let (one, other) = (planted.run(&greedy()), planted.run(&bisect()));
        let counts = |conclusion: &Conclusion| conclusion.record.counts.clone();
        println!(
            "{seed:4} {bad:3} {pairs:5} | {:.4} | {:3} {:6} {:2} | {:3} {:3} {:6} {:2}",
            one.record.stages[1].drops[0],
            counts(&one).full_evaluations,
            searched(&one),
            one.reverted.len(),
            counts(&other).full_evaluations,
            counts(&other).partial_evaluations,
            searched(&other),
            other.reverted.len(),
        );
        assert_eq!(one.record.outcome.is_met(), other.record.outcome.is_met());
        if one.reverted.len() < other.reverted.len() {
            more.push((seed, bad, pairs));
        }
        ratios.push(searched(&other) as f64 / searched(&one) as f64);
    }
    ratios.sort_by(f64::total_cmp);
    let (median, worst) = (ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    println!("samples by the bisecting strategy, as a share: median {median:.2}, worst {worst:.2}");
    assert!(more.is_empty(), "more reverted than by the greedy strategy: {more:?}");
    assert!(median < 0.5, "less than half of the samples in the median: {median}");
    // Hopes near the limit that fail one after the other, up to their bound.
    assert!(worst < 1.25, "nowhere many more samples: {worst}");
}

#[test]
fn what_is_decided_does_not_depend_on_how_a_question_is_answered() {
    for (seed, bad, pairs) in models().step_by(3) {
        println!("seed {seed}, {bad} bad, {pairs} pairs");
        let planted = Planted::new(seed, 800, 14, bad, pairs);
        let proven = planted.run(&bisect());
        let plain = parameters(SearchParameters { hardest_first: false, ..Default::default() });
        let full = planted.run(&plain);
        assert_eq!(proven.reverted, full.reverted);
        assert_eq!(proven.record.final_values, full.record.final_values);
        assert_eq!(full.record.counts.partial_evaluations, 0);
        let passed = |conclusion: &Conclusion| -> Vec<Vec<String>> {
            let probes = conclusion.record.probes.iter();
            let passed = probes.filter(|probe| matches!(probe.verdict, Verdict::Passed { .. }));
            passed.map(|probe| probe.reverted.clone()).collect()
        };
        assert_eq!(passed(&proven), passed(&full));
        // Every refutation is true, and its bound no larger than the drop.
        let baseline = planted.accuracy(None);
        for probe in &proven.record.probes {
            let reverted: BTreeSet<usize> =
                probe.reverted.iter().filter_map(|name| planted.names.iter().position(|known| known == name)).collect();
            let drop = baseline - planted.accuracy(Some(&reverted));
            match &probe.verdict {
                Verdict::Passed { drops } => assert_eq!(drops[0], drop),
                Verdict::Refuted { at_least } => {
                    assert!(0.005 < at_least[0] && at_least[0] <= drop, "{probe:?} {drop}")
                }
                Verdict::SetAside { missing } => assert!(*missing > 0.0, "{probe:?}"),
                Verdict::Raced { .. } => panic!("racing is off"),
            }
        }
    }
}

#[test]
fn the_answer_needs_all_that_it_reverts() {
    for (seed, bad, pairs) in models().step_by(2) {
        let planted = Planted::new(seed, 1_000, 16, bad, pairs);
        let conclusion = planted.run(&bisect());
        let reverted: BTreeSet<usize> = conclusion.reverted.iter().map(|id| id.0 as usize).collect();
        let limit = planted.accuracy(None) - 0.005;
        let is_met = |set: &BTreeSet<usize>| planted.accuracy(None) - planted.accuracy(Some(set)) <= 0.005;
        assert!(is_met(&reverted), "{limit}");
        for group in &reverted {
            let mut without = reverted.clone();
            without.remove(group);
            assert!(!is_met(&without), "seed {seed}, {bad} bad, {pairs} pairs: g{group:02} is reverted in vain");
        }
    }
}

#[test]
fn with_two_metrics_the_answer_is_within_both_limits_and_needs_all_that_it_reverts() {
    let thresholds = [0.0, 1.5];
    let metrics: Vec<MetricParameters> =
        ["accuracy", "accuracy1"].map(|name| MetricParameters { name: name.to_owned(), baseline_value: None }).to_vec();
    for (seed, bad, pairs) in models().step_by(4) {
        let planted = Planted::new(seed, 1_000, 16, bad, pairs);
        let parameters = Parameters { metrics: metrics.clone(), ..bisect() };
        let conclusion = planted.run_with(&parameters, &Silent, None, &thresholds);
        let reverted: BTreeSet<usize> = conclusion.reverted.iter().map(|id| id.0 as usize).collect();
        let is_met = |set: &BTreeSet<usize>| {
            let drop = |at| planted.accuracy_above(at, None) - planted.accuracy_above(at, Some(set));
            thresholds.into_iter().all(|at| drop(at) <= 0.005)
        };
        assert!(conclusion.record.outcome.is_met() && is_met(&reverted), "seed {seed}, {bad} bad, {pairs} pairs");
        for group in &reverted {
            let mut without = reverted.clone();
            without.remove(group);
            assert!(!is_met(&without), "seed {seed}, {bad} bad, {pairs} pairs: g{group:02} is reverted in vain");
        }
    }
}

#[test]
fn an_unreachable_goal_ends_with_the_best_state_that_was_seen() {
    for seed in 0..6 {
        let planted = Planted::new(seed, 600, 8, 3, 0);
        let impossible = Parameters { maximal_drop: -0.5, ..bisect() };
        let conclusion = planted.run(&impossible);
        assert_eq!(conclusion.record.outcome, Outcome::NotMet { reason: StopReason::EverythingReverted });
        let best = conclusion.record.probes.iter().map(|probe| {
            let of = |name: &String| planted.names.iter().position(|known| known == name);
            planted.accuracy(Some(&probe.reverted.iter().filter_map(of).collect()))
        });
        let best = best.fold(planted.accuracy(Some(&BTreeSet::new())), f64::max);
        assert_eq!(conclusion.record.final_values, [best]);
    }
}

#[test]
fn a_given_baseline_that_is_too_high_is_an_outcome_and_one_that_is_not_is_met() {
    let planted = Planted::new(3, 800, 12, 3, 0);
    let given = |value: f64| {
        let metrics = vec![MetricParameters { name: "accuracy".to_owned(), baseline_value: Some(value) }];
        planted.run(&Parameters { metrics, ..bisect() })
    };
    assert!(!given(0.999).record.outcome.is_met());
    let met = given(planted.accuracy(None));
    assert!(met.record.outcome.is_met() && met.record.paired.is_empty());
}

#[test]
fn budgets_end_the_search_and_are_named() {
    let planted = Planted::new(2, 800, 14, 6, 0);
    let with = |budget: Budget| planted.run(&parameters(SearchParameters { budget, ..Default::default() }));
    let reason = |conclusion: &Conclusion| match conclusion.record.outcome {
        Outcome::NotMet { reason } => Some(reason),
        _ => None,
    };
    let none = with(Budget { evaluations: Some(0), ..Budget::default() });
    assert_eq!(reason(&none), Some(StopReason::EvaluationBudget));
    assert_eq!(none.record.spent, Some(StopReason::EvaluationBudget));
    let few = with(Budget { reverted_operations: Some(2), ..Budget::default() });
    assert_eq!(reason(&few), Some(StopReason::OperationBudget));
    assert!(few.record.reverted_operations.len() <= 2);
    assert!(few.record.final_drops[0] <= few.record.stages[1].drops[0]);
    let rounds = planted.run(&Parameters { max_iter_num: Some(2), ..bisect() });
    assert_eq!(reason(&rounds), Some(StopReason::RoundLimit));
    assert!(rounds.reverted.len() <= 2);

    struct Clock(AtomicUsize);
    impl Observer for Clock {
        fn out_of_time(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) >= 1
        }
    }
    for parameters in [bisect(), greedy()] {
        let conclusion = planted.run_watched(&parameters, &Clock(AtomicUsize::new(0)), None);
        assert_eq!(reason(&conclusion), Some(StopReason::TimeBudget));
    }
}

#[test]
fn groups_the_user_keeps_stay_as_they_are() {
    let planted = Planted::new(5, 800, 12, 4, 0);
    let free = planted.run(&bisect()).record.reverted_groups;
    let selection = |names: &[&String]| Selection {
        names: names.iter().map(|name| (*name).clone()).collect(),
        ..Selection::default()
    };
    let unneeded = planted.names.iter().find(|name| !free.contains(name)).expect("not all are reverted");
    let search = SearchParameters {
        keep_quantized: selection(&[&free[0]]),
        keep_float: selection(&[unneeded]),
        ..Default::default()
    };
    for strategy in [Strategy::Bisect, Strategy::Greedy] {
        let kept = planted.run(&parameters(SearchParameters { strategy, ..search.clone() })).record;
        assert!(!kept.reverted_groups.contains(&free[0]) && kept.reverted_groups.contains(unneeded), "{strategy:?}");
    }
}

#[test]
fn a_given_order_is_followed_and_needs_no_ranking() {
    let planted = Planted::new(5, 800, 12, 3, 0);
    let order: Vec<String> = planted.run(&bisect()).record.reverted_groups;
    let search = SearchParameters { ranking: Some(order.clone()), ..Default::default() };
    let record = planted.run(&parameters(search)).record;
    assert!(record.rankings.is_empty());
    assert_eq!(record.reverted_groups, order);
    let backwards: Vec<String> = planted.names.iter().filter(|name| !order.contains(name)).cloned().collect();
    let search = SearchParameters { ranking: Some(backwards), ..Default::default() };
    let record = planted.run(&parameters(search)).record;
    assert!(record.outcome.is_met() && record.probes.iter().any(|probe| probe.purpose == Purpose::Readmission));
}

#[test]
fn racing_is_marked_and_still_ends_within_the_limits() {
    for seed in 0..4 {
        let planted = Planted::new(seed, 3_000, 12, 3, 0);
        let conclusion = planted.run(&parameters(SearchParameters { racing: Some(0.05), ..Default::default() }));
        assert_eq!(conclusion.record.racing, Some(0.05));
        assert!(conclusion.record.outcome.is_met() && conclusion.record.final_drops[0] <= 0.005);
    }
    assert_eq!(Planted::new(0, 300, 4, 1, 0).run(&bisect()).record.racing, None);
}

#[test]
fn an_answer_is_confirmed_on_samples_that_the_search_never_saw() {
    let planted = Planted::new(1, 2_000, 12, 3, 0);
    let search = SearchParameters { hold_out: Some(0.25), ..Default::default() };
    let labels: Vec<u32> = (0..2_000).map(|sample| sample % 3).collect();
    let conclusion = planted.run_watched(&parameters(search), &Silent, Some(&labels));
    let record = conclusion.record;
    let held = record.hold_out.expect("held out");
    assert_eq!(held.samples, 500);
    assert_eq!(held.is_met, held.drops[0] <= 0.005);
    assert_eq!(record.outcome.is_met(), held.is_met);
    assert_eq!(record.counts.samples["baseline"], 2_000, "1500 for the search, 500 held out");
    let paired = &record.paired[0];
    let flips = paired.flips.as_ref().expect("right or wrong");
    assert_eq!((flips.broken as f64 - flips.fixed as f64) / 500.0, (held.drops[0] * 500.0).round() / 500.0);
    assert_eq!(flips.classes.values().map(|(broken, _)| broken).sum::<usize>(), flips.broken);
    let interval = paired.interval.expect("a mean");
    assert!(interval.low < held.drops[0] && held.drops[0] < interval.high);
}

#[test]
fn by_cost_the_cheaper_of_two_remedies_is_taken_and_the_frontier_falls() {
    let planted = Planted::new(7, 1_500, 12, 5, 0);
    let dear: Vec<String> = planted.run(&bisect()).record.reverted_groups;
    let latency = |float| crate::parameters::Latency { int8: 1.0, float };
    let latencies = planted.names.iter().map(|name| (name.clone(), latency(if *name == dear[0] { 50.0 } else { 2.0 })));
    let search = SearchParameters { cost_aware: true, latencies: latencies.collect(), ..Default::default() };
    let record = planted.run(&parameters(search)).record;
    assert!(record.outcome.is_met());
    let latencies: Vec<f64> = record.frontier.iter().map(|point| point.latency).collect();
    assert!(latencies.is_sorted() && record.frontier.is_sorted_by(|a, b| a.drops[0] > b.drops[0]));

    let slow = planted.names.iter().map(|name| (name.clone(), crate::parameters::Latency { int8: 2.0, float: 1.0 }));
    let search = SearchParameters { cost_aware: true, latencies: slow.collect(), ..Default::default() };
    let record = planted.run(&parameters(search)).record;
    assert_eq!(record.outcome, Outcome::NotMet { reason: StopReason::SlowerThanFloat });
    assert!(record.notes.iter().any(|note| note.contains("float model's time")));
}
