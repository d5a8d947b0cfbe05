//! What coordinator and workers must agree on to the last bit: models, schemes, quantization maths, metrics, data, digests.
//!
//! Never here: clocks, the environment, tokio, tonic, decisions about quality.

pub mod dataset;
pub mod digest;
pub mod distance;
pub mod evaluation;
pub mod graph;
pub mod metric;
pub mod model;
pub mod onnx;
pub mod quantization;
pub mod scheme;

pub use digest::Digest;

/// The version of the arithmetic: part of every memo key, raised whenever a result bit of any evaluation can change.
pub const ENGINE_SEMANTICS: u32 = 3;
