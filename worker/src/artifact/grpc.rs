//! Artifacts of a coordinator over the wire.

use super::{ArtifactError, ArtifactOrigin, Chunk, OriginError};
use holdfast_common::Digest;
use holdfast_proto::convert::fetch_request;
use holdfast_proto::wire::worker_gateway_client::WorkerGatewayClient;
use holdfast_proto::{CHUNK_BYTES, wire};
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::Code;
use tonic::transport::Channel;

/// Silence on an artifact stream longer than this is a broken connection.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// Room for a chunk and what surrounds it.
const CHUNK_MESSAGE_BYTES_MAX: usize = CHUNK_BYTES + 4096;

/// Fetches over a channel; must be used from threads outside the runtime.
pub struct GrpcOrigin {
    client: WorkerGatewayClient<Channel>,
    runtime: Handle,
}

impl GrpcOrigin {
    /// An origin behind this channel, driven by this runtime.
    pub fn new(channel: Channel, runtime: Handle) -> GrpcOrigin {
        let client = WorkerGatewayClient::new(channel).max_decoding_message_size(CHUNK_MESSAGE_BYTES_MAX);
        GrpcOrigin { client, runtime }
    }
}

fn broken(status: &tonic::Status) -> OriginError {
    match status.code() {
        Code::NotFound => OriginError::Missing,
        _ => OriginError::Broken(format!("{}: {}", status.code(), status.message())),
    }
}

impl ArtifactOrigin for GrpcOrigin {
    fn fetch(
        &self,
        digest: &Digest,
        offset: u64,
        sink: &mut dyn FnMut(Chunk) -> Result<(), ArtifactError>,
    ) -> Result<(), OriginError> {
        let mut client = self.client.clone();
        let silent = |_| OriginError::Broken(format!("no bytes for {} s", CHUNK_TIMEOUT.as_secs()));
        self.runtime.block_on(async {
            let asked = tokio::time::timeout(CHUNK_TIMEOUT, client.fetch_artifact(fetch_request(digest, offset)));
            let mut stream = asked.await.map_err(silent)?.map_err(|status| broken(&status))?.into_inner();
            loop {
                let next = tokio::time::timeout(CHUNK_TIMEOUT, stream.message()).await.map_err(silent)?;
                let Some(wire::Chunk { total_bytes, data }) = next.map_err(|status| broken(&status))? else {
                    return Ok(());
                };
                sink(Chunk { total_bytes, data }).map_err(OriginError::Refused)?;
            }
        })
    }
}
