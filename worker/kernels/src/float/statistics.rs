//! What calibration observes: extremes, means and defects of a run or of each channel of an image.

use crate::float::dispatch::per_isa;
use crate::float::reduce::{greater, lesser};
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
    channel_min_max_body(isa, image, values, lows, highs);
}

/// The greatest absolute value of each channel, NaNs passed over; 0 without a number.
///
/// # Panics
///
/// If `output` does not hold one value a channel or the image does not lie in its buffer.
pub fn channel_abs_max(isa: Isa, image: &Image, values: &[f32], output: &mut [f32]) {
    assert_eq!(output.len(), image.channels, "one value a channel");
    assert!(image_fits(image, values.len()), "the image does not lie in its buffer");
    channel_abs_max_body(isa, image, values, output);
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

per_isa! {
    fn channel_min_max_body(image: &Image, values: &[f32], lows: &mut [f32], highs: &mut [f32]) {
        lows.fill(f32::INFINITY);
        highs.fill(f32::NEG_INFINITY);
        for y in 0..image.height {
            for x in 0..image.width {
                let pixel = &values[image.at(y, x)..][..image.channels];
                for ((low, high), &value) in lows.iter_mut().zip(highs.iter_mut()).zip(pixel) {
                    *low = lesser(value, *low);
                    *high = greater(value, *high);
                }
            }
        }
    }

    fn channel_abs_max_body(image: &Image, values: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        for y in 0..image.height {
            for x in 0..image.width {
                for (to, &value) in output.iter_mut().zip(&values[image.at(y, x)..][..image.channels]) {
                    *to = greater(value.abs(), *to);
                }
            }
        }
    }

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
