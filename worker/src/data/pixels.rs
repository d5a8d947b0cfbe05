//! An 8-bit image in memory.

/// Rows of 8-bit pixels, top down, channels interleaved: height × width × channels, dense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
    /// Values a pixel: 3 (RGB or BGR) or 1.
    pub channels: usize,
    /// The values.
    pub values: Vec<u8>,
}

impl Pixels {
    /// The central part of exactly this size; its corner is torchvision's `round((length − crop) / 2)`, halves to even.
    ///
    /// `None` where the image is smaller.
    pub(super) fn center_crop(self, height: usize, width: usize) -> Option<Pixels> {
        if (height, width) == (self.height, self.width) {
            return Some(self);
        }
        let top = half_to_even(self.height.checked_sub(height)?);
        let left = half_to_even(self.width.checked_sub(width)?);
        Some(self.cut(top, left, height, width))
    }

    /// The central part of this share of height and width.
    pub(super) fn central_fraction(self, share: f64) -> Pixels {
        let (height, width) = (part(self.height, share), part(self.width, share));
        let (top, left) = ((self.height - height) / 2, (self.width - width) / 2);
        self.cut(top, left, height, width)
    }

    fn cut(&self, top: usize, left: usize, height: usize, width: usize) -> Pixels {
        let stride = self.width * self.channels;
        let mut values = Vec::with_capacity(height * width * self.channels);
        for row in self.values.chunks_exact(stride).skip(top).take(height) {
            values.extend_from_slice(&row[left * self.channels..(left + width) * self.channels]);
        }
        Pixels { height, width, channels: self.channels, values }
    }

    /// Swaps first and last channel of every pixel.
    pub(super) fn reverse_channels(mut self) -> Pixels {
        if self.channels == 3 {
            for pixel in self.values.chunks_exact_mut(3) {
                pixel.swap(0, 2);
            }
        }
        self
    }

    /// RGB to luma as Pillow's `convert("L")`: ITU-R 601-2 weights in 16-bit fixed point, rounded.
    pub(super) fn grayscale(self) -> Pixels {
        if self.channels != 3 {
            return self;
        }
        let luma = |pixel: &[u8]| {
            let [r, g, b] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        let values = self.values.chunks_exact(3).map(luma).collect();
        Pixels { channels: 1, values, ..self }
    }
}

/// A share of a length of pixels, at least one of them and no more than there are.
pub(super) fn part(length: usize, share: f64) -> usize {
    ((length as f64 * share) as usize).clamp(1, length.max(1))
}

fn half_to_even(length: usize) -> usize {
    let half = length / 2;
    half + (length % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Pixels {
        Pixels { height, width, channels: 1, values: (0..height * width).map(|value| value as u8).collect() }
    }

    #[test]
    fn a_crop_of_odd_rest_rounds_its_corner_to_even() {
        let corner = |length: usize, crop: usize| ramp(1, length).center_crop(1, crop).map(|pixels| pixels.values[0]);
        assert_eq!(corner(256, 224), Some(16));
        assert_eq!(corner(5, 4), Some(0));
        assert_eq!(corner(7, 4), Some(2));
        assert_eq!(corner(9, 4), Some(2));
        assert_eq!(corner(4, 5), None);
        assert_eq!(ramp(4, 4).center_crop(2, 2).map(|pixels| pixels.values), Some(vec![5, 6, 9, 10]));
    }

    #[test]
    fn a_central_fraction_is_rounded_down_and_leaves_the_odd_pixel_behind() {
        let kept = |length: usize, share: f64| ramp(1, length).central_fraction(share).values;
        assert_eq!(kept(7, 0.6), [1, 2, 3, 4]);
        assert_eq!(kept(5, 0.5), [1, 2]);
        assert_eq!(kept(4, 1.0), [0, 1, 2, 3]);
        assert_eq!(kept(4, 0.01), [1]);
    }

    #[test]
    fn luma_is_pillows() {
        let rgb = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 12, 200, 77];
        let pixels = Pixels { height: 1, width: 5, channels: 3, values: rgb };
        assert_eq!(pixels.clone().grayscale().values, [76, 150, 29, 255, 130]);
        assert_eq!(pixels.reverse_channels().values[12..], [77, 200, 12]);
    }
}
