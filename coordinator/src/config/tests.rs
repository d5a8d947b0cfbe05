//! Configurations that must be accepted as meant, and ones that must be refused at their place with their reason.

use super::*;
use holdfast_common::dataset::{PreprocessingStep, ResizeFilter};
use holdfast_common::metric::MetricDefinition;

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

fn accuracy(request: &RunRequest) -> &AccuracyConfig {
    match &request.algorithm {
        Algorithm::AccuracyAwareQuantization(accuracy) => accuracy,
        Algorithm::DefaultQuantization => panic!("expected the accuracy-aware algorithm"),
    }
}

#[test]
fn a_small_file_gets_the_documented_defaults() {
    let request = parse_text(GOOD).expect("valid");
    assert_eq!(request.model_name, "net");
    assert_eq!(request.model, Path::new("/base/net.onnx"));
    assert_eq!((request.mode, request.target_device), (Mode::Default, TargetDevice::Any));
    assert_eq!(request.calibration, None);
    assert_eq!(request.validation.source, DataSource::Array("/base/x.npy".into()));
    assert_eq!(request.validation.annotation, Some(AnnotationSource::Array("/base/y.npy".into())));
    let steps = vec![PreprocessingStep::Normalization { scale: 255.0, mean: vec![0.1], std: vec![0.5] }];
    assert_eq!(request.validation.preprocessing_of("image").steps, steps);
    let tensor = |mode| TensorConfig { bits: 8, mode, granularity: None, level_low: None, level_high: None };
    let quantization = QuantizationConfig {
        preset: Preset::Performance,
        weights: tensor(Symmetry::Symmetric),
        activations: tensor(Symmetry::Symmetric),
        stat_subset_size: None,
        shuffle_data: false,
        seed: 0,
        ignored: Ignored::default(),
    };
    assert_eq!(request.quantization, quantization);
    let expected = AccuracyConfig {
        metrics: vec!["accuracy@top1".to_owned(), "top5".to_owned()],
        baseline_values: None,
        maximal_drop: 0.01,
        drop_type: DropType::Absolute,
        ranking_subset_size: 300,
        max_iter_num: None,
        use_prev_if_drop_increase: true,
        convert_to_mixed_preset: false,
        metric_subset_ratio: 0.5,
    };
    assert_eq!(accuracy(&request), &expected);
    assert!(request.warnings.is_empty(), "{:?}", request.warnings);
}

#[test]
fn every_parameter_of_pot_is_recognised_at_its_default() {
    let request = parse_text(&with_params(
        r#"{
      "preset": "performance", "stat_subset_size": 100, "shuffle_data": true, "seed": 7, "stat_batch_size": 1,
      "use_fast_bias": true, "apply_for_all_nodes": false, "threshold": 2.0, "use_layerwise_tuning": false,
      "num_samples_for_tuning": 10, "batch_size": 2, "optimizer": "Adam", "loss": "l2", "weight_decay": 0,
      "calibration_indices_pool": 3, "use_ranking_subset": false, "calculate_grads_on_loss_increase_only": false,
      "random_seed": 1, "tuning_iterations": 5, "saturation_fix": "no",
      "ignored": { "skip_model": false, "scope": ["a"], "operations": [ { "type": "Add" },
                   { "type": "Convolution", "attributes": {} } ] },
      "weights": { "bits": 8, "mode": "symmetric", "granularity": "pertensor", "level_low": -127, "level_high": 127,
                   "range_estimator": { "preset": "default" } },
      "activations": { "bits": 7, "mode": "asymmetric", "granularity": "perchannel",
                       "range_estimator": { "min": {}, "max": {} } },
      "range_estimator": { "preset": "default" },
      "maximal_drop": -0.5, "drop_type": "relative", "ranking_subset_size": 20, "max_iter_num": 0,
      "use_prev_if_drop_increase": false, "base_algorithm": "DefaultQuantization", "convert_to_mixed_preset": true,
      "metrics": [ { "name": "top5", "type": "accuracy", "baseline_value": 0.9 } ], "metric_subset_ratio": 3,
      "tune_hyperparams": false, "annotation_free": false, "annotation_conf_threshold": 0.6,
    }"#,
    ))
    .expect("valid");
    let quantization = &request.quantization;
    assert_eq!((quantization.stat_subset_size, quantization.shuffle_data, quantization.seed), (Some(100), true, 7));
    assert_eq!(quantization.ignored.scope, ["a"]);
    // OpenVINO's name means the ONNX operator.
    assert_eq!(quantization.ignored.operations, ["Add", "Conv"]);
    assert_eq!(quantization.weights.granularity, Some(Granularity::PerTensor));
    assert_eq!((quantization.weights.level_low, quantization.weights.level_high), (Some(-127), Some(127)));
    assert_eq!((quantization.activations.bits, quantization.activations.mode), (7, Symmetry::Asymmetric));
    let accuracy = accuracy(&request);
    assert_eq!(accuracy.baseline_values, Some(vec![0.9]));
    assert_eq!(accuracy.metrics, ["top5"]);
    assert_eq!((accuracy.max_iter_num, accuracy.metric_subset_ratio), (Some(0), 1.0));
    // Asymmetric activations are mixed already.
    assert!(!accuracy.convert_to_mixed_preset);
    // Ten keys of layer-wise tuning, OpenVINO's convolution, and the conversion that cannot happen.
    assert_eq!(request.warnings.len(), 12, "{:#?}", request.warnings);
}

#[test]
fn the_algorithm_is_given_what_the_file_says() {
    let request = parse_text(&with_params(
        r#"{ "preset": "mixed", "maximal_drop": 0.02, "max_iter_num": 4, "seed": 9, "drop_type": "relative",
             "weights": { "bits": 4, "granularity": "pertensor" }, "ignored": { "scope": ["a"] },
             "metrics": [ { "name": "top5", "baseline_value": 0.9 } ] }"#,
    ))
    .expect("valid");
    let parameters = request.parameters();
    assert!(parameters.check().is_ok());
    assert_eq!((parameters.maximal_drop, parameters.max_iter_num, parameters.seed), (0.02, Some(4), 9));
    assert_eq!(parameters.drop_type, holdfast_core::parameters::DropType::Relative);
    assert_eq!(parameters.metrics.len(), 1);
    assert_eq!((parameters.metrics[0].name.as_str(), parameters.metrics[0].baseline_value), ("top5", Some(0.9)));
    let quantization = &parameters.quantization;
    assert_eq!((quantization.weights.width.bits, quantization.activations.width.bits), (4, 8));
    assert_eq!(quantization.weights.granularity, Some(holdfast_core::parameters::Granularity::PerTensor));
    assert_eq!(quantization.ignored.scope, ["a"]);
    assert!(!quantization.is_performance());
    // What nothing is said about are the algorithm's own defaults.
    let parameters = parse_text(&with_params("{}")).expect("valid").parameters();
    let defaults = holdfast_core::parameters::Parameters::default();
    assert_eq!(parameters.maximal_drop, defaults.maximal_drop);
    assert_eq!(parameters.ranking_subset_size, defaults.ranking_subset_size);
    assert_eq!(parameters.use_prev_if_drop_increase, defaults.use_prev_if_drop_increase);
    assert_eq!(parameters.metric_subset_ratio, defaults.metric_subset_ratio);
    assert_eq!(parameters.quantization.stat_subset_size, defaults.quantization.stat_subset_size);
    assert!(parameters.quantization.is_performance());
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
        assert_eq!((request.quantization.preset, request.quantization.activations.mode), (preset, activations));
        assert_eq!(request.quantization.weights.mode, Symmetry::Symmetric, "{word}");
    }
}

#[test]
fn a_baseline_for_some_metrics_only_means_that_all_are_measured() {
    let request = parse_text(&with_params(
        r#"{ "metrics": [ { "name": "accuracy@top1", "baseline_value": 0.9 }, { "name": "top5" } ] }"#,
    ))
    .expect("valid");
    assert_eq!(accuracy(&request).baseline_values, None);
    assert_eq!(request.warnings.len(), 1);
}

#[test]
fn default_quantization_needs_no_goal_and_compat_is_a_mode() {
    let text = changed("AccuracyAwareQuantization", "DefaultQuantization")
        .replace(r#", "maximal_drop": 0.01"#, "")
        .replace(r#""compression""#, r#""holdfast": { "mode": "compat" }, "compression""#);
    let request = parse_text(&text).expect("valid");
    assert_eq!(request.algorithm, Algorithm::DefaultQuantization);
    assert_eq!(request.mode, Mode::Compat);
}

#[test]
fn the_fixture_divides_subtracts_and_divides_in_that_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mnist/mnist.json");
    let request = load(&path).expect("valid");
    let steps = vec![PreprocessingStep::Normalization { scale: 255.0, mean: vec![0.1307], std: vec![0.3081] }];
    assert_eq!(request.validation.preprocessing.steps, steps);
    let calibration = request.calibration.as_ref().expect("a data set of its own");
    assert_eq!(calibration.preprocessing.steps, steps);
    assert_eq!(request.quantization.weights.granularity, Some(Granularity::PerTensor));
    assert_eq!(accuracy(&request).metrics, ["accuracy@top1"]);
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

/// Replacements in [`GOOD`] and the exact text of the refusal.
#[test]
fn mistakes_are_refused_at_their_place_with_their_reason() {
    let cases: &[(&str, &str)] = &[
        ("{ \"model\": \"net.onnx\" },", "{ \"model\": \"net.onnx\" }"),
        (r#""name": "digits","#, r#"'name': "digits","#),
        (r#""scale": 255"#, r#""scale": 0xFF"#),
        (r#""maximal_drop": 0.01"#, r#""maximal_drop": NaN"#),
        (r#""maximal_drop": 0.01"#, r#""maximal_drop": 1e999"#),
        (r#""maximal_drop": 0.01"#, r#""maximal_drop": "1%""#),
        (r#""maximal_drop": 0.01"#, r#""maximum_drop": 0.01"#),
        (r#""maximal_drop": 0.01"#, r#""preset": "mixed""#),
        (r#""maximal_drop": 0.01"#, r#""maximal_drop": {"value": 0.01}"#),
        (r#""maximal_drop": 0.01"#, r#""drop_type": "Relative""#),
        (r#""maximal_drop": 0.01"#, r#""ranking_subset_size": 0"#),
        (r#""maximal_drop": 0.01"#, r#""max_iter_num": 2.5"#),
        (r#""maximal_drop": 0.01"#, r#""metric_subset_ratio": 0"#),
        (r#""maximal_drop": 0.01"#, r#""metrics": []"#),
        (r#""maximal_drop": 0.01"#, r#""metrics": [{ "name": "accuracy" }]"#),
        (r#""maximal_drop": 0.01"#, r#""metrics": [{ "name": "top5" }, { "name": "top5" }]"#),
        (r#""maximal_drop": 0.01"#, r#""weights": { "foo": 1 }"#),
        (r#""maximal_drop": 0.01"#, r#""weights": { "bits": 16 }"#),
        (r#""maximal_drop": 0.01"#, r#""weights": { "bits": 4, "level_high": 12 }"#),
        (r#""maximal_drop": 0.01"#, r#""weights": { "range_estimator": { "max": { "aggregator": "mean" } } }"#),
        (r#""maximal_drop": 0.01"#, r#""range_estimator": { "preset": "quantile" }"#),
        (r#""maximal_drop": 0.01"#, r#""activations": { "range_estimator": { "max": { "type": "max" } } }"#),
        (r#""maximal_drop": 0.01"#, r#""tune_hyperparams": true"#),
        (r#""maximal_drop": 0.01"#, r#""use_fast_bias": false"#),
        (r#""maximal_drop": 0.01"#, r#""use_layerwise_tuning": true"#),
        (r#""maximal_drop": 0.01"#, r#""annotation_free": true"#),
        (r#""maximal_drop": 0.01"#, r#""saturation_fix": "first_layer""#),
        (r#""maximal_drop": 0.01"#, r#""ignored": { "operations": [ "Conv" ] }"#),
        (
            r#""maximal_drop": 0.01"#,
            r#""ignored": { "operations": [ { "type": "Conv", "attributes": { "group": 2 } } ] }"#,
        ),
        (r#""maximal_drop": 0.01"#, r#""ignored": { "operations": [ { "type": "Convolutoin" } ] }"#),
        (r#""maximal_drop": 0.01"#, r#""ignored": { "operations": [ { "type": "Relu6" } ] }"#),
        (r#""performance""#, r#""foo""#),
        (r#""AccuracyAwareQuantization""#, r#""AccuracyAwareQuantisation""#),
        (r#""compression": {"#, r#""compression": { "model_type": "transformer","#),
        (r#""compression": {"#, r#""compression": { "target_device": "GNA","#),
        (r#""compression""#, r#""compresion""#),
        (r#""compression""#, r#""holdfast": { "mode": "fast" }, "compression""#),
        (r#""net.onnx""#, r#""net.xml", "weights": "net.bin""#),
        (r#""net.onnx""#, r#""net.onnx", "model_name": "../x""#),
        (r#"{ "datasets": [ {"#, r#"{ "config": "eval.yml", "datasets": [ {"#),
        (r#"{ "datasets": [ {"#, r#"{ "type": "simplified", "datasets": [ {"#),
        (r#", "annotation": "y.npy""#, ""),
        (r#""y.npy""#, r#""y.pickle""#),
        (r#""type": "normalization", "scale": 255"#, r#""type": "resize", "size": 3"#),
        (r#""type": "normalization", "scale": 255"#, r#""type": "normalisation", "scale": 255"#),
        (r#""std": [0.5]"#, r#""std": [0.5, 0]"#),
        (r#""mean": 0.1"#, r#""mean": "image-net""#),
        (r#""top_k": 1 }, {"#, r#""top_k": 1 }, { "type": "accuracy" }, {"#),
        (r#"{ "name": "top5", "type": "accuracy""#, r#"{ "name": "top5", "type": "map""#),
        (r#"{ "name": "top5", "type": "accuracy""#, r#"{ "name": "top5", "type": "accuracy@top4""#),
        (r#"{ "name": "top5", "type": "accuracy""#, r#"{ "name": "top5", "type": "mse""#),
        (r#""maximal_drop": 0.01"#, r#""metrics": [{ "name": "top5", "type": "f1" }]"#),
    ];
    let expected = include_str!("refusals.txt");
    let mut found = String::new();
    for (from, to) in cases {
        let error = parse_text(&changed(from, to)).expect_err(to);
        found.push_str(&format!("{to}\n    {}\n", error.replace('\n', "\n    ")));
    }
    for text in ["", "// nothing\n", "[]", "{}", "{\"a\": /* open", "{\"a\": \"b"] {
        let error = parse_text(text).expect_err(text);
        found.push_str(&format!("{}\n    {}\n", text.escape_default(), error.replace('\n', "\n    ")));
    }
    assert!(found == expected, "refusals.txt differs; found:\n{found}");
}

#[test]
fn a_refusal_shows_the_line_underlined() {
    let text = changed(r#""maximal_drop""#, r#""maximum_drop""#);
    let error = parse(&text, "c.json", Path::new("")).expect_err("an unknown key");
    let expected = "  × `compression.algorithms[0].params` has an unknown key `maximum_drop`
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
    let yaml = load(Path::new("config.yml")).expect_err("YAML").to_string();
    assert!(yaml.contains("write the same content as JSON"), "{yaml}");
}
