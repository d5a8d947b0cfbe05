//! The sequential test that may stop a state before it is proven to miss a limit: off unless an error level is given.

use super::hardness::Order;
use super::search::Search;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use holdfast_common::evaluation::{LEAF_SAMPLES, SampleResult};

/// Whether a counting metric is beyond its limit with at most the stated probability of being wrong.
///
/// The samples behind the first chunk come in random order. What is seen of them is compared with the quantized model on
/// the same samples; how far the mean difference of all of them can be above that of the seen ones is bounded by the
/// empirical Bernstein-Serfling inequality for draws without replacement (Bardenet and Maillard: Concentration inequalities
/// for sampling without replacement, 2015). The level is split over all looks, so that it holds for the whole sequence.
pub(super) fn is_hopeless<E: Evaluator>(
    search: &Search<'_, E>,
    results: &[Option<SampleResult>],
    order: &Order,
    seen: usize,
) -> Result<bool, CoreError> {
    let Some(level) = search.parameters.search.racing else { return Ok(false) };
    let total = order.positions.len();
    if seen <= order.first || seen >= total {
        return Ok(false);
    }
    let looks = (order.first / LEAF_SAMPLES..seen / LEAF_SAMPLES).count().max(1) as f64;
    let level = level / (looks * (looks + 1.0));
    for metric in 0..search.measure.constrained.len() {
        let counted = |result: &SampleResult| {
            let part = search.measure.part(result, metric);
            let metric = search.measure.metric(metric);
            // Samples that have margins are right or wrong, and the metric is their share.
            metric.margin(part).and_then(|_| metric.sample_value(part)).filter(|value| [0.0, 1.0].contains(value))
        };
        if let Some(bound) = best_drop(search, results, order, seen, level, metric, counted)
            && bound > search.goal.limits[metric]
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The smallest drop the metric can still have but for the error level; `None` where samples are not right or wrong.
fn best_drop<E: Evaluator>(
    search: &Search<'_, E>,
    results: &[Option<SampleResult>],
    order: &Order,
    seen: usize,
    level: f64,
    metric: usize,
    counted: impl Fn(&SampleResult) -> Option<f64>,
) -> Option<f64> {
    let (mut hits, mut rest, mut differences) = (0.0, 0.0, Vec::with_capacity(seen - order.first));
    for (place, position) in order.positions.iter().enumerate() {
        let quantized = counted(&search.entering[*position])?;
        let now = match &results[*position] {
            Some(result) if place < seen => Some(counted(result)?),
            Some(_) | None => None,
        };
        match now {
            Some(now) if place < order.first => hits += now,
            Some(now) => {
                rest += quantized;
                differences.push(now - quantized);
            }
            None => rest += quantized,
        }
    }
    let total = order.positions.len();
    let gain = largest_mean(&differences, total - order.first, level) * (total - order.first) as f64;
    Some(search.goal.drop(metric, (hits + rest + gain) / total as f64))
}

/// The largest mean that all `total` numbers within ±1 can have, of which these were drawn without replacement.
fn largest_mean(drawn: &[f64], total: usize, level: f64) -> f64 {
    let (count, all) = (drawn.len() as f64, total as f64);
    let mean = drawn.iter().sum::<f64>() / count;
    let variance = drawn.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    let left = if count <= all / 2.0 { 1.0 - (count - 1.0) / all } else { (1.0 - count / all) * (1.0 + 1.0 / count) };
    let evidence = logarithm(5.0 / level);
    let range = 2.0 * (7.0 / 3.0 + 3.0 / 2f64.sqrt()) * evidence / count;
    (mean + (2.0 * variance * left * evidence / count).sqrt() + range).min(1.0)
}

/// The natural logarithm of a number of at least 1, by its series: the same bits on every machine, which mathematical
/// libraries do not promise.
fn logarithm(number: f64) -> f64 {
    let (mut mantissa, mut doublings) = (number, 0.0);
    while mantissa > 1.5 {
        mantissa /= 2.0;
        doublings += 1.0;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut power, mut sum, mut k) = (ratio, ratio, 1.0);
    while power.abs() > 1e-17 {
        power *= ratio * ratio;
        k += 2.0;
        sum += power / k;
    }
    doublings * std::f64::consts::LN_2 + 2.0 * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::SplitMix64;

    #[test]
    fn the_bound_holds_as_often_as_it_says() {
        let (total, level) = (2_000_usize, 0.1);
        let population: Vec<f64> =
            (0..total).map(|i| if i % 40 == 0 { -1.0 } else { f64::from(i % 57 == 0) }).collect();
        let mean = population.iter().sum::<f64>() / total as f64;
        let mut wrong = 0;
        for seed in 0..200 {
            let drawn: Vec<f64> = SplitMix64::new(seed).choose(800, total).iter().map(|i| population[*i]).collect();
            wrong += usize::from(largest_mean(&drawn, total, level) < mean);
        }
        assert!(wrong <= 20, "{wrong} of 200 bounds are wrong at a level of {level}");
    }

    #[test]
    fn the_logarithm_is_the_natural_one() {
        for number in [1.0, 1.4, 2.0, 5.0, 1e3, 1e9] {
            assert!((logarithm(number) - number.ln()).abs() < 1e-13 * number.ln().max(1.0), "{number}");
        }
    }

    #[test]
    fn the_bound_comes_down_with_samples() {
        let drawn = |count: usize| -> Vec<f64> { (0..count).map(|i| if i % 10 == 0 { -1.0 } else { 0.0 }).collect() };
        let (few, many) = (largest_mean(&drawn(100), 10_000, 0.05), largest_mean(&drawn(3_000), 10_000, 0.05));
        assert!(few > many && many < -0.05, "{few} {many}");
        assert_eq!(largest_mean(&drawn(10), 10_000, 0.05), 1.0);
    }
}
