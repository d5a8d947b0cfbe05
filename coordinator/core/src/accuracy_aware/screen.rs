//! Samples on which states near the limits differ, and what a state does there: a cheap hint whether it is worth asking.
//!
//! Two states near the float model judge almost all samples alike; they differ where the float model itself is nearly
//! undecided. There a few hundred samples tell about as much as all. A hint orders and proposes; it answers nothing.

use super::assess::{margins, missing};
use super::hardness::Order;
use super::probe::{Groups, Prober};
use crate::evaluator::Evaluator;
use holdfast_common::evaluation::SampleResult;
use std::collections::BTreeSet;

/// One of so many validation samples is looked at.
const SHARE: usize = 24;
/// Samples that are looked at, at least and at most.
const SIZES: (usize, usize) = (128, 512);
/// Samples of these on which single groups are compared.
const NEAREST: usize = 64;

/// Contested samples, and the state whose metric is known from which to count.
pub(super) struct Screen {
    /// Positions in the validation set, ascending.
    pub(super) positions: Vec<usize>,
    /// The most contested of them, ascending.
    pub(super) nearest: Vec<usize>,
    /// Whether the known state gets a sample right, for all samples.
    right: Vec<bool>,
    /// How many more samples the known state would have to get right; not positive where it is within its limit.
    missing: f64,
    /// Samples to spare that a hopeful state must have; grows with every hope that failed unseen.
    slack: f64,
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
        let size = (known.len() / SHARE).clamp(SIZES.0, SIZES.1);
        let mut positions: Vec<usize> = (0..known.len()).collect();
        positions.sort_by(|a, b| distance[*a].abs().total_cmp(&distance[*b].abs()).then(a.cmp(b)));
        positions.truncate(size);
        let mut nearest = positions[..positions.len().min(NEAREST)].to_vec();
        nearest.sort_unstable();
        positions.sort_unstable();
        let right = known.iter().map(|result| is_right(prober, result, target)).collect();
        Some(Screen { positions, nearest, right, missing, slack: 0.0 })
    }

    /// How many samples a state will probably be missing, of which the contested ones are known: all others as in the
    /// known state.
    pub(super) fn missing<E: Evaluator>(&self, prober: &Prober<'_, '_, E>, set: &Groups, target: usize) -> f64 {
        let mut lost = 0.0;
        for position in &self.positions {
            let Some(result) = prober.known(set, *position) else { continue };
            lost += f64::from(self.right[*position]) - f64::from(is_right(prober, result, target));
        }
        self.missing + lost + self.slack
    }

    /// Takes in what a state that looked hopeful and was refuted got wrong in the first chunk of the order. Where nothing
    /// of it is new, more has to be to spare from now on.
    pub(super) fn learn<E: Evaluator>(
        &mut self,
        prober: &Prober<'_, '_, E>,
        refuted: &Groups,
        order: &Order,
        target: usize,
    ) {
        let mut positions: BTreeSet<usize> = self.positions.iter().copied().collect();
        let before = positions.len();
        positions.extend(order.positions[..order.first].iter().copied().filter(|position| {
            let known = prober.known(refuted, *position);
            known.is_some_and(|result| is_right(prober, result, target) != self.right[*position])
        }));
        self.positions = positions.into_iter().collect();
        if self.positions.len() == before || self.missing(prober, refuted, target) <= 0.0 {
            self.slack = (2.0 * self.slack).max(1.0);
        }
    }
}

fn is_right<E: Evaluator>(prober: &Prober<'_, '_, E>, result: &SampleResult, target: usize) -> bool {
    let measure = &prober.search.measure;
    measure.metric(target).sample_value(measure.part(result, target)) == Some(1.0)
}
