//! What can be wrong with a geometry, a packing or quantization constants before any kernel runs.

use crate::Isa;

/// Why an int8 operation cannot be prepared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Int8Error {
    /// The machine lacks the instruction set that was asked for.
    #[error("this machine cannot run {isa} kernels; choose one of its own instruction sets")]
    IsaUnavailable {
        /// The instruction set asked for.
        isa: Isa,
    },
    /// A kernel extent, stride or dilation is zero.
    #[error("{what} is zero; kernel extents, strides and dilations start at 1")]
    ZeroExtent {
        /// Which number.
        what: &'static str,
    },
    /// An image's strides are smaller than what they have to step over.
    #[error("the {which} image has a pixel stride or row stride smaller than its pixels and rows")]
    OverlappingImage {
        /// `input`, `output` or `residual`.
        which: &'static str,
    },
    /// The padding reaches in front of the input buffer.
    #[error("the padding needs {needed} elements in front of the input's interior and the layout has {present}")]
    BorderTooSmall {
        /// Elements the first window reaches back.
        needed: usize,
        /// Elements before the interior.
        present: usize,
    },
    /// Sizes whose product does not fit the address space.
    #[error("the geometry addresses more elements than fit into memory")]
    TooLarge,
    /// A slice does not have the length the shape asks for.
    #[error("{what} has {actual} elements where the shape needs {expected}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Elements the shape needs.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// A constant that must be a finite, usable number is not one.
    #[error("{what} is {value}, which no code can be computed with; check the scales it was made from")]
    NotUsable {
        /// Which constant.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// A lower bound of codes lies above the upper one.
    #[error("the lowest code {lo} lies above the highest code {hi}")]
    EmptyRange {
        /// Lower bound.
        lo: u8,
        /// Upper bound.
        hi: u8,
    },
    /// Input and output channels disagree where each channel is treated by itself.
    #[error("the input has {input} channels and the output {output}; this operation keeps them")]
    ChannelMismatch {
        /// Input channels.
        input: usize,
        /// Output channels.
        output: usize,
    },
}
