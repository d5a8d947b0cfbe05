//! The gateway over real sockets: workers that come, die and come back, coordinators that restart.

use super::*;
use crate::artifact::Artifacts;
use crate::cluster::tests::{evaluations, expected, quick, worker_config};
use crate::memo::{MemoError, MemoStore};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleResult};
use holdfast_core::evaluator::{Evaluator, EvaluatorError, Stage};
use holdfast_proto::CHUNK_BYTES;
use holdfast_proto::message::RejectCode;
use holdfast_worker::artifact::{ArtifactCache, ArtifactOrigin, ArtifactSource, DiskCache, GrpcOrigin};
use holdfast_worker::session::{GrpcConnector, SessionError, SyntheticRunner, Worker, WorkerConfig, channel};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

struct Coordinator {
    cluster: Cluster,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), ServerError>>,
}

impl Coordinator {
    async fn start(memo: MemoStore, address: &str) -> Coordinator {
        let stop = CancellationToken::new();
        let cluster = Cluster::start(quick(), memo, Arc::new(Artifacts::new()), stop.clone());
        let gate = loop {
            match Gate::listen(address.parse().expect("an address")) {
                Ok(gate) => break gate,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let address = gate.address().expect("an address");
        let serving = tokio::spawn(gate.serve(cluster.clone(), stop.clone()));
        Coordinator { cluster, address, stop, serving }
    }

    async fn fresh() -> Coordinator {
        Coordinator::start(MemoStore::volatile().expect("a store"), "127.0.0.1:0").await
    }

    /// As a kill would, as far as others can see: sockets close, nothing is said.
    async fn die(self) -> SocketAddr {
        self.stop.cancel();
        let _ = self.serving.await;
        self.address
    }

    fn evaluate(&self, asked: &[Evaluation]) -> JoinHandle<Result<Vec<Vec<SampleResult>>, EvaluatorError>> {
        let (cluster, asked) = (self.cluster.clone(), asked.to_vec());
        tokio::spawn(async move { cluster.evaluate(Stage::Ranking, asked).await })
    }

    async fn until_done(&self, cells: u64) {
        let mut progress = self.cluster.progress();
        let seen = |stages: &[crate::cluster::StageProgress]| stages.iter().any(|stage| stage.done >= cells);
        progress.wait_for(|progress| seen(&progress.stages)).await.expect("progress");
    }
}

fn spawn(config: WorkerConfig, address: SocketAddr, cell_time: Duration) -> JoinHandle<Result<(), SessionError>> {
    let channel = channel(&format!("http://{address}")).expect("an address");
    let origin = Arc::new(GrpcOrigin::new(channel.clone(), Handle::current()));
    let cache = Arc::new(ArtifactCache::new(origin, 64 << 20, None));
    let runner = Arc::new(SyntheticRunner { cell_time, fetches: true });
    let worker = Worker::new(config, Arc::new(GrpcConnector::new(channel)), runner, cache).expect("a worker");
    tokio::spawn(worker.run(CancellationToken::new()))
}

const CELL: Duration = Duration::from_micros(20);

async fn asked(coordinator: &Coordinator, groups: u32, samples: u32) -> Vec<Evaluation> {
    let workload = coordinator.cluster.publish(vec![7; 3 << 20]).await.expect("published");
    evaluations(workload, groups, samples)
}

fn reopen(directory: &Path) -> MemoStore {
    loop {
        match MemoStore::open(directory) {
            Ok(store) => return store,
            Err(MemoError::Held { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_two_and_three_workers_give_the_same_results() {
    for count in 1..=3 {
        let coordinator = Coordinator::fresh().await;
        let names: Vec<_> = (0..count).map(|worker| format!("w{worker}")).collect();
        for name in &names {
            spawn(worker_config(name), coordinator.address, CELL);
        }
        let asked = asked(&coordinator, 11, 300).await;
        let results = coordinator.evaluate(&asked).await.expect("no panic").expect("evaluated");
        assert_eq!(results, expected(&asked), "{count} workers");
        assert_eq!(coordinator.cluster.counts().computed, 11 * 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_changes_nothing() {
    let coordinator = Coordinator::fresh().await;
    let victim = spawn(worker_config("victim"), coordinator.address, CELL);
    let asked = asked(&coordinator, 8, 1280).await;
    let running = coordinator.evaluate(&asked);
    coordinator.until_done(1000).await;
    victim.abort();
    spawn(worker_config("heir"), coordinator.address, CELL);
    assert_eq!(running.await.expect("no panic").expect("evaluated"), expected(&asked));
    let counts = coordinator.cluster.counts();
    assert_eq!(counts.computed, 8 * 1280);
    assert!(counts.workers.contains_key("heir"), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_coordinator_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Coordinator::start(reopen(directory.path()), "127.0.0.1:0").await;
    let workers: Vec<_> = ["a", "b"].map(|name| spawn(worker_config(name), first.address, CELL)).into_iter().collect();
    let asked_first = asked(&first, 8, 1280).await;
    let running = first.evaluate(&asked_first);
    first.until_done(2000).await;
    let address = first.die().await;
    let stopped = running.await.expect("no panic");
    assert!(matches!(stopped, Err(EvaluatorError::Stopped(_))), "{stopped:?}");
    let second = Coordinator::start(reopen(directory.path()), &address.to_string()).await;
    let asked_second = asked(&second, 8, 1280).await;
    let results = second.evaluate(&asked_second).await.expect("no panic").expect("evaluated");
    assert_eq!(results, expected(&asked_first));
    let counts = second.cluster.counts();
    assert!(counts.from_memo >= 2000, "{counts:?}");
    assert_eq!(counts.from_memo + counts.computed, 8 * 1280, "{counts:?}");
    second.cluster.shut_down(Duration::from_secs(10)).await;
    for worker in workers {
        assert!(worker.await.expect("no panic").is_ok(), "workers outlive the first and leave with the second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_arithmetic_is_refused_with_both_versions_named() {
    let coordinator = Coordinator::fresh().await;
    let mut config = worker_config("old");
    config.engine_semantics = 4711;
    let refused = spawn(config, coordinator.address, CELL).await.expect("no panic");
    let Err(SessionError::Rejected { code: RejectCode::EngineSemantics, message }) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("old") && message.contains("4711") && message.contains("same version"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_coordinator_gives_up_and_says_why() {
    let address = Coordinator::fresh().await.die().await;
    let mut config = worker_config("lonely");
    config.give_up_after = Some(Duration::from_millis(300));
    let ended = spawn(config, address, CELL).await.expect("no panic");
    let Err(SessionError::GivenUp { last, .. }) = &ended else { panic!("{ended:?}") };
    assert!(last.0.to_lowercase().contains("refused"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_come_in_chunks_from_any_offset_and_are_kept_on_disk() {
    let coordinator = Coordinator::fresh().await;
    let bytes: Vec<u8> = (0..CHUNK_BYTES * 3 + 17).map(|i| (i * 31 % 251) as u8).collect();
    let digest = coordinator.cluster.publish(bytes.clone()).await.expect("published");
    let channel = channel(&format!("http://{}", coordinator.address)).expect("an address");
    let origin = Arc::new(GrpcOrigin::new(channel, Handle::current()));
    let directory = tempfile::tempdir().expect("a directory");
    let disk = DiskCache::open(directory.path(), 1 << 30).expect("a directory");
    tokio::task::spawn_blocking(move || {
        let (mut rest, mut chunks) = (Vec::new(), 0);
        let offset = CHUNK_BYTES + CHUNK_BYTES / 2;
        let mut sink = |chunk: holdfast_worker::artifact::Chunk| {
            assert_eq!(chunk.total_bytes, bytes.len() as u64);
            assert!(chunk.data.len() <= CHUNK_BYTES);
            rest.extend_from_slice(&chunk.data);
            chunks += 1;
            Ok(())
        };
        origin.fetch(&digest, offset as u64, &mut sink).expect("fetched");
        assert_eq!(rest, &bytes[offset..]);
        assert_eq!(chunks, 2);
        let cache = ArtifactCache::new(origin, 0, Some(disk));
        assert_eq!(cache.get(&digest).expect("fetched"), bytes);
        assert!(cache.get(&Digest::of(b"nothing")).is_err());
    })
    .await
    .expect("no panic");
    assert!(directory.path().join(digest.to_string()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_the_rules_ends_its_session_only() {
    use holdfast_proto::wire;
    let coordinator = Coordinator::fresh().await;
    let channel = channel(&format!("http://{}", coordinator.address)).expect("an address");
    let mut client = wire::worker_gateway_client::WorkerGatewayClient::new(channel);
    let nothing = tokio_stream::iter([wire::WorkerMessage { message: None }]);
    let mut stream = client.session(nothing).await.expect("a stream").into_inner();
    let answer = stream.message().await.expect("an answer").expect("a message");
    let Some(wire::coordinator_message::Message::Reject(reject)) = answer.message else { panic!("{answer:?}") };
    assert_eq!(reject.code(), wire::RejectCode::Malformed);
    spawn(worker_config("good"), coordinator.address, Duration::ZERO);
    let asked = asked(&coordinator, 1, 64).await;
    assert!(coordinator.evaluate(&asked).await.expect("no panic").is_ok());
}
