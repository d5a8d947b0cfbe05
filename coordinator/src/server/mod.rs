//! The gateway over gRPC: one session stream a worker, artifacts in chunks.

mod gateway;
#[cfg(test)]
mod tests;

use crate::cluster::Cluster;
use gateway::Gateway;
use holdfast_proto::MESSAGE_BYTES_MAX;
use holdfast_proto::wire::worker_gateway_server::WorkerGatewayServer;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Connections that may wait to be accepted: a whole fleet dials at once.
const BACKLOG: u32 = 4096;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Streams of one connection: its session and its fetches.
const STREAMS_MAX: u32 = 256;

/// The gateway cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The transport failed.
    #[error("serve the gateway")]
    Serve(#[source] tonic::transport::Error),
}

/// A socket that listens, not yet served.
pub struct Gate {
    listener: TcpListener,
}

impl Gate {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn listen(address: SocketAddr) -> Result<Gate, ServerError> {
        let fault = |source| ServerError::Listen { address, source };
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fault)?;
        socket.set_reuseaddr(true).map_err(fault)?;
        socket.bind(address).map_err(fault)?;
        Ok(Gate { listener: socket.listen(BACKLOG).map_err(fault)? })
    }

    /// The address listened on.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves workers until `stop`.
    ///
    /// # Errors
    /// The transport fails.
    pub async fn serve(self, cluster: Cluster, stop: CancellationToken) -> Result<(), ServerError> {
        let service = WorkerGatewayServer::new(Gateway::new(cluster, stop.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .add_service(service)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(self.listener).with_nodelay(Some(true)),
                stop.cancelled_owned(),
            )
            .await
            .map_err(ServerError::Serve)
    }
}
