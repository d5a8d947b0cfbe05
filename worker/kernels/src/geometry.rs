//! The geometry of a sliding window: which input elements each output pixel reads, and whether they lie in the buffers.

use std::fmt;

use crate::Image;

/// No extent, stride, dilation or padding may exceed this, so that every product of four of them fits 128 bits.
pub const EXTENT_MAX: usize = 1 << 31;

/// One convolution or pooling window over one NHWC image.
///
/// Output pixel `(y, x)` reads, for each tap `(kh, kw)`, the input pixel
/// `(y * stride_h + kh * dilation_h - pad_top, x * stride_w + kw * dilation_w - pad_left)`. A pixel outside the input's
/// interior is read from the border its buffer carries; the padding below and to the right is whatever the taps of the
/// last output pixels reach ([`ConvGeometry::border`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Rows of the window.
    pub kernel_h: usize,
    /// Columns of the window.
    pub kernel_w: usize,
    /// Input rows from one output row to the next.
    pub stride_h: usize,
    /// Input columns from one output column to the next.
    pub stride_w: usize,
    /// Input rows from one row of taps to the next.
    pub dilation_h: usize,
    /// Input columns from one column of taps to the next.
    pub dilation_w: usize,
    /// Padding rows above the input.
    pub pad_top: usize,
    /// Padding columns left of the input.
    pub pad_left: usize,
    /// Where the input lies in its buffer.
    pub input: Image,
    /// Where the output lies in its buffer.
    pub output: Image,
}

/// Why a window cannot run over the buffers it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// A kernel extent, stride or dilation is zero.
    Zero {
        /// The field.
        field: &'static str,
    },
    /// A field exceeds [`EXTENT_MAX`].
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
    },
    /// Pixels or rows of an image overlap: a stride is shorter than what it has to step over.
    Overlap {
        /// `input` or `output`.
        buffer: &'static str,
    },
    /// The first tap would read before the start of the input buffer: its border is too small.
    BeforeInput {
        /// Elements missing in front of the buffer.
        missing: u128,
    },
    /// A buffer ends before the last element the window touches.
    TooShort {
        /// `input` or `output`.
        buffer: &'static str,
        /// Elements needed.
        needed: u128,
        /// Elements there.
        len: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeometryError::Zero { field } => write!(f, "window geometry: {field} is 0; it must be at least 1"),
            GeometryError::TooLarge { field, value } => {
                write!(f, "window geometry: {field} is {value}; the most supported is {EXTENT_MAX}")
            }
            GeometryError::Overlap { buffer } => {
                write!(f, "window geometry: pixels or rows of the {buffer} overlap; enlarge its strides")
            }
            GeometryError::BeforeInput { missing } => write!(
                f,
                "window geometry: the first tap lies {missing} elements before the input buffer; \
                 give the input a border of at least the padding"
            ),
            GeometryError::TooShort { buffer, needed, len } => write!(
                f,
                "window geometry: the {buffer} buffer has {len} elements but the last one touched needs {needed}; \
                 enlarge the buffer or its border"
            ),
        }
    }
}

impl std::error::Error for GeometryError {}

impl ConvGeometry {
    /// A matrix product as a 1x1 window: `rows` pixels of `depth` channels in, `rows` pixels of `columns` channels out.
    ///
    /// Strides are counted in elements from one row of the matrix to the next.
    pub fn matrix(
        rows: usize,
        depth: usize,
        columns: usize,
        input_stride: usize,
        output_stride: usize,
    ) -> ConvGeometry {
        let image = |channels, stride: usize| Image {
            height: 1,
            width: rows,
            channels,
            pixel_stride: stride,
            row_stride: rows.saturating_mul(stride),
            offset: 0,
        };
        ConvGeometry {
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            input: image(depth, input_stride),
            output: image(columns, output_stride),
        }
    }

    /// Output pixels along one axis for a padded input, rounded down; 0 when the window does not fit or a count is 0.
    ///
    /// `pads` is the padding before plus the padding after. This is ONNX `Conv` and `MaxPool` with `ceil_mode` 0.
    pub fn output_extent(input: usize, kernel: usize, stride: usize, dilation: usize, pads: usize) -> usize {
        if kernel == 0 || stride == 0 {
            return 0;
        }
        let padded = input as u128 + pads as u128;
        let reach = (kernel as u128 - 1) * dilation as u128 + 1;
        if padded < reach { 0 } else { ((padded - reach) / stride as u128 + 1) as usize }
    }

    /// Border pixels `[top, left, bottom, right]` that the taps reach outside the input's interior.
    pub fn border(&self) -> [usize; 4] {
        if self.is_empty() {
            return [0; 4];
        }
        let after = |outputs: usize, stride: usize, kernel: usize, dilation: usize, pad: usize, inputs: usize| {
            let last = (outputs - 1) as u128 * stride as u128 + (kernel - 1) as u128 * dilation as u128;
            last.saturating_sub(pad as u128 + inputs as u128 - 1) as usize
        };
        [
            self.pad_top,
            self.pad_left,
            after(self.output.height, self.stride_h, self.kernel_h, self.dilation_h, self.pad_top, self.input.height),
            after(self.output.width, self.stride_w, self.kernel_w, self.dilation_w, self.pad_left, self.input.width),
        ]
    }

    /// Whether the window produces or reads nothing, so that running it touches no buffer.
    pub fn is_empty(&self) -> bool {
        [
            self.kernel_h,
            self.kernel_w,
            self.input.height,
            self.input.width,
            self.output.height,
            self.output.width,
            self.output.channels,
        ]
        .contains(&0)
    }

    /// Multiply-accumulates of a dense convolution over this window.
    pub fn macs(&self) -> u64 {
        [self.output.width, self.output.channels, self.kernel_h, self.kernel_w, self.input.channels]
            .into_iter()
            .fold(self.output.height as u64, |product, extent| product.saturating_mul(extent as u64))
    }

    /// Checks that every element the window reads or writes lies in buffers of these lengths (in elements).
    ///
    /// An empty window passes: it touches nothing. A border that is there but too narrow within a row cannot be seen
    /// from lengths alone; [`ConvGeometry::border`] says how wide it has to be.
    ///
    /// # Errors
    ///
    /// The first [`GeometryError`] found.
    pub fn validate(&self, input_len: usize, output_len: usize) -> Result<(), GeometryError> {
        self.check_fields()?;
        if self.is_empty() {
            return Ok(());
        }
        for (buffer, image) in [("input", &self.input), ("output", &self.output)] {
            if overlaps(image) {
                return Err(GeometryError::Overlap { buffer });
            }
        }
        let wide = |value: usize| value as i128;
        let element = |y: i128, x: i128| {
            wide(self.input.offset) + y * wide(self.input.row_stride) + x * wide(self.input.pixel_stride)
        };
        let first = element(-wide(self.pad_top), -wide(self.pad_left));
        if first < 0 {
            return Err(GeometryError::BeforeInput { missing: first.unsigned_abs() });
        }
        let last_y = wide(self.output.height - 1) * wide(self.stride_h)
            + wide(self.kernel_h - 1) * wide(self.dilation_h)
            - wide(self.pad_top);
        let last_x = wide(self.output.width - 1) * wide(self.stride_w)
            + wide(self.kernel_w - 1) * wide(self.dilation_w)
            - wide(self.pad_left);
        let input_end = element(last_y, last_x) + wide(self.input.channels);
        if input_end > wide(input_len) {
            return Err(GeometryError::TooShort { buffer: "input", needed: input_end.unsigned_abs(), len: input_len });
        }
        let output_end = wide(self.output.offset)
            + wide(self.output.height - 1) * wide(self.output.row_stride)
            + wide(self.output.width - 1) * wide(self.output.pixel_stride)
            + wide(self.output.channels);
        if output_end > wide(output_len) {
            return Err(GeometryError::TooShort {
                buffer: "output",
                needed: output_end.unsigned_abs(),
                len: output_len,
            });
        }
        Ok(())
    }

    /// Checks the fields by themselves: none too large, no step of 0 unless the window is empty.
    pub(crate) fn check_fields(&self) -> Result<(), GeometryError> {
        for (field, value) in self.fields() {
            if value > EXTENT_MAX {
                return Err(GeometryError::TooLarge { field, value });
            }
        }
        if self.is_empty() {
            return Ok(());
        }
        for (field, value) in [
            ("stride_h", self.stride_h),
            ("stride_w", self.stride_w),
            ("dilation_h", self.dilation_h),
            ("dilation_w", self.dilation_w),
        ] {
            if value == 0 {
                return Err(GeometryError::Zero { field });
            }
        }
        Ok(())
    }

    fn fields(&self) -> [(&'static str, usize); 20] {
        [
            ("kernel_h", self.kernel_h),
            ("kernel_w", self.kernel_w),
            ("stride_h", self.stride_h),
            ("stride_w", self.stride_w),
            ("dilation_h", self.dilation_h),
            ("dilation_w", self.dilation_w),
            ("pad_top", self.pad_top),
            ("pad_left", self.pad_left),
            ("input.height", self.input.height),
            ("input.width", self.input.width),
            ("input.channels", self.input.channels),
            ("input.pixel_stride", self.input.pixel_stride),
            ("input.row_stride", self.input.row_stride),
            ("input.offset", self.input.offset),
            ("output.height", self.output.height),
            ("output.width", self.output.width),
            ("output.channels", self.output.channels),
            ("output.pixel_stride", self.output.pixel_stride),
            ("output.row_stride", self.output.row_stride),
            ("output.offset", self.output.offset),
        ]
    }
}

/// Whether every element of an image's interior lies in a buffer of `len` elements; overlapping pixels do not.
pub fn image_fits(image: &Image, len: usize) -> bool {
    if image.height == 0 || image.width == 0 || image.channels == 0 {
        return true;
    }
    let fields = [image.height, image.width, image.channels, image.pixel_stride, image.row_stride, image.offset];
    if fields.into_iter().any(|value| value > EXTENT_MAX) || overlaps(image) {
        return false;
    }
    let end = image.offset as u128
        + (image.height - 1) as u128 * image.row_stride as u128
        + (image.width - 1) as u128 * image.pixel_stride as u128
        + image.channels as u128;
    end <= len as u128
}

fn overlaps(image: &Image) -> bool {
    let row = (image.width as u128 - 1) * image.pixel_stride as u128 + image.channels as u128;
    let columns_overlap = image.width > 1 && image.pixel_stride < image.channels;
    let rows_overlap = image.height > 1 && (image.row_stride as u128) < row;
    columns_overlap || rows_overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_by_three() -> (ConvGeometry, usize, usize) {
        let (input, input_len) = Image::bordered(5, 6, 2, [1, 1, 1, 1]);
        let output = Image::dense(5, 6, 4);
        let geometry = ConvGeometry {
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 1,
            input,
            output,
        };
        (geometry, input_len, 5 * 6 * 4)
    }

    #[test]
    fn buffers_that_just_fit_pass_and_one_element_less_is_named() {
        let (geometry, input_len, output_len) = three_by_three();
        assert_eq!(geometry.border(), [1, 1, 1, 1]);
        assert_eq!(geometry.macs(), 5 * 6 * 4 * 9 * 2);
        assert_eq!(geometry.validate(input_len, output_len), Ok(()));
        assert_eq!(
            geometry.validate(input_len - 1, output_len),
            Err(GeometryError::TooShort { buffer: "input", needed: input_len as u128, len: input_len - 1 })
        );
        assert_eq!(
            geometry.validate(input_len, output_len - 1),
            Err(GeometryError::TooShort { buffer: "output", needed: output_len as u128, len: output_len - 1 })
        );
    }

    #[test]
    fn a_missing_border_is_refused() {
        let (mut geometry, input_len, output_len) = three_by_three();
        geometry.input = Image::dense(5, 6, 2);
        assert_eq!(geometry.validate(input_len, output_len), Err(GeometryError::BeforeInput { missing: 14 }));
    }

    #[test]
    fn hostile_numbers_are_refused_without_overflow() {
        let (mut geometry, input_len, output_len) = three_by_three();
        geometry.stride_h = 0;
        assert_eq!(geometry.validate(input_len, output_len), Err(GeometryError::Zero { field: "stride_h" }));
        geometry.stride_h = usize::MAX;
        assert_eq!(
            geometry.validate(input_len, output_len),
            Err(GeometryError::TooLarge { field: "stride_h", value: usize::MAX })
        );
        geometry.stride_h = EXTENT_MAX;
        geometry.dilation_h = EXTENT_MAX;
        geometry.output.row_stride = EXTENT_MAX;
        assert!(matches!(
            geometry.validate(input_len, output_len),
            Err(GeometryError::TooShort { buffer: "input", .. })
        ));
        geometry.output.pixel_stride = 3;
        assert_eq!(geometry.validate(input_len, output_len), Err(GeometryError::Overlap { buffer: "output" }));
    }

    #[test]
    fn an_image_fits_exactly_its_elements() {
        let (image, elements) = Image::bordered(2, 3, 4, [1, 1, 0, 0]);
        assert!(image_fits(&image, elements));
        assert!(!image_fits(&image, elements - 1));
        assert!(!image_fits(&Image { pixel_stride: 3, ..image }, usize::MAX));
        assert!(!image_fits(&Image { offset: usize::MAX, ..image }, usize::MAX));
        assert!(image_fits(&Image::dense(0, 3, 4), 0));
    }

    #[test]
    fn an_empty_window_touches_nothing() {
        let (mut geometry, _, _) = three_by_three();
        geometry.output.height = 0;
        assert_eq!(geometry.validate(0, 0), Ok(()));
        assert_eq!(geometry.border(), [0; 4]);
    }

    #[test]
    fn output_extents_follow_onnx() {
        assert_eq!(ConvGeometry::output_extent(224, 7, 2, 1, 6), 112);
        assert_eq!(ConvGeometry::output_extent(56, 3, 1, 2, 4), 56);
        assert_eq!(ConvGeometry::output_extent(2, 3, 1, 1, 0), 0);
        assert_eq!(ConvGeometry::output_extent(2, 3, 0, 1, 4), 0);
    }
}
