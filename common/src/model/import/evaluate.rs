//! Constant folding: shape arithmetic, moved constants, and the float operations that are exact on every machine.
//!
//! Operations whose float result depends on an order of summation or on an approximation are left to the worker, whose
//! definition of them is the only one.

use crate::graph::{BinaryKind, DataType, OpKind, ReduceKind, TensorData, UnaryKind};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Zip, concatenate};

/// Applies an expression to the array inside, whatever its type, and wraps the result in the same type.
macro_rules! same_type {
    ($data:expr, $array:ident => $result:expr) => {
        match $data {
            TensorData::F32($array) => TensorData::F32($result),
            TensorData::I64($array) => TensorData::I64($result),
            TensorData::I32($array) => TensorData::I32($result),
            TensorData::U8($array) => TensorData::U8($result),
            TensorData::I8($array) => TensorData::I8($result),
            TensorData::Bool($array) => TensorData::Bool($result),
        }
    };
}

/// The outputs of an operation on constants; `None` when it is left an operation.
pub(super) fn evaluate(
    kind: &OpKind,
    inputs: &[&TensorData],
    outputs: &[(DataType, Vec<usize>)],
) -> Option<Vec<TensorData>> {
    let x = *inputs.first()?;
    let (data_type, shape) = outputs.first()?;
    let value = match kind {
        OpKind::Reshape => same_type!(x, array => reshape(array, shape)?),
        OpKind::Transpose { permutation } => {
            same_type!(x, array => array.view().permuted_axes(permutation.as_slice()).as_standard_layout().into_owned())
        }
        OpKind::Expand => same_type!(x, array => array.broadcast(shape.as_slice())?.to_owned()),
        OpKind::Slice { starts, steps } => same_type!(x, array => slice(array, starts, steps, shape)),
        OpKind::Gather { axis } => {
            let indices = gather_indices(inputs.get(1)?, x.shape()[*axis])?;
            same_type!(x, array => reshape(&array.select(Axis(*axis), &indices), shape)?)
        }
        OpKind::Concat { axis } => concat(inputs, *axis)?,
        OpKind::Split { axis } => return split(x, *axis, outputs),
        OpKind::Cast => cast(x, *data_type),
        OpKind::Where => choose(inputs, shape)?,
        OpKind::Unary(kind) => unary(*kind, x)?,
        OpKind::Binary(kind) => binary(*kind, x, inputs.get(1)?, shape, *data_type)?,
        OpKind::Reduce { kind, axes, .. } => reduce(*kind, x, axes, shape, *data_type)?,
        _ => return None,
    };
    Some(vec![value])
}

fn reshape<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> Option<ArrayD<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), array.iter().cloned().collect()).ok()
}

fn slice<T: Clone>(array: &ArrayD<T>, starts: &[usize], steps: &[isize], shape: &[usize]) -> ArrayD<T> {
    let mut result = array.clone();
    for axis in 0..shape.len() {
        if starts[axis] == 0 && steps[axis] == 1 && shape[axis] == result.shape()[axis] {
            continue;
        }
        let indices: Vec<usize> =
            (0..shape[axis]).map(|index| starts[axis].wrapping_add_signed(steps[axis] * index as isize)).collect();
        result = result.select(Axis(axis), &indices);
    }
    result
}

fn gather_indices(indices: &TensorData, extent: usize) -> Option<Vec<usize>> {
    let resolve = |index: i64| usize::try_from(if index < 0 { index + extent as i64 } else { index }).ok();
    indices.to_i64()?.into_iter().map(|index| resolve(index).filter(|&index| index < extent)).collect()
}

fn concat(inputs: &[&TensorData], axis: usize) -> Option<TensorData> {
    macro_rules! join {
        ($($kind:ident),*) => {
            match inputs.first()? {
                $(TensorData::$kind(_) => {
                    let views: Option<Vec<ArrayViewD<'_, _>>> = inputs
                        .iter()
                        .map(|data| match data {
                            TensorData::$kind(array) => Some(array.view()),
                            _ => None,
                        })
                        .collect();
                    TensorData::$kind(concatenate(Axis(axis), &views?).ok()?)
                })*
            }
        };
    }
    Some(join!(F32, I64, I32, U8, I8, Bool))
}

fn split(x: &TensorData, axis: usize, outputs: &[(DataType, Vec<usize>)]) -> Option<Vec<TensorData>> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(outputs.len());
    for (_, shape) in outputs {
        let indices: Vec<usize> = (start..start + shape[axis]).collect();
        start += shape[axis];
        parts.push(same_type!(x, array => array.select(Axis(axis), &indices)));
    }
    Some(parts)
}

/// Conversion as in Rust's `as` (saturating from float), which is how runtimes treat every value in range.
fn cast(x: &TensorData, to: DataType) -> TensorData {
    macro_rules! from {
        ($array:expr, $zero:expr) => {
            match to {
                DataType::F32 => TensorData::F32($array.mapv(|v| v as f32)),
                DataType::I64 => TensorData::I64($array.mapv(|v| v as i64)),
                DataType::I32 => TensorData::I32($array.mapv(|v| v as i32)),
                DataType::U8 => TensorData::U8($array.mapv(|v| v as u8)),
                DataType::I8 => TensorData::I8($array.mapv(|v| v as i8)),
                DataType::Bool => TensorData::Bool($array.mapv(|v| v != $zero)),
            }
        };
    }
    match x {
        TensorData::F32(array) => from!(array, 0.0),
        TensorData::I64(array) => from!(array, 0),
        TensorData::I32(array) => from!(array, 0),
        TensorData::U8(array) => from!(array, 0),
        TensorData::I8(array) => from!(array, 0),
        TensorData::Bool(array) => from!(array.mapv(u8::from), 0),
    }
}

fn choose(inputs: &[&TensorData], shape: &[usize]) -> Option<TensorData> {
    let [TensorData::Bool(condition), a, b] = inputs else { return None };
    let condition = condition.broadcast(shape)?;
    macro_rules! pick {
        ($($kind:ident),*) => {
            match (a, b) {
                $((TensorData::$kind(a), TensorData::$kind(b)) => TensorData::$kind(
                    Zip::from(&condition)
                        .and(&a.broadcast(shape)?)
                        .and(&b.broadcast(shape)?)
                        .map_collect(|&condition, &a, &b| if condition { a } else { b }),
                ),)*
                _ => return None,
            }
        };
    }
    Some(pick!(F32, I64, I32, U8, I8, Bool))
}

fn unary(kind: UnaryKind, x: &TensorData) -> Option<TensorData> {
    Some(match (kind, x) {
        (UnaryKind::Not, TensorData::Bool(array)) => TensorData::Bool(array.mapv(|v| !v)),
        (UnaryKind::Neg, TensorData::I64(array)) => TensorData::I64(array.mapv(i64::wrapping_neg)),
        (UnaryKind::Abs, TensorData::I64(array)) => TensorData::I64(array.mapv(i64::wrapping_abs)),
        (_, TensorData::F32(array)) => {
            let function: fn(f32) -> f32 = match kind {
                UnaryKind::Sqrt => f32::sqrt,
                UnaryKind::Reciprocal => |v| 1.0 / v,
                UnaryKind::Abs => f32::abs,
                UnaryKind::Neg => |v| -v,
                UnaryKind::Floor => f32::floor,
                UnaryKind::Ceil => f32::ceil,
                UnaryKind::Round => f32::round_ties_even,
                _ => return None,
            };
            TensorData::F32(array.mapv(function))
        }
        _ => return None,
    })
}

fn binary(kind: BinaryKind, a: &TensorData, b: &TensorData, shape: &[usize], to: DataType) -> Option<TensorData> {
    if let (TensorData::F32(a), TensorData::F32(b)) = (a, b) {
        let (a, b) = (a.broadcast(shape)?, b.broadcast(shape)?);
        let function: fn(f32, f32) -> f32 = match kind {
            BinaryKind::Add => |a, b| a + b,
            BinaryKind::Sub => |a, b| a - b,
            BinaryKind::Mul => |a, b| a * b,
            BinaryKind::Div => |a, b| a / b,
            BinaryKind::Min => f32::min,
            BinaryKind::Max => f32::max,
            _ => return compare(kind, a.iter().zip(&b), shape),
        };
        return Some(TensorData::F32(Zip::from(&a).and(&b).map_collect(|&a, &b| function(a, b))));
    }
    let wide = |data: &TensorData| ArrayD::from_shape_vec(IxDyn(data.shape()), data.to_i64()?).ok();
    let (a, b) = (wide(a)?, wide(b)?);
    let (a, b) = (a.broadcast(shape)?, b.broadcast(shape)?);
    let function: fn(i64, i64) -> Option<i64> = match kind {
        BinaryKind::Add => i64::checked_add,
        BinaryKind::Sub => i64::checked_sub,
        BinaryKind::Mul => i64::checked_mul,
        BinaryKind::Div => i64::checked_div,
        BinaryKind::Pow => |a, b| a.checked_pow(u32::try_from(b).ok()?),
        BinaryKind::Min => |a, b| Some(a.min(b)),
        BinaryKind::Max => |a, b| Some(a.max(b)),
        BinaryKind::And => |a, b| Some(a & b),
        BinaryKind::Or => |a, b| Some(a | b),
        BinaryKind::Xor => |a, b| Some(a ^ b),
        BinaryKind::Remainder => i64::checked_rem,
        BinaryKind::Mod => |a, b| {
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        },
        _ => return compare(kind, a.iter().zip(&b), shape),
    };
    let values: Option<Vec<i64>> = a.iter().zip(&b).map(|(&a, &b)| function(a, b)).collect();
    Some(cast(&TensorData::I64(ArrayD::from_shape_vec(IxDyn(shape), values?).ok()?), to))
}

fn compare<'a, T: PartialOrd + 'a>(
    kind: BinaryKind,
    pairs: impl Iterator<Item = (&'a T, &'a T)>,
    shape: &[usize],
) -> Option<TensorData> {
    let function: fn(&T, &T) -> bool = match kind {
        BinaryKind::Equal => T::eq,
        BinaryKind::Less => T::lt,
        BinaryKind::LessOrEqual => T::le,
        BinaryKind::Greater => T::gt,
        BinaryKind::GreaterOrEqual => T::ge,
        _ => return None,
    };
    let values = pairs.map(|(a, b)| function(a, b)).collect();
    Some(TensorData::Bool(ArrayD::from_shape_vec(IxDyn(shape), values).ok()?))
}

/// Integer reductions only.
fn reduce(kind: ReduceKind, x: &TensorData, axes: &[usize], shape: &[usize], to: DataType) -> Option<TensorData> {
    let mut array = ArrayD::from_shape_vec(IxDyn(x.shape()), x.to_i64()?).ok()?;
    let function: fn(i64, i64) -> i64 = match kind {
        ReduceKind::Sum => i64::wrapping_add,
        ReduceKind::Prod => i64::wrapping_mul,
        ReduceKind::Max => i64::max,
        ReduceKind::Min => i64::min,
        ReduceKind::Mean
        | ReduceKind::L2
        | ReduceKind::L1
        | ReduceKind::SumSquare
        | ReduceKind::LogSum
        | ReduceKind::LogSumExp => return None,
    };
    for &axis in axes.iter().rev() {
        array = array.map_axis(Axis(axis), |lane| lane.iter().copied().reduce(function).unwrap_or(0));
    }
    Some(cast(&TensorData::I64(reshape(&array, shape)?), to))
}
