//! The coordinator: configuration, command line, reports, and the shell around the algorithm.
//!
//! Never here: decisions about quality.

pub mod artifact;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dataset;
pub mod memo;
pub mod output;
pub mod report;
pub mod run;
pub mod server;
pub mod terminal;
