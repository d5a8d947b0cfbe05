//! The artifacts workers may ask for: published bytes, and packs of samples made on demand.

use bytes::Bytes;
use holdfast_common::Digest;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// Most bytes that may be published in one process.
pub const PUBLISHED_BYTES_MAX: u64 = 32 << 30;

/// An artifact cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nobody here knows it.
    #[error("no artifact {}", .0.short())]
    Missing(Digest),
    /// It could not be read.
    #[error("read artifact {}", digest.short())]
    Read {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The bytes that were read have another digest: a file changed after the run began.
    #[error("artifact {} changed while the run goes on: its bytes now have digest {}", expected.short(), found.short())]
    Changed {
        /// What was asked for.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// Too much was published.
    #[error("{0} bytes are published, at most {PUBLISHED_BYTES_MAX} are possible")]
    Full(u64),
}

/// Gives bytes by digest.
pub trait ArtifactProvider: Send + Sync {
    /// The bytes with this digest. May block.
    ///
    /// # Errors
    /// They are unknown, or cannot be read any more.
    fn read(&self, digest: &Digest) -> Result<Bytes, ProviderError>;
}

/// Makes packs of samples on demand.
pub trait PackSource: Send + Sync {
    /// The pack with this digest, or `None` if it belongs to another source. May block.
    fn read_pack(&self, digest: &Digest) -> Option<io::Result<Bytes>>;
}

#[derive(Default)]
struct Shelf {
    published: BTreeMap<Digest, Bytes>,
    bytes: u64,
    sources: Vec<Arc<dyn PackSource>>,
}

/// All artifacts of a run.
#[derive(Default)]
pub struct Artifacts {
    shelf: RwLock<Shelf>,
}

impl Artifacts {
    /// None yet.
    pub fn new() -> Artifacts {
        Artifacts::default()
    }

    /// Makes bytes available under their digest.
    ///
    /// # Errors
    /// Too much was published already.
    pub fn publish(&self, bytes: impl Into<Bytes>) -> Result<Digest, ProviderError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        if !shelf.published.contains_key(&digest) {
            let total = shelf.bytes + bytes.len() as u64;
            if total > PUBLISHED_BYTES_MAX {
                return Err(ProviderError::Full(total));
            }
            shelf.bytes = total;
            shelf.published.insert(digest, bytes);
        }
        Ok(digest)
    }

    /// Adds a source of packs, asked after those that were added before.
    pub fn add_source(&self, source: Arc<dyn PackSource>) {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).sources.push(source);
    }
}

impl ArtifactProvider for Artifacts {
    fn read(&self, digest: &Digest) -> Result<Bytes, ProviderError> {
        let sources = {
            let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = shelf.published.get(digest) {
                return Ok(bytes.clone());
            }
            shelf.sources.clone()
        };
        let read = sources.iter().find_map(|source| source.read_pack(digest));
        let bytes = read
            .ok_or(ProviderError::Missing(*digest))?
            .map_err(|source| ProviderError::Read { digest: *digest, source })?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(ProviderError::Changed { expected: *digest, found });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Packs(Digest, Vec<u8>);

    impl PackSource for Packs {
        fn read_pack(&self, digest: &Digest) -> Option<io::Result<Bytes>> {
            (self.0 == *digest).then(|| Ok(Bytes::from(self.1.clone())))
        }
    }

    #[test]
    fn published_bytes_and_packs_are_given_and_changed_files_are_not() {
        let artifacts = Artifacts::new();
        let digest = artifacts.publish(&b"model"[..]).expect("there is room");
        assert_eq!(artifacts.read(&digest).ok().as_deref(), Some(&b"model"[..]));
        let (good, changed) = (Digest::of(b"pack"), Digest::of(b"what it was"));
        artifacts.add_source(Arc::new(Packs(good, b"pack".to_vec())));
        artifacts.add_source(Arc::new(Packs(changed, b"what it is".to_vec())));
        assert_eq!(artifacts.read(&good).ok().as_deref(), Some(&b"pack"[..]));
        assert!(matches!(artifacts.read(&changed), Err(ProviderError::Changed { .. })));
        assert!(matches!(artifacts.read(&Digest::of(b"?")), Err(ProviderError::Missing(_))));
    }
}
