//! Samples on which states near the limits differ, and what a state does there: a cheap hint whether it is worth asking.
//!
//! Two states near the float model judge almost all samples alike; they differ where the float model itself is nearly
//! undecided. There a few hundred samples tell about as much as all. A hint orders and proposes; it answers nothing.

use super::assess::{margins, missing};
use super::hardness::Order;
use super::probe::{Groups, Prober};
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use holdfast_common::evaluation::SampleResult;
use std::collections::BTreeSet;

/// One of so many validation samples is looked at.
const SHARE: usize = 24;
/// Samples that are looked at, at least and at most; more after hopes that failed.
const SIZES: (usize, usize) = (128, 512);
/// One of so many validation samples is looked at in the end.
const WIDEST: usize = 6;
/// Samples of these on which single groups are compared.
const NEAREST: usize = 64;

/// Contested samples, and the state whose metric is known from which to count.
pub(super) struct Screen {
    /// All positions in the validation set, the most contested first.
    by_contest: Vec<usize>,
    /// How many of them are looked at in a first look, and in all.
    sizes: (usize, usize),
    /// What refuted hopes got wrong besides, ascending.
    further: BTreeSet<usize>,
    /// Whether the known state gets a sample right, for all samples.
    right: Vec<bool>,
    /// How many more samples the known state would have to get right; not positive where it is within its limit.
    missing: f64,
    /// Samples to spare that a hopeful state must have; grows with every hope that failed unseen.
    slack: f64,
    /// How many hopes failed.
    doubts: usize,
}

impl Screen {
    /// Contested samples as the given states tell, counted from a known state. `None` where the target metric does not
    /// count samples by a margin.
    pub(super) fn new<E: Evaluator>(
        prober: &Prober<'_, '_, E>,
        known: &[SampleResult],
        telling: &[&[SampleResult]],
        target: usize,
    ) -> Option<Screen> {
        let missing = missing(prober, target, known.iter())?;
        let mut distance = vec![0.0; known.len()];
        for results in telling {
            let margins = margins(prober, target, results.iter())?;
            distance.iter_mut().zip(margins).for_each(|(sum, margin)| *sum += margin);
        }
        let size = (known.len() / SHARE).clamp(SIZES.0, SIZES.1).min(known.len());
        let mut by_contest: Vec<usize> = (0..known.len()).collect();
        by_contest.sort_by(|a, b| distance[*a].abs().total_cmp(&distance[*b].abs()).then(a.cmp(b)));
        let right = known.iter().map(|result| is_right(prober, result, target)).collect();
        Some(Screen {
            by_contest,
            sizes: (size, size),
            further: BTreeSet::new(),
            right,
            missing,
            slack: 0.0,
            doubts: 0,
        })
    }

    /// The most contested samples, on which to compare single groups, ascending.
    pub(super) fn nearest(&self) -> Vec<usize> {
        let mut nearest = self.by_contest[..self.sizes.0.min(NEAREST)].to_vec();
        nearest.sort_unstable();
        nearest
    }

    /// Looks at a state: how many samples it will probably be missing, all that is not looked at as in the known state,
    /// and how many samples that took. One that the first look finds far beyond the limit is looked at no further.
    pub(super) async fn look<E: Evaluator>(
        &self,
        prober: &mut Prober<'_, '_, E>,
        set: &Groups,
        target: usize,
    ) -> Result<(f64, usize), CoreError> {
        let mut positions: BTreeSet<usize> = self.by_contest[..self.sizes.0].iter().copied().collect();
        let first: Vec<usize> = positions.iter().copied().collect();
        prober.ensure(std::slice::from_ref(set), &first).await?;
        let missing = self.missing(prober, set, &first, target);
        if missing > self.missing.abs() + self.slack {
            return Ok((missing, first.len()));
        }
        positions.extend(&self.by_contest[..self.sizes.1]);
        positions.extend(&self.further);
        let all: Vec<usize> = positions.into_iter().collect();
        prober.ensure(std::slice::from_ref(set), &all).await?;
        Ok((self.missing(prober, set, &all, target), all.len()))
    }

    fn missing<E: Evaluator>(
        &self,
        prober: &Prober<'_, '_, E>,
        set: &Groups,
        positions: &[usize],
        target: usize,
    ) -> f64 {
        let mut lost = 0.0;
        for position in positions {
            let Some(result) = prober.known(set, *position) else { continue };
            lost += f64::from(self.right[*position]) - f64::from(is_right(prober, result, target));
        }
        self.missing + lost + self.slack
    }

    /// After a state that looked hopeful was refuted, those samples of the order's first chunk are looked at too that it
    /// judged otherwise. Where that would not have told either, and at every second such hope, twice as many contested
    /// samples are looked at; where there are no more, more has to be to spare from now on.
    pub(super) fn doubt<E: Evaluator>(
        &mut self,
        prober: &Prober<'_, '_, E>,
        refuted: &Groups,
        order: &Order,
        target: usize,
    ) {
        self.doubts += 1;
        self.further.extend(order.positions[..order.first].iter().copied().filter(|position| {
            let known = prober.known(refuted, *position);
            known.is_some_and(|result| is_right(prober, result, target) != self.right[*position])
        }));
        let all: BTreeSet<usize> = self.further.iter().chain(&self.by_contest[..self.sizes.1]).copied().collect();
        let tells = self.missing(prober, refuted, &all.into_iter().collect::<Vec<_>>(), target) > 0.0;
        if tells && self.doubts % 2 == 1 {
            return;
        }
        let before = self.sizes.1;
        self.sizes.1 = (2 * before).min(self.by_contest.len() / WIDEST).max(before);
        if !tells && self.sizes.1 == before {
            // At most half of what the known state has to spare.
            self.slack = (2.0 * self.slack).max(1.0).min(self.missing.abs() / 2.0);
        }
    }
}

fn is_right<E: Evaluator>(prober: &Prober<'_, '_, E>, result: &SampleResult, target: usize) -> bool {
    let measure = &prober.search.measure;
    measure.metric(target).sample_value(measure.part(result, target)) == Some(1.0)
}
