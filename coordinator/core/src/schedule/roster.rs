//! The workers: what each holds, how fast it is, and when its silence becomes a loss.

use super::{CREDITS_MAX, EXPECTED_UNKNOWN_MS, Millis, UNCOMMITTED_MAX, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// The weight of the latest task in a worker's speed.
const RATE_WEIGHT: f64 = 0.5;

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) name: String,
    credits: u32,
    /// Live leases as (task, generation), with their cells.
    pub(super) leases: BTreeMap<(u64, u32), u64>,
    /// Whether its one lease is of work that nobody has asked for yet.
    is_ahead: bool,
    uncommitted: usize,
    /// Cells a millisecond.
    rate: Option<f64>,
    expires: Millis,
    pub(super) attached: bool,
}

impl Worker {
    /// Cells this worker computes in so many milliseconds, where known.
    pub(super) fn cells_in(&self, ms: u64) -> Option<u64> {
        self.rate.map(|rate| (rate * ms as f64) as u64)
    }

    /// How long it will take until this many more cells are computed, what it holds included.
    pub(super) fn expected_ms(&self, cells: u64) -> u64 {
        let queued: u64 = self.leases.values().sum();
        match self.rate {
            Some(rate) if rate > 0.0 => ((cells + queued) as f64 / rate) as u64,
            Some(_) | None => EXPECTED_UNKNOWN_MS,
        }
    }

    /// Leases of work that was asked for.
    fn asked(&self) -> usize {
        if self.is_ahead { 0 } else { self.leases.len() }
    }

    fn is_idle(&self) -> bool {
        self.attached && self.asked() < self.credits as usize && self.uncommitted < UNCOMMITTED_MAX
    }

    /// Orders idle workers: those that hold nothing, those with work ahead, those that hold least.
    fn load(&self) -> usize {
        if self.is_ahead { 1 } else { 2 * self.leases.len() }
    }
}

/// All workers, with the two orders the scheduler asks for: who is idle, and whose silence ends first.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    idle: BTreeSet<(usize, WorkerId)>,
    expiries: BTreeSet<(Millis, WorkerId)>,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The worker's name, or its number when it is gone.
    pub(super) fn name(&self, id: WorkerId) -> String {
        self.workers.get(&id).map_or_else(|| format!("{:032x}", id.0), |worker| worker.name.clone())
    }

    /// Workers with room for a task, those holding least first. Work ahead takes no room.
    pub(super) fn idle(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.idle.iter().map(|(_, id)| *id)
    }

    /// A worker with room for a task that holds nothing at all.
    pub(super) fn free(&self) -> Option<WorkerId> {
        self.idle.first().filter(|(load, _)| *load == 0).map(|(_, id)| *id)
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Workers that are connected and take tasks at all.
    pub(super) fn active(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers
            .iter()
            .filter(|(_, worker)| worker.attached && worker.credits > 0)
            .map(|(id, worker)| (*id, worker))
    }

    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    pub(super) fn expired(&self, now: Millis) -> Option<WorkerId> {
        self.expiries.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Adds a worker, or attaches one that came back.
    pub(super) fn join(&mut self, id: WorkerId, name: String, credits: u32, expires: Millis) {
        let worker = self.workers.entry(id).or_insert_with(|| Worker {
            name: String::new(),
            credits: 0,
            leases: BTreeMap::new(),
            is_ahead: false,
            uncommitted: 0,
            rate: None,
            expires,
            attached: true,
        });
        self.expiries.remove(&(worker.expires, id));
        self.idle.remove(&(worker.load(), id));
        worker.name = name;
        worker.credits = credits.min(CREDITS_MAX);
        worker.attached = true;
        worker.expires = expires;
        self.expiries.insert((expires, id));
        if worker.is_idle() {
            self.idle.insert((worker.load(), id));
        }
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.expiries.remove(&(worker.expires, id));
        self.idle.remove(&(worker.load(), id));
        Some(worker)
    }

    fn change(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        self.idle.remove(&(worker.load(), id));
        self.expiries.remove(&(worker.expires, id));
        change(worker);
        self.expiries.insert((worker.expires, id));
        if worker.is_idle() {
            self.idle.insert((worker.load(), id));
        }
    }

    pub(super) fn renew(&mut self, id: WorkerId, expires: Millis) {
        self.change(id, |worker| {
            if worker.attached {
                worker.expires = expires;
            }
        });
    }

    pub(super) fn detach(&mut self, id: WorkerId, expires: Millis) {
        self.change(id, |worker| {
            worker.attached = false;
            worker.expires = worker.expires.min(expires);
        });
    }

    pub(super) fn set_credits(&mut self, id: WorkerId, credits: u32) {
        self.change(id, |worker| worker.credits = credits.min(CREDITS_MAX));
    }

    pub(super) fn grant(&mut self, id: WorkerId, lease: (u64, u32), cells: u64) {
        self.change(id, |worker| {
            worker.leases.insert(lease, cells);
        });
    }

    /// Gives work ahead to a worker that holds nothing.
    pub(super) fn grant_ahead(&mut self, id: WorkerId, lease: (u64, u32), cells: u64) {
        self.change(id, |worker| {
            worker.leases.insert(lease, cells);
            worker.is_ahead = true;
        });
    }

    /// The lease of work ahead that a worker holds.
    pub(super) fn ahead(&self, id: WorkerId) -> Option<(u64, u32)> {
        self.workers.get(&id).filter(|worker| worker.is_ahead)?.leases.keys().next().copied()
    }

    /// What the worker holds ahead has been asked for.
    pub(super) fn promote(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.is_ahead = false);
    }

    pub(super) fn release(&mut self, id: WorkerId, lease: (u64, u32)) {
        self.change(id, |worker| {
            if worker.leases.remove(&lease).is_some() {
                worker.is_ahead = false;
            }
        });
    }

    pub(super) fn await_commit(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.uncommitted += 1);
    }

    pub(super) fn end_commit(&mut self, id: WorkerId) {
        self.change(id, |worker| worker.uncommitted = worker.uncommitted.saturating_sub(1));
    }

    /// Learns from a computed task.
    pub(super) fn observe(&mut self, id: WorkerId, cells: u64, busy_us: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let rate = cells as f64 * 1000.0 / busy_us.max(1) as f64;
        worker.rate = Some(worker.rate.map_or(rate, |old| old + RATE_WEIGHT * (rate - old)));
    }
}
