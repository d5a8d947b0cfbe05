//! Operators that run whole tensor by whole tensor: normalizations, running sums, selections, codes.

use super::lowering::{Context, Lowered, Operand};
use crate::graph::{DataType, GeneralKind, OpKind, Tensor, TensorData};
use crate::model::error::ModelError;
use ndarray::{ArrayD, IxDyn};

fn of(kind: GeneralKind, count: usize, data_type: DataType, shape: Vec<usize>) -> Result<Lowered, ModelError> {
    Ok(Lowered::op(OpKind::General(kind), count, data_type, shape))
}

/// InstanceNormalization, and GroupNormalization with a scale and bias a channel (operator set 21 and later).
pub(super) fn channel_normalization(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let Some(&channels) = x.shape.get(1) else {
        return Err(context.invalid(format!("its input of shape {:?} has no channels", x.shape)));
    };
    for position in 1..3 {
        let parameter = context.float_input(position)?;
        if parameter.shape != [channels] {
            return Err(context.unsupported(
                format!("a parameter of shape {:?} for {channels} channels", parameter.shape),
                "give scale and bias one value a channel (operator set 21 or later)",
            ));
        }
    }
    let is_instance = context.node.op_type() == "InstanceNormalization";
    let groups = if is_instance { channels as i64 } else { context.attributes.int("num_groups")?.unwrap_or(0) };
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0 && channels.is_multiple_of(groups));
    let groups = groups.ok_or_else(|| context.invalid(format!("{channels} channels do not make its groups")))?;
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    of(GeneralKind::GroupNormalization { groups, epsilon }, 3, DataType::F32, x.shape.clone())
}

pub(super) fn local_response(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let size = context.attributes.int("size")?.and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|&size| size > 0).ok_or_else(|| context.invalid("attribute `size` must be positive"))?;
    if x.shape.len() < 2 {
        return Err(context.invalid(format!("its input of shape {:?} has no channels", x.shape)));
    }
    let attribute = |name, default: f32| Ok::<_, ModelError>(context.attributes.float(name)?.unwrap_or(default));
    let kind = GeneralKind::LocalResponse {
        size,
        alpha: attribute("alpha", 1e-4)?,
        beta: attribute("beta", 0.75)?,
        bias: attribute("bias", 1.0)?,
    };
    of(kind, 1, DataType::F32, x.shape.clone())
}

/// The `axis` attribute, resolved.
fn axis(context: &Context<'_>, default: i64, rank: usize) -> Result<usize, ModelError> {
    context.axis(context.attributes.int("axis")?.unwrap_or(default), rank)
}

pub(super) fn lp_normalization(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let axis = axis(context, -1, x.shape.len())?;
    let absolute = match context.attributes.int("p")?.unwrap_or(2) {
        1 => true,
        2 => false,
        p => return Err(context.invalid(format!("`p` is {p}, 1 and 2 are possible"))),
    };
    of(GeneralKind::LpNormalization { axis, absolute }, 1, DataType::F32, x.shape.clone())
}

pub(super) fn hardmax(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let axis = axis(context, -1, x.shape.len())?;
    of(GeneralKind::Hardmax { axis }, 1, DataType::F32, x.shape.clone())
}

pub(super) fn cum_sum(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let axis = match context.integers(1, "axis")?.as_deref() {
        Some([axis]) => context.axis(*axis, x.shape.len())?,
        _ => return Err(context.invalid("its axis must be one number")),
    };
    let exclusive = context.attributes.flag("exclusive", false)?;
    let reverse = context.attributes.flag("reverse", false)?;
    of(GeneralKind::CumSum { axis, exclusive, reverse }, 1, x.data_type, x.shape.clone())
}

pub(super) fn one_hot(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (indices, values) = (context.input(0)?, context.input(2)?);
    let depth = match context.constant(1, "depth")? {
        Some(TensorData::F32(array)) => array.first().map(|depth| *depth as i64),
        Some(data) => data.to_i64().and_then(|values| values.first().copied()),
        None => None,
    };
    let depth = depth.and_then(|depth| usize::try_from(depth).ok()).filter(|&depth| depth > 0 && depth < 1 << 32);
    let depth = depth.ok_or_else(|| context.invalid("`depth` must be one positive number"))?;
    if values.shape != [2] || indices.data_type == DataType::Bool {
        return Err(context.invalid("it needs two values and indices that are numbers"));
    }
    let axis = axis(context, -1, indices.shape.len() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, depth);
    Ok(Lowered::Op {
        kind: OpKind::General(GeneralKind::OneHot { axis }),
        operands: vec![Operand::Input(0), Operand::Input(2)],
        outputs: vec![(values.data_type, shape)],
    })
}

fn integer_indices<'a>(context: &Context<'a>) -> Result<&'a Tensor, ModelError> {
    let indices = context.input(1)?;
    if matches!(indices.data_type, DataType::I64 | DataType::I32) {
        return Ok(indices);
    }
    Err(context.invalid(format!("its indices are {}, not integers", indices.data_type)))
}

pub(super) fn gather_elements(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, indices) = (context.input(0)?, integer_indices(context)?);
    let axis = axis(context, 0, x.shape.len())?;
    let fits = x.shape.len() == indices.shape.len()
        && (0..x.shape.len()).all(|other| other == axis || indices.shape[other] <= x.shape[other]);
    if !fits {
        return Err(context.invalid(format!("indices {:?} do not fit an input {:?}", indices.shape, x.shape)));
    }
    of(GeneralKind::GatherElements { axis }, 2, x.data_type, indices.shape.clone())
}

pub(super) fn gather_nd(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, indices) = (context.input(0)?, integer_indices(context)?);
    let batch_axes = usize::try_from(context.attributes.int("batch_dims")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let refuse = || context.invalid(format!("indices {:?} do not fit an input {:?}", indices.shape, x.shape));
    let (&tuple, tuples) = indices.shape.split_last().ok_or_else(refuse)?;
    let rest = batch_axes.checked_add(tuple).and_then(|used| x.shape.get(used..)).ok_or_else(refuse)?;
    if tuple == 0 || tuples.len() < batch_axes || tuples[..batch_axes] != x.shape[..batch_axes] {
        return Err(refuse());
    }
    of(GeneralKind::GatherNd { batch_axes }, 2, x.data_type, [tuples, rest].concat())
}

pub(super) fn triangle(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    if x.shape.len() < 2 {
        return Err(context.invalid(format!("its input of shape {:?} is no matrix", x.shape)));
    }
    let diagonal = context.integers(1, "k")?.and_then(|values| values.first().copied()).unwrap_or(0);
    let upper = context.attributes.flag("upper", true)?;
    of(GeneralKind::Triangle { upper, diagonal }, 1, x.data_type, x.shape.clone())
}

pub(super) fn space_to_depth(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let block = context.attributes.int("blocksize")?.and_then(|block| usize::try_from(block).ok());
    let block = block.filter(|&block| block > 0 && block < 1 << 16);
    let block = block.ok_or_else(|| context.invalid("attribute `blocksize` must be positive"))?;
    match *x.shape.as_slice() {
        [batch, channels, height, width] if height.is_multiple_of(block) && width.is_multiple_of(block) => {
            let shape = vec![batch, channels * block * block, height / block, width / block];
            of(GeneralKind::SpaceToDepth { block }, 1, x.data_type, shape)
        }
        _ => Err(context.invalid(format!("the shape {:?} has no blocks of {block} × {block}", x.shape))),
    }
}

/// IsNaN and IsInf.
pub(super) fn test(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let kind = match context.node.op_type() {
        "IsNaN" => GeneralKind::IsNan,
        _ => GeneralKind::IsInfinite {
            positive: context.attributes.flag("detect_positive", true)?,
            negative: context.attributes.flag("detect_negative", true)?,
        },
    };
    of(kind, 1, DataType::Bool, x.shape.clone())
}

/// Scale and zero point (zeros of `absent` where there is none), checked against the axis they belong to.
fn codes(
    context: &Context<'_>,
    shape: &[usize],
    absent: DataType,
) -> Result<(usize, Vec<Operand>, DataType), ModelError> {
    let block = context.attributes.int("block_size")?.unwrap_or(0);
    if block != 0 {
        return Err(context.unsupported("blocks of scales", "quantize per tensor or per channel"));
    }
    let scale = context.float_input(1)?;
    let scales: usize = scale.shape.iter().product();
    let rank = shape.len();
    let axis = context.attributes.int("axis")?.unwrap_or(1);
    let axis = if scales == 1 { 0 } else { context.axis(axis, rank)? };
    let fits = scale.shape.len() <= 1 && (scales == 1 || shape.get(axis) == Some(&scales));
    if !fits {
        return Err(context.invalid(format!("scales {:?} do not fit axis {axis} of {shape:?}", scale.shape)));
    }
    let zero_point = match context.optional(2) {
        Some(tensor) if tensor.shape.iter().product::<usize>() == scales => (Operand::Input(2), tensor.data_type),
        Some(tensor) => {
            return Err(context.invalid(format!("zero points {:?} do not fit {scales} scales", tensor.shape)));
        }
        None => {
            let zeros = IxDyn(&scale.shape);
            let data = match absent {
                DataType::I8 => TensorData::I8(ArrayD::zeros(zeros)),
                DataType::I32 => TensorData::I32(ArrayD::zeros(zeros)),
                _ => TensorData::U8(ArrayD::zeros(zeros)),
            };
            (Operand::Constant { role: "zero_point", data }, absent)
        }
    };
    Ok((axis, vec![Operand::Input(0), Operand::Input(1), zero_point.0], zero_point.1))
}

pub(super) fn quantize(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let absent = match context.attributes.int("output_dtype")?.unwrap_or(0) {
        0 | 2 => DataType::U8,
        3 => DataType::I8,
        other => return Err(context.unsupported(format!("codes of type {other}"), "use uint8 or int8 codes")),
    };
    let (axis, operands, data_type) = codes(context, &x.shape, absent)?;
    if !matches!(data_type, DataType::U8 | DataType::I8) {
        return Err(context.unsupported(format!("codes of {data_type}"), "use uint8 or int8 codes"));
    }
    let kind = OpKind::General(GeneralKind::Quantize { axis });
    Ok(Lowered::Op { kind, operands, outputs: vec![(data_type, x.shape.clone())] })
}

pub(super) fn dequantize(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let (axis, operands, data_type) = codes(context, &x.shape, x.data_type)?;
    if data_type != x.data_type || !matches!(data_type, DataType::U8 | DataType::I8 | DataType::I32) {
        return Err(context.unsupported(
            format!("codes of {} with a zero point of {data_type}", x.data_type),
            "use uint8, int8 or int32 for both",
        ));
    }
    let kind = OpKind::General(GeneralKind::Dequantize { axis });
    Ok(Lowered::Op { kind, operands, outputs: vec![(DataType::F32, x.shape.clone())] })
}
