//! The quantized model as ONNX: the float model with QuantizeLinear and DequantizeLinear at every active quantizer.
//!
//! Runtimes recognise "dequantize, operator, quantize" and run the operator on integers. So an activation gets one
//! Q→DQ pair, which exactly the quantizer's readers see; an operation that only moves elements (a pass-through) is
//! followed by the same pair again, so that the next operation reads a DequantizeLinear too; weights and biases become
//! integer constants behind a DequantizeLinear.

use super::draft::Draft;
use super::normalize::{name_nodes, plain_node, with_attribute};
use super::{Model, ModelError};
use crate::graph::{Graph, Op, OpId, OpKind, ResizeMode, TensorData, TensorId, UnaryKind};
use crate::onnx::encode_tensor;
use crate::onnx::schema::{AttributeProto, NodeProto, StringStringEntryProto};
use crate::quantization::codes::{bias_scales, check_params, quantize_bias, quantize_weights, slice_count};
use crate::scheme::{CodeType, GroupId, QuantParams, Quantizer, QuantizerSite, Scheme};
use ndarray::{ArrayD, IxDyn, arr1};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Key of the note that says which version wrote the file.
pub(super) const METADATA_KEY: &str = "holdfast.version";

/// Protocol buffer messages of 2 GiB or more cannot be read back.
const FILE_BYTES_MAX: u64 = (1 << 31) - 1;

impl Model {
    /// The model with the scheme's quantizers, except those of reverted groups, as a QDQ model in one file.
    ///
    /// `graph` is this model's graph for the shapes the scheme was made for; the file keeps the model's free
    /// dimensions. Equal arguments give equal bytes. A scheme that names other tensors or operations, or whose params
    /// do not fit them, is an error.
    pub fn export_qdq(
        &self,
        scheme: &Scheme,
        reverted: &BTreeSet<GroupId>,
        graph: &Graph,
    ) -> Result<Vec<u8>, ModelError> {
        let mut exporter = Exporter::new(self, scheme, reverted, graph);
        exporter.place_weights()?;
        exporter.place_activations()?;
        exporter.carry()?;
        exporter.place_biases()?;
        exporter.shield_floats()?;
        exporter.finish()
    }
}

/// A Q→DQ pair: the tensor readers are to see instead of the float one, and its params.
#[derive(Clone)]
struct Dequantized<'a> {
    tensor: String,
    params: &'a QuantParams,
}

struct Exporter<'a> {
    model: &'a Model,
    scheme: &'a Scheme,
    graph: &'a Graph,
    active: Vec<&'a Quantizer>,
    quantized: BTreeSet<&'a str>,
    ops: BTreeMap<&'a str, OpId>,
    tensors: BTreeMap<&'a str, TensorId>,
    /// Position of every node of the model by name.
    node_index: BTreeMap<String, usize>,
    draft: Draft,
    /// What (operation, input) reads instead of its float tensor.
    wires: BTreeMap<(OpId, usize), Dequantized<'a>>,
    /// Outputs of pass-through operations that carry codes.
    carried: BTreeSet<TensorId>,
    /// Tensors that a QuantizeLinear reads.
    requantized: BTreeSet<TensorId>,
    /// Quantized constants that exist already, by tensor and params.
    codes: BTreeMap<(TensorId, String), String>,
}

impl<'a> Exporter<'a> {
    fn new(model: &'a Model, scheme: &'a Scheme, reverted: &'a BTreeSet<GroupId>, graph: &'a Graph) -> Exporter<'a> {
        let proto = model.proto.graph.clone().unwrap_or_default();
        let in_nodes = proto.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned();
        let names = in_nodes
            .chain(model.constants.keys().cloned())
            .chain(proto.input.iter().chain(&proto.output).map(|info| info.name().to_owned()))
            .collect();
        let draft = Draft {
            nodes: proto.node,
            constants: model.constants.clone(),
            inputs: proto.input,
            outputs: proto.output,
            ranks: BTreeMap::new(),
            opset: model.opset,
            names,
        };
        Exporter {
            model,
            scheme,
            graph,
            active: scheme.quantizers.iter().filter(|quantizer| !reverted.contains(&quantizer.group)).collect(),
            quantized: scheme.quantized_operations(reverted).collect(),
            ops: graph.ops().map(|(id, op)| (op.name.as_str(), id)).collect(),
            tensors: graph.tensors.iter().enumerate().map(|(index, of)| (of.name.as_str(), TensorId(index))).collect(),
            node_index: draft.nodes.iter().enumerate().map(|(index, node)| (node.name().to_owned(), index)).collect(),
            draft,
            wires: BTreeMap::new(),
            carried: BTreeSet::new(),
            requantized: BTreeSet::new(),
            codes: BTreeMap::new(),
        }
    }

    fn find_tensor(&self, name: &str) -> Result<TensorId, ModelError> {
        self.tensors.get(name).copied().ok_or_else(|| misfit(format!("the graph has no tensor `{name}`")))
    }

    /// The operation that reads a tensor at a position, as a quantizer states it.
    fn find_reader(&self, operation: &str, position: usize, tensor: TensorId) -> Result<OpId, ModelError> {
        let id = *self.ops.get(operation).ok_or_else(|| misfit(format!("the graph has no operation `{operation}`")))?;
        if self.graph.op(id).inputs.get(position) != Some(&tensor) {
            let name = &self.graph.tensor(tensor).name;
            return Err(misfit(format!("input {position} of operation `{operation}` is not tensor `{name}`")));
        }
        Ok(id)
    }

    /// Replaces one input of an operation's node.
    fn rewire(&mut self, op: OpId, position: usize, tensor: &str) -> Result<(), ModelError> {
        let name = self.graph.op(op).name.as_str();
        let node = self.node_index.get(name).and_then(|&index| self.draft.nodes.get_mut(index));
        let input = node.and_then(|node| node.input.get_mut(position));
        let input = input.ok_or_else(|| misfit(format!("operation `{name}` has no input {position} in the model")))?;
        tensor.clone_into(input);
        Ok(())
    }

    fn place_weights(&mut self) -> Result<(), ModelError> {
        for quantizer in self.active.clone() {
            let QuantizerSite::Weight { tensor, operation, input } = &quantizer.site else { continue };
            let id = self.find_tensor(tensor)?;
            let op = self.find_reader(operation, *input, id)?;
            let data = self.graph.tensor(id).constant.as_deref().and_then(TensorData::as_f32);
            let data = data.ok_or_else(|| misfit(format!("weight `{tensor}` is no constant of floats")))?;
            let params = &quantizer.params;
            let tuned = self.scheme.codes.get(operation);
            let key = (id, format!("{params:?}{}", tuned.map_or("", |_| operation.as_str())));
            let codes = match self.codes.get(&key) {
                Some(name) => name.clone(),
                None => {
                    let codes = match tuned {
                        None => quantize_weights(data, params).map_err(|error| misfit_at(tensor, &error))?,
                        Some(codes) => ArrayD::from_shape_vec(data.raw_dim(), codes.clone()).map_err(|_| {
                            misfit(format!("the scheme has {} codes for the weights of `{operation}`", codes.len()))
                        })?,
                    };
                    let name = self.draft.add_constant(&format!("{tensor}/codes"), TensorData::I8(codes));
                    self.codes.insert(key, name.clone());
                    name
                }
            };
            let output = self.dequantize(&codes, &format!("{operation}/input {input}"), params);
            self.rewire(op, *input, &output)?;
            self.wires.insert((op, *input), Dequantized { tensor: output, params });
        }
        Ok(())
    }

    fn place_activations(&mut self) -> Result<(), ModelError> {
        for quantizer in self.active.clone() {
            let QuantizerSite::Activation { tensor, readers } = &quantizer.site else { continue };
            let id = self.find_tensor(tensor)?;
            let pair = self.quantize(id, &quantizer.params)?;
            for (operation, position) in readers {
                let op = self.find_reader(operation, *position, id)?;
                self.rewire(op, *position, &pair.tensor)?;
                if self.wires.insert((op, *position), pair.clone()).is_some() {
                    return Err(misfit(format!("input {position} of operation `{operation}` has two quantizers")));
                }
            }
        }
        Ok(())
    }

    /// Follows pass-through operations in topological order: what comes out of them has the codes that went in.
    fn carry(&mut self) -> Result<(), ModelError> {
        let graph = self.graph;
        for (id, op) in graph.ops() {
            let Some(positions) = pass_through_inputs(op) else { continue };
            let incoming: Option<Vec<Dequantized<'a>>> =
                positions.clone().map(|position| self.wires.get(&(id, position)).cloned()).collect();
            let Some(incoming) = incoming else { continue };
            let Some(first) = incoming.first() else { continue };
            if incoming.iter().any(|other| other.params != first.params) {
                return Err(misfit(format!(
                    "the inputs of `{}` ({}) have different quant params; quantizers of joined tensors must agree",
                    op.name,
                    op.kind.name()
                )));
            }
            for &output in &op.outputs {
                let readers: Vec<(OpId, usize)> = graph
                    .tensor(output)
                    .consumers
                    .iter()
                    .copied()
                    .filter(|reader| !self.wires.contains_key(reader) && self.takes_codes(*reader))
                    .collect();
                self.carried.insert(output);
                if readers.is_empty() {
                    continue;
                }
                if first.params.axis.is_some() && !keeps_axes(&op.kind) {
                    return Err(misfit(format!(
                        "`{}` ({}) moves the axis its input is quantized along; use per-tensor params there",
                        op.name,
                        op.kind.name()
                    )));
                }
                let pair = self.quantize(output, first.params)?;
                for (reader, position) in readers {
                    self.rewire(reader, position, &pair.tensor)?;
                    self.wires.insert((reader, position), pair.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether a reader of a pass-through's output works on codes: a quantized operation, or another pass-through.
    fn takes_codes(&self, (reader, position): (OpId, usize)) -> bool {
        let op = self.graph.op(reader);
        self.quantized.contains(op.name.as_str())
            || pass_through_inputs(op).is_some_and(|mut positions| positions.any(|data| data == position))
    }

    /// Integer biases for operations whose input and weights are quantized; corrected float biases for the others.
    fn place_biases(&mut self) -> Result<(), ModelError> {
        if let Some(unknown) = self.scheme.biases.keys().find(|name| !self.ops.contains_key(name.as_str())) {
            return Err(misfit(format!("the scheme has a bias for `{unknown}`, which is no operation of the graph")));
        }
        let in_groups = self.scheme.groups.iter().flat_map(|group| group.operations.iter());
        let in_groups: BTreeSet<&str> = in_groups.map(String::as_str).collect();
        let always_float = self.scheme.biases.keys().map(String::as_str).filter(|name| !in_groups.contains(name));
        let names: BTreeSet<&str> = self.quantized.iter().copied().chain(always_float).collect();
        for name in names {
            let id = *self.ops.get(name).ok_or_else(|| misfit(format!("the graph has no operation `{name}`")))?;
            let op = self.graph.op(id);
            let corrected = self.scheme.biases.get(name);
            let is_plain = match &op.kind {
                OpKind::Conv(_) | OpKind::ConvTranspose(_) => true,
                OpKind::MatMul if corrected.is_some() => {
                    self.place_addend(id)?;
                    continue;
                }
                OpKind::Gemm { alpha, beta, .. } => *alpha == 1.0 && *beta == 1.0,
                _ => {
                    if corrected.is_some() {
                        return Err(misfit(format!("`{name}` ({}) has no bias to correct", op.kind.name())));
                    }
                    continue;
                }
            };
            let channels = op.outputs.first().and_then(|id| self.graph.tensor(*id).shape.get(1)).copied().unwrap_or(0);
            let bias: Option<Vec<f32>> = match corrected {
                Some(bias) if bias.len() == channels => Some(bias.clone()),
                Some(bias) => {
                    return Err(misfit(format!("the bias of `{name}` has {} of {channels} values", bias.len())));
                }
                None => self.own_bias(id, channels),
            };
            let Some(bias) = bias else { continue };
            let scales = match (self.wires.get(&(id, 0)), self.wires.get(&(id, 1))) {
                (Some(input), Some(weights)) if is_plain => {
                    Some((&input.params.scales, output_scales(&op.kind, &weights.params.scales)))
                }
                _ => None,
            };
            let tensor = match &scales {
                Some((input, weights)) => {
                    let codes = quantize_bias(&bias, input, weights).map_err(|error| misfit_at(name, &error))?;
                    let scales = bias_scales(input, weights, channels).map_err(|error| misfit_at(name, &error))?;
                    let is_uniform = input.len() == 1 && weights.len() == 1;
                    self.dequantize_bias(name, &codes, &scales, is_uniform)
                }
                None if corrected.is_some() => {
                    self.draft.add_constant(&format!("{name}/bias"), TensorData::F32(arr1(&bias).into_dyn()))
                }
                None => continue,
            };
            let node = self.node_index.get(name).and_then(|&index| self.draft.nodes.get_mut(index));
            let node = node.ok_or_else(|| misfit(format!("the model has no node `{name}`")))?;
            node.input.resize(2, String::new());
            node.input.push(tensor);
        }
        Ok(())
    }

    /// The corrected bias of a product that has its bias in the addition behind it.
    fn place_addend(&mut self, product: OpId) -> Result<(), ModelError> {
        let name = self.graph.op(product).name.as_str();
        let (addition, position) = self
            .graph
            .addition_behind(product)
            .ok_or_else(|| misfit(format!("`{name}` (MatMul) has no bias to correct")))?;
        let bias = self.scheme.biases.get(name).cloned().unwrap_or_default();
        let constant = self.graph.constant_input(addition, position).and_then(|constant| constant.as_f32());
        let values = constant.and_then(|constant| ArrayD::from_shape_vec(constant.raw_dim(), bias).ok());
        let values =
            values.ok_or_else(|| misfit(format!("the bias of `{name}` has another length than the model's")))?;
        let tensor = self.draft.add_constant(&format!("{name}/bias"), TensorData::F32(values));
        self.rewire(addition, position, &tensor)
    }

    /// The model's bias of an operation, if it is one constant value per output channel.
    fn own_bias(&self, op: OpId, channels: usize) -> Option<Vec<f32>> {
        let bias = self.graph.constant_input(op, 2)?.as_f32()?;
        let is_per_channel = bias.len() == channels && bias.shape().last() == Some(&channels);
        is_per_channel.then(|| bias.iter().copied().collect())
    }

    /// ONNX Runtime's optimizer (seen in 1.32: `WeightBiasQuantization` after moving Q/DQ through pass-throughs) makes
    /// integers of any float operation that stands between a DequantizeLinear and a QuantizeLinear. A float operation
    /// that reads a carried tensor would be such a one, so a Sum of one input, which does nothing and which no
    /// optimizer removes, is put between.
    fn shield_floats(&mut self) -> Result<(), ModelError> {
        let graph = self.graph;
        let mut shields: BTreeMap<String, String> = BTreeMap::new();
        for (id, op) in graph.ops() {
            if self.quantized.contains(op.name.as_str()) || pass_through_inputs(op).is_some() {
                continue;
            }
            for (position, tensor) in op.inputs.iter().enumerate() {
                let wire = self.wires.get(&(id, position)).map(|pair| &pair.tensor);
                let is_product = matches!(
                    op.kind,
                    OpKind::Conv(_) | OpKind::ConvTranspose(_) | OpKind::Gemm { .. } | OpKind::MatMul
                );
                let is_constant = graph.tensor(*tensor).constant.is_some();
                let source = match wire {
                    Some(pair) if is_product && !is_constant => pair.clone(),
                    None if self.carried.contains(tensor) => graph.tensor(*tensor).name.clone(),
                    _ => continue,
                };
                if !self.feeds_quantizer(id) {
                    continue;
                }
                let shield = match shields.get(&source) {
                    Some(name) => name.clone(),
                    None => {
                        let name = self.draft.fresh_name(&format!("{source}/float"));
                        self.draft.nodes.push(plain_node("Sum", &name, &[&source], &name));
                        shields.insert(source, name.clone());
                        name
                    }
                };
                self.rewire(id, position, &shield)?;
            }
        }
        Ok(())
    }

    /// Whether an operation's output reaches a QuantizeLinear through nothing but activations that runtimes fuse and
    /// pass-throughs.
    fn feeds_quantizer(&self, op: OpId) -> bool {
        let mut open = self.graph.op(op).outputs.clone();
        let mut seen: BTreeSet<TensorId> = open.iter().copied().collect();
        while let Some(tensor) = open.pop() {
            if self.requantized.contains(&tensor) {
                return true;
            }
            for (reader, _) in &self.graph.tensor(tensor).consumers {
                let op = self.graph.op(*reader);
                let is_fused = matches!(op.kind, OpKind::Unary(UnaryKind::Relu | UnaryKind::Clip { .. }));
                if is_fused || pass_through_inputs(op).is_some() {
                    open.extend(op.outputs.iter().filter(|output| seen.insert(**output)));
                }
            }
        }
        false
    }

    /// Adds a Q→DQ pair after a float tensor.
    fn quantize(&mut self, id: TensorId, params: &'a QuantParams) -> Result<Dequantized<'a>, ModelError> {
        let tensor = self.graph.tensor(id);
        let checked = slice_count(params, &tensor.shape).and_then(|slices| check_params(params, slices));
        checked.map_err(|error| misfit_at(&tensor.name, &error))?;
        self.requantized.insert(id);
        let source = self.limit_codes(&tensor.name, tensor.shape.len(), params);
        let (scale, zero_point) = self.add_params(&tensor.name, params);
        let codes = self.draft.fresh_name(&format!("{}/quantized", tensor.name));
        let node = plain_node("QuantizeLinear", &codes, &[&source, &scale, &zero_point], &codes);
        self.draft.nodes.push(with_axis(node, params.axis));
        let output = self.draft.fresh_name(&format!("{}/dequantized", tensor.name));
        let node = plain_node("DequantizeLinear", &output, &[&codes, &scale, &zero_point], &output);
        self.draft.nodes.push(with_axis(node, params.axis));
        Ok(Dequantized { tensor: output, params })
    }

    /// QuantizeLinear uses all codes of its storage; where fewer are meant, values are limited before it.
    fn limit_codes(&mut self, tensor: &str, rank: usize, params: &QuantParams) -> String {
        let storage = match params.code_type {
            CodeType::U8 => (0, 255),
            CodeType::I8 => (-128, 127),
        };
        let mut source = tensor.to_owned();
        let limits = [("Max", "low", params.code_min, storage.0), ("Min", "high", params.code_max, storage.1)];
        for (operator, role, code, natural) in limits {
            if code == natural {
                continue;
            }
            let pairs = params.scales.iter().zip(&params.zero_points);
            let values: Vec<f32> = pairs.map(|(scale, zero_point)| (code - zero_point) as f32 * scale).collect();
            let mut shape = vec![1; params.axis.map_or(0, |_| rank)];
            if let Some(axis) = params.axis {
                shape[axis] = values.len();
            }
            let Ok(values) = ArrayD::from_shape_vec(IxDyn(&shape), values) else { continue };
            let bound = self.draft.add_constant(&format!("{tensor}/{role}"), TensorData::F32(values));
            let output = self.draft.fresh_name(&format!("{tensor}/limited {role}"));
            self.draft.nodes.push(plain_node(operator, &output, &[&source, &bound], &output));
            source = output;
        }
        source
    }

    /// Adds a DequantizeLinear after constant codes.
    fn dequantize(&mut self, codes: &str, base: &str, params: &QuantParams) -> String {
        let (scale, zero_point) = self.add_params(base, params);
        let output = self.draft.fresh_name(&format!("{base}/dequantized"));
        let node = plain_node("DequantizeLinear", &output, &[codes, &scale, &zero_point], &output);
        self.draft.nodes.push(with_axis(node, params.axis));
        output
    }

    fn dequantize_bias(&mut self, operation: &str, codes: &[i32], scales: &[f32], is_uniform: bool) -> String {
        let axis = if is_uniform { None } else { Some(0) };
        let scales = per_slice(if is_uniform { scales.get(..1).unwrap_or_default() } else { scales }, axis);
        let zero_points = TensorData::I32(ArrayD::zeros(scales.raw_dim()));
        let base = format!("{operation}/bias");
        let codes = self.draft.add_constant(&format!("{base}/codes"), TensorData::I32(arr1(codes).into_dyn()));
        let scale = self.draft.add_constant(&format!("{base}/scale"), TensorData::F32(scales));
        let zero_point = self.draft.add_constant(&format!("{base}/zero_point"), zero_points);
        let output = self.draft.fresh_name(&format!("{base}/dequantized"));
        let node = plain_node("DequantizeLinear", &output, &[&codes, &scale, &zero_point], &output);
        self.draft.nodes.push(with_axis(node, axis));
        output
    }

    /// Adds scale and zero point constants, scalars or one per slice.
    fn add_params(&mut self, base: &str, params: &QuantParams) -> (String, String) {
        let scales = per_slice(&params.scales, params.axis);
        let zero_points = per_slice(&params.zero_points, params.axis);
        let zero_points = match params.code_type {
            CodeType::U8 => TensorData::U8(zero_points.mapv(|zero_point| zero_point as u8)),
            CodeType::I8 => TensorData::I8(zero_points.mapv(|zero_point| zero_point as i8)),
        };
        let scale = self.draft.add_constant(&format!("{base}/scale"), TensorData::F32(scales));
        (scale, self.draft.add_constant(&format!("{base}/zero_point"), zero_points))
    }

    /// Sorts, drops what nobody reads, and writes.
    fn finish(mut self) -> Result<Vec<u8>, ModelError> {
        name_nodes(&mut self.draft);
        self.draft.sort()?;
        self.draft.drop_dead();
        let mut proto = self.model.proto.clone();
        let graph = proto.graph.get_or_insert_default();
        graph.node = self.draft.nodes;
        graph.initializer = self.draft.constants.iter().map(|(name, data)| encode_tensor(name, data)).collect();
        proto.metadata_props.retain(|entry| entry.key() != METADATA_KEY);
        proto.metadata_props.push(StringStringEntryProto {
            key: Some(METADATA_KEY.to_owned()),
            value: Some(env!("CARGO_PKG_VERSION").to_owned()),
        });
        let bytes = proto.encoded_len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(ModelError::TooLarge { bytes, limit: FILE_BYTES_MAX });
        }
        Ok(proto.encode_to_vec())
    }
}

fn misfit(reason: String) -> ModelError {
    ModelError::Scheme { reason }
}

fn misfit_at(name: &str, error: &dyn std::error::Error) -> ModelError {
    misfit(format!("at `{name}`: {error}"))
}

fn with_axis(node: NodeProto, axis: Option<usize>) -> NodeProto {
    match axis {
        Some(axis) => with_attribute(node, AttributeProto::int("axis", axis as i64)),
        None => node,
    }
}

/// Weight scales by output channel: the groups of a transposed convolution share the slices of its weights.
fn output_scales(kind: &OpKind, scales: &[f32]) -> Vec<f32> {
    match kind {
        OpKind::ConvTranspose(attributes) if scales.len() > 1 => scales.repeat(attributes.group),
        _ => scales.to_vec(),
    }
}

/// A scalar for a tensor as a whole, else a vector.
fn per_slice<T: Clone>(values: &[T], axis: Option<usize>) -> ArrayD<T> {
    match values {
        [only] if axis.is_none() => ArrayD::from_elem(IxDyn(&[]), only.clone()),
        values => arr1(values).into_dyn(),
    }
}

/// The data inputs of an operation that moves or selects elements without computing on them; `None` for the others.
///
/// Codes pass these operations unchanged, as one order relation holds for codes and for the values they stand for.
fn pass_through_inputs(op: &Op) -> Option<std::ops::Range<usize>> {
    match &op.kind {
        OpKind::Concat { .. } => Some(0..op.inputs.len()),
        OpKind::MaxPool(_)
        | OpKind::GlobalMaxPool
        | OpKind::Reshape
        | OpKind::Transpose { .. }
        | OpKind::Split { .. }
        | OpKind::Slice { .. }
        | OpKind::Pad { .. }
        | OpKind::Gather { .. }
        | OpKind::Expand
        | OpKind::Tile { .. }
        | OpKind::DepthToSpace { .. }
        | OpKind::Resize { mode: ResizeMode::Nearest(_), .. } => Some(0..1),
        OpKind::Conv(_)
        | OpKind::ConvTranspose(_)
        | OpKind::Gemm { .. }
        | OpKind::MatMul
        | OpKind::Unary(_)
        | OpKind::Binary(_)
        | OpKind::AveragePool(_)
        | OpKind::GlobalAveragePool
        | OpKind::Reduce { .. }
        | OpKind::Softmax { .. }
        | OpKind::ScaleShift
        | OpKind::LayerNormalization { .. }
        | OpKind::Resize { .. }
        | OpKind::Cast
        | OpKind::ArgMax { .. }
        | OpKind::Where
        | OpKind::General(_) => None,
    }
}

/// Whether a pass-through leaves every axis where it is, so that params along an axis still fit.
fn keeps_axes(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::MaxPool(_)
            | OpKind::GlobalMaxPool
            | OpKind::Pad { .. }
            | OpKind::Slice { .. }
            | OpKind::Split { .. }
            | OpKind::Concat { .. }
            | OpKind::Resize { .. }
    )
}
