//! Raises nodes of operator sets 7 to 12 to the forms of operator set 13, which per-channel dequantization needs.
//!
//! Source: the version histories in the ONNX operator specification. Operators that are not mentioned mean the same in
//! both versions for every form that is accepted here.

use super::attributes::Attributes;
use super::draft::Draft;
use super::error::ModelError;
use super::normalize::{name_nodes, plain_node, with_attribute};
use crate::graph::TensorData;
use crate::onnx::schema::{AttributeProto, NodeProto};
use ndarray::{ArrayD, IxDyn, arr1};

const TARGET: i64 = 13;

/// Rewrites the nodes and sets the draft's operator set to at least 13.
pub(super) fn raise(draft: &mut Draft) -> Result<(), ModelError> {
    if draft.opset >= TARGET {
        return Ok(());
    }
    let mut raised = Vec::with_capacity(draft.nodes.len());
    for node in std::mem::take(&mut draft.nodes) {
        for output in &node.output {
            if matches!(node.op_type(), "Gemm" | "Flatten") {
                draft.ranks.insert(output.clone(), 2);
            }
        }
        match node.op_type() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" => raised.push(list_to_input(draft, node, "axes", 1)?),
            "Split" => raised.push(list_to_input(draft, node, "split", 1)?),
            "Clip" => raised.push(clip(draft, node)?),
            "Slice" => raised.push(slice(draft, node)?),
            "Pad" => raised.push(pad(draft, node)?),
            "Resize" => raised.push(resize(draft, node)?),
            "Upsample" => raised.push(upsample(draft, node)?),
            "Softmax" | "LogSoftmax" => raised.extend(softmax(draft, node)?),
            "BatchNormalization" => raised.push(batch_normalization(draft, node)?),
            _ => raised.push(node),
        }
    }
    draft.nodes = raised;
    draft.opset = TARGET;
    name_nodes(draft);
    Ok(())
}

/// Moves a list attribute to the input at `position`, unless it is absent or an input already.
fn list_to_input(draft: &mut Draft, mut node: NodeProto, name: &str, position: usize) -> Result<NodeProto, ModelError> {
    let Some(values) = Attributes(&node).ints(name)?.map(<[i64]>::to_vec) else { return Ok(node) };
    node.take_attribute(name);
    set_input(draft, &mut node, position, name, TensorData::I64(arr1(&values).into_dyn()));
    Ok(node)
}

/// Makes a new constant the node's input at `position`; positions between are absent.
fn set_input(draft: &mut Draft, node: &mut NodeProto, position: usize, role: &str, data: TensorData) {
    let name = draft.add_constant(&format!("{}.{role}", node.name()), data);
    if node.input.len() <= position {
        node.input.resize(position + 1, String::new());
    }
    node.input[position] = name;
}

fn scalar(value: f32) -> TensorData {
    TensorData::F32(ArrayD::from_elem(IxDyn(&[]), value))
}

fn clip(draft: &mut Draft, mut node: NodeProto) -> Result<NodeProto, ModelError> {
    let (min, max) = (Attributes(&node).float("min")?, Attributes(&node).float("max")?);
    node.take_attribute("min");
    node.take_attribute("max");
    if let Some(min) = min {
        set_input(draft, &mut node, 1, "min", scalar(min));
    }
    if let Some(max) = max {
        set_input(draft, &mut node, 2, "max", scalar(max));
    }
    Ok(node)
}

fn slice(draft: &mut Draft, node: NodeProto) -> Result<NodeProto, ModelError> {
    let node = list_to_input(draft, node, "starts", 1)?;
    let node = list_to_input(draft, node, "ends", 2)?;
    list_to_input(draft, node, "axes", 3)
}

fn pad(draft: &mut Draft, node: NodeProto) -> Result<NodeProto, ModelError> {
    let value = Attributes(&node).float("value")?;
    let mut node = list_to_input(draft, node, "pads", 1)?;
    node.take_attribute("value");
    if let Some(value) = value {
        set_input(draft, &mut node, 2, "value", scalar(value));
    }
    Ok(node)
}

/// Version 10 has inputs (X, scales) and one way of mapping coordinates; version 11 is that of 13.
fn resize(draft: &mut Draft, mut node: NodeProto) -> Result<NodeProto, ModelError> {
    if draft.opset >= 11 {
        return Ok(node);
    }
    if node.input.len() != 2 {
        return Err(ModelError::invalid(&node, "in operator set 10 it must have two inputs"));
    }
    node.input.insert(1, String::new());
    node.attribute.push(AttributeProto::text("coordinate_transformation_mode", "asymmetric"));
    node.attribute.push(AttributeProto::text("nearest_mode", "floor"));
    Ok(node)
}

fn upsample(draft: &mut Draft, mut node: NodeProto) -> Result<NodeProto, ModelError> {
    node.op_type = Some("Resize".to_owned());
    if let Some(scales) = Attributes(&node).floats("scales")?.map(<[f32]>::to_vec) {
        node.take_attribute("scales");
        set_input(draft, &mut node, 2, "scales", TensorData::F32(arr1(&scales).into_dyn()));
    } else if node.input.len() == 2 {
        node.input.insert(1, String::new());
    } else {
        return Err(ModelError::invalid(&node, "it has no scales"));
    }
    node.attribute.push(AttributeProto::text("coordinate_transformation_mode", "asymmetric"));
    node.attribute.push(AttributeProto::text("nearest_mode", "floor"));
    Ok(node)
}

/// Before version 13 the axes from `axis` on were flattened and normalized together.
fn softmax(draft: &mut Draft, mut node: NodeProto) -> Result<Vec<NodeProto>, ModelError> {
    let axis = Attributes(&node).int("axis")?.unwrap_or(1);
    node.take_attribute("axis");
    let rank = [&node.input[0], &node.output[0]].into_iter().find_map(|name| draft.ranks.get(name).copied());
    let last = rank.map(|rank| rank as i64 - 1);
    if axis == -1 || Some(axis) == last {
        return Ok(vec![with_attribute(node, AttributeProto::int("axis", axis))]);
    }
    let (name, output) = (node.name().to_owned(), node.output[0].clone());
    let source = node.input[0].clone();
    let flat = draft.fresh_name(&format!("{output}/flat"));
    let normalized = draft.fresh_name(&format!("{output}/normalized"));
    let shape = draft.fresh_name(&format!("{output}/shape"));
    node.input[0].clone_from(&flat);
    node.output[0].clone_from(&normalized);
    Ok(vec![
        with_attribute(
            plain_node("Flatten", &format!("{name}/flatten"), &[&source], &flat),
            AttributeProto::int("axis", axis),
        ),
        with_attribute(node, AttributeProto::int("axis", 1)),
        plain_node("Shape", &format!("{name}/shape"), &[&source], &shape),
        plain_node("Reshape", &format!("{name}/reshape"), &[&normalized, &shape], &output),
    ])
}

/// Version 7 had `spatial`; the additional outputs exist for training only.
fn batch_normalization(draft: &Draft, mut node: NodeProto) -> Result<NodeProto, ModelError> {
    if draft.opset < 9 && !Attributes(&node).flag("spatial", true)? {
        return Err(ModelError::unsupported(
            &node,
            "normalization per activation (`spatial` = 0)",
            "export the model with a later operator set",
        ));
    }
    node.take_attribute("spatial");
    Ok(node)
}
