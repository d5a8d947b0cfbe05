//! Elementwise and row functions equal their definitions bit for bit, and the polynomials are as accurate as they say.

mod common;

use common::{Random, assert_same_bits, isas};
use holdfast_kernels::Isa;
use holdfast_kernels::float::{self, Binary, Right, Unary, math, reference};

const UNARY: [Unary; 22] = [
    Unary::Abs,
    Unary::Neg,
    Unary::Floor,
    Unary::Ceil,
    Unary::RoundHalfEven,
    Unary::Sign,
    Unary::Sqrt,
    Unary::Reciprocal,
    Unary::Exp,
    Unary::Log,
    Unary::Tanh,
    Unary::Erf,
    Unary::Sigmoid,
    Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Unary::HardSwish,
    Unary::Silu,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Softplus,
    Unary::LeakyRelu { alpha: 0.1 },
    Unary::Clamp { lo: 0.0, hi: 6.0 },
    Unary::Clamp { lo: 0.0, hi: f32::INFINITY },
];

const BINARY: [Binary; 11] = [
    Binary::Add,
    Binary::Sub,
    Binary::SubReversed,
    Binary::Mul,
    Binary::Div,
    Binary::DivReversed,
    Binary::Min,
    Binary::Max,
    Binary::Pow,
    Binary::PowReversed,
    Binary::Prelu,
];

const LENGTHS: [usize; 20] = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1003];

#[test]
fn unary_functions_equal_their_definition_at_every_length_and_value() {
    let mut random = Random::seeded(10);
    for op in UNARY {
        for len in LENGTHS {
            let input = random.wild_values(len);
            let expected: Vec<f32> = input.iter().map(|&x| op.evaluate(x)).collect();
            for isa in isas() {
                let mut found = vec![9.0; len];
                float::unary(isa, op, &input, &mut found);
                assert_same_bits(&found, &expected, &(isa, op, len));
                found.copy_from_slice(&input);
                float::unary_in_place(isa, op, &mut found);
                assert_same_bits(&found, &expected, &(isa, op, len, "in place"));
            }
        }
    }
}

#[test]
fn binary_functions_equal_their_definition_at_every_length_and_value() {
    let mut random = Random::seeded(11);
    for op in BINARY {
        for len in LENGTHS {
            let (left, right) = (random.wild_values(len), random.wild_values(len));
            let scalar = random.wild_values(1)[0];
            let channels = match len {
                0 => 0,
                _ => (1..=len).rev().find(|count| len.is_multiple_of(*count) && *count <= 20).unwrap_or(1),
            };
            for (right, value) in [
                (Right::Same(&right), &(|i| right[i]) as &dyn Fn(usize) -> f32),
                (Right::Scalar(scalar), &|_| scalar),
                (Right::Channels(&right[..channels]), &|i| right[i % channels]),
            ] {
                let expected: Vec<f32> = (0..len).map(|i| op.evaluate(left[i], value(i))).collect();
                for isa in isas() {
                    let mut found = vec![9.0; len];
                    float::binary(isa, op, &left, right, &mut found);
                    assert_same_bits(&found, &expected, &(isa, op, len, right));
                    found.copy_from_slice(&left);
                    float::binary_in_place(isa, op, &mut found, right);
                    assert_same_bits(&found, &expected, &(isa, op, len, right, "in place"));
                }
            }
        }
    }
}

#[test]
fn reductions_equal_the_reference_at_every_length() {
    let mut random = Random::seeded(12);
    for len in LENGTHS {
        for wild in [false, true] {
            let mut draw = |len| if wild { random.wild_values(len) } else { random.values(len) };
            let (a, b) = (draw(len), draw(len));
            let (low, high) = reference::min_max(&a);
            let expected = [
                reference::sum(&a),
                reference::sum(&a) / len as f32,
                reference::dot(&a, &b),
                reference::dot(&a, &a),
                low,
                high,
            ];
            for isa in isas() {
                let found = [
                    float::sum(isa, &a),
                    float::mean(isa, &a),
                    float::dot(isa, &a, &b),
                    float::sum_of_squares(isa, &a),
                    float::min(isa, &a),
                    float::max(isa, &a),
                ];
                assert_same_bits(&found, &expected, &(isa, len, wild));
                assert_eq!(float::min_max(isa, &a), (low, high));
                let non_finite = a.iter().filter(|x| !x.is_finite()).count() as u64;
                assert_eq!(float::count_non_finite(isa, &a), non_finite);
                let abs_max = a.iter().filter(|x| !x.is_nan()).fold(0.0f32, |most, x| most.max(x.abs()));
                assert_same_bits(&[float::abs_max(isa, &a)], &[abs_max], &(isa, len, wild, "abs_max"));
            }
        }
    }
}

#[test]
fn row_functions_equal_the_reference_at_every_length() {
    let mut random = Random::seeded(13);
    for len in LENGTHS {
        for rows in [0, 1, 3] {
            let input: Vec<f32> = random.values(len * rows).iter().map(|x| x * 20.0).collect();
            let (gamma, beta) = (random.values(len), random.values(len));
            let each = |function: &dyn Fn(&[f32]) -> Vec<f32>| -> Vec<f32> {
                if len == 0 { Vec::new() } else { input.chunks_exact(len).flat_map(function).collect() }
            };
            let softmax = each(&reference::softmax);
            let log_softmax = each(&reference::log_softmax);
            let layer_norm = each(&|row| reference::layer_norm(row, &gamma, &beta, 1e-5));
            for isa in isas() {
                let mut found = vec![9.0; input.len()];
                float::softmax_rows(isa, len, &input, &mut found);
                assert_same_bits(&found, &softmax, &(isa, "softmax", rows, len));
                float::log_softmax_rows(isa, len, &input, &mut found);
                assert_same_bits(&found, &log_softmax, &(isa, "log softmax", rows, len));
                float::layer_norm_rows(isa, &gamma, &beta, 1e-5, &input, &mut found);
                assert_same_bits(&found, &layer_norm, &(isa, "layer norm", rows, len));
            }
        }
    }
}

#[test]
fn softmax_rows_sum_to_one_even_for_great_values() {
    let input: Vec<f32> = (0..100).map(|i| 1e4 + i as f32 * 0.1).collect();
    let mut output = vec![0.0; 100];
    float::softmax_rows(Isa::best(), 100, &input, &mut output);
    let sum: f64 = output.iter().map(|&x| f64::from(x)).sum();
    // A hundred results, each within a few units in the last place of values below 0.1.
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

/// Distance from `found` to `exact` in units in the last place of an f32 at `exact`.
fn ulps(found: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if !nearest.is_finite() || nearest == 0.0 {
        return if found == nearest { 0.0 } else { f64::INFINITY };
    }
    let magnitude = nearest.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
    (f64::from(found) - exact).abs() / unit
}

/// Every `step`-th float from 0 to `high` and their negatives where `negative`.
fn dense(high: f32, step: u32, negative: bool) -> impl Iterator<Item = f32> {
    (0..=high.to_bits()).step_by(step as usize).flat_map(move |bits| {
        let x = f32::from_bits(bits);
        [x, if negative { -x } else { x }]
    })
}

fn worst(samples: impl Iterator<Item = f32>, function: fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for x in samples {
        let error = ulps(function(x), exact(f64::from(x)));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

/// The error function in f64: its Taylor series near 0, Lentz's continued fraction of the complement beyond.
fn erf_exact(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let mut fraction = a;
    for n in (1..200).rev() {
        fraction = a + f64::from(n) / 2.0 / fraction;
    }
    let complement = (-a * a).exp() / fraction / std::f64::consts::PI.sqrt();
    (1.0 - complement).copysign(x)
}

#[test]
fn the_polynomials_are_as_accurate_as_they_say() {
    let step = 499;
    let cases: [(&str, f64, (f64, f32)); 6] = [
        ("exp", 1.1, worst(dense(104.0, step, true), math::exp, f64::exp)),
        ("log", 2.0, worst(dense(f32::MAX, step, false), math::log, f64::ln)),
        ("tanh", 4.0, worst(dense(20.0, step, true), math::tanh, f64::tanh)),
        ("erf", 4.0, worst(dense(6.0, 40 * step, true), math::erf, erf_exact)),
        ("sigmoid", 4.0, worst(dense(104.0, step, true), math::sigmoid, |x| 1.0 / (1.0 + (-x).exp()))),
        ("softplus", 4.0, worst(dense(104.0, step, true), math::softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p())),
    ];
    for (name, bound, (error, at)) in cases {
        println!("{name}: at most {error:.3} ulp, at {at:e}");
        assert!(error <= bound, "{name} is {error} ulp off at {at:e}; it promises {bound}");
    }
}

#[test]
fn powers_are_within_one_ulp_and_exact_where_promised() {
    let mut random = Random::seeded(14);
    let mut worst = 0.0f64;
    for _ in 0..200_000 {
        let x = (random.value().abs() + 1e-6) * 10f32.powi(random.within(0, 12) as i32 - 6);
        let y = random.value() * 12.0;
        worst = worst.max(ulps(math::pow(x, y), f64::from(x).powf(f64::from(y))));
        assert_eq!(math::pow(x, 2.0).to_bits(), (x * x).to_bits());
        assert_eq!(math::pow(x, 0.5).to_bits(), x.sqrt().to_bits());
    }
    println!("pow: at most {worst:.3} ulp");
    assert!(worst <= 1.0, "{worst}");
    let special = [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, f32::INFINITY, f32::NAN, 1e30, 1e-30, 16_777_217.0];
    let signed: Vec<f32> = special.iter().flat_map(|&x| [x, -x]).collect();
    for &x in &signed {
        for &y in &signed {
            let exact = f64::from(x).powf(f64::from(y));
            assert_same_bits(&[math::pow(x, y)], &[exact as f32], &(x, y));
        }
    }
}

#[test]
fn the_functions_have_their_limits() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let limits = [
        (Unary::Exp, 0.0, inf),
        (Unary::Log, nan, inf),
        (Unary::Tanh, -1.0, 1.0),
        (Unary::Erf, -1.0, 1.0),
        (Unary::Sigmoid, 0.0, 1.0),
        (Unary::HardSwish, 0.0, inf),
        (Unary::Silu, 0.0, inf),
        (Unary::Gelu, 0.0, inf),
        (Unary::GeluTanh, 0.0, inf),
        (Unary::Softplus, 0.0, inf),
    ];
    for (op, below, above) in limits {
        assert_same_bits(&[op.evaluate(-inf), op.evaluate(inf)], &[below, above], &op);
        if op != Unary::HardSwish {
            assert!(op.evaluate(nan).is_nan(), "{op:?} of NaN");
        }
    }
    assert_same_bits(&[math::log(0.0), math::log(-0.0), math::log(-1.0)], &[-inf, -inf, nan], &"log");
    assert_eq!([math::exp(0.0), math::log(1.0), math::tanh(0.0), math::erf(0.0)], [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(math::tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    assert_eq!(math::erf(-0.0).to_bits(), (-0.0f32).to_bits());
}
