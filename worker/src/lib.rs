//! The worker: it fetches artifacts, prepares samples, lowers models to plans, runs them and reports results.
//!
//! Never here: goals, drops, other workers.

pub mod data;
