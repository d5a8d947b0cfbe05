//! Baselines, limits and drops: what has to hold, and how far a model is from it.

use crate::parameters::{DropType, Mode, Parameters};
use holdfast_common::metric::Orientation;

/// Stands in for a baseline of zero where something is divided by it.
const SMALLEST_BASELINE: f64 = 1e-8;

/// The limits of all constrained metrics; lists are in the order of these metrics.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub(super) orientations: Vec<Orientation>,
    pub(super) baseline: Vec<f64>,
    /// Largest allowed drops.
    pub(super) limits: Vec<f64>,
    mode: Mode,
}

impl Goal {
    pub(super) fn new(orientations: Vec<Orientation>, baseline: Vec<f64>, parameters: &Parameters) -> Goal {
        let limit = |baseline: &f64| match (parameters.drop_type, parameters.mode) {
            (DropType::Absolute, _) => parameters.maximal_drop,
            (DropType::Relative, Mode::Compat) => parameters.maximal_drop * baseline,
            (DropType::Relative, Mode::Default) => parameters.maximal_drop * baseline.abs(),
        };
        let limits = baseline.iter().map(limit).collect();
        Goal { orientations, baseline, limits, mode: parameters.mode }
    }

    /// Positive is worse than the baseline, in the metric's own unit.
    pub(super) fn drops(&self, values: &[f64]) -> Vec<f64> {
        values.iter().enumerate().map(|(metric, value)| self.drop(metric, *value)).collect()
    }

    /// The drop of one metric.
    pub(super) fn drop(&self, metric: usize, value: f64) -> f64 {
        self.orientations[metric].sign() * (self.baseline[metric] - value)
    }

    /// Whether every drop is within its limit; the limit itself is.
    pub(super) fn is_met(&self, drops: &[f64]) -> bool {
        drops.iter().zip(&self.limits).all(|(drop, limit)| drop <= limit)
    }

    /// How far a metric is beyond its limit, as a share of its baseline; negative within.
    fn excess(&self, drops: &[f64], metric: usize) -> f64 {
        (drops[metric] - self.limits[metric]) / self.baseline[metric].abs().max(SMALLEST_BASELINE)
    }

    /// The largest excess over all metrics: the one number by which states compare.
    pub(super) fn violation(&self, drops: &[f64]) -> f64 {
        (0..drops.len()).map(|metric| self.excess(drops, metric)).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The metric that is furthest beyond its limit; of equal ones the first, in compat mode the last.
    pub(super) fn target(&self, drops: &[f64]) -> usize {
        let mut target = 0;
        for metric in 1..drops.len() {
            let (excess, largest) = (self.excess(drops, metric), self.excess(drops, target));
            if excess > largest || (self.mode == Mode::Compat && excess == largest) {
                target = metric;
            }
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Orientation::{HigherBetter, HigherWorse};

    fn goal(orientation: Orientation, baseline: f64, maximal_drop: f64, drop_type: DropType) -> Goal {
        Goal::new(vec![orientation], vec![baseline], &Parameters { maximal_drop, drop_type, ..Default::default() })
    }

    #[test]
    fn a_drop_is_positive_where_the_model_is_worse() {
        assert!(goal(HigherBetter, 0.8, 0.01, DropType::Absolute).drops(&[0.7])[0] > 0.0);
        assert!(goal(HigherWorse, 0.8, 0.01, DropType::Absolute).drops(&[0.7])[0] < 0.0);
    }

    #[test]
    fn the_limit_itself_is_allowed_without_tolerance() {
        let goal = goal(HigherBetter, 1.0, 0.04, DropType::Absolute);
        assert!(goal.is_met(&[0.04]));
        assert!(!goal.is_met(&goal.drops(&[0.96])), "1 − 0.96 is above 0.04 in binary");
    }

    #[test]
    fn relative_limits_are_shares_of_the_baseline_and_zero_allows_nothing() {
        assert_eq!(goal(HigherBetter, 0.5, 0.01, DropType::Relative).limits, [0.005]);
        assert_eq!(goal(HigherBetter, -0.5, 0.01, DropType::Relative).limits, [0.005]);
        let zero = goal(HigherWorse, 0.0, 0.01, DropType::Relative);
        assert_eq!(zero.limits, [0.0]);
        assert!(zero.is_met(&zero.drops(&[0.0])) && !zero.is_met(&zero.drops(&[0.1])));
        assert!(zero.violation(&zero.drops(&[0.1])).is_finite());
        let compat = Parameters { mode: Mode::Compat, drop_type: DropType::Relative, ..Default::default() };
        assert!(Goal::new(vec![HigherBetter], vec![-0.5], &compat).limits[0] < 0.0);
    }

    #[test]
    fn improvements_are_accepted_and_losses_are_shares_of_the_size_of_the_baseline() {
        for mode in [Mode::Default, Mode::Compat] {
            let judged = |drop_type, baseline: f64, value: f64| {
                let parameters = Parameters { mode, drop_type, maximal_drop: 0.01, ..Default::default() };
                let goal = Goal::new(vec![HigherBetter], vec![baseline], &parameters);
                let drops = goal.drops(&[value]);
                let share = goal.violation(&drops) + goal.limits[0] / baseline.abs();
                (goal.is_met(&drops), drops[0], share)
            };
            for (drop_type, baseline, value, is_met, drop, share) in [
                (DropType::Absolute, 0.2923, 0.3185, true, -0.0262, -0.0896339),
                (DropType::Absolute, 0.3185, 0.2923, false, 0.0262, 0.08226059),
                (DropType::Relative, 0.3185, 0.2923, false, 0.0262, 0.08226059),
                (DropType::Relative, -0.2923, -0.3185, false, 0.0262, 0.0896339),
                (DropType::Relative, 0.2923, 0.3185, true, -0.0262, -0.0896339),
                (DropType::Relative, -0.3185, -0.2923, true, -0.0262, -0.08226059),
            ] {
                let found = judged(drop_type, baseline, value);
                assert_eq!(found.0, is_met, "{mode:?} {drop_type:?} {baseline} {value}");
                // Shares are printed with eight decimals at most.
                assert!((found.1 - drop).abs() < 1e-12 && (found.2 - share).abs() < 1e-7, "{mode:?} {found:?}");
            }
            // POT's limit is negative where the baseline is: it wants an improvement of that size.
            assert_eq!(judged(DropType::Relative, -0.3185, -0.3181).0, mode == Mode::Default);
        }
    }

    #[test]
    fn of_equally_exceeded_metrics_the_first_is_the_target_and_in_compat_mode_the_last() {
        let both = |mode| {
            let parameters = Parameters { mode, ..Default::default() };
            Goal::new(vec![HigherBetter; 2], vec![1.0; 2], &parameters).target(&[0.05, 0.05])
        };
        assert_eq!((both(Mode::Default), both(Mode::Compat)), (0, 1));
    }
}
