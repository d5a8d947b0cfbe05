//! The way between wire and domain types; nothing invalid passes in.

mod coordinator;
mod leaf;
mod parts;
mod tile;
mod worker;

pub use leaf::{decode_leaf, encode_leaf};

use crate::message::Lease;
use crate::{LEASES_MAX, TEXT_BYTES_MAX, wire};
use bytes::Bytes;
use holdfast_common::Digest;

/// A message from the other side, or a stored record, that breaks the rules of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A digest does not have 32 bytes.
    #[error("{field} has {bytes} bytes, a digest has 32")]
    Digest {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// An enumeration's number is zero or unknown here.
    #[error("{field} has the unknown value {value}")]
    Enumeration {
        /// The field.
        field: &'static str,
        /// The number.
        value: i32,
    },
    /// Something is longer than this side accepts.
    #[error("{field} holds {count}, at most {max} are accepted")]
    TooMany {
        /// The field.
        field: &'static str,
        /// What it holds.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// Something that cannot be empty is.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A list that must be ascending or free of repetition is not.
    #[error("{0} is out of order or repeats")]
    Disorder(&'static str),
    /// Two counts that must agree do not.
    #[error("{field} holds {count} where {expected} are due")]
    Count {
        /// The field.
        field: &'static str,
        /// What it holds.
        count: usize,
        /// What it must hold.
        expected: usize,
    },
    /// The bytes are not a message of this kind.
    #[error("the bytes cannot be read: {0}")]
    Bytes(String),
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| WireError::Digest { field, bytes: bytes.len() })?;
    Ok(Digest(bytes))
}

fn bounded(field: &'static str, count: usize, max: usize) -> Result<(), WireError> {
    if count > max { Err(WireError::TooMany { field, count, max }) } else { Ok(()) }
}

fn text_in(field: &'static str, text: String) -> Result<String, WireError> {
    bounded(field, text.len(), TEXT_BYTES_MAX)?;
    Ok(text)
}

fn text_out(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn lease_in(lease: Option<wire::Lease>) -> Result<Lease, WireError> {
    let lease = lease.ok_or(WireError::Missing("lease"))?;
    Ok(Lease { epoch: lease.epoch, task: lease.task, generation: lease.generation })
}

fn lease_out(lease: &Lease) -> wire::Lease {
    wire::Lease { epoch: lease.epoch, task: lease.task, generation: lease.generation }
}

fn leases_in(field: &'static str, leases: Vec<wire::Lease>) -> Result<Vec<Lease>, WireError> {
    bounded(field, leases.len(), LEASES_MAX)?;
    leases.into_iter().map(|lease| lease_in(Some(lease))).collect()
}

/// The request for an artifact from an offset on.
pub fn fetch_request(digest: &Digest, offset: u64) -> wire::FetchArtifactRequest {
    wire::FetchArtifactRequest { digest: digest.0.to_vec(), offset }
}

impl TryFrom<wire::FetchArtifactRequest> for (Digest, u64) {
    type Error = WireError;

    fn try_from(request: wire::FetchArtifactRequest) -> Result<(Digest, u64), WireError> {
        Ok((digest("digest", &request.digest)?, request.offset))
    }
}

/// Some bytes of an artifact of this length.
pub fn chunk(total_bytes: u64, data: Bytes) -> wire::Chunk {
    wire::Chunk { total_bytes, data }
}
