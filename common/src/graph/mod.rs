//! The model as we reason about it: typed operations over concretely shaped tensors, in topological order.
//!
//! A graph is made from a model for given input shapes; everything that shapes decide (reshape targets, slice bounds,
//! resize scales, reduction axes, clip bounds) is resolved into attributes, so that an operation's remaining inputs are data.
//! Layouts are ONNX's: images are NCHW here, whatever a worker does inside.

mod general;
mod op;
mod tensor;

pub use general::{Direction, GeneralKind, PadMode, RecurrentCell};
pub use op::{
    BinaryKind, ConvAttributes, CoordinateMode, NearestMode, OpKind, PoolAttributes, ReduceKind, ResizeMode, UnaryKind,
};
pub use tensor::{DataType, TensorData};

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Index of a tensor in [`Graph::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TensorId(pub usize);

/// Index of an operation in [`Graph::ops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub usize);

/// One value of the graph.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Unique name, the one of the (normalized) ONNX model, so that schemes can refer to it.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Concrete shape; rank 0 is a scalar.
    pub shape: Vec<usize>,
    /// The operation that makes it; `None` for graph inputs and constants.
    pub producer: Option<OpId>,
    /// Who reads it, as (operation, input position), in operation order.
    pub consumers: Vec<(OpId, usize)>,
    /// Its value when it is known before any sample is seen.
    pub constant: Option<Arc<TensorData>>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// Unique name: the ONNX node's, or its first output's where the node has none.
    pub name: String,
    /// What it computes, with its resolved attributes.
    pub kind: OpKind,
    /// Data inputs in the order [`OpKind`] documents.
    pub inputs: Vec<TensorId>,
    /// Outputs.
    pub outputs: Vec<TensorId>,
}

/// A model for one set of input shapes.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// All operations in topological order; ties follow the ONNX file's order.
    pub ops: Vec<Op>,
    /// Inputs that a sample must supply, in model order.
    pub inputs: Vec<TensorId>,
    /// Outputs, in model order.
    pub outputs: Vec<TensorId>,
}

impl Graph {
    /// The tensor with this id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The operation with this id.
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[id.0]
    }

    /// All operations with their ids, in topological order.
    pub fn ops(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.ops.iter().enumerate().map(|(index, op)| (OpId(index), op))
    }

    /// Finds a tensor by name (linear; build a map where it is done often).
    pub fn find_tensor(&self, name: &str) -> Option<TensorId> {
        self.tensors.iter().position(|tensor| tensor.name == name).map(TensorId)
    }

    /// Finds an operation by name (linear; build a map where it is done often).
    pub fn find_op(&self, name: &str) -> Option<OpId> {
        self.ops.iter().position(|op| op.name == name).map(OpId)
    }

    /// The constant value of an operation's input, if that input is constant.
    pub fn constant_input(&self, op: OpId, position: usize) -> Option<&Arc<TensorData>> {
        let id = self.op(op).inputs.get(position)?;
        self.tensor(*id).constant.as_ref()
    }

    /// The addition that gives a product without a bias input its bias, and where it has the constant: it alone reads what
    /// a MatMul makes, and adds one float per output channel, the last axis.
    pub fn addition_behind(&self, product: OpId) -> Option<(OpId, usize)> {
        let op = self.op(product);
        let output = op.outputs.first().copied().filter(|_| matches!(op.kind, OpKind::MatMul))?;
        let tensor = self.tensor(output);
        let (&[(addition, position)], Some(channels)) = (tensor.consumers.as_slice(), tensor.shape.last()) else {
            return None;
        };
        let reader = self.op(addition);
        let constant = 1usize.checked_sub(position)?;
        let values = self.constant_input(addition, constant)?.as_f32()?;
        let is_bias = matches!(reader.kind, OpKind::Binary(BinaryKind::Add))
            && !self.outputs.contains(&output)
            && values.len() == *channels
            && values.shape().last() == Some(channels)
            && reader.outputs.first().is_some_and(|sum| self.tensor(*sum).shape == tensor.shape);
        is_bias.then_some((addition, constant))
    }

    /// Multiply-accumulate operations of one forward pass of this operation; 0 for what is not a convolution or product.
    pub fn macs(&self, op: OpId) -> u64 {
        let op = self.op(op);
        let shape = |id: TensorId| &self.tensor(id).shape;
        let elements = |id: TensorId| shape(id).iter().product::<usize>() as u64;
        match &op.kind {
            OpKind::Conv(_) => {
                let weights = shape(op.inputs[1]);
                elements(op.outputs[0]) * weights[1..].iter().product::<usize>() as u64
            }
            OpKind::ConvTranspose(_) => {
                let weights = shape(op.inputs[1]);
                elements(op.inputs[0]) * weights[1..].iter().product::<usize>() as u64
            }
            OpKind::Gemm { trans_a, .. } => {
                let a = shape(op.inputs[0]);
                let depth = if *trans_a { a.first() } else { a.last() };
                elements(op.outputs[0]) * depth.copied().unwrap_or(0) as u64
            }
            OpKind::MatMul => elements(op.outputs[0]) * shape(op.inputs[0]).last().copied().unwrap_or(0) as u64,
            _ => 0,
        }
    }
}
