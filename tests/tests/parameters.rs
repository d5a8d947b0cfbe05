//! Every parameter does what it says, or says that it does nothing: two runs of the digits differ where the table in
//! `fixtures/config/parameters.txt` says, and the table knows every key the reader knows.

use holdfast::config::schema;
use holdfast_common::onnx::schema::ModelProto;
use holdfast_tests::mnist::{self, Run, fixture};
use holdfast_tests::process::finish;
use holdfast_tests::results::file_names;
use prost::Message;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::tempdir;

/// Operation that stands for `*` in paths; the one that the digits' model cannot afford in int8.
const OPERATION: &str = "/f/f.4/f/f.0/Conv";
/// Digits that decide.
const DIGITS: usize = 200;
/// Runs at a time; each has a memo store of its own.
const LANES: usize = 2;

/// A line of the table.
struct Row {
    key: String,
    /// Paths and values that both runs have; without a value the path is left out.
    both: Vec<(String, Option<Value>)>,
    /// What the second run has at the key.
    value: Value,
    shows: Shows,
}

/// Where two runs differ.
enum Shows {
    Scheme,
    Model,
    Report(String),
    File(String),
    /// And standard error says so.
    Nothing(String),
    Refused(String),
}

fn table() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/parameters.txt");
    let text = fs::read_to_string(path).expect("the table can be read");
    let (_, lines) = text.split_once("\n\n").expect("an introduction");
    lines.lines().filter(|line| !line.is_empty()).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [key, both, value, shows] = cells.as_slice() else { panic!("four cells: {line}") };
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {line}"));
    let setting = |text: &str| match text.split_once('=') {
        Some((path, value)) => (path.trim().to_owned(), Some(read(value))),
        None => (text.trim().to_owned(), None),
    };
    let both = both.split(';').filter(|text| !text.trim().is_empty()).map(setting).collect();
    let (word, rest) = shows.split_once(' ').unwrap_or((shows, ""));
    let shows = match word {
        "scheme" => Shows::Scheme,
        "model" => Shows::Model,
        "report" => Shows::Report(rest.to_owned()),
        "file" => Shows::File(rest.to_owned()),
        "nothing" => Shows::Nothing(rest.to_owned()),
        "refused" => Shows::Refused(rest.to_owned()),
        _ => panic!("no such place: {line}"),
    };
    Row { key: (*key).to_owned(), both, value: read(value), shows }
}

/// What all runs begin with: few digits, one scale a tensor, so that one operation has to be reverted.
fn base() -> Value {
    let mut config = mnist::config();
    config["engine"]["datasets"]["optimization"]["subsample_size"] = json!(60);
    let evaluation = mnist::evaluation(&mut config);
    evaluation["subsample_size"] = json!(DIGITS);
    evaluation["metrics"] = json!([{ "type": "accuracy", "top_k": 1 }, { "type": "accuracy", "top_k": 5 }]);
    config["compression"].as_object_mut().expect("an object").remove("target_device");
    *mnist::params(&mut config) = json!({
        "stat_subset_size": 40,
        "weights": { "mode": "symmetric", "granularity": "pertensor" },
        "maximal_drop": 0.01,
        "ranking_subset_size": 30,
        "metrics": [{ "name": "accuracy@top1" }],
    });
    config
}

/// Sets a value, or takes the key out, making the objects and lists on the way.
fn set(config: &mut Value, path: &str, value: Option<&Value>) {
    let path =
        path.strip_prefix("params/").map_or(path.to_owned(), |rest| format!("compression/algorithms/0/params/{rest}"));
    let (parents, last) = path.rsplit_once('/').expect("a section and a key");
    let mut at = config;
    for part in parents.split('/').map(name) {
        at = match part.parse::<usize>() {
            Ok(index) => {
                if at.get(index).is_none() {
                    *at = json!([{}]);
                }
                &mut at[index]
            }
            Err(_) => &mut at[part],
        };
    }
    match value {
        Some(value) => at[name(last)] = value.clone(),
        None => drop(at.as_object_mut().expect("an object").remove(last)),
    }
}

fn name(part: &str) -> &str {
    if part == "*" { OPERATION } else { part }
}

/// The digits' model without its activation functions: convolutions stand next to each other, and outputs have both signs.
fn linear() -> Vec<u8> {
    let bytes = fs::read(fixture("mnist_dwcnn.onnx")).expect("readable");
    let mut model = ModelProto::decode(bytes.as_slice()).expect("ONNX");
    let graph = model.graph.as_mut().expect("a graph");
    let mut sources = BTreeMap::new();
    graph.node.retain(|node| {
        let is_function = node.op_type() == "Relu";
        if is_function {
            sources.insert(node.output[0].clone(), node.input[0].clone());
        }
        !is_function
    });
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(source) = sources.get(input) {
            input.clone_from(source);
        }
    }
    model.encode_to_vec()
}

/// What a run left.
enum Outcome {
    Finished(Left),
    Refused { code: Option<i32>, said: String },
}

/// What lies in an output directory.
struct Left {
    report: Value,
    /// Empty where the original model is the answer.
    scheme: Vec<u8>,
    model: Vec<u8>,
    files: Vec<String>,
    /// What it said on the way.
    said: String,
}

impl Left {
    fn read(directory: &Path, said: &str) -> Left {
        let read = |name: &str| fs::read(directory.join(name)).unwrap_or_default();
        let report = serde_json::from_slice(&read("report.json")).expect("a report");
        Left {
            report,
            scheme: read("scheme.json"),
            model: read("mnist_dwcnn.onnx"),
            files: file_names(directory),
            said: said.to_owned(),
        }
    }
}

/// Runs a configuration, each one once.
struct Lane<'f> {
    folder: &'f Path,
    number: usize,
    known: BTreeMap<String, (Outcome, String)>,
}

impl Lane<'_> {
    fn run(&mut self, config: &Value) -> String {
        let text = config.to_string();
        let mark = format!("{}-{}", self.number, self.known.len());
        if !self.known.contains_key(&text) {
            let run = Run::of(self.folder, &mark, config);
            let run = Run { state: self.folder.join(format!("state-{}", self.number)), ..run };
            let ended = finish(run.command());
            let outcome = match ended.code {
                Some(0 | 3) => Outcome::Finished(Left::read(&run.output, &ended.stderr)),
                code => Outcome::Refused { code, said: ended.stderr.clone() },
            };
            self.known.insert(text.clone(), (outcome, mark));
        }
        text
    }

    /// What is wrong with a row.
    fn check(&mut self, row: &Row, linear: &Path) -> Result<(), String> {
        let expand = |value: &Value| if *value == json!("@linear") { json!(linear) } else { value.clone() };
        let mut first = base();
        for (path, value) in &row.both {
            set(&mut first, path, value.as_ref().map(expand).as_ref());
        }
        let mut second = first.clone();
        set(&mut second, &row.key, Some(&expand(&row.value)));
        assert_ne!(first, second, "{}: the runs are one", row.key);
        let (first, second) = (self.run(&first), self.run(&second));
        let (first, second) = (&self.known[&first].0, &self.known[&second].0);
        match (&row.shows, first, second) {
            (Shows::Refused(part), _, Outcome::Refused { code: Some(2), said }) => {
                // The frame around a message breaks its lines.
                let said = said.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
                if said.contains(part) { Ok(()) } else { Err(format!("`{part}` is not said: {said}")) }
            }
            (Shows::Refused(_), _, _) => Err("it is not refused".to_owned()),
            (_, Outcome::Refused { code, said }, _) | (_, _, Outcome::Refused { code, said }) => {
                Err(format!("ended with {code:?}: {said}"))
            }
            (shows, Outcome::Finished(a), Outcome::Finished(b)) => {
                let differs = match shows {
                    Shows::Scheme => a.scheme != b.scheme,
                    Shows::Model => a.model != b.model,
                    Shows::Report(place) => a.report.pointer(place) != b.report.pointer(place),
                    Shows::File(file) => !a.files.contains(file) && b.files.contains(file),
                    Shows::Nothing(part) => {
                        if !b.said.contains(part) {
                            return Err(format!("`{part}` is not said: {}", b.said));
                        }
                        let same = a.scheme == b.scheme && a.model == b.model && a.report["run"] == b.report["run"];
                        return if same && a.files == b.files {
                            Ok(())
                        } else {
                            Err("it changes something".to_owned())
                        };
                    }
                    Shows::Refused(_) => false,
                };
                if differs { Ok(()) } else { Err("it shows nowhere".to_owned()) }
            }
        }
    }
}

#[test]
fn every_parameter_shows_where_the_table_says() {
    let folder = tempdir().expect("a folder");
    let linear_path = folder.path().join("linear.onnx");
    fs::write(&linear_path, linear()).expect("the model can be written");
    let rows = table();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..LANES {
            let (rows, next, wrong, linear) = (&rows, &next, &wrong, &linear_path);
            let mut lane = Lane { folder: folder.path(), number, known: BTreeMap::new() };
            scope.spawn(move || {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(problem) = lane.check(row, linear) {
                        wrong.lock().expect("no lane panicked").push(format!("{}: {problem}", row.key));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no lane panicked");
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// All keys below a part of the schema that hold plain values, by their paths.
fn keys(schema: &Value, part: &Value, path: &str, found: &mut BTreeSet<String>) {
    let reference = part["$ref"].as_str().map(|name| name.trim_start_matches('#'));
    let part = reference.map_or(part, |pointer| schema.pointer(pointer).expect("a definition"));
    if let Some(first) = part["anyOf"].as_array().and_then(|kinds| kinds.first()) {
        return keys(schema, first, path, found);
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    match (&part["properties"], &part["items"], &part["additionalProperties"]) {
        (Value::Object(properties), _, _) => {
            properties.iter().for_each(|(name, part)| keys(schema, part, &join(name), found))
        }
        (_, items @ Value::Object(_), _) if is_section(schema, items) => keys(schema, items, &join("0"), found),
        (_, _, more @ Value::Object(_)) if is_section(schema, more) => keys(schema, more, &join("*"), found),
        _ => drop(found.insert(path.to_owned())),
    }
}

fn is_section(schema: &Value, part: &Value) -> bool {
    let reference = part["$ref"].as_str().map(|name| name.trim_start_matches('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).is_some_and(|part| part["properties"].is_object())
}

#[test]
fn the_table_has_a_row_for_every_key_of_the_reader() {
    let schema = schema();
    let mut known = BTreeSet::new();
    for section in ["compression", "holdfast"] {
        let part: Map<String, Value> = [("$ref".to_owned(), json!(format!("#/$defs/{section}")))].into_iter().collect();
        keys(&schema, &Value::Object(part), section, &mut known);
    }
    let known: BTreeSet<String> =
        known.iter().map(|key| key.replace("compression/algorithms/0/params/", "params/")).collect();
    assert!(known.len() > 100, "{} keys", known.len());
    let rows: BTreeSet<String> = table().into_iter().map(|row| row.key).collect();
    let missing: Vec<&String> = known.difference(&rows).collect();
    assert!(missing.is_empty(), "keys without a row: {missing:#?}");
    let unknown: Vec<&String> = rows.difference(&known).filter(|key| !key.starts_with("engine/")).collect();
    assert!(unknown.is_empty(), "rows without a key: {unknown:#?}");
}
