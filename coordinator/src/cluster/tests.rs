//! The cluster with workers in this process, and with hand-driven ones.

use super::*;
use crate::cluster::local::LocalConnector;
use holdfast_common::evaluation::{Candidate, SampleIndex, Want};
use holdfast_common::scheme::GroupId;
use holdfast_proto::message::{
    CoordinatorMessage, Hello, Incarnation, Isa, Lease, Task, TaskFailure, TaskResult, WorkerMessage,
};
use holdfast_worker::artifact::ArtifactSource;
use holdfast_worker::session::{Connect, Link, StopFlag, SyntheticRunner, TaskOutput};

pub(crate) fn quick() -> ClusterConfig {
    ClusterConfig {
        lease: Duration::from_millis(1500),
        beat: Duration::from_millis(100),
        reconnect: Duration::from_millis(300),
        task: Duration::from_millis(40),
        ..ClusterConfig::default()
    }
}

pub(crate) fn worker_config(name: &str) -> WorkerConfig {
    WorkerConfig::new(name, Isa::Scalar, 1, 1 << 30)
}

pub(crate) fn evaluations(workload: Digest, groups: u32, samples: u32) -> Vec<Evaluation> {
    let candidate = |group| Candidate { scheme: Some(Digest::of(b"scheme")), reverted: vec![GroupId(group)] };
    (0..groups)
        .map(|group| Evaluation {
            workload,
            candidate: candidate(group),
            want: Want::Contributions,
            samples: (0..samples).rev().map(SampleIndex).collect(),
        })
        .collect()
}

pub(crate) fn expected(evaluations: &[Evaluation]) -> Vec<Vec<SampleResult>> {
    let row = |evaluation: &Evaluation| {
        evaluation.samples.iter().map(|sample| SyntheticRunner::result(&evaluation.candidate, *sample)).collect()
    };
    evaluations.iter().map(row).collect()
}

fn start(config: ClusterConfig) -> (Cluster, CancellationToken) {
    let memo = MemoStore::volatile().expect("a store");
    let stop = CancellationToken::new();
    (Cluster::start(config, memo, Arc::new(Artifacts::new()), stop.clone()), stop)
}

/// A worker driven by hand.
struct Puppet {
    incarnation: Incarnation,
    link: Link,
}

impl Puppet {
    async fn join(cluster: &Cluster, id: u128, credits: u32, unacked: Vec<Lease>) -> Puppet {
        let link = LocalConnector::new(cluster.clone()).connect().await.expect("a link");
        let incarnation = Incarnation(id);
        let hello = Hello {
            protocol: holdfast_proto::PROTOCOL_VERSION,
            engine_semantics: holdfast_common::ENGINE_SEMANTICS,
            build: "test".into(),
            incarnation,
            name: format!("puppet-{id}"),
            isa: Isa::Scalar,
            cores: 1,
            memory_bytes: 1 << 30,
            held: vec![],
            unacked,
            credits,
        };
        let mut puppet = Puppet { incarnation, link };
        puppet.say(WorkerMessage::Hello(hello)).await;
        assert!(matches!(puppet.hear().await, Some(CoordinatorMessage::Welcome(_))));
        puppet
    }

    async fn say(&mut self, message: WorkerMessage) {
        self.link.outgoing.send(message).await.expect("the stream is open");
    }

    async fn hear(&mut self) -> Option<CoordinatorMessage> {
        self.link.incoming.recv().await.map(|message| message.expect("a local link does not break"))
    }

    async fn task(&mut self) -> Task {
        loop {
            match self.hear().await {
                Some(CoordinatorMessage::Task(task)) => return task,
                Some(_) => {}
                None => panic!("the stream of {} ended", self.incarnation),
            }
        }
    }

    /// Waits for the ack of a lease; beats meanwhile are not needed.
    async fn ack(&mut self, lease: Lease) {
        while self.hear().await.expect("the stream is open") != CoordinatorMessage::Ack(lease) {}
    }
}

fn answer(task: &Task) -> TaskResult {
    let row = |candidate: &Candidate| {
        task.tile.samples.iter().map(|sample| SyntheticRunner::result(candidate, *sample)).collect()
    };
    let results = Arc::new(task.tile.candidates.iter().map(row).collect());
    TaskResult { lease: task.lease, tile: task.tile.clone(), results, busy_us: 1_000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_workers_compute_everything_once_and_the_memo_the_second_time() {
    let (cluster, _stop) = start(quick());
    for name in ["a", "b"] {
        let runner = Arc::new(SyntheticRunner::default());
        cluster.embed(worker_config(name), runner, CancellationToken::new()).expect("a worker");
    }
    let asked = evaluations(Digest::of(b"workload"), 9, 500);
    let results = cluster.evaluate(Stage::Ranking, asked.clone()).await.expect("evaluated");
    assert_eq!(results, expected(&asked));
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.from_memo, counts.lost_leases), (9 * 500, 0, 0));
    let again = evaluations(Digest::of(b"workload"), 10, 300);
    let results = cluster.evaluate(Stage::Validation, again.clone()).await.expect("evaluated");
    assert_eq!(results, expected(&again));
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.from_memo), (9 * 500 + 300, 9 * 300));
    assert_eq!(counts.workers.values().map(|worker| worker.samples).sum::<u64>(), counts.computed + counts.duplicates);
    cluster.shut_down(Duration::from_secs(10)).await;
    assert!(cluster.evaluate(Stage::Validation, again).await.is_err(), "nothing runs after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_duplicate_counts_once() {
    let (cluster, _stop) = start(quick());
    let asked = evaluations(Digest::of(b"workload"), 1, 64);
    let running = tokio::spawn({
        let (cluster, asked) = (cluster.clone(), asked.clone());
        async move { cluster.evaluate(Stage::Validation, asked).await }
    });
    let mut late = Puppet::join(&cluster, 1, 1, vec![]).await;
    let task = late.task().await;
    drop(late);
    let mut other = Puppet::join(&cluster, 2, 1, vec![]).await;
    let again = other.task().await;
    assert_eq!(again.tile, task.tile);
    assert!(again.lease.generation > task.lease.generation);
    other.say(WorkerMessage::Result(answer(&again))).await;
    other.ack(again.lease).await;
    let results = running.await.expect("the caller lives").expect("evaluated");
    assert_eq!(results, expected(&asked));
    let mut late = Puppet::join(&cluster, 1, 1, vec![task.lease]).await;
    late.say(WorkerMessage::Result(answer(&task))).await;
    late.ack(task.lease).await;
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.salvaged + counts.duplicates), (64, 64));
    assert_eq!(cluster.evaluate(Stage::Validation, asked.clone()).await.expect("evaluated"), expected(&asked));
    assert_eq!(cluster.counts().computed, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_disagree_end_the_run() {
    let (cluster, _stop) = start(quick());
    let asked = evaluations(Digest::of(b"workload"), 1, 128);
    let running = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.evaluate(Stage::Validation, asked).await }
    });
    let mut honest = Puppet::join(&cluster, 1, 1, vec![]).await;
    let first = honest.task().await;
    drop(honest);
    let mut liar = Puppet::join(&cluster, 2, 2, vec![]).await;
    let mut again = liar.task().await;
    if again.tile != first.tile {
        again = liar.task().await;
    }
    assert_eq!(again.tile, first.tile);
    let mut wrong = answer(&again);
    let mut results = (*wrong.results).clone();
    results[0][63].parts[0][0] += 1.0;
    wrong.results = Arc::new(results);
    liar.say(WorkerMessage::Result(wrong)).await;
    liar.ack(again.lease).await;
    let mut honest = Puppet::join(&cluster, 1, 1, vec![first.lease]).await;
    honest.say(WorkerMessage::Result(answer(&first))).await;
    let error = running.await.expect("the caller lives").expect_err("must fail").to_string();
    assert!(error.contains("puppet-1") && error.contains("puppet-2"), "{error}");
    let asked = evaluations(Digest::of(b"workload"), 1, 1);
    assert!(cluster.evaluate(Stage::Validation, asked).await.is_err(), "nothing runs after a mismatch");
}

struct Failing;

impl TaskRunner for Failing {
    fn run(&self, task: &Task, _: &Arc<dyn ArtifactSource>, _: &StopFlag) -> Result<TaskOutput, TaskFailure> {
        assert!(!task.tile.samples.contains(&SampleIndex(0)), "sample zero makes this runner panic");
        Err(TaskFailure::PoisonSample { sample: SampleIndex(70), message: "not a JPEG".into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_sample_and_a_panic_fail_with_their_reasons() {
    let (cluster, _stop) = start(quick());
    cluster.embed(worker_config("w"), Arc::new(Failing), CancellationToken::new()).expect("a worker");
    let mut asked = evaluations(Digest::of(b"workload"), 1, 80);
    asked[0].samples.retain(|sample| sample.0 > 60);
    let error = cluster.evaluate(Stage::Baseline, asked).await.expect_err("must fail").to_string();
    assert!(error.contains("sample 70") && error.contains("not a JPEG"), "{error}");
    let asked = evaluations(Digest::of(b"workload"), 1, 1);
    let error = cluster.evaluate(Stage::Baseline, asked).await.expect_err("must fail").to_string();
    assert!(error.contains("sample zero makes this runner panic"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_says_so_and_a_forgotten_one_is_taken_back() {
    let (cluster, stop) = start(quick());
    let asked = evaluations(Digest::of(b"workload"), 1, 640);
    let forgotten = tokio::spawn({
        let (cluster, asked) = (cluster.clone(), asked.clone());
        async move { cluster.evaluate(Stage::Validation, asked).await }
    });
    let mut puppet = Puppet::join(&cluster, 1, 1, vec![]).await;
    let task = puppet.task().await;
    forgotten.abort();
    while puppet.hear().await.expect("the stream is open") != CoordinatorMessage::Revoke(task.lease) {
        puppet.say(WorkerMessage::Heartbeat(vec![task.lease])).await;
    }
    stop.cancel();
    let stopped = cluster.evaluate(Stage::Validation, asked).await;
    assert!(matches!(stopped, Err(EvaluatorError::Stopped(Stage::Validation))), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_without_workers_is_noticed_and_ends_when_one_comes() {
    let (cluster, _stop) = start(ClusterConfig { lonely: Duration::from_millis(1), ..quick() });
    let asked = evaluations(Digest::of(b"workload"), 1, 10);
    let running = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.evaluate(Stage::Baseline, asked).await }
    });
    let mut progress = cluster.progress();
    progress.wait_for(|progress| progress.is_stuck).await.expect("the cluster lives");
    cluster
        .embed(worker_config("w"), Arc::new(SyntheticRunner::default()), CancellationToken::new())
        .expect("a worker");
    assert!(running.await.expect("the caller lives").is_ok());
    progress.wait_for(|progress| !progress.is_stuck && progress.workers == 1).await.expect("the cluster lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_loses_nothing() {
    let (cluster, _stop) = start(quick());
    let runner = Arc::new(SyntheticRunner { cell_time: Duration::from_micros(50), fetches: false });
    let drain = CancellationToken::new();
    let leaving = cluster.embed(worker_config("leaving"), runner.clone(), drain.clone()).expect("a worker");
    let asked = evaluations(Digest::of(b"workload"), 8, 640);
    let running = tokio::spawn({
        let (cluster, asked) = (cluster.clone(), asked.clone());
        async move { cluster.evaluate(Stage::Ranking, asked).await }
    });
    let mut progress = cluster.progress();
    progress.wait_for(|progress| progress.stages.iter().any(|stage| stage.done > 200)).await.expect("progress");
    drain.cancel();
    assert!(leaving.await.expect("no panic").is_ok());
    cluster.embed(worker_config("staying"), runner, CancellationToken::new()).expect("a worker");
    assert_eq!(running.await.expect("the caller lives").expect("evaluated"), expected(&asked));
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.lost_leases, counts.duplicates), (8 * 640, 0, 0));
}

/// Evaluations of candidates that [`evaluations`] does not hold.
fn others(groups: std::ops::Range<u32>) -> Vec<Evaluation> {
    evaluations(Digest::of(b"workload"), groups.end, 64).split_off(groups.start as usize)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_compute_ahead_and_their_results_are_remembered() {
    let (cluster, _stop) = start(quick());
    let (asked, later) = (others(0..1), others(1..2));
    cluster.anticipate(Stage::Validation, later.clone());
    let running = tokio::spawn({
        let (cluster, asked) = (cluster.clone(), asked.clone());
        async move { cluster.evaluate(Stage::Validation, asked).await }
    });
    let mut busy = Puppet::join(&cluster, 1, 1, vec![]).await;
    let first = busy.task().await;
    let mut idle = Puppet::join(&cluster, 2, 1, vec![]).await;
    let ahead = idle.task().await;
    assert_eq!((&first.tile.candidates[0], &ahead.tile.candidates[0]), (&asked[0].candidate, &later[0].candidate));
    idle.say(WorkerMessage::Result(answer(&ahead))).await;
    idle.ack(ahead.lease).await;
    busy.say(WorkerMessage::Result(answer(&first))).await;
    assert_eq!(running.await.expect("the caller lives").expect("evaluated"), expected(&asked));
    assert_eq!(cluster.evaluate(Stage::Validation, later.clone()).await.expect("evaluated"), expected(&later));
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.from_memo, counts.duplicates), (128, 64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_was_begun_ahead_is_finished_for_whoever_asks() {
    let (cluster, _stop) = start(quick());
    let (asked, later) = (others(0..1), others(1..2));
    cluster.anticipate(Stage::Validation, later.clone());
    let run = |evaluations: Vec<Evaluation>| {
        let cluster = cluster.clone();
        tokio::spawn(async move { cluster.evaluate(Stage::Validation, evaluations).await })
    };
    let running = run(asked.clone());
    let mut busy = Puppet::join(&cluster, 1, 1, vec![]).await;
    let first = busy.task().await;
    let mut idle = Puppet::join(&cluster, 2, 1, vec![]).await;
    let ahead = idle.task().await;
    busy.say(WorkerMessage::Result(answer(&first))).await;
    assert_eq!(running.await.expect("the caller lives").expect("evaluated"), expected(&asked));
    let running = run(later.clone());
    let mut progress = cluster.progress();
    progress.wait_for(|progress| !progress.stages.is_empty()).await.expect("the cluster lives");
    idle.say(WorkerMessage::Result(answer(&ahead))).await;
    assert_eq!(running.await.expect("the caller lives").expect("evaluated"), expected(&later));
    let counts = cluster.counts();
    assert_eq!((counts.computed, counts.from_memo, counts.duplicates), (128, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_ahead_does_not_outlive_the_run() {
    let (cluster, _stop) = start(quick());
    let runner = Arc::new(SyntheticRunner { cell_time: Duration::from_millis(20), fetches: false });
    for name in ["a", "b"] {
        cluster.embed(worker_config(name), runner.clone(), CancellationToken::new()).expect("a worker");
    }
    let asked = others(0..1);
    cluster.anticipate(Stage::Validation, evaluations(Digest::of(b"other"), 500, 640));
    assert_eq!(cluster.evaluate(Stage::Validation, asked.clone()).await.expect("evaluated"), expected(&asked));
    let patience = Duration::from_secs(60);
    let started = std::time::Instant::now();
    cluster.shut_down(patience).await;
    // All of what is ahead would take more than half an hour of two workers.
    assert!(started.elapsed() < patience, "workers were let go of what nobody asked for");
}
