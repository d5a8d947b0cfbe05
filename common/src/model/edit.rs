//! A model with other constants and a few more multiplications: what transformations that keep its function make of it.

use super::draft::Draft;
use super::normalize::{name_nodes, plain_node};
use super::{Model, ModelError};
use crate::graph::TensorData;
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::Arc;

/// New values of a float constant, for one of its readers.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantEdit {
    /// The operation that reads it.
    pub operation: String,
    /// At which input.
    pub input: usize,
    /// The constant's name.
    pub tensor: String,
    /// What the operation is to read instead.
    pub values: ArrayD<f32>,
}

/// A multiplication between a tensor and some of its readers.
#[derive(Clone, Debug, PartialEq)]
pub struct Multiplication {
    /// The tensor.
    pub tensor: String,
    /// Who reads the product instead, as (operation, input position).
    pub readers: Vec<(String, usize)>,
    /// The factors, broadcast over the tensor.
    pub factors: ArrayD<f32>,
}

/// All that changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelEdit {
    /// Constants.
    pub constants: Vec<ConstantEdit>,
    /// Multiplications.
    pub multiplications: Vec<Multiplication>,
}

impl ModelEdit {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.constants.is_empty() && self.multiplications.is_empty()
    }
}

impl Model {
    /// The model after an edit, in normal form as well: equal arguments give equal bytes.
    ///
    /// A constant that somebody else reads too keeps its values for them. All names but those of new multiplications,
    /// and of constants that were shared, stay.
    ///
    /// # Errors
    ///
    /// When the edit names operations or inputs that the model does not have, or another tensor than they read.
    pub fn edited(&self, edit: &ModelEdit) -> Result<Model, ModelError> {
        let mut proto = self.proto.clone();
        let graph = proto.graph.get_or_insert_default();
        let in_nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned();
        let names = in_nodes
            .chain(self.constants.keys().cloned())
            .chain(graph.input.iter().chain(&graph.output).map(|info| info.name().to_owned()))
            .collect();
        let mut draft = Draft {
            nodes: std::mem::take(&mut graph.node),
            constants: self.constants.clone(),
            inputs: std::mem::take(&mut graph.input),
            outputs: std::mem::take(&mut graph.output),
            ranks: BTreeMap::new(),
            opset: self.opset,
            names,
        };
        let reads = draft.read_counts();
        for ConstantEdit { operation, input, tensor, values } in &edit.constants {
            let only_read_here = reads.get(tensor) == Some(&1) && draft.constants.contains_key(tensor);
            let name = if only_read_here { tensor.clone() } else { draft.fresh_name(&format!("{tensor}/{operation}")) };
            read_place(&mut draft, operation, *input, tensor)?.clone_from(&name);
            draft.constants.insert(name, Arc::new(TensorData::F32(values.clone())));
        }
        for Multiplication { tensor, readers, factors } in &edit.multiplications {
            let factors = draft.add_constant(&format!("{tensor}/factors"), TensorData::F32(factors.clone()));
            let product = draft.fresh_name(&format!("{tensor}/multiplied"));
            for (operation, input) in readers {
                read_place(&mut draft, operation, *input, tensor)?.clone_from(&product);
            }
            draft.nodes.push(plain_node("Mul", &product, &[tensor, &factors], &product));
        }
        name_nodes(&mut draft);
        draft.sort()?;
        draft.drop_dead();
        let Draft { nodes, constants, inputs, outputs, .. } = draft;
        graph.node = nodes;
        graph.input = inputs;
        graph.output = outputs;
        Ok(Model { proto, constants, inputs: self.inputs.clone(), opset: self.opset })
    }
}

/// Where an operation names the tensor it reads at an input.
fn read_place<'a>(
    draft: &'a mut Draft,
    operation: &str,
    input: usize,
    tensor: &str,
) -> Result<&'a mut String, ModelError> {
    let misfit = |reason: String| ModelError::Edit { reason };
    let node = draft.nodes.iter_mut().find(|node| node.name() == operation);
    let node = node.ok_or_else(|| misfit(format!("there is no operation `{operation}`")))?;
    match node.input.get_mut(input) {
        Some(name) if name == tensor => Ok(name),
        Some(name) => {
            Err(misfit(format!("input {input} of operation `{operation}` is `{name}`, the edit is for `{tensor}`")))
        }
        None => Err(misfit(format!("operation `{operation}` has no input {input}"))),
    }
}
