//! The decisions: quantize, rank, revert and tune over an evaluator, and the scheduler as a pure state machine.
//!
//! Never here: tokio, tonic, files, clocks, randomness but from a seed.

pub mod accuracy_aware;
pub mod error;
pub mod evaluator;
pub mod observer;
pub mod parameters;
pub mod quantize;
pub mod record;
pub mod schedule;
pub mod seed;
pub mod transform;

#[cfg(test)]
mod testing;

pub use accuracy_aware::{Conclusion, Problem, SampleSet, run};
pub use error::CoreError;
