//! Functions of contiguous rows beside softmax and layer normalization: norms, running sums, channel normalizations.

use crate::Isa;
use crate::float::{Unary, math, max, mean, sum, sum_of_squares, unary};

/// The sum of absolute values, added as [`sum`] does.
pub fn sum_of_absolutes(isa: Isa, values: &[f32], scratch: &mut Vec<f32>) -> f32 {
    mapped_sum(isa, Unary::Abs, values, scratch)
}

/// `ln(sum of e^(x - m)) + m` with the greatest value m (0 where it is not finite), the sum as [`sum`] adds.
pub fn log_sum_exp(isa: Isa, values: &[f32], scratch: &mut Vec<f32>) -> f32 {
    let greatest = max(isa, values);
    let shift = if greatest.is_finite() { greatest } else { 0.0 };
    scratch.clear();
    scratch.extend(values.iter().map(|value| math::exp(value - shift)));
    math::log(sum(isa, scratch)) + shift
}

fn mapped_sum(isa: Isa, function: Unary, values: &[f32], scratch: &mut Vec<f32>) -> f32 {
    scratch.clear();
    scratch.resize(values.len(), 0.0);
    unary(isa, function, values, scratch);
    sum(isa, scratch)
}

/// The row divided by its Euclidean norm, or by the sum of its absolute values; zeros where that is 0.
pub fn lp_normalize(isa: Isa, absolute: bool, row: &[f32], output: &mut [f32]) {
    let norm = match absolute {
        true => sum_of_absolutes(isa, row, &mut Vec::new()),
        false => sum_of_squares(isa, row).sqrt(),
    };
    for (to, &value) in output.iter_mut().zip(row) {
        *to = if norm == 0.0 { 0.0 } else { value / norm };
    }
}

/// Running sums in f32, in the order they run; `exclusive` leaves each element's own value out.
pub fn running_sum(exclusive: bool, reverse: bool, row: &[f32], output: &mut [f32]) {
    let mut total = 0.0;
    let mut step = |to: &mut f32, value: f32| {
        let before = total;
        total += value;
        *to = if exclusive { before } else { total };
    };
    let pairs = output.iter_mut().zip(row);
    if reverse {
        pairs.rev().for_each(|(to, &value)| step(to, value));
    } else {
        pairs.for_each(|(to, &value)| step(to, value));
    }
}

/// Normalization of channels in groups: `x` holds `channels` runs of `inner` values, `scale` and `bias` one value a
/// channel; per group `d = x - mean; y = fma(d * r, scale, bias)`, `r = 1 / sqrt(sum of d^2 / n + epsilon)`.
///
/// # Panics
///
/// If the lengths do not fit.
pub fn group_normalize(
    isa: Isa,
    groups: usize,
    epsilon: f32,
    scale: &[f32],
    bias: &[f32],
    x: &[f32],
    output: &mut [f32],
) {
    let channels = scale.len();
    assert!(groups > 0 && channels.is_multiple_of(groups), "{channels} channels in {groups} groups");
    assert!(x.len() == output.len() && bias.len() == channels, "lengths that do not fit");
    if channels == 0 || x.is_empty() {
        return;
    }
    let (inner, size) = (x.len() / channels, x.len() / groups);
    for group in 0..groups {
        let (from, to) = (&x[group * size..][..size], &mut output[group * size..][..size]);
        let mean = mean(isa, from);
        for (to, &value) in to.iter_mut().zip(from) {
            *to = value - mean;
        }
        let factor = 1.0 / (sum_of_squares(isa, to) / size as f32 + epsilon).sqrt();
        let first = group * (channels / groups);
        for (index, values) in to.chunks_exact_mut(inner.max(1)).enumerate() {
            let (scale, bias) = (scale[first + index], bias[first + index]);
            for value in values {
                *value = (*value * factor).mul_add(scale, bias);
            }
        }
    }
}

/// Local response normalization of one sample, `channels` runs of `inner` values:
/// `y = x / (bias + alpha / size * sum of squares of the channels around)^beta`, squares added in channel order.
pub fn local_response(
    [size, channels, inner]: [usize; 3],
    [alpha, beta, bias]: [f32; 3],
    x: &[f32],
    output: &mut [f32],
) {
    let factor = alpha / size as f32;
    for channel in 0..channels {
        let first = channel.saturating_sub((size - 1) / 2);
        let end = (channel + (size - 1).div_ceil(2) + 1).min(channels);
        for at in 0..inner {
            let mut squares = 0.0f32;
            for other in first..end {
                let value = x[other * inner + at];
                squares = value.mul_add(value, squares);
            }
            let divisor = math::pow(factor.mul_add(squares, bias), beta);
            output[channel * inner + at] = x[channel * inner + at] / divisor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_sums_follow_their_direction() {
        let of = |exclusive, reverse| {
            let mut output = [0.0; 3];
            running_sum(exclusive, reverse, &[1.0, 2.0, 4.0], &mut output);
            output
        };
        assert_eq!(of(false, false), [1.0, 3.0, 7.0]);
        assert_eq!(of(true, false), [0.0, 1.0, 3.0]);
        assert_eq!(of(false, true), [7.0, 6.0, 4.0]);
        assert_eq!(of(true, true), [6.0, 4.0, 0.0]);
    }

    #[test]
    fn a_normalized_group_has_mean_0_and_variance_1_before_scale_and_bias() {
        let x = [1.0, 3.0, -1.0, 5.0, 10.0, 30.0, 20.0, 20.0];
        let mut output = [0.0; 8];
        group_normalize(Isa::Scalar, 2, 0.0, &[1.0, 2.0, 1.0, 1.0], &[0.0, 5.0, 0.0, 0.0], &x, &mut output);
        let root = 5f32.sqrt();
        let expected = [-1.0 / root, 1.0 / root, 5.0 - 6.0 / root, 5.0 + 6.0 / root];
        for (found, expected) in output.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_logarithm_of_a_sum_of_exponentials_does_not_overflow() {
        let found = log_sum_exp(Isa::Scalar, &[200.0, 200.0], &mut Vec::new());
        assert!((found - (200.0 + 2f32.ln())).abs() < 1e-4);
        assert_eq!(log_sum_exp(Isa::Scalar, &[f32::NEG_INFINITY; 2], &mut Vec::new()), f32::NEG_INFINITY);
    }
}
