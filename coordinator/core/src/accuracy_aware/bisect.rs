//! The bisecting strategy: ask for as many groups at once as a forecast says, then take back what is not needed.
//!
//! 1. Rank. Where the metric counts samples, single effects on margins add up to a forecast of the smallest set that
//!    suffices; else one group, two, four, … of the ranking.
//! 2. Ask whether that set is within the limits. Where it is not, rank again from there and go on.
//! 3. Between the last prefix that missed and the first that did not, find the smallest by k-ary search.
//! 4. Re-admission: quantize single groups again as long as the limits hold; most of these questions are refuted by few
//!    samples.
//! 5. Exchange: where another, lighter set may do by the forecast, or the ranking has a lighter prefix, ask; then 4 again.
//!
//! Every question is pass or fail, and what is decided depends on the answers and rankings only: not on how many samples
//! an answer took, nor on how many questions are asked side by side.

use super::assess::{Assessment, assess, margins, missing};
use super::forecast::{Anchor, Chain, Effects, Forecast};
use super::hardness::Order;
use super::probe::{Groups, Prober, Scan};
use super::search::{Ending, Search, State};
use super::selection;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::record::{Purpose, StopReason};
use holdfast_common::scheme::GroupId;

/// How often lighter sets are looked for.
const EXCHANGES_MAX: usize = 4;
/// Lighter sets asked about at a time.
const EXCHANGED_AT_ONCE: usize = 3;
/// Groups of which pairs are considered for exchange.
const PAIRED_MAX: usize = 24;

/// Finds the groups to revert.
pub(super) async fn revert<E: Evaluator>(search: &mut Search<'_, E>, entering: State) -> Result<Ending, CoreError> {
    if search.parameters.max_iter_num == Some(0) {
        return Ok(Ending::gave_up(entering, StopReason::RoundLimit));
    }
    let target = search.goal.target(&entering.drops);
    let prober = Prober::new(search, &entering);
    let float = &prober.search.pool.results;
    let mut telling = vec![entering.results.as_slice()];
    if float.len() == entering.results.len() {
        telling.push(float);
    }
    let order = Order::new(prober.search, &prober.bounds, &telling, &entering.results)?;
    let mut bisection = Bisection { prober, entering, target, order, first: None, necessary: Groups::new() };
    let mut reverted = match bisection.prefix().await? {
        Found::Set(reverted) => reverted,
        Found::Nothing(reason) => return bisection.give_up(reason).await,
    };
    if bisection.prober.search.parameters.search.readmission {
        bisection.readmit(&mut reverted).await?;
        for _ in 0..EXCHANGES_MAX {
            if bisection.prober.search.record.spent.is_some() || !bisection.exchange(&mut reverted).await? {
                break;
            }
            bisection.readmit(&mut reverted).await?;
        }
    }
    match bisection.prober.passed(&reverted).cloned() {
        Some(state) => Ok(Ending::met(state)),
        None => bisection.give_up(StopReason::NoGroupLeft).await,
    }
}

enum Found {
    Set(Groups),
    Nothing(StopReason),
}

struct Bisection<'s, 'a, E> {
    prober: Prober<'s, 'a, E>,
    entering: State,
    target: usize,
    /// Samples by how hard they are between the quantized and the float model.
    order: Order,
    /// The first ranking.
    first: Option<Assessment>,
    /// Groups without which a set was refuted.
    necessary: Groups,
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
                    (Chain { groups, enough: 1 }, false)
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
                    let Some(last) = sets.into_iter().next_back() else { continue };
                    base = last;
                    failures += 1;
                }
                Scan::Passed(index) => {
                    let low = if index > 0 { sizes[index - 1] } else { 0 };
                    let is_guess = is_forecast && index == 0;
                    let size = self.smallest(&base, &chain.groups, low, sizes[index], is_guess).await?;
                    return Ok(Found::Set(with(&base, &chain.groups[..size])));
                }
            }
        }
    }

    /// Ranks the groups left; whether the chain comes from a forecast.
    async fn ranked(&mut self, base: &Groups, left: &[GroupId]) -> Result<(Chain, bool), CoreError> {
        if left.len() < 2 && self.first.is_some() {
            return Ok((Chain { groups: left.to_vec(), enough: left.len() }, false));
        }
        let entering = self.entering.results.clone();
        let assessed = assess(&mut self.prober, &entering, base, left, &self.order, self.target).await?;
        let chain = match &assessed.effects {
            Some((effects, anchor)) => {
                (Forecast::new(effects, anchor, &self.prober.search.costs).chain(&assessed.order), true)
            }
            None => (Chain { groups: assessed.order.clone(), enough: 1 }, false),
        };
        self.first.get_or_insert(assessed);
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
        let samples = self.order.positions.len();
        // What a ranking costs, in hundredths of the validation set.
        let ranking =
            100 * chain.groups.len() * self.prober.search.parameters.ranking_subset_size.min(64) / samples.max(1);
        let (start, more) = match (is_forecast, is_given) {
            (true, _) => (chain.enough.max(failures), (ranking / 40).min(3)),
            (false, false) if ranking < 100 => (1 << failures.min(16), 0),
            (false, _) => (1, usize::MAX),
        };
        let (mut sizes, mut step) = (vec![start.clamp(1, chain.groups.len())], 1);
        while sizes.len() <= more && sizes[sizes.len() - 1] < chain.groups.len() {
            sizes.push((sizes[sizes.len() - 1] + step).min(chain.groups.len()));
            step *= if is_forecast { 1 } else { 2 };
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
        is_guess: bool,
    ) -> Result<usize, CoreError> {
        let arity = self.prober.search.parameters.search.bisect_arity;
        // A forecast is seldom off by much below; re-admission finds out.
        while high - low > 1 && !is_guess {
            let gap = high - low;
            let mut points: Vec<usize> = (1..arity).map(|part| low + (gap * part / arity).max(1)).collect();
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
        if high - low == 1 {
            self.necessary.insert(groups[high - 1]);
        }
        Ok(high)
    }

    /// Quantizes groups again as long as the limits hold, heaviest first.
    async fn readmit(&mut self, reverted: &mut Groups) -> Result<(), CoreError> {
        loop {
            let Some(order) = self.order_around(reverted)? else { return Ok(()) };
            let mut sets = Vec::new();
            let mut members = Vec::new();
            for group in self.by_dispensability(reverted) {
                let set = without(reverted, &[group].into());
                if set == self.entering.reverted || self.prober.is_below_refuted(&set) {
                    self.necessary.insert(group);
                } else {
                    sets.push(set);
                    members.push(Some(group));
                }
            }
            if let Some(set) = self.bulk(reverted, &members) {
                sets.insert(0, set);
                members.insert(0, None);
            }
            if sets.is_empty() {
                return Ok(());
            }
            self.remaining(sets.len());
            let width = if self.prober.is_proving() { sets.len() } else { self.arity() - 1 };
            let scan = self.prober.first_passing(&sets, &order, width, Purpose::Readmission).await?;
            let refuted = if let Scan::Passed(index) = scan { index } else { sets.len() };
            match scan {
                Scan::Spent(reason) => {
                    self.prober.search.record.spent = Some(reason);
                    return Ok(());
                }
                Scan::Passed(index) => reverted.clone_from(&sets[index]),
                Scan::NonePassed => {}
            }
            self.necessary.extend(members[..refuted].iter().flatten());
            if scan == Scan::NonePassed {
                return Ok(());
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

    /// The first ranking's effects, with a state within the limits as the point from which to add up.
    fn anchored(&self, reverted: &Groups) -> Option<(&Effects, Anchor)> {
        let state = self.prober.passed(reverted)?;
        let (effects, anchor) = self.first.as_ref()?.effects.as_ref()?;
        let at = effects.positions.iter().map(|position| &state.results[*position]);
        let margins = margins(&self.prober, self.target, at)?;
        let missing = missing(&self.prober, self.target, state.results.iter())?;
        Some((effects, Anchor { margins, missing, weight: anchor.weight }))
    }

    /// Groups that may be quantized again: heaviest first, of equal ones those first whose loss is forecast to be least.
    fn by_dispensability(&self, reverted: &Groups) -> Vec<GroupId> {
        let open = |group: &&GroupId| !self.entering.reverted.contains(group) && !self.necessary.contains(group);
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

    /// Several groups that the forecast can do without at once.
    fn bulk(&self, reverted: &Groups, members: &[Option<GroupId>]) -> Option<Groups> {
        let (effects, anchor) = self.anchored(reverted)?;
        let forecast = Forecast::new(effects, &anchor, &self.prober.search.costs);
        let mut dropped = Groups::new();
        for group in members.iter().flatten() {
            dropped.insert(*group);
            if forecast.missing(&Groups::new(), &dropped) > 0.0 {
                dropped.remove(group);
            }
        }
        let set = without(reverted, &dropped);
        let is_new = set != self.entering.reverted && !self.prober.is_below_refuted(&set);
        (dropped.len() > 1 && is_new).then_some(set)
    }

    /// Looks for a lighter set; whether one was found.
    async fn exchange(&mut self, reverted: &mut Groups) -> Result<bool, CoreError> {
        let Some(order) = self.order_around(reverted)? else { return Ok(false) };
        let sets = self.lighter(reverted);
        if sets.is_empty() {
            return Ok(false);
        }
        self.remaining(sets.len());
        let width = if self.prober.is_proving() { sets.len() } else { self.arity() - 1 };
        match self.prober.first_passing(&sets, &order, width, Purpose::Exchange).await? {
            Scan::Passed(index) => {
                reverted.clone_from(&sets[index]);
                self.necessary.clear();
                Ok(true)
            }
            Scan::NonePassed => Ok(false),
            Scan::Spent(reason) => {
                self.prober.search.record.spent = Some(reason);
                Ok(false)
            }
        }
    }

    /// Lighter sets worth a question: the longest such prefix of the first ranking, which is what the greedy strategy
    /// would try, and by the forecast the best with one or two groups less and at most one other instead.
    fn lighter(&self, reverted: &Groups) -> Vec<Groups> {
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
        let Some((effects, anchor)) = self.anchored(reverted) else { return sets };
        let forecast = Forecast::new(effects, &anchor, &search.costs);
        let before = first.effects.as_ref().map_or(0.0, |(_, anchor)| anchor.missing);
        let members: Vec<GroupId> =
            reverted.iter().copied().filter(|id| !self.entering.reverted.contains(id)).take(PAIRED_MAX).collect();
        let others = search.left(reverted);
        let mut found: Vec<(f64, Groups)> = Vec::new();
        for (index, one) in members.iter().enumerate() {
            for two in &members[index..] {
                let removed: Groups = [*one, *two].into();
                let kept = without(reverted, &removed);
                for added in others.iter().map(|other| Groups::from([*other])).chain([Groups::new()]) {
                    let set: Groups = kept.union(&added).copied().collect();
                    if worth(&set) {
                        let missing = forecast.missing(&added, &removed);
                        if missing <= (before / 8.0).max(1.0) {
                            found.push((missing, set));
                        }
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
    fn remaining(&self, asked: usize) {
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

fn with(base: &Groups, groups: &[GroupId]) -> Groups {
    base.iter().chain(groups).copied().collect()
}

fn without(set: &Groups, removed: &Groups) -> Groups {
    set.difference(removed).copied().collect()
}
