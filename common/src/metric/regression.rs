//! Error sums over target elements: what mean squared, root mean squared and mean absolute error share.

use super::input::Input;
use super::{MetricError, Outputs};
use crate::dataset::Annotation;

/// `[sum of errors, elements]`, summed in f64 in ascending element order.
pub(super) fn contribution(
    input: &Input,
    outputs: &Outputs<'_>,
    annotation: &Annotation,
    error: impl Fn(f64) -> f64,
) -> Result<Vec<f64>, MetricError> {
    let (values, targets) = input.targets(outputs, annotation)?;
    let mut sum = 0.0;
    for (value, target) in values.iter().zip(targets) {
        sum += error(f64::from(*value) - f64::from(*target));
    }
    Ok(vec![sum, targets.len() as f64])
}

/// Mean error of one sample's elements.
pub(super) fn mean_of_one(
    input: &Input,
    outputs: &Outputs<'_>,
    annotation: &Annotation,
    error: impl Fn(f64) -> f64,
) -> Result<f64, MetricError> {
    let contribution = contribution(input, outputs, annotation, error)?;
    sample_mean(&contribution).ok_or_else(|| input.broken("no sum of errors"))
}

/// No errors in as many elements as a contribution counts; sums of errors are never negative.
pub(super) fn without_errors(contribution: &[f64]) -> Option<Vec<f64>> {
    match contribution {
        [_, elements] => Some(vec![0.0, *elements]),
        _ => None,
    }
}

/// Mean error of one sample.
pub(super) fn sample_mean(contribution: &[f64]) -> Option<f64> {
    match contribution {
        [errors, elements] => Some(errors / elements),
        _ => None,
    }
}
