//! The two directions of a session, whatever carries them.

use holdfast_proto::message::{CoordinatorMessage, WorkerMessage};
use std::pin::Pin;
use tokio::sync::mpsc;

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The coordinator cannot be reached, or the stream broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkError(pub String);

/// An open stream.
pub struct Link {
    /// What the worker says.
    pub outgoing: mpsc::Sender<WorkerMessage>,
    /// What the coordinator says; ends when the stream does.
    pub incoming: mpsc::Receiver<Result<CoordinatorMessage, LinkError>>,
}

/// A way to a coordinator: over the wire, or within the process.
pub trait Connect: Send + Sync + 'static {
    /// Opens a stream.
    fn connect(&self) -> BoxFuture<'_, Result<Link, LinkError>>;
}
