//! The plain, slow definitions of the float kernels: what every instruction set must compute, bit for bit.

use crate::ConvGeometry;
use crate::float::conv::Epilogue;

/// `y = if y > lo { y } else { lo }; if y < hi { y } else { hi }`: NaN becomes `lo`.
pub fn clamp(value: f32, lo: f32, hi: f32) -> f32 {
    let value = if value > lo { value } else { lo };
    if value < hi { value } else { hi }
}

fn finish(sum: f32, epilogue: &Epilogue<'_>, y: usize, x: usize, channel: usize) -> f32 {
    let mut value = sum + epilogue.bias[channel];
    if let Some((values, image)) = epilogue.residual {
        value += values[image.at(y, x) + channel];
    }
    clamp(value, epilogue.lo, epilogue.hi)
}

/// The input element of a tap: `channel` of the pixel that tap `(kh, kw)` of output `(y, x)` reads.
fn tap(g: &ConvGeometry, y: usize, x: usize, kh: usize, kw: usize, channel: usize) -> usize {
    let down = y * g.stride_h + kh * g.dilation_h;
    let right = x * g.stride_w + kw * g.dilation_w;
    g.input.at(down, right) - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride + channel
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
                            sum = input[tap(g, y, x, kh, kw, c)].mul_add(weight, sum);
                        }
                    }
                }
                output[g.output.at(y, x) + n] = finish(sum, epilogue, y, x, n);
            }
        }
    }
}
