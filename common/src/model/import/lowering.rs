//! What one node becomes: its kind, its data operands, its outputs' types and shapes.

use super::{convolution, elementwise, general, layout, product, recurrent, reduction, resize, source};
use crate::graph::{DataType, OpKind, Tensor, TensorData};
use crate::model::attributes::Attributes;
use crate::model::error::{ModelError, NodePlace};
use crate::onnx::schema::NodeProto;

/// One input of the operation to be made.
pub(super) enum Operand {
    /// The node's input at this position.
    Input(usize),
    /// A constant computed from attributes or other constants; its tensor is named after the node and this role.
    Constant { role: &'static str, data: TensorData },
}

/// The result of reading one node.
pub(super) enum Lowered {
    /// An operation.
    Op { kind: OpKind, operands: Vec<Operand>, outputs: Vec<(DataType, Vec<usize>)> },
    /// A value that is known already.
    Constant(TensorData),
}

impl Lowered {
    /// An operation of one output whose operands are the node's first `count` inputs.
    pub fn op(kind: OpKind, count: usize, data_type: DataType, shape: Vec<usize>) -> Lowered {
        Lowered::Op { kind, operands: (0..count).map(Operand::Input).collect(), outputs: vec![(data_type, shape)] }
    }
}

/// A node and what is known of its inputs.
pub(super) struct Context<'a> {
    pub node: &'a NodeProto,
    pub opset: i64,
    pub attributes: Attributes<'a>,
    inputs: Vec<Option<&'a Tensor>>,
}

impl<'a> Context<'a> {
    pub fn new(node: &'a NodeProto, opset: i64, inputs: Vec<Option<&'a Tensor>>) -> Context<'a> {
        Context { node, opset, attributes: Attributes(node), inputs }
    }

    /// The number of inputs, trailing absent ones not counted.
    pub fn input_count(&self) -> usize {
        self.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
    }

    /// An input that must be there.
    pub fn input(&self, position: usize) -> Result<&'a Tensor, ModelError> {
        self.optional(position).ok_or_else(|| self.invalid(format!("its input {position} is absent")))
    }

    /// An input that may be absent.
    pub fn optional(&self, position: usize) -> Option<&'a Tensor> {
        self.inputs.get(position).copied().flatten()
    }

    /// An input that must be there and hold floats.
    pub fn float_input(&self, position: usize) -> Result<&'a Tensor, ModelError> {
        let tensor = self.input(position)?;
        if tensor.data_type != DataType::F32 {
            return Err(self.unsupported(
                format!("input `{}` of {} elements", tensor.name, tensor.data_type),
                "give it float32 elements (insert a Cast)",
            ));
        }
        Ok(tensor)
    }

    /// A constant an operator's form depends on; `None` when the input is absent.
    pub fn constant(&self, position: usize, role: &str) -> Result<Option<&'a TensorData>, ModelError> {
        let Some(tensor) = self.optional(position) else { return Ok(None) };
        match &tensor.constant {
            Some(data) => Ok(Some(data)),
            None => Err(self.unsupported(
                format!("`{role}` computed from the data (tensor `{}`)", tensor.name),
                "it must be known from shapes and constants: export with fixed shapes, or simplify the model (onnxsim)",
            )),
        }
    }

    /// A constant list of integers; `None` when the input is absent.
    pub fn integers(&self, position: usize, role: &str) -> Result<Option<Vec<i64>>, ModelError> {
        let Some(data) = self.constant(position, role)? else { return Ok(None) };
        data.to_i64().map(Some).ok_or_else(|| self.invalid(format!("`{role}` holds no integers")))
    }

    /// A constant list of floats; `None` when the input is absent.
    pub fn floats(&self, position: usize, role: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(data) = self.constant(position, role)? else { return Ok(None) };
        let values = data.as_f32().ok_or_else(|| self.invalid(format!("`{role}` holds no floats")))?;
        Ok(Some(values.iter().copied().collect()))
    }

    /// A constant single float; `None` when the input is absent.
    pub fn float(&self, position: usize, role: &str) -> Result<Option<f32>, ModelError> {
        match self.floats(position, role)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(values) => Err(self.invalid(format!("`{role}` holds {} values, one is needed", values.len()))),
        }
    }

    /// An axis of a tensor of this rank, counted from the front.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, ModelError> {
        let resolved = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(resolved)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| self.invalid(format!("axis {axis} is out of range for {rank} axes")))
    }

    /// Distinct axes, ascending.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, ModelError> {
        let mut resolved = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        resolved.sort_unstable();
        if resolved.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.invalid(format!("an axis occurs twice in {axes:?}")));
        }
        Ok(resolved)
    }

    pub fn invalid(&self, reason: impl Into<String>) -> ModelError {
        ModelError::invalid(self.node, reason)
    }

    pub fn unsupported(&self, feature: impl Into<String>, advice: &'static str) -> ModelError {
        ModelError::unsupported(self.node, feature, advice)
    }
}

/// Reads one node.
pub(super) fn lower(context: &Context<'_>) -> Result<Lowered, ModelError> {
    match context.node.op_type() {
        "Conv" => convolution::conv(context),
        "ConvTranspose" => convolution::conv_transpose(context),
        "MaxPool" | "AveragePool" => convolution::pool(context),
        "GlobalAveragePool" => convolution::global_pool(context, OpKind::GlobalAveragePool),
        "GlobalMaxPool" => convolution::global_pool(context, OpKind::GlobalMaxPool),
        "Gemm" => product::gemm(context),
        "MatMul" => product::matmul(context),
        "BatchNormalization" => product::batch_normalization(context),
        "LayerNormalization" => product::layer_normalization(context),
        "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => reduction::reduce(context),
        "Softmax" | "LogSoftmax" => reduction::softmax(context),
        "ArgMax" | "ArgMin" => reduction::arg_max(context),
        "InstanceNormalization" | "GroupNormalization" => general::channel_normalization(context),
        "LRN" => general::local_response(context),
        "LpNormalization" => general::lp_normalization(context),
        "Hardmax" => general::hardmax(context),
        "CumSum" => general::cum_sum(context),
        "OneHot" => general::one_hot(context),
        "GatherElements" => general::gather_elements(context),
        "GatherND" => general::gather_nd(context),
        "Trilu" => general::triangle(context),
        "SpaceToDepth" => general::space_to_depth(context),
        "IsNaN" | "IsInf" => general::test(context),
        "LSTM" | "GRU" | "RNN" => recurrent::recurrent(context),
        "QuantizeLinear" => general::quantize(context),
        "DequantizeLinear" => general::dequantize(context),
        "CastLike" => elementwise::cast_like(context),
        "Reshape" => layout::reshape(context),
        "Identity" => layout::identity(context),
        "Flatten" => layout::flatten(context),
        "Squeeze" => layout::squeeze(context),
        "Unsqueeze" => layout::unsqueeze(context),
        "Transpose" => layout::transpose(context),
        "Concat" => layout::concat(context),
        "Split" => layout::split(context),
        "Slice" => layout::slice(context),
        "Pad" => layout::pad(context),
        "Gather" => layout::gather(context),
        "Expand" => layout::expand(context),
        "Tile" => layout::tile(context),
        "DepthToSpace" => layout::depth_to_space(context),
        "Resize" => resize::resize(context),
        "Cast" => elementwise::cast(context),
        "Where" => elementwise::choose(context),
        "Shape" => source::shape(context),
        "Size" => source::size(context),
        "ConstantOfShape" => source::constant_of_shape(context),
        "Range" => source::range(context),
        _ => match elementwise::lower(context)? {
            Some(lowered) => Ok(lowered),
            None => Err(ModelError::UnsupportedOperator {
                place: NodePlace::of(context.node),
                opset: context.opset,
                advice: "rewrite that part with supported operators, or leave it out of the model",
            }),
        },
    }
}
