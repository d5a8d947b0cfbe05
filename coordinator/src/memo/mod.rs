//! The memo store: every result that was ever computed, under what was computed, durable before anybody relies on it.

mod database;
mod lock;
mod store;
#[cfg(test)]
mod tests;

pub use store::{Finished, Known, MemoStore};

use holdfast_common::Digest;
use std::io;
use std::path::PathBuf;

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoError {
    /// Another process has it.
    #[error(
        "the memo store in {} is held by another process ({holder}); wait for it, stop it, or choose another --state-dir",
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// The directory or a file in it cannot be used.
    #[error("use state directory {}", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store was written by a later version.
    #[error(
        "the memo store in {} has format {found}, this version knows up to {known}; use the newer holdfast or another \
         --state-dir",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The file is no database, or a broken one.
    #[error(
        "the memo store {} is damaged; move the file away and start again, its results are then computed anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// SQLite refused.
    #[error("{action} in the memo store: {source}")]
    Sqlite {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// Two results for the same thing differ.
    #[error(
        "the memo store holds another result for sample {sample} of {} than was computed now; one of the two was computed \
         wrongly: test the machines that took part, and start again with an empty --state-dir", context.short()
    )]
    Conflict {
        /// What was computed.
        context: Digest,
        /// On which sample.
        sample: u32,
    },
    /// A result cannot be named.
    #[error("name a result: {0}")]
    Context(String),
    /// The thread that writes ended.
    #[error("the memo store stopped after an earlier error")]
    Stopped,
}
