//! The machine itself: one transition an input, everything it wants in effects.

use super::ahead::without;
use super::queue::{Aim, Queue};
use super::retry::{Setbacks, Verdict};
use super::roster::Roster;
use super::{
    CommitId, Effect, Failure, Input, LeaseId, Millis, STRAGGLER_FACTOR, STRAGGLER_FLOOR_MS, SUBMISSIONS_MAX,
    ScheduleConfig, SubmissionId, Task, Tile, TileResults, WORKERS_MAX, WorkerId,
};
use holdfast_common::Digest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A live lease.
#[derive(Clone, Debug)]
struct Lease {
    worker: WorkerId,
    since: Millis,
    expected_ms: u64,
}

/// Where a task stands.
#[derive(Clone, Debug)]
enum State {
    /// Leased, or waiting to be again.
    Open,
    /// The first result is being made durable.
    Committing(First),
    /// The first result is durable.
    Done(First),
}

/// The result that counts.
#[derive(Clone, Debug)]
struct First {
    worker: WorkerId,
    lease: LeaseId,
    fingerprint: Digest,
    commit: CommitId,
}

/// A tile that was cut.
#[derive(Clone, Debug)]
struct Piece {
    submission: SubmissionId,
    tile: Arc<Tile>,
    generation: u32,
    leases: BTreeMap<u32, Lease>,
    setbacks: Setbacks,
    avoid: BTreeSet<WorkerId>,
    duplicated: bool,
    state: State,
}

/// What was asked for in one go.
#[derive(Clone, Debug, Default)]
struct Submission {
    queue: Queue,
    /// Tasks to be handed out again.
    again: VecDeque<u64>,
    tasks: BTreeSet<u64>,
    leased: BTreeSet<u64>,
    undone: usize,
    duplicates: usize,
}

impl Submission {
    fn has_waiting(&self) -> bool {
        !self.again.is_empty() || !self.queue.is_empty()
    }
}

/// Results on their way to the disk, and who is to be told.
#[derive(Clone, Debug, Default)]
struct Commit {
    task: Option<u64>,
    waiting: Vec<(WorkerId, LeaseId)>,
}

/// Work that could be handed out.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Again(SubmissionId, usize),
    Fresh(SubmissionId),
}

/// Submissions, tasks, leases and workers.
///
/// Invariants, checked by the simulation: ONCE (a task's results are committed for its submission once), ORACLE (what is
/// committed is what one worker alone would have computed), DRAIN (with a living worker every submission ends), BOUND
/// (no task is handed out without bound), DURABLE (no ack before the commit), CREDIT (no worker holds more than it asked
/// for). What is only anticipated delays nothing: a worker that holds such a task is as good as idle.
#[derive(Clone, Debug)]
pub struct Scheduler {
    config: ScheduleConfig,
    roster: Roster,
    submissions: BTreeMap<SubmissionId, Submission>,
    tasks: BTreeMap<u64, Piece>,
    commits: BTreeMap<CommitId, Commit>,
    next_task: u64,
    next_commit: u64,
    served_last: SubmissionId,
    /// The submission that nobody has asked for yet.
    ahead: Option<SubmissionId>,
    halted: Option<String>,
}

impl Scheduler {
    /// A machine without workers and work.
    pub fn new(config: ScheduleConfig) -> Scheduler {
        Scheduler {
            config,
            roster: Roster::default(),
            submissions: BTreeMap::new(),
            tasks: BTreeMap::new(),
            commits: BTreeMap::new(),
            next_task: 0,
            next_commit: 0,
            served_last: SubmissionId(0),
            ahead: None,
            halted: None,
        }
    }

    /// Workers that are connected and take tasks.
    pub fn workers(&self) -> usize {
        self.roster.active().count()
    }

    /// Whether anything is asked for that is not done.
    pub fn has_open(&self) -> bool {
        self.asked().next().is_some()
    }

    /// Submissions that somebody waits for.
    fn asked(&self) -> impl Iterator<Item = (&SubmissionId, &Submission)> {
        self.submissions.iter().filter(|(id, _)| Some(**id) != self.ahead)
    }

    /// When the machine wants [`Input::Tick`] at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Millis> {
        let expiry = self.roster.next_expiry();
        let watching = self.halted.is_none() && self.roster.has_idle() && !self.has_waiting();
        let straggler = if watching {
            self.stragglers().filter(|(_, task)| self.spare_for(*task).is_some()).map(|(at, _)| at).min()
        } else {
            None
        };
        [expiry, straggler].into_iter().flatten().min()
    }

    /// One transition.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(now, input, &mut effects);
        while let Some(worker) = self.roster.expired(now) {
            self.lose_worker(worker, "fell silent", &mut effects);
        }
        self.dispatch(now, &mut effects);
        effects
    }

    fn take(&mut self, now: Millis, input: Input, effects: &mut Vec<Effect>) {
        let expires = now.after(self.config.lease_ms);
        match input {
            Input::Submit { submission, tiles } => self.submit(submission, tiles, effects),
            Input::Anticipate { submission, tiles } => self.anticipate(submission, tiles, effects),
            Input::Cancel { submission } => self.close(submission, effects),
            Input::Join { worker, name, credits, held, unacked } => {
                if self.roster.get(worker).is_none() && self.roster.len() >= WORKERS_MAX {
                    let message = format!("{WORKERS_MAX} workers are connected, no more are accepted; try again later");
                    effects.push(Effect::Reject { worker, message });
                    return;
                }
                self.roster.join(worker, name, credits, expires);
                self.reconcile(worker, &held, &unacked, effects);
            }
            Input::Credits { worker, limit } => {
                self.roster.set_credits(worker, limit);
                self.roster.renew(worker, expires);
            }
            Input::Renew { worker } => self.roster.renew(worker, expires),
            Input::Result { worker, lease, tile, results, busy_us } => {
                self.roster.renew(worker, expires);
                self.roster.observe(worker, tile.cells(), busy_us);
                self.result(worker, lease, tile, results, effects);
            }
            Input::Failure { worker, lease, failure } => {
                self.roster.renew(worker, expires);
                self.failure(worker, lease, failure, effects);
            }
            Input::Committed { commit } => self.committed(commit, effects),
            Input::Disconnected { worker } => self.roster.detach(worker, now.after(self.config.reconnect_ms)),
            Input::Leave { worker } => self.lose_worker(worker, "left", effects),
            Input::Tick => {}
        }
    }

    fn submit(&mut self, id: SubmissionId, tiles: Vec<Tile>, effects: &mut Vec<Effect>) {
        let refusal = match &self.halted {
            Some(message) => Some(message.clone()),
            None if self.submissions.len() >= SUBMISSIONS_MAX => {
                Some(format!("{SUBMISSIONS_MAX} submissions are open, no more are accepted"))
            }
            None => None,
        };
        if let Some(message) = refusal {
            effects.push(Effect::Failed { submission: id, message });
            return;
        }
        let submission = self.take_over(id, &tiles);
        for task in &submission.tasks {
            let workers = self.tasks.get(task).into_iter().flat_map(|piece| piece.leases.values());
            workers.for_each(|lease| self.roster.promote(lease.worker));
        }
        if let Some(ahead) = self.ahead.and_then(|ahead| self.submissions.get_mut(&ahead)) {
            ahead.queue.forget(&tiles);
        }
        self.end_empty_ahead(effects);
        if submission.queue.is_empty() && submission.undone == 0 {
            effects.push(Effect::Done { submission: id });
        } else {
            self.submissions.insert(id, submission);
        }
    }

    /// Replaces what is worked on ahead; what is begun and still likely goes on.
    fn anticipate(&mut self, id: SubmissionId, tiles: Vec<Tile>, effects: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        let submission = self.take_over(id, &tiles);
        if let Some(before) = self.ahead {
            self.close(before, effects);
        }
        if !submission.queue.is_empty() || submission.undone > 0 {
            self.submissions.insert(id, submission);
            self.ahead = Some(id);
        }
    }

    /// A submission of these tiles that takes over what workers have begun of them ahead.
    fn take_over(&mut self, id: SubmissionId, tiles: &[Tile]) -> Submission {
        let mut submission = Submission::default();
        let mut left = tiles.to_vec();
        if let Some(ahead) = self.ahead.and_then(|ahead| self.submissions.get_mut(&ahead)) {
            for task in ahead.leased.clone() {
                let Some(piece) = self.tasks.get_mut(&task) else { continue };
                let Some(rest) = without(&left, &piece.tile) else { continue };
                left = rest;
                piece.submission = id;
                ahead.leased.remove(&task);
                ahead.tasks.remove(&task);
                ahead.undone -= 1;
                submission.leased.insert(task);
                submission.tasks.insert(task);
                submission.undone += 1;
            }
        }
        submission.queue = Queue::new(left);
        submission
    }

    /// Forgets the submission ahead when nothing is left of it.
    fn end_empty_ahead(&mut self, effects: &mut Vec<Effect>) {
        let Some(id) = self.ahead else { return };
        if self.submissions.get(&id).is_none_or(|ahead| ahead.queue.is_empty() && ahead.undone == 0) {
            self.close(id, effects);
        }
    }

    /// What a worker holds after it (re)joined is what both sides agree on.
    fn reconcile(&mut self, worker: WorkerId, held: &[LeaseId], unacked: &[LeaseId], effects: &mut Vec<Effect>) {
        let ours: BTreeSet<(u64, u32)> =
            self.roster.get(worker).map(|worker| worker.leases.keys().copied().collect()).unwrap_or_default();
        let epoch = self.config.epoch;
        let theirs = |leases: &[LeaseId]| -> BTreeSet<(u64, u32)> {
            leases.iter().filter(|lease| lease.epoch == epoch).map(|lease| (lease.task, lease.generation)).collect()
        };
        let (held_ours, unacked_ours) = (theirs(held), theirs(unacked));
        for lease in ours.iter().filter(|lease| !held_ours.contains(lease) && !unacked_ours.contains(lease)) {
            self.lose_lease(worker, *lease, "no longer known to the worker", effects);
        }
        for lease in held {
            if lease.epoch != epoch || !ours.contains(&(lease.task, lease.generation)) {
                effects.push(Effect::Revoke { worker, lease: *lease });
            }
        }
    }

    fn result(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        tile: Arc<Tile>,
        results: Arc<TileResults>,
        effects: &mut Vec<Effect>,
    ) {
        let shaped =
            results.len() == tile.candidates.len() && results.iter().all(|results| results.len() == tile.samples.len());
        let known = self.tasks.get_mut(&lease.task).filter(|_| lease.epoch == self.config.epoch);
        if !shaped || known.as_ref().is_some_and(|piece| piece.tile != tile) {
            let message = format!("the results under lease {lease} do not fit its tile");
            self.expel(worker, message, effects);
            return;
        }
        let Some(piece) = known else {
            let commit = self.new_commit(None, worker, lease);
            effects.push(Effect::Commit { commit, submission: None, worker, tile, results });
            return;
        };
        if piece.leases.get(&lease.generation).is_some_and(|held| held.worker == worker) {
            piece.leases.remove(&lease.generation);
            self.roster.release(worker, (lease.task, lease.generation));
        }
        let fingerprint = fingerprint(&results);
        match piece.state.clone() {
            State::Open => self.first_result(worker, lease, results, fingerprint, effects),
            State::Committing(first) | State::Done(first) if first.fingerprint != fingerprint => {
                self.halt(&first, worker, lease, effects);
            }
            State::Committing(first) => {
                if (first.worker, first.lease) != (worker, lease) {
                    effects.push(Effect::Duplicate { worker, cells: tile.cells() });
                }
                self.wait_for(first.commit, worker, lease);
            }
            State::Done(first) => {
                if (first.worker, first.lease) != (worker, lease) {
                    effects.push(Effect::Duplicate { worker, cells: tile.cells() });
                }
                effects.push(Effect::Ack { worker, lease });
            }
        }
    }

    fn first_result(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        results: Arc<TileResults>,
        fingerprint: Digest,
        effects: &mut Vec<Effect>,
    ) {
        let commit = self.new_commit(Some(lease.task), worker, lease);
        let Some(piece) = self.tasks.get_mut(&lease.task) else { return };
        piece.state = State::Committing(First { worker, lease, fingerprint, commit });
        let others = std::mem::take(&mut piece.leases);
        let (id, tile) = (piece.submission, piece.tile.clone());
        for (generation, other) in others {
            self.roster.release(other.worker, (lease.task, generation));
            effects.push(Effect::Revoke { worker: other.worker, lease: LeaseId { generation, ..lease } });
        }
        if let Some(submission) = self.submissions.get_mut(&id) {
            submission.leased.remove(&lease.task);
            submission.again.retain(|task| *task != lease.task);
            let width = |results: &Vec<_>| results.iter().map(values).max().unwrap_or(0);
            submission.queue.observe_width(results.iter().map(width).max().unwrap_or(0));
        }
        effects.push(Effect::Commit { commit, submission: Some(id), worker, tile, results });
    }

    fn new_commit(&mut self, task: Option<u64>, worker: WorkerId, lease: LeaseId) -> CommitId {
        let commit = CommitId(self.next_commit);
        self.next_commit += 1;
        self.commits.insert(commit, Commit { task, waiting: Vec::new() });
        self.wait_for(commit, worker, lease);
        commit
    }

    fn wait_for(&mut self, commit: CommitId, worker: WorkerId, lease: LeaseId) {
        let Some(commit) = self.commits.get_mut(&commit) else { return };
        if !commit.waiting.contains(&(worker, lease)) {
            commit.waiting.push((worker, lease));
            self.roster.await_commit(worker);
        }
    }

    fn committed(&mut self, id: CommitId, effects: &mut Vec<Effect>) {
        let Some(commit) = self.commits.remove(&id) else { return };
        for (worker, lease) in commit.waiting {
            self.roster.end_commit(worker);
            effects.push(Effect::Ack { worker, lease });
        }
        let Some(piece) = commit.task.and_then(|task| self.tasks.get_mut(&task)) else { return };
        if let State::Committing(first) = &piece.state {
            piece.state = State::Done(first.clone());
        }
        let id = piece.submission;
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        submission.undone -= 1;
        if submission.undone == 0 && submission.queue.is_empty() {
            self.close(id, effects);
            effects.push(Effect::Done { submission: id });
        }
    }

    fn failure(&mut self, worker: WorkerId, lease: LeaseId, failure: Failure, effects: &mut Vec<Effect>) {
        effects.push(Effect::Ack { worker, lease });
        let current = lease.epoch == self.config.epoch
            && self
                .tasks
                .get(&lease.task)
                .and_then(|piece| piece.leases.get(&lease.generation))
                .is_some_and(|held| held.worker == worker);
        if current {
            self.set_back(worker, (lease.task, lease.generation), effects, |setbacks, name| {
                setbacks.failed(name, &failure)
            });
        }
        if let Failure::WorkerBroken(message) = failure {
            self.expel(worker, message, effects);
        }
    }

    fn lose_lease(&mut self, worker: WorkerId, lease: (u64, u32), how: &str, effects: &mut Vec<Effect>) {
        self.set_back(worker, lease, effects, |setbacks, name| setbacks.lost(name, how));
    }

    /// Ends a lease without a result; the task is handed out again, or what asked for it fails.
    fn set_back(
        &mut self,
        worker: WorkerId,
        lease: (u64, u32),
        effects: &mut Vec<Effect>,
        judge: impl FnOnce(&mut Setbacks, &str) -> Verdict,
    ) {
        let name = self.roster.name(worker);
        self.roster.release(worker, lease);
        let Some(piece) = self.tasks.get_mut(&lease.0) else { return };
        if piece.leases.remove(&lease.1).is_none() {
            return;
        }
        piece.avoid.insert(worker);
        let verdict = judge(&mut piece.setbacks, &name);
        let id = piece.submission;
        match verdict {
            Verdict::Fail(reason) => {
                let message = format!("{}: {reason}", piece.tile);
                self.close(id, effects);
                effects.push(Effect::Failed { submission: id, message });
            }
            Verdict::Retry if piece.leases.is_empty() => {
                if let Some(submission) = self.submissions.get_mut(&id) {
                    submission.leased.remove(&lease.0);
                    submission.again.push_back(lease.0);
                }
            }
            Verdict::Retry => {}
        }
    }

    /// The one way a worker is lost.
    fn lose_worker(&mut self, id: WorkerId, how: &str, effects: &mut Vec<Effect>) {
        let Some(leases) = self.roster.get(id).map(|worker| worker.leases.clone()) else { return };
        for lease in leases.keys() {
            self.lose_lease(id, *lease, how, effects);
        }
        self.roster.remove(id);
        effects.push(Effect::Lost { worker: id, leases: leases.len() });
    }

    fn expel(&mut self, worker: WorkerId, message: String, effects: &mut Vec<Effect>) {
        self.lose_worker(worker, "expelled", effects);
        effects.push(Effect::Expel { worker, message });
    }

    fn halt(&mut self, first: &First, second: WorkerId, lease: LeaseId, effects: &mut Vec<Effect>) {
        let tile = self.tasks.get(&lease.task).map(|piece| piece.tile.to_string()).unwrap_or_default();
        let message = format!(
            "workers {} and {} gave different results for {tile}; one of them computes wrongly, so no result of either can \
             be trusted: test both machines, delete the state directory and start again without the faulty one",
            self.roster.name(first.worker),
            self.roster.name(second)
        );
        effects.push(Effect::Mismatch { first: first.worker, second, message: message.clone() });
        while let Some(id) = self.submissions.keys().next().copied() {
            self.close(id, effects);
            effects.push(Effect::Failed { submission: id, message: message.clone() });
        }
        self.halted = Some(message);
    }

    /// Forgets a submission and takes its tasks back.
    fn close(&mut self, id: SubmissionId, effects: &mut Vec<Effect>) {
        self.ahead = self.ahead.filter(|ahead| *ahead != id);
        let Some(submission) = self.submissions.remove(&id) else { return };
        for task in submission.tasks {
            let Some(piece) = self.tasks.remove(&task) else { continue };
            for (generation, lease) in piece.leases {
                self.roster.release(lease.worker, (task, generation));
                let lease_id = LeaseId { epoch: self.config.epoch, task, generation };
                effects.push(Effect::Revoke { worker: lease.worker, lease: lease_id });
            }
        }
    }

    fn has_waiting(&self) -> bool {
        self.asked().any(|(_, submission)| submission.has_waiting())
    }

    fn dispatch(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        while self.roster.has_idle() && self.has_waiting() {
            let choice = self.roster.idle().find_map(|worker| self.choose(worker).map(|choice| (worker, choice)));
            let Some((worker, choice)) = choice else { break };
            self.hand_out(now, worker, choice, effects);
        }
        while self.roster.has_idle() && !self.has_waiting() {
            let due = self
                .stragglers()
                .filter(|(at, _)| *at <= now)
                .find_map(|(_, task)| Some((self.spare_for(task)?, task)));
            let Some((worker, task)) = due else { break };
            if let Some(piece) = self.tasks.get_mut(&task) {
                piece.duplicated = true;
                if let Some(submission) = self.submissions.get_mut(&piece.submission) {
                    submission.duplicates += 1;
                }
            }
            self.grant(now, worker, task, effects);
        }
        while let Some((worker, choice)) = self.choose_ahead() {
            self.hand_out(now, worker, choice, effects);
        }
    }

    /// Work ahead for a worker that holds nothing, where nothing that was asked for waits.
    fn choose_ahead(&self) -> Option<(WorkerId, Choice)> {
        let id = self.ahead.filter(|_| !self.has_waiting())?;
        let worker = self.roster.free()?;
        self.choice_of(id, self.submissions.get(&id)?, worker).map(|choice| (worker, choice))
    }

    /// Tasks that may be duplicated, with the moment from which they may be: one duplicate a task, and of a submission
    /// no more than there are workers or a twentieth of its tasks.
    fn stragglers(&self) -> impl Iterator<Item = (Millis, u64)> + '_ {
        self.asked().flat_map(move |(_, submission)| {
            let allowed = (submission.tasks.len() / 20).max(self.roster.len());
            let tasks = if submission.duplicates < allowed { Some(&submission.leased) } else { None };
            tasks.into_iter().flatten().filter_map(|task| {
                let piece = self.tasks.get(task).filter(|piece| !piece.duplicated)?;
                let lease = piece.leases.values().next()?;
                let attached = self.roster.get(lease.worker).is_some_and(|worker| worker.attached);
                let patience = STRAGGLER_FLOOR_MS.max(lease.expected_ms.saturating_mul(STRAGGLER_FACTOR));
                Some((if attached { lease.since.after(patience) } else { lease.since }, *task))
            })
        })
    }

    /// An idle worker that neither holds nor failed this task.
    fn spare_for(&self, task: u64) -> Option<WorkerId> {
        let piece = self.tasks.get(&task)?;
        let holds = |id: &WorkerId| piece.leases.values().any(|lease| lease.worker == *id);
        self.roster.idle().find(|id| !piece.avoid.contains(id) && !holds(id))
    }

    /// What this worker should do next: submissions take turns, tasks that were lost come first.
    fn choose(&self, worker: WorkerId) -> Option<Choice> {
        let later = self.submissions.range((std::ops::Bound::Excluded(self.served_last), std::ops::Bound::Unbounded));
        let earlier = self.submissions.range(..=self.served_last);
        let mut asked = later.chain(earlier).filter(|(id, _)| Some(**id) != self.ahead);
        asked.find_map(|(id, submission)| self.choice_of(*id, submission, worker))
    }

    fn choice_of(&self, id: SubmissionId, submission: &Submission, worker: WorkerId) -> Option<Choice> {
        let again = submission.again.iter().position(|task| self.may_take(worker, *task));
        match again {
            Some(place) => Some(Choice::Again(id, place)),
            None if !submission.queue.is_empty() => Some(Choice::Fresh(id)),
            None => None,
        }
    }

    /// A worker that failed a task gets it again only when there is nobody else.
    fn may_take(&self, worker: WorkerId, task: u64) -> bool {
        let Some(piece) = self.tasks.get(&task) else { return false };
        !piece.avoid.contains(&worker) || self.roster.active().all(|(id, _)| piece.avoid.contains(&id))
    }

    fn hand_out(&mut self, now: Millis, worker: WorkerId, choice: Choice, effects: &mut Vec<Effect>) {
        let (Choice::Again(id, _) | Choice::Fresh(id)) = choice;
        if Some(id) != self.ahead {
            self.served_last = id;
        }
        match choice {
            Choice::Again(id, place) => {
                let task = self.submissions.get_mut(&id).and_then(|submission| submission.again.remove(place));
                if let Some(task) = task {
                    self.grant(now, worker, task, effects);
                }
            }
            Choice::Fresh(id) => {
                let cells = self.roster.get(worker).and_then(|worker| worker.cells_in(self.config.task_ms));
                let aim = Aim { cells, workers: self.roster.active().count() as u64 };
                let Some(submission) = self.submissions.get_mut(&id) else { return };
                let Some(tile) = submission.queue.cut(aim) else { return };
                let task = self.next_task;
                self.next_task += 1;
                submission.tasks.insert(task);
                submission.undone += 1;
                let piece = Piece {
                    submission: id,
                    tile: Arc::new(tile),
                    generation: 0,
                    leases: BTreeMap::new(),
                    setbacks: Setbacks::default(),
                    avoid: BTreeSet::new(),
                    duplicated: false,
                    state: State::Open,
                };
                self.tasks.insert(task, piece);
                self.grant(now, worker, task, effects);
            }
        }
    }

    /// A worker that is given what was asked for gives back what it holds ahead; nobody is to blame for that.
    fn put_off(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some((task, generation)) = self.roster.ahead(worker) else { return };
        self.roster.release(worker, (task, generation));
        if let Some(piece) = self.tasks.get_mut(&task) {
            piece.leases.remove(&generation);
            if let Some(submission) = self.submissions.get_mut(&piece.submission) {
                submission.leased.remove(&task);
                submission.again.push_front(task);
            }
        }
        let lease = LeaseId { epoch: self.config.epoch, task, generation };
        effects.push(Effect::Revoke { worker, lease });
    }

    fn grant(&mut self, now: Millis, worker: WorkerId, task: u64, effects: &mut Vec<Effect>) {
        let is_ahead = self.tasks.get(&task).is_some_and(|piece| Some(piece.submission) == self.ahead);
        if !is_ahead {
            self.put_off(worker, effects);
        }
        let Some(piece) = self.tasks.get_mut(&task) else { return };
        let cells = piece.tile.cells();
        let expected_ms = self.roster.get(worker).map_or(0, |worker| worker.expected_ms(cells));
        piece.generation += 1;
        let generation = piece.generation;
        piece.leases.insert(generation, Lease { worker, since: now, expected_ms });
        if let Some(submission) = self.submissions.get_mut(&piece.submission) {
            submission.leased.insert(task);
        }
        match is_ahead {
            true => self.roster.grant_ahead(worker, (task, generation), cells),
            false => self.roster.grant(worker, (task, generation), cells),
        }
        let lease = LeaseId { epoch: self.config.epoch, task, generation };
        let task = Task { lease, attempt: generation, tile: piece.tile.clone() };
        effects.push(Effect::Send { worker, task });
    }
}

fn values(result: &holdfast_common::evaluation::SampleResult) -> usize {
    result.parts.iter().map(Vec::len).sum()
}

/// A digest of every bit of the results.
fn fingerprint(results: &TileResults) -> Digest {
    let mut bytes = Vec::new();
    let count = |bytes: &mut Vec<u8>, count: usize| bytes.extend((count as u64).to_le_bytes());
    for results in results {
        count(&mut bytes, results.len());
        for result in results {
            count(&mut bytes, result.parts.len());
            for part in &result.parts {
                count(&mut bytes, part.len());
                bytes.extend(part.iter().flat_map(|value| value.to_bits().to_le_bytes()));
            }
        }
    }
    Digest::of(&bytes)
}

#[cfg(test)]
impl Scheduler {
    /// Tiles of the tasks there are, in the order in which they were cut.
    pub(super) fn tiles(&self) -> impl Iterator<Item = &Tile> {
        self.tasks.values().map(|piece| &*piece.tile)
    }

    pub(super) fn submission_of(&self, lease: LeaseId) -> Option<SubmissionId> {
        self.tasks.get(&lease.task).map(|piece| piece.submission)
    }
}
