//! Resize in the forms of operator set 11 and later.

use super::lowering::{Context, Lowered};
use crate::graph::{CoordinateMode, DataType, NearestMode, OpKind, ResizeMode};
use crate::model::error::ModelError;

const ADVICE: &str = "use half_pixel, pytorch_half_pixel, align_corners or asymmetric coordinates";

pub(super) fn resize(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let rank = x.shape.len();
    let attributes = &context.attributes;
    if attributes.flag("antialias", false)? || attributes.flag("exclude_outside", false)? {
        return Err(context.unsupported("`antialias` or `exclude_outside`", "resize without them"));
    }
    if attributes.text("keep_aspect_ratio_policy")?.is_some_and(|policy| policy != "stretch") {
        return Err(context.unsupported("`keep_aspect_ratio_policy`", "state both output extents"));
    }
    let axes = match attributes.ints("axes")? {
        Some(axes) => axes.iter().map(|&axis| context.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    let mut factors = vec![1f32; rank];
    let mut shape = x.shape.clone();
    let stated = context.floats(2, "scales")?.filter(|scales| !scales.is_empty());
    let sizes = context.integers(3, "sizes")?.filter(|sizes| !sizes.is_empty());
    let count = stated.as_ref().map(Vec::len).or(sizes.as_ref().map(Vec::len));
    if count != Some(axes.len()) {
        return Err(context.invalid(format!("it needs `scales` or `sizes` with {} entries", axes.len())));
    }
    for (index, &axis) in axes.iter().enumerate() {
        let extent = x.shape[axis];
        if let Some(scales) = &stated {
            let scale = scales[index];
            let resized = (extent as f64 * f64::from(scale)).floor();
            if !(scale > 0.0 && (1.0..=f64::from(u32::MAX)).contains(&resized)) {
                return Err(context.invalid(format!("scale {scale} leaves nothing of an extent of {extent}")));
            }
            factors[axis] = scale;
            shape[axis] = resized as usize;
        } else if let Some(sizes) = &sizes {
            let size = usize::try_from(sizes[index]).ok().filter(|&size| size > 0 && size <= u32::MAX as usize);
            shape[axis] = size.ok_or_else(|| context.invalid(format!("{sizes:?} is no output size")))?;
            factors[axis] = shape[axis] as f32 / extent as f32;
        }
    }
    let spatial = rank.saturating_sub(2);
    if rank < 2 || factors[..spatial].iter().any(|&factor| factor != 1.0) {
        return Err(
            context.unsupported("resizing other than the last two axes", "transpose the tensor before and after")
        );
    }
    let kind =
        OpKind::Resize { mode: mode(context)?, coordinates: coordinates(context)?, scales: factors.split_off(spatial) };
    Ok(Lowered::op(kind, 1, DataType::F32, shape))
}

fn mode(context: &Context<'_>) -> Result<ResizeMode, ModelError> {
    let unknown = |what: &str| context.invalid(format!("`{what}` is unknown"));
    match context.attributes.text("mode")?.unwrap_or("nearest") {
        "nearest" => Ok(ResizeMode::Nearest(match context.attributes.text("nearest_mode")? {
            None | Some("round_prefer_floor") => NearestMode::RoundPreferFloor,
            Some("round_prefer_ceil") => NearestMode::RoundPreferCeil,
            Some("floor") => NearestMode::Floor,
            Some("ceil") => NearestMode::Ceil,
            Some(other) => return Err(unknown(other)),
        })),
        "linear" | "bilinear" => Ok(ResizeMode::Linear),
        "cubic" => Ok(ResizeMode::Cubic { coefficient: context.attributes.float("cubic_coeff_a")?.unwrap_or(-0.75) }),
        other => Err(unknown(other)),
    }
}

fn coordinates(context: &Context<'_>) -> Result<CoordinateMode, ModelError> {
    match context.attributes.text("coordinate_transformation_mode")? {
        None | Some("half_pixel") => Ok(CoordinateMode::HalfPixel),
        Some("pytorch_half_pixel") => Ok(CoordinateMode::PytorchHalfPixel),
        Some("align_corners") => Ok(CoordinateMode::AlignCorners),
        Some("asymmetric") => Ok(CoordinateMode::Asymmetric),
        Some(other) => Err(context.unsupported(format!("coordinate mode `{other}`"), ADVICE)),
    }
}
