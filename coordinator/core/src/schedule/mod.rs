//! The scheduler: which worker computes which tile under which lease, as a state machine without clock, threads or I/O.
//!
//! ```text
//!                 cut                 grant                result              committed
//!   submission ────────► (queue) ───────────► leased ───────────► committing ────────────► done
//!                            ▲                   │ lost, failed                            (ack)
//!                            └───────────────────┘ at most ATTEMPTS_MAX times
//! ```
//!
//! What is only anticipated waits behind everything asked for: it goes to workers that hold nothing, and is taken back from
//! them when they are needed.
//!
//! What a task is, is its tile; who holds it, is a lease with a generation. A result counts for what it is, whoever sends
//! it and however late; leases only organise the work.

mod ahead;
mod queue;
mod retry;
mod roster;
mod scheduler;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use scheduler::Scheduler;

use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult, Want};
use std::fmt;
use std::sync::Arc;

/// Most candidates a tile has: enough to share decoding and common prefixes, few enough to balance.
pub const TILE_CANDIDATES: usize = 16;
/// Most samples a task has.
pub const TASK_SAMPLES_MAX: usize = 8192;
/// Most numbers the results of a task may hold beyond its first leaf.
pub const TASK_VALUES_MAX: usize = 1 << 20;
/// How often a task may be lost or fail before what asked for it fails.
pub const ATTEMPTS_MAX: u32 = 4;
/// How often a sample may be called unreadable before what asked for it fails.
pub const POISON_ATTEMPTS_MAX: u32 = 2;
/// Results of one worker that may wait for their commit before it gets no more tasks.
pub const UNCOMMITTED_MAX: usize = 16;
/// Most workers at a time.
pub const WORKERS_MAX: usize = 16_384;
/// Most tasks a worker may hold, whatever it asks for.
pub const CREDITS_MAX: u32 = 256;
/// Most submissions open at a time.
pub const SUBMISSIONS_MAX: usize = 4096;
/// A task younger than this is no straggler.
pub const STRAGGLER_FLOOR_MS: u64 = 2_000;
/// A task is a straggler when it takes this many times as long as expected.
pub const STRAGGLER_FACTOR: u64 = 3;
/// What a task is expected to take on a worker whose speed is unknown.
pub const EXPECTED_UNKNOWN_MS: u64 = 5_000;

/// Milliseconds since some fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    fn after(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// One process of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u128);

/// Something the algorithm asked for in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubmissionId(pub u64);

/// Something that is to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// One handing-out of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId {
    /// Count of the coordinator's starts; leases of earlier ones mean nothing here.
    pub epoch: u64,
    /// The task's number within the epoch.
    pub task: u64,
    /// The number that outdates earlier leases of the same task.
    pub generation: u32,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.task, self.generation)
    }
}

/// Some candidates over some samples, for one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Digest of the workload artifact.
    pub workload: Digest,
    /// What is wanted of every sample.
    pub want: Want,
    /// The models.
    pub candidates: Vec<Candidate>,
    /// The samples, without repetition.
    pub samples: Vec<SampleIndex>,
}

impl Tile {
    /// Sample × candidate pairs.
    pub fn cells(&self) -> u64 {
        self.candidates.len() as u64 * self.samples.len() as u64
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.samples.iter().min().map_or(0, |sample| sample.0);
        let last = self.samples.iter().max().map_or(0, |sample| sample.0);
        write!(f, "{} candidates on {} samples ({first} to {last})", self.candidates.len(), self.samples.len())
    }
}

/// A tile handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The lease it is handed out under.
    pub lease: LeaseId,
    /// How often it was handed out, this time included.
    pub attempt: u32,
    /// What is to be computed.
    pub tile: Arc<Tile>,
}

/// Results of a tile: per candidate, per sample, in the tile's orders.
pub type TileResults = Vec<Vec<SampleResult>>;

/// Why a worker did not compute a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something passing, or an artifact that could not be had.
    RetryElsewhere(String),
    /// One sample cannot be evaluated.
    PoisonSample(SampleIndex, String),
    /// The worker must not be trusted with anything further.
    WorkerBroken(String),
    /// No worker can run this.
    ModelUnsupported(String),
}

/// What enters the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// These tiles are wanted. They may be of any size; their (candidate, sample) pairs are disjoint.
    Submit {
        /// A new number.
        submission: SubmissionId,
        /// What is wanted.
        tiles: Vec<Tile>,
    },
    /// These tiles will probably be wanted. They are worked on by workers that nothing asked for keeps busy, and given
    /// back as soon as something is; [`Input::Submit`] takes over what it finds begun. Replaces what was anticipated
    /// before; no effect names this submission but [`Effect::Commit`], [`Effect::Done`] and [`Effect::Failed`].
    Anticipate {
        /// A new number.
        submission: SubmissionId,
        /// What is anticipated, likeliest first; their pairs are disjoint.
        tiles: Vec<Tile>,
    },
    /// Nobody waits for this submission any more.
    Cancel {
        /// Which.
        submission: SubmissionId,
    },
    /// A worker opened a session, for the first time or again.
    Join {
        /// Who.
        worker: WorkerId,
        /// Its name, for messages.
        name: String,
        /// How many tasks it is willing to hold.
        credits: u32,
        /// What it still works on.
        held: Vec<LeaseId>,
        /// Outcomes it knows and is about to tell.
        unacked: Vec<LeaseId>,
    },
    /// How many tasks a worker is willing to hold from now on.
    Credits {
        /// Who.
        worker: WorkerId,
        /// How many.
        limit: u32,
    },
    /// A sign of life.
    Renew {
        /// Whose.
        worker: WorkerId,
    },
    /// A tile was computed.
    Result {
        /// By whom.
        worker: WorkerId,
        /// Under which lease, perhaps an outdated one.
        lease: LeaseId,
        /// What was computed.
        tile: Arc<Tile>,
        /// The results.
        results: Arc<TileResults>,
        /// Time spent computing, in microseconds.
        busy_us: u64,
    },
    /// A tile was not computed.
    Failure {
        /// By whom.
        worker: WorkerId,
        /// Under which lease, perhaps an outdated one.
        lease: LeaseId,
        /// Why.
        failure: Failure,
    },
    /// What [`Effect::Commit`] named is durable.
    Committed {
        /// Which.
        commit: CommitId,
    },
    /// A worker's stream broke; it may come back.
    Disconnected {
        /// Whose.
        worker: WorkerId,
    },
    /// A worker left for good.
    Leave {
        /// Who.
        worker: WorkerId,
    },
    /// Time has passed.
    Tick,
}

/// What the machine asks of its shell, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a task.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        task: Task,
    },
    /// Make results durable, then say [`Input::Committed`].
    Commit {
        /// The name of this commit.
        commit: CommitId,
        /// Whom the results serve; `None` when nobody waits for them, which is no reason to lose them.
        submission: Option<SubmissionId>,
        /// Who computed them.
        worker: WorkerId,
        /// What was computed.
        tile: Arc<Tile>,
        /// The results.
        results: Arc<TileResults>,
    },
    /// Tell a worker that an outcome may be forgotten.
    Ack {
        /// Whom.
        worker: WorkerId,
        /// The lease.
        lease: LeaseId,
    },
    /// Tell a worker that nobody waits for a task.
    Revoke {
        /// Whom.
        worker: WorkerId,
        /// The lease.
        lease: LeaseId,
    },
    /// All results of a submission are durable.
    Done {
        /// Which.
        submission: SubmissionId,
    },
    /// A submission cannot be completed.
    Failed {
        /// Which.
        submission: SubmissionId,
        /// What happened, where, and what to do.
        message: String,
    },
    /// Two workers gave different bytes for the same tile: nothing further can be trusted, the run is over.
    Mismatch {
        /// Who came first.
        first: WorkerId,
        /// Who came second.
        second: WorkerId,
        /// What happened, where, and what to do.
        message: String,
    },
    /// The same results came again under another lease and agreed.
    Duplicate {
        /// From whom.
        worker: WorkerId,
        /// Sample × candidate pairs.
        cells: u64,
    },
    /// A worker fell silent or left; what it held is given to others.
    Lost {
        /// Who.
        worker: WorkerId,
        /// How many leases it held.
        leases: usize,
    },
    /// A worker cannot join now.
    Reject {
        /// Who.
        worker: WorkerId,
        /// Why.
        message: String,
    },
    /// A worker must not come back.
    Expel {
        /// Who.
        worker: WorkerId,
        /// Why.
        message: String,
    },
}

/// Times the machine keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Count of the coordinator's starts.
    pub epoch: u64,
    /// Silence longer than this loses a worker its leases.
    pub lease_ms: u64,
    /// How long a worker whose stream broke may take to come back.
    pub reconnect_ms: u64,
    /// How long a task should take.
    pub task_ms: u64,
}

impl ScheduleConfig {
    /// The usual times: 15 s of silence, 10 s to reconnect, tasks of 1.5 s.
    pub fn new(epoch: u64) -> ScheduleConfig {
        ScheduleConfig { epoch, lease_ms: 15_000, reconnect_ms: 10_000, task_ms: 1_500 }
    }
}
