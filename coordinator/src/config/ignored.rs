//! The `ignored` parameter: operations that stay float, by name or by type in ONNX's or OpenVINO's words.

use super::Ignored;
use super::document::Node;

pub(super) fn read_ignored(node: &Node<'_>) -> Option<Ignored> {
    let object = node.object()?;
    object.only_boolean("skip_model", false, "there is nothing to do for a model that is skipped");
    let mut ignored = Ignored::default();
    let mut complete = true;
    if let Some(node) = object.get("scope") {
        for element in node.array()? {
            match element.string() {
                Some(name) => ignored.scope.push(name),
                None => complete = false,
            }
        }
    }
    if let Some(node) = object.get("operations") {
        for element in node.array()? {
            match read_ignored_operation(&element) {
                Some(types) => ignored.operations.extend(types.iter().map(|name| (*name).to_owned())),
                None => complete = false,
            }
        }
    }
    object.finish();
    complete.then_some(ignored)
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

fn read_ignored_operation(node: &Node<'_>) -> Option<&'static [&'static str]> {
    let object = node.object()?;
    let type_node = object.required("type")?;
    if let Some(attributes) = object.get("attributes")
        && attributes.object().is_some_and(|attributes| !attributes.entries().is_empty())
    {
        attributes.refuse("are not supported yet", Some("name the operations in `ignored.scope`"));
    }
    object.finish();
    let name = type_node.string()?;
    if let Some((_, types)) = OPENVINO_TYPES.iter().find(|(openvino, _)| *openvino == name) {
        if name.starts_with("Convolution") {
            type_node.warn("covers grouped convolutions as well, which ONNX does not tell apart");
        }
        return Some(types);
    }
    if let Some(onnx) = ONNX_TYPES.iter().position(|onnx| *onnx == name) {
        return Some(&ONNX_TYPES[onnx..=onnx]);
    }
    let openvino = OPENVINO_TYPES.iter().map(|(openvino, _)| *openvino);
    let known: Vec<&str> = ONNX_TYPES.iter().copied().chain(openvino).collect();
    type_node.refuse_word(&name, "is no operator type that can be ignored", &known);
    None
}
