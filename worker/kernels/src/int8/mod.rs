//! Kernels on int8 codes: convolution and matrix product, depthwise convolution, pooling, Add, and conversions.
//!
//! Activations are u8, weights are s8, sums are i32, and every result has one definition, written down in
//! [`mod@reference`]; each instruction set reproduces it bit for bit. Nothing in here allocates while it runs: packing
//! and geometry are prepared once and used for every image.

mod arch;
pub mod conv;
pub mod depthwise;
pub mod elements;
pub mod epilogue;
pub mod error;
pub mod geometry;
pub mod layout;
pub mod pack;
pub mod pool;
pub mod product;
pub mod quantizer;
pub mod reference;

pub(crate) use arch::Int8Kernel;
pub(crate) use arch::KERNELS;

pub use crate::ConvGeometry;
pub use conv::ConvU8S8;
pub use depthwise::{DepthwiseU8S8, PackedDepthwise};
pub use elements::{CodeParams, add_u8, dequantize_u8_f32, lookup_u8, quantize_f32_u8};
pub use epilogue::{AddU8, Epilogue, QuantizedOperand, Requant};
pub use error::Int8Error;
pub use layout::{Border, copy_image, fill_border};
pub use pack::{DepthRuns, PackedWeights, WeightShape};
pub use pool::{AverageCount, AverageOutput, average_pool_u8, max_pool_u8};
pub use product::{ProductScratch, ProductShape, ProductU8U8, RightLayout};
pub use quantizer::Quantizer;

/// Elements that must be readable behind the last one an operation addresses in an input buffer.
///
/// Kernels load whole vectors and whole depth groups; what they read too much is multiplied by zero or dropped.
pub const INPUT_SLACK: usize = 64;

/// Consecutive int8 along the reduced dimension that one dot-product step consumes.
pub const K_GROUP: usize = 4;
