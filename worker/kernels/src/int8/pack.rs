//! Weights laid out for the dense microkernels, independent of any image.

use super::arch::{GemmKernel, gemm_kernels};
use super::{Int8Error, K_GROUP};
use crate::Isa;

/// Which bytes of the depth are consecutive in the input, and so share their rounding up to groups of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DepthRuns {
    /// Every tap's channels are a run of their own.
    Taps,
    /// A whole filter row (columns x channels) is one run.
    Rows,
}

/// The extents of a weight tensor `[out_channels][kernel_h][kernel_w][channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// Filters.
    pub out_channels: usize,
    /// Filter rows.
    pub kernel_h: usize,
    /// Filter columns.
    pub kernel_w: usize,
    /// Channels each filter sees.
    pub channels: usize,
}

impl WeightShape {
    /// The number of weights, unless it exceeds the address space.
    pub fn elements(&self) -> Option<usize> {
        self.out_channels.checked_mul(self.kernel_h)?.checked_mul(self.kernel_w)?.checked_mul(self.channels)
    }
}

/// 64 bytes that start on a cache line, so that vector loads of weights never straddle two.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub [u8; 64]);

/// A span of output channels that one tile computes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    /// First output channel.
    pub first: usize,
    /// Output channels, without the padding of the last vector.
    pub channels: usize,
    /// The family of tiles for this panel's width.
    pub kernel: &'static GemmKernel,
    /// Index of its first line.
    pub line: usize,
}

/// Weights of one dense convolution or matrix product, packed for one instruction set and shared between plans.
#[derive(Debug)]
pub struct PackedWeights {
    pub(crate) isa: Isa,
    pub(crate) shape: WeightShape,
    pub(crate) runs: DepthRuns,
    /// Depth groups of all runs together.
    pub(crate) groups: usize,
    pub(crate) panels: Vec<Panel>,
    pub(crate) lines: Vec<Line>,
    /// Largest |sum| each filter can reach on u8 inputs, before the bias.
    pub(crate) magnitude: Vec<f32>,
    column_sums: Vec<i32>,
}

impl PackedWeights {
    /// Packs `weights`, laid out `[out_channels][kernel_h][kernel_w][channels]`.
    ///
    /// `runs` is what [`ConvGeometry::depth_runs`](super::ConvGeometry::depth_runs) says for the images this will meet.
    pub fn pack(isa: Isa, shape: WeightShape, runs: DepthRuns, weights: &[i8]) -> Result<PackedWeights, Int8Error> {
        let expected = shape.elements().ok_or(Int8Error::TooLarge)?;
        if weights.len() != expected {
            return Err(Int8Error::Length { what: "the weight tensor", expected, actual: weights.len() });
        }
        let mut packed = PackedWeights::empty(isa);
        packed.reshape(shape, runs, 0.0);
        let (run_count, run_length) = runs_of(shape, runs);
        let run_groups = run_length.div_ceil(K_GROUP);
        let depth = run_count * run_length;
        let (panels, bytes) = packed.panels_and_bytes();
        for panel in panels {
            let bytes = &mut bytes[panel.line * size_of::<Line>()..];
            for column in 0..panel.channels {
                let filter = &weights[(panel.first + column) * depth..][..depth];
                for (index, &weight) in filter.iter().enumerate() {
                    let (run, within) = (index / run_length, index % run_length);
                    let group = run * run_groups + within / K_GROUP;
                    panel.kernel.put_weight(bytes, (group, column, within % K_GROUP), weight);
                }
            }
        }
        let filters = || (0..shape.out_channels).map(|n| &weights[n * depth..][..depth]);
        packed.column_sums =
            filters().map(|filter| filter.iter().fold(0i32, |sum, &w| sum.wrapping_add(i32::from(w)))).collect();
        packed.magnitude = filters().map(magnitude_of).collect();
        Ok(packed)
    }

    /// Holds nothing yet.
    pub(crate) fn empty(isa: Isa) -> PackedWeights {
        let shape = WeightShape { out_channels: 0, kernel_h: 0, kernel_w: 0, channels: 0 };
        PackedWeights {
            isa,
            shape,
            runs: DepthRuns::Taps,
            groups: 0,
            panels: Vec::new(),
            lines: Vec::new(),
            magnitude: Vec::new(),
            column_sums: Vec::new(),
        }
    }

    /// Makes room for other weights, all zero where the shape is another one, without column sums; `magnitude` is every
    /// filter's.
    pub(crate) fn reshape(&mut self, shape: WeightShape, runs: DepthRuns, magnitude: f32) {
        self.magnitude.clear();
        self.magnitude.resize(shape.out_channels, magnitude);
        if (shape, runs) == (self.shape, self.runs) {
            return;
        }
        let (run_count, run_length) = runs_of(shape, runs);
        (self.shape, self.runs, self.groups) = (shape, runs, run_count * run_length.div_ceil(K_GROUP));
        let kernels = gemm_kernels(self.isa);
        let lanes = kernels[0].lanes;
        self.panels.clear();
        let (mut line, mut first) = (0, 0);
        while first < shape.out_channels {
            // The widest panels are the fastest, whatever they leave over.
            let left = shape.out_channels - first;
            let kernel = kernels[left.div_ceil(lanes).min(kernels.len()) - 1];
            let channels = kernel.width().min(left);
            self.panels.push(Panel { first, channels, kernel, line });
            line += (self.groups * kernel.group_bytes()).div_ceil(size_of::<Line>());
            first += channels;
        }
        self.lines.clear();
        self.lines.resize(line, Line([0; 64]));
    }

    /// The panels, and the bytes of their lines.
    pub(crate) fn panels_and_bytes(&mut self) -> (&[Panel], &mut [u8]) {
        let len = size_of_val(self.lines.as_slice());
        // SAFETY: a line is 64 bytes without padding, so the lines are one initialised slice of bytes, borrowed once.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<u8>(), len) };
        (&self.panels, bytes)
    }

    /// Sum of each filter's weights: what a zero point of the input is multiplied with in the bias.
    pub fn column_sums(&self) -> &[i32] {
        &self.column_sums
    }

    /// Whether kernels take an offset off the inputs, which the sums give back.
    pub(crate) fn needs_column_sums(&self) -> bool {
        self.panels.iter().any(|panel| panel.kernel.input_offset != 0)
    }

    /// Sets what [`column_sums`](Self::column_sums) gives, one a filter.
    pub(crate) fn set_column_sums(&mut self, sums: impl Iterator<Item = i32>) {
        self.column_sums.clear();
        self.column_sums.extend(sums);
    }

    /// The instruction set these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The extents of the weight tensor.
    pub fn shape(&self) -> WeightShape {
        self.shape
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice()) + (self.column_sums.len() + self.magnitude.len()) * 4
    }
}

/// How many runs of depth there are, and how long each is.
fn runs_of(shape: WeightShape, runs: DepthRuns) -> (usize, usize) {
    match runs {
        DepthRuns::Taps => (shape.kernel_h * shape.kernel_w, shape.channels),
        DepthRuns::Rows => (shape.kernel_h, shape.kernel_w * shape.channels),
    }
}

/// The largest magnitude a filter's sum can reach on u8 inputs, rounded up.
pub(crate) fn magnitude_of(filter: &[i8]) -> f32 {
    let sum: u64 = filter.iter().map(|w| u64::from(w.unsigned_abs())).sum();
    (sum as f32 * 255.0) * 1.001
}
