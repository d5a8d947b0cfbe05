//! The passes that bring any accepted file into normal form, except those that depend on the operator set's version.

use super::attributes::Attributes;
use super::draft::Draft;
use super::error::ModelError;
use crate::graph::TensorData;
use crate::onnx::schema::{AttributeProto, NodeProto, ValueInfoProto, data_type};
use ndarray::{ArrayD, IxDyn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Makes Constant nodes into constants of the model.
pub(super) fn constants_from_nodes(draft: &mut Draft) -> Result<(), ModelError> {
    let mut kept = Vec::with_capacity(draft.nodes.len());
    for node in std::mem::take(&mut draft.nodes) {
        if !(node.is_standard() && node.op_type() == "Constant") {
            kept.push(node);
            continue;
        }
        let [output] = node.output.as_slice() else {
            return Err(ModelError::invalid(&node, "it must have exactly one output"));
        };
        let data = constant_value(&node)?;
        draft.ranks.insert(output.clone(), data.shape().len());
        if draft.constants.insert(output.clone(), Arc::new(data)).is_some() {
            return Err(ModelError::DuplicateTensor { tensor: output.clone() });
        }
    }
    draft.nodes = kept;
    Ok(())
}

fn constant_value(node: &NodeProto) -> Result<TensorData, ModelError> {
    let attributes = Attributes(node);
    if let Some(data) = attributes.tensor("value")? {
        return Ok(data);
    }
    if let Some(value) = attributes.float("value_float")? {
        return Ok(TensorData::F32(ArrayD::from_elem(IxDyn(&[]), value)));
    }
    if let Some(value) = attributes.int("value_int")? {
        return Ok(TensorData::I64(ArrayD::from_elem(IxDyn(&[]), value)));
    }
    if let Some(values) = attributes.floats("value_floats")? {
        return Ok(TensorData::F32(ndarray::arr1(values).into_dyn()));
    }
    if let Some(values) = attributes.ints("value_ints")? {
        return Ok(TensorData::I64(ndarray::arr1(values).into_dyn()));
    }
    Err(ModelError::unsupported(node, "a constant without a dense numeric value", "store it as an initializer"))
}

/// Gives every node a unique name: its own, or its first output's, with a count where that is taken.
pub(super) fn name_nodes(draft: &mut Draft) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for node in &mut draft.nodes {
        let base = match node.name() {
            "" => node.output.first().cloned().unwrap_or_default(),
            name => name.to_owned(),
        };
        let mut name = base.clone();
        let mut count = 1usize;
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}#{count}");
        }
        node.name = Some(name);
    }
}

/// Makes half and double floats of inputs, outputs, casts and constant fills 32-bit floats, as constants are already.
pub(super) fn widen_floats(draft: &mut Draft) {
    let is_other_float = |number: i32| matches!(number, data_type::FLOAT16 | data_type::BFLOAT16 | data_type::DOUBLE);
    let widen_info = |info: &mut ValueInfoProto| {
        if let Some(tensor) = info.r#type.as_mut().and_then(|of| of.tensor_type.as_mut())
            && tensor.elem_type.is_some_and(is_other_float)
        {
            tensor.elem_type = Some(data_type::FLOAT);
        }
    };
    draft.inputs.iter_mut().for_each(widen_info);
    draft.outputs.iter_mut().for_each(widen_info);
    for node in &mut draft.nodes {
        let is_cast = node.op_type() == "Cast";
        for attribute in &mut node.attribute {
            if is_cast && attribute.name.as_deref() == Some("to") {
                let target = attribute.i.unwrap_or(0);
                if i32::try_from(target).is_ok_and(is_other_float) {
                    attribute.i = Some(i64::from(data_type::FLOAT));
                }
            }
            if let Some(tensor) = &mut attribute.t
                && tensor.data_type.is_some_and(is_other_float)
                && let Ok(data) = crate::onnx::decode_tensor(tensor)
            {
                *tensor = crate::onnx::encode_tensor(tensor.name.as_deref().unwrap_or_default(), &data);
            }
        }
    }
}

/// Removes Identity and (inference) Dropout nodes; one that makes a model output stays only where it must.
pub(super) fn remove_identities(draft: &mut Draft) -> Result<(), ModelError> {
    let outputs: BTreeSet<String> = draft.outputs.iter().map(|output| output.name().to_owned()).collect();
    let read = draft.read_counts();
    let mut alias: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Vec::with_capacity(draft.nodes.len());
    for mut node in std::mem::take(&mut draft.nodes) {
        for input in &mut node.input {
            if let Some(source) = alias.get(input) {
                input.clone_from(source);
            }
        }
        if node.op_type() == "Dropout" {
            check_dropout(&node, draft, &read)?;
            node = NodeProto {
                input: node.input[..1].to_vec(),
                output: node.output[..1].to_vec(),
                op_type: Some("Identity".to_owned()),
                attribute: Vec::new(),
                ..node
            };
        }
        if node.op_type() == "Identity" && !outputs.contains(&node.output[0]) {
            alias.insert(node.output[0].clone(), node.input[0].clone());
        } else {
            kept.push(node);
        }
    }
    // An output that is only another name of an inner tensor: the inner tensor takes the output's name.
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let made: BTreeSet<String> = kept.iter().flat_map(|node| node.output.iter().cloned()).collect();
    kept.retain(|node| {
        let removable = node.op_type() == "Identity"
            && made.contains(&node.input[0])
            && !outputs.contains(&node.input[0])
            && !renamed.contains_key(&node.input[0]);
        if removable {
            renamed.insert(node.input[0].clone(), node.output[0].clone());
        }
        !removable
    });
    for node in &mut kept {
        for name in node.input.iter_mut().chain(&mut node.output) {
            if let Some(output) = renamed.get(name) {
                name.clone_from(output);
            }
        }
    }
    draft.nodes = kept;
    Ok(())
}

fn check_dropout(node: &NodeProto, draft: &Draft, read: &BTreeMap<String, usize>) -> Result<(), ModelError> {
    if node.output.get(1).is_some_and(|mask| read.contains_key(mask)) {
        return Err(ModelError::unsupported(node, "a mask that is read", "export the model for inference"));
    }
    let training = node.present_input(2).map(|name| draft.constants.get(name).and_then(|data| data.to_i64()));
    match training {
        None => Ok(()),
        Some(Some(values)) if values.iter().all(|&value| value == 0) => Ok(()),
        Some(_) => Err(ModelError::unsupported(node, "training mode", "export the model for inference")),
    }
}

/// The mean of several inputs as their sum, a chain of additions, over their number.
fn mean(draft: &mut Draft, node: NodeProto) -> Vec<NodeProto> {
    let (name, output) = (node.name().to_owned(), node.output[0].clone());
    let count = node.input.len();
    let mut nodes = Vec::with_capacity(count);
    let mut left = node.input[0].clone();
    for (index, right) in node.input.iter().enumerate().skip(1) {
        let partial = draft.fresh_name(&format!("{output}/{index}"));
        nodes.push(plain_node("Add", &format!("{name}/{index}"), &[&left, right], &partial));
        left = partial;
    }
    let count = TensorData::F32(ArrayD::from_elem(IxDyn(&[]), count as f32));
    let count = draft.add_constant(&format!("{name}.count"), count);
    nodes.push(plain_node("Div", &name, &[&left, &count], &output));
    nodes
}

/// Makes Sum, Mean, Max and Min of several inputs into chains of two-input operators.
pub(super) fn chain_variadic(draft: &mut Draft) {
    let mut nodes = Vec::with_capacity(draft.nodes.len());
    for mut node in std::mem::take(&mut draft.nodes) {
        let operator = match node.op_type() {
            "Sum" => "Add",
            "Mean" => {
                nodes.extend(mean(draft, node));
                continue;
            }
            "Max" => "Max",
            "Min" => "Min",
            _ => {
                nodes.push(node);
                continue;
            }
        };
        let inputs = std::mem::take(&mut node.input);
        let (name, output) = (node.name().to_owned(), node.output[0].clone());
        if let [only] = inputs.as_slice() {
            nodes.push(NodeProto { input: vec![only.clone()], op_type: Some("Identity".to_owned()), ..node });
            continue;
        }
        let mut left = inputs[0].clone();
        for (index, right) in inputs.iter().enumerate().skip(1) {
            let is_last = index + 1 == inputs.len();
            let partial = if is_last { output.clone() } else { draft.fresh_name(&format!("{output}/{index}")) };
            nodes.push(NodeProto {
                input: vec![left, right.clone()],
                output: vec![partial.clone()],
                name: Some(if is_last { name.clone() } else { format!("{name}/{index}") }),
                op_type: Some(operator.to_owned()),
                ..node.clone()
            });
            left = partial;
        }
    }
    draft.nodes = nodes;
    name_nodes(draft);
}

/// A node of the standard operators without attributes.
pub(super) fn plain_node(operator: &str, name: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(name.to_owned()),
        op_type: Some(operator.to_owned()),
        ..NodeProto::default()
    }
}

/// The same node with one more attribute.
pub(super) fn with_attribute(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}
