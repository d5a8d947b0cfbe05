//! Pairs of predicted and true numbers: what Pearson's and Spearman's correlation share.

use super::input::Input;
use super::{MetricError, Outputs};
use crate::dataset::Annotation;

/// `[prediction, target]` of an output of one number.
pub(super) fn contribution(
    input: &Input,
    outputs: &Outputs<'_>,
    annotation: &Annotation,
) -> Result<Vec<f64>, MetricError> {
    let (values, targets) = input.targets(outputs, annotation)?;
    match (values.as_ref(), targets) {
        ([value], [target]) => Ok(vec![f64::from(*value), f64::from(*target)]),
        (values, _) => Err(input.output_error(format!(
            "the output has {} elements a sample, but a correlation compares one number a sample; choose another output",
            values.len()
        ))),
    }
}

/// Predictions and targets of all samples.
pub(super) fn collect(
    input: &Input,
    contributions: &mut dyn Iterator<Item = &[f64]>,
) -> Result<(Vec<f64>, Vec<f64>), MetricError> {
    let (mut predictions, mut targets) = (Vec::new(), Vec::new());
    input.fold_each(contributions, |[prediction, target]| {
        predictions.push(prediction);
        targets.push(target);
        Ok(())
    })?;
    Ok((predictions, targets))
}

/// Covariance over the root of both variances, between −1 and 1; 0 where either does not vary.
pub(super) fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut product, mut square_x, mut square_y) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        product += x * y;
        square_x += x * x;
        square_y += y * y;
    }
    let scale = square_x.sqrt() * square_y.sqrt();
    if scale == 0.0 { 0.0 } else { (product / scale).clamp(-1.0, 1.0) }
}
