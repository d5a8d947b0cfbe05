//! `annotation_free`: the float model's own predictions become the labels of the validation samples it is sure of.

use super::RunError;
use super::data::publish_workload;
use super::prepare::Prepared;
use holdfast_common::dataset::Annotation;
use holdfast_common::evaluation::{Candidate, Evaluation, SampleIndex, SampleResult, Want};
use holdfast_core::evaluator::{Evaluator, Stage};
use holdfast_core::{CoreError, SampleSet};
use tracing::info;

/// Replaces the annotations by predictions and leaves samples out of the validation set whose prediction has less than
/// this confidence. Calibration keeps all of them.
pub(super) async fn annotate<E: Evaluator>(
    evaluator: &E,
    prepared: Prepared,
    threshold: f64,
) -> Result<Prepared, RunError> {
    let SampleSet { workload, samples } = prepared.validation_set.clone();
    let evaluation =
        Evaluation { workload, candidate: Candidate::baseline(), want: Want::Predictions, samples: samples.clone() };
    let answer = evaluator.evaluate(Stage::Baseline, vec![evaluation]).await.map_err(CoreError::from)?;
    let predictions = answer.first().map_or(&[][..], Vec::as_slice);
    let (mut prepared, mut confident) = (prepared, Vec::new());
    let manifest = &mut prepared.validation.manifest;
    // Labels are the model's classes, which need not be those of the data.
    manifest.classes.clear();
    for (index, result) in samples.iter().zip(predictions) {
        let (label, confidence) = prediction(result)?;
        if let Some(entry) = manifest.samples.get_mut(index.0 as usize) {
            entry.annotation = Annotation::Label(label);
        }
        if confidence >= threshold {
            confident.push(*index);
        }
    }
    if confident.is_empty() {
        return Err(RunError::NothingConfident { threshold, samples: samples.len() });
    }
    info!(samples = confident.len(), of = samples.len(), threshold, "predictions of the float model are the labels");
    prepared.validation.digest = prepared.artifacts.publish(manifest.to_json()?)?;
    prepared.validation_workload.manifest = prepared.validation.digest;
    let workload = publish_workload(&prepared.validation_workload, &prepared.artifacts)?;
    prepared.validation_set = SampleSet { workload, samples: confident };
    Ok(prepared)
}

/// Class and confidence; all metrics read the same output, so the first speaks for all.
fn prediction(result: &SampleResult) -> Result<(u32, f64), RunError> {
    let broken = || CoreError::Answer {
        stage: Stage::Baseline,
        what: "numbers of a prediction",
        found: result.parts.first().map_or(0, Vec::len),
        expected: 2,
    };
    let Some([class, confidence]) = result.parts.first().and_then(|part| part.first_chunk::<2>()) else {
        return Err(broken().into());
    };
    let is_class = class.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(class);
    if is_class { Ok((*class as u32, *confidence)) } else { Err(broken().into()) }
}

/// All samples' class labels, in the order of a set, where all have one.
pub(super) fn labels(prepared: &Prepared) -> Option<Vec<u32>> {
    let label = |index: &SampleIndex| match prepared.validation.manifest.samples.get(index.0 as usize)?.annotation {
        Annotation::Label(label) => Some(label),
        _ => None,
    };
    prepared.validation_set.samples.iter().map(label).collect()
}
