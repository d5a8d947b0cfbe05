//! Ranking for the bisecting strategy: scores as ever, and for metrics that count, what every group does to margins.

use super::distance;
use super::forecast::{Anchor, Effects};
use super::hardness::Order;
use super::probe::{Groups, Prober};
use super::ranking::by_degradation;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::parameters::{Mode, RankBy};
use crate::record::RankingRecord;
use holdfast_common::evaluation::{SampleIndex, SampleResult};
use holdfast_common::scheme::GroupId;
use std::collections::{BTreeMap, BTreeSet};

/// Samples that a first look at all groups takes; those that do best there are looked at on the whole subset.
const FIRST_LOOK: usize = 64;
/// Groups that are always looked at on the whole subset.
const LOOKED_AT_TWICE: usize = 8;

/// A ranking from one state.
#[derive(Clone, Debug)]
pub(super) struct Assessment {
    /// Groups, best first.
    pub(super) order: Vec<GroupId>,
    /// What each does to margins, and the state they were reverted in addition to; `None` where the metric has no margins.
    pub(super) effects: Option<(Effects, Anchor)>,
}

/// A group's results on the ranking subset so far.
struct Look {
    group: GroupId,
    /// By place in the subset.
    results: BTreeMap<usize, SampleResult>,
}

/// A state as far as rankings may know it: the first chunk of the order, which every probe has seen, and the quantized
/// model on the other samples. So a ranking does not depend on how far the proof of a probe had to go.
pub(super) struct View<'v> {
    results: Vec<&'v SampleResult>,
    in_first: Vec<bool>,
}

impl<'v> View<'v> {
    pub(super) fn new<E: Evaluator>(
        prober: &'v Prober<'_, '_, E>,
        entering: &'v [SampleResult],
        set: &Groups,
        order: &Order,
    ) -> View<'v> {
        let mut in_first = vec![false; entering.len()];
        order.positions[..order.first].iter().for_each(|position| in_first[*position] = true);
        let known = |position: usize| prober.known(set, position).filter(|_| in_first[position]);
        let results = entering.iter().enumerate().map(|(position, result)| known(position).unwrap_or(result)).collect();
        View { results, in_first }
    }
}

/// Ranks these groups as reverted in addition to the state.
pub(super) async fn assess<E: Evaluator>(
    prober: &mut Prober<'_, '_, E>,
    entering: &[SampleResult],
    from: &Groups,
    groups: &[GroupId],
    order: &Order,
    target: usize,
) -> Result<Assessment, CoreError> {
    let view = View::new(prober, entering, from, order);
    let (mut subset, weight) = subset(prober, &view, target);
    let (margins, missing) = match subset.is_empty() {
        true => (None, None),
        false => (
            margins(prober, target, subset.iter().map(|position| view.results[*position])),
            missing(prober, target, view.results.iter().copied()),
        ),
    };
    if subset.is_empty() {
        let places = prober.search.by_distance(from).await?;
        let most = prober.search.parameters.ranking_subset_size;
        subset = places.into_iter().take(most).map(|place| prober.search.pool.positions[place]).collect();
        subset.sort_unstable();
    }
    if prober.search.parameters.search.rank_by == RankBy::Distance {
        let samples = samples_at(prober, subset);
        let after_round = prober.search.record.probes.len();
        let order = distance::rank(prober.search, from, groups, samples, after_round).await?;
        return Ok(Assessment { order, effects: None });
    }
    let mut looks: Vec<Look> = groups.iter().map(|group| Look { group: *group, results: BTreeMap::new() }).collect();

    let is_large = margins.is_some() && subset.len() > FIRST_LOOK * 3 / 2 && groups.len() > LOOKED_AT_TWICE * 3 / 2;
    let first: Vec<usize> = match is_large {
        true => (0..FIRST_LOOK).map(|step| step * subset.len() / FIRST_LOOK).collect(),
        false => (0..subset.len()).collect(),
    };
    look(prober, from, &mut looks, &subset, &first, target).await?;
    sort(prober, &mut looks, margins.as_deref(), target)?;
    record(prober, &looks, &subset, target)?;
    if is_large {
        let rest: Vec<usize> = (0..subset.len()).filter(|place| first.binary_search(place).is_err()).collect();
        let again = LOOKED_AT_TWICE.max(groups.len() / 4);
        let mut best: Vec<Look> = looks.drain(..again.min(looks.len())).collect();
        look(prober, from, &mut best, &subset, &rest, target).await?;
        sort(prober, &mut best, margins.as_deref(), target)?;
        record(prober, &best, &subset, target)?;
        best.append(&mut looks);
        looks = best;
    }
    let order = looks.iter().map(|look| look.group).collect();
    let effects = margins.zip(missing).map(|(margins, missing)| {
        let metric = prober.search.measure.metric(target);
        let gain = |look: &Look| {
            let after = |place: usize| {
                let part = prober.search.measure.part(look.results.get(&place)?, target);
                metric.margin(part).map(|margin| margin - margins[place]).filter(|gain| gain.is_finite())
            };
            (look.group, (0..subset.len()).map(|place| after(place).unwrap_or(0.0)).collect())
        };
        let gains = looks.iter().map(gain).collect();
        (Effects { positions: subset, gains }, Anchor { margins, missing, weight })
    });
    Ok(Assessment { order, effects })
}

/// What single groups do around a state within the limits, at the samples nearest to being judged otherwise there: for
/// those that may be reverted in addition, measured now; for its own members, known from asking to do without them.
pub(super) async fn around<E: Evaluator>(
    prober: &mut Prober<'_, '_, E>,
    reverted: &Groups,
    members: &[GroupId],
    others: &[GroupId],
    order: &Order,
    target: usize,
) -> Result<Option<(Effects, Anchor)>, CoreError> {
    let Some(results) = prober.passed(reverted).map(|state| state.results.clone()) else { return Ok(None) };
    let Some(all) = margins(prober, target, results.iter()) else { return Ok(None) };
    let mut positions = order.positions[..order.first].to_vec();
    positions.sort_by(|a, b| all[*a].abs().total_cmp(&all[*b].abs()).then(a.cmp(b)));
    positions.truncate((2 * FIRST_LOOK).min(prober.search.parameters.ranking_subset_size));
    positions.sort_unstable();
    let Some(missing) = missing(prober, target, results.iter()) else { return Ok(None) };
    effects_around(prober, reverted, members, others, &positions, missing, target).await.map(Some)
}

/// What single groups do around a set at these positions, at which the set itself is known: what reverting each of
/// `others` in addition gains, and what each of `members` is worth there.
pub(super) async fn effects_around<E: Evaluator>(
    prober: &mut Prober<'_, '_, E>,
    set: &Groups,
    members: &[GroupId],
    others: &[GroupId],
    positions: &[usize],
    missing: f64,
    target: usize,
) -> Result<(Effects, Anchor), CoreError> {
    let without = |member: &GroupId| -> Groups { set.iter().copied().filter(|group| group != member).collect() };
    let sets: Vec<Groups> = members.iter().map(without).collect();
    prober.ensure(&sets, positions).await?;
    let mut looks: Vec<Look> = others.iter().map(|group| Look { group: *group, results: BTreeMap::new() }).collect();
    let places: Vec<usize> = (0..positions.len()).collect();
    if !looks.is_empty() {
        look(prober, set, &mut looks, positions, &places, target).await?;
    }
    let metric = prober.search.measure.metric(target);
    let margin = |result: &SampleResult| metric.margin(prober.search.measure.part(result, target)).unwrap_or(0.0);
    let finite = |gain: f64| if gain.is_finite() { gain } else { 0.0 };
    let here = |position: &usize| prober.known(set, *position).map_or(0.0, margin);
    let anchor = Anchor { margins: positions.iter().map(here).collect(), missing, weight: 1.0 };
    let mut gains = BTreeMap::new();
    for (member, set) in members.iter().zip(&sets) {
        let now = |(place, position): (usize, &usize)| {
            prober.known(set, *position).map_or(0.0, |result| finite(anchor.margins[place] - margin(result)))
        };
        gains.insert(*member, positions.iter().enumerate().map(now).collect());
    }
    for look in &looks {
        let gain = |(place, result): (&usize, &SampleResult)| finite(margin(result) - anchor.margins[*place]);
        gains.insert(look.group, look.results.iter().map(gain).collect());
    }
    Ok((Effects { positions: positions.to_vec(), gains }, anchor))
}

/// Margins of the target metric; `None` where it does not count samples or a sample has none.
pub(super) fn margins<'r, E: Evaluator>(
    prober: &Prober<'_, '_, E>,
    target: usize,
    results: impl Iterator<Item = &'r SampleResult>,
) -> Option<Vec<f64>> {
    let metric = prober.search.measure.metric(target);
    results
        .map(|result| {
            let part = prober.search.measure.part(result, target);
            metric.best_contribution(part)?;
            metric.margin(part).filter(|margin| !margin.is_nan())
        })
        .collect()
}

/// How many more samples a state would have to get right for the target metric's limit.
pub(super) fn missing<'r, E: Evaluator>(
    prober: &Prober<'_, '_, E>,
    target: usize,
    results: impl ExactSizeIterator<Item = &'r SampleResult>,
) -> Option<f64> {
    let (search, count) = (&prober.search, results.len() as f64);
    let metric = search.measure.metric(target);
    let mut hits = 0.0;
    for result in results {
        hits += metric.sample_value(search.measure.part(result, target)).filter(|value| [0.0, 1.0].contains(value))?;
    }
    Some((search.goal.drop(target, hits / count) - search.goal.limits[target]) * count - 1e-6)
}

/// Positions that tell most about the groups, ascending, and how many samples one of those that changed stands for.
///
/// Where samples are right or wrong: those that are judged otherwise than by the float model, in both directions, for the
/// metric counts both; then those nearest to it. Other metrics: the samples that suffered most.
fn subset<E: Evaluator>(prober: &Prober<'_, '_, E>, view: &View<'_>, target: usize) -> (Vec<usize>, f64) {
    let search = &prober.search;
    let most = search.parameters.ranking_subset_size;
    let metric = search.measure.metric(target);
    let part = |position: usize| search.measure.part(view.results[position], target);
    let pool = search.pool.positions.iter().enumerate().filter(|(_, position)| view.in_first[**position]);
    let (places, positions): (Vec<usize>, Vec<usize>) = pool.map(|(place, position)| (place, *position)).unzip();
    let float: Vec<Option<f64>> = places.iter().map(|place| search.pool.float[target][*place]).collect();
    let now: Vec<Option<f64>> = positions.iter().map(|position| metric.sample_value(part(*position))).collect();
    let margin = |position: usize| metric.margin(part(position)).filter(|margin| !margin.is_nan());

    let mut weight = 1.0;
    let mut chosen: Vec<usize> = if positions.iter().all(|position| margin(*position).is_some()) {
        let (changed, mut same): (Vec<usize>, Vec<usize>) =
            (0..positions.len()).partition(|index| float[*index] != now[*index]);
        let size = (changed.len() * 3 / 2).clamp(FIRST_LOOK.min(most), most);
        let picked: Vec<usize> = match changed.len() > size {
            true => (0..size).map(|step| changed[step * changed.len() / size]).collect(),
            false => changed.clone(),
        };
        if !picked.is_empty() {
            let all = prober.entering_share() * changed.len() as f64;
            weight = all / picked.len() as f64;
        }
        let near = |index: &usize| margin(positions[*index]).map_or(0.0, f64::abs);
        same.sort_by(|a, b| near(a).total_cmp(&near(b)).then(a.cmp(b)));
        same.truncate(size - picked.len());
        picked.into_iter().chain(same).map(|index| positions[index]).collect()
    } else {
        let suffered = by_degradation(metric.orientation(), &float, &now, Mode::Default);
        suffered.into_iter().take(most).map(|index| positions[index]).collect()
    };
    chosen.sort_unstable();
    (chosen, weight)
}

/// The validation samples at these positions.
fn samples_at<E: Evaluator>(
    prober: &Prober<'_, '_, E>,
    positions: impl IntoIterator<Item = usize>,
) -> Vec<SampleIndex> {
    let all = &prober.search.measure.problem.validation.samples;
    positions.into_iter().map(|position| all[position]).collect()
}

/// Evaluates all groups on these places of the subset, side by side.
async fn look<E: Evaluator>(
    prober: &mut Prober<'_, '_, E>,
    from: &Groups,
    looks: &mut [Look],
    subset: &[usize],
    places: &[usize],
    target: usize,
) -> Result<(), CoreError> {
    let samples = samples_at(prober, places.iter().map(|place| subset[*place]));
    let search = &mut *prober.search;
    let asked = looks
        .iter()
        .map(|look| {
            let reverted: BTreeSet<GroupId> = from.iter().copied().chain([look.group]).collect();
            (search.candidate(&reverted), samples.clone())
        })
        .collect();
    search.measure.counts.ranking_evaluations += looks.len();
    let answers = search.measure.each(Stage::Ranking, asked).await?;
    for (look, results) in looks.iter_mut().zip(answers) {
        look.results.extend(places.iter().copied().zip(results));
    }
    let scores: Result<Vec<f64>, CoreError> = looks.iter().map(|look| score(search, look, target)).collect();
    let scores = scores?;
    if scores.len() > 1 && scores.iter().all(|score| *score == scores[0]) {
        search.note("a ranking could not tell the groups apart: all score the same on the ranking subset");
    }
    Ok(())
}

/// The metric with this group reverted in addition, on what was looked at.
fn score<E: Evaluator>(search: &super::search::Search<'_, E>, look: &Look, target: usize) -> Result<f64, CoreError> {
    let mut parts = look.results.values().map(|result| search.measure.part(result, target));
    search.measure.fold(Stage::Ranking, target, &mut parts)
}

/// Puts the best first: by the metric, then by margins, then the less costly, then by name.
fn sort<E: Evaluator>(
    prober: &Prober<'_, '_, E>,
    looks: &mut Vec<Look>,
    margins: Option<&[f64]>,
    target: usize,
) -> Result<(), CoreError> {
    let search = &prober.search;
    let sign = search.goal.orientations[target].sign();
    let metric = search.measure.metric(target);
    let usual = margins.map_or(1.0, |margins| {
        let sizes = margins.iter().map(|margin| margin.abs()).filter(|size| size.is_finite());
        (sizes.sum::<f64>() / margins.len().max(1) as f64).max(f64::MIN_POSITIVE)
    });
    let mut keyed: Vec<(f64, f64, Look)> = Vec::with_capacity(looks.len());
    for look in looks.drain(..) {
        let value = score(search, &look, target)?;
        let metric_score = if value.is_nan() { f64::NEG_INFINITY } else { sign * value };
        let soft = match margins {
            None => 0.0,
            Some(_) => {
                let margin = |result| metric.margin(search.measure.part(result, target)).unwrap_or(0.0);
                look.results.values().map(|result| margin(result).clamp(-usual, usual)).sum()
            }
        };
        // Both zeros are one score.
        keyed.push((metric_score + 0.0, soft, look));
    }
    let name = |look: &Look| search.scheme.group(look.group).map_or("", |group| group.name.as_str());
    let lost = |look: &Look| search.costs.lost(look.group);
    keyed.sort_by(|a, b| {
        let cheap = || lost(&a.2).total_cmp(&lost(&b.2)).then_with(|| name(&a.2).cmp(name(&b.2)));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)).then_with(cheap)
    });
    looks.extend(keyed.into_iter().map(|(_, _, look)| look));
    Ok(())
}

fn record<E: Evaluator>(
    prober: &mut Prober<'_, '_, E>,
    looks: &[Look],
    subset: &[usize],
    target: usize,
) -> Result<(), CoreError> {
    let places = looks.first().map(|look| look.results.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
    let samples = samples_at(prober, places.into_iter().map(|place| subset[place]));
    let search = &mut *prober.search;
    let mut scores = Vec::with_capacity(looks.len());
    for look in looks {
        let name = search.scheme.group(look.group).map_or(String::new(), |group| group.name.clone());
        scores.push((name, Some(score(search, look, target)?).filter(|value| value.is_finite())));
    }
    let ranking = RankingRecord {
        after_round: search.record.probes.len(),
        metric: search.record.metrics[target].clone(),
        samples,
        scores,
    };
    search.measure.observer.ranked(&ranking);
    search.record.rankings.push(ranking);
    Ok(())
}
