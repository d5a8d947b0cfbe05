//! What may be typed together, and what it means.

use super::*;
use crate::config::{Algorithm, DataSource};
use clap::CommandFactory;
use clap::error::ErrorKind;
use holdfast_common::dataset::{PreprocessingStep, ResizeFilter};
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_core::parameters::{Granularity, Mode, Preset};
use std::path::Path;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/mnist/mnist.json");

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn quantize(line: &str) -> Result<RunConfig, String> {
    let cli = parse(&format!("holdfast quantize {line}")).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Quantize(args) => args.run_config().map_err(|error| error.to_string()),
        other => panic!("expected quantize, got {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_configuration_excludes_the_flags_that_say_the_same() {
    for flag in [
        "-m x.onnx",
        "--data d",
        "--labels l.npy",
        "--calibration-data c",
        "--metric accuracy@top1",
        "--preset mixed",
        "--algorithm default",
        "--weights-granularity pertensor",
        "--drop-type relative",
        "--stat-subset-size 3",
        "--ranking-subset-size 3",
        "--max-iter-num 3",
        "--mean 1",
        "--std 1",
        "--scale 255",
        "--resize 8",
        "--crop 8",
        "--bgr",
        "--grayscale",
        "--name x",
    ] {
        let error = parse(&format!("holdfast quantize -c f.json {flag}")).expect_err(flag);
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{flag}");
        assert_eq!(error.exit_code(), i32::from(exit::CONFIGURATION), "{flag}");
    }
}

#[test]
fn without_a_configuration_model_and_data_are_needed() {
    for line in [
        "holdfast quantize",
        "holdfast quantize -m x.onnx",
        "holdfast evaluate --data d",
        "holdfast worker",
        "holdfast verify -m x.onnx --data d",
        "holdfast verify results",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{line}");
    }
}

#[test]
fn the_goal_and_the_mode_on_the_command_line_replace_those_of_the_file() {
    let config = quantize(&format!("-c {FIXTURE} --max-drop -0.5 --mode compat")).expect("valid");
    let parameters = &config.request.parameters;
    assert_eq!((parameters.mode, parameters.maximal_drop), (Mode::Compat, -0.5));
    assert_eq!(parameters.quantization.activations.granularity, Some(Granularity::PerTensor));
}

#[test]
fn results_and_state_have_places_of_their_own() {
    let config = quantize(&format!("-c {FIXTURE}")).expect("valid");
    assert_eq!(config.output_dir, Path::new("results/mnist_dwcnn_AccuracyAwareQuantization"));
    assert_eq!(config.state_dir, Path::new("results/.holdfast"));
    assert_eq!((config.embedded_workers, config.listen, config.threads), (1, None, None));
    assert_eq!(config.goal_missed_exit_code, exit::GOAL_MISSED);
    let config = quantize(&format!("-c {FIXTURE} --output-dir out --goal-missed-exit-code 0")).expect("valid");
    assert_eq!((config.output_dir.as_path(), config.state_dir.as_path()), (Path::new("out"), Path::new(".holdfast")));
    assert_eq!(config.goal_missed_exit_code, 0);
}

#[test]
fn flags_say_what_a_configuration_would() {
    let config = quantize(
        "-m nets/a.onnx --data photos --labels val.txt --calibration-data more --metric accuracy@top5 --max-drop 0.02 \
         --preset mixed --weights-granularity pertensor --resize 256 --crop 224x192 --scale 255 \
         --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --listen 127.0.0.1:7077 --workers 0 --threads 3",
    )
    .expect("valid");
    let request = &config.request;
    let quantization = &request.parameters.quantization;
    assert_eq!((request.model_name.as_str(), quantization.preset), ("a", Preset::Mixed));
    assert_eq!(quantization.symmetry(TensorClass::Activations), Symmetry::Asymmetric);
    assert_eq!(quantization.weights.granularity, Some(Granularity::PerTensor));
    assert_eq!(request.validation.source, DataSource::Folder("photos".into()));
    let steps = vec![
        PreprocessingStep::ResizeShortest { size: 256, filter: ResizeFilter::PillowBilinear },
        PreprocessingStep::CenterCrop { height: 224, width: 192 },
        PreprocessingStep::Normalization {
            scale: 255.0,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        },
    ];
    assert_eq!(request.validation.preprocessing.steps, steps);
    let calibration = request.calibration.as_ref().expect("a data set of its own");
    assert_eq!((calibration.preprocessing.steps.len(), calibration.metrics.len()), (3, 0));
    assert_eq!(request.algorithm, Algorithm::AccuracyAwareQuantization);
    let parameters = &request.parameters;
    assert_eq!((parameters.metrics.len(), parameters.metrics[0].name.as_str()), (1, "accuracy@top5"));
    assert_eq!(parameters.maximal_drop, 0.02);
    assert_eq!(config.embedded_workers, 0);
}

#[test]
fn the_fixture_can_be_said_in_flags_as_well() {
    let directory = Path::new(FIXTURE).parent().expect("a directory").display().to_string();
    let flags = quantize(&format!(
        "-m {directory}/mnist_dwcnn.onnx --data {directory}/test_images.npy --labels {directory}/test_labels.npy \
         --calibration-data {directory}/calib_images.npy --weights-granularity pertensor --scale 255 --mean 0.1307 \
         --std 0.3081"
    ))
    .expect("valid");
    let file = quantize(&format!("-c {FIXTURE}")).expect("valid");
    assert_eq!(flags.request.algorithm, file.request.algorithm);
    let mut expected = file.request.parameters.clone();
    // The file says what the preset and the target say anyway.
    expected.quantization.weights.mode = None;
    expected.quantization.target_device = Default::default();
    assert_eq!(flags.request.parameters, expected);
    assert_eq!(flags.request.validation.preprocessing, file.request.validation.preprocessing);
    assert_eq!(flags.request.validation.metrics, file.request.validation.metrics);
}

#[test]
fn senseless_options_are_refused_by_name() {
    let array = "-m a.onnx --data x.npy --labels y.npy";
    for (line, expected) in [
        ("-m a.onnx --data x.npy".to_owned(), "--labels: is needed where --data is an array"),
        (format!("{array} --resize 8"), "--resize: needs images"),
        (format!("{array} --std 0"), "--std: should be finite numbers other than 0"),
        (format!("{array} --scale 0"), "--scale: should be"),
        (format!("{array} --mean 1,2 --std 1,2,3"), "--std: should have as many"),
        (format!("{array} --metric f7"), "--metric: there is no metric `f7`"),
        (format!("{array} --workers 0"), "--workers: 0 workers here and none from elsewhere"),
        (format!("{array} --workers 1000"), "--workers: 1000 is more than 256"),
        (format!("{array} --max-drop nan"), "expected a finite number"),
        (format!("{array} --crop 0"), "expected pixels as N or HxW"),
        (format!("{array} --name a/b"), "--name: should be a plain file name"),
        ("-m a.onnx --data photos --resize-filter opencv-linear".to_owned(), "--resize-filter: means nothing"),
    ] {
        let error = quantize(&line).expect_err(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_worker_needs_an_address_and_may_leave_the_scheme_out() {
    for (address, expected) in [
        ("http://10.0.0.1:7077", Some("http://10.0.0.1:7077")),
        ("http://host:1/", Some("http://host:1")),
        ("[::1]:7077", Some("http://[::1]:7077")),
        ("host", None),
        ("host:0", None),
        ("ftp://host:1", None),
        ("http://user@host:1", None),
    ] {
        let parsed = parse(&format!("holdfast worker --connect {address}")).ok().map(|cli| match cli.command {
            Command::Worker(args) => args.connect,
            other => panic!("expected worker, got {other:?}"),
        });
        assert_eq!(parsed.as_deref(), expected, "{address}");
    }
}

/// What POT refuses, and what its users may type besides.
#[test]
fn pots_own_flags_are_understood_and_contradictions_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let eval = folder.path().join("eval.yml");
    let text = "models:\n  - name: digits\n    launchers: [{framework: openvino, adapter: classification}]\n    datasets:\n      - name: d\n        data_source: x.npy\n        annotation: y.npy\n        metrics: [{type: accuracy, top_k: 1}]\n";
    std::fs::write(&eval, text).expect("written");
    let ac = format!("--ac-config {}", eval.display());
    for line in
        ["-c x.json -q default", "", "-q default", "-c x.json -m y.onnx", "-c x.json -w y.bin", "-q other -m y.onnx"]
    {
        assert!(parse(&format!("holdfast quantize {line}")).is_err(), "{line}");
    }
    for (line, expected) in [
        (format!("-q accuracy_aware -m y.onnx {ac}"), "--max-drop: is needed with --quantize accuracy_aware"),
        (
            "-q accuracy_aware -m y.onnx --engine simplified --data-source d --max-drop 1".to_owned(),
            "--engine: simplified has no labels",
        ),
        ("-q default -e -m y.onnx --engine simplified --data-source d".to_owned(), "--evaluate: needs a metric"),
        ("-q default -m y.onnx --engine simplified".to_owned(), "--data-source: is needed"),
        ("-q default -m y.onnx --data-source d".to_owned(), "--data-source: belongs to --engine simplified"),
        ("-q default -m y.onnx --engine accuracy_checker".to_owned(), "--ac-config: is needed"),
        (format!("-q default -m y.onnx -w y.bin {ac}"), "--weights: does not go with ONNX"),
        (format!("-q default -m y.onnx --keep-uncompressed-weights {ac}"), "--keep-uncompressed-weights: is not there"),
        (format!("-q default -m y.xml {ac}"), "is an OpenVINO model"),
    ] {
        let error = quantize(&line).expect_err(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    let line =
        format!("-q accuracy_aware -m nets/y.onnx -n digits {ac} --max-drop 0.02 --preset mixed -e -d --stream-output");
    let config = quantize(&line).expect("POT's own words");
    assert_eq!(config.request.algorithm, Algorithm::AccuracyAwareQuantization);
    assert_eq!((config.request.model_name.as_str(), config.output_dir.as_path()), ("digits", Path::new("results")));
    assert!(config.evaluate && config.progress == ProgressArg::Never);
    let parameters = &config.request.parameters;
    assert_eq!((parameters.maximal_drop, parameters.quantization.preset), (0.02, Preset::Mixed));
    assert_eq!(parameters.quantization.stat_subset_size, Some(300));
    assert_eq!(parameters.metrics.len(), 1);
    assert_eq!(config.request.validation.source, DataSource::Array(folder.path().join("x.npy")));
    let config = quantize("-q default -m y.onnx --engine simplified --data-source photos/*.png").expect("images");
    assert_eq!(config.request.algorithm, Algorithm::DefaultQuantization);
    assert_eq!(config.request.validation.source, DataSource::Listed("photos/*.png".into()));
    assert!(config.request.validation.fit.is_some());
}

#[test]
fn progress_bars_leave_the_log_to_errors() {
    let line = |flags: &str| format!("holdfast quantize -c x.json {flags}");
    assert_eq!(parse(&line("--progress-bar")).expect("valid").log_filter(), "error");
    assert_eq!(parse(&line("--log-level WARNING")).expect("valid").log_filter(), "WARNING");
}
