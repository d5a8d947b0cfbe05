//! SmoothQuant: range moves from the channels of an activation to the weights of the products that read it.
//!
//! Activations of transformers have a few channels far larger than the rest, which one scale a tensor cannot serve; the
//! weights that meet a channel can take its range over. A channel is divided by its scale, and the weights that meet it
//! are multiplied. The divisors go into the constants before the activation where only these products see it (a
//! normalization's gamma and beta, a constant multiplication, a product's output channels), at no cost; otherwise a
//! multiplication is inserted. Source: Xiao et al., SmoothQuant, 2023, with NNCF's bounds.

use super::constants::Constants;
use super::{Decision, Plan, Transformation};
use crate::error::CoreError;
use crate::parameters::{Mode, QuantizationParameters};
use crate::quantize::calibration::Calibration;
use crate::quantize::place;
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::{BinaryKind, Graph, OpId, OpKind, TensorId, UnaryKind};
use holdfast_common::model::Multiplication;
use holdfast_common::quantization::statistics::{Aggregator, quantile};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;

/// Activations and weights count as at least this large.
const SMALLEST: f64 = f32::EPSILON as f64;

/// The share of the smallest scales that are raised to the next larger one.
const LOWEST_SHARE: f64 = 0.1;

/// No scale is larger.
const SCALE_MAX: f64 = 100.0;

/// The transformation over a graph.
pub(super) struct SmoothQuant<'a> {
    graph: &'a Graph,
    alpha: f64,
    /// The products that read each activation, in graph order.
    readers: BTreeMap<TensorId, Vec<OpId>>,
}

impl<'a> SmoothQuant<'a> {
    /// Finds the products that will be quantized and whose weights are theirs alone.
    pub(super) fn of(
        graph: &'a Graph,
        parameters: &QuantizationParameters,
        mode: Mode,
        alpha: f64,
    ) -> Result<SmoothQuant<'a>, CoreError> {
        let placement = place(graph, parameters, mode)?;
        let mut readers: BTreeMap<TensorId, Vec<OpId>> = BTreeMap::new();
        for (id, op) in graph.ops() {
            let quantized = placement.inputs.contains_key(&(id, 1));
            let product = match op.kind {
                OpKind::Gemm { trans_a, .. } => !trans_a,
                OpKind::MatMul => true,
                _ => false,
            };
            let weights = op.inputs.get(1).map(|tensor| graph.tensor(*tensor));
            let own = weights.is_some_and(|tensor| {
                tensor.constant.as_ref().is_some_and(|data| data.as_f32().is_some())
                    && tensor.shape.len() == 2
                    && tensor.consumers.len() == 1
            });
            if quantized && product && own && graph.tensor(op.inputs[0]).constant.is_none() {
                readers.entry(op.inputs[0]).or_default().push(id);
            }
        }
        Ok(SmoothQuant { graph, alpha, readers })
    }

    fn spec(&self, tensor: TensorId) -> StatisticSpec {
        let tensor = self.graph.tensor(tensor);
        let axis = Some(tensor.shape.len().saturating_sub(1));
        StatisticSpec { tensor: tensor.name.clone(), statistic: Statistic::AbsMax, axis }
    }

    /// The axis of a product's weights that meets the activation's channels.
    fn depth_axis(&self, product: OpId) -> usize {
        match self.graph.op(product).kind {
            OpKind::Gemm { trans_b: true, .. } => 1,
            _ => 0,
        }
    }

    /// Largest magnitude of the weights that meet each channel.
    fn weight_magnitudes(&self, constants: &Constants<'_>, product: OpId, channels: usize) -> Option<Vec<f64>> {
        let weights = constants.get(product, 1)?;
        let axis = self.depth_axis(product);
        if weights.shape().get(axis) != Some(&channels) {
            return None;
        }
        let mut largest = vec![0.0f64; channels];
        for (index, weight) in weights.indexed_iter() {
            let channel = &mut largest[index[axis]];
            *channel = channel.max(f64::from(weight.abs()));
        }
        Some(largest)
    }

    /// The scales for one activation: of those its readers would choose, the ones that differ least.
    fn chosen(&self, constants: &Constants<'_>, readers: &[OpId], magnitudes: &[f64]) -> Option<Vec<f64>> {
        let mut best: Option<(f64, Vec<f64>)> = None;
        for product in readers {
            let weights = self.weight_magnitudes(constants, *product, magnitudes.len())?;
            let scales = scales(magnitudes, &weights, self.alpha)?;
            let ratio = evenness(&scales);
            if best.as_ref().is_none_or(|(known, _)| ratio > *known) {
                best = Some((ratio, scales));
            }
        }
        best.map(|(_, scales)| scales)
    }
}

impl Plan for SmoothQuant<'_> {
    fn wanted(&self) -> Vec<StatisticSpec> {
        self.readers.keys().map(|tensor| self.spec(*tensor)).collect()
    }

    fn decide(&self, calibration: &Calibration) -> Result<Decision, CoreError> {
        let mut constants = Constants::of(self.graph);
        let mut multiplications = Vec::new();
        let mut decision = Decision::default();
        for (tensor, readers) in &self.readers {
            let magnitudes = calibration.aggregated(&self.spec(*tensor), Aggregator::Max)?;
            let Some(scales) = self.chosen(&constants, readers, &magnitudes) else { continue };
            let channels = scales.len();
            let name = self.graph.tensor(*tensor).name.clone();
            let mut folds = Vec::new();
            let folded = self.only_smoothed(*tensor, readers) && self.fold(*tensor, channels, &mut folds);
            if folded {
                for Fold { op, input, back, divide } in folds {
                    constants.scale(op, input, back, channels, |value, channel| {
                        if divide { value / scales[channel] } else { value * scales[channel] }
                    });
                }
            } else {
                let factors: Vec<f32> = scales.iter().map(|scale| (1.0 / scale) as f32).collect();
                let Ok(factors) = ArrayD::from_shape_vec(IxDyn(&[channels]), factors) else { continue };
                let readers = readers.iter().map(|id| (self.graph.op(*id).name.clone(), 0)).collect();
                multiplications.push(Multiplication { tensor: name.clone(), readers, factors });
            }
            for product in readers {
                let back = 1 - self.depth_axis(*product);
                constants.scale(*product, 1, back, channels, |value, channel| value * scales[channel]);
            }
            let ends = scales.iter().fold([f64::INFINITY, 0.0], |[low, high], s| [s.min(low), s.max(high)]);
            let operations = readers.iter().map(|id| self.graph.op(*id).name.clone()).collect();
            decision.record.push(Transformation::SmoothQuant { tensor: name, operations, scales: ends, folded });
        }
        decision.edit = constants.edit();
        decision.edit.multiplications = multiplications;
        Ok(decision)
    }
}

/// A constant that takes divisors over.
struct Fold {
    op: OpId,
    input: usize,
    /// The channels' axis, counted from the last one back.
    back: usize,
    /// Whether its elements are divided; if not, multiplied.
    divide: bool,
}

impl SmoothQuant<'_> {
    /// Whether nobody but these products sees a tensor.
    fn only_smoothed(&self, tensor: TensorId, readers: &[OpId]) -> bool {
        let consumers = &self.graph.tensor(tensor).consumers;
        !self.graph.outputs.contains(&tensor)
            && consumers.iter().all(|(reader, position)| *position == 0 && readers.contains(reader))
    }

    fn only_read_by(&self, tensor: TensorId, reader: OpId) -> bool {
        !self.graph.outputs.contains(&tensor)
            && matches!(self.graph.tensor(tensor).consumers[..], [(only, _)] if only == reader)
    }

    /// Finds the constants that divide the channels (the last axis) of a tensor when they are divided; false where
    /// there are none. Everything on the way is read by nobody else.
    fn fold(&self, tensor: TensorId, channels: usize, folds: &mut Vec<Fold>) -> bool {
        let graph = self.graph;
        let Some(id) = graph.tensor(tensor).producer else { return false };
        let op = graph.op(id);
        let shape = &graph.tensor(tensor).shape;
        if shape.last() != Some(&channels) {
            return false;
        }
        let constant = |position: usize| graph.constant_input(id, position).is_some_and(|data| data.as_f32().is_some());
        let here = |input: usize, back: usize, divide: bool| Fold { op: id, input, back, divide };
        let further = |position: usize, folds: &mut Vec<Fold>| {
            let input = op.inputs[position];
            let mut found = Vec::new();
            let same = graph.tensor(input).shape.last() == Some(&channels);
            let folded = same && self.only_read_by(input, id) && self.fold(input, channels, &mut found);
            if folded {
                folds.append(&mut found);
            }
            folded
        };
        match &op.kind {
            OpKind::Binary(BinaryKind::Mul) => match (0..2).find(|position| constant(*position)) {
                Some(position) => {
                    folds.push(here(position, 0, true));
                    true
                }
                None => further(0, folds) || further(1, folds),
            },
            OpKind::Binary(BinaryKind::Div) => match (constant(0), constant(1)) {
                (_, true) => {
                    folds.push(here(1, 0, false));
                    true
                }
                (true, false) => {
                    folds.push(here(0, 0, true));
                    true
                }
                (false, false) => further(0, folds),
            },
            OpKind::Binary(BinaryKind::Add | BinaryKind::Sub) => {
                let Some(position) = (0..2).find(|position| constant(*position)) else { return false };
                let folded = further(1 - position, folds);
                if folded {
                    folds.push(here(position, 0, true));
                }
                folded
            }
            OpKind::LayerNormalization { axis, .. } if axis + 1 == shape.len() && constant(1) => {
                if op.inputs.len() > 2 {
                    if !constant(2) {
                        return false;
                    }
                    folds.push(here(2, 0, true));
                }
                folds.push(here(1, 0, true));
                true
            }
            OpKind::MatMul if constant(1) && graph.tensor(op.inputs[1]).shape.len() == 2 => {
                folds.push(here(1, 0, true));
                true
            }
            OpKind::Gemm { trans_b, .. } if constant(1) && (op.inputs.len() < 3 || constant(2)) => {
                folds.push(here(1, usize::from(*trans_b), true));
                if op.inputs.len() > 2 {
                    folds.push(here(2, 0, true));
                }
                true
            }
            // Positive divisors pass a function that is linear on either side of zero.
            OpKind::Unary(UnaryKind::Relu | UnaryKind::LeakyRelu { .. }) => further(0, folds),
            OpKind::Reshape => further(0, folds),
            OpKind::Transpose { permutation } if permutation.last() == Some(&(shape.len() - 1)) => further(0, folds),
            _ => false,
        }
    }
}

/// The scale of every channel from the largest magnitudes of activation and weights; `None` where one is not finite.
pub(super) fn scales(activations: &[f64], weights: &[f64], alpha: f64) -> Option<Vec<f64>> {
    let scale = |(activation, weight): (&f64, &f64)| {
        libm::pow(activation.max(SMALLEST), alpha) / (libm::pow(weight.max(SMALLEST), 1.0 - alpha) + SMALLEST)
    };
    let plain: Vec<f64> = activations.iter().zip(weights).map(scale).collect();
    if plain.iter().any(|scale| !scale.is_finite()) {
        return None;
    }
    let lowest = quantile(&mut plain.clone(), LOWEST_SHARE)?.min(SCALE_MAX);
    Some(plain.into_iter().map(|scale| scale.clamp(lowest, SCALE_MAX)).collect())
}

/// Smallest over largest scale.
pub(super) fn evenness(scales: &[f64]) -> f64 {
    let ends = scales.iter().fold([f64::INFINITY, 0.0], |[low, high]: [f64; 2], s| [s.min(low), s.max(high)]);
    ends[0] / ends[1]
}
