//! Chains: neighbouring element-wise operations and row functions on one tensor, run a few rows at a time, so that what
//! lies between them stays in the first-level cache. Every step is the kernel it would be alone: the same bits.

use super::buffer::{Aligned, Arena, Buffer, BufferId};
use super::instruction::reduce_row;
use holdfast_common::graph::ReduceKind;
use holdfast_kernels::float::{self, Binary, Right, Unary};
use holdfast_kernels::int8::{CodeParams, Quantizer, dequantize_u8_f32};
use holdfast_kernels::{Image, Isa};
use std::ops::Range;

/// Elements a block has where rows are short enough: three slots of them fit a first-level cache of 32 KiB.
const BLOCK_ELEMENTS: usize = 2048;

/// Rows longer than this gain nothing from blocks.
pub const LEN_MAX: usize = 16 << 10;

/// A chain over a row-major tensor seen as `rows` of `len` elements.
#[derive(Debug, PartialEq)]
pub struct Chain {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub len: usize,
    /// In order; each fills the slot it names.
    pub steps: Vec<(usize, Step)>,
    /// What leaves the chain, in the order of the instruction's outputs.
    pub stores: Vec<Store>,
    /// Slots there are.
    pub slots: usize,
}

/// A block of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub place: Place,
    /// Elements a row: the chain's, or 1.
    pub width: usize,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an input of the instruction.
    Input(usize),
    /// Made by a step.
    Slot(usize),
}

/// The right operand of a function of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightOperand {
    /// As many elements as the left one.
    Full(Source),
    /// One a row.
    Rows(Source),
    /// The same element of an input for all.
    Scalar {
        /// The input.
        input: usize,
        /// The element.
        at: usize,
    },
    /// One a column, from this element of an input on.
    Channels {
        /// The input.
        input: usize,
        /// The element.
        first: usize,
    },
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A function of one.
    Unary(Unary, Source),
    /// A function of two.
    Binary(Binary, Source, RightOperand),
    /// Reduction of each row to one element.
    Reduce(ReduceKind, Source),
    /// Softmax of each row, or its logarithm.
    Softmax {
        /// Whether the logarithm is taken.
        log: bool,
        /// Argument.
        from: Source,
    },
    /// Layer normalization of each row.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Argument.
        from: Source,
        /// Inputs with scale and shift.
        gamma_beta: [usize; 2],
    },
    /// Codes of an input to floats.
    Dequantize {
        /// Quant params of the codes.
        params: CodeParams,
        /// The input.
        input: usize,
        /// Elements a row.
        width: usize,
    },
}

/// What leaves the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store {
    /// Floats.
    Floats(Source),
    /// Codes of floats.
    Codes(Quantizer, Source),
}

/// The blocks of all slots.
pub type Slots = Vec<Aligned<f32>>;

impl Step {
    /// Elements a row of the result.
    pub fn width(&self) -> usize {
        match self {
            Step::Unary(_, from) | Step::Binary(_, from, _) => from.width,
            Step::Reduce(..) => 1,
            Step::Softmax { from, .. } | Step::LayerNorm { from, .. } => from.width,
            Step::Dequantize { width, .. } => *width,
        }
    }
}

/// What steps of a block read.
struct Blocks<'a> {
    arena: &'a Arena,
    inputs: &'a [BufferId],
    slots: &'a Slots,
    rows: Range<usize>,
}

impl<'a> Blocks<'a> {
    fn of(&self, source: &Source) -> &'a [f32] {
        let elements = self.rows.len() * source.width;
        match source.place {
            Place::Input(input) => &self.arena.f32(self.inputs[input])[self.rows.start * source.width..][..elements],
            Place::Slot(slot) => &self.slots[slot].as_slice()[..elements],
        }
    }
}

impl Chain {
    /// Runs it; `outputs` in the order of the stores.
    pub fn run(&self, isa: Isa, arena: &Arena, inputs: &[BufferId], slots: &mut Slots, outputs: &mut [&mut Buffer]) {
        let block = (BLOCK_ELEMENTS / self.len.max(1)).clamp(1, self.rows.max(1));
        let elements = block * self.len;
        slots.resize_with(slots.len().max(self.slots), Aligned::default);
        for slot in slots.iter_mut().filter(|slot| slot.as_slice().len() < elements) {
            *slot = Aligned::filled(elements, 0.0);
        }
        for first in (0..self.rows).step_by(block) {
            let rows = first..(first + block).min(self.rows);
            for (to, step) in &self.steps {
                let mut result = std::mem::take(&mut slots[*to]);
                let blocks = Blocks { arena, inputs, slots, rows: rows.clone() };
                let elements = rows.len() * step.width();
                step.run(isa, &blocks, &mut result.as_mut_slice()[..elements]);
                slots[*to] = result;
            }
            let blocks = Blocks { arena, inputs, slots, rows: rows.clone() };
            for (store, output) in self.stores.iter().zip(outputs.iter_mut()) {
                store.run(isa, &blocks, output);
            }
        }
    }
}

impl Step {
    fn run(&self, isa: Isa, blocks: &Blocks<'_>, to: &mut [f32]) {
        let Blocks { arena, inputs, rows, .. } = blocks;
        match *self {
            Step::Unary(function, ref from) => float::unary(isa, function, blocks.of(from), to),
            Step::Binary(function, ref left, right) => {
                let (width, left) = (left.width.max(1), blocks.of(left));
                match right {
                    RightOperand::Full(right) => {
                        float::binary(isa, function, left, Right::Same(blocks.of(&right)), to);
                    }
                    RightOperand::Scalar { input, at } => {
                        float::binary(isa, function, left, Right::Scalar(arena.f32(inputs[input])[at]), to);
                    }
                    RightOperand::Channels { input, first } => {
                        let channels = &arena.f32(inputs[input])[first..first + width];
                        float::binary(isa, function, left, Right::Channels(channels), to);
                    }
                    RightOperand::Rows(right) => {
                        let pairs = to.chunks_exact_mut(width).zip(left.chunks_exact(width));
                        for ((to, left), &right) in pairs.zip(blocks.of(&right)) {
                            float::binary(isa, function, left, Right::Scalar(right), to);
                        }
                    }
                }
            }
            Step::Reduce(kind, ref from) => {
                for (to, row) in to.iter_mut().zip(blocks.of(from).chunks_exact(from.width.max(1))) {
                    *to = reduce_row(isa, kind, row);
                }
            }
            Step::Softmax { log: false, ref from } => float::softmax_rows(isa, from.width, blocks.of(from), to),
            Step::Softmax { log: true, ref from } => float::log_softmax_rows(isa, from.width, blocks.of(from), to),
            Step::LayerNorm { epsilon, ref from, gamma_beta } => {
                let [gamma, beta] = gamma_beta.map(|input| &arena.f32(inputs[input])[..from.width]);
                float::layer_norm_rows(isa, gamma, beta, epsilon, blocks.of(from), to);
            }
            Step::Dequantize { params, input, width } => {
                let codes = &arena.u8(inputs[input])[rows.start * width..];
                let image = Image::dense(1, rows.len(), width);
                dequantize_u8_f32(isa, (params.scale, params.zero_point), (codes, &image), (to, &image));
            }
        }
    }
}

impl Store {
    fn run(&self, isa: Isa, blocks: &Blocks<'_>, output: &mut Buffer) {
        let (Store::Floats(source) | Store::Codes(_, source)) = self;
        let (values, first) = (blocks.of(source), blocks.rows.start * source.width);
        match (self, output) {
            (Store::Floats(_), Buffer::F32(output)) => {
                output.as_mut_slice()[first..first + values.len()].copy_from_slice(values);
            }
            (Store::Codes(quantizer, _), Buffer::U8(output)) => {
                let image = Image::dense(1, blocks.rows.len(), source.width);
                quantizer.run(isa, (values, &image), (&mut output.as_mut_slice()[first..], &image));
            }
            _ => unreachable!("floats lie in a buffer of floats, codes in one of codes"),
        }
    }
}
