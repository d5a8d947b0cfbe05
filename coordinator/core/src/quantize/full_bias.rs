//! Full bias correction: one operation after the other, the mean output with quantized weights is compared with the
//! float model's, and the difference goes to the bias.
//!
//! Activations stay float, weights count as their codes, and the operations before an operation have their corrected
//! biases already, so that each correction sees what the earlier ones left. Operations that do not depend on one
//! another are corrected together: there are as many passes as correctable operations on the longest way through the
//! model, each over a fifth of the calibration samples, and a pass ends at the last operation it looks at.
//! Source: OpenVINO POT's bias correction, restated.

use super::bias_correction::{Correctable, Corrected};
use super::calibration::Calibration;
use super::default_quantization::Passes;
use super::placement::Placement;
use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::parameters::{Mode, QuantizationParameters};
use holdfast_common::evaluation::Candidate;
use holdfast_common::graph::Graph;
use holdfast_common::quantization::params::TensorClass;
use holdfast_common::quantization::statistics::Aggregator;
use holdfast_common::scheme::{GroupId, QuantParams, Quantizer, QuantizerGroup, QuantizerId, QuantizerSite, Scheme};
use std::collections::BTreeMap;

/// One of so many calibration samples is used.
const SAMPLE_SHARE: usize = 5;

/// What full bias correction works on.
pub(super) struct FullCorrection<'a> {
    pub(super) graph: &'a Graph,
    pub(super) placement: &'a Placement,
    /// Of all sites, in their order.
    pub(super) params: &'a [QuantParams],
    /// Statistics of the float model.
    pub(super) calibration: &'a Calibration,
    pub(super) parameters: &'a QuantizationParameters,
    pub(super) mode: Mode,
}

impl FullCorrection<'_> {
    /// Corrects these operations, which are in graph order, and counts what it asks for.
    pub(super) async fn run<E: Evaluator>(
        &self,
        evaluator: &E,
        operations: &[Correctable],
        passes: &mut Passes,
    ) -> Result<Vec<Corrected>, CoreError> {
        let set = self.calibration.set();
        let count = (set.samples.len() / SAMPLE_SHARE).max(1).min(set.samples.len());
        let first = SampleSet { workload: set.workload, samples: set.samples[..count].to_vec() };
        passes.samples = count;
        let mut biases: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut corrected: Vec<Option<Corrected>> = operations.iter().map(|_| None).collect();
        for together in levels(self.graph, operations) {
            let scheme = self.weights_only(biases.clone());
            let bytes = serde_json::to_vec(&scheme).map_err(|source| CoreError::Json { what: "scheme", source })?;
            let candidate = Candidate { scheme: Some(evaluator.publish(bytes).await?), reverted: Vec::new() };
            let wanted = together.iter().map(|index| operations[*index].output.clone()).collect();
            let found = Calibration::of_candidate(evaluator, &first, candidate, wanted).await?;
            passes.evaluations += 1;
            for index in together {
                let new = self.corrected(&operations[index], &found, count)?;
                if let Some(bias) = &new.bias {
                    biases.insert(self.graph.op(operations[index].id).name.clone(), bias.clone());
                }
                corrected[index] = Some(new);
            }
        }
        let all = corrected.into_iter().zip(operations);
        Ok(all.map(|(corrected, operation)| corrected.unwrap_or_else(|| operation.refused(self.graph))).collect())
    }

    fn corrected(&self, operation: &Correctable, found: &Calibration, count: usize) -> Result<Corrected, CoreError> {
        let float = self.calibration.aggregated_over(&operation.output, Aggregator::Mean, count)?;
        let quantized = found.aggregated(&operation.output, Aggregator::Mean)?;
        let bias = operation.model_bias(self.graph);
        let Some(bias) = bias.filter(|bias| bias.len() == float.len() && bias.len() == quantized.len()) else {
            return Ok(operation.refused(self.graph));
        };
        let shifts: Vec<f64> = float.iter().zip(&quantized).map(|(float, quantized)| float - quantized).collect();
        let corrected = bias.iter().zip(&shifts).map(|(bias, shift)| f64::from(*bias) + shift).collect();
        let magnitude = operation.magnitude(&shifts, &bias, self.calibration, self.mode)?;
        Ok(operation.decided(self.graph, corrected, magnitude, self.parameters.threshold()))
    }

    /// The scheme that quantizes weights alone, in one group, with these biases.
    fn weights_only(&self, biases: BTreeMap<String, Vec<f32>>) -> Scheme {
        let sites = self.placement.sites.iter().zip(self.params).filter(|(site, _)| site.class == TensorClass::Weights);
        let quantizers: Vec<Quantizer> = sites
            .map(|(site, params)| Quantizer { site: site.site.clone(), params: params.clone(), group: GroupId(0) })
            .collect();
        let mut operations: Vec<String> = Vec::new();
        for quantizer in &quantizers {
            if let QuantizerSite::Weight { operation, .. } = &quantizer.site
                && operations.last() != Some(operation)
            {
                operations.push(operation.clone());
            }
        }
        let ids = (0..quantizers.len() as u32).map(QuantizerId).collect();
        let group = operations.first().map(|name| QuantizerGroup {
            name: name.clone(),
            quantizers: ids,
            operations: operations.clone(),
            macs: 0,
        });
        Scheme { quantizers, groups: group.into_iter().collect(), biases, ..Scheme::default() }
    }
}

/// Operations by how many correctable ones lie before them at most, as indices.
pub(super) fn levels(graph: &Graph, operations: &[Correctable]) -> Vec<Vec<usize>> {
    let indices: BTreeMap<_, _> = operations.iter().enumerate().map(|(index, op)| (op.id, index)).collect();
    let mut before = vec![0; graph.tensors.len()];
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for (id, op) in graph.ops() {
        let mut depth = op.inputs.iter().map(|input| before[input.0]).max().unwrap_or(0);
        if let Some(index) = indices.get(&id) {
            levels.resize_with(levels.len().max(depth + 1), Vec::new);
            levels[depth].push(*index);
            depth += 1;
        }
        op.outputs.iter().for_each(|output| before[output.0] = depth);
    }
    levels
}
