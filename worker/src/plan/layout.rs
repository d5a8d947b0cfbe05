//! How a logical ONNX tensor lies in a buffer: row-major as ONNX has it, or with channels last.

use holdfast_kernels::Image;
use holdfast_kernels::float::{image_to_nchw, nchw_to_image};

/// The order of a tensor's elements in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// ONNX's own order; the image is one row of pixels whose channels are the last axis.
    RowMajor,
    /// Axis 1 last: `[1, C, L]` and `[1, C, H, W]` stored as pixels of C channels.
    ChannelsLast,
}

/// A tensor of one shape in one layout in a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Logical shape.
    pub shape: Vec<usize>,
    /// Order.
    pub layout: Layout,
    /// Where the pixels are.
    pub image: Image,
}

/// Whether a shape can be stored with channels last: one sample, with one or two spatial axes.
pub fn can_be_channels_last(shape: &[usize]) -> bool {
    matches!(shape.len(), 3 | 4) && shape[0] == 1
}

/// Height, width and channels of a shape that can be stored with channels last.
pub fn extents(shape: &[usize]) -> (usize, usize, usize) {
    match shape {
        [_, c, l] => (1, *l, *c),
        [_, c, h, w] => (*h, *w, *c),
        _ => (1, shape.iter().product(), 1),
    }
}

impl Placement {
    /// Lays a shape out, with this border (top, left, bottom, right) where channels are last; returns the elements needed.
    pub fn new(shape: &[usize], layout: Layout, border: [usize; 4]) -> (Placement, usize) {
        let (image, elements) = match layout {
            Layout::RowMajor => {
                let total: usize = shape.iter().product();
                let channels = shape.last().copied().unwrap_or(1);
                let rows = total.checked_div(channels).unwrap_or(0);
                (Image::dense(1, rows, channels), total)
            }
            Layout::ChannelsLast => {
                let (height, width, channels) = extents(shape);
                Image::bordered(height, width, channels, border)
            }
        };
        (Placement { shape: shape.to_vec(), layout, image }, elements)
    }

    /// Element index of every logical element, in row-major order of the logical shape.
    pub fn positions(&self) -> Vec<usize> {
        let strides = self.strides();
        let mut positions = vec![if self.shape.contains(&0) { return Vec::new() } else { self.image.offset }];
        for (extent, stride) in self.shape.iter().zip(strides) {
            positions = positions
                .iter()
                .flat_map(|position| (0..*extent).map(move |index| position + index * stride))
                .collect();
        }
        positions
    }

    /// Reads the logical elements in row-major order.
    pub fn gather(&self, buffer: &[f32]) -> Vec<f32> {
        match self.layout {
            Layout::RowMajor => self.dense(buffer).to_vec(),
            Layout::ChannelsLast => {
                let mut values = vec![0.0; self.shape.iter().product()];
                image_to_nchw(&self.image, buffer, &mut values);
                values
            }
        }
    }

    /// Writes the logical elements, given in row-major order; the fast way for values that lie in one slice.
    ///
    /// # Panics
    ///
    /// When there are more or fewer values than the tensor has.
    pub fn write(&self, values: &[f32], buffer: &mut [f32]) {
        match self.layout {
            Layout::RowMajor => buffer[self.image.offset..][..values.len()].copy_from_slice(values),
            Layout::ChannelsLast => nchw_to_image(values, &self.image, buffer),
        }
    }

    /// The elements of a row-major tensor.
    pub fn dense<'b, T>(&self, buffer: &'b [T]) -> &'b [T] {
        &buffer[self.image.offset..][..self.shape.iter().product()]
    }

    /// Writes the logical elements, given in row-major order.
    pub fn scatter<T>(&self, values: impl Iterator<Item = T>, buffer: &mut [T]) {
        let image = &self.image;
        match self.layout {
            Layout::RowMajor => {
                let len = self.shape.iter().product();
                buffer[image.offset..][..len].iter_mut().zip(values).for_each(|(element, value)| *element = value);
            }
            Layout::ChannelsLast => {
                let planes = (0..image.channels).flat_map(|channel| (0..image.height).map(move |y| (channel, y)));
                let positions = planes.flat_map(|(channel, y)| (0..image.width).map(move |x| image.at(y, x) + channel));
                for (position, value) in positions.zip(values) {
                    buffer[position] = value;
                }
            }
        }
    }

    /// Storage stride of every logical axis, in elements.
    pub fn strides(&self) -> Vec<usize> {
        match self.layout {
            Layout::RowMajor => {
                let mut strides = vec![1; self.shape.len()];
                for axis in (1..self.shape.len()).rev() {
                    strides[axis - 1] = strides[axis] * self.shape[axis];
                }
                strides
            }
            Layout::ChannelsLast if self.shape.len() == 3 => vec![0, 1, self.image.pixel_stride],
            Layout::ChannelsLast => vec![0, 1, self.image.row_stride, self.image.pixel_stride],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_lead_to_the_same_element_in_both_layouts() {
        let shape = [1, 3, 4, 5];
        let (row_major, elements) = Placement::new(&shape, Layout::RowMajor, [0; 4]);
        assert_eq!((row_major.strides(), elements), (vec![60, 20, 5, 1], 60));
        let (last, elements) = Placement::new(&shape, Layout::ChannelsLast, [1, 1, 1, 1]);
        assert_eq!(elements, 6 * 7 * 3);
        let strides = last.strides();
        assert_eq!(last.image.offset + 2 * strides[1] + 3 * strides[2] + 4 * strides[3], last.image.at(3, 4) + 2);
    }
}
