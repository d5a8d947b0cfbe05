//! Runs a model over an array of samples and writes its first output: what the parity and speed scripts drive.
//!
//! Usage: `logits MODEL INPUTS.npy OUTPUTS.npy [--scheme FILE] [--reverted 1,2] [--isa NAME]`. The inputs are float32
//! with one sample per first index. Prints the CPU milliseconds a sample took on one thread.

use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, Variant};
use ndarray::{ArrayD, Axis};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut plain = Vec::new();
    let (mut scheme, mut reverted, mut isa) = (None, BTreeSet::new(), Isa::best());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--scheme" => {
                let bytes = std::fs::read(value()?)?;
                scheme = Some(serde_json::from_slice::<Scheme>(&bytes)?);
            }
            "--reverted" => {
                for id in value()?.split(',').filter(|id| !id.is_empty()) {
                    reverted.insert(GroupId(id.parse()?));
                }
            }
            "--isa" => isa = Isa::from_name(&value()?).filter(|isa| isa.is_available()).ok_or("no such ISA here")?,
            _ => plain.push(argument),
        }
    }
    let [model, inputs, outputs] = plain.as_slice() else {
        return Err("usage: logits MODEL INPUTS.npy OUTPUTS.npy [--scheme FILE] [--reverted IDS] [--isa NAME]".into());
    };
    let model = Model::load(&std::fs::read(model)?, &NoExternalData)?;
    let inputs: ArrayD<f32> = ndarray_npy::read_npy(inputs)?;
    let mut shape = inputs.shape().to_vec();
    shape[0] = 1;
    let input = model.inputs().first().ok_or("the model has no input")?;
    let graph = model.graph(&BTreeMap::from([(input.name.clone(), shape)]))?;
    let digest = scheme.as_ref().map(Scheme::digest).transpose()?;
    let variant = match (&scheme, digest) {
        (Some(scheme), Some(digest)) => Variant::Quantized { scheme, digest, reverted: &reverted },
        _ => Variant::Baseline,
    };
    let plan = Plan::new(&graph, variant, isa, &PackedCache::default(), &BTreeSet::new())?;
    let names: Vec<&str> = plan.int8_operations().iter().map(|op| graph.op(*op).name.as_str()).collect();
    eprintln!("{} of {} operations on codes, arena {} KiB", names.len(), graph.ops.len(), plan.arena_bytes() >> 10);
    let mut rows = Vec::new();
    let mut times = Vec::new();
    for sample in inputs.axis_iter(Axis(0)) {
        let sample = sample.insert_axis(Axis(0)).to_owned();
        let start = Instant::now();
        let mut results = plan.run_arrays(&[sample])?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        rows.push(results.swap_remove(0));
    }
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    ndarray_npy::write_npy(outputs, &ndarray::concatenate(Axis(0), &views)?)?;
    times.sort_by(f64::total_cmp);
    println!("{:.4}", times[times.len() / 2]);
    Ok(())
}
