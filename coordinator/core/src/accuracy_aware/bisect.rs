//! The bisecting strategy: ask for as many groups at once as a forecast says, then take back what is not needed.
//!
//! 0. Where the metric counts samples by margins, `descent` first looks for a set that suffices on contested samples
//!    alone. What follows is for other metrics, for a given order, and for where that leads nowhere.
//! 1. Rank. Single effects on margins, where there are any, add up to a forecast of the smallest set that suffices; else
//!    one group, two, four, … of the ranking.
//! 2. Ask whether that set is within the limits. Where it is not, rank again from there and go on.
//! 3. Between the last prefix that missed and the first that did not, find the smallest by k-ary search.
//! 4. Re-admission: quantize single groups again as long as the limits hold; most of these questions are refuted by few
//!    samples. Whatever came before, the answer is left with no group that can be quantized again alone.
//! 5. Exchange: where another, lighter set may do by the forecast, or the ranking has a lighter prefix, ask; then 4 again.
//!
//! Every question is pass or fail, and what is decided depends on the answers, rankings and hints only: not on how many
//! samples an answer took, nor on how many questions are asked side by side.

use super::assess::{Assessment, around, assess, margins, missing};
use super::forecast::{Anchor, Chain, Effects, Forecast};
use super::hardness::Order;
use super::probe::{Groups, Prober, Scan};
use super::search::{Ending, Search, State};
use super::selection;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::record::{Purpose, StopReason};
use holdfast_common::evaluation::SampleResult;
use holdfast_common::scheme::GroupId;

/// How often lighter sets are looked for.
pub(super) const EXCHANGES_MAX: usize = 4;
/// Lighter sets asked about at a time.
const EXCHANGED_AT_ONCE: usize = 6;
/// Groups of which pairs are considered for exchange.
const PAIRED_MAX: usize = 24;

/// Finds the groups to revert.
pub(super) async fn revert<E: Evaluator>(search: &mut Search<'_, E>, entering: State) -> Result<Ending, CoreError> {
    if search.parameters.max_iter_num == Some(0) {
        return Ok(Ending::gave_up(entering, StopReason::RoundLimit));
    }
    let target = search.goal.target(&entering.drops);
    let prober = Prober::new(search, &entering);
    let telling = telling(&prober, &entering, target);
    let order = Order::new(prober.search, &prober.bounds, &telling, &entering.results)?;
    let mut bisection = Bisection { prober, entering, target, order, first: None, last: None };
    let (found, is_small) = match bisection.by_screen().await? {
        Some(found) => found,
        None => (bisection.prefix().await?, false),
    };
    let mut reverted = match found {
        Found::Set(reverted) => reverted,
        Found::Nothing(reason) => return bisection.give_up(reason).await,
    };
    if bisection.prober.search.parameters.search.readmission {
        bisection.readmit(&mut reverted, is_small).await?;
        for _ in 0..if is_small { 0 } else { EXCHANGES_MAX } {
            if bisection.prober.search.record.spent.is_some() || !bisection.exchange(&mut reverted).await? {
                break;
            }
            bisection.readmit(&mut reverted, false).await?;
        }
    }
    match bisection.prober.passed(&reverted).cloned() {
        Some(state) => Ok(Ending::met(state)),
        None => bisection.give_up(StopReason::NoGroupLeft).await,
    }
}

/// What a search for a first set within the limits came to.
pub(super) enum Found {
    Set(Groups),
    Nothing(StopReason),
}

/// The search, and what it has learned.
pub(super) struct Bisection<'s, 'a, E> {
    pub(super) prober: Prober<'s, 'a, E>,
    pub(super) entering: State,
    /// The metric that rankings and forecasts go by.
    pub(super) target: usize,
    /// Samples by how hard they are between the quantized and the float model.
    pub(super) order: Order,
    /// The first ranking, and the last.
    pub(super) first: Option<Assessment>,
    last: Option<Assessment>,
}

impl<E: Evaluator> Bisection<'_, '_, E> {
    /// A prefix of a ranking that is within the limits, with none shorter by one that is known to be.
    async fn prefix(&mut self) -> Result<Found, CoreError> {
        let parameters = self.prober.search.parameters;
        let given = match &parameters.search.ranking {
            Some(names) => Some(selection::order(names, self.prober.search.scheme)?),
            None => None,
        };
        let most = parameters.max_iter_num.unwrap_or(usize::MAX);
        let mut base = self.entering.reverted.clone();
        let mut failures = 0;
        loop {
            let left = self.prober.search.left(&base);
            let room = most - (base.len() - self.entering.reverted.len()).min(most);
            if room == 0 && !left.is_empty() {
                return Ok(Found::Nothing(StopReason::RoundLimit));
            }
            let (mut chain, is_forecast) = match &given {
                Some(order) => {
                    let groups = order.iter().copied().filter(|group| left.contains(group)).collect();
                    (Chain { groups, enough: 1, half: 1 }, false)
                }
                None => self.ranked(&base, &left).await?,
            };
            chain.groups.truncate(room);
            self.drop_unaffordable(&base, &mut chain.groups);
            if chain.groups.is_empty() {
                let is_everything = base.len() == self.prober.search.scheme.groups.len();
                return Ok(Found::Nothing(match (left.is_empty(), is_everything) {
                    (false, _) => StopReason::OperationBudget,
                    (true, true) => StopReason::EverythingReverted,
                    (true, false) => StopReason::NoGroupLeft,
                }));
            }
            let sizes = self.sizes(&chain, is_forecast, given.is_some(), failures);
            let sets: Vec<Groups> = sizes.iter().map(|size| with(&base, &chain.groups[..*size])).collect();
            self.remaining(sets.len());
            let width = parameters.search.bisect_arity - 1;
            match self.prober.first_passing(&sets, &self.order, width, Purpose::Prefix).await? {
                Scan::Spent(reason) => return Ok(Found::Nothing(reason)),
                Scan::NonePassed => {
                    // A forecast that was wrong is followed only as far as it is to be trusted.
                    let next = if is_forecast { sets.into_iter().next() } else { sets.into_iter().next_back() };
                    let Some(next) = next else { continue };
                    base = next;
                    failures += 1;
                }
                Scan::Passed(index) => {
                    let low = if index > 0 { sizes[index - 1] } else { 0 };
                    let size = self.smallest(&base, &chain.groups, low, sizes[index]).await?;
                    return Ok(Found::Set(with(&base, &chain.groups[..size])));
                }
            }
        }
    }

    /// Ranks the groups left; whether the chain comes from a forecast.
    pub(super) async fn ranked(&mut self, base: &Groups, left: &[GroupId]) -> Result<(Chain, bool), CoreError> {
        if left.len() < 2 && self.first.is_some() {
            return Ok((Chain { groups: left.to_vec(), enough: 1, half: 1 }, false));
        }
        let entering = self.entering.results.clone();
        let assessed = assess(&mut self.prober, &entering, base, left, &self.order, self.target).await?;
        let chain = match &assessed.effects {
            Some((effects, anchor)) => {
                (Forecast::new(effects, anchor, &self.prober.search.costs).chain(&assessed.order), true)
            }
            None => (Chain { groups: assessed.order.clone(), enough: 1, half: 1 }, false),
        };
        self.first.get_or_insert_with(|| assessed.clone());
        self.last = Some(assessed);
        Ok(chain)
    }

    /// Leaves out groups whose operations are more than the budget allows beside those before them.
    fn drop_unaffordable(&self, base: &Groups, groups: &mut Vec<GroupId>) {
        let mut reverted = base.clone();
        groups.retain(|group| {
            reverted.insert(*group);
            let fits = self.prober.search.is_affordable(&reverted);
            if !fits {
                reverted.remove(group);
            }
            fits
        });
    }

    /// Lengths of the chain to ask about before the next ranking, ascending.
    fn sizes(&self, chain: &Chain, is_forecast: bool, is_given: bool, failures: usize) -> Vec<usize> {
        let all = chain.groups.len();
        if is_forecast {
            // Refuting is cheap and confirming is not, so the question before the one that probably suffices is asked too.
            let enough = chain.enough.max(failures).min(all);
            let mut sizes =
                vec![chain.half.max(failures.min(enough)).min(all), enough.saturating_sub(1).max(1), enough];
            sizes.sort_unstable();
            sizes.dedup();
            return sizes;
        }
        // What a ranking costs, in hundredths of the validation set.
        let samples = all * self.prober.search.parameters.ranking_subset_size;
        let ranking = 100 * samples / self.order.positions.len().max(1);
        if !is_given && ranking < 100 {
            return vec![(1 << failures.min(16)).min(all)];
        }
        let mut sizes = vec![1];
        while sizes[sizes.len() - 1] < all {
            sizes.push((2 * sizes[sizes.len() - 1]).min(all));
        }
        sizes
    }

    /// The smallest length that is within the limits, between one that is not and one that is.
    async fn smallest(
        &mut self,
        base: &Groups,
        groups: &[GroupId],
        mut low: usize,
        mut high: usize,
    ) -> Result<usize, CoreError> {
        let arity = self.prober.search.parameters.search.bisect_arity;
        while high - low > 1 {
            let gap = high - low;
            // Where refuting is cheap and confirming is not, the one question of a round is asked nearer to the low end.
            let parts = if arity == 2 && self.prober.bounds.any() { 3 } else { arity };
            let mut points: Vec<usize> = (1..arity).map(|part| low + (gap * part / parts).max(1)).collect();
            points.dedup();
            points.retain(|point| *point < high);
            let sets: Vec<Groups> = points.iter().map(|point| with(base, &groups[..*point])).collect();
            self.remaining(sets.len());
            match self.prober.first_passing(&sets, &self.order, arity - 1, Purpose::Bisection).await? {
                Scan::Passed(index) => {
                    high = points[index];
                    low = if index > 0 { points[index - 1] } else { low };
                }
                Scan::NonePassed => low = points[points.len() - 1],
                Scan::Spent(reason) => {
                    self.prober.search.record.spent = Some(reason);
                    return Ok(high);
                }
            }
        }
        Ok(high)
    }

    /// Quantizes groups again as long as the limits hold, until every group is known to be needed.
    async fn readmit(&mut self, reverted: &mut Groups, mut is_thorough: bool) -> Result<(), CoreError> {
        // A group without which a larger set was refuted is most probably needed; in the end that is asked too.
        loop {
            let Some(order) = self.order_around(reverted)? else { return Ok(()) };
            let mut candidates = Vec::new();
            for group in self.by_dispensability(reverted) {
                let set = without(reverted, &[group].into());
                let is_assumed = !is_thorough && self.prober.is_below_refuted(&set);
                if set != self.entering.reverted && !self.prober.is_refuted(&set) && !is_assumed {
                    candidates.push((group, set));
                }
            }
            let groups: Vec<GroupId> = candidates.iter().map(|(group, _)| *group).collect();
            let bulks = if is_thorough { Vec::new() } else { self.bulks(reverted, &groups) };
            let sets: Vec<Groups> = bulks.into_iter().chain(candidates.into_iter().map(|(_, set)| set)).collect();
            self.remaining(sets.len());
            let width = if self.prober.is_proving() { sets.len() } else { self.arity() - 1 };
            match self.prober.first_passing(&sets, &order, width, Purpose::Readmission).await? {
                Scan::Passed(index) => {
                    reverted.clone_from(&sets[index]);
                    is_thorough = false;
                }
                Scan::NonePassed if is_thorough => return Ok(()),
                Scan::NonePassed => is_thorough = true,
                Scan::Spent(reason) => {
                    self.prober.search.record.spent = Some(reason);
                    return Ok(());
                }
            }
        }
    }

    fn arity(&self) -> usize {
        self.prober.search.parameters.search.bisect_arity
    }

    /// Samples by how hard they are around a state within the limits.
    fn order_around(&self, reverted: &Groups) -> Result<Option<Order>, CoreError> {
        let Some(state) = self.prober.passed(reverted) else { return Ok(None) };
        let (search, bounds) = (&*self.prober.search, &self.prober.bounds);
        Order::new(search, bounds, &[&state.results], &self.entering.results).map(Some)
    }

    /// The last ranking's effects, with a state within the limits as the point from which to add up.
    fn anchored(&self, reverted: &Groups) -> Option<(&Effects, Anchor)> {
        let state = self.prober.passed(reverted)?;
        let (effects, anchor) = self.last.as_ref()?.effects.as_ref()?;
        let at = effects.positions.iter().map(|position| &state.results[*position]);
        let margins = margins(&self.prober, self.target, at)?;
        let missing = missing(&self.prober, self.target, state.results.iter())?;
        Some((effects, Anchor { margins, missing, weight: anchor.weight }))
    }

    /// Groups that may be quantized again: heaviest first, of equal ones those first whose loss is forecast to be least.
    fn by_dispensability(&self, reverted: &Groups) -> Vec<GroupId> {
        let open = |group: &&GroupId| !self.entering.reverted.contains(group);
        let anchored = self.anchored(reverted);
        let costs = &self.prober.search.costs;
        let forecast = anchored.as_ref().map(|(effects, anchor)| Forecast::new(effects, anchor, costs));
        let loss = |group: GroupId| {
            forecast.as_ref().map_or(0.0, |forecast| forecast.missing(&Groups::new(), &[group].into()))
        };
        let mut keyed: Vec<(f64, f64, GroupId)> =
            reverted.iter().filter(open).map(|group| (costs.weight(*group), loss(*group), *group)).collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        keyed.into_iter().map(|(_, _, group)| group).collect()
    }

    /// Sets without several groups at once that the forecast can do without: all of them, …, four, two.
    fn bulks(&self, reverted: &Groups, members: &[GroupId]) -> Vec<Groups> {
        let Some((effects, anchor)) = self.anchored(reverted) else { return Vec::new() };
        let forecast = Forecast::new(effects, &anchor, &self.prober.search.costs);
        let (mut dropped, mut sets) = (Groups::new(), Vec::new());
        let mut keep = |dropped: &Groups| {
            let set = without(reverted, dropped);
            if dropped.len() > 1 && set != self.entering.reverted && !self.prober.is_below_refuted(&set) {
                sets.push(set);
            }
        };
        let mut kept = 1;
        for group in members {
            dropped.insert(*group);
            if forecast.missing(&Groups::new(), &dropped) > 0.0 {
                dropped.remove(group);
            } else if dropped.len() == 2 * kept {
                kept = dropped.len();
                keep(&dropped);
            }
        }
        if dropped.len() > kept {
            keep(&dropped);
        }
        sets.reverse();
        sets
    }

    /// Looks for a lighter set; whether one was found.
    async fn exchange(&mut self, reverted: &mut Groups) -> Result<bool, CoreError> {
        let Some(order) = self.order_around(reverted)? else { return Ok(false) };
        let others = self.prober.search.left(reverted);
        let Some(free) = self.exchangeable(reverted, &others) else { return Ok(false) };
        let local = match free.len() > 2 {
            true => around(&mut self.prober, reverted, &free, &others, &order, self.target).await?,
            false => None,
        };
        let sets = self.lighter(reverted, &free, &others, local);
        self.remaining(sets.len());
        let width = if self.prober.is_proving() { sets.len() } else { self.arity() - 1 };
        match self.prober.first_passing(&sets, &order, width, Purpose::Exchange).await? {
            Scan::Passed(index) => {
                reverted.clone_from(&sets[index]);
                Ok(true)
            }
            Scan::NonePassed => Ok(false),
            Scan::Spent(reason) => {
                self.prober.search.record.spent = Some(reason);
                Ok(false)
            }
        }
    }

    /// The groups of a set that may be exchanged; `None` where nothing is lighter than all of them.
    pub(super) fn exchangeable(&self, reverted: &Groups, others: &[GroupId]) -> Option<Vec<GroupId>> {
        let costs = &self.prober.search.costs;
        let free: Vec<GroupId> =
            reverted.iter().copied().filter(|id| !self.entering.reverted.contains(id)).take(PAIRED_MAX).collect();
        let weight = costs.weights(&free.iter().copied().collect());
        free.iter().chain(others).any(|group| costs.weight(*group) < weight).then_some(free)
    }

    /// Lighter sets worth a question: the longest such prefix of the first ranking, which is what the greedy strategy
    /// would try, and the best by the forecast with one or two groups less and at most one other instead. Of few groups
    /// the first ranking has measured all alternatives.
    pub(super) fn lighter(
        &self,
        reverted: &Groups,
        free: &[GroupId],
        others: &[GroupId],
        local: Option<(Effects, Anchor)>,
    ) -> Vec<Groups> {
        let search = &*self.prober.search;
        let weight = search.costs.weights(reverted);
        let worth = |set: &Groups| {
            search.costs.weights(set) < weight
                && *set != self.entering.reverted
                && search.is_affordable(set)
                && !self.prober.is_below_refuted(set)
        };
        let Some(first) = &self.first else { return Vec::new() };
        let mut sets = Vec::new();
        let prefixes = (1..=first.order.len()).map(|size| with(&self.entering.reverted, &first.order[..size]));
        if let Some(prefix) = prefixes.take_while(|set| search.costs.weights(set) < weight).last().filter(worth) {
            sets.push(prefix);
        }
        let is_local = local.is_some();
        let Some((effects, anchor)) = local.as_ref().or(first.effects.as_ref()) else { return sets };
        let forecast = Forecast::new(effects, anchor, &search.costs);
        let slack = first.effects.as_ref().map_or(0.0, |(_, anchor)| anchor.missing / 16.0).max(2.0);
        let mut found: Vec<(f64, Groups)> = Vec::new();
        for (index, one) in free.iter().enumerate() {
            for two in &free[index..] {
                let removed: Groups = [*one, *two].into();
                let kept = without(reverted, &removed);
                for added in others.iter().map(|other| Groups::from([*other])).chain([Groups::new()]) {
                    let set: Groups = kept.union(&added).copied().collect();
                    if !worth(&set) || sets.contains(&set) || found.iter().any(|(_, known)| *known == set) {
                        continue;
                    }
                    let missing = match is_local {
                        true => forecast.missing(&added, &removed),
                        false => forecast.missing(&without(&set, &self.entering.reverted), &Groups::new()),
                    };
                    if missing <= slack {
                        found.push((missing, set));
                    }
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let room = EXCHANGED_AT_ONCE - sets.len();
        sets.extend(found.into_iter().take(room).map(|(_, set)| set));
        sets
    }

    /// Tells how many questions there may still be.
    pub(super) fn remaining(&self, asked: usize) {
        let search = &*self.prober.search;
        let groups = search.scheme.groups.len();
        let most = asked + 2 * groups + EXCHANGES_MAX * EXCHANGED_AT_ONCE;
        search.measure.observer.remaining(asked.min(1), most);
    }

    /// The end without a state within the limits: the nearest of all that were asked about.
    async fn give_up(&mut self, reason: StopReason) -> Result<Ending, CoreError> {
        let entering = self.entering.clone();
        let best = self.prober.nearest(entering, &self.order).await?;
        if self.prober.search.is_met(&best) {
            return Ok(Ending::met(best));
        }
        Ok(Ending::gave_up(best, reason))
    }
}

/// The results that tell which samples states on the way will get wrong: those of the quantized and the float model.
/// Where the quantized one gets far more wrong than a state within the limits may, it tells little about such states, and
/// the float model's are used alone.
pub(super) fn telling<'s, E: Evaluator>(
    prober: &'s Prober<'_, '_, E>,
    entering: &'s State,
    target: usize,
) -> Vec<&'s [SampleResult]> {
    let float = &prober.search.pool.results;
    let count = entering.results.len();
    if float.len() != count {
        return vec![&entering.results];
    }
    let wrong = |results: &[SampleResult]| {
        let margins = margins(prober, target, results.iter());
        margins.map(|margins| margins.iter().filter(|margin| **margin <= 0.0).count())
    };
    match (wrong(float), wrong(&entering.results)) {
        (Some(float_wrong), Some(quantized_wrong)) if quantized_wrong > 2 * float_wrong + count / 100 => vec![float],
        _ => vec![&entering.results, float],
    }
}

pub(super) fn with(base: &Groups, groups: &[GroupId]) -> Groups {
    base.iter().chain(groups).copied().collect()
}

pub(super) fn without(set: &Groups, removed: &Groups) -> Groups {
    set.difference(removed).copied().collect()
}
