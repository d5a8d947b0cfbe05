//! Operations that stay float because of their surroundings: runtimes fuse them into a neighbour, or quantizing them
//! is known to hurt.
//!
//! Source: POT's ignored patterns for CPUs, restated for our operations. Where a runtime has one operation for a
//! pattern (swish, hard swish, GELU, layer normalization), its parts count as that operation.

use holdfast_common::graph::{BinaryKind, Graph, Op, OpId, OpKind, ReduceKind, TensorId, UnaryKind};
use std::collections::BTreeSet;

/// All operations that some pattern keeps float.
pub(super) fn ignored_by_pattern(graph: &Graph) -> BTreeSet<OpId> {
    let view = View { graph };
    let mut ignored = BTreeSet::new();
    for (id, op) in graph.ops() {
        match &op.kind {
            OpKind::Conv(_) | OpKind::ConvTranspose(_) | OpKind::Gemm { .. } | OpKind::MatMul => {
                view.after_weights(id, &mut ignored);
                view.attention_tail(id, &mut ignored);
            }
            OpKind::Unary(UnaryKind::Clip { .. }) => view.clip_then_multiply(id, &mut ignored),
            OpKind::Unary(UnaryKind::Erf) => view.gelu(id, &mut ignored),
            OpKind::Binary(BinaryKind::Mul) => {
                view.gate(id, &mut ignored);
                view.squeeze_and_excitation(id, &mut ignored);
                view.multiply_then_add(id, &mut ignored);
            }
            OpKind::Binary(BinaryKind::Div) => {
                view.layer_normalization(id, &mut ignored);
                view.softmax_by_hand(id, &mut ignored);
            }
            _ => {}
        }
    }
    view.input_preprocessing(&mut ignored);
    ignored
}

struct View<'a> {
    graph: &'a Graph,
}

impl<'a> View<'a> {
    fn op(&self, id: OpId) -> &'a Op {
        self.graph.op(id)
    }

    fn producer(&self, tensor: TensorId) -> Option<OpId> {
        self.graph.tensor(tensor).producer
    }

    /// The only reader of an operation's only output, where the path does not branch.
    fn only_reader(&self, id: OpId) -> Option<OpId> {
        let [output] = self.op(id).outputs[..] else { return None };
        self.only_reader_of(output)
    }

    fn only_reader_of(&self, tensor: TensorId) -> Option<OpId> {
        match self.graph.tensor(tensor).consumers[..] {
            [(reader, _)] if !self.graph.outputs.contains(&tensor) => Some(reader),
            _ => None,
        }
    }

    /// The data operand of a binary operation of one of these kinds whose other operand is constant.
    fn beside_constant(&self, id: OpId, kinds: &[BinaryKind]) -> Option<TensorId> {
        let op = self.op(id);
        let OpKind::Binary(kind) = op.kind else { return None };
        if !kinds.contains(&kind) {
            return None;
        }
        match (self.graph.constant_input(id, 0), self.graph.constant_input(id, 1)) {
            (Some(_), None) => op.inputs.get(1).copied(),
            (None, Some(_)) => op.inputs.first().copied(),
            _ => None,
        }
    }

    fn is_constant_add(&self, id: OpId) -> bool {
        self.beside_constant(id, &[BinaryKind::Add]).is_some()
    }

    fn is_constant_arithmetic(&self, id: OpId) -> bool {
        self.beside_constant(id, &[BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div]).is_some()
    }

    /// The tensor before these optional operations, walking up.
    fn before(&self, tensor: TensorId, skip: impl Fn(OpId) -> bool) -> TensorId {
        match self.producer(tensor).filter(|id| skip(*id)) {
            Some(id) => self.beside_constant(id, &[BinaryKind::Add]).unwrap_or(self.op(id).inputs[0]),
            None => tensor,
        }
    }

    fn is_reshape(&self, id: OpId) -> bool {
        matches!(self.op(id).kind, OpKind::Reshape)
    }

    /// Weights, then optionally a bias, an activation, and one constant arithmetic operation or a scale and shift.
    fn after_weights(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        if self.graph.constant_input(id, 1).is_none() {
            return;
        }
        let mut next = self.only_reader(id);
        if let Some(bias) = next.filter(|reader| self.is_constant_add(*reader)) {
            ignored.insert(bias);
            next = self.only_reader(bias);
        }
        let activation = next.filter(|reader| {
            matches!(
                self.op(*reader).kind,
                OpKind::Unary(UnaryKind::Relu | UnaryKind::Sigmoid) | OpKind::Binary(BinaryKind::Prelu)
            )
        });
        if let Some(activation) = activation {
            next = self.only_reader(activation);
        }
        let Some(first) = next.filter(|reader| self.is_constant_arithmetic(*reader)) else { return };
        ignored.insert(first);
        if matches!(self.op(first).kind, OpKind::Binary(BinaryKind::Mul)) {
            ignored.extend(self.only_reader(first).filter(|reader| self.is_constant_add(*reader)));
        }
    }

    fn clip_then_multiply(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        let scaled = |reader: &OpId| self.beside_constant(*reader, &[BinaryKind::Mul, BinaryKind::Div]).is_some();
        ignored.extend(self.only_reader(id).filter(scaled));
    }

    /// A product with its own gate: x·sigmoid(x) and x·clip(x + 3, 0, 6)/6 in their spellings.
    fn gate(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        let [left, right] = self.op(id).inputs[..] else { return };
        for (x, gate) in [(left, right), (right, left)] {
            let Some((source, parts)) = self.gate_source(gate) else { continue };
            if source != x {
                continue;
            }
            ignored.insert(id);
            ignored.extend(parts);
            let scaled = |reader: &OpId| self.beside_constant(*reader, &[BinaryKind::Mul, BinaryKind::Div]).is_some();
            ignored.extend(self.only_reader(id).filter(scaled));
        }
    }

    /// What a sigmoid or its piecewise-linear stand-in is computed from, with the arithmetic in between.
    fn gate_source(&self, gate: TensorId) -> Option<(TensorId, Vec<OpId>)> {
        let mut parts = Vec::new();
        let mut id = self.producer(gate)?;
        if let Some(inner) = self.beside_constant(id, &[BinaryKind::Mul, BinaryKind::Div]) {
            parts.push(id);
            id = self.producer(inner)?;
            if !matches!(self.op(id).kind, OpKind::Unary(UnaryKind::Clip { .. })) {
                return None;
            }
        }
        match self.op(id).kind {
            OpKind::Unary(UnaryKind::Sigmoid | UnaryKind::HardSigmoid { .. }) => Some((self.op(id).inputs[0], parts)),
            OpKind::Unary(UnaryKind::Clip { .. }) => {
                let shifted = self.producer(self.op(id).inputs[0])?;
                let source = self.beside_constant(shifted, &[BinaryKind::Add])?;
                parts.push(shifted);
                Some((source, parts))
            }
            _ => None,
        }
    }

    /// The two inner products of a squeeze-and-excitation block that ends in this multiplication.
    fn squeeze_and_excitation(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        for &factor in &self.op(id).inputs {
            ignored.extend(self.squeeze(factor).into_iter().flatten());
        }
    }

    fn squeeze(&self, factor: TensorId) -> Option<Vec<OpId>> {
        let gate = self.before(factor, |id| self.is_reshape(id));
        let (source, _) = self.gate_source(gate)?;
        let excite = self.product_before(source)?;
        let activated = self.op(excite).inputs[0];
        let activation = self.producer(activated)?;
        let inner = match self.op(activation).kind {
            OpKind::Unary(UnaryKind::Relu | UnaryKind::HardSwish) => self.op(activation).inputs[0],
            OpKind::Binary(BinaryKind::Mul) => {
                let [left, right] = self.op(activation).inputs[..] else { return None };
                let gated = |x: TensorId, gate: TensorId| self.gate_source(gate).is_some_and(|(from, _)| from == x);
                if gated(left, right) {
                    left
                } else if gated(right, left) {
                    right
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        let squeeze = self.product_before(inner)?;
        let pooled = self.before(self.op(squeeze).inputs[0], |id| self.is_reshape(id));
        match self.op(self.producer(pooled)?).kind {
            OpKind::GlobalAveragePool | OpKind::Reduce { kind: ReduceKind::Mean, .. } => Some(vec![squeeze, excite]),
            _ => None,
        }
    }

    /// The operation with weights before this tensor, with an optional bias addition in between.
    fn product_before(&self, tensor: TensorId) -> Option<OpId> {
        let id = self.producer(self.before(tensor, |id| self.is_constant_add(id)))?;
        let product = matches!(self.op(id).kind, OpKind::Conv(_) | OpKind::Gemm { .. } | OpKind::MatMul);
        (product && self.graph.constant_input(id, 1).is_some()).then_some(id)
    }

    /// A multiplication followed by a constant addition; with an addition before it where the model ends there.
    fn multiply_then_add(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        let Some(shift) = self.only_reader(id).filter(|reader| self.is_constant_add(*reader)) else { return };
        ignored.extend([id, shift]);
        let last = self.op(shift).outputs.iter().all(|output| self.graph.outputs.contains(output));
        let before = self.beside_constant(id, &[BinaryKind::Mul]).and_then(|tensor| self.producer(tensor));
        ignored.extend(before.filter(|add| last && matches!(self.op(*add).kind, OpKind::Binary(BinaryKind::Add))));
    }

    /// x·(1 + erf(x/√2))/2 around this erf, in its spellings.
    fn gelu(&self, erf: OpId, ignored: &mut BTreeSet<OpId>) {
        let scaled = |id: &OpId| self.beside_constant(*id, &[BinaryKind::Mul, BinaryKind::Div]).is_some();
        let Some(before) = self.producer(self.op(erf).inputs[0]).filter(scaled) else { return };
        let Some(after) = self.only_reader(erf).filter(|id| self.is_constant_add(*id)) else { return };
        let is_product = |id: &OpId| matches!(self.op(*id).kind, OpKind::Binary(BinaryKind::Mul));
        let Some(product) = self.only_reader(after).filter(is_product) else { return };
        ignored.extend([before, after, product]);
        ignored.extend(self.only_reader(product).filter(scaled));
        for &factor in &self.op(product).inputs {
            ignored.extend(self.producer(factor).filter(scaled));
        }
    }

    /// (x − mean) / sqrt(variance + ε) written out, with its scale and shift; `id` is the division.
    fn layer_normalization(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        let Some(parts) = self.normalization_parts(id) else { return };
        ignored.extend(parts);
        ignored.insert(id);
        let scaled = |reader: &OpId| self.beside_constant(*reader, &[BinaryKind::Mul]).is_some();
        if let Some(scale) = self.only_reader(id).filter(scaled) {
            ignored.insert(scale);
            ignored.extend(self.only_reader(scale).filter(|reader| self.is_constant_add(*reader)));
        }
    }

    fn normalization_parts(&self, id: OpId) -> Option<Vec<OpId>> {
        let [numerator, denominator] = self.op(id).inputs[..] else { return None };
        let root = self.producer(denominator)?;
        if !matches!(self.op(root).kind, OpKind::Unary(UnaryKind::Sqrt)) {
            return None;
        }
        let stabilized = self.producer(self.op(root).inputs[0])?;
        let variance = self.producer(self.beside_constant(stabilized, &[BinaryKind::Add])?)?;
        let square = self.producer(*self.mean_input(variance)?)?;
        if !matches!(self.op(square).kind, OpKind::Binary(BinaryKind::Pow | BinaryKind::Mul)) {
            return None;
        }
        let mut parts = vec![stabilized, variance, square];
        for centred in [numerator, self.op(square).inputs[0]] {
            let difference = self.producer(centred)?;
            let [x, mean] = self.op(difference).inputs[..] else { return None };
            let mean = self.producer(mean)?;
            if !matches!(self.op(difference).kind, OpKind::Binary(BinaryKind::Sub)) || *self.mean_input(mean)? != x {
                return None;
            }
            parts.extend([difference, mean]);
        }
        Some(parts)
    }

    fn mean_input(&self, id: OpId) -> Option<&'a TensorId> {
        match self.op(id).kind {
            OpKind::Reduce { kind: ReduceKind::Mean, .. } => self.op(id).inputs.first(),
            _ => None,
        }
    }

    /// exp(x) / sum(exp(x)), with the subtraction of the maximum before it.
    fn softmax_by_hand(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        let [numerator, denominator] = self.op(id).inputs[..] else { return };
        let (Some(exp), Some(sum)) = (self.producer(numerator), self.producer(denominator)) else { return };
        let is_exp = matches!(self.op(exp).kind, OpKind::Unary(UnaryKind::Exp));
        let is_sum = matches!(self.op(sum).kind, OpKind::Reduce { kind: ReduceKind::Sum, .. });
        if !is_exp || !is_sum || self.op(sum).inputs.first() != Some(&numerator) {
            return;
        }
        ignored.insert(id);
        let shifted = self.producer(self.op(exp).inputs[0]);
        ignored.extend(shifted.filter(|id| matches!(self.op(*id).kind, OpKind::Binary(BinaryKind::Sub))));
    }

    /// The product of attention probabilities (softmax, reshaped or not) and values (bias, reshape, transpose).
    fn attention_tail(&self, id: OpId, ignored: &mut BTreeSet<OpId>) {
        if !matches!(self.op(id).kind, OpKind::MatMul) {
            return;
        }
        let [left, right] = self.op(id).inputs[..] else { return };
        for (probabilities, values) in [(left, right), (right, left)] {
            if self.is_softmax(probabilities) && self.is_head_split(values) {
                ignored.insert(id);
            }
        }
    }

    fn is_softmax(&self, tensor: TensorId) -> bool {
        let tensor = self.before(tensor, |id| self.is_reshape(id));
        self.producer(tensor).is_some_and(|id| matches!(self.op(id).kind, OpKind::Softmax { .. }))
    }

    fn is_head_split(&self, tensor: TensorId) -> bool {
        let tensor = self.before(tensor, |id| matches!(self.op(id).kind, OpKind::Gather { .. }));
        let walk = || {
            let transpose = self.producer(tensor)?;
            let OpKind::Transpose { .. } = self.op(transpose).kind else { return None };
            let reshape = self.producer(self.op(transpose).inputs[0]).filter(|id| self.is_reshape(*id))?;
            let add = self.producer(self.op(reshape).inputs[0])?;
            Some(matches!(self.op(add).kind, OpKind::Binary(BinaryKind::Add)))
        };
        walk() == Some(true)
    }

    /// Constant arithmetic between a model input and the first operation that does more than move elements.
    fn input_preprocessing(&self, ignored: &mut BTreeSet<OpId>) {
        for &input in &self.graph.inputs {
            let mut next = self.only_reader_of(input);
            let mut arithmetic = 0;
            while let Some(id) = next {
                if self.is_constant_arithmetic(id) && arithmetic < 2 {
                    ignored.insert(id);
                    arithmetic += 1;
                } else if arithmetic > 0 || !matches!(self.op(id).kind, OpKind::Cast | OpKind::Transpose { .. }) {
                    break;
                }
                next = self.only_reader(id);
            }
        }
    }
}
