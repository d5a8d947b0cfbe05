//! Matrix products and normalizations.

use super::lowering::{Context, Lowered, Operand};
use super::shape::broadcast;
use crate::graph::{DataType, OpKind, TensorData};
use crate::model::batch_norm::scale_shift;
use crate::model::error::ModelError;
use ndarray::arr1;

pub(super) fn gemm(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (a, b) = (context.float_input(0)?, context.float_input(1)?);
    let trans_a = context.attributes.flag("transA", false)?;
    let trans_b = context.attributes.flag("transB", false)?;
    let ([a0, a1], [b0, b1]) = (matrix(context, &a.shape)?, matrix(context, &b.shape)?);
    let (rows, depth_a) = if trans_a { (a1, a0) } else { (a0, a1) };
    let (depth_b, columns) = if trans_b { (b1, b0) } else { (b0, b1) };
    if depth_a != depth_b {
        return Err(context.invalid(format!("the inner extents of {:?} and {:?} differ", a.shape, b.shape)));
    }
    let shape = vec![rows, columns];
    let mut count = 2;
    if context.optional(2).is_some() {
        let c = context.float_input(2)?;
        if broadcast(&c.shape, &shape).as_ref() != Some(&shape) {
            return Err(context.invalid(format!("C of shape {:?} does not broadcast to {shape:?}", c.shape)));
        }
        count = 3;
    }
    let kind = OpKind::Gemm {
        alpha: context.attributes.float("alpha")?.unwrap_or(1.0),
        beta: context.attributes.float("beta")?.unwrap_or(1.0),
        trans_a,
        trans_b,
    };
    Ok(Lowered::op(kind, count, DataType::F32, shape))
}

fn matrix(context: &Context<'_>, shape: &[usize]) -> Result<[usize; 2], ModelError> {
    <[usize; 2]>::try_from(shape).map_err(|_| context.invalid(format!("its operand of shape {shape:?} is no matrix")))
}

pub(super) fn matmul(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (a, b) = (context.float_input(0)?, context.float_input(1)?);
    let refuse = || context.invalid(format!("{:?} and {:?} cannot be multiplied", a.shape, b.shape));
    let (batch_a, rows, depth_a) = match a.shape.as_slice() {
        [] => return Err(refuse()),
        [depth] => (&[][..], None, *depth),
        [batch @ .., rows, depth] => (batch, Some(*rows), *depth),
    };
    let (batch_b, columns, depth_b) = match b.shape.as_slice() {
        [] => return Err(refuse()),
        [depth] => (&[][..], None, *depth),
        [batch @ .., depth, columns] => (batch, Some(*columns), *depth),
    };
    if depth_a != depth_b {
        return Err(refuse());
    }
    let mut shape = broadcast(batch_a, batch_b).ok_or_else(refuse)?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(Lowered::op(OpKind::MatMul, 2, DataType::F32, shape))
}

/// A normalization that was not folded: per-channel factor and shift, computed in double precision.
pub(super) fn batch_normalization(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let constant = |name: &str| {
        let position = context.node.input.iter().position(|input| input == name)?;
        context.optional(position)?.constant.as_deref()
    };
    let affine = scale_shift(context.node, constant)?
        .ok_or_else(|| context.unsupported("statistics computed from the data", "export the model for inference"))?;
    if x.shape.get(1) != Some(&affine.scale.len()) {
        return Err(context.invalid(format!(
            "statistics of {} channels do not fit an input of shape {:?}",
            affine.scale.len(),
            x.shape
        )));
    }
    let round = |values: Vec<f64>| {
        TensorData::F32(arr1(&values.into_iter().map(|value| value as f32).collect::<Vec<_>>()).into_dyn())
    };
    let operands = vec![
        Operand::Input(0),
        Operand::Constant { role: "scale", data: round(affine.scale) },
        Operand::Constant { role: "shift", data: round(affine.shift) },
    ];
    Ok(Lowered::Op { kind: OpKind::ScaleShift, operands, outputs: vec![(DataType::F32, x.shape.clone())] })
}

pub(super) fn layer_normalization(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    if context.node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err(context.unsupported("mean and deviation as outputs", "export the model for inference"));
    }
    let axis = context.axis(context.attributes.int("axis")?.unwrap_or(-1), x.shape.len())?;
    let normalized = &x.shape[axis..];
    let mut count = 1;
    for position in 1..context.input_count() {
        let parameter = context.float_input(position)?;
        if parameter.shape != normalized {
            return Err(context.unsupported(
                format!("a parameter of shape {:?} where {normalized:?} is normalized", parameter.shape),
                "give scale and bias the shape of the normalized axes",
            ));
        }
        count += 1;
    }
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    Ok(Lowered::op(OpKind::LayerNormalization { axis, epsilon }, count, DataType::F32, x.shape.clone()))
}
