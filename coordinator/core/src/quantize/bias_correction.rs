//! What bias correction can correct, and the fast way to: the mean error that quantized weights cause in each output channel is taken back by the bias.
//!
//! The input of the operation is replaced by its mean in each channel, so that the mean output with quantized weights
//! is a sum over taps, each weighted by the share of output positions at which it lies inside the input. That gives
//! what running the operation on a constant image would give, padding edges included, without running it.
//!
//! POT compares that with the measured mean output of the float model, which differs also because real inputs are not
//! constant: where they vary over the image and padding or position matter, its "correction" moves biases that needed
//! none (a keyword spotter fell from 0.913 to 0.636). The default mode compares the operation with quantized weights to
//! the same operation with float weights on the same constant input, so that nothing but quantization is corrected.
//! It leaves products of MatMul to the full correction: their means are taken over padding tokens too (a text classifier
//! with 4-bit weights fell from 0.692 to 0.629, and rose to 0.746 with the full one).
//! Source: OpenVINO POT's fast bias correction, restated.

use super::calibration::Calibration;
use super::placement::Placement;
use crate::error::CoreError;
use crate::parameters::{Mode, QuantizationParameters};
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::{ConvAttributes, Graph, OpId, OpKind};
use holdfast_common::quantization::statistics::Aggregator;
use holdfast_common::scheme::QuantParams;
use ndarray::{ArrayD, Dimension};
use serde::Serialize;

/// What became of one operation's correction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BiasCorrection {
    /// The operation.
    pub operation: String,
    /// Largest shift relative to what the mode compares it with; `None` where that was zero.
    pub magnitude: Option<f64>,
    /// Whether the bias was replaced.
    pub applied: bool,
}

/// A bias after its correction.
#[derive(Debug)]
pub(super) struct Corrected {
    /// The new bias, one value per output channel; `None` where it stays.
    pub(super) bias: Option<Vec<f32>>,
    pub(super) correction: BiasCorrection,
}

/// An operation whose bias can be corrected.
pub(super) struct Correctable {
    pub(super) id: OpId,
    /// The quantizer of its weights; `None` where they stay float.
    pub(super) weights: Option<usize>,
    /// Where the bias is, if not at input 2: the addition behind a MatMul, and the position of its constant.
    pub(super) addition: Option<(OpId, usize)>,
    /// Output channels.
    channels: usize,
    /// Means of input and output, per channel.
    input: StatisticSpec,
    pub(super) output: StatisticSpec,
    output_magnitude: StatisticSpec,
}

/// All correctable operations, in graph order: convolutions and Gemms with quantized constant weights whose bias is
/// constant, or that have none; and products of MatMul behind which a constant is added, which is their bias.
///
/// With `apply_for_all_nodes` operations with float weights are among them, except where the fast correction of the
/// default mode compares their weights with themselves.
pub(super) fn correctable(
    graph: &Graph,
    placement: &Placement,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Vec<Correctable> {
    let all = parameters.apply_for_all_nodes && (!parameters.use_fast_bias || mode == Mode::Compat);
    let weights = |id: OpId| placement.inputs.get(&(id, 1)).copied();
    let ids = graph.ops().map(|(id, _)| (id, weights(id))).filter(|(_, weights)| all || weights.is_some());
    let correctable = ids.filter_map(|(id, weights)| Correctable::of(graph, id, weights));
    // A bias that is quantized itself cannot take a correction.
    correctable.filter(|one| one.addition.is_none_or(|place| !placement.inputs.contains_key(&place))).collect()
}

impl Correctable {
    fn of(graph: &Graph, id: OpId, weights: Option<usize>) -> Option<Correctable> {
        let op = graph.op(id);
        graph.constant_input(id, 1)?.as_f32()?;
        let addition = graph.addition_behind(id);
        let last = addition.map_or(op, |(addition, _)| graph.op(addition));
        let (x, y) = (graph.tensor(*op.inputs.first()?), graph.tensor(*last.outputs.first()?));
        let (input_axis, output_axis) = match &op.kind {
            OpKind::Conv(_) | OpKind::ConvTranspose(_) => (1, 1),
            OpKind::Gemm { beta, trans_a, .. } if op.inputs.len() < 3 || *beta == 1.0 => (usize::from(!trans_a), 1),
            OpKind::MatMul if addition.is_some() && graph.tensor(op.inputs[1]).shape.len() == 2 => {
                (x.shape.len().checked_sub(1)?, y.shape.len().checked_sub(1)?)
            }
            _ => return None,
        };
        if op.inputs.len() > 2 && graph.constant_input(id, 2).is_none() {
            return None;
        }
        let channels = *y.shape.get(output_axis)?;
        let spec = |tensor: &str, statistic, axis| StatisticSpec { tensor: tensor.to_owned(), statistic, axis };
        Some(Correctable {
            id,
            weights,
            addition,
            channels,
            input: spec(&x.name, Statistic::Mean, Some(input_axis)),
            output: spec(&y.name, Statistic::Mean, Some(output_axis)),
            output_magnitude: spec(&y.name, Statistic::AbsMax, None),
        })
    }

    /// The statistics of the float model that the correction needs.
    pub(super) fn wanted(&self, parameters: &QuantizationParameters, mode: Mode) -> Vec<StatisticSpec> {
        if parameters.use_fast_bias && self.is_left_to_full(mode) {
            return Vec::new();
        }
        let magnitude = (mode == Mode::Default).then(|| self.output_magnitude.clone());
        let output = (mode == Mode::Compat || !parameters.use_fast_bias).then(|| self.output.clone());
        let input = parameters.use_fast_bias.then(|| self.input.clone());
        input.into_iter().chain(output).chain(magnitude).collect()
    }

    /// Whether the fast correction of this mode leaves the operation alone.
    fn is_left_to_full(&self, mode: Mode) -> bool {
        mode == Mode::Default && self.addition.is_some()
    }

    /// The model's own bias, one value per output channel; zeros where there is none, `None` where its shape is odd.
    pub(super) fn model_bias(&self, graph: &Graph) -> Option<Vec<f32>> {
        let (op, position) = self.addition.unwrap_or((self.id, 2));
        match graph.constant_input(op, position) {
            None => Some(vec![0.0; self.channels]),
            Some(data) => channel_values(data.as_f32()?, self.channels),
        }
    }

    /// What the fast correction makes of the bias.
    pub(super) fn corrected(
        &self,
        graph: &Graph,
        params: &[QuantParams],
        calibration: &Calibration,
        threshold: f64,
        mode: Mode,
    ) -> Result<Corrected, CoreError> {
        if self.is_left_to_full(mode) {
            return Ok(self.refused(graph));
        }
        let means = calibration.aggregated(&self.input, Aggregator::Mean)?;
        let mean = |real: &dyn Fn(f32, usize) -> f64, axis| mean_output(graph, self.id, axis, &means, real);
        let float = |value: f32, _: usize| f64::from(value);
        let found = match self.weights.and_then(|index| params.get(index)) {
            Some(params) => mean(&|value, slice| f64::from(params.real(params.code(value, slice), slice)), params.axis),
            None => mean(&float, None),
        };
        let (Some(found), Some(bias)) = (found, self.model_bias(graph)) else {
            return Ok(self.refused(graph));
        };
        let expected = match mode {
            Mode::Compat => calibration.aggregated(&self.output, Aggregator::Mean)?,
            Mode::Default => {
                let with_bias = |products: Vec<f64>| {
                    products.iter().zip(&bias).map(|(product, bias)| product + f64::from(*bias)).collect()
                };
                mean(&float, None).map_or(Vec::new(), with_bias)
            }
        };
        if found.len() != self.channels || expected.len() != self.channels {
            return Ok(self.refused(graph));
        }
        let corrected: Vec<f64> = expected.iter().zip(&found).map(|(expected, found)| expected - found).collect();
        let shifts: Vec<f64> = corrected.iter().zip(&bias).map(|(new, old)| new - f64::from(*old)).collect();
        let magnitude = self.magnitude(&shifts, &bias, calibration, mode)?;
        Ok(self.decided(graph, corrected, magnitude, threshold))
    }

    /// How large shifts are: in compat mode relative to the bias, in default mode to the largest outputs; `None` where
    /// that is zero.
    pub(super) fn magnitude(
        &self,
        shifts: &[f64],
        bias: &[f32],
        calibration: &Calibration,
        mode: Mode,
    ) -> Result<Option<f64>, CoreError> {
        Ok(match mode {
            Mode::Compat => Self::shift_over_bias(shifts, bias),
            Mode::Default => {
                let outputs = calibration.aggregated(&self.output_magnitude, Aggregator::Mean)?;
                let largest = shifts.iter().fold(0.0, |largest: f64, shift| largest.max(shift.abs()));
                outputs.first().filter(|magnitude| **magnitude > 0.0).map(|magnitude| largest / magnitude)
            }
        })
    }

    /// A correction whose magnitude is known: it is applied below the threshold.
    pub(super) fn decided(
        &self,
        graph: &Graph,
        corrected: Vec<f64>,
        magnitude: Option<f64>,
        threshold: f64,
    ) -> Corrected {
        let values: Vec<f32> = corrected.into_iter().map(|value| value as f32).collect();
        let applied = magnitude.is_some_and(|m| m < threshold) && values.iter().all(|value| value.is_finite());
        let correction = BiasCorrection { operation: graph.op(self.id).name.clone(), magnitude, applied };
        Corrected { bias: applied.then_some(values), correction }
    }

    /// A correction that cannot be computed.
    pub(super) fn refused(&self, graph: &Graph) -> Corrected {
        self.decided(graph, Vec::new(), None, 0.0)
    }

    /// POT's magnitude: the largest shift relative to the bias, infinite where any element of the bias is zero.
    fn shift_over_bias(shifts: &[f64], bias: &[f32]) -> Option<f64> {
        if bias.contains(&0.0) {
            return None;
        }
        let relative = shifts.iter().zip(bias).map(|(shift, bias)| (shift / f64::from(*bias)).abs());
        Some(relative.fold(0.0, f64::max))
    }
}

/// A bias as one value per channel: a scalar is repeated.
fn channel_values(values: &ArrayD<f32>, channels: usize) -> Option<Vec<f32>> {
    match values.len() {
        1 => Some(vec![values.iter().copied().next()?; channels]),
        len if len == channels => Some(values.iter().copied().collect()),
        _ => None,
    }
}

/// The mean of every output channel, without bias, when the input is constant in each of its channels and weights count
/// as `real` makes them from their value and their index along `axis`.
fn mean_output(
    graph: &Graph,
    id: OpId,
    axis: Option<usize>,
    means: &[f64],
    real: &dyn Fn(f32, usize) -> f64,
) -> Option<Vec<f64>> {
    let op = graph.op(id);
    let weights = graph.constant_input(id, 1)?.as_f32()?;
    let shape = weights.shape();
    let (x, y) = (&graph.tensor(op.inputs[0]).shape, &graph.tensor(op.outputs[0]).shape);
    let quantized = |index: &[usize], value: f32| real(value, axis.map_or(0, |axis| index[axis]));
    match &op.kind {
        OpKind::Conv(attributes) => {
            let shares = tap_shares(attributes, x.get(2..)?, y.get(2..)?);
            let (inputs, outputs) = (*shape.get(1)?, *shape.first()? / attributes.group.max(1));
            let mut sums = vec![0.0; *shape.first()?];
            for (index, value) in weights.indexed_iter() {
                let index = index.slice();
                let share = share(&shares, index.get(2..)?)?;
                let channel = index[0] / outputs.max(1) * inputs + index[1];
                sums[index[0]] += quantized(index, *value) * share * means.get(channel)?;
            }
            Some(sums)
        }
        OpKind::ConvTranspose(attributes) => {
            let shares = transposed_tap_shares(attributes, x.get(2..)?, y.get(2..)?);
            let group = attributes.group.max(1);
            let (inputs, outputs) = (*shape.first()? / group, *shape.get(1)?);
            let mut sums = vec![0.0; outputs * group];
            for (index, value) in weights.indexed_iter() {
                let index = index.slice();
                let share = share(&shares, index.get(2..)?)?;
                let channel = index[0] / inputs.max(1) * outputs + index[1];
                *sums.get_mut(channel)? += quantized(index, *value) * share * means.get(index[0])?;
            }
            Some(sums)
        }
        OpKind::Gemm { .. } | OpKind::MatMul => {
            let (alpha, is_transposed) = match op.kind {
                OpKind::Gemm { alpha, trans_b, .. } => (alpha, trans_b),
                _ => (1.0, false),
            };
            let (depth, channel) = if is_transposed { (1, 0) } else { (0, 1) };
            let mut sums = vec![0.0; *shape.get(channel)?];
            for (index, value) in weights.indexed_iter() {
                let index = index.slice();
                sums[index[channel]] += quantized(index, *value) * means.get(index[depth])?;
            }
            Some(sums.into_iter().map(|sum| sum * f64::from(alpha)).collect())
        }
        _ => None,
    }
}

fn share(shares: &[Vec<f64>], tap: &[usize]) -> Option<f64> {
    let mut product = 1.0;
    for (axis, position) in shares.iter().zip(tap) {
        product *= axis.get(*position)?;
    }
    Some(product)
}

/// For each spatial axis and tap, the share of output positions at which the tap reads inside the input.
fn tap_shares(attributes: &ConvAttributes, input: &[usize], output: &[usize]) -> Vec<Vec<f64>> {
    shares(attributes, output, |axis, tap, position| {
        let read = position * attributes.strides[axis] + tap * attributes.dilations[axis];
        (attributes.pads_begin[axis]..attributes.pads_begin[axis] + input[axis]).contains(&read)
    })
}

/// The same for a transposed convolution, where taps write: the share of output positions that get a value from a tap.
fn transposed_tap_shares(attributes: &ConvAttributes, input: &[usize], output: &[usize]) -> Vec<Vec<f64>> {
    shares(attributes, output, |axis, tap, position| {
        let written = position + attributes.pads_begin[axis];
        let Some(offset) = written.checked_sub(tap * attributes.dilations[axis]) else { return false };
        let stride = attributes.strides[axis].max(1);
        offset % stride == 0 && offset / stride < input[axis]
    })
}

fn shares(
    attributes: &ConvAttributes,
    output: &[usize],
    counts: impl Fn(usize, usize, usize) -> bool,
) -> Vec<Vec<f64>> {
    let axes = attributes.kernel.iter().zip(output).enumerate();
    axes.map(|(axis, (taps, extent))| {
        let of_tap = |tap| (0..*extent).filter(|position| counts(axis, tap, *position)).count() as f64;
        (0..*taps).map(|tap| of_tap(tap) / *extent as f64).collect()
    })
    .collect()
}
