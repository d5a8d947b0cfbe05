//! Artifacts by digest: from memory, from a directory, or from the coordinator, and verified wherever they come from.

mod disk;
mod grpc;

pub use disk::DiskCache;
pub use grpc::GrpcOrigin;

use bytes::{Bytes, BytesMut};
use holdfast_common::Digest;
use holdfast_proto::ARTIFACT_BYTES_MAX;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::warn;

/// How often a fetch may break without a byte gained before it is given up.
const FETCH_ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt; doubles with each further one.
const FETCH_PAUSE: Duration = Duration::from_millis(100);

/// An artifact could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The coordinator does not know it.
    #[error("the coordinator has no artifact {}", .0.short())]
    Missing(Digest),
    /// The bytes that came are not the ones that were asked for.
    #[error("artifact {} was damaged on its way: the bytes received have digest {}", expected.short(), found.short())]
    Damaged {
        /// What was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// It is larger than is accepted, or its length changed in between.
    #[error("artifact {}: {message}", digest.short())]
    Length {
        /// Which.
        digest: Digest,
        /// What is wrong.
        message: String,
    },
    /// The connection kept breaking.
    #[error("artifact {} could not be fetched in {attempts} attempts: {message}", digest.short())]
    Unreachable {
        /// Which.
        digest: Digest,
        /// How often it was tried without progress.
        attempts: u32,
        /// What happened last.
        message: String,
    },
    /// The cache directory cannot be used.
    #[error("artifact cache {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the bytes of artifacts are had; called from threads that may block.
pub trait ArtifactSource: Send + Sync {
    /// The artifact with this digest, verified.
    ///
    /// # Errors
    /// It cannot be had, or what came is not it.
    fn get(&self, digest: &Digest) -> Result<Bytes, ArtifactError>;
}

/// Some bytes of an artifact, following on what came before.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Length of the whole artifact.
    pub total_bytes: u64,
    /// The bytes.
    pub data: Bytes,
}

/// A fetch ended early.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// There is no such artifact; asking again will not help.
    #[error("no such artifact")]
    Missing,
    /// The connection broke; asking again, from where it broke, may help.
    #[error("{0}")]
    Broken(String),
    /// The receiver refused a chunk.
    #[error(transparent)]
    Refused(ArtifactError),
}

/// Whoever holds all artifacts: the coordinator, in this process or over the wire.
pub trait ArtifactOrigin: Send + Sync {
    /// Gives the chunks of an artifact from an offset on, in order, to `sink`. Blocks.
    ///
    /// # Errors
    /// The artifact does not exist, the connection broke, or the sink refused.
    fn fetch(
        &self,
        digest: &Digest,
        offset: u64,
        sink: &mut dyn FnMut(Chunk) -> Result<(), ArtifactError>,
    ) -> Result<(), OriginError>;
}

#[derive(Default)]
struct Memory {
    entries: BTreeMap<Digest, (u64, Bytes)>,
    bytes: u64,
    clock: u64,
}

impl Memory {
    fn get(&mut self, digest: &Digest) -> Option<Bytes> {
        self.clock += 1;
        let (used, bytes) = self.entries.get_mut(digest)?;
        *used = self.clock;
        Some(bytes.clone())
    }

    /// Keeps the artifact, forgetting those not used for longest; one larger than the budget is not kept.
    fn put(&mut self, digest: Digest, bytes: Bytes, budget: u64) {
        let length = bytes.len() as u64;
        if length > budget {
            return;
        }
        while self.bytes + length > budget {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| *digest) else {
                break;
            };
            if let Some((_, bytes)) = self.entries.remove(&oldest) {
                self.bytes -= bytes.len() as u64;
            }
        }
        self.clock += 1;
        if self.entries.insert(digest, (self.clock, bytes)).is_none() {
            self.bytes += length;
        }
    }
}

/// Artifacts in memory up to a budget, optionally in a directory, fetched once each however many ask at a time.
pub struct ArtifactCache {
    origin: Arc<dyn ArtifactOrigin>,
    disk: Option<DiskCache>,
    budget_bytes: u64,
    memory: Mutex<Memory>,
    in_flight: Mutex<BTreeMap<Digest, Arc<Mutex<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ArtifactCache {
    /// A cache in front of an origin, keeping at most so many bytes in memory.
    pub fn new(origin: Arc<dyn ArtifactOrigin>, budget_bytes: u64, disk: Option<DiskCache>) -> ArtifactCache {
        ArtifactCache { origin, disk, budget_bytes, memory: Mutex::default(), in_flight: Mutex::default() }
    }

    fn find(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        if let Some(bytes) = lock(&self.memory).get(digest) {
            return Ok(bytes);
        }
        let stored = self.disk.as_ref().and_then(|disk| disk.read(digest));
        let bytes = match stored {
            Some(bytes) => bytes,
            None => {
                let bytes = self.fetch(digest)?;
                if let Some(disk) = &self.disk
                    && let Err(error) = disk.write(digest, &bytes)
                {
                    warn!(%digest, %error, "artifact not kept on disk");
                }
                bytes
            }
        };
        lock(&self.memory).put(*digest, bytes.clone(), self.budget_bytes);
        Ok(bytes)
    }

    /// Fetches in chunks, going on where a broken connection left off; damaged bytes are fetched once more from the start.
    fn fetch(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        match self.fetch_once(digest) {
            Err(ArtifactError::Damaged { .. }) => self.fetch_once(digest),
            fetched => fetched,
        }
    }

    fn fetch_once(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        let mut assembly = Assembly::new(*digest);
        let (mut attempts, mut pause) = (0, FETCH_PAUSE);
        loop {
            let before = assembly.received();
            let ended = self.origin.fetch(digest, before, &mut |chunk| assembly.add(chunk));
            let message = match ended {
                Ok(()) if assembly.is_whole() => return assembly.finish(),
                Ok(()) => "the stream ended early".to_owned(),
                Err(OriginError::Missing) => return Err(ArtifactError::Missing(*digest)),
                Err(OriginError::Refused(error)) => return Err(error),
                Err(OriginError::Broken(message)) => message,
            };
            if assembly.received() > before {
                (attempts, pause) = (0, FETCH_PAUSE);
            }
            attempts += 1;
            if attempts >= FETCH_ATTEMPTS_MAX {
                return Err(ArtifactError::Unreachable { digest: *digest, attempts, message });
            }
            warn!(%digest, attempts, message, "artifact fetch interrupted, going on");
            std::thread::sleep(pause);
            pause *= 2;
        }
    }
}

impl ArtifactSource for ArtifactCache {
    fn get(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        if let Some(bytes) = lock(&self.memory).get(digest) {
            return Ok(bytes);
        }
        let gate = lock(&self.in_flight).entry(*digest).or_default().clone();
        let found = {
            let _one_at_a_time = lock(&gate);
            self.find(digest)
        };
        let mut in_flight = lock(&self.in_flight);
        if Arc::strong_count(&gate) == 2 {
            in_flight.remove(digest);
        }
        found
    }
}

/// An artifact while it arrives.
struct Assembly {
    digest: Digest,
    total: Option<u64>,
    /// The only chunk so far is kept as it came: an origin in this process hands out the whole at once.
    first: Bytes,
    rest: BytesMut,
}

impl Assembly {
    fn new(digest: Digest) -> Assembly {
        Assembly { digest, total: None, first: Bytes::new(), rest: BytesMut::new() }
    }

    fn received(&self) -> u64 {
        (self.first.len() + self.rest.len()) as u64
    }

    fn is_whole(&self) -> bool {
        self.total == Some(self.received())
    }

    fn add(&mut self, chunk: Chunk) -> Result<(), ArtifactError> {
        let refuse = |message: String| Err(ArtifactError::Length { digest: self.digest, message });
        if chunk.total_bytes > ARTIFACT_BYTES_MAX {
            return refuse(format!("has {} bytes, at most {ARTIFACT_BYTES_MAX} are accepted", chunk.total_bytes));
        }
        if self.total.is_some_and(|total| total != chunk.total_bytes) {
            return refuse("its length changed while it was fetched".to_owned());
        }
        if self.received() + chunk.data.len() as u64 > chunk.total_bytes {
            return refuse("more bytes came than were announced".to_owned());
        }
        self.total = Some(chunk.total_bytes);
        if self.received() == 0 {
            self.first = chunk.data;
        } else {
            if self.rest.is_empty() {
                let first = std::mem::take(&mut self.first);
                self.rest.extend_from_slice(&first);
            }
            self.rest.extend_from_slice(&chunk.data);
        }
        Ok(())
    }

    fn finish(self) -> Result<Bytes, ArtifactError> {
        let bytes = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        let found = Digest::of(&bytes);
        if found != self.digest {
            return Err(ArtifactError::Damaged { expected: self.digest, found });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
