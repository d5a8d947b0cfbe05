//! Encoders' element-wise operations, which plans join to chains, against the same operations one element at a time.

use crate::net::{Net, assert_bits, values};
use holdfast_common::graph::{BinaryKind, OpKind, ReduceKind, TensorId, UnaryKind};
use holdfast_kernels::Isa;
use holdfast_kernels::float::{self, Binary, Unary};

const ROWS: usize = 37;
const LEN: usize = 70;
const SHAPE: [usize; 3] = [1, ROWS, LEN];
const NARROW: [usize; 3] = [1, ROWS, 1];

/// A tensor of the network and the values that its definition gives it.
#[derive(Clone)]
struct Both {
    id: TensorId,
    values: Vec<f32>,
}

#[derive(Default)]
struct Encoder {
    net: Net,
    count: usize,
}

impl Encoder {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("operation {}", self.count)
    }

    fn constant(&mut self, shape: &[usize], values: &[f32]) -> Both {
        let name = self.name();
        Both { id: self.net.constant(&name, shape, values), values: values.to_vec() }
    }

    /// `a` and `b` with numpy's broadcasting of scalars, rows and columns.
    fn binary(&mut self, kind: BinaryKind, function: Binary, a: &Both, b: &Both) -> Both {
        let of = |both: &Both, index: usize| match both.values.len() {
            1 => both.values[0],
            LEN => both.values[index % LEN],
            ROWS => both.values[index / LEN],
            _ => both.values[index],
        };
        let count = a.values.len().max(b.values.len());
        let values = match count {
            ROWS => a.values.iter().map(|x| function.evaluate(*x, b.values[0])).collect(),
            _ => (0..count).map(|index| function.evaluate(of(a, index), of(b, index))).collect(),
        };
        let (name, shape) = (self.name(), if count == ROWS { NARROW } else { SHAPE });
        Both { id: self.net.one(&name, OpKind::Binary(kind), &[a.id, b.id], &shape), values }
    }

    fn unary(&mut self, kind: UnaryKind, function: Unary, x: &Both) -> Both {
        let (name, shape) = (self.name(), if x.values.len() == ROWS { NARROW } else { SHAPE });
        let values = x.values.iter().map(|x| function.evaluate(*x)).collect();
        Both { id: self.net.one(&name, OpKind::Unary(kind), &[x.id], &shape), values }
    }

    fn mean(&mut self, x: &Both) -> Both {
        let name = self.name();
        let kind = OpKind::Reduce { kind: ReduceKind::Mean, axes: vec![2], keep_dims: true };
        let values = x.values.chunks(LEN).map(|row| float::mean(Isa::Scalar, row)).collect();
        Both { id: self.net.one(&name, kind, &[x.id], &NARROW), values }
    }

    fn layer_norm(&mut self, x: &Both) -> Both {
        let [scale, shift] = [21, 22].map(|seed| self.constant(&[LEN], &values(seed, LEN)));
        let [two, epsilon] = [2.0, 1e-5].map(|value| self.constant(&[], &[value]));
        let mean = self.mean(x);
        let centred = self.binary(BinaryKind::Sub, Binary::Sub, x, &mean);
        let squares = self.binary(BinaryKind::Pow, Binary::Pow, &centred, &two);
        let variance = self.mean(&squares);
        let variance = self.binary(BinaryKind::Add, Binary::Add, &variance, &epsilon);
        let deviation = self.unary(UnaryKind::Sqrt, Unary::Sqrt, &variance);
        let normal = self.binary(BinaryKind::Div, Binary::Div, &centred, &deviation);
        let scaled = self.binary(BinaryKind::Mul, Binary::Mul, &normal, &scale);
        self.binary(BinaryKind::Add, Binary::Add, &scaled, &shift)
    }

    fn gelu(&mut self, x: &Both) -> Both {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|value| self.constant(&[], &[value]));
        let scaled = self.binary(BinaryKind::Div, Binary::Div, x, &root);
        let erf = self.unary(UnaryKind::Erf, Unary::Erf, &scaled);
        let above = self.binary(BinaryKind::Add, Binary::Add, &erf, &one);
        let product = self.binary(BinaryKind::Mul, Binary::Mul, x, &above);
        self.binary(BinaryKind::Mul, Binary::Mul, &product, &half)
    }

    fn softmax(&mut self, x: &Both) -> Both {
        let name = self.name();
        let mut values = vec![0.0; x.values.len()];
        for (to, row) in values.chunks_mut(LEN).zip(x.values.chunks(LEN)) {
            to.copy_from_slice(&float::reference::softmax(row));
        }
        Both { id: self.net.one(&name, OpKind::Softmax { axis: 2, log: false }, &[x.id], &SHAPE), values }
    }
}

/// The input of an encoder, and its values.
fn encoder(seed: u64) -> (Encoder, Both) {
    let mut encoder = Encoder::default();
    let values = values(seed, ROWS * LEN);
    let id = encoder.net.input("x", &SHAPE);
    (encoder, Both { id, values })
}

#[test]
fn normalization_gelu_and_softmax_in_primitives_give_what_they_give_one_by_one() {
    let (mut encoder, x) = encoder(31);
    let normal = encoder.layer_norm(&x);
    let gelu = encoder.gelu(&normal);
    // The sum reads a value from before the last chain, and the softmax of it is the output.
    let sum = encoder.binary(BinaryKind::Add, Binary::Add, &gelu, &normal);
    let softmax = encoder.softmax(&sum);
    let product = encoder.binary(BinaryKind::Mul, Binary::Mul, &softmax, &x);
    encoder.net.output(product.id);
    assert_bits(&encoder.net.run(std::slice::from_ref(&x.values)), &product.values, "the encoder");
    let plan = encoder.net.plan(Isa::best(), &Default::default()).unwrap();
    let kernels: Vec<&str> = plan.instructions().map(|(kernel, _)| kernel).collect();
    assert_eq!(kernels, ["chain"], "everything is on the rows of one tensor");
}

#[test]
fn every_value_of_a_chain_can_be_observed() {
    let (mut encoder, x) = encoder(32);
    let normal = encoder.layer_norm(&x);
    let gelu = encoder.gelu(&normal);
    encoder.net.output(gelu.id);
    for both in [&normal, &gelu] {
        let plan = encoder.net.observing(Isa::best(), &Default::default(), &[both.id].into()).unwrap();
        let write = |port: &holdfast_worker::plan::Port, buffer: holdfast_worker::plan::PortBuffer<'_>| {
            let holdfast_worker::plan::PortBuffer::F32(buffer) = buffer else { panic!("a float input") };
            port.placement.scatter(x.values.iter().copied(), buffer);
            Ok::<(), holdfast_worker::plan::PlanError>(())
        };
        plan.run(write, |finished| {
            let (placement, buffer) = finished.observed(both.id).unwrap();
            assert_bits(&placement.gather(buffer), &both.values, "an observed tensor");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_quantized_product_takes_over_a_constant_behind_it_as_floats() {
    let (depth, columns) = (40, 33);
    let (x_values, weights, bias) = (values(41, ROWS * depth), values(42, depth * columns), values(43, columns));
    let (x_params, scales) = ((0.008f32, 120u8), vec![0.009f32; columns]);
    let mut net = Net::default();
    let x = net.input("x", &[1, ROWS, depth]);
    let w = net.constant("w", &[depth, columns], &weights);
    let b = net.constant("b", &[columns], &bias);
    let product = net.one("product", OpKind::MatMul, &[x, w], &[1, ROWS, columns]);
    let sum = net.one("sum", OpKind::Binary(BinaryKind::Add), &[b, product], &[1, ROWS, columns]);
    net.output(sum);
    net.group(&["product"]);
    net.activation(x, &[("product", 0)], x_params);
    net.weights("product", 1, &scales);
    let code =
        |x: f32, scale: f32, zero: i32, lo: i32, hi: i32| ((x / scale).round_ties_even() as i32 + zero).clamp(lo, hi);
    let expected: Vec<f32> = (0..ROWS * columns)
        .map(|index| {
            let (row, column) = (index / columns, index % columns);
            let sum: i32 = (0..depth)
                .map(|k| {
                    let left = code(x_values[row * depth + k], x_params.0, i32::from(x_params.1), 0, 255);
                    (left - i32::from(x_params.1)) * code(weights[k * columns + column], scales[0], 0, -127, 127)
                })
                .sum();
            sum as f32 * (x_params.0 * scales[0]) + bias[column]
        })
        .collect();
    assert_bits(&net.run(&[x_values]), &expected, "sums");
    let plan = net.plan(Isa::best(), &Default::default()).unwrap();
    assert_eq!(plan.instructions().map(|(kernel, _)| kernel).collect::<Vec<_>>(), ["quantize", "conv_int8"]);
}
