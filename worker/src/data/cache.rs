//! Decoded, resized and cropped pixels kept within a byte budget, shared by the threads of a worker.
//!
//! Evaluations walk over the same samples again and again, in order. What fits first therefore stays: throwing out the
//! oldest would throw out exactly what the next walk asks for first. Only pixels of another data set make room.

use super::Pixels;
use holdfast_common::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// Bytes counted for an entry beside its pixels.
const ENTRY_BYTES: usize = 128;

/// What was prepared how, and which sample of it.
type Key = (Digest, u32);

/// A cache of prepared pixels; it decides how fast an answer comes, never which.
#[derive(Debug)]
pub struct PixelCache {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    entries: BTreeMap<Key, Arc<Pixels>>,
    bytes: usize,
    budget: usize,
}

impl PixelCache {
    /// A cache that holds at most `budget` bytes.
    pub fn new(budget: usize) -> PixelCache {
        let shard = || Mutex::new(Shard { entries: BTreeMap::new(), bytes: 0, budget: budget / SHARDS });
        PixelCache { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Pixels>> {
        lock(self.shard(key)).entries.get(key).cloned()
    }

    pub(super) fn insert(&self, key: Key, pixels: Arc<Pixels>) {
        lock(self.shard(&key)).insert(key, pixels);
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[key.1 as usize % SHARDS]
    }
}

/// A shard is consistent between any two statements that can unwind, so a poisoned lock is no reason to stop.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn insert(&mut self, key: Key, pixels: Arc<Pixels>) {
        let cost = cost(&pixels);
        if cost > self.budget || self.entries.contains_key(&key) {
            return;
        }
        while self.bytes + cost > self.budget {
            let ends = [self.entries.first_key_value(), self.entries.last_key_value()];
            let stranger = ends.into_iter().flatten().map(|(found, _)| *found).find(|found| found.0 != key.0);
            let Some(removed) = stranger.and_then(|stranger| self.entries.remove(&stranger)) else {
                return;
            };
            self.bytes -= self::cost(&removed);
        }
        self.bytes += cost;
        self.entries.insert(key, pixels);
    }
}

fn cost(pixels: &Pixels) -> usize {
    pixels.values.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(bytes: usize) -> Arc<Pixels> {
        Arc::new(Pixels { height: 1, width: bytes, channels: 1, values: vec![7; bytes] })
    }

    #[test]
    fn what_fits_first_stays_until_another_data_set_comes() {
        let budget = SHARDS * 4 * (100 + ENTRY_BYTES);
        let cache = PixelCache::new(budget);
        let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
        for sample in 0..1000 {
            cache.insert((first, sample), pixels(100));
        }
        assert_eq!(cache.bytes(), budget);
        let held = |data: Digest| (0..1000).filter(|&sample| cache.get(&(data, sample)).is_some()).collect::<Vec<_>>();
        assert_eq!(held(first), (0..4 * SHARDS as u32).collect::<Vec<_>>());
        for sample in 0..1000 {
            cache.insert((second, sample), pixels(100));
        }
        assert_eq!(cache.bytes(), budget);
        assert!(held(first).is_empty());
        assert_eq!(held(second), (0..4 * SHARDS as u32).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_larger_than_the_budget_is_not_kept() {
        let cache = PixelCache::new(0);
        cache.insert((Digest::of(b"data"), 0), pixels(1));
        assert_eq!(cache.bytes(), 0);
    }
}
