//! Where quantizers stand and what groups they form, on small graphs.

use super::placement::{Placement, place};
use crate::parameters::{
    Granularity, Ignored, IgnoredOperation, Mode, ModelType, Preset, QuantizationParameters, TensorParameters,
};
use crate::testing::{GraphBuilder, chain};
use holdfast_common::graph::{BinaryKind, Graph, OpKind, ReduceKind, TensorId, UnaryKind};
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_common::scheme::QuantizerSite;

fn placed(graph: &Graph) -> Placement {
    place(graph, &QuantizationParameters::default(), Mode::Default).expect("a placement")
}

/// The placement of the default mode, whose groups are those of compat mode as well.
fn grouped(graph: &Graph) -> Placement {
    let placement = placed(graph);
    let compat = place(graph, &QuantizationParameters::default(), Mode::Compat).expect("a placement");
    assert_eq!(groups(&placement), groups(&compat));
    placement
}

fn activations(placement: &Placement) -> Vec<&str> {
    let name = |site: &QuantizerSite| match site {
        QuantizerSite::Activation { tensor, .. } => Some(tensor.clone().leak() as &str),
        QuantizerSite::Weight { .. } => None,
    };
    placement.sites.iter().filter_map(|site| name(&site.site)).collect()
}

/// Operations and tensors of every group.
fn groups(placement: &Placement) -> Vec<(Vec<&str>, Vec<&str>)> {
    let tensor = |index: usize| match &placement.sites[index].site {
        QuantizerSite::Activation { tensor, .. } | QuantizerSite::Weight { tensor, .. } => tensor.as_str(),
    };
    let group = |group: &'_ holdfast_common::scheme::QuantizerGroup| {
        group.quantizers.iter().map(|id| id.0 as usize).collect::<Vec<_>>()
    };
    placement
        .groups
        .iter()
        .map(|g| (g.operations.iter().map(String::as_str).collect(), group(g).into_iter().map(tensor).collect()))
        .collect()
}

fn operations(placement: &Placement) -> Vec<Vec<&str>> {
    groups(placement).into_iter().map(|(operations, _)| operations).collect()
}

#[test]
fn a_chain_has_one_group_per_convolution() {
    let placement = grouped(&chain(&["a", "b"]));
    let expected = [(vec!["a"], vec!["image", "a.weight"]), (vec!["b"], vec!["a.relu", "b.weight"])];
    assert_eq!(groups(&placement), expected);
    assert_eq!(placement.groups[0].macs, 4 * 4 * 2 * 2 * 9);
}

#[test]
fn a_quantizer_that_feeds_two_convolutions_joins_them() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let one = b.conv("one", x, 2, 3, 1);
    let two = b.conv("two", x, 2, 1, 1);
    let placement = grouped(&b.finish(&[one, two]));
    assert_eq!(groups(&placement), [(vec!["one", "two"], vec!["x", "one.weight", "two.weight"])]);
}

#[test]
fn a_residual_addition_joins_the_convolution_that_shares_its_input() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let one = b.conv("one", x, 2, 3, 1);
    let sum = b.add("sum", one, x);
    let r = b.relu("r", sum);
    let two = b.conv("two", r, 2, 3, 1);
    let placement = grouped(&b.finish(&[two]));
    let expected = [(vec!["one", "sum"], vec!["x", "one.weight", "one"]), (vec!["two"], vec!["r", "two.weight"])];
    assert_eq!(groups(&placement), expected);
}

#[test]
fn a_concatenation_passes_codes_of_unified_quantizers() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let left = b.relu("left", x);
    let right = b.unary("right", UnaryKind::Tanh, x);
    let both = b.concat("both", &[left, right]);
    let pooled = b.max_pool("pooled", both);
    let one = b.conv("one", pooled, 2, 3, 1);
    let two = b.conv("two", left, 2, 3, 1);
    let placement = grouped(&b.finish(&[one, two]));
    let expected = [(vec!["one", "two"], vec!["left", "right", "one.weight", "two.weight"])];
    assert_eq!(groups(&placement), expected);
    assert_eq!(placement.unified, [vec![0, 1]]);
    let QuantizerSite::Activation { readers, .. } = &placement.sites[0].site else { panic!("an activation") };
    assert_eq!(readers, &[("both".to_owned(), 0), ("two".to_owned(), 0)]);
}

#[test]
fn groups_do_not_climb_through_float_operations() {
    let mut b = GraphBuilder::default();
    let a = b.input("a", &[1, 2, 4, 4]);
    let x = b.input("x", &[1, 2, 4, 4]);
    let conv = b.conv("conv", a, 2, 3, 1);
    let s = b.unary("s", UnaryKind::Sigmoid, conv);
    let sum = b.add("sum", x, s);
    let placement = grouped(&b.finish(&[sum]));
    let expected = [(vec!["conv"], vec!["a", "conv.weight"]), (vec!["sum"], vec!["x", "s"])];
    assert_eq!(groups(&placement), expected);
}

#[test]
fn a_concatenation_with_a_constant_keeps_its_quantizer_below() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let constant = b.constant("constant", &[1, 1, 4, 4], vec![1.0; 16]);
    let both = b.concat("both", &[x, constant]);
    let one = b.conv("one", both, 2, 3, 1);
    assert_eq!(activations(&placed(&b.finish(&[one]))), ["both"]);
}

#[test]
fn a_quantizer_rises_only_where_every_branch_ends_in_quantizers() {
    let build = |float_branch: bool| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 2, 4, 4]);
        let r = b.relu("r", x);
        let pooled = b.max_pool("pooled", r);
        let one = b.conv("one", pooled, 2, 3, 1);
        let two = if float_branch { b.unary("two", UnaryKind::Tanh, pooled) } else { b.conv("two", pooled, 2, 3, 1) };
        b.finish(&[one, two])
    };
    assert_eq!(activations(&placed(&build(false))), ["r"]);
    assert_eq!(activations(&placed(&build(true))), ["pooled"]);
}

#[test]
fn a_model_output_keeps_its_float_value() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let r = b.relu("r", x);
    let pooled = b.max_pool("pooled", r);
    let one = b.conv("one", pooled, 2, 3, 1);
    assert_eq!(activations(&placed(&b.finish(&[one, pooled]))), ["pooled"]);
}

/// ResNet-20 for CIFAR with parameter-free shortcuts.
fn resnet_20() -> Graph {
    let mut b = GraphBuilder::default();
    let image = b.input("image", &[1, 3, 32, 32]);
    let stem = b.conv("stem", image, 16, 3, 1);
    let mut x = b.relu("stem.relu", stem);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = |part: &str| format!("{stage}.{block}.{part}");
            let first = b.conv(&name("conv1"), x, channels, 3, stride);
            let first = b.relu(&name("relu1"), first);
            let second = b.conv(&name("conv2"), first, channels, 3, 1);
            let mut shortcut = x;
            if stride == 2 {
                let shape = b.shape(second);
                let kind = OpKind::Slice { starts: vec![0; 4], steps: vec![1, 1, 2, 2] };
                shortcut = b.op(&name("slice"), kind, &[shortcut], &[1, channels / 2, shape[2], shape[3]]);
                let around = channels as isize / 4;
                let pads = vec![0, around, 0, 0];
                let kind = OpKind::Pad { begin: pads.clone(), end: pads, value: 0.0 };
                shortcut = b.op(&name("pad"), kind, &[shortcut], &shape);
            }
            let sum = b.add(&name("add"), second, shortcut);
            x = b.relu(&name("relu2"), sum);
        }
    }
    let kind = OpKind::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: false };
    let pooled = b.op("pool", kind, &[x], &[1, 64]);
    let logits = b.gemm("classifier", pooled, 10);
    b.finish(&[logits])
}

#[test]
fn a_residual_network_of_twenty_layers_has_thirty_quantized_operations() {
    let graph = resnet_20();
    let placement = placed(&graph);
    let all: Vec<&str> = operations(&placement).concat();
    let count = |kind: &str| {
        all.iter().filter(|name| graph.find_op(name).is_some_and(|id| graph.op(id).kind.name() == kind)).count()
    };
    assert_eq!((count("Conv"), count("Add"), count("ReduceMean"), count("Gemm"), all.len()), (19, 9, 1, 1, 30));
    assert_eq!(placement.groups.len(), 21);
    let named = |name: &str| operations(&placement).into_iter().find(|group| group[0] == name);
    assert_eq!(named("0.1.conv1"), Some(vec!["0.1.conv1", "0.1.add"]));
    assert_eq!(named("1.0.conv1"), Some(vec!["1.0.conv1", "1.0.add"]), "through the slice and the padding");
    assert_eq!(named("0.1.conv2"), Some(vec!["0.1.conv2"]));
    assert_eq!(placement.groups.iter().flat_map(|group| &group.quantizers).count(), placement.sites.len());
}

#[test]
fn weights_have_the_axis_of_their_output_channels() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[2, 3]);
    let weights =
        |b: &mut GraphBuilder, name: &str, shape: &[usize]| b.constant(name, shape, vec![0.5; shape.iter().product()]);
    let plain = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let w = weights(&mut b, "w1", &[3, 4]);
    let one = b.op("one", plain, &[x, w], &[2, 4]);
    let transposed = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let w = weights(&mut b, "w2", &[5, 3]);
    let two = b.op("two", transposed, &[x, w], &[2, 5]);
    let w = weights(&mut b, "w3", &[3, 6]);
    let three = b.op("three", OpKind::MatMul, &[x, w], &[2, 6]);
    let image = b.input("image", &[1, 2, 4, 4]);
    let w = weights(&mut b, "w4", &[2, 3, 1, 1]);
    let kind = OpKind::ConvTranspose(crate::testing::conv_attributes(1, 1, 0, 1));
    let four = b.op("four", kind, &[image, w], &[1, 3, 4, 4]);
    let five = b.conv("five", four, 2, 1, 1);
    let placement = placed(&b.finish(&[one, two, three, five]));
    let weights = placement.sites.iter().filter(|site| site.class == TensorClass::Weights);
    let axes: Vec<Option<usize>> = weights.map(|site| site.axis).collect();
    assert_eq!(axes, [Some(1), Some(0), Some(1), Some(1), Some(0)]);
}

#[test]
fn presets_choose_the_symmetry_of_activations_and_modes_override_them() {
    let graph = chain(&["a"]);
    let symmetries = |parameters: &QuantizationParameters| -> Vec<Symmetry> {
        place(&graph, parameters, Mode::Default).expect("a placement").sites.iter().map(|site| site.symmetry).collect()
    };
    use Symmetry::{Asymmetric, Symmetric};
    let mixed = QuantizationParameters { preset: Preset::Mixed, ..Default::default() };
    let weights = TensorParameters { mode: Some(Asymmetric), ..Default::default() };
    let asymmetric_weights = QuantizationParameters { weights, ..Default::default() };
    assert_eq!(symmetries(&QuantizationParameters::default()), [Symmetric, Symmetric]);
    assert_eq!(symmetries(&mixed), [Asymmetric, Symmetric]);
    assert_eq!(symmetries(&asymmetric_weights), [Symmetric, Asymmetric]);
}

#[test]
fn depthwise_activations_are_per_channel_only_in_compat_mode_or_when_asked_for() {
    let build = |shared: bool| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 4, 4, 4]);
        let depthwise = b.grouped_conv("depthwise", x, 4, 3, 1, 4);
        let other = b.conv("other", if shared { x } else { depthwise }, 2, 1, 1);
        b.finish(&[depthwise, other])
    };
    let axis = |graph: &Graph, parameters: &QuantizationParameters, mode| {
        place(graph, parameters, mode).expect("a placement").sites[0].axis
    };
    let plain = QuantizationParameters::default();
    let activations = TensorParameters { granularity: Some(Granularity::PerChannel), ..Default::default() };
    let asked = QuantizationParameters { activations, ..Default::default() };
    assert_eq!(axis(&build(false), &plain, Mode::Default), None);
    assert_eq!(axis(&build(false), &plain, Mode::Compat), Some(1));
    assert_eq!(axis(&build(false), &asked, Mode::Default), Some(1));
    assert_eq!(axis(&build(true), &plain, Mode::Compat), None, "an ordinary convolution reads the same codes");
}

#[test]
fn what_reads_the_same_codes_agrees_per_tensor_and_the_preset_chooses_the_symmetry() {
    let build = |group: usize| {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 4, 4, 4]);
        let one = b.grouped_conv("one", x, 4, 3, 1, group);
        let two = b.conv("two", x, 2, 1, 1);
        b.finish(&[one, two])
    };
    for mode in [Mode::Default, Mode::Compat] {
        for (preset, symmetry) in [(Preset::Performance, Symmetry::Symmetric), (Preset::Mixed, Symmetry::Asymmetric)] {
            let parameters = QuantizationParameters { preset, ..Default::default() };
            for group in [1, 4] {
                let placement = place(&build(group), &parameters, mode).expect("a placement");
                let site = &placement.sites[0];
                assert_eq!((site.axis, site.symmetry), (None, symmetry), "{mode:?} {preset:?} {group}");
            }
        }
    }
}

#[test]
fn ignored_operations_stay_float_by_name_and_by_type() {
    let graph = chain(&["a", "b"]);
    let with = |ignored| place(&graph, &QuantizationParameters { ignored, ..Default::default() }, Mode::Default);
    let by_name = with(Ignored { scope: vec!["a".to_owned()], ..Default::default() }).expect("a placement");
    assert_eq!(operations(&by_name), [vec!["b"]]);
    let by_type = with(Ignored {
        operations: vec![IgnoredOperation { operator: "Conv".to_owned(), ..Default::default() }],
        ..Default::default()
    })
    .expect("a placement");
    assert!(by_type.groups.is_empty() && by_type.sites.is_empty());
    assert!(with(Ignored { scope: vec!["nobody".to_owned()], ..Default::default() }).is_err());
}

#[test]
fn only_compat_mode_halves_the_weights_of_the_first_convolution() {
    let graph = chain(&["a", "b"]);
    let halved = |mode| {
        let placement = place(&graph, &QuantizationParameters::default(), mode).expect("a placement");
        placement.sites.iter().map(|site| site.halved).collect::<Vec<_>>()
    };
    assert_eq!(halved(Mode::Default), [false; 4]);
    assert_eq!(halved(Mode::Compat), [false, true, false, false]);
}

/// Names of quantized operations of what `build` makes from an image that a convolution and a rectifier have passed.
fn quantized_after_stem(build: impl Fn(&mut GraphBuilder, TensorId) -> TensorId) -> Vec<String> {
    let mut b = GraphBuilder::default();
    let image = b.input("image", &[1, 4, 8, 8]);
    let stem = b.conv("stem", image, 4, 3, 1);
    let x = b.unary("start", UnaryKind::Tanh, stem);
    let y = build(&mut b, x);
    let graph = b.finish(&[y]);
    placed(&graph).groups.into_iter().flat_map(|group| group.operations).filter(|name| name != "stem").collect()
}

#[test]
fn constant_arithmetic_after_weights_stays_float() {
    let quantized = quantized_after_stem(|b, x| {
        let y = b.conv("conv", x, 4, 1, 1);
        let y = b.scalar("bias", BinaryKind::Add, y, 1.0);
        let y = b.relu("relu", y);
        let y = b.scalar("scale", BinaryKind::Mul, y, 2.0);
        b.scalar("shift", BinaryKind::Add, y, 3.0)
    });
    assert_eq!(quantized, ["conv"]);
    let elsewhere = quantized_after_stem(|b, x| b.scalar("scale", BinaryKind::Mul, x, 2.0));
    assert_eq!(elsewhere, ["scale"]);
}

#[test]
fn swish_and_its_hard_forms_stay_float() {
    let swish = quantized_after_stem(|b, x| {
        let gate = b.unary("gate", UnaryKind::Sigmoid, x);
        b.binary("product", BinaryKind::Mul, x, gate)
    });
    let hard = quantized_after_stem(|b, x| {
        let y = b.scalar("three", BinaryKind::Add, x, 3.0);
        let y = b.unary("clip", UnaryKind::Clip { min: 0.0, max: 6.0 }, y);
        let y = b.binary("product", BinaryKind::Mul, x, y);
        b.scalar("sixth", BinaryKind::Div, y, 6.0)
    });
    let other = quantized_after_stem(|b, x| {
        let y = b.unary("other", UnaryKind::Tanh, x);
        b.binary("product", BinaryKind::Mul, x, y)
    });
    assert!(swish.is_empty() && hard.is_empty(), "{swish:?} {hard:?}");
    assert_eq!(other, ["product"]);
}

#[test]
fn the_inner_products_of_squeeze_and_excitation_stay_float() {
    let quantized = quantized_after_stem(|b, x| {
        let pooled = b.op("pool", OpKind::GlobalAveragePool, &[x], &[1, 4, 1, 1]);
        let y = b.conv("squeeze", pooled, 2, 1, 1);
        let y = b.relu("relu", y);
        let y = b.conv("excite", y, 4, 1, 1);
        let y = b.unary("gate", UnaryKind::Sigmoid, y);
        b.binary("product", BinaryKind::Mul, x, y)
    });
    assert_eq!(quantized, ["pool", "product"]);
}

#[test]
fn attention_values_and_layer_normalization_stay_float() {
    let tail = |b: &mut GraphBuilder, x: TensorId| {
        let probabilities = b.op("softmax", OpKind::Softmax { axis: 3, log: false }, &[x], &[1, 4, 8, 8]);
        let flat = b.op("flat", OpKind::Reshape, &[x], &[1, 8, 32]);
        let weights = b.constant("w", &[32, 32], vec![0.1; 1024]);
        let values = b.op("values", OpKind::MatMul, &[flat, weights], &[1, 8, 32]);
        let values = b.scalar("values.bias", BinaryKind::Add, values, 0.5);
        let values = b.op("split", OpKind::Reshape, &[values], &[1, 8, 4, 8]);
        let values = b.op("heads", OpKind::Transpose { permutation: vec![0, 2, 1, 3] }, &[values], &[1, 4, 8, 8]);
        b.op("context", OpKind::MatMul, &[probabilities, values], &[1, 4, 8, 8])
    };
    assert_eq!(quantized_after_stem(tail), ["values"]);
    let normalized = quantized_after_stem(|b, x| {
        let kind = || OpKind::Reduce { kind: ReduceKind::Mean, axes: vec![3], keep_dims: true };
        let mean = b.op("mean", kind(), &[x], &[1, 4, 8, 1]);
        let centred = b.binary("centred", BinaryKind::Sub, x, mean);
        let square = b.scalar("square", BinaryKind::Pow, centred, 2.0);
        let variance = b.op("variance", kind(), &[square], &[1, 4, 8, 1]);
        let stable = b.scalar("stable", BinaryKind::Add, variance, 1e-5);
        let root = b.unary("root", UnaryKind::Sqrt, stable);
        let y = b.binary("normalized", BinaryKind::Div, centred, root);
        let y = b.scalar("gamma", BinaryKind::Mul, y, 2.0);
        b.scalar("beta", BinaryKind::Add, y, 3.0)
    });
    assert!(normalized.is_empty(), "{normalized:?}");
}

#[test]
fn gelu_written_out_stays_float() {
    let quantized = quantized_after_stem(|b, x| {
        let y = b.scalar("scaled", BinaryKind::Div, x, 1.414);
        let y = b.unary("erf", UnaryKind::Erf, y);
        let y = b.scalar("one", BinaryKind::Add, y, 1.0);
        let y = b.binary("product", BinaryKind::Mul, x, y);
        b.scalar("half", BinaryKind::Mul, y, 0.5)
    });
    assert!(quantized.is_empty(), "{quantized:?}");
}

#[test]
fn transformers_keep_element_wise_arithmetic_float_and_products_of_activations_symmetric() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[4, 4]);
    let y = b.unary("y", UnaryKind::Tanh, x);
    let product = b.op("product", OpKind::MatMul, &[x, y], &[4, 4]);
    let sum = b.add("sum", product, y);
    let graph = b.finish(&[sum]);
    let parameters = QuantizationParameters {
        preset: Preset::Mixed,
        model_type: Some(ModelType::Transformer),
        ..Default::default()
    };
    let placement = place(&graph, &parameters, Mode::Default).expect("a placement");
    assert_eq!(operations(&placement), [vec!["product"]]);
    assert!(placement.sites.iter().all(|site| site.symmetry == Symmetry::Symmetric));
}

#[test]
fn divisions_in_transformers_are_quantized_only_in_compat_mode() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[4, 4]);
    let y = b.unary("y", UnaryKind::Tanh, x);
    let scores = b.op("scores", OpKind::MatMul, &[x, y], &[4, 4]);
    let scaled = b.scalar("scaled", BinaryKind::Div, scores, 8.0);
    let graph = b.finish(&[scaled]);
    let parameters = QuantizationParameters { model_type: Some(ModelType::Transformer), ..Default::default() };
    let quantized = |mode| {
        let placement = place(&graph, &parameters, mode).expect("a placement");
        placement.groups.into_iter().flat_map(|group| group.operations).collect::<Vec<_>>()
    };
    assert_eq!(quantized(Mode::Default), ["scores"]);
    assert_eq!(quantized(Mode::Compat), ["scores", "scaled"]);
}

#[test]
fn arithmetic_on_the_model_input_stays_float() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 3, 4, 4]);
    let y = b.scalar("mean", BinaryKind::Sub, x, 0.5);
    let y = b.scalar("std", BinaryKind::Div, y, 0.25);
    let y = b.conv("conv", y, 2, 3, 1);
    assert_eq!(operations(&placed(&b.finish(&[y]))), [vec!["conv"]]);
}

#[test]
fn placing_twice_gives_the_same_placement() {
    let graph = resnet_20();
    assert_eq!(placed(&graph), placed(&graph));
}
