//! Moving values between a plain channels-first slice and an NHWC image, for any element type.
//!
//! Copies have no arithmetic, so they take no instruction set.

use crate::{Image, image_fits};

/// Pixels and channels of the square that is transposed at a time: reads and writes both stay within a few cache lines.
const SQUARE: usize = 16;

/// Copies `[channels][height][width]` into an image; elements outside its interior are not written.
///
/// # Panics
///
/// If `input` does not hold the image's elements or the image does not lie in `output`.
pub fn nchw_to_image<T: Copy>(input: &[T], image: &Image, output: &mut [T]) {
    check(input.len(), image, output.len());
    each_square(image, |channels, y, columns| {
        let to = &mut output[image.at(y, columns.start)..image.at(y, columns.end - 1) + image.channels];
        for channel in channels {
            let from = &input[channel * image.pixels() + y * image.width..][columns.clone()];
            for (x, &value) in from.iter().enumerate() {
                to[x * image.pixel_stride + channel] = value;
            }
        }
    });
}

/// Copies an image into `[channels][height][width]`.
///
/// # Panics
///
/// If `output` does not hold the image's elements or the image does not lie in `input`.
pub fn image_to_nchw<T: Copy>(image: &Image, input: &[T], output: &mut [T]) {
    check(output.len(), image, input.len());
    each_square(image, |channels, y, columns| {
        let from = &input[image.at(y, columns.start)..image.at(y, columns.end - 1) + image.channels];
        for channel in channels {
            let to = &mut output[channel * image.pixels() + y * image.width..][columns.clone()];
            for (x, to) in to.iter_mut().enumerate() {
                *to = from[x * image.pixel_stride + channel];
            }
        }
    });
}

/// Copies one image into another of the same extents.
///
/// # Panics
///
/// If the extents differ or an image does not lie in its buffer.
pub fn copy_image<T: Copy>(from: &Image, input: &[T], to: &Image, output: &mut [T]) {
    let extents = |image: &Image| (image.height, image.width, image.channels);
    assert_eq!(extents(from), extents(to), "images of different extents");
    assert!(image_fits(from, input.len()), "the input image does not lie in its buffer");
    assert!(image_fits(to, output.len()), "the output image does not lie in its buffer");
    if from.channels == 0 {
        return;
    }
    for y in 0..from.height {
        for x in 0..from.width {
            output[to.at(y, x)..][..to.channels].copy_from_slice(&input[from.at(y, x)..][..from.channels]);
        }
    }
}

fn check(plain_len: usize, image: &Image, buffer_len: usize) {
    assert_eq!(Some(plain_len), image.pixels().checked_mul(image.channels), "a plain slice holds the image's elements");
    assert!(image_fits(image, buffer_len), "the image does not lie in its buffer");
}

/// Visits every square of channels by columns of every row.
fn each_square(image: &Image, mut visit: impl FnMut(std::ops::Range<usize>, usize, std::ops::Range<usize>)) {
    for y in 0..image.height {
        for column in (0..image.width).step_by(SQUARE) {
            for channel in (0..image.channels).step_by(SQUARE) {
                let columns = column..image.width.min(column + SQUARE);
                visit(channel..image.channels.min(channel + SQUARE), y, columns);
            }
        }
    }
}
