//! What an operation may take over from those behind it: a clamp, and the quantized addition of a residual.

use super::{Builder, Form, Value};
use crate::plan::layout::Layout;
use crate::plan::precision::ParamsId;
use holdfast_common::graph::{BinaryKind, OpId, OpKind, TensorId, UnaryKind};
use holdfast_kernels::int8::CodeParams;

/// A clamp in real numbers; infinite where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    /// Lower bound.
    pub lo: f32,
    /// Upper bound.
    pub hi: f32,
}

impl Clamp {
    /// Keeps everything.
    pub(super) const NONE: Clamp = Clamp { lo: f32::NEG_INFINITY, hi: f32::INFINITY };

    /// The clamp in codes: bounds of the code range and of the clamp, whichever is tighter.
    ///
    /// Rounding is monotone, so clamping codes equals clamping reals before they are rounded.
    pub(super) fn in_codes(self, params: &CodeParams) -> (u8, u8) {
        let code = |bound: f32| {
            let code = (bound / params.scale).round_ties_even() + f32::from(params.zero_point);
            code.clamp(f32::from(params.lo), f32::from(params.hi)) as u8
        };
        (code(self.lo), code(self.hi))
    }
}

/// The addition that a convolution's epilogue takes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct FusedAdd {
    /// The addition.
    pub op: OpId,
    /// The other operand.
    pub other: TensorId,
    /// Codes of the other operand.
    pub residual: ParamsId,
    /// Whether the convolution is the addition's first operand.
    pub is_first: bool,
    /// The tensor the addition (and its clamp) makes.
    pub output: TensorId,
    /// Codes of that tensor.
    pub output_codes: ParamsId,
    /// The addition's clamp.
    pub clamp: Clamp,
    /// The clamp operation behind the addition.
    pub activation: Option<OpId>,
}

impl Builder<'_> {
    /// The only reader of a tensor that is no output.
    fn sole_reader(&self, tensor: TensorId) -> Option<(OpId, usize)> {
        match self.graph.tensor(tensor).consumers.as_slice() {
            [reader] if !self.graph.outputs.contains(&tensor) => Some(*reader),
            _ => None,
        }
    }

    /// The clamp behind an operation that can be fused into it: the operation, its bounds and the tensor it makes.
    pub(super) fn clamp_behind(&self, id: OpId) -> (Option<OpId>, Clamp, TensorId) {
        let output = self.graph.op(id).outputs[0];
        let none = (None, Clamp::NONE, output);
        let Some((reader, input)) = self.sole_reader(output) else { return none };
        if self.aside || self.precision.codes(reader, input).is_some() {
            return none;
        }
        let clamp = match self.graph.op(reader).kind {
            OpKind::Unary(UnaryKind::Relu) => Clamp { lo: 0.0, hi: f32::INFINITY },
            OpKind::Unary(UnaryKind::Clip { min, max }) => Clamp { lo: min, hi: max },
            _ => return none,
        };
        (Some(reader), clamp, self.graph.op(reader).outputs[0])
    }

    /// [`Builder::clamp_behind`] for an operation on floats: an observed tensor is then kept rather than computed twice.
    pub(super) fn float_clamp_behind(&self, id: OpId) -> (Option<OpId>, Clamp, TensorId) {
        let output = self.graph.op(id).outputs[0];
        if self.observed.contains(&output) { (None, Clamp::NONE, output) } else { self.clamp_behind(id) }
    }

    /// The addition of floats behind a convolution that its epilogue can take over, because the other operand is there
    /// already: the addition and that operand.
    pub(super) fn float_add_behind(&self, id: OpId, layout: Layout) -> Option<(OpId, Value)> {
        let output = self.graph.op(id).outputs[0];
        let (reader, input) = self.sole_reader(output)?;
        let op = self.graph.op(reader);
        let on_floats = !self.aside && (0..2).all(|input| self.precision.codes(reader, input).is_none());
        if !matches!(op.kind, OpKind::Binary(BinaryKind::Add)) || !on_floats || self.observed.contains(&output) {
            return None;
        }
        let other = op.inputs[1 - input];
        let value = self.values.get(&(other, Form::Real, layout))?;
        if self.precision.addend(reader, 1 - input).is_some() {
            return None;
        }
        (other != output && self.shape(other) == self.shape(output)).then(|| (reader, value.clone()))
    }

    /// The addition of one constant a channel behind a product that makes floats: the addition and the constants.
    pub(super) fn shift_behind(&self, id: OpId, layout: Layout) -> Option<(OpId, Vec<f32>)> {
        let output = self.graph.op(id).outputs[0];
        let (reader, input) = self.sole_reader(output)?;
        let op = self.graph.op(reader);
        let on_floats = !self.aside && (0..2).all(|input| self.precision.codes(reader, input).is_none());
        let is_addition = matches!(op.kind, OpKind::Binary(BinaryKind::Add)) && on_floats;
        if !is_addition || self.observed.contains(&output) || self.precision.weights(reader, 1 - input).is_some() {
            return None;
        }
        let constant = op.inputs[1 - input];
        let own = self.graph.tensor(constant).constant.as_ref()?.as_f32()?;
        let values: Vec<f32> = match self.precision.addend(reader, 1 - input) {
            Some(corrected) => corrected.to_vec(),
            None => own.iter().copied().collect(),
        };
        let shape = self.shape(output);
        let channels = if layout == Layout::ChannelsLast { *shape.get(1)? } else { *shape.last()? };
        let fits = self.shape(op.outputs[0]) == shape && values.len() == channels && channels > 1;
        (fits && self.is_one_a_channel(constant, shape, layout)).then_some((reader, values))
    }

    /// The codes a tensor is wanted in, when nobody wants its floats.
    pub(super) fn only_codes(&self, tensor: TensorId) -> Option<ParamsId> {
        if self.aside { None } else { self.precision.sole_codes(self.graph, tensor) }
    }

    /// Whether an addition has two data operands of one shape that both come as codes.
    pub(super) fn adds_codes(&self, id: OpId) -> bool {
        let op = self.graph.op(id);
        let data = |input: usize| {
            self.precision.codes(id, input).is_some() && self.graph.tensor(op.inputs[input]).constant.is_none()
        };
        matches!(op.kind, OpKind::Binary(BinaryKind::Add))
            && data(0)
            && data(1)
            && self.shape(op.inputs[0]) == self.shape(op.inputs[1])
    }

    /// The addition behind a convolution (whose clamped output is `tensor`, wanted only in codes) that its
    /// epilogue can take over, because the other operand is there already.
    pub(super) fn add_behind(&self, tensor: TensorId, layout: Layout) -> Option<FusedAdd> {
        let (op, input) = self.sole_reader(tensor)?;
        if self.fused.contains(&op) || !self.adds_codes(op) {
            return None;
        }
        let other = self.graph.op(op).inputs[1 - input];
        let residual = self.precision.codes(op, 1 - input)?;
        let there =
            [Form::Real, Form::Codes(residual)].iter().any(|form| self.values.contains_key(&(other, *form, layout)));
        let (activation, clamp, output) = self.clamp_behind(op);
        let output_codes = self.only_codes(output)?;
        let is_first = input == 0;
        (there && other != tensor).then_some(FusedAdd {
            op,
            other,
            residual,
            is_first,
            output,
            output_codes,
            clamp,
            activation,
        })
    }
}
