//! One answer: model, scheme and report are the same bytes whatever computes them, in whatever number, warm or cold.

use holdfast_kernels::Isa;
use holdfast_tests::mnist::{Run, config, evaluation, params, worker};
use holdfast_tests::process::{Running, finish};
use holdfast_tests::results::Results;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// The run of `mnist.json` that everything is compared with: one worker, one thread.
fn plain(folder: &Path) -> Results {
    let run = Run::of_digits(folder, "plain", "plain.state");
    complete(&run, |command| command.args(["--workers", "1", "--threads", "1"]))
}

/// Carries a run out in one process and reads its results.
fn complete(run: &Run, arrange: impl FnOnce(&mut Command) -> &mut Command) -> Results {
    let mut command = run.command();
    arrange(&mut command);
    let ended = finish(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Results::read(&run.output)
}

/// Carries a run out with workers in processes of their own, each joining before the next one starts.
fn with_fleet(run: &Run, isas: &[Option<&str>]) -> Results {
    let mut command = run.command();
    command.args(["--workers", "0", "--listen", "127.0.0.1:0"]);
    let coordinator = Running::start(command);
    let address = address_of(&coordinator);
    let mut workers = Vec::new();
    for (index, isa) in isas.iter().enumerate() {
        let joined = Running::start(worker(&address, *isa));
        joined.line_with("session open");
        coordinator.line_with(&format!("session={}", index + 1));
        workers.push(joined);
    }
    let ended = coordinator.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for worker in workers {
        let ended = worker.finish();
        assert_eq!(ended.code, Some(0), "a worker goes home when the run is over: {}", ended.stderr);
    }
    Results::read(&run.output)
}

/// The address a coordinator has logged.
fn address_of(coordinator: &Running) -> String {
    let line = coordinator.line_with("accepting workers");
    let address = line.split("address=").nth(1).expect("the line names the address");
    address.trim().to_owned()
}

#[test]
fn workers_and_threads_of_one_process_do_not_show_in_the_results() {
    let folder = tempdir().expect("a folder");
    let plain = plain(folder.path());
    assert_eq!(plain.reverted(), ["/f/f.4/f/f.0/Conv"], "the run has something to find");
    for (workers, threads) in [("1", "2"), ("2", "2"), ("3", "3")] {
        let name = format!("w{workers}t{threads}");
        let run = Run::of_digits(folder.path(), &name, &format!("{name}.state"));
        let results = complete(&run, |command| command.args(["--workers", workers, "--threads", threads]));
        plain.assert_same(&results, &format!("{workers} workers, {threads} threads"));
    }
}

#[test]
fn workers_in_other_processes_do_not_show_in_the_results() {
    let folder = tempdir().expect("a folder");
    let plain = plain(folder.path());
    // The first worker is slow, so that the others find work left.
    for isas in [&[None][..], &[Some("scalar"), None], &[Some("scalar"), None, None]] {
        let name = format!("remote{}", isas.len());
        let run = Run::of_digits(folder.path(), &name, &format!("{name}.state"));
        plain.assert_same(&with_fleet(&run, isas), &format!("{} processes", isas.len()));
    }
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let folder = tempdir().expect("a folder");
    let plain = plain(folder.path());
    for isa in Isa::available().iter().map(|isa| isa.name()) {
        let run = Run::of_digits(folder.path(), isa, &format!("{isa}.state"));
        let results = complete(&run, |command| command.env("HOLDFAST_ISA", isa));
        assert_eq!(results.isas(), [isa], "the variable chose what computed");
        plain.assert_same(&results, isa);
    }
}

#[test]
fn a_mixed_fleet_gives_the_bytes_of_one_machine() {
    let folder = tempdir().expect("a folder");
    // Long enough that whoever joins last still finds work.
    let mut long = config();
    params(&mut long)["ranking_subset_size"] = 2000.into();
    let alone = complete(&Run::of(folder.path(), "alone", &long), |command| command);
    let mut isas: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    isas.sort_by_key(|isa| *isa != Isa::Scalar.name());
    let fleet: Vec<Option<&str>> = isas.iter().map(|isa| Some(*isa)).collect();
    let mixed = with_fleet(&Run::of(folder.path(), "mixed", &long), &fleet);
    isas.sort_unstable();
    assert_eq!(mixed.isas(), isas, "every one of them had a share");
    alone.assert_same(&mixed, "mixed fleet");
}

#[test]
fn a_warm_memo_store_gives_the_bytes_of_a_cold_one_and_spares_the_work() {
    let folder = tempdir().expect("a folder");
    let cold = complete(&Run::of_digits(folder.path(), "cold", "state"), |command| command);
    let warm = complete(&Run::of_digits(folder.path(), "warm", "state"), |command| command);
    cold.assert_same(&warm, "warm");
    assert_eq!(warm.timing("samples_computed"), 0, "everything was known");
    let total = cold.timing("samples_computed") + cold.timing("samples_reused");
    assert_eq!(warm.timing("samples_reused"), total);
}

#[test]
fn another_goal_reuses_what_an_earlier_run_computed() {
    let folder = tempdir().expect("a folder");
    complete(&Run::of_digits(folder.path(), "first", "state"), |command| command);
    let second = Run::of_digits(folder.path(), "second", "state");
    let second = complete(&second, |command| command.args(["--max-drop", "0.02"]));
    let cold = Run::of_digits(folder.path(), "cold", "cold.state");
    let cold = complete(&cold, |command| command.args(["--max-drop", "0.02"]));
    cold.assert_same(&second, "the other goal");
    assert_eq!(second.timing("samples_computed"), 0, "the same candidates decide");
}

#[test]
fn compat_mode_repeats_itself_whoever_computes() {
    let folder = tempdir().expect("a folder");
    let compat = |name: &str, workers: &str| {
        let run = Run::of(folder.path(), name, &config());
        complete(&run, |command| command.args(["--mode", "compat", "--threads", "2", "--workers", workers]))
    };
    let first = compat("first", "1");
    first.assert_same(&compat("second", "1"), "repeated");
    first.assert_same(&compat("third", "2"), "two workers");
    assert_eq!(first.json["run"]["mode"], "compat");
}

#[test]
fn a_small_data_set_with_a_shuffled_calibration_is_as_repeatable() {
    let folder = tempdir().expect("a folder");
    let mut small = config();
    evaluation(&mut small)["subsample_size"] = 130.into();
    let params = params(&mut small);
    params["ranking_subset_size"] = 33.into();
    params["stat_subset_size"] = 50.into();
    params["shuffle_data"] = true.into();
    params["seed"] = 7.into();
    params["preset"] = "mixed".into();
    let one = complete(&Run::of(folder.path(), "one", &small), |command| command.args(["--workers", "1"]));
    let three = complete(&Run::of(folder.path(), "three", &small), |command| command.args(["--workers", "3"]));
    one.assert_same(&three, "three workers");
}

#[test]
fn groups_ranked_by_distance_reach_the_goal_too_whoever_computes() {
    let folder = tempdir().expect("a folder");
    for strategy in ["bisect", "greedy"] {
        let mut settings = config();
        settings["holdfast"] = json!({ "rank_by": "distance", "strategy": strategy });
        let with = |workers: &str| {
            let run = Run::of(folder.path(), &format!("{strategy}{workers}"), &settings);
            complete(&run, |command| command.args(["--threads", "3", "--workers", workers]))
        };
        let alone = with("1");
        alone.assert_same(&with("3"), strategy);
        assert!(alone.number("/run/final_drops/0") <= 0.01 && !alone.reverted().is_empty());
        let ranking = &alone.json["run"]["rankings"][0];
        assert_eq!(ranking["metric"], "distance to the float model");
        let scores = ranking["scores"].as_array().expect("scores");
        let taken: Vec<f64> = scores.iter().filter_map(|score| score[1].as_f64()).collect();
        assert!(taken.len() == scores.len() && taken[0] > 0.0 && taken.is_sorted_by(|a, b| a >= b), "{taken:?}");
    }
}

#[test]
fn what_is_computed_ahead_does_not_show_in_the_results() {
    let folder = tempdir().expect("a folder");
    let with = |ahead: u32| {
        let mut settings = config();
        settings["holdfast"] = json!({ "ahead": ahead });
        let run = Run::of(folder.path(), &format!("ahead{ahead}"), &settings);
        complete(&run, |command| command.args(["--threads", "3", "--workers", "3"]))
    };
    let (without, with) = (with(0), with(8));
    assert_eq!(without.json["run"], with.json["run"]);
    assert_eq!(without.scheme, with.scheme);
    assert!(without.model == with.model);
}

#[test]
fn tuned_layers_are_the_same_codes_whoever_computes() {
    let folder = tempdir().expect("a folder");
    let mut settings = config();
    let params = params(&mut settings);
    params["use_layerwise_tuning"] = true.into();
    params["num_samples_for_tuning"] = 500.into();
    params["calibration_indices_pool"] = 60.into();
    let with = |workers: &str| {
        let run = Run::of(folder.path(), workers, &settings);
        complete(&run, |command| command.args(["--threads", "3", "--workers", workers]))
    };
    let alone = with("1");
    alone.assert_same(&with("3"), "three workers");
    assert!(alone.number("/run/final_drops/0") <= 0.01);
    let tunings = alone.json["run"]["layer_tunings"].as_array().expect("tunings");
    let error = |tuning: &serde_json::Value, at: usize| tuning["errors"][at].as_f64().expect("a number");
    assert!(tunings.iter().any(|tuning| tuning["applied"] == true), "{tunings:?}");
    assert!(tunings.iter().all(|tuning| tuning["applied"] == false || error(tuning, 1) < error(tuning, 0)));
}
