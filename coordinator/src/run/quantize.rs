//! `holdfast quantize`: the whole run, from files to the quantized model and its report.

use super::RunError;
use super::annotate::{annotate, labels};
use super::evaluate::measure;
use super::machine::isa_name;
use super::overview::{default_overview, overview};
use super::prepare::{Prepared, prepare_float, start};
use super::watch::{Witness, show_progress};
use crate::cli::{RunConfig, exit};
use crate::cluster::Cluster;
use crate::config::Algorithm;
use crate::output::{OutputDir, REPORT_HTML, REPORT_JSON};
use crate::report::{
    DataInfo, DatasetInfo, EngineInfo, ModelInfo, Overview, REPORT_SCHEMA, Report, Timings, WorkerInfo, render_html,
};
use crate::terminal::summary;
use holdfast_common::evaluation::Candidate;
use holdfast_common::graph::Graph;
use holdfast_common::model::Model;
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_core::evaluator::{Evaluator, Stage};
use holdfast_core::observer::Observer;
use holdfast_core::parameters::Parameters;
use holdfast_core::quantize::calibrate_and_quantize;
use holdfast_core::record::DefaultRecord;
use holdfast_core::transform::{Source, Transformed, transform};
use holdfast_core::{CoreError, Problem, SampleSet, run};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Name of the scheme file: quant params of every quantizer and the reverted groups, for programs.
const SCHEME_JSON: &str = "scheme.json";

/// Name of the quantized model before bias correction, with nothing reverted (`dump_intermediate_model`).
const INTERMEDIATE_MODEL: &str = "intermediate_model.onnx";

/// What is written to `scheme.json`.
#[derive(Serialize)]
struct SchemeFile<'a> {
    /// Quantizers, groups, biases.
    scheme: &'a Scheme,
    /// Groups that are float in the written model.
    reverted: &'a [GroupId],
}

/// What an algorithm leaves.
struct Finished<R> {
    scheme: Option<Scheme>,
    reverted: Vec<GroupId>,
    record: R,
    overview: Overview,
}

/// Quantizes and writes; returns the exit code and the summary for the terminal.
pub async fn quantize(config: RunConfig, stop: CancellationToken) -> Result<(u8, String), RunError> {
    let started = Instant::now();
    config.request.parameters.check()?;
    let output = OutputDir::create(&config.output_dir)?;
    let for_scan = config.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare_float(&for_scan))
        .await
        .map_err(|error| RunError::Threads(std::io::Error::other(error)))??;
    let running = start(&config, prepared.artifacts.clone(), &stop)?;
    let bars = CancellationToken::new();
    let progress = show_progress(&running.cluster, config.progress, bars.clone());
    let budget = config.request.parameters.search.budget.seconds;
    let witness = Witness::new(running.cluster.clone(), started, budget);
    let outcome = carry_out(&config, prepared, &running.cluster, &witness, &output, started).await;
    bars.cancel();
    // The bars are gone either way; a panic while drawing must not hide the run's own outcome.
    let _ = progress.await;
    running.stop().await;
    outcome
}

async fn carry_out(
    config: &RunConfig,
    prepared: Prepared,
    cluster: &Cluster,
    witness: &Witness,
    output: &OutputDir,
    started: Instant,
) -> Result<(u8, String), RunError> {
    let prepared = match config.request.annotation_free {
        Some(threshold) => annotate(cluster, prepared, threshold).await?,
        None => prepared,
    };
    let job = Job { config, prepared: &prepared, cluster, witness, output, started, dumped: Dumped::default() };
    match config.request.algorithm {
        Algorithm::AccuracyAwareQuantization => job.accuracy_aware().await,
        Algorithm::DefaultQuantization => job.default_quantization().await,
    }
}

/// One run: what is asked, with what, by whom, to where.
struct Job<'a> {
    config: &'a RunConfig,
    prepared: &'a Prepared,
    cluster: &'a Cluster,
    witness: &'a Witness,
    output: &'a OutputDir,
    started: Instant,
    dumped: Dumped,
}

/// Where the intermediate model was written last, or why it could not be.
type Dumped = Arc<Mutex<Option<Result<PathBuf, RunError>>>>;

/// Writes a model quantized by this scheme, before bias correction, with nothing reverted.
fn dump(model: &Model, graph: &Graph, scheme: &Scheme, output: &OutputDir) -> Result<PathBuf, RunError> {
    let uncorrected = Scheme { biases: BTreeMap::new(), codes: BTreeMap::new(), ..scheme.clone() };
    let bytes = model.export_qdq(&uncorrected, &BTreeSet::new(), graph).map_err(RunError::Export)?;
    Ok(output.write(INTERMEDIATE_MODEL, &bytes)?)
}

impl Job<'_> {
    /// Where the request asks for it, writes the intermediate model as soon as there is one, and again whenever another
    /// takes its place: a run that is stopped later leaves it behind.
    fn dump_when_quantized(&self, subject: &Subject<'_>) {
        if !self.config.request.dump_intermediate_model {
            return;
        }
        let (model, graph) = (subject.model.clone(), subject.graph.clone());
        let (output, dumped) = (self.output.clone(), self.dumped.clone());
        self.witness.on_quantized(Box::new(move |scheme| {
            let result = dump(&model, &graph, scheme, &output);
            *dumped.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }));
    }

    async fn accuracy_aware(&self) -> Result<(u8, String), RunError> {
        let Job { config, prepared, cluster, .. } = *self;
        let mut parameters = config.request.parameters.clone();
        let transformed = transformed(prepared, cluster, &parameters).await?;
        let subject = Subject::of(prepared, transformed.as_ref());
        if let Some(transformed) = &transformed {
            parameters.quantization.clone_from(&transformed.parameters);
        }
        self.dump_when_quantized(&subject);
        let labels = labels(prepared);
        let problem = Problem {
            graph: subject.graph,
            calibration: subject.calibration.clone(),
            validation: subject.validation.clone(),
            baseline: Some(prepared.validation_set.workload),
            metrics: &prepared.metrics,
            labels: labels.as_deref(),
        };
        let mut conclusion = run(cluster, &problem, &parameters, self.witness).await?;
        if let Some(transformed) = &transformed {
            conclusion.record.add_transformations(transformed);
        }
        let overview = overview(&config.request, prepared.model_digest, &conclusion);
        let code = if conclusion.record.outcome.is_met() { exit::SUCCESS } else { config.goal_missed_exit_code };
        let finished =
            Finished { scheme: conclusion.scheme, reverted: conclusion.reverted, record: conclusion.record, overview };
        let text = self.write_results(&subject, &finished)?;
        Ok((code, text + &self.measured(&subject, &finished).await?))
    }

    async fn default_quantization(&self) -> Result<(u8, String), RunError> {
        let Job { config, prepared, cluster, .. } = *self;
        let parameters = &config.request.parameters;
        let transformed = transformed(prepared, cluster, parameters).await?;
        let subject = Subject::of(prepared, transformed.as_ref());
        self.dump_when_quantized(&subject);
        let quantization = transformed.as_ref().map_or(&parameters.quantization, |transformed| &transformed.parameters);
        let (graph, set) = (subject.graph, &subject.calibration);
        let quantized = calibrate_and_quantize(cluster, graph, set, quantization, parameters.mode).await?;
        self.witness.quantized(&quantized.scheme);
        let overview = default_overview(&config.request, prepared.model_digest, &quantized.scheme);
        let record = DefaultRecord {
            transformations: transformed.as_ref().map_or(Vec::new(), |transformed| transformed.record.clone()),
            bias_corrections: quantized.corrections,
            layer_tunings: quantized.tunings,
        };
        let finished = Finished { scheme: Some(quantized.scheme), reverted: Vec::new(), record, overview };
        let text = self.write_results(&subject, &finished)?;
        Ok((exit::SUCCESS, text + &self.measured(&subject, &finished).await?))
    }

    /// Where `--evaluate` asks for them, all metrics of the written model on the whole validation data.
    async fn measured<R>(&self, subject: &Subject<'_>, finished: &Finished<R>) -> Result<String, RunError> {
        if !self.config.evaluate {
            return Ok(String::new());
        }
        let (set, candidate) = match &finished.scheme {
            None => (&self.prepared.validation_set, Candidate::baseline()),
            Some(scheme) => {
                let json =
                    serde_json::to_vec(scheme).map_err(|source| RunError::Json { what: "the scheme", source })?;
                let scheme = self.cluster.publish(json).await.map_err(CoreError::from)?;
                (&subject.validation, Candidate { scheme: Some(scheme), reverted: finished.reverted.clone() })
            }
        };
        let lines = measure(self.cluster, self.prepared, set, Stage::Validation, candidate).await?;
        Ok(format!("\n{lines}"))
    }

    fn write_results<R: Serialize + Clone>(
        &self,
        subject: &Subject<'_>,
        finished: &Finished<R>,
    ) -> Result<String, RunError> {
        let Job { config, prepared, cluster, witness, output, started, .. } = *self;
        let request = &config.request;
        let reverted: BTreeSet<GroupId> = finished.reverted.iter().copied().collect();
        let model = match &finished.scheme {
            Some(scheme) => subject.model.export_qdq(scheme, &reverted, subject.graph).map_err(RunError::Export)?,
            None => prepared.model.to_bytes(),
        };
        let mut files: Vec<PathBuf> = vec![output.write(&format!("{}.onnx", request.model_name), &model)?];
        if let Some(dumped) = self.dumped.lock().unwrap_or_else(PoisonError::into_inner).take() {
            files.push(dumped?);
        }
        let json = |what, source| RunError::Json { what, source };
        if let Some(scheme) = &finished.scheme {
            let file = SchemeFile { scheme, reverted: &finished.reverted };
            let text = serde_json::to_vec_pretty(&file).map_err(|source| json("the scheme", source))?;
            files.push(output.write(SCHEME_JSON, &text)?);
        }
        let timings = timings(cluster, witness, started);
        let validation = info(&request.validation, &prepared.validation);
        let samples = prepared.validation_set.samples.len();
        let calibration = match (&request.calibration, &prepared.calibration) {
            (Some(settings), Some(data)) => info(settings, data),
            _ => validation.clone(),
        };
        let report = Report {
            schema: REPORT_SCHEMA,
            engine: EngineInfo::current(),
            model: ModelInfo { name: request.model_name.clone(), digest: prepared.model_digest },
            data: DataInfo { validation: DatasetInfo { samples, ..validation }, calibration },
            parameters: request.clone(),
            outcome: finished.overview.outcome,
            run: finished.record.clone(),
            timings: timings.clone(),
        };
        let text = report.to_json().map_err(|source| json("the report", source))?;
        files.push(output.write(REPORT_JSON, &text)?);
        files.push(output.write(REPORT_HTML, render_html(&finished.overview, &timings).as_bytes())?);
        Ok(summary(&finished.overview, &timings, &files))
    }
}

/// The model that is quantized: the user's, or what transformations made of it.
struct Subject<'a> {
    model: &'a Model,
    graph: &'a Graph,
    calibration: SampleSet,
    validation: SampleSet,
}

impl<'a> Subject<'a> {
    fn of(prepared: &'a Prepared, transformed: Option<&'a Transformed>) -> Subject<'a> {
        let (calibration, validation) = (prepared.calibration_set.clone(), prepared.validation_set.clone());
        match transformed {
            None => Subject { model: &prepared.model, graph: &prepared.graph, calibration, validation },
            Some(new) => Subject {
                model: &new.model,
                graph: &new.graph,
                calibration: SampleSet { workload: new.calibration, ..calibration },
                validation: SampleSet { workload: new.validation, ..validation },
            },
        }
    }
}

/// What the transformations that the parameters ask for make of the model; `None` where nothing changes.
async fn transformed(
    prepared: &Prepared,
    cluster: &Cluster,
    parameters: &Parameters,
) -> Result<Option<Transformed>, RunError> {
    let source = Source {
        model: &prepared.model,
        graph: &prepared.graph,
        calibration: &prepared.calibration_workload,
        calibration_set: &prepared.calibration_set,
        validation: &prepared.validation_workload,
    };
    Ok(transform(cluster, &source, &parameters.quantization, parameters.mode).await?)
}

fn info(settings: &crate::config::DatasetConfig, data: &super::data::PublishedData) -> DatasetInfo {
    DatasetInfo::new(settings, data.digest, data.manifest.samples.len())
}

fn timings(cluster: &Cluster, witness: &Witness, started: Instant) -> Timings {
    let counts = cluster.counts();
    let workers = counts.workers.iter().map(|(name, worker)| WorkerInfo {
        name: name.clone(),
        isa: isa_name(worker.isa).to_owned(),
        threads: worker.cores as usize,
        samples: worker.samples,
    });
    Timings {
        wall_seconds: started.elapsed().as_secs_f64(),
        stages: witness.stage_timings(),
        workers: workers.collect(),
        samples_computed: counts.computed,
        samples_reused: counts.from_memo,
        ..Timings::default()
    }
}
