//! What coordinator and worker say to each other, in types that cannot be invalid.

use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult, Want};
use std::fmt;
use std::sync::Arc;

/// One process of one worker: a version 7 UUID, never an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// One handing-out of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Count of the coordinator's starts.
    pub epoch: u64,
    /// The task's number within the epoch.
    pub task: u64,
    /// The number that outdates earlier leases of the same task.
    pub generation: u32,
}

impl fmt::Display for Lease {
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
    /// The models; at least one.
    pub candidates: Vec<Candidate>,
    /// The samples; at least one.
    pub samples: Vec<SampleIndex>,
}

impl Tile {
    /// Sample × candidate pairs.
    pub fn cells(&self) -> u64 {
        self.candidates.len() as u64 * self.samples.len() as u64
    }
}

/// A tile handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The lease it is handed out under.
    pub lease: Lease,
    /// How often the tile was handed out, this time included.
    pub attempt: u32,
    /// What is to be computed.
    pub tile: Arc<Tile>,
}

/// Results of a tile: per candidate, per sample, in the tile's orders.
pub type TileResults = Vec<Vec<SampleResult>>;

/// What became of a task that was computed.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// The lease it was computed under.
    pub lease: Lease,
    /// What was computed.
    pub tile: Arc<Tile>,
    /// The results.
    pub results: Arc<TileResults>,
    /// Time spent computing, in microseconds.
    pub busy_us: u64,
}

/// Why a task was not computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailure {
    /// Something passing: another worker, or this one later, may succeed.
    #[error("{message}")]
    RetryElsewhere {
        /// What happened.
        message: String,
    },
    /// One sample cannot be evaluated.
    #[error("sample {}: {message}", sample.0)]
    PoisonSample {
        /// Which.
        sample: SampleIndex,
        /// What is wrong with it.
        message: String,
    },
    /// The worker must not be trusted with anything further.
    #[error("worker is broken: {message}")]
    WorkerBroken {
        /// What is wrong.
        message: String,
    },
    /// No worker can run this model or scheme.
    #[error("model cannot be run: {message}")]
    ModelUnsupported {
        /// What is missing.
        message: String,
    },
    /// An artifact could not be had.
    #[error("artifact {} could not be had: {message}", digest.short())]
    ArtifactMissing {
        /// Which.
        digest: Digest,
        /// What was tried.
        message: String,
    },
}

/// Instruction sets, fastest chosen by the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No SIMD.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 VNNI.
    Avx512Vnni,
    /// 64-bit ARM.
    Neon,
    /// 64-bit ARM with dot products.
    NeonDotprod,
}

/// The first message of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Its protocol version.
    pub protocol: u32,
    /// Its version of the arithmetic.
    pub engine_semantics: u32,
    /// Its build, for messages.
    pub build: String,
    /// The process.
    pub incarnation: Incarnation,
    /// A name for people.
    pub name: String,
    /// What it computes with.
    pub isa: Isa,
    /// Cores it may use.
    pub cores: u32,
    /// Memory it may use.
    pub memory_bytes: u64,
    /// Tasks it still works on.
    pub held: Vec<Lease>,
    /// Tasks whose outcome it will repeat after the welcome.
    pub unacked: Vec<Lease>,
    /// How many tasks it is willing to hold.
    pub credits: u32,
}

/// The coordinator's answer to an accepted hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// This stream's number.
    pub session: u64,
    /// Count of the coordinator's starts.
    pub epoch: u64,
    /// Silence longer than this loses the worker its leases, in milliseconds.
    pub lease_ms: u32,
    /// The longest pause between two messages, in milliseconds.
    pub beat_ms: u32,
}

/// Why a session is refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectCode {
    /// The protocol versions differ.
    Protocol,
    /// The versions of the arithmetic differ.
    EngineSemantics,
    /// A message could not be understood.
    Malformed,
    /// No room for another worker.
    Full,
    /// The worker is broken, or contradicted another one.
    Expelled,
    /// The run is over.
    Stopping,
}

impl RejectCode {
    /// Whether the same worker may be accepted later.
    pub fn is_passing(self) -> bool {
        match self {
            RejectCode::Full => true,
            RejectCode::Protocol
            | RejectCode::EngineSemantics
            | RejectCode::Malformed
            | RejectCode::Expelled
            | RejectCode::Stopping => false,
        }
    }
}

/// From worker to coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerMessage {
    /// First of all.
    Hello(Hello),
    /// How many tasks the worker is willing to hold from now on.
    Credit(u32),
    /// A task was computed; repeated on reconnect until acknowledged.
    Result(TaskResult),
    /// A task was not computed; repeated on reconnect until acknowledged.
    Failure(Lease, TaskFailure),
    /// Still here, working on these.
    Heartbeat(Vec<Lease>),
    /// Leaving, holding nothing.
    Bye(String),
}

/// From coordinator to worker.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorMessage {
    /// The session is open.
    Welcome(Welcome),
    /// The session is refused or over.
    Reject(RejectCode, String),
    /// Compute this.
    Task(Task),
    /// The outcome under this lease may be forgotten.
    Ack(Lease),
    /// Nobody waits for this any more.
    Revoke(Lease),
    /// Finish what you hold and leave.
    Drain(String),
}
