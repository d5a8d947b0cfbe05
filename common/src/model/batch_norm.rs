//! Folds batch normalization into the convolution or product before it.
//!
//! y = (W·x + b − mean)·γ/√(var + ε) + β is W'·x + b' with W' = W·s, b' = b·s + t, s = γ/√(var + ε), t = β − mean·s.
//! The arithmetic is double precision and rounds to float once.

use super::attributes::Attributes;
use super::draft::Draft;
use super::error::ModelError;
use crate::graph::TensorData;
use crate::onnx::schema::{AttributeProto, NodeProto};
use ndarray::{ArrayD, Axis, arr1};
use std::collections::BTreeMap;
use std::sync::Arc;

/// ONNX's default epsilon.
const EPSILON: f32 = 1e-5;

/// Per-channel factors and shifts of a normalization whose statistics are constants.
pub(super) struct ScaleShift {
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
}

/// Reads a BatchNormalization node's constants; `None` when one is no constant.
pub(super) fn scale_shift<'a>(
    node: &NodeProto,
    constant: impl Fn(&str) -> Option<&'a TensorData>,
) -> Result<Option<ScaleShift>, ModelError> {
    if Attributes(node).flag("training_mode", false)? {
        return Err(ModelError::unsupported(node, "training mode", "export the model for inference"));
    }
    let epsilon = f64::from(Attributes(node).float("epsilon")?.unwrap_or(EPSILON));
    let mut parts: Vec<Vec<f64>> = Vec::with_capacity(4);
    for position in 1..5 {
        let Some(data) = node.present_input(position).and_then(&constant) else { return Ok(None) };
        let values = data.as_f32().ok_or_else(|| ModelError::invalid(node, "its statistics are not floats"))?;
        parts.push(values.iter().map(|&value| f64::from(value)).collect());
    }
    let channels = parts[0].len();
    if parts.iter().any(|part| part.len() != channels) {
        return Err(ModelError::invalid(node, "scale, bias, mean and variance differ in length"));
    }
    let [gamma, beta, mean, variance] = [&parts[0], &parts[1], &parts[2], &parts[3]];
    let scale: Vec<f64> =
        gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + epsilon).sqrt()).collect();
    let shift = beta.iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
    Ok(Some(ScaleShift { scale, shift }))
}

/// Folds every normalization that directly follows a Conv, ConvTranspose or Gemm with constant weights and no other reader.
pub(super) fn fold(draft: &mut Draft) -> Result<(), ModelError> {
    let reads = draft.read_counts();
    let producers: BTreeMap<String, usize> =
        draft.nodes.iter().enumerate().map(|(index, node)| (node.output[0].clone(), index)).collect();
    let mut folded = vec![false; draft.nodes.len()];
    for (index, is_folded) in folded.iter_mut().enumerate() {
        if draft.nodes[index].op_type() != "BatchNormalization" {
            continue;
        }
        let node = draft.nodes[index].clone();
        let constants = &draft.constants;
        let Some(affine) = scale_shift(&node, |name| constants.get(name).map(Arc::as_ref))? else { continue };
        let input = &node.input[0];
        let Some(&producer) = producers.get(input) else { continue };
        if reads.get(input) != Some(&1) || draft.is_output(input) {
            continue;
        }
        if fold_into(draft, producer, &affine, &reads)? {
            draft.nodes[producer].output[0].clone_from(&node.output[0]);
            *is_folded = true;
        }
    }
    let mut flags = folded.into_iter();
    draft.nodes.retain(|_| !flags.next().unwrap_or(false));
    Ok(())
}

/// Folds into one node's constants; `false` when that node cannot take it.
fn fold_into(
    draft: &mut Draft,
    index: usize,
    affine: &ScaleShift,
    reads: &BTreeMap<String, usize>,
) -> Result<bool, ModelError> {
    let mut node = draft.nodes[index].clone();
    let channels = affine.scale.len();
    let constant = |position: usize| {
        node.present_input(position).and_then(|name| draft.constants.get(name)).and_then(|data| data.as_f32()).cloned()
    };
    let Some(mut weights) = constant(1) else { return Ok(false) };
    let old_bias = constant(2);
    if old_bias.is_none() && node.present_input(2).is_some() {
        return Ok(false);
    }
    let mut bias_factor = 1.0f64;
    let group = Attributes(&node).int("group")?.unwrap_or(1).max(1) as usize;
    let fits = match node.op_type() {
        "Conv" => scale_slices(&mut weights, 0, &affine.scale),
        "ConvTranspose" => scale_transposed(&mut weights, group, &affine.scale),
        "Gemm" => {
            bias_factor = f64::from(Attributes(&node).float("beta")?.unwrap_or(1.0));
            let axis = usize::from(!Attributes(&node).flag("transB", false)?);
            scale_slices(&mut weights, axis, &affine.scale)
        }
        _ => false,
    };
    let bias_fits =
        old_bias.as_ref().is_none_or(|bias| bias.len() == channels && bias.shape().last() == Some(&channels));
    if !fits || !bias_fits {
        return Ok(false);
    }
    let old = |channel: usize| {
        old_bias.as_ref().and_then(|bias| bias.iter().nth(channel)).map_or(0.0, |&value| f64::from(value))
    };
    let bias: Vec<f32> = (0..channels)
        .map(|channel| (old(channel) * bias_factor * affine.scale[channel] + affine.shift[channel]) as f32)
        .collect();
    if node.op_type() == "Gemm" {
        node.take_attribute("beta");
        node.attribute.push(AttributeProto::float("beta", 1.0));
    }
    let weights_name = replace(draft, &node, 1, "weight", TensorData::F32(weights), reads);
    let bias_name = replace(draft, &node, 2, "bias", TensorData::F32(arr1(&bias).into_dyn()), reads);
    node.input.truncate(1);
    node.input.extend([weights_name, bias_name]);
    draft.nodes[index] = node;
    Ok(true)
}

/// Puts a changed constant in place: under its old name when nobody else reads it, else under a new one.
fn replace(
    draft: &mut Draft,
    node: &NodeProto,
    position: usize,
    role: &str,
    data: TensorData,
    reads: &BTreeMap<String, usize>,
) -> String {
    match node.present_input(position) {
        Some(name) if reads.get(name) == Some(&1) => {
            draft.constants.insert(name.to_owned(), Arc::new(data));
            name.to_owned()
        }
        _ => draft.add_constant(&format!("{}.{role}", node.name()), data),
    }
}

fn scale_slices(weights: &mut ArrayD<f32>, axis: usize, scale: &[f64]) -> bool {
    if weights.shape().get(axis) != Some(&scale.len()) {
        return false;
    }
    for (mut slice, factor) in weights.axis_iter_mut(Axis(axis)).zip(scale) {
        slice.mapv_inplace(|value| (f64::from(value) * factor) as f32);
    }
    true
}

/// Weights `[C, O/group, kernel…]`: output channel o of group g is index o of the rows that belong to g.
fn scale_transposed(weights: &mut ArrayD<f32>, group: usize, scale: &[f64]) -> bool {
    let [inputs, outputs] = [0, 1].map(|axis| weights.shape().get(axis).copied().unwrap_or(0));
    if inputs == 0 || outputs * group != scale.len() || !inputs.is_multiple_of(group) {
        return false;
    }
    let inputs_per_group = inputs / group;
    for (input, mut row) in weights.axis_iter_mut(Axis(0)).enumerate() {
        let first = input / inputs_per_group * outputs;
        for (output, mut slice) in row.axis_iter_mut(Axis(0)).enumerate() {
            let factor = scale[first + output];
            slice.mapv_inplace(|value| (f64::from(value) * factor) as f32);
        }
    }
    true
}
