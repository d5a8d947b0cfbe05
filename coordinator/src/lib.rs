//! The coordinator's shell: it performs what the core decides, and keeps what workers computed.
//!
//! Never here: decisions about quality.

pub mod artifact;
pub mod cluster;
pub mod memo;
pub mod server;
