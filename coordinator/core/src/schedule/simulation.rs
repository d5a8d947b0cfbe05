//! The scheduler among virtual workers that die, fall silent, come back, repeat and overtake themselves, seed by seed.
//!
//! `HOLDFAST_SEED=n` replays one seed; `HOLDFAST_SEEDS=n` sets how many are run.

use super::*;
use holdfast_common::scheme::GroupId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SEEDS: u64 = 2_000;
const CREDITS: u32 = 2;
/// Faults that lose a lease, a run: fewer than a task may be lost, so that every run must end well.
const LOSSES_MAX: u32 = ATTEMPTS_MAX - 1;
/// Virtual time by which every run must have ended.
const TIME_MAX: u64 = 20 * 60_000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

type Cell = (Candidate, SampleIndex);

fn oracle((candidate, sample): &Cell) -> SampleResult {
    let seed = candidate.reverted.iter().fold(u64::from(sample.0), |seed, group| seed * 31 + u64::from(group.0));
    let value = Random(seed).next();
    SampleResult { parts: vec![vec![(value >> 11) as f64 / 3.0; 1 + value as usize % 3]] }
}

fn compute(tile: &Tile) -> TileResults {
    let row = |candidate: &Candidate| tile.samples.iter().map(|sample| oracle(&(candidate.clone(), *sample))).collect();
    tile.candidates.iter().map(row).collect()
}

fn cells(tile: &Tile) -> impl Iterator<Item = Cell> + '_ {
    tile.candidates.iter().flat_map(|candidate| tile.samples.iter().map(|sample| (candidate.clone(), *sample)))
}

#[derive(Clone, Debug)]
enum Outcome {
    Results(Arc<TileResults>, u64),
    Failed,
}

struct Worker {
    alive: bool,
    /// Cells a second.
    speed: u64,
    queue: VecDeque<Task>,
    busy: bool,
    unacked: BTreeMap<LeaseId, (Task, Outcome)>,
    revoked: BTreeSet<LeaseId>,
    /// Messages of an older session are lost.
    session: u64,
}

enum Event {
    Arrive(WorkerId, u64, Input),
    Deliver(WorkerId, u64, Effect),
    Finish(WorkerId, LeaseId),
    Beat(WorkerId),
    Join(WorkerId),
    Silence(WorkerId),
    Submit(SubmissionId),
    /// Some of a submission is anticipated, and something that is never asked for.
    Anticipate(SubmissionId),
    Restart,
    Committed(u64, CommitId),
    Deadline,
}

struct World {
    random: Random,
    now: u64,
    sequence: u64,
    epoch: u64,
    losses: u32,
    events: BTreeMap<(u64, u64), Event>,
    deadline: Option<u64>,
    scheduler: Scheduler,
    workers: BTreeMap<WorkerId, Worker>,
    wanted: BTreeMap<SubmissionId, BTreeSet<Cell>>,
    counted: BTreeMap<SubmissionId, BTreeSet<Cell>>,
    submitted: BTreeSet<SubmissionId>,
    done: BTreeSet<SubmissionId>,
    anticipated: u64,
    /// How often every task was taken back.
    revoked: BTreeMap<u64, u32>,
    commits: BTreeMap<CommitId, Arc<Tile>>,
    durable: BTreeSet<Cell>,
    /// What each worker was given and the scheduler has not heard of since.
    outstanding: BTreeMap<WorkerId, BTreeSet<LeaseId>>,
    told: BTreeMap<(WorkerId, LeaseId), Option<Arc<Tile>>>,
    duplicates: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            now: 0,
            sequence: 0,
            epoch: 1,
            losses: 0,
            events: BTreeMap::new(),
            deadline: None,
            scheduler: Scheduler::new(ScheduleConfig::new(1)),
            workers: BTreeMap::new(),
            wanted: BTreeMap::new(),
            counted: BTreeMap::new(),
            submitted: BTreeSet::new(),
            done: BTreeSet::new(),
            anticipated: 0,
            revoked: BTreeMap::new(),
            commits: BTreeMap::new(),
            durable: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            told: BTreeMap::new(),
            duplicates: 0,
        };
        for id in 0..1 + world.random.below(5) {
            let speed = 20 + world.random.below(400);
            world.add_worker(WorkerId(u128::from(id)), speed);
        }
        for submission in 0..1 + world.random.below(3) {
            let candidates = 1 + world.random.below(12) as u32;
            let samples = 1 + world.random.below(300) as u32;
            let cells = (0..candidates).flat_map(|group| {
                let candidate = Candidate {
                    scheme: Some(Digest::of(b"s")),
                    reverted: vec![GroupId(submission as u32 * 100 + group)],
                };
                (0..samples).map(move |sample| (candidate.clone(), SampleIndex(sample)))
            });
            world.wanted.insert(SubmissionId(submission), cells.collect());
        }
        if world.random.one_in(3) {
            let at = world.random.below(20_000);
            world.at(at, Event::Restart);
        }
        for id in world.wanted.keys().copied().collect::<Vec<_>>() {
            let delay = if world.random.one_in(2) { world.random.below(12_000) } else { 0 };
            for _ in 0..world.random.below(3) {
                let earlier = world.random.below(delay + 1);
                world.at(earlier, Event::Anticipate(id));
            }
            world.at(delay, Event::Submit(id));
        }
        world
    }

    fn add_worker(&mut self, id: WorkerId, speed: u64) {
        let worker = Worker {
            alive: true,
            speed,
            queue: VecDeque::new(),
            busy: false,
            unacked: BTreeMap::new(),
            revoked: BTreeSet::new(),
            session: 0,
        };
        self.workers.insert(id, worker);
        let delay = self.random.below(3_000);
        self.at(delay, Event::Join(id));
        self.at(delay + 5_000, Event::Beat(id));
        if self.random.one_in(2) {
            let at = self.random.below(15_000);
            self.at(at, Event::Silence(id));
        }
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn anticipate(&mut self, id: SubmissionId) {
        let mut likely: BTreeMap<Candidate, Vec<SampleIndex>> = BTreeMap::new();
        for cell in self.wanted[&id].difference(&self.durable) {
            likely.entry(cell.0.clone()).or_default().push(cell.1);
        }
        likely.retain(|_, _| !self.random.one_in(3));
        let never = Candidate { scheme: Some(Digest::of(b"s")), reverted: vec![GroupId(9_999)] };
        likely.insert(never, (0..100).map(SampleIndex).collect());
        let tile = |(candidate, samples)| Tile {
            workload: Digest::of(b"w"),
            want: Want::Contributions,
            candidates: vec![candidate],
            samples,
        };
        self.anticipated += 1;
        let submission = SubmissionId(1_000 + self.anticipated);
        self.step(Input::Anticipate { submission, tiles: likely.into_iter().map(tile).collect() });
    }

    fn submit(&mut self, id: SubmissionId) {
        self.submitted.insert(id);
        let mut missing: BTreeMap<&Candidate, Vec<SampleIndex>> = BTreeMap::new();
        for cell in self.wanted[&id].difference(&self.durable) {
            missing.entry(&cell.0).or_default().push(cell.1);
        }
        let mut tiles: BTreeMap<Vec<SampleIndex>, Vec<Candidate>> = BTreeMap::new();
        for (candidate, samples) in missing {
            tiles.entry(samples).or_default().push(candidate.clone());
        }
        let tile =
            |(samples, candidates)| Tile { workload: Digest::of(b"w"), want: Want::Contributions, candidates, samples };
        let tiles = tiles.into_iter().map(tile).collect();
        self.step(Input::Submit { submission: id, tiles });
    }

    fn step(&mut self, input: Input) {
        match &input {
            Input::Result { worker, lease, tile, .. } => {
                self.outstanding.entry(*worker).or_default().remove(lease);
                self.told.insert((*worker, *lease), Some(tile.clone()));
            }
            Input::Failure { worker, lease, .. } => {
                self.outstanding.entry(*worker).or_default().remove(lease);
                self.told.insert((*worker, *lease), None);
            }
            Input::Join { worker, held, unacked, .. } => {
                self.outstanding
                    .entry(*worker)
                    .or_default()
                    .retain(|lease| held.contains(lease) || unacked.contains(lease));
            }
            _ => {}
        }
        let effects = self.scheduler.step(Millis(self.now), input);
        for effect in effects {
            self.obey(effect);
        }
        let deadline = self.scheduler.next_deadline().map(|Millis(at)| at.max(self.now));
        if deadline != self.deadline {
            self.deadline = deadline;
            if let Some(at) = deadline {
                self.at(at - self.now, Event::Deadline);
            }
        }
    }

    fn obey(&mut self, effect: Effect) {
        let delay = self.random.below(200);
        match effect {
            Effect::Send { worker, ref task } => {
                let revoked = self.revoked.get(&task.lease.task).copied().unwrap_or(0);
                assert!(task.attempt <= ATTEMPTS_MAX + 1 + revoked, "BOUND: attempt {}", task.attempt);
                let held = self.outstanding.entry(worker).or_default();
                assert!(held.insert(task.lease), "a lease is granted once");
                assert!(held.len() <= CREDITS as usize, "CREDIT: {held:?}");
                let session = self.workers[&worker].session;
                self.at(delay, Event::Deliver(worker, session, effect));
            }
            Effect::Ack { worker, lease } => {
                if let Some(Some(tile)) = self.told.get(&(worker, lease)) {
                    assert!(cells(tile).all(|cell| self.durable.contains(&cell)), "DURABLE: ack before commit");
                } else {
                    assert!(self.told.contains_key(&(worker, lease)), "an ack of something never told");
                }
                let session = self.workers[&worker].session;
                self.at(delay, Event::Deliver(worker, session, effect));
            }
            Effect::Revoke { worker, lease } => {
                *self.revoked.entry(lease.task).or_default() += 1;
                self.outstanding.entry(worker).or_default().remove(&lease);
                let session = self.workers[&worker].session;
                self.at(delay, Event::Deliver(worker, session, effect));
            }
            Effect::Commit { commit, submission, tile, results, .. } => {
                for (candidate, results) in tile.candidates.iter().zip(results.iter()) {
                    for (sample, result) in tile.samples.iter().zip(results) {
                        assert_eq!(*result, oracle(&(candidate.clone(), *sample)), "ORACLE");
                    }
                }
                if let Some(submission) = submission {
                    let counted = self.counted.entry(submission).or_default();
                    for cell in cells(&tile) {
                        assert!(counted.insert(cell), "ONCE");
                    }
                }
                self.commits.insert(commit, tile);
                self.at(1 + delay / 4, Event::Committed(self.epoch, commit));
            }
            Effect::Done { submission } if !self.wanted.contains_key(&submission) => {}
            Effect::Done { submission } => {
                let wanted = &self.wanted[&submission];
                assert!(wanted.is_subset(&self.durable), "DURABLE: done before everything is durable");
                assert!(self.done.insert(submission), "ONCE: done twice");
            }
            Effect::Lost { worker, .. } => {
                self.outstanding.remove(&worker);
                let worker = self.workers.get_mut(&worker).expect("a known worker");
                worker.session += 1;
                assert!(self.losses > 0, "a healthy worker was lost");
            }
            Effect::Duplicate { cells, .. } => self.duplicates += cells,
            Effect::Failed { .. } | Effect::Mismatch { .. } | Effect::Reject { .. } | Effect::Expel { .. } => {
                panic!("nothing here may fail: {effect:?}");
            }
        }
    }

    fn say(&mut self, id: WorkerId, input: Input) {
        let session = self.workers[&id].session;
        let times = if self.random.one_in(8) { 2 } else { 1 };
        for _ in 0..times {
            let delay = self.random.below(200);
            self.at(delay, Event::Arrive(id, session, input.clone()));
        }
    }

    fn tell(&mut self, id: WorkerId, task: &Task, outcome: &Outcome) {
        let (worker, lease) = (id, task.lease);
        let input = match outcome.clone() {
            Outcome::Results(results, busy_us) => {
                Input::Result { worker, lease, tile: task.tile.clone(), results, busy_us }
            }
            Outcome::Failed => Input::Failure { worker, lease, failure: Failure::RetryElsewhere("chance".into()) },
        };
        self.say(id, input);
    }

    fn start_next(&mut self, id: WorkerId) {
        let slow = self.random.one_in(30);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(task) = worker.queue.front().filter(|_| !worker.busy && worker.alive) {
            worker.busy = true;
            let time = task.tile.cells() * 1000 / worker.speed * if slow { 20 } else { 1 };
            let lease = task.lease;
            self.at(time, Event::Finish(id, lease));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(id, session, input) => {
                if self.workers[&id].session == session {
                    self.step(input);
                }
            }
            Event::Deliver(id, session, effect) => self.deliver(id, session, effect),
            Event::Finish(id, lease) => self.finish(id, lease),
            Event::Beat(id) => {
                if self.workers[&id].alive {
                    self.say(id, Input::Renew { worker: id });
                    self.at(5_000, Event::Beat(id));
                }
            }
            Event::Join(id) => self.join(id),
            Event::Silence(id) => self.silence(id),
            Event::Submit(id) => {
                if !self.submitted.contains(&id) {
                    self.submit(id);
                }
            }
            Event::Anticipate(id) => {
                if !self.submitted.contains(&id) {
                    self.anticipate(id);
                }
            }
            Event::Restart => self.restart(),
            Event::Committed(epoch, commit) => {
                if epoch == self.epoch {
                    let tile = self.commits.remove(&commit).expect("a commit that was asked for");
                    self.durable.extend(cells(&tile));
                    self.step(Input::Committed { commit });
                }
            }
            Event::Deadline => {
                if self.deadline == Some(self.now) {
                    self.deadline = None;
                    self.step(Input::Tick);
                    assert_ne!(self.deadline, Some(self.now), "DRAIN: a deadline that changes nothing");
                }
            }
        }
    }

    fn deliver(&mut self, id: WorkerId, session: u64, effect: Effect) {
        let worker = self.workers.get_mut(&id).expect("a known worker");
        if !worker.alive || worker.session != session {
            return;
        }
        match effect {
            Effect::Send { task, .. } => {
                if !worker.revoked.contains(&task.lease) {
                    worker.queue.push_back(task);
                }
                self.start_next(id);
            }
            Effect::Ack { lease, .. } => {
                worker.unacked.remove(&lease);
            }
            Effect::Revoke { lease, .. } => {
                worker.revoked.insert(lease);
                let current = worker.queue.front().filter(|_| worker.busy).map(|task| task.lease);
                worker.queue.retain(|task| task.lease != lease || Some(lease) == current);
            }
            other => panic!("{other:?} is nothing to deliver"),
        }
    }

    fn finish(&mut self, id: WorkerId, lease: LeaseId) {
        let fails = self.losses < LOSSES_MAX && self.random.one_in(60);
        let worker = self.workers.get_mut(&id).expect("a known worker");
        if !worker.alive {
            return;
        }
        let task = worker.queue.pop_front().expect("a running task");
        assert_eq!(task.lease, lease);
        worker.busy = false;
        let busy_us = task.tile.cells() * 1_000_000 / worker.speed;
        let outcome = if fails {
            self.losses += 1;
            Outcome::Failed
        } else {
            Outcome::Results(Arc::new(compute(&task.tile)), busy_us)
        };
        worker.unacked.insert(lease, (task.clone(), outcome.clone()));
        self.tell(id, &task, &outcome);
        self.start_next(id);
    }

    fn join(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).expect("a known worker");
        if !worker.alive {
            return;
        }
        worker.session += 1;
        let held = worker.queue.iter().map(|task| task.lease).collect();
        let unacked: Vec<_> = worker.unacked.values().cloned().collect();
        let input = Input::Join {
            worker: id,
            name: format!("w{}", id.0),
            credits: CREDITS,
            held,
            unacked: unacked.iter().map(|(task, _)| task.lease).collect(),
        };
        self.step(input);
        for (task, outcome) in unacked {
            self.tell(id, &task, &outcome);
        }
    }

    /// A worker dies, or only its stream does; in either case somebody able to work remains.
    fn silence(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).expect("a known worker");
        worker.session += 1;
        if self.random.one_in(2) {
            self.step(Input::Disconnected { worker: id });
            let delay = self.random.below(8_000);
            self.at(delay, Event::Join(id));
            return;
        }
        if self.losses < LOSSES_MAX {
            self.losses += 1;
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.alive = false;
            }
            if self.random.one_in(2) {
                self.step(Input::Disconnected { worker: id });
            }
            let replacement = WorkerId(id.0 + 100);
            self.add_worker(replacement, 100);
        } else {
            self.at(1_000, Event::Join(id));
        }
    }

    fn restart(&mut self) {
        self.epoch += 1;
        self.scheduler = Scheduler::new(ScheduleConfig::new(self.epoch));
        self.commits.clear();
        self.revoked.clear();
        self.counted.clear();
        self.outstanding.clear();
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.session += 1;
            }
            let delay = self.random.below(3_000);
            self.at(delay, Event::Join(id));
        }
        for id in self.wanted.keys().copied().collect::<Vec<_>>() {
            if self.submitted.contains(&id) && !self.done.contains(&id) {
                self.submit(id);
            }
        }
    }

    fn run(mut self) -> u64 {
        while self.done.len() < self.wanted.len() {
            let Some(((at, _), event)) = self.events.pop_first() else { panic!("DRAIN: nothing happens any more") };
            self.now = at;
            assert!(self.now < TIME_MAX, "DRAIN: {} of {} ended", self.done.len(), self.wanted.len());
            self.handle(event);
        }
        for (id, wanted) in &self.wanted {
            assert!(wanted.is_subset(&self.durable), "ONCE: {id:?} is incomplete");
        }
        self.duplicates
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_workers_do_every_sample_counts_once_and_everything_ends() {
    let seeds = match number("HOLDFAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLDFAST_SEEDS").unwrap_or(SEEDS),
    };
    let mut duplicates = 0;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        match run {
            Ok(count) => duplicates += count,
            Err(panic) => {
                println!("replay with HOLDFAST_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(duplicates > 0 || number("HOLDFAST_SEED").is_some(), "the faults never produced a duplicate");
}
