//! From a model and concrete input shapes to a graph: shape inference, constant folding, removal of what nobody needs.

mod convolution;
mod elementwise;
mod evaluate;
mod general;
mod layout;
mod lowering;
mod product;
mod recurrent;
mod reduction;
mod resize;
mod shape;
mod source;

use super::error::ModelError;
use super::{Model, ModelInput};
use crate::graph::{Graph, Op, OpId, Tensor, TensorData, TensorId};
use crate::onnx::element_count;
use crate::onnx::schema::NodeProto;
use lowering::{Context, Lowered, Operand, lower};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Folded constants with more elements than this stay operations.
const FOLDED_ELEMENTS_MAX: usize = 1 << 26;

/// No tensor may have more elements than this.
const TENSOR_ELEMENTS_MAX: usize = 1 << 33;

impl Model {
    /// The graph for these input shapes; inputs whose shape the model fixes may be left out.
    pub fn graph(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, ModelError> {
        if let Some(input) = shapes.keys().find(|name| !self.inputs.iter().any(|input| input.name == **name)) {
            let known: Vec<String> = self.inputs.iter().map(|known| format!("`{}`", known.name)).collect();
            return Err(ModelError::UnknownInput { input: input.clone(), known: known.join(", ") });
        }
        let mut importer = Importer { model: self, graph: Graph::default(), by_name: BTreeMap::new() };
        for input in &self.inputs {
            let shape = input_shape(input, shapes.get(&input.name))?;
            let id = importer.add_tensor(Tensor {
                name: input.name.clone(),
                data_type: input.data_type,
                shape,
                producer: None,
                consumers: Vec::new(),
                constant: None,
            });
            importer.graph.inputs.push(id);
        }
        for node in self.nodes() {
            importer.import(node)?;
        }
        for output in self.outputs() {
            let id =
                importer.tensor(output).ok_or_else(|| ModelError::UndefinedOutput { tensor: output.to_owned() })?;
            importer.graph.outputs.push(id);
        }
        Ok(compact(&importer.graph))
    }
}

/// Checks a given shape against the declared one, or takes the declared one where it is concrete.
fn input_shape(input: &ModelInput, given: Option<&Vec<usize>>) -> Result<Vec<usize>, ModelError> {
    let declared = || {
        let dims: Vec<String> =
            input.dims.iter().map(|dim| dim.map_or("?".to_owned(), |extent| extent.to_string())).collect();
        format!("[{}]", dims.join(", "))
    };
    let Some(given) = given else {
        let fixed: Option<Vec<usize>> = input.dims.iter().copied().collect();
        return fixed.ok_or_else(|| ModelError::MissingShape { input: input.name.clone(), declared: declared() });
    };
    let admits = given.len() == input.dims.len()
        && given.iter().zip(&input.dims).all(|(&extent, dim)| extent > 0 && dim.is_none_or(|dim| dim == extent))
        && element_count(given).is_some_and(|count| count <= TENSOR_ELEMENTS_MAX);
    if !admits {
        return Err(ModelError::InputShape { input: input.name.clone(), declared: declared(), given: given.clone() });
    }
    Ok(given.clone())
}

struct Importer<'a> {
    model: &'a Model,
    graph: Graph,
    by_name: BTreeMap<String, TensorId>,
}

impl Importer<'_> {
    fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        let id = TensorId(self.graph.tensors.len());
        self.by_name.insert(tensor.name.clone(), id);
        self.graph.tensors.push(tensor);
        id
    }

    fn add_constant(&mut self, name: &str, data: Arc<TensorData>) -> TensorId {
        self.add_tensor(Tensor {
            name: name.to_owned(),
            data_type: data.data_type(),
            shape: data.shape().to_vec(),
            producer: None,
            consumers: Vec::new(),
            constant: Some(data),
        })
    }

    /// The tensor of this name; constants of the model enter the graph when they are first asked for.
    fn tensor(&mut self, name: &str) -> Option<TensorId> {
        if let Some(&id) = self.by_name.get(name) {
            return Some(id);
        }
        let data = Arc::clone(self.model.constants.get(name)?);
        Some(self.add_constant(name, data))
    }

    fn import(&mut self, node: &NodeProto) -> Result<(), ModelError> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { self.tensor(name) });
        }
        let context =
            Context::new(node, self.model.opset, inputs.iter().map(|id| id.map(|id| self.graph.tensor(id))).collect());
        match lower(&context)? {
            Lowered::Constant(data) => {
                self.add_constant(&node.output[0], Arc::new(data));
            }
            Lowered::Op { kind, operands, outputs } => {
                for (_, shape) in &outputs {
                    if element_count(shape).is_none_or(|count| count > TENSOR_ELEMENTS_MAX) {
                        let reason = format!("its output of shape {shape:?} is too large");
                        return Err(ModelError::invalid(node, reason));
                    }
                }
                let operands: Vec<TensorId> = operands
                    .into_iter()
                    .filter_map(|operand| match operand {
                        Operand::Input(position) => inputs.get(position).copied().flatten(),
                        Operand::Constant { role, data } => {
                            Some(self.add_constant(&format!("{}.{role}", node.name()), Arc::new(data)))
                        }
                    })
                    .collect();
                let constants: Option<Vec<&TensorData>> =
                    operands.iter().map(|id| self.graph.tensor(*id).constant.as_deref()).collect();
                let is_small = outputs.iter().all(|(_, shape)| shape.iter().product::<usize>() <= FOLDED_ELEMENTS_MAX);
                let folded = constants
                    .filter(|_| is_small)
                    .and_then(|constants| evaluate::evaluate(&kind, &constants, &outputs));
                let names: Vec<String> = (0..outputs.len()).map(|index| output_name(node, index)).collect();
                if let Some(values) = folded {
                    for (name, data) in names.iter().zip(values) {
                        self.add_constant(name, Arc::new(data));
                    }
                    return Ok(());
                }
                let op = OpId(self.graph.ops.len());
                for (position, id) in operands.iter().enumerate() {
                    self.graph.tensors[id.0].consumers.push((op, position));
                }
                let outputs = names
                    .into_iter()
                    .zip(outputs)
                    .map(|(name, (data_type, shape))| {
                        self.add_tensor(Tensor {
                            name,
                            data_type,
                            shape,
                            producer: Some(op),
                            consumers: Vec::new(),
                            constant: None,
                        })
                    })
                    .collect();
                self.graph.ops.push(Op { name: node.name().to_owned(), kind, inputs: operands, outputs });
            }
        }
        Ok(())
    }
}

/// The name of an output, also of one that the model does not name because nobody reads it.
fn output_name(node: &NodeProto, index: usize) -> String {
    match node.output.get(index).map(String::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("{}/output {index}", node.name()),
    }
}

/// The same graph without operations and tensors that no output depends on.
fn compact(graph: &Graph) -> Graph {
    let mut alive_tensors: BTreeSet<TensorId> = graph.outputs.iter().chain(&graph.inputs).copied().collect();
    let mut alive_ops: BTreeSet<OpId> = BTreeSet::new();
    for index in (0..graph.ops.len()).rev() {
        let op = &graph.ops[index];
        if op.outputs.iter().any(|id| alive_tensors.contains(id)) {
            alive_ops.insert(OpId(index));
            alive_tensors.extend(op.inputs.iter().chain(&op.outputs));
        }
    }
    let tensor_ids: BTreeMap<TensorId, TensorId> =
        alive_tensors.iter().enumerate().map(|(new, old)| (*old, TensorId(new))).collect();
    let op_ids: BTreeMap<OpId, OpId> = alive_ops.iter().enumerate().map(|(new, old)| (*old, OpId(new))).collect();
    let rename = |ids: &[TensorId]| ids.iter().filter_map(|id| tensor_ids.get(id).copied()).collect();
    let tensor = |id: &TensorId| {
        let old = graph.tensor(*id);
        Tensor {
            producer: old.producer.and_then(|op| op_ids.get(&op).copied()),
            consumers: old.consumers.iter().filter_map(|(op, position)| Some((*op_ids.get(op)?, *position))).collect(),
            ..old.clone()
        }
    };
    let op = |id: &OpId| {
        let old = graph.op(*id);
        Op {
            name: old.name.clone(),
            kind: old.kind.clone(),
            inputs: rename(&old.inputs),
            outputs: rename(&old.outputs),
        }
    };
    Graph {
        tensors: alive_tensors.iter().map(tensor).collect(),
        ops: alive_ops.iter().map(op).collect(),
        inputs: rename(&graph.inputs),
        outputs: rename(&graph.outputs),
    }
}
