//! Operators that move elements without computing on them.

use super::lowering::{Context, Lowered, Operand};
use super::shape::broadcast;
use crate::graph::{DataType, GeneralKind, OpKind, PadMode};
use crate::model::error::ModelError;

fn reshaped(context: &Context<'_>, shape: Vec<usize>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    Ok(Lowered::op(OpKind::Reshape, 1, x.data_type, shape))
}

pub(super) fn identity(context: &Context<'_>) -> Result<Lowered, ModelError> {
    reshaped(context, context.input(0)?.shape.clone())
}

pub(super) fn reshape(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let target = context.integers(1, "shape")?.unwrap_or_default();
    let allow_zero = context.attributes.flag("allowzero", false)?;
    let mut shape = Vec::with_capacity(target.len());
    let mut free = None;
    for (axis, &extent) in target.iter().enumerate() {
        shape.push(match extent {
            0 if !allow_zero => *x.shape.get(axis).ok_or_else(|| {
                context.invalid(format!("shape {target:?} copies axis {axis}, which the input {:?} lacks", x.shape))
            })?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            extent => usize::try_from(extent).map_err(|_| context.invalid(format!("{target:?} is no shape")))?,
        });
    }
    let elements: usize = x.shape.iter().product();
    let stated = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let mismatch = || {
        context.invalid(format!(
            "the input of shape {:?} cannot take the shape {target:?}; if the model was exported for another batch \
             size or image size, give its inputs that size or export it with dynamic axes",
            x.shape
        ))
    };
    let stated = stated.ok_or_else(mismatch)?;
    match free {
        Some(axis) if stated > 0 && elements.is_multiple_of(stated) => shape[axis] = elements / stated,
        None if stated == elements => {}
        _ => return Err(mismatch()),
    }
    reshaped(context, shape)
}

pub(super) fn flatten(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let shape = &context.input(0)?.shape;
    let axis = context.attributes.int("axis")?.unwrap_or(1);
    let axis = if axis == shape.len() as i64 { shape.len() } else { context.axis(axis, shape.len())? };
    reshaped(context, vec![shape[..axis].iter().product(), shape[axis..].iter().product()])
}

pub(super) fn squeeze(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let shape = &context.input(0)?.shape;
    let axes = match context.integers(1, "axes")? {
        Some(axes) => context.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&axis| shape[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
        return Err(context.invalid(format!("axis {axis} of shape {shape:?} has not the extent 1")));
    }
    let kept = shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &extent)| extent).collect();
    reshaped(context, kept)
}

pub(super) fn unsqueeze(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let shape = &context.input(0)?.shape;
    let axes = context.integers(1, "axes")?.ok_or_else(|| context.invalid("its axes are missing"))?;
    let axes = context.axes(&axes, shape.len() + axes.len())?;
    let mut extents = shape.iter().copied();
    let rank = shape.len() + axes.len();
    let inserted = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { extents.next().unwrap_or(1) }).collect();
    reshaped(context, inserted)
}

pub(super) fn transpose(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let rank = x.shape.len();
    let permutation: Vec<usize> = match context.attributes.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            if perm.len() != rank || context.axes(perm, rank)?.len() != rank {
                return Err(context.invalid(format!("`perm` {perm:?} is no permutation of {rank} axes")));
            }
            perm.iter().map(|&axis| context.axis(axis, rank)).collect::<Result<_, _>>()?
        }
    };
    let shape = permutation.iter().map(|&axis| x.shape[axis]).collect();
    Ok(Lowered::op(OpKind::Transpose { permutation }, 1, x.data_type, shape))
}

pub(super) fn concat(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let first = context.input(0)?;
    let axis = context.attributes.int("axis")?.ok_or_else(|| context.invalid("attribute `axis` is missing"))?;
    let axis = context.axis(axis, first.shape.len())?;
    let count = context.input_count();
    let mut shape = first.shape.clone();
    for position in 1..count {
        let other = context.input(position)?;
        let same_rank = other.shape.len() == shape.len();
        let fits = same_rank && (0..shape.len()).all(|at| at == axis || other.shape[at] == shape[at]);
        if !fits || other.data_type != first.data_type {
            return Err(context.invalid(format!(
                "`{}` ({} {:?}) and `{}` ({} {:?}) cannot be joined along axis {axis}",
                first.name, first.data_type, first.shape, other.name, other.data_type, other.shape
            )));
        }
        shape[axis] += other.shape[axis];
    }
    Ok(Lowered::op(OpKind::Concat { axis }, count, first.data_type, shape))
}

pub(super) fn split(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let axis = context.axis(context.attributes.int("axis")?.unwrap_or(0), x.shape.len())?;
    let (extent, count) = (x.shape[axis], context.node.output.len());
    let parts: Vec<usize> = match context.integers(1, "split")? {
        Some(parts) => {
            let parts: Result<Vec<usize>, _> = parts.iter().map(|&part| usize::try_from(part)).collect();
            parts.map_err(|_| context.invalid("a part has negative extent"))?
        }
        None => {
            // Since version 18 the last part may be smaller; before, the parts are equal.
            let part = extent.div_ceil(count);
            (0..count).map(|index| part.min(extent.saturating_sub(index * part))).collect()
        }
    };
    let total = parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
    let has_equal_parts = context.opset >= 18 || context.optional(1).is_some() || extent.is_multiple_of(count);
    if parts.len() != count || total != Some(extent) || !has_equal_parts {
        return Err(context.invalid(format!("an extent of {extent} cannot be split into {count} outputs as {parts:?}")));
    }
    let outputs = parts
        .into_iter()
        .map(|part| {
            let mut shape = x.shape.clone();
            shape[axis] = part;
            (x.data_type, shape)
        })
        .collect();
    Ok(Lowered::Op { kind: OpKind::Split { axis }, operands: vec![Operand::Input(0)], outputs })
}

pub(super) fn slice(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let rank = x.shape.len();
    let missing = |role: &str| context.invalid(format!("its `{role}` are missing"));
    let starts = context.integers(1, "starts")?.ok_or_else(|| missing("starts"))?;
    let ends = context.integers(2, "ends")?.ok_or_else(|| missing("ends"))?;
    let count = starts.len();
    let axes = context.integers(3, "axes")?.unwrap_or_else(|| (0..count as i64).collect());
    let steps = context.integers(4, "steps")?.unwrap_or_else(|| vec![1; count]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&len| len != count) {
        return Err(context.invalid("starts, ends, axes and steps differ in length"));
    }
    context.axes(&axes, rank)?;
    let mut shape = x.shape.clone();
    let (mut first, mut stride) = (vec![0usize; rank], vec![1isize; rank]);
    for index in 0..count {
        let axis = context.axis(axes[index], rank)?;
        let extent = x.shape[axis] as i64;
        let step = steps[index];
        if step == 0 {
            return Err(context.invalid("a step is 0"));
        }
        let from_end = |value: i64| if value < 0 { value.saturating_add(extent) } else { value };
        let (start, end) = (from_end(starts[index]), from_end(ends[index]));
        // A walk down ends before index −1 at the latest.
        let (start, length) = if step > 0 {
            let (start, end) = (start.clamp(0, extent), end.clamp(0, extent));
            (start, end.saturating_sub(start).max(0).div_euclid(step) + i64::from((end - start).max(0) % step != 0))
        } else {
            let (start, end) = (start.clamp(-1, extent - 1), end.clamp(-1, extent - 1));
            let (distance, step) = ((start - end).max(0), step.saturating_neg());
            (start, distance / step + i64::from(distance % step != 0))
        };
        shape[axis] = usize::try_from(length).unwrap_or(0);
        if shape[axis] > 0 {
            first[axis] = usize::try_from(start).unwrap_or(0);
            stride[axis] = if shape[axis] == 1 { 1 } else { isize::try_from(step).unwrap_or(1) };
        }
    }
    Ok(Lowered::op(OpKind::Slice { starts: first, steps: stride }, 1, x.data_type, shape))
}

pub(super) fn pad(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let mode = match context.attributes.text("mode")?.unwrap_or("constant") {
        "constant" => None,
        "reflect" => Some(PadMode::Reflect),
        "edge" => Some(PadMode::Edge),
        "wrap" => Some(PadMode::Wrap),
        other => return Err(context.invalid(format!("padding mode `{other}` is unknown"))),
    };
    let rank = x.shape.len();
    let pads = context.integers(1, "pads")?.ok_or_else(|| context.invalid("its `pads` are missing"))?;
    let value = context.float(2, "constant_value")?.unwrap_or(0.0);
    let axes = match context.integers(3, "axes")? {
        Some(axes) => {
            context.axes(&axes, rank)?;
            axes.iter().map(|&axis| context.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(context.invalid(format!("{} pads do not fit {} axes", pads.len(), axes.len())));
    }
    let (mut begin, mut end, mut shape) = (vec![0isize; rank], vec![0isize; rank], x.shape.clone());
    for (index, &axis) in axes.iter().enumerate() {
        let amount = |value: i64| {
            isize::try_from(value)
                .ok()
                .filter(|amount| amount.unsigned_abs() <= u32::MAX as usize)
                .ok_or_else(|| context.invalid(format!("it pads by {value}")))
        };
        begin[axis] = amount(pads[index])?;
        end[axis] = amount(pads[index + axes.len()])?;
        let extent = x.shape[axis] as i128 + begin[axis] as i128 + end[axis] as i128;
        shape[axis] = usize::try_from(extent).map_err(|_| context.invalid("it crops more than there is"))?;
    }
    if let Some(mode) = mode {
        if let Some(axis) = (0..rank).find(|&axis| x.shape[axis] == 0 && shape[axis] > 0) {
            return Err(context.invalid(format!("axis {axis} has no elements to pad with")));
        }
        let kind = OpKind::General(GeneralKind::PadInside { begin, mode });
        return Ok(Lowered::op(kind, 1, x.data_type, shape));
    }
    Ok(Lowered::op(OpKind::Pad { begin, end, value }, 1, x.data_type, shape))
}

pub(super) fn gather(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, indices) = (context.input(0)?, context.input(1)?);
    if !matches!(indices.data_type, DataType::I64 | DataType::I32) {
        return Err(context.invalid(format!("its indices are {}, not integers", indices.data_type)));
    }
    let axis = context.axis(context.attributes.int("axis")?.unwrap_or(0), x.shape.len())?;
    let extent = x.shape[axis] as i64;
    if let Some(values) = indices.constant.as_deref().and_then(|data| data.to_i64())
        && let Some(index) = values.iter().find(|&&index| index < -extent || index >= extent)
    {
        return Err(context.invalid(format!("index {index} is out of range for axis {axis} of shape {:?}", x.shape)));
    }
    let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
    Ok(Lowered::op(OpKind::Gather { axis }, 2, x.data_type, shape))
}

fn extents(context: &Context<'_>, role: &str) -> Result<Vec<usize>, ModelError> {
    let values = context.integers(1, role)?.unwrap_or_default();
    let extents: Result<Vec<usize>, _> = values.iter().map(|&value| usize::try_from(value)).collect();
    extents.map_err(|_| context.invalid(format!("`{role}` {values:?} has a negative entry")))
}

pub(super) fn expand(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let target = extents(context, "shape")?;
    let shape = broadcast(&x.shape, &target)
        .ok_or_else(|| context.invalid(format!("shape {:?} cannot be broadcast to {target:?}", x.shape)))?;
    Ok(Lowered::op(OpKind::Expand, 1, x.data_type, shape))
}

pub(super) fn tile(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let repeats = extents(context, "repeats")?;
    let shape: Option<Vec<usize>> = (repeats.len() == x.shape.len())
        .then(|| x.shape.iter().zip(&repeats).map(|(&extent, &count)| extent.checked_mul(count)).collect())
        .flatten();
    let shape =
        shape.ok_or_else(|| context.invalid(format!("repeats {repeats:?} do not fit the shape {:?}", x.shape)))?;
    Ok(Lowered::op(OpKind::Tile { repeats }, 1, x.data_type, shape))
}

pub(super) fn depth_to_space(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let block = context.attributes.int("blocksize")?.unwrap_or(0);
    let block = usize::try_from(block).ok().filter(|&block| block > 0 && block < 1 << 16);
    let block = block.ok_or_else(|| context.invalid("attribute `blocksize` must be positive"))?;
    let column_row_depth = match context.attributes.text("mode")? {
        None | Some("DCR") => false,
        Some("CRD") => true,
        Some(other) => return Err(context.invalid(format!("mode `{other}` is unknown"))),
    };
    match x.shape.as_slice() {
        &[batch, channels, height, width] if channels.is_multiple_of(block * block) => {
            let shape = vec![batch, channels / (block * block), height * block, width * block];
            Ok(Lowered::op(OpKind::DepthToSpace { block, column_row_depth }, 1, x.data_type, shape))
        }
        shape => Err(context.invalid(format!("the shape {shape:?} has no channels in blocks of {block} × {block}"))),
    }
}
