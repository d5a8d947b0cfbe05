//! Processes killed, stopped and doubled at chosen points of a run: the answer is the undisturbed run's, and work is kept.
//!
//! Scalar kernels on one thread make the digits take seconds, so that a fault placed by a log line strikes in time.

use holdfast_tests::mnist::{self, Run, worker};
use holdfast_tests::process::{Running, Signal, finish};
use holdfast_tests::results::{Results, file_names};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

/// What a finished run leaves.
const OUTPUT: [&str; 4] = ["mnist_dwcnn.onnx", "report.html", "report.json", "scheme.json"];
/// Linux's numbers of the signals that end a process.
const SIGKILL: i32 = 9;
/// How long a process that is asked to end may finish what it has begun.
const ORDERLY_END: Duration = Duration::from_secs(20);

fn undisturbed(folder: &Path) -> Results {
    let run = Run::of_digits(folder, "undisturbed", "undisturbed.state");
    resumed(&run)
}

/// Runs to the end on the best kernels there are.
fn resumed(run: &Run) -> Results {
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(file_names(&run.output), OUTPUT);
    Results::read(&run.output)
}

fn slow(run: &Run) -> Command {
    let mut command = run.command();
    command.env("HOLDFAST_ISA", "scalar").args(["--threads", "1"]);
    command
}

#[test]
fn the_intermediate_model_is_there_as_soon_as_it_is_made() {
    let folder = tempdir().expect("a folder");
    let mut config = mnist::config();
    config["compression"]["dump_intermediate_model"] = true.into();
    let run = Run::of(folder.path(), "dumped", &config);
    let mut running = Running::start(slow(&run));
    running.line_with("evaluating stage=quantized model");
    running.signal(Signal::Kill);
    let ended = running.finish();
    assert_eq!(ended.signal, Some(SIGKILL), "{}", ended.stderr);
    assert_eq!(file_names(&run.output), ["intermediate_model.onnx"]);
}

/// A coordinator without workers of its own, and the address it listens on.
fn coordinator(run: &Run, listen: &str) -> (Running, String) {
    let mut command = run.command();
    command.args(["--workers", "0", "--listen", listen]);
    let coordinator = Running::start(command);
    let line = coordinator.line_with("accepting workers");
    let address = line.split("address=").nth(1).expect("the line names the address").trim().to_owned();
    (coordinator, address)
}

#[test]
fn a_coordinator_killed_at_any_point_goes_on_with_the_same_command() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let run = Run::of_digits(folder.path(), "killed", "killed.state");
    let points = [
        "evaluating stage=baseline",
        "measured stage=baseline",
        "evaluating stage=quantized model",
        "measured stage=quantized model",
        "evaluating stage=ranking",
        "evaluating stage=validation",
    ];
    for point in points {
        let mut coordinator = Running::start(slow(&run));
        coordinator.line_with(point);
        coordinator.signal(Signal::Kill);
        let ended = coordinator.finish();
        assert_eq!(ended.signal, Some(SIGKILL), "`{point}` came too late to strike:\n{}", ended.stderr);
        assert_eq!(file_names(&run.output), [""; 0], "nothing is written before the end");
    }
    let results = resumed(&run);
    undisturbed.assert_same(&results, "killed at every point");
    let (reused, computed) = (results.timing("samples_reused"), results.timing("samples_computed"));
    let total = undisturbed.timing("samples_reused") + undisturbed.timing("samples_computed");
    assert_eq!(reused + computed, total, "every sample is asked for once");
    // Baseline, calibration, quantized model and ranking were finished before the last blow.
    let before_last_point: u64 = ["baseline", "calibration", "quantized model", "ranking"]
        .map(|stage| undisturbed.json["run"]["counts"]["samples"][stage].as_u64().expect("a count"))
        .iter()
        .sum();
    assert!(reused >= before_last_point, "{reused} of {before_last_point} finished samples were kept");
}

#[test]
fn a_killed_worker_is_replaced_and_leaves_no_trace() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let run = Run::of_digits(folder.path(), "orphaned", "orphaned.state");
    let (coordinator, address) = coordinator(&run, "127.0.0.1:0");
    let mut first = Running::start(worker(&address, Some("scalar")));
    coordinator.line_with("evaluating stage=ranking");
    first.signal(Signal::Kill);
    assert_eq!(first.finish().signal, Some(SIGKILL));
    let second = Running::start(worker(&address, None));
    let ended = coordinator.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(second.finish().code, Some(0));
    let results = Results::read(&run.output);
    undisturbed.assert_same(&results, "a worker died");
    assert_eq!(results.isas().len(), 2, "both did a part: {:?}", results.isas());
}

#[test]
fn a_worker_outlives_its_coordinator_and_serves_the_next() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let run = Run::of_digits(folder.path(), "succession", "succession.state");
    let (mut first, address) = coordinator(&run, "127.0.0.1:0");
    let worker = Running::start(worker(&address, Some("scalar")));
    first.line_with("evaluating stage=ranking");
    first.signal(Signal::Kill);
    assert_eq!(first.finish().signal, Some(SIGKILL));
    let (second, _) = coordinator(&run, &address);
    let ended = second.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let gone = worker.finish();
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    let results = Results::read(&run.output);
    undisturbed.assert_same(&results, "the coordinator died");
    assert!(results.timing("samples_reused") > 0, "finished work was kept");
}

#[test]
fn a_terminated_run_ends_in_order_and_goes_on_later() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let run = Run::of_digits(folder.path(), "stopped", "stopped.state");
    let mut stopped = Running::start(slow(&run));
    stopped.line_with("evaluating stage=ranking");
    stopped.signal(Signal::Terminate);
    let ended = stopped.finish_within(ORDERLY_END);
    assert_eq!((ended.code, ended.signal), (Some(1), None), "{}", ended.stderr);
    assert!(ended.stderr.contains("the same command goes on where this run was"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ERROR") && !ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert_eq!(file_names(&run.output), [""; 0]);
    let results = resumed(&run);
    undisturbed.assert_same(&results, "stopped and resumed");
    assert!(results.timing("samples_reused") >= 4300, "baseline, calibration and quantized model were kept");
}

#[test]
fn a_terminated_worker_hands_its_work_over_and_leaves() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let run = Run::of_digits(folder.path(), "relay", "relay.state");
    let (coordinator, address) = coordinator(&run, "127.0.0.1:0");
    let mut first = Running::start(worker(&address, Some("scalar")));
    coordinator.line_with("evaluating stage=ranking");
    let second = Running::start(worker(&address, None));
    second.line_with("session open");
    first.signal(Signal::Terminate);
    let left = first.finish_within(ORDERLY_END);
    assert_eq!((left.code, left.signal), (Some(0), None), "{}", left.stderr);
    let ended = coordinator.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(second.finish().code, Some(0));
    undisturbed.assert_same(&Results::read(&run.output), "a worker left");
}

#[test]
fn a_run_that_waits_for_workers_can_be_stopped() {
    let folder = tempdir().expect("a folder");
    let run = Run::of_digits(folder.path(), "lonely", "lonely.state");
    let (mut lonely, _) = coordinator(&run, "127.0.0.1:0");
    lonely.line_with("evaluating stage=baseline");
    lonely.signal(Signal::Terminate);
    let ended = lonely.finish_within(ORDERLY_END);
    assert_eq!((ended.code, ended.signal), (Some(1), None), "{}", ended.stderr);
    assert!(ended.stderr.contains("the same command goes on"), "{}", ended.stderr);
}

#[test]
fn a_second_run_on_one_state_directory_is_refused_and_harms_nothing() {
    let folder = tempdir().expect("a folder");
    let undisturbed = undisturbed(folder.path());
    let first = Run::of_digits(folder.path(), "first", "shared");
    let holder = Running::start(slow(&first));
    holder.line_with("evaluating stage=baseline");
    let second = Run::of_digits(folder.path(), "second", "shared");
    let refused = finish(second.command());
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for part in ["the memo store in", "shared", "is held by another process (process ", "another --state-dir"] {
        assert!(refused.stderr.contains(part), "`{part}` is missing:\n{}", refused.stderr);
    }
    assert_eq!(file_names(&second.output), [""; 0]);
    let ended = holder.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    undisturbed.assert_same(&Results::read(&first.output), "a second run knocked");
}

#[test]
fn a_memo_store_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempdir().expect("a folder");
    let run = Run::of_digits(folder.path(), "damaged", "damaged.state");
    fs::create_dir(&run.state).expect("a folder");
    let file = run.state.join("memo.sqlite");
    let content = b"something else that somebody may need".repeat(100);
    fs::write(&file, &content).expect("written");
    let ended = finish(run.command());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for part in [&*file.to_string_lossy(), "is damaged", "move the file away", "because: "] {
        assert!(ended.stderr.contains(part), "`{part}` is missing:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(fs::read(&file).expect("still there") == content, "the file is as it was");
    assert_eq!(file_names(&run.output), [""; 0]);
}

#[test]
fn a_worker_without_a_coordinator_can_be_stopped() {
    let mut alone = Running::start(worker("127.0.0.1:9", None));
    alone.line_with("no coordinator, dialling again");
    alone.signal(Signal::Terminate);
    let ended = alone.finish_within(ORDERLY_END);
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{}", ended.stderr);
}
