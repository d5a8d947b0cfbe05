//! What int8 kernels derive from a window's geometry, checked once and free of any instruction set.

use super::{DepthRuns, Int8Error, K_GROUP};
use crate::{ConvGeometry, Image};

impl ConvGeometry {
    /// The matrix product `rows x depth` times `depth x columns`, all matrices dense.
    pub fn matmul(rows: usize, depth: usize, columns: usize) -> ConvGeometry {
        ConvGeometry::matrix(rows, depth, columns, depth, columns)
    }

    /// Which way the depth of this convolution's weights has to be packed.
    ///
    /// Where neighbouring taps of a filter row are neighbours in memory the whole row is one run, which wastes less
    /// depth on rounding up to groups of four; with channels in multiples of four both ways are the same bytes.
    pub fn depth_runs(&self) -> DepthRuns {
        if self.kernel_w > 1 && self.row_is_contiguous() && !self.input.channels.is_multiple_of(K_GROUP) {
            DepthRuns::Rows
        } else {
            DepthRuns::Taps
        }
    }

    /// Whether a filter row's taps are consecutive bytes.
    pub(crate) fn row_is_contiguous(&self) -> bool {
        self.kernel_w == 1 || (self.dilation_w == 1 && self.input.pixel_stride == self.input.channels)
    }

    /// Element index of channel 0 under the first tap of the first window.
    pub(crate) fn first_element(&self) -> usize {
        self.input.offset - self.pad_top * self.input.row_stride - self.pad_left * self.input.pixel_stride
    }

    /// Checks everything about the geometry that does not depend on a buffer.
    pub(crate) fn check_window(&self) -> Result<(), Int8Error> {
        for (what, value) in [
            ("kernel_h", self.kernel_h),
            ("kernel_w", self.kernel_w),
            ("stride_h", self.stride_h),
            ("stride_w", self.stride_w),
            ("dilation_h", self.dilation_h),
            ("dilation_w", self.dilation_w),
        ] {
            if value == 0 {
                return Err(Int8Error::ZeroExtent { what });
            }
        }
        check_image("input", &self.input)?;
        check_image("output", &self.output)
    }

    /// Checks a convolution's geometry and returns one past the last input element its windows address.
    pub(crate) fn check_bordered(&self) -> Result<usize, Int8Error> {
        self.check_window()?;
        if self.is_empty() {
            return Ok(0);
        }
        let product = |a: usize, b: usize| a.checked_mul(b).ok_or(Int8Error::TooLarge);
        let sum = |a: usize, b: usize| a.checked_add(b).ok_or(Int8Error::TooLarge);
        let back =
            sum(product(self.pad_top, self.input.row_stride)?, product(self.pad_left, self.input.pixel_stride)?)?;
        if back > self.input.offset {
            return Err(Int8Error::BorderTooSmall { needed: back, present: self.input.offset });
        }
        let last_row =
            sum(product(self.output.height - 1, self.stride_h)?, product(self.kernel_h - 1, self.dilation_h)?)?;
        let last_column =
            sum(product(self.output.width - 1, self.stride_w)?, product(self.kernel_w - 1, self.dilation_w)?)?;
        let forward = sum(product(last_row, self.input.row_stride)?, product(last_column, self.input.pixel_stride)?)?;
        let end = sum(sum(self.input.offset - back, forward)?, self.input.channels)?;
        // Slices never exceed isize::MAX bytes, so a geometry that fits behind this bound can be used in pointer sums.
        if end > isize::MAX as usize / 8 { Err(Int8Error::TooLarge) } else { Ok(end) }
    }
}

/// Checks that pixels and rows of an image do not overlap and that its end can be computed.
pub(crate) fn check_image(which: &'static str, image: &Image) -> Result<(), Int8Error> {
    if image.height == 0 || image.width == 0 || image.channels == 0 {
        return Ok(());
    }
    let row = image.width.checked_mul(image.pixel_stride).ok_or(Int8Error::TooLarge)?;
    // A channel slice of the last pixels may end before the stride does, so the row is measured without that rest.
    if image.pixel_stride < image.channels || (image.height > 1 && image.row_stride < row) {
        return Err(Int8Error::OverlappingImage { which });
    }
    let rows = (image.height - 1).checked_mul(image.row_stride).ok_or(Int8Error::TooLarge)?;
    let end = rows.checked_add(row).and_then(|end| end.checked_add(image.offset)).ok_or(Int8Error::TooLarge)?;
    if end > isize::MAX as usize / 8 { Err(Int8Error::TooLarge) } else { Ok(()) }
}
