//! Convolutions and pooling: padding and output extents.
//!
//! Source: ONNX operator specification, Conv, ConvTranspose, MaxPool, AveragePool.

use super::lowering::{Context, Lowered};
use crate::graph::{ConvAttributes, DataType, OpKind, PoolAttributes};
use crate::model::error::ModelError;

/// No kernel extent, stride, dilation or padding may be larger, so that their products fit.
const WINDOW_EXTENT_MAX: usize = 1 << 24;

/// Extents along the spatial axes that convolutions and pools share.
struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads_begin: Vec<usize>,
    pads_end: Vec<usize>,
}

impl Window {
    /// Reads everything but the padding, which is left 0.
    fn read(context: &Context<'_>, kernel: Vec<usize>) -> Result<Window, ModelError> {
        let count = kernel.len();
        if count == 0 || count > 2 {
            return Err(context
                .unsupported(format!("a window over {count} spatial axes"), "one or two spatial axes are supported"));
        }
        let strides = context.attributes.extents("strides", count, 1)?;
        let dilations = context.attributes.extents("dilations", count, 1)?;
        let admitted = 1..=WINDOW_EXTENT_MAX;
        if !kernel.iter().chain(&strides).chain(&dilations).all(|extent| admitted.contains(extent)) {
            return Err(context.invalid(format!("kernel, strides and dilations must be 1 to {WINDOW_EXTENT_MAX}")));
        }
        Ok(Window { kernel, strides, dilations, pads_begin: vec![0; count], pads_end: vec![0; count] })
    }

    /// Extent of the dilated kernel.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Resolves explicit or automatic padding for this spatial input.
    fn pad(&mut self, context: &Context<'_>, spatial: &[usize]) -> Result<(), ModelError> {
        let count = self.kernel.len();
        match auto_pad(context)? {
            AutoPad::None => {
                let pads = context.attributes.extents("pads", 2 * count, 0)?;
                if pads.iter().any(|&pad| pad > WINDOW_EXTENT_MAX) {
                    return Err(context.invalid("its padding is too large"));
                }
                self.pads_begin = pads[..count].to_vec();
                self.pads_end = pads[count..].to_vec();
            }
            AutoPad::Valid => {}
            same @ (AutoPad::SameUpper | AutoPad::SameLower) => {
                for (axis, &extent) in spatial.iter().enumerate() {
                    let outputs = extent.div_ceil(self.strides[axis]);
                    let covered = outputs.saturating_sub(1) * self.strides[axis] + self.reach(axis);
                    let total = covered.saturating_sub(extent);
                    let begin = if matches!(same, AutoPad::SameUpper) { total / 2 } else { total.div_ceil(2) };
                    self.pads_begin[axis] = begin;
                    self.pads_end[axis] = total - begin;
                }
            }
        }
        Ok(())
    }

    /// Output extents of a sliding window.
    fn output(&self, context: &Context<'_>, spatial: &[usize], ceil: bool) -> Result<Vec<usize>, ModelError> {
        (0..self.kernel.len())
            .map(|axis| {
                let padded = spatial[axis] + self.pads_begin[axis] + self.pads_end[axis];
                let room = padded.checked_sub(self.reach(axis)).ok_or_else(|| {
                    context.invalid(format!(
                        "its window of extent {} does not fit the padded input of extent {padded}",
                        self.reach(axis)
                    ))
                })?;
                let stride = self.strides[axis];
                if !ceil {
                    return Ok(room / stride + 1);
                }
                let outputs = room.div_ceil(stride) + 1;
                // The last window must begin inside the input or the padding before it.
                let is_outside = (outputs - 1) * stride >= spatial[axis] + self.pads_begin[axis];
                Ok(if is_outside { outputs - 1 } else { outputs })
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
enum AutoPad {
    None,
    Valid,
    SameUpper,
    SameLower,
}

fn auto_pad(context: &Context<'_>) -> Result<AutoPad, ModelError> {
    match context.attributes.text("auto_pad")? {
        None | Some("" | "NOTSET") => Ok(AutoPad::None),
        Some("VALID") => Ok(AutoPad::Valid),
        Some("SAME_UPPER") => Ok(AutoPad::SameUpper),
        Some("SAME_LOWER") => Ok(AutoPad::SameLower),
        Some(other) => Err(context.invalid(format!("attribute `auto_pad` has the unknown value `{other}`"))),
    }
}

/// Splits `[N, C, spatial…]`.
fn image<'s>(context: &Context<'_>, shape: &'s [usize]) -> Result<(usize, usize, &'s [usize]), ModelError> {
    match shape {
        [batch, channels, spatial @ ..] if !spatial.is_empty() => Ok((*batch, *channels, spatial)),
        _ => Err(context.invalid(format!("its input of shape {shape:?} is no batch of images (N, C, spatial axes)"))),
    }
}

fn kernel_extents(context: &Context<'_>, weights: &[usize]) -> Result<Vec<usize>, ModelError> {
    let spatial = weights.get(2..).unwrap_or_default().to_vec();
    if let Some(declared) = context.attributes.ints("kernel_shape")? {
        let same = declared.len() == spatial.len()
            && declared.iter().zip(&spatial).all(|(&declared, &extent)| declared == extent as i64);
        if !same {
            return Err(
                context.invalid(format!("`kernel_shape` {declared:?} contradicts weights of shape {weights:?}"))
            );
        }
    }
    Ok(spatial)
}

fn group(context: &Context<'_>) -> Result<usize, ModelError> {
    let group = context.attributes.int("group")?.unwrap_or(1);
    usize::try_from(group)
        .ok()
        .filter(|&group| group > 0 && group <= u32::MAX as usize)
        .ok_or_else(|| context.invalid(format!("`group` is {group}, which must be positive")))
}

fn check_bias(context: &Context<'_>, channels: usize) -> Result<usize, ModelError> {
    let Some(_) = context.optional(2) else { return Ok(2) };
    let bias = context.float_input(2)?;
    if bias.shape != [channels] {
        return Err(context.invalid(format!("its bias has shape {:?} where [{channels}] is needed", bias.shape)));
    }
    Ok(3)
}

pub(super) fn conv(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, weights) = (context.float_input(0)?, context.float_input(1)?);
    let (batch, channels, spatial) = image(context, &x.shape)?;
    let group = group(context)?;
    let fits = weights.shape.len() == x.shape.len()
        && weights.shape[1].checked_mul(group) == Some(channels)
        && weights.shape[0].is_multiple_of(group);
    if !fits {
        return Err(context.invalid(format!(
            "weights of shape {:?} in {group} groups do not fit an input of shape {:?}",
            weights.shape, x.shape
        )));
    }
    let mut window = Window::read(context, kernel_extents(context, &weights.shape)?)?;
    window.pad(context, spatial)?;
    let outputs = weights.shape[0];
    let mut shape = vec![batch, outputs];
    shape.extend(window.output(context, spatial, false)?);
    let count = check_bias(context, outputs)?;
    let output_padding = vec![0; spatial.len()];
    Ok(Lowered::op(OpKind::Conv(attributes(window, group, output_padding)), count, DataType::F32, shape))
}

pub(super) fn conv_transpose(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let (x, weights) = (context.float_input(0)?, context.float_input(1)?);
    let (batch, channels, spatial) = image(context, &x.shape)?;
    let group = group(context)?;
    let fits = weights.shape.len() == x.shape.len() && weights.shape[0] == channels && channels.is_multiple_of(group);
    if !fits {
        return Err(context.invalid(format!(
            "weights of shape {:?} in {group} groups do not fit an input of shape {:?}",
            weights.shape, x.shape
        )));
    }
    let mut window = Window::read(context, kernel_extents(context, &weights.shape)?)?;
    let output_padding = context.attributes.extents("output_padding", spatial.len(), 0)?;
    if output_padding.iter().any(|&padding| padding > WINDOW_EXTENT_MAX) {
        return Err(context.invalid("its output padding is too large"));
    }
    let full: Vec<usize> = (0..spatial.len())
        .map(|axis| window.strides[axis] * spatial[axis].saturating_sub(1) + window.reach(axis) + output_padding[axis])
        .collect();
    let auto = auto_pad(context)?;
    let wanted: Option<Vec<usize>> = match (context.attributes.ints("output_shape")?, auto) {
        (Some(shape), _) => {
            // Some exporters write batch and channels too.
            let spatial_part = shape.get(shape.len().saturating_sub(spatial.len())..).unwrap_or_default();
            let extents: Result<Vec<usize>, _> = spatial_part.iter().map(|&extent| usize::try_from(extent)).collect();
            let extents = extents.ok().filter(|extents| extents.len() == spatial.len());
            Some(extents.ok_or_else(|| context.invalid(format!("`output_shape` {shape:?} does not fit the input")))?)
        }
        (None, AutoPad::SameUpper | AutoPad::SameLower) => {
            Some(spatial.iter().zip(&window.strides).map(|(extent, stride)| extent * stride).collect())
        }
        (None, AutoPad::None | AutoPad::Valid) => None,
    };
    if let Some(wanted) = wanted {
        for axis in 0..spatial.len() {
            let total = full[axis].checked_sub(wanted[axis]).ok_or_else(|| {
                context.unsupported(
                    format!("an output extent of {}, larger than the {} it can make", wanted[axis], full[axis]),
                    "state `output_padding` instead of `output_shape`",
                )
            })?;
            let begin = if matches!(auto, AutoPad::SameUpper) { total / 2 } else { total.div_ceil(2) };
            window.pads_begin[axis] = begin;
            window.pads_end[axis] = total - begin;
        }
    } else {
        window.pad(context, spatial)?;
    }
    let mut shape = vec![batch, weights.shape[1] * group];
    for (axis, extent) in full.iter().enumerate() {
        let extent = extent.checked_sub(window.pads_begin[axis] + window.pads_end[axis]).filter(|&extent| extent > 0);
        shape.push(extent.ok_or_else(|| context.invalid("its padding removes the whole output"))?);
    }
    let count = check_bias(context, shape[1])?;
    Ok(Lowered::op(OpKind::ConvTranspose(attributes(window, group, output_padding)), count, DataType::F32, shape))
}

fn attributes(window: Window, group: usize, output_padding: Vec<usize>) -> ConvAttributes {
    let Window { kernel, strides, dilations, pads_begin, pads_end } = window;
    ConvAttributes { kernel, strides, dilations, pads_begin, pads_end, group, output_padding }
}

pub(super) fn pool(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let (batch, channels, spatial) = image(context, &x.shape)?;
    if context.node.output.get(1).is_some_and(|name| !name.is_empty()) {
        return Err(context.unsupported("the second output (indices)", "leave the part that reads it out of the model"));
    }
    if context.attributes.ints("kernel_shape")?.is_none() {
        return Err(context.invalid("attribute `kernel_shape` is missing"));
    }
    let mut window = Window::read(context, context.attributes.extents("kernel_shape", spatial.len(), 1)?)?;
    window.pad(context, spatial)?;
    if (0..spatial.len()).any(|axis| window.pads_begin[axis].max(window.pads_end[axis]) >= window.reach(axis)) {
        return Err(context.invalid("its padding is as large as the window, so that a window would hold padding only"));
    }
    let mut shape = vec![batch, channels];
    shape.extend(window.output(context, spatial, context.attributes.flag("ceil_mode", false)?)?);
    let count_include_pad = context.attributes.flag("count_include_pad", false)?;
    let Window { kernel, strides, dilations, pads_begin, pads_end } = window;
    let attributes = PoolAttributes { kernel, strides, dilations, pads_begin, pads_end, count_include_pad };
    let kind = match context.node.op_type() {
        "MaxPool" => OpKind::MaxPool(attributes),
        _ => OpKind::AveragePool(attributes),
    };
    Ok(Lowered::op(kind, 1, DataType::F32, shape))
}

pub(super) fn global_pool(context: &Context<'_>, kind: OpKind) -> Result<Lowered, ModelError> {
    let x = context.float_input(0)?;
    let (batch, channels, spatial) = image(context, &x.shape)?;
    let mut shape = vec![batch, channels];
    shape.resize(2 + spatial.len(), 1);
    Ok(Lowered::op(kind, 1, DataType::F32, shape))
}
