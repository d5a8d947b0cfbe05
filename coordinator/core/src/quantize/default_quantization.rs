//! DefaultQuantization: from graph, placement and statistics to a scheme.

use super::bias_correction::{BiasCorrection, Correctable, correctable};
use super::calibration::Calibration;
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
}

/// The statistics that quantizing with these parameters needs.
pub fn wanted_statistics(
    graph: &Graph,
    placement: &Placement,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Vec<StatisticSpec> {
    let mut wanted = ranges::wanted(graph, placement);
    if parameters.use_fast_bias {
        wanted.extend(correctable(graph, placement).iter().flat_map(|operation| operation.wanted(mode)));
    }
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
    quantize(graph, &placement, &calibration, parameters, mode)
}

/// Quantizes: ranges, then weight scales wide enough for the biases, then corrected biases.
pub fn quantize(
    graph: &Graph,
    placement: &Placement,
    calibration: &Calibration,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<Quantized, CoreError> {
    let mut params = ranges::quant_params(graph, placement, calibration, parameters, mode)?;
    let mut biases = BTreeMap::new();
    let mut corrections = Vec::new();
    for operation in correctable(graph, placement) {
        if let Some(bias) = operation.model_bias(graph) {
            make_room_for_bias(&operation, placement, &mut params, &bias);
        }
        if !parameters.use_fast_bias {
            continue;
        }
        let weights = &params[operation.weights];
        let (corrected, correction) = operation.corrected(graph, weights, calibration, parameters.threshold(), mode)?;
        corrections.push(correction);
        if let Some(bias) = corrected {
            make_room_for_bias(&operation, placement, &mut params, &bias);
            biases.insert(graph.op(operation.id).name.clone(), bias);
        }
    }
    let quantizers = placement.sites.iter().zip(params);
    let quantizers =
        quantizers.map(|(site, params)| Quantizer { site: site.site.clone(), params, group: site.group }).collect();
    Ok(Quantized { scheme: Scheme { quantizers, groups: placement.groups.clone(), biases }, corrections })
}

/// Enlarges weight scales where the integer bias would not fit beside the accumulator.
fn make_room_for_bias(operation: &Correctable, placement: &Placement, params: &mut [QuantParams], bias: &[f32]) {
    let Some(input) = placement.inputs.get(&(operation.id, 0)) else { return };
    let smallest = params[*input].scales.iter().copied().fold(f32::INFINITY, f32::min);
    let scales = &mut params[operation.weights].scales;
    let slices = scales.len();
    for (channel, value) in bias.iter().enumerate() {
        // Slices of a grouped transposed convolution repeat with every group.
        let slice = channel % slices;
        scales[slice] = weight_scale_for_bias(*value, smallest, scales[slice]);
    }
}
