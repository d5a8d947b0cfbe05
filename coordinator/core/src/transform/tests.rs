//! Transformations on small models: the published numbers, what is left alone, and that the function stays.

use super::channel_alignment::ChannelAlignment;
use super::smooth_quant::{SmoothQuant, evenness, scales};
use super::{Decision, Plan, Source, Transformation, Transformed, transform};
use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::parameters::{Mode, ModelType, QuantizationParameters, SaturationFix};
use crate::quantize::calibration::Calibration;
use crate::quantize::place;
use crate::testing::{GraphBuilder, TableEvaluator, conv_attributes, run_ready, samples, statistics_answer};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Statistic, StatisticSpec, Workload};
use holdfast_common::graph::{BinaryKind, Graph, OpKind, TensorData, TensorId, UnaryKind};
use holdfast_common::model::{ConstantEdit, Model};
use holdfast_common::onnx::schema::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use holdfast_common::onnx::{NoExternalData, encode_tensor};
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use std::collections::BTreeMap;

/// What was published, by digest.
type Published = BTreeMap<Digest, Vec<u8>>;

fn decided(plan: &impl Plan, values: impl Fn(&StatisticSpec) -> Vec<f64> + Sync) -> Decision {
    let evaluator = TableEvaluator::new(|_, evaluation, published| statistics_answer(evaluation, published, &values));
    let set = samples(b"calibration", 3);
    let calibration = run_ready(Calibration::collect(&evaluator, &set, plan.wanted())).expect("statistics");
    plan.decide(&calibration).expect("a decision")
}

fn constant<'a>(decision: &'a Decision, operation: &str, input: usize) -> &'a ArrayD<f32> {
    let is = |edit: &&ConstantEdit| edit.operation == operation && edit.input == input;
    &decision.edit.constants.iter().find(is).expect("an edited constant").values
}

fn assert_near<'a>(found: impl IntoIterator<Item = &'a f32>, expected: &[f64]) {
    let found: Vec<f32> = found.into_iter().copied().collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        // One rounding to f32.
        assert!((f64::from(*found) - expected).abs() <= 1e-7 * expected.abs().max(1.0), "{found} {expected}");
    }
}

/// Two pointwise convolutions with the weights of the oracle; `between` may add an operation.
fn two_convolutions(pad: usize, between: impl Fn(&mut GraphBuilder, TensorId) -> TensorId) -> Graph {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 1, 1]);
    let w = b.constant("in.w", &[3, 2, 1, 1], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bias = b.constant("in.b", &[3], vec![0.5, 1.0, 2.0]);
    let mid = b.op("in", OpKind::Conv(conv_attributes(1, 1, 0, 1)), &[x, w, bias], &[1, 3, 1, 1]);
    let mid = between(&mut b, mid);
    let w = b.constant("out.w", &[2, 3, 1, 1], vec![1.0, 1.0, 1.0, 2.0, 0.0, -1.0]);
    let bias = b.constant("out.b", &[2], vec![0.0, 1.0]);
    let side = 1 + 2 * pad;
    let y = b.op("out", OpKind::Conv(conv_attributes(1, 1, pad, 1)), &[mid, w, bias], &[1, 2, side, side]);
    b.finish(&[y])
}

fn oracle_ranges(spec: &StatisticSpec) -> Vec<f64> {
    match spec.statistic {
        Statistic::Quantile(probability) if probability < 0.5 => vec![-1.0, 0.0, -10.0],
        Statistic::Quantile(_) => vec![1.0, 4.0, 30.0],
        other => panic!("{other:?} is not needed"),
    }
}

#[test]
fn aligned_channels_have_the_published_weights_and_the_same_function() {
    let graph = two_convolutions(0, |_, mid| mid);
    let decision = decided(&ChannelAlignment::of(&graph), oracle_ranges);
    assert_near(constant(&decision, "in", 1), &[2.0, 4.0, 3.0, 4.0, 0.5, 0.6]);
    assert_near(constant(&decision, "in", 2), &[1.0, -1.0, -0.8]);
    assert_near(constant(&decision, "out", 1), &[0.5, 1.0, 10.0, 1.0, 0.0, -10.0]);
    assert_near(constant(&decision, "out", 2), &[12.0, -9.0]);
    assert_eq!(decision.rescaled, ["out"]);
    let [Transformation::ChannelAlignment { factors, .. }] = &decision.record[..] else { panic!("one alignment") };
    assert_eq!(*factors, [0.5, 10.0]);
    let product = |weights: &ArrayD<f32>, bias: &ArrayD<f32>, x: &[f64]| -> Vec<f64> {
        let rows = weights.as_slice().expect("row-major").chunks(x.len());
        let sums = rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>());
        sums.zip(bias).map(|(sum, bias)| sum + f64::from(*bias)).collect()
    };
    let mid = product(constant(&decision, "in", 1), constant(&decision, "in", 2), &[0.3, -0.7]);
    let y = product(constant(&decision, "out", 1), constant(&decision, "out", 2), &mid);
    assert!((y[0] + 2.2).abs() < 1e-5 && (y[1] - 0.5).abs() < 1e-5, "{y:?}");
}

#[test]
fn without_both_biases_channels_are_scaled_and_not_centred() {
    let mut graph = two_convolutions(0, |_, mid| mid);
    let out = graph.find_op("out").expect("there");
    let bias = graph.ops[out.0].inputs.pop().expect("a bias");
    graph.tensors[bias.0].consumers.clear();
    let decision = decided(&ChannelAlignment::of(&graph), oracle_ranges);
    assert_near(constant(&decision, "in", 2), &[1.0, 1.0, 0.2]);
    assert_near(constant(&decision, "out", 1), &[0.5, 1.0, 10.0, 1.0, 0.0, -10.0]);
}

#[test]
fn channels_without_a_range_keep_their_scale_and_extreme_ones_are_bounded() {
    let (_, factors) =
        super::channel_alignment::means_and_factors(&[0.0, 0.0, 0.0, 2.0], &[1.0, 1e-9, 5e3, 2.0]).expect("ranges");
    assert_eq!(factors, [1.0, 0.01, 100.0, 1.0]);
    assert!(super::channel_alignment::means_and_factors(&[1.0], &[1.0]).is_none());
}

#[test]
fn channels_are_aligned_only_between_two_plain_convolutions() {
    let nothing = |graph: &Graph| ChannelAlignment::of(graph).wanted().is_empty();
    assert!(!nothing(&two_convolutions(0, |_, mid| mid)));
    assert!(nothing(&two_convolutions(1, |_, mid| mid)), "padding sees the shift");
    assert!(nothing(&two_convolutions(0, |b, mid| b.relu("relu", mid))), "an activation is between them");
    let mut seen = two_convolutions(0, |_, mid| mid);
    let mid = seen.find_tensor("in").expect("there");
    seen.outputs.push(mid);
    assert!(nothing(&seen), "somebody else sees the tensor");
    let bias = |b: &mut GraphBuilder, mid| {
        let shift = b.constant("shift", &[3, 1, 1], vec![1.0, 2.0, 3.0]);
        b.add("add", mid, shift)
    };
    assert!(nothing(&two_convolutions(0, bias)), "there are two biases");
}

#[test]
fn scales_are_the_published_ones() {
    let found = scales(&[10.0, 1.0, 0.1], &[0.5; 3], 0.95).expect("scales");
    for (found, expected) in found.iter().zip([9.226808, 1.035265, 0.299980]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert!((evenness(&found) - 0.032512).abs() < 1e-6);
    assert_eq!(scales(&[1e9, 1e9], &[1.0, 1.0], 0.95).expect("scales"), [100.0, 100.0]);
}

/// x → layer normalization → two products, and a residual addition of the normalization where `shared`.
fn attention(shared: bool) -> Graph {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 4, 2]);
    let (gamma, beta) = (b.constant("gamma", &[2], vec![1.0, 2.0]), b.constant("beta", &[2], vec![0.5, -1.0]));
    let kind = OpKind::LayerNormalization { axis: 2, epsilon: 1e-5 };
    let norm = b.op("norm", kind, &[x, gamma, beta], &[1, 4, 2]);
    let mut outputs = Vec::new();
    for (name, weights) in [("q", vec![0.5, 0.1, -0.2, 0.5]), ("k", vec![0.5, 0.0, 0.05, 0.01])] {
        let weights = b.constant(&format!("{name}.w"), &[2, 2], weights);
        outputs.push(b.op(name, OpKind::MatMul, &[norm, weights], &[1, 4, 2]));
    }
    if shared {
        outputs.push(b.add("residual", norm, x));
    }
    b.finish(&outputs)
}

fn transformer() -> QuantizationParameters {
    QuantizationParameters { model_type: Some(ModelType::Transformer), ..QuantizationParameters::default() }
}

fn smoothed(graph: &Graph) -> Decision {
    let plan = SmoothQuant::of(graph, &transformer(), Mode::Default, 0.5).expect("a plan");
    decided(&plan, |spec| {
        assert_eq!((spec.statistic, spec.axis), (Statistic::AbsMax, Some(2)));
        vec![8.0, 2.0]
    })
}

#[test]
fn a_normalization_that_only_products_read_takes_the_divisors() {
    let decision = smoothed(&attention(false));
    assert!(decision.edit.multiplications.is_empty());
    let [Transformation::SmoothQuant { folded: true, operations, .. }] = &decision.record[..] else {
        panic!("{:?}", decision.record)
    };
    assert_eq!(operations, &["q", "k"]);
    let [first, second] = chosen(&decision);
    assert_near(constant(&decision, "norm", 1), &[1.0 / first, 2.0 / second]);
    assert_near(constant(&decision, "norm", 2), &[0.5 / first, -1.0 / second]);
    assert_near(constant(&decision, "q", 1), &[0.5 * first, 0.1 * first, -0.2 * second, 0.5 * second]);
    assert_near(constant(&decision, "k", 1), &[0.5 * first, 0.0, 0.05 * second, 0.01 * second]);
}

/// The scales as the weights of `q` show them.
fn chosen(decision: &Decision) -> [f64; 2] {
    let weights = constant(decision, "q", 1);
    [f64::from(weights[[0, 0]]) / 0.5, f64::from(weights[[1, 1]]) / 0.5]
}

#[test]
fn products_of_one_activation_share_the_scales_that_differ_least() {
    let of = |weights: &[f64]| scales(&[8.0, 2.0], weights, 0.5).expect("scales");
    let (q, k) = (of(&[0.5, 0.5]), of(&[0.5, 0.05]));
    assert!(evenness(&k) > evenness(&q));
    let found = chosen(&smoothed(&attention(false)));
    assert!((found[0] - k[0]).abs() < 1e-5 && (found[1] - k[1]).abs() < 1e-5, "{found:?} {k:?}");
}

#[test]
fn an_activation_that_others_read_too_is_multiplied_for_the_products_alone() {
    let decision = smoothed(&attention(true));
    let [multiplication] = &decision.edit.multiplications[..] else { panic!("one multiplication") };
    assert_eq!(multiplication.readers, [("q".to_owned(), 0), ("k".to_owned(), 0)]);
    let [first, second] = chosen(&decision);
    assert_near(&multiplication.factors, &[1.0 / first, 1.0 / second]);
    assert_eq!(decision.edit.constants.len(), 2, "the normalization stays");
}

#[test]
fn divisors_pass_what_is_linear_and_stop_at_what_is_not() {
    let build = |kind: &str| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 4, 2]);
        let weights = b.constant("a.w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let mut y = b.op("a", OpKind::MatMul, &[x, weights], &[1, 4, 2]);
        let bias = b.constant("bias.c", &[2], vec![1.0, -1.0]);
        y = b.add("bias", y, bias);
        y = match kind {
            "relu" => b.relu("act", y),
            "gelu" => b.unary("act", UnaryKind::Gelu { tanh: false }, y),
            _ => {
                let gate = b.unary("gate", UnaryKind::Sigmoid, y);
                let half = b.scalar("half", BinaryKind::Mul, gate, 0.5);
                b.binary("act", BinaryKind::Mul, half, y)
            }
        };
        let weights = b.constant("z.w", &[2, 2], vec![0.5, 0.1, -0.2, 0.5]);
        let z = b.op("z", OpKind::MatMul, &[y, weights], &[1, 4, 2]);
        b.finish(&[z])
    };
    let edited = |kind: &str| {
        let graph = build(kind);
        let decision = smoothed(&graph);
        let names = decision.edit.constants.iter().map(|edit| edit.operation.clone()).collect::<Vec<_>>();
        (names, decision.edit.multiplications.iter().map(|m| m.tensor.clone()).collect::<Vec<_>>())
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // The input of `a` is smoothed as well, and has nothing before it.
    assert_eq!(edited("relu"), (owned(&["a", "bias", "z"]), owned(&["x"])));
    assert_eq!(edited("gelu"), (owned(&["a", "z"]), owned(&["x", "act"])));
    let (constants, multiplications) = edited("gate");
    assert!(constants.contains(&"half".to_owned()) && !multiplications.contains(&"act".to_owned()));
}

#[test]
fn operations_that_stay_float_and_shared_weights_are_left_alone() {
    let graph = attention(false);
    let mut parameters = transformer();
    parameters.ignored.scope = vec!["q".to_owned(), "k".to_owned()];
    let plan = SmoothQuant::of(&graph, &parameters, Mode::Default, 0.95).expect("a plan");
    assert!(plan.wanted().is_empty());
    let mut shared = attention(false);
    let (q, k) = (shared.find_op("q").expect("q"), shared.find_op("k").expect("k"));
    let weights = shared.ops[q.0].inputs[1];
    let unread = std::mem::replace(&mut shared.ops[k.0].inputs[1], weights);
    shared.tensors[unread.0].consumers.clear();
    shared.tensors[weights.0].consumers.push((k, 1));
    let plan = SmoothQuant::of(&shared, &transformer(), Mode::Default, 0.95).expect("a plan");
    assert!(plan.wanted().is_empty());
}

/// x → Conv `in` → Conv `out` or, for transformers, x → Gelu → MatMul, as a model.
fn model(transformer: bool) -> Model {
    let tensor = |name: &str, shape: &[usize], values: &[f32]| {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).expect("values");
        encode_tensor(name, &TensorData::F32(array))
    };
    let port = |name: &str, dims: Option<&[i64]>| {
        let dim = |extent: &i64| DimensionProto {
            value: Some(DimensionValue::DimValue(*extent)),
            ..DimensionProto::default()
        };
        let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
        let tensor_type = Some(TensorTypeProto { elem_type: Some(data_type::FLOAT), shape });
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto { tensor_type, denotation: None }),
            doc_string: None,
        }
    };
    let node = |operator: &str, inputs: &[&str], output: &str| NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: Some(operator.to_owned()),
        ..NodeProto::default()
    };
    let (nodes, initializer, dims): (Vec<NodeProto>, _, &[i64]) = if transformer {
        (
            vec![node("Erf", &["x"], "act"), node("MatMul", &["act", "w"], "y")],
            vec![tensor("w", &[2, 2], &[0.5, 0.1, -0.2, 0.5])],
            &[1, 4, 2],
        )
    } else {
        (
            vec![node("Conv", &["x", "in.w", "in.b"], "mid"), node("Conv", &["mid", "out.w", "out.b"], "y")],
            vec![
                tensor("in.w", &[3, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
                tensor("in.b", &[3], &[0.5, 1.0, 2.0]),
                tensor("out.w", &[2, 3, 1, 1], &[1.0, 1.0, 1.0, 2.0, 0.0, -1.0]),
                tensor("out.b", &[2], &[0.0, 1.0]),
            ],
            &[1, 2, 1, 1],
        )
    };
    let graph = GraphProto {
        node: nodes,
        name: Some("test".to_owned()),
        initializer,
        input: vec![port("x", Some(dims))],
        output: vec![port("y", None)],
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(13) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Model::load(&proto.encode_to_vec(), &NoExternalData).expect("a model")
}

/// What transforming this model gives, and what was published.
fn transformed(
    model: &Model,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<(Option<Transformed>, Published), CoreError> {
    let graph = model.graph(&BTreeMap::new()).expect("a graph");
    let workload = |manifest: &[u8]| Workload {
        model: model.digest(),
        manifest: Digest::of(manifest),
        preprocessing: BTreeMap::new(),
        metrics: Vec::new(),
    };
    let values = |spec: &StatisticSpec| match spec.statistic {
        Statistic::AbsMax => vec![8.0, 2.0],
        _ => oracle_ranges(spec),
    };
    let evaluator = TableEvaluator::new(|_, evaluation, published| statistics_answer(evaluation, published, values));
    let set: SampleSet = samples(b"calibration", 3);
    let source = Source {
        model,
        graph: &graph,
        calibration: &workload(b"calibration"),
        calibration_set: &set,
        validation: &workload(b"validation"),
    };
    let transformed = run_ready(transform(&evaluator, &source, parameters, mode))?;
    Ok((transformed, evaluator.published.into_inner().expect("no test thread panicked")))
}

#[test]
fn a_transformed_model_has_workloads_of_its_own() {
    let original = model(true);
    let (found, published) = transformed(&original, &transformer(), Mode::Default).expect("it works");
    let found = found.expect("something to smooth");
    let digest = found.model.digest();
    assert_ne!(digest, original.digest());
    assert_eq!(published[&digest], found.model.to_bytes());
    for (workload, manifest) in [(found.calibration, "calibration"), (found.validation, "validation")] {
        let workload: Workload = serde_json::from_slice(&published[&workload]).expect("a workload");
        assert_eq!((workload.model, workload.manifest), (digest, Digest::of(manifest.as_bytes())));
    }
    let again = transformed(&original, &transformer(), Mode::Default).expect("it works").0.expect("the same");
    assert_eq!((again.validation, again.record), (found.validation, found.record.clone()));
}

#[test]
fn an_inserted_multiplication_is_not_quantized() {
    let parameters = QuantizationParameters { smooth_quant_alpha: Some(0.5), ..QuantizationParameters::default() };
    let found = transformed(&model(true), &parameters, Mode::Default).expect("it works").0.expect("smoothed");
    let placement = place(&found.graph, &found.parameters, Mode::Default).expect("a placement");
    let operations: Vec<&str> =
        placement.groups.iter().flat_map(|group| &group.operations).map(String::as_str).collect();
    assert_eq!(operations, ["y"]);
    assert!(found.graph.ops().any(|(_, op)| matches!(op.kind, OpKind::Binary(BinaryKind::Mul))));
}

#[test]
fn each_mode_has_its_own_transformations_unless_told_otherwise() {
    let count = |transformer_model: bool, parameters: QuantizationParameters, mode| {
        let (found, _) = transformed(&model(transformer_model), &parameters, mode).expect("it works");
        found.map_or(0, |found| found.record.len())
    };
    let plain = QuantizationParameters::default;
    assert_eq!((count(false, plain(), Mode::Compat), count(false, plain(), Mode::Default)), (1, 0));
    assert_eq!((count(true, transformer(), Mode::Compat), count(true, transformer(), Mode::Default)), (0, 1));
    assert_eq!(count(true, plain(), Mode::Default), 0, "it is no transformer");
    let set = |align| QuantizationParameters { channel_alignment: Some(align), ..plain() };
    assert_eq!((count(false, set(false), Mode::Compat), count(false, set(true), Mode::Default)), (0, 1));
    let off = QuantizationParameters { smooth_quant_alpha: Some(-1.0), ..transformer() };
    assert_eq!(count(true, off, Mode::Default), 0);
    let odd = QuantizationParameters { smooth_quant_alpha: Some(1.5), ..transformer() };
    assert!(matches!(transformed(&model(true), &odd, Mode::Default), Err(CoreError::Parameter { .. })));
}

#[test]
fn the_second_convolution_of_an_aligned_pair_is_halved_where_any_is() {
    let halved = |saturation_fix| {
        let parameters = QuantizationParameters { saturation_fix, ..QuantizationParameters::default() };
        let found = transformed(&model(false), &parameters, Mode::Compat).expect("it works").0.expect("aligned");
        let placement = place(&found.graph, &found.parameters, Mode::Compat).expect("a placement");
        placement.sites.iter().filter(|site| site.halved).count()
    };
    assert_eq!((halved(None), halved(Some(SaturationFix::No))), (2, 0));
}
