//! The thread that computes: one task at a time, apart from the runtime, so that heartbeats never wait for arithmetic.

use super::SessionError;
use crate::artifact::ArtifactSource;
use holdfast_common::evaluation::SampleResult;
use holdfast_proto::MESSAGE_BYTES_MAX;
use holdfast_proto::message::{Lease, Task, TaskFailure, TaskResult, Tile, WorkerMessage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;

/// Says that nobody waits for a task any more.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Whether to stop; whatever is returned after that is thrown away.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Stops the task.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a task gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskOutput {
    /// Per candidate, per sample, in the tile's orders; all samples of a candidate have equally many parts.
    pub results: Vec<Vec<SampleResult>>,
}

/// Whoever computes.
pub trait TaskRunner: Send + Sync + 'static {
    /// Computes a task. Called on one thread that may block; results must be a pure function of the tile.
    ///
    /// # Errors
    /// The kind of failure decides what becomes of the task.
    fn run(&self, task: &Task, artifacts: &Arc<dyn ArtifactSource>, stop: &StopFlag)
    -> Result<TaskOutput, TaskFailure>;
}

/// A task to compute.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) stop: StopFlag,
}

/// A task that was computed, or not, or was stopped.
pub(super) struct Outcome {
    pub(super) lease: Lease,
    pub(super) message: WorkerMessage,
}

/// Starts the thread; it ends when the jobs do.
pub(super) fn start(
    runner: Arc<dyn TaskRunner>,
    artifacts: Arc<dyn ArtifactSource>,
    mut jobs: mpsc::Receiver<Job>,
    outcomes: mpsc::Sender<Outcome>,
) -> Result<(), SessionError> {
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            let outcome = execute(&*runner, &artifacts, job);
            if outcomes.blocking_send(outcome).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("holdfast-executor".into()).spawn(work).map_err(SessionError::Thread)?;
    Ok(())
}

fn execute(runner: &dyn TaskRunner, artifacts: &Arc<dyn ArtifactSource>, job: Job) -> Outcome {
    let Job { task, stop } = job;
    let lease = task.lease;
    let start = Instant::now();
    let output = if stop.is_set() {
        Err(TaskFailure::RetryElsewhere { message: "revoked before it was begun".into() })
    } else {
        let run = AssertUnwindSafe(|| runner.run(&task, artifacts, &stop));
        catch_unwind(run).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(TaskFailure::RetryElsewhere { message: format!("the computation panicked: {text}") })
        })
    };
    let busy_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let message = match output.and_then(|output| checked(&task.tile, output)) {
        Ok(output) => {
            let results = Arc::new(output.results);
            WorkerMessage::Result(TaskResult { lease, tile: task.tile.clone(), results, busy_us })
        }
        Err(failure) => WorkerMessage::Failure(lease, failure),
    };
    Outcome { lease, message }
}

/// The shape of the output is checked before it leaves: the other side would refuse it, and the worker with it.
fn checked(tile: &Tile, output: TaskOutput) -> Result<TaskOutput, TaskFailure> {
    let broken = |message: String| Err(TaskFailure::WorkerBroken { message });
    if output.results.len() != tile.candidates.len() {
        return broken(format!("{} candidates computed, {} asked for", output.results.len(), tile.candidates.len()));
    }
    let mut values = 0;
    for results in &output.results {
        if results.len() != tile.samples.len() {
            return broken(format!("{} samples computed, {} asked for", results.len(), tile.samples.len()));
        }
        let parts = results.first().map_or(0, |result| result.parts.len());
        if results.iter().any(|result| result.parts.len() != parts) {
            return broken("samples of one candidate differ in their number of parts".into());
        }
        values += results.iter().flat_map(|result| &result.parts).map(|part| 1 + part.len()).sum::<usize>();
    }
    let bytes = values.saturating_mul(size_of::<f64>());
    if bytes > MESSAGE_BYTES_MAX / 2 {
        let (cells, max) = (tile.cells(), MESSAGE_BYTES_MAX / 2);
        return Err(TaskFailure::ModelUnsupported {
            message: format!(
                "the results of {cells} samples take {bytes} bytes, at most {max} can be sent; ask for fewer statistics"
            ),
        });
    }
    Ok(output)
}
