//! Traces of the revert loops: which states are validated in which order, and what is returned.
//!
//! States are written as the groups that are still quantized. The limit is a drop of 0.01 from a baseline of 1, the
//! quantized model enters with 0.05, and rankings put groups in alphabetical order unless a test says otherwise. The
//! compat traces are POT's own; the default traces follow from "never worse than the best state seen, no evaluation
//! repeated".

use super::{Conclusion, run};
use crate::error::CoreError;
use crate::evaluator::Stage;
use crate::observer::Silent;
use crate::parameters::{Mode, Parameters, QuantizationParameters, SaturationFix, SearchParameters, Strategy};
use crate::record::{Outcome, StopReason};
use crate::testing::{
    TableEvaluator, chain, plain_statistics, quantized_groups, run_ready, small_problem, statistics_answer,
    table_metrics,
};
use holdfast_common::evaluation::SampleResult;
use holdfast_common::metric::Orientation::HigherBetter;
use std::collections::BTreeSet;

/// Drops of states, one number per metric; and for rankings, orders of groups by the state they start from.
struct Table {
    names: &'static [&'static str],
    drops: &'static [(&'static str, &'static [f64])],
    orders: &'static [(&'static str, &'static str)],
}

const ABCD: &[&str] = &["a", "b", "c", "d"];

struct Trace {
    validated: Vec<String>,
    rankings: usize,
    conclusion: Conclusion,
}

impl Trace {
    /// The groups that are still quantized in the answer.
    fn answer(&self) -> String {
        let scheme = self.conclusion.scheme.as_ref().expect("a scheme");
        let left = scheme.group_ids().filter(|id| !self.conclusion.reverted.contains(id));
        left.map(|id| scheme.groups[id.0 as usize].name.clone()).collect()
    }

    fn reported(&self) -> f64 {
        (self.conclusion.record.final_drops[0] * 1e4).round() / 1e4
    }

    fn assert(&self, validated: &[&str], rankings: usize, answer: &str, reported: f64) {
        assert_eq!(self.validated, validated);
        assert_eq!((self.rankings, self.answer().as_str(), self.reported()), (rankings, answer, reported));
    }
}

fn trace(table: &Table, parameters: Parameters) -> Result<Trace, CoreError> {
    let graph = chain(table.names);
    let metric_names = &["x", "y"][..table.drops[0].1.len()];
    let metrics = table_metrics(&metric_names.iter().map(|name| (*name, HigherBetter)).collect::<Vec<_>>());
    let all = table.names.concat();
    let evaluator = TableEvaluator::new(|stage, evaluation, published| {
        if stage == Stage::Calibration {
            return statistics_answer(evaluation, published, plain_statistics);
        }
        let Some(quantized) = quantized_groups(evaluation, published) else {
            let parts = vec![vec![1.0, 1.0]; metrics.len()];
            return vec![SampleResult { parts }; evaluation.samples.len()];
        };
        let values: Vec<f64> = match stage {
            Stage::Ranking => {
                // The one group that is reverted in addition decides the score; which state it starts from is known
                // by the groups that are float in all candidates of the batch.
                let score = |order: &str| -> Option<f64> {
                    let rank = order.chars().position(|group| !quantized.contains(group))?;
                    Some(1.0 - rank as f64 / 100.0)
                };
                let order = table.orders.iter().find(|(from, _)| {
                    quantized.len() + 1 == from.len() && quantized.chars().all(|group| from.contains(group))
                });
                let from = order.map_or_else(|| None, |(_, order)| score(order));
                let plain = all.chars().filter(|group| !quantized.contains(*group)).map(u32::from).max();
                vec![from.unwrap_or(0.5 - f64::from(plain.unwrap_or(0)) / 1e4); metrics.len()]
            }
            _ => {
                let found = table.drops.iter().find(|(state, _)| *state == quantized);
                let drops = found.unwrap_or_else(|| panic!("the table has no drop for `{quantized}`")).1;
                drops.iter().map(|drop| 1.0 - drop).collect()
            }
        };
        let parts = values.iter().map(|value| vec![*value, 1.0]).collect();
        vec![SampleResult { parts }; evaluation.samples.len()]
    });
    let problem = small_problem(&graph, &metrics);
    let conclusion = run_ready(run(&evaluator, &problem, &parameters, &Silent))?;
    let published = evaluator.published.lock().expect("no test thread panicked").clone();
    let states = |stage| -> Vec<String> {
        let batches = evaluator.batches(stage);
        batches.iter().flatten().filter_map(|evaluation| quantized_groups(evaluation, &published)).collect()
    };
    let validated = states(Stage::Validation);
    if parameters.mode == Mode::Default {
        assert_eq!(validated.iter().collect::<BTreeSet<_>>().len(), validated.len(), "no evaluation is repeated");
        assert!(conclusion.record.notes.iter().all(|note| !note.contains("discarded")));
    }
    match conclusion.record.strategy {
        Strategy::Greedy => assert_eq!(conclusion.record.rounds.len(), validated.len()),
        Strategy::Bisect => assert_eq!(conclusion.record.probes.len(), validated.len()),
    }
    assert_eq!(conclusion.record.counts.full_evaluations, validated.len() + 2);
    Ok(Trace { validated, rankings: evaluator.batches(Stage::Ranking).len(), conclusion })
}

fn compat() -> Parameters {
    let quantization = QuantizationParameters { saturation_fix: Some(SaturationFix::No), ..Default::default() };
    Parameters { mode: Mode::Compat, quantization, ..Parameters::default() }
}

fn greedy() -> Parameters {
    let search = SearchParameters { strategy: Strategy::Greedy, ..Default::default() };
    Parameters { search, ..Parameters::default() }
}

fn traced(table: &Table, parameters: Parameters) -> Trace {
    trace(table, parameters).expect("a conclusion")
}

const MET: fn(usize) -> Outcome = |reverted| Outcome::MetByReverting { reverted, groups: 4 };

#[test]
fn a_falling_drop_is_followed_down_one_ranking() {
    let table = Table { names: ABCD, drops: &[("abcd", &[0.05]), ("bcd", &[0.03]), ("cd", &[0.008])], orders: &[] };
    for parameters in [compat(), greedy()] {
        let trace = traced(&table, parameters);
        trace.assert(&["bcd", "cd"], 1, "cd", 0.008);
        assert_eq!(trace.conclusion.record.outcome, MET(2));
    }
}

#[test]
fn a_first_removal_that_worsens_is_kept_only_in_compat_mode() {
    let table = Table {
        names: ABCD,
        drops: &[
            ("abcd", &[0.05]),
            ("bcd", &[0.06]),
            ("cd", &[0.04]),
            ("d", &[0.009]),
            ("acd", &[0.045]),
            ("ad", &[0.009]),
        ],
        orders: &[],
    };
    traced(&table, compat()).assert(&["bcd", "cd", "d"], 1, "d", 0.009);
    // Nothing has changed since the ranking when `a` is stepped back from, so the list goes on.
    traced(&table, greedy()).assert(&["bcd", "acd", "ad"], 1, "ad", 0.009);
}

#[test]
fn a_rolled_back_group_is_tried_again_at_once_only_in_compat_mode() {
    let table = Table {
        names: ABCD,
        drops: &[
            ("abcd", &[0.05]),
            ("bcd", &[0.03]),
            ("cd", &[0.04]),
            ("d", &[0.02]),
            ("", &[0.02]),
            ("bd", &[0.02]),
            ("b", &[0.02]),
        ],
        orders: &[],
    };
    let trace = traced(&table, compat());
    trace.assert(&["bcd", "cd", "cd", "d", ""], 2, "", 0.02);
    assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::EverythingReverted });
    // `b` failed from bcd; it comes back into the ranking when the list c, d is used up. Of the states that drop by
    // 0.02 the first, with the fewest reverted groups, is the answer.
    let trace = traced(&table, greedy());
    trace.assert(&["bcd", "cd", "bd", "b", ""], 3, "bd", 0.02);
    assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::EverythingReverted });
}

#[test]
fn a_new_ranking_after_a_rollback_leads_on() {
    let table = Table {
        names: ABCD,
        drops: &[("abcd", &[0.05]), ("bcd", &[0.03]), ("cd", &[0.04]), ("bc", &[0.02]), ("b", &[0.005])],
        orders: &[("bcd", "dcb")],
    };
    for parameters in [compat(), greedy()] {
        traced(&table, parameters).assert(&["bcd", "cd", "bc", "b"], 2, "b", 0.005);
    }
}

#[test]
fn the_round_limit_returns_the_last_state_in_compat_mode_and_the_best_by_default() {
    let table = Table { names: ABCD, drops: &[("abcd", &[0.05]), ("bcd", &[0.02]), ("cd", &[0.02])], orders: &[] };
    let capped = |parameters| Parameters { max_iter_num: Some(2), ..parameters };
    let trace = traced(&table, capped(compat()));
    trace.assert(&["bcd", "cd"], 1, "cd", 0.02);
    assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::RoundLimit });
    traced(&table, capped(greedy())).assert(&["bcd", "cd"], 1, "bcd", 0.02);
}

#[test]
fn after_a_rollback_in_the_last_round_only_compat_mode_reports_the_discarded_state() {
    let table = Table { names: ABCD, drops: &[("abcd", &[0.05]), ("bcd", &[0.03]), ("cd", &[0.04])], orders: &[] };
    let capped = |parameters| Parameters { max_iter_num: Some(2), ..parameters };
    let trace = traced(&table, capped(compat()));
    trace.assert(&["bcd", "cd"], 2, "bcd", 0.04);
    assert!(trace.conclusion.record.notes.iter().any(|note| note.contains("discarded")));
    traced(&table, capped(greedy())).assert(&["bcd", "cd"], 1, "bcd", 0.03);
}

#[test]
fn the_target_moves_to_the_metric_that_is_still_out_of_limits() {
    let table = Table {
        names: ABCD,
        drops: &[
            ("abcd", &[0.05, 0.04]),
            ("bcd", &[0.008, 0.03]),
            ("cd", &[0.008, 0.0401]),
            ("d", &[0.002, 0.005]),
            ("bd", &[0.005, 0.009]),
        ],
        orders: &[],
    };
    // POT compares with what `y` was when the loop began, 0.04; ours with bcd's 0.03. Both step back from cd.
    traced(&table, compat()).assert(&["bcd", "cd", "cd", "d"], 3, "d", 0.002);
    // The ranking for `y` was made from bcd, which is still the state: the list goes on with c.
    let trace = traced(&table, greedy());
    trace.assert(&["bcd", "cd", "bd"], 2, "bd", 0.005);
    let targets: Vec<&str> = trace.conclusion.record.rounds.iter().map(|round| round.target.as_str()).collect();
    assert_eq!(targets, ["x", "y", "y"]);
}

#[test]
fn without_stepping_back_worse_states_are_kept_but_by_default_not_returned() {
    let table = Table {
        names: ABCD,
        drops: &[("abcd", &[0.05]), ("bcd", &[0.03]), ("cd", &[0.04]), ("d", &[0.035])],
        orders: &[],
    };
    let capped = |parameters| Parameters { max_iter_num: Some(3), use_prev_if_drop_increase: false, ..parameters };
    traced(&table, capped(compat())).assert(&["bcd", "cd", "d"], 2, "d", 0.035);
    traced(&table, capped(greedy())).assert(&["bcd", "cd", "d"], 2, "bcd", 0.03);
}

#[test]
fn reverting_the_last_group_reaches_the_goal_except_in_compat_mode() {
    let table = Table { names: &["a", "b"], drops: &[("ab", &[0.05]), ("b", &[0.03]), ("", &[0.0])], orders: &[] };
    let trace = traced(&table, compat());
    trace.assert(&["b", ""], 1, "", 0.0);
    assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::EverythingReverted });
    let trace = traced(&table, greedy());
    trace.assert(&["b", ""], 1, "", 0.0);
    assert_eq!(trace.conclusion.record.outcome, Outcome::MetByReverting { reverted: 2, groups: 2 });
}

#[test]
fn a_group_that_is_never_ranked_stays_when_the_list_is_used_up() {
    let table =
        Table { names: &["a", "b", "z"], drops: &[("abz", &[0.05]), ("bz", &[0.03]), ("z", &[0.03])], orders: &[] };
    let keeping = |mut parameters: Parameters| {
        parameters.search.keep_quantized.names = vec!["z".to_owned()];
        traced(&table, parameters)
    };
    // Equal drops are no reason to step back; by default the first of them is the answer.
    for (parameters, answer) in [(compat(), "z"), (greedy(), "bz"), (Parameters::default(), "bz")] {
        let trace = keeping(parameters);
        trace.assert(&["bz", "z"], 1, answer, 0.03);
        assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::NoGroupLeft });
    }
}

#[test]
fn no_rounds_allowed_returns_the_quantized_model_without_ranking() {
    let table = Table { names: ABCD, drops: &[("abcd", &[0.05])], orders: &[] };
    for parameters in [compat(), greedy()] {
        let trace = traced(&table, Parameters { max_iter_num: Some(0), ..parameters });
        trace.assert(&[], 0, "abcd", 0.05);
        assert_eq!(trace.conclusion.record.outcome, Outcome::NotMet { reason: StopReason::RoundLimit });
    }
}

#[test]
fn after_a_rollback_groups_are_ranked_from_the_state_that_is_kept() {
    let table = Table {
        names: ABCD,
        drops: &[("abcd", &[0.05]), ("bcd", &[0.04]), ("cd", &[0.03]), ("d", &[0.035]), ("c", &[0.005])],
        orders: &[("cd", "dc")],
    };
    for parameters in [compat(), greedy()] {
        traced(&table, parameters).assert(&["bcd", "cd", "d", "c"], 2, "c", 0.005);
    }
}

#[test]
fn where_every_group_worsens_the_search_goes_on_from_the_least_bad() {
    let table = Table {
        names: &["a", "b", "c"],
        drops: &[("abc", &[0.05]), ("bc", &[0.09]), ("ac", &[0.06]), ("ab", &[0.08]), ("c", &[0.07]), ("a", &[0.004])],
        orders: &[],
    };
    // None of a, b, c helps; b hurts least and is kept without being evaluated again.
    let trace = traced(&table, greedy());
    trace.assert(&["bc", "ac", "ab", "c", "a"], 2, "a", 0.004);
    assert!(trace.conclusion.record.notes.iter().any(|note| note.contains("least bad")));
    let trace = traced(&table, Parameters { max_iter_num: Some(4), ..greedy() });
    trace.assert(&["bc", "ac", "ab", "c"], 2, "abc", 0.05);
}

#[test]
fn every_evaluation_of_random_tables_is_new_and_the_answer_is_the_best_seen() {
    for seed in 0..200_u64 {
        println!("seed {seed}");
        let mut random = crate::seed::SplitMix64::new(seed);
        let mut rows: Vec<(&'static str, &'static [f64])> = Vec::new();
        for mask in 0..16_u32 {
            let state: String = ABCD.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, n)| *n).collect();
            let drop = 0.011 + random.below(8) as f64 / 100.0;
            rows.push((state.leak(), vec![drop].leak()));
        }
        let table = Table { names: ABCD, drops: rows.leak(), orders: &[] };
        let trace = traced(&table, greedy());
        let drop = |state: &str| table.drops.iter().find(|(of, _)| *of == state).expect("a row").1[0];
        let best = trace.validated.iter().map(|state| drop(state)).fold(drop("abcd"), f64::min);
        assert_eq!(drop(&trace.answer()), best);
        traced(&table, compat());
        let trace = traced(&table, Parameters::default());
        let best = trace.validated.iter().map(|state| drop(state)).fold(drop("abcd"), f64::min);
        assert_eq!(drop(&trace.answer()), best);
    }
}

#[test]
fn bisection_gallops_narrows_and_quantizes_again_what_is_not_needed() {
    let table = Table {
        names: ABCD,
        drops: &[
            ("abcd", &[0.05]),
            ("bcd", &[0.04]),
            ("cd", &[0.02]),
            ("", &[0.0]),
            ("d", &[0.005]),
            ("ad", &[0.03]),
            ("bd", &[0.009]),
            ("abd", &[0.04]),
        ],
        orders: &[],
    };
    // The metric has no bounds, so every question takes all samples: prefixes of one, two and four groups, then the one
    // between; without `a` it misses, without `b` it does not; and without `a` that misses too.
    let trace = traced(&table, Parameters::default());
    trace.assert(&["bcd", "cd", "", "d", "ad", "bd", "abd"], 1, "bd", 0.009);
    assert_eq!(trace.conclusion.record.outcome, MET(2));
    assert_eq!(trace.conclusion.record.readmitted, ["b", "d"]);
}

#[test]
fn bisection_without_readmission_keeps_the_smallest_prefix() {
    let table = Table {
        names: ABCD,
        drops: &[("abcd", &[0.05]), ("bcd", &[0.04]), ("cd", &[0.02]), ("", &[0.0]), ("d", &[0.005])],
        orders: &[],
    };
    let search = SearchParameters { readmission: false, ..Default::default() };
    let trace = traced(&table, Parameters { search, ..Parameters::default() });
    trace.assert(&["bcd", "cd", "", "d"], 1, "d", 0.005);
}
