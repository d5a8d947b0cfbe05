//! Pooling over NHWC images: maximum, average, and the average of the whole image.

use crate::float::dispatch::per_isa;
use crate::float::vector::per_register;
use crate::{ConvGeometry, Image, Isa, image_fits};

/// What an average is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The taps that lie inside the image (ONNX `count_include_pad` 0).
    InsideTaps,
    /// The taps that lie inside the image or its padding (`count_include_pad` 1); a window that `ceil_mode` lets reach
    /// beyond the padding does not count those taps.
    PaddedTaps {
        /// Padding rows below the image.
        pad_bottom: usize,
        /// Padding columns right of the image.
        pad_right: usize,
    },
}

/// The greatest value under each window; taps outside the image's interior are passed over, and so are NaNs.
///
/// Per output: `acc = -inf; for (kh, kw) ascending, inside: acc = if x > acc { x } else { acc }`. The input needs no
/// border.
///
/// # Panics
///
/// If channels differ, an image does not lie in its buffer, or a stride or dilation is 0.
pub fn max_pool(isa: Isa, geometry: &ConvGeometry, input: &[f32], output: &mut [f32]) {
    check(geometry, input, output);
    if !geometry.is_empty() {
        // SAFETY: `check` showed that both images lie in their buffers, and only taps inside are read.
        unsafe { max_pool_body(isa, geometry, input.as_ptr(), output.as_mut_ptr()) };
    }
}

/// The average under each window: taps inside the image are added in `(kh, kw)` order from 0, then divided.
///
/// The input needs no border: what lies outside the interior counts as 0. A window without any counted tap gives NaN.
///
/// # Panics
///
/// If channels differ, an image does not lie in its buffer, or a stride or dilation is 0.
pub fn average_pool(isa: Isa, geometry: &ConvGeometry, divisor: Divisor, input: &[f32], output: &mut [f32]) {
    check(geometry, input, output);
    if !geometry.is_empty() {
        average_pool_body(isa, geometry, divisor, input, output);
    }
}

/// The average of each channel over the whole image: pixels are added in row-major order from 0 in f32, and the sum is
/// multiplied by `1 / pixels`.
///
/// An empty image leaves `output` untouched.
///
/// # Panics
///
/// If `output` does not hold one value a channel or the image does not lie in its buffer.
pub fn global_average_pool(isa: Isa, image: &Image, input: &[f32], output: &mut [f32]) {
    assert_eq!(output.len(), image.channels, "one average a channel");
    assert!(image_fits(image, input.len()), "the input image does not lie in its buffer");
    if image.pixels() > 0 {
        global_average_body(isa, image, input, output);
    }
}

fn check(g: &ConvGeometry, input: &[f32], output: &[f32]) {
    assert_eq!(g.input.channels, g.output.channels, "pooling keeps the channels");
    assert!(image_fits(&g.input, input.len()), "the input image does not lie in its buffer");
    assert!(image_fits(&g.output, output.len()), "the output image does not lie in its buffer");
    if let Err(error) = g.check_fields() {
        panic!("{error}");
    }
}

/// The taps `first..end` of one window axis whose position lies in `-before..inside + after`.
#[inline(always)]
fn taps_within(
    output: usize,
    stride: usize,
    pad: usize,
    kernel: usize,
    dilation: usize,
    [before, inside, after]: [usize; 3],
) -> (usize, usize) {
    let start = output * stride;
    let skipped = pad - before;
    let first = if start >= skipped { 0 } else { (skipped - start).div_ceil(dilation) };
    let limit = pad + inside + after;
    let end = if start >= limit { 0 } else { (limit - start).div_ceil(dilation) };
    let end = end.min(kernel);
    (first.min(end), end)
}

/// The taps of output `y` and `x` that lie inside the image: rows, then columns.
#[inline(always)]
fn inside_taps(g: &ConvGeometry, y: usize, x: usize) -> ((usize, usize), (usize, usize)) {
    (
        taps_within(y, g.stride_h, g.pad_top, g.kernel_h, g.dilation_h, [0, g.input.height, 0]),
        taps_within(x, g.stride_w, g.pad_left, g.kernel_w, g.dilation_w, [0, g.input.width, 0]),
    )
}

/// Channel 0 of the pixel under tap `(kh, kw)`, which lies inside.
#[inline(always)]
fn tap_pixel(g: &ConvGeometry, y: usize, x: usize, kh: usize, kw: usize) -> usize {
    let row = y * g.stride_h + kh * g.dilation_h - g.pad_top;
    let column = x * g.stride_w + kw * g.dilation_w - g.pad_left;
    g.input.at(row, column)
}

per_register! {
    /// The greatest value under each window, one register of channels at a time.
    unsafe fn max_pool_body<V>(g: &ConvGeometry, input: *const f32, output: *mut f32) {
        for y in 0..g.output.height {
            for x in 0..g.output.width {
                let (rows, columns) = inside_taps(g, y, x);
                for channel in (0..g.output.channels).step_by(V::LANES) {
                    let lanes = V::LANES.min(g.output.channels - channel);
                    let whole = lanes == V::LANES;
                    // SAFETY: these taps and this output lie in their images; a partial register is masked.
                    unsafe {
                        let mut greatest = V::splat(f32::NEG_INFINITY);
                        for kh in rows.0..rows.1 {
                            for kw in columns.0..columns.1 {
                                let from = input.add(tap_pixel(g, y, x, kh, kw) + channel);
                                let value = if whole { V::load(from) } else { V::load_partial(from, lanes) };
                                greatest = value.greater(greatest);
                            }
                        }
                        let to = output.add(g.output.at(y, x) + channel);
                        if whole {
                            greatest.store(to);
                        } else {
                            greatest.store_partial(to, lanes);
                        }
                    }
                }
            }
        }
    }
}

per_isa! {
    fn average_pool_body(g: &ConvGeometry, divisor: Divisor, input: &[f32], output: &mut [f32]) {
        for y in 0..g.output.height {
            for x in 0..g.output.width {
                let to = &mut output[g.output.at(y, x)..][..g.output.channels];
                to.fill(0.0);
                let (rows, columns) = inside_taps(g, y, x);
                for kh in rows.0..rows.1 {
                    for kw in columns.0..columns.1 {
                        let pixel = &input[tap_pixel(g, y, x, kh, kw)..][..g.input.channels];
                        for (to, &value) in to.iter_mut().zip(pixel) {
                            *to += value;
                        }
                    }
                }
                let count = taps_counted(g, divisor, y, x) as f32;
                for to in to {
                    *to /= count;
                }
            }
        }
    }

    fn global_average_body(image: &Image, input: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        for y in 0..image.height {
            for x in 0..image.width {
                for (to, &value) in output.iter_mut().zip(&input[image.at(y, x)..][..image.channels]) {
                    *to += value;
                }
            }
        }
        let factor = 1.0 / image.pixels() as f32;
        for to in output {
            *to *= factor;
        }
    }
}

/// What the sum of output `(y, x)` is divided by.
#[inline(always)]
pub(super) fn taps_counted(g: &ConvGeometry, divisor: Divisor, y: usize, x: usize) -> usize {
    let (rows, columns) = match divisor {
        Divisor::InsideTaps => inside_taps(g, y, x),
        Divisor::PaddedTaps { pad_bottom, pad_right } => (
            taps_within(y, g.stride_h, g.pad_top, g.kernel_h, g.dilation_h, [g.pad_top, g.input.height, pad_bottom]),
            taps_within(x, g.stride_w, g.pad_left, g.kernel_w, g.dilation_w, [g.pad_left, g.input.width, pad_right]),
        ),
    };
    (rows.1 - rows.0) * (columns.1 - columns.0)
}
