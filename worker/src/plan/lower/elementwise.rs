//! Element-wise operations, softmax and normalizations: floats in and out, except the addition of codes.

use super::{Builder, Form, Layout, Value};
use crate::plan::PlanError;
use crate::plan::buffer::{Aligned, BufferKind, Stored};
use crate::plan::instruction::{Kernel, Operand};
use holdfast_common::graph::{BinaryKind, OpId, TensorId, UnaryKind};
use holdfast_kernels::Image;
use holdfast_kernels::float::{Binary, Unary};
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn unary(&mut self, id: OpId, kind: UnaryKind) -> Result<(), PlanError> {
        let function = unary_function(kind).ok_or_else(|| self.unsupported(id, "it has no float kernel"))?;
        let output = self.graph.op(id).outputs[0];
        let layout = self.native[output.0];
        let input = self.read_real(id, 0, layout)?;
        let result = self.define_in(output, Form::Real, layout);
        let kernel = Kernel::Unary { function, input: input.placement.image, output: result.placement.image };
        self.emit(id, kernel, vec![input.buffer], result.buffer);
        Ok(())
    }

    pub(super) fn binary(&mut self, id: OpId, kind: BinaryKind) -> Result<(), PlanError> {
        let function = binary_function(kind)
            .ok_or_else(|| self.unsupported(id, "comparisons and logic have no kernel on samples yet"))?;
        let op = self.graph.op(id);
        let (left, right, output) = (op.inputs[0], op.inputs[1], op.outputs[0]);
        let layout = self.native[output.0];
        let shape = self.shape(output).to_vec();
        // An operand that is one number, or one a channel or a pixel, stays small on the right side.
        let right_form = self.small_form(right, &shape, layout);
        let left_form = self.small_form(left, &shape, layout).filter(|_| right_form.is_none());
        let (function, big, small, form) = match (right_form, left_form, reversed(function)) {
            (Some(form), _, _) => (function, 0, 1, Some(form)),
            (None, Some(form), Some(reversed)) => (reversed, 1, 0, Some(form)),
            (None, _, _) => (function, 0, 1, None),
        };
        let a = self.operand(id, big, op.inputs[big], &shape, layout)?;
        let (b, right) = match form {
            Some(form) => {
                let value = self.read_real(id, small, self.native[op.inputs[small].0])?;
                let image = value.placement.image;
                let operand = match form {
                    Small::Scalar => Operand::Scalar(image.offset),
                    Small::Channels => Operand::Channels(image.offset),
                    Small::Pixels => Operand::Pixels(image),
                };
                (value, operand)
            }
            None => {
                let value = self.operand(id, small, op.inputs[small], &shape, layout)?;
                let image = value.placement.image;
                (value, Operand::Full(image))
            }
        };
        let result = self.define_in(output, Form::Real, layout);
        let kernel = Kernel::Binary { function, left: a.placement.image, right, output: result.placement.image };
        self.emit(id, kernel, vec![a.buffer, b.buffer], result.buffer);
        Ok(())
    }

    /// An operand at the output's full shape.
    fn operand(
        &mut self,
        id: OpId,
        input: usize,
        tensor: TensorId,
        shape: &[usize],
        layout: Layout,
    ) -> Result<Value, PlanError> {
        let own = self.shape(tensor);
        // In row-major order leading axes of extent 1 make no difference.
        let same = own == shape || (layout == Layout::RowMajor && significant(own) == significant(shape));
        let value = self.read_real(id, input, if same { layout } else { self.native[tensor.0] })?;
        Ok(if same { value } else { self.expanded(id, &value, BufferKind::F32, shape, layout) })
    }

    /// Whether an operand that is broadcast to this shape has one number a channel.
    pub(super) fn is_one_a_channel(&self, tensor: TensorId, shape: &[usize], layout: Layout) -> bool {
        matches!(self.small_form(tensor, shape, layout), Some(Small::Channels))
    }

    /// How an operand that is broadcast to this shape in this layout can be read as it is.
    fn small_form(&self, tensor: TensorId, shape: &[usize], layout: Layout) -> Option<Small> {
        let own = self.shape(tensor);
        let total: usize = own.iter().product();
        if total == 1 {
            return Some(Small::Scalar);
        }
        let channel_axis = if layout == Layout::ChannelsLast { 1 } else { shape.len().saturating_sub(1) };
        let offset = shape.len() - own.len().min(shape.len());
        let own_extent = |axis: usize| axis.checked_sub(offset).map_or(1, |axis| own[axis]);
        // Row-major constants and pixels without neighbours alike have their channels one after another.
        if shape.get(channel_axis) == Some(&total) && own_extent(channel_axis) == total {
            return Some(Small::Channels);
        }
        let one_a_pixel = own_extent(channel_axis) == 1
            && (0..shape.len()).all(|axis| axis == channel_axis || own_extent(axis) == shape[axis])
            && own.len() == shape.len()
            && self.native[tensor.0] == layout;
        one_a_pixel.then_some(Small::Pixels)
    }

    /// The addition of two tensors of codes.
    pub(super) fn add_codes(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (Some(a_codes), Some(b_codes)) = (self.precision.codes(id, 0), self.precision.codes(id, 1)) else {
            return self.binary(id, BinaryKind::Add);
        };
        let (a_tensor, b_tensor) = (op.inputs[0], op.inputs[1]);
        let (activation, clamp, output) = self.clamp_behind(id);
        let Some(output_codes) = self.only_codes(output) else {
            return self.binary(id, BinaryKind::Add);
        };
        let layout = self.native[output.0];
        let a = self.codes_in(a_tensor, a_codes, layout)?;
        let b = self.codes_in(b_tensor, b_codes, layout)?;
        let add = self.add_parameters(id, clamp, output_codes, true, a_codes, b_codes)?;
        self.fused.extend(activation);
        let result = self.define_in(output, Form::Codes(output_codes), layout);
        let kernel =
            Kernel::AddCodes { add, left: a.placement.image, right: b.placement.image, output: result.placement.image };
        self.emit(id, kernel, vec![a.buffer, b.buffer], result.buffer);
        Ok(())
    }

    pub(super) fn softmax(&mut self, id: OpId, axis: usize, log: bool) -> Result<(), PlanError> {
        let output = self.graph.op(id).outputs[0];
        let shape = self.shape(output).to_vec();
        let last = shape.len().saturating_sub(1);
        let layout = match axis {
            axis if axis == last => Layout::RowMajor,
            1 if crate::plan::layout::can_be_channels_last(&shape) => Layout::ChannelsLast,
            _ => return self.softmax_across(id, axis, log),
        };
        let input = self.read_real(id, 0, layout)?;
        let result = self.define_in(output, Form::Real, layout);
        let kernel = Kernel::Softmax { log, input: input.placement.image, output: result.placement.image };
        self.emit(id, kernel, vec![input.buffer], result.buffer);
        Ok(())
    }

    /// Softmax along an inner axis: the axis is moved to the end and back.
    fn softmax_across(&mut self, id: OpId, axis: usize, log: bool) -> Result<(), PlanError> {
        let output = self.graph.op(id).outputs[0];
        let shape = self.shape(output).to_vec();
        let rows = self.rows_along(id, &[axis])?;
        let len = shape[axis];
        let image = Image::dense(1, shape.iter().product::<usize>() / len.max(1), len);
        self.through_rows(id, &[axis], rows, Kernel::Softmax { log, input: image, output: image })
    }

    pub(super) fn layer_norm(&mut self, id: OpId, axis: usize, epsilon: f32) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (output, gamma) = (op.outputs[0], op.inputs[1]);
        let beta = op.inputs.get(2).copied();
        let shape = self.shape(output).to_vec();
        let len = shape[axis..].iter().product();
        let input = self.read_real(id, 0, Layout::RowMajor)?;
        let gamma = self.real_in(gamma, Layout::RowMajor)?;
        let mut inputs = vec![input.buffer, gamma.buffer];
        inputs.push(match beta {
            Some(beta) => self.real_in(beta, Layout::RowMajor)?.buffer,
            None => {
                let (placement, elements) = crate::plan::Placement::new(&[len], Layout::RowMajor, [0; 4]);
                let zeros = self.allocate(crate::plan::buffer::BufferKind::F32, &placement, elements);
                self.constants.push((zeros, Stored::F32(Arc::new(Aligned::filled(elements, 0.0)))));
                zeros
            }
        });
        let result = self.define_in(output, Form::Real, Layout::RowMajor);
        let kernel = Kernel::LayerNorm { epsilon, rows: shape[..axis].iter().product(), len };
        self.emit(id, kernel, inputs, result.buffer);
        Ok(())
    }

    /// x·scale + shift a channel, as two passes in this order.
    pub(super) fn scale_shift(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (scale, shift, output) = (op.inputs[1], op.inputs[2], op.outputs[0]);
        let layout = self.native[output.0];
        if layout != Layout::ChannelsLast && self.shape(output).len() != 2 {
            return Err(self.unsupported(id, "batch normalization runs on [1, C], [1, C, L] and [1, C, H, W]"));
        }
        let input = self.read_real(id, 0, layout)?;
        let scale = self.real_in(scale, Layout::RowMajor)?;
        let shift = self.real_in(shift, Layout::RowMajor)?;
        let result = self.define_in(output, Form::Real, layout);
        let (input_image, image) = (input.placement.image, result.placement.image);
        let (placement, elements) = crate::plan::Placement::new(self.shape(output), layout, [0; 4]);
        let scaled = self.allocate(crate::plan::buffer::BufferKind::F32, &placement, elements);
        let scaled_image = placement.image;
        let multiply = Kernel::Binary {
            function: Binary::Mul,
            left: input_image,
            right: Operand::Channels(0),
            output: scaled_image,
        };
        self.emit(id, multiply, vec![input.buffer, scale.buffer], scaled);
        let add =
            Kernel::Binary { function: Binary::Add, left: scaled_image, right: Operand::Channels(0), output: image };
        self.emit(id, add, vec![scaled, shift.buffer], result.buffer);
        Ok(())
    }
}

/// An operand that is broadcast without being repeated.
#[derive(Clone, Copy)]
enum Small {
    /// One number.
    Scalar,
    /// One number a channel.
    Channels,
    /// One number a pixel.
    Pixels,
}

/// A shape without its leading axes of extent 1.
fn significant(shape: &[usize]) -> &[usize] {
    let leading = shape.iter().take_while(|extent| **extent == 1).count();
    &shape[leading..]
}

/// The function with its operands exchanged, bit for bit the same.
fn reversed(function: Binary) -> Option<Binary> {
    Some(match function {
        Binary::Add => Binary::Add,
        Binary::Mul => Binary::Mul,
        Binary::Sub => Binary::SubReversed,
        Binary::Div => Binary::DivReversed,
        Binary::Pow => Binary::PowReversed,
        Binary::Min
        | Binary::Max
        | Binary::Prelu
        | Binary::Mod
        | Binary::Remainder
        | Binary::SubReversed
        | Binary::DivReversed
        | Binary::PowReversed => {
            return None;
        }
    })
}

/// The kernel of a unary function; `None` for logic.
fn unary_function(kind: UnaryKind) -> Option<Unary> {
    Some(match kind {
        UnaryKind::Relu => Unary::Clamp { lo: 0.0, hi: f32::INFINITY },
        UnaryKind::Clip { min, max } => Unary::Clamp { lo: min, hi: max },
        UnaryKind::LeakyRelu { alpha } => Unary::LeakyRelu { alpha },
        UnaryKind::Sigmoid => Unary::Sigmoid,
        UnaryKind::HardSigmoid { alpha, beta } => Unary::HardSigmoid { alpha, beta },
        UnaryKind::HardSwish => Unary::HardSwish,
        UnaryKind::Tanh => Unary::Tanh,
        UnaryKind::Erf => Unary::Erf,
        UnaryKind::Gelu { tanh: false } => Unary::Gelu,
        UnaryKind::Gelu { tanh: true } => Unary::GeluTanh,
        UnaryKind::Exp => Unary::Exp,
        UnaryKind::Log => Unary::Log,
        UnaryKind::Sqrt => Unary::Sqrt,
        UnaryKind::Reciprocal => Unary::Reciprocal,
        UnaryKind::Abs => Unary::Abs,
        UnaryKind::Neg => Unary::Neg,
        UnaryKind::Floor => Unary::Floor,
        UnaryKind::Ceil => Unary::Ceil,
        UnaryKind::Round => Unary::RoundHalfEven,
        UnaryKind::Softplus => Unary::Softplus,
        UnaryKind::Elu { alpha } => Unary::Elu { alpha },
        UnaryKind::Sin => Unary::Sin,
        UnaryKind::Cos => Unary::Cos,
        UnaryKind::Sign => Unary::Sign,
        UnaryKind::Selu { alpha, gamma } => Unary::Selu { alpha, gamma },
        UnaryKind::Celu { alpha } => Unary::Celu { alpha },
        UnaryKind::ThresholdedRelu { alpha } => Unary::ThresholdedRelu { alpha },
        UnaryKind::Softsign => Unary::Softsign,
        UnaryKind::Mish => Unary::Mish,
        UnaryKind::Not => return None,
    })
}

/// The kernel of a binary function; `None` for comparisons and logic.
fn binary_function(kind: BinaryKind) -> Option<Binary> {
    Some(match kind {
        BinaryKind::Add => Binary::Add,
        BinaryKind::Sub => Binary::Sub,
        BinaryKind::Mul => Binary::Mul,
        BinaryKind::Div => Binary::Div,
        BinaryKind::Pow => Binary::Pow,
        BinaryKind::Min => Binary::Min,
        BinaryKind::Max => Binary::Max,
        BinaryKind::Prelu => Binary::Prelu,
        BinaryKind::Mod => Binary::Mod,
        BinaryKind::Remainder => Binary::Remainder,
        BinaryKind::Equal
        | BinaryKind::Less
        | BinaryKind::LessOrEqual
        | BinaryKind::Greater
        | BinaryKind::GreaterOrEqual
        | BinaryKind::And
        | BinaryKind::Or
        | BinaryKind::Xor => return None,
    })
}
