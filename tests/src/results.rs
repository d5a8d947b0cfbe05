//! What a run leaves in its output directory, split into what must repeat byte for byte and what may differ.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// The last key of a report: all that another repetition would change.
const TIMINGS: &str = "\n  \"timings\": {";

/// The results of one run.
#[derive(Clone, Debug)]
pub struct Results {
    /// The exported model.
    pub model: Vec<u8>,
    /// The text of the scheme.
    pub scheme: String,
    /// The text of the report up to its timings.
    pub report: String,
    /// The whole report.
    pub json: Value,
}

impl Results {
    /// Reads the results in a directory.
    ///
    /// # Panics
    /// One of them is missing.
    pub fn read(directory: &Path) -> Results {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
        };
        let text = |name: &str| String::from_utf8(read(name)).expect("UTF-8");
        let whole = text("report.json");
        let report = whole.split(TIMINGS).next().unwrap_or_default().to_owned();
        assert!(report.len() < whole.len(), "the report has no timings");
        let json: Value = serde_json::from_str(&whole).expect("the report is JSON");
        let name = json["model"]["name"].as_str().expect("the model has a name").to_owned();
        Results { model: read(&format!("{name}.onnx")), scheme: text("scheme.json"), report, json }
    }

    /// Fails where a byte differs that no machine, clock or neighbour may change.
    pub fn assert_same(&self, other: &Results, what: &str) {
        assert_eq!(self.report, other.report, "{what}: the reports differ");
        assert_eq!(self.scheme, other.scheme, "{what}: the schemes differ");
        assert!(self.model == other.model, "{what}: the models differ");
    }

    /// A count under `timings`.
    pub fn timing(&self, key: &str) -> u64 {
        self.json["timings"][key].as_u64().unwrap_or_else(|| panic!("the timings have no count `{key}`"))
    }

    /// Instruction sets whose workers computed samples that counted, sorted.
    pub fn isas(&self) -> Vec<String> {
        let workers = self.json["timings"]["workers"].as_array().map_or(&[][..], Vec::as_slice);
        let busy = workers.iter().filter(|worker| worker["samples"].as_u64().is_some_and(|count| count > 0));
        let mut isas: Vec<String> = busy.filter_map(|worker| Some(worker["isa"].as_str()?.to_owned())).collect();
        isas.sort();
        isas
    }

    /// Operations that the written model runs in float.
    pub fn reverted(&self) -> Vec<String> {
        let operations = self.json["run"]["reverted_operations"].as_array().expect("the run lists reverted operations");
        operations.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    }

    /// A number of the run's record.
    pub fn number(&self, pointer: &str) -> f64 {
        self.json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("the report has no {pointer}"))
    }
}

/// Names of the files in a directory, sorted; empty where there is no directory.
pub fn file_names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}
