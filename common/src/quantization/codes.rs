//! From real values to integer codes: the one definition that worker and exporter use.
//!
//! real = scale × (code − zero point); codes round half to even (ONNX QuantizeLinear). Divisions of weights and
//! activations are single precision, as the runtimes that execute the exported model do them; bias codes divide in double
//! precision by the single precision product of the two scales.

use crate::scheme::{CodeType, QuantParams};
use ndarray::{ArrayD, Axis};

/// Bias codes stay within ± this, so that a 32-bit accumulator has room for the products.
pub const BIAS_CODE_MAX: i32 = 1 << 30;

/// Quant params that do not fit what they are applied to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodesError {
    /// The params' axis is not one of the array's.
    #[error("quant params are per slice of axis {axis}, the tensor has shape {shape:?}")]
    Axis {
        /// The axis.
        axis: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// Numbers of scales, zero points and slices differ.
    #[error("{scales} scales and {zero_points} zero points do not fit {slices} slices")]
    Count {
        /// Scales given.
        scales: usize,
        /// Zero points given.
        zero_points: usize,
        /// Slices to quantize.
        slices: usize,
    },
    /// A scale that is not positive and finite.
    #[error("scale {scale} of slice {slice} is not a positive finite number")]
    Scale {
        /// The scale.
        scale: f32,
        /// The slice.
        slice: usize,
    },
    /// Codes outside the storage, or a zero point outside the codes.
    #[error("codes {code_min} to {code_max} with zero point {zero_point} do not fit 8-bit storage")]
    Range {
        /// Smallest code.
        code_min: i32,
        /// Largest code.
        code_max: i32,
        /// Zero point.
        zero_point: i32,
    },
    /// A bias too large for its scale.
    #[error(
        "bias {bias} of channel {channel} does not fit a 32-bit code at scale {scale}; \
         the channel's weight scale must be enlarged first"
    )]
    Bias {
        /// The channel.
        channel: usize,
        /// The bias.
        bias: f32,
        /// Product of input and weight scale.
        scale: f32,
    },
}

/// The code of one value: `clamp(round_half_even(x / scale) + zero_point, code_min, code_max)`.
///
/// NaN becomes the zero point; infinities become the limits. `code_min ≤ zero_point ≤ code_max` is the caller's promise.
#[inline]
pub fn quantize_code(x: f32, scale: f32, zero_point: i32, code_min: i32, code_max: i32) -> i32 {
    let steps = (x / scale).round_ties_even();
    // The bounds are small integers, so this clamp is exact; NaN passes it and the conversion makes it 0.
    steps.clamp((code_min - zero_point) as f32, (code_max - zero_point) as f32) as i32 + zero_point
}

/// Checks params against a number of slices (1 for a tensor as a whole) and 8-bit signed or unsigned storage.
pub fn check_params(params: &QuantParams, slices: usize) -> Result<(), CodesError> {
    if params.scales.len() != slices || params.zero_points.len() != slices {
        let (scales, zero_points) = (params.scales.len(), params.zero_points.len());
        return Err(CodesError::Count { scales, zero_points, slices });
    }
    if let Some((slice, &scale)) = params.scales.iter().enumerate().find(|(_, scale)| !is_scale(**scale)) {
        return Err(CodesError::Scale { scale, slice });
    }
    let storage = match params.code_type {
        CodeType::U8 => 0..=255,
        CodeType::I8 => -128..=127,
    };
    let (code_min, code_max) = (params.code_min, params.code_max);
    let fits = code_min < code_max && storage.contains(&code_min) && storage.contains(&code_max);
    let outside = params.zero_points.iter().find(|zero_point| !fits || !(code_min..=code_max).contains(zero_point));
    match outside {
        Some(&zero_point) => Err(CodesError::Range { code_min, code_max, zero_point }),
        None => Ok(()),
    }
}

fn is_scale(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

/// The number of slices that params have for a tensor of this shape.
pub fn slice_count(params: &QuantParams, shape: &[usize]) -> Result<usize, CodesError> {
    match params.axis {
        None => Ok(1),
        Some(axis) => shape.get(axis).copied().ok_or_else(|| CodesError::Axis { axis, shape: shape.to_vec() }),
    }
}

/// The codes of a weight tensor, in its own layout.
pub fn quantize_weights(weights: &ArrayD<f32>, params: &QuantParams) -> Result<ArrayD<i8>, CodesError> {
    let slices = slice_count(params, weights.shape())?;
    check_params(params, slices)?;
    let (code_min, code_max) = (params.code_min, params.code_max);
    let code = |value: f32, slice: usize| {
        quantize_code(value, params.scales[slice], params.zero_points[slice], code_min, code_max) as i8
    };
    let Some(axis) = params.axis else { return Ok(weights.mapv(|value| code(value, 0))) };
    let mut codes = ArrayD::zeros(weights.raw_dim());
    let pairs = codes.axis_iter_mut(Axis(axis)).zip(weights.axis_iter(Axis(axis)));
    for (slice, (mut target, source)) in pairs.enumerate() {
        target.zip_mut_with(&source, |target, &value| *target = code(value, slice));
    }
    Ok(codes)
}

/// Scales of the bias codes: input scale × weight scale in single precision, per output channel.
///
/// Both lists hold one scale, or one for each of `channels`.
pub fn bias_scales(input_scales: &[f32], weight_scales: &[f32], channels: usize) -> Result<Vec<f32>, CodesError> {
    for scales in [input_scales, weight_scales] {
        if scales.len() != 1 && scales.len() != channels {
            return Err(CodesError::Count { scales: scales.len(), zero_points: scales.len(), slices: channels });
        }
    }
    let at = |scales: &[f32], channel: usize| scales[if scales.len() == 1 { 0 } else { channel }];
    Ok((0..channels).map(|channel| at(input_scales, channel) * at(weight_scales, channel)).collect())
}

/// The codes of a bias at the scales of [`bias_scales`], zero point 0.
///
/// A code beyond ±[`BIAS_CODE_MAX`] is an error, never clamped: a clamped bias would shift a whole channel unnoticed.
/// Schemes avoid it with [`weight_scale_for_bias`].
pub fn quantize_bias(bias: &[f32], input_scales: &[f32], weight_scales: &[f32]) -> Result<Vec<i32>, CodesError> {
    let scales = bias_scales(input_scales, weight_scales, bias.len())?;
    let code = |(channel, (&bias, &scale)): (usize, (&f32, &f32))| {
        bias_code(bias, scale).ok_or(CodesError::Bias { channel, bias, scale })
    };
    bias.iter().zip(&scales).enumerate().map(code).collect()
}

fn bias_code(bias: f32, scale: f32) -> Option<i32> {
    let code = (f64::from(bias) / f64::from(scale)).round_ties_even();
    (code.abs() <= f64::from(BIAS_CODE_MAX)).then_some(code as i32)
}

/// The weight scale of a channel, enlarged as far as its bias needs to have a code, otherwise unchanged.
pub fn weight_scale_for_bias(bias: f32, input_scale: f32, weight_scale: f32) -> f32 {
    if bias_code(bias, input_scale * weight_scale).is_some() {
        return weight_scale;
    }
    // One part in 2^20 above the exact quotient outweighs the roundings of quotient and product.
    let exact = f64::from(bias).abs() / f64::from(BIAS_CODE_MAX) / f64::from(input_scale);
    (exact * (1.0 + 2f64.powi(-20))) as f32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use ndarray::{IxDyn, array};

    fn symmetric(axis: Option<usize>, scales: &[f32]) -> QuantParams {
        QuantParams {
            code_type: CodeType::I8,
            code_min: -127,
            code_max: 127,
            axis,
            scales: scales.to_vec(),
            zero_points: vec![0; scales.len()],
        }
    }

    #[test]
    fn codes_round_half_to_even_and_stop_at_their_limits() {
        let code = |x: f32| quantize_code(x, 0.5, 3, 0, 255);
        assert_eq!([code(0.25), code(0.75), code(1.25), code(-0.25)], [3, 5, 5, 3]);
        assert_eq!([code(-9.0), code(1e30), code(f32::NEG_INFINITY), code(f32::NAN)], [0, 255, 0, 3]);
    }

    #[test]
    fn every_slice_of_a_weight_has_its_own_scale() {
        let weights = array![[1.0f32, -2.0, 0.25], [10.0, 20.0, -300.0]].into_dyn();
        let codes = quantize_weights(&weights, &symmetric(Some(0), &[0.5, 2.0])).unwrap();
        assert_eq!(codes, array![[2i8, -4, 0], [5, 10, -127]].into_dyn());
        let columns = quantize_weights(&weights, &symmetric(Some(1), &[1.0, 1.0, 2.0])).unwrap();
        assert_eq!(columns, array![[1i8, -2, 0], [10, 20, -127]].into_dyn());
    }

    #[test]
    fn params_that_do_not_fit_are_refused() {
        let weights = ArrayD::<f32>::zeros(IxDyn(&[2, 3]));
        let refused = |params: &QuantParams| quantize_weights(&weights, params).unwrap_err();
        assert!(matches!(refused(&symmetric(Some(2), &[1.0])), CodesError::Axis { axis: 2, .. }));
        assert!(matches!(refused(&symmetric(Some(0), &[1.0])), CodesError::Count { slices: 2, .. }));
        assert!(matches!(refused(&symmetric(Some(0), &[1.0, 0.0])), CodesError::Scale { slice: 1, .. }));
        let wide = QuantParams { code_max: 128, ..symmetric(None, &[1.0]) };
        assert!(matches!(refused(&wide), CodesError::Range { code_max: 128, .. }));
    }

    #[test]
    fn a_bias_has_the_scale_of_its_products() {
        assert_eq!(quantize_bias(&[1.0, -0.5], &[0.5], &[0.25, 0.125]), Ok(vec![8, -8]));
        assert_eq!(quantize_bias(&[0.375, 0.125], &[0.5], &[0.5]), Ok(vec![2, 0]));
    }

    #[test]
    fn a_bias_too_large_for_its_scale_fits_after_the_scale_is_enlarged() {
        let (bias, input_scale, weight_scale) = (3.0e4f32, 1.0e-3f32, 1.0e-5f32);
        assert!(matches!(quantize_bias(&[bias], &[input_scale], &[weight_scale]), Err(CodesError::Bias { .. })));
        let enlarged = weight_scale_for_bias(bias, input_scale, weight_scale);
        let codes = quantize_bias(&[bias], &[input_scale], &[enlarged]).unwrap();
        assert!(codes[0] > BIAS_CODE_MAX - 4096, "{codes:?}");
        assert_eq!(weight_scale_for_bias(1.0, 0.5, 0.25), 0.25);
    }
}
