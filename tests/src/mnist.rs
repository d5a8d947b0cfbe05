//! The handwritten digits: their files, their configuration as a value that tests change, and the command that runs it.

use crate::program::holdfast;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mnist").join(name)
}

/// The configuration of `mnist.json`, with absolute paths.
pub fn config() -> Value {
    json!({
        "model": { "model_name": "mnist_dwcnn", "model": fixture("mnist_dwcnn.onnx") },
        "engine": { "datasets": {
            "optimization": { "name": "mnist_train", "data_source": fixture("calib_images.npy") },
            "evaluation": {
                "name": "mnist_test",
                "data_source": fixture("test_images.npy"),
                "annotation": fixture("test_labels.npy"),
                "metrics": [{ "type": "accuracy", "top_k": 1 }],
            },
            "preprocessing": [{ "type": "normalization", "scale": 255, "mean": 0.1307, "std": 0.3081 }],
        } },
        "compression": {
            "target_device": "CPU",
            "algorithms": [{ "name": "AccuracyAwareQuantization", "params": {
                "preset": "performance",
                "stat_subset_size": 300,
                "weights": { "mode": "symmetric", "granularity": "pertensor" },
                "maximal_drop": 0.01,
                "drop_type": "absolute",
                "ranking_subset_size": 300,
                "metrics": [{ "name": "accuracy@top1" }],
            } }],
        },
    })
}

/// The parameters of a configuration's algorithm.
pub fn params(config: &mut Value) -> &mut Value {
    &mut config["compression"]["algorithms"][0]["params"]
}

/// The data set a configuration's model is measured on.
pub fn evaluation(config: &mut Value) -> &mut Value {
    &mut config["engine"]["datasets"]["evaluation"]
}

/// One run: a configuration, where its results go, where its memo store lies.
#[derive(Clone, Debug)]
pub struct Run {
    /// The configuration file.
    pub config: PathBuf,
    /// The output directory.
    pub output: PathBuf,
    /// The memo store's directory.
    pub state: PathBuf,
}

impl Run {
    /// A run of `mnist.json` itself, with results and memo store under these names in `folder`.
    pub fn of_digits(folder: &Path, output: &str, state: &str) -> Run {
        Run { config: fixture("mnist.json"), output: folder.join(output), state: folder.join(state) }
    }

    /// A run of a configuration, with results and memo store under a name of its own in `folder`.
    pub fn of(folder: &Path, name: &str, config: &Value) -> Run {
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, format!("{config:#}\n")).expect("the configuration can be written");
        Run { config: path, output: folder.join(name), state: folder.join(format!("{name}.state")) }
    }

    /// `holdfast quantize` for this run.
    pub fn command(&self) -> Command {
        let mut command = holdfast();
        command.arg("quantize").arg("-c").arg(&self.config);
        command.arg("--output-dir").arg(&self.output).arg("--state-dir").arg(&self.state);
        command
    }
}

/// `holdfast worker` with one thread for the coordinator at this address.
pub fn worker(address: &str, isa: Option<&str>) -> Command {
    let mut command = holdfast();
    command.args(["worker", "--threads", "1", "--connect", &format!("http://{address}")]);
    if let Some(isa) = isa {
        command.env("HOLDFAST_ISA", isa);
    }
    command
}
