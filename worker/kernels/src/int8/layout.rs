//! Moving images between layouts and filling the borders that padded windows read.

use crate::Image;

/// Border pixels on each side of an image's interior.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Border {
    /// Rows above.
    pub top: usize,
    /// Pixels to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Pixels to the right.
    pub right: usize,
}

/// Fills the border of an image with a code, or with one code a channel.
///
/// `codes` holds one element for all channels or one a channel.
///
/// # Panics
/// When the border does not lie in the buffer, or `codes` has another length.
pub fn fill_border<T: Copy>(buffer: &mut [T], image: &Image, border: &Border, codes: &[T]) {
    assert!(codes.len() == 1 || codes.len() == image.channels, "one border code, or one a channel");
    let start = border.top * image.row_stride + border.left * image.pixel_stride;
    assert!(start <= image.offset, "the border reaches in front of the buffer");
    let row_pixels = border.left + image.width + border.right;
    let mut fill = |from: usize, pixels: usize| {
        if codes.len() == 1 && image.pixel_stride == image.channels {
            buffer[from..][..pixels * image.channels].fill(codes[0]);
            return;
        }
        for pixel in 0..pixels {
            let pixel = &mut buffer[from + pixel * image.pixel_stride..][..image.channels];
            if codes.len() == 1 { pixel.fill(codes[0]) } else { pixel.copy_from_slice(codes) }
        }
    };
    for row in 0..border.top + image.height + border.bottom {
        let from = image.offset - start + row * image.row_stride;
        if row < border.top || row >= border.top + image.height {
            fill(from, row_pixels);
        } else {
            fill(from, border.left);
            fill(from + (border.left + image.width) * image.pixel_stride, border.right);
        }
    }
}

/// Copies an image's interior from one layout to another.
///
/// # Panics
/// When the images differ in extents or reach beyond their slices.
pub fn copy_image<T: Copy>((input, input_image): (&[T], &Image), (output, output_image): (&mut [T], &Image)) {
    assert_same_extents(input_image, output_image);
    for_each_run([input_image, output_image], |[from, to], length| {
        output[to..][..length].copy_from_slice(&input[from..][..length]);
    });
}

/// Asserts that two images have the same height, width and channels.
pub(crate) fn assert_same_extents(a: &Image, b: &Image) {
    assert_eq!((a.height, a.width, a.channels), (b.height, b.width, b.channels), "the images differ in extents");
}

/// Calls `visit` with the start in every image, and the length, of each longest run that is consecutive in all.
///
/// The images have the same extents.
pub(crate) fn for_each_run<const N: usize>(images: [&Image; N], mut visit: impl FnMut([usize; N], usize)) {
    let Some(&&Image { height, width, channels, .. }) = images.first() else { return };
    if height == 0 || width == 0 || channels == 0 {
        return;
    }
    let row = width * channels;
    let rows_are_runs = images.iter().all(|image| width == 1 || image.pixel_stride == channels);
    if rows_are_runs && images.iter().all(|image| height == 1 || image.row_stride == row) {
        visit(images.map(|image| image.offset), height * row);
    } else if rows_are_runs {
        for y in 0..height {
            visit(images.map(|image| image.at(y, 0)), row);
        }
    } else {
        for y in 0..height {
            for x in 0..width {
                visit(images.map(|image| image.at(y, x)), channels);
            }
        }
    }
}
