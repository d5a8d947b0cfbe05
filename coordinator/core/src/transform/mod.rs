//! Changes of the float model that keep its function and make it easier to quantize: channel alignment, SmoothQuant.
//!
//! A transformation looks at statistics of the float model, rescales constants, and gives a new model: published under
//! its own digest, with workloads of its own. Everything after (placement, ranges, search, export) works on the new
//! model; the baseline stays that of the model the user gave.
//!
//! Never here: quant params, schemes.

mod channel_alignment;
mod constants;
mod smooth_quant;
#[cfg(test)]
mod tests;

use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::parameters::{Mode, ModelType, QuantizationParameters};
use crate::quantize::Passes;
use crate::quantize::calibration::Calibration;
use channel_alignment::ChannelAlignment;
use holdfast_common::Digest;
use holdfast_common::evaluation::{StatisticSpec, Workload};
use holdfast_common::graph::Graph;
use holdfast_common::model::{Model, ModelEdit};
use serde::Serialize;
use smooth_quant::SmoothQuant;
use std::collections::BTreeMap;

/// NNCF's alpha for matrix products.
const ALPHA: f64 = 0.95;

/// A float model and the workloads it is evaluated in.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its graph for one sample.
    pub graph: &'a Graph,
    /// The calibration workload.
    pub calibration: &'a Workload,
    /// The calibration samples.
    pub calibration_set: &'a SampleSet,
    /// The validation workload.
    pub validation: &'a Workload,
}

/// What became of the model.
#[derive(Clone, Debug)]
pub struct Transformed {
    /// The new model.
    pub model: Model,
    /// Its graph for one sample.
    pub graph: Graph,
    /// Digest of its calibration workload.
    pub calibration: Digest,
    /// Digest of its validation workload.
    pub validation: Digest,
    /// The parameters to quantize it with: those given, with what the transformations ask for.
    pub parameters: QuantizationParameters,
    /// What was done, in order.
    pub record: Vec<Transformation>,
    /// What it took.
    pub passes: Passes,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "transformation")]
pub enum Transformation {
    /// The channels between two convolutions were brought to one range.
    ChannelAlignment {
        /// The operation that makes the tensor.
        producer: String,
        /// The convolution that reads it.
        consumer: String,
        /// Smallest and largest divisor of a channel.
        factors: [f64; 2],
    },
    /// Range was moved from an activation to the weights of the products that read it.
    SmoothQuant {
        /// The activation.
        tensor: String,
        /// The products.
        operations: Vec<String>,
        /// Smallest and largest divisor of a channel.
        scales: [f64; 2],
        /// Whether the divisors went into the constants before the activation; if not, a multiplication was inserted.
        folded: bool,
    },
}

/// A transformation over one graph: what it looks at, and what it makes of it.
trait Plan {
    /// The statistics of the float model that it needs; none where there is nothing to do.
    fn wanted(&self) -> Vec<StatisticSpec>;

    /// What to change.
    fn decide(&self, calibration: &Calibration) -> Result<Decision, CoreError>;
}

/// What a transformation changes, and what quantization has to know of it.
#[derive(Debug, Default)]
struct Decision {
    edit: ModelEdit,
    record: Vec<Transformation>,
    /// Operations whose codes are to be halved where the saturation fix is on.
    rescaled: Vec<String>,
}

/// Applies the transformations that the parameters ask for; `None` where none changes anything.
pub async fn transform<E: Evaluator>(
    evaluator: &E,
    source: &Source<'_>,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<Option<Transformed>, CoreError> {
    let mut transformed = None;
    if let Some(alpha) = alpha(parameters, mode)? {
        let plan = SmoothQuant::of(source.graph, parameters, mode, alpha)?;
        transformed = applied(evaluator, source, transformed, &plan, parameters).await?;
    }
    if parameters.channel_alignment.unwrap_or(mode == Mode::Compat) {
        let graph = transformed.as_ref().map_or(source.graph, |transformed: &Transformed| &transformed.graph).clone();
        let plan = ChannelAlignment::of(&graph);
        transformed = applied(evaluator, source, transformed, &plan, parameters).await?;
    }
    Ok(transformed)
}

/// SmoothQuant's alpha, where it is on.
fn alpha(parameters: &QuantizationParameters, mode: Mode) -> Result<Option<f64>, CoreError> {
    let is_on = mode == Mode::Default && parameters.model_type == Some(ModelType::Transformer);
    let alpha = parameters.smooth_quant_alpha.or(is_on.then_some(ALPHA));
    match alpha {
        Some(alpha) if alpha.is_nan() || alpha > 1.0 => {
            let problem = format!("it is {alpha}, but must be at most 1 (a negative value switches SmoothQuant off)");
            Err(CoreError::Parameter { parameter: "smooth_quant_alpha", problem })
        }
        alpha => Ok(alpha.filter(|alpha| *alpha >= 0.0)),
    }
}

/// One more transformation of what there is so far.
async fn applied<E: Evaluator>(
    evaluator: &E,
    source: &Source<'_>,
    before: Option<Transformed>,
    plan: &impl Plan,
    parameters: &QuantizationParameters,
) -> Result<Option<Transformed>, CoreError> {
    let wanted = plan.wanted();
    if wanted.is_empty() {
        return Ok(before);
    }
    let mut set = source.calibration_set.clone();
    set.samples.truncate(parameters.stat_subset_size.unwrap_or(usize::MAX));
    if set.samples.is_empty() {
        return Err(CoreError::NoSamples("calibration"));
    }
    if let Some(before) = &before {
        set.workload = before.calibration;
    }
    let decision = plan.decide(&Calibration::collect(evaluator, &set, wanted).await?)?;
    if decision.edit.is_empty() {
        return Ok(before);
    }
    let unfit = |source| CoreError::Transformation { source };
    let model = before.as_ref().map_or(source.model, |before| &before.model).edited(&decision.edit).map_err(unfit)?;
    let shapes: BTreeMap<String, Vec<usize>> = source
        .graph
        .inputs
        .iter()
        .map(|input| source.graph.tensor(*input))
        .map(|input| (input.name.clone(), input.shape.clone()))
        .collect();
    let graph = model.graph(&shapes).map_err(unfit)?;
    let digest = evaluator.publish(model.to_bytes()).await?;
    let calibration = publish(evaluator, source.calibration, digest).await?;
    let validation = publish(evaluator, source.validation, digest).await?;
    let (mut parameters, mut record, mut passes) = match before {
        Some(before) => (before.parameters, before.record, before.passes),
        None => (parameters.clone(), Vec::new(), Passes { evaluations: 0, samples: set.samples.len() }),
    };
    passes.evaluations += 1;
    record.extend(decision.record);
    parameters.rescaled.extend(decision.rescaled);
    // An inserted multiplication is float arithmetic, whatever the model's type.
    let inserted = graph.ops().filter(|(_, op)| source.graph.find_op(&op.name).is_none());
    let known = parameters.ignored.scope.clone();
    let new = inserted.map(|(_, op)| op.name.clone()).filter(|name| !known.contains(name));
    parameters.ignored.scope.extend(new);
    Ok(Some(Transformed { model, graph, calibration, validation, parameters, record, passes }))
}

/// Publishes a workload with another model.
async fn publish<E: Evaluator>(evaluator: &E, workload: &Workload, model: Digest) -> Result<Digest, CoreError> {
    let workload = Workload { model, ..workload.clone() };
    let json = serde_json::to_vec(&workload).map_err(|source| CoreError::Json { what: "workload", source })?;
    Ok(evaluator.publish(json).await?)
}
