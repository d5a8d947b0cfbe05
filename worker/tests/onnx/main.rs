//! The operator tests that ship with the ONNX package, run through plans.
//!
//! HOLDFAST_ONNX_TESTS is the package's folder `onnx/backend/test/data`; without it the test says that it does not run.
//! Every case runs with all inputs computed, and again with all but the first as constants, as models have weights and
//! shapes. `outcomes.txt` lists what passes, what is refused and why; the test fails where it says something else.
//! HOLDFAST_UPDATE=1 writes it again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod embedded;

use holdfast_common::graph::TensorData;
use holdfast_common::model::{Model, ModelError};
use holdfast_common::onnx::schema::{ModelProto, TensorProto};
use holdfast_common::onnx::{NoExternalData, decode_tensor};
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, Variant};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Cases whose expected values we deliberately do not give.
const DIFFERENT: [(&str, &str); 2] = [
    ("BFLOAT16", "bfloat16 is computed in 32 bits"),
    ("resize_downsample_scales_linear_align_corners", "corners are aligned by the output's extent, as in ONNX Runtime"),
];

/// The package compares with these bounds.
const RELATIVE: f32 = 1e-3;
const ABSOLUTE: f32 = 1e-7;

#[test]
fn operators_do_what_the_onnx_package_says() {
    let Some(root) = std::env::var_os("HOLDFAST_ONNX_TESTS").map(PathBuf::from) else {
        println!("skipped: HOLDFAST_ONNX_TESTS is not set");
        return;
    };
    let mut outcomes = Outcomes::default();
    for kind in ["node", "pytorch-converted", "pytorch-operator", "simple"] {
        let mut cases: Vec<PathBuf> =
            fs::read_dir(root.join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
        cases.sort();
        for case in cases {
            let name = format!("{kind}/{}", case.file_name().unwrap().to_string_lossy());
            let outcome =
                match DIFFERENT.iter().find(|(part, _)| name.ends_with(part) || name.contains(&format!("{part}_"))) {
                    Some((_, reason)) => Outcome::Refused((*reason).to_owned()),
                    None => run(&case),
                };
            outcomes.add(&name, outcome);
        }
    }
    let found = outcomes.text();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/outcomes.txt");
    if std::env::var_os("HOLDFAST_UPDATE").is_some() {
        fs::write(&committed, &found).unwrap();
    }
    assert!(outcomes.failing.is_empty(), "{}", outcomes.failing.join("\n"));
    let expected = fs::read_to_string(&committed).unwrap_or_default();
    let difference = found.lines().zip(expected.lines().chain([""])).find(|(found, expected)| found != expected);
    assert_eq!(difference, None, "outcomes differ from {}; look at the difference of the file", committed.display());
}

/// What became of one case.
enum Outcome {
    Passed,
    /// No variant of it is supported; why.
    Refused(String),
    Failed(String),
}

#[derive(Default)]
struct Outcomes {
    passing: Vec<String>,
    refused: BTreeMap<String, Vec<String>>,
    failing: Vec<String>,
}

impl Outcomes {
    fn add(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passing.push(name.to_owned()),
            Outcome::Refused(reason) => self.refused.entry(reason).or_default().push(name.to_owned()),
            Outcome::Failed(problem) => self.failing.push(format!("{name}: {problem}")),
        }
    }

    fn text(&self) -> String {
        let refused: usize = self.refused.values().map(Vec::len).sum();
        let (passing, failing) = (self.passing.len(), self.failing.len());
        let mut text = format!("{passing} pass, {refused} are refused, {failing} fail\n");
        for line in &self.failing {
            writeln!(text, "fails: {line}").unwrap();
        }
        for name in &self.passing {
            writeln!(text, "passes: {name}").unwrap();
        }
        for (reason, names) in &self.refused {
            writeln!(text, "refused: {reason}: {}", names.join(" ")).unwrap();
        }
        text
    }
}

fn run(case: &Path) -> Outcome {
    let bytes = fs::read(case.join("model.onnx")).unwrap();
    let Ok(proto) = ModelProto::decode(bytes.as_slice()) else {
        return Outcome::Refused("it cannot be read".to_owned());
    };
    let mut refusal = None;
    let mut passed = false;
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.is_dir() {
            break;
        }
        let (Some(inputs), Some(outputs)) = (tensors(&folder, "input"), tensors(&folder, "output")) else {
            return Outcome::Refused("element types or values that are no tensors".to_owned());
        };
        for constants in [false, true] {
            match variant(&proto, &inputs, &outputs, constants) {
                Ok(()) => passed = true,
                Err(Trouble::Refused(reason)) => refusal = Some(reason),
                Err(Trouble::Wrong(problem)) => {
                    return Outcome::Failed(format!("set {set}, constants {constants}: {problem}"));
                }
            }
        }
    }
    match refusal {
        Some(reason) if !passed => Outcome::Refused(reason),
        _ => Outcome::Passed,
    }
}

enum Trouble {
    Refused(String),
    Wrong(String),
}

/// The numbered tensors of a folder; `None` when one has no type of ours.
fn tensors(folder: &Path, role: &str) -> Option<Vec<(String, TensorProto)>> {
    let mut found = Vec::new();
    while let Ok(bytes) = fs::read(folder.join(format!("{role}_{}.pb", found.len()))) {
        let tensor = TensorProto::decode(bytes.as_slice()).ok()?;
        decode_tensor(&tensor).ok()?;
        found.push((tensor.name.clone().unwrap_or_default(), tensor));
    }
    Some(found)
}

fn variant(
    proto: &ModelProto,
    inputs: &[(String, TensorProto)],
    outputs: &[(String, TensorProto)],
    constants: bool,
) -> Result<(), Trouble> {
    let mut proto = proto.clone();
    let graph = proto.graph.as_mut().ok_or_else(|| Trouble::Refused("no graph".to_owned()))?;
    let given: BTreeSet<String> =
        graph.initializer.iter().map(|tensor| tensor.name.clone().unwrap_or_default()).collect();
    let names: Vec<String> =
        graph.input.iter().map(|input| input.name().to_owned()).filter(|name| !given.contains(name)).collect();
    if names.len() != inputs.len() {
        return Err(Trouble::Refused("its inputs are not all given".to_owned()));
    }
    let mut samples = BTreeMap::new();
    for (position, (name, (_, tensor))) in names.iter().zip(inputs).enumerate() {
        if constants && position > 0 {
            graph.initializer.push(TensorProto { name: Some(name.clone()), ..tensor.clone() });
        } else {
            samples.insert(name.clone(), decode_tensor(tensor).unwrap());
        }
    }
    let refused = |error: ModelError| Trouble::Refused(reason(&error));
    let model = Model::load(&proto.encode_to_vec(), &NoExternalData).map_err(refused)?;
    let shapes = samples.iter().map(|(name, data)| (name.clone(), data.shape().to_vec())).collect();
    let graph = model.graph(&shapes).map_err(refused)?;
    let plan = Plan::new(&graph, Variant::Baseline, Isa::best(), &PackedCache::default(), &BTreeSet::new());
    let plan = plan.map_err(|error| Trouble::Refused(general(&error.to_string())))?;
    let sample: Vec<TensorData> = model.inputs().iter().map(|input| samples[&input.name].clone()).collect();
    let found = plan.run_tensors(&sample).map_err(|error| Trouble::Wrong(error.to_string()))?;
    for (found, (name, tensor)) in found.iter().zip(outputs) {
        let expected = decode_tensor(tensor).unwrap();
        compare(found, &expected).map_err(|problem| Trouble::Wrong(format!("output `{name}` {problem}")))?;
    }
    Ok(())
}

fn compare(found: &TensorData, expected: &TensorData) -> Result<(), String> {
    if found.shape() != expected.shape() || found.data_type() != expected.data_type() {
        return Err(format!(
            "is {} {:?} instead of {} {:?}",
            found.data_type(),
            found.shape(),
            expected.data_type(),
            expected.shape()
        ));
    }
    let (TensorData::F32(found), TensorData::F32(expected)) = (found, expected) else {
        return if found == expected { Ok(()) } else { Err(format!("is {found:?} instead of {expected:?}")) };
    };
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs();
        if !(close || found == expected || found.is_nan() && expected.is_nan()) {
            return Err(format!("has {found} instead of {expected} at {index}"));
        }
    }
    Ok(())
}

/// Why a model is refused, without the names of this case.
fn reason(error: &ModelError) -> String {
    match error {
        ModelError::UnsupportedOperator { place, .. } => format!("operator {}", place.operator),
        ModelError::Unsupported { place, feature, .. } => format!("{}: {}", place.operator, general(feature)),
        ModelError::Invalid { place, reason } => format!("{}: {}", place.operator, general(reason)),
        other => general(&other.to_string()),
    }
}

/// A message with what stands in backquotes and brackets left out.
fn general(message: &str) -> String {
    let (mut text, mut depth, mut quoted) = (String::new(), 0, false);
    for character in message.chars() {
        match character {
            '`' => quoted = !quoted,
            '[' => depth += 1,
            ']' => depth -= 1,
            other if !quoted && depth == 0 => text.push(other),
            _ => {}
        }
    }
    text
}
