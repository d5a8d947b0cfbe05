//! DefaultQuantization: from graph, placement and statistics to a scheme.

use super::bias_correction::{BiasCorrection, Correctable, Corrected, correctable};
use super::calibration::Calibration;
use super::full_bias::FullCorrection;
use super::layer_tuning::{LayerTuning, Tuner};
use super::placement::{Placement, place};
use super::ranges;
use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::parameters::{Mode, QuantizationParameters};
use holdfast_common::evaluation::StatisticSpec;
use holdfast_common::graph::Graph;
use holdfast_common::quantization::codes::weight_scale_for_bias;
use holdfast_common::scheme::{QuantParams, Quantizer, Scheme};
use std::collections::BTreeMap;

/// A quantized model.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The scheme.
    pub scheme: Scheme,
    /// What became of every bias.
    pub corrections: Vec<BiasCorrection>,
    /// What correcting biases asked for beside the calibration.
    pub passes: Passes,
    /// What became of every layer that was tuned.
    pub tunings: Vec<LayerTuning>,
    /// What tuning layers asked for beside the calibration.
    pub tuning_passes: Passes,
}

/// Evaluations of some calibration samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// How many.
    pub evaluations: usize,
    /// Samples of each.
    pub samples: usize,
}

/// The statistics that quantizing with these parameters needs.
pub fn wanted_statistics(
    graph: &Graph,
    placement: &Placement,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Vec<StatisticSpec> {
    let mut wanted = ranges::wanted(graph, placement);
    let correctable = correctable(graph, placement, parameters, mode);
    wanted.extend(correctable.iter().flat_map(|operation| operation.wanted(parameters, mode)));
    wanted
}

/// DefaultQuantization by itself: places, calibrates on the first `stat_subset_size` samples of the set, and quantizes.
pub async fn calibrate_and_quantize<E: Evaluator>(
    evaluator: &E,
    graph: &Graph,
    set: &SampleSet,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<Quantized, CoreError> {
    let placement = place(graph, parameters, mode)?;
    if !placement.groups.is_empty() && set.samples.is_empty() {
        return Err(CoreError::NoSamples("calibration"));
    }
    let mut set = set.clone();
    set.samples.truncate(parameters.stat_subset_size.unwrap_or(usize::MAX));
    let wanted = wanted_statistics(graph, &placement, parameters, mode);
    let calibration = Calibration::collect(evaluator, &set, wanted).await?;
    quantize(evaluator, graph, &placement, &calibration, parameters, mode).await
}

/// Quantizes: ranges, then weight scales wide enough for the biases, then corrected biases, then tuned layers.
///
/// The evaluator is asked only for full bias correction, which has to run the model with quantized weights, and for tuning.
pub async fn quantize<E: Evaluator>(
    evaluator: &E,
    graph: &Graph,
    placement: &Placement,
    calibration: &Calibration,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<Quantized, CoreError> {
    let mut params = ranges::quant_params(graph, placement, calibration, parameters, mode)?;
    let operations = correctable(graph, placement, parameters, mode);
    for operation in &operations {
        if let Some(bias) = operation.model_bias(graph) {
            make_room_for_bias(operation, placement, &mut params, &bias);
        }
    }
    let mut passes = Passes::default();
    let corrected = if parameters.use_fast_bias {
        let threshold = parameters.threshold();
        let fast = |operation: &Correctable| operation.corrected(graph, &params, calibration, threshold, mode);
        operations.iter().map(fast).collect::<Result<Vec<_>, _>>()?
    } else {
        let full = FullCorrection { graph, placement, params: &params, calibration, parameters, mode };
        full.run(evaluator, &operations, &mut passes).await?
    };
    let mut biases = BTreeMap::new();
    let mut corrections = Vec::new();
    for (operation, Corrected { bias, correction }) in operations.iter().zip(corrected) {
        corrections.push(correction);
        if let Some(bias) = bias {
            make_room_for_bias(operation, placement, &mut params, &bias);
            biases.insert(graph.op(operation.id).name.clone(), bias);
        }
    }
    let (mut codes, mut tunings, mut tuning_passes) = (BTreeMap::new(), Vec::new(), Passes::default());
    if let Some(settings) = parameters.layerwise_tuning {
        let tuner = Tuner { graph, placement, params: &params, set: calibration.set(), settings };
        (codes, tunings) = tuner.run(evaluator, &operations, &mut biases, &mut tuning_passes).await?;
    }
    let quantizers = placement.sites.iter().zip(params);
    let quantizers =
        quantizers.map(|(site, params)| Quantizer { site: site.site.clone(), params, group: site.group }).collect();
    let scheme = Scheme { quantizers, groups: placement.groups.clone(), biases, codes };
    Ok(Quantized { scheme, corrections, passes, tunings, tuning_passes })
}

/// Enlarges weight scales where the integer bias would not fit beside the accumulator; one that is added in float does.
fn make_room_for_bias(operation: &Correctable, placement: &Placement, params: &mut [QuantParams], bias: &[f32]) {
    let Some((weights, input)) = operation.weights.zip(placement.inputs.get(&(operation.id, 0))) else { return };
    if operation.addition.is_some() {
        return;
    }
    let smallest = params[*input].scales.iter().copied().fold(f32::INFINITY, f32::min);
    let scales = &mut params[weights].scales;
    let slices = scales.len();
    for (channel, value) in bias.iter().enumerate() {
        // Slices of a grouped transposed convolution repeat with every group.
        let slice = channel % slices;
        scales[slice] = weight_scale_for_bias(*value, smallest, scales[slice]);
    }
}
