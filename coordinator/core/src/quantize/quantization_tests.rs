//! Schemes made from planted statistics.

use super::bias_correction::BiasCorrection;
use super::default_quantization::{Quantized, calibrate_and_quantize};
use crate::error::CoreError;
use crate::evaluator::Stage;
use crate::parameters::{Mode, Preset, QuantizationParameters, TensorParameters};
use crate::testing::{GraphBuilder, TableEvaluator, chain, conv_attributes, run_ready, samples, statistics_answer};
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::{Graph, OpKind, UnaryKind};
use holdfast_common::quantization::params::{ParamsError, Width};

fn quantized_with(
    graph: &Graph,
    parameters: &QuantizationParameters,
    mode: Mode,
    values: impl Fn(&StatisticSpec) -> Vec<f64> + Sync,
) -> Result<Quantized, CoreError> {
    let evaluator = TableEvaluator::new(|_, evaluation, published| statistics_answer(evaluation, published, &values));
    let set = samples(b"calibration", 3);
    let quantized = run_ready(calibrate_and_quantize(&evaluator, graph, &set, parameters, mode))?;
    assert_eq!(evaluator.batches(Stage::Calibration).len(), 1, "one pass gives all statistics");
    Ok(quantized)
}

/// A 1×1 convolution with the weights and means of the oracle, and this bias.
fn pointwise(bias: Vec<f32>) -> Graph {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 2, 2]);
    let weights = b.constant("w", &[2, 2, 1, 1], vec![0.11, 0.52, 0.33, -0.27]);
    let bias = b.constant("b", &[2], bias);
    let y = b.op("conv", OpKind::Conv(conv_attributes(1, 1, 0, 1)), &[x, weights, bias], &[1, 2, 2, 2]);
    b.finish(&[y])
}

fn pointwise_statistics(first_output: f64) -> impl Fn(&StatisticSpec) -> Vec<f64> {
    move |spec| match (spec.statistic, spec.tensor.as_str()) {
        (Statistic::Mean, "x") => vec![3.0, 5.0],
        (Statistic::Mean, _) => vec![first_output, -0.56],
        (Statistic::Min, _) => vec![-5.0],
        (Statistic::Max | Statistic::AbsMax, _) => vec![6.0],
        (Statistic::Quantile(_) | Statistic::AbsQuantile(_), _) => vec![0.0],
        (Statistic::Patches(_) | Statistic::Rows(_), _) => panic!("nothing is tuned"),
    }
}

#[test]
fn the_bias_takes_back_the_mean_error_of_quantized_weights() {
    let parameters =
        QuantizationParameters { saturation_fix: Some(crate::parameters::SaturationFix::No), ..Default::default() };
    for mode in [Mode::Compat, Mode::Default] {
        let graph = pointwise(vec![0.1, -0.2]);
        let found = quantized_with(&graph, &parameters, mode, pointwise_statistics(3.03)).expect("a scheme");
        let bias = &found.scheme.biases["conv"];
        assert!((bias[0] - 0.09834646).abs() < 1e-6 && (bias[1] + 0.1988189).abs() < 1e-6, "{bias:?}");
        let [BiasCorrection { magnitude: Some(magnitude), applied: true, .. }] = found.corrections[..] else {
            panic!("one applied correction: {:?}", found.corrections)
        };
        let expected = if mode == Mode::Compat { 0.0165354 } else { 0.0016535 / 6.0 };
        assert!((magnitude - expected).abs() < 1e-5, "{magnitude}");
    }
}

#[test]
fn a_zero_in_the_bias_stops_the_correction_only_in_compat_mode() {
    let graph = pointwise(vec![0.0, -0.2]);
    let parameters = QuantizationParameters::default();
    let compat = quantized_with(&graph, &parameters, Mode::Compat, pointwise_statistics(2.93)).expect("a scheme");
    assert!(compat.scheme.biases.is_empty() && compat.corrections[0].magnitude.is_none());
    let default = quantized_with(&graph, &parameters, Mode::Default, pointwise_statistics(2.93)).expect("a scheme");
    assert!((default.scheme.biases["conv"][0] + 0.00165354).abs() < 1e-6);
}

#[test]
fn a_correction_larger_than_the_threshold_is_not_applied() {
    let graph = pointwise(vec![0.1, -0.2]);
    let parameters = QuantizationParameters::default();
    let far = quantized_with(&graph, &parameters, Mode::Compat, pointwise_statistics(30.0)).expect("a scheme");
    assert!(far.scheme.biases.is_empty() && !far.corrections[0].applied);
}

#[test]
fn outputs_that_differ_for_other_reasons_than_quantization_move_no_bias_in_the_default_mode() {
    let graph = pointwise(vec![0.1, -0.2]);
    let parameters = QuantizationParameters::default();
    let near = quantized_with(&graph, &parameters, Mode::Default, pointwise_statistics(3.03)).expect("a scheme");
    let far = quantized_with(&graph, &parameters, Mode::Default, pointwise_statistics(30.0)).expect("a scheme");
    assert_eq!(near.scheme.biases, far.scheme.biases);
}

/// A square convolution with padding 1.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    transposed: bool,
    stride: usize,
    input: usize,
    output: usize,
}

/// Mean output of a convolution run in full on an image that is constant in each channel.
fn brute_force(weights: &[f64], shape: [usize; 4], means: &[f64], geometry: Geometry) -> Vec<f64> {
    let Geometry { transposed, stride, input, output } = geometry;
    let pad = 1;
    let channels = if transposed { shape[1] } else { shape[0] };
    let mut sums = vec![0.0; channels];
    let taps = shape[2];
    for a in 0..shape[0] {
        for b in 0..shape[1] {
            let (from, to) = if transposed { (a, b) } else { (b, a) };
            for tap in 0..taps * taps {
                let (row, column) = (tap / taps, tap % taps);
                let weight = weights[(a * shape[1] + b) * taps * taps + tap];
                for position in 0..input * input {
                    let (i, j) = (position / input, position % input);
                    let lands = |i: usize, tap: usize| -> Option<usize> {
                        let at = if transposed {
                            (i * stride + tap).checked_sub(pad)?
                        } else {
                            let at = (i + pad).checked_sub(tap)?;
                            (at % stride == 0).then_some(at / stride)?
                        };
                        (at < output).then_some(at)
                    };
                    if lands(i, row).is_some() && lands(j, column).is_some() {
                        sums[to] += weight * means[from];
                    }
                }
            }
        }
    }
    sums.into_iter().map(|sum| sum / (output * output) as f64).collect()
}

#[test]
fn padding_edges_count_as_often_as_the_convolution_meets_them() {
    for (transposed, stride, input, output) in [(false, 1, 4, 4), (false, 2, 5, 3), (true, 2, 4, 7), (true, 1, 4, 4)] {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 2, input, input]);
        let codes: Vec<i32> = (0..36).map(|i| if i % 18 == 0 { 127 } else { (i * 29) % 127 - 60 }).collect();
        let values: Vec<f32> = codes.iter().map(|code| *code as f32 / 127.0).collect();
        let weights = b.constant("w", &[2, 2, 3, 3], values);
        let attributes = conv_attributes(3, stride, 1, 1);
        let kind = if transposed { OpKind::ConvTranspose(attributes) } else { OpKind::Conv(attributes) };
        // POT's magnitude is relative to the bias, so that a large one lets every correction pass.
        let bias = b.constant("b", &[2], vec![100.0, 100.0]);
        let y = b.op("conv", kind, &[x, weights, bias], &[1, 2, output, output]);
        let graph = b.finish(&[y]);
        let means = vec![0.7, -1.3];
        let statistics = |spec: &StatisticSpec| match (spec.statistic, spec.tensor.as_str()) {
            (Statistic::Mean, "x") => means.clone(),
            (Statistic::Mean, _) => vec![0.0, 0.0],
            (Statistic::Min, _) => vec![-5.0],
            _ => vec![5.0],
        };
        let parameters = QuantizationParameters {
            weights: TensorParameters {
                granularity: Some(crate::parameters::Granularity::PerTensor),
                ..Default::default()
            },
            saturation_fix: Some(crate::parameters::SaturationFix::No),
            ..Default::default()
        };
        let found = quantized_with(&graph, &parameters, Mode::Compat, statistics).expect("a scheme");
        let exact: Vec<f64> = codes.iter().map(|code| f64::from(*code) / 127.0).collect();
        let expected = brute_force(&exact, [2, 2, 3, 3], &means, Geometry { transposed, stride, input, output });
        for (bias, expected) in found.scheme.biases["conv"].iter().zip(&expected) {
            // Weights are multiples of the scale but for the rounding of the scale to f32.
            assert!((f64::from(*bias) + expected).abs() < 1e-6, "{bias} {expected} {transposed} {stride}");
        }
    }
}

#[test]
fn presets_lead_to_signed_unsigned_and_asymmetric_activations() {
    let graph = chain(&["a", "b"]);
    let statistics = |spec: &StatisticSpec| match (spec.statistic, spec.tensor.as_str()) {
        (Statistic::Mean, _) => vec![0.0; 2],
        (Statistic::Min, "image") => vec![-1.0],
        (Statistic::Min, _) => vec![0.0],
        (_, "image") => vec![3.0],
        _ => vec![5.1],
    };
    let params = |preset| {
        let parameters = QuantizationParameters { preset, ..Default::default() };
        let scheme = quantized_with(&graph, &parameters, Mode::Default, statistics).expect("a scheme").scheme;
        [0, 2].map(|index| (scheme.quantizers[index].params.scales[0], scheme.quantizers[index].params.zero_points[0]))
    };
    assert_eq!(params(Preset::Performance), [((3.0_f64 / 127.0) as f32, 128), ((5.1_f64 / 255.0) as f32, 0)]);
    let mixed = params(Preset::Mixed);
    assert_eq!((mixed[0].1, mixed[1]), (64, ((5.1_f64 / 255.0) as f32, 0)));
}

#[test]
fn quantizers_that_meet_in_a_concatenation_have_equal_params() {
    let mut b = GraphBuilder::default();
    let x = b.input("x", &[1, 2, 4, 4]);
    let left = b.relu("left", x);
    let right = b.unary("right", UnaryKind::Tanh, x);
    let both = b.concat("both", &[left, right]);
    let y = b.conv("conv", both, 2, 3, 1);
    let graph = b.finish(&[y]);
    let statistics = |spec: &StatisticSpec| match (spec.statistic, spec.tensor.as_str()) {
        (Statistic::Mean, "both") => vec![0.0; 4],
        (Statistic::Mean, _) => vec![0.0; 2],
        (Statistic::Min, "right") => vec![-1.0],
        (Statistic::Min, _) => vec![0.0],
        (_, "left") => vec![2.0],
        _ => vec![1.0],
    };
    for (mode, scale, zero) in [(Mode::Default, 2.0 / 127.0, 128), (Mode::Compat, 0.011795584, 85)] {
        let parameters = QuantizationParameters::default();
        let scheme = quantized_with(&graph, &parameters, mode, statistics).expect("a scheme").scheme;
        assert_eq!(scheme.quantizers[0].params, scheme.quantizers[1].params);
        let params = &scheme.quantizers[0].params;
        assert!((f64::from(params.scales[0]) - scale).abs() < 1e-8 && params.zero_points == [zero], "{params:?}");
    }
}

#[test]
fn the_scheme_is_the_same_to_the_byte_every_time() {
    let graph = chain(&["a", "b", "c"]);
    let statistics = |spec: &StatisticSpec| match spec.statistic {
        Statistic::Mean => vec![0.3, 0.4],
        Statistic::Min => vec![-1.0],
        _ => vec![3.0],
    };
    let digest = || {
        let found = quantized_with(&graph, &QuantizationParameters::default(), Mode::Default, statistics);
        found.expect("a scheme").scheme.digest().expect("finite numbers")
    };
    assert_eq!(digest(), digest());
}

#[test]
fn fewer_bits_are_narrower_codes_in_the_same_storage() {
    let graph = chain(&["a"]);
    let narrow = TensorParameters { width: Width { bits: 4, ..Default::default() }, ..Default::default() };
    let parameters = QuantizationParameters { weights: narrow, activations: narrow, ..Default::default() };
    let statistics = |spec: &StatisticSpec| match spec.statistic {
        Statistic::Mean => vec![0.0; 2],
        Statistic::Min => vec![-1.0],
        _ => vec![1.4],
    };
    let scheme = quantized_with(&graph, &parameters, Mode::Default, statistics).expect("a scheme").scheme;
    let codes = |index: usize| (scheme.quantizers[index].params.code_min, scheme.quantizers[index].params.code_max);
    assert_eq!((codes(0), codes(1)), ((0, 15), (-7, 7)));
    assert_eq!(scheme.quantizers[0].params.zero_points, [8]);
}

#[test]
fn a_statistic_that_is_nan_names_its_tensor() {
    let statistics = |spec: &StatisticSpec| match spec.statistic {
        Statistic::Mean => vec![0.0; 2],
        _ => vec![f64::NAN],
    };
    let found = quantized_with(&chain(&["a"]), &QuantizationParameters::default(), Mode::Default, statistics);
    let Err(CoreError::Params { tensor, source: ParamsError::Range { .. } }) = found else { panic!("an error") };
    assert_eq!(tensor, "image");
}
