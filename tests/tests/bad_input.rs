//! Bad models, data, configurations and places: each ends at once with one message that names what, where and what to do.

use holdfast_common::onnx::schema::{ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use holdfast_tests::mnist::{Run, config, evaluation, fixture, params};
use holdfast_tests::process::{Ended, Running};
use holdfast_tests::program::holdfast;
use holdfast_tests::results::{Results, file_names};
use ndarray::{Array1, Array3, Array4, s};
use ndarray_npy::{read_npy, write_npy};
use prost::Message;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

/// Whatever is wrong, it is said within this time.
const SOON: Duration = Duration::from_secs(30);

/// Runs a command that must be refused: exit code, every part of the one message, nothing written.
fn refused(what: &str, command: Command, output: &Path, code: i32, says: &[&str]) -> Ended {
    let ended = Running::start(command).finish_within(SOON);
    let told = &ended.stderr;
    assert_eq!((ended.code, ended.signal), (Some(code), None), "{what}:\n{told}");
    for part in says {
        assert!(told.contains(part), "{what}: `{part}` is not said:\n{told}");
    }
    assert!(!told.contains("panicked"), "{what}:\n{told}");
    let messages = told.matches(" ERROR ").count() + told.matches("  × ").count() + told.matches("\nerror: ").count();
    assert!(messages + usize::from(told.starts_with("error: ")) == 1, "{what}: one message, not {messages}:\n{told}");
    assert_eq!(file_names(output), [""; 0], "{what}: nothing is written");
    assert!(!ended.stdout.contains("written"), "{what}: {}", ended.stdout);
    ended
}

/// A run of this configuration must be refused.
fn refused_config(folder: &Path, what: &str, config: &Value, code: i32, says: &[&str]) {
    let run = Run::of(folder, &what.replace(' ', "-"), config);
    refused(what, run.command(), &run.output, code, says);
}

/// A run of a model file with these bytes must be refused; the file is named whatever else is said.
fn refused_model(folder: &Path, what: &str, bytes: &[u8], says: &[&str]) {
    let path = folder.join(format!("{}.onnx", what.replace(' ', "-")));
    fs::write(&path, bytes).expect("the model can be written");
    let mut config = config();
    config["model"]["model"] = json!(path);
    let name = path.to_string_lossy().into_owned();
    let says: Vec<&str> = says.iter().copied().chain([name.as_str()]).collect();
    refused_config(folder, what, &config, 2, &says);
}

fn digits_model() -> ModelProto {
    ModelProto::decode(fs::read(fixture("mnist_dwcnn.onnx")).expect("readable").as_slice()).expect("ONNX")
}

/// The digits' model with one thing changed.
fn changed(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = digits_model();
    change(&mut model);
    model.encode_to_vec()
}

fn node<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut NodeProto {
    let nodes = &mut model.graph.as_mut().expect("a graph").node;
    nodes.iter_mut().find(|node| node.name() == name).expect("a node of this name")
}

fn constant<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    let constants = &mut model.graph.as_mut().expect("a graph").initializer;
    constants.iter_mut().find(|tensor| tensor.name() == name).expect("a constant of this name")
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempdir().expect("a folder");
    let whole = fs::read(fixture("mnist_dwcnn.onnx")).expect("readable");
    let advice = "check that the file is complete and was exported as ONNX";
    refused_model(folder.path(), "empty file", b"", &["not an ONNX model", "contains no graph", advice]);
    refused_model(folder.path(), "text", b"I am no model, I only look at you.\n", &["not an ONNX model", advice]);
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    refused_model(folder.path(), "picture", picture, &["not an ONNX model", advice]);
    refused_model(folder.path(), "half a model", &whole[..whole.len() / 2], &["not an ONNX model", advice]);
}

#[test]
fn an_export_of_ours_is_not_quantized_again() {
    let folder = tempdir().expect("a folder");
    let mut config = config();
    config["compression"]["algorithms"][0] =
        json!({ "name": "DefaultQuantization", "params": { "stat_subset_size": 20 } });
    let run = Run::of(folder.path(), "first", &config);
    let ended = Running::start(run.command()).finish_within(SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    config["model"]["model"] = json!(run.output.join("mnist_dwcnn.onnx"));
    refused_config(folder.path(), "again", &config, 2, &["int8 model that Holdfast wrote", "quantize the float model"]);
}

#[test]
fn a_model_cut_anywhere_is_refused_without_a_panic() {
    let folder = tempdir().expect("a folder");
    let whole = fs::read(fixture("mnist_dwcnn.onnx")).expect("readable");
    for part in 1..24 {
        refused_model(folder.path(), &format!("cut {part}"), &whole[..whole.len() * part / 24], &["not an ONNX model"]);
    }
}

#[test]
fn models_that_contradict_themselves_are_refused_by_node_and_tensor() {
    let folder = tempdir().expect("a folder");
    let refuse = |what: &str, bytes: Vec<u8>, says: &[&str]| refused_model(folder.path(), what, &bytes, says);
    refuse(
        "cyclic graph",
        changed(|model| node(model, "/f/f.2/Relu").input[0] = "/f/f.12/Relu_output_0".to_owned()),
        &["(", "depends on its own output through a cycle", "export the model again"],
    );
    refuse(
        "missing initializer",
        changed(|model| {
            let graph = model.graph.as_mut().expect("a graph");
            graph.initializer.retain(|tensor| tensor.name() != "onnx::Conv_159");
        }),
        &["/f/f.4/f/f.0/Conv", "`onnx::Conv_159`", "the file is damaged or was cut wrongly"],
    );
    refuse(
        "unmade output",
        changed(|model| node(model, "/fc/Gemm").output[0] = "other".to_owned()),
        &["output `logits` is made by no node"],
    );
    refuse(
        "twice made tensor",
        changed(|model| node(model, "/f/f.2/Relu").output[0] = "/f/f.0/Conv_output_0".to_owned()),
        &["tensor `/f/f.0/Conv_output_0` is defined twice"],
    );
    refuse(
        "weights of another shape",
        changed(|model| constant(model, "onnx::Conv_153").dims = vec![8, 3, 3, 1]),
        &["node `/f/f.3/f/f.0/Conv` (Conv)"],
    );
    refuse(
        "weights cut short",
        changed(|model| constant(model, "onnx::Conv_153").raw_data = Some(vec![0; 7].into())),
        &["constant `onnx::Conv_153` cannot be used", "because: "],
    );
    refuse(
        "weights of impossible size",
        changed(|model| constant(model, "onnx::Conv_153").dims = vec![i64::MAX, i64::MAX, 3, 3]),
        &["constant `onnx::Conv_153` cannot be used"],
    );
}

#[test]
fn operators_that_are_not_computed_are_named_with_their_node_and_operator_set() {
    let folder = tempdir().expect("a folder");
    let refuse = |what: &str, bytes: Vec<u8>, says: &[&str]| refused_model(folder.path(), what, &bytes, says);
    refuse(
        "unsupported operator",
        changed(|model| node(model, "/f/f.2/Relu").op_type = Some("Einsum".to_owned())),
        &["node `/f/f.2/Relu` (Einsum)", "not supported (opset 14)"],
    );
    refuse(
        "operator of a stranger",
        changed(|model| node(model, "/f/f.2/Relu").domain = Some("com.example".to_owned())),
        &["node `/f/f.2/Relu` (com.example.Relu)", "not supported (opset 14)"],
    );
    refuse(
        "ancient operator set",
        changed(|model| model.opset_import[0].version = Some(6)),
        &["operator set 6", "export it again with opset 13 or later"],
    );
    refuse("no operator set", changed(|model| model.opset_import.clear()), &["operator set nothing"]);
}

#[test]
fn weights_in_other_files_are_read_beside_the_model_only() {
    let folder = tempdir().expect("a folder");
    let outside = |location: &str| {
        changed(|model| {
            let tensor = constant(model, "onnx::Conv_153");
            tensor.raw_data = None;
            tensor.data_location = Some(1);
            let location = StringStringEntryProto { key: Some("location".into()), value: Some(location.into()) };
            tensor.external_data = vec![location];
        })
    };
    for (what, location) in
        [("absent weights", "weights.bin"), ("weights above", "../weights.bin"), ("weights anywhere", "/etc/passwd")]
    {
        refused_model(folder.path(), what, &outside(location), &["tensor `onnx::Conv_153`", location, "because: "]);
    }
}

#[test]
fn wrong_labels_are_refused() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("labels.npy");
    let name = path.to_string_lossy().into_owned();
    let mut config = config();
    evaluation(&mut config)["annotation"] = json!(path);

    write_npy(&path, &Array1::<i64>::zeros(1999)).expect("written");
    let says = [name.as_str(), "1999 annotations", "2000 samples"];
    refused_config(folder.path(), "too few labels", &config, 2, &says);

    write_npy(&path, &Array1::<f32>::zeros(2000)).expect("written");
    let says = ["test_images.npy[0]", "`accuracy@top1` needs a class label", "an .npy array of integers"];
    refused_config(folder.path(), "labels that are no integers", &config, 2, &says);

    write_npy(&path, &Array1::<i64>::from_elem(2000, -1)).expect("written");
    refused_config(folder.path(), "negative labels", &config, 2, &[&name, "sample 0", "-1 is no class index"]);

    write_npy(&path, &Array1::<i64>::from_elem(2000, 10)).expect("written");
    refused_config(
        folder.path(),
        "a class the model has not",
        &config,
        1,
        &["accuracy@top1", "sample 0", "the label is 10, but the model scores 10 classes"],
    );

    fs::write(&path, "seven\nthree\n").expect("written");
    refused_config(folder.path(), "labels that are text", &config, 2, &[&name, "no .npy file", "numpy.save"]);

    fs::remove_file(&path).expect("removed");
    refused_config(folder.path(), "no label file", &config, 2, &[&name, "No such file"]);

    evaluation(&mut config).as_object_mut().expect("an object").remove("annotation");
    let says = ["comes without the truth that metric `accuracy@top1`", "add `annotation`"];
    refused_config(folder.path(), "no labels", &config, 2, &says);
}

/// Writes digits as pictures: `count` of them, the first two classes in folders of their own.
fn write_pictures(folder: &Path, count: usize) {
    let images: Array3<u8> = read_npy(fixture("test_images.npy")).expect("images");
    for class in ["a", "b"] {
        fs::create_dir_all(folder.join(class)).expect("a folder");
    }
    for index in 0..count {
        let pixels: Vec<u8> = images.slice(s![index, .., ..]).iter().copied().collect();
        let class = if index % 2 == 0 { "a" } else { "b" };
        let picture = image::GrayImage::from_raw(28, 28, pixels).expect("28 by 28 pixels");
        picture.save(folder.join(class).join(format!("{index:03}.png"))).expect("a picture");
    }
}

/// `holdfast evaluate` or `quantize` of the digits' model on a folder of pictures.
fn on_pictures(command: &str, folder: &Path, data: &Path) -> Command {
    let mut started = holdfast();
    started.arg(command).arg("-m").arg(fixture("mnist_dwcnn.onnx")).arg("--data").arg(data).arg("--grayscale");
    started.args(["--scale", "255", "--mean", "0.1307", "--std", "0.3081"]);
    started.arg("--state-dir").arg(folder.join("state"));
    if command == "quantize" {
        started.arg("--output-dir").arg(folder.join("out"));
    }
    started
}

#[test]
fn pictures_that_cannot_be_read_are_named() {
    let folder = tempdir().expect("a folder");
    let (data, output) = (folder.path().join("pictures"), folder.path().join("out"));
    write_pictures(&data, 20);
    let whole = Running::start(on_pictures("evaluate", folder.path(), &data)).finish_within(SOON);
    assert_eq!(whole.code, Some(0), "the pictures serve while they are whole: {}", whole.stderr);

    let victim = data.join("b/007.png");
    let bytes = fs::read(&victim).expect("readable");
    // What the first bytes tell is refused before anything runs; the rest when it is decoded.
    for (what, damaged, code, says) in [
        ("a picture cut in half", &bytes[..bytes.len() / 2], 1, "replace the file or remove it from the data set"),
        ("a picture that is text", &b"not a picture at all"[..], 2, "no JPEG, PNG or BMP image"),
        ("an empty picture", &b""[..], 2, "the file is empty"),
    ] {
        fs::write(&victim, damaged).expect("written");
        refused(what, on_pictures("quantize", folder.path(), &data), &output, code, &["b/007.png", says]);
    }

    image::GrayImage::new(27, 28).save(&victim).expect("a picture");
    let says = ["b/007.png", "27", "28"];
    refused("a picture of another size", on_pictures("quantize", folder.path(), &data), &output, 1, &says);
}

#[test]
fn pictures_without_labels_cannot_be_measured() {
    let folder = tempdir().expect("a folder");
    let (data, output) = (folder.path().join("pictures"), folder.path().join("out"));
    write_pictures(&data, 4);
    let says = ["`000.png`", "`accuracy@top1` needs a class label", "lines `file index`"];
    refused("no labels", on_pictures("quantize", folder.path(), &data.join("a")), &output, 2, &says);
}

#[test]
fn label_files_of_pictures_are_refused_by_line() {
    let folder = tempdir().expect("a folder");
    let (data, output) = (folder.path().join("pictures"), folder.path().join("out"));
    write_pictures(&data, 4);
    let labels = folder.path().join("labels.txt");
    for (what, text, says) in [
        ("a label that is no number", "a/000.png 0\nb/001.png seven\n", &["labels.txt, line 2", "`seven`"][..]),
        ("a line without a label", "a/000.png\n", &["labels.txt, line 1", "has no label"]),
        (
            "a picture that is not there",
            "a/000.png 0\nb/999.png 1\n",
            &["labels.txt, line 2", "`b/999.png` cannot be found"],
        ),
        ("a picture outside", "a/000.png 0\n../secret.png 1\n", &["labels.txt, line 2", "without `..`"]),
        ("a picture twice", "a/000.png 0\na/000.png 1\n", &["labels.txt, line 2", "stands in line 1 already"]),
        ("no lines", "# nothing\n", &["labels.txt", "no lines"]),
    ] {
        fs::write(&labels, text).expect("written");
        let mut command = on_pictures("quantize", folder.path(), &data);
        command.arg("--labels").arg(&labels);
        refused(what, command, &output, 2, says);
    }
    fs::remove_file(&labels).expect("removed");
    let mut command = on_pictures("quantize", folder.path(), &data);
    command.arg("--labels").arg(&labels);
    refused("no label file", command, &output, 2, &["labels.txt", "No such file"]);
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("images.npy");
    let name = path.to_string_lossy().into_owned();
    let mut config = config();
    evaluation(&mut config)["data_source"] = json!(path);

    write_npy(&path, &Array3::<u8>::zeros((2000, 32, 32))).expect("written");
    refused_config(folder.path(), "images of another size", &config, 1, &["input `image`", "32", "28"]);

    let mut values = Array4::<f32>::zeros((2000, 1, 28, 28));
    values[[1234, 0, 3, 4]] = f32::NAN;
    write_npy(&path, &values).expect("written");
    let says = ["images.npy[1234]", "element 88 is NaN or infinite", "repair or remove"];
    refused_config(folder.path(), "a pixel that is not a number", &config, 2, &says);

    let bytes = fs::read(fixture("test_images.npy")).expect("readable");
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
    refused_config(folder.path(), "an array cut short", &config, 2, &[&name, "announces shape", "save it again"]);

    write_npy(&path, &Array3::<u8>::zeros((0, 28, 28))).expect("written");
    refused_config(folder.path(), "an array without samples", &config, 2, &["0 "]);

    fs::remove_file(&path).expect("removed");
    refused_config(folder.path(), "no array", &config, 2, &[&name, "No such file"]);
}

#[test]
fn configurations_with_mistakes_are_refused_with_their_line() {
    let folder = tempdir().expect("a folder");
    let mistake = |what: &str, change: &dyn Fn(&mut Value), says: &[&str]| {
        let mut changed = config();
        change(&mut changed);
        refused_config(folder.path(), what, &changed, 2, says);
    };
    mistake(
        "unknown key",
        &|config| params(config)["maximum_drop"] = json!(0.01),
        &["unknown key `maximum_drop`", "did you mean `maximal_drop`?"],
    );
    mistake("wrong type", &|config| params(config)["maximal_drop"] = json!("much"), &["maximal_drop"]);
    mistake(
        "unknown metric",
        &|config| params(config)["metrics"] = json!([{ "name": "happiness" }]),
        &["happiness", "accuracy@top1"],
    );
    mistake("no model", &|config| config["model"] = json!({}), &["`model`"]);
    mistake(
        "unsupported parameter",
        &|config| {
            let params = params(config);
            (params["use_layerwise_tuning"], params["optimizer"]) = (json!(true), json!("SGD"));
        },
        &["optimizer", "not supported"],
    );
    mistake(
        "absent model",
        &|config| config["model"]["model"] = json!("absent.onnx"),
        &["absent.onnx", "No such file"],
    );
    mistake(
        "unknown operation ignored",
        &|config| params(config)["ignored"] = json!({ "scope": ["/no/such/node"] }),
        &["`ignored`", "/no/such/node"],
    );
    mistake("seventeen bits", &|config| params(config)["weights"]["bits"] = json!(17), &["bits", "17"]);
    let path = folder.path().join("broken.json");
    for (what, text) in [("no json", "{ \"model\": "), ("empty configuration", ""), ("a list", "[1, 2]")] {
        fs::write(&path, text).expect("written");
        let run = Run { config: path.clone(), ..Run::of_digits(folder.path(), "broken", "broken.state") };
        refused(what, run.command(), &run.output, 2, &["broken.json"]);
    }
    let run = Run { config: folder.path().join("absent.json"), ..Run::of_digits(folder.path(), "absent", "s") };
    refused("absent configuration", run.command(), &run.output, 2, &["absent.json", "No such file"]);
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let folder = tempdir().expect("a folder");
    let run = Run::of(folder.path(), "empty", &json!({}));
    let ended = Running::start(run.command()).finish_within(SOON);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for key in ["model", "engine", "compression"] {
        assert!(ended.stderr.contains(&format!("the file lacks the key `{key}`")), "{}", ended.stderr);
    }
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("nan.onnx");
    let nan = f32::NAN.to_le_bytes().repeat(72);
    let bytes = changed(|model| constant(model, "onnx::Conv_153").raw_data = Some(nan.into()));
    fs::write(&path, bytes).expect("written");
    let mut config = config();
    config["model"]["model"] = json!(path);
    refused_config(folder.path(), "weights", &config, 1, &["`onnx::Conv_153`", "not finite numbers"]);
}

#[test]
fn places_that_cannot_be_used_are_refused_before_anything_is_computed() {
    let folder = tempdir().expect("a folder");
    let taken = folder.path().join("taken");
    fs::write(&taken, "a file").expect("written");
    let plain = Run::of_digits(folder.path(), "out", "state");
    let output = Run { output: taken.join("out"), ..plain.clone() };
    let told = refused("output below a file", output.command(), &output.output, 1, &["output directory", "taken"]);
    assert!(!told.stderr.contains("evaluating"), "{}", told.stderr);
    let state = Run { state: taken.join("state"), ..plain.clone() };
    let told = refused("state below a file", state.command(), &state.output, 1, &["state directory", "taken"]);
    assert!(!told.stderr.contains("evaluating"), "{}", told.stderr);
    assert_eq!(fs::read_to_string(&taken).expect("still there"), "a file");

    let mut command = plain.command();
    command.env("HOLDFAST_ISA", "quantum");
    refused("unknown instruction set", command, &plain.output, 2, &["HOLDFAST_ISA is `quantum`", "scalar"]);
    let mut command = plain.command();
    command.args(["--workers", "0"]);
    refused("nobody to compute", command, &plain.output, 2, &["--workers", "add --listen ADDR"]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address").to_string();
    let mut command = plain.command();
    command.args(["--listen", &address]);
    refused("a taken port", command, &plain.output, 1, &["listen on", &address]);
    for drop in ["NaN", "inf", "much"] {
        let mut command = plain.command();
        command.args(["--max-drop", drop]);
        refused("a drop that is no number", command, &plain.output, 2, &["--max-drop", drop]);
    }
}

/// Carries a run out that must end with this code and leave results.
fn concluded(folder: &Path, name: &str, config: &Value, code: i32) -> Results {
    let run = Run::of(folder, name, config);
    let ended = Running::start(run.command()).finish_within(SOON);
    assert_eq!(ended.code, Some(code), "{name}: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{name}: {}", ended.stderr);
    assert!(run.output.join("mnist_dwcnn.onnx").is_file(), "{name}: a model is saved");
    Results::read(&run.output)
}

#[test]
fn no_rounds_mean_the_fully_quantized_model_and_a_missed_goal() {
    let folder = tempdir().expect("a folder");
    let mut config = config();
    params(&mut config)["max_iter_num"] = json!(0);
    let results = concluded(folder.path(), "none", &config, 3);
    assert_eq!(results.reverted(), [""; 0]);
    assert_eq!(results.json["outcome"], "goal_missed");
    let run = Run::of(folder.path(), "mild", &config);
    let mut command = run.command();
    command.args(["--goal-missed-exit-code", "0"]);
    assert_eq!(Running::start(command).finish_within(SOON).code, Some(0), "the caller chooses the code");
}

#[test]
fn a_negative_drop_demands_an_improvement_and_is_missed_with_the_best_model_saved() {
    let folder = tempdir().expect("a folder");
    let mut config = config();
    params(&mut config)["maximal_drop"] = json!(-0.5);
    let results = concluded(folder.path(), "better", &config, 3);
    assert_eq!(results.json["outcome"], "goal_missed");
    assert!(results.number("/run/final_values/0") >= 0.985, "the best state seen is kept");
}

#[test]
fn a_metric_that_never_varies_is_held_at_once() {
    let folder = tempdir().expect("a folder");
    let labels = folder.path().join("labels.npy");
    write_npy(&labels, &Array1::<i64>::from_elem(2000, 3)).expect("written");
    // With one class in the truth the correlation is zero whatever is predicted: a baseline of zero.
    for drop_type in ["absolute", "relative"] {
        let mut config = config();
        evaluation(&mut config)["annotation"] = json!(labels);
        evaluation(&mut config)["metrics"] = json!([{ "type": "mcc" }]);
        let params = params(&mut config);
        params["drop_type"] = json!(drop_type);
        params.as_object_mut().expect("an object").remove("metrics");
        let results = concluded(folder.path(), drop_type, &config, 0);
        assert_eq!(results.number("/run/baseline/0"), 0.0);
        assert_eq!(results.reverted(), [""; 0]);
    }
}

#[test]
fn a_baseline_of_zero_with_a_relative_drop_allows_no_drop_and_no_division() {
    let folder = tempdir().expect("a folder");
    // The first digits are all recognised; every one of them gets the label after its own.
    let labels: Array1<i64> = read_npy(fixture("test_labels.npy")).expect("labels");
    let path = folder.path().join("labels.npy");
    write_npy(&path, &labels.mapv(|label| (label + 1) % 10)).expect("written");
    let mut config = config();
    evaluation(&mut config)["annotation"] = json!(path);
    evaluation(&mut config)["subsample_size"] = json!(12);
    params(&mut config)["drop_type"] = json!("relative");
    let results = concluded(folder.path(), "zero", &config, 0);
    assert_eq!(results.number("/run/baseline/0"), 0.0, "nothing is right");
    assert_eq!(results.number("/run/limits/0"), 0.0);
    assert!(results.number("/run/final_drops/0") <= 0.0);
}
