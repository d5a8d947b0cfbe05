//! A model while it is being normalized.

use super::error::{ModelError, NodePlace};
use crate::graph::TensorData;
use crate::onnx::schema::{NodeProto, ValueInfoProto};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// The parts that the passes change.
pub(super) struct Draft {
    pub nodes: Vec<NodeProto>,
    pub constants: BTreeMap<String, Arc<TensorData>>,
    pub inputs: Vec<ValueInfoProto>,
    pub outputs: Vec<ValueInfoProto>,
    /// Ranks of tensors as far as the file declares them.
    pub ranks: BTreeMap<String, usize>,
    pub opset: i64,
    /// Every tensor name in use.
    pub names: BTreeSet<String>,
}

impl Draft {
    /// A tensor name that is not in use yet, made from `base`.
    pub fn fresh_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut count = 1usize;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{base}#{count}");
        }
        name
    }

    /// Adds a constant under a name made from `base`, and returns that name.
    pub fn add_constant(&mut self, base: &str, data: TensorData) -> String {
        let name = self.fresh_name(base);
        self.constants.insert(name.clone(), Arc::new(data));
        name
    }

    /// How often each tensor is read, by nodes or as an output of the model.
    pub fn read_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let node_inputs = self.nodes.iter().flat_map(|node| node.input.iter().map(String::as_str));
        let outputs = self.outputs.iter().map(|output| output.name());
        for name in node_inputs.chain(outputs).filter(|name| !name.is_empty()) {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        counts
    }

    /// Whether the model's caller sees this tensor as an output.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.iter().any(|output| output.name() == tensor)
    }

    /// Sorts nodes topologically, ties in file order, and checks that every tensor has exactly one maker.
    pub fn sort(&mut self) -> Result<(), ModelError> {
        let mut maker: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        let given = self.inputs.iter().map(|input| input.name()).chain(self.constants.keys().map(String::as_str));
        let made = self.nodes.iter().enumerate().flat_map(|(index, node)| {
            node.output.iter().filter(|name| !name.is_empty()).map(move |name| (name.as_str(), Some(index)))
        });
        for (name, index) in given.map(|name| (name, None)).chain(made) {
            if maker.insert(name, index).is_some() {
                return Err(ModelError::DuplicateTensor { tensor: name.to_owned() });
            }
        }
        let mut waiting = vec![0usize; self.nodes.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                match maker.get(name.as_str()) {
                    None => {
                        let place = NodePlace::of(node);
                        return Err(ModelError::UndefinedTensor { place, tensor: name.clone() });
                    }
                    Some(None) => {}
                    Some(Some(producer)) => {
                        waiting[index] += 1;
                        readers[*producer].push(index);
                    }
                }
            }
        }
        if let Some(output) = self.outputs.iter().find(|output| !maker.contains_key(output.name())) {
            return Err(ModelError::UndefinedOutput { tensor: output.name().to_owned() });
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..self.nodes.len()).filter(|&index| waiting[index] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for &reader in &readers[index] {
                waiting[reader] -= 1;
                if waiting[reader] == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
        if let Some(stuck) = waiting.iter().position(|&count| count > 0) {
            return Err(ModelError::Cycle { place: NodePlace::of(&self.nodes[stuck]) });
        }
        let mut slots: Vec<Option<NodeProto>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|index| slots[index].take()).collect();
        Ok(())
    }

    /// Drops nodes that no output depends on, and constants that nobody reads. Nodes must be sorted.
    pub fn drop_dead(&mut self) {
        let mut wanted: BTreeSet<String> = self.outputs.iter().map(|output| output.name().to_owned()).collect();
        let mut alive = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if node.output.iter().any(|name| wanted.contains(name)) {
                alive[index] = true;
                wanted.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
            }
        }
        let mut flags = alive.into_iter();
        self.nodes.retain(|_| flags.next().unwrap_or(false));
        self.constants.retain(|name, _| wanted.contains(name));
    }
}
