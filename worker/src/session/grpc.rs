//! The stream to a coordinator over gRPC.

use super::link::{BoxFuture, Connect, Link, LinkError};
use super::{SessionError, worker::LINK_MESSAGES_MAX};
use futures_util::StreamExt;
use holdfast_proto::message::{CoordinatorMessage, WorkerMessage};
use holdfast_proto::wire::worker_gateway_client::WorkerGatewayClient;
use holdfast_proto::{MESSAGE_BYTES_MAX, wire};
use std::error::Error;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// A channel to the coordinator at this address (`http://HOST:PORT`); it dials when used, and again when it broke.
///
/// # Errors
/// The address cannot be understood.
pub fn channel(address: &str) -> Result<Channel, SessionError> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| SessionError::Address {
        address: address.to_owned(),
        message: error.source().map_or_else(|| error.to_string(), ToString::to_string),
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_lazy())
}

/// Opens sessions over a channel.
pub struct GrpcConnector {
    client: WorkerGatewayClient<Channel>,
}

impl GrpcConnector {
    /// A connector over this channel.
    pub fn new(channel: Channel) -> GrpcConnector {
        let client = WorkerGatewayClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        GrpcConnector { client }
    }
}

/// The status with what lies beneath it: a refused connection says so only there.
fn link_error(status: &Status) -> LinkError {
    let mut text = format!("{}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    LinkError(text)
}

impl Connect for GrpcConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Link, LinkError>> {
        let mut client = self.client.clone();
        Box::pin(async move {
            let (outgoing, to_send) = mpsc::channel::<WorkerMessage>(LINK_MESSAGES_MAX);
            let (received, incoming) = mpsc::channel(LINK_MESSAGES_MAX);
            let messages = ReceiverStream::new(to_send).map(|message| wire::WorkerMessage::from(&message));
            let response = client.session(messages).await.map_err(|status| link_error(&status))?;
            let mut stream = response.into_inner();
            tokio::spawn(async move {
                loop {
                    let message = match stream.message().await {
                        Ok(Some(message)) => {
                            CoordinatorMessage::try_from(message).map_err(|error| LinkError(error.to_string()))
                        }
                        Ok(None) => return,
                        Err(status) => Err(link_error(&status)),
                    };
                    let broken = message.is_err();
                    if received.send(message).await.is_err() || broken {
                        return;
                    }
                }
            });
            Ok(Link { outgoing, incoming })
        })
    }
}
