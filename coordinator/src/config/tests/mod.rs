//! Configurations that must be accepted as meant, and ones that must be refused at their place with their reason.

mod table;

use super::*;
use holdfast_common::dataset::{PreprocessingStep, ResizeFilter};
use holdfast_common::metric::{MetricDefinition, MetricSpec};
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_common::quantization::statistics::Aggregator;
use holdfast_core::parameters::{
    DropType, EstimatorPreset, Granularity, LayerwiseTuning, Mode, ModelType, Parameters, Preset, RankBy,
    SaturationFix, StatisticKind, Strategy, TargetDevice,
};

/// A small configuration; tests replace the marked values.
const GOOD: &str = r#"{
  "model": { "model": "net.onnx" },
  "engine": { "datasets": [ {
    "name": "digits", "data_source": "x.npy", "annotation": "y.npy",
    "preprocessing": [ { "type": "normalization", "scale": 255, "mean": 0.1, "std": [0.5] } ],
    "metrics": [ { "type": "accuracy", "top_k": 1 }, { "name": "top5", "type": "accuracy", "top_k": 5 } ]
  } ] },
  "compression": { "algorithms": [ {
    "name": "AccuracyAwareQuantization",
    "params": { "preset": "performance", "maximal_drop": 0.01 }
  } ] }
}"#;

fn parse_text(text: &str) -> Result<RunRequest, String> {
    parse(text, "c.json", Path::new("/base")).map_err(|error| error.to_string())
}

/// [`GOOD`] with one text replaced, which must occur exactly once.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    GOOD.replace(from, to)
}

fn with_params(params: &str) -> String {
    changed(r#"{ "preset": "performance", "maximal_drop": 0.01 }"#, params)
}

fn metric_names(request: &RunRequest) -> Vec<&str> {
    request.parameters.metrics.iter().map(|metric| metric.name.as_str()).collect()
}

#[test]
fn a_small_file_gets_the_algorithms_own_defaults() {
    let request = parse_text(GOOD).expect("valid");
    assert_eq!(request.model_name, "net");
    assert_eq!(request.model, Path::new("/base/net.onnx"));
    assert_eq!(request.algorithm, Algorithm::AccuracyAwareQuantization);
    assert_eq!(request.calibration, None);
    assert_eq!(request.validation.source, DataSource::Array("/base/x.npy".into()));
    assert_eq!(request.validation.annotation, Some(AnnotationSource::Array("/base/y.npy".into())));
    let steps = vec![PreprocessingStep::Normalization { scale: 255.0, mean: vec![0.1], std: vec![0.5] }];
    assert_eq!(request.validation.preprocessing_of("image").steps, steps);
    assert_eq!(metric_names(&request), ["accuracy@top1", "top5"]);
    assert!(request.parameters.metrics.iter().all(|metric| metric.baseline_value.is_none()));
    let unnamed = Parameters { metrics: Vec::new(), ..request.parameters.clone() };
    assert_eq!(unnamed, Parameters::default());
    assert!(!request.shuffle_data && !request.dump_intermediate_model && request.threads.is_none());
    assert!(request.warnings.is_empty(), "{:?}", request.warnings);
}

#[test]
fn every_parameter_of_pot_reaches_the_algorithm() {
    let request = parse_text(&with_params(
        r#"{
      "preset": "performance", "stat_subset_size": 100, "shuffle_data": true, "seed": 7, "stat_batch_size": 2,
      "use_fast_bias": false, "apply_for_all_nodes": true, "threshold": 3.5, "use_layerwise_tuning": true,
      "num_samples_for_tuning": 10, "batch_size": 2, "optimizer": "Adam", "loss": "l2", "weight_decay": 0.5,
      "calibration_indices_pool": 3, "use_ranking_subset": false, "calculate_grads_on_loss_increase_only": false,
      "saturation_fix": "all",
      "ignored": { "skip_model": true, "scope": ["a"], "operations": [ { "type": "Add" },
                   { "type": "FullyConnected", "attributes": { "alpha": 1 } } ] },
      "weights": { "bits": 7, "mode": "symmetric", "granularity": "pertensor", "level_low": -63, "level_high": 63,
                   "range_estimator": { "max": { "type": "quantile", "outlier_prob": 0.001 } } },
      "activations": { "bits": 6, "mode": "asymmetric", "granularity": "pertensor",
                       "range_estimator": { "preset": "quantile", "min": { "clipping_value": -3, "aggregator": "hl_estimator",
                       "granularity": "pertensor" } } },
      "range_estimator": { "preset": "quantile" },
      "maximal_drop": -0.5, "drop_type": "relative", "ranking_subset_size": 20, "max_iter_num": 0,
      "use_prev_if_drop_increase": false, "base_algorithm": "DefaultQuantization", "convert_to_mixed_preset": true,
      "metrics": [ { "name": "top5", "type": "accuracy", "baseline_value": 0.9 } ], "metric_subset_ratio": 3,
      "tune_hyperparams": true, "annotation_free": false, "annotation_conf_threshold": 0.6,
    }"#,
    ))
    .expect("valid");
    let parameters = &request.parameters;
    assert_eq!((parameters.maximal_drop, parameters.max_iter_num, parameters.seed), (-0.5, Some(0), 7));
    assert_eq!((parameters.drop_type, parameters.ranking_subset_size), (DropType::Relative, 20));
    assert_eq!((parameters.use_prev_if_drop_increase, parameters.tune_hyperparams), (false, true));
    assert_eq!(parameters.metric_subset_ratio, 1.0);
    assert_eq!(metric_names(&request), ["top5"]);
    assert_eq!(parameters.metrics[0].baseline_value, Some(0.9));
    // Asymmetric activations are mixed already.
    assert!(!parameters.convert_to_mixed_preset);
    let quantization = &parameters.quantization;
    assert_eq!((quantization.stat_subset_size, request.shuffle_data), (Some(100), true));
    assert_eq!((quantization.use_fast_bias, quantization.apply_for_all_nodes), (false, true));
    assert_eq!((quantization.threshold, quantization.saturation_fix), (Some(3.5), Some(SaturationFix::All)));
    let tuning = LayerwiseTuning { samples: 10, batch_size: 2, weight_decay: 0.5, pool: 3 };
    assert_eq!(quantization.layerwise_tuning, Some(tuning));
    assert!(quantization.ignored.skip_model);
    assert_eq!(quantization.ignored.scope, ["a"]);
    // OpenVINO's names are kept: the algorithm knows which operators they mean.
    let operations = &quantization.ignored.operations;
    let names: Vec<&str> = operations.iter().map(|operation| operation.operator.as_str()).collect();
    assert_eq!(names, ["Add", "FullyConnected"]);
    assert_eq!(operations[0].attributes.len(), 0);
    assert_eq!(operations[1].attributes.get("alpha"), Some(&serde_json::json!(1)));
    let weights = &quantization.weights;
    assert_eq!((weights.width.bits, weights.mode), (7, Some(Symmetry::Symmetric)));
    assert_eq!((weights.granularity, weights.width.level_low), (Some(Granularity::PerTensor), Some(-63)));
    assert_eq!(weights.width.level_high, Some(63));
    let estimator = weights.range_estimator.expect("given");
    assert_eq!((estimator.max.statistic, estimator.max.outlier_prob), (Some(StatisticKind::Quantile), Some(0.001)));
    assert_eq!((estimator.preset, estimator.min), (EstimatorPreset::Default, Default::default()));
    let activations = &quantization.activations;
    assert_eq!((activations.width.bits, quantization.symmetry(TensorClass::Activations)), (6, Symmetry::Asymmetric));
    assert_eq!(activations.granularity, Some(Granularity::PerTensor));
    let estimator = activations.range_estimator.expect("given");
    assert_eq!((estimator.preset, estimator.min.clipping_value), (EstimatorPreset::Quantile, Some(-3.0)));
    assert_eq!(estimator.min.aggregator, Some(Aggregator::HlEstimator));
    assert_eq!(estimator.min.granularity, Some(Granularity::PerTensor));
    assert_eq!(quantization.range_estimator.map(|estimator| estimator.preset), Some(EstimatorPreset::Quantile));
    // The batch size and the conversion that cannot happen.
    assert_eq!(request.warnings.len(), 2, "{:#?}", request.warnings);
}

#[test]
fn tuning_knobs_without_tuning_are_named_in_warnings() {
    let request =
        parse_text(&with_params(r#"{ "batch_size": 7, "optimizer": "SGD", "weight_decay": 0 }"#)).expect("valid");
    assert_eq!(request.parameters.quantization.layerwise_tuning, None);
    assert_eq!(request.warnings.len(), 2, "{:#?}", request.warnings);
}

#[test]
fn the_compression_section_says_device_model_type_and_the_intermediate_model() {
    let text = changed(
        r#""compression": {"#,
        r#""compression": { "target_device": "CPU_SPR", "model_type": "transformer", "dump_intermediate_model": true,
            "inplace_statistics": false,"#,
    );
    let request = parse_text(&text).expect("valid");
    let quantization = &request.parameters.quantization;
    assert_eq!(
        (quantization.target_device, quantization.model_type),
        (TargetDevice::CpuSpr, Some(ModelType::Transformer))
    );
    assert!(request.dump_intermediate_model);
    assert_eq!(request.warnings.len(), 1, "{:#?}", request.warnings);
}

fn with_holdfast(section: &str) -> String {
    changed(r#""compression""#, &format!(r#""holdfast": {section}, "compression""#))
}

#[test]
fn every_key_of_our_own_reaches_the_algorithm() {
    let request = parse_text(&with_holdfast(
        r#"{ "mode": "default", "strategy": "greedy", "bisect_arity": 4, "readmission": false, "hardest_first": false,
             "racing": 0.05, "rank_by": "distance", "cost_aware": true, "hold_out": 0.3, "confidence": 0.9,
             "latencies": { "conv1": { "int8": 1.5, "float": 4 } }, "keep_quantized": ["a", "b"],
             "keep_float": { "types": ["Add"], "patterns": ["head.*"] }, "ranking": ["g2", "g1"], "ahead": 8,
             "budget": { "seconds": 60, "evaluations": 20, "reverted_operations": 3 },
             "channel_alignment": true, "smooth_quant_alpha": -1 }"#,
    ))
    .expect("valid");
    let search = &request.parameters.search;
    assert_eq!((search.strategy, search.bisect_arity, search.readmission), (Strategy::Greedy, 4, false));
    assert_eq!((search.hardest_first, search.racing, search.rank_by), (false, Some(0.05), RankBy::Distance));
    assert_eq!((search.cost_aware, search.hold_out, search.confidence), (true, Some(0.3), 0.9));
    assert_eq!(search.latencies.get("conv1").map(|latency| (latency.int8, latency.float)), Some((1.5, 4.0)));
    assert_eq!(search.keep_quantized.names, ["a", "b"]);
    assert_eq!((search.keep_float.types.len(), search.keep_float.patterns.len()), (1, 1));
    assert_eq!((search.ranking.as_deref(), search.ahead), (Some(["g2".to_owned(), "g1".to_owned()].as_slice()), 8));
    let budget = search.budget;
    assert_eq!((budget.seconds, budget.evaluations, budget.reverted_operations), (Some(60.0), Some(20), Some(3)));
    let quantization = &request.parameters.quantization;
    assert_eq!((quantization.channel_alignment, quantization.smooth_quant_alpha), (Some(true), Some(-1.0)));
}

#[test]
fn rankings_and_latencies_can_lie_in_files_of_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("times.json", r#"{ "conv1": { "int8": 1, "float": 2 } } // measured"#);
    write("report.json", r#"{ "run": { "rankings": [ { "scores": [ ["g7", 0.5], ["g1", null] ] } ] } }"#);
    write("bad.json", r#"{ "conv1": { "int8": -1, "floats": 2 } }"#);
    let read = |section: &str| parse(&with_holdfast(section), "c.json", directory.path());
    let request = read(r#"{ "latencies": "times.json", "ranking": "report.json" }"#).expect("valid");
    assert_eq!(request.parameters.search.latencies.len(), 1);
    assert_eq!(request.parameters.search.ranking.as_deref(), Some(["g7".to_owned(), "g1".to_owned()].as_slice()));
    // Mistakes in them point into them.
    let error = read(r#"{ "latencies": "bad.json" }"#).expect_err("two mistakes").to_string();
    assert!(error.contains("bad.json:1:22: `conv1.int8` should be microseconds"), "{error}");
    assert!(error.contains("bad.json:1:26: `conv1` has an unknown key `floats` (did you mean `float`?)"), "{error}");
}

#[test]
fn presets_have_the_aliases_of_pot() {
    for (word, preset, activations) in [
        ("performance", Preset::Performance, Symmetry::Symmetric),
        ("symmetric", Preset::Performance, Symmetry::Symmetric),
        ("mixed", Preset::Mixed, Symmetry::Asymmetric),
        ("accuracy", Preset::Mixed, Symmetry::Asymmetric),
        ("asymmetric", Preset::Mixed, Symmetry::Asymmetric),
    ] {
        let request = parse_text(&changed("\"performance\"", &format!("\"{word}\""))).expect("valid");
        let quantization = &request.parameters.quantization;
        assert_eq!((quantization.preset, quantization.symmetry(TensorClass::Activations)), (preset, activations));
        assert_eq!(quantization.symmetry(TensorClass::Weights), Symmetry::Symmetric, "{word}");
    }
}

#[test]
fn a_baseline_for_some_metrics_only_means_that_all_are_measured() {
    let request = parse_text(&with_params(
        r#"{ "metrics": [ { "name": "accuracy@top1", "baseline_value": 0.9 }, { "name": "top5" } ] }"#,
    ))
    .expect("valid");
    let baselines: Vec<Option<f64>> = request.parameters.metrics.iter().map(|metric| metric.baseline_value).collect();
    // The algorithm believes baselines only where all are given.
    assert_eq!(baselines, [Some(0.9), None]);
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn default_quantization_needs_no_goal_and_compat_is_a_mode() {
    let text = changed("AccuracyAwareQuantization", "DefaultQuantization")
        .replace(r#", "maximal_drop": 0.01"#, "")
        .replace(r#""compression""#, r#""holdfast": { "mode": "compat" }, "compression""#);
    let request = parse_text(&text).expect("valid");
    assert_eq!(request.algorithm, Algorithm::DefaultQuantization);
    assert_eq!(request.parameters.mode, Mode::Compat);
    assert_eq!(request.parameters.quantization.activations.granularity, None);
    // Once the mode is final, activations are settled to be per tensor, and the run says so.
    let settled = request.settled();
    assert_eq!(settled.parameters.quantization.activations.granularity, Some(Granularity::PerTensor));
    assert_eq!(settled.warnings.len(), 1);
}

#[test]
fn the_fixture_divides_subtracts_and_divides_in_that_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mnist/mnist.json");
    let request = load(&path).expect("valid");
    let steps = vec![PreprocessingStep::Normalization { scale: 255.0, mean: vec![0.1307], std: vec![0.3081] }];
    assert_eq!(request.validation.preprocessing.steps, steps);
    let calibration = request.calibration.as_ref().expect("a data set of its own");
    assert_eq!(calibration.preprocessing.steps, steps);
    assert_eq!(request.parameters.quantization.weights.granularity, Some(Granularity::PerTensor));
    assert_eq!(metric_names(&request), ["accuracy@top1"]);
    assert!(request.model.is_file(), "{}", request.model.display());
    assert!(request.warnings.is_empty(), "{:?}", request.warnings);
}

/// The steps of an image folder read as `reader` says.
fn image_steps(reader: &str, steps: &str) -> Result<Vec<PreprocessingStep>, String> {
    let text =
        changed(r#""data_source": "x.npy", "annotation": "y.npy""#, &format!(r#""data_source": "photos"{reader}"#));
    let text = text.replace(r#"[ { "type": "normalization", "scale": 255, "mean": 0.1, "std": [0.5] } ]"#, steps);
    parse_text(&text).map(|request| request.validation.preprocessing.steps)
}

#[test]
fn channels_are_reversed_only_where_the_declared_order_differs_from_the_decoders() {
    let reverse = PreprocessingStep::ReverseChannels;
    let normalize = |mean: &[f32]| PreprocessingStep::Normalization { scale: 1.0, mean: mean.to_vec(), std: vec![1.0] };
    let pillow = r#", "reader": "pillow_imread""#;
    let three = r#"{ "type": "normalization", "mean": "1, 2, 3" }"#;
    let cases = [
        ("", "[]".to_owned(), vec![reverse.clone()]),
        ("", r#"[ { "type": "bgr_to_rgb" } ]"#.to_owned(), vec![]),
        (pillow, "[]".to_owned(), vec![]),
        (pillow, r#"[ { "type": "rgb_to_bgr" } ]"#.to_owned(), vec![reverse.clone()]),
        ("", format!("[ {three} ]"), vec![reverse.clone(), normalize(&[1.0, 2.0, 3.0])]),
        (
            "",
            format!(r#"[ {three}, {{ "type": "bgr_to_rgb" }} ]"#),
            vec![reverse.clone(), normalize(&[1.0, 2.0, 3.0]), reverse.clone()],
        ),
        ("", r#"[ { "type": "grayscale" } ]"#.to_owned(), vec![PreprocessingStep::Grayscale]),
    ];
    for (reader, steps, expected) in cases {
        assert_eq!(image_steps(reader, &steps), Ok(expected), "{reader} {steps}");
    }
}

#[test]
fn resizing_and_cropping_follow_the_named_library() {
    let resize = |height, width, filter| PreprocessingStep::Resize { height, width, filter };
    let cases = [
        (r#"{ "type": "resize", "size": 8 }"#, resize(8, 8, ResizeFilter::OpencvLinear)),
        (
            r#"{ "type": "resize", "dst_height": 8, "dst_width": 9, "use_pillow": true, "interpolation": "BICUBIC" }"#,
            resize(8, 9, ResizeFilter::PillowBicubic),
        ),
        (
            r#"{ "type": "resize", "size": 8, "aspect_ratio_scale": "greater", "use_pillow": true }"#,
            PreprocessingStep::ResizeShortest { size: 8, filter: ResizeFilter::PillowBilinear },
        ),
        (r#"{ "type": "crop", "size": 4, "use_pillow": true }"#, PreprocessingStep::CenterCrop { height: 4, width: 4 }),
    ];
    for (step, expected) in cases {
        assert_eq!(image_steps(r#", "reader": "pillow_imread""#, &format!("[ {step} ]")), Ok(vec![expected]), "{step}");
    }
}

#[test]
fn metrics_read_the_output_they_name() {
    let text = changed(r#""type": "accuracy", "top_k": 1 }"#, r#""type": "accuracy", "output": "logits" }"#);
    let metrics = parse_text(&text).expect("valid").validation.metrics;
    let expected = MetricSpec {
        name: "accuracy@top1".to_owned(),
        output: Some("logits".to_owned()),
        definition: MetricDefinition::accuracy(1),
    };
    assert_eq!(metrics.first(), Some(&expected));
}

#[test]
fn what_the_report_shows_as_parameters_holds_no_path() {
    let text = serde_json::to_string(&parse_text(GOOD).expect("valid")).expect("plain data");
    assert!(!text.contains("/base"), "{text}");
    assert!(text.contains("\"maximal_drop\":0.01"), "{text}");
}

#[test]
fn a_refusal_shows_the_line_underlined() {
    let text = changed(r#""maximal_drop""#, r#""maximum_drop""#);
    let error = parse(&text, "c.json", Path::new("")).expect_err("an unknown key");
    let expected =
        "  × `compression.algorithms[0].params` (AccuracyAwareQuantization) has an unknown key `maximum_drop`
    ╭─[c.json:10:42]
  9 │     \"name\": \"AccuracyAwareQuantization\",
 10 │     \"params\": { \"preset\": \"performance\", \"maximum_drop\": 0.01 }
    ·                                          ───────┬──────
    ·                                                 ╰── here
 11 │   } ] }
    ╰────
  help: did you mean `maximal_drop`?
";
    assert_eq!(render(&error, false), expected);
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = load(&directory.path().join("none.json")).expect_err("missing").to_string();
    assert!(missing.contains("none.json: No such file"), "{missing}");
    let path = directory.path().join("latin1.json");
    std::fs::write(&path, b"{\"a\": \"\xe9\"}").expect("written");
    assert!(load(&path).expect_err("not UTF-8").to_string().contains("not UTF-8"));
    let text = load(Path::new("config.txt")).expect_err("no language").to_string();
    assert!(text.contains(".json, .yml or .yaml"), "{text}");
}
