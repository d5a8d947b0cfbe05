//! Products of two activations and transposed convolutions, on codes and on floats, against loops that follow the
//! definition.

use crate::net::{Net, assert_bits, conv, values};
use holdfast_common::graph::{ConvAttributes, OpKind};

fn codes(values: &[f32], (scale, zero_point): (f32, u8)) -> Vec<i32> {
    values.iter().map(|x| ((x / scale).round_ties_even() as i32 + i32::from(zero_point)).clamp(0, 255)).collect()
}

#[test]
fn a_product_of_two_quantized_activations_is_exact_whatever_their_zero_points() {
    let (rows, depth, columns, stack) = (3, 37, 5, 2);
    let (a_values, b_values) = (values(11, stack * rows * depth), values(12, depth * columns));
    for (a_params, b_params) in [((0.007, 3), (0.011, 250)), ((0.008, 128), (0.008, 128)), ((0.004, 255), (0.02, 0))] {
        let y_params = (0.03f32, 100u8);
        let mut net = Net::default();
        let a = net.input("a", &[1, stack, rows, depth]);
        let b = net.input("b", &[depth, columns]);
        let y = net.one("product", OpKind::MatMul, &[a, b], &[1, stack, rows, columns]);
        let flat = net.one("flat", OpKind::Reshape, &[y], &[stack * rows * columns]);
        net.output(flat);
        net.group(&["product"]);
        net.activation(a, &[("product", 0)], a_params);
        net.activation(b, &[("product", 1)], b_params);
        let (a_codes, b_codes) = (codes(&a_values, a_params), codes(&b_values, b_params));
        let mut sums = Vec::new();
        for row in 0..stack * rows {
            for column in 0..columns {
                sums.push((0..depth).fold(0, |sum, k| {
                    let left = a_codes[row * depth + k] - i32::from(a_params.1);
                    sum + left * (b_codes[k * columns + column] - i32::from(b_params.1))
                }));
            }
        }
        let scale = a_params.0 * b_params.0;
        let inputs = [a_values.clone(), b_values.clone()];
        let floats: Vec<f32> = sums.iter().map(|sum| *sum as f32 * scale).collect();
        assert_bits(&net.run(&inputs), &floats, "floats");
        net.activation(y, &[("flat", 0)], y_params);
        let quantized: Vec<f32> = sums
            .iter()
            .map(|sum| {
                let steps = (*sum as f32 * (scale / y_params.0)).round_ties_even() as i32;
                let code = (steps + i32::from(y_params.1)).clamp(0, 255);
                (code - i32::from(y_params.1)) as f32 * y_params.0
            })
            .collect();
        assert_bits(&net.run(&inputs), &quantized, "codes");
    }
}

/// Extents of a transposed convolution.
struct Case {
    channels: usize,
    outputs: usize,
    input: [usize; 2],
    attributes: ConvAttributes,
}

impl Case {
    fn output(&self) -> [usize; 2] {
        let of = &self.attributes;
        [0, 1].map(|axis| {
            let reach = (of.kernel[axis] - 1) * of.dilations[axis] + 1;
            let full = of.strides[axis] * (self.input[axis] - 1) + reach + of.output_padding[axis];
            full - of.pads_begin[axis] - of.pads_end[axis]
        })
    }

    /// Calls back for every product of an output element (channel, row, column): input and weight index, in the order
    /// in which a plain convolution with mirrored kernels adds.
    fn products(&self, [channel, y, x]: [usize; 3], mut product: impl FnMut(usize, usize)) {
        let of = &self.attributes;
        let (inputs, outputs) = (self.channels / of.group, self.outputs / of.group);
        for kh in (0..of.kernel[0]).rev() {
            for kw in (0..of.kernel[1]).rev() {
                for input in 0..inputs {
                    let at = |position: usize, tap: usize, axis: usize| {
                        let from = (position + of.pads_begin[axis]).checked_sub(tap * of.dilations[axis])?;
                        let index = from / of.strides[axis];
                        (from % of.strides[axis] == 0 && index < self.input[axis]).then_some(index)
                    };
                    let Some((row, column)) = at(y, kh, 0).zip(at(x, kw, 1)) else { continue };
                    let from = channel / outputs * inputs + input;
                    let weight = ((from * outputs + channel % outputs) * of.kernel[0] + kh) * of.kernel[1] + kw;
                    product((from * self.input[0] + row) * self.input[1] + column, weight);
                }
            }
        }
    }
}

#[test]
fn a_transposed_convolution_is_what_its_definition_adds_up() {
    let mut attributes = conv([3, 2], [2, 1], [1, 2], [1, 0, 0, 1], 1);
    attributes.output_padding = vec![1, 0];
    let grouped = conv([2, 3], [3, 2], [1, 1], [0, 2, 1, 0], 2);
    let depthwise = conv([3, 3], [2, 2], [1, 1], [1, 1, 1, 1], 4);
    let cases = [
        Case { channels: 3, outputs: 5, input: [4, 3], attributes },
        Case { channels: 4, outputs: 6, input: [3, 4], attributes: grouped },
        Case { channels: 4, outputs: 4, input: [3, 3], attributes: depthwise },
    ];
    for (index, case) in cases.iter().enumerate() {
        let [height, width] = case.output();
        let slices = case.outputs / case.attributes.group;
        let weight_shape = [case.channels, slices, case.attributes.kernel[0], case.attributes.kernel[1]];
        let x_values = values(21, case.channels * case.input[0] * case.input[1]);
        let weights = values(22, weight_shape.iter().product());
        let bias = values(23, case.outputs);
        let mut net = Net::default();
        let x = net.input("x", &[1, case.channels, case.input[0], case.input[1]]);
        let w = net.constant("w", &weight_shape, &weights);
        let b = net.constant("b", &[case.outputs], &bias);
        let kind = OpKind::ConvTranspose(case.attributes.clone());
        let y = net.one("up", kind, &[x, w, b], &[1, case.outputs, height, width]);
        net.output(y);
        let elements = || {
            let pixels = move |channel| (0..height * width).map(move |at| [channel, at / width, at % width]);
            (0..case.outputs).flat_map(pixels)
        };
        let expected: Vec<f32> = elements()
            .map(|element| {
                let mut sum = 0.0f32;
                case.products(element, |input, weight| sum = x_values[input].mul_add(weights[weight], sum));
                sum + bias[element[0]]
            })
            .collect();
        assert_bits(&net.run(std::slice::from_ref(&x_values)), &expected, &format!("floats of case {index}"));

        let params = (0.009f32, 117u8);
        let scales: Vec<f32> = (0..slices).map(|slice| 0.006 + slice as f32 * 0.001).collect();
        net.group(&["up"]);
        net.activation(x, &[("up", 0)], params);
        net.weights("up", 1, &scales);
        let x_codes = codes(&x_values, params);
        let taps = weight_shape[2] * weight_shape[3];
        let weight_code = |at: usize| {
            let scale = scales[at / taps % slices];
            ((weights[at] / scale).round_ties_even() as i32).clamp(-127, 127)
        };
        let expected: Vec<f32> = elements()
            .map(|element| {
                let scale = params.0 * scales[element[0] % slices];
                let mut sum = (f64::from(bias[element[0]]) / f64::from(scale)).round_ties_even() as i32;
                case.products(element, |input, weight| {
                    sum += (x_codes[input] - i32::from(params.1)) * weight_code(weight);
                });
                sum as f32 * scale
            })
            .collect();
        assert_bits(&net.run(&[x_values]), &expected, &format!("codes of case {index}"));
    }
}
