//! Reductions, softmax and index of the maximum.

use super::lowering::{Context, Lowered};
use crate::graph::{DataType, OpKind, ReduceKind};
use crate::model::error::ModelError;

pub(super) fn reduce(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let kind = match context.node.op_type() {
        "ReduceMean" => ReduceKind::Mean,
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Prod,
        "ReduceL1" => ReduceKind::L1,
        "ReduceSumSquare" => ReduceKind::SumSquare,
        "ReduceLogSum" => ReduceKind::LogSum,
        "ReduceLogSumExp" => ReduceKind::LogSumExp,
        _ => ReduceKind::L2,
    };
    if !matches!(kind, ReduceKind::Sum | ReduceKind::Max | ReduceKind::Min | ReduceKind::Prod) {
        context.float_input(0)?;
    }
    let rank = x.shape.len();
    let axes = match context.attributes.ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => context.integers(1, "axes")?,
    };
    let axes = match axes.as_deref() {
        None | Some([]) if context.attributes.flag("noop_with_empty_axes", false)? => {
            return Ok(Lowered::op(OpKind::Reshape, 1, x.data_type, x.shape.clone()));
        }
        None | Some([]) => (0..rank).collect(),
        Some(axes) => context.axes(axes, rank)?,
    };
    let keep_dims = context.attributes.flag("keepdims", true)?;
    if axes.iter().any(|&axis| x.shape[axis] == 0) {
        return Err(context.unsupported("reduction over an empty axis", "give the inputs shapes without zero extents"));
    }
    let shape = reduced(&x.shape, &axes, keep_dims);
    Ok(Lowered::op(OpKind::Reduce { kind, axes, keep_dims }, 1, x.data_type, shape))
}

fn reduced(shape: &[usize], axes: &[usize], keep_dims: bool) -> Vec<usize> {
    let extents = shape.iter().enumerate();
    extents
        .filter_map(|(axis, &extent)| match axes.contains(&axis) {
            false => Some(extent),
            true => keep_dims.then_some(1),
        })
        .collect()
}

pub(super) fn softmax(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let axis = context.axis(context.attributes.int("axis")?.unwrap_or(-1), x.shape.len())?;
    let log = context.node.op_type() == "LogSoftmax";
    Ok(Lowered::op(OpKind::Softmax { axis, log }, 1, DataType::F32, x.shape.clone()))
}

pub(super) fn arg_max(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let last = context.attributes.flag("select_last_index", false)?;
    let least = context.node.op_type() == "ArgMin";
    let axis = context.axis(context.attributes.int("axis")?.unwrap_or(0), x.shape.len())?;
    let keep_dims = context.attributes.flag("keepdims", true)?;
    let shape = reduced(&x.shape, &[axis], keep_dims);
    Ok(Lowered::op(OpKind::ArgMax { axis, keep_dims, least, last }, 1, DataType::I64, shape))
}
