//! Operations that treat every element by itself: quantize, dequantize, table lookup, Add; and the steps of pooling.
//!
//! Their bodies are plain loops written once; every instruction set compiles them again with its own vector width. All
//! arithmetic is single IEEE operations in a fixed order, so the bits do not depend on who compiled it.

use super::arch::element_kernels;
use super::epilogue::{AddU8, Codes, clamp_f32};
use super::layout::{assert_same_extents, for_each_run};
use super::quantizer::Product;
use crate::{Image, Isa};

/// Scale, zero point and bounds of a code tensor that real numbers are quantized to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeParams {
    /// Real value of one step.
    pub scale: f32,
    /// The code of real 0.
    pub zero_point: u8,
    /// Lowest code.
    pub lo: u8,
    /// Highest code.
    pub hi: u8,
}

/// Channels that pooling treats at a time.
pub(crate) const POOL_CHANNELS: usize = 64;

/// The input pixels under one pooling window, clipped to the interior.
#[derive(Clone, Copy)]
pub(crate) struct PoolWindow {
    /// Element index of the first pixel's first channel.
    pub first: usize,
    /// Window rows and the elements between them.
    pub rows: usize,
    pub row_step: usize,
    /// Window columns and the elements between them.
    pub columns: usize,
    pub column_step: usize,
}

/// Scales sums to floats within bounds.
type ScaleLoop = unsafe fn(&[i32], f32, (f32, f32), &mut [f32]);

/// The element loops compiled for one instruction set; calling one needs that instruction set, nothing else.
pub(crate) struct ElementKernels {
    pub name: &'static str,
    pub quantize: unsafe fn(&[f32], f32, &Codes, &mut [u8]),
    pub quantize_by_product: unsafe fn(&[f32], &Product, &mut [u8]),
    pub dequantize: unsafe fn(&[u8], f32, u8, &mut [f32]),
    pub lookup: unsafe fn(&[u8; 256], &[u8], &mut [u8]),
    pub add: unsafe fn(&AddU8, &[u8], &[u8], &mut [u8]),
    pub max_window: unsafe fn(&[u8], PoolWindow, &mut [u8]),
    pub sum_window: unsafe fn(&[u8], PoolWindow, i32, &mut [i32]),
    pub requantize: unsafe fn(&[i32], f32, &Codes, &mut [u8]),
    pub scale: ScaleLoop,
}

impl std::fmt::Debug for ElementKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Compiles the element loops for a list of target features, as `static ELEMENTS`.
macro_rules! element_kernels_for {
    ($features:literal, $name:literal) => {
        $crate::int8::elements::element_kernels_for!(@define [#[target_feature(enable = $features)]], $name);
    };
    ($name:literal) => {
        $crate::int8::elements::element_kernels_for!(@define [], $name);
    };
    (@define [$($attribute:tt)*], $name:literal) => {
        mod element_loops {
            use $crate::int8::elements::{self, PoolWindow};
            use $crate::int8::epilogue::{AddU8, Codes};
            use $crate::int8::quantizer::{self, Product};

            $($attribute)*
            fn quantize(input: &[f32], scale: f32, codes: &Codes, output: &mut [u8]) {
                elements::quantize_loop(input, scale, codes, output);
            }

            $($attribute)*
            fn quantize_by_product(input: &[f32], product: &Product, output: &mut [u8]) {
                quantizer::quantize_by_product_loop(input, product, output);
            }

            $($attribute)*
            fn dequantize(input: &[u8], scale: f32, zero_point: u8, output: &mut [f32]) {
                elements::dequantize_loop(input, scale, zero_point, output);
            }

            $($attribute)*
            fn lookup(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
                elements::lookup_loop(table, input, output);
            }

            $($attribute)*
            fn add(add: &AddU8, a: &[u8], b: &[u8], output: &mut [u8]) {
                elements::add_loop(add, a, b, output);
            }

            $($attribute)*
            fn max_window(input: &[u8], window: PoolWindow, output: &mut [u8]) {
                elements::max_window_loop(input, window, output);
            }

            $($attribute)*
            fn sum_window(input: &[u8], window: PoolWindow, start: i32, output: &mut [i32]) {
                elements::sum_window_loop(input, window, start, output);
            }

            $($attribute)*
            fn requantize(sums: &[i32], multiplier: f32, codes: &Codes, output: &mut [u8]) {
                elements::requantize_loop(sums, multiplier, codes, output);
            }

            $($attribute)*
            fn scale(sums: &[i32], scale: f32, bounds: (f32, f32), output: &mut [f32]) {
                elements::scale_loop(sums, scale, bounds, output);
            }

            pub(super) static ELEMENTS: elements::ElementKernels = elements::ElementKernels {
                name: $name,
                quantize,
                quantize_by_product,
                dequantize,
                lookup,
                add,
                max_window,
                sum_window,
                requantize,
                scale,
            };
        }
        use element_loops::ELEMENTS;
    };
}
pub(crate) use element_kernels_for;

/// Quantizes: `code = round(clamp(x / scale, lo - zero_point, hi - zero_point)) + zero_point`; NaN gives `lo`.
///
/// # Panics
/// When the images differ in extents, reach beyond their slices, or the machine lacks `isa`.
pub fn quantize_f32_u8(
    isa: Isa,
    params: &CodeParams,
    (input, input_image): (&[f32], &Image),
    (output, output_image): (&mut [u8], &Image),
) {
    let codes = Codes::new(params.zero_point, params.lo, params.hi);
    let kernel = element_kernels(isa).quantize;
    assert_same_extents(input_image, output_image);
    for_each_run([input_image, output_image], |[from, to], length| {
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe { kernel(&input[from..][..length], params.scale, &codes, &mut output[to..][..length]) }
    });
}

/// Dequantizes: `(code - zero_point) as f32 * scale`.
///
/// # Panics
/// When the images differ in extents, reach beyond their slices, or the machine lacks `isa`.
pub fn dequantize_u8_f32(
    isa: Isa,
    (scale, zero_point): (f32, u8),
    (input, input_image): (&[u8], &Image),
    (output, output_image): (&mut [f32], &Image),
) {
    let kernel = element_kernels(isa).dequantize;
    assert_same_extents(input_image, output_image);
    for_each_run([input_image, output_image], |[from, to], length| {
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe { kernel(&input[from..][..length], scale, zero_point, &mut output[to..][..length]) }
    });
}

/// Replaces every code by its entry in a table: a unary function fused to codes.
///
/// # Panics
/// When the images differ in extents, reach beyond their slices, or the machine lacks `isa`.
pub fn lookup_u8(
    isa: Isa,
    table: &[u8; 256],
    (input, input_image): (&[u8], &Image),
    (output, output_image): (&mut [u8], &Image),
) {
    let kernel = element_kernels(isa).lookup;
    assert_same_extents(input_image, output_image);
    for_each_run([input_image, output_image], |[from, to], length| {
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe { kernel(table, &input[from..][..length], &mut output[to..][..length]) }
    });
}

/// The quantized Add of two images; see [`AddU8`].
///
/// # Panics
/// When the images differ in extents, reach beyond their slices, or the machine lacks `isa`.
pub fn add_u8(
    isa: Isa,
    add: &AddU8,
    (a, a_image): (&[u8], &Image),
    (b, b_image): (&[u8], &Image),
    (output, output_image): (&mut [u8], &Image),
) {
    let kernel = element_kernels(isa).add;
    assert_same_extents(a_image, output_image);
    assert_same_extents(b_image, output_image);
    for_each_run([a_image, b_image, output_image], |[from_a, from_b, to], length| {
        let (a, b) = (&a[from_a..][..length], &b[from_b..][..length]);
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe { kernel(add, a, b, &mut output[to..][..length]) }
    });
}

#[inline(always)]
pub(crate) fn quantize_loop(input: &[f32], scale: f32, codes: &Codes, output: &mut [u8]) {
    let codes = *codes;
    for (out, &x) in output.iter_mut().zip(input) {
        *out = codes.round(x / scale);
    }
}

#[inline(always)]
pub(crate) fn dequantize_loop(input: &[u8], scale: f32, zero_point: u8, output: &mut [f32]) {
    let zero_point = i32::from(zero_point);
    for (out, &code) in output.iter_mut().zip(input) {
        *out = (i32::from(code) - zero_point) as f32 * scale;
    }
}

#[inline(always)]
pub(crate) fn lookup_loop(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    for (out, &code) in output.iter_mut().zip(input) {
        *out = table[usize::from(code)];
    }
}

#[inline(always)]
pub(crate) fn add_loop(add: &AddU8, a: &[u8], b: &[u8], output: &mut [u8]) {
    let AddU8 { ra, rb, fixed, .. } = *add;
    let codes = Codes::new(0, add.lo, add.hi);
    for ((out, &a), &b) in output.iter_mut().zip(a).zip(b) {
        let t = f32::from(b).mul_add(rb, fixed);
        *out = codes.round(f32::from(a).mul_add(ra, t));
    }
}

/// Visits the channels of every pixel of a window.
#[inline(always)]
fn for_each_pixel(input: &[u8], window: PoolWindow, channels: usize, mut visit: impl FnMut(&[u8])) {
    for row in 0..window.rows {
        let mut at = window.first + row * window.row_step;
        for _ in 0..window.columns {
            visit(&input[at..][..channels]);
            at += window.column_step;
        }
    }
}

#[inline(always)]
pub(crate) fn max_window_loop(input: &[u8], window: PoolWindow, output: &mut [u8]) {
    if let Ok(output) = <&mut [_; POOL_CHANNELS]>::try_from(&mut *output) {
        let mut best = [0u8; POOL_CHANNELS];
        for_each_pixel(input, window, POOL_CHANNELS, |pixel| {
            for c in 0..POOL_CHANNELS {
                best[c] = best[c].max(pixel[c]);
            }
        });
        *output = best;
    } else {
        output.fill(0);
        for_each_pixel(input, window, output.len(), |pixel| {
            for (best, &code) in output.iter_mut().zip(pixel) {
                *best = (*best).max(code);
            }
        });
    }
}

#[inline(always)]
pub(crate) fn sum_window_loop(input: &[u8], window: PoolWindow, start: i32, output: &mut [i32]) {
    if let Ok(output) = <&mut [_; POOL_CHANNELS]>::try_from(&mut *output) {
        let mut sums = [start; POOL_CHANNELS];
        for_each_pixel(input, window, POOL_CHANNELS, |pixel| {
            for c in 0..POOL_CHANNELS {
                sums[c] = sums[c].wrapping_add(i32::from(pixel[c]));
            }
        });
        *output = sums;
    } else {
        output.fill(start);
        for_each_pixel(input, window, output.len(), |pixel| {
            for (sum, &code) in output.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(i32::from(code));
            }
        });
    }
}

#[inline(always)]
pub(crate) fn requantize_loop(sums: &[i32], multiplier: f32, codes: &Codes, output: &mut [u8]) {
    let codes = *codes;
    for (out, &sum) in output.iter_mut().zip(sums) {
        *out = codes.requantize(sum, multiplier);
    }
}

#[inline(always)]
pub(crate) fn scale_loop(sums: &[i32], scale: f32, (lo, hi): (f32, f32), output: &mut [f32]) {
    for (out, &sum) in output.iter_mut().zip(sums) {
        *out = clamp_f32(sum as f32 * scale, lo, hi);
    }
}
