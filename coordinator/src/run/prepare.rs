//! Everything a run needs before the algorithm starts: model, data, artifacts, memo store, workers.

use super::data::{PublishedData, publish_data, publish_workload, workload};
use super::files::load_model;
use super::machine::{threads, worker_parts};
use super::{RunError, with_causes};
use crate::artifact::Artifacts;
use crate::cli::RunConfig;
use crate::cluster::{Cluster, ClusterConfig};
use crate::memo::MemoStore;
use crate::server::Gate;
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, Workload};
use holdfast_common::graph::Graph;
use holdfast_common::metric::{self, Metric, MetricSpec};
use holdfast_common::model::Model;
use holdfast_core::SampleSet;
use holdfast_core::seed::SplitMix64;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The model and the data, published for workers.
pub struct Prepared {
    /// The float model in normal form.
    pub model: Model,
    /// Its digest.
    pub model_digest: Digest,
    /// Its graph for one sample.
    pub graph: Graph,
    /// Samples that decide.
    pub validation: PublishedData,
    /// Samples whose statistics make the ranges; `None`: the validation data serve.
    pub calibration: Option<PublishedData>,
    /// What the validation set is evaluated with.
    pub validation_workload: Workload,
    /// What the calibration set is evaluated with.
    pub calibration_workload: Workload,
    /// The validation set.
    pub validation_set: SampleSet,
    /// The calibration set, in the order statistics are taken.
    pub calibration_set: SampleSet,
    /// Metrics of the validation workload.
    pub metrics: Vec<(MetricSpec, Box<dyn Metric>)>,
    /// All artifacts.
    pub artifacts: Arc<Artifacts>,
}

impl Prepared {
    /// The model as what it is: float, or the int8 model that an export stands for.
    pub fn candidate(&self) -> Result<Candidate, RunError> {
        let Some(scheme) = self.model.embedded_scheme() else { return Ok(Candidate::baseline()) };
        let json = serde_json::to_vec(scheme).map_err(|source| RunError::Json { what: "the scheme", source })?;
        Ok(Candidate { scheme: Some(self.artifacts.publish(json)?), reverted: Vec::new() })
    }
}

/// [`prepare`], of a model that is to be quantized. Blocks.
pub fn prepare_float(config: &RunConfig) -> Result<Prepared, RunError> {
    let prepared = prepare(config)?;
    match prepared.model.embedded_scheme() {
        Some(_) => Err(RunError::Quantized { path: config.request.model.clone() }),
        None => Ok(prepared),
    }
}

/// Loads, scans and publishes. Blocks.
pub fn prepare(config: &RunConfig) -> Result<Prepared, RunError> {
    let request = &config.request;
    for warning in &request.warnings {
        warn!("{warning}");
    }
    let model = load_model(&request.model)?;
    let artifacts = Arc::new(Artifacts::new());
    let model_digest = artifacts.publish(model.to_bytes())?;
    let labelled = !request.validation.metrics.is_empty() && request.annotation_free.is_none();
    let validation = publish_data(&request.validation, labelled, &model, &artifacts, config.progress)?;
    let calibration = match &request.calibration {
        Some(calibration) => Some(publish_data(calibration, false, &model, &artifacts, config.progress)?),
        None => None,
    };
    let shapes = model.sample_shapes(&validation.manifest)?;
    let graph = model.graph(&shapes).map_err(|source| RunError::Model { path: request.model.clone(), source })?;
    let mut metrics = Vec::new();
    for spec in &request.validation.metrics {
        metrics.push((spec.clone(), metric::build(spec)?));
    }
    let specs = request.validation.metrics.clone();
    let validation_workload = workload(&model, model_digest, &validation, &request.validation, specs)?;
    let digest = publish_workload(&validation_workload, &artifacts)?;
    let validation_set = SampleSet { workload: digest, samples: all_samples(&validation) };
    let (data, settings) = match (&calibration, &request.calibration) {
        (Some(data), Some(settings)) => (data, settings),
        _ => (&validation, &request.validation),
    };
    let calibration_workload = workload(&model, model_digest, data, settings, Vec::new())?;
    let digest = publish_workload(&calibration_workload, &artifacts)?;
    let mut samples = all_samples(data);
    if request.shuffle_data {
        let count = request.parameters.quantization.stat_subset_size.unwrap_or(samples.len());
        let chosen = SplitMix64::new(request.parameters.seed).choose(count, samples.len());
        samples = chosen.into_iter().map(|position| samples[position]).collect();
    }
    let calibration_set = SampleSet { workload: digest, samples };
    Ok(Prepared {
        model,
        model_digest,
        graph,
        validation,
        calibration,
        validation_workload,
        calibration_workload,
        validation_set,
        calibration_set,
        metrics,
        artifacts,
    })
}

fn all_samples(data: &PublishedData) -> Vec<SampleIndex> {
    (0..data.manifest.samples.len()).filter_map(|index| u32::try_from(index).ok()).map(SampleIndex).collect()
}

/// A running cluster.
pub struct Running {
    /// The handle.
    pub cluster: Cluster,
    workers: Vec<JoinHandle<()>>,
    gate: Option<JoinHandle<()>>,
    drain: CancellationToken,
}

/// How long workers may take to leave when the run is over.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

impl Running {
    /// Lets the workers go and closes the door.
    pub async fn stop(self) {
        self.cluster.shut_down(PATIENCE).await;
        self.drain.cancel();
        for worker in self.workers.into_iter().chain(self.gate) {
            if tokio::time::timeout(PATIENCE, worker).await.is_err() {
                warn!("a worker did not leave in time");
            }
        }
    }
}

/// Opens the memo store, starts embedded workers and, where asked for, the door for remote ones.
pub fn start(config: &RunConfig, artifacts: Arc<Artifacts>, stop: &CancellationToken) -> Result<Running, RunError> {
    let memo = MemoStore::open(&config.state_dir)?;
    let cluster = Cluster::start(ClusterConfig::default(), memo, artifacts, stop.clone());
    let drain = CancellationToken::new();
    let mut workers = Vec::new();
    let count = config.embedded_workers;
    let all = threads(config.threads);
    for index in 0..count {
        let own = (all / count + usize::from(index < all % count)).max(1);
        let (worker_config, engine) = worker_parts(&format!("embedded-{index}"), own, count)?;
        let worker = cluster.embed(worker_config, engine, drain.clone())?;
        workers.push(tokio::spawn(async move {
            match worker.await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => error!("embedded worker: {}", with_causes(&failure)),
                Err(failure) => error!("embedded worker: {failure}"),
            }
        }));
    }
    let mut gate = None;
    if let Some(address) = config.listen {
        if !address.ip().is_loopback() {
            warn!(%address, "workers are accepted in plain text by anyone who can reach this address");
        }
        let open = Gate::listen(address)?;
        info!(address = %open.address().unwrap_or(address), "accepting workers");
        let (cluster, drain) = (cluster.clone(), drain.clone());
        gate = Some(tokio::spawn(async move {
            if let Err(failure) = open.serve(cluster, drain).await {
                error!("accept workers: {}", with_causes(&failure));
            }
        }));
    }
    Ok(Running { cluster, workers, gate, drain })
}
