//! Workers within this process: the same messages over channels, artifacts without a copy.

use super::Cluster;
use super::session::SESSION_MESSAGES_MAX;
use crate::artifact::{ArtifactProvider, Artifacts, ProviderError};
use futures_util::StreamExt;
use holdfast_common::Digest;
use holdfast_worker::artifact::{ArtifactError, ArtifactOrigin, Chunk, OriginError};
use holdfast_worker::session::{BoxFuture, Connect, Link, LinkError};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Opens sessions of embedded workers.
pub struct LocalConnector {
    cluster: Cluster,
}

impl LocalConnector {
    /// To this cluster.
    pub fn new(cluster: Cluster) -> LocalConnector {
        LocalConnector { cluster }
    }
}

impl Connect for LocalConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Link, LinkError>> {
        Box::pin(async {
            let (outgoing, from_worker) = mpsc::channel(SESSION_MESSAGES_MAX);
            let (to_worker, mut said) = mpsc::channel(SESSION_MESSAGES_MAX);
            let (received, incoming) = mpsc::channel(SESSION_MESSAGES_MAX);
            let cluster = self.cluster.clone();
            tokio::spawn(async move {
                cluster.serve_session(ReceiverStream::new(from_worker).map(Ok), to_worker).await;
            });
            tokio::spawn(async move {
                while let Some(message) = said.recv().await {
                    if received.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Link { outgoing, incoming })
        })
    }
}

/// Hands artifacts to embedded workers, each as one chunk.
pub struct LocalOrigin {
    artifacts: Arc<Artifacts>,
}

impl LocalOrigin {
    /// From these artifacts.
    pub fn new(artifacts: Arc<Artifacts>) -> LocalOrigin {
        LocalOrigin { artifacts }
    }
}

impl ArtifactOrigin for LocalOrigin {
    fn fetch(
        &self,
        digest: &Digest,
        offset: u64,
        sink: &mut dyn FnMut(Chunk) -> Result<(), ArtifactError>,
    ) -> Result<(), OriginError> {
        let bytes = self.artifacts.read(digest).map_err(|error| match error {
            ProviderError::Missing(_) => OriginError::Missing,
            other => OriginError::Broken(other.to_string()),
        })?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        sink(Chunk { total_bytes: bytes.len() as u64, data: bytes.slice(start..) }).map_err(OriginError::Refused)
    }
}
