//! Telling people what happens: progress to the terminal, decisions to the log, stage times to the report.

use crate::cli::ProgressArg;
use crate::cluster::Cluster;
use crate::report::StageTiming;
use crate::terminal::{Progress, ProgressStyle, StageProgress};
use holdfast_common::scheme::Scheme;
use holdfast_core::evaluator::Stage;
use holdfast_core::observer::Observer;
use holdfast_core::record::{ProbeRecord, RankingRecord, RoundRecord, StageRecord, TrialRecord};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Groups of a ranking that are logged.
const RANKED_SHOWN: usize = 3;

/// Draws progress until told to stop.
pub fn show_progress(cluster: &Cluster, wish: ProgressArg, stop: CancellationToken) -> JoinHandle<()> {
    let mut progress = cluster.progress();
    tokio::spawn(async move {
        let mut terminal = Progress::new(ProgressStyle::choose(wish));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = progress.changed() => if changed.is_err() { break },
            }
            let now = progress.borrow_and_update().clone();
            if now.is_stuck {
                warn!("no worker is connected; start one with `holdfast worker --connect URL`");
            }
            if let Some(stage) = now.stages.first() {
                let shown = StageProgress {
                    stage: stage.stage.to_string(),
                    done: stage.done,
                    total: stage.total,
                    workers: now.workers,
                };
                terminal.update(&shown, Instant::now());
            }
        }
        terminal.finish();
    })
}

/// Told of every scheme that a search may begin with.
type OnQuantized = Box<dyn Fn(&Scheme) + Send + Sync>;

/// Logs decisions, remembers when stages began, and watches the clock where the run has a time budget.
pub struct Witness {
    cluster: Cluster,
    deadline: Option<Instant>,
    began: Mutex<Vec<(Stage, Instant, u64)>>,
    on_quantized: OnceLock<OnQuantized>,
}

impl Witness {
    /// Nothing has happened yet; `budget` is the wall time in seconds that the run may take from `started` on.
    pub fn new(cluster: Cluster, started: Instant, budget: Option<f64>) -> Witness {
        // A budget too large for a clock is none.
        let budget = budget.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let deadline = budget.and_then(|budget| started.checked_add(budget));
        Witness { cluster, deadline, began: Mutex::default(), on_quantized: OnceLock::new() }
    }

    /// Has `act` told of every scheme that a search may begin with; the first to ask for it is the one told.
    pub fn on_quantized(&self, act: OnQuantized) {
        // One run has one job.
        let _ = self.on_quantized.set(act);
    }

    fn began(&self) -> MutexGuard<'_, Vec<(Stage, Instant, u64)>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wall time and physical work by stage, in order of their first start.
    pub fn stage_timings(&self) -> Vec<StageTiming> {
        let mut began = self.began().clone();
        began.push((Stage::Validation, Instant::now(), self.cluster.counts().computed));
        let mut timings: Vec<StageTiming> = Vec::new();
        for pair in began.windows(2) {
            let [(stage, start, before), (_, end, after)] = pair else { continue };
            let (name, seconds) = (stage.to_string(), (*end - *start).as_secs_f64());
            match timings.iter_mut().find(|timing| timing.stage == name) {
                Some(timing) => {
                    timing.seconds += seconds;
                    timing.samples_computed += after - before;
                }
                None => timings.push(StageTiming { stage: name, seconds, samples_computed: after - before }),
            }
        }
        timings
    }
}

impl Observer for Witness {
    fn stage_started(&self, stage: Stage, evaluations: usize, samples: usize) {
        info!(%stage, evaluations, samples, "evaluating");
        self.began().push((stage, Instant::now(), self.cluster.counts().computed));
    }

    fn quantized(&self, scheme: &Scheme) {
        if let Some(act) = self.on_quantized.get() {
            act(scheme);
        }
    }

    fn measured(&self, stage: &StageRecord) {
        info!(stage = %stage.stage, values = ?stage.values, drops = ?stage.drops, "measured");
    }

    fn tried(&self, trial: &TrialRecord) {
        info!(change = %trial.change, values = ?trial.values, error = ?trial.error, "tried");
    }

    fn ranked(&self, ranking: &RankingRecord) {
        let best: Vec<&(String, Option<f64>)> = ranking.scores.iter().take(RANKED_SHOWN).collect();
        info!(metric = %ranking.metric, samples = ranking.samples.len(), groups = ranking.scores.len(), ?best, "ranked");
    }

    fn decided(&self, round: &RoundRecord) {
        let (group, drops, decision) = (&round.group, &round.drops, round.decision);
        info!(round = round.round, %group, ?drops, ?decision, reason = %round.reason, "decided");
    }

    fn probed(&self, probe: &ProbeRecord) {
        let (reverted, operations, samples) = (probe.reverted.len(), probe.operations, probe.samples);
        info!(purpose = ?probe.purpose, reverted, operations, samples, verdict = ?probe.verdict, "probed");
    }

    fn remaining(&self, at_least: usize, at_most: usize) {
        info!(at_least, at_most, "candidates yet to be asked about");
    }

    fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn noted(&self, note: &str) {
        warn!("{note}");
    }
}
