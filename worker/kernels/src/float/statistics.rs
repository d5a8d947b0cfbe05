//! What calibration observes: extremes, means and defects of a run or of each channel of an image.

use crate::float::dispatch::per_isa;
use crate::float::reduce::greater;
use crate::float::vector::{Vector, per_register};
use crate::{Image, Isa, image_fits};

/// The greatest absolute value, NaNs passed over; 0 for an empty run.
pub fn abs_max(isa: Isa, values: &[f32]) -> f32 {
    let (low, high) = crate::float::reduce::min_max(isa, values);
    if low > high { 0.0 } else { greater(-low, high).abs() }
}

per_isa! {
    /// How many values are infinite or NaN.
    pub fn count_non_finite(values: &[f32]) -> u64 {
        const EXPONENT: u32 = 0x7f80_0000;
        let mut total = 0u64;
        // A 32-bit count vectorises well and cannot overflow within a block.
        for block in values.chunks(1 << 20) {
            let mut count = 0u32;
            for value in block {
                count += u32::from(value.to_bits() & EXPONENT == EXPONENT);
            }
            total += u64::from(count);
        }
        total
    }
}

/// The least and the greatest value of each channel, NaNs passed over; infinity and negative infinity without a number.
///
/// # Panics
///
/// If an output does not hold one value a channel or the image does not lie in its buffer.
pub fn channel_min_max(isa: Isa, image: &Image, values: &[f32], lows: &mut [f32], highs: &mut [f32]) {
    assert_eq!((lows.len(), highs.len()), (image.channels, image.channels), "one value a channel");
    assert!(image_fits(image, values.len()), "the image does not lie in its buffer");
    // SAFETY: the image lies in `values`, and both outputs hold its channels.
    unsafe { channel_min_max_body(isa, image, values.as_ptr(), lows.as_mut_ptr(), highs.as_mut_ptr()) };
}

/// The greatest absolute value of each channel, NaNs passed over; 0 without a number.
///
/// # Panics
///
/// If `output` does not hold one value a channel or the image does not lie in its buffer.
pub fn channel_abs_max(isa: Isa, image: &Image, values: &[f32], output: &mut [f32]) {
    assert_eq!(output.len(), image.channels, "one value a channel");
    assert!(image_fits(image, values.len()), "the image does not lie in its buffer");
    // SAFETY: the image lies in `values`, and the output holds its channels.
    unsafe { channel_abs_max_body(isa, image, values.as_ptr(), output.as_mut_ptr()) };
}

/// The mean of each channel: pixels are added in row-major order in f64, then divided by their count.
///
/// An image without pixels gives NaN.
///
/// # Panics
///
/// If `output` does not hold one value a channel or the image does not lie in its buffer.
pub fn channel_mean(isa: Isa, image: &Image, values: &[f32], output: &mut [f64]) {
    assert_eq!(output.len(), image.channels, "one value a channel");
    assert!(image_fits(image, values.len()), "the image does not lie in its buffer");
    channel_mean_body(isa, image, values, output);
}

/// Registers of channels that are observed in one pass over the image.
const REGISTERS: usize = 4;

/// Folds every pixel into two registers' worth of results a register of channels, and hands the results on.
///
/// # Safety
///
/// `V`'s instruction set is there and the image lies in the buffer behind `values`.
#[inline(always)]
unsafe fn observe<V: Vector>(
    image: &Image,
    values: *const f32,
    start: (f32, f32),
    step: impl Fn((V, V), V) -> (V, V),
    mut finish: impl FnMut(usize, usize, (V, V)),
) {
    let mut channel = 0;
    while channel < image.channels {
        let left = image.channels - channel;
        let registers = if left >= REGISTERS * V::LANES { REGISTERS } else { 1 };
        let lanes = left.min(V::LANES);
        // SAFETY: the caller's contract covers the pixels; a partial register is masked.
        unsafe {
            let mut results = [(V::splat(start.0), V::splat(start.1)); REGISTERS];
            for y in 0..image.height {
                for x in 0..image.width {
                    let pixel = values.add(image.at(y, x) + channel);
                    if registers == REGISTERS {
                        for (register, result) in results.iter_mut().enumerate() {
                            *result = step(*result, V::load(pixel.add(register * V::LANES)));
                        }
                    } else if lanes == V::LANES {
                        results[0] = step(results[0], V::load(pixel));
                    } else {
                        results[0] = step(results[0], V::load_partial(pixel, lanes));
                    }
                }
            }
            for (register, result) in results.into_iter().enumerate().take(registers) {
                finish(channel + register * V::LANES, lanes, result);
            }
        }
        channel += registers * V::LANES;
    }
}

/// # Safety
///
/// `V`'s instruction set is there and `lanes` values can be written.
#[inline(always)]
unsafe fn store<V: Vector>(value: V, to: *mut f32, lanes: usize) {
    // SAFETY: the caller's contract.
    unsafe { if lanes == V::LANES { value.store(to) } else { value.store_partial(to, lanes) } }
}

per_register! {
    unsafe fn channel_min_max_body<V>(image: &Image, values: *const f32, lows: *mut f32, highs: *mut f32) {
        // SAFETY: the caller's contract covers the image and its channels in both outputs.
        unsafe {
            observe::<V>(
                image,
                values,
                (f32::INFINITY, f32::NEG_INFINITY),
                #[inline(always)]
                |(low, high), value| (value.less(low), value.greater(high)),
                #[inline(always)]
                |channel, lanes, (low, high)| {
                    store(low, lows.add(channel), lanes);
                    store(high, highs.add(channel), lanes);
                },
            );
        }
    }

    unsafe fn channel_abs_max_body<V>(image: &Image, values: *const f32, output: *mut f32) {
        // SAFETY: the caller's contract covers the image and its channels in the output.
        unsafe {
            observe::<V>(
                image,
                values,
                (0.0, 0.0),
                #[inline(always)]
                |(most, unused), value| (value.abs().greater(most), unused),
                #[inline(always)]
                |channel, lanes, (most, _)| store(most, output.add(channel), lanes),
            );
        }
    }
}

per_isa! {
    fn channel_mean_body(image: &Image, values: &[f32], output: &mut [f64]) {
        output.fill(0.0);
        for y in 0..image.height {
            for x in 0..image.width {
                for (to, &value) in output.iter_mut().zip(&values[image.at(y, x)..][..image.channels]) {
                    *to += f64::from(value);
                }
            }
        }
        let count = image.pixels() as f64;
        for to in output {
            *to /= count;
        }
    }
}
