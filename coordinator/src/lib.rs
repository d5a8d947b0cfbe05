//! The coordinator: command line, configuration, server, stores, reports. Decisions about quality are made in its core.

pub mod dataset;
