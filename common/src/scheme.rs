//! The quantization scheme: portable, immutable, digested; quant params of every quantizer, and the groups that revert together.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Index of a quantizer in [`Scheme::quantizers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuantizerId(pub u32);

/// Index of a quantizer group in [`Scheme::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// The integers a code is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeType {
    /// Unsigned 8-bit storage: activations, always.
    U8,
    /// Signed 8-bit storage: weights, always.
    I8,
}

/// real = scale × (code − zero_point), per tensor or per slice along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantParams {
    /// Storage of the codes.
    pub code_type: CodeType,
    /// Smallest code used (narrow range and fewer bits shrink it), inclusive.
    pub code_min: i32,
    /// Largest code used, inclusive.
    pub code_max: i32,
    /// `None`: per tensor, one scale. `Some(axis)`: one scale per index of this ONNX axis.
    pub axis: Option<usize>,
    /// Scales, positive and finite; one, or one per slice.
    pub scales: Vec<f32>,
    /// Zero points within the code range; as many as scales.
    pub zero_points: Vec<i32>,
}

/// Where a quantizer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum QuantizerSite {
    /// On an activation tensor, for the listed readers only; other readers see the float tensor.
    Activation {
        /// Tensor name.
        tensor: String,
        /// Readers as (operation name, input position), in graph order. A reader may be a pass-through operation
        /// (pooling by maximum, reshape, concatenation, …): then its output carries the same codes on.
        readers: Vec<(String, usize)>,
    },
    /// On a constant input of one operation.
    Weight {
        /// Tensor name of the constant.
        tensor: String,
        /// The operation's name.
        operation: String,
        /// The input position.
        input: usize,
    },
}

/// A place in the graph where a float tensor becomes int8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantizer {
    /// Where it stands.
    pub site: QuantizerSite,
    /// How it maps.
    pub params: QuantParams,
    /// The group it belongs to.
    pub group: GroupId,
}

/// Quantizers and operations that can only change precision together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizerGroup {
    /// The name: that of its first operation in graph order.
    pub name: String,
    /// Members, ascending.
    pub quantizers: Vec<QuantizerId>,
    /// Names of the quantized operations that become float when the group is reverted, in graph order.
    pub operations: Vec<String>,
    /// Multiply-accumulate operations of these, one sample.
    pub macs: u64,
}

/// The whole assignment. Everything in it is ordered, so that its JSON text, and with it its digest, is canonical.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scheme {
    /// All quantizers, in graph order of the tensors they stand on.
    pub quantizers: Vec<Quantizer>,
    /// All groups, in graph order of their first operation; disjoint, covering all quantizers.
    pub groups: Vec<QuantizerGroup>,
    /// Corrected float biases by operation name, one value per output channel; an operation that is not listed keeps
    /// the model's bias. That of a MatMul is the constant added behind it ([`crate::graph::Graph::addition_behind`]). A reverted operation always has the model's bias; one that is in no group always has this.
    pub biases: BTreeMap<String, Vec<f32>>,
    /// Codes of weights that were tuned, by operation, in the order of the model's constant; the codes of other weights
    /// are the nearest ones. A reverted operation has the model's weights.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, Vec<i8>>,
}

impl Scheme {
    /// The digest of the canonical JSON text.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of_json(self)
    }

    /// The group with this id.
    pub fn group(&self, id: GroupId) -> Option<&QuantizerGroup> {
        self.groups.get(id.0 as usize)
    }

    /// All group ids in order.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..self.groups.len() as u32).map(GroupId)
    }

    /// Names of the operations that are int8 when these groups are reverted, in group order.
    pub fn quantized_operations<'a>(&'a self, reverted: &'a BTreeSet<GroupId>) -> impl Iterator<Item = &'a str> {
        self.groups
            .iter()
            .zip(self.group_ids())
            .filter(|(_, id)| !reverted.contains(id))
            .flat_map(|(group, _)| group.operations.iter().map(String::as_str))
    }
}
