//! Quantization maths: what is observed, how it is aggregated, and which codes it leads to.

pub mod params;
pub mod statistics;
