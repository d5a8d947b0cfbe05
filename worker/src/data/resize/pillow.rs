//! Pillow's `Image.resize`: a separable filter widened by the scale (so that shrinking does not alias), in 22-bit fixed point.
//!
//! Coefficients are computed in f64 and normalised, rounded to 22 fractional bits; what the first pass gives is
//! rounded to 8 bits before the second. The pixels are those of Pillow 13.

use super::super::Pixels;

const FRACTION_BITS: u32 = 22;

/// A resampling kernel.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Half its width at scale 1.
    support: f64,
    weight: fn(f64) -> f64,
}

/// The triangle.
pub(super) const BILINEAR: Kernel = Kernel { support: 1.0, weight: |x| (1.0 - x.abs()).max(0.0) };

/// Keys' cubic convolution with a = −0.5.
pub(super) const BICUBIC: Kernel = Kernel {
    support: 2.0,
    weight: |x| {
        const A: f64 = -0.5;
        let x = x.abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    },
};

/// What one output position reads: the first input position and the fixed-point weights from there on.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: usize, to: usize, kernel: Kernel) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let support = kernel.support * widening;
    let tap = |position: usize| {
        let center = (position as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let distance = |at: usize| (at as f64 + first as f64 - center + 0.5) * (1.0 / widening);
        let mut weights: Vec<f64> = (0..end - first).map(|at| (kernel.weight)(distance(at))).collect();
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let fixed = |weight: &f64| {
            let scaled = weight * f64::from(1 << FRACTION_BITS);
            (if *weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

pub(super) fn resize(pixels: Pixels, height: usize, width: usize, kernel: Kernel) -> Pixels {
    let columns = (width != pixels.width).then(|| taps(pixels.width, width, kernel));
    let rows = (height != pixels.height).then(|| taps(pixels.height, height, kernel));
    match (columns, rows) {
        (None, None) => pixels,
        (Some(columns), None) => horizontal(&pixels, &columns),
        (None, Some(rows)) => vertical(&pixels, &rows),
        (Some(columns), Some(rows)) if is_vertical_first(&pixels, height, width) => {
            horizontal(&vertical(&pixels, &rows), &columns)
        }
        (Some(columns), Some(rows)) => vertical(&horizontal(&pixels, &columns), &rows),
    }
}

/// Since release 13 the pass that drops many rows comes before the one that drops few columns; the rounding between the
/// passes makes the order visible. Earlier releases always began with the horizontal pass.
fn is_vertical_first(pixels: &Pixels, height: usize, width: usize) -> bool {
    let dropped_columns = pixels.width as i64 - width as i64;
    let dropped_rows = pixels.height as i64 - height as i64;
    dropped_rows > 0 && dropped_rows > 2 * dropped_columns
}

fn round(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn horizontal(pixels: &Pixels, taps: &[Tap]) -> Pixels {
    match pixels.channels {
        3 => horizontal_of::<3>(pixels, taps),
        _ => horizontal_of::<1>(pixels, taps),
    }
}

fn horizontal_of<const CHANNELS: usize>(pixels: &Pixels, taps: &[Tap]) -> Pixels {
    let mut values = vec![0; pixels.height * taps.len() * CHANNELS];
    let rows = pixels.values.chunks_exact(pixels.width * CHANNELS);
    for (source, target) in rows.zip(values.chunks_exact_mut(taps.len() * CHANNELS)) {
        for (tap, pixel) in taps.iter().zip(target.chunks_exact_mut(CHANNELS)) {
            let mut sums = [HALF; CHANNELS];
            for (weight, from) in tap.weights.iter().zip(source[tap.first * CHANNELS..].chunks_exact(CHANNELS)) {
                for (sum, value) in sums.iter_mut().zip(from) {
                    *sum = sum.wrapping_add(weight * i32::from(*value));
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = round(sum);
            }
        }
    }
    Pixels { height: pixels.height, width: taps.len(), channels: CHANNELS, values }
}

fn vertical(pixels: &Pixels, taps: &[Tap]) -> Pixels {
    let stride = pixels.width * pixels.channels;
    let mut values = Vec::with_capacity(taps.len() * stride);
    let mut sums = vec![HALF; stride];
    for tap in taps {
        sums.fill(HALF);
        for (weight, row) in tap.weights.iter().zip(pixels.values.chunks_exact(stride).skip(tap.first)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(weight * i32::from(*value));
            }
        }
        values.extend(sums.iter().map(|&sum| round(sum)));
    }
    Pixels { height: taps.len(), width: pixels.width, channels: pixels.channels, values }
}
