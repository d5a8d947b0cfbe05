//! OpenCV's `resize` with `INTER_LINEAR` on bytes: two taps without antialiasing, 11-bit weights.

use super::super::Pixels;

const WEIGHT_ONE: f32 = 2048.0;

/// Both neighbours an output position reads, and their weights in units of 1/2048.
struct Tap {
    positions: [usize; 2],
    weights: [i32; 2],
}

/// At the rim both neighbours are the same pixel. Columns then give it the whole weight; rows keep the two weights, whose
/// products are rounded one by one, which shows in the last bit.
#[derive(Clone, Copy, PartialEq)]
enum Rim {
    WholeWeight,
    TwoWeights,
}

fn taps(from: usize, to: usize, rim: Rim) -> Vec<Tap> {
    let scale = 1.0 / (to as f64 / from as f64);
    let last = from - 1;
    let tap = |position: usize| {
        let center = ((position as f64 + 0.5) * scale - 0.5) as f32;
        let floor = center.floor();
        let is_rim = floor < 0.0 || floor as usize >= last;
        let fraction = if is_rim && rim == Rim::WholeWeight { 0.0 } else { center - floor };
        let weights = [1.0 - fraction, fraction].map(|weight| (weight * WEIGHT_ONE).round_ties_even() as i32);
        let positions = [floor, floor + 1.0].map(|position| (position.max(0.0) as usize).min(last));
        Tap { positions, weights }
    };
    (0..to).map(tap).collect()
}

pub(super) fn resize(pixels: &Pixels, height: usize, width: usize) -> Pixels {
    if pixels.height == 2 * height && pixels.width == 2 * width {
        return halve(pixels);
    }
    let channels = pixels.channels;
    let columns = taps(pixels.width, width, Rim::WholeWeight);
    let stride = pixels.width * channels;
    let blend_row = |row: usize| -> Vec<i32> {
        let source = &pixels.values[row * stride..(row + 1) * stride];
        let mut blended = Vec::with_capacity(width * channels);
        for Tap { positions: [a, b], weights: [wa, wb] } in &columns {
            for channel in 0..channels {
                let value = |position: usize| i32::from(source[position * channels + channel]);
                blended.push(value(*a) * wa + value(*b) * wb);
            }
        }
        blended
    };
    let mut values = Vec::with_capacity(height * width * channels);
    let mut kept: [Option<(usize, Vec<i32>)>; 2] = [None, None];
    for Tap { positions, weights: [wa, wb] } in taps(pixels.height, height, Rim::TwoWeights) {
        let [a, b] = positions.map(|row| match kept.iter().position(|k| matches!(k, Some((at, _)) if *at == row)) {
            Some(slot) => kept[slot].take().map_or_else(|| blend_row(row), |(_, blended)| blended),
            None => blend_row(row),
        });
        // Each product loses its low bits before the sum, as in the original's 16-bit arithmetic.
        let mix =
            |(a, b): (&i32, &i32)| ((((wa * (a >> 4)) >> 16) + ((wb * (b >> 4)) >> 16) + 2) >> 2).clamp(0, 255) as u8;
        values.extend(a.iter().zip(&b).map(mix));
        kept = [Some((positions[0], a)), Some((positions[1], b))];
    }
    Pixels { height, width, channels, values }
}

/// Exactly half the size is taken by OpenCV as the mean of 2 × 2 pixels.
fn halve(pixels: &Pixels) -> Pixels {
    let (height, width, channels) = (pixels.height / 2, pixels.width / 2, pixels.channels);
    let stride = pixels.width * channels;
    let mut values = Vec::with_capacity(height * width * channels);
    for rows in pixels.values.chunks_exact(2 * stride) {
        for column in 0..width {
            for channel in 0..channels {
                let at = 2 * column * channels + channel;
                let corners = [at, at + channels, at + stride, at + stride + channels];
                let sum: u32 = corners.iter().map(|&corner| u32::from(rows[corner])).sum();
                values.push(((sum + 2) >> 2) as u8);
            }
        }
    }
    Pixels { height, width, channels, values }
}
