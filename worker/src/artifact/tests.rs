//! Artifacts through breaks, damage and crowds.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Breaks after every chunk, and damages the first so many fetches.
struct Flaky {
    bytes: Bytes,
    fetches: AtomicU32,
    damaged: u32,
    progress: bool,
}

const PIECE: usize = 1000;

impl ArtifactOrigin for Flaky {
    fn fetch(
        &self,
        digest: &Digest,
        offset: u64,
        sink: &mut dyn FnMut(Chunk) -> Result<(), ArtifactError>,
    ) -> Result<(), OriginError> {
        if Digest::of(&self.bytes) != *digest {
            return Err(OriginError::Missing);
        }
        let fetch = self.fetches.fetch_add(1, Ordering::SeqCst);
        if !self.progress {
            return Err(OriginError::Broken("always".into()));
        }
        let from = offset as usize;
        let to = (from + PIECE).min(self.bytes.len());
        let mut data = self.bytes.slice(from..to).to_vec();
        if fetch < self.damaged {
            data[0] ^= 1;
        }
        sink(Chunk { total_bytes: self.bytes.len() as u64, data: data.into() }).map_err(OriginError::Refused)?;
        if to < self.bytes.len() { Err(OriginError::Broken("cut".into())) } else { Ok(()) }
    }
}

fn flaky(length: usize, damaged: u32) -> (Arc<Flaky>, Digest) {
    let bytes: Bytes = (0..length).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<_>>().into();
    let digest = Digest::of(&bytes);
    (Arc::new(Flaky { bytes, fetches: AtomicU32::new(0), damaged, progress: true }), digest)
}

#[test]
fn a_broken_fetch_goes_on_where_it_stopped() {
    let (origin, digest) = flaky(PIECE * 3 + 1, 0);
    let cache = ArtifactCache::new(origin.clone(), 1 << 20, None);
    assert_eq!(cache.get(&digest).ok(), Some(origin.bytes.clone()));
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 4, "no byte is fetched twice");
    assert!(cache.get(&digest).is_ok());
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 4, "the second time it comes from memory");
}

#[test]
fn damaged_bytes_are_fetched_once_more_and_then_refused() {
    let (origin, digest) = flaky(PIECE, 1);
    assert!(ArtifactCache::new(origin, 0, None).get(&digest).is_ok());
    let (origin, digest) = flaky(PIECE, 2);
    let refused = ArtifactCache::new(origin, 0, None).get(&digest);
    assert!(matches!(refused, Err(ArtifactError::Damaged { expected, .. }) if expected == digest), "{refused:?}");
}

#[test]
fn an_origin_that_is_gone_is_given_up_and_an_unknown_artifact_is_told() {
    let (origin, digest) = flaky(PIECE, 0);
    let gone = Flaky { bytes: origin.bytes.clone(), fetches: AtomicU32::new(0), damaged: 0, progress: false };
    let failed = ArtifactCache::new(Arc::new(gone), 0, None).get(&digest);
    assert!(matches!(failed, Err(ArtifactError::Unreachable { attempts: FETCH_ATTEMPTS_MAX, .. })), "{failed:?}");
    let unknown = ArtifactCache::new(origin, 0, None).get(&Digest::of(b"other"));
    assert!(matches!(unknown, Err(ArtifactError::Missing(_))), "{unknown:?}");
}

#[test]
fn many_threads_fetch_an_artifact_once() {
    let (origin, digest) = flaky(PIECE, 0);
    let cache = ArtifactCache::new(origin.clone(), 1 << 20, None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(cache.get(&digest).is_ok()));
        }
    });
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 1);
    assert!(lock(&cache.in_flight).is_empty(), "gates are not kept");
}

#[test]
fn a_directory_outlives_the_process_and_heals() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = || DiskCache::open(directory.path(), 1 << 20).expect("the cache opens");
    let (origin, digest) = flaky(PIECE, 0);
    let get = || ArtifactCache::new(origin.clone(), 0, Some(open())).get(&digest).ok();
    assert_eq!(get(), Some(origin.bytes.clone()));
    assert_eq!(get(), Some(origin.bytes.clone()));
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 1, "the second time it comes from the directory");
    std::fs::write(directory.path().join(digest.to_string()), b"damaged").expect("the file can be damaged");
    assert_eq!(get(), Some(origin.bytes.clone()));
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 2, "a damaged file is fetched again");
    assert_eq!(get(), Some(origin.bytes.clone()));
    assert_eq!(origin.fetches.load(Ordering::SeqCst), 2, "and is whole again");
}

#[test]
fn a_directory_stays_within_its_budget() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cache = DiskCache::open(directory.path(), 2_500).expect("the cache opens");
    std::fs::write(directory.path().join("notes.txt"), [0; 5_000]).expect("a foreign file");
    for seed in 0..5u8 {
        let bytes = vec![seed; 1_000];
        cache.write(&Digest::of(&bytes), &bytes).expect("the artifact is written");
        assert!(cache.read(&Digest::of(&bytes)).is_some());
    }
    let kept = (0..5u8).filter(|seed| cache.read(&Digest::of(&vec![*seed; 1_000])).is_some()).count();
    assert_eq!(kept, 2);
    assert!(directory.path().join("notes.txt").exists(), "files that are not ours stay");
}

#[test]
fn memory_stays_within_its_budget_and_forgets_what_is_old() {
    let mut memory = Memory::default();
    let digest = |seed: u8| Digest::of(&[seed]);
    for seed in 0..4 {
        memory.put(digest(seed), vec![seed; 10].into(), 30);
        memory.get(&digest(0));
    }
    assert_eq!(memory.bytes, 30);
    let kept: Vec<bool> = (0..4).map(|seed| memory.get(&digest(seed)).is_some()).collect();
    assert_eq!(kept, [true, false, true, true]);
    memory.put(digest(9), vec![0; 31].into(), 30);
    assert!(memory.get(&digest(9)).is_none() && memory.bytes == 30);
}
