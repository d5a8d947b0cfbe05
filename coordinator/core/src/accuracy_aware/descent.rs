//! The bisecting strategy where the metric counts samples by margins: find on contested samples alone what probably
//! suffices, then ask about that.
//!
//! 1. Climb: of the forecast's sets and the ranking's prefixes, lightest first, the first that looks hopeful.
//! 2. Descend: leave groups out, many at once, as long as the rest looks hopeful.
//! 3. Exchange: lighter sets that look hopeful by the forecast.
//! 4. Ask. A refuted hope tells which samples to look at besides, and the way goes on from the last set before it that
//!    still looks hopeful.

use super::assess::effects_around;
use super::bisect::{Bisection, EXCHANGES_MAX, Found, telling, with, without};
use super::forecast::{Anchor, Chain, Effects, Forecast};
use super::probe::{Groups, Scan};
use super::screen::Screen;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::record::Purpose;
use holdfast_common::scheme::GroupId;
use std::collections::{BTreeMap, BTreeSet};

/// Hopes that are asked about before the search goes on by questions alone.
const ASKED_MAX: usize = 8;
/// Sets of fewer groups are descended from one group at a time.
const COMPARED_FROM: usize = 5;
/// Pairs of groups that are left out together though neither can be alone.
const PAIRS_MAX: usize = 3;

impl<E: Evaluator> Bisection<'_, '_, E> {
    /// A set within the limits that contested samples led to, and whether they say that it is none too large; `None` where
    /// they lead nowhere.
    pub(super) async fn by_screen(&mut self) -> Result<Option<(Found, bool)>, CoreError> {
        let search = &*self.prober.search;
        if search.parameters.search.ranking.is_some() || !search.parameters.search.readmission {
            return Ok(None);
        }
        let Some(mut screen) = self.screen() else { return Ok(None) };
        let base = self.entering.reverted.clone();
        let left = self.prober.search.left(&base);
        if left.is_empty() {
            return Ok(None);
        }
        let (chain, is_forecast) = self.ranked(&base, &left).await?;
        let proposals = self.proposals(&chain, is_forecast);
        let mut next = 0;
        let mut trail: Vec<Groups> = Vec::new();
        for _ in 0..ASKED_MAX {
            self.retreat(&mut trail, &screen).await?;
            while trail.is_empty() {
                if let Some(reason) = self.prober.spent() {
                    return Ok(Some((Found::Nothing(reason), false)));
                }
                let Some(set) = proposals.get(next).cloned() else { return Ok(None) };
                next += 1;
                if self.is_hopeful(&set, &screen, Purpose::Prefix).await? {
                    trail.push(set);
                }
            }
            for _ in 0..EXCHANGES_MAX {
                self.descend(&mut trail, &screen).await?;
                if !self.lighten(&mut trail, &screen).await? {
                    break;
                }
            }
            let Some(set) = trail.last().cloned() else { return Ok(None) };
            self.remaining(1);
            match self.prober.first_passing(std::slice::from_ref(&set), &self.order, 1, Purpose::Proposal).await? {
                Scan::Passed(_) => return Ok(Some((Found::Set(set), true))),
                Scan::Spent(reason) => return Ok(Some((Found::Nothing(reason), false))),
                Scan::NonePassed => screen.doubt(&self.prober, &set, &self.order, self.target),
            }
        }
        trail.reverse();
        Ok(match self.prober.first_passing(&trail, &self.order, 1, Purpose::Proposal).await? {
            Scan::Passed(index) => Some((Found::Set(trail[index].clone()), false)),
            Scan::Spent(reason) => Some((Found::Nothing(reason), false)),
            Scan::NonePassed => None,
        })
    }

    /// Cuts the trail behind its last set that looks hopeful; the sets are ever smaller, so that a few looks tell which.
    async fn retreat(&mut self, trail: &mut Vec<Groups>, screen: &Screen) -> Result<(), CoreError> {
        let (mut kept, mut gone) = (0, trail.len());
        while kept < gone {
            let middle = (kept + gone) / 2;
            match self.is_hopeful(&trail[middle].clone(), screen, Purpose::Readmission).await? {
                true => kept = middle + 1,
                false => gone = middle,
            }
        }
        trail.truncate(kept);
        Ok(())
    }

    /// Samples contested between the quantized and the float model, counted from the latter.
    fn screen(&self) -> Option<Screen> {
        let float = &self.prober.search.pool.results;
        if float.len() != self.entering.results.len() {
            return None;
        }
        Screen::new(&self.prober, float, &telling(&self.prober, &self.entering, self.target), self.target)
    }

    /// Sets worth a look, lightest first: the forecast's, and prefixes of the ranking, ever longer.
    fn proposals(&self, chain: &Chain, is_forecast: bool) -> Vec<Groups> {
        let search = &*self.prober.search;
        let most = search.parameters.max_iter_num.unwrap_or(usize::MAX);
        let base = &self.entering.reverted;
        let ranking: &[GroupId] = self.first.as_ref().map_or(&[], |first| &first.order);
        let mut sets: BTreeSet<Groups> = BTreeSet::new();
        if is_forecast {
            for size in [chain.half, chain.enough.saturating_sub(1).max(1), chain.enough] {
                sets.insert(with(base, &chain.groups[..size.min(chain.groups.len())]));
            }
        }
        let mut size = 1;
        while size < ranking.len() {
            sets.insert(with(base, &ranking[..size]));
            // 1, 2, 3, 4, 6, 8, 12, 16, …
            size = if size.is_power_of_two() { (size + size / 2).max(size + 1) } else { size / 3 * 4 };
        }
        sets.insert(with(base, ranking));
        sets.remove(base);
        let mut sets: Vec<Groups> =
            sets.into_iter().filter(|set| set.len() - base.len() <= most && search.is_affordable(set)).collect();
        sets.sort_by(|a, b| search.costs.weights(a).total_cmp(&search.costs.weights(b)).then_with(|| a.cmp(b)));
        sets
    }

    /// Whether the set looks as if it were within the limits.
    async fn is_hopeful(&mut self, set: &Groups, screen: &Screen, purpose: Purpose) -> Result<bool, CoreError> {
        if *set == self.entering.reverted || self.prober.is_below_refuted(set) {
            return Ok(false);
        }
        let (missing, samples) = screen.look(&mut self.prober, set, self.target).await?;
        if missing > 0.0 {
            self.prober.set_aside(set, samples, missing, purpose);
        }
        Ok(missing <= 0.0)
    }

    /// Extends the trail by sets without groups that the rest seems not to need, until each of the last set's does.
    async fn descend(&mut self, trail: &mut Vec<Groups>, screen: &Screen) -> Result<(), CoreError> {
        let Some(start) = trail.last().cloned() else { return Ok(()) };
        let members: Vec<GroupId> = start.difference(&self.entering.reverted).copied().collect();
        if members.len() < 2 {
            return Ok(());
        }
        let mut left = members.clone();
        let mut step = 1;
        if members.len() >= COMPARED_FROM {
            let local = self.local(&start, &members, &[], screen).await?;
            (left, step) = self.dispensable(members, &local);
        } else {
            let costs = &self.prober.search.costs;
            let rank = |group: &GroupId| {
                self.first.as_ref().and_then(|first| first.order.iter().position(|ranked| ranked == group))
            };
            left.sort_by(|a, b| costs.weight(*b).total_cmp(&costs.weight(*a)).then_with(|| rank(b).cmp(&rank(a))));
        }
        let mut current = start;
        while !left.is_empty() && self.prober.spent().is_none() {
            step = step.clamp(1, left.len());
            let set = without(&current, &left[..step].iter().copied().collect());
            if self.is_hopeful(&set, screen, Purpose::Readmission).await? {
                left.drain(..step);
                trail.push(set.clone());
                current = set;
                step *= 2;
            } else if step == 1 {
                left.remove(0);
            } else {
                step /= 2;
            }
        }
        Ok(())
    }

    /// Members by what leaving them out loses for what it saves, least first, and how many can probably go at once.
    fn dispensable(&self, members: Vec<GroupId>, (effects, anchor): &(Effects, Anchor)) -> (Vec<GroupId>, usize) {
        let costs = &self.prober.search.costs;
        let forecast = Forecast::new(effects, anchor, costs);
        let loss = |group: &GroupId| forecast.loss(*group) / costs.weight(*group).max(f64::MIN_POSITIVE);
        let losses: BTreeMap<GroupId, f64> = members.iter().map(|group| (*group, loss(group))).collect();
        let mut sorted = members;
        sorted.sort_by(|a, b| losses[a].total_cmp(&losses[b]).then(a.cmp(b)));
        let mut dropped = Groups::new();
        let can_go = |group: &&GroupId| {
            dropped.insert(**group);
            forecast.missing(&Groups::new(), &dropped) <= 0.0
        };
        let enough = sorted.iter().take_while(can_go).count();
        (sorted, enough.max(1))
    }

    /// What single groups do around a set, on the most contested samples.
    async fn local(
        &mut self,
        set: &Groups,
        members: &[GroupId],
        others: &[GroupId],
        screen: &Screen,
    ) -> Result<(Effects, Anchor), CoreError> {
        let (missing, _) = screen.look(&mut self.prober, set, self.target).await?;
        effects_around(&mut self.prober, set, members, others, &screen.nearest(), missing, self.target).await
    }

    /// Extends the trail by a lighter set that looks hopeful; whether there is one.
    async fn lighten(&mut self, trail: &mut Vec<Groups>, screen: &Screen) -> Result<bool, CoreError> {
        let Some(current) = trail.last().cloned() else { return Ok(false) };
        let others = self.prober.search.left(&current);
        let Some(free) = self.exchangeable(&current, &others) else { return Ok(false) };
        // Alone each other group was ranked; what it does in place of a heavier one was not.
        let costs = &self.prober.search.costs;
        let lightest = others.iter().map(|group| costs.weight(*group)).fold(f64::INFINITY, f64::min);
        let is_heavier = free.len() > 1 && free.iter().any(|group| costs.weight(*group) > lightest);
        let local = match free.len() > 2 || is_heavier {
            true => Some(self.local(&current, &free, &others, screen).await?),
            false => None,
        };
        let pairs = self.pairs(&free, local.as_ref());
        let sets = self.lighter(&current, &free, &others, local);
        for set in sets.into_iter().chain(pairs.into_iter().map(|pair| without(&current, &pair))) {
            if self.is_hopeful(&set, screen, Purpose::Exchange).await? {
                trail.push(set);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Pairs of members that can best be spared, though neither can be alone: what both do may be needed only while one
    /// of them does it.
    fn pairs(&self, members: &[GroupId], local: Option<&(Effects, Anchor)>) -> Vec<Groups> {
        let Some((effects, anchor)) = local.filter(|_| members.len() > 2) else { return Vec::new() };
        let forecast = Forecast::new(effects, anchor, &self.prober.search.costs);
        let loss: Vec<f64> = members.iter().map(|group| forecast.loss(*group)).collect();
        let mut pairs: Vec<(f64, Groups)> = Vec::new();
        for (index, one) in members.iter().enumerate() {
            for (other, two) in members.iter().enumerate().skip(index + 1) {
                pairs.push((loss[index] + loss[other], [*one, *two].into()));
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        pairs.into_iter().take(PAIRS_MAX).map(|(_, pair)| pair).collect()
    }
}
