//! Full bias correction against the two-layer network it corrects, computed directly.

use super::default_quantization::{Quantized, calibrate_and_quantize};
use crate::accuracy_aware::SampleSet;
use crate::evaluator::Stage;
use crate::parameters::{Ignored, Mode, QuantizationParameters, SaturationFix};
use crate::testing::{GraphBuilder, TableEvaluator, conv_attributes, run_ready, samples, statistics_answer};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult, Statistic, StatisticSpec};
use holdfast_common::graph::{Graph, OpKind};
use holdfast_common::scheme::{QuantizerSite, Scheme};
use std::collections::BTreeMap;

/// Two channels.
type Pair = [f64; 2];

/// A pointwise convolution from two channels to two.
#[derive(Clone, Copy, Debug)]
struct Layer {
    weights: [Pair; 2],
    bias: Pair,
}

impl Layer {
    fn of(self, x: Pair) -> Pair {
        [0, 1].map(|out| self.weights[out][0] * x[0] + self.weights[out][1] * x[1] + self.bias[out])
    }
}

const A: Layer = Layer { weights: [[0.11, 0.52], [0.33, -0.27]], bias: [0.1, -0.2] };
const B: Layer = Layer { weights: [[0.71, -0.13], [0.37, 0.59]], bias: [0.3, 0.4] };

/// a → relu → b on one pixel, and both outputs.
fn network(a: Layer, b: Layer, x: Pair) -> [Pair; 2] {
    let first = a.of(x);
    [first, b.of(first.map(|value| value.max(0.0)))]
}

/// The pixel of a sample; those of later samples are far off.
fn pixel(sample: usize) -> Pair {
    [[1.0, 2.0], [-3.0, 1.5], [9.0, -7.0]][sample.min(2)]
}

fn graph(a: Layer, b: Layer) -> Graph {
    let mut builder = GraphBuilder::default();
    let mut x = builder.input("x", &[1, 2, 1, 1]);
    for (name, layer) in [("a", a), ("b", b)] {
        let weights = layer.weights.concat().iter().map(|value| *value as f32).collect();
        let weights = builder.constant(&format!("{name}.weight"), &[2, 2, 1, 1], weights);
        let bias = builder.constant(&format!("{name}.bias"), &[2], layer.bias.map(|value| value as f32).to_vec());
        x = builder.op(name, OpKind::Conv(conv_attributes(1, 1, 0, 1)), &[x, weights, bias], &[1, 2, 1, 1]);
        x = if name == "a" { builder.relu("relu", x) } else { x };
    }
    builder.finish(&[x])
}

/// The same network of products, with an addition behind each.
fn graph_of_products(a: Layer, b: Layer) -> Graph {
    let mut builder = GraphBuilder::default();
    let mut x = builder.input("x", &[1, 2]);
    for (name, layer) in [("a", a), ("b", b)] {
        let [[aa, ab], [ba, bb]] = layer.weights.map(|row| row.map(|value| value as f32));
        let weights = builder.constant(&format!("{name}.weight"), &[2, 2], vec![aa, ba, ab, bb]);
        let bias = builder.constant(&format!("{name}.bias"), &[2], layer.bias.map(|value| value as f32).to_vec());
        let product = builder.op(&product_name(name), OpKind::MatMul, &[x, weights], &[1, 2]);
        x = builder.add(name, product, bias);
        x = if name == "a" { builder.relu("relu", x) } else { x };
    }
    builder.finish(&[x])
}

fn product_name(layer: &str) -> String {
    format!("{layer}.product")
}

/// A layer under a scheme of weights: weights as their codes, the scheme's bias.
fn under(layer: Layer, name: &str, scheme: &Scheme) -> Layer {
    let mut changed = layer;
    for quantizer in &scheme.quantizers {
        let QuantizerSite::Weight { operation, .. } = &quantizer.site else { panic!("weights alone are quantized") };
        let params = &quantizer.params;
        if operation == name || *operation == product_name(name) {
            let real = |out: usize, value: f64| f64::from(params.real(params.code(value as f32, out), out));
            changed.weights = [0, 1].map(|out| layer.weights[out].map(|value| real(out, value)));
        }
    }
    if let Some(bias) = scheme.biases.get(name).or_else(|| scheme.biases.get(&product_name(name))) {
        changed.bias = [f64::from(bias[0]), f64::from(bias[1])];
    }
    changed
}

/// Answers as the cluster would: means of this network for every sample.
fn answer((a, b): (Layer, Layer), evaluation: &Evaluation, published: &BTreeMap<Digest, Vec<u8>>) -> Vec<SampleResult> {
    let (mut a, mut b) = (a, b);
    if let Some(digest) = evaluation.candidate.scheme {
        let scheme: Scheme = serde_json::from_slice(&published[&digest]).expect("a scheme");
        (a, b) = (under(a, "a", &scheme), under(b, "b", &scheme));
    }
    let of_sample = |sample: &SampleIndex| {
        let outputs = network(a, b, pixel(sample.0 as usize));
        let values = |spec: &StatisticSpec| match (spec.statistic, spec.tensor.as_str()) {
            (Statistic::Mean, "a") => outputs[0].to_vec(),
            (Statistic::Mean, "b") => outputs[1].to_vec(),
            (Statistic::Mean, _) => pixel(sample.0 as usize).to_vec(),
            (Statistic::Min, _) => vec![-10.0],
            _ => vec![10.0],
        };
        let one = Evaluation { samples: vec![*sample], ..evaluation.clone() };
        statistics_answer(&one, published, values).remove(0)
    };
    evaluation.samples.iter().map(of_sample).collect()
}

fn quantized(
    layers: (Layer, Layer),
    set: &SampleSet,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> (Quantized, usize) {
    quantized_graph(&graph(layers.0, layers.1), layers, set, parameters, mode)
}

fn quantized_graph(
    graph: &Graph,
    layers: (Layer, Layer),
    set: &SampleSet,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> (Quantized, usize) {
    let evaluator = TableEvaluator::new(move |_, evaluation, published| answer(layers, evaluation, published));
    let quantized = run_ready(calibrate_and_quantize(&evaluator, graph, set, parameters, mode)).expect("a scheme");
    (quantized, evaluator.batches(Stage::Calibration).len())
}

fn full() -> QuantizationParameters {
    QuantizationParameters {
        use_fast_bias: false,
        saturation_fix: Some(SaturationFix::No),
        ..QuantizationParameters::default()
    }
}

/// Ten samples, of which a fifth is used.
fn ten() -> SampleSet {
    samples(b"calibration", 10)
}

/// Mean outputs of both layers over the two samples that count.
fn means(a: Layer, b: Layer) -> [Pair; 2] {
    let [first, second] = [0, 1].map(|sample| network(a, b, pixel(sample)));
    [0, 1].map(|layer| [0, 1].map(|channel| (first[layer][channel] + second[layer][channel]) / 2.0))
}

fn shifted(bias: Pair, float: Pair, quantized: Pair) -> Pair {
    [0, 1].map(|channel| bias[channel] + float[channel] - quantized[channel])
}

fn assert_bias(found: &Scheme, name: &str, expected: Pair) {
    for (found, expected) in found.biases[name].iter().zip(expected) {
        // Weights and biases are f32, of order one.
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{name}: {found} {expected}");
    }
}

#[test]
fn every_bias_takes_back_what_quantized_weights_and_corrected_predecessors_leave() {
    for mode in [Mode::Default, Mode::Compat] {
        let (found, batches) = quantized((A, B), &ten(), &full(), mode);
        assert_eq!((batches, found.passes.evaluations, found.passes.samples), (3, 2, 2));
        let weights = Scheme {
            quantizers: found.scheme.quantizers.iter().filter(|q| is_weight(&q.site)).cloned().collect(),
            ..Scheme::default()
        };
        let (mut a, mut b) = (under(A, "a", &weights), under(B, "b", &weights));
        let float = means(A, B);
        a.bias = shifted(a.bias, float[0], means(a, b)[0]);
        assert_bias(&found.scheme, "a", a.bias);
        b.bias = shifted(b.bias, float[1], means(a, b)[1]);
        assert_bias(&found.scheme, "b", b.bias);
        assert!(found.corrections.iter().all(|correction| correction.applied));
    }
}

fn is_weight(site: &QuantizerSite) -> bool {
    matches!(site, QuantizerSite::Weight { .. })
}

#[test]
fn fast_and_full_correction_are_different_corrections() {
    let fast = QuantizationParameters { use_fast_bias: true, ..full() };
    let ((fast, fast_batches), (full, full_batches)) =
        (quantized((A, B), &ten(), &fast, Mode::Default), quantized((A, B), &ten(), &full(), Mode::Default));
    assert_eq!((fast_batches, full_batches), (1, 3), "only the full correction runs the quantized weights");
    assert_ne!(fast.scheme.biases, full.scheme.biases);
    assert_eq!(fast.scheme.quantizers, full.scheme.quantizers);
}

#[test]
fn a_zero_in_the_bias_stops_the_correction_only_in_compat_mode() {
    let zero = Layer { bias: [0.0, -0.2], ..A };
    let (compat, _) = quantized((zero, B), &ten(), &full(), Mode::Compat);
    assert_eq!(compat.scheme.biases.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(compat.corrections[0].magnitude, None);
    let (default, _) = quantized((zero, B), &ten(), &full(), Mode::Default);
    assert_eq!(default.scheme.biases.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_shift_that_reaches_the_threshold_is_not_applied() {
    let strict = QuantizationParameters { threshold: Some(1e-9), ..full() };
    let (found, _) = quantized((A, B), &ten(), &strict, Mode::Default);
    assert!(found.scheme.biases.is_empty() && found.corrections.iter().all(|correction| !correction.applied));
}

#[test]
fn few_samples_still_give_one_to_correct_with() {
    let (found, _) = quantized((A, B), &samples(b"calibration", 3), &full(), Mode::Default);
    assert_eq!(found.passes.samples, 1);
}

#[test]
fn float_operations_are_corrected_where_all_nodes_are_asked_for() {
    let ignored = Ignored { scope: vec!["b".to_owned()], ..Ignored::default() };
    let some = QuantizationParameters { ignored, ..full() };
    let (found, _) = quantized((A, B), &ten(), &some, Mode::Default);
    assert_eq!(found.scheme.biases.keys().collect::<Vec<_>>(), ["a"]);
    let all = QuantizationParameters { apply_for_all_nodes: true, ..some };
    let (found, _) = quantized((A, B), &ten(), &all, Mode::Default);
    let a = under(
        A,
        "a",
        &Scheme {
            quantizers: found.scheme.quantizers.iter().filter(|q| is_weight(&q.site)).cloned().collect(),
            biases: found.scheme.biases.clone(),
            ..Scheme::default()
        },
    );
    assert_bias(&found.scheme, "b", shifted(B.bias, means(A, B)[1], means(a, B)[1]));
}

#[test]
fn operations_beside_one_another_share_a_pass() {
    let mut builder = GraphBuilder::default();
    let x = builder.input("x", &[1, 2, 4, 4]);
    let (left, right) = (builder.conv("left", x, 2, 3, 1), builder.conv("right", x, 2, 3, 1));
    let both = builder.concat("both", &[left, right]);
    let y = builder.conv("last", both, 2, 3, 1);
    let graph = builder.finish(&[y]);
    let plain = |spec: &StatisticSpec| match spec.statistic {
        Statistic::Mean => vec![0.0; 2],
        Statistic::Min => vec![-1.0],
        _ => vec![1.0],
    };
    let evaluator = TableEvaluator::new(|_, evaluation, published| statistics_answer(evaluation, published, plain));
    let found = run_ready(calibrate_and_quantize(&evaluator, &graph, &ten(), &full(), Mode::Default));
    assert_eq!(found.expect("a scheme").passes.evaluations, 2);
}

#[test]
fn a_product_with_an_addition_behind_it_is_corrected_as_a_convolution_with_a_bias_is() {
    let graph = graph_of_products(A, B);
    let fast = QuantizationParameters { use_fast_bias: true, ..full() };
    for parameters in [fast, full()] {
        for mode in [Mode::Default, Mode::Compat] {
            let (convolutions, _) = quantized((A, B), &ten(), &parameters, mode);
            let (products, _) = quantized_graph(&graph, (A, B), &ten(), &parameters, mode);
            let expected = convolutions.scheme.biases;
            assert!(expected.contains_key("a"), "there is something to correct");
            let mut expected: BTreeMap<_, _> =
                expected.into_iter().map(|(name, bias)| (product_name(&name), bias)).collect();
            if parameters.use_fast_bias && mode == Mode::Default {
                expected.clear();
            }
            assert_eq!(products.scheme.biases, expected, "{mode:?}");
        }
    }
}

#[test]
fn a_product_whose_output_others_read_too_has_no_bias() {
    let mut builder = GraphBuilder::default();
    let x = builder.input("x", &[1, 2]);
    let weights = builder.constant("weight", &[2, 2], vec![0.11, 0.33, 0.52, -0.27]);
    let bias = builder.constant("bias", &[2], vec![0.1, -0.2]);
    let product = builder.op("product", OpKind::MatMul, &[x, weights], &[1, 2]);
    let sum = builder.add("sum", product, bias);
    let other = builder.relu("other", product);
    let graph = builder.finish(&[sum, other]);
    let (found, _) = quantized_graph(&graph, (A, B), &ten(), &full(), Mode::Default);
    assert!(found.scheme.biases.is_empty() && found.corrections.is_empty());
}
