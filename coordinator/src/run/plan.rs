//! `holdfast plan`: how many evaluations a run takes at least and at most, and about how long, from a short timed probe.

use super::RunError;
use super::prepare::{Prepared, prepare_float, start};
use crate::cli::RunConfig;
use crate::config::Algorithm;
use crate::terminal::duration;
use holdfast_common::evaluation::{Candidate, Evaluation, Want};
use holdfast_core::CoreError;
use holdfast_core::evaluator::{Evaluator, Stage};
use holdfast_core::parameters::Parameters;
use holdfast_core::quantize::place;
use std::fmt::Write;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Samples that are computed before the clock starts: the first ones pay for packing the weights.
const WARM_SAMPLES: usize = 8;
/// Samples that are timed.
const TIMED_SAMPLES: usize = 32;
/// Trials of `tune_hyperparams`, as in POT.
const TRIALS: u64 = 12;

/// Samples that a run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// Where quantization alone meets the goal.
    least: u64,
    /// Where every group has to be reverted, one after the other.
    most: u64,
}

/// Probes and counts; returns a few lines.
pub async fn plan(config: RunConfig, stop: CancellationToken) -> Result<String, RunError> {
    config.request.parameters.check()?;
    // A memo store of its own: remembered results would be timed as free.
    let state = tempfile::tempdir().map_err(RunError::Threads)?;
    let config = RunConfig { state_dir: state.path().to_owned(), ..config };
    let for_scan = config.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare_float(&for_scan))
        .await
        .map_err(|error| RunError::Threads(std::io::Error::other(error)))??;
    let running = start(&config, prepared.artifacts.clone(), &stop)?;
    // Without labels there are no contributions, but the model takes as long.
    let want = config.request.annotation_free.map_or(Want::Contributions, |_| Want::Predictions);
    let probed = probe(&running.cluster, &prepared, want).await;
    running.stop().await;
    let (samples, seconds) = probed?;

    let parameters = &config.request.parameters;
    let placement = place(&prepared.graph, &parameters.quantization, parameters.mode)?;
    let calibration = prepared.calibration_set.samples.len();
    let calibration = parameters.quantization.stat_subset_size.map_or(calibration, |size| size.min(calibration));
    let validation = prepared.validation_set.samples.len();
    let groups = placement.groups.len();
    let bounds = match config.request.algorithm {
        Algorithm::DefaultQuantization => Bounds { least: calibration as u64, most: calibration as u64 },
        Algorithm::AccuracyAwareQuantization => bounds(parameters, groups, calibration, validation),
    };
    let each = if samples == 0 { 0.0 } else { seconds / samples as f64 };
    let mut text = String::new();
    let operations: usize = placement.groups.iter().map(|group| group.operations.len()).sum();
    let _ = writeln!(text, "{operations} operations can be quantized, in {groups} groups");
    let _ = writeln!(text, "{calibration} calibration samples, {validation} validation samples");
    let _ = writeln!(text, "probe: {samples} samples in float, {:.2} ms each on this machine", each * 1e3);
    for (label, samples) in [("at least", bounds.least), ("at most", bounds.most)] {
        let time = duration(each * samples as f64);
        let _ = writeln!(text, "{label:<9}{samples} samples, about {time} at the speed of the float model");
    }
    Ok(text)
}

/// Samples computed while the clock ran, and its seconds.
async fn probe(cluster: &crate::cluster::Cluster, prepared: &Prepared, want: Want) -> Result<(usize, f64), RunError> {
    let set = &prepared.validation_set;
    let warm = WARM_SAMPLES.min(set.samples.len() / 2);
    let evaluate = |samples: &[holdfast_common::evaluation::SampleIndex]| {
        let evaluation = Evaluation {
            workload: set.workload,
            candidate: Candidate::baseline(),
            want: want.clone(),
            samples: samples.to_vec(),
        };
        cluster.evaluate(Stage::Baseline, vec![evaluation])
    };
    let (first, rest) = set.samples.split_at(warm);
    evaluate(first).await.map_err(CoreError::from)?;
    let timed = &rest[..TIMED_SAMPLES.min(rest.len())];
    let started = Instant::now();
    evaluate(timed).await.map_err(CoreError::from)?;
    Ok((timed.len(), started.elapsed().as_secs_f64()))
}

/// What AccuracyAwareQuantization asks for: calibration, the float and the quantized model on all samples; and at most
/// tuning, the mixed preset, one ranking, and a round for every group.
fn bounds(parameters: &Parameters, groups: usize, calibration: usize, validation: usize) -> Bounds {
    let (groups, calibration, validation) = (groups as u64, calibration as u64, validation as u64);
    let given =
        !parameters.metrics.is_empty() && parameters.metrics.iter().all(|metric| metric.baseline_value.is_some());
    let least = calibration + validation + if given { 0 } else { validation };
    let ranking = validation.min(parameters.ranking_subset_size as u64);
    let mixed = if parameters.convert_to_mixed_preset { calibration + validation } else { 0 };
    let tuning = if parameters.tune_hyperparams { TRIALS * (calibration + ranking) + validation } else { 0 };
    let rounds = parameters.max_iter_num.map_or(groups, |limit| groups.min(limit as u64));
    let rounds = parameters.search.budget.evaluations.map_or(rounds, |limit| rounds.min(limit as u64));
    Bounds { least, most: calibration + 2 * validation + mixed + tuning + groups * ranking + rounds * validation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_count_what_the_loop_asks_for() {
        let parameters = Parameters { ranking_subset_size: 50, ..Parameters::default() };
        // 10 groups, 20 calibration and 100 validation samples.
        let bounds = bounds(&parameters, 10, 20, 100);
        assert_eq!(bounds, Bounds { least: 20 + 200, most: 20 + 200 + 10 * 50 + 10 * 100 });
        let limited = Parameters { max_iter_num: Some(2), convert_to_mixed_preset: true, ..parameters };
        assert_eq!(super::bounds(&limited, 10, 20, 100).most, 20 + 200 + 120 + 500 + 200);
    }
}
