//! Packs: made when the data set is scanned, made again from the user's files whenever a worker asks.

use super::DatasetError;
use super::npy::ArrayFile;
use bytes::Bytes;
use holdfast_common::Digest;
use holdfast_common::dataset::{Field, MAX_FIELD_BYTES, MAX_PACK_BYTES, Manifest, PACK_SAMPLES, Pack};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Threads a scan uses at most: disks gain nothing from more.
const MAX_SCAN_THREADS: usize = 8;

/// Where the bytes of all samples are.
#[derive(Debug)]
pub(super) enum Content {
    /// One file a sample.
    Files(Vec<PathBuf>),
    /// One row of every array a sample; `rows` says which.
    Rows {
        /// The arrays, in field order.
        files: Vec<ArrayFile>,
        /// The row of every sample.
        rows: Vec<u64>,
    },
}

impl Content {
    fn count(&self) -> usize {
        match self {
            Content::Files(paths) => paths.len(),
            Content::Rows { rows, .. } => rows.len(),
        }
    }

    pub(super) fn truncate(&mut self, count: usize) {
        match self {
            Content::Files(paths) => paths.truncate(count),
            Content::Rows { rows, .. } => rows.truncate(count),
        }
    }

    /// Keeps the samples at these positions, which must exist.
    pub(super) fn pick(&mut self, positions: impl Iterator<Item = usize>) {
        match self {
            Content::Files(paths) => *paths = positions.map(|at| paths[at].clone()).collect(),
            Content::Rows { rows, .. } => *rows = positions.map(|at| rows[at]).collect(),
        }
    }

    fn samples_of(&self, pack: usize) -> Range<usize> {
        let start = pack * PACK_SAMPLES;
        start..(start + PACK_SAMPLES).min(self.count())
    }

    /// Appends one field of a sample; says how many bytes it has.
    fn read(&self, sample: usize, field: usize, out: &mut Vec<u8>) -> io::Result<u64> {
        let begin = out.len();
        match self {
            Content::Files(paths) => read_file(&paths[sample], out)?,
            Content::Rows { files, rows } => files[field].read_row(rows[sample], out)?,
        }
        Ok((out.len() - begin) as u64)
    }
}

fn read_file(path: &Path, out: &mut Vec<u8>) -> io::Result<()> {
    let file = File::open(path)?;
    let found = file.take(MAX_FIELD_BYTES + 1).read_to_end(out)?;
    if found as u64 > MAX_FIELD_BYTES {
        return Err(io::Error::other(format!("the file is longer than {MAX_FIELD_BYTES} bytes")));
    }
    Ok(())
}

/// A pack and the lengths of its samples' fields.
pub(super) struct Digested {
    pub(super) pack: Pack,
    pub(super) field_bytes: Vec<Vec<u64>>,
}

/// Reads, checks and digests all packs; of several errors the one of the earliest pack is reported.
pub(super) fn digest_all(
    content: &Content,
    fields: &[Field],
    names: &[String],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Digested>, DatasetError> {
    let count = content.count().div_ceil(PACK_SAMPLES);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_SCAN_THREADS).min(count);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut finished = Vec::new();
        loop {
            let pack = next.fetch_add(1, Ordering::Relaxed);
            if pack >= count {
                return finished;
            }
            let outcome = digest(content, pack, fields, names);
            if outcome.is_err() {
                // Later packs need not be read any more; earlier ones are in other threads' hands already.
                next.store(count, Ordering::Relaxed);
            }
            finished.push((pack, outcome));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
        }
    };
    let mut outcomes = BTreeMap::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(finished) => outcomes.extend(finished),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    outcomes.into_values().collect()
}

fn digest(content: &Content, pack: usize, fields: &[Field], names: &[String]) -> Result<Digested, DatasetError> {
    let mut bytes = Vec::new();
    let mut field_bytes = Vec::with_capacity(PACK_SAMPLES);
    for sample in content.samples_of(pack) {
        let refuse = |problem: String| DatasetError::Sample { sample: names[sample].clone(), problem };
        let mut lengths = Vec::with_capacity(fields.len());
        for (position, field) in fields.iter().enumerate() {
            let begin = bytes.len();
            lengths.push(content.read(sample, position, &mut bytes).map_err(|error| refuse(error.to_string()))?);
            check(content, position, &bytes[begin..])
                .map_err(|problem| refuse(format!("field `{}`: {problem}", field.name)))?;
            if bytes.len() as u64 > MAX_PACK_BYTES {
                let problem =
                    format!("{PACK_SAMPLES} samples together exceed {MAX_PACK_BYTES} bytes; shrink the files");
                return Err(refuse(problem));
            }
        }
        field_bytes.push(lengths);
    }
    let pack = Pack { digest: Digest::of(&bytes), bytes: bytes.len() as u64 };
    Ok(Digested { pack, field_bytes })
}

/// What can be seen without decoding.
fn check(content: &Content, field: usize, bytes: &[u8]) -> Result<(), String> {
    match content {
        Content::Files(_) => match bytes {
            [0xff, 0xd8, 0xff, ..] | [0x89, b'P', b'N', b'G', ..] | [b'B', b'M', ..] => Ok(()),
            [] => Err("the file is empty".to_owned()),
            _ => Err("the file is no JPEG, PNG or BMP image, whatever its name says; convert it".to_owned()),
        },
        Content::Rows { files, .. } => match files[field].first_not_finite(bytes) {
            None => Ok(()),
            Some(at) => Err(format!("element {at} is NaN or infinite; repair or remove the sample")),
        },
    }
}

/// Makes packs again from the user's files, and notices files that changed since they were scanned.
#[derive(Debug)]
pub struct PackReader {
    content: Content,
    fields: usize,
    packs: Vec<Pack>,
    lengths: Vec<Vec<u64>>,
    names: Vec<String>,
    by_digest: BTreeMap<Digest, usize>,
}

impl PackReader {
    pub(super) fn new(content: Content, manifest: &Manifest) -> PackReader {
        PackReader {
            content,
            fields: manifest.fields.len(),
            packs: manifest.packs.clone(),
            lengths: manifest.samples.iter().map(|sample| sample.field_bytes.clone()).collect(),
            names: manifest.samples.iter().map(|sample| sample.name.clone()).collect(),
            by_digest: manifest.packs.iter().enumerate().map(|(index, pack)| (pack.digest, index)).collect(),
        }
    }

    /// Packs there are.
    pub fn count(&self) -> usize {
        self.packs.len()
    }

    /// The pack with this digest; of packs with equal content any one.
    pub fn index_of(&self, digest: &Digest) -> Option<usize> {
        self.by_digest.get(digest).copied()
    }

    /// The bytes of a pack, verified.
    ///
    /// # Errors
    ///
    /// `NotFound` for a pack there is not, `InvalidData` where the files are no longer those that were scanned, and
    /// whatever reading them gives.
    pub fn read_pack(&self, index: usize) -> io::Result<Bytes> {
        let Some(pack) = self.packs.get(index) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no pack {index}")));
        };
        let samples = self.content.samples_of(index);
        let mut bytes = Vec::with_capacity(pack.bytes as usize);
        for sample in samples.clone() {
            let name = &self.names[sample];
            for field in 0..self.fields {
                let found = self.content.read(sample, field, &mut bytes);
                let found = found.map_err(|error| io::Error::new(error.kind(), format!("sample `{name}`: {error}")))?;
                if found != self.lengths[sample][field] {
                    return Err(changed(&format!("sample `{name}`")));
                }
            }
        }
        if Digest::of(&bytes) != pack.digest {
            let names = &self.names[samples];
            let text = |name: Option<&String>| name.map_or_else(String::new, |name| format!("`{name}`"));
            return Err(changed(&format!("a sample from {} to {}", text(names.first()), text(names.last()))));
        }
        Ok(Bytes::from(bytes))
    }
}

fn changed(what: &str) -> io::Error {
    let problem = format!("{what} changed since the run began; restore the files, or start again with the new ones");
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
