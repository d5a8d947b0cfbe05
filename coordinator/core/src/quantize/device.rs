//! What the target device changes: weights that are halved for its instructions, operations and operands it keeps
//! float.

use crate::parameters::{Mode, QuantizationParameters, SaturationFix, TargetDevice};
use holdfast_common::graph::{BinaryKind, Graph, OpId, OpKind, ReduceKind, TensorId};
use std::collections::BTreeSet;

/// Whether operations of this kind stay float in attention models. Matrix extensions multiply in int8 as well.
pub(super) fn stays_float_in_transformers(kind: &OpKind, device: TargetDevice) -> bool {
    match kind {
        OpKind::Binary(BinaryKind::Mul) => device != TargetDevice::CpuSpr,
        OpKind::Binary(BinaryKind::Add | BinaryKind::Pow | BinaryKind::Sub)
        | OpKind::Reduce { kind: ReduceKind::Mean, .. } => true,
        _ => false,
    }
}

/// Operations whose weight codes are halved. POT does it on its general CPU targets only, and only in models with a
/// convolution; in default mode it is done where it is asked for.
pub(super) fn halved(graph: &Graph, parameters: &QuantizationParameters, mode: Mode) -> BTreeSet<OpId> {
    let is_convolution = |id: OpId| matches!(graph.op(id).kind, OpKind::Conv(_) | OpKind::ConvTranspose(_));
    let fix = match mode {
        Mode::Default => parameters.saturation_fix.unwrap_or(SaturationFix::No),
        Mode::Compat => {
            let general = matches!(parameters.target_device, TargetDevice::Any | TargetDevice::Cpu);
            let applies = general && graph.ops().any(|(id, _)| is_convolution(id));
            let fix = parameters.saturation_fix.unwrap_or(SaturationFix::FirstLayer);
            if applies { fix } else { SaturationFix::No }
        }
    };
    match fix {
        SaturationFix::No => BTreeSet::new(),
        SaturationFix::All => graph
            .ops()
            .filter(|(id, op)| is_convolution(*id) || matches!(op.kind, OpKind::MatMul | OpKind::Gemm { .. }))
            .map(|(id, _)| id)
            .collect(),
        SaturationFix::FirstLayer => {
            let rescaled = parameters.rescaled.iter().filter_map(|name| graph.find_op(name));
            let mut first: BTreeSet<OpId> = rescaled.collect();
            let mut open: Vec<TensorId> = graph.inputs.clone();
            let mut seen: BTreeSet<TensorId> = open.iter().copied().collect();
            while let Some(tensor) = open.pop() {
                for (reader, _) in &graph.tensor(tensor).consumers {
                    if is_convolution(*reader) {
                        first.insert(*reader);
                    } else {
                        open.extend(graph.op(*reader).outputs.iter().filter(|output| seen.insert(**output)));
                    }
                }
            }
            first
        }
    }
}

/// Which operand of an addition of two quantized activations stays float on processors with matrix extensions, so
/// that a product before it can take the addition over: the one that nobody else reads where the other has more
/// readers, else the larger where both come from products. `readers` counts the readers of an operand's quantizer.
pub(super) fn float_operand(graph: &Graph, addition: OpId, readers: [usize; 2]) -> Option<usize> {
    let op = graph.op(addition);
    let (a, b) = (*op.inputs.first()?, *op.inputs.get(1)?);
    let has_constant = |tensor: TensorId| {
        let producer = graph.tensor(tensor).producer;
        producer.is_some_and(|id| (0..graph.op(id).inputs.len()).any(|input| graph.constant_input(id, input).is_some()))
    };
    let size = |tensor: TensorId| graph.tensor(tensor).shape.iter().product::<usize>();
    match readers.map(|count| count > 1) {
        [false, true] if has_constant(a) => Some(0),
        [true, false] if has_constant(b) => Some(1),
        _ if comes_from_product(graph, a) && comes_from_product(graph, b) => {
            Some(if size(a) > size(b) { 0 } else { 1 })
        }
        _ => None,
    }
}

/// Whether the way straight up, through operations with one operand that is no constant, reaches a product.
fn comes_from_product(graph: &Graph, mut tensor: TensorId) -> bool {
    while let Some(id) = graph.tensor(tensor).producer {
        let op = graph.op(id);
        if matches!(op.kind, OpKind::Conv(_) | OpKind::ConvTranspose(_) | OpKind::MatMul | OpKind::Gemm { .. }) {
            return true;
        }
        let data = (0..op.inputs.len()).filter(|input| graph.constant_input(id, *input).is_none());
        let data: Vec<usize> = data.collect();
        let [only] = data[..] else { return false };
        tensor = op.inputs[only];
    }
    false
}
