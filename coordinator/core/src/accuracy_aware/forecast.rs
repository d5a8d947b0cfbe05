//! What reverting several groups will probably do, added up from what each does alone.
//!
//! To first order the noise that quantization adds to an output is the sum of what every quantizer adds, and so are
//! margins. Forecasts order questions and choose what to ask; they answer none.

use super::cost::Costs;
use super::probe::Groups;
use holdfast_common::scheme::GroupId;
use std::collections::BTreeMap;

/// What single groups do to the margins of some samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    /// Positions in the validation set, ascending.
    pub(super) positions: Vec<usize>,
    /// What every group's reversion adds to the margins there; zero where it was not measured.
    pub(super) gains: BTreeMap<GroupId, Vec<f64>>,
}

/// A state whose metric is known, as the point from which to add up.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    /// Its margins at the positions of the effects.
    pub(super) margins: Vec<f64>,
    /// How many more samples it would have to get right; not positive where it is within its limit.
    pub(super) missing: f64,
    /// Samples that one sample of the effects stands for.
    pub(super) weight: f64,
}

/// What a set will probably give.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score {
    hits: usize,
    /// The margins' sum, each cut to the usual size: tells sets with equal hits apart.
    soft: f64,
}

/// Effects added up from an anchor.
pub(super) struct Forecast<'a> {
    effects: &'a Effects,
    anchor: &'a Anchor,
    costs: &'a Costs,
    /// The usual size of a margin.
    usual: f64,
    hits: usize,
}

/// A proposal: groups to revert, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) groups: Vec<GroupId>,
    /// The first so many probably suffice.
    pub(super) enough: usize,
    /// The first so many probably repair half of what is missing. A forecast that reaches no further is still good where
    /// effects do not quite add up.
    pub(super) half: usize,
}

impl<'a> Forecast<'a> {
    pub(super) fn new(effects: &'a Effects, anchor: &'a Anchor, costs: &'a Costs) -> Forecast<'a> {
        let sizes = anchor.margins.iter().map(|margin| margin.abs()).filter(|size| size.is_finite());
        let usual = sizes.sum::<f64>() / anchor.margins.len().max(1) as f64;
        let mut forecast = Forecast { effects, anchor, costs, usual: usual.max(f64::MIN_POSITIVE), hits: 0 };
        forecast.hits = forecast.score(&anchor.margins).hits;
        forecast
    }

    fn score(&self, margins: &[f64]) -> Score {
        let hits = margins.iter().filter(|margin| **margin > 0.0).count();
        let soft = margins.iter().map(|margin| margin.clamp(-self.usual, self.usual)).sum::<f64>() / self.usual;
        Score { hits, soft }
    }

    fn shift(&self, margins: &mut [f64], group: GroupId, sign: f64) {
        if let Some(gains) = self.effects.gains.get(&group) {
            margins.iter_mut().zip(gains).for_each(|(margin, gain)| *margin += sign * gain);
        }
    }

    /// How many samples will probably be missing with these groups reverted in addition and those no longer; any number
    /// where one of the latter was not measured.
    pub(super) fn missing(&self, add: &Groups, remove: &Groups) -> f64 {
        if remove.iter().any(|group| !self.effects.gains.contains_key(group)) {
            return f64::INFINITY;
        }
        let mut margins = self.anchor.margins.clone();
        add.iter().for_each(|group| self.shift(&mut margins, *group, 1.0));
        remove.iter().for_each(|group| self.shift(&mut margins, *group, -1.0));
        self.missing_at(self.score(&margins).hits)
    }

    /// What quantizing a group again costs: samples, and in fractions of one how much nearer the others come to being lost.
    pub(super) fn loss(&self, group: GroupId) -> f64 {
        let mut margins = self.anchor.margins.clone();
        let before = self.score(&margins);
        self.shift(&mut margins, group, -1.0);
        let after = self.score(&margins);
        before.hits as f64 - after.hits as f64 + (before.soft - after.soft) / margins.len().max(1) as f64
    }

    fn missing_at(&self, hits: usize) -> f64 {
        self.anchor.missing - (hits as f64 - self.hits as f64) * self.anchor.weight
    }

    /// An order of the candidates in which each adds most to those before it, and how many of them will probably do.
    ///
    /// Two ways to choose are compared, most samples repaired and most per weight; the lighter set that suffices wins.
    pub(super) fn chain(&self, candidates: &[GroupId]) -> Chain {
        let plain = self.grow(candidates, false);
        let saving = self.grow(candidates, true);
        let weight =
            |chain: &Chain| chain.groups[..chain.enough].iter().map(|group| self.costs.weight(*group)).sum::<f64>();
        let suffices = |chain: &Chain| {
            self.missing(&chain.groups[..chain.enough].iter().copied().collect(), &Groups::new()) <= 0.0
        };
        if suffices(&saving) && (!suffices(&plain) || weight(&saving) < weight(&plain)) { saving } else { plain }
    }

    fn grow(&self, candidates: &[GroupId], per_weight: bool) -> Chain {
        let mut left = candidates.to_vec();
        let mut margins = self.anchor.margins.clone();
        let mut score = self.score(&margins);
        let (mut groups, mut enough, mut most) = (Vec::with_capacity(left.len()), None, score.hits);
        while !left.is_empty() {
            let gain = |group: GroupId| {
                let mut after = margins.clone();
                self.shift(&mut after, group, 1.0);
                let after = self.score(&after);
                let weight = if per_weight { self.costs.weight(group).max(f64::MIN_POSITIVE) } else { 1.0 };
                let (hits, soft) = (after.hits as f64 - score.hits as f64, after.soft - score.soft);
                // A loss is no smaller for being shared by many operations.
                (if hits > 0.0 { hits / weight } else { hits }, if soft > 0.0 { soft / weight } else { soft })
            };
            let gains: Vec<(f64, f64)> = left.iter().map(|group| gain(*group)).collect();
            let mut best = 0;
            for index in 1..left.len() {
                let order = gains[index].0.total_cmp(&gains[best].0).then(gains[index].1.total_cmp(&gains[best].1));
                let order = order.then(self.costs.lost(left[best]).total_cmp(&self.costs.lost(left[index])));
                if order.is_gt() {
                    best = index;
                }
            }
            let group = left.remove(best);
            self.shift(&mut margins, group, 1.0);
            score = self.score(&margins);
            groups.push(group);
            most = most.max(score.hits);
            if enough.is_none() && self.missing_at(score.hits) <= 0.0 {
                enough = Some(groups.len());
            }
        }
        let Some(enough) = enough else {
            // It never suffices by the forecast, so the forecast is not to be trusted far.
            let half = self.halving(&groups, most);
            return Chain { groups, enough: half, half };
        };
        let mut chain = self.thin(groups, enough);
        let wanted = self.hits as f64 + self.anchor.missing / self.anchor.weight;
        chain.half = self.halving(&chain.groups, wanted.ceil() as usize).min(chain.enough);
        chain
    }

    /// The shortest prefix that comes half of the way to so many hits; at least one group.
    fn halving(&self, groups: &[GroupId], wanted: usize) -> usize {
        let mut margins = self.anchor.margins.clone();
        for (index, group) in groups.iter().enumerate() {
            self.shift(&mut margins, *group, 1.0);
            let hits = self.score(&margins).hits;
            if 2 * hits >= self.hits + wanted {
                return index + 1;
            }
        }
        1
    }

    /// Moves what the first `enough` do not need behind them, heaviest first.
    fn thin(&self, mut groups: Vec<GroupId>, mut enough: usize) -> Chain {
        let mut by_weight = groups[..enough].to_vec();
        by_weight.sort_by(|a, b| self.costs.weight(*b).total_cmp(&self.costs.weight(*a)));
        for group in by_weight {
            let without: Groups = groups[..enough].iter().copied().filter(|other| *other != group).collect();
            if enough > 1
                && self.missing(&without, &Groups::new()) <= 0.0
                && let Some(place) = groups.iter().position(|other| *other == group)
            {
                groups.remove(place);
                enough -= 1;
                groups.insert(enough, group);
            }
        }
        Chain { groups, enough, half: enough }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::SearchParameters;
    use holdfast_common::scheme::{QuantizerGroup, Scheme};

    fn costs(operations: &[usize]) -> Costs {
        let group = |count: &usize| QuantizerGroup {
            name: String::new(),
            quantizers: Vec::new(),
            operations: vec![String::new(); *count],
            macs: 1,
        };
        let scheme = Scheme { groups: operations.iter().map(group).collect(), ..Scheme::default() };
        Costs::new(&scheme, &SearchParameters::default())
    }

    fn effects(gains: &[&[f64]]) -> Effects {
        let gains: BTreeMap<GroupId, Vec<f64>> =
            gains.iter().enumerate().map(|(index, gains)| (GroupId(index as u32), gains.to_vec())).collect();
        Effects { positions: (0..gains[&GroupId(0)].len()).collect(), gains }
    }

    const ALL: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];

    #[test]
    fn groups_that_repair_the_same_samples_are_not_taken_together() {
        let effects = effects(&[&[2.0, 2.0, 0.0], &[2.0, 2.0, 0.1], &[0.0, 0.0, 2.0]]);
        let anchor = Anchor { margins: vec![-1.0; 3], missing: 3.0, weight: 1.0 };
        let costs = costs(&[1, 1, 1]);
        let chain = Forecast::new(&effects, &anchor, &costs).chain(&ALL);
        assert_eq!((chain.enough, &chain.groups[..2]), (2, &[GroupId(1), GroupId(2)][..]));
    }

    #[test]
    fn small_shares_add_up_over_a_margin() {
        let effects = effects(&[&[0.6, 0.6], &[0.6, 0.6], &[0.1, 0.1]]);
        let anchor = Anchor { margins: vec![-1.0; 2], missing: 2.0, weight: 1.0 };
        let costs = costs(&[1, 1, 1]);
        let chain = Forecast::new(&effects, &anchor, &costs).chain(&ALL);
        assert_eq!(chain, Chain { groups: ALL.to_vec(), enough: 2, half: 2 });
    }

    #[test]
    fn a_lighter_set_that_suffices_is_preferred() {
        let effects = effects(&[&[2.0, 2.0, 2.0], &[2.0, 2.0, 0.0], &[0.0, 0.0, 2.0]]);
        let anchor = Anchor { margins: vec![-1.0; 3], missing: 3.0, weight: 1.0 };
        let costs = costs(&[5, 1, 1]);
        let chain = Forecast::new(&effects, &anchor, &costs).chain(&ALL);
        assert_eq!((chain.enough, chain.groups[2]), (2, GroupId(0)));
    }

    #[test]
    fn what_reversion_takes_away_is_forecast_too() {
        let effects = effects(&[&[2.0], &[-3.0], &[0.0]]);
        let anchor = Anchor { margins: vec![1.0], missing: -1.0, weight: 2.0 };
        let costs = costs(&[1, 1, 1]);
        let forecast = Forecast::new(&effects, &anchor, &costs);
        assert_eq!(forecast.missing(&[GroupId(1)].into(), &Groups::new()), 1.0);
        assert_eq!(forecast.missing(&Groups::new(), &[GroupId(0)].into()), 1.0);
    }
}
