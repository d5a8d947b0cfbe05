//! `holdfast evaluate`: the metrics of a float model, or of one this program has quantized, on the validation data.

use super::RunError;
use super::prepare::{Prepared, prepare, start};
use super::watch::show_progress;
use crate::cli::RunConfig;
use holdfast_common::evaluation::{Candidate, Evaluation, Want};
use holdfast_core::evaluator::{Evaluator, Stage};
use tokio_util::sync::CancellationToken;

/// Width of the column of names, as POT prints them.
const NAME_WIDTH: usize = 27;

/// Measures; returns one line a metric.
pub async fn evaluate(config: RunConfig, stop: CancellationToken) -> Result<String, RunError> {
    let for_scan = config.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&for_scan))
        .await
        .map_err(|error| RunError::Runtime(std::io::Error::other(error)))??;
    let running = start(&config, prepared.artifacts.clone(), &stop)?;
    let bars = CancellationToken::new();
    let progress = show_progress(&running.cluster, config.progress, bars.clone());
    let candidate = match prepared.model.embedded_scheme() {
        // An exported model is measured as what it is.
        Some(scheme) => {
            let bytes = serde_json::to_vec(scheme).map_err(std::io::Error::other).map_err(RunError::Runtime)?;
            Candidate { scheme: Some(prepared.artifacts.publish(bytes)?), reverted: Vec::new() }
        }
        None => Candidate::baseline(),
    };
    let evaluation = Evaluation {
        workload: prepared.validation_set.workload,
        candidate,
        want: Want::Contributions,
        samples: prepared.validation_set.samples.clone(),
    };
    let answer = running.cluster.evaluate(Stage::Baseline, vec![evaluation]).await;
    bars.cancel();
    // The bars are gone either way; a panic while drawing must not hide the answer.
    let _ = progress.await;
    running.stop().await;
    let results = answer.map_err(holdfast_core::CoreError::from)?.pop().unwrap_or_default();
    lines(&prepared, &results)
}

fn lines(prepared: &Prepared, results: &[holdfast_common::evaluation::SampleResult]) -> Result<String, RunError> {
    let mut text = String::new();
    for (index, (spec, metric)) in prepared.metrics.iter().enumerate() {
        let mut parts = results.iter().filter_map(|result| result.parts.get(index)).map(Vec::as_slice);
        let value = metric.fold(&mut parts)?;
        text.push_str(&format!("{:<NAME_WIDTH$}: {value}\n", spec.name));
    }
    Ok(text)
}
