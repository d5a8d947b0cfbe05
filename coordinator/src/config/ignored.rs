//! The `ignored` parameter: operations that stay float, by name or by type in ONNX's or OpenVINO's words.

use super::document::Node;
use super::keys::{IGNORED, IGNORED_OPERATION};
use holdfast_core::parameters::{Ignored, IgnoredOperation};

/// Reads `ignored`.
pub(super) fn read_ignored(node: &Node<'_>) -> Option<Ignored> {
    let object = node.section(&IGNORED)?;
    let skip_model = object.or("skip_model", false, Node::boolean);
    let scope = object.or("scope", Vec::new(), Node::strings);
    let operations = object.or("operations", Vec::new(), read_operations);
    Some(Ignored { skip_model: skip_model?, scope: scope?, operations: operations? })
}

fn read_operations(node: &Node<'_>) -> Option<Vec<IgnoredOperation>> {
    let mut operations = Vec::new();
    let mut complete = true;
    for element in node.array()? {
        match read_operation(&element) {
            Some(read) => operations.extend(read),
            None => complete = false,
        }
    }
    complete.then_some(operations)
}

/// OpenVINO's names of operators that ONNX calls otherwise.
const OPENVINO_TYPES: [(&str, &[&str]); 15] = [
    ("Convolution", &["Conv"]),
    ("ConvolutionBackpropData", &["ConvTranspose"]),
    ("FullyConnected", &["Gemm", "MatMul"]),
    ("Subtract", &["Sub"]),
    ("Multiply", &["Mul"]),
    ("Divide", &["Div"]),
    ("Power", &["Pow"]),
    ("Minimum", &["Min"]),
    ("Maximum", &["Max"]),
    ("ReLU", &["Relu"]),
    ("Clamp", &["Clip"]),
    ("HSwish", &["HardSwish"]),
    ("SoftMax", &["Softmax"]),
    ("AvgPool", &["AveragePool"]),
    ("Interpolate", &["Resize"]),
];

/// ONNX operators that can be named, as the graph names them.
const ONNX_TYPES: [&str; 42] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "PRelu",
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
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
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
    "Resize",
    "DepthToSpace",
];

/// One entry: where a word of OpenVINO's means several operators, one entry for each.
fn read_operation(node: &Node<'_>) -> Option<Vec<IgnoredOperation>> {
    let object = node.section(&IGNORED_OPERATION)?;
    let attributes = object.or("attributes", Vec::new(), |node| Some(node.object()?.entries()));
    let types = object.required("type").and_then(|node| read_type(&node));
    let attributes = attributes?.into_iter().map(|(name, node)| (name, node.json()));
    let attributes = attributes.collect::<std::collections::BTreeMap<String, serde_json::Value>>();
    let operation = |name: &&str| IgnoredOperation { operator: (*name).to_owned(), attributes: attributes.clone() };
    Some(types?.iter().map(operation).collect())
}

fn read_type(node: &Node<'_>) -> Option<&'static [&'static str]> {
    let name = node.string()?;
    if let Some((_, types)) = OPENVINO_TYPES.iter().find(|(openvino, _)| *openvino == name) {
        if name.starts_with("Convolution") {
            node.warn("covers grouped convolutions as well, which ONNX tells apart by the attribute `group` only");
        }
        return Some(types);
    }
    if let Some(onnx) = ONNX_TYPES.iter().position(|onnx| *onnx == name) {
        return ONNX_TYPES.get(onnx..=onnx);
    }
    let openvino = OPENVINO_TYPES.iter().map(|(openvino, _)| *openvino);
    let known: Vec<&str> = ONNX_TYPES.iter().copied().chain(openvino).collect();
    node.refuse_word(&name, "is no operator type that can be ignored", &known);
    None
}
