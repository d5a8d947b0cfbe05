//! The memo store through restarts, damage and contradiction.

use super::*;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult, Want, context_digest};
use holdfast_common::scheme::GroupId;
use holdfast_core::schedule::Tile;
use std::path::Path;
use std::sync::Arc;

fn candidate(group: u32) -> Candidate {
    Candidate { scheme: Some(Digest::of(b"scheme")), reverted: vec![GroupId(group)] }
}

fn context(group: u32) -> Digest {
    context_digest(Digest::of(b"workload"), &candidate(group), &Want::Contributions).expect("a context")
}

fn result(sample: u32, width: usize) -> SampleResult {
    SampleResult { parts: vec![vec![f64::from(sample) / 7.0; width], vec![f64::NAN]] }
}

fn finished(groups: &[u32], samples: impl Iterator<Item = u32> + Clone, width: usize) -> Finished {
    let row: Vec<_> = samples.clone().map(|sample| result(sample, width)).collect();
    Finished {
        tile: Arc::new(Tile {
            workload: Digest::of(b"workload"),
            want: Want::Contributions,
            candidates: groups.iter().map(|group| candidate(*group)).collect(),
            samples: samples.map(SampleIndex).collect(),
        }),
        results: Arc::new(vec![row; groups.len()]),
    }
}

fn known(samples: impl Iterator<Item = u32>, width: usize) -> String {
    let known: Known = samples.map(|sample| (SampleIndex(sample), result(sample, width))).collect();
    format!("{known:?}")
}

async fn look(store: &MemoStore, group: u32) -> String {
    let found = store.lookup(vec![context(group)]).await.expect("the store can be read");
    format!("{:?}", found[0])
}

/// Waits for the thread of a dropped store to let go.
fn reopen(path: &Path) -> MemoStore {
    loop {
        match MemoStore::open(path) {
            Ok(store) => return store,
            Err(MemoError::Held { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn results_are_found_by_sample_whatever_order_produced_them() {
    let store = MemoStore::volatile().expect("a store");
    store.commit(vec![finished(&[1, 2], (0..100).rev().step_by(2), 3)]).await.expect("committed");
    store.commit(vec![finished(&[1], (0..100).step_by(2), 3)]).await.expect("committed");
    assert_eq!(look(&store, 1).await, known(0..100, 3));
    assert_eq!(look(&store, 2).await, known((0..100).filter(|sample| sample % 2 == 1), 3));
    assert_eq!(look(&store, 3).await, known(0..0, 3));
}

#[tokio::test]
async fn what_was_committed_survives_reopening_and_the_epoch_grows() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemoStore::open(directory.path()).expect("a store");
    assert_eq!(store.epoch(), 1);
    store.commit(vec![finished(&[1], 0..200, 1)]).await.expect("committed");
    drop(store);
    let store = reopen(directory.path());
    assert_eq!(store.epoch(), 2);
    assert_eq!(look(&store, 1).await, known(0..200, 1));
}

#[tokio::test]
async fn a_copy_taken_at_any_moment_holds_what_was_acknowledged() {
    let (directory, copy) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = MemoStore::open(directory.path()).expect("a store");
    for start in [0, 64, 128] {
        store.commit(vec![finished(&[1], start..start + 64, 1)]).await.expect("committed");
    }
    for name in ["memo.sqlite", "memo.sqlite-wal"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).expect("copied");
    }
    let copied = MemoStore::open(copy.path()).expect("the copy opens as after a kill");
    assert_eq!(look(&copied, 1).await, known(0..192, 1));
}

#[test]
fn a_second_holder_is_told_who_holds_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = MemoStore::open(directory.path()).expect("a store");
    let Err(MemoError::Held { holder, .. }) = MemoStore::open(directory.path()) else { panic!("opened twice") };
    assert_eq!(holder, format!("process {}", std::process::id()));
}

#[tokio::test]
async fn a_damaged_row_is_ignored_and_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemoStore::open(directory.path()).expect("a store");
    store.commit(vec![finished(&[1], 0..128, 2)]).await.expect("committed");
    drop(store);
    drop(reopen(directory.path()));
    let damage = || {
        let connection = rusqlite::Connection::open(directory.path().join("memo.sqlite")).ok()?;
        connection.execute("UPDATE leaf SET results = zeroblob(40) WHERE id = 1", []).ok()
    };
    while damage().is_none() {
        std::thread::yield_now();
    }
    let store = reopen(directory.path());
    assert_eq!(look(&store, 1).await, known(64..128, 2));
    store.commit(vec![finished(&[1], 0..64, 2)]).await.expect("committed over the damage");
    assert_eq!(look(&store, 1).await, known(0..128, 2));
}

#[tokio::test]
async fn the_same_result_again_is_welcome_and_a_different_one_is_refused() {
    let store = MemoStore::volatile().expect("a store");
    store.commit(vec![finished(&[1], 0..64, 2)]).await.expect("committed");
    store.commit(vec![finished(&[1], 0..64, 2)]).await.expect("equal results are no conflict");
    let refused = store.commit(vec![finished(&[9], 0..64, 2), finished(&[1], 0..64, 3)]).await;
    assert!(matches!(refused, Err(MemoError::Conflict { sample: 0, .. })), "{refused:?}");
    assert_eq!(look(&store, 9).await, known(0..0, 2), "nothing of a refused batch is stored");
    store.commit(vec![finished(&[1], 10..20, 3)]).await.expect("rows of another cut are compared when read");
    assert!(matches!(store.lookup(vec![context(1)]).await, Err(MemoError::Conflict { .. })));
}

#[tokio::test]
async fn wide_results_are_cut_into_small_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemoStore::open(directory.path()).expect("a store");
    store.commit(vec![finished(&[1], 0..64, 1 << 14)]).await.expect("committed");
    assert_eq!(look(&store, 1).await, known(0..64, 1 << 14));
    drop(store);
    drop(reopen(directory.path()));
    let largest = loop {
        let Ok(connection) = rusqlite::Connection::open(directory.path().join("memo.sqlite")) else { continue };
        let query = "SELECT MAX(LENGTH(results)) FROM leaf";
        if let Ok(largest) = connection.query_row(query, [], |row| row.get::<_, i64>(0)) {
            break largest;
        }
    };
    assert!(largest <= 3 << 20, "{largest} bytes in a row");
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let connection = rusqlite::Connection::open(directory.path().join("memo.sqlite")).expect("a file");
    connection.pragma_update(None, "user_version", 99).expect("a version");
    drop(connection);
    assert!(matches!(MemoStore::open(directory.path()), Err(MemoError::Version { found: 99, .. })));
}
