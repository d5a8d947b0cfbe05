//! Quantization maths that coordinator and workers share.

pub mod codes;
