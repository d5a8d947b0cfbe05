//! The constants of a graph while transformations change them.

use holdfast_common::graph::{Graph, OpId};
use holdfast_common::model::{ConstantEdit, ModelEdit};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;

/// Float constants by their reader, changed or not.
pub(super) struct Constants<'a> {
    graph: &'a Graph,
    changed: BTreeMap<(OpId, usize), ArrayD<f32>>,
}

impl<'a> Constants<'a> {
    /// Those of the graph.
    pub(super) fn of(graph: &'a Graph) -> Constants<'a> {
        Constants { graph, changed: BTreeMap::new() }
    }

    /// The constant an operation reads at an input.
    pub(super) fn get(&self, op: OpId, input: usize) -> Option<&ArrayD<f32>> {
        self.changed.get(&(op, input)).or_else(|| self.graph.constant_input(op, input)?.as_f32())
    }

    /// Replaces it.
    pub(super) fn set(&mut self, op: OpId, input: usize, values: ArrayD<f32>) {
        self.changed.insert((op, input), values);
    }

    /// Applies `change` to every element with its index along an axis; a constant that lacks the axis, or has it once,
    /// is repeated along it first. The axis is counted from the last one back. Gives whether there was a constant.
    pub(super) fn scale(
        &mut self,
        op: OpId,
        input: usize,
        back: usize,
        extent: usize,
        change: impl Fn(f64, usize) -> f64,
    ) -> bool {
        let Some(values) = self.get(op, input) else { return false };
        let rank = values.ndim().max(back + 1);
        let mut shape = vec![1; rank - values.ndim()];
        shape.extend(values.shape());
        let axis = rank - 1 - back;
        if shape[axis] == 1 {
            shape[axis] = extent;
        }
        let Some(repeated) = values.broadcast(IxDyn(&shape)) else { return false };
        let mut repeated = repeated.to_owned();
        for (index, value) in repeated.indexed_iter_mut() {
            *value = change(f64::from(*value), index[axis]) as f32;
        }
        self.set(op, input, repeated);
        true
    }

    /// All changes.
    pub(super) fn edit(self) -> ModelEdit {
        let graph = self.graph;
        let constants = self.changed.into_iter().map(|((op, input), values)| ConstantEdit {
            operation: graph.op(op).name.clone(),
            input,
            tensor: graph.tensor(graph.op(op).inputs[input]).name.clone(),
            values,
        });
        ModelEdit { constants: constants.collect(), multiplications: Vec::new() }
    }
}
