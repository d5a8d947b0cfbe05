//! Workers: sessions, artifacts, reading samples, plans, execution.
//!
//! Never here: goals, drops, other workers.

pub mod data;
pub mod engine;
pub mod plan;
//! The worker: dials a coordinator, fetches artifacts, computes tiles, keeps results until they are durable elsewhere.
pub mod artifact;
pub mod session;
