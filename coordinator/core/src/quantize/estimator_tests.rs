//! Every key of `range_estimator`, from the user's parameters to the quant params of planted tensors.

use super::default_quantization::calibrate_and_quantize;
use crate::error::CoreError;
use crate::parameters::{
    EndParameters, EstimatorPreset, Granularity, Mode, Preset, QuantizationParameters, RangeEstimatorParameters,
    StatisticKind, TensorParameters,
};
use crate::testing::{GraphBuilder, TableEvaluator, run_ready, samples};
use holdfast_common::evaluation::{SampleResult, Statistic, StatisticSpec, Want};
use holdfast_common::quantization::statistics::{Aggregator, observe};
use holdfast_common::scheme::QuantParams;
use ndarray::{ArrayD, IxDyn};

/// Two samples of two channels: 0 to 0.99 and, ten times (in the second sample twenty times) as large, below zero.
fn image(sample: usize) -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(&[1, 2, 10, 10]), |at| {
        let value = (at[2] * 10 + at[3]) as f32 / 100.0;
        if at[1] == 0 { value } else { -10.0 * (sample + 1) as f32 * value }
    })
}

fn weights() -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(&[2, 2, 5, 5]), |at| {
        let value = (at[1] * 25 + at[2] * 5 + at[3]) as f32 / 100.0;
        if at[0] == 0 { value } else { -2.0 * value }
    })
}

/// Quant params of the image and of the weights of a convolution that reads it.
fn params(parameters: &QuantizationParameters, mode: Mode) -> Result<[QuantParams; 2], CoreError> {
    let mut b = GraphBuilder::default();
    let x = b.input("image", &[1, 2, 10, 10]);
    let w = b.constant("weights", &[2, 2, 5, 5], weights().into_iter().collect());
    let kind = holdfast_common::graph::OpKind::Conv(crate::testing::conv_attributes(5, 1, 2, 1));
    let y = b.op("conv", kind, &[x, w], &[1, 2, 10, 10]);
    let graph = b.finish(&[y]);
    let evaluator = TableEvaluator::new(|_, evaluation, published| {
        let Want::Statistics(list) = &evaluation.want else { panic!("statistics are asked for") };
        let specs: Vec<StatisticSpec> = serde_json::from_slice(&published[list]).expect("a list of statistics");
        let of = |sample: usize, spec: &StatisticSpec| match spec.tensor.as_str() {
            "image" => observe(spec.statistic, &image(sample).view(), spec.axis),
            _ => vec![0.0; 2],
        };
        (0..2).map(|sample| SampleResult { parts: specs.iter().map(|spec| of(sample, spec)).collect() }).collect()
    });
    let set = samples(b"calibration", 2);
    let scheme = run_ready(calibrate_and_quantize(&evaluator, &graph, &set, parameters, mode))?.scheme;
    Ok([scheme.quantizers[0].params.clone(), scheme.quantizers[1].params.clone()])
}

/// Parameters with this estimator for activations.
fn activations(preset: Preset, estimator: RangeEstimatorParameters) -> QuantizationParameters {
    let activations = TensorParameters { range_estimator: Some(estimator), ..Default::default() };
    QuantizationParameters { preset, activations, ..without_halving() }
}

fn without_halving() -> QuantizationParameters {
    QuantizationParameters { saturation_fix: Some(crate::parameters::SaturationFix::No), ..Default::default() }
}

fn max(end: EndParameters) -> RangeEstimatorParameters {
    RangeEstimatorParameters { max: end, ..Default::default() }
}

fn min(end: EndParameters) -> RangeEstimatorParameters {
    RangeEstimatorParameters { min: end, ..Default::default() }
}

/// A statistic of both samples.
fn both(statistic: Statistic) -> [f64; 2] {
    [0, 1].map(|sample| observe(statistic, &image(sample).view(), None)[0])
}

fn mean(values: [f64; 2]) -> f64 {
    (values[0] + values[1]) / 2.0
}

#[track_caller]
fn assert_scale(params: &QuantParams, slice: usize, expected: f64) {
    let found = f64::from(params.scales[slice]);
    assert!((found - expected).abs() <= 1e-6 * expected, "{found} is not {expected}");
}

#[test]
fn the_quantile_preset_looks_at_quantiles_of_magnitudes_and_keeps_the_sign_a_plain_minimum() {
    let quantile = RangeEstimatorParameters { preset: EstimatorPreset::Quantile, ..Default::default() };
    let [plain, _] = params(&without_halving(), Mode::Default).expect("params");
    let [found, _] = params(&activations(Preset::Performance, quantile), Mode::Default).expect("params");
    assert_scale(&plain, 0, mean(both(Statistic::AbsMax)) / 127.0);
    assert_scale(&found, 0, mean(both(Statistic::AbsQuantile(1.0 - 1e-4))) / 127.0);
    assert!(found.scales[0] < plain.scales[0]);
    // One element in 200 below zero would be lost in a quantile.
    assert_eq!(found.zero_points, [128]);
}

#[test]
fn a_statistic_and_its_share_of_outliers_replace_those_of_one_end() {
    let end = EndParameters { statistic: Some(StatisticKind::Quantile), outlier_prob: Some(0.1), ..Default::default() };
    let range = |estimator| {
        let [params, _] = params(&activations(Preset::Mixed, estimator), Mode::Default).expect("params");
        f64::from(params.scales[0]) * 255.0
    };
    // Ranges grow by up to a step where zero gets its code.
    let assert_width = |found: f64, low: f64, high: f64| {
        assert!((found / (high - low) - 1.0).abs() < 0.01, "{found} is not {}", high - low);
    };
    let (low, high) = (mean(both(Statistic::Min)), mean(both(Statistic::Max)));
    assert_width(range(RangeEstimatorParameters::default()), low, high);
    assert_width(range(max(end)), low, mean(both(Statistic::Quantile(0.9))));
    assert_width(range(min(end)), mean(both(Statistic::Quantile(0.1))), high);
    let preset = RangeEstimatorParameters { preset: EstimatorPreset::Quantile, ..max(EndParameters::default()) };
    let other_share =
        RangeEstimatorParameters { min: EndParameters { outlier_prob: Some(0.2), ..Default::default() }, ..preset };
    let high = mean(both(Statistic::Quantile(1.0 - 1e-4)));
    assert_width(range(other_share), mean(both(Statistic::Quantile(0.2))), high);
}

#[test]
fn the_aggregator_decides_what_samples_count_for() {
    let scale = |aggregator| {
        let end = EndParameters { aggregator, ..Default::default() };
        let [params, _] = params(&activations(Preset::Performance, max(end)), Mode::Default).expect("params");
        f64::from(params.scales[0])
    };
    let [first, second] = both(Statistic::AbsMax);
    for (aggregator, expected) in
        [(None, (first + second) / 2.0), (Some(Aggregator::Max), second), (Some(Aggregator::Min), first)]
    {
        assert!((scale(aggregator) - expected / 127.0).abs() < 1e-6, "{aggregator:?}");
    }
}

#[test]
fn statistics_per_channel_give_a_tensor_the_outermost_of_its_channels() {
    let end = EndParameters {
        statistic: Some(StatisticKind::AbsQuantile),
        outlier_prob: Some(0.5),
        granularity: Some(Granularity::PerChannel),
        ..Default::default()
    };
    let whole = EndParameters { granularity: None, ..end };
    let scale = |end| {
        let [params, _] = params(&activations(Preset::Performance, max(end)), Mode::Default).expect("params");
        params
    };
    let channel = [0, 1].map(|s| observe(Statistic::AbsQuantile(0.5), &image(s).view(), Some(1))[1]);
    assert_scale(&scale(end), 0, mean(channel) / 127.0);
    assert_scale(&scale(whole), 0, mean(both(Statistic::AbsQuantile(0.5))) / 127.0);
}

#[test]
fn one_statistic_of_the_tensor_serves_all_channels_of_its_weights() {
    let end = EndParameters { granularity: Some(Granularity::PerTensor), ..Default::default() };
    let weights = TensorParameters { range_estimator: Some(max(end)), ..Default::default() };
    let parameters = QuantizationParameters { weights, ..without_halving() };
    let [_, plain] = params(&without_halving(), Mode::Default).expect("params");
    let [_, found] = params(&parameters, Mode::Default).expect("params");
    assert!((plain.scales[1] / plain.scales[0] - 2.0).abs() < 1e-6);
    assert_eq!(found.scales, [plain.scales[1]; 2]);
}

#[test]
fn ends_are_clipped_before_zero_gets_its_code_and_in_compat_mode_after() {
    let estimator = RangeEstimatorParameters {
        min: EndParameters { clipping_value: Some(-0.3), ..Default::default() },
        max: EndParameters { clipping_value: Some(0.5), ..Default::default() },
        ..Default::default()
    };
    let parameters = activations(Preset::Mixed, estimator);
    let [fixed, _] = params(&parameters, Mode::Default).expect("params");
    // 255 × 0.3/0.8 = 95.6 is rounded to 96, and the lower end moves to 96/159 × 0.5.
    assert_eq!(fixed.zero_points, [96]);
    assert_scale(&fixed, 0, (0.5 + 0.5 * 96.0 / 159.0) / 255.0);
    let [compat, _] = params(&parameters, Mode::Compat).expect("params");
    assert_scale(&compat, 0, 0.8 / 255.0);

    let upper = RangeEstimatorParameters { min: EndParameters::default(), ..estimator };
    let symmetric = activations(Preset::Performance, upper);
    let [fixed, _] = params(&symmetric, Mode::Default).expect("params");
    assert_scale(&fixed, 0, 0.5 / 127.0);
    assert_eq!(fixed.zero_points, [128]);
    let [compat, _] = params(&symmetric, Mode::Compat).expect("params");
    let magnitude = mean(both(Statistic::AbsMax));
    assert_scale(&compat, 0, (0.5 + magnitude * 256.0 / 254.0) / 255.0);
}

#[test]
fn clipping_the_lower_end_at_zero_makes_symmetric_activations_unsigned() {
    let end = EndParameters { clipping_value: Some(0.0), ..Default::default() };
    let [found, _] = params(&activations(Preset::Performance, min(end)), Mode::Default).expect("params");
    assert_eq!(found.zero_points, [0]);
}

#[test]
fn the_estimator_of_a_class_comes_before_the_one_above_both() {
    let clip = |value| max(EndParameters { clipping_value: Some(value), ..Default::default() });
    let above = QuantizationParameters { range_estimator: Some(clip(0.25)), ..without_halving() };
    let [activation, weight] = params(&above, Mode::Default).expect("params");
    assert_scale(&activation, 0, 0.25 / 127.0);
    assert_scale(&weight, 0, 0.25 / 127.0);
    let own = TensorParameters { range_estimator: Some(clip(0.125)), ..Default::default() };
    for (class, parameters) in [
        QuantizationParameters { activations: own, ..above.clone() },
        QuantizationParameters { weights: own, ..above.clone() },
    ]
    .into_iter()
    .enumerate()
    {
        let found = params(&parameters, Mode::Default).expect("params");
        assert_scale(&found[class], 0, 0.125 / 127.0);
        assert_scale(&found[1 - class], 0, 0.25 / 127.0);
    }
}

#[test]
fn weights_get_quantiles_channel_by_channel() {
    let end =
        EndParameters { statistic: Some(StatisticKind::AbsQuantile), outlier_prob: Some(0.1), ..Default::default() };
    let weights_parameters = TensorParameters { range_estimator: Some(max(end)), ..Default::default() };
    let parameters = QuantizationParameters { weights: weights_parameters, ..without_halving() };
    let [_, found] = params(&parameters, Mode::Default).expect("params");
    let expected = observe(Statistic::AbsQuantile(0.9), &weights().view(), Some(0));
    for (channel, expected) in expected.into_iter().enumerate() {
        assert_scale(&found, channel, expected / 127.0);
    }
}

#[test]
fn a_quantile_without_a_share_of_outliers_is_refused_where_the_preset_has_none() {
    let end = EndParameters { statistic: Some(StatisticKind::Quantile), ..Default::default() };
    let error = params(&activations(Preset::Performance, max(end)), Mode::Default).expect_err("no share");
    assert!(error.to_string().contains("range_estimator.max") && error.to_string().contains("outlier_prob"), "{error}");
    let preset = RangeEstimatorParameters { preset: EstimatorPreset::Quantile, ..max(end) };
    assert!(params(&activations(Preset::Performance, preset), Mode::Default).is_ok());
    // The lower end of a symmetric range stays a plain minimum in that preset.
    let preset = RangeEstimatorParameters { preset: EstimatorPreset::Quantile, ..min(end) };
    assert!(params(&activations(Preset::Performance, preset), Mode::Default).is_err());
    assert!(params(&activations(Preset::Mixed, preset), Mode::Default).is_ok());
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    let share = |value| EndParameters { outlier_prob: Some(value), ..quantile() };
    let clip = EndParameters { clipping_value: Some(f64::NAN), ..Default::default() };
    for end in [share(1.0), share(-0.1), share(f64::NAN), clip] {
        let refused = params(&activations(Preset::Mixed, max(end)), Mode::Default);
        assert!(matches!(refused, Err(CoreError::Parameter { .. })), "{end:?}");
    }
}

fn quantile() -> EndParameters {
    EndParameters { statistic: Some(StatisticKind::Quantile), ..Default::default() }
}

#[test]
fn a_symmetric_range_takes_the_signed_maximum_only_in_compat_mode() {
    let end = EndParameters { statistic: Some(StatisticKind::Max), ..Default::default() };
    let parameters = activations(Preset::Performance, max(end));
    let [compat, _] = params(&parameters, Mode::Compat).expect("params");
    let [default, _] = params(&parameters, Mode::Default).expect("params");
    assert_scale(&compat, 0, mean(both(Statistic::Max)) / 127.0);
    assert_scale(&default, 0, mean(both(Statistic::AbsMax)) / 127.0);
}
