//! The parameters that tuning tries, in order.
//!
//! Source: POT's hyperparameter search and NNCF's coordinate descent, restated.

use crate::parameters::{
    EndParameters, Mode, Preset, QuantizationParameters, RangeEstimatorParameters, StatisticKind, TensorParameters,
};
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_common::quantization::statistics::Aggregator;

/// Shares of outliers that are tried.
const SHARES: [f64; 2] = [1e-3, 1e-4];

/// Parameters to try, and what is special about them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) change: String,
    pub(super) parameters: QuantizationParameters,
}

/// What the default search changes, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinate {
    /// The symmetry of activations, as the presets have it.
    Preset,
    /// The range estimator of weights.
    Weights,
    /// The range estimator of activations.
    Activations,
    /// Which bias correction.
    Bias,
}

/// The coordinates in the order they are searched.
pub(super) const COORDINATES: [Coordinate; 4] =
    [Coordinate::Preset, Coordinate::Weights, Coordinate::Activations, Coordinate::Bias];

/// A statistic at an end of a range, as a person reads it.
type End = (String, EndParameters);

/// Values of a coordinate beside the one that `from` has.
pub(super) fn values(coordinate: Coordinate, from: &QuantizationParameters) -> Vec<Trial> {
    let with = |change: String, edit: &dyn Fn(&mut QuantizationParameters)| {
        let mut parameters = from.clone();
        edit(&mut parameters);
        Trial { change, parameters }
    };
    let trials: Vec<Trial> = match coordinate {
        Coordinate::Preset => match from.symmetry(TensorClass::Activations) {
            Symmetry::Symmetric => {
                vec![with("mixed preset".to_owned(), &|parameters| *parameters = parameters.converted_to_mixed())]
            }
            Symmetry::Asymmetric => vec![with("performance preset".to_owned(), &|parameters| {
                parameters.preset = Preset::Performance;
                parameters.activations.mode = parameters.activations.mode.map(|_| Symmetry::Symmetric);
            })],
        },
        Coordinate::Weights => {
            let extremes = (StatisticKind::Min, StatisticKind::Max);
            let ranges =
                std::iter::once(("extremes".to_owned(), extremes, None)).chain(SHARES.map(|p| {
                    (format!("quantiles at {p:e}"), (StatisticKind::Quantile, StatisticKind::Quantile), Some(p))
                }));
            ranges
                .map(|(name, (low, high), outlier_prob)| {
                    let end =
                        |statistic| EndParameters { statistic: Some(statistic), outlier_prob, ..Default::default() };
                    let estimator = RangeEstimatorParameters { min: end(low), max: end(high), ..Default::default() };
                    with(format!("weights by {name}"), &|parameters| {
                        parameters.weights.range_estimator = Some(estimator);
                    })
                })
                .collect()
        }
        Coordinate::Activations => activation_ranges()
            .map(|(name, estimator)| with(name, &|parameters| parameters.activations.range_estimator = Some(estimator)))
            .collect(),
        Coordinate::Bias => bias_corrections().map(|(name, fast)| with(name, &|p| p.use_fast_bias = fast)).to_vec(),
    };
    trials.into_iter().filter(|trial| trial.parameters != *from).collect()
}

/// POT's first ten trials. Each replaces a whole section, so that its mode, bits and granularity become POT's defaults;
/// only the granularity of activations stays, for integer kernels do not have every one.
pub(super) fn compat_ranges(from: &QuantizationParameters) -> Vec<Trial> {
    let end = |statistic| EndParameters { statistic: Some(statistic), ..Default::default() };
    let extremes =
        RangeEstimatorParameters { min: end(StatisticKind::Min), max: end(StatisticKind::Max), ..Default::default() };
    let weights = TensorParameters { range_estimator: Some(extremes), ..Default::default() };
    let mut trials = vec![Trial {
        change: "weights by extremes".to_owned(),
        parameters: QuantizationParameters { weights, ..from.clone() },
    }];
    trials.extend(activation_ranges().map(|(change, estimator)| {
        let activations = TensorParameters {
            range_estimator: Some(estimator),
            granularity: from.activations.granularity,
            ..Default::default()
        };
        Trial { change, parameters: QuantizationParameters { activations, ..from.clone() } }
    }));
    trials
}

/// POT's last two trials, on top of the best of the first ten.
pub(super) fn compat_biases(best: &QuantizationParameters) -> Vec<Trial> {
    let trial =
        |(change, fast)| Trial { change, parameters: QuantizationParameters { use_fast_bias: fast, ..best.clone() } };
    bias_corrections().map(trial).to_vec()
}

/// Parameters that need all statistics that any trial can need.
pub(super) fn all_statistics(mode: Mode, bases: &[QuantizationParameters]) -> Vec<QuantizationParameters> {
    let mut all = Vec::new();
    for base in bases {
        let ranges: Vec<QuantizationParameters> = match mode {
            Mode::Compat => compat_ranges(base).into_iter().map(|trial| trial.parameters).collect(),
            Mode::Default => {
                let both = |from: &QuantizationParameters, coordinate| {
                    let others = values(coordinate, from).into_iter().map(|trial| trial.parameters);
                    std::iter::once(from.clone()).chain(others).collect::<Vec<_>>()
                };
                let presets = both(base, Coordinate::Preset);
                presets.iter().flat_map(|from| both(from, Coordinate::Activations)).collect()
            }
        };
        all.extend(ranges.iter().flat_map(compat_biases).map(|trial| trial.parameters));
    }
    all
}

/// All pairs of a lower and an upper end; the lower varies slowest.
fn activation_ranges() -> impl Iterator<Item = (String, RangeEstimatorParameters)> {
    let [low, high] =
        [ends("minimum", StatisticKind::Min, Aggregator::Min), ends("maximum", StatisticKind::Max, Aggregator::Max)];
    low.into_iter().flat_map(move |(low_name, min)| {
        high.clone().into_iter().map(move |(high_name, max)| {
            let estimator = RangeEstimatorParameters { min, max, ..Default::default() };
            (format!("activations from {low_name} to {high_name}"), estimator)
        })
    })
}

/// The extreme of all samples, and means of quantiles.
fn ends(extreme: &str, statistic: StatisticKind, aggregator: Aggregator) -> Vec<End> {
    let end = |statistic, outlier_prob, aggregator| EndParameters {
        statistic: Some(statistic),
        outlier_prob,
        aggregator: Some(aggregator),
        ..Default::default()
    };
    let quantiles =
        SHARES.map(|p| (format!("mean quantile at {p:e}"), end(StatisticKind::Quantile, Some(p), Aggregator::Mean)));
    std::iter::once((format!("the {extreme} of all"), end(statistic, None, aggregator))).chain(quantiles).collect()
}

fn bias_corrections() -> [(String, bool); 2] {
    [("fast bias correction".to_owned(), true), ("full bias correction".to_owned(), false)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::quantization::params::Width;

    fn statistics(trial: &Trial) -> [(StatisticKind, Option<f64>, Option<Aggregator>); 2] {
        let estimator = trial.parameters.activations.range_estimator.expect("an estimator");
        [estimator.min, estimator.max].map(|end| (end.statistic.expect("a type"), end.outlier_prob, end.aggregator))
    }

    #[test]
    fn compat_mode_has_the_twelve_trials_of_pot_in_its_order() {
        let base = QuantizationParameters::default();
        let ranges = compat_ranges(&base);
        let weights = ranges[0].parameters.weights.range_estimator.expect("an estimator");
        let types = (weights.min.statistic, weights.max.statistic);
        assert_eq!(types, (Some(StatisticKind::Min), Some(StatisticKind::Max)));
        assert_eq!(ranges[0].parameters.activations, base.activations);
        let (min, max) = (StatisticKind::Min, StatisticKind::Max);
        let quantile = |p| (StatisticKind::Quantile, Some(p), Some(Aggregator::Mean));
        let lows = [(min, None, Some(Aggregator::Min)), quantile(1e-3), quantile(1e-4)];
        let highs = [(max, None, Some(Aggregator::Max)), quantile(1e-3), quantile(1e-4)];
        let expected: Vec<_> = lows.iter().flat_map(|low| highs.iter().map(|high| [*low, *high])).collect();
        assert_eq!(ranges[1..].iter().map(statistics).collect::<Vec<_>>(), expected);
        assert!(ranges[1..].iter().all(|trial| trial.parameters.weights == base.weights));
        let biases = compat_biases(&ranges[4].parameters);
        assert_eq!(biases.iter().map(|trial| trial.parameters.use_fast_bias).collect::<Vec<_>>(), [true, false]);
        assert!(biases.iter().all(|trial| trial.parameters.activations == ranges[4].parameters.activations));
        assert_eq!(ranges.len() + biases.len(), 12);
    }

    #[test]
    fn compat_mode_forgets_what_the_user_set_in_a_section_and_default_mode_keeps_it() {
        let section = TensorParameters {
            mode: Some(Symmetry::Asymmetric),
            width: Width { bits: 6, ..Default::default() },
            ..Default::default()
        };
        let base = QuantizationParameters { weights: section, activations: section, ..Default::default() };
        let compat = compat_ranges(&base);
        assert_eq!((compat[0].parameters.weights.mode, compat[0].parameters.weights.width.bits), (None, 8));
        assert_eq!((compat[1].parameters.activations.mode, compat[1].parameters.activations.width.bits), (None, 8));
        for coordinate in [Coordinate::Weights, Coordinate::Activations] {
            for trial in values(coordinate, &base) {
                let kept = trial.parameters.weights;
                assert_eq!((kept.mode, kept.width), (section.mode, section.width));
                let kept = trial.parameters.activations;
                assert_eq!((kept.mode, kept.width), (section.mode, section.width));
            }
        }
    }

    #[test]
    fn the_default_search_changes_one_thing_at_a_time() {
        let base = QuantizationParameters::default();
        let counts = COORDINATES.map(|coordinate| values(coordinate, &base).len());
        assert_eq!(counts, [1, 3, 9, 1]);
        let mixed = &values(Coordinate::Preset, &base)[0].parameters;
        assert_eq!(mixed.symmetry(TensorClass::Activations), Symmetry::Asymmetric);
        let back = &values(Coordinate::Preset, mixed)[0].parameters;
        assert_eq!(back.symmetry(TensorClass::Activations), Symmetry::Symmetric);
    }
}
