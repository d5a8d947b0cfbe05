//! From bytes to a checked model in normal form.

use super::draft::Draft;
use super::{Model, ModelError, ModelInput, batch_norm, embedded, normalize, operators, opset};
use crate::graph::{DataType, TensorData};
use crate::onnx::schema::{
    EXTERNAL_LOCATION, GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto, data_type,
};
use crate::onnx::{ExternalData, MODEL_BYTES_MAX, decode_tensor, read_external};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The oldest operator set whose forms we read.
const OPSET_MIN: i64 = 7;

/// Format versions that runtimes in use accept together with operator set 13 and later.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 7..=10;

impl Model {
    /// Parses an ONNX file and brings it into normal form.
    ///
    /// Tensors stored in other files are read through `external`. Float16, bfloat16 and float64 tensors become float32.
    pub fn load(bytes: &[u8], external: &dyn ExternalData) -> Result<Model, ModelError> {
        check_size(bytes.len() as u64)?;
        let not_onnx = |reason: String| ModelError::NotOnnx { reason };
        let mut proto =
            ModelProto::decode(Bytes::copy_from_slice(bytes)).map_err(|error| not_onnx(error.to_string()))?;
        let graph = proto.graph.take().ok_or_else(|| not_onnx("it contains no graph".to_owned()))?;
        let opset =
            proto.opset_import.iter().find(|entry| matches!(entry.domain.as_deref(), None | Some("" | "ai.onnx")));
        let version = opset.and_then(|entry| entry.version);
        let opset = version.filter(|version| *version >= OPSET_MIN).ok_or(ModelError::Opset { version })?;
        if !graph.sparse_initializer.is_empty() {
            return Err(not_onnx("it holds sparse constants, which are not supported".to_owned()));
        }
        let functions: BTreeSet<(String, String)> = proto
            .functions
            .drain(..)
            .map(|function| (function.domain.unwrap_or_default(), function.name.unwrap_or_default()))
            .collect();

        let GraphProto { node, name, initializer, doc_string, input, output, value_info, .. } = graph;
        let constants = read_constants(initializer, bytes.len() as u64, external)?;
        // Before format version 4 constants are listed among the inputs; a default value that a caller could
        // override is taken as the constant it is in practice.
        let input: Vec<ValueInfoProto> =
            input.into_iter().filter(|input| !constants.contains_key(input.name())).collect();
        let mut draft = draft(node, constants, input, output, value_info, opset);

        normalize::constants_from_nodes(&mut draft)?;
        draft.sort()?;
        draft.drop_dead();
        for node in &draft.nodes {
            let domain = node.domain.clone().unwrap_or_default();
            operators::check(node, opset, functions.contains(&(domain, node.op_type().to_owned())))?;
        }
        normalize::name_nodes(&mut draft);
        let embedded = if embedded::is_export(&proto) { embedded::unfold(&mut draft)? } else { None };
        normalize::widen_floats(&mut draft);
        normalize::remove_identities(&mut draft)?;
        normalize::chain_variadic(&mut draft);
        opset::raise(&mut draft)?;
        batch_norm::fold(&mut draft)?;
        draft.sort()?;
        draft.drop_dead();

        let inputs = draft.inputs.iter().map(model_input).collect::<Result<Vec<_>, _>>()?;
        let Draft { nodes, constants, inputs: input, outputs: output, opset, .. } = draft;
        let ir_version = proto.ir_version.unwrap_or(0).clamp(*IR_VERSIONS.start(), *IR_VERSIONS.end());
        let graph = GraphProto { node: nodes, name, doc_string, input, output, ..GraphProto::default() };
        proto.ir_version = Some(ir_version);
        proto.opset_import = vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }];
        proto.graph = Some(graph);
        Ok(Model { proto, constants, inputs, opset, embedded })
    }
}

fn check_size(bytes: u64) -> Result<(), ModelError> {
    if bytes > MODEL_BYTES_MAX {
        return Err(ModelError::TooLarge { bytes, limit: MODEL_BYTES_MAX });
    }
    Ok(())
}

fn draft(
    nodes: Vec<crate::onnx::schema::NodeProto>,
    constants: BTreeMap<String, Arc<TensorData>>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    value_info: Vec<ValueInfoProto>,
    opset: i64,
) -> Draft {
    let declared = inputs.iter().chain(&outputs).chain(&value_info);
    let mut ranks: BTreeMap<String, usize> =
        declared.filter_map(|info| Some((info.name().to_owned(), info.dims()?.len()))).collect();
    ranks.extend(constants.iter().map(|(name, data)| (name.clone(), data.shape().len())));
    let in_nodes = nodes.iter().flat_map(|node| node.input.iter().chain(&node.output));
    let names = in_nodes
        .cloned()
        .chain(constants.keys().cloned())
        .chain(inputs.iter().chain(&outputs).map(|info| info.name().to_owned()))
        .collect();
    Draft { nodes, constants, inputs, outputs, ranks, opset, names }
}

fn read_constants(
    initializers: Vec<TensorProto>,
    file_bytes: u64,
    external: &dyn ExternalData,
) -> Result<BTreeMap<String, Arc<TensorData>>, ModelError> {
    let mut total = file_bytes;
    let mut constants = BTreeMap::new();
    for mut tensor in initializers {
        let name = tensor.name.clone().unwrap_or_default();
        let malformed = |source| ModelError::Constant { tensor: name.clone(), source };
        if tensor.data_location == Some(EXTERNAL_LOCATION) {
            let (_, _, bytes) = crate::onnx::extent(&tensor).map_err(malformed)?;
            total = total.saturating_add(bytes);
            check_size(total)?;
            let raw = read_external(&tensor, bytes, external).map_err(|(location, source)| ModelError::External {
                tensor: name.clone(),
                location,
                source,
            })?;
            tensor.raw_data = Some(Bytes::from(raw));
        }
        let data = decode_tensor(&tensor).map_err(malformed)?;
        if constants.insert(name.clone(), Arc::new(data)).is_some() {
            return Err(ModelError::DuplicateTensor { tensor: name });
        }
    }
    Ok(constants)
}

fn model_input(info: &ValueInfoProto) -> Result<ModelInput, ModelError> {
    let refuse = |reason: String| ModelError::Port { tensor: info.name().to_owned(), reason };
    let number =
        info.elem_type().ok_or_else(|| refuse("this input is no tensor; only tensors are supported".to_owned()))?;
    let data_type = match number {
        data_type::FLOAT => DataType::F32,
        data_type::INT64 => DataType::I64,
        data_type::INT32 => DataType::I32,
        data_type::UINT8 => DataType::U8,
        data_type::INT8 => DataType::I8,
        data_type::BOOL => DataType::Bool,
        other => return Err(refuse(format!("inputs of {} elements are not supported", data_type::name(other)))),
    };
    let dims = info.dims().ok_or_else(|| {
        refuse(
            "this input declares no shape, not even its number of axes; export the model with input shapes".to_owned(),
        )
    })?;
    Ok(ModelInput { name: info.name().to_owned(), data_type, dims })
}
