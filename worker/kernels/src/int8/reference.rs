//! What every int8 kernel must compute, bit for bit: plain loops, one element at a time.

use super::epilogue::clamp_f32;
use super::{AverageCount, AverageOutput, CodeParams, Epilogue, ProductShape, Requant};
use crate::ConvGeometry;
use crate::Image;

/// One requantized code; the definition in [`Requant`].
pub fn requantize(sum: i32, multiplier: f32, zero_point: u8, (lo, hi): (u8, u8)) -> u8 {
    round_code(sum as f32 * multiplier, zero_point, (lo, hi))
}

/// Clamp to the code range, round half to even, add the zero point.
fn round_code(value: f32, zero_point: u8, (lo, hi): (u8, u8)) -> u8 {
    let zp = f32::from(zero_point);
    let clamped = clamp_f32(value, f32::from(lo) - zp, f32::from(hi) - zp);
    (clamped.round_ties_even() as i32 + i32::from(zero_point)) as u8
}

/// Dense convolution; `weights` are `[out_channels][kernel_h][kernel_w][channels]`.
pub fn conv(geometry: &ConvGeometry, weights: &[i8], input: &[u8], bias: &[i32], epilogue: Epilogue<'_>) {
    let channels = geometry.input.channels;
    let taps = geometry.kernel_h * geometry.kernel_w;
    sums(geometry, epilogue, |y, x, n| {
        let mut sum = bias[n];
        for tap in 0..taps {
            let at = input_element(geometry, y, x, tap / geometry.kernel_w, tap % geometry.kernel_w);
            for c in 0..channels {
                let product = i32::from(input[at + c]) * i32::from(weights[(n * taps + tap) * channels + c]);
                sum = sum.wrapping_add(product);
            }
        }
        sum
    });
}

/// The product of two matrices of codes.
pub fn product(
    shape: &ProductShape,
    (left, zero_left): (&[u8], u8),
    (right, zero_right): (&[u8], u8),
    epilogue: Epilogue<'_>,
) {
    let geometry = ConvGeometry::matrix(shape.rows, shape.depth, shape.columns, shape.left_stride, shape.output_stride);
    sums(&geometry, epilogue, |_, row, column| {
        (0..shape.depth).fold(0i32, |sum, k| {
            let a = i32::from(left[row * shape.left_stride + k]) - i32::from(zero_left);
            let b = i32::from(right[shape.right_element(k, column)]) - i32::from(zero_right);
            sum.wrapping_add(a * b)
        })
    });
}

/// Depthwise convolution; `weights` are `[channels][kernel_h][kernel_w]`.
pub fn depthwise(geometry: &ConvGeometry, weights: &[i8], input: &[u8], bias: &[i32], epilogue: Epilogue<'_>) {
    let taps = geometry.kernel_h * geometry.kernel_w;
    sums(geometry, epilogue, |y, x, n| {
        let mut sum = bias[n];
        for tap in 0..taps {
            let at = input_element(geometry, y, x, tap / geometry.kernel_w, tap % geometry.kernel_w);
            sum = sum.wrapping_add(i32::from(input[at + n]) * i32::from(weights[n * taps + tap]));
        }
        sum
    });
}

/// Index of channel 0 of the input pixel under a tap; the border is part of the buffer.
fn input_element(geometry: &ConvGeometry, y: usize, x: usize, ky: usize, kx: usize) -> usize {
    let row = y * geometry.stride_h + ky * geometry.dilation_h;
    let column = x * geometry.stride_w + kx * geometry.dilation_w;
    geometry.first_element() + row * geometry.input.row_stride + column * geometry.input.pixel_stride
}

/// Runs the epilogue over `sum(y, x, channel)`.
fn sums(geometry: &ConvGeometry, mut epilogue: Epilogue<'_>, sum: impl Fn(usize, usize, usize) -> i32) {
    let out = &geometry.output;
    let code = |requant: &Requant, sum: i32, n: usize| {
        requantize(sum, requant.multiplier()[n], requant.zero_point(), requant.bounds())
    };
    for y in 0..out.height {
        for x in 0..out.width {
            for n in 0..out.channels {
                let (sum, to) = (sum(y, x, n), out.at(y, x) + n);
                match &mut epilogue {
                    Epilogue::U8 { requant, output } => output[to] = code(requant, sum, n),
                    Epilogue::U8Add { requant, add, residual, residual_image, output } => {
                        let code = code(requant, sum, n);
                        let other = residual[residual_image.at(y, x) + n];
                        output[to] = if add.conv_is_a { add.apply(code, other) } else { add.apply(other, code) };
                    }
                    Epilogue::U8Accumulate { requant, add, output } => {
                        let (code, other) = (code(requant, sum, n), output[to]);
                        output[to] = if add.conv_is_a { add.apply(code, other) } else { add.apply(other, code) };
                    }
                    Epilogue::F32 { scale, shift, lo, hi, output } => {
                        let value = sum as f32 * scale[n];
                        let value = shift.map_or(value, |shift| value + shift[n]);
                        output[to] = clamp_f32(value, *lo, *hi);
                    }
                }
            }
        }
    }
}

/// Quantization of one real number; NaN gives the lowest code.
pub fn quantize(value: f32, params: &CodeParams) -> u8 {
    round_code(value / params.scale, params.zero_point, (params.lo, params.hi))
}

/// The real number a code stands for.
pub fn dequantize(code: u8, scale: f32, zero_point: u8) -> f32 {
    (i32::from(code) - i32::from(zero_point)) as f32 * scale
}

/// Element indices of the pixels under a pooling window that lie in the image.
fn pooled(geometry: &ConvGeometry, y: usize, x: usize) -> Vec<usize> {
    let Image { height, width, .. } = geometry.input;
    let mut elements = Vec::new();
    for ky in 0..geometry.kernel_h {
        for kx in 0..geometry.kernel_w {
            let row = (y * geometry.stride_h + ky * geometry.dilation_h).checked_sub(geometry.pad_top);
            let column = (x * geometry.stride_w + kx * geometry.dilation_w).checked_sub(geometry.pad_left);
            if let (Some(row), Some(column)) = (row, column)
                && row < height
                && column < width
            {
                elements.push(geometry.input.at(row, column));
            }
        }
    }
    elements
}

/// Max pooling.
pub fn max_pool(geometry: &ConvGeometry, input: &[u8], output: &mut [u8]) {
    let out = &geometry.output;
    for y in 0..out.height {
        for x in 0..out.width {
            let window = pooled(geometry, y, x);
            for c in 0..out.channels {
                output[out.at(y, x) + c] = window.iter().map(|&at| input[at + c]).max().unwrap_or(0);
            }
        }
    }
}

/// Average pooling.
pub fn average_pool(
    geometry: &ConvGeometry,
    count: AverageCount,
    (input, input_scale, input_zero_point): (&[u8], f32, u8),
    mut target: AverageOutput<'_>,
) {
    let out = &geometry.output;
    for y in 0..out.height {
        for x in 0..out.width {
            let window = pooled(geometry, y, x);
            let divisor = match count {
                AverageCount::Valid => window.len().max(1),
                AverageCount::Window => geometry.kernel_h * geometry.kernel_w,
            } as f32;
            for c in 0..out.channels {
                let sum: i32 = window.iter().map(|&at| i32::from(input[at + c]) - i32::from(input_zero_point)).sum();
                let to = out.at(y, x) + c;
                match &mut target {
                    AverageOutput::U8 { params, output } => {
                        let multiplier = input_scale / (divisor * params.scale);
                        output[to] = requantize(sum, multiplier, params.zero_point, (params.lo, params.hi));
                    }
                    AverageOutput::F32 { lo, hi, output } => {
                        output[to] = clamp_f32(sum as f32 * (input_scale / divisor), *lo, *hi);
                    }
                }
            }
        }
    }
}
