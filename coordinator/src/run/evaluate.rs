//! `holdfast evaluate`: the metrics of a float model, or of one this program has quantized, on the validation data.

use super::RunError;
use super::prepare::{Prepared, prepare, start};
use super::watch::show_progress;
use crate::cli::RunConfig;
use crate::cluster::Cluster;
use holdfast_common::evaluation::{Candidate, Evaluation, SampleResult, Want};
use holdfast_core::evaluator::{Evaluator, Stage};
use holdfast_core::{CoreError, SampleSet};
use tokio_util::sync::CancellationToken;

/// Width of the column of names, as POT prints them.
const NAME_WIDTH: usize = 27;

/// Measures; returns one line a metric.
pub async fn evaluate(config: RunConfig, stop: CancellationToken) -> Result<String, RunError> {
    let for_scan = config.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&for_scan))
        .await
        .map_err(|error| RunError::Threads(std::io::Error::other(error)))??;
    let running = start(&config, prepared.artifacts.clone(), &stop)?;
    let bars = CancellationToken::new();
    let progress = show_progress(&running.cluster, config.progress, bars.clone());
    let candidate = prepared.candidate()?;
    let set = &prepared.validation_set;
    let measured = measure(&running.cluster, &prepared, set, Stage::Baseline, candidate).await;
    bars.cancel();
    // The bars are gone either way; a panic while drawing must not hide the answer.
    let _ = progress.await;
    running.stop().await;
    measured
}

/// All metrics of a candidate on a set of samples, one line each.
pub(super) async fn measure(
    cluster: &Cluster,
    prepared: &Prepared,
    set: &SampleSet,
    stage: Stage,
    candidate: Candidate,
) -> Result<String, RunError> {
    let SampleSet { workload, samples } = set.clone();
    let evaluation = Evaluation { workload, candidate, want: Want::Contributions, samples };
    let answer = cluster.evaluate(stage, vec![evaluation]).await.map_err(CoreError::from)?;
    lines(prepared, answer.first().map_or(&[], Vec::as_slice))
}

fn lines(prepared: &Prepared, results: &[SampleResult]) -> Result<String, RunError> {
    let mut text = String::new();
    for (index, (spec, metric)) in prepared.metrics.iter().enumerate() {
        let mut parts = results.iter().filter_map(|result| result.parts.get(index)).map(Vec::as_slice);
        let value = metric.fold(&mut parts)?;
        text.push_str(&format!("{:<NAME_WIDTH$}: {value}\n", spec.name));
    }
    Ok(text)
}
