//! Activation channel alignment: the channels between two convolutions are brought to one range and centred.
//!
//! Where nothing but a tensor lies between two convolutions, what its channels are divided by can be multiplied into
//! the weights of the second, and what is subtracted from them added to its bias. Zero padding would notice a shifted
//! channel, so the second convolution must have none. Source: OpenVINO POT's algorithm, restated.

use super::constants::Constants;
use super::{Decision, Plan, Transformation};
use crate::error::CoreError;
use crate::quantize::calibration::Calibration;
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::{BinaryKind, Graph, OpId, OpKind, TensorId};
use holdfast_common::quantization::statistics::Aggregator;

/// Probability of the lower quantile; the upper is its complement.
const OUTLIERS: f64 = 1e-4;

/// Divisors stay within one part in this many and this many.
const FACTOR_MAX: f64 = 100.0;

/// A convolution, its bias, and the convolution that reads it.
#[derive(Clone, Debug)]
struct Pair {
    producer: OpId,
    /// Where the first has its bias: its own input 2, or an addition behind it.
    bias: Option<(OpId, usize)>,
    tensor: TensorId,
    consumer: OpId,
}

/// The transformation over a graph.
pub(super) struct ChannelAlignment<'a> {
    graph: &'a Graph,
    pairs: Vec<Pair>,
}

impl<'a> ChannelAlignment<'a> {
    /// Finds the pairs.
    pub(super) fn of(graph: &'a Graph) -> ChannelAlignment<'a> {
        let pairs = graph.ops().filter_map(|(consumer, _)| pair(graph, consumer)).collect();
        ChannelAlignment { graph, pairs }
    }

    fn spec(&self, pair: &Pair, probability: f64) -> StatisticSpec {
        let tensor = self.graph.tensor(pair.tensor).name.clone();
        StatisticSpec { tensor, statistic: Statistic::Quantile(probability), axis: Some(1) }
    }
}

impl Plan for ChannelAlignment<'_> {
    fn wanted(&self) -> Vec<StatisticSpec> {
        let both = |pair| [self.spec(pair, OUTLIERS), self.spec(pair, 1.0 - OUTLIERS)];
        self.pairs.iter().flat_map(both).collect()
    }

    fn decide(&self, calibration: &Calibration) -> Result<Decision, CoreError> {
        let mut constants = Constants::of(self.graph);
        let mut decision = Decision::default();
        for pair in &self.pairs {
            let end = |probability| calibration.aggregated(&self.spec(pair, probability), Aggregator::Median);
            let (low, high) = (end(OUTLIERS)?, end(1.0 - OUTLIERS)?);
            let Some(factors) = align(&mut constants, pair, &low, &high) else { continue };
            let name = |id: OpId| self.graph.op(id).name.clone();
            decision.rescaled.push(name(pair.consumer));
            let ends = factors.iter().fold([f64::INFINITY, 0.0], |[low, high], f| [f.min(low), f.max(high)]);
            decision.record.push(Transformation::ChannelAlignment {
                producer: name(pair.producer),
                consumer: name(pair.consumer),
                factors: ends,
            });
        }
        decision.edit = constants.edit();
        Ok(decision)
    }
}

/// The pair that ends in this operation, if it is a convolution without padding, stride and groups.
fn pair(graph: &Graph, consumer: OpId) -> Option<Pair> {
    let op = graph.op(consumer);
    let OpKind::Conv(attributes) = &op.kind else { return None };
    let ones = |values: &[usize]| values.iter().all(|value| *value == 1);
    let zeros = |values: &[usize]| values.iter().all(|value| *value == 0);
    let plain = attributes.group == 1
        && zeros(&attributes.pads_begin)
        && zeros(&attributes.pads_end)
        && ones(&attributes.strides)
        && ones(&attributes.dilations);
    graph.constant_input(consumer, 1).filter(|_| plain)?.as_f32()?;
    let only_read_by = |tensor: TensorId, reader: OpId| {
        !graph.outputs.contains(&tensor) && matches!(graph.tensor(tensor).consumers[..], [(only, _)] if only == reader)
    };
    let tensor = *op.inputs.first()?;
    let mut producer = graph.tensor(tensor).producer.filter(|_| only_read_by(tensor, consumer))?;
    let mut bias = None;
    let channels = *graph.tensor(tensor).shape.get(1)?;
    let rank = graph.tensor(tensor).shape.len();
    if matches!(graph.op(producer).kind, OpKind::Binary(BinaryKind::Add)) {
        let position = (0..2).find(|position| graph.constant_input(producer, *position).is_some())?;
        let values = graph.constant_input(producer, position)?.as_f32()?;
        let is_per_channel = values.len() == channels && values.ndim() + 1 >= rank && {
            let mut shape = vec![1; rank - values.ndim().min(rank)];
            shape.extend(values.shape());
            shape.get(1) == Some(&channels)
        };
        let data = *graph.op(producer).inputs.get(1 - position).filter(|_| is_per_channel)?;
        bias = Some((producer, position));
        producer = graph.tensor(data).producer.filter(|before| only_read_by(data, producer) && *before != producer)?;
    }
    let OpKind::Conv(_) = graph.op(producer).kind else { return None };
    graph.constant_input(producer, 1)?.as_f32()?;
    if graph.op(producer).inputs.len() > 2 {
        // Two biases one after the other are more than the arithmetic below knows.
        if bias.is_some() || graph.constant_input(producer, 2)?.as_f32()?.len() != channels {
            return None;
        }
        bias = Some((producer, 2));
    }
    Some(Pair { producer, bias, tensor, consumer })
}

/// Means of the channels, and what they are divided by; `None` where there is no range.
pub(super) fn means_and_factors(low: &[f64], high: &[f64]) -> Option<(Vec<f64>, Vec<f64>)> {
    let pairs = || low.iter().zip(high);
    let means = pairs().map(|(low, high)| (low + high) / 2.0).collect();
    let positive: Vec<f64> = pairs().map(|(low, high)| high - low).filter(|range| *range > 0.0).collect();
    let typical = Aggregator::Median.aggregate(&positive).filter(|median| median.is_finite())?;
    let factor = |(low, high): (&f64, &f64)| match high - low {
        range if range > 0.0 => (range / typical).clamp(1.0 / FACTOR_MAX, FACTOR_MAX),
        _ => 1.0,
    };
    Some((means, pairs().map(factor).collect()))
}

/// Rescales a pair; gives the divisors, `None` where nothing changed.
fn align(constants: &mut Constants<'_>, pair: &Pair, low: &[f64], high: &[f64]) -> Option<Vec<f64>> {
    let (means, factors) = means_and_factors(low, high)?;
    let channels = factors.len();
    let finite = means.iter().chain(&factors).all(|value| value.is_finite());
    let weights = constants.get(pair.producer, 1)?;
    let (rank, made) = (weights.ndim(), weights.shape().first().copied());
    let read = constants.get(pair.consumer, 1)?;
    if !finite || made != Some(channels) || read.shape().get(1) != Some(&channels) {
        return None;
    }
    if let Some((op, position)) = pair.bias
        && let Some(mut bias) = constants.get(pair.consumer, 2).cloned()
        && bias.len() == read.shape()[0]
    {
        let mut shifts = vec![0.0; bias.len()];
        for (index, weight) in read.indexed_iter() {
            shifts[index[0]] += f64::from(*weight) * means[index[1]];
        }
        bias.iter_mut().zip(shifts).for_each(|(bias, shift)| *bias = (f64::from(*bias) + shift) as f32);
        constants.set(pair.consumer, 2, bias);
        let back = if op == pair.producer { 0 } else { rank - 2 };
        constants.scale(op, position, back, channels, |value, channel| value - means[channel]);
    }
    constants.scale(pair.producer, 1, rank - 1, channels, |value, channel| value / factors[channel]);
    if let Some((op, position)) = pair.bias {
        let back = if op == pair.producer { 0 } else { rank - 2 };
        constants.scale(op, position, back, channels, |value, channel| value / factors[channel]);
    }
    constants.scale(pair.consumer, 1, rank - 2, channels, |value, channel| value * factors[channel]);
    Some(factors)
}
