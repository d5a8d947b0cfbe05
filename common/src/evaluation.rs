//! What is asked of workers and what comes back, sample by sample.

use crate::dataset::Preprocessing;
use crate::digest::Digest;
use crate::graph::ConvAttributes;
use crate::metric::MetricSpec;
use crate::scheme::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Samples a leaf of the memo store holds, and the grid tasks are cut on.
pub const LEAF_SAMPLES: usize = 64;

/// Position of a sample in its data set's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleIndex(pub u32);

/// The model a sample is run through: the float baseline, or a scheme with some groups reverted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// Digest of the scheme artifact; `None` is the float model.
    pub scheme: Option<Digest>,
    /// Reverted groups, ascending, without repetition; empty for the float model.
    pub reverted: Vec<GroupId>,
}

impl Candidate {
    /// The float model.
    pub fn baseline() -> Candidate {
        Candidate { scheme: None, reverted: Vec::new() }
    }
}

/// Everything that does not change between the candidates of one run on one data set; an artifact of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Digest of the self-contained ONNX model.
    pub model: Digest,
    /// Digest of the data set manifest.
    pub manifest: Digest,
    /// How a stored sample becomes each model input, by input name.
    pub preprocessing: BTreeMap<String, Preprocessing>,
    /// Metrics whose contributions are wanted, in this order.
    pub metrics: Vec<MetricSpec>,
}

/// One per-sample statistic of one tensor of the float model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticSpec {
    /// Tensor name.
    pub tensor: String,
    /// What is observed.
    pub statistic: Statistic,
    /// `None`: one value a sample. `Some(axis)`: one value per index of this ONNX axis.
    pub axis: Option<usize>,
}

/// Per-sample statistics (spec §2.3; means serve bias correction).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "parameter")]
pub enum Statistic {
    /// Smallest element.
    Min,
    /// Largest element.
    Max,
    /// Largest absolute value.
    AbsMax,
    /// Arithmetic mean, accumulated in f64 in ascending element order, rounded to f32.
    Mean,
    /// Linearly interpolated quantile at this probability.
    Quantile(f64),
    /// The same of absolute values.
    AbsQuantile(f64),
    /// What a convolution reads at some of its output positions, position after position, each channel by channel and tap
    /// by tap, with zeros outside the tensor.
    Patches(Window),
    /// This many rows along the last axis, one after another.
    Rows(u32),
}

/// The window of a convolution over the spatial axes of a tensor, and how many of its output positions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Taps, height and width.
    pub kernel: [u8; 2],
    /// Steps between output positions.
    pub strides: [u8; 2],
    /// Steps between taps.
    pub dilations: [u8; 2],
    /// Zeros before the first row and column.
    pub pads: [u8; 2],
    /// Output positions there are.
    pub output: [u32; 2],
    /// Output positions that are looked at.
    pub count: u32,
}

impl Window {
    /// The window of a convolution with this output shape, looking at no position yet; an axis that is missing has one
    /// tap. `None` where a number is too large.
    pub fn of(attributes: &ConvAttributes, output: &[usize]) -> Option<Window> {
        let pair = |values: &[usize], missing: usize| -> Option<[u8; 2]> {
            match values {
                [width] => Some([u8::try_from(missing).ok()?, u8::try_from(*width).ok()?]),
                [height, width] => Some([u8::try_from(*height).ok()?, u8::try_from(*width).ok()?]),
                _ => None,
            }
        };
        let output = match output {
            [_, _, width] => [1, u32::try_from(*width).ok()?],
            [_, _, height, width] => [u32::try_from(*height).ok()?, u32::try_from(*width).ok()?],
            _ => return None,
        };
        Some(Window {
            kernel: pair(&attributes.kernel, 1)?,
            strides: pair(&attributes.strides, 1)?,
            dilations: pair(&attributes.dilations, 1)?,
            pads: pair(&attributes.pads_begin, 0)?,
            output,
            count: 0,
        })
    }

    /// What it reads of a row-major tensor `[1, channels, spatial axes…]`.
    pub fn patches(&self, shape: &[usize], values: &[f32]) -> Vec<f64> {
        let (channels, height, width) = match *shape {
            [1, channels, width] => (channels, 1, width),
            [1, channels, height, width] => (channels, height, width),
            _ => return Vec::new(),
        };
        let [rows, columns] = self.output.map(u64::from);
        let mut patches = Vec::new();
        for place in spread(self.count, rows * columns) {
            let position = [place / columns.max(1), place % columns.max(1)];
            let first =
                [0, 1].map(|axis| position[axis] as i64 * i64::from(self.strides[axis]) - i64::from(self.pads[axis]));
            for channel in 0..channels {
                for row in 0..i64::from(self.kernel[0]) {
                    for column in 0..i64::from(self.kernel[1]) {
                        let y = usize::try_from(first[0] + row * i64::from(self.dilations[0]));
                        let x = usize::try_from(first[1] + column * i64::from(self.dilations[1]));
                        let inside = y.ok().filter(|y| *y < height).zip(x.ok().filter(|x| *x < width));
                        let value = inside.and_then(|(y, x)| values.get((channel * height + y) * width + x));
                        patches.push(value.map_or(0.0, |value| f64::from(*value)));
                    }
                }
            }
        }
        patches
    }
}

/// Rows along the last axis of a row-major tensor.
pub fn rows(count: u32, shape: &[usize], values: &[f32]) -> Vec<f64> {
    let width = shape.last().copied().unwrap_or(0).max(1);
    let chosen = spread(count, (values.len() / width) as u64);
    let row = |place: u64| values.get(place as usize * width..(place as usize + 1) * width).unwrap_or_default();
    chosen.flat_map(row).map(|value| f64::from(*value)).collect()
}

/// Some of `total` places, all different, spread as multiples of the golden ratio are: evenly, and along no line of an
/// image.
fn spread(count: u32, total: u64) -> impl Iterator<Item = u64> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let count = u64::from(count).min(total);
    let mut places: Vec<u64> = (0..count)
        .map(|index| ((u128::from((index + 1).wrapping_mul(GOLDEN)) * u128::from(total)) >> 64) as u64)
        .collect();
    places.sort_unstable();
    places.dedup();
    // Where two fell on one place, the first free ones are added.
    let mut free = 0;
    while (places.len() as u64) < count {
        match places.binary_search(&free) {
            Ok(_) => free += 1,
            Err(place) => places.insert(place, free),
        }
    }
    places.into_iter()
}

/// What is wanted of every sample.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// The contribution to every metric of the workload: one part a metric.
    Contributions,
    /// What the model says by itself: one part a metric of the workload, as [`crate::metric::Metric::prediction`] gives it.
    Predictions,
    /// Distances of the outputs to the float model's: one part, as [`crate::distance::distances`] gives it.
    Distance,
    /// Statistics of the float model: one part per [`StatisticSpec`] of the artifact (a JSON list) with this digest.
    Statistics(Digest),
}

/// One candidate over some samples for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evaluation {
    /// Digest of the [`Workload`] artifact.
    pub workload: Digest,
    /// Which model.
    pub candidate: Candidate,
    /// What is wanted.
    pub want: Want,
    /// Which samples, in the order the results come back; no repetition.
    pub samples: Vec<SampleIndex>,
}

/// What one sample gave: one list of numbers per metric or statistic asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleResult {
    /// The parts, in the order of the workload's metrics or of the statistics list.
    pub parts: Vec<Vec<f64>>,
}

/// The key a result is stored under, next to its sample: a digest of all that decides its bits.
pub fn context_digest(workload: Digest, candidate: &Candidate, want: &Want) -> Result<Digest, serde_json::Error> {
    Digest::of_json(&(crate::ENGINE_SEMANTICS, workload, candidate, want))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(pads: [u8; 2], output: [u32; 2], count: u32) -> Window {
        Window { kernel: [2, 2], strides: [2, 1], dilations: [1, 2], pads, output, count }
    }

    #[test]
    fn patches_are_what_a_convolution_reads() {
        // Two channels of 2 × 4, counted through.
        let values: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let all = window([0, 0], [1, 2], 2).patches(&[1, 2, 2, 4], &values);
        let (first, second) = ([0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15]);
        assert_eq!(all, [first, second].concat().into_iter().map(f64::from).collect::<Vec<_>>());
        // One row and one column of zeros before the tensor: the first position reads one pixel of each channel.
        let padded = window([1, 1], [1, 1], 1).patches(&[1, 2, 2, 4], &values);
        assert_eq!(padded, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 9.0]);
        // Recordings have one axis; what lies behind the end is zero.
        let line = Window { kernel: [1, 3], ..window([0, 1], [1, 3], 3) }.patches(&[1, 1, 3], &[1.0, 2.0, 3.0]);
        assert_eq!(line, [0.0, 2.0, 0.0, 1.0, 3.0, 0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn places_are_different_and_as_many_as_there_are_at_most() {
        for total in [1, 2, 7, 64, 1000] {
            for count in [0, 1, 5, 32, 2000] {
                let places: Vec<u64> = spread(count, total).collect();
                assert_eq!(places.len() as u64, u64::from(count).min(total));
                assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|place| *place < total), "{places:?}");
            }
        }
        assert_eq!(rows(2, &[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(spread(4, 100).collect::<Vec<_>>(), [23, 47, 61, 85], "they keep apart");
    }
}
