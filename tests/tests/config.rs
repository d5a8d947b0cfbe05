//! Configurations: bad ones are refused at their place with their reason, and POT's own words run unchanged.

use holdfast::config::parse;
use holdfast_tests::mnist::{self, Run, evaluation, fixture};
use holdfast_tests::process::finish;
use holdfast_tests::program::holdfast;
use image::GrayImage;
use ndarray::{Array1, Array3};
use ndarray_npy::read_npy;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// The configuration that the cases change.
const BASE: &str = r#"{
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

/// The table of bad configurations.
fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/refusals.txt")
}

/// What a case of the table, its lines without the refusal, is refused with.
fn refusal(case: &str) -> String {
    let lines: Vec<&str> = case.lines().collect();
    let (file, text) = match lines.as_slice() {
        [whole] if whole.starts_with("= ") => {
            let (file, text) = whole[2..].split_once(':').expect("a file name and a text");
            (file, text.trim_start().replace("\\n", "\n"))
        }
        [from, to] if from.starts_with("- ") && to.starts_with('+') => {
            let from = &from[2..];
            assert_eq!(BASE.matches(from).count(), 1, "{from} stands in the base once");
            ("c.json", BASE.replace(from, to[1..].trim_start()))
        }
        _ => panic!("a case is one line `=`, or two lines `-` and `+`:\n{case}"),
    };
    match parse(&text, file, Path::new("/base")) {
        Ok(_) => panic!("this is accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_refused_at_their_place_with_their_reason() {
    let expected = fs::read_to_string(table()).expect("the table can be read");
    let mut blocks = expected.trim_end().split("\n\n");
    let mut found = blocks.next().expect("an introduction").to_owned();
    let mut cases = 0;
    for block in blocks {
        let case: Vec<&str> = block.lines().filter(|line| !line.starts_with("    ")).collect();
        let case = case.join("\n");
        found.push_str(&format!("\n\n{case}\n    {}", refusal(&case).replace('\n', "\n    ")));
        cases += 1;
    }
    found.push('\n');
    assert!(cases >= 40, "{cases} cases");
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        fs::write(table(), &found).expect("the table can be written");
        return;
    }
    let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "the table differs, first in (found, expected): {differing:#?}");
}

/// Digits of the fixture that the runs below use.
const DIGITS: usize = 400;

/// The fixture's digits as an ImageNet-like folder: PNG files and a text file of lines `file index`.
fn image_folder(folder: &Path) {
    let images: Array3<u8> = read_npy(fixture("test_images.npy")).expect("the fixture's images");
    let labels: Array1<i64> = read_npy(fixture("test_labels.npy")).expect("the fixture's labels");
    fs::create_dir(folder.join("val")).expect("a folder of images");
    let mut lines = String::new();
    for (index, (image, label)) in images.outer_iter().zip(labels.iter()).take(DIGITS).enumerate() {
        let name = format!("digit_{index:05}.png");
        let (height, width) = image.dim();
        let pixels = GrayImage::from_raw(width as u32, height as u32, image.iter().copied().collect()).expect("pixels");
        pixels.save(folder.join("val").join(&name)).expect("the image can be written");
        lines.push_str(&format!("{name} {label}\n"));
    }
    fs::write(folder.join("val.txt"), lines).expect("the labels can be written");
}

/// An evaluation file as accuracy-checker's users have it.
const EVALUATION: &str = "\
models:
  - name: digits
    launchers:
      - framework: openvino
        device: CPU
        adapter: classification
    datasets:
      - name: digits_val
        data_source: val
        annotation_conversion:
          converter: imagenet
          annotation_file: val.txt
        reader: opencv_imread
        preprocessing:
          - type: bgr_to_gray
          - type: normalization
            mean: 33.3285
            std: 78.5655
        metrics:
          - name: accuracy@top1
            type: accuracy
            top_k: 1
";

/// A configuration of POT as its documentation lays it out; only the model's path is ours.
fn pot_config(model: &Path) -> String {
    format!(
        r#"/* written for pot */
{{
    "model": {{ "model_name": "digits", "model": {model:?}, "weights": "digits.bin" }},
    "engine": {{ "type": "accuracy_checker", "config": "./eval.yml", "stat_requests_number": 2, "eval_requests_number": 2 }},
    "compression": {{
        "target_device": "CPU",
        "algorithms": [ {{
            "name": "AccuracyAwareQuantization", // the optimization algorithm
            "params": {{
                "preset": "performance",
                "stat_subset_size": 100,
                "weights": {{ "granularity": "pertensor" }},
                "ranking_subset_size": 100,
                "max_iter_num": 10,
                "maximal_drop": 0.01,
                "drop_type": "absolute",
                "use_prev_if_drop_increase": true,
                "base_algorithm": "DefaultQuantization",
                "convert_to_mixed_preset": false,
                "metrics": [ {{ "name": "accuracy@top1" }} ],
                "metric_subset_ratio": 0.5,
                "tune_hyperparams": false
            }}
        }} ]
    }}
}}
"#
    )
}

#[test]
fn a_configuration_of_pot_runs_unchanged_on_images_described_for_accuracy_checker() {
    let folder = tempdir().expect("a folder");
    image_folder(folder.path());
    fs::write(folder.path().join("eval.yml"), EVALUATION).expect("the evaluation file can be written");
    let config = folder.path().join("pot.json");
    fs::write(&config, pot_config(&fixture("mnist_dwcnn.onnx"))).expect("the configuration can be written");
    let run = Run { config, output: folder.path().join("out"), state: folder.path().join("state") };
    let mut command = run.command();
    command.arg("--evaluate");
    let ended = finish(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value =
        serde_json::from_slice(&fs::read(run.output.join("report.json")).expect("a report")).expect("JSON");
    assert_eq!(report["outcome"], "goal_met");
    assert_eq!(report["data"]["validation"]["samples"], DIGITS);

    // The same digits as an array, with the same numbers: the float model's accuracy is the same.
    let mut as_array = mnist::config();
    let steps = json!([{ "type": "normalization", "mean": 33.3285, "std": 78.5655 }]);
    as_array["engine"]["datasets"]["preprocessing"] = steps;
    evaluation(&mut as_array)["subsample_size"] = json!(DIGITS);
    let array_run = Run::of(folder.path(), "array", &as_array);
    let mut command = array_run.command();
    command.arg("--evaluate");
    let ended_array = finish(command);
    assert_eq!(ended_array.code, Some(0), "{}", ended_array.stderr);
    let array: Value =
        serde_json::from_slice(&fs::read(array_run.output.join("report.json")).expect("a report")).expect("JSON");
    assert_eq!(report["run"]["baseline"], array["run"]["baseline"]);

    // `--evaluate` prints the metric of the written model, its name padded as POT does.
    let value = &report["run"]["final_values"][0];
    let line = format!("{:<27}: {value}", "accuracy@top1");
    assert!(ended.stdout.contains(&line), "{line} is missing:\n{}", ended.stdout);

    // The two runs can be set side by side.
    let mut command = holdfast();
    command.arg("compare").arg(&run.output).arg(&array_run.output);
    let compared = finish(command);
    assert_eq!(compared.code, Some(0), "{}", compared.stderr);
    assert!(compared.stdout.contains("accuracy@top1 drop"), "{}", compared.stdout);
}

#[test]
fn images_without_labels_are_enough_for_default_quantization() {
    let folder = tempdir().expect("a folder");
    image_folder(folder.path());
    let mut command = holdfast();
    command.args(["quantize", "-q", "default", "--engine", "simplified", "-m"]).arg(fixture("mnist_dwcnn.onnx"));
    command.arg("--data-source").arg(folder.path().join("val/digit_000*.png"));
    command.arg("--output-dir").arg(folder.path().join("out")).arg("--state-dir").arg(folder.path().join("state"));
    let ended = finish(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = fs::read(folder.path().join("out/report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!((&report["outcome"], &report["data"]["calibration"]["samples"]), (&json!("no_goal"), &json!(100)));
}

#[test]
fn inspection_accounts_for_every_operation() {
    let mut command = holdfast();
    command.args(["inspect", "--json"]).arg(fixture("mnist_dwcnn.onnx"));
    let ended = finish(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    // The model's sixteen convolutions and its product are all quantized.
    let weighty = |row: &&Value| ["Conv", "Gemm", "MatMul"].contains(&row["kind"].as_str().unwrap_or_default());
    let products: Vec<&Value> = rows.iter().filter(weighty).collect();
    assert_eq!(products.len(), 17);
    for row in products {
        assert_eq!(row["fate"], "quantized", "{row}");
        assert!(row["macs"].as_u64().is_some_and(|macs| macs > 0) && row["group"].is_string(), "{row}");
    }
}
