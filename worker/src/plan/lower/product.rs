//! Convolutions and products with constant weights: codes where the scheme says so, floats elsewhere.

use super::forms::dequantized;
use super::fusion::Clamp;
use super::spread::Spread;
use super::{Builder, Form, Layout, Value};
use crate::plan::PlanError;
use crate::plan::buffer::BufferKind;
use crate::plan::cache::Packed;
use crate::plan::instruction::Kernel;
use crate::plan::part::{FloatPart, Int8Finish, Int8Part};
use crate::plan::precision::ParamsId;
use holdfast_common::Digest;
use holdfast_common::graph::{ConvAttributes, OpId, OpKind, TensorId};
use holdfast_common::quantization::codes::{quantize_bias, quantize_weights};
use holdfast_common::scheme::QuantParams;
use holdfast_kernels::float::PackedF32;
use holdfast_kernels::int8::{AddU8, PackedDepthwise, PackedWeights, QuantizedOperand, Requant, WeightShape};
use holdfast_kernels::{ConvGeometry, Image};
use ndarray::ArrayD;
use std::ops::Range;

/// The window of a product and how its constant weights are ordered.
#[derive(Clone, Debug)]
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 2],
    groups: usize,
    out_channels: usize,
    /// Channels of one group's input.
    channels: usize,
    layout: Layout,
    order: WeightOrder,
    /// Zeros put between and around the input's pixels first (transposed convolutions).
    spread: Option<Spread>,
    /// Factors of product and bias (Gemm).
    alpha: f32,
    beta: f32,
}

/// What comes out of an int8 product.
struct Finish<'s> {
    /// The value it makes.
    result: Value,
    /// The epilogue of the part that computes these output channels.
    part: Box<dyn Fn(Range<usize>) -> Result<Int8Finish, PlanError> + 's>,
    /// The other operand of the addition taken over.
    residual: Option<Value>,
    /// The addition taken over.
    addition: Option<OpId>,
}

/// Where a weight constant has its output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WeightOrder {
    /// `[O, I, kernel…]`, as convolutions have it.
    OutputInputKernel,
    /// `[O, I]`.
    OutputInput,
    /// `[I, O]`.
    InputOutput,
    /// `[I, O/groups, kernel…]` with mirrored kernels, as transposed convolutions have it.
    Transposed,
}

impl WeightOrder {
    /// The axis of the output channels.
    fn output_axis(self) -> usize {
        match self {
            WeightOrder::OutputInputKernel | WeightOrder::OutputInput => 0,
            WeightOrder::InputOutput | WeightOrder::Transposed => 1,
        }
    }
}

impl Window {
    /// `[O][kernel][I]` from the constant's own order.
    fn reorder<T: Copy>(&self, values: &ArrayD<T>) -> Vec<T> {
        let taps = self.kernel[0] * self.kernel[1];
        let flat: Vec<T> = values.iter().copied().collect();
        let (outputs, inputs) = (self.out_channels, self.channels);
        let mut reordered = Vec::with_capacity(flat.len());
        for output in 0..outputs {
            for tap in 0..taps {
                for input in 0..inputs {
                    reordered.push(match self.order {
                        WeightOrder::OutputInputKernel => flat[(output * inputs + input) * taps + tap],
                        WeightOrder::OutputInput => flat[output * inputs + input],
                        WeightOrder::InputOutput => flat[input * outputs + output],
                        WeightOrder::Transposed => {
                            let slices = outputs / self.groups;
                            let row = output / slices * inputs + input;
                            flat[(row * slices + output % slices) * taps + (taps - 1 - tap)]
                        }
                    });
                }
            }
        }
        reordered
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.channels == 1 && self.groups == self.out_channels
    }

    /// The geometry of one group, or of all channels of a depthwise convolution.
    fn geometry(&self, input: Image, output: Image, group: usize) -> ConvGeometry {
        let slice = |image: Image, channels: usize| {
            if self.groups == 1 || self.is_depthwise() {
                image
            } else {
                Image { channels, offset: image.offset + group * channels, ..image }
            }
        };
        ConvGeometry {
            kernel_h: self.kernel[0],
            kernel_w: self.kernel[1],
            stride_h: self.strides[0],
            stride_w: self.strides[1],
            dilation_h: self.dilations[0],
            dilation_w: self.dilations[1],
            pad_top: self.pads[0],
            pad_left: self.pads[1],
            input: slice(input, self.channels),
            output: slice(output, self.out_channels / self.groups),
        }
    }

    /// How many calls it takes: one a group, one for all channels of a depthwise convolution.
    fn parts(&self) -> usize {
        if self.is_depthwise() { 1 } else { self.groups }
    }

    /// Output channels of one part.
    fn part_channels(&self) -> usize {
        self.out_channels / self.parts()
    }
}

impl Builder<'_> {
    pub(super) fn convolution(&mut self, id: OpId, attributes: &ConvAttributes) -> Result<(), PlanError> {
        let weights = self.shape(self.graph.op(id).inputs[1]).to_vec();
        let pair = |values: &[usize], missing: usize| match values {
            [width] => Ok([missing, *width]),
            [height, width] => Ok([*height, *width]),
            _ => Err(self.unsupported(id, format!("{} spatial axes; 1 and 2 are supported", values.len()))),
        };
        let window = Window {
            kernel: pair(&attributes.kernel, 1)?,
            strides: pair(&attributes.strides, 1)?,
            dilations: pair(&attributes.dilations, 1)?,
            pads: pair(&attributes.pads_begin, 0)?,
            groups: attributes.group,
            out_channels: weights[0],
            channels: weights[1],
            layout: Layout::ChannelsLast,
            order: WeightOrder::OutputInputKernel,
            spread: None,
            alpha: 1.0,
            beta: 1.0,
        };
        if self.shape(self.graph.op(id).inputs[0])[0] != 1 {
            return Err(self.unsupported(id, "its batch extent is not 1; export the model with a dynamic batch"));
        }
        self.product(id, &window)
    }

    /// A transposed convolution is a plain one, with mirrored kernels, over the input with zeros between its pixels.
    pub(super) fn transposed_convolution(&mut self, id: OpId, attributes: &ConvAttributes) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let weights = self.shape(op.inputs[1]).to_vec();
        let pair = |values: &[usize], missing: usize| match values {
            [width] => Ok([missing, *width]),
            [height, width] => Ok([*height, *width]),
            _ => Err(self.unsupported(id, format!("{} spatial axes; 1 and 2 are supported", values.len()))),
        };
        let (kernel, dilations) = (pair(&attributes.kernel, 1)?, pair(&attributes.dilations, 1)?);
        let (begin, steps) = (pair(&attributes.pads_begin, 0)?, pair(&attributes.strides, 1)?);
        let reach = [0, 1].map(|axis| (kernel[axis] - 1) * dilations[axis]);
        let output = self.shape(op.outputs[0]);
        if output[0] != 1 {
            return Err(self.unsupported(id, "its batch extent is not 1; export the model with a dynamic batch"));
        }
        let (height, width, _) = crate::plan::layout::extents(output);
        let window = Window {
            kernel,
            strides: [1, 1],
            dilations,
            pads: [0, 0],
            groups: attributes.group,
            out_channels: weights[1] * attributes.group,
            channels: weights[0] / attributes.group,
            layout: Layout::ChannelsLast,
            order: WeightOrder::Transposed,
            spread: Some(Spread {
                steps,
                before: [0, 1].map(|axis| reach[axis] as isize - begin[axis] as isize),
                extents: [height + reach[0], width + reach[1]],
            }),
            alpha: 1.0,
            beta: 1.0,
        };
        self.product(id, &window)
    }

    pub(super) fn gemm(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let OpKind::Gemm { alpha, beta, trans_a, trans_b } = op.kind else {
            return Err(self.unsupported(id, "it is not a Gemm"));
        };
        if trans_a {
            return Err(self.unsupported(id, "a transposed first operand has no kernel; put a Transpose before it"));
        }
        let shape = self.shape(op.inputs[1]);
        let order = if trans_b { WeightOrder::OutputInput } else { WeightOrder::InputOutput };
        let (out_channels, channels) = if trans_b { (shape[0], shape[1]) } else { (shape[1], shape[0]) };
        self.product(id, &Window::matrix(out_channels, channels, order, alpha, beta))
    }

    pub(super) fn matmul(&mut self, id: OpId) -> Result<(), PlanError> {
        let shape = self.shape(self.graph.op(id).inputs[1]).to_vec();
        let constant = self.graph.constant_input(id, 1).is_some();
        match shape.as_slice() {
            [channels, out_channels] if constant => {
                self.product(id, &Window::matrix(*out_channels, *channels, WeightOrder::InputOutput, 1.0, 1.0))
            }
            _ => self.activation_product(id),
        }
    }

    fn product(&mut self, id: OpId, window: &Window) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        let Some(weights) = self.graph.constant_input(id, 1).and_then(|weights| weights.as_f32()) else {
            return Err(
                self.unsupported(id, "its weights are not a float32 constant; fold or export them as initializers")
            );
        };
        let bias = match op.inputs.get(2) {
            None => vec![0.0; window.out_channels],
            Some(_) => {
                let constant = self.graph.constant_input(id, 2).and_then(|bias| bias.as_f32());
                let values: Vec<f32> = constant.map(|bias| bias.iter().copied().collect()).unwrap_or_default();
                match values.as_slice() {
                    [one] => vec![*one; window.out_channels],
                    all if all.len() == window.out_channels => values,
                    _ => return Err(self.unsupported(id, "its bias is not one constant a column")),
                }
            }
        };
        let bias = self.precision.bias(&op.name).map_or(bias, <[f32]>::to_vec);
        if bias.len() != window.out_channels {
            return Err(PlanError::Scheme {
                problem: format!(
                    "operation `{}` has {} output channels; the scheme has {} biases",
                    op.name,
                    window.out_channels,
                    bias.len()
                ),
            });
        }
        let quantized = self.precision.codes(id, 0).zip(self.precision.weights(id, 1));
        let Some((codes, params)) = quantized else { return self.float_product(id, window, weights, &bias) };
        let symmetric = params.zero_points.iter().all(|zero_point| *zero_point == 0);
        if symmetric && window.alpha == 1.0 && window.beta == 1.0 {
            self.int8_product(id, window, codes, params, weights, &bias)
        } else {
            // No integer kernel: what the codes stand for, in float.
            self.float_product(id, window, weights, &bias)
        }
    }

    /// A product of floats; its weights are what their codes stand for where the scheme quantizes them.
    fn float_product(
        &mut self,
        id: OpId,
        window: &Window,
        weights: &ArrayD<f32>,
        bias: &[f32],
    ) -> Result<(), PlanError> {
        let isa = self.isa;
        let params = self.precision.weights(id, 1);
        // Schemes that differ in biases only share the packed weights.
        let tuned = self.precision.tuned(&self.graph.op(id).name);
        let key = params.map(|params| Digest::of_json(&(params, tuned))).transpose();
        let key = key.map_err(|error| PlanError::Scheme { problem: error.to_string() })?;
        let packed = self.cache.get(key, id, || {
            let mut ordered = match params {
                Some(params) => window.reorder(&dequantized(&weight_codes(weights, params, tuned)?, params)),
                None => window.reorder(weights),
            };
            if window.alpha != 1.0 {
                ordered.iter_mut().for_each(|weight| *weight *= window.alpha);
            }
            Ok::<_, PlanError>(if window.is_depthwise() {
                Packed::FloatDepthwise(ordered)
            } else {
                let taps = window.kernel[0] * window.kernel[1];
                let channels = window.part_channels();
                let part = |values: &[f32]| PackedF32::pack(isa, channels, taps, window.channels, values);
                Packed::Float(ordered.chunks((channels * taps * window.channels).max(1)).map(part).collect())
            })
        })?;
        let input = self.read_real(id, 0, window.layout)?;
        let input = self.spread_out(id, &input, BufferKind::F32, window.spread.as_ref())?;
        let unbiased = self.graph.op(id).inputs.len() == 2 && bias.iter().all(|bias| *bias == 0.0);
        let shift = if unbiased { self.shift_behind(id, window.layout) } else { None };
        let (shifted, bias) = match &shift {
            Some((addition, shift)) => (*addition, shift.clone()),
            None => (id, bias.iter().map(|bias| bias * window.beta).collect()),
        };
        self.fused.extend(shift.map(|(addition, _)| addition));
        let addition = if window.is_grouped() { None } else { self.float_add_behind(shifted, window.layout) };
        let last = addition.as_ref().map_or(shifted, |(addition, _)| *addition);
        let (activation, clamp, output) = self.float_clamp_behind(last);
        self.fused.extend(activation);
        let residual = addition.map(|(addition, value)| {
            self.fused.insert(addition);
            (addition, value)
        });
        let result = self.define_in(output, Form::Real, window.layout);
        let image = residual.as_ref().map(|(_, value)| value.placement.image);
        let mut parts = Vec::new();
        for part in 0..window.parts() {
            let geometry = window.geometry(input.placement.image, result.placement.image, part);
            let channels = window.part_channels();
            let bias = bias[part * channels..(part + 1) * channels].to_vec();
            parts.push(
                FloatPart::new(isa, &geometry, &packed, bias, image, (clamp.lo, clamp.hi))
                    .map_err(|error| self.unsupported(id, error.to_string()))?,
            );
        }
        let mut inputs = vec![input.buffer];
        inputs.extend(residual.as_ref().map(|(_, value)| value.buffer));
        self.emit(id, Kernel::ConvFloat { parts, packed }, inputs, result.buffer);
        if let Some(last) = self.instructions.last_mut() {
            last.operations.extend((shifted != id).then_some(shifted));
            last.operations.extend(residual.map(|(addition, _)| addition));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn int8_product(
        &mut self,
        id: OpId,
        window: &Window,
        codes: ParamsId,
        params: &QuantParams,
        weights: &ArrayD<f32>,
        bias: &[f32],
    ) -> Result<(), PlanError> {
        let isa = self.isa;
        let x = self.precision.get(codes);
        let fits = match params.axis {
            None => params.scales.len() == 1,
            Some(axis) => axis == window.order.output_axis(),
        };
        if !fits {
            return Err(PlanError::Scheme {
                problem: format!(
                    "operation `{}` has {} output channels along axis {} of its weights; the scheme has {} scales along \
                     axis {:?}",
                    self.graph.op(id).name,
                    window.out_channels,
                    window.order.output_axis(),
                    params.scales.len(),
                    params.axis
                ),
            });
        }
        let scales = match params.scales.as_slice() {
            [one] => vec![*one; window.out_channels],
            all if all.len() == window.out_channels => all.to_vec(),
            // The groups of a transposed convolution share the slices of its weights.
            slices if slices.len() * window.groups == window.out_channels => slices.repeat(window.groups),
            _ => {
                return Err(self.unsupported(id, "the scheme has another number of weight scales than output channels"));
            }
        };
        let input = self.codes_in(self.graph.op(id).inputs[0], codes, window.layout)?;
        let kind = BufferKind::U8 { fill: x.zero_point };
        let input = self.spread_out(id, &input, kind, window.spread.as_ref())?;
        let packed = self.cache.get(self.scheme, id, || {
            let tuned = self.precision.tuned(&self.graph.op(id).name);
            let codes = weight_codes(weights, params, tuned)?;
            let ordered = window.reorder(&codes);
            pack_int8(isa, window, &input, &ordered).map_err(|error| self.unsupported(id, error.to_string()))
        })?;
        let sums = column_sums(&packed);
        let bias: Vec<i32> = quantize_bias(bias, &[x.scale], &scales)
            .map_err(|error| self.unsupported(id, error.to_string()))?
            .iter()
            .zip(&sums)
            .map(|(code, sum)| code.wrapping_sub(i32::from(x.zero_point).wrapping_mul(*sum)))
            .collect();
        let real_scales: Vec<f32> = scales.iter().map(|scale| x.scale * scale).collect();
        let (activation, clamp, output) = self.clamp_behind(id);
        let shift = if activation.is_none() && self.only_codes(output).is_none() {
            self.shift_behind(id, window.layout)
        } else {
            None
        };
        let Finish { result, part: finish, residual, addition } = match shift {
            Some((addition, shift)) => self.shifted_finish(window, &real_scales, addition, shift),
            None => {
                self.fused.extend(activation);
                self.int8_finish(id, window, &real_scales, clamp, output)?
            }
        };
        let mut parts = Vec::new();
        for part in 0..window.parts() {
            let geometry = window.geometry(input.placement.image, result.placement.image, part);
            let range = part * window.part_channels()..(part + 1) * window.part_channels();
            parts.push(
                Int8Part::new(isa, &geometry, window.is_depthwise(), bias[range.clone()].to_vec(), finish(range)?)
                    .map_err(|error| self.unsupported(id, error.to_string()))?,
            );
        }
        let mut inputs = vec![input.buffer];
        inputs.extend(residual.map(|value| value.buffer));
        self.emit(id, Kernel::ConvInt8 { parts, packed }, inputs, result.buffer);
        if let (Some(addition), Some(last)) = (addition, self.instructions.last_mut()) {
            last.operations.push(addition);
        }
        Ok(())
    }

    /// Floats of an int8 product with the addition behind it, and the clamp behind that.
    fn shifted_finish<'s>(
        &mut self,
        window: &Window,
        scales: &'s [f32],
        addition: OpId,
        shift: Vec<f32>,
    ) -> Finish<'s> {
        let (activation, clamp, output) = self.float_clamp_behind(addition);
        self.fused.insert(addition);
        self.fused.extend(activation);
        let result = self.define_in(output, Form::Real, window.layout);
        let part = move |range: Range<usize>| {
            let (scales, shift) = (scales[range.clone()].to_vec(), Some(shift[range].to_vec()));
            Ok(Int8Finish::Float { scales, shift, lo: clamp.lo, hi: clamp.hi })
        };
        Finish { result, part: Box::new(part), residual: None, addition: Some(addition) }
    }

    /// Decides what comes out of an int8 product: codes, codes of a fused addition, or floats.
    fn int8_finish<'s>(
        &mut self,
        id: OpId,
        window: &Window,
        scales: &'s [f32],
        clamp: Clamp,
        output: TensorId,
    ) -> Result<Finish<'s>, PlanError> {
        let Some(own) = self.only_codes(output) else {
            let result = self.define_in(output, Form::Real, window.layout);
            let finish = move |range: Range<usize>| {
                Ok(Int8Finish::Float { scales: scales[range].to_vec(), shift: None, lo: clamp.lo, hi: clamp.hi })
            };
            return Ok(Finish { result, part: Box::new(finish), residual: None, addition: None });
        };
        let y = self.precision.get(own);
        let (lo, hi) = clamp.in_codes(&y);
        let refuse = {
            let name = self.graph.op(id).name.clone();
            move |problem: String| PlanError::Unsupported { operation: name.clone(), kind: "int8 product", problem }
        };
        let requant = move |range: Range<usize>| {
            let multipliers = scales[range].iter().map(|scale| scale / y.scale).collect();
            Requant::new(multipliers, y.zero_point, lo, hi).map_err(|error| refuse(error.to_string()))
        };
        let fusible = !window.is_grouped();
        let Some(add) = self.add_behind(output, window.layout).filter(|_| fusible) else {
            let result = self.define_in(output, Form::Codes(own), window.layout);
            let part = Box::new(move |range| Ok(Int8Finish::Codes(requant(range)?)));
            return Ok(Finish { result, part, residual: None, addition: None });
        };
        let residual = self.codes_in(add.other, add.residual, window.layout)?;
        let result = self.define_in(add.output, Form::Codes(add.output_codes), window.layout);
        let sum = self.add_parameters(add.op, add.clamp, add.output_codes, add.is_first, own, add.residual)?;
        self.fused.insert(add.op);
        self.fused.extend(add.activation);
        let image = residual.placement.image;
        let finish =
            move |range| Ok(Int8Finish::Add { requant: requant(range)?, add: sum, residual: image, in_place: false });
        Ok(Finish { result, part: Box::new(finish), residual: Some(residual), addition: Some(add.op) })
    }

    /// The parameters of a quantized addition of `own` codes and `other` codes; `is_first` says whether `own` is the
    /// first operand.
    pub(super) fn add_parameters(
        &self,
        id: OpId,
        clamp: Clamp,
        output: ParamsId,
        is_first: bool,
        own: ParamsId,
        other: ParamsId,
    ) -> Result<AddU8, PlanError> {
        let operand = |id: ParamsId| {
            let params = self.precision.get(id);
            QuantizedOperand { scale: params.scale, zero_point: params.zero_point }
        };
        let (a, b) = if is_first { (own, other) } else { (other, own) };
        let (lo, hi) = clamp.in_codes(&self.precision.get(output));
        AddU8::new(operand(a), operand(b), operand(output), (lo, hi), is_first)
            .map_err(|error| self.unsupported(id, error.to_string()))
    }
}

impl Window {
    fn matrix(out_channels: usize, channels: usize, order: WeightOrder, alpha: f32, beta: f32) -> Window {
        Window {
            kernel: [1, 1],
            strides: [1, 1],
            dilations: [1, 1],
            pads: [0, 0],
            groups: 1,
            out_channels,
            channels,
            layout: Layout::RowMajor,
            order,
            spread: None,
            alpha,
            beta,
        }
    }

    /// Whether it takes several calls that write channel slices.
    fn is_grouped(&self) -> bool {
        self.parts() > 1
    }
}

/// The codes of weights: tuned ones where there are some, else the nearest.
fn weight_codes(weights: &ArrayD<f32>, params: &QuantParams, tuned: Option<&[i8]>) -> Result<ArrayD<i8>, PlanError> {
    let refuse = |problem: String| PlanError::Scheme { problem };
    match tuned {
        None => quantize_weights(weights, params).map_err(|error| refuse(error.to_string())),
        Some(codes) => ArrayD::from_shape_vec(weights.raw_dim(), codes.to_vec())
            .map_err(|_| refuse(format!("{} weights of an operation have {} codes", weights.len(), codes.len()))),
    }
}

fn pack_int8(
    isa: holdfast_kernels::Isa,
    window: &Window,
    input: &Value,
    ordered: &[i8],
) -> Result<Packed, holdfast_kernels::int8::Int8Error> {
    if window.is_depthwise() {
        let geometry = window.geometry(input.placement.image, input.placement.image, 0);
        return Ok(Packed::Int8Depthwise(PackedDepthwise::pack(isa, &geometry, ordered)?));
    }
    let shape = WeightShape {
        out_channels: window.part_channels(),
        kernel_h: window.kernel[0],
        kernel_w: window.kernel[1],
        channels: window.channels,
    };
    let image = input.placement.image;
    let runs = window.geometry(image, image, 0).depth_runs();
    let size = shape.elements().unwrap_or(0).max(1);
    let parts: Result<Vec<PackedWeights>, _> =
        ordered.chunks(size).map(|values| PackedWeights::pack(isa, shape, runs, values)).collect();
    Ok(Packed::Int8(parts?))
}

/// Sums of every output channel's weight codes, over all parts.
fn column_sums(packed: &Packed) -> Vec<i32> {
    match packed {
        Packed::Int8(parts) => parts.iter().flat_map(|part| part.column_sums().iter().copied()).collect(),
        Packed::Int8Depthwise(weights) => weights.column_sums().to_vec(),
        Packed::Float(_) | Packed::FloatDepthwise(_) => Vec::new(),
    }
}
