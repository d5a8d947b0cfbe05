//! A directory of artifacts by digest: complete files only, verified when read, bounded in size.

use super::ArtifactError;
use bytes::Bytes;
use holdfast_common::Digest;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;
use tracing::warn;

/// Artifacts in a directory, one file each, named by digest. Several processes may share it.
pub struct DiskCache {
    path: PathBuf,
    budget_bytes: u64,
    evicting: Mutex<()>,
}

impl DiskCache {
    /// Uses (and creates) a directory, keeping at most so many bytes in it.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn open(path: &Path, budget_bytes: u64) -> Result<DiskCache, ArtifactError> {
        fs::create_dir_all(path).map_err(|source| ArtifactError::Disk { path: path.to_owned(), source })?;
        Ok(DiskCache { path: path.to_owned(), budget_bytes, evicting: Mutex::new(()) })
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    /// The artifact, if it is here and whole; a damaged file is removed.
    pub(super) fn read(&self, digest: &Digest) -> Option<Bytes> {
        let file = self.file(digest);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(file = %file.display(), %error, "cached artifact cannot be read, fetching it again");
                return None;
            }
        };
        if Digest::of(&bytes) == *digest {
            return Some(Bytes::from(bytes));
        }
        warn!(file = %file.display(), "cached artifact is damaged, fetching it again");
        if let Err(error) = fs::remove_file(&file) {
            warn!(file = %file.display(), %error, "damaged artifact cannot be removed");
        }
        None
    }

    /// Keeps an artifact: written under a temporary name, synced, renamed. One larger than the budget is not kept.
    pub(super) fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.budget_bytes {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.file(digest)).map_err(|error| error.error)?;
        fs::File::open(&self.path)?.sync_all()
    }

    /// Removes the oldest artifacts until there is room for so many bytes; files of other names are left alone.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let _one_at_a_time = super::lock(&self.evicting);
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| name.parse::<Digest>().is_err()) {
                continue;
            }
            if let Ok(metadata) = entry.metadata() {
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((written, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total + bytes <= self.budget_bytes {
                break;
            }
            fs::remove_file(&path)?;
            total -= length;
        }
        Ok(())
    }
}
