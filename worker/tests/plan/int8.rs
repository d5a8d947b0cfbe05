//! Products and additions on codes equal the definition, on every instruction set.

use crate::net::{Net, assert_bits, conv, first_output, values};
use crate::slow::{Codes, Product, Sums};
use holdfast_common::graph::{BinaryKind, ConvAttributes, OpId, OpKind, TensorId, UnaryKind};
use holdfast_kernels::Isa;
use holdfast_kernels::int8::{AddU8, QuantizedOperand};
use std::collections::BTreeSet;

const X: (f32, u8) = (0.007_9, 117);
const Y: (f32, u8) = (0.021_3, 3);
const RELU: OpKind = OpKind::Unary(UnaryKind::Relu);
const ADD: OpKind = OpKind::Binary(BinaryKind::Add);

/// Constants of a convolution with `outputs` rows of `depth` weights.
struct Constants {
    weights: Vec<f32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Constants {
    fn random(seed: u64, outputs: usize, depth: usize) -> Constants {
        let scales = values(seed + 1, outputs).iter().map(|value| 0.006 + 0.002 * value).collect();
        Constants { weights: values(seed, outputs * depth), scales, bias: values(seed + 2, outputs) }
    }

    fn product(&self) -> Product<'_> {
        Product { weights: &self.weights, scales: &self.scales, bias: &self.bias }
    }

    /// Adds the convolution of `x` to a net, quantized in a group of its own; returns its output.
    fn add_to(&self, net: &mut Net, name: &str, x: TensorId, attributes: &ConvAttributes, shape: &[usize]) -> TensorId {
        let outputs = self.scales.len();
        let channels = net.graph.tensor(x).shape[1] / attributes.group;
        let weights_shape = [outputs, channels, attributes.kernel[0], attributes.kernel[1]];
        let weights = net.constant(&format!("{name}.w"), &weights_shape, &self.weights);
        let bias = net.constant(&format!("{name}.b"), &[outputs], &self.bias);
        let output = net.one(name, OpKind::Conv(attributes.clone()), &[x, weights, bias], shape);
        net.weights(name, 0, &self.scales);
        output
    }
}

/// Ends a net in the codes of a tensor, so that its output shows them.
fn show(net: &mut Net, tensor: TensorId, params: (f32, u8)) {
    let shape = net.graph.tensor(tensor).shape.clone();
    let flat = [1, shape.iter().product()];
    net.activation(tensor, &[("show", 0)], params);
    let output = net.one("show", OpKind::Reshape, &[tensor], &flat);
    net.output(output);
}

/// Compares convolution, clamp and requantization with the definition, and the convolution's floats as well.
fn check_convolution(seed: u64, shape: [usize; 4], outputs: usize, attributes: &ConvAttributes) {
    let depth = shape[1] / attributes.group * attributes.kernel[0] * attributes.kernel[1];
    let constants = Constants::random(seed, outputs, depth);
    let samples = values(seed + 7, shape.iter().product());
    let x = Codes::of(&samples, &shape, X);
    let sums = constants.product().convolve(&x, attributes);
    let build = |clamp: Option<OpKind>, codes: bool| {
        let mut net = Net::default();
        let input = net.input("x", &shape);
        net.group(&["conv"]);
        net.activation(input, &[("conv", 0)], X);
        let mut last = constants.add_to(&mut net, "conv", input, attributes, &sums.shape);
        if let Some(kind) = clamp {
            last = net.one("clamp", kind, &[last], &sums.shape);
        }
        match codes {
            true => show(&mut net, last, Y),
            false => net.output(last),
        }
        net.run(std::slice::from_ref(&samples))
    };
    let what = format!("seed {seed}");
    assert_bits(&build(None, true), &sums.codes(Y, (0, 255)).reals(), &what);
    assert_bits(&build(Some(RELU), true), &sums.codes(Y, (Y.1, 255)).reals(), &what);
    let relu6 = OpKind::Unary(UnaryKind::Clip { min: 0.0, max: 1.5 });
    let top = (1.5f32 / Y.0).round_ties_even() as u8 + Y.1;
    assert_bits(&build(Some(relu6), true), &sums.codes(Y, (Y.1, top)).reals(), &what);
    assert_bits(&build(None, false), &sums.reals(), &what);
    let positive: Vec<f32> = sums.reals().into_iter().map(|value| if value > 0.0 { value } else { 0.0 }).collect();
    assert_bits(&build(Some(RELU), false), &positive, &what);
}

#[test]
fn a_dense_convolution_equals_its_definition() {
    check_convolution(100, [1, 16, 9, 7], 24, &conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 1));
    check_convolution(200, [1, 5, 6, 6], 70, &conv([1, 1], [1, 1], [1, 1], [0; 4], 1));
}

#[test]
fn a_strided_convolution_with_uneven_padding_equals_its_definition() {
    check_convolution(300, [1, 3, 11, 10], 19, &conv([3, 3], [2, 2], [1, 1], [0, 1, 2, 0], 1));
    check_convolution(400, [1, 64, 8, 8], 16, &conv([1, 1], [2, 2], [1, 1], [0; 4], 1));
}

#[test]
fn a_dilated_convolution_equals_its_definition() {
    check_convolution(500, [1, 8, 9, 9], 8, &conv([3, 2], [1, 1], [2, 3], [2, 1, 2, 2], 1));
}

#[test]
fn a_depthwise_convolution_equals_its_definition() {
    check_convolution(600, [1, 40, 8, 9], 40, &conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 40));
    check_convolution(700, [1, 96, 7, 7], 96, &conv([5, 5], [2, 2], [1, 1], [1, 2, 2, 1], 96));
}

#[test]
fn a_grouped_convolution_equals_its_definition() {
    check_convolution(800, [1, 12, 6, 5], 18, &conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 3));
    check_convolution(900, [1, 6, 5, 5], 12, &conv([3, 3], [1, 1], [1, 1], [1, 0, 0, 1], 6));
}

#[test]
fn a_product_with_either_order_of_weights_equals_its_definition() {
    let (inputs, outputs) = (37, 10);
    let constants = Constants::random(1000, outputs, inputs);
    let samples = values(1007, inputs);
    let sums = constants.product().multiply(&Codes::of(&samples, &[1, inputs], X));
    for trans_b in [true, false] {
        let mut net = Net::default();
        let x = net.input("x", &[1, inputs]);
        let transposed: Vec<f32> =
            (0..inputs * outputs).map(|at| constants.weights[at % outputs * inputs + at / outputs]).collect();
        let weights = match trans_b {
            true => net.constant("w", &[outputs, inputs], &constants.weights),
            false => net.constant("w", &[inputs, outputs], &transposed),
        };
        let bias = net.constant("b", &[outputs], &constants.bias);
        let kind = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b };
        let y = net.one("gemm", kind, &[x, weights, bias], &[1, outputs]);
        net.output(y);
        net.group(&["gemm"]);
        net.activation(x, &[("gemm", 0)], X);
        net.weights("gemm", usize::from(!trans_b), &constants.scales);
        assert_bits(&net.run(std::slice::from_ref(&samples)), &sums.reals(), "gemm");
    }
}

/// A product with weights that the integer kernels do not have equals the float product of what the codes stand for.
fn check_without_kernel(kind: &OpKind, zero_points: [i32; 3]) {
    let (inputs, scales) = (21, [0.006f32, 0.009, 0.007]);
    let weights = values(1100, inputs * 3);
    let bias = values(1102, 3);
    let build = |weights: &[f32], quantized: bool| {
        let mut net = Net::default();
        let x = net.input("x", &[1, inputs]);
        let w = net.constant("w", &[3, inputs], weights);
        let b = net.constant("b", &[3], &bias);
        let y = net.one("gemm", kind.clone(), &[x, w, b], &[1, 3]);
        net.output(y);
        net.group(&["gemm"]);
        net.activation(x, &[("gemm", 0)], X);
        if quantized {
            net.weights("gemm", 0, &scales);
            let params = &mut net.scheme.quantizers[1].params;
            (params.code_min, params.zero_points) = (-128, zero_points.to_vec());
        }
        net
    };
    let stood_for = weights.iter().enumerate().map(|(at, weight)| {
        let (scale, zero_point) = (scales[at / inputs], zero_points[at / inputs]);
        let code = ((weight / scale).round_ties_even() as i32 + zero_point).clamp(-128, 127);
        scale * (code - zero_point) as f32
    });
    let stood_for: Vec<f32> = stood_for.collect();
    let samples = [values(1107, inputs)];
    let found = build(&weights, true).run(&samples);
    assert_bits(&found, &build(&stood_for, false).run(&samples), "what the codes stand for");
    assert!(found.iter().zip(&build(&weights, false).run(&samples)).any(|(a, b)| a != b), "the codes matter");
}

#[test]
fn asymmetric_weights_multiply_in_float_as_what_their_codes_stand_for() {
    let kind = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    check_without_kernel(&kind, [-43, 0, 17]);
}

#[test]
fn a_scaled_product_multiplies_in_float_as_what_its_codes_stand_for() {
    let kind = OpKind::Gemm { alpha: 0.5, beta: 2.0, trans_a: false, trans_b: true };
    check_without_kernel(&kind, [0; 3]);
}

/// Params of the residual blocks below: of both convolutions' outputs, and of the sum.
const A: (f32, u8) = (0.019, 131);
const B: (f32, u8) = (0.023, 88);
const SUM: (f32, u8) = (0.031, 7);

/// The definition of the quantized addition, with a ReLU behind it.
fn add(a: &Codes, b: &Codes) -> Vec<f32> {
    let operand = |(scale, zero_point): (f32, u8)| QuantizedOperand { scale, zero_point };
    let add = AddU8::new(
        operand((a.scale, a.zero_point)),
        operand((b.scale, b.zero_point)),
        operand(SUM),
        (SUM.1, 255),
        true,
    )
    .unwrap();
    let codes: Vec<u8> = a.codes.iter().zip(&b.codes).map(|(a, b)| add.apply(*a, *b)).collect();
    Codes { shape: a.shape.clone(), codes, scale: SUM.0, zero_point: SUM.1 }.reals()
}

/// relu(left(x) + right(x)), where `order` says which convolution comes first in the graph and which operand is first.
fn block(depthwise: bool, right_first: bool, swapped: bool) -> (Net, Vec<f32>, Vec<f32>) {
    let shape = [1, 24, 6, 7];
    let left_attributes = conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], if depthwise { 24 } else { 1 });
    let right_attributes = conv([1, 1], [1, 1], [1, 1], [0; 4], 1);
    let left = Constants::random(2000, 24, if depthwise { 9 } else { 24 * 9 });
    let right = Constants::random(2100, 24, 24);
    let samples = values(2200, shape.iter().product());
    let x = Codes::of(&samples, &shape, X);
    let left_sums = left.product().convolve(&x, &left_attributes);
    let right_sums: Sums = right.product().convolve(&x, &right_attributes);
    let (a, b) = (left_sums.codes(A, (0, 255)), right_sums.codes(B, (0, 255)));
    let mut net = Net::default();
    let input = net.input("x", &shape);
    net.group(&["left", "right", "add"]);
    net.activation(input, &[("left", 0), ("right", 0)], X);
    let mut outputs = [input; 2];
    for which in if right_first { [1, 0] } else { [0, 1] } {
        outputs[which] = match which {
            0 => left.add_to(&mut net, "left", input, &left_attributes, &shape),
            _ => right.add_to(&mut net, "right", input, &right_attributes, &shape),
        };
    }
    let operands = if swapped { [outputs[1], outputs[0]] } else { outputs };
    let sum = net.one("add", ADD, &operands, &shape);
    let relu = net.one("relu", RELU, &[sum], &shape);
    net.activation(outputs[0], &[("add", usize::from(swapped))], A);
    net.activation(outputs[1], &[("add", usize::from(!swapped))], B);
    show(&mut net, relu, SUM);
    let expected = if swapped { add(&b, &a) } else { add(&a, &b) };
    (net, samples, expected)
}

#[test]
fn an_addition_behind_two_convolutions_equals_its_definition_in_every_order() {
    for depthwise in [false, true] {
        for right_first in [false, true] {
            for swapped in [false, true] {
                let (net, samples, expected) = block(depthwise, right_first, swapped);
                let what = format!("depthwise {depthwise}, right first {right_first}, swapped {swapped}");
                assert_bits(&net.run(&[samples]), &expected, &what);
            }
        }
    }
}

#[test]
fn an_addition_that_no_convolution_can_take_over_equals_its_definition() {
    let shape = [1, 5, 3, 4];
    let (a, b) = (values(2300, 60), values(2301, 60));
    let mut net = Net::default();
    let (x, y) = (net.input("a", &shape), net.input("b", &shape));
    let sum = net.one("add", ADD, &[x, y], &shape);
    let relu = net.one("relu", RELU, &[sum], &shape);
    net.group(&["add"]);
    net.activation(x, &[("add", 0)], A);
    net.activation(y, &[("add", 1)], B);
    show(&mut net, relu, SUM);
    let expected = add(&Codes::of(&a, &shape, A), &Codes::of(&b, &shape, B));
    assert_bits(&net.run(&[a, b]), &expected, "add");
}

#[test]
fn an_addition_of_a_tensor_to_itself_equals_its_definition() {
    let shape = [1, 8, 3, 3];
    let attributes = conv([1, 1], [1, 1], [1, 1], [0; 4], 1);
    let constants = Constants::random(2400, 8, 8);
    let samples = values(2403, 72);
    let mut net = Net::default();
    let x = net.input("x", &shape);
    net.group(&["conv", "add"]);
    net.activation(x, &[("conv", 0)], X);
    let y = constants.add_to(&mut net, "conv", x, &attributes, &shape);
    let sum = net.one("add", ADD, &[y, y], &shape);
    let relu = net.one("relu", RELU, &[sum], &shape);
    net.activation(y, &[("add", 0), ("add", 1)], A);
    show(&mut net, relu, SUM);
    let codes = constants.product().convolve(&Codes::of(&samples, &shape, X), &attributes).codes(A, (0, 255));
    assert_bits(&net.run(&[samples]), &add(&codes, &codes), "x + x");
}

#[test]
fn codes_and_floats_of_one_tensor_are_each_their_readers_own() {
    let shape = [1, 8, 4, 4];
    let attributes = conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 1);
    let constants = Constants::random(2500, 8, 72);
    let samples = values(2503, 128);
    let mut net = Net::default();
    let x = net.input("x", &shape);
    net.group(&["conv"]);
    net.activation(x, &[("conv", 0)], X);
    let y = constants.add_to(&mut net, "conv", x, &attributes, &shape);
    // One reader takes codes, the other floats: both see the product's own floats, quantized for the first.
    show(&mut net, y, Y);
    let negated = net.one("neg", OpKind::Unary(UnaryKind::Neg), &[y], &shape);
    net.graph.outputs = vec![negated, net.graph.outputs[0]];
    let reals = constants.product().convolve(&Codes::of(&samples, &shape, X), &attributes).reals();
    let expected: Vec<f32> = reals.iter().map(|value| -value).collect();
    assert_bits(&net.run(std::slice::from_ref(&samples)), &expected, "floats");
    net.graph.outputs.swap(0, 1);
    assert_bits(&net.run(&[samples]), &Codes::of(&reals, &shape, Y).reals(), "codes");
}

#[test]
fn a_fused_addition_counts_as_computed_on_codes() {
    let (net, _, _) = block(false, true, false);
    let plan = net.plan(Isa::best(), &BTreeSet::new()).unwrap();
    let expected: BTreeSet<OpId> =
        ["left", "right", "add"].iter().map(|name| net.graph.find_op(name).unwrap()).collect();
    assert_eq!(plan.int8_operations(), expected);
}

#[test]
fn large_values_of_different_geometry_share_memory_and_each_finds_its_padding() {
    let shape = [1, 16, 70, 70];
    let samples = values(2600, shape.iter().product());
    let mut net = Net::default();
    let mut tensor = net.input("x", &shape);
    let mut codes = Codes::of(&samples, &shape, X);
    net.group(&["1"]);
    for (index, kernel) in [3, 5, 7, 3, 5].into_iter().enumerate() {
        let name = format!("{}", index + 1);
        let pad = kernel / 2;
        let attributes = conv([kernel; 2], [1, 1], [1, 1], [pad; 4], 1);
        let constants = Constants::random(2700 + 10 * index as u64, 16, 16 * kernel * kernel);
        net.activation(tensor, &[(name.as_str(), 0)], (codes.scale, codes.zero_point));
        tensor = constants.add_to(&mut net, &name, tensor, &attributes, &shape);
        codes = constants.product().convolve(&codes, &attributes).codes((0.05, 100 + 10 * index as u8), (0, 255));
    }
    show(&mut net, tensor, (codes.scale, codes.zero_point));
    let plan = net.plan(Isa::best(), &BTreeSet::new()).unwrap();
    for _ in 0..2 {
        assert_bits(&first_output(&net, &plan, std::slice::from_ref(&samples)), &codes.reals(), "five convolutions");
    }
    let codes_alone = 5 * shape.iter().product::<usize>();
    let floats = 2 * 4 * shape.iter().product::<usize>();
    assert!(plan.arena_bytes() < codes_alone + floats, "{} bytes: nothing is shared", plan.arena_bytes());
}
