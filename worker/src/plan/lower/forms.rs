//! Getting a tensor in the form and layout an operation wants: quantize, dequantize, change layout, once each.

use super::{Builder, Form, ParamsId, Value};
use crate::plan::PlanError;
use crate::plan::buffer::{Aligned, BufferKind, Stored};
use crate::plan::instruction::Kernel;
use crate::plan::layout::{Layout, Placement};
use holdfast_common::graph::{DataType, OpId, TensorId};
use holdfast_common::quantization::codes::quantize_weights;
use holdfast_common::scheme::QuantParams;
use ndarray::ArrayD;
use std::sync::Arc;

impl Builder<'_> {
    /// A tensor as floats in its native layout.
    pub(super) fn real(&mut self, tensor: TensorId) -> Result<Value, PlanError> {
        self.real_in(tensor, self.native[tensor.0])
    }

    /// What a tensor holds when nothing quantizes it.
    pub(super) fn plain_form(&self, tensor: TensorId) -> Form {
        if self.graph.tensor(tensor).data_type == DataType::F32 { Form::Real } else { Form::Int }
    }

    /// A tensor as floats in its native layout, or as integers.
    pub(super) fn plain(&mut self, tensor: TensorId) -> Result<Value, PlanError> {
        match self.plain_form(tensor) {
            Form::Int => self.int(tensor),
            Form::Real | Form::Codes(_) => self.real(tensor),
        }
    }

    /// A tensor of integers or truth values; these are always row-major.
    pub(super) fn int(&mut self, tensor: TensorId) -> Result<Value, PlanError> {
        if let Some(value) = self.values.get(&(tensor, Form::Int, Layout::RowMajor)) {
            return Ok(value.clone());
        }
        let of = self.graph.tensor(tensor);
        let Some(values) = of.constant.as_ref().and_then(|constant| constant.to_i64()) else {
            let problem = format!("`{}` ({}) is not there as integers when it is read", of.name, of.data_type);
            return Err(PlanError::Scheme { problem });
        };
        let value = self.define_in(tensor, Form::Int, Layout::RowMajor);
        let elements = self.specs[value.buffer.0].elements;
        let lay_out = || Stored::I64(Arc::new(Aligned::of(&values, elements, 0)));
        self.constants.push((value.buffer, self.cache.constant(tensor, Layout::RowMajor, lay_out)));
        Ok(value)
    }

    /// An observed tensor as the floats its operation computes, before anything quantizes them.
    ///
    /// What the plan has only in codes is computed a second time, so that observing changes no result.
    pub(super) fn observed_value(&mut self, tensor: TensorId) -> Result<Value, PlanError> {
        let known = [Layout::RowMajor, Layout::ChannelsLast]
            .iter()
            .any(|layout| self.values.contains_key(&(tensor, Form::Real, *layout)));
        let producer = self.graph.tensor(tensor).producer;
        if let Some(producer) = producer.filter(|id| !known && !self.graph.op(*id).kind.only_moves_values()) {
            self.aside = true;
            let lowered = self.operation(producer);
            self.aside = false;
            lowered?;
        }
        self.real(tensor)
    }

    /// What an operation reads at an input, as floats: codes are dequantized where the scheme has a quantizer.
    pub(super) fn read_real(&mut self, op: OpId, input: usize, layout: Layout) -> Result<Value, PlanError> {
        let tensor = self.graph.op(op).inputs[input];
        if let Some(params) = self.precision.weights(op, input) {
            return self.quantized_constant(tensor, params, layout);
        }
        if let Some(values) = self.precision.addend(op, input) {
            return Ok(self.other_constant(tensor, values.iter().copied(), layout));
        }
        match self.precision.codes(op, input) {
            Some(id) => self.dequantized_in(tensor, id, layout),
            None => self.real_in(tensor, layout),
        }
    }

    /// A constant after quantization, for operations that have no int8 kernel.
    fn quantized_constant(
        &mut self,
        tensor: TensorId,
        params: &QuantParams,
        layout: Layout,
    ) -> Result<Value, PlanError> {
        let constant = self.graph.tensor(tensor).constant.as_ref().and_then(|constant| constant.as_f32());
        let Some(array) = constant else {
            return Err(PlanError::Scheme {
                problem: format!(
                    "`{}` has weight quant params but is no float32 constant",
                    self.graph.tensor(tensor).name
                ),
            });
        };
        let values = fake_quantized(array, params)?;
        Ok(self.other_constant(tensor, values.iter().copied(), layout))
    }

    /// A constant of this tensor's shape with other values than its own, for one reader.
    fn other_constant(&mut self, tensor: TensorId, values: impl Iterator<Item = f32>, layout: Layout) -> Value {
        let (placement, elements) = Placement::new(self.shape(tensor), layout, [0; 4]);
        let buffer = self.allocate(BufferKind::F32, &placement, elements);
        let mut stored = Aligned::filled(elements, 0.0);
        placement.scatter(values, stored.as_mut_slice());
        self.constants.push((buffer, Stored::F32(Arc::new(stored))));
        Value { buffer, placement }
    }

    /// A tensor's codes as floats.
    fn dequantized_in(&mut self, tensor: TensorId, id: ParamsId, layout: Layout) -> Result<Value, PlanError> {
        let key = (tensor, id, layout);
        if let Some(known) = self.dequantized.get(&key) {
            return Ok(known.clone());
        }
        let codes = self.codes_in(tensor, id, layout)?;
        let border = if layout == Layout::ChannelsLast { self.border[tensor.0] } else { [0; 4] };
        let (placement, elements) = Placement::new(self.shape(tensor), layout, border);
        let buffer = self.allocate(BufferKind::F32, &placement, elements);
        let value = Value { buffer, placement };
        let kernel = Kernel::Dequantize {
            params: self.precision.get(id),
            input: codes.placement.image,
            output: value.placement.image,
        };
        self.emit(self.maker(tensor), kernel, vec![codes.buffer], value.buffer);
        self.dequantized.insert(key, value.clone());
        Ok(value)
    }

    /// A tensor as unquantized floats in a layout.
    pub(super) fn real_in(&mut self, tensor: TensorId, layout: Layout) -> Result<Value, PlanError> {
        if let Some(value) = self.values.get(&(tensor, Form::Real, layout)) {
            return Ok(value.clone());
        }
        if let Some(constant) = &self.graph.tensor(tensor).constant {
            let Some(array) = constant.as_f32() else {
                return Err(PlanError::Scheme {
                    problem: format!(
                        "constant `{}` is {}, not float32",
                        self.graph.tensor(tensor).name,
                        constant.data_type()
                    ),
                });
            };
            let value = self.define_in(tensor, Form::Real, layout);
            let elements = self.specs[value.buffer.0].elements;
            let lay_out = || {
                let mut stored = Aligned::filled(elements, 0.0);
                value.placement.scatter(array.iter().copied(), stored.as_mut_slice());
                Stored::F32(Arc::new(stored))
            };
            self.constants.push((value.buffer, self.cache.constant(tensor, layout, lay_out)));
            return Ok(value);
        }
        let other = other_layout(layout);
        if let Some(source) = self.values.get(&(tensor, Form::Real, other)).cloned() {
            return Ok(self.relayout(tensor, Form::Real, &source, layout));
        }
        let codes = (0..self.precision.params.len()).map(ParamsId).find(|id| {
            [layout, other].iter().any(|layout| self.values.contains_key(&(tensor, Form::Codes(*id), *layout)))
        });
        if let Some(id) = codes {
            return self.dequantized_in(tensor, id, layout);
        }
        // An instruction that took over the next operation has left no trace of this tensor.
        match self.graph.tensor(tensor).producer.filter(|_| self.aside) {
            Some(producer) => {
                self.operation(producer)?;
                self.real_in(tensor, layout)
            }
            None => Err(PlanError::Scheme {
                problem: format!("`{}` is read before it is computed", self.graph.tensor(tensor).name),
            }),
        }
    }

    /// A tensor as codes in a layout.
    pub(super) fn codes_in(&mut self, tensor: TensorId, id: ParamsId, layout: Layout) -> Result<Value, PlanError> {
        let form = Form::Codes(id);
        if let Some(value) = self.values.get(&(tensor, form, layout)) {
            return Ok(value.clone());
        }
        if let Some(source) = self.values.get(&(tensor, form, other_layout(layout))).cloned() {
            return Ok(self.relayout(tensor, form, &source, layout));
        }
        let source = self.real_in(tensor, layout)?;
        let value = self.define_in(tensor, form, layout);
        let kernel = Kernel::Quantize {
            quantizer: self.cache.quantizer(self.precision.get(id)),
            input: source.placement.image,
            output: value.placement.image,
        };
        self.emit(self.maker(tensor), kernel, vec![source.buffer], value.buffer);
        Ok(value)
    }

    /// The operation that makes a tensor, for attribution; the first reader where it is an input.
    fn maker(&self, tensor: TensorId) -> OpId {
        let tensor = self.graph.tensor(tensor);
        tensor.producer.or_else(|| tensor.consumers.first().map(|(op, _)| *op)).unwrap_or(OpId(0))
    }

    fn relayout(&mut self, tensor: TensorId, form: Form, source: &Value, layout: Layout) -> Value {
        let value = self.define_in(tensor, form, layout);
        let rearrangement = self.broadcast_moves(&source.placement, &value.placement);
        let kernel = Kernel::Rearrange { rearrangement, fill: 0.0 };
        self.emit(self.maker(tensor), kernel, vec![source.buffer], value.buffer);
        value
    }
}

/// The floats that the codes of a constant stand for.
fn fake_quantized(array: &ArrayD<f32>, params: &QuantParams) -> Result<ArrayD<f32>, PlanError> {
    let codes = quantize_weights(array, params).map_err(|error| PlanError::Scheme { problem: error.to_string() })?;
    Ok(dequantized(&codes, params))
}

/// The floats that codes stand for.
pub(super) fn dequantized(codes: &ArrayD<i8>, params: &QuantParams) -> ArrayD<f32> {
    let mut values = codes.mapv(f32::from);
    for (index, value) in values.indexed_iter_mut() {
        let slice = params.axis.map_or(0, |axis| index[axis]);
        *value = params.scales[slice] * (*value - params.zero_points[slice] as f32);
    }
    values
}

fn other_layout(layout: Layout) -> Layout {
    match layout {
        Layout::RowMajor => Layout::ChannelsLast,
        Layout::ChannelsLast => Layout::RowMajor,
    }
}
