//! The wire between coordinator and workers: generated messages, the domain messages they stand for, and the way between.
//!
//! Never here: policy, defaults. Wire types stop at [`convert`]; everything further in speaks [`message`].

pub mod convert;
pub mod message;

/// Generated from `proto/holdfast/v1/worker.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("holdfast.v1");
}

/// The version of the protocol; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;
/// Largest message on a session stream, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of an artifact in one chunk.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 16 << 30;
/// Most candidates in a tile.
pub const TILE_CANDIDATES_MAX: usize = 256;
/// Most samples in a tile.
pub const TILE_SAMPLES_MAX: usize = 1 << 16;
/// Most parts of a result: metrics or statistics.
pub const PARTS_MAX: usize = 1 << 20;
/// Most leases a message may list.
pub const LEASES_MAX: usize = 4096;
/// Longest text in a message, in bytes; longer ones are cut by the sender and refused by the receiver.
pub const TEXT_BYTES_MAX: usize = 4096;
