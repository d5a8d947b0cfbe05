//! Per-sample statistics of tensors and their aggregation over samples.
//!
//! Source: OpenVINO POT's statistics and aggregators, restated; quantiles interpolate linearly between order statistics.

use crate::evaluation::Statistic;
use ndarray::{ArrayViewD, Axis};
use serde::{Deserialize, Serialize};

/// Share of the pooled values at each end that the outlier-dropping aggregators leave out.
const OUTLIER_SHARE: f64 = 0.01;

/// How per-sample values become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregator {
    /// Arithmetic mean, summed in sample order.
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Middle value, or the mean of the two middle ones.
    Median,
    /// Mean of the values within the 1 % and 99 % quantiles, bounds included.
    MeanNoOutliers,
    /// Median of the values within the 1 % and 99 % quantiles, bounds included.
    MedianNoOutliers,
    /// Hodges–Lehmann: half the median of the sums of all pairs of different samples.
    HlEstimator,
}

impl Aggregator {
    /// Aggregates values given in sample order; `None` where there are none.
    pub fn aggregate(self, values: &[f64]) -> Option<f64> {
        if values.is_empty() {
            return None;
        }
        Some(match self {
            Aggregator::Mean => mean(values),
            Aggregator::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Aggregator::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Aggregator::Median => median(values),
            Aggregator::MeanNoOutliers => mean(&without_outliers(values)),
            Aggregator::MedianNoOutliers => median(&without_outliers(values)),
            Aggregator::HlEstimator => hodges_lehmann(values),
        })
    }
}

/// The quantile at a probability, linearly interpolated at position `probability × (count − 1)` of the ascending values.
///
/// `None` where there are no values. A probability outside 0 to 1 counts as the nearer of the two. Reorders the values
/// instead of sorting them, in linear time.
pub fn quantile(values: &mut [f64], probability: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = probability.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let share = position - below as f64;
    let (_, low, rest) = values.select_nth_unstable_by(below.min(last), f64::total_cmp);
    let high = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(*low);
    Some(*low + (high - *low) * share)
}

/// The same of floats, in one pass over them where the quantile lies near an end; none of them may be NaN.
pub fn quantile_of_floats(values: impl ExactSizeIterator<Item = f32>, probability: f64) -> Option<f64> {
    /// Share of the values at an end that is cheaper to keep aside than to reorder all of them.
    const END: usize = 16;
    let count = values.len();
    let last = count.checked_sub(1)?;
    let position = probability.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let share = position - below as f64;
    let between = |low: f32, high: f32| f64::from(low) + (f64::from(high) - f64::from(low)) * share;
    if count - below <= count / END {
        let mut kept = largest(values, count - below);
        kept.sort_unstable_by(f32::total_cmp);
        let low = *kept.first()?;
        return Some(between(low, kept.get(1).copied().unwrap_or(low)));
    }
    if below + 2 <= count / END {
        let mut kept = largest(values.map(|value| -value), below + 2);
        kept.sort_unstable_by(f32::total_cmp);
        return Some(between(-kept.get(1).copied()?, -kept.first().copied()?));
    }
    quantile(&mut values.map(f64::from).collect::<Vec<f64>>(), probability)
}

/// The largest `count` values, at least one, in no order.
fn largest(values: impl Iterator<Item = f32>, count: usize) -> Vec<f32> {
    let mut kept: Vec<f32> = Vec::with_capacity(2 * count);
    let mut least = f32::NEG_INFINITY;
    for value in values {
        // Where everything kept is as large as this value, the value changes no quantile.
        if value > least || kept.len() < count {
            kept.push(value);
        }
        if kept.len() == 2 * count {
            kept.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
            kept.truncate(count);
            least = kept.iter().copied().fold(f32::INFINITY, f32::min);
        }
    }
    kept.sort_unstable_by(|a, b| b.total_cmp(a));
    kept.truncate(count);
    kept
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(values: &[f64]) -> f64 {
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 { ascending[middle] } else { (ascending[middle - 1] + ascending[middle]) / 2.0 }
}

fn without_outliers(values: &[f64]) -> Vec<f64> {
    let mut pooled = values.to_vec();
    let bounds = (quantile(&mut pooled, OUTLIER_SHARE), quantile(&mut pooled, 1.0 - OUTLIER_SHARE));
    let (Some(low), Some(high)) = bounds else { return Vec::new() };
    let kept: Vec<f64> = values.iter().copied().filter(|value| (low..=high).contains(value)).collect();
    if kept.is_empty() { values.to_vec() } else { kept }
}

fn hodges_lehmann(values: &[f64]) -> f64 {
    if values.len() == 1 {
        return values[0];
    }
    let mut sums = Vec::with_capacity(values.len() * (values.len() - 1) / 2);
    for (index, value) in values.iter().enumerate() {
        sums.extend(values[..index].iter().map(|other| value + other));
    }
    median(&sums) / 2.0
}

/// One statistic of one sample's tensor: one value, or one per index of `axis`.
///
/// A tensor without elements gives NaN, as does any NaN element; an axis the tensor does not have counts as none.
pub fn observe(statistic: Statistic, values: &ArrayViewD<'_, f32>, axis: Option<usize>) -> Vec<f64> {
    match axis.filter(|axis| *axis < values.ndim()) {
        None => vec![observe_slice(statistic, values)],
        Some(axis) => values.axis_iter(Axis(axis)).map(|slice| observe_slice(statistic, &slice)).collect(),
    }
}

fn observe_slice(statistic: Statistic, values: &ArrayViewD<'_, f32>) -> f64 {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let exact = |value: f32| f64::from(value);
    match statistic {
        Statistic::Min => exact(values.iter().copied().fold(f32::INFINITY, f32::min)),
        Statistic::Max => exact(values.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
        Statistic::AbsMax => exact(values.iter().map(|value| value.abs()).fold(0.0, f32::max)),
        Statistic::Mean => {
            let sum: f64 = values.iter().copied().map(exact).sum();
            exact((sum / values.len() as f64) as f32)
        }
        Statistic::Quantile(probability) => quantile_of_floats(values.iter().copied(), probability).unwrap_or(f64::NAN),
        Statistic::AbsQuantile(probability) => {
            quantile_of_floats(values.iter().map(|value| value.abs()), probability).unwrap_or(f64::NAN)
        }
        // These are elements, of which no single number tells.
        Statistic::Patches(_) | Statistic::Rows(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn};

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9, "{found} is not {expected}");
    }

    fn counting() -> ArrayD<f32> {
        ArrayD::from_shape_fn(IxDyn(&[2, 2, 2, 2]), |index| {
            (index[0] * 8 + index[1] * 4 + index[2] * 2 + index[3]) as f32
        })
    }

    #[test]
    fn every_aggregator_gives_its_value_of_scalars() {
        let values = [1.0, 2.0, 3.0, 4.0, 100.0];
        for (aggregator, expected) in [
            (Aggregator::Mean, 22.0),
            (Aggregator::Max, 100.0),
            (Aggregator::Min, 1.0),
            (Aggregator::Median, 3.0),
            (Aggregator::MeanNoOutliers, 3.0),
            (Aggregator::MedianNoOutliers, 3.0),
            (Aggregator::HlEstimator, 3.25),
        ] {
            assert_near(aggregator.aggregate(&values).expect("values"), expected);
            assert_eq!(aggregator.aggregate(&[]), None);
            assert_near(aggregator.aggregate(&[7.0]).expect("values"), 7.0);
        }
        let mut values = values;
        assert_near(quantile(&mut values, 0.01).expect("values"), 1.04);
        assert_near(quantile(&mut values, 0.99).expect("values"), 96.16);
    }

    #[test]
    fn channels_aggregate_by_themselves() {
        let channels = [[1.0, 3.0, 2.0], [10.0, 30.0, 90.0]];
        for (aggregator, expected) in [
            (Aggregator::Mean, [2.0, 130.0 / 3.0]),
            (Aggregator::Median, [2.0, 30.0]),
            (Aggregator::MeanNoOutliers, [2.0, 30.0]),
            (Aggregator::HlEstimator, [2.0, 50.0]),
            (Aggregator::Max, [3.0, 90.0]),
            (Aggregator::Min, [1.0, 10.0]),
        ] {
            for (values, expected) in channels.iter().zip(expected) {
                assert_near(aggregator.aggregate(values).expect("values"), expected);
            }
        }
    }

    #[test]
    fn quantiles_interpolate_linearly() {
        let mut values: Vec<f64> = (0..=100).rev().map(|tenth| f64::from(tenth * 37 % 101) / 10.0).collect();
        assert_near(quantile(&mut values, 1e-3).expect("values"), 0.01);
        assert_near(quantile(&mut values, 1.0 - 1e-3).expect("values"), 9.99);
        assert_near(quantile(&mut values, 0.0).expect("values"), 0.0);
        assert_near(quantile(&mut values, 1.0).expect("values"), 10.0);
        assert_near(quantile(&mut values, 0.5).expect("values"), 5.0);
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn quantiles_near_an_end_equal_those_of_all_values_in_order() {
        let scattered = |count: u32| (0..count).map(move |i| ((i * 7919 % count) / 3) as f32 - 100.0);
        for count in [1, 2, 15, 16, 17, 33, 1000, 5000] {
            let mut ascending: Vec<f32> = scattered(count).collect();
            ascending.sort_by(f32::total_cmp);
            for probability in [0.0, 1e-4, 1e-3, 0.01, 0.05, 0.07, 0.5, 0.93, 0.95, 0.99, 0.999, 0.9999, 1.0] {
                let position = probability * f64::from(count - 1);
                let at = |index: f64| f64::from(ascending[index as usize]);
                let (low, high) = (at(position.floor()), at(position.ceil()));
                let expected = low + (high - low) * (position - position.floor());
                let values: Vec<f32> = scattered(count).collect();
                let found = quantile_of_floats(values.into_iter(), probability).expect("values");
                assert_eq!(found, expected, "{count} values at {probability}");
            }
        }
        assert_eq!(quantile_of_floats(std::iter::empty(), 0.5), None);
    }

    #[test]
    fn activations_are_observed_sample_by_sample_and_channel_by_channel() {
        let tensor = counting();
        let observed = |statistic, axis| -> Vec<Vec<f64>> {
            let samples = tensor.axis_chunks_iter(Axis(0), 1);
            samples.map(|sample| observe(statistic, &sample, axis)).collect()
        };
        assert_eq!(observed(Statistic::Min, Some(1)), [[0.0, 4.0], [8.0, 12.0]]);
        assert_eq!(observed(Statistic::Max, Some(1)), [[3.0, 7.0], [11.0, 15.0]]);
        assert_eq!(observed(Statistic::AbsMax, Some(1)), [[3.0, 7.0], [11.0, 15.0]]);
        assert_eq!(observed(Statistic::Mean, Some(1)), [[1.5, 5.5], [9.5, 13.5]]);
        let quantiles = observed(Statistic::Quantile(0.01), Some(1)).concat();
        for (found, expected) in quantiles.into_iter().zip([0.03, 4.03, 8.03, 12.03]) {
            assert_near(found, expected);
        }
        assert_eq!(observed(Statistic::Min, None), [[0.0], [8.0]]);
        assert_eq!(observed(Statistic::Max, None), [[7.0], [15.0]]);
        let quantiles = observed(Statistic::Quantile(0.01), None).concat();
        for (found, expected) in quantiles.into_iter().zip([0.07, 8.07]) {
            assert_near(found, expected);
        }
    }

    #[test]
    fn weights_are_observed_along_their_output_axis() {
        let tensor = counting();
        let weights = tensor.view();
        assert_eq!(observe(Statistic::Max, &weights, Some(0)), [7.0, 15.0]);
        assert_eq!(observe(Statistic::Min, &weights, Some(0)), [0.0, 8.0]);
        assert_eq!(observe(Statistic::AbsMax, &weights, Some(0)), [7.0, 15.0]);
        for (found, expected) in observe(Statistic::Quantile(0.01), &weights, Some(0)).into_iter().zip([0.07, 8.07]) {
            assert_near(found, expected);
        }
        assert_eq!(observe(Statistic::Max, &weights, Some(1)), [11.0, 15.0]);
        assert_eq!(observe(Statistic::Min, &weights, Some(1)), [0.0, 4.0]);
        assert_eq!(observe(Statistic::AbsMax, &weights, None), [15.0]);
        assert_near(observe(Statistic::Quantile(0.01), &weights, None)[0], 0.15);
    }

    #[test]
    fn a_nan_element_is_not_lost_in_an_extreme() {
        let tensor = ArrayD::from_shape_vec(IxDyn(&[3]), vec![1.0, f32::NAN, 2.0]).expect("three elements");
        assert!(observe(Statistic::Max, &tensor.view(), None)[0].is_nan());
    }
}
