//! `annotation_free`: predictions of the float model are the labels, as many as it is sure of, and nothing else changes.

use holdfast_common::graph::TensorData;
use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_kernels::Isa;
use holdfast_tests::mnist::{self, Run, evaluation, fixture, params};
use holdfast_tests::process::finish;
use holdfast_tests::program::holdfast;
use holdfast_tests::results::Results;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, Variant};
use ndarray::{Array3, Axis};
use ndarray_npy::read_npy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::tempdir;

/// The digits without their labels.
fn config(threshold: f64) -> Value {
    let mut config = mnist::config();
    evaluation(&mut config).as_object_mut().expect("an object").remove("annotation");
    let params = params(&mut config);
    params["annotation_free"] = true.into();
    params["annotation_conf_threshold"] = threshold.into();
    config
}

/// Largest softmax share of the float model for every digit, beside the program's own way from pixels to labels.
fn confidences() -> Vec<f64> {
    let bytes = std::fs::read(fixture("mnist_dwcnn.onnx")).expect("the model");
    let model = Model::load(&bytes, &NoExternalData).expect("a model");
    let images: Array3<u8> = read_npy(fixture("test_images.npy")).expect("images");
    let shapes = model.inputs().iter().map(|input| (input.name.clone(), vec![1, 1, 28, 28]));
    let graph = model.graph(&shapes.collect::<BTreeMap<_, _>>()).expect("a graph");
    let cache = PackedCache::default();
    let plan = Plan::new(&graph, Variant::Baseline, Isa::best(), &cache, &BTreeSet::new()).expect("a plan");
    let confidence = |image: ndarray::ArrayView2<'_, u8>| {
        let pixels = image.mapv(|pixel| (f32::from(pixel) / 255.0 - 0.1307) / 0.3081);
        let input = TensorData::F32(pixels.insert_axis(Axis(0)).insert_axis(Axis(0)).into_dyn());
        let run =
            plan.run(|port, buffer| port.write(&input, buffer), |finished| Ok::<_, PlanError>(finished.outputs()));
        let logits: Vec<f64> = run.expect("a result")[0].iter().map(|&logit| f64::from(logit)).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        1.0 / logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>()
    };
    images.outer_iter().map(confidence).collect()
}

#[test]
fn the_float_model_agrees_with_its_own_predictions_and_int8_is_held_to_them() {
    let folder = tempdir().expect("a folder");
    let run = Run::of(folder.path(), "all", &config(0.0));
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let results = Results::read(&run.output);
    assert_eq!(results.number("/run/baseline/0"), 1.0);
    assert_eq!(results.number("/data/validation/samples"), 2000.0);
    assert!(results.number("/run/final_values/0") >= 0.99, "{}", results.report);
    assert!(!results.reverted().is_empty(), "plain int8 does not predict what the float model does");

    let again = Run { output: folder.path().join("again"), ..run };
    assert_eq!(finish(again.command()).code, Some(0));
    let repeated = Results::read(&again.output);
    results.assert_same(&repeated, "the same command again");
    assert_eq!(repeated.timing("samples_computed"), 0);
}

#[test]
fn samples_the_float_model_is_not_sure_of_are_left_out() {
    let (folder, threshold) = (tempdir().expect("a folder"), 0.9);
    let run = Run::of(folder.path(), "sure", &config(threshold));
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let sure = confidences().into_iter().filter(|confidence| *confidence >= threshold).count();
    assert!((1000..2000).contains(&sure), "{sure} samples show nothing");
    let results = Results::read(&run.output);
    assert_eq!(results.number("/data/validation/samples"), sure as f64);
    assert_eq!(results.number("/run/baseline/0"), 1.0);
}

#[test]
fn where_predictions_cannot_be_labels_it_is_refused() {
    let folder = tempdir().expect("a folder");
    let mut unsuited = config(0.5);
    evaluation(&mut unsuited)["metrics"] = json!([{ "type": "mse" }]);
    params(&mut unsuited)["metrics"] = json!([{ "name": "mse" }]);
    let mut unsure = config(1.0);
    // Noise in place of digits: nothing is certain.
    unsure["engine"]["datasets"]["preprocessing"] = json!([{ "type": "normalization", "scale": 1e6, "mean": 0 }]);
    for (name, config, said) in [
        ("unsuited", &unsuited, "makes class labels of predictions, but metric `mse`"),
        ("unsure", &unsure, "no prediction of 2000 samples has a confidence of 1; lower"),
    ] {
        let ended = finish(Run::of(folder.path(), name, config).command());
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let run = Run::of(folder.path(), "evaluate", &config(0.5));
    let mut command = holdfast();
    command.arg("evaluate").arg("-c").arg(&run.config);
    let ended = finish(command);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("makes labels in a run only"), "{}", ended.stderr);
}
