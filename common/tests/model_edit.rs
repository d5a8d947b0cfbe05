//! Models with edited constants and inserted multiplications.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use holdfast_common::model::{ConstantEdit, Model, ModelEdit, Multiplication};
use holdfast_common::onnx::NoExternalData;
use ndarray::{ArrayD, arr1, arr2};
use std::collections::BTreeMap;
use support::{Build, decode, floats, operators};

/// x → Add `a` → MatMul `b` and MatMul `c` with the same weights, both outputs.
fn fork() -> Build {
    Build::new(13)
        .input("x", &[1, 2])
        .floats("shift", &[2], &[1.0, -2.0])
        .floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .node("Add", &["x", "shift"], &["a"])
        .node("MatMul", &["a", "w"], &["b"])
        .node("MatMul", &["a", "w"], &["c"])
        .output("b")
        .output("c")
}

fn constant(operation: &str, tensor: &str, values: ArrayD<f32>) -> ConstantEdit {
    ConstantEdit { operation: operation.to_owned(), input: 1, tensor: tensor.to_owned(), values }
}

/// What an operation reads as a constant at input 1.
fn read(model: &Model, operation: &str) -> ArrayD<f32> {
    let graph = model.graph(&BTreeMap::new()).unwrap();
    let id = graph.find_op(operation).unwrap();
    graph.constant_input(id, 1).unwrap().as_f32().unwrap().clone()
}

#[test]
fn a_constant_changes_for_the_operation_named_and_for_nobody_else() {
    let model = fork().model();
    let new = arr2(&[[5.0, 6.0], [7.0, 8.0]]).into_dyn();
    let edit = ModelEdit {
        constants: vec![constant("b", "w", new.clone()), constant("a", "shift", arr1(&[0.5, 0.25]).into_dyn())],
        ..ModelEdit::default()
    };
    let edited = model.edited(&edit).unwrap();
    assert_eq!(read(&edited, "b"), new);
    assert_eq!(read(&edited, "c"), read(&model, "c"));
    assert_eq!(read(&edited, "a"), arr1(&[0.5, 0.25]).into_dyn());
    let proto = decode(&edited.to_bytes());
    let names: Vec<&str> = proto.graph.as_ref().unwrap().initializer.iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["shift", "w", "w/b"], "a constant that is read once keeps its name");
}

#[test]
fn an_inserted_multiplication_is_read_by_the_readers_named() {
    let model = fork().model();
    let multiplication = Multiplication {
        tensor: "a".to_owned(),
        readers: vec![("c".to_owned(), 0)],
        factors: arr1(&[0.5, 4.0]).into_dyn(),
    };
    let edit = ModelEdit { multiplications: vec![multiplication], ..ModelEdit::default() };
    let edited = model.edited(&edit).unwrap();
    let graph = edited.graph(&BTreeMap::new()).unwrap();
    let input = |name: &str| graph.tensor(graph.op(graph.find_op(name).unwrap()).inputs[0]).name.clone();
    assert_eq!((input("b").as_str(), input("c").as_str()), ("a", "a/multiplied"));
    assert_eq!(operators(&decode(&edited.to_bytes())), ["Add", "MatMul", "Mul", "MatMul"]);
    assert_eq!(read(&edited, "a/multiplied"), *floats(&[2], &[0.5, 4.0]).as_f32().unwrap());
}

#[test]
fn an_edited_model_is_in_normal_form_and_the_same_to_the_byte_every_time() {
    let edit = ModelEdit { constants: vec![constant("b", "w", ArrayD::zeros(vec![2, 2]))], ..ModelEdit::default() };
    let bytes = fork().model().edited(&edit).unwrap().to_bytes();
    assert_eq!(bytes, fork().model().edited(&edit).unwrap().to_bytes());
    assert_eq!(Model::load(&bytes, &NoExternalData).unwrap().to_bytes(), bytes);
    assert_eq!(fork().model().edited(&ModelEdit::default()).unwrap().to_bytes(), fork().model().to_bytes());
}

#[test]
fn edits_of_another_model_are_refused_with_what_does_not_fit() {
    let refusal = |edit: ConstantEdit| {
        let edit = ModelEdit { constants: vec![edit], ..ModelEdit::default() };
        fork().model().edited(&edit).unwrap_err().to_string()
    };
    let values = || ArrayD::zeros(vec![2, 2]);
    assert!(refusal(constant("d", "w", values())).contains("`d`"));
    assert!(refusal(constant("b", "v", values())).contains("`v`"));
    assert!(refusal(ConstantEdit { input: 2, ..constant("b", "w", values()) }).contains("no input 2"));
}
