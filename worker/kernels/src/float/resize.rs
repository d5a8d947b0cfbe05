//! Resizing NHWC images as ONNX `Resize` defines it: nearest for any element type, linear for f32.
//!
//! Each axis is worked out once, when the plan is made; running only follows its indices.

use crate::float::dispatch::per_isa;
use crate::{Image, Isa, image_fits};

/// Where an output coordinate lies on the input axis (ONNX `coordinate_transformation_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// `(x + 0.5) / scale - 0.5`.
    HalfPixel,
    /// As [`Coordinates::HalfPixel`], but 0 where the output is one pixel long.
    PytorchHalfPixel,
    /// `x / scale`.
    Asymmetric,
    /// `x * (input - 1) / (output - 1)`, 0 where the output is one pixel long.
    AlignCorners,
}

/// Which pixel is the nearest (ONNX `nearest_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// The one before.
    Floor,
    /// The one after.
    Ceil,
    /// The nearer one, the one before when both are as near.
    RoundPreferFloor,
    /// The nearer one, the one after when both are as near.
    RoundPreferCeil,
}

/// One axis of a resize: its lengths and ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Input pixels.
    pub input: usize,
    /// Output pixels.
    pub output: usize,
    /// Output over input as the model states it; `None` takes the ratio of the lengths.
    pub scale: Option<f32>,
}

impl Axis {
    /// The position of output pixel `x` on the input axis, in f32 as ONNX Runtime computes it.
    fn position(&self, coordinates: Coordinates, x: usize) -> f32 {
        let scale = self.scale.unwrap_or(self.output as f32 / self.input as f32);
        let half_pixel = (x as f32 + 0.5) / scale - 0.5;
        match coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::PytorchHalfPixel => {
                if self.output > 1 {
                    half_pixel
                } else {
                    0.0
                }
            }
            Coordinates::Asymmetric => x as f32 / scale,
            Coordinates::AlignCorners => {
                if self.output > 1 {
                    x as f32 * (self.input - 1) as f32 / (self.output - 1) as f32
                } else {
                    0.0
                }
            }
        }
    }

    /// The input pixel of each output pixel under nearest resizing; empty when the input is.
    pub fn nearest(&self, coordinates: Coordinates, nearest: Nearest) -> Vec<usize> {
        if self.input == 0 {
            return Vec::new();
        }
        (0..self.output)
            .map(|x| {
                let position = self.position(coordinates, x);
                let rounded = match nearest {
                    Nearest::Floor => position.floor(),
                    Nearest::Ceil => position.ceil(),
                    Nearest::RoundPreferFloor => (position - 0.5).ceil(),
                    Nearest::RoundPreferCeil => (position + 0.5).floor(),
                };
                // The cast saturates: what lies before the first pixel is the first.
                (rounded as usize).min(self.input - 1)
            })
            .collect()
    }

    /// The two input pixels and their blend of each output pixel under linear resizing; empty when the input is.
    pub fn linear(&self, coordinates: Coordinates) -> Vec<Blend> {
        if self.input == 0 {
            return Vec::new();
        }
        (0..self.output)
            .map(|x| {
                let last = (self.input - 1) as f32;
                let position = self.position(coordinates, x);
                let position = if position > 0.0 { position } else { 0.0 };
                let position = if position < last { position } else { last };
                let first = (position as usize).min(self.input - 1);
                Blend { first, second: (first + 1).min(self.input - 1), share: position - first as f32 }
            })
            .collect()
    }
}

/// Two neighbours on the input axis: `value = fma(share, second - first, first)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// The pixel at or before the position.
    pub first: usize,
    /// The pixel after it, or the last one.
    pub second: usize,
    /// How far the position lies towards the second, in 0..1.
    pub share: f32,
}

/// Copies to each output pixel `(y, x)` the input pixel `(rows[y], columns[x])`.
///
/// # Panics
///
/// If channels differ, the index lists do not match the images, or an image does not lie in its buffer.
pub fn resize_nearest<T: Copy>(
    rows: &[usize],
    columns: &[usize],
    from: &Image,
    input: &[T],
    to: &Image,
    output: &mut [T],
) {
    check(from, input.len(), to, output.len());
    if to.pixels() == 0 || to.channels == 0 {
        return;
    }
    assert_eq!((rows.len(), columns.len()), (to.height, to.width), "one index an output row and column");
    assert!(rows.iter().all(|&y| y < from.height), "a row index lies beyond the input");
    assert!(columns.iter().all(|&x| x < from.width), "a column index lies beyond the input");
    for (y, &source_y) in rows.iter().enumerate() {
        for (x, &source_x) in columns.iter().enumerate() {
            output[to.at(y, x)..][..to.channels].copy_from_slice(&input[from.at(source_y, source_x)..][..to.channels]);
        }
    }
}

/// Blends each output pixel from four: first along the row above and the row below, then between the two.
///
/// # Panics
///
/// If channels differ, the blends do not match the images, or an image does not lie in its buffer.
pub fn resize_linear(
    isa: Isa,
    rows: &[Blend],
    columns: &[Blend],
    from: &Image,
    input: &[f32],
    to: &Image,
    output: &mut [f32],
) {
    check(from, input.len(), to, output.len());
    if to.pixels() == 0 || to.channels == 0 {
        return;
    }
    assert_eq!((rows.len(), columns.len()), (to.height, to.width), "one blend an output row and column");
    let within = |blends: &[Blend], len: usize| blends.iter().all(|blend| blend.first.max(blend.second) < len);
    assert!(within(rows, from.height), "a row blend lies beyond the input");
    assert!(within(columns, from.width), "a column blend lies beyond the input");
    linear_body(isa, rows, columns, from, input, to, output);
}

fn check(from: &Image, input_len: usize, to: &Image, output_len: usize) {
    assert_eq!(from.channels, to.channels, "resizing keeps the channels");
    assert!(image_fits(from, input_len), "the input image does not lie in its buffer");
    assert!(image_fits(to, output_len), "the output image does not lie in its buffer");
}

/// `fma(share, second - first, first)`.
#[inline(always)]
pub(super) fn blend(share: f32, first: f32, second: f32) -> f32 {
    share.mul_add(second - first, first)
}

per_isa! {
    fn linear_body(
        rows: &[Blend],
        columns: &[Blend],
        from: &Image,
        input: &[f32],
        to: &Image,
        output: &mut [f32],
    ) {
        for (y, row) in rows.iter().enumerate() {
            for (x, column) in columns.iter().enumerate() {
                let target = &mut output[to.at(y, x)..][..to.channels];
                let upper_left = &input[from.at(row.first, column.first)..][..to.channels];
                let upper_right = &input[from.at(row.first, column.second)..][..to.channels];
                let lower_left = &input[from.at(row.second, column.first)..][..to.channels];
                let lower_right = &input[from.at(row.second, column.second)..][..to.channels];
                for (c, target) in target.iter_mut().enumerate() {
                    let upper = blend(column.share, upper_left[c], upper_right[c]);
                    let lower = blend(column.share, lower_left[c], lower_right[c]);
                    *target = blend(row.share, upper, lower);
                }
            }
        }
    }
}
