//! A worker's session: dial, say what is held, compute, repeat results until they are durable, come back when cut off.

mod backoff;
mod executor;
mod grpc;
mod link;
mod synthetic;
mod worker;

pub use executor::{StopFlag, TaskOutput, TaskRunner};
pub use grpc::{GrpcConnector, channel};
pub use link::{BoxFuture, Connect, Link, LinkError};
pub use synthetic::SyntheticRunner;
pub use worker::{Worker, WorkerConfig};

use holdfast_proto::message::RejectCode;
use std::io;

/// A worker ended otherwise than by draining.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The coordinator does not want this worker.
    #[error("the coordinator refused this worker: {message}")]
    Rejected {
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        message: String,
    },
    /// No coordinator could be reached for too long.
    #[error("no coordinator reached for {seconds} s ({unacked} results undelivered); the last attempt said: {last}")]
    GivenUp {
        /// How long it was tried.
        seconds: u64,
        /// Results that nobody got.
        unacked: usize,
        /// What the last attempt said.
        last: LinkError,
    },
    /// The coordinator's address is no address.
    #[error("`{address}` is no coordinator address, expected http://HOST:PORT: {message}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        message: String,
    },
    /// The thread that computes could not be started.
    #[error("start the executor thread")]
    Thread(#[source] io::Error),
    /// The thread that computes ended.
    #[error("the executor thread ended; this is a defect, please report it with the log")]
    ExecutorGone,
}
