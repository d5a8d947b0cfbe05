//! Guards against accumulators that spill to memory: the kernels against the bare instruction, timed side by side.
//!
//! Not a benchmark: a spilled loop runs at a quarter of the instruction's rate, a sound one above 85 %.
#![cfg(not(debug_assertions))]

#[path = "support/peak.rs"]
mod peak;

use holdfast_kernels::Isa;
use holdfast_kernels::int8::{
    AddU8, ConvGeometry, ConvU8S8, Epilogue, PackedWeights, QuantizedOperand, Requant, WeightShape,
};
use holdfast_kernels::registry::{Family, kernels};
use std::time::Instant;

/// Tries before a kernel counts as slow; the machine may be busy with other work.
const TRIES: usize = 60;

/// The least share of the bare instruction's rate. AVX2 spends part of its limit on widening.
fn least_share(isa: Isa) -> f64 {
    if isa == Isa::Avx512Vnni { 0.6 } else { 0.45 }
}

/// Best share over short runs, each with the bare loop timed right beside it; stops as soon as it is enough.
fn best_share(isa: Isa, rows: usize, columns: usize, residual: bool) -> Option<f64> {
    peak::gmacs(isa)?;
    let depth = 512;
    let geometry = ConvGeometry::matmul(rows, depth, columns);
    let shape = WeightShape { out_channels: columns, kernel_h: 1, kernel_w: 1, channels: depth };
    let weights = PackedWeights::pack(isa, shape, geometry.depth_runs(), &vec![3; columns * depth]).unwrap();
    let conv = ConvU8S8::new(isa, &geometry).unwrap();
    let input = vec![5; conv.input_elements()];
    let bias = vec![0; columns];
    let requant = Requant::new(vec![1e-3; columns], 0, 0, 255).unwrap();
    let operand = QuantizedOperand { scale: 0.1, zero_point: 3 };
    let add = AddU8::new(operand, operand, operand, (0, 255), true).unwrap();
    let other = vec![7; geometry.output.end()];
    let mut output = vec![0; geometry.output.end()];
    let mut best = 0.0f64;
    for _ in 0..TRIES {
        let limit = peak::gmacs(isa)?;
        let start = Instant::now();
        let epilogue = if residual {
            Epilogue::U8Add {
                requant: &requant,
                add: &add,
                residual: &other,
                residual_image: geometry.output,
                output: &mut output,
            }
        } else {
            Epilogue::U8 { requant: &requant, output: &mut output }
        };
        conv.run(&weights, &input, &bias, epilogue);
        let rate = (rows * columns * depth) as f64 / start.elapsed().as_nanos() as f64;
        best = best.max(rate / limit);
        if best >= least_share(isa) {
            break;
        }
    }
    Some(best)
}

#[test]
fn no_full_tile_spills_its_accumulators() {
    for entry in kernels().filter(|entry| entry.family == Family::GemmU8S8) {
        let (mr, nr) = entry.tile();
        // Half a vector of AVX2 cannot fill its pipes; it exists for the last channels only.
        if entry.isa == Isa::Avx2 && nr == 8 {
            continue;
        }
        for residual in [false, true] {
            let Some(share) = best_share(entry.isa, 20 * mr, nr, residual) else {
                println!("{}: no limit known on this machine", entry.name);
                continue;
            };
            let least = least_share(entry.isa);
            assert!(share >= least, "{}: {share:.2} of the bare instruction, {least} expected", entry.name);
        }
    }
}

#[test]
fn no_partial_tile_spills_its_accumulators() {
    for entry in kernels().filter(|entry| entry.family == Family::GemmU8S8 && entry.isa == Isa::Avx512Vnni) {
        let (mr, nr) = entry.tile();
        // Fewer rows than this cannot hide the instruction's latency, spilled or not.
        let rows_needed = (8 * 16 / nr).max(2);
        for rows in rows_needed..mr {
            let Some(share) = best_share(entry.isa, rows, nr, false) else { continue };
            assert!(share >= 0.4, "{} with {rows} rows: {share:.2} of the bare instruction", entry.name);
        }
    }
}
