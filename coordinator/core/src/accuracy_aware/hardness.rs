//! Hardest samples first: the order in which a hopeless state is refuted soonest.

use super::measure::Measure;
use super::search::Search;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::seed::SplitMix64;
use holdfast_common::evaluation::{LEAF_SAMPLES, SampleResult};

/// Best contributions of all samples by constrained metric; `None` where a metric has no bound.
pub(super) struct Bounds {
    best: Vec<Option<Vec<Vec<f64>>>>,
}

impl Bounds {
    /// Bounds told by what one model contributed on all samples.
    pub(super) fn new<E: Evaluator>(measure: &Measure<'_, E>, known: &[SampleResult]) -> Bounds {
        let of_metric = |metric: usize| {
            let best = |result| measure.metric(metric).best_contribution(measure.part(result, metric));
            known.iter().map(best).collect()
        };
        Bounds { best: (0..measure.constrained.len()).map(of_metric).collect() }
    }

    /// Whether any metric has bounds, so that a state can be refuted on a part of the samples.
    pub(super) fn any(&self) -> bool {
        self.best.iter().any(Option::is_some)
    }

    /// Smallest possible drops of a state of which only these samples are known; minus infinity where there is no bound.
    ///
    /// The metric's own fold, in sample order, with the best contribution in place of every unknown one. A fold of
    /// rounded sums of terms that are no worse is itself no worse, so that a drop beyond its limit here is beyond it in
    /// the full evaluation too, to the last bit.
    pub(super) fn smallest_drops<'r, E: Evaluator>(
        &self,
        search: &Search<'_, E>,
        known: impl Fn(usize) -> Option<&'r SampleResult>,
    ) -> Result<Vec<f64>, CoreError> {
        let measure = &search.measure;
        let mut drops = Vec::with_capacity(self.best.len());
        for (metric, best) in self.best.iter().enumerate() {
            let Some(best) = best else {
                drops.push(f64::NEG_INFINITY);
                continue;
            };
            let mut contributions = best
                .iter()
                .enumerate()
                .map(|(position, best)| known(position).map_or(best.as_slice(), |result| measure.part(result, metric)));
            let value = measure.fold(Stage::Validation, metric, &mut contributions)?;
            drops.push(search.goal.drop(metric, value));
        }
        Ok(drops)
    }
}

/// Positions of the validation set in the order in which a state is evaluated.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// All positions, hardest first.
    pub(super) positions: Vec<usize>,
    /// How many of them are evaluated at once at first; those behind come in growing chunks.
    pub(super) first: usize,
}

impl Order {
    /// Hardest first as the given states tell. A state that does no better than `failing` is refuted by the first chunk.
    ///
    /// With `racing`, the samples behind the first chunk come in a seeded random order.
    pub(super) fn new<E: Evaluator>(
        search: &Search<'_, E>,
        bounds: &Bounds,
        telling: &[&[SampleResult]],
        failing: &[SampleResult],
    ) -> Result<Order, CoreError> {
        let count = failing.len();
        if !bounds.any() {
            return Ok(Order { positions: (0..count).collect(), first: count });
        }
        let ease: Vec<f64> = (0..count).map(|position| ease(search, bounds, telling, position)).collect();
        let mut positions: Vec<usize> = (0..count).collect();
        positions.sort_by(|a, b| ease[*a].total_cmp(&ease[*b]).then(a.cmp(b)));
        let mut rank = vec![0; count];
        for (place, position) in positions.iter().enumerate() {
            rank[*position] = place;
        }
        let is_refuted = |seen: usize| -> Result<bool, CoreError> {
            let known = |position: usize| failing.get(position).filter(|_| rank[position] < seen);
            Ok(!search.goal.is_met(&bounds.smallest_drops(search, known)?))
        };
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            if is_refuted(middle)? { high = middle } else { low = middle + 1 }
        }
        // A little more, for states that are a little better, and whole leaves.
        let first = (high + high / 16 + LEAF_SAMPLES / 4).next_multiple_of(LEAF_SAMPLES).min(count);
        if search.parameters.search.racing.is_some() {
            let mut random = SplitMix64::new(search.parameters.seed);
            for index in first..count {
                let other = index + random.below((count - index) as u64) as usize;
                positions.swap(index, other);
            }
        }
        Ok(Order { positions, first })
    }

    /// The number of samples after so many: a quarter more, whole leaves, at most all.
    pub(super) fn next(&self, seen: usize) -> usize {
        if seen < self.first {
            return self.first;
        }
        (seen + (seen / 4).max(LEAF_SAMPLES)).next_multiple_of(LEAF_SAMPLES).min(self.positions.len())
    }
}

/// Small where the sample is probably wrong: margins of the first metric that has bounds, or its per-sample values.
fn ease<E: Evaluator>(search: &Search<'_, E>, bounds: &Bounds, telling: &[&[SampleResult]], position: usize) -> f64 {
    let measure = &search.measure;
    let Some(metric) = bounds.best.iter().position(Option::is_some) else { return 0.0 };
    let of = |results: &&[SampleResult]| {
        let part = measure.part(results.get(position)?, metric);
        let judged = measure.metric(metric);
        let oriented = |value| judged.orientation().sign() * value;
        judged.margin(part).or_else(|| judged.sample_value(part).map(oriented)).filter(|ease| !ease.is_nan())
    };
    telling.iter().filter_map(of).sum()
}
