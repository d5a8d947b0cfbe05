//! Ranking by distance: the groups whose reversion brings the outputs nearest to the float model's come first.
//!
//! A distance is an error, so the *smallest* left is the best, and what is written down as a score is what a reversion
//! takes away from it: higher is better whatever the metric's orientation. Metrics decide about acceptance all the same.

use super::search::Search;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::record::RankingRecord;
use holdfast_common::evaluation::{Candidate, SampleIndex};
use holdfast_common::scheme::GroupId;
use std::collections::BTreeSet;

/// Orders these groups as reverted in addition to `from`: most distance taken away first, then the less costly, then by
/// name. The distance is the normalised squared error of the outputs, its mean over `samples`.
pub(super) async fn rank<E: Evaluator>(
    search: &mut Search<'_, E>,
    from: &BTreeSet<GroupId>,
    groups: &[GroupId],
    samples: Vec<SampleIndex>,
    after_round: usize,
) -> Result<Vec<GroupId>, CoreError> {
    let with = |group: &GroupId| {
        let mut reverted = from.clone();
        reverted.insert(*group);
        search.candidate(&reverted)
    };
    let candidates: Vec<Candidate> = std::iter::once(search.candidate(from)).chain(groups.iter().map(with)).collect();
    let distances = search.measure.distances(Stage::Ranking, candidates, &samples).await?;
    let Some((now, left)) = distances.split_first() else { return Ok(Vec::new()) };

    let name = |group: GroupId| search.scheme.group(group).map_or("", |group| group.name.as_str());
    let mut taken: Vec<(GroupId, f64)> = groups.iter().zip(left).map(|(group, left)| (*group, now - left)).collect();
    taken.sort_by(|a, b| {
        let cheap = || search.costs.lost(a.0).total_cmp(&search.costs.lost(b.0));
        b.1.total_cmp(&a.1).then_with(cheap).then_with(|| name(a.0).cmp(name(b.0)))
    });
    let scores = taken.iter().map(|(group, taken)| (name(*group).to_owned(), Some(*taken))).collect();
    let ranking = RankingRecord { after_round, metric: "distance to the float model".to_owned(), samples, scores };
    if left.len() > 1 && left.iter().all(|distance| *distance == left[0]) {
        search.note("a ranking could not tell the groups apart: all leave the same distance to the float model");
    }
    search.measure.observer.ranked(&ranking);
    search.record.rankings.push(ranking);
    Ok(taken.into_iter().map(|(group, _)| group).collect())
}

#[cfg(test)]
mod tests {
    use crate::accuracy_aware::run;
    use crate::evaluator::Stage;
    use crate::observer::Silent;
    use crate::parameters::{Mode, Parameters, RankBy, SearchParameters, Strategy};
    use crate::record::RunRecord;
    use crate::testing::{
        TableEvaluator, chain, plain_statistics, quantized_groups, run_ready, small_problem, statistics_answer,
        table_metrics,
    };
    use holdfast_common::evaluation::{SampleIndex, SampleResult, Want};
    use holdfast_common::metric::Orientation;

    /// Three groups: `b` repairs the metric and nothing else, `c` takes most of the distance away, then `a`.
    fn planted(strategy: Strategy, rank_by: RankBy, orientation: Orientation, has_sample_values: bool) -> RunRecord {
        let graph = chain(&["a", "b", "c"]);
        let metrics = table_metrics(&[("x", orientation)]);
        let evaluator = TableEvaluator::new(|stage, evaluation, published| {
            if stage == Stage::Calibration {
                return statistics_answer(evaluation, published, plain_statistics);
            }
            let quantized = quantized_groups(evaluation, published).unwrap_or_default();
            let holds = |group: char, size: f64| if quantized.contains(group) { size } else { 0.0 };
            let part = match evaluation.want {
                Want::Distance => {
                    assert_eq!(stage, Stage::Ranking, "only rankings look at distances");
                    let distance = holds('a', 0.2) + holds('b', 0.01) + holds('c', 0.5);
                    // Cosine distances would say the contrary.
                    vec![distance, 1.0 - distance]
                }
                _ => {
                    let drop = holds('b', 0.5) + holds('a', 0.001) + holds('c', 0.002);
                    let value = 1.0 - orientation.sign() * drop;
                    if has_sample_values { vec![value, value] } else { vec![value] }
                }
            };
            vec![SampleResult { parts: vec![part] }; evaluation.samples.len()]
        });
        let problem = small_problem(&graph, &metrics);
        let search = SearchParameters { strategy, rank_by, ..Default::default() };
        let parameters = Parameters { search, ..Default::default() };
        let conclusion = run_ready(run(&evaluator, &problem, &parameters, &Silent)).expect("a conclusion");
        assert!(conclusion.record.outcome.is_met());
        conclusion.record
    }

    fn first_order(record: &RunRecord) -> String {
        record.rankings[0].scores.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn the_most_distance_taken_away_comes_first_in_both_orientations() {
        for orientation in [Orientation::HigherBetter, Orientation::HigherWorse] {
            for strategy in [Strategy::Greedy, Strategy::Bisect] {
                let by_metric = planted(strategy, RankBy::Metric, orientation, true);
                assert_eq!(first_order(&by_metric), "bca");
                let by_distance = planted(strategy, RankBy::Distance, orientation, true);
                assert_eq!(first_order(&by_distance), "cab");
                let scores: Vec<f64> = by_distance.rankings[0].scores.iter().filter_map(|(_, score)| *score).collect();
                assert!(scores.iter().zip([0.5, 0.2, 0.01]).all(|(a, b)| (a - b).abs() < 1e-12), "{scores:?}");
            }
        }
    }

    #[test]
    fn only_the_metric_decides_what_is_enough() {
        let by_distance = planted(Strategy::Greedy, RankBy::Distance, Orientation::HigherBetter, true);
        // `c` and `a` leave next to no distance, and the metric as bad as it was.
        assert_eq!(by_distance.reverted_groups, ["a", "b", "c"]);
        let bisected = planted(Strategy::Bisect, RankBy::Distance, Orientation::HigherBetter, true);
        assert_eq!(bisected.reverted_groups, ["b"]);
    }

    #[test]
    fn metrics_without_values_of_samples_can_be_ranked_for() {
        for strategy in [Strategy::Greedy, Strategy::Bisect] {
            let record = planted(strategy, RankBy::Distance, Orientation::HigherBetter, false);
            assert_eq!(first_order(&record), "cab");
        }
    }

    #[test]
    fn without_values_of_samples_those_whose_outputs_moved_most_rank_the_groups() {
        let graph = chain(&["a", "b", "c"]);
        let metrics = table_metrics(&[("x", Orientation::HigherBetter)]);
        let moved = [0.1, 0.5, 0.05, 0.9, 0.2];
        let evaluator = TableEvaluator::new(|stage, evaluation, published| {
            if stage == Stage::Calibration {
                return statistics_answer(evaluation, published, plain_statistics);
            }
            let quantized = quantized_groups(evaluation, published).unwrap_or_default();
            let value = if quantized.contains('b') { 0.5 } else { 1.0 };
            let part = |sample: &SampleIndex| match evaluation.want {
                // The squared error would say the contrary.
                Want::Distance => vec![1.0 - moved[sample.0 as usize], moved[sample.0 as usize]],
                _ => vec![value],
            };
            evaluation.samples.iter().map(|sample| SampleResult { parts: vec![part(sample)] }).collect()
        });
        let problem = small_problem(&graph, &metrics);
        for (mode, strategy) in
            [(Mode::Compat, Strategy::Greedy), (Mode::Default, Strategy::Greedy), (Mode::Default, Strategy::Bisect)]
        {
            let search = SearchParameters { strategy, ..Default::default() };
            let parameters = Parameters { mode, search, ranking_subset_size: 2, ..Default::default() };
            let record = run_ready(run(&evaluator, &problem, &parameters, &Silent)).expect("a conclusion").record;
            assert_eq!(record.rankings[0].samples, [SampleIndex(1), SampleIndex(3)], "{mode:?} {strategy:?}");
            assert_eq!(record.reverted_groups, ["b"]);
        }
    }

    #[test]
    fn compat_mode_ranks_as_pot_does_and_refuses_distances() {
        let search = SearchParameters { rank_by: RankBy::Distance, ..Default::default() };
        let compat = Parameters { mode: Mode::Compat, search: search.clone(), ..Default::default() };
        let error = compat.check().expect_err("refused").to_string();
        assert!(error.contains("rank_by") && error.contains("compat"), "{error}");
        assert!(Parameters { search, ..Default::default() }.check().is_ok());
    }
}
