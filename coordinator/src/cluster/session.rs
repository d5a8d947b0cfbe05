//! One worker's session, whatever carries it: the door, then its messages into the cluster's inbox.

use super::Cluster;
use super::actor::Command;
use futures_util::{Stream, StreamExt};
use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::message::{CoordinatorMessage, Hello, RejectCode, WorkerMessage};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

/// Messages that may wait for a worker; one that lets more pile up is cut off.
pub(crate) const SESSION_MESSAGES_MAX: usize = 1024;
/// How long a worker may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the incoming half of a session ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionFault {
    /// The stream broke.
    #[error("{0}")]
    Broken(String),
    /// A message could not be understood.
    #[error("{0}")]
    Malformed(String),
}

fn refusal(hello: &Hello, engine_semantics: u32) -> Option<(RejectCode, String)> {
    let build = env!("CARGO_PKG_VERSION");
    if hello.protocol != PROTOCOL_VERSION {
        let message = format!(
            "worker {} (holdfast {}) speaks protocol {}, this coordinator (holdfast {build}) speaks {PROTOCOL_VERSION}; \
             install the same version on both",
            hello.name, hello.build, hello.protocol
        );
        return Some((RejectCode::Protocol, message));
    }
    if hello.engine_semantics != engine_semantics {
        let message = format!(
            "worker {} (holdfast {}) computes with semantics {}, this coordinator (holdfast {build}) wants \
             {engine_semantics}: their results could differ in the last bit; install the same version on both",
            hello.name, hello.build, hello.engine_semantics
        );
        return Some((RejectCode::EngineSemantics, message));
    }
    None
}

impl Cluster {
    /// Serves a worker until either side ends the session.
    pub(crate) async fn serve_session(
        &self,
        mut incoming: impl Stream<Item = Result<WorkerMessage, SessionFault>> + Unpin,
        outgoing: mpsc::Sender<CoordinatorMessage>,
    ) {
        let hello = match timeout(HELLO_TIMEOUT, incoming.next()).await {
            Ok(Some(Ok(WorkerMessage::Hello(hello)))) => hello,
            Ok(Some(Ok(_))) => {
                let message = "the first message must be a hello".to_owned();
                let _ = outgoing.send(CoordinatorMessage::Reject(RejectCode::Malformed, message)).await;
                return;
            }
            Ok(Some(Err(fault))) => {
                info!(%fault, "session ended before the hello");
                let _ = outgoing.send(CoordinatorMessage::Reject(RejectCode::Malformed, fault.to_string())).await;
                return;
            }
            Ok(None) | Err(_) => return,
        };
        if let Some((code, message)) = refusal(&hello, self.engine_semantics) {
            warn!(message, "worker refused");
            let _ = outgoing.send(CoordinatorMessage::Reject(code, message)).await;
            return;
        }
        let (joined, join) = oneshot::channel();
        if self.commands.send(Command::Join { hello, outgoing, joined }).await.is_err() {
            return;
        }
        let Ok((key, over)) = join.await else { return };
        loop {
            let message = tokio::select! {
                () = over.cancelled() => return,
                message = incoming.next() => message,
            };
            let (command, last) = match message {
                Some(Ok(message)) => {
                    let last = matches!(message, WorkerMessage::Bye(_));
                    (Command::Message { key, message }, last)
                }
                Some(Err(SessionFault::Malformed(message))) => (Command::Malformed { key, message }, true),
                Some(Err(SessionFault::Broken(reason))) => (Command::Closed { key, reason }, true),
                None => (Command::Closed { key, reason: "closed by the worker".into() }, true),
            };
            if self.commands.send(command).await.is_err() || last {
                return;
            }
        }
    }
}
