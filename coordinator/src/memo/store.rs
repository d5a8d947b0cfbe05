//! The store as others see it: one thread writes, many commits share one flush.

use super::MemoError;
use super::database::{Database, FILE_NAME, insert};
use super::lock::DirectoryLock;
use holdfast_common::Digest;
use holdfast_common::evaluation::{SampleIndex, SampleResult, context_digest};
use holdfast_core::schedule::{Tile, TileResults};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the thread.
const REQUESTS_MAX: usize = 256;
/// Commits that share a flush.
const GROUP_MAX: usize = 256;

/// Results of a tile.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was computed.
    pub tile: Arc<Tile>,
    /// The results.
    pub results: Arc<TileResults>,
}

/// What is known of one context.
pub type Known = BTreeMap<SampleIndex, SampleResult>;

type Answer<T> = oneshot::Sender<Result<T, MemoError>>;

enum Request {
    Lookup(Vec<Digest>, Answer<Vec<Known>>),
    Commit(Vec<Finished>, Answer<()>),
}

/// A handle on the store; the last one closes it.
#[derive(Clone)]
pub struct MemoStore {
    requests: mpsc::Sender<Request>,
    epoch: u64,
}

impl MemoStore {
    /// Opens (and creates) the store in this directory for this process alone.
    ///
    /// # Errors
    /// Another process holds it, it is of a later version, or it cannot be used.
    pub fn open(directory: &Path) -> Result<MemoStore, MemoError> {
        let fault = |source| MemoError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(fault)?;
        let lock = DirectoryLock::take(directory)?;
        MemoStore::start(Some(directory), Some(lock))
    }

    /// What the store in this directory holds, in words for people.
    ///
    /// # Errors
    /// There is none, another process holds it, or it cannot be read.
    pub fn stat(directory: &Path) -> Result<String, MemoError> {
        let file = directory.join(FILE_NAME);
        let fault = |source| MemoError::Directory { path: directory.to_owned(), source };
        let bytes = std::fs::metadata(&file).map_err(fault)?.len();
        let _lock = DirectoryLock::take(directory)?;
        let database = Database::open(Some(directory))?;
        let (contexts, rows) = database.count()?;
        let epoch = database.epoch - 1;
        Ok(format!(
            "evaluations: {contexts}\nleaves:      {rows}\nbytes:       {bytes}\nopened:      {epoch} times before\n"
        ))
    }

    /// A store in memory, gone with the process.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn volatile() -> Result<MemoStore, MemoError> {
        MemoStore::start(None, None)
    }

    fn start(directory: Option<&Path>, lock: Option<DirectoryLock>) -> Result<MemoStore, MemoError> {
        let database = Database::open(directory)?;
        let epoch = database.epoch;
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let work = move || {
            serve(database, inbox);
            drop(lock);
        };
        std::thread::Builder::new().name("holdfast-memo".into()).spawn(work).map_err(|source| {
            MemoError::Directory { path: directory.unwrap_or(Path::new(":memory:")).to_owned(), source }
        })?;
        Ok(MemoStore { requests, epoch })
    }

    /// How often this store was opened, this time included.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is known of each of these contexts.
    ///
    /// # Errors
    /// The store cannot be read, or contradicts itself.
    pub async fn lookup(&self, contexts: Vec<Digest>) -> Result<Vec<Known>, MemoError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Lookup(contexts, answer)).await.map_err(|_| MemoError::Stopped)?;
        answered.await.map_err(|_| MemoError::Stopped)?
    }

    /// Makes results durable.
    ///
    /// # Errors
    /// They cannot be written, or contradict what is known. None of the batch is stored then.
    pub async fn commit(&self, batch: Vec<Finished>) -> Result<(), MemoError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Commit(batch, answer)).await.map_err(|_| MemoError::Stopped)?;
        answered.await.map_err(|_| MemoError::Stopped)?
    }
}

fn serve(mut database: Database, mut inbox: mpsc::Receiver<Request>) {
    let mut next = None;
    while let Some(request) = next.take().or_else(|| inbox.blocking_recv()) {
        match request {
            Request::Lookup(contexts, answer) => {
                let found = contexts.iter().map(|context| database.lookup(context)).collect();
                let _ = answer.send(found);
            }
            Request::Commit(batch, answer) => {
                let mut group = vec![(batch, answer)];
                while group.len() < GROUP_MAX {
                    match inbox.try_recv() {
                        Ok(Request::Commit(batch, answer)) => group.push((batch, answer)),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                commit_group(&mut database, group);
            }
        }
    }
}

/// One transaction for all; when one of them is refused, each gets its own, so that it alone hears of it.
fn commit_group(database: &mut Database, group: Vec<(Vec<Finished>, Answer<()>)>) {
    let shared = group.len() > 1 && write(database, group.iter().flat_map(|(batch, _)| batch)).is_ok();
    for (batch, answer) in group {
        let written = if shared { Ok(()) } else { write(database, batch.iter()) };
        let _ = answer.send(written);
    }
}

fn write<'a>(database: &mut Database, batch: impl Iterator<Item = &'a Finished>) -> Result<(), MemoError> {
    let transaction = database.begin()?;
    for Finished { tile, results } in batch {
        for (candidate, results) in tile.candidates.iter().zip(results.iter()) {
            let context = context_digest(tile.workload, candidate, &tile.want)
                .map_err(|error| MemoError::Context(error.to_string()))?;
            insert(&transaction, &context, &tile.samples, results)?;
        }
    }
    transaction.commit().map_err(|source| MemoError::Sqlite { action: "commit results", source })
}
