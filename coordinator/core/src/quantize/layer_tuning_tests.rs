//! Which layers are tuned, on what, and what the scheme says of it.

use super::default_quantization::{Quantized, calibrate_and_quantize};
use crate::evaluator::Stage;
use crate::parameters::{LayerwiseTuning, Mode, QuantizationParameters, SaturationFix};
use crate::seed::SplitMix64;
use crate::testing::{GraphBuilder, TableEvaluator, conv_attributes, run_ready, samples, statistics_answer};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult, Statistic, StatisticSpec, rows};
use holdfast_common::graph::{Graph, OpKind, TensorId};
use std::collections::BTreeMap;

const CHANNELS: usize = 16;
const SAMPLES: u32 = 200;

fn weights(seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..CHANNELS * CHANNELS).map(|_| random.below(2001) as f32 / 10_000.0 - 0.1).collect()
}

fn bias(builder: &mut GraphBuilder, name: &str) -> TensorId {
    builder.constant(&format!("{name}.bias"), &[CHANNELS], vec![0.25; CHANNELS])
}

/// Pointwise convolutions `a`, `b`, `c` on one pixel, a rectifier after each.
fn convolutions() -> Graph {
    let mut builder = GraphBuilder::default();
    let mut x = builder.input("x", &[1, CHANNELS, 1, 1]);
    for (seed, name) in ["a", "b", "c"].iter().enumerate() {
        let shape = [CHANNELS, CHANNELS, 1, 1];
        let weights = builder.constant(&format!("{name}.weight"), &shape, weights(seed as u64));
        let bias = bias(&mut builder, name);
        let kind = OpKind::Conv(conv_attributes(1, 1, 0, 1));
        x = builder.op(name, kind, &[x, weights, bias], &[1, CHANNELS, 1, 1]);
        x = builder.relu(&format!("{name}.relu"), x);
    }
    builder.finish(&[x])
}

/// The same layers as products with an addition behind each.
fn products() -> Graph {
    let mut builder = GraphBuilder::default();
    let mut x = builder.input("x", &[1, CHANNELS]);
    for (seed, name) in ["a", "b", "c"].iter().enumerate() {
        let rows = weights(seed as u64);
        let columns = (0..rows.len()).map(|at| rows[at % CHANNELS * CHANNELS + at / CHANNELS]).collect();
        let weights = builder.constant(&format!("{name}.weight"), &[CHANNELS, CHANNELS], columns);
        let bias = bias(&mut builder, name);
        x = builder.op(name, OpKind::MatMul, &[x, weights], &[1, CHANNELS]);
        x = builder.add(&format!("{name}.sum"), x, bias);
        x = builder.relu(&format!("{name}.relu"), x);
    }
    builder.finish(&[x])
}

/// What every layer reads of a sample: channels that go up and down together.
fn read(sample: u32) -> Vec<f32> {
    let mut random = SplitMix64::new(u64::from(sample));
    let common = 0.5 + random.below(1000) as f32 / 500.0;
    (0..CHANNELS).map(|_| common + random.below(100) as f32 / 200.0).collect()
}

fn answer(evaluation: &Evaluation, published: &BTreeMap<Digest, Vec<u8>>) -> Vec<SampleResult> {
    let of_sample = |sample: &SampleIndex| {
        let values = |spec: &StatisticSpec| match spec.statistic {
            Statistic::Patches(window) => window.patches(&[1, CHANNELS, 1, 1], &read(sample.0)),
            Statistic::Rows(count) => rows(count, &[1, CHANNELS], &read(sample.0)),
            Statistic::Mean => vec![1.5; CHANNELS],
            Statistic::Min => vec![0.0],
            _ => vec![3.0],
        };
        let one = Evaluation { samples: vec![*sample], ..evaluation.clone() };
        statistics_answer(&one, published, values).remove(0)
    };
    evaluation.samples.iter().map(of_sample).collect()
}

/// Three bits, so that a step of training is seen in the codes.
fn parameters(tuning: Option<LayerwiseTuning>) -> QuantizationParameters {
    let mut parameters = QuantizationParameters {
        saturation_fix: Some(SaturationFix::No),
        layerwise_tuning: tuning,
        use_fast_bias: false,
        ..QuantizationParameters::default()
    };
    parameters.weights.width.bits = 3;
    parameters
}

fn quantized(graph: &Graph, tuning: Option<LayerwiseTuning>) -> (Quantized, usize) {
    let evaluator = TableEvaluator::new(|_, evaluation, published| answer(evaluation, published));
    let set = samples(b"calibration", SAMPLES);
    let parameters = parameters(tuning);
    let found = calibrate_and_quantize(&evaluator, graph, &set, &parameters, Mode::Default);
    (run_ready(found).expect("a scheme"), evaluator.batches(Stage::Calibration).len())
}

fn long() -> LayerwiseTuning {
    LayerwiseTuning { samples: 20_000, batch_size: 10, ..LayerwiseTuning::default() }
}

#[test]
fn layers_after_the_first_are_tuned_and_what_is_better_is_taken() {
    let graph = convolutions();
    let (found, batches) = quantized(&graph, Some(long()));
    assert_eq!(found.tunings.iter().map(|tuning| tuning.operation.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    for tuning in &found.tunings {
        println!("{tuning:?}");
        assert!(tuning.applied && tuning.moved > 0 && tuning.errors[1] < tuning.errors[0]);
    }
    assert_eq!(found.scheme.codes.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert!(found.scheme.codes.values().all(|codes| codes.len() == CHANNELS * CHANNELS));
    assert_eq!((batches, found.tuning_passes.evaluations, found.tuning_passes.samples), (5, 1, SAMPLES as usize));
    let (plain, _) = quantized(&graph, None);
    assert_eq!((&plain.scheme.quantizers, &plain.scheme.groups), (&found.scheme.quantizers, &found.scheme.groups));
    assert_eq!(plain.scheme.biases["a"], found.scheme.biases["a"]);
    let text = serde_json::to_string(&plain.scheme).expect("JSON");
    assert!(!text.contains("\"codes\":"), "schemes without tuned codes are what they were");
}

#[test]
fn a_pool_bounds_the_samples_and_repetition_changes_nothing() {
    let graph = convolutions();
    let small = LayerwiseTuning { pool: 10, ..long() };
    let (found, _) = quantized(&graph, Some(small));
    assert_eq!(found.tuning_passes.samples, 10);
    assert_eq!(quantized(&graph, Some(small)).0.scheme, found.scheme);
}

#[test]
fn what_is_not_better_is_not_taken() {
    let none = LayerwiseTuning { pool: 4, ..long() };
    let (found, _) = quantized(&convolutions(), Some(none));
    assert!(found.tunings.is_empty(), "four samples are too few to hold any out");
    assert_eq!(found.scheme, quantized(&convolutions(), None).0.scheme);
    let still = LayerwiseTuning { samples: 0, ..long() };
    let (found, _) = quantized(&convolutions(), Some(still));
    assert!(found.tunings.iter().all(|tuning| !tuning.applied) && found.tunings.len() == 2);
    assert_eq!(found.scheme, quantized(&convolutions(), None).0.scheme);
}

#[test]
fn products_are_tuned_as_convolutions_with_their_codes_column_by_column() {
    let (convolutions, _) = quantized(&convolutions(), Some(long()));
    let (products, _) = quantized(&products(), Some(long()));
    assert_eq!(products.scheme.codes.len(), 2);
    for (name, rows) in &convolutions.scheme.codes {
        let columns: Vec<i8> = (0..rows.len()).map(|at| rows[at % CHANNELS * CHANNELS + at / CHANNELS]).collect();
        assert_eq!(products.scheme.codes[name], columns);
        assert_eq!(products.scheme.biases[name], convolutions.scheme.biases[name]);
    }
}
