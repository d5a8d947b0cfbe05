//! What is observed at each end of a range: the preset's choice, replaced key by key by what the user set.

use crate::error::CoreError;
use crate::parameters::{EndParameters, EstimatorPreset, Granularity, Mode, QuantizationParameters, StatisticKind};
use holdfast_common::evaluation::Statistic;
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_common::quantization::statistics::Aggregator;

/// Share of outliers that the quantile preset cuts off at each end.
const QUANTILE_PRESET_SHARE: f64 = 1e-4;

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndEstimator {
    /// Taken of every sample, or of the weights.
    pub statistic: Statistic,
    /// Makes one value of those of all samples; weights are one sample.
    pub aggregator: Aggregator,
    /// `None`: one value for the whole tensor; else the axis whose slices have one each.
    pub axis: Option<usize>,
    /// The end lies no further out than this.
    pub clipping: Option<f64>,
}

/// Both ends. In symmetric mode the lower one only tells signed from unsigned activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeEstimator {
    /// Lower end.
    pub min: EndEstimator,
    /// Upper end.
    pub max: EndEstimator,
}

/// The tensor a range is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) class: TensorClass,
    pub(super) symmetry: Symmetry,
    /// The quantizer's axis.
    pub(super) axis: Option<usize>,
    /// The axis that statistics per channel have, whatever the quantizer does.
    pub(super) channel_axis: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

/// The estimator of a tensor. The user's `range_estimator` is that of the class of tensors, else the one above both.
///
/// # Errors
///
/// A quantile without `outlier_prob` where the preset has none, and numbers that mean nothing.
pub(super) fn range_estimator(
    parameters: &QuantizationParameters,
    mode: Mode,
    target: Target,
) -> Result<RangeEstimator, CoreError> {
    let user = parameters.tensor(target.class).range_estimator.or(parameters.range_estimator).unwrap_or_default();
    Ok(RangeEstimator {
        min: end(Side::Min, user.preset, user.min, mode, target)?,
        max: end(Side::Max, user.preset, user.max, mode, target)?,
    })
}

fn end(
    side: Side,
    preset: EstimatorPreset,
    user: EndParameters,
    mode: Mode,
    target: Target,
) -> Result<EndEstimator, CoreError> {
    let symmetric = target.symmetry == Symmetry::Symmetric;
    let sign_only = symmetric && side == Side::Min;
    let quantile = preset == EstimatorPreset::Quantile && !sign_only;
    let kind = user.statistic.unwrap_or(match (side, symmetric, quantile) {
        (_, false, true) => StatisticKind::Quantile,
        (Side::Min, ..) => StatisticKind::Min,
        (Side::Max, false, false) => StatisticKind::Max,
        (Side::Max, true, false) => StatisticKind::AbsMax,
        (Side::Max, true, true) => StatisticKind::AbsQuantile,
    });
    // A symmetric range is made of a magnitude; POT takes the signed extreme where it is told to.
    let kind = match kind {
        StatisticKind::Max if symmetric && side == Side::Max && mode == Mode::Default => StatisticKind::AbsMax,
        StatisticKind::Quantile if symmetric && side == Side::Max && mode == Mode::Default => {
            StatisticKind::AbsQuantile
        }
        kind => kind,
    };
    let share = user.outlier_prob.or(quantile.then_some(QUANTILE_PRESET_SHARE));
    let extremes = target.axis.is_some();
    let aggregator = user.aggregator.unwrap_or(match side {
        Side::Min if extremes || symmetric => Aggregator::Min,
        Side::Max if extremes => Aggregator::Max,
        Side::Min | Side::Max => Aggregator::Mean,
    });
    let axis = match user.granularity {
        Some(Granularity::PerTensor) => None,
        Some(Granularity::PerChannel) => target.channel_axis,
        // The sign of a symmetric range is a question to the whole tensor.
        None => target.axis.filter(|_| !sign_only),
    };
    if let Some(clipping) = user.clipping_value
        && !clipping.is_finite()
    {
        return refuse(side, format!("`clipping_value` is {clipping}, but must be a finite number"));
    }
    Ok(EndEstimator { statistic: statistic(side, kind, share)?, aggregator, axis, clipping: user.clipping_value })
}

fn statistic(side: Side, kind: StatisticKind, share: Option<f64>) -> Result<Statistic, CoreError> {
    let quantile: fn(f64) -> Statistic = match kind {
        StatisticKind::Min => return Ok(Statistic::Min),
        StatisticKind::Max => return Ok(Statistic::Max),
        StatisticKind::AbsMax => return Ok(Statistic::AbsMax),
        StatisticKind::Quantile => Statistic::Quantile,
        StatisticKind::AbsQuantile => Statistic::AbsQuantile,
    };
    match share {
        None => refuse(side, "a quantile needs `outlier_prob`, for instance 0.0001".to_owned()),
        Some(share) if !(0.0..1.0).contains(&share) => {
            refuse(side, format!("`outlier_prob` is {share}, but must be at least 0 and below 1"))
        }
        Some(share) if side == Side::Min => Ok(quantile(share)),
        Some(share) => Ok(quantile(1.0 - share)),
    }
}

fn refuse<T>(side: Side, problem: String) -> Result<T, CoreError> {
    let parameter = match side {
        Side::Min => "range_estimator.min",
        Side::Max => "range_estimator.max",
    };
    Err(CoreError::Parameter { parameter, problem })
}
