//! Depthwise float convolution: every channel with its own window, lanes across channels.
//!
//! Each output is `acc = 0; for (kh, kw) ascending: acc = fma(x, w, acc)`, then the epilogue of a dense convolution.

// Registers are indexed by tile position: an iterator would hide that every array is walked in step.
#![allow(clippy::needless_range_loop)]

use crate::float::conv::Epilogue;
use crate::float::vector::{Vector, per_register};
use crate::{ConvGeometry, GeometryError, Isa};

/// Neighbouring output pixels computed together, so that each weight and each input pixel is loaded once for all of
/// them. Seven divides the widths that networks over 224 pixels have.
const PIXELS: usize = 7;

/// A depthwise convolution of one geometry with its weights, ready to run on one instruction set.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthwiseF32 {
    isa: Isa,
    geometry: ConvGeometry,
    /// Offset of each tap from the first.
    taps: Vec<usize>,
    /// `[tap][channel]`.
    weights: Vec<f32>,
}

impl DepthwiseF32 {
    /// Prepares a geometry whose input and output have the same channels, and weights `[channel][kh][kw]`.
    ///
    /// # Errors
    ///
    /// The geometry's own defects, with buffers assumed to be as long as needed.
    ///
    /// # Panics
    ///
    /// If the channels of input and output differ or `weights` has another length.
    pub fn new(isa: Isa, geometry: &ConvGeometry, weights: &[f32]) -> Result<DepthwiseF32, GeometryError> {
        geometry.validate(usize::MAX, usize::MAX)?;
        let g = geometry;
        let channels = g.output.channels;
        assert_eq!(g.input.channels, channels, "a depthwise convolution keeps its channels");
        let tap_count = g.kernel_h * g.kernel_w;
        assert_eq!(weights.len(), channels * tap_count, "one weight a channel and tap");
        let mut packed = vec![0.0; weights.len()];
        for channel in 0..channels {
            for tap in 0..tap_count {
                packed[tap * channels + channel] = weights[channel * tap_count + tap];
            }
        }
        let mut taps = Vec::new();
        if !g.is_empty() {
            for kh in 0..g.kernel_h {
                for kw in 0..g.kernel_w {
                    taps.push(kh * g.dilation_h * g.input.row_stride + kw * g.dilation_w * g.input.pixel_stride);
                }
            }
        }
        Ok(DepthwiseF32 { isa, geometry: *geometry, taps, weights: packed })
    }

    /// The geometry it was made for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Convolves `input` into `output`; elements outside the output image's interior are not written.
    ///
    /// # Panics
    ///
    /// If a buffer is too short for the geometry.
    pub fn run(&self, input: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
        if let Err(error) = self.geometry.validate(input.len(), output.len()) {
            panic!("{error}");
        }
        if self.geometry.is_empty() {
            return;
        }
        epilogue.check(&self.geometry.output);
        // SAFETY: `validate` showed that every tap of every output pixel, and the output itself, lies in its buffer,
        // `check` the same for bias and residual; weights hold one value a tap and channel.
        unsafe { convolve(self.isa, self, input.as_ptr(), epilogue, output.as_mut_ptr()) }
    }
}

per_register! {
    /// Convolves the whole image.
    unsafe fn convolve<V>(conv: &DepthwiseF32, input: *const f32, epilogue: &Epilogue<'_>, output: *mut f32) {
        let g = &conv.geometry;
        // SAFETY: the caller's contract is handed on.
        unsafe {
            match (g.kernel_w, g.stride_w, g.dilation_w) {
                (3, 1, 1) => image::<V, 3, 1>(conv, input, epilogue, output),
                (3, 2, 1) => image::<V, 3, 2>(conv, input, epilogue, output),
                (5, 1, 1) => image::<V, 5, 1>(conv, input, epilogue, output),
                (5, 2, 1) => image::<V, 5, 2>(conv, input, epilogue, output),
                _ => image::<V, 0, 0>(conv, input, epilogue, output),
            }
        }
    }
}

/// Convolves the whole image with a window of `WIDTH` columns `STRIDE` pixels apart; `WIDTH` 0 takes any geometry.
///
/// # Safety
///
/// `V`'s instruction set is there and every tap of every output pixel lies in its buffer.
#[inline(always)]
unsafe fn image<V: Vector, const WIDTH: usize, const STRIDE: usize>(
    conv: &DepthwiseF32,
    input: *const f32,
    epilogue: &Epilogue<'_>,
    output: *mut f32,
) {
    let g = &conv.geometry;
    let origin = g.input.offset - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride;
    for y in 0..g.output.height {
        let mut done = 0;
        while done < g.output.width {
            // The last block of a wide row reaches back over pixels that are done: they get the same values again.
            let wide = g.output.width >= PIXELS;
            let x = if wide { done.min(g.output.width - PIXELS) } else { done };
            // SAFETY: the caller's contract covers the taps of every output pixel.
            unsafe {
                let at = origin + y * g.stride_h * g.input.row_stride + x * g.stride_w * g.input.pixel_stride;
                let block = Block {
                    conv,
                    input: input.add(at),
                    epilogue,
                    residual: epilogue
                        .residual
                        .map(|(values, image)| (values.as_ptr().add(image.at(y, x)), image.pixel_stride)),
                    output: output.add(g.output.at(y, x)),
                };
                if wide {
                    block.run::<V, PIXELS, WIDTH, STRIDE>();
                } else {
                    block.run::<V, 1, WIDTH, STRIDE>();
                }
            }
            done = x + if wide { PIXELS } else { 1 };
        }
    }
}

/// Neighbouring output pixels of one row.
struct Block<'a> {
    conv: &'a DepthwiseF32,
    /// The first tap's channel 0 of the first pixel.
    input: *const f32,
    epilogue: &'a Epilogue<'a>,
    /// Channel 0 of the first pixel's residual, and the distance to the next pixel's.
    residual: Option<(*const f32, usize)>,
    /// Channel 0 of the first pixel's output.
    output: *mut f32,
}

impl Block<'_> {
    /// # Safety
    ///
    /// `V`'s instruction set is there and all pointers are valid for `COUNT` pixels.
    #[inline(always)]
    unsafe fn run<V: Vector, const COUNT: usize, const WIDTH: usize, const STRIDE: usize>(&self) {
        let channels = self.conv.geometry.output.channels;
        let mut channel = 0;
        // SAFETY: every step stays within the channels; the last one is masked.
        unsafe {
            while channel + V::LANES <= channels {
                self.channels::<V, COUNT, WIDTH, STRIDE>(channel, V::LANES);
                channel += V::LANES;
            }
            if channel < channels {
                self.channels::<V, COUNT, WIDTH, STRIDE>(channel, channels - channel);
            }
        }
    }

    /// Computes one register of channels from `channel` on, of which `lanes` are real.
    ///
    /// # Safety
    ///
    /// As [`Block::run`], and the lanes are channels that exist.
    #[inline(always)]
    unsafe fn channels<V: Vector, const COUNT: usize, const WIDTH: usize, const STRIDE: usize>(
        &self,
        channel: usize,
        lanes: usize,
    ) {
        let whole = lanes == V::LANES;
        let g = &self.conv.geometry;
        // SAFETY: the caller's contract covers every access below.
        unsafe {
            let load = |from: *const f32| if whole { V::load(from) } else { V::load_partial(from, lanes) };
            let mut sums = [V::zero(); COUNT];
            let weights = self.conv.weights.as_ptr().add(channel);
            let input = self.input.add(channel);
            if WIDTH == 0 {
                let step = g.stride_w * g.input.pixel_stride;
                for (index, &tap) in self.conv.taps.iter().enumerate() {
                    let weight = load(weights.add(index * g.output.channels));
                    for pixel in 0..COUNT {
                        sums[pixel] = load(input.add(tap + pixel * step)).mul_add(weight, sums[pixel]);
                    }
                }
            } else {
                for kh in 0..g.kernel_h {
                    let row = input.add(kh * g.dilation_h * g.input.row_stride);
                    let weights = weights.add(kh * WIDTH * g.output.channels);
                    // Columns ascend, so each sum still meets its taps in ascending order.
                    for column in 0..(COUNT - 1) * STRIDE + WIDTH {
                        let value = load(row.add(column * g.input.pixel_stride));
                        for pixel in 0..COUNT {
                            if column >= pixel * STRIDE && column < pixel * STRIDE + WIDTH {
                                let weight = load(weights.add((column - pixel * STRIDE) * g.output.channels));
                                sums[pixel] = value.mul_add(weight, sums[pixel]);
                            }
                        }
                    }
                }
            }
            let (lo, hi) = (V::splat(self.epilogue.lo), V::splat(self.epilogue.hi));
            let bias = load(self.epilogue.bias.as_ptr().add(channel));
            for pixel in 0..COUNT {
                let mut value = sums[pixel].add(bias);
                if let Some((residual, stride)) = self.residual {
                    value = value.add(load(residual.add(pixel * stride + channel)));
                }
                value = value.greater(lo).less(hi);
                let to = self.output.add(pixel * g.output.pixel_stride + channel);
                if whole {
                    value.store(to);
                } else {
                    value.store_partial(to, lanes);
                }
            }
        }
    }
}
