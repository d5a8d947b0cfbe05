//! A float ONNX model in normal form: loaded, checked, made into graphs for concrete shapes, written back.
//!
//! Normal form means: one self-contained file, operators in the forms of opset 13 or later, constants as initializers,
//! no Identity or Dropout, every node with a unique name, batch normalization folded where it can be, nodes in
//! topological order, floats in 32 bits. Tensor names stay those of the file.

mod attributes;
mod batch_norm;
mod draft;
mod edit;
mod error;
mod export;
mod import;
mod load;
mod normalize;
mod operators;
mod opset;
mod shapes;

pub use edit::{ConstantEdit, ModelEdit, Multiplication};
pub use error::{ModelError, NodePlace};
pub use shapes::SampleShapeError;

use crate::digest::Digest;
use crate::graph::{DataType, TensorData};
use crate::onnx::encode_tensor;
use crate::onnx::schema::{ModelProto, NodeProto};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An input of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInput {
    /// Tensor name.
    pub name: String,
    /// Element type (float32 where the file says float16, bfloat16 or float64).
    pub data_type: DataType,
    /// Extents, `None` where the model leaves them free.
    pub dims: Vec<Option<usize>>,
}

/// A checked model in normal form.
#[derive(Clone, Debug)]
pub struct Model {
    /// The model without its constants.
    proto: ModelProto,
    constants: BTreeMap<String, Arc<TensorData>>,
    inputs: Vec<ModelInput>,
    opset: i64,
}

impl Model {
    /// The model as one self-contained ONNX file; equal models give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut proto = self.proto.clone();
        if let Some(graph) = &mut proto.graph {
            graph.initializer = self.constants.iter().map(|(name, data)| encode_tensor(name, data)).collect();
        }
        proto.encode_to_vec()
    }

    /// The digest of [`Model::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The inputs that a sample must supply.
    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    /// Names of the outputs; their shapes are the graph's.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.proto.graph.iter().flat_map(|graph| graph.output.iter().map(|output| output.name()))
    }

    /// Version of the standard operators in the normal form, at least 13.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    fn nodes(&self) -> &[NodeProto] {
        self.proto.graph.as_ref().map_or(&[], |graph| graph.node.as_slice())
    }
}
