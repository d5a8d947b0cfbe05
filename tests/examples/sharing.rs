//! Measures what a ranking costs when candidates that begin alike run together: passes of the whole model, and time.
//!
//! Usage: `sharing MODEL INPUTS.npy SCHEME [SAMPLES]`. The inputs are float32 with one sample per first index; the scheme
//! is what the example `scheme` writes. Every group is reverted by itself, as a ranking does; one thread.

use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_core::schedule::TILE_CANDIDATES;
use holdfast_kernels::Isa;
use holdfast_worker::plan::{Fork, PackedCache, Plan, PlanError, Port, PortBuffer, Variant};
use ndarray::{ArrayD, Axis};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, scheme, rest @ ..] = arguments.as_slice() else {
        return Err("usage: sharing MODEL INPUTS.npy SCHEME [SAMPLES]".into());
    };
    let count = rest.first().map_or(Ok(16), |count| count.parse())?;
    let model = Model::load(&std::fs::read(model)?, &NoExternalData)?;
    let inputs: ArrayD<f32> = ndarray_npy::read_npy(inputs)?;
    let mut shape = inputs.shape().to_vec();
    shape[0] = 1;
    let input = model.inputs().first().ok_or("the model has no input")?;
    let graph = model.graph(&BTreeMap::from([(input.name.clone(), shape)]))?;
    let scheme: Scheme = serde_json::from_slice(&std::fs::read(scheme)?)?;
    let (digest, cache) = (scheme.digest()?, PackedCache::default());
    let plan = |reverted: &BTreeSet<GroupId>| {
        let variant = Variant::Quantized { scheme: &scheme, digest, reverted };
        Plan::new(&graph, variant, Isa::best(), &cache, &BTreeSet::new()).map(Arc::new)
    };
    let start = Instant::now();
    let trunk = plan(&BTreeSet::new())?;
    let branches: Result<Vec<(Arc<Plan>, Fork)>, PlanError> = scheme
        .group_ids()
        .map(|group| plan(&BTreeSet::from([group])).map(|plan| (Arc::clone(&plan), plan.fork(&trunk))))
        .collect();
    let branches = branches?;
    let prepared = start.elapsed().as_secs_f64() * 1e3 / (branches.len() + 1) as f64;

    let weight = |plan: &Plan| -> Vec<f64> {
        let instructions = plan.instructions();
        instructions.map(|(_, operations)| operations.iter().map(|op| graph.macs(*op) as f64).sum()).collect()
    };
    let whole: f64 = weight(&trunk).iter().sum();
    let tiles: Vec<&[(Arc<Plan>, Fork)]> = branches.chunks(TILE_CANDIDATES).collect();
    let mut spent = 0.0;
    for tile in &tiles {
        let furthest = tile.iter().map(|(_, fork)| fork.shared()).max().unwrap_or(0);
        spent += weight(&trunk)[..furthest].iter().sum::<f64>();
        spent += tile.iter().map(|(plan, fork)| weight(plan)[fork.shared()..].iter().sum::<f64>()).sum::<f64>();
    }
    let groups = branches.len() as f64;
    println!("{groups} groups, {prepared:.2} ms to prepare a candidate");
    println!("{:.2} passes of the whole model a sample, {:.3} of groups", spent / whole, spent / whole / groups);

    let (mut apart, mut together) = (0.0, 0.0);
    for sample in inputs.axis_iter(Axis(0)).take(count) {
        let write = |port: &Port, buffer: PortBuffer<'_>| {
            let PortBuffer::F32(buffer) = buffer else {
                return Err(PlanError::Scheme { problem: "the model input is not float".to_owned() });
            };
            port.placement.scatter(sample.iter().copied(), buffer);
            Ok::<(), PlanError>(())
        };
        let start = Instant::now();
        for (plan, _) in &branches {
            plan.run(write, |_| Ok(()))?;
        }
        apart += start.elapsed().as_secs_f64();
        let start = Instant::now();
        for tile in &tiles {
            trunk.run_branches(false, tile, write, |_, _| Ok(()))?;
        }
        together += start.elapsed().as_secs_f64();
    }
    println!("{:.3} of the time, {:.3} s instead of {:.3} s", together / apart, together, apart);
    Ok(())
}
