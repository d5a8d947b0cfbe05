//! A detector from image files and box annotations to average precision, compared with pycocotools on the same files.

use holdfast_tests::process::finish;
use holdfast_tests::program::holdfast;
use holdfast_worker::data::decode_image;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// What onnxruntime, Pillow and pycocotools give for this model and these images, to four decimals.
const AT_HALF: f64 = 0.3351;
const AT_ALL: f64 = 0.1766;
/// Half of the last decimal.
const ROUNDING: f64 = 0.00005;

fn bench() -> Option<PathBuf> {
    let place = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from);
    if place.is_none() {
        println!("skipped: HOLDFAST_BENCH does not name a benchmark pack");
    }
    place
}

/// FastestDet on 128 images of COCO.
fn detector(bench: &Path) -> Value {
    json!({
        "model": { "model": bench.join("models/fastestdet_coco.onnx") },
        "engine": { "datasets": [{
            "name": "coco",
            "data_source": bench.join("data/coco/val/images"),
            "annotation_conversion": { "converter": "yolo_labeling" },
            "reader": "opencv_imread",
            "preprocessing": [
                { "type": "resize", "size": 352, "use_pillow": true, "interpolation": "BILINEAR" },
                { "type": "normalization", "mean": 0, "std": 255 },
            ],
            "adapter": { "type": "fastestdet", "conf_threshold": 0.01 },
            "postprocessing": [{ "type": "nms", "overlap": 0.45 }],
            "metrics": [
                { "name": "half", "type": "coco_precision", "threshold": 0.5 },
                { "name": "all", "type": "coco_precision" },
            ],
        }] },
        "compression": { "algorithms": [{ "name": "DefaultQuantization", "params": {} }] },
    })
}

fn dataset(config: &mut Value) -> &mut Value {
    &mut config["engine"]["datasets"][0]
}

/// The metrics that `holdfast evaluate` prints, and all it wrote if it failed.
fn evaluate(config: &Value, isa: Option<&str>) -> Result<BTreeMap<String, f64>, String> {
    let folder = tempdir().expect("a temporary folder");
    let file = folder.path().join("config.json");
    fs::write(&file, config.to_string()).expect("written");
    let mut command = holdfast();
    command.arg("evaluate").arg("-c").arg(&file).arg("--state-dir").arg(folder.path().join("state"));
    if let Some(isa) = isa {
        command.env("HOLDFAST_ISA", isa);
    }
    let ended = finish(command);
    if ended.code != Some(0) {
        return Err(ended.stderr);
    }
    let metric = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    Ok(ended.stdout.lines().filter_map(metric).collect())
}

/// The pack's label files as one COCO instances file, with category ids that have gaps.
fn instances(bench: &Path) -> Value {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    let entries = fs::read_dir(bench.join("data/coco/val/images")).expect("the pack's images");
    for (index, entry) in entries.map(|entry| entry.expect("an entry").path()).enumerate() {
        let stem = entry.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let image = decode_image(&fs::read(&entry).expect("readable")).expect("an image");
        let (width, height) = (image.width as f64, image.height as f64);
        images.push(json!({
            "id": index + 10, "file_name": format!("{stem}.jpg"), "width": image.width, "height": image.height,
        }));
        let labels = bench.join("data/coco/val/labels").join(&stem).with_extension("txt");
        for line in fs::read_to_string(labels).unwrap_or_default().lines() {
            let numbers: Vec<f64> = line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            let [class, x, y, w, h] = numbers[..] else { panic!("five numbers, not {line}") };
            let bbox = [(x - w / 2.0) * width, (y - h / 2.0) * height, w * width, h * height];
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": index + 10, "category_id": 2 * class as u64 + 1,
                "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0,
            }));
        }
    }
    let category = |class: u64| json!({ "id": 2 * class + 1, "name": class.to_string() });
    json!({ "images": images, "annotations": annotations, "categories": (0..80).map(category).collect::<Vec<_>>() })
}

#[test]
fn a_detector_scores_what_pycocotools_says() {
    let Some(bench) = bench() else { return };
    let config = detector(&bench);
    let found = evaluate(&config, None).expect("sound");
    assert!((found["half"] - AT_HALF).abs() <= ROUNDING, "{found:?}");
    assert!((found["all"] - AT_ALL).abs() <= ROUNDING, "{found:?}");
    assert_eq!(evaluate(&config, Some("scalar")), Ok(found), "another instruction set");
}

#[test]
fn a_coco_file_of_the_same_boxes_scores_the_same() {
    let Some(bench) = bench() else { return };
    let folder = tempdir().expect("a temporary folder");
    let file = folder.path().join("instances.json");
    fs::write(&file, instances(&bench).to_string()).expect("written");
    let mut config = detector(&bench);
    let expected = evaluate(&config, None);
    dataset(&mut config)["annotation_conversion"] = Value::Null;
    dataset(&mut config)["annotation"] = json!(file);
    assert_eq!(evaluate(&config, None), expected);
}

#[test]
fn what_would_give_wrong_boxes_is_refused_before_anything_runs() {
    let Some(bench) = bench() else { return };
    let refusal = |change: fn(&mut Value)| {
        let mut config = detector(&bench);
        change(dataset(&mut config));
        evaluate(&config, None).expect_err("refused")
    };
    let cropped = refusal(|data| {
        let crop = json!({ "type": "crop", "size": 352 });
        data["preprocessing"].as_array_mut().expect("a list").insert(0, crop);
    });
    assert!(cropped.contains("compares places in the image, but preprocessing crops it"), "{cropped}");
    let labelled = refusal(|data| {
        data["metrics"] = json!([{ "type": "accuracy" }]);
        data["adapter"] = Value::Null;
        data["postprocessing"] = Value::Null;
    });
    assert!(labelled.contains("needs a class label, but it carries boxes"), "{labelled}");
    let head = refusal(|data| data["adapter"] = json!({ "type": "yolo_v8", "input_size": 352 }));
    assert!(head.contains("[1, 4 + classes, candidates] was expected"), "{head}");
}
