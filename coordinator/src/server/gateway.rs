//! The service itself: sessions into the cluster, artifacts out of the shelf.

use crate::artifact::{ArtifactProvider, ProviderError};
use crate::cluster::{Cluster, SESSION_MESSAGES_MAX, SessionFault};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use holdfast_common::Digest;
use holdfast_proto::convert::chunk;
use holdfast_proto::message::WorkerMessage;
use holdfast_proto::wire::worker_gateway_server::WorkerGateway;
use holdfast_proto::{CHUNK_BYTES, wire};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves one cluster.
pub(super) struct Gateway {
    cluster: Cluster,
    stop: CancellationToken,
}

impl Gateway {
    pub(super) fn new(cluster: Cluster, stop: CancellationToken) -> Gateway {
        Gateway { cluster, stop }
    }
}

fn received(message: Result<wire::WorkerMessage, Status>) -> Result<WorkerMessage, SessionFault> {
    let message = message.map_err(|status| SessionFault::Broken(status.message().to_owned()))?;
    WorkerMessage::try_from(message).map_err(|error| SessionFault::Malformed(error.to_string()))
}

#[tonic::async_trait]
impl WorkerGateway for Gateway {
    type SessionStream = Outgoing<wire::CoordinatorMessage>;
    type FetchArtifactStream = Outgoing<wire::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let incoming = request.into_inner().map(received);
        let (outgoing, to_send) = mpsc::channel(SESSION_MESSAGES_MAX);
        let (cluster, stop) = (self.cluster.clone(), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cluster.serve_session(incoming, outgoing) => {}
                () = stop.cancelled() => {}
            }
        });
        let stop = self.stop.clone().cancelled_owned();
        let messages = ReceiverStream::new(to_send).map(|message| Ok(wire::CoordinatorMessage::from(&message)));
        Ok(Response::new(Box::pin(messages.take_until(stop))))
    }

    async fn fetch_artifact(
        &self,
        request: Request<wire::FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let (digest, offset) = <(Digest, u64)>::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let artifacts = self.cluster.artifacts().clone();
        let read = tokio::task::spawn_blocking(move || artifacts.read(&digest));
        let bytes = read.await.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| {
            warn!(%digest, %error, "artifact cannot be given");
            match error {
                ProviderError::Missing(_) => Status::not_found(error.to_string()),
                ProviderError::Read { .. } | ProviderError::Changed { .. } | ProviderError::Full(_) => {
                    Status::failed_precondition(error.to_string())
                }
            }
        })?;
        Ok(Response::new(Box::pin(stream::iter(chunks(bytes, offset)).map(Ok))))
    }
}

/// The chunks of an artifact from an offset on; at least one, so that its length is known.
fn chunks(bytes: Bytes, offset: u64) -> impl Iterator<Item = wire::Chunk> + Send {
    let total = bytes.len() as u64;
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let rest = bytes.slice(start..);
    let count = rest.len().div_ceil(CHUNK_BYTES).max(1);
    (0..count).map(move |index| {
        let from = index * CHUNK_BYTES;
        let to = (from + CHUNK_BYTES).min(rest.len());
        chunk(total, rest.slice(from..to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_an_artifact_from_any_offset() {
        let bytes: Bytes = (0..CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        for offset in [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 4, CHUNK_BYTES * 2 + 5, usize::MAX] {
            let joined: Vec<u8> = chunks(bytes.clone(), offset as u64).flat_map(|chunk| chunk.data.to_vec()).collect();
            assert_eq!(joined, &bytes[offset.min(bytes.len())..]);
        }
        assert_eq!(chunks(Bytes::new(), 0).count(), 1, "an empty artifact still tells its length");
    }
}
