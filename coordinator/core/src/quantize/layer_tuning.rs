//! Layer-wise tuning: weight codes and biases of single layers are trained so that their outputs come nearer to the float
//! model's.
//!
//! Rounding every weight by itself is not what makes a layer's output nearest; a few weights rounded the other way make up
//! for the others, given what the layer reads. Workers send what layers read at some positions, in the float model; here
//! it goes through the layer's own quantizer, and codes and bias are trained on it (`layer_training`). So layers do not
//! depend on one another, unlike POT's, which all train at once on one another's outputs. An output channel whose error on
//! samples held out does not shrink stays as it was. The first layers stay as they are, as POT has it.

use super::bias_correction::Correctable;
use super::calibration::Calibration;
use super::default_quantization::Passes;
use super::full_bias::levels;
use super::layer_training::{Layer, Patches, Trained};
use super::placement::Placement;
use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::parameters::LayerwiseTuning;
use holdfast_common::evaluation::{Statistic, StatisticSpec, Window};
use holdfast_common::graph::{Graph, OpKind};
use holdfast_common::quantization::codes::weight_scale_for_bias;
use holdfast_common::scheme::QuantParams;
use serde::Serialize;
use std::collections::BTreeMap;

/// Numbers a layer is trained on: 4 MB of results.
const LAYER_VALUES: usize = 1 << 19;

/// Positions of one sample that a layer is trained on at most; those of one image are much alike.
const POSITIONS_MAX: usize = 32;

/// Numbers a sample gives in one pass, unless one layer alone has more.
const PASS_VALUES: usize = 1 << 13;

/// Decides which samples make a batch, the same for all layers.
const SEED: u64 = 0;

/// Numbers a layer may read at one position.
const WIDTH_MAX: usize = 1 << 14;

/// What became of one layer's tuning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerTuning {
    /// The operation.
    pub operation: String,
    /// Mean squared error of its outputs on samples held out, before and after.
    pub errors: [f64; 2],
    /// Weight codes that are not the nearest ones any more.
    pub moved: usize,
    /// Whether codes and bias were taken.
    pub applied: bool,
}

/// What tuning needs to know of a model that is quantized but for it.
pub(super) struct Tuner<'a> {
    pub(super) graph: &'a Graph,
    pub(super) placement: &'a Placement,
    pub(super) params: &'a [QuantParams],
    pub(super) set: &'a SampleSet,
    pub(super) settings: LayerwiseTuning,
}

/// One layer to be tuned.
struct Candidate<'a> {
    operation: &'a Correctable,
    statistic: StatisticSpec,
    /// Numbers read at one position.
    width: usize,
    positions: usize,
    layer: Layer<'a>,
    /// Whether the model's constant has its columns first.
    is_transposed: bool,
}

impl Tuner<'_> {
    /// Tunes all layers that can be: gives their codes in the order of the model's constants, and what became of each;
    /// biases are replaced in place.
    pub(super) async fn run<E: Evaluator>(
        &self,
        evaluator: &E,
        operations: &[Correctable],
        biases: &mut BTreeMap<String, Vec<f32>>,
        passes: &mut Passes,
    ) -> Result<(BTreeMap<String, Vec<i8>>, Vec<LayerTuning>), CoreError> {
        let mut set = self.set.clone();
        set.samples.truncate(self.settings.pool);
        let later = levels(self.graph, operations).into_iter().skip(1).flatten();
        let mut order: Vec<usize> = later.collect();
        order.sort_unstable();
        let layers: Vec<Candidate<'_>> =
            order.into_iter().filter_map(|index| self.candidate(&operations[index], set.samples.len())).collect();
        passes.samples = set.samples.len();
        let (mut codes, mut record) = (BTreeMap::new(), Vec::with_capacity(layers.len()));
        for layers in together(&layers) {
            let wanted = layers.iter().map(|layer| layer.statistic.clone()).collect();
            let seen = Calibration::collect(evaluator, &set, wanted).await?;
            passes.evaluations += 1;
            for layer in layers {
                let name = &self.graph.op(layer.operation.id).name;
                let start = biases.get(name).cloned().unwrap_or_else(|| layer.layer.bias.clone());
                let read = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
                let patches = Patches { samples: seen.by_sample(&layer.statistic)?.map(read).collect() };
                let Some(trained) = layer.layer.train(&start, &patches, &self.settings, SEED) else { continue };
                let (tuning, own_codes) = self.judged(layer, &trained);
                if tuning.applied {
                    codes.insert(name.clone(), own_codes);
                    biases.insert(name.clone(), trained.bias);
                }
                record.push(tuning);
            }
        }
        Ok((codes, record))
    }

    /// The layer, if it has constant weights of its own, one scale for its input, and a shape that can be trained.
    fn candidate<'a>(&'a self, operation: &'a Correctable, samples: usize) -> Option<Candidate<'a>> {
        let op = self.graph.op(operation.id);
        let params = self.params.get(operation.weights?)?;
        let input = self.params.get(*self.placement.inputs.get(&(operation.id, 0))?)?;
        let tensor = self.graph.tensor(op.inputs[0]);
        let constant = self.graph.tensor(op.inputs[1]);
        let weights = constant.constant.as_ref()?.as_f32()?;
        let shape = weights.shape();
        let (rows_first, groups, statistic, places) = match &op.kind {
            OpKind::Conv(attributes) => {
                let output = &self.graph.tensor(op.outputs[0]).shape;
                let window = Window::of(attributes, output)?;
                (true, attributes.group, Statistic::Patches(window), output[2..].iter().product())
            }
            OpKind::Gemm { alpha, trans_b, .. } if *alpha == 1.0 => {
                (*trans_b, 1, Statistic::Rows(0), tensor.shape.first().copied()?)
            }
            OpKind::MatMul => {
                let rows = tensor.shape.len().checked_sub(1)?;
                (false, 1, Statistic::Rows(0), tensor.shape[..rows].iter().product())
            }
            _ => return None,
        };
        let (outputs, inputs) = match rows_first {
            true => (*shape.first()?, shape[1..].iter().product::<usize>()),
            false => (*shape.get(1)?, *shape.first()?),
        };
        let width = groups.checked_mul(inputs).filter(|width| (1..=WIDTH_MAX).contains(width))?;
        let fits = groups > 0
            && outputs.is_multiple_of(groups)
            && samples > 0
            && constant.consumers.len() == 1
            && input.axis.is_none()
            && params.scales.len() == if params.axis.is_some() { outputs } else { 1 };
        if !fits {
            return None;
        }
        let most = (LAYER_VALUES / (samples * width)).clamp(1, POSITIONS_MAX);
        let positions = most.min(places);
        let count = u32::try_from(positions).ok().filter(|count| *count > 0)?;
        let statistic = match statistic {
            Statistic::Patches(window) => Statistic::Patches(Window { count, ..window }),
            _ => Statistic::Rows(count),
        };
        let values: Vec<f32> = match rows_first {
            true => weights.iter().copied().collect(),
            false => weights.t().iter().copied().collect(),
        };
        let bias = operation.model_bias(self.graph).filter(|bias| bias.len() == outputs)?;
        Some(Candidate {
            operation,
            statistic: StatisticSpec { tensor: tensor.name.clone(), statistic, axis: None },
            width,
            positions,
            layer: Layer { outputs, inputs, groups, weights: values, bias, params, input },
            is_transposed: !rows_first,
        })
    }

    /// Whether what training gave is taken, and its codes in the order of the model's constant.
    fn judged(&self, candidate: &Candidate<'_>, trained: &Trained) -> (LayerTuning, Vec<i8>) {
        let Layer { outputs, inputs, params, input, .. } = &candidate.layer;
        let plain = candidate.layer.codes();
        let moved = trained.codes.iter().zip(&plain).filter(|(new, old)| new != old).count();
        // A scale that had to grow for the bias would change what the codes stand for.
        let smallest = input.scales.iter().copied().fold(f32::INFINITY, f32::min);
        let scale = |row: usize| params.scales[if params.axis.is_some() { row } else { 0 }];
        let has_room = candidate.operation.addition.is_some()
            || trained
                .bias
                .iter()
                .enumerate()
                .all(|(row, bias)| weight_scale_for_bias(*bias, smallest, scale(row)) == scale(row));
        let [before, after] = trained.errors;
        let tuning = LayerTuning {
            operation: self.graph.op(candidate.operation.id).name.clone(),
            errors: trained.errors,
            moved,
            applied: has_room && after < before && trained.bias.iter().all(|bias| bias.is_finite()),
        };
        let codes = match candidate.is_transposed {
            false => trained.codes.clone(),
            true => (0..*inputs).flat_map(|k| (0..*outputs).map(move |o| trained.codes[o * inputs + k])).collect(),
        };
        (tuning, codes)
    }
}

/// Layers that are looked at in one pass, in their order.
fn together<'c, 'a>(layers: &'c [Candidate<'a>]) -> Vec<&'c [Candidate<'a>]> {
    let (mut passes, mut start, mut values) = (Vec::new(), 0, 0);
    for (index, layer) in layers.iter().enumerate() {
        let more = layer.width * layer.positions;
        if values > 0 && values + more > PASS_VALUES {
            passes.push(&layers[start..index]);
            (start, values) = (index, 0);
        }
        values += more;
    }
    if start < layers.len() {
        passes.push(&layers[start..]);
    }
    passes
}
