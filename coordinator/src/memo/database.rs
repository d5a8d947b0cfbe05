//! The tables of the memo store: rows of at most one leaf each, every row with its own checksum.

use super::MemoError;
use holdfast_common::Digest;
use holdfast_common::evaluation::{LEAF_SAMPLES, SampleIndex, SampleResult};
use holdfast_proto::convert::{decode_leaf, encode_leaf};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;
use std::path::Path;
use tracing::warn;

/// The format of the tables. Raised with a migration when they change.
const FORMAT: i64 = 1;
/// The file in the store's directory.
pub(super) const FILE_NAME: &str = "memo.sqlite";
/// "HOLD", in the file's header.
const APPLICATION_ID: i64 = 0x484f_4c44;
/// Numbers a row holds at most, unless one sample alone has more.
const ROW_VALUES_MAX: usize = 1 << 18;

/// An open store.
pub(super) struct Database {
    connection: Connection,
    pub(super) epoch: u64,
}

fn sqlite(action: &'static str) -> impl FnOnce(rusqlite::Error) -> MemoError {
    move |source| MemoError::Sqlite { action, source }
}

impl Database {
    /// Opens (and creates) the store in this directory, or one in memory, and counts the start.
    pub(super) fn open(directory: Option<&Path>) -> Result<Database, MemoError> {
        Database::open_any(directory).map_err(|error| match (error, directory) {
            (MemoError::Sqlite { source, .. }, Some(directory)) if is_damage(&source) => {
                MemoError::Damaged { path: directory.join(FILE_NAME), source }
            }
            (error, _) => error,
        })
    }

    fn open_any(directory: Option<&Path>) -> Result<Database, MemoError> {
        let mut connection = match directory {
            Some(directory) => Connection::open(directory.join(FILE_NAME)),
            None => Connection::open_in_memory(),
        }
        .map_err(sqlite("open the file"))?;
        let pragma =
            |name: &str, value: &str| connection.pragma_update(None, name, value).map_err(sqlite("set a pragma"));
        pragma("locking_mode", "EXCLUSIVE")?;
        pragma("journal_mode", "WAL")?;
        pragma("synchronous", "FULL")?;
        let version = |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
        let found: i64 = version(&connection).map_err(sqlite("read the format"))?;
        if found > FORMAT {
            let path = directory.unwrap_or(Path::new(":memory:")).to_owned();
            return Err(MemoError::Version { path, found, known: FORMAT });
        }
        let transaction = connection.transaction().map_err(sqlite("begin"))?;
        let epoch = prepare(&transaction, found).map_err(sqlite("prepare the tables"))?;
        transaction.commit().map_err(sqlite("prepare the tables"))?;
        Ok(Database { connection, epoch: epoch.unsigned_abs() })
    }

    /// All known results of a context, by sample, whatever the order that produced them.
    pub(super) fn lookup(&self, context: &Digest) -> Result<BTreeMap<SampleIndex, SampleResult>, MemoError> {
        let mut found = BTreeMap::new();
        let select = "SELECT samples, results, checksum FROM leaf WHERE context = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(select).map_err(sqlite("look up results"))?;
        let mut rows = statement.query(params![context.0]).map_err(sqlite("look up results"))?;
        while let Some(row) = rows.next().map_err(sqlite("look up results"))? {
            let Ok(leaf) = read_row(context, row) else {
                warn!(%context, "a damaged row of the memo store is ignored, its samples are computed again");
                continue;
            };
            for (sample, result) in leaf {
                match found.get(&sample) {
                    Some(known) if !same_bits(known, &result) => {
                        return Err(MemoError::Conflict { context: *context, sample: sample.0 });
                    }
                    Some(_) => {}
                    None => {
                        found.insert(sample, result);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Contexts and rows there are.
    pub(super) fn count(&self) -> Result<(u64, u64), MemoError> {
        let select = "SELECT COUNT(DISTINCT context), COUNT(*) FROM leaf";
        let both =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()));
        self.connection.query_row(select, [], both).map_err(sqlite("count results"))
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, MemoError> {
        self.connection.transaction().map_err(sqlite("begin"))
    }
}

/// Whether it is the file that is broken, not its use.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn prepare(transaction: &Transaction<'_>, found: i64) -> rusqlite::Result<i64> {
    if found == 0 {
        transaction.execute_batch(
            "CREATE TABLE start (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL) STRICT;
             INSERT INTO start VALUES (0, 0);
             CREATE TABLE leaf (
                 id INTEGER PRIMARY KEY,
                 context BLOB NOT NULL,
                 samples BLOB NOT NULL,
                 results BLOB NOT NULL,
                 checksum BLOB NOT NULL
             ) STRICT;
             CREATE UNIQUE INDEX leaf_of_context ON leaf (context, samples);",
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.query_row("UPDATE start SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))
}

/// Adds results to a transaction, in rows of at most a leaf; those that are known must agree.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    context: &Digest,
    samples: &[SampleIndex],
    results: &[SampleResult],
) -> Result<(), MemoError> {
    let mut start = 0;
    while start < samples.len() {
        let (mut end, mut values) = (start, 0);
        while end < samples.len() && end - start < LEAF_SAMPLES {
            values += results.get(end).map_or(0, |result| result.parts.iter().map(Vec::len).sum());
            if end > start && values > ROW_VALUES_MAX {
                break;
            }
            end += 1;
        }
        let (Some(samples), Some(results)) = (samples.get(start..end), results.get(start..end)) else { return Ok(()) };
        insert_row(transaction, context, samples, results)?;
        start = end;
    }
    Ok(())
}

fn insert_row(
    transaction: &Transaction<'_>,
    context: &Digest,
    samples: &[SampleIndex],
    results: &[SampleResult],
) -> Result<(), MemoError> {
    let key: Vec<u8> = samples.iter().flat_map(|sample| sample.0.to_le_bytes()).collect();
    let bytes = encode_leaf(samples, results);
    let checksum = checksum(context, &key, &bytes);
    let insert = "INSERT INTO leaf (context, samples, results, checksum) VALUES (?1, ?2, ?3, ?4)
                  ON CONFLICT (context, samples) DO NOTHING";
    let mut statement = transaction.prepare_cached(insert).map_err(sqlite("store results"))?;
    let inserted = statement.execute(params![context.0, key, bytes, checksum.0]).map_err(sqlite("store results"))?;
    if inserted == 1 {
        return Ok(());
    }
    let select = "SELECT samples, results, checksum FROM leaf WHERE context = ?1 AND samples = ?2";
    let mut statement = transaction.prepare_cached(select).map_err(sqlite("compare results"))?;
    let known = statement
        .query_row(params![context.0, key], |row| Ok(read_row(context, row)))
        .optional()
        .map_err(sqlite("compare results"))?;
    match known {
        Some(Ok(leaf)) => {
            let differs = leaf.iter().zip(results).find(|((_, known), new)| !same_bits(known, new));
            match differs {
                Some(((sample, _), _)) => Err(MemoError::Conflict { context: *context, sample: sample.0 }),
                None => Ok(()),
            }
        }
        Some(Err(Damaged)) | None => {
            let replace = "UPDATE leaf SET results = ?3, checksum = ?4 WHERE context = ?1 AND samples = ?2";
            transaction
                .execute(replace, params![context.0, key, bytes, checksum.0])
                .map_err(sqlite("replace a damaged row"))?;
            Ok(())
        }
    }
}

/// A row whose checksum or content is wrong.
struct Damaged;

type Leaf = Vec<(SampleIndex, SampleResult)>;

fn read_row(context: &Digest, row: &rusqlite::Row<'_>) -> Result<Leaf, Damaged> {
    let blob = |column| row.get_ref(column).ok().and_then(|value| value.as_blob().ok()).ok_or(Damaged);
    let (samples, results, stored) = (blob(0)?, blob(1)?, blob(2)?);
    if checksum(context, samples, results).0 != stored {
        return Err(Damaged);
    }
    decode_leaf(results).map_err(|_| Damaged)
}

fn checksum(context: &Digest, samples: &[u8], results: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&context.0).update(&(samples.len() as u64).to_le_bytes()).update(samples).update(results);
    Digest(*hasher.finalize().as_bytes())
}

fn same_bits(a: &SampleResult, b: &SampleResult) -> bool {
    let bits = |result: &SampleResult| -> Vec<Vec<u64>> {
        result.parts.iter().map(|part| part.iter().map(|value| value.to_bits()).collect()).collect()
    };
    bits(a) == bits(b)
}
