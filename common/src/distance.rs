//! How far a candidate's outputs are from the float model's: what may order candidates where metrics cannot tell them apart.

use crate::metric::MetricError;
use ndarray::ArrayD;

/// Distances of one sample's outputs, each the mean over the model's outputs.
///
/// 1. Normalised squared error, Σ(x − y)² / Σx² with the float model's x; where x is all zero, 0 for equal outputs, else 1.
/// 2. Cosine distance, 1 − x·y / (|x| |y|); where one of the two is all zero, 0 for equal outputs, else 1.
///
/// Sums are taken in f64, in element order. Source: the distances of OpenVINO POT and NNCF, restated.
///
/// # Errors
///
/// [`MetricError::Output`] where shapes differ or a distance is not finite.
pub fn distances(float: &[ArrayD<f32>], candidate: &[ArrayD<f32>]) -> Result<[f64; 2], MetricError> {
    let refuse = |problem: String| MetricError::Output { metric: "distance to the float model".to_owned(), problem };
    if float.len() != candidate.len() || float.is_empty() {
        return Err(refuse(format!("{} outputs were given, the float model has {}", candidate.len(), float.len())));
    }
    let mut sums = [0.0; 2];
    for (index, (x, y)) in float.iter().zip(candidate).enumerate() {
        if x.shape() != y.shape() {
            return Err(refuse(format!("output {index} has shape {:?}, the float model's {:?}", y.shape(), x.shape())));
        }
        let (mut error, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in x.iter().zip(y) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            error += (x - y) * (x - y);
            xx += x * x;
            yy += y * y;
            xy += x * y;
        }
        let unequal = if error == 0.0 { 0.0 } else { 1.0 };
        sums[0] += if xx == 0.0 { unequal } else { error / xx };
        sums[1] += if xx == 0.0 || yy == 0.0 { unequal } else { 1.0 - xy / (xx.sqrt() * yy.sqrt()) };
    }
    let means = sums.map(|sum| sum / float.len() as f64);
    if means.iter().all(|mean| mean.is_finite()) {
        return Ok(means);
    }
    Err(refuse("an output is not finite for this sample".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    fn outputs(values: &[f32]) -> Vec<ArrayD<f32>> {
        vec![arr1(values).into_dyn()]
    }

    fn of(x: &[f32], y: &[f32]) -> [f64; 2] {
        distances(&outputs(x), &outputs(y)).expect("distances")
    }

    #[test]
    fn normalised_squared_errors_are_those_of_the_specification() {
        assert!((of(&[2.0, 1.0, -1.0], &[-2.0, 4.0, 1.0])[0] - 29.0 / 6.0).abs() < 1e-12);
        assert!((of(&[-2.0, 4.0, 1.0], &[2.0, 1.0, -1.0])[0] - 29.0 / 21.0).abs() < 1e-12);
        assert_eq!(of(&[2.0, 4.0], &[2.0, 4.0])[0], 0.0);
    }

    #[test]
    fn cosine_distance_ignores_length() {
        assert!(of(&[0.0, 2.0], &[0.0, 4.0])[1].abs() < 1e-12);
        assert!((of(&[1.0, 1.0], &[-1.0, 1.0])[1] - 1.0).abs() < 1e-12);
        // 1 − 1 / √1.01, with 0.1 as an f32.
        assert!((of(&[1.0, 0.0], &[1.0, 0.1])[1] - (1.0 - 1.0 / 1.01_f64.sqrt())).abs() < 1e-9);
    }

    #[test]
    fn outputs_of_zeros_are_near_to_themselves_only() {
        assert_eq!(of(&[0.0; 3], &[0.0; 3]), [0.0; 2]);
        assert_eq!(of(&[0.0; 3], &[0.0, 1.0, 0.0]), [1.0; 2]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        assert!(distances(&outputs(&[1.0]), &outputs(&[1.0, 2.0])).is_err());
        assert!(distances(&outputs(&[1.0]), &[]).is_err());
        assert!(distances(&outputs(&[1.0]), &outputs(&[f32::INFINITY])).is_err());
    }
}
