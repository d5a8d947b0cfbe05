//! The engine: runs a tile's samples through its candidates' plans on the worker's own thread pool.
//!
//! Never here: sessions, leases, who asked.

mod bundle;
mod loaded;

use crate::artifact::ArtifactSource;
use crate::data::{DataError, PixelCache};
use crate::plan::{Finished, Observation, Plan, PlanError, Port, PortBuffer};
use crate::session::{StopFlag, TaskOutput, TaskRunner};
use bundle::Bundle;
use holdfast_common::Digest;
use holdfast_common::distance::distances;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult};
use holdfast_common::graph::TensorData;
use holdfast_common::metric::{MetricError, Outputs};
use holdfast_kernels::Isa;
use holdfast_proto::message::{Task, TaskFailure, Tile, TileResults};
use loaded::{Library, LoadedWorkload, Wanted};
use ndarray::ArrayD;
use rayon::prelude::*;
use std::sync::Arc;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Instruction set.
    pub isa: Isa,
    /// Threads, at least one; each runs one sample at a time.
    pub threads: usize,
    /// Bytes of decoded samples kept.
    pub pixel_cache_bytes: usize,
}

/// The engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The instruction set is not there.
    #[error("this machine cannot run {isa} kernels; it offers {}", available())]
    Isa {
        /// What was asked for.
        isa: Isa,
    },
    /// The threads cannot be started.
    #[error("start {threads} compute threads: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system says.
        source: rayon::ThreadPoolBuildError,
    },
}

fn available() -> String {
    Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// Runs tiles; shared by all tasks of a worker.
pub struct Engine {
    pool: rayon::ThreadPool,
    library: Library,
}

/// One sample on its way through a model.
#[derive(Clone, Debug)]
pub struct Passage {
    /// What the model's inputs were, in model order, each with a leading axis of length 1.
    pub inputs: Vec<TensorData>,
    /// What came out, in model order.
    pub outputs: Vec<ArrayD<f32>>,
}

/// Why one sample of a tile could not be evaluated.
enum SampleFailure {
    Stopped,
    /// The sample does not suit the model.
    Unsuitable(String),
    Failed(TaskFailure),
}

impl SampleFailure {
    /// Names the sample where it is to blame.
    fn of(self, sample: SampleIndex) -> SampleFailure {
        match self {
            SampleFailure::Unsuitable(message) => poison(sample, message),
            SampleFailure::Stopped | SampleFailure::Failed(_) => self,
        }
    }
}

impl From<SampleFailure> for TaskFailure {
    fn from(failure: SampleFailure) -> TaskFailure {
        match failure {
            SampleFailure::Failed(failure) => failure,
            SampleFailure::Unsuitable(message) => TaskFailure::ModelUnsupported { message },
            SampleFailure::Stopped => TaskFailure::RetryElsewhere { message: "the worker was told to stop".to_owned() },
        }
    }
}

impl From<PlanError> for SampleFailure {
    fn from(error: PlanError) -> SampleFailure {
        let message = error.to_string();
        match error {
            PlanError::Index { .. } => SampleFailure::Unsuitable(message),
            _ => SampleFailure::Failed(TaskFailure::ModelUnsupported { message }),
        }
    }
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the machine lacks the instruction set or cannot start the threads.
    pub fn new(options: EngineOptions) -> Result<Engine, EngineError> {
        if !options.isa.is_available() {
            return Err(EngineError::Isa { isa: options.isa });
        }
        let threads = options.threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|source| EngineError::Threads { threads, source })?;
        let pixels = Arc::new(PixelCache::new(options.pixel_cache_bytes));
        Ok(Engine { pool, library: Library::new(options.isa, pixels) })
    }

    /// Computes a tile: per candidate, per sample.
    ///
    /// `stop` is asked before every sample; a stopped tile fails as [`TaskFailure::RetryElsewhere`].
    ///
    /// # Errors
    ///
    /// [`TaskFailure`] says who is to blame: the sample, the model, an artifact, or this worker.
    pub fn compute(
        &self,
        tile: &Tile,
        artifacts: &Arc<dyn ArtifactSource>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<TileResults, TaskFailure> {
        let workload = self.library.workload(tile.workload, artifacts)?;
        let wanted = self.library.wanted(&tile.want, &workload, artifacts)?;
        let bundles = Bundle::all(&self.library, &workload, &tile.candidates, &wanted, artifacts)?;
        let float = match wanted {
            Wanted::Distance => Some(self.library.plan(&workload, &Candidate::baseline(), &wanted, artifacts)?),
            Wanted::Contributions | Wanted::Predictions | Wanted::Statistics { .. } => None,
        };
        let rows: Result<Vec<Vec<SampleResult>>, SampleFailure> = self.pool.install(|| {
            tile.samples
                .par_iter()
                .map(|&sample| {
                    if stop() {
                        return Err(SampleFailure::Stopped);
                    }
                    let float = float.as_deref().map(|plan| outputs(&workload, plan, sample)).transpose();
                    let float = float.map_err(|failure| failure.of(sample))?.unwrap_or_default();
                    let reader = Reader { workload: &workload, wanted: &wanted, sample, isa: self.library.isa() };
                    let mut row = vec![SampleResult::default(); tile.candidates.len()];
                    for bundle in &bundles {
                        let write = |port: &Port, buffer: PortBuffer<'_>| write_input(&workload, sample, port, buffer);
                        let read = |position: usize, finished: &Finished<'_>| {
                            row[position] = reader.read(finished, &float)?;
                            Ok::<(), SampleFailure>(())
                        };
                        bundle.run(write, read).map_err(|failure| failure.of(sample))?;
                    }
                    Ok(row)
                })
                .collect()
        });
        bundles.iter().for_each(Bundle::finish);
        Ok(transposed(rows?, tile.candidates.len()))
    }

    /// Runs samples and gives back what went in and what came out, for comparison with other runtimes.
    ///
    /// # Errors
    ///
    /// As [`Engine::compute`].
    pub fn passages(
        &self,
        workload: Digest,
        candidate: &Candidate,
        samples: &[SampleIndex],
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Vec<Passage>, TaskFailure> {
        let workload = self.library.workload(workload, artifacts)?;
        let plan = self.library.plan(&workload, candidate, &Wanted::Contributions, artifacts)?;
        let passages: Result<Vec<Passage>, SampleFailure> = self.pool.install(|| {
            let pass = |&sample: &SampleIndex| {
                let inputs = workload.inputs(sample).map_err(|error| data_failure(sample, &error))?;
                let outputs = outputs(&workload, &plan, sample).map_err(|failure| failure.of(sample))?;
                Ok(Passage { inputs, outputs })
            };
            samples.par_iter().map(pass).collect()
        });
        Ok(passages?)
    }
}

impl TaskRunner for Engine {
    fn run(
        &self,
        task: &Task,
        artifacts: &Arc<dyn ArtifactSource>,
        stop: &StopFlag,
    ) -> Result<TaskOutput, TaskFailure> {
        let results = self.compute(&task.tile, artifacts, &|| stop.is_set())?;
        Ok(TaskOutput { results })
    }
}

/// From rows of samples to rows of candidates.
fn transposed(rows: Vec<Vec<SampleResult>>, candidates: usize) -> TileResults {
    let mut results: TileResults = (0..candidates).map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        for (candidate, result) in results.iter_mut().zip(row) {
            candidate.push(result);
        }
    }
    results
}

/// A sample's outputs.
fn outputs(workload: &LoadedWorkload, plan: &Plan, sample: SampleIndex) -> Result<Vec<ArrayD<f32>>, SampleFailure> {
    plan.run(|port, buffer| write_input(workload, sample, port, buffer), |finished| Ok(finished.outputs()))
}

fn write_input(
    workload: &LoadedWorkload,
    sample: SampleIndex,
    port: &Port,
    buffer: PortBuffer<'_>,
) -> Result<(), SampleFailure> {
    let input = workload.input_position(port.tensor);
    workload.write_input(sample, input, port, buffer).map_err(|error| data_failure(sample, &error))
}

/// Turns what a plan has computed of a sample into what is wanted of it.
struct Reader<'a> {
    workload: &'a LoadedWorkload,
    wanted: &'a Wanted,
    sample: SampleIndex,
    isa: Isa,
}

impl Reader<'_> {
    /// The result; `float` is the float model's outputs where distances to them are wanted.
    fn read(&self, finished: &Finished<'_>, float: &[ArrayD<f32>]) -> Result<SampleResult, SampleFailure> {
        let poisoned = |error: MetricError| poison(self.sample, error.to_string());
        let parts = match self.wanted {
            Wanted::Distance => vec![distances(float, &finished.outputs()).map_err(poisoned)?.to_vec()],
            Wanted::Contributions => {
                let values = finished.outputs();
                let outputs = Outputs { names: self.workload.output_names(), values: &values };
                let annotation = self.workload.annotation(self.sample);
                let parts = self.workload.metrics().iter().map(|metric| metric.contribution(&outputs, annotation));
                parts.collect::<Result<Vec<Vec<f64>>, MetricError>>().map_err(poisoned)?
            }
            Wanted::Predictions => {
                let values = finished.outputs();
                let outputs = Outputs { names: self.workload.output_names(), values: &values };
                let parts = self.workload.metrics().iter().map(|metric| metric.prediction(&outputs));
                parts.collect::<Result<Vec<Vec<f64>>, MetricError>>().map_err(poisoned)?
            }
            Wanted::Statistics { specs, tensors, .. } => {
                let mut parts = Vec::with_capacity(specs.len());
                for (spec, tensor) in specs.iter().zip(tensors) {
                    let Some((placement, values)) = finished.observed(*tensor) else {
                        return Err(PlanError::Scheme { problem: format!("`{}` is not observed", spec.tensor) }.into());
                    };
                    parts.push(Observation { spec, placement, values }.take(self.isa));
                }
                parts
            }
        };
        Ok(SampleResult { parts })
    }
}

fn poison(sample: SampleIndex, message: String) -> SampleFailure {
    SampleFailure::Failed(TaskFailure::PoisonSample { sample, message })
}

/// Who is to blame for data that cannot be read: the sample itself, unless its bytes could not be fetched.
fn data_failure(sample: SampleIndex, error: &DataError) -> SampleFailure {
    match error {
        DataError::Pack { .. } => SampleFailure::Failed(TaskFailure::RetryElsewhere { message: with_causes(error) }),
        _ => poison(sample, with_causes(error)),
    }
}

/// An error and what caused it, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// An artifact that the engine's own checks refuse.
fn broken_artifact(digest: Digest, what: &str, problem: &dyn std::fmt::Display) -> TaskFailure {
    TaskFailure::ModelUnsupported { message: format!("{what} {}: {problem}", digest.short()) }
}
