//! Graphs for concrete shapes: what shapes and constants decide is resolved, in every version's form of an operator.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use holdfast_common::graph::{
    BinaryKind, CoordinateMode, GeneralKind, Graph, NearestMode, OpKind, PadMode, ResizeMode, TensorData, UnaryKind,
};
use holdfast_common::model::ModelError;
use holdfast_common::onnx::schema::{AttributeProto, attribute_type, data_type};
use std::collections::BTreeMap;
use support::{Build, floats};

fn kinds(graph: &Graph) -> Vec<&OpKind> {
    graph.ops.iter().map(|op| &op.kind).collect()
}

fn output_shape(graph: &Graph) -> &[usize] {
    &graph.tensor(graph.outputs[0]).shape
}

fn float_list(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        floats: values.to_vec(),
        r#type: Some(attribute_type::FLOATS),
        ..AttributeProto::default()
    }
}

/// The only kind of a graph with one operation, whose output has this shape.
#[track_caller]
fn single(build: Build, shape: &[usize]) -> OpKind {
    let graph = build.import();
    assert_eq!(output_shape(&graph), shape);
    assert_eq!(graph.ops.len(), 1, "{:?}", kinds(&graph));
    graph.ops[0].kind.clone()
}

#[test]
fn input_shapes_are_checked_against_the_model() {
    let model = Build::new(13).input("x", &[-1, 3]).node("Relu", &["x"], &["y"]).output("y").model();
    let graph = |shapes: &[(&str, &[usize])]| {
        let shapes: BTreeMap<String, Vec<usize>> =
            shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        model.graph(&shapes)
    };
    assert_eq!(output_shape(&graph(&[("x", &[7, 3])]).unwrap()), [7, 3]);
    assert!(matches!(graph(&[]), Err(ModelError::MissingShape { .. })));
    assert!(matches!(graph(&[("x", &[7, 4])]), Err(ModelError::InputShape { .. })));
    assert!(matches!(graph(&[("x", &[7])]), Err(ModelError::InputShape { .. })));
    assert!(matches!(graph(&[("x", &[1 << 40, 3])]), Err(ModelError::InputShape { .. })));
    let unknown = graph(&[("z", &[1])]).unwrap_err().to_string();
    assert!(unknown.contains("no input `z`") && unknown.contains("`x`"), "{unknown}");
}

#[test]
fn a_batch_that_the_model_hard_codes_elsewhere_is_an_error_at_that_node() {
    let model = Build::new(13)
        .input("x", &[-1, 4])
        .ints("shape", &[1, 2, 2])
        .node("Reshape", &["x", "shape"], &["y"])
        .output("y")
        .model();
    let shapes = |batch| BTreeMap::from([("x".to_owned(), vec![batch, 4])]);
    assert!(model.graph(&shapes(1)).is_ok());
    let error = model.graph(&shapes(2)).unwrap_err().to_string();
    assert!(error.contains("node `y` (Reshape)") && error.contains("[2, 4]") && error.contains("batch"), "{error}");
}

#[test]
fn shape_arithmetic_disappears() {
    let graph = Build::new(13)
        .input("x", &[2, 3, 4, 5])
        .ints("zero", &[0])
        .ints("three", &[3])
        .ints("minus", &[-1])
        .node("Shape", &["x"], &["shape"])
        .node("Gather", &["shape", "zero"], &["batch"])
        .node("Slice", &["shape", "minus", "three"], &["empty"])
        .node("Mul", &["batch", "three"], &["six"])
        .node_with("Concat", &["six", "empty", "minus"], &["target"], vec![AttributeProto::int("axis", 0)])
        .node("Reshape", &["x", "target"], &["y"])
        .output("y")
        .import();
    assert_eq!(kinds(&graph), [&OpKind::Reshape]);
    assert_eq!(output_shape(&graph), [6, 20]);
    assert_eq!(graph.tensors.len(), 2, "nothing but input and output stays");
}

#[test]
fn positions_made_from_the_shape_fold_into_a_constant_embedding() {
    let mut build = Build::new(13)
        .input("x", &[3, 2])
        .floats("table", &[4, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
        .ints("axis", &[0])
        .node("Shape", &["x"], &["shape"])
        .node("Gather", &["shape", "start"], &["length"])
        .node("Range", &["start", "length", "step"], &["positions"])
        .node("Gather", &["table", "positions"], &["embedding"])
        .node("Add", &["x", "embedding"], &["y"])
        .output("y");
    for (name, value) in [("start", 0), ("step", 1)] {
        let scalar = TensorData::I64(ndarray::arr0(value).into_dyn());
        build.graph().initializer.push(holdfast_common::onnx::encode_tensor(name, &scalar));
    }
    let graph = build.import();
    let embedding = graph.constant_input(graph.find_op("y").unwrap(), 1).unwrap();
    assert_eq!(**embedding, floats(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
}

#[test]
fn a_transposed_weight_is_a_constant() {
    let graph = Build::new(13)
        .input("x", &[1, 2])
        .floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .node("Transpose", &["w"], &["t"])
        .node("MatMul", &["x", "t"], &["y"])
        .output("y")
        .import();
    let weights = graph.constant_input(graph.find_op("y").unwrap(), 1).unwrap();
    assert_eq!(**weights, floats(&[2, 3], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
}

#[test]
fn clip_bounds_come_from_attributes_or_inputs() {
    let relu6 = OpKind::Unary(UnaryKind::Clip { min: 0.0, max: 6.0 });
    let attributes = vec![AttributeProto::float("min", 0.0), AttributeProto::float("max", 6.0)];
    let old = Build::new(7).input("x", &[4]).node_with("Clip", &["x"], &["y"], attributes).output("y");
    assert_eq!(single(old, &[4]), relu6);
    let new = Build::new(13).input("x", &[4]).floats("lo", &[], &[0.0]).floats("hi", &[], &[6.0]);
    assert_eq!(single(new.node("Clip", &["x", "lo", "hi"], &["y"]).output("y"), &[4]), relu6);
    let open = Build::new(13).input("x", &[4]).floats("hi", &[], &[6.0]).node("Clip", &["x", "", "hi"], &["y"]);
    let expected = OpKind::Unary(UnaryKind::Clip { min: f32::NEG_INFINITY, max: 6.0 });
    assert_eq!(single(open.output("y"), &[4]), expected);
}

#[test]
fn axes_come_from_attributes_or_inputs() {
    let axes = || vec![AttributeProto::ints("axes", &[1, -1])];
    let base = |opset| Build::new(opset).input("x", &[2, 1, 3, 1]).ints("axes", &[1, -1]).output("y");
    for operator in ["Squeeze", "ReduceSum"] {
        let keep = |mut attributes: Vec<AttributeProto>| {
            if operator == "ReduceSum" {
                attributes.push(AttributeProto::int("keepdims", 0));
            }
            attributes
        };
        let old = single(base(11).node_with(operator, &["x"], &["y"], keep(axes())), &[2, 3]);
        let new = single(base(13).node_with(operator, &["x", "axes"], &["y"], keep(vec![])), &[2, 3]);
        assert_eq!(old, new);
    }
    let old = single(base(11).node_with("Unsqueeze", &["x"], &["y"], axes()), &[2, 1, 1, 3, 1, 1]);
    assert_eq!(old, single(base(13).node("Unsqueeze", &["x", "axes"], &["y"]), &[2, 1, 1, 3, 1, 1]));
    let old = single(base(13).node_with("ReduceMax", &["x"], &["y"], axes()), &[2, 1, 3, 1]);
    assert_eq!(old, single(base(18).node("ReduceMax", &["x", "axes"], &["y"]), &[2, 1, 3, 1]));
}

#[test]
fn slices_are_resolved_in_both_directions() {
    let base = |opset| Build::new(opset).input("x", &[10, 4]).output("y");
    let attributes = vec![AttributeProto::ints("starts", &[1]), AttributeProto::ints("ends", &[-2])];
    let old = single(base(7).node_with("Slice", &["x"], &["y"], attributes), &[7, 4]);
    assert_eq!(old, OpKind::Slice { starts: vec![1, 0], steps: vec![1, 1] });
    let stepped = |start: i64, end: i64, step: i64| {
        base(13).ints("s", &[start]).ints("e", &[end]).ints("a", &[0]).ints("t", &[step]).node(
            "Slice",
            &["x", "s", "e", "a", "t"],
            &["y"],
        )
    };
    let cases: [(i64, i64, i64, usize, usize, isize); 5] = [
        (0, i64::MAX, 3, 4, 0, 3),
        (-1, i64::MIN, -1, 10, 9, -1),
        (-2, 2, -4, 2, 8, -4),
        (100, -100, -9, 2, 9, -9),
        (2, 3, i64::MAX, 1, 2, 1),
    ];
    for (start, end, step, length, first, stride) in cases {
        let kind = single(stepped(start, end, step), &[length, 4]);
        assert_eq!(kind, OpKind::Slice { starts: vec![first, 0], steps: vec![stride, 1] }, "{start}:{end}:{step}");
    }
    assert!(stepped(0, 1, 0).refusal().contains("a step is 0"));
}

#[test]
fn pads_come_from_attributes_or_inputs_and_modes_are_told_apart() {
    let padded = OpKind::Pad { begin: vec![0, 1], end: vec![2, -1], value: 0.5 };
    let base = |opset| Build::new(opset).input("x", &[3, 4]).output("y");
    let attributes = vec![AttributeProto::ints("pads", &[0, 1, 2, -1]), AttributeProto::float("value", 0.5)];
    assert_eq!(single(base(7).node_with("Pad", &["x"], &["y"], attributes), &[5, 4]), padded);
    let inputs = base(18).ints("p", &[1, 0, -1, 2]).floats("v", &[], &[0.5]).ints("a", &[1, 0]);
    assert_eq!(single(inputs.node("Pad", &["x", "p", "v", "a"], &["y"]), &[5, 4]), padded);
    let mode = |mode| {
        let mode = vec![AttributeProto::text("mode", mode)];
        base(13).ints("p", &[0, 1, 0, 1]).node_with("Pad", &["x", "p"], &["y"], mode)
    };
    let reflected = OpKind::General(GeneralKind::PadInside { begin: vec![0, 1], mode: PadMode::Reflect });
    assert_eq!(single(mode("reflect"), &[3, 6]), reflected);
    assert!(mode("mirror").refusal().contains("mode `mirror`"), "{}", mode("mirror").refusal());
}

#[test]
fn every_version_of_upsampling_is_a_resize() {
    let base = |opset| Build::new(opset).input("x", &[1, 2, 3, 5]).floats("s", &[4], &[1.0, 1.0, 2.0, 1.5]).output("y");
    let expected = OpKind::Resize {
        mode: ResizeMode::Nearest(NearestMode::Floor),
        coordinates: CoordinateMode::Asymmetric,
        scales: vec![2.0, 1.5],
    };
    let attribute = vec![float_list("scales", &[1.0, 1.0, 2.0, 1.5])];
    assert_eq!(single(base(7).node_with("Upsample", &["x"], &["y"], attribute), &[1, 2, 6, 7]), expected);
    assert_eq!(single(base(9).node("Upsample", &["x", "s"], &["y"]), &[1, 2, 6, 7]), expected);
    assert_eq!(single(base(10).node("Resize", &["x", "s"], &["y"]), &[1, 2, 6, 7]), expected);
    let sized = base(13).ints("z", &[1, 2, 6, 10]).node("Resize", &["x", "", "", "z"], &["y"]);
    let expected = OpKind::Resize {
        mode: ResizeMode::Nearest(NearestMode::RoundPreferFloor),
        coordinates: CoordinateMode::HalfPixel,
        scales: vec![2.0, 2.0],
    };
    assert_eq!(single(sized, &[1, 2, 6, 10]), expected);
    let channels = base(13).floats("c", &[4], &[1.0, 2.0, 1.0, 1.0]).node("Resize", &["x", "", "c"], &["y"]);
    assert!(channels.refusal().contains("last two axes"));
}

#[test]
fn old_softmax_over_several_axes_is_flattened() {
    let base = |opset| Build::new(opset).input("x", &[2, 3, 4]).output("y");
    let graph = base(11).node("Softmax", &["x"], &["y"]).import();
    assert_eq!(kinds(&graph), [&OpKind::Reshape, &OpKind::Softmax { axis: 1, log: false }, &OpKind::Reshape]);
    assert_eq!(graph.tensor(graph.op(graph.find_op("y").unwrap()).inputs[0]).shape, [2, 12]);
    assert_eq!(output_shape(&graph), [2, 3, 4]);
    let last = base(11).node_with("Softmax", &["x"], &["y"], vec![AttributeProto::int("axis", 2)]);
    assert_eq!(single(last, &[2, 3, 4]), OpKind::Softmax { axis: 2, log: false });
    assert_eq!(single(base(13).node("LogSoftmax", &["x"], &["y"]), &[2, 3, 4]), OpKind::Softmax { axis: 2, log: true });
}

#[test]
fn sums_of_several_tensors_are_chains() {
    let graph = Build::new(8)
        .input("a", &[2])
        .input("b", &[2])
        .input("c", &[2])
        .node("Sum", &["a", "b", "c"], &["y"])
        .output("y")
        .import();
    assert_eq!(kinds(&graph), [&OpKind::Binary(BinaryKind::Add); 2]);
    assert_eq!(graph.tensor(graph.outputs[0]).name, "y");
    let left = graph.op(graph.tensor(graph.outputs[0]).producer.unwrap()).inputs[0];
    assert_eq!(graph.tensor(left).producer.map(|op| op.0), Some(0));
}

#[test]
fn windows_are_padded_and_rounded_as_the_operator_says() {
    let base = || Build::new(13).input("x", &[1, 1, 6, 7]).output("y");
    let pool = |extra: Vec<AttributeProto>| {
        let mut attributes =
            vec![AttributeProto::ints("kernel_shape", &[3, 3]), AttributeProto::ints("strides", &[2, 2])];
        attributes.extend(extra);
        base().node_with("MaxPool", &["x"], &["y"], attributes)
    };
    single(pool(vec![]), &[1, 1, 2, 3]);
    single(pool(vec![AttributeProto::int("ceil_mode", 1)]), &[1, 1, 3, 3]);
    let pads = AttributeProto::ints("pads", &[0, 0, 1, 0]);
    // The third window begins at row 4; a fourth would begin at row 6, in the padding after the input.
    single(pool(vec![pads, AttributeProto::int("ceil_mode", 1)]), &[1, 1, 3, 3]);
    for (mode, begin, end) in [("SAME_UPPER", [0, 1], [1, 1]), ("SAME_LOWER", [1, 1], [0, 1])] {
        let OpKind::MaxPool(window) = single(pool(vec![AttributeProto::text("auto_pad", mode)]), &[1, 1, 3, 4]) else {
            panic!("no pooling");
        };
        assert_eq!((window.pads_begin.as_slice(), window.pads_end.as_slice()), (&begin[..], &end[..]), "{mode}");
    }
    let large = base().node_with("MaxPool", &["x"], &["y"], vec![AttributeProto::ints("kernel_shape", &[9, 1])]);
    assert!(large.refusal().contains("does not fit"));
}

#[test]
fn transposed_convolutions_know_their_extent() {
    let base = |attributes: Vec<AttributeProto>| {
        let base = Build::new(13).input("x", &[1, 2, 4, 4]).weights("w", &[2, 3, 3, 3]).output("y");
        base.node_with("ConvTranspose", &["x", "w"], &["y"], attributes)
    };
    let strides = || AttributeProto::ints("strides", &[2, 2]);
    single(base(vec![strides()]), &[1, 3, 9, 9]);
    single(base(vec![strides(), AttributeProto::ints("pads", &[1, 1, 1, 1])]), &[1, 3, 7, 7]);
    let exact = base(vec![
        strides(),
        AttributeProto::ints("pads", &[1, 1, 1, 1]),
        AttributeProto::ints("output_padding", &[1, 1]),
    ]);
    single(exact, &[1, 3, 8, 8]);
    let shaped = single(base(vec![strides(), AttributeProto::ints("output_shape", &[8, 8])]), &[1, 3, 8, 8]);
    let OpKind::ConvTranspose(window) = shaped else { panic!("no convolution") };
    assert_eq!((window.pads_begin, window.pads_end), (vec![1, 1], vec![0, 0]));
    single(base(vec![strides(), AttributeProto::text("auto_pad", "SAME_UPPER")]), &[1, 3, 8, 8]);
}

#[test]
fn splits_take_their_parts_from_attribute_input_or_count() {
    let base = |opset| Build::new(opset).input("x", &[7, 2]).ints("parts", &[3, 4]).output("b");
    let attribute = vec![AttributeProto::ints("split", &[3, 4])];
    single_split(base(11).node_with("Split", &["x"], &["a", "b"], attribute), [3, 4]);
    single_split(base(13).node("Split", &["x", "parts"], &["a", "b"]), [3, 4]);
    let count = vec![AttributeProto::int("num_outputs", 2)];
    single_split(base(18).node_with("Split", &["x"], &["a", "b"], count), [4, 3]);
    assert!(base(13).node("Split", &["x"], &["a", "b"]).refusal().contains("cannot be split"));
}

#[track_caller]
fn single_split(build: Build, parts: [usize; 2]) {
    let graph = build.import();
    let extents: Vec<usize> = graph.ops[0].outputs.iter().map(|id| graph.tensor(*id).shape[0]).collect();
    assert_eq!(extents, parts);
}

#[test]
fn a_form_that_depends_on_data_is_refused_with_the_tensor_at_fault() {
    let mut build = Build::new(13).input("x", &[4]).node("Reshape", &["x", "shape"], &["y"]).output("y");
    build.graph().input.push(support::port("shape", data_type::INT64, Some(&[2])));
    let error = build.refusal();
    assert!(error.contains("`shape` computed from the data") && error.contains("node `y` (Reshape)"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused_at_their_node() {
    let cases = [
        Build::new(13).input("x", &[2, 3]).input("z", &[4]).node("Add", &["x", "z"], &["y"]),
        Build::new(13).input("x", &[2, 3]).input("z", &[2, 3]).node("MatMul", &["x", "z"], &["y"]),
        Build::new(13).input("x", &[2, 3]).input("z", &[2, 3]).node("Gemm", &["x", "z"], &["y"]),
        Build::new(13).input("x", &[1, 3, 4, 4]).weights("w", &[2, 2, 3, 3]).node("Conv", &["x", "w"], &["y"]),
        Build::new(13).input("x", &[1, 2, 2, 2]).weights("w", &[2, 2, 3, 3]).node("Conv", &["x", "w"], &["y"]),
        Build::new(13).input("x", &[2, 3]).ints("i", &[2]).node("Gather", &["x", "i"], &["y"]),
    ];
    for build in cases {
        let error = build.output("y").refusal();
        assert!(error.starts_with("node `y` ("), "{error}");
    }
}
