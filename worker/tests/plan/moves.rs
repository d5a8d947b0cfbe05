//! Operations that only move values move codes, and lose nothing.

use crate::net::{Net, assert_bits, conv, values};
use crate::slow::{Codes, Product};
use holdfast_common::graph::OpKind;
use holdfast_kernels::Isa;
use std::collections::BTreeSet;

const X: (f32, u8) = (0.009, 100);
const SHAPE: [usize; 4] = [1, 6, 4, 5];

/// The index of an element of a [1, C, H, W] tensor of the test's shape.
fn at(c: usize, y: usize, x: usize) -> usize {
    (c * SHAPE[2] + y) * SHAPE[3] + x
}

/// Runs one move on codes and compares with `expected`, which picks the input's reals by position.
fn check(kind: OpKind, out: &[usize], expected: impl Fn(&[f32]) -> Vec<f32>) {
    let samples = values(40, 120);
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let name = kind.name();
    let y = net.one(name, kind, &[x], out);
    net.output(y);
    net.group(&[name]);
    net.activation(x, &[(name, 0)], X);
    let reals = Codes::of(&samples, &SHAPE, X).reals();
    assert_bits(&net.run(&[samples]), &expected(&reals), name);
}

#[test]
fn a_flatten_keeps_the_order_of_the_model() {
    check(OpKind::Reshape, &[1, 120], <[f32]>::to_vec);
}

#[test]
fn a_transpose_permutes_axes() {
    check(OpKind::Transpose { permutation: vec![0, 3, 1, 2] }, &[1, 5, 6, 4], |x| {
        (0..120).map(|i| x[at(i / 4 % 6, i % 4, i / 24)]).collect()
    });
}

#[test]
fn a_slice_takes_steps_in_both_directions() {
    let kind = OpKind::Slice { starts: vec![0, 1, 3, 0], steps: vec![1, 2, -1, 2] };
    check(kind, &[1, 2, 4, 3], |x| (0..24).map(|i| x[at(1 + 2 * (i / 12), 3 - i / 3 % 4, 2 * (i % 3))]).collect());
}

#[test]
fn padding_adds_the_code_of_its_value_and_crops() {
    let kind = OpKind::Pad { begin: vec![0, 2, -1, 0], end: vec![0, 1, 0, 1], value: 0.0 };
    check(kind, &[1, 9, 3, 6], |x| {
        let pick = |i: usize| {
            let (c, y, column) = (i / 18, i / 6 % 3 + 1, i % 6);
            if (2..8).contains(&c) && column < 5 { x[at(c - 2, y, column)] } else { 0.0 }
        };
        (0..162).map(pick).collect()
    });
}

#[test]
fn depth_becomes_space_in_blocks() {
    let samples = values(41, 8 * 6);
    let mut net = Net::default();
    let x = net.input("x", &[1, 8, 2, 3]);
    let kind = OpKind::DepthToSpace { block: 2, column_row_depth: false };
    let y = net.one("d2s", kind, &[x], &[1, 2, 4, 6]);
    net.output(y);
    net.group(&["d2s"]);
    net.activation(x, &[("d2s", 0)], X);
    let reals = Codes::of(&samples, &[1, 8, 2, 3], X).reals();
    let pick = |i: usize| {
        let (c, y, x) = (i / 24, i / 6 % 4, i % 6);
        reals[((y % 2 * 2 + x % 2) * 2 + c) * 6 + y / 2 * 3 + x / 2]
    };
    assert_bits(&net.run(&[samples]), &(0..48).map(pick).collect::<Vec<f32>>(), "depth to space");
}

#[test]
fn a_gather_picks_constant_indices_from_either_end() {
    let samples = values(42, 120);
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let indices = net.indices("i", &[2, -1, 0]);
    let y = net.one("gather", OpKind::Gather { axis: 1 }, &[x, indices], &[1, 3, 4, 5]);
    net.output(y);
    net.group(&["gather"]);
    net.activation(x, &[("gather", 0)], X);
    let reals = Codes::of(&samples, &SHAPE, X).reals();
    let expected: Vec<f32> = [2, 5, 0].iter().flat_map(|c| reals[c * 20..(c + 1) * 20].to_vec()).collect();
    assert_bits(&net.run(&[samples]), &expected, "gather");
}

#[test]
fn halves_of_a_split_joined_again_feed_a_convolution_in_codes() {
    let samples = values(43, 120);
    let (weights, scales, bias) = (values(44, 7 * 54), vec![0.01; 7], values(45, 7));
    let attributes = conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 1);
    let half: &[usize] = &[1, 3, 4, 5];
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let halves = net.op("split", OpKind::Split { axis: 1 }, &[x], &[half, half]);
    let joined = net.one("concat", OpKind::Concat { axis: 1 }, &[halves[1], halves[0]], &SHAPE);
    let w = net.constant("w", &[7, 6, 3, 3], &weights);
    let b = net.constant("b", &[7], &bias);
    let y = net.one("conv", OpKind::Conv(attributes.clone()), &[joined, w, b], &[1, 7, 4, 5]);
    net.output(y);
    net.group(&["conv"]);
    net.activation(x, &[("split", 0)], X);
    net.weights("conv", 0, &scales);
    let codes = Codes::of(&samples, &SHAPE, X);
    let swapped = Codes { codes: [&codes.codes[60..], &codes.codes[..60]].concat(), ..codes };
    let product = Product { weights: &weights, scales: &scales, bias: &bias };
    assert_bits(&net.run(&[samples]), &product.convolve(&swapped, &attributes).reals(), "split, concat, conv");
}

#[test]
fn a_channel_shuffle_is_one_pass_over_memory() {
    let samples = values(46, 120);
    let (weights, scales, bias) = (values(47, 5 * 6), vec![0.01; 5], values(48, 5));
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let split = net.one("split", OpKind::Reshape, &[x], &[1, 2, 3, 20]);
    let turn = OpKind::Transpose { permutation: vec![0, 2, 1, 3] };
    let turned = net.one("turn", turn, &[split], &[1, 3, 2, 20]);
    let joined = net.one("join", OpKind::Reshape, &[turned], &SHAPE);
    let padded = OpKind::Pad { begin: vec![0, 0, 1, 0], end: vec![0, 0, 0, 1], value: 0.0 };
    let padded = net.one("pad", padded, &[joined], &[1, 6, 5, 6]);
    let attributes = conv([1, 1], [1, 1], [1, 1], [0; 4], 1);
    let w = net.constant("w", &[5, 6, 1, 1], &weights);
    let b = net.constant("b", &[5], &bias);
    let y = net.one("conv", OpKind::Conv(attributes.clone()), &[padded, w, b], &[1, 5, 5, 6]);
    net.output(y);
    net.group(&["conv"]);
    net.activation(x, &[("split", 0)], X);
    net.weights("conv", 0, &scales);
    let codes = Codes::of(&samples, &SHAPE, X);
    let pick = |i: usize| {
        let (c, y, column) = (i / 30, i / 6 % 5, i % 6);
        let inside = y > 0 && column < 5;
        if inside { codes.codes[at(c % 2 * 3 + c / 2, y - 1, column)] } else { X.1 }
    };
    let shuffled = Codes { shape: vec![1, 6, 5, 6], codes: (0..180).map(pick).collect(), ..codes };
    let product = Product { weights: &weights, scales: &scales, bias: &bias };
    assert_bits(&net.run(&[samples]), &product.convolve(&shuffled, &attributes).reals(), "shuffle");
    let plan = net.plan(Isa::best(), &BTreeSet::new()).unwrap();
    let passes = plan.instructions().filter(|(name, _)| *name == "rearrange").count();
    assert_eq!(passes, 1, "{:?}", plan.instructions().collect::<Vec<_>>());
}

#[test]
fn both_halves_of_a_turned_tensor_read_through_the_turn() {
    let samples = values(49, 120);
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let turn = OpKind::Transpose { permutation: vec![0, 1, 3, 2] };
    let turned = net.one("turn", turn, &[x], &[1, 6, 5, 4]);
    let slice = |start| OpKind::Slice { starts: vec![0, start, 0, 0], steps: vec![1, 2, 1, 1] };
    let even = net.one("even", slice(0), &[turned], &[1, 3, 5, 4]);
    let odd = net.one("odd", slice(1), &[turned], &[1, 3, 5, 4]);
    let joined = net.one("join", OpKind::Concat { axis: 1 }, &[odd, even], &[1, 6, 5, 4]);
    net.output(joined);
    net.group(&["join"]);
    net.activation(x, &[("turn", 0)], X);
    let reals = Codes::of(&samples, &SHAPE, X).reals();
    let pick = |i: usize| reals[at((i / 20 % 3) * 2 + usize::from(i < 60), i % 4, i / 4 % 5)];
    assert_bits(&net.run(&[samples]), &(0..120).map(pick).collect::<Vec<f32>>(), "halves");
    let plan = net.plan(Isa::best(), &BTreeSet::new()).unwrap();
    let kernels: Vec<&str> = plan.instructions().map(|(name, _)| name).collect();
    assert_eq!(kernels, ["quantize", "rearrange", "dequantize"]);
}
