//! Resizing with the pixels of the library a user names: a model was trained on one of them.

mod opencv;
mod pillow;

use super::Pixels;
use holdfast_common::dataset::ResizeFilter;

/// Resizes to an exact size. Both sizes must be positive.
pub(super) fn resize(pixels: Pixels, height: usize, width: usize, filter: ResizeFilter) -> Pixels {
    if (height, width) == (pixels.height, pixels.width) {
        return pixels;
    }
    match filter {
        ResizeFilter::PillowBilinear => pillow::resize(pixels, height, width, pillow::BILINEAR),
        ResizeFilter::PillowBicubic => pillow::resize(pixels, height, width, pillow::BICUBIC),
        ResizeFilter::OpencvLinear => opencv::resize(&pixels, height, width),
    }
}

/// The size torchvision's `Resize(size)` gives: the shorter side gets this length, the longer one is cut to an integer.
pub(super) fn shortest_side(height: usize, width: usize, size: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| size.saturating_mul(long) / short.max(1);
    if height <= width { (size, longer(width, height)) } else { (longer(height, width), size) }
}
