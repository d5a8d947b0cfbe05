//! The decisions: quantize, rank, revert and tune over an evaluator, and the scheduler as a pure state machine.
//!
//! Never here: tokio, tonic, files, clocks, randomness but from a seed.

pub mod evaluator;
pub mod schedule;
