//! What each operation is to quantization on a CPU: quantized, passing codes through, or float.
//!
//! Source: POT's hardware table for CPUs, restated for our operations. Two of its pass-through operations are float
//! here, because codes cannot simply pass: Minimum and Maximum (their inputs would need one scale) and padding with
//! another value than zero.

use holdfast_common::graph::{BinaryKind, DataType, Graph, Op, OpId, OpKind, ReduceKind};

/// What an operation is to quantization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Computes on codes; these inputs get quantizers.
    Quantizable(Vec<usize>),
    /// Moves or selects elements; codes of these inputs pass to the outputs.
    PassThrough(Vec<usize>),
    /// Neither: quantizers stop here.
    Float,
}

/// The role of an operation, patterns and the user's wishes aside.
pub(super) fn role(graph: &Graph, id: OpId) -> Role {
    let op = graph.op(id);
    let role = role_by_kind(op);
    let (Role::Quantizable(positions) | Role::PassThrough(positions)) = &role else { return Role::Float };
    let float = |position: &usize| {
        op.inputs.get(*position).is_some_and(|tensor| graph.tensor(*tensor).data_type == DataType::F32)
    };
    let constant = |position: &usize| graph.constant_input(id, *position).is_some();
    let usable = match &role {
        Role::Quantizable(_) => !positions.iter().all(constant) && (!has_weights(op) || constant(&1)),
        // Codes can only pass where there are some: not from constants.
        Role::PassThrough(_) => !positions.iter().any(constant),
        Role::Float => false,
    };
    if usable && !positions.is_empty() && positions.iter().all(float) { role } else { Role::Float }
}

/// Whether input 1 of this operation is weights and has to be constant to be quantized.
fn has_weights(op: &Op) -> bool {
    matches!(op.kind, OpKind::Conv(_) | OpKind::ConvTranspose(_))
}

fn role_by_kind(op: &Op) -> Role {
    match &op.kind {
        OpKind::Conv(_) | OpKind::ConvTranspose(_) | OpKind::Gemm { .. } | OpKind::MatMul => {
            Role::Quantizable(vec![0, 1])
        }
        OpKind::Binary(kind) => match kind {
            BinaryKind::Add
            | BinaryKind::Sub
            | BinaryKind::Mul
            | BinaryKind::Div
            | BinaryKind::Equal
            | BinaryKind::Less
            | BinaryKind::LessOrEqual
            | BinaryKind::Greater
            | BinaryKind::GreaterOrEqual => Role::Quantizable(vec![0, 1]),
            BinaryKind::Pow => Role::Quantizable(vec![0]),
            BinaryKind::Min
            | BinaryKind::Max
            | BinaryKind::Prelu
            | BinaryKind::And
            | BinaryKind::Or
            | BinaryKind::Xor
            | BinaryKind::Mod
            | BinaryKind::Remainder => Role::Float,
        },
        OpKind::AveragePool(_) | OpKind::GlobalAveragePool | OpKind::Resize { .. } => Role::Quantizable(vec![0]),
        OpKind::Reduce { kind, .. } => match kind {
            ReduceKind::Mean => Role::Quantizable(vec![0]),
            ReduceKind::Max => Role::PassThrough(vec![0]),
            ReduceKind::Sum
            | ReduceKind::Min
            | ReduceKind::Prod
            | ReduceKind::L2
            | ReduceKind::L1
            | ReduceKind::SumSquare
            | ReduceKind::LogSum
            | ReduceKind::LogSumExp => Role::Float,
        },
        OpKind::MaxPool(_)
        | OpKind::GlobalMaxPool
        | OpKind::Reshape
        | OpKind::Transpose { .. }
        | OpKind::Split { .. }
        | OpKind::Slice { .. }
        | OpKind::Gather { .. }
        | OpKind::Expand
        | OpKind::Tile { .. }
        | OpKind::DepthToSpace { .. } => Role::PassThrough(vec![0]),
        OpKind::Pad { value, .. } if *value == 0.0 => Role::PassThrough(vec![0]),
        OpKind::Concat { .. } => Role::PassThrough((0..op.inputs.len()).collect()),
        OpKind::Pad { .. }
        | OpKind::Unary(_)
        | OpKind::Softmax { .. }
        | OpKind::ScaleShift
        | OpKind::LayerNormalization { .. }
        | OpKind::Cast
        | OpKind::ArgMax { .. }
        | OpKind::Where
        | OpKind::General(_) => Role::Float,
    }
}

/// Whether a convolution has one filter per channel.
pub(super) fn is_depthwise(graph: &Graph, id: OpId) -> bool {
    let op = graph.op(id);
    let OpKind::Conv(attributes) = &op.kind else { return false };
    let channels = |tensor| graph.tensor(tensor).shape.get(1).copied();
    attributes.group > 1
        && channels(op.inputs[0]) == Some(attributes.group)
        && channels(op.outputs[0]) == Some(attributes.group)
}

/// The axis of a constant input whose slices belong to output channels; `None` quantizes it per tensor.
pub(super) fn weight_axis(graph: &Graph, id: OpId, position: usize) -> Option<usize> {
    let op = graph.op(id);
    let rank = op.inputs.get(position).map_or(0, |tensor| graph.tensor(*tensor).shape.len());
    match (&op.kind, position) {
        (OpKind::Conv(_), 1) => Some(0),
        (OpKind::ConvTranspose(_), 1) => Some(1),
        (OpKind::Gemm { trans_b, .. }, 1) => Some(if *trans_b { 0 } else { 1 }),
        (OpKind::MatMul, 1) if rank >= 2 => Some(rank - 1),
        _ => None,
    }
}
