//! Makes a scheme from an array of calibration samples, without a cluster: what the speed and parity scripts quantize with.
//!
//! Usage: `scheme MODEL INPUTS.npy SCHEME.json [EXPORTED.onnx] [--preset mixed] [--weights pertensor] [--bias model]
//! [--model-type transformer]`. INPUTS is one array a model input, joined by commas, with one sample per first index.

use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult, StatisticSpec, Want};
use holdfast_common::graph::{Graph, TensorId};
use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_core::accuracy_aware::SampleSet;
use holdfast_core::evaluator::{Evaluator, EvaluatorError, Stage};
use holdfast_core::parameters::{Granularity, Mode, ModelType, Preset, QuantizationParameters};
use holdfast_core::quantize::calibrate_and_quantize;
use holdfast_kernels::Isa;
use holdfast_tests::arrays::Samples;
use holdfast_worker::plan::{Observation, PackedCache, Plan, PlanError, Variant};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Mutex;

fn main() -> Result<(), Box<dyn Error>> {
    let mut parameters = QuantizationParameters::default();
    let mut plain = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--preset" if arguments.next().as_deref() == Some("mixed") => parameters.preset = Preset::Mixed,
            "--weights" if arguments.next().as_deref() == Some("pertensor") => {
                parameters.weights.granularity = Some(Granularity::PerTensor);
            }
            "--model-type" if arguments.next().as_deref() == Some("transformer") => {
                parameters.model_type = Some(ModelType::Transformer);
            }
            "--bias" if arguments.next().as_deref() == Some("model") => parameters.threshold = Some(f64::MIN_POSITIVE),
            _ => plain.push(argument),
        }
    }
    let mut plain = plain.into_iter();
    let (Some(path), Some(inputs), Some(output)) = (plain.next(), plain.next(), plain.next()) else {
        return Err(
            "usage: scheme MODEL INPUTS.npy SCHEME.json [EXPORTED.onnx] [--preset mixed] [--weights pertensor] [--bias model] \
             [--model-type transformer]"
                .into(),
        );
    };
    let model = Model::load(&std::fs::read(path)?, &NoExternalData)?;
    let inputs = Samples::read(&model, &inputs)?;
    let graph = model.graph(inputs.shapes())?;
    let local = Local { graph, inputs, published: Mutex::new(BTreeMap::new()) };
    let workload = Digest::of(b"an array");
    let samples = (0..local.inputs.count() as u32).map(SampleIndex).collect();
    let set = SampleSet { workload, samples };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let quantized = calibrate_and_quantize(&local, &local.graph, &set, &parameters, Mode::Default);
    let quantized = runtime.block_on(quantized)?;
    std::fs::write(output, serde_json::to_vec(&quantized.scheme)?)?;
    if let Some(exported) = plain.next() {
        std::fs::write(exported, model.export_qdq(&quantized.scheme, &BTreeSet::new(), &local.graph)?)?;
    }
    for group in &quantized.scheme.groups {
        println!("{}: {}", group.name, group.operations.join(", "));
    }
    Ok(())
}

/// Takes statistics in this thread.
struct Local {
    graph: Graph,
    inputs: Samples,
    published: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

impl Local {
    fn statistics(&self, list: &Digest) -> Result<Vec<SampleResult>, Box<dyn Error>> {
        let bytes = self.published.lock().map_err(|_| "poisoned")?.get(list).cloned().ok_or("not published")?;
        let specs: Vec<StatisticSpec> = serde_json::from_slice(&bytes)?;
        let find = |spec: &StatisticSpec| self.graph.find_tensor(&spec.tensor).ok_or("no such tensor");
        let tensors: Vec<TensorId> = specs.iter().map(find).collect::<Result<_, _>>()?;
        let observed: BTreeSet<TensorId> = tensors.iter().copied().collect();
        let isa = Isa::best();
        let plan = Plan::new(&self.graph, Variant::Baseline, isa, &PackedCache::default(), &observed)?;
        let mut samples = Vec::new();
        for sample in self.inputs.all() {
            samples.push(plan.run(
                |port, buffer| {
                    let position = self.graph.inputs.iter().position(|input| *input == port.tensor).unwrap_or(0);
                    port.write(&sample[position], buffer)
                },
                |finished| {
                    let parts = specs.iter().zip(&tensors).filter_map(|(spec, tensor)| {
                        let (placement, values) = finished.observed(*tensor)?;
                        Some(Observation { spec, placement, values }.take(isa))
                    });
                    Ok::<_, PlanError>(SampleResult { parts: parts.collect() })
                },
            )?);
        }
        Ok(samples)
    }
}

impl Evaluator for Local {
    async fn publish(&self, bytes: Vec<u8>) -> Result<Digest, EvaluatorError> {
        let digest = Digest::of(&bytes);
        self.published.lock().map_err(|_| EvaluatorError::Stopped(Stage::Calibration))?.insert(digest, bytes);
        Ok(digest)
    }

    async fn evaluate(
        &self,
        stage: Stage,
        evaluations: Vec<Evaluation>,
    ) -> Result<Vec<Vec<SampleResult>>, EvaluatorError> {
        let results = evaluations.iter().map(|evaluation| match &evaluation.want {
            Want::Statistics(list) => self.statistics(list).map_err(|error| error.to_string()),
            Want::Contributions | Want::Predictions | Want::Distance => {
                Err("only statistics are taken here".to_owned())
            }
        });
        results.map(|result| result.map_err(|message| EvaluatorError::Failed { stage, message })).collect()
    }
}
