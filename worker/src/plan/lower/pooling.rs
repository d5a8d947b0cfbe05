//! Pools, reductions and resizing.

use super::{Builder, Form, Layout, Value};
use crate::plan::PlanError;
use crate::plan::buffer::{BufferId, BufferKind};
use crate::plan::general::{General, int_width};
use crate::plan::instruction::{CodesFinish, Kernel, ResizeKernel};
use crate::plan::layout::{Placement, can_be_channels_last};
use crate::plan::rearrange::Recorder;
use holdfast_common::graph::{
    CoordinateMode, NearestMode, OpId, OpKind, PoolAttributes, ReduceKind, ResizeMode, TensorId,
};
use holdfast_kernels::float::{Axis, Coordinates, Divisor, Nearest};
use holdfast_kernels::int8::AverageCount;
use holdfast_kernels::{ConvGeometry, Image};

impl Builder<'_> {
    pub(super) fn max_pool(&mut self, id: OpId, attributes: &PoolAttributes) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (tensor, output) = (op.inputs[0], op.outputs[0]);
        match self.precision.codes(id, 0) {
            Some(codes) => {
                let input = self.codes_in(tensor, codes, Layout::ChannelsLast)?;
                let result = self.define_in(output, Form::Codes(codes), Layout::ChannelsLast);
                let geometry = self.pool_geometry(id, attributes, &input, &result)?;
                self.emit(id, Kernel::MaxPoolCodes { geometry }, vec![input.buffer], result.buffer);
            }
            None => {
                let input = self.read_real(id, 0, Layout::ChannelsLast)?;
                let result = self.define_in(output, Form::Real, Layout::ChannelsLast);
                let geometry = self.pool_geometry(id, attributes, &input, &result)?;
                self.emit(id, Kernel::MaxPoolFloat { geometry }, vec![input.buffer], result.buffer);
            }
        }
        Ok(())
    }

    pub(super) fn average_pool(&mut self, id: OpId, attributes: &PoolAttributes) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (tensor, output) = (op.inputs[0], op.outputs[0]);
        let bottom_right = match attributes.pads_end.as_slice() {
            [right] => [0, *right],
            [bottom, right] => [*bottom, *right],
            _ => [0, 0],
        };
        match self.precision.codes(id, 0) {
            Some(codes) => {
                let input = self.codes_in(tensor, codes, Layout::ChannelsLast)?;
                let (result, finish) = self.pool_finish(output, codes);
                let geometry = self.pool_geometry(id, attributes, &input, &result)?;
                let kernel = Kernel::AveragePoolCodes {
                    geometry,
                    count: if attributes.count_include_pad { AverageCount::Window } else { AverageCount::Valid },
                    finish,
                };
                self.emit(id, kernel, vec![input.buffer], result.buffer);
            }
            None => {
                let input = self.read_real(id, 0, Layout::ChannelsLast)?;
                let result = self.define_in(output, Form::Real, Layout::ChannelsLast);
                let geometry = self.pool_geometry(id, attributes, &input, &result)?;
                let divisor = if attributes.count_include_pad {
                    Divisor::PaddedTaps { pad_bottom: bottom_right[0], pad_right: bottom_right[1] }
                } else {
                    Divisor::InsideTaps
                };
                self.emit(id, Kernel::AveragePoolFloat { geometry, divisor }, vec![input.buffer], result.buffer);
            }
        }
        Ok(())
    }

    /// Whether a mean runs over exactly the spatial axes of a tensor that is made with channels last or read as codes.
    pub(super) fn is_spatial_mean(&self, id: OpId) -> bool {
        let op = self.graph.op(id);
        let shape = self.shape(op.inputs[0]);
        let spatial: Vec<usize> = (2..shape.len()).collect();
        matches!(&op.kind, OpKind::Reduce { kind: ReduceKind::Mean, axes, .. } if *axes == spatial)
            && can_be_channels_last(shape)
            && (self.native[op.inputs[0].0] == Layout::ChannelsLast || self.precision.codes(id, 0).is_some())
    }

    pub(super) fn global_average(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (tensor, output) = (op.inputs[0], op.outputs[0]);
        match self.precision.codes(id, 0) {
            Some(codes) => {
                let input = self.codes_in(tensor, codes, Layout::ChannelsLast)?;
                let (result, finish) = self.pool_finish(output, codes);
                let image = input.placement.image;
                // Where no spatial axis is kept the output is a row of channels; as pixels it would have one channel.
                let offset = result.placement.image.offset;
                let geometry = whole_image(image, Image { offset, ..Image::dense(1, 1, image.channels) });
                let kernel = Kernel::AveragePoolCodes { geometry, count: AverageCount::Valid, finish };
                self.emit(id, kernel, vec![input.buffer], result.buffer);
            }
            None => {
                let input = self.read_real(id, 0, Layout::ChannelsLast)?;
                let result = self.define(output, Form::Real);
                let (image, offset) = (input.placement.image, result.placement.image.offset);
                self.emit(id, Kernel::GlobalAverageFloat { image, offset }, vec![input.buffer], result.buffer);
            }
        }
        Ok(())
    }

    /// Where an average of codes goes: codes when nobody wants floats.
    fn pool_finish(&mut self, output: TensorId, input: super::ParamsId) -> (Value, CodesFinish) {
        let x = self.precision.get(input);
        match self.only_codes(output) {
            Some(codes) => {
                let y = self.precision.get(codes);
                let result = self.define(output, Form::Codes(codes));
                (result, CodesFinish::Codes { input: x, output: y })
            }
            None => (self.define(output, Form::Real), CodesFinish::Float { input: x }),
        }
    }

    fn pool_geometry(
        &self,
        id: OpId,
        attributes: &PoolAttributes,
        input: &Value,
        output: &Value,
    ) -> Result<ConvGeometry, PlanError> {
        let pair = |values: &[usize], missing: usize| match values {
            [width] => Ok([missing, *width]),
            [height, width] => Ok([*height, *width]),
            _ => Err(self.unsupported(id, format!("{} spatial axes; 1 and 2 are supported", values.len()))),
        };
        let (kernel, strides) = (pair(&attributes.kernel, 1)?, pair(&attributes.strides, 1)?);
        let (dilations, pads) = (pair(&attributes.dilations, 1)?, pair(&attributes.pads_begin, 0)?);
        Ok(ConvGeometry {
            kernel_h: kernel[0],
            kernel_w: kernel[1],
            stride_h: strides[0],
            stride_w: strides[1],
            dilation_h: dilations[0],
            dilation_w: dilations[1],
            pad_top: pads[0],
            pad_left: pads[1],
            input: input.placement.image,
            output: output.placement.image,
        })
    }

    pub(super) fn reduce(&mut self, id: OpId, kind: ReduceKind) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let (tensor, output) = (op.inputs[0], op.outputs[0]);
        let shape = self.shape(tensor).to_vec();
        let axes: Vec<usize> = match &op.kind {
            OpKind::Reduce { axes, .. } => axes.clone(),
            _ => (2..shape.len()).collect(),
        };
        let buffer = self.rows_along(id, &axes)?;
        let len: usize = axes.iter().map(|axis| shape[*axis]).product();
        let form = self.plain_form(output);
        let result = self.define_in(output, form, Layout::RowMajor);
        let rows: usize = self.shape(output).iter().product();
        let kernel = match (form, int_width(self.graph.tensor(output).data_type)) {
            (Form::Int, Some(width)) => Kernel::General(General::IntReduce { kind, width, rows, len }),
            _ => Kernel::ReduceRows { kind, rows, len },
        };
        self.emit(id, kernel, vec![buffer], result.buffer);
        Ok(())
    }

    /// A kernel on rows that keeps their length, and the way back to the order of the operation's output.
    pub(super) fn through_rows(
        &mut self,
        id: OpId,
        axes: &[usize],
        rows: BufferId,
        kernel: Kernel,
    ) -> Result<(), PlanError> {
        let output = self.graph.op(id).outputs[0];
        let shape = self.shape(output).to_vec();
        let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
        let permutation: Vec<usize> = kept.chain(axes.iter().copied()).collect();
        let permuted: Vec<usize> = permutation.iter().map(|axis| shape[*axis]).collect();
        let (placement, elements) = Placement::new(&permuted, Layout::RowMajor, [0; 4]);
        let form = self.plain_form(output);
        let done = self.allocate(self.buffer_kind(form), &placement, elements);
        self.emit(id, kernel, vec![rows], done);
        let result = self.define_in(output, form, Layout::RowMajor);
        let mut strides = vec![0; shape.len()];
        for (axis, stride) in permutation.iter().zip(placement.strides()) {
            strides[*axis] = stride;
        }
        let list = || {
            let mut recorder = Recorder::default();
            let mut sources = vec![0];
            for (&extent, &stride) in shape.iter().zip(&strides) {
                sources = sources.iter().flat_map(|at| (0..extent).map(move |index| at + index * stride)).collect();
            }
            sources.into_iter().enumerate().for_each(|(target, source)| recorder.copy(0, source, target));
            Ok::<_, PlanError>(recorder.finish())
        };
        let places = vec![placement.clone(), result.placement.clone()];
        let rearrangement = self.cache.moves((Some((id, 1)), places), list)?;
        self.emit(id, Kernel::Rearrange { rearrangement, fill: 0.0 }, vec![done], result.buffer);
        Ok(())
    }

    /// The operation's first input with these axes last, in a dense buffer: rows to reduce.
    pub(super) fn rows_along(&mut self, id: OpId, axes: &[usize]) -> Result<BufferId, PlanError> {
        let tensor = self.graph.op(id).inputs[0];
        let shape = self.shape(tensor).to_vec();
        let (input, kind) = match self.plain_form(tensor) {
            Form::Int => (self.int(tensor)?, BufferKind::I64),
            Form::Real | Form::Codes(_) => (self.read_real(id, 0, self.native[tensor.0])?, BufferKind::F32),
        };
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let permutation: Vec<usize> = kept.iter().chain(axes).copied().collect();
        if permutation.is_sorted() && input.placement.layout == Layout::RowMajor {
            return Ok(input.buffer);
        }
        let permuted: Vec<usize> = permutation.iter().map(|axis| shape[*axis]).collect();
        let (placement, elements) = Placement::new(&permuted, Layout::RowMajor, [0; 4]);
        let buffer = self.allocate(kind, &placement, elements);
        let list = || {
            let mut recorder = Recorder::default();
            let strides = input.placement.strides();
            let mut sources = vec![input.placement.image.offset];
            for &axis in &permutation {
                sources = sources
                    .iter()
                    .flat_map(|source| (0..shape[axis]).map(|index| source + index * strides[axis]).collect::<Vec<_>>())
                    .collect();
            }
            sources.into_iter().enumerate().for_each(|(target, source)| recorder.copy(0, source, target));
            Ok::<_, PlanError>(recorder.finish())
        };
        let places = vec![input.placement.clone(), placement];
        let rearrangement = self.cache.moves((Some((id, 0)), places), list)?;
        self.emit(id, Kernel::Rearrange { rearrangement, fill: 0.0 }, vec![input.buffer], buffer);
        Ok(buffer)
    }

    pub(super) fn resize(
        &mut self,
        id: OpId,
        mode: ResizeMode,
        coordinates: CoordinateMode,
        scales: &[f32],
    ) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let output = op.outputs[0];
        let input = self.read_real(id, 0, Layout::ChannelsLast)?;
        let result = self.define_in(output, Form::Real, Layout::ChannelsLast);
        let (from, to) = (input.placement.image, result.placement.image);
        let scale = |axis: usize| {
            let missing = 2usize.saturating_sub(scales.len());
            if axis < missing { None } else { Some(scales[axis - missing]) }
        };
        let rows = Axis { input: from.height, output: to.height, scale: scale(0) };
        let columns = Axis { input: from.width, output: to.width, scale: scale(1) };
        let coordinates = match coordinates {
            CoordinateMode::HalfPixel => Coordinates::HalfPixel,
            CoordinateMode::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
            CoordinateMode::AlignCorners => Coordinates::AlignCorners,
            CoordinateMode::Asymmetric => Coordinates::Asymmetric,
        };
        let kernel = match mode {
            ResizeMode::Nearest(nearest) => {
                let nearest = match nearest {
                    NearestMode::RoundPreferFloor => Nearest::RoundPreferFloor,
                    NearestMode::RoundPreferCeil => Nearest::RoundPreferCeil,
                    NearestMode::Floor => Nearest::Floor,
                    NearestMode::Ceil => Nearest::Ceil,
                };
                ResizeKernel::Nearest {
                    rows: rows.nearest(coordinates, nearest),
                    columns: columns.nearest(coordinates, nearest),
                }
            }
            ResizeMode::Linear => {
                ResizeKernel::Linear { rows: rows.linear(coordinates), columns: columns.linear(coordinates) }
            }
            ResizeMode::Cubic { .. } => return Err(self.unsupported(id, "cubic resizing has no kernel; use linear")),
        };
        self.emit(id, Kernel::Resize { kernel, from, to }, vec![input.buffer], result.buffer);
        Ok(())
    }
}

/// A window that covers a whole image.
fn whole_image(input: Image, output: Image) -> ConvGeometry {
    ConvGeometry {
        kernel_h: input.height,
        kernel_w: input.width,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
        input,
        output,
    }
}
