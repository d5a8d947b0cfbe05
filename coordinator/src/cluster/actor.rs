//! The one task that owns the scheduler: it turns what happens into inputs, and does what the effects say.

use super::progress::{Progress, StageProgress, WorkCounts, WorkerCounts};
use super::translate::{failure_in, lease_in, lease_out, leases_in, task_out, tile_in, worker_id};
use super::{ClusterConfig, session::SESSION_MESSAGES_MAX};
use crate::memo::{Finished, MemoError, MemoStore};
use holdfast_core::evaluator::Stage;
use holdfast_core::schedule::{
    CommitId, Effect, Input, Millis, ScheduleConfig, Scheduler, SubmissionId, Tile, WorkerId,
};
use holdfast_proto::message::{CoordinatorMessage, Hello, RejectCode, TaskResult, Welcome, WorkerMessage};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Commits that share one transaction.
const COMMITS_MAX: usize = 256;
/// How often the task looks for what it notices only by looking: callers that went away, work without workers.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// When a wake-up comes this late, the whole process was stopped meanwhile: time that nobody could use does not count.
const STOPPED: Duration = Duration::from_secs(3);

/// Names one session of one worker; messages of earlier ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKey {
    worker: WorkerId,
    session: u64,
}

type Reply = oneshot::Sender<Result<Vec<Finished>, String>>;

/// What others ask of the task.
pub(super) enum Command {
    /// Evaluate these tiles; so many more pairs were remembered.
    Submit { stage: Stage, tiles: Vec<Tile>, from_memo: u64, reply: Reply },
    /// These tiles will probably be asked for; they replace those anticipated before.
    Anticipate { tiles: Vec<Tile> },
    /// A worker passed the door.
    Join {
        hello: Hello,
        outgoing: mpsc::Sender<CoordinatorMessage>,
        joined: oneshot::Sender<(SessionKey, CancellationToken)>,
    },
    /// A worker said something.
    Message { key: SessionKey, message: WorkerMessage },
    /// A worker said something that cannot be understood.
    Malformed { key: SessionKey, message: String },
    /// A worker's stream ended.
    Closed { key: SessionKey, reason: String },
    /// Send all workers away.
    ShutDown { patience: Duration, done: oneshot::Sender<()> },
}

struct Session {
    number: u64,
    name: String,
    outgoing: mpsc::Sender<CoordinatorMessage>,
    over: CancellationToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

struct Waiting {
    stage: Stage,
    done: u64,
    total: u64,
    finished: Vec<Finished>,
    reply: Reply,
}

struct Pending {
    commit: CommitId,
    submission: Option<SubmissionId>,
    finished: Finished,
}

type Committing = Pin<Box<dyn Future<Output = Result<(), MemoError>> + Send>>;

/// What the task waits for.
enum Happening {
    Written(Result<(), MemoError>),
    Command(Option<Command>),
    Wake,
}

/// The state of the task.
pub(super) struct Actor {
    config: ClusterConfig,
    memo: MemoStore,
    scheduler: Scheduler,
    started: Instant,
    /// Time during which the process was stopped.
    skipped: Duration,
    sessions: BTreeMap<WorkerId, Session>,
    names: BTreeMap<WorkerId, String>,
    waiting: BTreeMap<SubmissionId, Waiting>,
    pending: VecDeque<Pending>,
    /// What the running transaction holds.
    underway: Vec<Pending>,
    committing: Option<Committing>,
    next_look: Instant,
    next_session: u64,
    next_submission: u64,
    alone_since: Option<Instant>,
    warned: u32,
    fatal: Option<String>,
    stopping: Option<(Instant, oneshot::Sender<()>)>,
    progress: watch::Sender<Progress>,
    counts: Arc<Mutex<WorkCounts>>,
}

impl Actor {
    pub(super) fn new(
        config: ClusterConfig,
        memo: MemoStore,
        progress: watch::Sender<Progress>,
        counts: Arc<Mutex<WorkCounts>>,
    ) -> Actor {
        let schedule: ScheduleConfig = config.schedule(memo.epoch());
        Actor {
            config,
            memo,
            scheduler: Scheduler::new(schedule),
            started: Instant::now(),
            skipped: Duration::ZERO,
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pending: VecDeque::new(),
            underway: Vec::new(),
            committing: None,
            next_look: Instant::now() + LOOK_AROUND,
            next_session: 1,
            next_submission: 1,
            alone_since: None,
            warned: 0,
            fatal: None,
            stopping: None,
            progress,
            counts,
        }
    }

    /// Runs until shut down, or until nobody is left who could ask for anything.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let wake = self.wake_at();
            let happening = tokio::select! {
                biased;
                written = committed(&mut self.committing) => Happening::Written(written),
                command = inbox.recv() => Happening::Command(command),
                () = sleep_until(wake) => Happening::Wake,
            };
            self.forgive_a_stop(wake);
            match happening {
                Happening::Written(written) => self.written(written),
                Happening::Command(Some(command)) => self.command(command),
                Happening::Command(None) => return,
                Happening::Wake => self.step(Input::Tick),
            }
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + LOOK_AROUND;
                self.look_around();
            }
            self.start_commit();
            self.publish_progress();
            let over = self.stopping.as_ref().is_some_and(|(until, _)| {
                (self.sessions.is_empty() && self.committing.is_none()) || Instant::now() >= *until
            });
            if over {
                if let Some((_, done)) = self.stopping.take() {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    fn now(&self) -> Millis {
        let elapsed = self.started.elapsed().saturating_sub(self.skipped);
        Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    fn wake_at(&self) -> Instant {
        let look = self.next_look;
        let deadline = self.scheduler.next_deadline().map_or(look, |Millis(at)| {
            // A millisecond later, so that the scheduler's clock has passed the deadline for certain.
            self.started + self.skipped + Duration::from_millis(at + 1)
        });
        let until = self.stopping.as_ref().map_or(look, |(until, _)| *until);
        look.min(deadline).min(until)
    }

    /// After a stop of the whole process, messages of living workers wait in its sockets: nobody was silent.
    fn forgive_a_stop(&mut self, wake: Instant) {
        let late = Instant::now().saturating_duration_since(wake);
        if late > STOPPED {
            warn!(seconds = late.as_secs(), "the process was stopped for a while, leases are prolonged by that");
            self.skipped += late;
        }
    }

    fn look_around(&mut self) {
        let gone: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| waiting.reply.is_closed()).map(|(id, _)| *id).collect();
        for submission in gone {
            self.waiting.remove(&submission);
            self.step(Input::Cancel { submission });
        }
        self.complain_when_alone();
    }

    fn complain_when_alone(&mut self) {
        if self.waiting.is_empty() || self.scheduler.workers() > 0 {
            (self.alone_since, self.warned) = (None, 0);
            return;
        }
        let since = *self.alone_since.get_or_insert_with(Instant::now);
        let alone = since.elapsed();
        if alone >= self.config.lonely * (self.warned + 1) {
            self.warned += 1;
            warn!(
                seconds = alone.as_secs(),
                "no worker is connected: start one with `holdfast worker --coordinator ADDRESS`, or check that workers reach \
                 this address"
            );
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit { stage, tiles, from_memo, reply } => self.submit(stage, tiles, from_memo, reply),
            Command::Anticipate { tiles } => self.anticipate(tiles),
            Command::Join { hello, outgoing, joined } => self.join(hello, outgoing, joined),
            Command::Message { key, message } => {
                if self.is_current(key) {
                    self.message(key.worker, message);
                }
            }
            Command::Malformed { key, message } => {
                if self.is_current(key) {
                    warn!(worker = self.name(key.worker), message, "a message could not be understood");
                    self.dismiss(key.worker, RejectCode::Malformed, message);
                    self.step(Input::Leave { worker: key.worker });
                }
            }
            Command::Closed { key, reason } => {
                if self.is_current(key) {
                    warn!(worker = self.name(key.worker), reason, "worker's stream ended");
                    self.sessions.remove(&key.worker);
                    self.step(Input::Disconnected { worker: key.worker });
                }
            }
            Command::ShutDown { patience, done } => {
                self.anticipate(Vec::new());
                self.fatal.get_or_insert_with(|| "the cluster is shut down".to_owned());
                self.stopping = Some((Instant::now() + patience, done));
                for worker in self.sessions.keys().copied().collect::<Vec<_>>() {
                    self.say(worker, CoordinatorMessage::Drain("the run is over".into()));
                }
            }
        }
    }

    fn submit(&mut self, stage: Stage, tiles: Vec<Tile>, from_memo: u64, reply: Reply) {
        self.counts().from_memo += from_memo;
        if let Some(message) = &self.fatal {
            let _ = reply.send(Err(message.clone()));
            return;
        }
        let submission = SubmissionId(self.next_submission);
        self.next_submission += 1;
        let total = from_memo + tiles.iter().map(Tile::cells).sum::<u64>();
        let waiting = Waiting { stage, done: from_memo, total, finished: Vec::new(), reply };
        self.waiting.insert(submission, waiting);
        self.step(Input::Submit { submission, tiles });
    }

    fn anticipate(&mut self, tiles: Vec<Tile>) {
        if self.fatal.is_some() {
            return;
        }
        let submission = SubmissionId(self.next_submission);
        self.next_submission += 1;
        self.step(Input::Anticipate { submission, tiles });
    }

    fn join(
        &mut self,
        hello: Hello,
        outgoing: mpsc::Sender<CoordinatorMessage>,
        joined: oneshot::Sender<(SessionKey, CancellationToken)>,
    ) {
        if self.stopping.is_some() {
            let message = "the run is over".to_owned();
            let _ = outgoing.try_send(CoordinatorMessage::Reject(RejectCode::Stopping, message));
            return;
        }
        let worker = worker_id(hello.incarnation);
        let number = self.next_session;
        self.next_session += 1;
        let over = CancellationToken::new();
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let welcome = Welcome {
            session: number,
            epoch: self.memo.epoch(),
            lease_ms: ms(self.config.lease),
            beat_ms: ms(self.config.beat),
        };
        info!(worker = hello.name, isa = ?hello.isa, cores = hello.cores, session = number, "worker joined");
        self.names.insert(worker, hello.name.clone());
        let counted = WorkerCounts { isa: hello.isa, cores: hello.cores, tasks: 0, samples: 0, busy_us: 0 };
        self.counts().workers.entry(hello.name.clone()).or_insert(counted);
        let session = Session { number, name: hello.name.clone(), outgoing, over: over.clone() };
        self.sessions.insert(worker, session);
        self.say(worker, CoordinatorMessage::Welcome(welcome));
        self.step(Input::Join {
            worker,
            name: hello.name,
            credits: hello.credits,
            held: leases_in(hello.held),
            unacked: leases_in(hello.unacked),
        });
        let _ = joined.send((SessionKey { worker, session: number }, over));
    }

    fn message(&mut self, worker: WorkerId, message: WorkerMessage) {
        match message {
            WorkerMessage::Credit(limit) => self.step(Input::Credits { worker, limit }),
            WorkerMessage::Heartbeat(_) => self.step(Input::Renew { worker }),
            WorkerMessage::Result(result) => {
                let TaskResult { lease, tile, results, busy_us } = result;
                let name = self.name(worker);
                if let Some(counts) = self.counts().workers.get_mut(&name) {
                    counts.tasks += 1;
                    counts.samples += tile.cells();
                    counts.busy_us += busy_us;
                }
                let tile = Arc::new(tile_in(tile));
                self.step(Input::Result { worker, lease: lease_in(lease), tile, results, busy_us });
            }
            WorkerMessage::Failure(lease, failure) => {
                warn!(worker = self.name(worker), %lease, %failure, "task failed");
                self.step(Input::Failure { worker, lease: lease_in(lease), failure: failure_in(failure) });
            }
            WorkerMessage::Bye(reason) => {
                info!(worker = self.name(worker), reason, "worker left");
                self.sessions.remove(&worker);
                self.step(Input::Leave { worker });
            }
            WorkerMessage::Hello(_) => {
                self.dismiss(worker, RejectCode::Malformed, "a second hello in one session".into());
                self.step(Input::Leave { worker });
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.scheduler.step(self.now(), input) {
                if let Some(worker) = self.obey(effect) {
                    inputs.push_back(Input::Disconnected { worker });
                }
            }
        }
    }

    /// Does what an effect says; gives a worker that could not be told because its stream is stuck or gone.
    fn obey(&mut self, effect: Effect) -> Option<WorkerId> {
        match effect {
            Effect::Send { worker, task } => return self.tell(worker, CoordinatorMessage::Task(task_out(&task))),
            Effect::Ack { worker, lease } => return self.tell(worker, CoordinatorMessage::Ack(lease_out(lease))),
            Effect::Revoke { worker, lease } => return self.tell(worker, CoordinatorMessage::Revoke(lease_out(lease))),
            Effect::Commit { commit, submission, tile, results, .. } => {
                self.pending.push_back(Pending { commit, submission, finished: Finished { tile, results } });
            }
            Effect::Done { submission } => {
                if let Some(waiting) = self.waiting.remove(&submission) {
                    let _ = waiting.reply.send(Ok(waiting.finished));
                }
            }
            Effect::Failed { submission, message } => {
                if let Some(waiting) = self.waiting.remove(&submission) {
                    let _ = waiting.reply.send(Err(message));
                }
            }
            Effect::Mismatch { message, .. } => {
                error!(message, "results differ");
                self.fatal = Some(message);
            }
            Effect::Duplicate { worker, cells } => {
                debug!(worker = self.name(worker), cells, "the same results came twice");
                self.counts().duplicates += cells;
            }
            Effect::Lost { worker, leases } => {
                if leases > 0 {
                    warn!(worker = self.name(worker), leases, "worker lost, others take over what it held");
                    self.counts().lost_leases += leases as u64;
                }
                self.sessions.remove(&worker);
                self.names.remove(&worker);
            }
            Effect::Reject { worker, message } => self.dismiss(worker, RejectCode::Full, message),
            Effect::Expel { worker, message } => {
                warn!(worker = self.name(worker), message, "worker expelled");
                self.dismiss(worker, RejectCode::Expelled, message);
            }
        }
        None
    }

    fn tell(&mut self, worker: WorkerId, message: CoordinatorMessage) -> Option<WorkerId> {
        if self.say(worker, message) { None } else { Some(worker) }
    }

    /// Queues a message; a worker that does not read is cut off. Says whether the worker is still there.
    fn say(&mut self, worker: WorkerId, message: CoordinatorMessage) -> bool {
        let Some(session) = self.sessions.get(&worker) else { return true };
        match session.outgoing.try_send(message) {
            Ok(()) => true,
            Err(error) => {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    warn!(worker = session.name, waiting = SESSION_MESSAGES_MAX, "worker does not read, cut off");
                }
                self.sessions.remove(&worker);
                false
            }
        }
    }

    fn dismiss(&mut self, worker: WorkerId, code: RejectCode, message: String) {
        self.say(worker, CoordinatorMessage::Reject(code, message));
        self.sessions.remove(&worker);
    }

    fn start_commit(&mut self) {
        if self.committing.is_some() || self.pending.is_empty() {
            return;
        }
        let count = self.pending.len().min(COMMITS_MAX);
        self.underway = self.pending.drain(..count).collect();
        let batch = self.underway.iter().map(|pending| pending.finished.clone()).collect();
        let memo = self.memo.clone();
        self.committing = Some(Box::pin(async move { memo.commit(batch).await }));
    }

    fn written(&mut self, written: Result<(), MemoError>) {
        self.committing = None;
        let underway = std::mem::take(&mut self.underway);
        if let Err(error) = written {
            let message = error.to_string();
            error!(message, "results cannot be stored, the run stops");
            for (_, waiting) in std::mem::take(&mut self.waiting) {
                let _ = waiting.reply.send(Err(message.clone()));
            }
            self.fatal = Some(message);
            self.pending.clear();
            return;
        }
        for Pending { commit, submission, finished } in underway {
            let cells = finished.tile.cells();
            match submission {
                Some(_) => self.counts().computed += cells,
                None => self.counts().salvaged += cells,
            }
            if let Some(waiting) = submission.and_then(|submission| self.waiting.get_mut(&submission)) {
                waiting.done += cells;
                waiting.finished.push(finished);
            }
            self.step(Input::Committed { commit });
        }
    }

    fn publish_progress(&mut self) {
        let stage =
            |waiting: &Waiting| StageProgress { stage: waiting.stage, done: waiting.done, total: waiting.total };
        let progress = Progress {
            stages: self.waiting.values().map(stage).collect(),
            workers: self.scheduler.workers(),
            is_stuck: self.warned > 0,
        };
        self.progress.send_if_modified(|shown| {
            let changed = *shown != progress;
            *shown = progress;
            changed
        });
    }

    fn is_current(&self, key: SessionKey) -> bool {
        self.sessions.get(&key.worker).is_some_and(|session| session.number == key.session)
    }

    fn name(&self, worker: WorkerId) -> String {
        self.names.get(&worker).cloned().unwrap_or_else(|| format!("{:032x}", worker.0))
    }

    fn counts(&self) -> MutexGuard<'_, WorkCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the running transaction; never comes when there is none.
async fn committed(committing: &mut Option<Committing>) -> Result<(), MemoError> {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}
