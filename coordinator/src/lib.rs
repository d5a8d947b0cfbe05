//! The coordinator: configuration, command line, reports, and the shell around the algorithm.
//!
//! Never here: decisions about quality.

pub mod cli;
pub mod config;
pub mod dataset;
pub mod output;
pub mod report;
pub mod terminal;
