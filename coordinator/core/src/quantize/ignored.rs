//! Operations that the user keeps float: `skip_model`, names, and types with attributes.
//!
//! Types are ONNX's or OpenVINO's. A name that both have means what OpenVINO means by it, which reads a `Gemm` as a
//! `MatMul` and a `GlobalAveragePool` as a `ReduceMean`.

use super::attributes::{attributes, same};
use crate::error::CoreError;
use crate::parameters::{Ignored, IgnoredOperation, Mode};
use holdfast_common::graph::{Graph, OpId, OpKind};
use std::collections::BTreeSet;

/// Names of operator types beside those of ONNX, and the ONNX types that each covers.
const TYPES: [(&str, &[&str]); 37] = [
    ("Convolution", &["Conv"]),
    ("GroupConvolution", &["Conv"]),
    ("ConvolutionBackpropData", &["ConvTranspose"]),
    ("GroupConvolutionBackpropData", &["ConvTranspose"]),
    ("MatMul", &["MatMul", "Gemm"]),
    ("FullyConnected", &["Gemm", "MatMul"]),
    ("Multiply", &["Mul"]),
    ("Subtract", &["Sub"]),
    ("Divide", &["Div"]),
    ("Power", &["Pow"]),
    ("Minimum", &["Min"]),
    ("Maximum", &["Max"]),
    ("LessEqual", &["LessOrEqual"]),
    ("GreaterEqual", &["GreaterOrEqual"]),
    ("LogicalAnd", &["And"]),
    ("LogicalOr", &["Or"]),
    ("LogicalNot", &["Not"]),
    ("ReLU", &["Relu"]),
    ("PReLU", &["PRelu"]),
    ("Clamp", &["Clip"]),
    ("HSwish", &["HardSwish"]),
    ("SoftPlus", &["Softplus"]),
    ("SoftMax", &["Softmax"]),
    ("Negative", &["Neg"]),
    ("Ceiling", &["Ceil"]),
    ("AvgPool", &["AveragePool"]),
    ("ReduceMean", &["ReduceMean", "GlobalAveragePool"]),
    ("ReduceMax", &["ReduceMax", "GlobalMaxPool"]),
    ("Interpolate", &["Resize"]),
    ("StridedSlice", &["Slice"]),
    ("VariadicSplit", &["Split"]),
    ("Broadcast", &["Expand"]),
    ("Squeeze", &["Reshape"]),
    ("Unsqueeze", &["Reshape"]),
    ("Flatten", &["Reshape"]),
    ("Convert", &["Cast"]),
    ("Select", &["Where"]),
];

/// ONNX types as the graph names them, but for those in [`TYPES`].
const ONNX_TYPES: [&str; 65] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "PRelu",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
    "Not",
    "Relu",
    "Clip",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Erf",
    "Gelu",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Abs",
    "Neg",
    "Floor",
    "Ceil",
    "Round",
    "Softplus",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceSum",
    "ReduceMin",
    "ReduceProd",
    "ReduceL2",
    "Softmax",
    "LogSoftmax",
    "BatchNormalization",
    "LayerNormalization",
    "Reshape",
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Pad",
    "Gather",
    "Expand",
    "Tile",
    "Resize",
    "DepthToSpace",
    "Cast",
    "ArgMax",
    "Where",
];

/// All operator types that can be ignored, by every name they have.
pub fn operator_types() -> impl Iterator<Item = &'static str> {
    let named = TYPES.iter().map(|(name, _)| *name);
    ONNX_TYPES.into_iter().chain(named)
}

/// The operations that `ignored` names.
///
/// # Errors
///
/// Where a name, a type or an attribute is unknown.
pub(super) fn ignored_by_user(graph: &Graph, ignored: &Ignored, mode: Mode) -> Result<BTreeSet<OpId>, CoreError> {
    let mut found = BTreeSet::new();
    for name in &ignored.scope {
        found.insert(graph.find_op(name).ok_or_else(|| CoreError::UnknownOperation(name.clone()))?);
    }
    for entry in &ignored.operations {
        if !operator_types().any(|known| known == entry.operator) {
            return refuse(format!("`{}` is no operator type of ONNX or OpenVINO that is known here", entry.operator));
        }
    }
    for (id, _) in graph.ops() {
        for entry in ignored.operations.iter().filter(|entry| covers(graph, entry, id)) {
            let matches = matches(graph, entry, id)?;
            if matches {
                found.insert(id);
            }
            // In POT the first entry of the operation's type decides.
            if matches || mode == Mode::Compat {
                break;
            }
        }
    }
    Ok(found)
}

fn refuse<T>(problem: String) -> Result<T, CoreError> {
    Err(CoreError::Parameter { parameter: "ignored.operations", problem })
}

/// Whether an operation is of the entry's type.
fn covers(graph: &Graph, entry: &IgnoredOperation, id: OpId) -> bool {
    let kind = &graph.op(id).kind;
    let grouped = match kind {
        OpKind::Conv(attributes) | OpKind::ConvTranspose(attributes) => attributes.group > 1,
        _ => false,
    };
    if entry.operator.starts_with("Group") && !grouped {
        return false;
    }
    match TYPES.iter().find(|(name, _)| *name == entry.operator) {
        Some((_, types)) => types.contains(&kind.name()),
        None => kind.name() == entry.operator,
    }
}

/// Whether an operation has all of the entry's attributes with the entry's values.
fn matches(graph: &Graph, entry: &IgnoredOperation, id: OpId) -> Result<bool, CoreError> {
    let known = attributes(graph, id);
    let mut all = true;
    for (name, wanted) in &entry.attributes {
        let Some((_, value)) = known.iter().find(|(attribute, _)| attribute == name) else {
            let names: Vec<&str> = known.iter().map(|(attribute, _)| *attribute).collect();
            let kind = graph.op(id).kind.name();
            return refuse(format!("{kind} has no attribute `{name}`; it has: {}", names.join(", ")));
        };
        all &= same(name, wanted, value, graph.op(id).inputs.first().map_or(0, |x| graph.tensor(*x).shape.len()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::GraphBuilder;
    use holdfast_common::graph::BinaryKind;
    use serde_json::{Value, json};

    fn entry(operator: &str, attributes: &[(&str, Value)]) -> IgnoredOperation {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        IgnoredOperation { operator: operator.to_owned(), attributes }
    }

    /// A strided convolution, a depthwise one, a product, and some arithmetic.
    fn graph() -> Graph {
        let mut b = GraphBuilder::default();
        let x = b.input("x", &[1, 4, 8, 8]);
        let strided = b.conv("strided", x, 4, 3, 2);
        let depthwise = b.grouped_conv("depthwise", strided, 4, 3, 1, 4);
        let half = b.scalar("half", BinaryKind::Mul, depthwise, 0.5);
        let both = b.concat("both", &[half, depthwise]);
        let pooled = b.op("pooled", OpKind::GlobalAveragePool, &[both], &[1, 8, 1, 1]);
        let flat = b.op("flat", OpKind::Reshape, &[pooled], &[1, 8]);
        let y = b.gemm("product", flat, 3);
        b.finish(&[y])
    }

    fn names(operations: &[IgnoredOperation], mode: Mode) -> Result<Vec<String>, CoreError> {
        let graph = graph();
        let ignored = Ignored { operations: operations.to_vec(), ..Default::default() };
        let found = ignored_by_user(&graph, &ignored, mode)?;
        Ok(found.into_iter().map(|id| graph.op(id).name.clone()).collect())
    }

    fn found(operations: &[IgnoredOperation]) -> Vec<String> {
        names(operations, Mode::Default).expect("known names")
    }

    #[test]
    fn types_have_the_names_of_both_worlds() {
        for (operator, expected) in [
            ("Conv", vec!["strided", "depthwise"]),
            ("Convolution", vec!["strided", "depthwise"]),
            ("GroupConvolution", vec!["depthwise"]),
            ("Multiply", vec!["half"]),
            ("MatMul", vec!["product"]),
            ("ReduceMean", vec!["pooled"]),
            ("GlobalAveragePool", vec!["pooled"]),
            ("Flatten", vec!["flat"]),
            ("Divide", vec![]),
        ] {
            assert_eq!(found(&[entry(operator, &[])]), expected, "{operator}");
        }
        assert!(matches!(names(&[entry("Bogus", &[])], Mode::Default), Err(CoreError::Parameter { .. })));
    }

    #[test]
    fn every_type_of_the_graph_can_be_named() {
        for (_, op) in graph().ops() {
            assert!(operator_types().any(|known| known == op.kind.name()), "{}", op.kind.name());
        }
        for (name, types) in TYPES {
            let known = types.iter().all(|of| operator_types().any(|known| known == *of));
            assert!(known, "{name} covers a type that is not listed");
        }
    }

    #[test]
    fn all_attributes_must_match() {
        let conv = |attributes: &[(&str, Value)]| found(&[entry("Conv", attributes)]);
        assert_eq!(conv(&[("strides", json!([2, 2]))]), ["strided"]);
        assert_eq!(conv(&[("group", json!(4))]), ["depthwise"]);
        assert_eq!(conv(&[("group", json!(4)), ("strides", json!([2, 2]))]), [""; 0]);
        assert_eq!(conv(&[("kernel_shape", json!([3, 3])), ("pads", json!([1, 1, 1, 1]))]), ["strided", "depthwise"]);
        assert_eq!(found(&[entry("Gemm", &[("transB", json!(true)), ("alpha", json!(1))])]), ["product"]);
        assert_eq!(found(&[entry("Concat", &[("axis", json!(-3))])]), ["both"]);
        let error = names(&[entry("Conv", &[("stride", json!([2, 2]))])], Mode::Default).expect_err("no attribute");
        assert!(error.to_string().contains("strides"), "{error}");
    }

    #[test]
    fn any_entry_of_a_type_ignores_and_in_compat_mode_only_the_first_is_asked() {
        let entries = [entry("Conv", &[("group", json!(4))]), entry("Conv", &[("strides", json!([2, 2]))])];
        assert_eq!(found(&entries), ["strided", "depthwise"]);
        assert_eq!(names(&entries, Mode::Compat).expect("known names"), ["depthwise"]);
    }
}
