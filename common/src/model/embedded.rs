//! Reads an exported QDQ model back as what it was made from: a float model and a scheme.
//!
//! Only files that say that they are our own are read this way, as their form is known; in others QuantizeLinear and
//! DequantizeLinear are operations like any other. Constants come back as the floats their codes stand for, which have
//! the same codes again: weights because a code times its scale over its scale rounds to the code, biases because their
//! floats are the nearest to what their codes stand for, and no other float had been nearer.

use super::attributes::Attributes;
use super::draft::Draft;
use super::error::ModelError;
use super::export::METADATA_KEY;
use crate::graph::TensorData;
use crate::onnx::schema::{ModelProto, NodeProto};
use crate::scheme::{CodeType, GroupId, QuantParams, Quantizer, QuantizerGroup, QuantizerId, QuantizerSite, Scheme};
use ndarray::ArrayD;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether a file is an export of ours.
pub(super) fn is_export(proto: &ModelProto) -> bool {
    proto.metadata_props.iter().any(|entry| entry.key() == METADATA_KEY)
}

/// Takes the quantizers out of the nodes; `None` when there are none. Nodes must be sorted and named.
pub(super) fn unfold(draft: &mut Draft) -> Result<Option<Scheme>, ModelError> {
    let mut unfolding = Unfolding {
        makers: draft.nodes.iter().map(|node| (node.output[0].clone(), node.clone())).collect(),
        reads: draft.read_counts(),
        sources: BTreeMap::new(),
        weights: BTreeMap::new(),
        removed: BTreeSet::new(),
    };
    for node in draft.nodes.clone() {
        unfolding.read(draft, &node)?;
    }
    if unfolding.sources.is_empty() && unfolding.weights.is_empty() {
        return Ok(None);
    }
    Ok(Some(unfolding.rewire(draft)))
}

/// What a DequantizeLinear's readers read instead.
struct Source {
    tensor: String,
    /// `None` for a Sum that only shields a float operation.
    params: Option<QuantParams>,
}

struct Unfolding {
    makers: BTreeMap<String, NodeProto>,
    reads: BTreeMap<String, usize>,
    sources: BTreeMap<String, Source>,
    /// Constants that were weights' codes.
    weights: BTreeMap<String, QuantParams>,
    /// Outputs of nodes that are gone.
    removed: BTreeSet<String>,
}

impl Unfolding {
    fn read(&mut self, draft: &mut Draft, node: &NodeProto) -> Result<(), ModelError> {
        let output = node.output[0].clone();
        match node.op_type() {
            "Sum" if node.input.len() == 1 && !draft.is_output(&output) => {
                self.removed.insert(output.clone());
                self.sources.insert(output, Source { tensor: node.input[0].clone(), params: None });
            }
            "DequantizeLinear" if draft.constants.contains_key(&node.input[0]) => self.constant(draft, node)?,
            "DequantizeLinear" => {
                let Some(quantize) = self.makers.get(&node.input[0]).cloned() else { return Ok(()) };
                if quantize.op_type() != "QuantizeLinear" || draft.is_output(&output) {
                    return Ok(());
                }
                let Some(mut params) = params(draft, &quantize)? else { return Ok(()) };
                let mut tensor = quantize.input[0].clone();
                self.removed.extend([quantize.output[0].clone(), output.clone()]);
                for (operator, is_low) in [("Min", false), ("Max", true)] {
                    tensor = self.limit(draft, &tensor, operator, is_low, &mut params);
                }
                self.sources.insert(output, Source { tensor, params: Some(params) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Codes of weights or a bias become floats.
    fn constant(&mut self, draft: &mut Draft, node: &NodeProto) -> Result<(), ModelError> {
        let output = node.output[0].clone();
        let Some(params) = params(draft, node)? else { return Ok(()) };
        let Some(codes) = draft.constants.get(&node.input[0]).cloned() else { return Ok(()) };
        let slice = |index: &ndarray::IxDyn| params.axis.map_or(0, |axis| index[axis]);
        let refuse = || ModelError::invalid(node, "its scales do not fit its codes");
        let slices = params.axis.map_or(1, |axis| codes.shape().get(axis).copied().unwrap_or(0));
        if slices != params.scales.len() || slices != params.zero_points.len() {
            return Err(refuse());
        }
        let values = match codes.as_ref() {
            TensorData::I8(codes) => ArrayD::from_shape_fn(codes.raw_dim(), |index| {
                let slice = slice(&index);
                (i32::from(codes[index]) - params.zero_points[slice]) as f32 * params.scales[slice]
            }),
            TensorData::I32(codes) => ArrayD::from_shape_fn(codes.raw_dim(), |index| {
                let scale = params.scales[slice(&index)];
                (f64::from(codes[index]) * f64::from(scale)) as f32
            }),
            _ => return Ok(()),
        };
        if matches!(codes.as_ref(), TensorData::I8(_)) {
            self.weights.insert(output.clone(), params);
        }
        self.removed.insert(output.clone());
        draft.ranks.insert(output.clone(), values.ndim());
        draft.constants.insert(output, Arc::new(TensorData::F32(values)));
        Ok(())
    }

    /// Takes back a limit before QuantizeLinear that stands for fewer codes.
    fn limit(&mut self, draft: &Draft, tensor: &str, operator: &str, is_low: bool, params: &mut QuantParams) -> String {
        let found = self.makers.get(tensor).filter(|node| node.op_type() == operator && node.input.len() == 2);
        let Some(node) = found.filter(|_| self.reads.get(tensor) == Some(&1)) else { return tensor.to_owned() };
        let bounds = draft.constants.get(&node.input[1]).and_then(|data| data.as_f32());
        let Some(bounds) = bounds.filter(|bounds| bounds.len() == params.scales.len()) else {
            return tensor.to_owned();
        };
        let all = || bounds.iter().zip(&params.scales).zip(&params.zero_points);
        let code = |((bound, scale), zero_point): ((&f32, &f32), &i32)| {
            let code = (bound / scale).round_ties_even() as i32 + zero_point;
            ((code - zero_point) as f32 * scale == *bound).then_some(code)
        };
        match all().map(code).collect::<Option<Vec<i32>>>().as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|code| code == first) => {
                if is_low {
                    params.code_min = *first;
                } else {
                    params.code_max = *first;
                }
                self.removed.insert(tensor.to_owned());
                node.input[0].clone()
            }
            _ => tensor.to_owned(),
        }
    }

    /// Connects the readers with the float tensors and lists the quantizers they came through.
    fn rewire(&self, draft: &mut Draft) -> Scheme {
        draft.nodes.retain(|node| !self.removed.contains(&node.output[0]));
        let mut quantizers: Vec<Quantizer> = Vec::new();
        let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut operations = BTreeSet::new();
        let mut order = Vec::new();
        for node in &mut draft.nodes {
            let name = node.name().to_owned();
            let is_product = matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
            for (position, input) in node.input.iter_mut().enumerate() {
                if let Some(params) = self.weights.get(input) {
                    let site =
                        QuantizerSite::Weight { tensor: input.clone(), operation: name.clone(), input: position };
                    quantizers.push(Quantizer { site, params: params.clone(), group: GroupId(0) });
                }
                // The first pair on the way is what the reader reads; a shield may stand before it.
                let mut params = None;
                while let Some(source) = self.sources.get(input) {
                    params = params.or(source.params.as_ref());
                    input.clone_from(&source.tensor);
                }
                let Some(params) = params else { continue };
                if is_product && operations.insert(name.clone()) {
                    order.push(name.clone());
                }
                let reader = (name.clone(), position);
                let key = (input.clone(), format!("{params:?}"));
                match known.get(&key).and_then(|index| quantizers.get_mut(*index)) {
                    Some(Quantizer { site: QuantizerSite::Activation { readers, .. }, .. }) => readers.push(reader),
                    _ => {
                        known.insert(key, quantizers.len());
                        let site = QuantizerSite::Activation { tensor: input.clone(), readers: vec![reader] };
                        quantizers.push(Quantizer { site, params: params.clone(), group: GroupId(0) });
                    }
                }
            }
        }
        let group = QuantizerGroup {
            name: order.first().cloned().unwrap_or_default(),
            quantizers: (0..quantizers.len() as u32).map(QuantizerId).collect(),
            operations: order,
            macs: 0,
        };
        Scheme { quantizers, groups: vec![group], ..Scheme::default() }
    }
}

/// The constant quant params of a QuantizeLinear or DequantizeLinear; `None` when they are none of an export's.
fn params(draft: &Draft, node: &NodeProto) -> Result<Option<QuantParams>, ModelError> {
    let constant = |position: usize| node.present_input(position).and_then(|name| draft.constants.get(name));
    let Some(scale) = constant(1).and_then(|data| data.as_f32()) else { return Ok(None) };
    let Some(zero_point) = constant(2) else { return Ok(None) };
    let (code_type, code_min, code_max) = match zero_point.as_ref() {
        TensorData::U8(_) => (CodeType::U8, 0, 255),
        TensorData::I8(_) | TensorData::I32(_) => (CodeType::I8, -128, 127),
        _ => return Ok(None),
    };
    let axis = if scale.ndim() == 0 {
        None
    } else {
        let axis = Attributes(node).int("axis")?.unwrap_or(1);
        Some(usize::try_from(axis).map_err(|_| ModelError::invalid(node, "its axis is negative"))?)
    };
    let zero_points = zero_point.to_i64().unwrap_or_default();
    Ok(Some(QuantParams {
        code_type,
        code_min,
        code_max,
        axis,
        scales: scale.iter().copied().collect(),
        zero_points: zero_points.iter().map(|&value| value as i32).collect(),
    }))
}
