//! What can be wrong with a model, each with the place and what to do about it.

use crate::onnx::schema::NodeProto;
use crate::onnx::{ExternalDataError, TensorError};
use std::fmt;

/// A node, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// The node's name, or its first output's where it has none.
    pub node: String,
    /// Its operator.
    pub operator: String,
}

impl NodePlace {
    /// The place of a node.
    pub fn of(node: &NodeProto) -> NodePlace {
        let first_output = || node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
        let name = if node.name().is_empty() { first_output() } else { node.name().to_owned() };
        let operator = match &node.domain {
            Some(domain) if !node.is_standard() => format!("{domain}.{}", node.op_type()),
            _ => node.op_type().to_owned(),
        };
        NodePlace { node: name, operator }
    }
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}` ({})", self.node, self.operator)
    }
}

/// Why a model cannot be loaded, given shapes, or exported.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The bytes are no ONNX model, or only the beginning of one.
    #[error("not an ONNX model: {reason}; check that the file is complete and was exported as ONNX")]
    NotOnnx {
        /// What is missing or unreadable.
        reason: String,
    },
    /// More data than we accept.
    #[error("the model holds {bytes} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Size found.
        bytes: u64,
        /// Size accepted.
        limit: u64,
    },
    /// A tensor in another file cannot be read.
    #[error("tensor `{tensor}` lies in the file `{location}`, which cannot be used")]
    External {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// Why.
        source: ExternalDataError,
    },
    /// A constant is malformed.
    #[error("constant `{tensor}` cannot be used")]
    Constant {
        /// The tensor.
        tensor: String,
        /// Why.
        source: TensorError,
    },
    /// No version of the standard operators, or an old one.
    #[error(
        "the model declares standard operator set {}, at least 7 is needed; export it again with opset 13 or later",
        .version.map_or("nothing".to_owned(), |version| version.to_string())
    )]
    Opset {
        /// The declared version.
        version: Option<i64>,
    },
    /// An operator that we do not compute.
    #[error("{place}: the operator is not supported (opset {opset}); {advice}")]
    UnsupportedOperator {
        /// The node.
        place: NodePlace,
        /// Version of the model's operator set.
        opset: i64,
        /// What could be done.
        advice: &'static str,
    },
    /// A form of a supported operator that we do not compute.
    #[error("{place}: {feature} is not supported; {advice}")]
    Unsupported {
        /// The node.
        place: NodePlace,
        /// What is asked for.
        feature: String,
        /// What could be done.
        advice: &'static str,
    },
    /// A node that contradicts its operator's definition or its inputs' shapes.
    #[error("{place}: {reason}")]
    Invalid {
        /// The node.
        place: NodePlace,
        /// What is wrong.
        reason: String,
    },
    /// A node reads a tensor that nothing makes.
    #[error(
        "{place} reads tensor `{tensor}`, which is no input, constant or output of a node; \
         the file is damaged or was cut wrongly"
    )]
    UndefinedTensor {
        /// The node.
        place: NodePlace,
        /// The tensor.
        tensor: String,
    },
    /// A model output that nothing makes.
    #[error("output `{tensor}` is made by no node; the file is damaged or was cut wrongly")]
    UndefinedOutput {
        /// The tensor.
        tensor: String,
    },
    /// Two makers of one tensor.
    #[error("tensor `{tensor}` is defined twice; tensor names must be unique, export the model again")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// Nodes that wait for each other.
    #[error("{place} depends on its own output through a cycle; ONNX graphs must be acyclic, export the model again")]
    Cycle {
        /// One node of the cycle.
        place: NodePlace,
    },
    /// An input or output that is no tensor of a type we hold.
    #[error("`{tensor}`: {reason}")]
    Port {
        /// The input or output.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A shape is needed for an input with free dimensions.
    #[error("input `{input}` has shape {declared} with free dimensions; say its concrete shape")]
    MissingShape {
        /// The input.
        input: String,
        /// The shape the model declares.
        declared: String,
    },
    /// A given shape contradicts the model.
    #[error("input `{input}` has shape {declared} in the model, which does not admit {given:?}")]
    InputShape {
        /// The input.
        input: String,
        /// The shape the model declares.
        declared: String,
        /// The shape given.
        given: Vec<usize>,
    },
    /// A shape is given for something that is no input.
    #[error("the model has no input `{input}`; its inputs are {known}")]
    UnknownInput {
        /// The name given.
        input: String,
        /// The model's inputs.
        known: String,
    },
    /// An edit that does not belong to the model.
    #[error("the edit does not fit the model: {reason}")]
    Edit {
        /// What does not fit.
        reason: String,
    },
    /// A scheme that does not belong to the model.
    #[error("the scheme does not fit the model: {reason}")]
    Scheme {
        /// What does not fit.
        reason: String,
    },
}

impl ModelError {
    /// A contradiction at a node.
    pub(crate) fn invalid(node: &NodeProto, reason: impl Into<String>) -> ModelError {
        ModelError::Invalid { place: NodePlace::of(node), reason: reason.into() }
    }

    /// A form of an operator that is not supported.
    pub(crate) fn unsupported(node: &NodeProto, feature: impl Into<String>, advice: &'static str) -> ModelError {
        ModelError::Unsupported { place: NodePlace::of(node), feature: feature.into(), advice }
    }
}
