//! Verification: an exported model in another runtime keeps what its report promised, and what is missing is named.

use holdfast_tests::mnist::{Run, fixture};
use holdfast_tests::process::{Ended, finish};
use holdfast_tests::program::holdfast;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Names a Python that has onnxruntime, openvino and numpy.
const PYTHON_VARIABLE: &str = "HOLDFAST_PYTHON";

/// `holdfast verify` of a run, with further arguments.
fn verify(run: &Run, python: &Path, arguments: &[&str]) -> Ended {
    let mut command = holdfast();
    command.arg("verify").arg(&run.output).arg("-c").arg(&run.config).arg("--python").arg(python).args(arguments);
    finish(command)
}

/// A finished run of the digits.
fn finished() -> (TempDir, Run) {
    let folder = tempdir().expect("a folder");
    let run = Run::of_digits(folder.path(), "results", "state");
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (folder, run)
}

#[test]
fn an_export_keeps_its_promise_in_other_runtimes_and_a_false_promise_is_found() {
    let Some(python) = std::env::var_os(PYTHON_VARIABLE).map(PathBuf::from) else {
        println!("skipped: {PYTHON_VARIABLE} names no Python with onnxruntime and openvino");
        return;
    };
    let (_folder, run) = finished();
    for runtime in ["onnxruntime", "openvino"] {
        let ended = verify(&run, &python, &["--runtime", runtime]);
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("2000 samples") && ended.stdout.contains("kept"), "{}", ended.stdout);
    }
    // Everything but one operation is int8, which ONNX Runtime computes with the same bits.
    let ended = verify(&run, &python, &["--subset", "100"]);
    assert!(ended.stdout.contains("equal predictions: 100 of 100"), "{}", ended.stdout);
    assert!(ended.stdout.contains("those of all samples, so they are not compared"), "{}", ended.stdout);

    let path = run.output.join("report.json");
    let mut report: Value = serde_json::from_slice(&fs::read(&path).expect("a report")).expect("JSON");
    let promised = report["run"]["final_values"][0].as_f64().expect("a metric");
    report["run"]["final_values"][0] = json!(promised + 0.002);
    fs::write(&path, report.to_string()).expect("the report can be written");
    let ended = verify(&run, &python, &[]);
    assert_eq!(ended.code, Some(3), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("NOT KEPT"), "{}", ended.stdout);
    assert_eq!(verify(&run, &python, &["--tolerance", "0.003"]).code, Some(0));
}

/// A program that behaves as a Python that lacks a package, or breaks.
fn pretender(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("the program can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    path
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let folder = tempdir().expect("a folder");
    let run = Run::of_digits(folder.path(), "results", "state");
    fs::create_dir(&run.output).expect("a folder");
    // A float model that a report speaks of is as good as any.
    fs::copy(fixture("mnist_dwcnn.onnx"), run.output.join("net.onnx")).expect("the model can be copied");
    let report = json!({ "schema": 1, "model": { "name": "net" }, "run": {} });
    fs::write(run.output.join("report.json"), report.to_string()).expect("the report can be written");
    let lacking = pretender(folder.path(), "lacking", r#"echo '{"missing": "onnxruntime"}'"#);
    let broken = pretender(folder.path(), "broken", "echo 'out of luck' >&2; exit 1");
    for (python, code, said) in [
        (Path::new("/nowhere/python3"), 2, "cannot start `/nowhere/python3`; install Python 3"),
        (&lacking, 2, "-m pip install numpy onnxruntime`, or name another"),
        (&broken, 1, "the process of onnxruntime ended: out of luck"),
    ] {
        let ended = verify(&run, python, &[]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let report = json!({ "schema": 1, "model": { "name": "../net" }, "run": {} });
    fs::write(run.output.join("report.json"), report.to_string()).expect("the report can be written");
    let ended = verify(&run, &lacking, &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("it names no model"), "{}", ended.stderr);
}
