//! The worker: dials a coordinator, fetches artifacts, computes tiles, keeps results until they are durable elsewhere.
//!
//! Never here: goals, drops, other workers.

pub mod artifact;
pub mod session;
