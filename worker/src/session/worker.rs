//! The life of one worker process.

use super::SessionError;
use super::backoff::Backoff;
use super::executor::{self, Job, Outcome, StopFlag, TaskRunner};
use super::link::{Connect, Link, LinkError};
use crate::artifact::ArtifactSource;
use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::message::{
    CoordinatorMessage, Hello, Incarnation, Isa, Lease, RejectCode, Task, TaskFailure, Welcome, WorkerMessage,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

/// Messages that may wait in either direction of a link.
pub(super) const LINK_MESSAGES_MAX: usize = 64;
/// Tasks a worker holds at most, whatever its credits.
const TASKS_MAX: usize = 64;
/// How long the coordinator may take to answer the hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the stream may take to close after the bye.
const BYE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds of the beat the coordinator may ask for.
const BEAT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;

/// What a worker says about itself, and how patient it is.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// A name for people.
    pub name: String,
    /// The version of the arithmetic.
    pub engine_semantics: u32,
    /// What it computes with.
    pub isa: Isa,
    /// Cores it may use.
    pub cores: u32,
    /// Memory it may use.
    pub memory_bytes: u64,
    /// How many tasks it is willing to hold: one being computed and the next.
    pub credits: u32,
    /// How long to look for a coordinator before giving up; `None` looks for ever.
    pub give_up_after: Option<Duration>,
}

impl WorkerConfig {
    /// A worker of this name with the usual settings: two credits, ten minutes of patience.
    pub fn new(name: &str, isa: Isa, cores: u32, memory_bytes: u64) -> WorkerConfig {
        WorkerConfig {
            name: name.to_owned(),
            engine_semantics: holdfast_common::ENGINE_SEMANTICS,
            isa,
            cores,
            memory_bytes,
            credits: 2,
            give_up_after: Some(Duration::from_secs(600)),
        }
    }
}

/// How a session ended.
enum End {
    /// The stream broke.
    Lost(LinkError),
    /// The worker drained.
    Left,
    /// The coordinator ended it.
    Rejected(RejectCode, String),
}

/// A worker: what it holds, what it still has to tell, and the thread that computes.
pub struct Worker {
    config: WorkerConfig,
    incarnation: Incarnation,
    connector: Arc<dyn Connect>,
    jobs: mpsc::Sender<Job>,
    outcomes: mpsc::Receiver<Outcome>,
    held: BTreeMap<Lease, StopFlag>,
    unacked: BTreeMap<Lease, WorkerMessage>,
    draining: bool,
}

impl Worker {
    /// A worker that has not dialled yet.
    ///
    /// # Errors
    /// The executor thread cannot be started.
    pub fn new(
        config: WorkerConfig,
        connector: Arc<dyn Connect>,
        runner: Arc<dyn TaskRunner>,
        artifacts: Arc<dyn ArtifactSource>,
    ) -> Result<Worker, SessionError> {
        let (jobs, jobs_in) = mpsc::channel(TASKS_MAX);
        let (outcomes_out, outcomes) = mpsc::channel(TASKS_MAX);
        executor::start(runner, artifacts, jobs_in, outcomes_out)?;
        let incarnation = Incarnation(Uuid::now_v7().as_u128());
        let (held, unacked) = (BTreeMap::new(), BTreeMap::new());
        Ok(Worker { config, incarnation, connector, jobs, outcomes, held, unacked, draining: false })
    }

    /// Serves a coordinator, through broken streams and restarts of it, until drained: by `drain`, or by its word.
    /// Dropping the future abandons everything, as the death of the process would.
    ///
    /// # Errors
    /// The coordinator refuses this worker, or none can be reached for too long.
    pub async fn run(mut self, drain: CancellationToken) -> Result<(), SessionError> {
        let mut backoff = Backoff::new();
        let mut alone_since = Instant::now();
        loop {
            let error = match self.connector.connect().await {
                Err(error) => error,
                Ok(link) => {
                    let (end, welcomed) = self.serve(link, &drain).await?;
                    if welcomed {
                        backoff = Backoff::new();
                        alone_since = Instant::now();
                    }
                    match end {
                        End::Left => return Ok(()),
                        End::Lost(error) => error,
                        End::Rejected(code, message) if code.is_passing() => LinkError(message),
                        End::Rejected(RejectCode::Stopping, message) => {
                            info!(message, "the run is over");
                            return Ok(());
                        }
                        End::Rejected(code, message) => return Err(SessionError::Rejected { code, message }),
                    }
                }
            };
            if self.nothing_left(&drain) {
                return Ok(());
            }
            let alone = alone_since.elapsed();
            if self.config.give_up_after.is_some_and(|patience| alone >= patience) {
                let unacked = self.unacked.len();
                return Err(SessionError::GivenUp { seconds: alone.as_secs(), unacked, last: error });
            }
            let pause = backoff.pause();
            warn!(%error, pause_ms = pause.as_millis() as u64, "no coordinator, dialling again");
            tokio::time::sleep(pause).await;
        }
    }

    /// While cut off and draining, the worker may go as soon as it holds nothing anybody could want.
    fn nothing_left(&mut self, drain: &CancellationToken) -> bool {
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.settle(outcome);
        }
        (self.draining || drain.is_cancelled()) && self.held.is_empty() && self.unacked.is_empty()
    }

    fn hello(&self, credits: u32) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            engine_semantics: self.config.engine_semantics,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: self.incarnation,
            name: self.config.name.clone(),
            isa: self.config.isa,
            cores: self.config.cores,
            memory_bytes: self.config.memory_bytes,
            held: self.held.keys().copied().collect(),
            unacked: self.unacked.keys().copied().collect(),
            credits,
        }
    }

    /// One session; also says whether there was a welcome.
    async fn serve(&mut self, link: Link, drain: &CancellationToken) -> Result<(End, bool), SessionError> {
        let Link { outgoing, mut incoming } = link;
        self.nothing_left(drain);
        self.draining |= drain.is_cancelled();
        let credits = if self.draining { 0 } else { self.config.credits };
        let lost = |message: &str| End::Lost(LinkError(message.to_owned()));
        if outgoing.send(WorkerMessage::Hello(self.hello(credits))).await.is_err() {
            return Ok((lost("the stream closed before the hello"), false));
        }
        let welcome = match timeout(WELCOME_TIMEOUT, incoming.recv()).await {
            Err(_) => return Ok((lost("the coordinator did not answer the hello"), false)),
            Ok(None) => return Ok((lost("the stream closed before the welcome"), false)),
            Ok(Some(Err(error))) => return Ok((End::Lost(error), false)),
            Ok(Some(Ok(CoordinatorMessage::Reject(code, message)))) => {
                return Ok((End::Rejected(code, message), false));
            }
            Ok(Some(Ok(CoordinatorMessage::Welcome(welcome)))) => welcome,
            Ok(Some(Ok(_))) => return Ok((lost("the coordinator did not begin with a welcome"), false)),
        };
        info!(session = welcome.session, epoch = welcome.epoch, name = self.config.name, "session open");
        let (held, held_seen) = watch::channel(self.held.keys().copied().collect());
        let beats = tokio::spawn(beat(welcome, outgoing.clone(), held_seen));
        let end = self.converse(&outgoing, &mut incoming, &held, drain).await;
        beats.abort();
        if matches!(end, Ok(End::Left)) {
            drop(outgoing);
            let closed = async { while incoming.recv().await.is_some() {} };
            let _ = timeout(BYE_TIMEOUT, closed).await;
        }
        Ok((end?, true))
    }

    async fn converse(
        &mut self,
        outgoing: &mpsc::Sender<WorkerMessage>,
        incoming: &mut mpsc::Receiver<Result<CoordinatorMessage, LinkError>>,
        held: &watch::Sender<Vec<Lease>>,
        drain: &CancellationToken,
    ) -> Result<End, SessionError> {
        let closed = || End::Lost(LinkError("the stream closed".to_owned()));
        let repeated: Vec<_> = self.unacked.values().cloned().collect();
        for message in repeated {
            if outgoing.send(message).await.is_err() {
                return Ok(closed());
            }
        }
        loop {
            if self.draining && self.held.is_empty() && self.unacked.is_empty() {
                return Ok(match outgoing.send(WorkerMessage::Bye("drained".into())).await {
                    Ok(()) => End::Left,
                    Err(_) => closed(),
                });
            }
            let reply = tokio::select! {
                message = incoming.recv() => match message {
                    None => return Ok(closed()),
                    Some(Err(error)) => return Ok(End::Lost(error)),
                    Some(Ok(CoordinatorMessage::Reject(code, message))) => return Ok(End::Rejected(code, message)),
                    Some(Ok(message)) => self.obey(message)?,
                },
                outcome = self.outcomes.recv() => self.settle(outcome.ok_or(SessionError::ExecutorGone)?),
                () = drain.cancelled(), if !self.draining => {
                    self.draining = true;
                    Some(WorkerMessage::Credit(0))
                }
            };
            held.send_replace(self.held.keys().copied().collect());
            if let Some(reply) = reply
                && outgoing.send(reply).await.is_err()
            {
                return Ok(closed());
            }
        }
    }

    /// Does what the coordinator says; gives what is to be answered.
    fn obey(&mut self, message: CoordinatorMessage) -> Result<Option<WorkerMessage>, SessionError> {
        match message {
            CoordinatorMessage::Task(task) => self.accept(task),
            CoordinatorMessage::Ack(lease) => {
                self.unacked.remove(&lease);
                Ok(None)
            }
            CoordinatorMessage::Revoke(lease) => {
                debug!(%lease, "revoked");
                if let Some(stop) = self.held.get(&lease) {
                    stop.set();
                }
                Ok(None)
            }
            CoordinatorMessage::Drain(reason) => {
                info!(reason, "draining");
                self.draining = true;
                Ok(Some(WorkerMessage::Credit(0)))
            }
            CoordinatorMessage::Welcome(_) | CoordinatorMessage::Reject(..) => Ok(None),
        }
    }

    fn accept(&mut self, task: Task) -> Result<Option<WorkerMessage>, SessionError> {
        let lease = task.lease;
        if self.held.contains_key(&lease) || self.unacked.contains_key(&lease) {
            return Ok(None);
        }
        let stop = StopFlag::default();
        match self.jobs.try_send(Job { task, stop: stop.clone() }) {
            Ok(()) => {
                self.held.insert(lease, stop);
                Ok(None)
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                let message = format!("more than {TASKS_MAX} tasks at a time");
                Ok(Some(WorkerMessage::Failure(lease, TaskFailure::RetryElsewhere { message })))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SessionError::ExecutorGone),
        }
    }

    /// Notes what became of a task; gives what is to be told.
    fn settle(&mut self, outcome: Outcome) -> Option<WorkerMessage> {
        let Outcome { lease, message } = outcome;
        let stopped = self.held.remove(&lease).is_none_or(|stop| stop.is_set());
        if stopped {
            return None;
        }
        if let WorkerMessage::Failure(_, failure) = &message {
            warn!(%lease, %failure, "task failed");
        }
        self.unacked.insert(lease, message.clone());
        Some(message)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.held.values().for_each(StopFlag::set);
    }
}

/// Signs of life, on a task of their own.
async fn beat(welcome: Welcome, outgoing: mpsc::Sender<WorkerMessage>, held: watch::Receiver<Vec<Lease>>) {
    let period = Duration::from_millis(u64::from(welcome.beat_ms.clamp(*BEAT_MS.start(), *BEAT_MS.end())));
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held = held.borrow().clone();
        if outgoing.send(WorkerMessage::Heartbeat(held)).await.is_err() {
            return;
        }
    }
}
