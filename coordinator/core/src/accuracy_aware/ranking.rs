//! Which samples rank the groups, and in which order scores put them.

use crate::parameters::Mode;
use holdfast_common::metric::Orientation;
use holdfast_common::scheme::GroupId;
use std::cmp::Ordering;

/// Positions by how much the sample suffered, most first; samples without a value or with NaN are left out.
///
/// Equal samples keep their order; in compat mode they come in descending order, as a reversed ascending sort leaves
/// them.
pub(super) fn by_degradation(
    orientation: Orientation,
    float: &[Option<f64>],
    quantized: &[Option<f64>],
    mode: Mode,
) -> Vec<usize> {
    let pairs = float.iter().zip(quantized).enumerate();
    let mut suffered: Vec<(usize, f64)> = pairs
        .filter_map(|(position, (float, quantized))| {
            Some((position, orientation.sign() * (((*float)?) - (*quantized)?)))
        })
        .filter(|(_, degradation)| !degradation.is_nan())
        .collect();
    suffered.sort_by(|a, b| {
        let ties = match mode {
            Mode::Default => a.0.cmp(&b.0),
            Mode::Compat => b.0.cmp(&a.0),
        };
        compare(b.1, a.1).then(ties)
    });
    suffered.into_iter().map(|(position, _)| position).collect()
}

/// Numbers that are not NaN, with both zeros equal.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// A group with what it scored; higher is better whatever the metric's orientation, NaN is worst.
#[derive(Clone, Debug)]
pub(super) struct Scored {
    pub(super) group: GroupId,
    pub(super) name: String,
    /// The metric on the ranking subset when this group is reverted in addition.
    pub(super) value: f64,
    pub(super) score: f64,
}

impl Scored {
    pub(super) fn new(group: GroupId, name: &str, value: f64, orientation: Orientation) -> Scored {
        Scored { group, name: name.to_owned(), value, score: orientation.sign() * value }
    }
}

/// Puts the group whose reversion repairs most first. Equal scores go by name, ascending; in compat mode descending.
pub(super) fn sort(scored: &mut [Scored], mode: Mode) {
    let rank = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
    scored.sort_by(|a, b| {
        let ties = match mode {
            Mode::Default => a.name.cmp(&b.name),
            Mode::Compat => b.name.cmp(&a.name),
        };
        compare(rank(b.score), rank(a.score)).then(ties)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use Orientation::{HigherBetter, HigherWorse};

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    fn order(orientation: Orientation, float: &[f64], quantized: &[f64], mode: Mode) -> Vec<usize> {
        by_degradation(orientation, &some(float), &some(quantized), mode)
    }

    #[test]
    fn degraded_samples_come_first_and_improved_ones_last() {
        let (float, quantized) = ([1.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(order(HigherBetter, &float, &quantized, Mode::Compat), [4, 1, 2, 0, 3]);
        assert_eq!(order(HigherBetter, &float, &quantized, Mode::Default), [1, 4, 0, 2, 3]);
        assert_eq!(order(HigherWorse, &[0.1, 0.2, 0.3], &[0.5, 0.2, 0.1], Mode::Compat), [0, 1, 2]);
        assert_eq!(order(HigherWorse, &[0.1, 0.2, 0.3], &[0.5, 0.2, 0.1], Mode::Default), [0, 1, 2]);
    }

    #[test]
    fn equal_samples_keep_their_order_and_lose_it_in_compat_mode() {
        assert_eq!(order(HigherBetter, &[1.0; 4], &[1.0; 4], Mode::Compat), [3, 2, 1, 0]);
        assert_eq!(order(HigherBetter, &[1.0; 4], &[1.0; 4], Mode::Default), [0, 1, 2, 3]);
    }

    #[test]
    fn samples_without_a_value_are_not_selected() {
        let quantized = [Some(0.0), None, Some(f64::NAN), Some(1.0)];
        assert_eq!(by_degradation(HigherBetter, &some(&[1.0; 4]), &quantized, Mode::Default), [0, 3]);
    }

    #[test]
    fn the_group_that_repairs_most_is_first_in_both_orientations() {
        for (orientation, values) in [(HigherBetter, [0.1, 0.9, 0.5]), (HigherWorse, [0.9, 0.1, 0.5])] {
            let scored = |(index, value): (usize, &f64)| {
                Scored::new(GroupId(index as u32), &format!("g{index}"), *value, orientation)
            };
            let mut all: Vec<Scored> = values.iter().enumerate().map(scored).collect();
            sort(&mut all, Mode::Default);
            assert_eq!(all.iter().map(|scored| scored.group.0).collect::<Vec<_>>(), [1, 2, 0]);
        }
    }

    #[test]
    fn equal_scores_go_by_name_and_undefined_ones_are_last() {
        let build = |mode| {
            let values = [("b", 0.5), ("a", 0.5), ("n", f64::NAN), ("c", 0.5)];
            let mut all: Vec<Scored> = values.map(|(n, v)| Scored::new(GroupId(0), n, v, HigherBetter)).to_vec();
            sort(&mut all, mode);
            all.into_iter().map(|scored| scored.name).collect::<String>()
        };
        assert_eq!((build(Mode::Default).as_str(), build(Mode::Compat).as_str()), ("abcn", "cban"));
    }
}
