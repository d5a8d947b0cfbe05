//! Runs a model over an array of samples and writes its first output: what the parity and speed scripts drive.
//!
//! Usage: `logits MODEL INPUTS.npy OUTPUTS.npy [--scheme FILE] [--reverted 1,2] [--isa NAME] [--repeat N] [--threads N] [--profile N]`.
//! INPUTS is one array a model input, joined by commas, with one sample per first index. Prints the median milliseconds a sample took on one thread,
//! from its floats in the plan's own layout to its results in theirs. `--repeat N` instead reads numbers of seconds
//! from standard input, one a line, and answers each by running samples for that long and printing the CPU
//! milliseconds one took, so that a script can take turns with other engines; N samples are run before the first, and
//! `--threads` run samples at once.
//! `--profile N` prints where the time of N runs over all samples went, and how near to the peak each kind of layer is.

use holdfast_common::graph::{DataType, Graph, OpId, TensorData};
use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_kernels::Isa;
use holdfast_tests::arrays::Samples;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, Port, PortBuffer, Variant};
use ndarray::Axis;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

const USAGE: &str = "usage: logits MODEL INPUTS.npy OUTPUTS.npy [--scheme FILE] [--reverted IDS] [--isa NAME] \
                     [--repeat N] [--threads N] [--profile N]";

/// Multiply-accumulate operations a second of one Zen 4 core at 3.69 GHz on codes and on floats, which shares of the
/// peak refer to.
const PEAKS: [f64; 2] = [236e9, 59e9];

fn main() -> Result<(), Box<dyn Error>> {
    let mut plain = Vec::new();
    let (mut scheme, mut reverted, mut isa) = (None, BTreeSet::new(), Isa::best());
    let (mut repeat, mut profile, mut threads) = (None, None, 1);
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
            "--repeat" => repeat = Some(value()?.parse::<usize>()?),
            "--threads" => threads = value()?.parse::<usize>()?,
            "--profile" => profile = Some(value()?.parse::<usize>()?),
            _ => plain.push(argument),
        }
    }
    let [model, inputs, outputs] = plain.as_slice() else { return Err(USAGE.into()) };
    let model = Model::load(&std::fs::read(model)?, &NoExternalData)?;
    let inputs = Samples::read(&model, inputs)?;
    let graph = model.graph(inputs.shapes())?;
    let digest = scheme.as_ref().map(Scheme::digest).transpose()?;
    let variant = match (&scheme, digest) {
        (Some(scheme), Some(digest)) => Variant::Quantized { scheme, digest, reverted: &reverted },
        _ => Variant::Baseline,
    };
    let cache = PackedCache::default();
    let plan = Plan::new(&graph, variant, isa, &cache, &BTreeSet::new())?;
    let int8 = plan.int8_operations();
    eprintln!("{} of {} operations on codes, arena {} KiB", int8.len(), graph.ops.len(), plan.arena_bytes() >> 10);
    let samples = laid_out(&plan, &inputs)?;
    if let Some(runs) = profile {
        let start = Instant::now();
        Plan::new(&graph, variant, isa, &cache, &BTreeSet::new())?;
        println!("{:.3} ms for a plan of weights packed before", start.elapsed().as_secs_f64() * 1e3);
        return print_profile(&plan, &graph, &samples, runs);
    }
    if let Some(warm_up) = repeat {
        return answer(&plan, &samples, warm_up, threads);
    }
    let mut rows = Vec::new();
    let mut times = Vec::new();
    for sample in &samples {
        let start = Instant::now();
        let result = run(&plan, sample, |finished, elapsed| (finished.outputs().swap_remove(0), elapsed), start)?;
        times.push(result.1.as_secs_f64() * 1e3);
        rows.push(result.0);
    }
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    ndarray_npy::write_npy(outputs, &ndarray::concatenate(Axis(0), &views)?)?;
    times.sort_by(f64::total_cmp);
    println!("{:.4}", times[times.len() / 2]);
    Ok(())
}

/// One sample's inputs as a plan wants them in its buffers, in model order.
type LaidOut = Vec<Block>;

/// One input's elements.
enum Block {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Every sample as the plan wants it in its buffers.
fn laid_out(plan: &Plan, inputs: &Samples) -> Result<Vec<LaidOut>, Box<dyn Error>> {
    let place = |(port, data): (&Port, TensorData)| {
        let elements = port.placement.image.end();
        if port.data_type == DataType::F32 {
            let mut values = vec![0.0; elements];
            port.write(&data, PortBuffer::F32(&mut values))?;
            return Ok(Block::Floats(values));
        }
        let mut values = vec![0; elements];
        port.write(&data, PortBuffer::I64(&mut values))?;
        Ok::<_, PlanError>(Block::Integers(values))
    };
    let all = inputs.all().into_iter().map(|sample| plan.inputs().iter().zip(sample).map(place).collect());
    Ok(all.collect::<Result<_, _>>()?)
}

/// Copies a laid out input.
fn fill(plan: &Plan, sample: &LaidOut, port: &Port, buffer: PortBuffer<'_>) {
    let position = plan.inputs().iter().position(|input| input.tensor == port.tensor);
    match (position.map(|position| &sample[position]), buffer) {
        (Some(Block::Floats(values)), PortBuffer::F32(buffer)) => buffer[..values.len()].copy_from_slice(values),
        (Some(Block::Integers(values)), PortBuffer::I64(buffer)) => buffer[..values.len()].copy_from_slice(values),
        _ => {}
    }
}

/// Runs one laid out sample; `read` also gets the time from `start` to the end of the computation.
fn run<R>(
    plan: &Plan,
    sample: &LaidOut,
    read: impl FnOnce(&holdfast_worker::plan::Finished<'_>, Duration) -> R,
    start: Instant,
) -> Result<R, PlanError> {
    plan.run(
        |port, buffer| {
            fill(plan, sample, port, buffer);
            Ok(())
        },
        |finished| {
            let elapsed = start.elapsed();
            Ok(read(finished, elapsed))
        },
    )
}

/// Answers every line of standard input, a number of seconds, with the CPU milliseconds a sample took for that long.
fn answer(plan: &Plan, samples: &[LaidOut], warm_up: usize, threads: usize) -> Result<(), Box<dyn Error>> {
    for sample in samples.iter().cycle().take(warm_up) {
        run(plan, sample, |_, _| (), Instant::now())?;
    }
    for line in std::io::stdin().lock().lines() {
        let turn = Duration::from_secs_f64(line?.trim().parse()?);
        let done: Result<Vec<(u64, u32)>, String> = std::thread::scope(|scope| {
            let work = || take_turn(plan, samples, turn).map_err(|error| error.to_string());
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().map_err(|_| "a thread panicked")?).collect()
        });
        let (spent, count) = done?.into_iter().fold((0, 0), |(spent, count), (ns, n)| (spent + ns, count + n));
        println!("{:.6}", spent as f64 / 1e6 / f64::from(count.max(1)));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Runs samples in this thread for a time; nanoseconds of its CPU time, and samples.
fn take_turn(plan: &Plan, samples: &[LaidOut], turn: Duration) -> Result<(u64, u32), Box<dyn Error>> {
    let (start, before, mut count) = (Instant::now(), cpu_nanoseconds()?, 0u32);
    for sample in samples.iter().cycle() {
        if start.elapsed() >= turn {
            break;
        }
        run(plan, sample, |_, _| (), Instant::now())?;
        count += 1;
    }
    Ok((cpu_nanoseconds()? - before, count))
}

/// CPU time of this thread: Linux counts it in the first number of `schedstat`.
fn cpu_nanoseconds() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?)
}

/// Prints every instruction with its share of the time, its multiply-accumulate operations and their rate.
fn print_profile(plan: &Plan, graph: &Graph, samples: &[LaidOut], runs: usize) -> Result<(), Box<dyn Error>> {
    let mut all = vec![Vec::new(); plan.instructions().count()];
    for sample in samples.iter().cycle().take(runs.max(1) * samples.len()) {
        let mut seconds = Vec::new();
        plan.run_timed(
            |port, buffer| {
                fill(plan, sample, port, buffer);
                Ok::<(), PlanError>(())
            },
            &mut seconds,
        )?;
        all.iter_mut().zip(seconds).for_each(|(all, seconds)| all.push(seconds));
    }
    // The lower quartile: what else the machine does interrupts some runs of every instruction, not most.
    let quartile = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 4]
    };
    let seconds: Vec<f64> = all.into_iter().map(quartile).collect();
    let total: f64 = seconds.iter().sum();
    println!("{:.4} ms a sample", total * 1e3);
    let mut kinds: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (seconds, (kernel, operations)) in seconds.iter().zip(plan.instructions()) {
        let macs: u64 = operations.iter().map(|op| graph.macs(*op)).sum();
        let shape = operations.last().map(|op| graph.tensor(graph.op(*op).outputs[0]).shape.clone());
        let weights = operations.first().and_then(|op| graph.op(*op).inputs.get(1)).map(|id| &graph.tensor(*id).shape);
        let rate = macs as f64 / seconds / 1e9;
        let kind = kinds.entry(layer_kind(graph, kernel, operations)).or_default();
        *kind = (kind.0 + seconds, kind.1 + macs as f64);
        let (share, micros) = (seconds / total * 100.0, seconds * 1e6);
        println!(
            "{share:5.1} % {micros:9.2} us {rate:7.1} GMAC/s {kernel:20} {:?} {:?} {}",
            shape.unwrap_or_default(),
            weights.map_or(&[][..], Vec::as_slice),
            operations.first().map_or("", |op| graph.op(*op).name.as_str())
        );
    }
    println!("{:5.1} % of the peak in all", share_of_peak(total, kinds.values().map(|(_, macs)| macs).sum(), PEAKS[0]));
    for (kind, (seconds, macs)) in kinds {
        let peak = PEAKS[usize::from(kind.starts_with("float"))];
        println!(
            "{:5.1} % of the time, {:5.1} % of the peak: {kind}",
            seconds / total * 100.0,
            share_of_peak(seconds, macs, peak)
        );
    }
    Ok(())
}

fn share_of_peak(seconds: f64, macs: f64, peak: f64) -> f64 {
    macs / seconds / peak * 100.0
}

/// The kind of layer an instruction is, as far as kernels tell them apart.
fn layer_kind(graph: &Graph, kernel: &'static str, operations: &[OpId]) -> &'static str {
    let Some(op) = operations.first().map(|op| graph.op(*op)) else { return kernel };
    let is_int8 = match kernel {
        "conv_int8" => true,
        "conv_float" => false,
        _ => return kernel,
    };
    let Some(weights) = op.inputs.get(1).map(|id| graph.tensor(*id).shape.as_slice()) else { return kernel };
    let kinds = match weights {
        [_, 1, _, _] => ["int8: depthwise", "float: depthwise"],
        [_, 2..=4, _, _] => ["int8: stem", "float: stem"],
        [_, ..=32, 1, 1] => ["int8: 1x1, depth to 32", "float: 1x1, depth to 32"],
        [_, ..=160, 1, 1] => ["int8: 1x1, depth 33 to 160", "float: 1x1, depth 33 to 160"],
        [_, _, 1, 1] => ["int8: 1x1, deeper", "float: 1x1, deeper"],
        [_, _, _, _] => ["int8: larger windows", "float: larger windows"],
        _ => ["int8: matrix", "float: matrix"],
    };
    kinds[usize::from(!is_int8)]
}
