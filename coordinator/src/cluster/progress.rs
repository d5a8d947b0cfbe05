//! What people are shown while it runs, and what the report says about physical work.

use holdfast_core::evaluator::Stage;
use holdfast_proto::message::Isa;
use std::collections::BTreeMap;

/// How far one batch of evaluations is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// Why it is evaluated.
    pub stage: Stage,
    /// Sample × candidate pairs that are there, remembered ones included.
    pub done: u64,
    /// Sample × candidate pairs asked for.
    pub total: u64,
}

/// What is going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Batches being evaluated, oldest first.
    pub stages: Vec<StageProgress>,
    /// Workers connected.
    pub workers: usize,
    /// Whether work waits while no worker is connected.
    pub is_stuck: bool,
}

/// What one worker did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    /// What it computes with.
    pub isa: Isa,
    /// Cores it uses.
    pub cores: u32,
    /// Tasks it gave results for.
    pub tasks: u64,
    /// Sample × candidate pairs in them.
    pub samples: u64,
    /// Time it spent on them, in microseconds.
    pub busy_us: u64,
}

/// Physical work: depends on workers and chance, unlike what the algorithm counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// Sample × candidate pairs computed and counted.
    pub computed: u64,
    /// Pairs that were remembered from before.
    pub from_memo: u64,
    /// Pairs computed twice: stragglers' duplicates and late results.
    pub duplicates: u64,
    /// Pairs that arrived when nobody waited for them any more, kept for later.
    pub salvaged: u64,
    /// Leases lost with their workers.
    pub lost_leases: u64,
    /// By worker name.
    pub workers: BTreeMap<String, WorkerCounts>,
}
