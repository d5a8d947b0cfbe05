//! The queue of a submission: leaves by candidate chunks, and how much of it makes the next task.

use super::ahead::meet;
use super::{TASK_SAMPLES_MAX, TASK_VALUES_MAX, TILE_CANDIDATES, Tile};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, LEAF_SAMPLES, SampleIndex, Want};
use std::collections::VecDeque;
use std::sync::Arc;

/// A unit is split by candidates only when it takes this many times as long as a task should: candidates of one tile
/// share work, so cutting between them is the dearer cut.
const SPLIT_FACTOR: u64 = 4;

/// What the units of one chunk of candidates have in common.
#[derive(Clone, Debug)]
struct Lane {
    workload: Digest,
    want: Want,
    candidates: Vec<Candidate>,
}

/// A leaf of samples under a chunk of candidates.
#[derive(Clone, Debug)]
struct Unit {
    lane: Arc<Lane>,
    samples: Vec<SampleIndex>,
}

impl Unit {
    fn cells(&self) -> u64 {
        self.samples.len() as u64 * self.lane.candidates.len() as u64
    }
}

/// For whom a task is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Cells the worker computes in the time a task should take; `None` when its speed is unknown.
    pub(super) cells: Option<u64>,
    /// Workers that share what is left.
    pub(super) workers: u64,
}

/// What of a submission was not handed out yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    units: VecDeque<Unit>,
    cells: u64,
    /// Most numbers a result held so far.
    widest: Option<usize>,
}

impl Queue {
    pub(super) fn new(tiles: Vec<Tile>) -> Queue {
        let mut queue = Queue::default();
        for tile in tiles {
            for candidates in tile.candidates.chunks(TILE_CANDIDATES) {
                let lane = Lane { workload: tile.workload, want: tile.want.clone(), candidates: candidates.to_vec() };
                let lane = Arc::new(lane);
                for samples in tile.samples.chunks(LEAF_SAMPLES) {
                    queue.put_back(Unit { lane: lane.clone(), samples: samples.to_vec() });
                }
            }
        }
        queue
    }

    fn put_back(&mut self, unit: Unit) {
        self.cells += unit.cells();
        self.units.push_back(unit);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Leaves out what has a pair in common with one of these tiles.
    pub(super) fn forget(&mut self, tiles: &[Tile]) {
        self.units.retain(|unit| {
            let Lane { workload, want, candidates } = &*unit.lane;
            let (workload, want) = (*workload, want.clone());
            let own = Tile { workload, want, candidates: candidates.clone(), samples: unit.samples.clone() };
            !tiles.iter().any(|tile| meet(&own, tile))
        });
        self.cells = self.units.iter().map(Unit::cells).sum();
    }

    /// Learns how many numbers a sample's results hold.
    pub(super) fn observe_width(&mut self, values: usize) {
        self.widest = Some(self.widest.map_or(values, |widest| widest.max(values)));
    }

    /// Takes the next task: at least one leaf of one candidate; as many leaves as the worker computes in time, but no
    /// more than half of its share of what is left, so that all workers finish together.
    pub(super) fn cut(&mut self, aim: Aim) -> Option<Tile> {
        let left = self.cells;
        let unit = self.units.pop_front()?;
        self.cells -= unit.cells();
        let unit = self.narrow(unit, aim, left);
        let guided = if aim.workers > 1 { left / (2 * aim.workers) } else { u64::MAX };
        let cells_max = aim.cells.unwrap_or(0).min(guided);
        let room = self.widest.map_or(0, |widest| TASK_VALUES_MAX / widest.max(1)) as u64;
        let Unit { lane, mut samples } = unit;
        let width = lane.candidates.len() as u64;
        while let Some(next) = self.units.front() {
            let count = samples.len() + next.samples.len();
            let cells = count as u64 * width;
            if !Arc::ptr_eq(&next.lane, &lane) || cells > cells_max || cells > room || count > TASK_SAMPLES_MAX {
                break;
            }
            let Some(next) = self.units.pop_front() else { break };
            self.cells -= next.cells();
            samples.extend(next.samples);
        }
        let Lane { workload, want, candidates } = (*lane).clone();
        Some(Tile { workload, want, candidates, samples })
    }

    /// Keeps the first candidates of a unit that would take too long or leave other workers without any; the rest goes
    /// back to the front.
    fn narrow(&mut self, unit: Unit, aim: Aim, left: u64) -> Unit {
        let leaf = unit.samples.len() as u64;
        let width = unit.lane.candidates.len() as u64;
        let by_time = match aim.cells {
            Some(cells) if leaf * width <= SPLIT_FACTOR * cells => width,
            Some(cells) => (SPLIT_FACTOR * cells / 2 / leaf).clamp(1, width),
            None => 1,
        };
        let share = left / aim.workers.max(1);
        let by_share = if aim.workers > 1 { share.div_ceil(leaf).clamp(1, width) } else { width };
        let keep = by_time.min(by_share) as usize;
        if keep as u64 == width {
            return unit;
        }
        let mut kept = (*unit.lane).clone();
        let rest = Lane { candidates: kept.candidates.split_off(keep), ..kept.clone() };
        let rest = Unit { lane: Arc::new(rest), samples: unit.samples.clone() };
        self.cells += rest.cells();
        self.units.push_front(rest);
        Unit { lane: Arc::new(kept), samples: unit.samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::scheme::GroupId;
    use std::collections::BTreeSet;

    fn queue(candidates: u32, samples: u32) -> Queue {
        let scheme = Some(Digest::of(b"scheme"));
        let candidate = |group| Candidate { scheme, reverted: vec![GroupId(group)] };
        Queue::new(vec![Tile {
            workload: Digest::of(b"workload"),
            want: Want::Contributions,
            candidates: (0..candidates).map(candidate).collect(),
            samples: (0..samples).map(SampleIndex).collect(),
        }])
    }

    #[test]
    fn every_cell_is_cut_exactly_once_whatever_the_aims() {
        for (cells, workers) in [(None, 1), (Some(0), 3), (Some(100), 2), (Some(1_000), 7), (Some(1 << 40), 1)] {
            let mut queue = queue(21, 300);
            queue.observe_width(2);
            let mut seen = BTreeSet::new();
            while let Some(tile) = queue.cut(Aim { cells, workers }) {
                assert!(tile.candidates.len() <= TILE_CANDIDATES);
                for candidate in &tile.candidates {
                    for sample in &tile.samples {
                        assert!(seen.insert((candidate.clone(), *sample)), "cut twice");
                    }
                }
            }
            assert_eq!(seen.len(), 21 * 300);
            assert_eq!(queue.cells, 0);
        }
    }

    #[test]
    fn a_fast_worker_gets_many_leaves_and_an_unknown_one_gets_one() {
        let mut queue = queue(1, 64 * 100);
        queue.observe_width(1);
        assert_eq!(queue.cut(Aim { cells: None, workers: 2 }).map(|tile| tile.samples.len()), Some(64));
        assert_eq!(queue.cut(Aim { cells: Some(640), workers: 2 }).map(|tile| tile.samples.len()), Some(640));
    }

    #[test]
    fn tasks_shrink_towards_the_end() {
        let mut queue = queue(1, 64 * 16);
        queue.observe_width(1);
        let mut sizes = Vec::new();
        while let Some(tile) = queue.cut(Aim { cells: Some(1 << 30), workers: 2 }) {
            sizes.push(tile.samples.len());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert_eq!((sizes.first(), sizes.last()), (Some(&256), Some(&64)));
    }

    #[test]
    fn wide_results_keep_tasks_to_one_leaf_until_their_width_is_known() {
        let aim = Aim { cells: Some(1 << 30), workers: 1 };
        let mut queue = queue(1, 64 * 100);
        assert_eq!(queue.cut(aim).map(|tile| tile.samples.len()), Some(64));
        queue.observe_width(TASK_VALUES_MAX / 128);
        assert_eq!(queue.cut(aim).map(|tile| tile.samples.len()), Some(128));
    }

    #[test]
    fn a_slow_worker_gets_fewer_candidates_of_a_leaf() {
        let mut queue = queue(8, 64);
        let width = |tile: Option<Tile>| tile.map(|tile| (tile.candidates.len(), tile.samples.len()));
        assert_eq!(width(queue.cut(Aim { cells: Some(64), workers: 1 })), Some((2, 64)));
        assert_eq!(width(queue.cut(Aim { cells: Some(512), workers: 1 })), Some((6, 64)));
    }
}
