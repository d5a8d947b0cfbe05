//! What becomes of every operation, and why those that stay float do.

use super::device::stays_float_in_transformers;
use super::ignored::ignored_by_user;
use super::patterns::ignored_by_pattern;
use super::placement::{Placement, place};
use super::roles::{Role, role};
use crate::error::CoreError;
use crate::parameters::{Mode, ModelType, QuantizationParameters};
use holdfast_common::graph::{Graph, OpId, OpKind, TensorId};
use serde::Serialize;
use std::collections::BTreeSet;

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It computes on codes.
    Quantized,
    /// It moves codes from where they arise to where they are read.
    CarriesCodes,
    /// It stays float.
    Float(FloatReason),
}

/// Why an operation stays float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FloatReason {
    /// `ignored` says so: the whole model, its name, or its type.
    Ignored,
    /// The family that `model_type` names keeps it float.
    ModelType,
    /// It is part of a pattern, such as an activation function or a normalization, that is kept whole.
    Pattern,
    /// It is an element-wise function of the result of a quantized operation, applied before that becomes codes.
    FollowsQuantized,
    /// Operations of its kind, or with inputs like its, have no integer form.
    NoIntegerForm,
    /// It only moves values, and some reader of these is float.
    FloatReaders,
    /// Its inputs arrive as floats: the device, or an ignored neighbour, keeps them so.
    FloatInputs,
}

impl FloatReason {
    /// The reason in a few words.
    pub fn text(self) -> &'static str {
        match self {
            FloatReason::Ignored => "`ignored` keeps it float",
            FloatReason::ModelType => "`model_type` keeps it float",
            FloatReason::Pattern => "part of a pattern that is kept whole",
            FloatReason::FollowsQuantized => {
                "applied to the result of the int8 operation before it, ahead of new codes"
            }
            FloatReason::NoIntegerForm => "no integer form for this kind or these inputs",
            FloatReason::FloatReaders => "moves values that are read as floats",
            FloatReason::FloatInputs => "its inputs stay float",
        }
    }
}

/// The placement, and the fate of every operation in graph order.
pub fn explain(
    graph: &Graph,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<(Placement, Vec<Fate>), CoreError> {
    let placement = place(graph, parameters, mode)?;
    let by_user = ignored_by_user(graph, &parameters.ignored, mode)?;
    let by_pattern = ignored_by_pattern(graph);
    let is_transformer = parameters.model_type == Some(ModelType::Transformer);
    let quantized: BTreeSet<&str> =
        placement.groups.iter().flat_map(|group| group.operations.iter().map(String::as_str)).collect();
    let follows = |id: OpId| {
        let producer = graph.op(id).inputs.first().and_then(|input| graph.tensor(*input).producer);
        let is_quantized = |producer: OpId| quantized.contains(graph.op(producer).name.as_str());
        matches!(graph.op(id).kind, OpKind::Unary(_)) && producer.is_some_and(is_quantized)
    };
    let reason = |id: OpId| {
        if parameters.ignored.skip_model || by_user.contains(&id) {
            FloatReason::Ignored
        } else if is_transformer && stays_float_in_transformers(&graph.op(id).kind, parameters.target_device, mode) {
            FloatReason::ModelType
        } else if by_pattern.contains(&id) {
            FloatReason::Pattern
        } else {
            match role(graph, id) {
                Role::Float if follows(id) => FloatReason::FollowsQuantized,
                Role::Float => FloatReason::NoIntegerForm,
                Role::PassThrough(_) => FloatReason::FloatReaders,
                Role::Quantizable(_) => FloatReason::FloatInputs,
            }
        }
    };
    let mut fates = vec![Fate::CarriesCodes; graph.ops.len()];
    // Topological order makes every reader known before its producer.
    for index in (0..graph.ops.len()).rev() {
        let id = OpId(index);
        let op = graph.op(id);
        let reads_codes = |(reader, _): &(OpId, usize)| !matches!(fates[reader.0], Fate::Float(_));
        let is_closed = |output: &TensorId| {
            let readers = &graph.tensor(*output).consumers;
            !readers.is_empty() && !graph.outputs.contains(output) && readers.iter().all(reads_codes)
        };
        let carries = matches!(role(graph, id), Role::PassThrough(_)) && op.outputs.iter().any(is_closed);
        fates[index] = if quantized.contains(op.name.as_str()) {
            Fate::Quantized
        } else if carries && !placement.groups.is_empty() {
            Fate::CarriesCodes
        } else {
            Fate::Float(reason(id))
        };
    }
    Ok((placement, fates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Ignored;
    use crate::testing::chain;

    #[test]
    fn every_operation_has_a_fate_and_what_is_ignored_says_so() {
        let graph = chain(&["a", "b"]);
        let (placement, fates) = explain(&graph, &QuantizationParameters::default(), Mode::Default).expect("explained");
        assert_eq!(fates.len(), graph.ops.len());
        let quantized = fates.iter().filter(|fate| **fate == Fate::Quantized).count();
        assert_eq!(quantized, placement.groups.iter().map(|group| group.operations.len()).sum::<usize>());
        let followers: Vec<bool> =
            fates.iter().map(|fate| *fate == Fate::Float(FloatReason::FollowsQuantized)).collect();
        assert_eq!(followers, [false, true, false, true], "what each convolution is followed by");
        let ignored = Ignored { skip_model: true, ..Ignored::default() };
        let skipped = QuantizationParameters { ignored, ..QuantizationParameters::default() };
        let (placement, fates) = explain(&graph, &skipped, Mode::Default).expect("explained");
        assert!(placement.groups.is_empty());
        assert!(fates.iter().all(|fate| *fate == Fate::Float(FloatReason::Ignored)));
    }
}
