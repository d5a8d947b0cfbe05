//! Operators that work on each element by itself.

use super::lowering::{Context, Lowered};
use super::shape::broadcast;
use crate::graph::{BinaryKind, DataType, OpKind, UnaryKind};
use crate::model::error::ModelError;
use crate::onnx::schema::data_type;

/// Lowers a unary or binary operator; `None` when it is neither.
pub(super) fn lower(context: &Context<'_>) -> Result<Option<Lowered>, ModelError> {
    if let Some(kind) = unary_kind(context)? {
        return unary(context, kind).map(Some);
    }
    let Some(kind) = binary_kind(context)? else { return Ok(None) };
    binary(context, kind).map(Some)
}

fn unary_kind(context: &Context<'_>) -> Result<Option<UnaryKind>, ModelError> {
    let attributes = &context.attributes;
    Ok(Some(match context.node.op_type() {
        "Relu" => UnaryKind::Relu,
        "Clip" => clip(context)?,
        "LeakyRelu" => UnaryKind::LeakyRelu { alpha: attributes.float("alpha")?.unwrap_or(0.01) },
        "Elu" => UnaryKind::Elu { alpha: attributes.float("alpha")?.unwrap_or(1.0) },
        "Sigmoid" => UnaryKind::Sigmoid,
        "HardSigmoid" => UnaryKind::HardSigmoid {
            alpha: attributes.float("alpha")?.unwrap_or(0.2),
            beta: attributes.float("beta")?.unwrap_or(0.5),
        },
        "HardSwish" => UnaryKind::HardSwish,
        "Tanh" => UnaryKind::Tanh,
        "Erf" => UnaryKind::Erf,
        "Gelu" => UnaryKind::Gelu { tanh: attributes.text("approximate")? == Some("tanh") },
        "Exp" => UnaryKind::Exp,
        "Log" => UnaryKind::Log,
        "Sqrt" => UnaryKind::Sqrt,
        "Reciprocal" => UnaryKind::Reciprocal,
        "Abs" => UnaryKind::Abs,
        "Neg" => UnaryKind::Neg,
        "Floor" => UnaryKind::Floor,
        "Ceil" => UnaryKind::Ceil,
        "Round" => UnaryKind::Round,
        "Softplus" => UnaryKind::Softplus,
        "Not" => UnaryKind::Not,
        "Sin" => UnaryKind::Sin,
        "Cos" => UnaryKind::Cos,
        "Sign" => UnaryKind::Sign,
        "Selu" => UnaryKind::Selu {
            alpha: attributes.float("alpha")?.unwrap_or(1.673_263_2),
            gamma: attributes.float("gamma")?.unwrap_or(1.050_701),
        },
        "Celu" => UnaryKind::Celu { alpha: attributes.float("alpha")?.unwrap_or(1.0) },
        "ThresholdedRelu" => UnaryKind::ThresholdedRelu { alpha: attributes.float("alpha")?.unwrap_or(1.0) },
        "Softsign" => UnaryKind::Softsign,
        "Mish" => UnaryKind::Mish,
        _ => return Ok(None),
    }))
}

fn clip(context: &Context<'_>) -> Result<UnaryKind, ModelError> {
    let min = context.float(1, "min")?.unwrap_or(f32::NEG_INFINITY);
    let max = context.float(2, "max")?.unwrap_or(f32::INFINITY);
    if min.is_nan() || max.is_nan() || min > max {
        return Err(context.unsupported(format!("the empty range {min} to {max}"), "give bounds with min ≤ max"));
    }
    Ok(UnaryKind::Clip { min, max })
}

fn unary(context: &Context<'_>, kind: UnaryKind) -> Result<Lowered, ModelError> {
    let x = match kind {
        UnaryKind::Not => context.input(0)?,
        UnaryKind::Abs | UnaryKind::Neg if context.input(0)?.data_type != DataType::Bool => context.input(0)?,
        _ => context.float_input(0)?,
    };
    if kind == UnaryKind::Not && x.data_type != DataType::Bool {
        return Err(context.invalid(format!("its input `{}` holds {}, not bool", x.name, x.data_type)));
    }
    Ok(Lowered::op(OpKind::Unary(kind), 1, x.data_type, x.shape.clone()))
}

fn binary_kind(context: &Context<'_>) -> Result<Option<BinaryKind>, ModelError> {
    Ok(Some(match context.node.op_type() {
        "Add" => BinaryKind::Add,
        "Sub" => BinaryKind::Sub,
        "Mul" => BinaryKind::Mul,
        "Div" => BinaryKind::Div,
        "Pow" => BinaryKind::Pow,
        "Min" => BinaryKind::Min,
        "Max" => BinaryKind::Max,
        "PRelu" => BinaryKind::Prelu,
        "Equal" => BinaryKind::Equal,
        "Less" => BinaryKind::Less,
        "LessOrEqual" => BinaryKind::LessOrEqual,
        "Greater" => BinaryKind::Greater,
        "GreaterOrEqual" => BinaryKind::GreaterOrEqual,
        "And" => BinaryKind::And,
        "Or" => BinaryKind::Or,
        "Xor" => BinaryKind::Xor,
        "Mod" if context.attributes.flag("fmod", false)? => BinaryKind::Remainder,
        "Mod" => BinaryKind::Mod,
        _ => return Ok(None),
    }))
}

fn binary(context: &Context<'_>, kind: BinaryKind) -> Result<Lowered, ModelError> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    if a.data_type != b.data_type {
        return Err(context.unsupported(
            format!("operands of different types ({} and {})", a.data_type, b.data_type),
            "insert a Cast so that both have one type",
        ));
    }
    let is_bool = a.data_type == DataType::Bool;
    let data_type = match kind {
        BinaryKind::And | BinaryKind::Or | BinaryKind::Xor if is_bool => DataType::Bool,
        BinaryKind::Equal => DataType::Bool,
        BinaryKind::Less | BinaryKind::LessOrEqual | BinaryKind::Greater | BinaryKind::GreaterOrEqual if !is_bool => {
            DataType::Bool
        }
        BinaryKind::Prelu if a.data_type == DataType::F32 => DataType::F32,
        BinaryKind::Add
        | BinaryKind::Sub
        | BinaryKind::Mul
        | BinaryKind::Div
        | BinaryKind::Pow
        | BinaryKind::Min
        | BinaryKind::Max
        | BinaryKind::Mod
        | BinaryKind::Remainder
            if !is_bool =>
        {
            a.data_type
        }
        _ => return Err(context.invalid(format!("it does not take {} operands", a.data_type))),
    };
    let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
        context.invalid(format!(
            "`{}` of shape {:?} and `{}` of shape {:?} cannot be broadcast together",
            a.name, a.shape, b.name, b.shape
        ))
    })?;
    Ok(Lowered::op(OpKind::Binary(kind), 2, data_type, shape))
}

pub(super) fn cast(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.input(0)?;
    let target = context.attributes.int("to")?.ok_or_else(|| context.invalid("attribute `to` is missing"))?;
    let target = i32::try_from(target).unwrap_or(0);
    let to = match target {
        data_type::FLOAT => DataType::F32,
        data_type::INT64 => DataType::I64,
        data_type::INT32 => DataType::I32,
        data_type::UINT8 => DataType::U8,
        data_type::INT8 => DataType::I8,
        data_type::BOOL => DataType::Bool,
        other => {
            let feature = format!("conversion to {}", data_type::name(other));
            return Err(context.unsupported(feature, "use float32, int64, int32, int8, uint8 or bool"));
        }
    };
    let kind = if to == x.data_type { OpKind::Reshape } else { OpKind::Cast };
    Ok(Lowered::op(kind, 1, to, x.shape.clone()))
}

pub(super) fn cast_like(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, like) = (context.input(0)?, context.input(1)?);
    let kind = if like.data_type == x.data_type { OpKind::Reshape } else { OpKind::Cast };
    Ok(Lowered::op(kind, 1, like.data_type, x.shape.clone()))
}

pub(super) fn choose(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (condition, a, b) = (context.input(0)?, context.input(1)?, context.input(2)?);
    if condition.data_type != DataType::Bool || a.data_type != b.data_type {
        return Err(context.invalid(format!(
            "it needs a bool condition and two values of one type, and has {}, {} and {}",
            condition.data_type, a.data_type, b.data_type
        )));
    }
    let shape = broadcast(&a.shape, &b.shape)
        .and_then(|shape| broadcast(&shape, &condition.shape))
        .ok_or_else(|| context.invalid("the shapes of its inputs cannot be broadcast together"))?;
    Ok(Lowered::op(OpKind::Where, 3, a.data_type, shape))
}
