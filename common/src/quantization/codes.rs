//! Codes of weights and biases: what the worker multiplies and the exporter writes.

use crate::scheme::QuantParams;
use ndarray::ArrayD;

/// placeholder
pub fn quantize_weights(weights: &ArrayD<f32>, params: &QuantParams) -> ArrayD<i8> {
    let mut codes = ArrayD::zeros(weights.raw_dim());
    for ((index, weight), code) in weights.indexed_iter().zip(codes.iter_mut()) {
        let slice = params.axis.map_or(0, |axis| index[axis]);
        let value = (weight / params.scales[slice]).round_ties_even() + params.zero_points[slice] as f32;
        *code = value.clamp(params.code_min as f32, params.code_max as f32) as i8;
    }
    codes
}

/// placeholder
pub fn quantize_bias(bias: &[f32], input_scale: f32, weight_scales: &[f32]) -> Vec<i32> {
    bias.iter()
        .zip(weight_scales)
        .map(|(b, s)| {
            (f64::from(*b) / f64::from(input_scale * s)).round_ties_even().clamp(-1073741824.0, 1073741824.0) as i32
        })
        .collect()
}
