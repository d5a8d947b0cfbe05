//! Pools on codes equal the definition.

use crate::net::{Net, assert_bits, pool, values};
use crate::slow::Codes;
use holdfast_common::graph::{OpKind, PoolAttributes, ReduceKind};

const X: (f32, u8) = (0.011, 90);
const Y: (f32, u8) = (0.009, 60);
const SHAPE: [usize; 4] = [1, 70, 7, 6];

/// The codes under every window, taps beyond the edges left out.
fn windows(x: &Codes, attributes: &PoolAttributes, out: [usize; 2]) -> Vec<Vec<u8>> {
    let mut windows = Vec::new();
    for channel in 0..x.shape[1] {
        for y in 0..out[0] {
            for column in 0..out[1] {
                let mut window = Vec::new();
                for tap in 0..attributes.kernel[0] * attributes.kernel[1] {
                    let at = |axis: usize, out: usize, tap: usize| {
                        (out * attributes.strides[axis] + tap) as isize - attributes.pads_begin[axis] as isize
                    };
                    let (row, column) =
                        (at(0, y, tap / attributes.kernel[1]), at(1, column, tap % attributes.kernel[1]));
                    let inside = |at: isize, extent: usize| (0..extent as isize).contains(&at);
                    if inside(row, x.shape[2]) && inside(column, x.shape[3]) {
                        window.push(x.at(channel, row, column));
                    }
                }
                windows.push(window);
            }
        }
    }
    windows
}

/// A net of one pool on codes, whose output stays codes when params are given.
fn net(kind: OpKind, out: &[usize], output: Option<(f32, u8)>) -> Net {
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let y = net.one("pool", kind, &[x], out);
    net.group(&["pool"]);
    net.activation(x, &[("pool", 0)], X);
    match output {
        None => net.output(y),
        Some(params) => {
            net.activation(y, &[("show", 0)], params);
            let flat = net.one("show", OpKind::Reshape, &[y], &[1, out.iter().product()]);
            net.output(flat);
        }
    }
    net
}

/// The mean of a window as codes and as floats: the exact sum, one multiplication.
fn mean(window: &[u8], divisor: usize) -> (f32, f32) {
    let sum: i32 = window.iter().map(|code| i32::from(*code) - i32::from(X.1)).sum();
    let steps = (sum as f32 * (X.0 / (divisor as f32 * Y.0))).round_ties_even() + f32::from(Y.1);
    let code = i32::from(steps.clamp(0.0, 255.0) as u8);
    ((code - i32::from(Y.1)) as f32 * Y.0, sum as f32 * (X.0 / divisor as f32))
}

#[test]
fn a_maximum_pool_keeps_the_codes_of_its_input() {
    let attributes = pool([3, 3], [2, 2], [1, 1, 1, 0], false);
    let samples = values(10, SHAPE.iter().product());
    let x = Codes::of(&samples, &SHAPE, X);
    let largest = windows(&x, &attributes, [4, 3]).iter().filter_map(|window| window.iter().max().copied()).collect();
    let expected = Codes { shape: vec![1, 70, 4, 3], codes: largest, ..x };
    let net = net(OpKind::MaxPool(attributes), &[1, 70, 4, 3], None);
    assert_bits(&net.run(&[samples]), &expected.reals(), "max pool");
}

#[test]
fn an_average_pool_divides_by_what_it_is_told_to_count() {
    let samples = values(20, SHAPE.iter().product());
    let x = Codes::of(&samples, &SHAPE, X);
    for count_include_pad in [false, true] {
        let attributes = pool([2, 3], [2, 1], [1, 1, 0, 1], count_include_pad);
        let windows = windows(&x, &attributes, [4, 6]);
        let means: Vec<(f32, f32)> =
            windows.iter().map(|window| mean(window, if count_include_pad { 6 } else { window.len() })).collect();
        let (codes, floats): (Vec<f32>, Vec<f32>) = means.into_iter().unzip();
        let kind = OpKind::AveragePool(attributes);
        let to_codes = net(kind.clone(), &[1, 70, 4, 6], Some(Y));
        assert_bits(&to_codes.run(std::slice::from_ref(&samples)), &codes, "codes");
        let to_floats = net(kind, &[1, 70, 4, 6], None);
        assert_bits(&to_floats.run(std::slice::from_ref(&samples)), &floats, "floats");
    }
}

#[test]
fn a_global_average_and_a_mean_over_space_are_one_multiplication_of_an_exact_sum() {
    let samples = values(30, SHAPE.iter().product());
    let x = Codes::of(&samples, &SHAPE, X);
    let means: Vec<(f32, f32)> = x.codes.chunks(42).map(|window| mean(window, 42)).collect();
    let (codes, floats): (Vec<f32>, Vec<f32>) = means.into_iter().unzip();
    let spatial = |keep_dims| OpKind::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims };
    let forms: [(OpKind, &[usize]); 3] =
        [(OpKind::GlobalAveragePool, &[1, 70, 1, 1]), (spatial(true), &[1, 70, 1, 1]), (spatial(false), &[1, 70])];
    for (kind, out) in forms {
        let to_codes = net(kind.clone(), out, Some(Y));
        assert_bits(&to_codes.run(std::slice::from_ref(&samples)), &codes, "codes");
        assert_bits(&net(kind, out, None).run(std::slice::from_ref(&samples)), &floats, "floats");
    }
}
