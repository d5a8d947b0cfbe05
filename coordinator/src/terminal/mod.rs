//! What a person watching sees: log lines, progress, and the table at the end.
//!
//! Never here: waiting for anything, deciding anything.

mod log;
mod progress;
mod summary;

pub use log::{LogError, start_logging};
pub use progress::{Progress, ProgressStyle, StageProgress, duration};
pub use summary::summary;

#[cfg(test)]
pub(crate) use summary::example_overview;
