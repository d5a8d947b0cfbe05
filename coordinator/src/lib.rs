//! The shell around the decisions: command line, configuration, data sets, report, output and terminal.
//!
//! Never here: decisions about quality.

pub mod cli;
pub mod config;
pub mod dataset;
