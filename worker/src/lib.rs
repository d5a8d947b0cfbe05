//! Workers: sessions, artifacts, reading samples, plans, execution.
//!
//! Never here: goals, drops, other workers.

pub mod data;
pub mod engine;
pub mod plan;
