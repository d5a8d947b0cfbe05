//! The plain, slow definitions of the float kernels: what every instruction set must compute, bit for bit.
//!
//! Elementwise functions are defined by [`Unary::evaluate`](crate::float::Unary::evaluate) and
//! [`Binary::evaluate`](crate::float::Binary::evaluate) and are not repeated here.

use crate::float::conv::Epilogue;
use crate::float::math;
use crate::float::pool::Divisor;
use crate::float::resize::Blend;
use crate::{ConvGeometry, Image};

/// The input element of a tap: `channel` of the pixel that tap `(kh, kw)` of output `(y, x)` reads.
fn tap(g: &ConvGeometry, [y, x, kh, kw]: [usize; 4], channel: usize) -> usize {
    let down = y * g.stride_h + kh * g.dilation_h;
    let right = x * g.stride_w + kw * g.dilation_w;
    g.input.at(down, right) - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride + channel
}

fn finish(sum: f32, epilogue: &Epilogue<'_>, old: f32, y: usize, x: usize, channel: usize) -> f32 {
    let mut value = sum + epilogue.bias[channel];
    if let Some((values, image)) = epilogue.residual {
        value += values[image.at(y, x) + channel];
    }
    if epilogue.accumulate {
        value += old;
    }
    math::clamp(value, epilogue.lo, epilogue.hi)
}

/// Dense convolution; `weights` are `[output channel][kh][kw][input channel]`.
pub fn conv(g: &ConvGeometry, weights: &[f32], input: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    if g.is_empty() {
        return;
    }
    for y in 0..g.output.height {
        for x in 0..g.output.width {
            for n in 0..g.output.channels {
                let mut sum = 0.0f32;
                for kh in 0..g.kernel_h {
                    for kw in 0..g.kernel_w {
                        for c in 0..g.input.channels {
                            let weight = weights[((n * g.kernel_h + kh) * g.kernel_w + kw) * g.input.channels + c];
                            sum = input[tap(g, [y, x, kh, kw], c)].mul_add(weight, sum);
                        }
                    }
                }
                let to = &mut output[g.output.at(y, x) + n];
                *to = finish(sum, epilogue, *to, y, x, n);
            }
        }
    }
}

/// Depthwise convolution; `weights` are `[channel][kh][kw]`.
pub fn depthwise(g: &ConvGeometry, weights: &[f32], input: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    if g.is_empty() {
        return;
    }
    for y in 0..g.output.height {
        for x in 0..g.output.width {
            for c in 0..g.output.channels {
                let mut sum = 0.0f32;
                for kh in 0..g.kernel_h {
                    for kw in 0..g.kernel_w {
                        let weight = weights[(c * g.kernel_h + kh) * g.kernel_w + kw];
                        sum = input[tap(g, [y, x, kh, kw], c)].mul_add(weight, sum);
                    }
                }
                let to = &mut output[g.output.at(y, x) + c];
                *to = finish(sum, epilogue, *to, y, x, c);
            }
        }
    }
}

/// Folds values into sixteen partials by index and the partials by a tree; see [`sum`](crate::float::sum).
fn reduce(count: usize, start: f32, step: impl Fn(f32, usize) -> f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partials = [start; 16];
    for i in 0..count {
        partials[i % 16] = step(partials[i % 16], i);
    }
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            partials[i] = combine(partials[i], partials[i + width]);
        }
    }
    partials[0]
}

/// The sum of a run.
pub fn sum(values: &[f32]) -> f32 {
    reduce(values.len(), 0.0, |partial, i| partial + values[i], |low, high| low + high)
}

/// The sum of products of two runs.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    reduce(left.len(), 0.0, |partial, i| left[i].mul_add(right[i], partial), |low, high| low + high)
}

/// The extremes of a run.
pub fn min_max(values: &[f32]) -> (f32, f32) {
    let less = |a: f32, b: f32| if a < b { a } else { b };
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    (
        reduce(values.len(), f32::INFINITY, |partial, i| less(values[i], partial), |low, high| less(high, low)),
        reduce(
            values.len(),
            f32::NEG_INFINITY,
            |partial, i| greater(values[i], partial),
            |low, high| greater(high, low),
        ),
    )
}

/// Softmax of one row.
pub fn softmax(row: &[f32]) -> Vec<f32> {
    let greatest = min_max(row).1;
    let exponentials: Vec<f32> = row.iter().map(|&x| math::exp(x - greatest)).collect();
    let factor = 1.0 / sum(&exponentials);
    exponentials.into_iter().map(|e| e * factor).collect()
}

/// Log-softmax of one row.
pub fn log_softmax(row: &[f32]) -> Vec<f32> {
    let greatest = min_max(row).1;
    let exponentials: Vec<f32> = row.iter().map(|&x| math::exp(x - greatest)).collect();
    let log_sum = math::log(sum(&exponentials));
    row.iter().map(|&x| (x - greatest) - log_sum).collect()
}

/// Layer normalisation of one row.
pub fn layer_norm(row: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> Vec<f32> {
    let mean = sum(row) / row.len() as f32;
    let centred: Vec<f32> = row.iter().map(|&x| x - mean).collect();
    let variance = dot(&centred, &centred) / row.len() as f32;
    let factor = 1.0 / (variance + epsilon).sqrt();
    centred.iter().zip(gamma).zip(beta).map(|((&d, &gamma), &beta)| (d * factor).mul_add(gamma, beta)).collect()
}

/// The position of a tap on one axis, counted from the image's first pixel.
fn position(output: usize, stride: usize, tap: usize, dilation: usize, pad: usize) -> i64 {
    (output * stride + tap * dilation) as i64 - pad as i64
}

/// Visits the values of `channel` under the window of output `(y, x)` that lie inside the image, taps ascending.
fn window(g: &ConvGeometry, y: usize, x: usize, channel: usize, input: &[f32], mut visit: impl FnMut(f32)) {
    for kh in 0..g.kernel_h {
        for kw in 0..g.kernel_w {
            let row = position(y, g.stride_h, kh, g.dilation_h, g.pad_top);
            let column = position(x, g.stride_w, kw, g.dilation_w, g.pad_left);
            if (0..g.input.height as i64).contains(&row) && (0..g.input.width as i64).contains(&column) {
                visit(input[g.input.at(row as usize, column as usize) + channel]);
            }
        }
    }
}

/// Maximum pooling.
pub fn max_pool(g: &ConvGeometry, input: &[f32], output: &mut [f32]) {
    if g.is_empty() {
        return;
    }
    for y in 0..g.output.height {
        for x in 0..g.output.width {
            for c in 0..g.output.channels {
                let mut greatest = f32::NEG_INFINITY;
                window(g, y, x, c, input, |value| greatest = if value > greatest { value } else { greatest });
                output[g.output.at(y, x) + c] = greatest;
            }
        }
    }
}

/// Average pooling.
pub fn average_pool(g: &ConvGeometry, divisor: Divisor, input: &[f32], output: &mut [f32]) {
    if g.is_empty() {
        return;
    }
    for y in 0..g.output.height {
        for x in 0..g.output.width {
            for c in 0..g.output.channels {
                let (mut sum, mut inside) = (0.0f32, 0usize);
                window(g, y, x, c, input, |value| {
                    sum += value;
                    inside += 1;
                });
                let count = match divisor {
                    Divisor::InsideTaps => inside,
                    Divisor::PaddedTaps { pad_bottom, pad_right } => (0..g.kernel_h * g.kernel_w)
                        .filter(|tap| {
                            let (kh, kw) = (tap / g.kernel_w, tap % g.kernel_w);
                            let row = position(y, g.stride_h, kh, g.dilation_h, g.pad_top);
                            let column = position(x, g.stride_w, kw, g.dilation_w, g.pad_left);
                            row < (g.input.height + pad_bottom) as i64 && column < (g.input.width + pad_right) as i64
                        })
                        .count(),
                };
                output[g.output.at(y, x) + c] = sum / count as f32;
            }
        }
    }
}

/// The average of one channel over the whole image.
pub fn global_average(image: &Image, channel: usize, input: &[f32]) -> f32 {
    let mut sum = 0.0f32;
    for y in 0..image.height {
        for x in 0..image.width {
            sum += input[image.at(y, x) + channel];
        }
    }
    sum * (1.0 / image.pixels() as f32)
}

/// Linear resizing.
pub fn resize_linear(rows: &[Blend], columns: &[Blend], from: &Image, input: &[f32], to: &Image, output: &mut [f32]) {
    let blend = |share: f32, first: f32, second: f32| share.mul_add(second - first, first);
    for y in 0..to.height {
        for x in 0..to.width {
            for c in 0..to.channels {
                let (row, column) = (rows[y], columns[x]);
                let value = |y, x| input[from.at(y, x) + c];
                let upper = blend(column.share, value(row.first, column.first), value(row.first, column.second));
                let lower = blend(column.share, value(row.second, column.first), value(row.second, column.second));
                output[to.at(y, x) + c] = blend(row.share, upper, lower);
            }
        }
    }
}
