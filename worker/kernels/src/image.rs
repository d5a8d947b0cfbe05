//! Where the pixels of one NHWC image lie inside a flat buffer.

/// The layout of one image whose channels are contiguous per pixel.
///
/// Strides and the offset are counted in elements. An image may be surrounded by a border (the padding of whoever reads
/// it) and may be a channel slice of a wider image, so `pixel_stride >= channels` and
/// `row_stride >= width * pixel_stride` hold, nothing tighter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// Rows of the interior.
    pub height: usize,
    /// Pixels a row of the interior.
    pub width: usize,
    /// Channels a pixel.
    pub channels: usize,
    /// Elements from a pixel to its right neighbour.
    pub pixel_stride: usize,
    /// Elements from a pixel to its lower neighbour.
    pub row_stride: usize,
    /// Element index of channel 0 of the interior's top left pixel.
    pub offset: usize,
}

impl Image {
    /// A dense image without border.
    pub fn dense(height: usize, width: usize, channels: usize) -> Image {
        Image { height, width, channels, pixel_stride: channels, row_stride: width * channels, offset: 0 }
    }

    /// An image whose buffer carries `top`, `left`, `bottom` and `right` border pixels around the interior.
    ///
    /// Returns the layout and the number of elements the buffer must hold.
    pub fn bordered(
        height: usize,
        width: usize,
        channels: usize,
        [top, left, bottom, right]: [usize; 4],
    ) -> (Image, usize) {
        let row_stride = (left + width + right) * channels;
        let offset = top * row_stride + left * channels;
        let elements = (top + height + bottom) * row_stride;
        (Image { height, width, channels, pixel_stride: channels, row_stride, offset }, elements)
    }

    /// Element index of channel 0 of the pixel at `(y, x)`.
    #[inline]
    pub fn at(&self, y: usize, x: usize) -> usize {
        self.offset + y * self.row_stride + x * self.pixel_stride
    }

    /// One past the last element the interior touches; 0 for an empty image.
    pub fn end(&self) -> usize {
        if self.height == 0 || self.width == 0 || self.channels == 0 {
            return 0;
        }
        self.at(self.height - 1, self.width - 1) + self.channels
    }

    /// Pixels of the interior.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_moves_the_interior() {
        let (image, elements) = Image::bordered(2, 3, 4, [1, 1, 0, 2]);
        assert_eq!(image.row_stride, 24);
        assert_eq!(image.at(0, 0), 28);
        assert_eq!(elements, 72);
        assert_eq!(image.end(), 28 + 24 + 8 + 4);
        assert_eq!(Image::dense(0, 3, 4).end(), 0);
    }
}
