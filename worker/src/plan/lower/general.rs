//! Operations on whole row-major tensors: integers and truth values, selection by computed indices, products of two
//! activations.

use super::{Builder, Form, Layout, Value};
use crate::plan::PlanError;
use crate::plan::buffer::BufferKind;
use crate::plan::general::{General, IntUnary, ProductFinish, ProductPlace, Products, int_width};
use crate::plan::instruction::Kernel;
use holdfast_common::graph::{BinaryKind, DataType, OpId, TensorId, UnaryKind};
use holdfast_kernels::general::{Comparison, IntBinary, IntWidth, Selection};
use holdfast_kernels::int8::{ProductShape, ProductU8U8, Requant};

impl Builder<'_> {
    /// Selection by indices that are computed.
    pub(super) fn gather_computed(&mut self, id: OpId, axis: usize) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (x, indices, output) = (op.inputs[0], op.inputs[1], op.outputs[0]);
        let shape = self.shape(x).to_vec();
        let selection = Selection {
            outer: shape[..axis].iter().product(),
            extent: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        };
        let count = self.shape(indices).iter().product();
        let (form, source) = match (self.plain_form(x), self.precision.codes(id, 0)) {
            (Form::Int, _) => (Form::Int, self.int(x)?),
            (_, Some(codes)) => (Form::Codes(codes), self.codes_in(x, codes, Layout::RowMajor)?),
            (_, None) => (Form::Real, self.read_real(id, 0, Layout::RowMajor)?),
        };
        let picked = self.int(indices)?;
        let result = self.define_in(output, form, Layout::RowMajor);
        let operation = op.name.clone();
        let kernel = Kernel::General(General::Gather { selection, count, operation });
        self.emit(id, kernel, vec![source.buffer, picked.buffer], result.buffer);
        Ok(())
    }

    /// Conversion between element types.
    pub(super) fn cast(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (input, output) = (op.inputs[0], op.outputs[0]);
        let len = self.shape(output).iter().product();
        let [from, to] = [input, output].map(|tensor| int_width(self.graph.tensor(tensor).data_type));
        let source = match from {
            None => self.read_real(id, 0, Layout::RowMajor)?,
            Some(_) => self.int(input)?,
        };
        let general = match (from, to) {
            (None, None) => return Err(self.unsupported(id, "it converts floats to floats")),
            (None, Some(width)) => General::FloatToInt { width, len },
            (Some(_), None) => General::IntToFloat { len },
            (Some(_), Some(width)) => General::IntUnary { function: IntUnary::Convert, width, len },
        };
        let result = self.define_in(output, self.plain_form(output), Layout::RowMajor);
        self.emit(id, Kernel::General(general), vec![source.buffer], result.buffer);
        Ok(())
    }

    /// A choice per element.
    pub(super) fn choose(&mut self, id: OpId) -> Result<(), PlanError> {
        let output = self.graph.op(id).outputs[0];
        let shape = self.shape(output).to_vec();
        let mut inputs = Vec::with_capacity(3);
        for position in 0..3 {
            inputs.push(self.broadcast_operand(id, position, &shape)?.buffer);
        }
        let result = self.define_in(output, self.plain_form(output), Layout::RowMajor);
        let len = shape.iter().product();
        self.emit(id, Kernel::General(General::Choose { len }), inputs, result.buffer);
        Ok(())
    }

    /// Comparisons, logic, and arithmetic of integers.
    pub(super) fn integer_binary(&mut self, id: OpId, kind: BinaryKind) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (left, output) = (op.inputs[0], op.outputs[0]);
        let shape = self.shape(output).to_vec();
        let len = shape.iter().product();
        let of_integers = self.graph.tensor(left).data_type != DataType::F32;
        let width = int_width(self.graph.tensor(output).data_type);
        let general = match (comparison(kind), int_function(kind), width) {
            (Some(comparison), _, _) => General::Compare { comparison, of_integers, len },
            (None, Some(function), Some(width)) if of_integers => General::IntBinary { function, width, len },
            _ => return Err(self.unsupported(id, "it has no kernel for these element types")),
        };
        let a = self.broadcast_operand(id, 0, &shape)?;
        let b = self.broadcast_operand(id, 1, &shape)?;
        let result = self.define_in(output, Form::Int, Layout::RowMajor);
        self.emit(id, Kernel::General(general), vec![a.buffer, b.buffer], result.buffer);
        Ok(())
    }

    /// Functions of one integer.
    pub(super) fn integer_unary(&mut self, id: OpId, kind: UnaryKind) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (input, output) = (op.inputs[0], op.outputs[0]);
        let function = match kind {
            UnaryKind::Not => IntUnary::Not,
            UnaryKind::Neg => IntUnary::Neg,
            UnaryKind::Abs => IntUnary::Abs,
            _ => return Err(self.unsupported(id, "it has no kernel for integers")),
        };
        let width = int_width(self.graph.tensor(output).data_type).unwrap_or(IntWidth::I64);
        let source = self.int(input)?;
        let result = self.define_in(output, Form::Int, Layout::RowMajor);
        let len = self.shape(output).iter().product();
        let kernel = Kernel::General(General::IntUnary { function, width, len });
        self.emit(id, kernel, vec![source.buffer], result.buffer);
        Ok(())
    }

    /// The index of the greatest element along an axis.
    pub(super) fn arg_max(&mut self, id: OpId, axis: usize, least: bool, last: bool) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (input, output) = (op.inputs[0], op.outputs[0]);
        if self.plain_form(input) == Form::Int {
            return Err(self.unsupported(id, "it has no kernel for integers"));
        }
        let rows = self.rows_along(id, &[axis])?;
        let len = self.shape(input)[axis];
        let count = self.shape(output).iter().product();
        let result = self.define_in(output, Form::Int, Layout::RowMajor);
        let kernel = General::ArgExtreme { least, last, rows: count, len };
        self.emit(id, Kernel::General(kernel), vec![rows], result.buffer);
        Ok(())
    }

    /// The product of two tensors that are both computed.
    pub(super) fn activation_product(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (left, right, output) = (op.inputs[0], op.inputs[1], op.outputs[0]);
        let Products { shape, places } = products(self.shape(left), self.shape(right));
        let codes = self.precision.codes(id, 0).zip(self.precision.codes(id, 1));
        let Some((a_codes, b_codes)) = codes.filter(|_| shape.depth <= ProductShape::DEPTH_MAX) else {
            let a = self.read_real(id, 0, Layout::RowMajor)?;
            let b = self.read_real(id, 1, Layout::RowMajor)?;
            let result = self.define_in(output, Form::Real, Layout::RowMajor);
            let kernel = Kernel::General(General::ProductFloat(Products { shape, places }));
            self.emit(id, kernel, vec![a.buffer, b.buffer], result.buffer);
            return Ok(());
        };
        let a = self.codes_in(left, a_codes, Layout::RowMajor)?;
        let b = self.codes_in(right, b_codes, Layout::RowMajor)?;
        let [a_params, b_params] = [a_codes, b_codes].map(|codes| self.precision.get(codes));
        let scale = a_params.scale * b_params.scale;
        let (form, finish) = match self.only_codes(output) {
            Some(codes) => {
                let params = self.precision.get(codes);
                let multipliers = vec![scale / params.scale; shape.columns];
                let requant = Requant::new(multipliers, params.zero_point, params.lo, params.hi);
                let requant = requant.map_err(|error| self.unsupported(id, error.to_string()))?;
                (Form::Codes(codes), ProductFinish::Codes(requant))
            }
            None => (Form::Real, ProductFinish::Float { scales: vec![scale; shape.columns] }),
        };
        let product = ProductU8U8::new(self.isa, shape, [a_params.zero_point, b_params.zero_point]);
        let product = Box::new(product.map_err(|error| self.unsupported(id, error.to_string()))?);
        let result = self.define_in(output, form, Layout::RowMajor);
        let kernel = Kernel::General(General::ProductCodes { places, product, finish });
        self.emit(id, kernel, vec![a.buffer, b.buffer], result.buffer);
        Ok(())
    }

    /// An operand, of whatever type, row-major and at the full shape.
    fn broadcast_operand(&mut self, id: OpId, position: usize, shape: &[usize]) -> Result<Value, PlanError> {
        let tensor = self.graph.op(id).inputs[position];
        let (value, kind) = match self.plain_form(tensor) {
            Form::Int => (self.int(tensor)?, BufferKind::I64),
            Form::Real | Form::Codes(_) => (self.read_real(id, position, Layout::RowMajor)?, BufferKind::F32),
        };
        let elements: usize = self.shape(tensor).iter().product();
        if elements == shape.iter().product::<usize>() {
            return Ok(value);
        }
        Ok(self.expanded(id, &value, kind, shape, Layout::RowMajor))
    }

    /// Whether an operation's operands or results are integers or truth values.
    pub(super) fn is_integer(&self, id: OpId) -> bool {
        let op = self.graph.op(id);
        let int = |tensor: &TensorId| self.graph.tensor(*tensor).data_type != DataType::F32;
        op.inputs.first().is_some_and(int) || op.outputs.iter().any(int)
    }
}

/// The matrices of numpy's matmul, from the operands' shapes.
fn products(left: &[usize], right: &[usize]) -> Products {
    let split = |shape: &[usize], is_left: bool| match *shape {
        [depth] if is_left => (Vec::new(), 1, depth),
        [depth] => (Vec::new(), depth, 1),
        [ref batch @ .., rows, columns] => (batch.to_vec(), rows, columns),
        [] => (Vec::new(), 1, 1),
    };
    let (left_batch, rows, depth) = split(left, true);
    let (right_batch, _, columns) = split(right, false);
    let rank = left_batch.len().max(right_batch.len());
    let padded = |batch: Vec<usize>| [vec![1; rank - batch.len()], batch].concat();
    let (left_batch, right_batch) = (padded(left_batch), padded(right_batch));
    let mut pairs = vec![[0, 0]];
    for (&a, &b) in left_batch.iter().zip(&right_batch) {
        let next = |[left, right]: [usize; 2]| {
            (0..a.max(b)).map(move |index| [left * a + index.min(a - 1), right * b + index.min(b - 1)])
        };
        pairs = if a == 0 || b == 0 { Vec::new() } else { pairs.into_iter().flat_map(next).collect() };
    }
    let place = |(index, [left, right]): (usize, [usize; 2])| ProductPlace {
        left: left * rows * depth,
        right: right * depth * columns,
        output: index * rows * columns,
    };
    let places = pairs.into_iter().enumerate().map(place).collect();
    Products { shape: ProductShape::dense(rows, depth, columns), places }
}

fn comparison(kind: BinaryKind) -> Option<Comparison> {
    Some(match kind {
        BinaryKind::Equal => Comparison::Equal,
        BinaryKind::Less => Comparison::Less,
        BinaryKind::LessOrEqual => Comparison::LessOrEqual,
        BinaryKind::Greater => Comparison::Greater,
        BinaryKind::GreaterOrEqual => Comparison::GreaterOrEqual,
        BinaryKind::Add
        | BinaryKind::Sub
        | BinaryKind::Mul
        | BinaryKind::Div
        | BinaryKind::Pow
        | BinaryKind::Min
        | BinaryKind::Max
        | BinaryKind::Prelu
        | BinaryKind::And
        | BinaryKind::Or
        | BinaryKind::Xor
        | BinaryKind::Mod
        | BinaryKind::Remainder => return None,
    })
}

fn int_function(kind: BinaryKind) -> Option<IntBinary> {
    Some(match kind {
        BinaryKind::Add => IntBinary::Add,
        BinaryKind::Sub => IntBinary::Sub,
        BinaryKind::Mul => IntBinary::Mul,
        BinaryKind::Div => IntBinary::Div,
        BinaryKind::Pow => IntBinary::Pow,
        BinaryKind::Min => IntBinary::Min,
        BinaryKind::Max => IntBinary::Max,
        BinaryKind::And => IntBinary::And,
        BinaryKind::Or => IntBinary::Or,
        BinaryKind::Xor => IntBinary::Xor,
        BinaryKind::Mod => IntBinary::Mod,
        BinaryKind::Remainder => IntBinary::Remainder,
        BinaryKind::Prelu
        | BinaryKind::Equal
        | BinaryKind::Less
        | BinaryKind::LessOrEqual
        | BinaryKind::Greater
        | BinaryKind::GreaterOrEqual => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_matrices_broadcast_as_in_numpy() {
        let of = |left: &[usize], right: &[usize]| {
            let places = products(left, right).places.into_iter();
            places.map(|place| [place.left, place.right, place.output]).collect::<Vec<_>>()
        };
        assert_eq!(of(&[2, 3], &[3, 4]), [[0, 0, 0]]);
        let pairs = [[0, 0, 0], [0, 12, 8], [6, 0, 16], [6, 12, 24]];
        assert_eq!(of(&[2, 1, 2, 3], &[2, 3, 4]), pairs);
        assert_eq!(of(&[3], &[2, 3, 4]), [[0, 0, 0], [0, 12, 4]]);
        assert!(of(&[0, 2, 3], &[1, 3, 4]).is_empty());
    }
}
