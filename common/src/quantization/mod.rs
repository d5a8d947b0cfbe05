//! Quantization maths: what is observed, how it is aggregated, and which codes it leads to.

pub mod codes;
pub mod params;
pub mod statistics;
