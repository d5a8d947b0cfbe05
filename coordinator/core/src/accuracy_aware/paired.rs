//! Answer and float model compared sample by sample: how sure the drop is, and which samples are judged otherwise.

use crate::record::{Flips, Interval};
use holdfast_common::metric::Orientation;
use std::collections::BTreeMap;

/// Per-sample values of one metric, float model first; `None` unless every sample has both.
pub(super) fn pairs(float: &[Option<f64>], answer: &[Option<f64>]) -> Option<Vec<(f64, f64)>> {
    if float.is_empty() || float.len() != answer.len() {
        return None;
    }
    float.iter().zip(answer).map(|(float, answer)| Some(((*float)?, (*answer)?))).collect()
}

/// Broken and fixed samples; `None` where samples are neither right (1) nor wrong (0).
pub(super) fn flips(pairs: &[(f64, f64)], labels: Option<&[u32]>) -> Option<Flips> {
    if pairs.iter().any(|(float, answer)| ![0.0, 1.0].contains(float) || ![0.0, 1.0].contains(answer)) {
        return None;
    }
    let (mut flips, mut classes) = (Flips::default(), BTreeMap::<u32, (usize, usize)>::new());
    for (position, (float, answer)) in pairs.iter().enumerate().filter(|(_, (float, answer))| float != answer) {
        let is_broken = float > answer;
        if is_broken {
            flips.broken += 1
        } else {
            flips.fixed += 1
        }
        if let Some(label) = labels.and_then(|labels| labels.get(position)) {
            let class = classes.entry(*label).or_default();
            if is_broken { class.0 += 1 } else { class.1 += 1 }
        }
    }
    flips.classes = classes;
    Some(flips)
}

/// The interval of a drop at this confidence level; `None` where the metric is not the mean over the samples.
///
/// Where samples are right or wrong, from the counts of broken and fixed ones with half a sample added to each of the
/// four possibilities (Agresti and Min: Effects and non-effects of paired identical observations in comparing
/// proportions with binary matched-pairs data, 2004), so that no flip at all is not taken for certainty. Otherwise from
/// the mean and spread of the paired differences, as if normal.
pub(super) fn interval(pairs: &[(f64, f64)], orientation: Orientation, drop: f64, level: f64) -> Option<Interval> {
    let count = pairs.len() as f64;
    let differences = pairs.iter().map(|(float, answer)| orientation.sign() * (float - answer));
    let mean = differences.clone().sum::<f64>() / count;
    let scale = pairs.iter().map(|(float, answer)| float.abs().max(answer.abs())).fold(0.0, f64::max);
    if pairs.len() < 2 || !((mean - drop).abs() <= 1e-9 * scale.max(drop.abs())) {
        return None;
    }
    let quantile = normal_quantile(0.5 + level / 2.0);
    let (centre, error) = match flips(pairs, None) {
        Some(Flips { broken, fixed, .. }) => {
            let (broken, fixed, count) = (broken as f64 + 0.5, fixed as f64 + 0.5, count + 2.0);
            let (worse, better) = if orientation.sign() > 0.0 { (broken, fixed) } else { (fixed, broken) };
            let mean = (worse - better) / count;
            (mean, ((broken + fixed) / count - mean * mean).max(0.0).sqrt() / count.sqrt())
        }
        None => {
            let spread = differences.map(|difference| (difference - mean) * (difference - mean)).sum::<f64>();
            (mean, (spread / (count - 1.0)).sqrt() / count.sqrt())
        }
    };
    Some(Interval { level, low: centre - quantile * error, high: centre + quantile * error })
}

/// The number that a standard normal variable stays below with this probability, 0.5 to 1; found by bisection.
fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 9.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_below(middle) < probability { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The probability that a standard normal variable is below x ≥ 0, by the series of its integral around 0.
fn normal_below(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x, x, 1.0);
    while term > 1e-17 * sum {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    0.5 + sum / (exponential(x * x / 2.0) * (2.0 * std::f64::consts::PI).sqrt())
}

/// e to this power ≥ 0, by its series: the same bits on every machine, which mathematical libraries do not promise.
fn exponential(power: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 0.0);
    while term > 1e-17 * sum {
        k += 1.0;
        term *= power / k;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use Orientation::{HigherBetter, HigherWorse};

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (probability, quantile) in [(0.975, 1.959_963_984_540_054), (0.995, 2.575_829_303_548_901), (0.5, 0.0)] {
            assert!((normal_quantile(probability) - quantile).abs() < 1e-9, "{probability}");
        }
    }

    fn counted(broken: usize, fixed: usize, same: usize) -> Vec<(f64, f64)> {
        let rows = [((1.0, 0.0), broken), ((0.0, 1.0), fixed), ((1.0, 1.0), same)];
        rows.into_iter().flat_map(|(pair, count)| vec![pair; count]).collect()
    }

    #[test]
    fn flips_are_counted_by_direction_and_class() {
        let labels = [7, 7, 3, 1];
        let flips = flips(&counted(2, 1, 1), Some(&labels)).expect("right or wrong");
        assert_eq!((flips.broken, flips.fixed), (2, 1));
        assert_eq!(flips.classes, [(3, (0, 1)), (7, (2, 0))].into());
        assert_eq!(super::flips(&[(0.5, 1.0)], None), None);
    }

    #[test]
    fn an_interval_of_a_counted_drop_holds_it_and_narrows_with_samples() {
        let at = |times: usize| {
            let pairs = counted(6 * times, 2 * times, 92 * times);
            interval(&pairs, HigherBetter, 0.04, 0.95).expect("a mean")
        };
        let (few, many) = (at(1), at(100));
        assert!(few.low < 0.04 && 0.04 < few.high && many.low < 0.04 && 0.04 < many.high);
        // ±1.96 · √(0.08 − 0.0016) / √n
        assert!((many.high - many.low - 2.0 * 1.96 * 0.28 / 100.0).abs() < 1e-4);
        assert!(few.high - few.low > 9.0 * (many.high - many.low));
        let none = interval(&counted(0, 0, 50), HigherBetter, 0.0, 0.95).expect("a mean");
        assert!(none.low < 0.0 && none.high > 0.0, "no flip among 50 is not certainty");
    }

    #[test]
    fn an_interval_of_errors_is_normal_and_oriented() {
        let pairs = [(1.0, 1.5), (2.0, 2.5), (3.0, 3.8), (4.0, 4.2)];
        let found = interval(&pairs, HigherWorse, 0.5, 0.95).expect("a mean");
        assert!(((found.low + found.high) / 2.0 - 0.5).abs() < 1e-12);
        assert!((found.high - 0.5 - 1.959_964 * 0.06f64.sqrt() / 2.0).abs() < 1e-6, "{found:?}");
        assert_eq!(interval(&pairs, HigherWorse, 0.7, 0.95), None, "the metric is no mean over samples");
    }
}
