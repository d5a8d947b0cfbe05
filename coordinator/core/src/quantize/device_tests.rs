//! Levels, halved codes, devices and skipped models, from the user's parameters to placement, params and codes.

use super::default_quantization::calibrate_and_quantize;
use super::placement::{Placement, place};
use crate::parameters::{
    Ignored, Mode, ModelType, QuantizationParameters, SaturationFix, TargetDevice, TensorParameters,
};
use crate::testing::{
    GraphBuilder, TableEvaluator, chain, conv_attributes, plain_statistics, run_ready, samples, statistics_answer,
};
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::{BinaryKind, Graph, OpKind};
use holdfast_common::quantization::codes::quantize_weights;
use holdfast_common::quantization::params::{TensorClass, Width};
use holdfast_common::scheme::QuantParams;

fn placed(graph: &Graph, parameters: &QuantizationParameters, mode: Mode) -> Placement {
    place(graph, parameters, mode).expect("a placement")
}

fn operations(placement: &Placement) -> Vec<&str> {
    placement.groups.iter().flat_map(|group| group.operations.iter().map(String::as_str)).collect()
}

/// Names of the tensors whose weights are halved.
fn halved(graph: &Graph, parameters: &QuantizationParameters, mode: Mode) -> Vec<String> {
    let sites = placed(graph, parameters, mode).sites;
    sites.iter().filter(|site| site.halved).map(|site| graph.tensor(site.tensor).name.clone()).collect()
}

fn params(
    graph: &Graph,
    parameters: &QuantizationParameters,
    mode: Mode,
    statistics: impl Fn(&StatisticSpec) -> Vec<f64> + Sync,
) -> Vec<QuantParams> {
    let answer = |_, evaluation: &_, published: &_| statistics_answer(evaluation, published, &statistics);
    let evaluator = TableEvaluator::new(answer);
    let set = samples(b"calibration", 2);
    let found = run_ready(calibrate_and_quantize(&evaluator, graph, &set, parameters, mode)).expect("a scheme");
    found.scheme.quantizers.into_iter().map(|quantizer| quantizer.params).collect()
}

/// A product, two convolutions behind it, one behind those, and a product at the end.
fn mixed() -> Graph {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 4]);
    let image = b.input("image", &[1, 2, 4, 4]);
    let start = b.gemm("start", x, 32);
    let start = b.op("shaped", OpKind::Reshape, &[start], &[1, 2, 4, 4]);
    let a = b.conv("a", start, 2, 3, 1);
    let b1 = b.conv("b", image, 2, 3, 1);
    let sum = b.add("sum", a, b1);
    let c = b.conv("c", sum, 2, 3, 1);
    let flat = b.op("flat", OpKind::Reshape, &[c], &[1, 32]);
    let y = b.gemm("end", flat, 3);
    b.finish(&[y])
}

#[test]
fn the_saturation_fix_halves_no_codes_those_of_the_first_convolutions_or_all() {
    let with = |saturation_fix| QuantizationParameters { saturation_fix, ..Default::default() };
    for (mode, fix, expected) in [
        (Mode::Default, None, vec![]),
        (Mode::Compat, None, vec!["a.weight", "b.weight"]),
        (Mode::Compat, Some(SaturationFix::No), vec![]),
        (Mode::Default, Some(SaturationFix::FirstLayer), vec!["a.weight", "b.weight"]),
        (
            Mode::Default,
            Some(SaturationFix::All),
            vec!["start.weight", "a.weight", "b.weight", "c.weight", "end.weight"],
        ),
    ] {
        assert_eq!(halved(&mixed(), &with(fix), mode), expected, "{mode:?} {fix:?}");
    }
}

#[test]
fn compat_mode_fixes_saturation_only_on_general_processors_and_where_there_is_a_convolution() {
    let fix = Some(SaturationFix::All);
    let on = |target_device| QuantizationParameters { saturation_fix: fix, target_device, ..Default::default() };
    for (device, count) in
        [(TargetDevice::Any, 5), (TargetDevice::Cpu, 5), (TargetDevice::CpuSpr, 0), (TargetDevice::Gpu, 0)]
    {
        assert_eq!(halved(&mixed(), &on(device), Mode::Compat).len(), count, "{device:?}");
        assert_eq!(halved(&mixed(), &on(device), Mode::Default).len(), 5, "{device:?}");
    }
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 4]);
    let y = b.gemm("only", x, 3);
    let products = b.finish(&[y]);
    assert!(halved(&products, &on(TargetDevice::Any), Mode::Compat).is_empty());
    assert_eq!(halved(&products, &on(TargetDevice::Any), Mode::Default), ["only.weight"]);
}

#[test]
fn halved_weights_have_half_the_codes_and_twice_the_scale() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 3, 1, 1]);
    let w = b.constant("w", &[2, 3, 1, 1], vec![0.5, -1.27, 0.003, 0.25, 0.5, -0.1]);
    let y = b.op("conv", OpKind::Conv(conv_attributes(1, 1, 0, 1)), &[x, w], &[1, 2, 1, 1]);
    let graph = b.finish(&[y]);
    let codes = |saturation_fix, mode| {
        let parameters = QuantizationParameters { saturation_fix: Some(saturation_fix), ..Default::default() };
        let params = params(&graph, &parameters, mode, plain_statistics).remove(1);
        let weights = graph.constant_input(holdfast_common::graph::OpId(0), 1).and_then(|data| data.as_f32());
        let codes = quantize_weights(weights.expect("weights"), &params).expect("codes");
        (codes.into_iter().collect::<Vec<i8>>(), params.scales)
    };
    for mode in [Mode::Default, Mode::Compat] {
        let (plain, scales) = codes(SaturationFix::No, mode);
        assert_eq!(plain, [50, -127, 0, 64, 127, -25]);
        let (halved, doubled) = codes(SaturationFix::FirstLayer, mode);
        assert_eq!(halved, [25, -64, 0, 32, 64, -13]);
        assert_eq!(doubled, scales.iter().map(|scale| scale * 2.0).collect::<Vec<f32>>());
    }
}

#[test]
fn levels_widen_weights_to_minus_128_and_force_a_sign_on_activations() {
    let width = |level_low, level_high| TensorParameters {
        width: Width { bits: 8, level_low, level_high },
        ..Default::default()
    };
    let never_negative = |spec: &StatisticSpec| match spec.statistic {
        Statistic::Mean => vec![0.0; 2],
        Statistic::Min => vec![0.0],
        _ => vec![1.27],
    };
    let found = |parameters: &QuantizationParameters| params(&chain(&["a"]), parameters, Mode::Default, never_negative);
    let plain = found(&QuantizationParameters::default());
    assert_eq!((plain[0].zero_points[0], plain[0].code_max), (0, 255));
    assert_eq!((plain[1].code_min, plain[1].code_max), (-127, 127));

    let weights = QuantizationParameters { weights: width(Some(-128), None), ..Default::default() };
    let wide = &found(&weights)[1];
    assert_eq!((wide.code_min, wide.code_max, wide.zero_points[0]), (-128, 127, 0));
    assert_eq!(wide.scales, plain[1].scales, "the scale of the narrow range, with one more code below");

    let low = QuantizationParameters { activations: width(Some(-128), None), ..Default::default() };
    let signed = &found(&low)[0];
    assert_eq!((signed.zero_points[0], signed.code_max), (128, 255));
    assert!((f64::from(signed.scales[0]) - 0.01).abs() < 1e-8);

    let high = QuantizationParameters { activations: width(Some(0), Some(127)), ..Default::default() };
    let fewer = &found(&high)[0];
    assert_eq!((fewer.zero_points[0], fewer.code_max), (0, 127));
    assert!((f64::from(fewer.scales[0]) - 0.01).abs() < 1e-8);
    let high = QuantizationParameters { weights: width(None, Some(63)), ..Default::default() };
    assert_eq!(found(&high)[1].code_max - found(&high)[1].code_min, 127 + 63);
}

#[test]
fn a_skipped_model_gets_no_quantizers() {
    let ignored = Ignored { skip_model: true, ..Default::default() };
    let parameters = QuantizationParameters { ignored, ..Default::default() };
    let placement = placed(&chain(&["a"]), &parameters, Mode::Default);
    assert!(placement.sites.is_empty() && placement.groups.is_empty());
    let unknown = Ignored { skip_model: true, scope: vec!["nobody".to_owned()], ..Default::default() };
    let parameters = QuantizationParameters { ignored: unknown, ..Default::default() };
    assert!(place(&chain(&["a"]), &parameters, Mode::Default).is_err());
}

#[test]
fn products_in_transformers_are_quantized_only_on_processors_with_matrix_extensions() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 4]);
    let y = b.input("y", &[1, 4]);
    let product = b.binary("product", BinaryKind::Mul, x, y);
    let sum = b.add("sum", product, x);
    let graph = b.finish(&[sum]);
    let on = |target_device| {
        let model_type = Some(ModelType::Transformer);
        let parameters = QuantizationParameters { target_device, model_type, ..Default::default() };
        operations(&placed(&graph, &parameters, Mode::Default)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(on(TargetDevice::Cpu), [""; 0]);
    assert_eq!(on(TargetDevice::Gpu), [""; 0]);
    assert_eq!(on(TargetDevice::CpuSpr), ["product"]);
}

/// Inputs of the addition `sum` that have quantizers on a device.
fn quantized_operands(graph: &Graph, target_device: TargetDevice) -> Vec<usize> {
    let parameters = QuantizationParameters { target_device, ..Default::default() };
    let placement = placed(graph, &parameters, Mode::Default);
    let sum = graph.find_op("sum").expect("an addition");
    placement.inputs.keys().filter(|(op, _)| *op == sum).map(|(_, input)| *input).collect()
}

#[test]
fn matrix_extensions_leave_one_operand_of_an_addition_float() {
    // A residual block: the shortcut has another reader, the branch ends in a convolution.
    let residual = |branch_first: bool| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 2, 4, 4]);
        let x = b.relu("x.relu", x);
        let branch = b.conv("branch", x, 2, 3, 1);
        let sum = if branch_first { b.add("sum", branch, x) } else { b.add("sum", x, branch) };
        b.finish(&[sum])
    };
    for branch_first in [true, false] {
        let graph = residual(branch_first);
        assert_eq!(quantized_operands(&graph, TargetDevice::Cpu), [0, 1]);
        assert_eq!(quantized_operands(&graph, TargetDevice::Gpu), [0, 1]);
        assert_eq!(quantized_operands(&graph, TargetDevice::CpuSpr), [usize::from(branch_first)]);
    }
    // Two convolutions, with and without a broadcast.
    let joined = |first_channels: usize| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 2, 4, 4]);
        let one = b.conv("one", x, first_channels, 3, 1);
        let one = b.relu("one.relu", one);
        let two = b.conv("two", x, 2, 3, 1);
        let shape = b.shape(if first_channels > 2 { one } else { two });
        let sum = b.op("sum", OpKind::Binary(BinaryKind::Add), &[one, two], &shape);
        b.finish(&[sum])
    };
    assert_eq!(quantized_operands(&joined(2), TargetDevice::CpuSpr), [0]);
    assert_eq!(quantized_operands(&joined(4), TargetDevice::CpuSpr), [1], "the larger tensor stays float");
    // Neither side comes from a product.
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let y = b.input("y", &[1, 2, 4, 4]);
    let sum = b.add("sum", x, y);
    assert_eq!(quantized_operands(&b.finish(&[sum]), TargetDevice::CpuSpr), [0, 1]);
}

#[test]
fn a_float_operand_leaves_its_other_readers_their_codes() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let one = b.conv("one", x, 2, 3, 1);
    let two = b.conv("two", x, 2, 3, 1);
    let sum = b.add("sum", one, two);
    let other = b.conv("other", two, 2, 3, 1);
    let again = b.conv("again", one, 2, 3, 1);
    let graph = b.finish(&[sum, other, again]);
    let parameters = QuantizationParameters { target_device: TargetDevice::CpuSpr, ..Default::default() };
    let placement = placed(&graph, &parameters, Mode::Default);
    let activations = placement.sites.iter().filter(|site| site.class == TensorClass::Activations);
    let names: Vec<&str> = activations.map(|site| graph.tensor(site.tensor).name.as_str()).collect();
    assert_eq!(names, ["x", "one", "two"]);
    assert_eq!(operations(&placement).len(), 5);
}
