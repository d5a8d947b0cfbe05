//! Which operators we know, how many inputs and outputs they have, and what to say about the others.

use super::error::{ModelError, NodePlace};
use crate::onnx::schema::NodeProto;

/// Numbers of inputs and outputs an operator may have (counting absent optional ones in the middle).
struct Arity {
    inputs_min: usize,
    inputs_max: usize,
    outputs_max: usize,
}

const ANY: usize = usize::MAX;

fn arity(operator: &str) -> Option<Arity> {
    let (inputs_min, inputs_max, outputs_max) = match operator {
        "Abs" | "ArgMax" | "ArgMin" | "AveragePool" | "Cast" | "Ceil" | "ConstantOfShape" | "DepthToSpace" | "Elu"
        | "Erf" | "Exp" | "Flatten" | "Floor" | "Gelu" | "GlobalAveragePool" | "GlobalMaxPool" | "HardSigmoid"
        | "HardSwish" | "Identity" | "LeakyRelu" | "Log" | "LogSoftmax" | "Neg" | "Not" | "Reciprocal" | "Relu"
        | "Round" | "Shape" | "Sigmoid" | "Size" | "Softmax" | "Softplus" | "Sqrt" | "Tanh" | "Transpose" | "Sin"
        | "Cos" | "Sign" | "Selu" | "Celu" | "ThresholdedRelu" | "Softsign" | "Mish" | "LRN" | "LpNormalization"
        | "Hardmax" | "SpaceToDepth" | "IsNaN" | "IsInf" => (1, 1, 1),
        "Constant" => (0, 0, 1),
        "MaxPool" => (1, 1, 2),
        "Add" | "And" | "Div" | "Equal" | "Expand" | "Gather" | "Greater" | "GreaterOrEqual" | "Less"
        | "LessOrEqual" | "MatMul" | "Mod" | "Mul" | "Or" | "Pow" | "PRelu" | "Reshape" | "Sub" | "Tile" | "Xor"
        | "CumSum" | "GatherElements" | "GatherND" | "CastLike" => (2, 2, 1),
        "Trilu" => (1, 2, 1),
        "InstanceNormalization" | "GroupNormalization" | "OneHot" => (3, 3, 1),
        "QuantizeLinear" | "DequantizeLinear" => (2, 3, 1),
        "LSTM" => (3, 8, 3),
        "GRU" | "RNN" => (3, 6, 2),
        "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" | "Squeeze" | "Unsqueeze" => (1, 2, 1),
        "Conv" | "ConvTranspose" | "Gemm" => (2, 3, 1),
        "Range" | "Where" => (3, 3, 1),
        "LayerNormalization" => (2, 3, 3),
        "BatchNormalization" => (5, 5, 5),
        "Clip" => (1, 3, 1),
        "Dropout" => (1, 3, 2),
        "Slice" => (1, 5, 1),
        "Pad" => (1, 4, 1),
        "Resize" => (1, 4, 1),
        "Upsample" => (1, 2, 1),
        "Split" => (1, 2, ANY),
        "Concat" | "Max" | "Mean" | "Min" | "Sum" => (1, ANY, 1),
        _ => return None,
    };
    Some(Arity { inputs_min, inputs_max, outputs_max })
}

/// Refuses operators we do not know and nodes with a wrong number of inputs or outputs.
pub(crate) fn check(node: &NodeProto, opset: i64, is_local_function: bool) -> Result<(), ModelError> {
    let known = if node.is_standard() { arity(node.op_type()) } else { None };
    let Some(arity) = known else {
        let advice = advice(node, is_local_function);
        return Err(ModelError::UnsupportedOperator { place: NodePlace::of(node), opset, advice });
    };
    let (inputs, outputs) = (node.input.len(), node.output.len());
    if inputs < arity.inputs_min || inputs > arity.inputs_max {
        let wanted = match (arity.inputs_min, arity.inputs_max) {
            (min, ANY) => format!("at least {min}"),
            (min, max) if min == max => format!("{min}"),
            (min, max) => format!("{min} to {max}"),
        };
        let reason = format!("it has {inputs} inputs, {wanted} are allowed; export the model again");
        return Err(ModelError::invalid(node, reason));
    }
    let required = if operator_needs_all(node.op_type()) { inputs } else { arity.inputs_min };
    if let Some(position) = (0..required).find(|&position| node.present_input(position).is_none()) {
        return Err(ModelError::invalid(
            node,
            format!("its required input {position} is absent; export the model again"),
        ));
    }
    if outputs == 0 || outputs > arity.outputs_max {
        return Err(ModelError::invalid(
            node,
            format!("it has {outputs} outputs, 1 to {} are allowed", arity.outputs_max),
        ));
    }
    let may_skip_first = matches!(node.op_type(), "LSTM" | "GRU" | "RNN");
    if node.output[0].is_empty() && !(may_skip_first && node.output.iter().any(|name| !name.is_empty())) {
        return Err(ModelError::invalid(node, "its first output has no name"));
    }
    Ok(())
}

/// Whether none of a variadic operator's inputs may be absent.
fn operator_needs_all(operator: &str) -> bool {
    matches!(operator, "Concat" | "Max" | "Mean" | "Min" | "Sum")
}

fn advice(node: &NodeProto, is_local_function: bool) -> &'static str {
    if is_local_function {
        return "the model defines it as a local function: inline the functions (onnx.inliner) and try again";
    }
    if !node.is_standard() {
        return "only standard ONNX operators are supported: export without runtime-specific optimizations";
    }
    match node.op_type() {
        "DynamicQuantizeLinear" | "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger" => {
            "the model is quantized already: give the float model it was made from"
        }
        "If" | "Loop" | "Scan" => {
            "control flow is not supported: export with fixed shapes, or simplify the model (onnxsim) so that it folds away"
        }
        "NonMaxSuppression" | "TopK" | "NonZero" => {
            "its output shape depends on the data: export the model without its post-processing"
        }
        _ => "rewrite that part with supported operators, or leave it out of the model",
    }
}
