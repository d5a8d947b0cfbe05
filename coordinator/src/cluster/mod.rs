//! The cluster: workers near and far behind one [`Evaluator`], results remembered before they are relied on.

mod actor;
mod assembly;
mod local;
mod progress;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod translate;

pub use local::{LocalConnector, LocalOrigin};
pub use progress::{Progress, StageProgress, WorkCounts, WorkerCounts};
pub(crate) use session::{SESSION_MESSAGES_MAX, SessionFault};

use crate::artifact::Artifacts;
use crate::memo::{MemoError, MemoStore};
use actor::{Actor, Command};
use assembly::Assembly;
use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleResult, context_digest};
use holdfast_core::evaluator::{Evaluator, EvaluatorError, Stage};
use holdfast_core::schedule::ScheduleConfig;
use holdfast_worker::artifact::ArtifactCache;
use holdfast_worker::session::{SessionError, TaskRunner, Worker, WorkerConfig};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Commands that may wait for the cluster's task; whoever sends more waits.
const COMMANDS_MAX: usize = 4096;
/// Evaluations that are anticipated at a time at most; further ones are less likely and left out.
const ANTICIPATED_MAX: usize = 1024;
/// Bytes of artifacts an embedded worker keeps apart; its origin is in memory already.
const EMBEDDED_CACHE_BYTES: u64 = 256 << 20;

/// Times the cluster keeps to.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Silence longer than this loses a worker its leases.
    pub lease: Duration,
    /// The longest pause between two messages of a worker.
    pub beat: Duration,
    /// How long a worker whose stream broke may take to come back.
    pub reconnect: Duration,
    /// How long a task should take.
    pub task: Duration,
    /// How long work may wait without any worker before it is said, and said again.
    pub lonely: Duration,
    /// The version of the arithmetic workers must have.
    pub engine_semantics: u32,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig {
            lease: Duration::from_secs(15),
            beat: Duration::from_secs(5),
            reconnect: Duration::from_secs(10),
            task: Duration::from_millis(1500),
            lonely: Duration::from_secs(30),
            engine_semantics: holdfast_common::ENGINE_SEMANTICS,
        }
    }
}

impl ClusterConfig {
    fn schedule(&self, epoch: u64) -> ScheduleConfig {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ScheduleConfig { epoch, lease_ms: ms(self.lease), reconnect_ms: ms(self.reconnect), task_ms: ms(self.task) }
    }
}

/// A handle on the cluster.
#[derive(Clone)]
pub struct Cluster {
    commands: mpsc::Sender<Command>,
    memo: MemoStore,
    artifacts: Arc<Artifacts>,
    progress: watch::Receiver<Progress>,
    counts: Arc<Mutex<WorkCounts>>,
    /// What was anticipated since anything was asked for; it travels behind the next question.
    anticipated: Arc<Mutex<Option<Vec<Evaluation>>>>,
    stop: CancellationToken,
    engine_semantics: u32,
}

impl Cluster {
    /// Starts the cluster's task. `stop` ends every evaluation with [`EvaluatorError::Stopped`].
    pub fn start(
        config: ClusterConfig,
        memo: MemoStore,
        artifacts: Arc<Artifacts>,
        stop: CancellationToken,
    ) -> Cluster {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (progress_out, progress) = watch::channel(Progress::default());
        let counts = Arc::new(Mutex::new(WorkCounts::default()));
        let engine_semantics = config.engine_semantics;
        let actor = Actor::new(config, memo.clone(), progress_out, counts.clone());
        tokio::spawn(actor.run(inbox));
        let anticipated = Arc::default();
        Cluster { commands, memo, artifacts, progress, counts, anticipated, stop, engine_semantics }
    }

    /// What is going on, whenever it changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// What was physically computed so far, and by whom.
    pub fn counts(&self) -> WorkCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The artifacts workers may ask for.
    pub fn artifacts(&self) -> &Arc<Artifacts> {
        &self.artifacts
    }

    /// Runs a worker within this process until `drain`.
    ///
    /// # Errors
    /// Its executor thread cannot be started.
    pub fn embed(
        &self,
        config: WorkerConfig,
        runner: Arc<dyn TaskRunner>,
        drain: CancellationToken,
    ) -> Result<JoinHandle<Result<(), SessionError>>, SessionError> {
        let origin = Arc::new(LocalOrigin::new(self.artifacts.clone()));
        let cache = Arc::new(ArtifactCache::new(origin, EMBEDDED_CACHE_BYTES, None));
        let worker = Worker::new(config, Arc::new(LocalConnector::new(self.clone())), runner, cache)?;
        Ok(tokio::spawn(worker.run(drain)))
    }

    /// Asks all workers to finish and leave, and waits for that so long at most. Nothing can be evaluated afterwards.
    pub async fn shut_down(&self, patience: Duration) {
        let (done, left) = oneshot::channel();
        if self.commands.send(Command::ShutDown { patience, done }).await.is_ok() {
            let _ = left.await;
        }
    }

    async fn evaluate_or_fail(
        &self,
        stage: Stage,
        evaluations: &[Evaluation],
    ) -> Result<Vec<Vec<SampleResult>>, String> {
        let contexts = contexts(evaluations)?;
        let mut assembly = Assembly::new(evaluations, &contexts);
        let known = self.memo.lookup(assembly.contexts()).await.map_err(|error| error.to_string())?;
        let from_memo = assembly.add_known(known);
        let tiles = assembly.missing();
        let (reply, replied) = oneshot::channel();
        let command = Command::Submit { stage, tiles, from_memo, reply };
        let gone = || "the cluster was shut down".to_owned();
        self.commands.send(command).await.map_err(|_| gone())?;
        let mut replied = pin!(replied);
        let finished = tokio::select! {
            biased;
            finished = &mut replied => finished,
            () = self.look_ahead() => replied.await,
        };
        for finished in finished.map_err(|_| gone())?? {
            assembly.add(&finished).map_err(|error| MemoError::Context(error.to_string()).to_string())?;
        }
        assembly.finish()
    }

    /// Hands what was anticipated to workers that have nothing else to do. Whatever goes wrong here is met again, and
    /// told, when it is asked for.
    async fn look_ahead(&self) {
        let anticipated = self.anticipated.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(evaluations) = anticipated else { return };
        let Ok(contexts) = contexts(&evaluations) else { return };
        let mut tiles = Vec::new();
        for (evaluation, context) in evaluations.iter().zip(&contexts) {
            // One candidate a tile, likeliest first: what is begun can then be taken over by whoever asks for any of them.
            let mut assembly = Assembly::new(std::slice::from_ref(evaluation), std::slice::from_ref(context));
            let Ok(known) = self.memo.lookup(assembly.contexts()).await else { return };
            assembly.add_known(known);
            tiles.extend(assembly.missing());
        }
        let _ = self.commands.send(Command::Anticipate { tiles }).await;
    }
}

fn contexts(evaluations: &[Evaluation]) -> Result<Vec<Digest>, String> {
    let context = |evaluation: &Evaluation| {
        context_digest(evaluation.workload, &evaluation.candidate, &evaluation.want)
            .map_err(|error| MemoError::Context(error.to_string()).to_string())
    };
    evaluations.iter().map(context).collect()
}

impl Evaluator for Cluster {
    async fn publish(&self, bytes: Vec<u8>) -> Result<Digest, EvaluatorError> {
        self.artifacts
            .publish(bytes)
            .map_err(|error| EvaluatorError::Failed { stage: Stage::Baseline, message: error.to_string() })
    }

    async fn evaluate(
        &self,
        stage: Stage,
        evaluations: Vec<Evaluation>,
    ) -> Result<Vec<Vec<SampleResult>>, EvaluatorError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(EvaluatorError::Stopped(stage)),
            results = self.evaluate_or_fail(stage, &evaluations) => {
                results.map_err(|message| EvaluatorError::Failed { stage, message })
            }
        }
    }

    fn anticipate(&self, _: Stage, mut evaluations: Vec<Evaluation>) {
        let mut seen = BTreeSet::new();
        evaluations.retain(|evaluation| seen.insert(evaluation.candidate.clone()));
        evaluations.truncate(ANTICIPATED_MAX);
        *self.anticipated.lock().unwrap_or_else(PoisonError::into_inner) = Some(evaluations);
    }
}
