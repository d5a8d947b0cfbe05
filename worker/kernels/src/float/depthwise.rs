//! Depthwise float convolution: every channel with its own window, lanes across channels.
//!
//! Each output is `acc = 0; for (kh, kw) ascending: acc = fma(x, w, acc)`, then the epilogue of a dense convolution.

// Registers are indexed by tile position: an iterator would hide that every array is walked in step.
#![allow(clippy::needless_range_loop)]

use crate::float::conv::Epilogue;
use crate::float::vector::{Vector, per_register};
use crate::{ConvGeometry, GeometryError, Isa};

/// Neighbouring output pixels computed together, so that a weight is loaded once for all of them.
const PIXELS: usize = 4;
/// Registers of channels computed together.
const REGISTERS: usize = 2;

/// A depthwise convolution of one geometry with its weights, ready to run on one instruction set.
#[derive(Clone, Debug)]
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
        let origin = g.input.offset - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride;
        for y in 0..g.output.height {
            let mut x = 0;
            while x < g.output.width {
                let pixels = if g.output.width - x >= PIXELS { PIXELS } else { 1 };
                // SAFETY: the caller's contract covers the taps of every output pixel.
                unsafe {
                    let at = origin + y * g.stride_h * g.input.row_stride + x * g.stride_w * g.input.pixel_stride;
                    let block = Block {
                        conv,
                        input: input.add(at),
                        epilogue,
                        residual: epilogue.residual.map(|(values, image)| {
                            (values.as_ptr().add(image.at(y, x)), image.pixel_stride)
                        }),
                        output: output.add(g.output.at(y, x)),
                    };
                    if pixels == PIXELS { block.run::<V, PIXELS>() } else { block.run::<V, 1>() }
                }
                x += pixels;
            }
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
    unsafe fn run<V: Vector, const COUNT: usize>(&self) {
        let channels = self.conv.geometry.output.channels;
        let mut channel = 0;
        // SAFETY: every step stays within the channels; the last one is masked.
        unsafe {
            while channel + REGISTERS * V::LANES <= channels {
                self.channels::<V, COUNT, REGISTERS>(channel, V::LANES);
                channel += REGISTERS * V::LANES;
            }
            while channel + V::LANES <= channels {
                self.channels::<V, COUNT, 1>(channel, V::LANES);
                channel += V::LANES;
            }
            if channel < channels {
                self.channels::<V, COUNT, 1>(channel, channels - channel);
            }
        }
    }

    /// Computes `WIDTH` registers of channels from `channel` on; `lanes` of each are real.
    ///
    /// # Safety
    ///
    /// As [`Block::run`], and the lanes are channels that exist.
    #[inline(always)]
    unsafe fn channels<V: Vector, const COUNT: usize, const WIDTH: usize>(&self, channel: usize, lanes: usize) {
        let whole = lanes == V::LANES;
        let g = &self.conv.geometry;
        let stride = g.stride_w * g.input.pixel_stride;
        // SAFETY: the caller's contract covers every access below.
        unsafe {
            let load = |from: *const f32| if whole { V::load(from) } else { V::load_partial(from, lanes) };
            let mut sums = [[V::zero(); WIDTH]; COUNT];
            let mut weights = self.conv.weights.as_ptr().add(channel);
            let input = self.input.add(channel);
            for &tap in &self.conv.taps {
                for register in 0..WIDTH {
                    let weight = load(weights.add(register * V::LANES));
                    for pixel in 0..COUNT {
                        let value = load(input.add(tap + pixel * stride + register * V::LANES));
                        sums[pixel][register] = value.mul_add(weight, sums[pixel][register]);
                    }
                }
                weights = weights.wrapping_add(g.output.channels);
            }
            let (lo, hi) = (V::splat(self.epilogue.lo), V::splat(self.epilogue.hi));
            for register in 0..WIDTH {
                let at = channel + register * V::LANES;
                let bias = load(self.epilogue.bias.as_ptr().add(at));
                for pixel in 0..COUNT {
                    let mut value = sums[pixel][register].add(bias);
                    if let Some((residual, stride)) = self.residual {
                        value = value.add(load(residual.add(pixel * stride + at)));
                    }
                    value = value.greater(lo).less(hi);
                    let to = self.output.add(pixel * g.output.pixel_stride + at);
                    if whole {
                        value.store(to);
                    } else {
                        value.store_partial(to, lanes);
                    }
                }
            }
        }
    }
}
