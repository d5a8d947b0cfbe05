//! One process a state directory: a locked file that says who holds it.

use super::MemoError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held while it lives; the operating system lets go when the process dies.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<DirectoryLock, MemoError> {
        let path = directory.join("lock");
        let fault = |source| MemoError::Directory { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = file.take(256).read_to_string(&mut holder);
                let holder =
                    if read.is_ok() && !holder.is_empty() { holder.trim().to_owned() } else { "unknown".into() };
                return Err(MemoError::Held { path: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        }
        file.set_len(0).map_err(fault)?;
        file.rewind().map_err(fault)?;
        writeln!(file, "process {}", std::process::id()).map_err(fault)?;
        Ok(DirectoryLock { _file: file })
    }
}
