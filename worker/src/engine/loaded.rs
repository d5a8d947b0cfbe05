//! What has been fetched and prepared: workloads, models, schemes, statistics lists and plans, each bounded in number.

use super::broken_artifact;
use crate::artifact::{ArtifactError, ArtifactSource};
use crate::data::{DataError, InputSpec, PackSource, PixelCache, SamplePipeline};
use crate::plan::{Layout, PackedCache, Plan, PlanError, Port, PortBuffer, Variant};
use bytes::Bytes;
use holdfast_common::Digest;
use holdfast_common::dataset::{Annotation, Manifest, Pack};
use holdfast_common::evaluation::{Candidate, SampleIndex, StatisticSpec, Want, Workload};
use holdfast_common::graph::{Graph, TensorData, TensorId};
use holdfast_common::metric::{self, Metric};
use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_common::scheme::Scheme;
use holdfast_kernels::Isa;
use holdfast_proto::message::TaskFailure;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Workloads and models kept at a time: calibration, validation and a few earlier ones.
const WORKLOADS_MAX: usize = 8;
/// Schemes and statistics lists kept at a time.
const SCHEMES_MAX: usize = 32;
/// Plans kept at a time; a ranking walks through all groups again and again.
const PLANS_MAX: usize = 256;

/// An artifact's bytes, or the failure that says that they cannot be had.
fn get(source: &Arc<dyn ArtifactSource>, digest: Digest) -> Result<Bytes, TaskFailure> {
    let missing = |error: ArtifactError| TaskFailure::ArtifactMissing { digest, message: error.to_string() };
    source.get(&digest).map_err(missing)
}

/// A bounded map that forgets what was made first.
struct Recent<K, V> {
    entries: Mutex<VecDeque<(K, V)>>,
    most: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn new(most: usize) -> Recent<K, V> {
        Recent { entries: Mutex::new(VecDeque::new()), most }
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<(K, V)>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some((_, value)) = self.entries().iter().find(|(known, _)| *known == key) {
            return Ok(value.clone());
        }
        let value = make()?;
        let mut entries = self.entries();
        if entries.len() >= self.most {
            entries.pop_front();
        }
        entries.push_back((key, value.clone()));
        Ok(value)
    }
}

/// A model in graph form, with the weights packed for it so far.
struct LoadedModel {
    graph: Graph,
    packed: PackedCache,
}

/// A workload, ready to prepare samples and to compute metrics.
pub struct LoadedWorkload {
    digest: Digest,
    model: Arc<LoadedModel>,
    pipeline: SamplePipeline,
    metrics: Vec<Box<dyn Metric>>,
    output_names: Vec<String>,
}

impl LoadedWorkload {
    /// The metrics, in the workload's order.
    pub fn metrics(&self) -> &[Box<dyn Metric>] {
        &self.metrics
    }

    /// The model's output names.
    pub fn output_names(&self) -> &[String] {
        &self.output_names
    }

    /// What is known about a sample.
    pub fn annotation(&self, sample: SampleIndex) -> &Annotation {
        let entry = self.pipeline.manifest().samples.get(sample.0 as usize);
        entry.map_or(&Annotation::None, |entry| &entry.annotation)
    }

    /// The position of a graph input among the model's inputs.
    pub fn input_position(&self, tensor: TensorId) -> usize {
        self.model.graph.inputs.iter().position(|input| *input == tensor).unwrap_or(0)
    }

    /// A sample's inputs in model order, each with a leading axis of length 1.
    pub fn inputs(&self, sample: SampleIndex) -> Result<Vec<TensorData>, DataError> {
        self.pipeline.prepare(sample)
    }

    /// Writes a sample's input where a plan wants it.
    pub fn write_input(
        &self,
        sample: SampleIndex,
        input: usize,
        port: &Port,
        buffer: PortBuffer<'_>,
    ) -> Result<(), DataError> {
        let buffer = match buffer {
            PortBuffer::F32(buffer)
                if port.placement.layout == Layout::ChannelsLast && port.placement.shape.len() == 4 =>
            {
                return self.pipeline.prepare_nhwc_f32(sample, input, buffer, &port.placement.image);
            }
            other => other,
        };
        let data = self.pipeline.prepare_input(sample, input)?;
        let refuse = |error: PlanError| DataError::Buffer { input: port.name.clone(), problem: error.to_string() };
        port.write(&data, buffer).map_err(refuse)
    }
}

/// What a tile wants, resolved.
pub enum Wanted {
    /// Metric contributions.
    Contributions,
    /// Predictions.
    Predictions,
    /// Distances to the float model's outputs.
    Distance,
    /// Statistics.
    Statistics {
        /// The list's digest.
        digest: Digest,
        /// What to take.
        specs: Arc<Vec<StatisticSpec>>,
        /// Of which tensors, in the same order.
        tensors: Vec<TensorId>,
    },
}

/// Identity of a plan: workload (for its model and shapes), candidate, statistics list.
type PlanKey = (Digest, Candidate, Option<Digest>);

/// Identity of a graph: the model and the input shapes it was made for.
type ModelKey = (Digest, BTreeMap<String, Vec<usize>>);

/// Everything prepared so far.
pub struct Library {
    isa: Isa,
    pixels: Arc<PixelCache>,
    models: Recent<ModelKey, Arc<LoadedModel>>,
    workloads: Recent<Digest, Arc<LoadedWorkload>>,
    schemes: Recent<Digest, Arc<Scheme>>,
    statistics: Recent<Digest, Arc<Vec<StatisticSpec>>>,
    plans: Recent<PlanKey, Arc<Plan>>,
}

impl Library {
    /// An empty library.
    pub fn new(isa: Isa, pixels: Arc<PixelCache>) -> Library {
        Library {
            isa,
            pixels,
            models: Recent::new(WORKLOADS_MAX),
            workloads: Recent::new(WORKLOADS_MAX),
            schemes: Recent::new(SCHEMES_MAX),
            statistics: Recent::new(SCHEMES_MAX),
            plans: Recent::new(PLANS_MAX),
        }
    }

    /// The instruction set plans are made for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// A workload by digest.
    pub fn workload(
        &self,
        digest: Digest,
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Arc<LoadedWorkload>, TaskFailure> {
        self.workloads.get(digest, || {
            let broken = |problem: &dyn std::fmt::Display| broken_artifact(digest, "workload", problem);
            let workload: Workload =
                serde_json::from_slice(&get(artifacts, digest)?).map_err(|error| broken(&error))?;
            let manifest = Manifest::from_json(&get(artifacts, workload.manifest)?)
                .map_err(|error| broken_artifact(workload.manifest, "manifest", &error))?;
            let model = self.model(workload.model, &manifest, artifacts)?;
            let inputs: Vec<InputSpec> = model
                .graph
                .inputs
                .iter()
                .map(|input| {
                    let tensor = model.graph.tensor(*input);
                    let shape = tensor.shape.iter().copied().map(Some).collect();
                    InputSpec { name: tensor.name.clone(), data_type: tensor.data_type, shape }
                })
                .collect();
            let source = Arc::new(Packs { artifacts: Arc::clone(artifacts) });
            let cache = Some(Arc::clone(&self.pixels));
            let pipeline = SamplePipeline::new(Arc::new(manifest), &workload.preprocessing, &inputs, source, cache)
                .map_err(|error| broken(&error))?;
            let metrics: Result<Vec<_>, _> = workload.metrics.iter().map(metric::build).collect();
            let metrics = metrics.map_err(|error| broken(&error))?;
            let output_names = model.graph.outputs.iter().map(|id| model.graph.tensor(*id).name.clone()).collect();
            Ok(Arc::new(LoadedWorkload { digest, model, pipeline, metrics, output_names }))
        })
    }

    fn model(
        &self,
        digest: Digest,
        manifest: &Manifest,
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Arc<LoadedModel>, TaskFailure> {
        let broken = |problem: &dyn std::fmt::Display| broken_artifact(digest, "model", problem);
        let model = Model::load(&get(artifacts, digest)?, &NoExternalData).map_err(|error| broken(&error))?;
        let shapes = model.sample_shapes(manifest).map_err(|error| broken(&error))?;
        self.models.get((digest, shapes.clone()), || {
            let graph = model.graph(&shapes).map_err(|error| broken(&error))?;
            Ok(Arc::new(LoadedModel { graph, packed: PackedCache::default() }))
        })
    }

    /// What a tile wants, with names resolved.
    pub fn wanted(
        &self,
        want: &Want,
        workload: &LoadedWorkload,
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Wanted, TaskFailure> {
        let digest = match *want {
            Want::Contributions => return Ok(Wanted::Contributions),
            Want::Predictions => return Ok(Wanted::Predictions),
            Want::Distance => return Ok(Wanted::Distance),
            Want::Statistics(digest) => digest,
        };
        let broken = |problem: &dyn std::fmt::Display| broken_artifact(digest, "statistics list", problem);
        let specs = self.statistics.get(digest, || {
            serde_json::from_slice(&get(artifacts, digest)?).map(Arc::new).map_err(|error| broken(&error))
        })?;
        let names: BTreeMap<&str, usize> =
            workload.model.graph.tensors.iter().enumerate().map(|(id, tensor)| (tensor.name.as_str(), id)).collect();
        let tensors: Result<Vec<TensorId>, TaskFailure> = specs
            .iter()
            .map(|spec| {
                let known = names.get(spec.tensor.as_str()).map(|id| TensorId(*id));
                known.ok_or_else(|| broken(&format!("`{}` is not in the model", spec.tensor)))
            })
            .collect();
        Ok(Wanted::Statistics { digest, tensors: tensors?, specs })
    }

    /// The plan of a candidate.
    pub fn plan(
        &self,
        workload: &LoadedWorkload,
        candidate: &Candidate,
        wanted: &Wanted,
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Arc<Plan>, TaskFailure> {
        let statistics = match wanted {
            Wanted::Contributions | Wanted::Predictions | Wanted::Distance => None,
            Wanted::Statistics { digest, .. } => Some(*digest),
        };
        let model = &workload.model;
        self.plans.get((workload.digest, candidate.clone(), statistics), || {
            let plan = |variant| {
                let (graph, packed) = (&model.graph, &model.packed);
                let plan = match wanted {
                    Wanted::Contributions | Wanted::Predictions | Wanted::Distance => {
                        Plan::new(graph, variant, self.isa, packed, &BTreeSet::new())
                    }
                    Wanted::Statistics { tensors, .. } => {
                        Plan::observing(graph, variant, self.isa, packed, &tensors.iter().copied().collect())
                    }
                };
                let unsupported = |error: PlanError| TaskFailure::ModelUnsupported { message: error.to_string() };
                plan.map(Arc::new).map_err(unsupported)
            };
            let Some(digest) = candidate.scheme else { return plan(Variant::Baseline) };
            let scheme = self.schemes.get(digest, || {
                let scheme: Scheme = serde_json::from_slice(&get(artifacts, digest)?)
                    .map_err(|error| broken_artifact(digest, "scheme", &error))?;
                Ok::<_, TaskFailure>(Arc::new(scheme))
            })?;
            let reverted = candidate.reverted.iter().copied().collect();
            plan(Variant::Quantized { scheme: &scheme, digest, reverted: &reverted })
        })
    }
}

/// Packs as artifacts.
struct Packs {
    artifacts: Arc<dyn ArtifactSource>,
}

impl PackSource for Packs {
    fn read(&self, pack: &Pack) -> io::Result<Bytes> {
        self.artifacts.get(&pack.digest).map_err(io::Error::other)
    }
}
