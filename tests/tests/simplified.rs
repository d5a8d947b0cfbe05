//! POT's simplified engine: images without labels, in the layout the model wants, cut where that is asked for.

use holdfast_common::onnx::schema::{AttributeProto, ModelProto, NodeProto};
use holdfast_tests::mnist::{Run, fixture};
use holdfast_tests::process::finish;
use holdfast_tests::results::Results;
use image::GrayImage;
use ndarray::Array3;
use ndarray_npy::read_npy;
use prost::Message;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// Digits that the runs calibrate on.
const DIGITS: usize = 40;

fn photos(folder: &Path) -> PathBuf {
    let images: Array3<u8> = read_npy(fixture("test_images.npy")).expect("the fixture's images");
    let photos = folder.join("photos");
    fs::create_dir(&photos).expect("a folder");
    for (index, image) in images.outer_iter().take(DIGITS).enumerate() {
        let (height, width) = image.dim();
        let pixels = GrayImage::from_raw(width as u32, height as u32, image.iter().copied().collect()).expect("pixels");
        pixels.save(photos.join(format!("{index:03}.png"))).expect("the image can be written");
    }
    photos
}

/// The digits' model with its channels last: a transposition stands before it.
fn channels_last(folder: &Path) -> PathBuf {
    let bytes = fs::read(fixture("mnist_dwcnn.onnx")).expect("readable");
    let mut model = ModelProto::decode(bytes.as_slice()).expect("ONNX");
    let graph = model.graph.as_mut().expect("a graph");
    let input = &mut graph.input[0];
    let name = input.name.replace("pixels".to_owned()).expect("a name");
    let tensor = input.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()).expect("a tensor");
    tensor.shape.as_mut().expect("a shape").dim[1..].rotate_left(1);
    let permutation = AttributeProto {
        name: Some("perm".to_owned()),
        r#type: Some(7),
        ints: vec![0, 3, 1, 2],
        ..AttributeProto::default()
    };
    let transpose = NodeProto {
        input: vec!["pixels".to_owned()],
        output: vec![name],
        name: Some("to_planes".to_owned()),
        op_type: Some("Transpose".to_owned()),
        attribute: vec![permutation],
        ..NodeProto::default()
    };
    graph.node.insert(0, transpose);
    let path = folder.join("channels_last.onnx");
    fs::write(&path, model.encode_to_vec()).expect("the model can be written");
    path
}

/// All scales of a run's scheme, in its order.
fn scales(folder: &Path, name: &str, model: &Path, engine: Value) -> Vec<Value> {
    let config = json!({
        "model": { "model_name": "net", "model": model },
        "engine": engine,
        "compression": { "algorithms": [{ "name": "DefaultQuantization", "params": {} }] },
    });
    let run = Run::of(folder, name, &config);
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
    let scheme: Value = serde_json::from_str(&Results::read(&run.output).scheme).expect("JSON");
    let quantizers = scheme["scheme"]["quantizers"].as_array().expect("quantizers").clone();
    quantizers.into_iter().map(|quantizer| quantizer["params"]["scales"].clone()).collect()
}

#[test]
fn either_layout_gets_the_same_images_and_a_central_fraction_others() {
    let folder = tempdir().expect("a folder");
    let (photos, first, last) = (photos(folder.path()), fixture("mnist_dwcnn.onnx"), channels_last(folder.path()));
    let engine = |more: Value| {
        let mut engine = json!({ "type": "simplified", "data_source": photos });
        engine.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        engine
    };
    let of = |name: &str, model: &Path, more: Value| scales(folder.path(), name, model, engine(more));
    let planes = of("planes", &first, json!({}));
    assert!(planes.len() > 17);
    for (name, model, more) in [
        ("planes-named", &first, json!({ "layout": "NCHW" })),
        ("pixels", &last, json!({})),
        ("pixels-named", &last, json!({ "layout": "NHWC" })),
        ("whole", &first, json!({ "central_fraction": 1.0 })),
    ] {
        assert_eq!(of(name, model, more), planes, "{name}");
    }
    assert_ne!(of("cut", &first, json!({ "central_fraction": 0.5 })), planes);
}

#[test]
fn a_layout_that_is_not_the_models_is_refused() {
    let folder = tempdir().expect("a folder");
    let config = json!({
        "model": { "model": fixture("mnist_dwcnn.onnx") },
        "engine": { "type": "simplified", "data_source": photos(folder.path()), "layout": "NHWC" },
        "compression": { "algorithms": [{ "name": "DefaultQuantization", "params": {} }] },
    });
    let ended = finish(Run::of(folder.path(), "other", &config).command());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("say where its channels are by `layout`"), "{}", ended.stderr);
}
