//! Operations of whole tensors that runtimes do not quantize: normalizations, selections, codes, recurrent layers.

use super::{Builder, Form, Layout, Placement};
use crate::plan::PlanError;
use crate::plan::buffer::BufferId;
use crate::plan::general::{General, Recurrent, RowFunction, Slices, int_width};
use crate::plan::instruction::Kernel;
use crate::plan::rearrange::Recorder;
use holdfast_common::graph::{DataType, Direction, GeneralKind, OpId, RecurrentCell};
use holdfast_kernels::float::recurrent::Cell;
use holdfast_kernels::general::{IntWidth, TupleSelection};

impl Builder<'_> {
    /// Lowers an operation of a whole tensor.
    pub(super) fn tensor_operation(&mut self, id: OpId, kind: &GeneralKind) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let output = op.outputs[0];
        let shape = self.shape(op.inputs[0]).to_vec();
        let len = shape.iter().product();
        match kind {
            GeneralKind::Triangle { .. } | GeneralKind::SpaceToDepth { .. } | GeneralKind::PadInside { .. } => {
                self.moves(id)
            }
            GeneralKind::GroupNormalization { groups, epsilon } => {
                let (samples, channels) = (shape[0], shape[1]);
                let len = len / samples.max(1);
                let kernel = General::GroupNormalize { samples, channels, len, groups: *groups, epsilon: *epsilon };
                let inputs = self.float_inputs(id)?;
                self.emit_general(id, kernel, inputs)
            }
            GeneralKind::LocalResponse { size, alpha, beta, bias } => {
                let extents = [*size, shape[1], shape[2..].iter().product()];
                let kernel = General::LocalResponse { samples: shape[0], extents, factors: [*alpha, *beta, *bias] };
                let inputs = self.float_inputs(id)?;
                self.emit_general(id, kernel, inputs)
            }
            GeneralKind::LpNormalization { axis, absolute } => {
                self.row_function(id, *axis, RowFunction::LpNormalize { absolute: *absolute })
            }
            GeneralKind::Hardmax { axis } => self.row_function(id, *axis, RowFunction::Hardmax),
            GeneralKind::CumSum { axis, exclusive, reverse } => {
                let (exclusive, reverse) = (*exclusive, *reverse);
                if self.graph.tensor(output).data_type == DataType::F32 {
                    return self.row_function(id, *axis, RowFunction::RunningSum { exclusive, reverse });
                }
                let source = self.rows_along(id, &[*axis])?;
                let kernel = General::IntRunningSum { exclusive, reverse, len: shape[*axis], total: len };
                self.through_rows(id, &[*axis], source, Kernel::General(kernel))
            }
            GeneralKind::OneHot { axis } => self.one_hot(id, *axis),
            GeneralKind::GatherElements { axis } => {
                let index_shape = self.shape(op.inputs[1]).to_vec();
                let operation = op.name.clone();
                let inputs = self.selection_inputs(id)?;
                self.emit_general(id, General::GatherElements { axis: *axis, shape, index_shape, operation }, inputs)
            }
            GeneralKind::GatherNd { batch_axes } => {
                let indices = self.shape(op.inputs[1]).to_vec();
                let tuple = indices.last().copied().unwrap_or(0);
                let inner = shape[batch_axes + tuple..].iter().product();
                let selection = TupleSelection {
                    batches: shape[..*batch_axes].iter().product(),
                    tuples: indices[*batch_axes..indices.len() - 1].iter().product(),
                    extents: shape[*batch_axes..batch_axes + tuple].to_vec(),
                    inner,
                };
                let operation = op.name.clone();
                let inputs = self.selection_inputs(id)?;
                self.emit_general(id, General::GatherTuples { selection, operation }, inputs)
            }
            GeneralKind::IsNan => {
                let inputs = self.float_inputs(id)?;
                self.emit_general(id, General::Test { nan: true, positive: false, negative: false, len }, inputs)
            }
            GeneralKind::IsInfinite { positive, negative } => {
                let kernel = General::Test { nan: false, positive: *positive, negative: *negative, len };
                let inputs = self.float_inputs(id)?;
                self.emit_general(id, kernel, inputs)
            }
            GeneralKind::Quantize { axis } => {
                let slices = self.slices(id, *axis)?;
                let source = self.read_real(id, 0, Layout::RowMajor)?.buffer;
                self.emit_general(id, General::Quantize(slices), vec![source])
            }
            GeneralKind::Dequantize { axis } => {
                let slices = self.slices(id, *axis)?;
                let source = self.int(op.inputs[0])?.buffer;
                self.emit_general(id, General::Dequantize(slices), vec![source])
            }
            GeneralKind::Recurrent { cell, direction } => self.recurrent(id, *cell, *direction),
        }
    }

    /// A kernel whose whole result is the operation's only output.
    fn emit_general(&mut self, id: OpId, general: General, inputs: Vec<BufferId>) -> Result<(), PlanError> {
        let output = self.graph.op(id).outputs[0];
        let result = self.define_in(output, self.plain_form(output), Layout::RowMajor);
        self.emit(id, Kernel::General(general), inputs, result.buffer);
        Ok(())
    }

    /// All inputs as row-major floats.
    fn float_inputs(&mut self, id: OpId) -> Result<Vec<BufferId>, PlanError> {
        let count = self.graph.op(id).inputs.len();
        (0..count).map(|input| Ok(self.read_real(id, input, Layout::RowMajor)?.buffer)).collect()
    }

    /// What a selection reads, and its indices.
    fn selection_inputs(&mut self, id: OpId) -> Result<Vec<BufferId>, PlanError> {
        let op = self.graph.op(id);
        let (x, indices) = (op.inputs[0], op.inputs[1]);
        let source = match self.plain_form(x) {
            Form::Int => self.int(x)?,
            Form::Real | Form::Codes(_) => self.read_real(id, 0, Layout::RowMajor)?,
        };
        Ok(vec![source.buffer, self.int(indices)?.buffer])
    }

    /// A function of the rows along an axis.
    fn row_function(&mut self, id: OpId, axis: usize, function: RowFunction) -> Result<(), PlanError> {
        let shape = self.shape(self.graph.op(id).inputs[0]).to_vec();
        let len = shape[axis];
        let rows = shape.iter().product::<usize>() / len.max(1);
        let source = self.rows_along(id, &[axis])?;
        self.through_rows(id, &[axis], source, Kernel::General(General::Rows { function, rows, len }))
    }

    fn one_hot(&mut self, id: OpId, axis: usize) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (indices, values, output) = (op.inputs[0], op.inputs[1], op.outputs[0]);
        let shape = self.shape(output).to_vec();
        let indices = match self.plain_form(indices) {
            Form::Int => self.int(indices)?.buffer,
            Form::Real | Form::Codes(_) => {
                let source = self.read_real(id, 0, Layout::RowMajor)?;
                let len = self.shape(indices).iter().product();
                let (placement, elements) = Placement::new(self.shape(indices), Layout::RowMajor, [0; 4]);
                let buffer = self.allocate(crate::plan::buffer::BufferKind::I64, &placement, elements);
                let kernel = Kernel::General(General::FloatToInt { width: IntWidth::I64, len });
                self.emit(id, kernel, vec![source.buffer], buffer);
                buffer
            }
        };
        let values = match self.plain_form(values) {
            Form::Int => self.int(values)?.buffer,
            Form::Real | Form::Codes(_) => self.read_real(id, 1, Layout::RowMajor)?.buffer,
        };
        let extents = [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()];
        self.emit_general(id, General::OneHot { extents }, vec![indices, values])
    }

    /// The constant quant params of QuantizeLinear and DequantizeLinear.
    fn slices(&self, id: OpId, axis: usize) -> Result<Slices, PlanError> {
        let op = self.graph.op(id);
        let shape = self.shape(op.inputs[0]);
        let constant = |position: usize| self.graph.constant_input(id, position);
        let scales = constant(1).and_then(|data| data.as_f32()).map(|data| data.iter().copied().collect::<Vec<_>>());
        let zero_points = constant(2).and_then(|data| data.to_i64());
        let (Some(scales), Some(zero_points)) = (scales, zero_points) else {
            return Err(self.unsupported(id, "its scale and zero point must be constants"));
        };
        let inner = if scales.len() == 1 { shape.iter().product() } else { shape[axis + 1..].iter().product() };
        let limits = match int_width(self.graph.tensor(op.inputs[2]).data_type) {
            Some(IntWidth::I8) => [-128, 127],
            Some(IntWidth::U8) => [0, 255],
            _ => [i64::from(i32::MIN), i64::from(i32::MAX)],
        };
        Ok(Slices { inner, len: shape.iter().product(), scales, zero_points, limits })
    }

    fn recurrent(&mut self, id: OpId, cell: RecurrentCell, direction: Direction) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let outputs = op.outputs.clone();
        let (x, hidden) = (self.shape(op.inputs[0]).to_vec(), self.shape(outputs[1])[2]);
        let reversed = match direction {
            Direction::Forward => vec![false],
            Direction::Reverse => vec![true],
            Direction::Both => vec![false, true],
        };
        let cell = match cell {
            RecurrentCell::Lstm => Cell::Lstm,
            RecurrentCell::Gru { linear_before_reset } => Cell::Gru { linear_before_reset },
            RecurrentCell::Tanh => Cell::Tanh,
            RecurrentCell::Relu => Cell::Relu,
        };
        let inputs = self.float_inputs(id)?;
        let total: usize = outputs.iter().map(|output| self.shape(*output).iter().product::<usize>()).sum();
        let (placement, elements) = Placement::new(&[total], Layout::RowMajor, [0; 4]);
        let joined = self.allocate(crate::plan::buffer::BufferKind::F32, &placement, elements);
        let layer = Recurrent { cell, reversed, time: x[0], batch: x[1], input: x[2], hidden };
        self.emit(id, Kernel::General(General::Recurrent(layer)), inputs, joined);
        let mut first = 0;
        for (index, output) in outputs.into_iter().enumerate() {
            let len: usize = self.shape(output).iter().product();
            let result = self.define_in(output, Form::Real, Layout::RowMajor);
            let list = || {
                let mut recorder = Recorder::default();
                (0..len).for_each(|at| recorder.copy(0, first + at, at));
                Ok::<_, PlanError>(recorder.finish())
            };
            let places = vec![placement.clone(), result.placement.clone()];
            let rearrangement = self.cache.moves((Some((id, index)), places), list)?;
            self.emit(id, Kernel::Rearrange { rearrangement, fill: 0.0 }, vec![joined], result.buffer);
            first += len;
        }
        Ok(())
    }
}
