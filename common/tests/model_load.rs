//! Loading: what is accepted becomes normal form, what is not is refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use holdfast_common::graph::OpKind;
use holdfast_common::model::{Model, ModelError};
use holdfast_common::onnx::schema::{AttributeProto, StringStringEntryProto, TensorProto, data_type};
use holdfast_common::onnx::{ExternalData, ExternalDataError, NoExternalData};
use support::{Build, decode, floats, operators, port};

fn convolution() -> Build {
    Build::new(13)
        .input("x", &[1, 2, 5, 5])
        .weights("w", &[3, 2, 3, 3])
        .weights("b", &[3])
        .node("Conv", &["x", "w", "b"], &["y"])
        .node("Relu", &["y"], &["z"])
        .output("z")
}

#[test]
fn no_prefix_and_no_flipped_bit_of_a_file_makes_loading_panic() {
    let bytes = convolution().bytes();
    let mut refused = 0;
    for end in 0..bytes.len() {
        refused += usize::from(Model::load(&bytes[..end], &NoExternalData).is_err());
    }
    // Only a cut between two top-level fields leaves a readable file, and every one of these lacks the graph or the opset.
    assert_eq!(refused, bytes.len());
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            if let Ok(model) = Model::load(&flipped, &NoExternalData) {
                let _ = model.graph(&Default::default());
            }
        }
    }
}

#[test]
fn what_is_no_onnx_file_is_said_to_be_none() {
    for bytes in [&b""[..], b"PK\x03\x04 not a model", b"{\"model\": 1}"] {
        assert!(matches!(Model::load(bytes, &NoExternalData), Err(ModelError::NotOnnx { .. })), "{bytes:?}");
    }
}

#[test]
fn an_old_or_missing_operator_set_is_refused() {
    assert!(Build::new(6).input("x", &[1]).node("Relu", &["x"], &["y"]).output("y").refusal().contains("set 6"));
    let mut missing = convolution();
    missing.0.opset_import.clear();
    assert!(matches!(missing.load(), Err(ModelError::Opset { version: None })));
}

#[test]
fn every_structural_fault_names_its_node_and_tensor() {
    let base = || Build::new(13).input("x", &[4]).output("y");
    let undefined = base().node("Relu", &["nowhere"], &["y"]).refusal();
    assert!(undefined.contains("node `y` (Relu)") && undefined.contains("`nowhere`"), "{undefined}");
    let cycle = base().node("Add", &["x", "b"], &["a"]).node("Relu", &["a"], &["b"]).node("Relu", &["b"], &["y"]);
    assert!(cycle.refusal().contains("node `a` (Add)"), "{}", cycle.refusal());
    let twice = base().node("Relu", &["x"], &["y"]).node("Abs", &["x"], &["y"]).refusal();
    assert!(twice.contains("`y` is defined twice"), "{twice}");
    let arity = base().node("Relu", &["x", "x"], &["y"]).refusal();
    assert!(arity.contains("it has 2 inputs, 1 are allowed"), "{arity}");
    let absent = base().node("Add", &["x", ""], &["y"]).refusal();
    assert!(absent.contains("required input 1 is absent"), "{absent}");
    let output = Build::new(13).input("x", &[4]).output("y").refusal();
    assert!(output.contains("output `y` is made by no node"), "{output}");
}

#[test]
fn an_unknown_operator_is_refused_with_advice_unless_nobody_needs_it() {
    let base = || Build::new(13).input("x", &[4]).output("y");
    let top = base().node("TopK", &["x"], &["y"]).refusal();
    assert!(top.contains("node `y` (TopK)") && top.contains("opset 13") && top.contains("post-processing"), "{top}");
    let quantized = base().node("QLinearMatMul", &["x", "x"], &["y"]).refusal();
    assert!(quantized.contains("give the float model"), "{quantized}");
    let mut foreign = base().node("FusedConv", &["x"], &["y"]);
    foreign.graph().node[0].domain = Some("com.microsoft".to_owned());
    assert!(foreign.refusal().contains("com.microsoft.FusedConv"), "{}", foreign.refusal());
    let unneeded = base().node("Relu", &["x"], &["y"]).node("TopK", &["x"], &["unread"]);
    assert_eq!(operators(&decode(&unneeded.model().to_bytes())), ["Relu"]);
}

#[test]
fn constants_identities_and_dropouts_disappear() {
    let value = TensorProto { name: None, ..holdfast_common::onnx::encode_tensor("", &floats(&[4], &[1.0; 4])) };
    let model = Build::new(13)
        .input("x", &[4])
        .node_with("Constant", &[], &["c"], vec![AttributeProto::tensor("value", value)])
        .node("Identity", &["x"], &["i"])
        .node("Add", &["i", "c"], &["a"])
        .node("Dropout", &["a"], &["d", "mask"])
        .node("Relu", &["d"], &["r"])
        .node("Identity", &["r"], &["y"])
        .output("y")
        .model();
    let proto = decode(&model.to_bytes());
    assert_eq!(operators(&proto), ["Add", "Relu"]);
    let nodes = &proto.graph.as_ref().unwrap().node;
    assert_eq!(nodes[0].input, ["x", "c"]);
    assert_eq!(nodes[1].output, ["y"]);
}

#[test]
fn names_of_nodes_become_unique_and_stay_what_they_are_where_they_can() {
    let mut build = Build::new(13)
        .input("x", &[4])
        .node("Relu", &["x"], &["a"])
        .node("Abs", &["a"], &["b"])
        .node("Neg", &["b"], &["y"])
        .output("y");
    build.graph().node[0].name = Some("same".to_owned());
    build.graph().node[1].name = Some("same".to_owned());
    let proto = decode(&build.model().to_bytes());
    let names: Vec<&str> = proto.graph.as_ref().unwrap().node.iter().map(|node| node.name()).collect();
    assert_eq!(names, ["same", "same#2", "y"]);
}

#[test]
fn nodes_out_of_order_are_sorted() {
    let model =
        Build::new(13).input("x", &[4]).node("Neg", &["a"], &["y"]).node("Relu", &["x"], &["a"]).output("y").model();
    assert_eq!(operators(&decode(&model.to_bytes())), ["Relu", "Neg"]);
}

#[test]
fn initializers_listed_as_inputs_are_constants() {
    let mut build = convolution();
    build.graph().input.push(port("w", data_type::FLOAT, Some(&[3, 2, 3, 3])));
    let model = build.model();
    assert_eq!(model.inputs().iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x"]);
}

#[test]
fn normal_form_is_a_fixed_point_and_keeps_notes() {
    let mut build = convolution();
    let note = StringStringEntryProto { key: Some("author".to_owned()), value: Some("me".to_owned()) };
    build.0.metadata_props.push(note.clone());
    let model = build.model();
    let bytes = model.to_bytes();
    let again = Model::load(&bytes, &NoExternalData).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(again.digest(), model.digest());
    assert_eq!(decode(&bytes).metadata_props, [note]);
}

#[test]
fn half_floats_become_floats_throughout() {
    let mut build = Build::new(13).node_with("Cast", &["x"], &["h"], vec![AttributeProto::int("to", 10)]).node(
        "Add",
        &["h", "c"],
        &["y"],
    );
    build.graph().input.push(port("x", data_type::FLOAT16, Some(&[2])));
    build.graph().output.push(port("y", data_type::FLOAT16, None));
    build.graph().initializer.push(TensorProto {
        dims: vec![2],
        data_type: Some(data_type::FLOAT16),
        name: Some("c".to_owned()),
        int32_data: vec![0x3c00, 0xc000],
        ..TensorProto::default()
    });
    let graph = build.import();
    let constant = graph.constant_input(graph.find_op("y").unwrap(), 1).unwrap();
    assert_eq!(**constant, floats(&[2], &[1.0, -2.0]));
}

#[test]
fn batch_normalization_is_folded_into_the_convolution_before_it() {
    let normalized = |opset| {
        Build::new(opset)
            .input("x", &[1, 2, 5, 5])
            .weights("w", &[2, 2, 3, 3])
            .floats("gamma", &[2], &[2.0, 3.0])
            .floats("beta", &[2], &[0.5, -1.0])
            .floats("mean", &[2], &[0.25, 4.0])
            .floats("variance", &[2], &[3.0, 0.0])
            .node("Conv", &["x", "w"], &["c"])
            .node_with(
                "BatchNormalization",
                &["c", "gamma", "beta", "mean", "variance"],
                &["y"],
                vec![AttributeProto::float("epsilon", 1.0)],
            )
            .output("y")
    };
    for opset in [7, 9, 13, 15] {
        let graph = normalized(opset).import();
        assert_eq!(graph.ops.len(), 1);
        let op = graph.find_op("c").unwrap();
        // γ/√(var + ε) is 2/√4 = 1 and 3/√1 = 3.
        let weights = graph.constant_input(op, 1).unwrap().as_f32().unwrap();
        let first = ((11 * 37 % 23) as f32 - 11.0) / 8.0;
        assert_eq!(weights[[0, 1, 0, 2]], first);
        let second = ((18 * 37 % 23) as f32 - 11.0) / 8.0;
        assert_eq!(weights[[1, 0, 0, 0]], 3.0 * second);
        assert_eq!(**graph.constant_input(op, 2).unwrap(), floats(&[2], &[0.25, -13.0]));
        assert_eq!(graph.tensor(graph.outputs[0]).name, "y");
    }
    let read_twice = normalized(13).output("c").import();
    let kinds: Vec<&str> = read_twice.ops.iter().map(|op| op.kind.name()).collect();
    assert_eq!(kinds, ["Conv", "BatchNormalization"]);
    let op = read_twice.find_op("y").unwrap();
    assert_eq!(read_twice.op(op).kind, OpKind::ScaleShift);
    assert_eq!(**read_twice.constant_input(op, 1).unwrap(), floats(&[2], &[1.0, 3.0]));
    assert_eq!(**read_twice.constant_input(op, 2).unwrap(), floats(&[2], &[0.25, -13.0]));
}

#[test]
fn batch_normalization_scales_the_channels_of_a_grouped_transposed_convolution() {
    let ones = [1.0; 4];
    let graph = Build::new(13)
        .input("x", &[1, 4, 3, 3])
        .floats("w", &[4, 2, 1, 1], &[1.0; 8])
        .floats("gamma", &[4], &[1.0, 2.0, 3.0, 4.0])
        .floats("zero", &[4], &[0.0; 4])
        .floats("one", &[4], &ones)
        .node_with("ConvTranspose", &["x", "w"], &["c"], vec![AttributeProto::int("group", 2)])
        .node_with(
            "BatchNormalization",
            &["c", "gamma", "zero", "zero", "one"],
            &["y"],
            vec![AttributeProto::float("epsilon", 0.0)],
        )
        .output("y")
        .import();
    let weights = graph.constant_input(graph.find_op("c").unwrap(), 1).unwrap();
    assert_eq!(**weights, floats(&[4, 2, 1, 1], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]));
}

#[test]
fn shared_weights_of_a_folded_convolution_are_copied() {
    let graph = Build::new(13)
        .input("x", &[1, 1, 3, 3])
        .floats("w", &[1, 1, 1, 1], &[5.0])
        .floats("two", &[1], &[2.0])
        .floats("zero", &[1], &[0.0])
        .floats("one", &[1], &[1.0])
        .node("Conv", &["x", "w"], &["a"])
        .node_with(
            "BatchNormalization",
            &["a", "two", "zero", "zero", "one"],
            &["b"],
            vec![AttributeProto::float("epsilon", 0.0)],
        )
        .node("Conv", &["b", "w"], &["y"])
        .output("y")
        .import();
    let weight =
        |op: &str| graph.constant_input(graph.find_op(op).unwrap(), 1).unwrap().as_f32().unwrap()[[0, 0, 0, 0]];
    assert_eq!((weight("a"), weight("y")), (10.0, 5.0));
}

/// A folder with one file.
struct Folder(&'static str, Vec<u8>);

impl ExternalData for Folder {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, ExternalDataError> {
        assert_eq!(location, self.0);
        let end = length.map_or(self.1.len() as u64, |length| offset + length);
        let span = self.1.get(offset as usize..end.min(self.1.len() as u64) as usize);
        Ok(span.unwrap_or_default().to_vec())
    }
}

fn external(location: &str, extra: &[(&str, &str)]) -> Build {
    let mut build = Build::new(13).input("x", &[2]).node("Add", &["x", "c"], &["y"]).output("y");
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    let mut external_data = vec![entry("location", location)];
    external_data.extend(extra.iter().map(|(key, value)| entry(key, value)));
    build.graph().initializer.push(TensorProto {
        dims: vec![2],
        data_type: Some(data_type::FLOAT),
        name: Some("c".to_owned()),
        external_data,
        data_location: Some(1),
        ..TensorProto::default()
    });
    build
}

#[test]
fn external_tensors_are_taken_into_the_model() {
    let mut file = vec![9; 4];
    file.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    let bytes = external("data/w.bin", &[("offset", "4"), ("length", "8")]).bytes();
    let model = Model::load(&bytes, &Folder("data/w.bin", file)).unwrap();
    let proto = decode(&model.to_bytes());
    let tensor = &proto.graph.as_ref().unwrap().initializer[0];
    assert_eq!(tensor.data_location, None);
    assert_eq!(holdfast_common::onnx::decode_tensor(tensor).unwrap(), floats(&[2], &[1.5, -2.0]));
}

#[test]
fn external_tensors_outside_the_folder_or_too_short_are_refused() {
    let load = |build: Build, file: Vec<u8>| Model::load(&build.bytes(), &Folder("w", file)).err();
    let outside = load(external("../w", &[]), vec![]);
    assert!(matches!(outside, Some(ModelError::External { source: ExternalDataError::UnsafeLocation, .. })));
    let short = load(external("w", &[]), vec![0; 7]);
    let expected = ExternalDataError::Short { expected: 8, found: 7 }.to_string();
    assert!(matches!(short, Some(ModelError::External { source, .. }) if source.to_string() == expected));
    let offset = load(external("w", &[("offset", "-1")]), vec![0; 8]);
    assert!(matches!(offset, Some(ModelError::External { source: ExternalDataError::NotANumber { .. }, .. })));
}
