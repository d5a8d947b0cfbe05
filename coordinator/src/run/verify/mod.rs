//! `holdfast verify`: a run's exported model in an external runtime, on the run's own prepared inputs and by its metrics,
//! beside what this program computes and what the report promised.

mod runtime;
mod table;

pub use runtime::RuntimeError;

use super::compare::read;
use super::files::load_model;
use super::machine::{threads, worker_parts};
use super::prepare::{Prepared, prepare};
use super::{RunError, verify::runtime::Stopper};
use crate::cli::{RunConfig, VerifyConfig, exit};
use crate::cluster::LocalOrigin;
use crate::terminal::{Progress, ProgressStyle, StageProgress};
use holdfast_common::distance::distances;
use holdfast_common::evaluation::{Candidate, SampleIndex};
use holdfast_common::metric::{MetricError, Outputs};
use holdfast_core::CoreError;
use holdfast_core::evaluator::{EvaluatorError, Stage};
use holdfast_worker::artifact::{ArtifactCache, ArtifactSource};
use holdfast_worker::engine::Passage;
use ndarray::ArrayD;
use runtime::Runtime;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use table::{Agreement, Row, Table};
use tokio_util::sync::CancellationToken;

/// Samples that are exchanged at a time.
const CHUNK_SAMPLES: usize = 64;
/// Bytes of inputs that are exchanged at a time, unless one sample has more.
const CHUNK_BYTES: usize = 64 << 20;
/// Bytes of artifacts kept apart; their origin is in memory already.
const CACHE_BYTES: u64 = 64 << 20;
/// How far a metric may be off where nothing is said: a tenth of a point of a share.
const TOLERANCE: f64 = 0.001;

/// Runs and compares; returns the exit code and a table.
pub async fn verify(config: VerifyConfig, stop: CancellationToken) -> Result<(u8, String), RunError> {
    let stopper = Stopper::default();
    let (own, own_stop) = (stopper.clone(), stop.clone());
    let work = tokio::task::spawn_blocking(move || carry_out(&config, own, &own_stop));
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = stop.cancelled() => {
            stopper.stop();
            work.await
        }
    };
    outcome.map_err(|error| RunError::Threads(std::io::Error::other(error)))?
}

fn carry_out(config: &VerifyConfig, stopper: Stopper, stop: &CancellationToken) -> Result<(u8, String), RunError> {
    let report = read(&config.results)?;
    let model = exported(&config.results, &report)?;
    let loaded = load_model(&model)?;
    let inputs: Vec<String> = loaded.inputs().iter().map(|input| input.name.clone()).collect();
    let outputs: Vec<String> = loaded.outputs().map(str::to_owned).collect();
    // What is not installed is told before the data are read.
    let runtime = Runtime::start(config.runtime, &config.python, &model, &inputs, &outputs, stopper)
        .map_err(|error| if stop.is_cancelled() { stopped() } else { error.into() })?;
    Verification::prepare(config, report, model)?.compare(config, runtime, stop)
}

fn stopped() -> RunError {
    CoreError::from(EvaluatorError::Stopped(Stage::Validation)).into()
}

/// The exported model and the data, ready for both.
struct Verification {
    report: Value,
    model: PathBuf,
    prepared: Prepared,
    candidate: Candidate,
    samples: Vec<SampleIndex>,
}

impl Verification {
    fn prepare(config: &VerifyConfig, report: Value, model: PathBuf) -> Result<Verification, RunError> {
        let mut run = RunConfig::clone(&config.run);
        run.request.model.clone_from(&model);
        let prepared = prepare(&run)?;
        let candidate = prepared.candidate()?;
        let mut samples = prepared.validation_set.samples.clone();
        if let Some(subset) = config.subset {
            samples.truncate(subset.get());
        }
        Ok(Verification { report, model, prepared, candidate, samples })
    }

    fn compare(
        &self,
        config: &VerifyConfig,
        mut runtime: Runtime,
        stop: &CancellationToken,
    ) -> Result<(u8, String), RunError> {
        let Verification { prepared, candidate, samples, .. } = self;
        let (_, engine) = worker_parts("verify", threads(config.run.threads), 1)?;
        let origin = Arc::new(LocalOrigin::new(prepared.artifacts.clone()));
        let artifacts: Arc<dyn ArtifactSource> = Arc::new(ArtifactCache::new(origin, CACHE_BYTES, None));
        let chunk = chunk_samples(prepared);
        let mut shown = Progress::new(ProgressStyle::choose(config.run.progress));
        let mut tally = Tally::new(prepared);
        for part in samples.chunks(chunk) {
            if stop.is_cancelled() {
                return Err(stopped());
            }
            let workload = prepared.validation_set.workload;
            let passages = engine.passages(workload, candidate, part, &artifacts).map_err(RunError::Task)?;
            let rows: Vec<_> = passages.iter().map(|passage| passage.inputs.as_slice()).collect();
            let theirs =
                runtime.run(&rows).map_err(|error| if stop.is_cancelled() { stopped() } else { error.into() })?;
            for ((sample, ours), theirs) in part.iter().zip(passages).zip(theirs) {
                tally.add(*sample, &ours, &theirs, config.runtime.package())?;
            }
            let done = tally.agreement.samples as u64;
            let news = StageProgress {
                stage: format!("running {}", config.runtime.package()),
                done,
                total: samples.len() as u64,
                workers: 1,
            };
            shown.update(&news, Instant::now());
        }
        shown.finish();
        self.conclude(config, &runtime.title(), &tally)
    }

    fn conclude(&self, config: &VerifyConfig, title: &str, tally: &Tally<'_>) -> Result<(u8, String), RunError> {
        let (promises, note) = self.promises(tally.agreement.samples);
        let mut rows = Vec::new();
        for (index, (spec, _)) in self.prepared.metrics.iter().enumerate() {
            let (ours, theirs) = (tally.value(index, &tally.ours)?, tally.value(index, &tally.theirs)?);
            let promised = promises.iter().find(|(name, _)| *name == spec.name).map(|(_, value)| *value);
            let allowed = config.tolerance.unwrap_or_else(|| allowed(ours, tally.agreement.samples));
            rows.push(Row { metric: spec.name.clone(), promised, ours, theirs, allowed });
        }
        let table = Table {
            runtime: config.runtime.package(),
            title: title.to_owned(),
            model: self.model.clone(),
            rows,
            agreement: tally.agreement.clone(),
            note,
        };
        let code = if table.is_kept() { exit::SUCCESS } else { exit::GOAL_MISSED };
        Ok((code, table.to_string()))
    }

    /// What the report says about these metrics, where it speaks of just these samples; otherwise why it does not.
    fn promises(&self, samples: usize) -> (Vec<(String, f64)>, Option<&'static str>) {
        let run = &self.report["run"];
        let (Some(names), Some(values)) = (run["metrics"].as_array(), run["final_values"].as_array()) else {
            return (Vec::new(), Some("the run measured no metrics (DefaultQuantization), so it promised none"));
        };
        if samples != self.prepared.validation.manifest.samples.len() {
            return (Vec::new(), Some("the report's metrics are those of all samples, so they are not compared"));
        }
        let manifest = self.report.pointer("/data/validation/manifest").and_then(Value::as_str);
        if manifest != Some(self.prepared.validation.digest.to_string().as_str()) {
            return (Vec::new(), Some("these are not the samples of the run, so its metrics are not compared"));
        }
        if !run["hold_out"].is_null() {
            return (Vec::new(), Some("the run held samples out, so its metrics are those of two parts, not of all"));
        }
        let pair = |(name, value): (&Value, &Value)| Some((name.as_str()?.to_owned(), value.as_f64()?));
        (names.iter().zip(values).filter_map(pair).collect(), None)
    }
}

/// The model a report speaks of, beside it.
fn exported(results: &Path, report: &Value) -> Result<PathBuf, RunError> {
    let refuse = |problem: &str| RunError::Report { path: results.to_owned(), problem: problem.to_owned() };
    let name = report.pointer("/model/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() || name.contains(['/', '\\', '\0']) {
        return Err(refuse("it names no model"));
    }
    let folder = if results.is_dir() { results } else { results.parent().unwrap_or(Path::new("")) };
    Ok(folder.join(format!("{name}.onnx")))
}

/// Samples a chunk holds.
fn chunk_samples(prepared: &Prepared) -> usize {
    let graph = &prepared.graph;
    let elements = |id: &holdfast_common::graph::TensorId| graph.tensor(*id).shape.iter().product::<usize>();
    // Eight bytes are the most an element takes.
    let bytes: usize = graph.inputs.iter().chain(&graph.outputs).map(elements).sum::<usize>().saturating_mul(8);
    (CHUNK_BYTES / bytes.max(1)).clamp(1, CHUNK_SAMPLES)
}

/// A tenth of a point or one sample, whichever is larger; a share of metrics that are above 1.
fn allowed(value: f64, samples: usize) -> f64 {
    TOLERANCE.max(1.0 / samples.max(1) as f64) * value.abs().max(1.0)
}

/// What came out on both sides, so far.
struct Tally<'a> {
    prepared: &'a Prepared,
    outputs: Vec<String>,
    /// Per sample, per metric.
    ours: Vec<Vec<Vec<f64>>>,
    theirs: Vec<Vec<Vec<f64>>>,
    agreement: Agreement,
}

impl<'a> Tally<'a> {
    fn new(prepared: &'a Prepared) -> Tally<'a> {
        let outputs = prepared.model.outputs().map(str::to_owned).collect();
        Tally { prepared, outputs, ours: Vec::new(), theirs: Vec::new(), agreement: Agreement::default() }
    }

    fn add(
        &mut self,
        sample: SampleIndex,
        ours: &Passage,
        theirs: &[ArrayD<f32>],
        runtime: &'static str,
    ) -> Result<(), RunError> {
        let entry = self.prepared.validation.manifest.samples.get(sample.0 as usize);
        let name = entry.map_or("?", |entry| entry.name.as_str());
        let refuse =
            |error: MetricError| RuntimeError::Outputs { runtime, problem: format!("sample `{name}`: {error}") };
        let [error, _] = distances(&ours.outputs, theirs).map_err(refuse)?;
        let contributions = |values: &[ArrayD<f32>]| {
            let outputs = Outputs { names: &self.outputs, values };
            let annotation = entry.map_or(&holdfast_common::dataset::Annotation::None, |entry| &entry.annotation);
            let metrics = self.prepared.metrics.iter();
            metrics.map(|(_, metric)| metric.contribution(&outputs, annotation)).collect::<Result<Vec<_>, _>>()
        };
        let (own, other) = (contributions(&ours.outputs)?, contributions(theirs).map_err(refuse)?);
        self.ours.push(own);
        self.theirs.push(other);
        let read = self.prepared.metrics.first().and_then(|(spec, _)| spec.output.as_ref());
        let position = read.and_then(|name| self.outputs.iter().position(|output| output == name)).unwrap_or(0);
        self.agreement.add(ours.outputs.get(position), theirs.get(position), ours.outputs == theirs, error);
        Ok(())
    }

    fn value(&self, metric: usize, contributions: &[Vec<Vec<f64>>]) -> Result<f64, MetricError> {
        let mut parts = contributions.iter().filter_map(|parts| parts.get(metric)).map(Vec::as_slice);
        self.prepared.metrics[metric].1.fold(&mut parts)
    }
}
