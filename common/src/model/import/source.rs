//! Operators whose value follows from shapes and constants alone.

use super::FOLDED_ELEMENTS_MAX;
use super::lowering::{Context, Lowered};
use crate::graph::TensorData;
use crate::model::error::ModelError;
use crate::onnx::element_count;
use ndarray::{ArrayD, IxDyn, arr1};

fn integers(values: &[i64]) -> Lowered {
    Lowered::Constant(TensorData::I64(arr1(values).into_dyn()))
}

pub(super) fn shape(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let shape = &context.input(0)?.shape;
    let rank = shape.len() as i64;
    let bound = |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let start = bound(context.attributes.int("start")?.unwrap_or(0));
    let end = bound(context.attributes.int("end")?.unwrap_or(rank));
    let part = shape.get(start..end.max(start)).unwrap_or_default();
    Ok(integers(&part.iter().map(|&extent| extent as i64).collect::<Vec<_>>()))
}

pub(super) fn size(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let count: usize = context.input(0)?.shape.iter().product();
    Ok(Lowered::Constant(TensorData::I64(ArrayD::from_elem(IxDyn(&[]), count as i64))))
}

pub(super) fn constant_of_shape(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let extents = context.integers(0, "shape")?.unwrap_or_default();
    let shape: Result<Vec<usize>, _> = extents.iter().map(|&extent| usize::try_from(extent)).collect();
    let shape = shape
        .ok()
        .filter(|shape| element_count(shape).is_some_and(|count| count <= FOLDED_ELEMENTS_MAX))
        .ok_or_else(|| context.invalid(format!("{extents:?} is no shape of a constant")))?;
    let value = context.attributes.tensor("value")?;
    let refuse = || context.invalid("attribute `value` must hold one element");
    macro_rules! fill {
        ($kind:ident, $array:expr) => {
            TensorData::$kind(ArrayD::from_elem(IxDyn(&shape), *$array.iter().next().ok_or_else(refuse)?))
        };
    }
    Ok(Lowered::Constant(match value {
        None => TensorData::F32(ArrayD::zeros(IxDyn(&shape))),
        Some(TensorData::F32(array)) => fill!(F32, array),
        Some(TensorData::I64(array)) => fill!(I64, array),
        Some(TensorData::I32(array)) => fill!(I32, array),
        Some(TensorData::U8(array)) => fill!(U8, array),
        Some(TensorData::I8(array)) => fill!(I8, array),
        Some(TensorData::Bool(array)) => fill!(Bool, array),
    }))
}

pub(super) fn range(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let role = ["start", "limit", "delta"];
    let too_long = || context.invalid("it makes too many numbers");
    if context.input(0)?.constant.as_deref().is_some_and(|data| data.as_f32().is_some()) {
        let mut bounds = [0f64; 3];
        for (position, bound) in bounds.iter_mut().enumerate() {
            *bound = f64::from(context.float(position, role[position])?.unwrap_or(0.0));
        }
        let [start, limit, delta] = bounds;
        let count = ((limit - start) / delta).ceil().max(0.0);
        if count.is_nan() || count > FOLDED_ELEMENTS_MAX as f64 {
            return Err(too_long());
        }
        let values: Vec<f32> = (0..count as usize).map(|index| (start + delta * index as f64) as f32).collect();
        return Ok(Lowered::Constant(TensorData::F32(arr1(&values).into_dyn())));
    }
    let mut bounds = [0i64; 3];
    for (position, bound) in bounds.iter_mut().enumerate() {
        let values = context.integers(position, role[position])?.unwrap_or_default();
        *bound = *values.first().ok_or_else(|| context.invalid(format!("`{}` is empty", role[position])))?;
    }
    let [start, limit, delta] = bounds.map(i128::from);
    if delta == 0 {
        return Err(context.invalid("`delta` is 0"));
    }
    let distance = if delta > 0 { limit - start } else { start - limit };
    let step = delta.abs();
    let count = (distance.max(0) + step - 1) / step;
    if count > FOLDED_ELEMENTS_MAX as i128 {
        return Err(too_long());
    }
    let values: Vec<i64> = (0..count).map(|index| (start + delta * index) as i64).collect();
    let is_narrow = matches!(context.input(0)?.constant.as_deref(), Some(TensorData::I32(_)));
    if is_narrow {
        let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
        return Ok(Lowered::Constant(TensorData::I32(arr1(&values).into_dyn())));
    }
    Ok(integers(&values))
}
