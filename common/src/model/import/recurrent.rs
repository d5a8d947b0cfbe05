//! LSTM, GRU and RNN layers in the form that exporters write.
//!
//! Source: ONNX operator specification, LSTM, GRU, RNN.

use super::lowering::{Context, Lowered, Operand};
use crate::graph::{DataType, Direction, GeneralKind, OpKind, RecurrentCell, TensorData};
use crate::model::error::ModelError;
use ndarray::{ArrayD, IxDyn};

const ADVICE: &str = "export the layer with its default activations, without clipping, peepholes and varying lengths";

pub(super) fn recurrent(context: &Context<'_>) -> Result<Lowered, ModelError> {
    let attributes = &context.attributes;
    let refuse = |feature: &str| Err(context.unsupported(feature, ADVICE));
    if attributes.int("layout")?.unwrap_or(0) != 0 {
        return refuse("batch-major layout");
    }
    if attributes.float("clip")?.is_some() || attributes.flag("input_forget", false)? {
        return refuse("`clip` or `input_forget`");
    }
    let (direction, directions) = match attributes.text("direction")?.unwrap_or("forward") {
        "forward" => (Direction::Forward, 1),
        "reverse" => (Direction::Reverse, 1),
        "bidirectional" => (Direction::Both, 2),
        other => return Err(context.invalid(format!("direction `{other}` is unknown"))),
    };
    let activations = context.node.find_attribute("activations").map(|attribute| attribute.strings.as_slice());
    let cell = cell(context, activations.unwrap_or_default(), directions)?;
    let is_lstm = cell == RecurrentCell::Lstm;
    let (x, weights, recurrence) = (context.float_input(0)?, context.float_input(1)?, context.float_input(2)?);
    let (&[time, batch, input], Some(&hidden)) = (x.shape.as_slice(), recurrence.shape.get(2)) else {
        return Err(context.invalid(format!("its input {:?} is no sequence of batches", x.shape)));
    };
    let rows = cell.gates() * hidden;
    let fits = weights.shape == [directions, rows, input] && recurrence.shape == [directions, rows, hidden];
    if !fits {
        return Err(context.invalid(format!(
            "weights {:?} and {:?} do not fit {directions} directions of an input {:?}",
            weights.shape, recurrence.shape, x.shape
        )));
    }
    if let Some(lengths) = context.integers(4, "sequence_lens")?
        && lengths.iter().any(|&length| length != time as i64)
    {
        return refuse("sequences of different lengths");
    }
    if is_lstm && context.optional(7).is_some() {
        return refuse("peepholes");
    }
    let mut operands = vec![Operand::Input(0), Operand::Input(1), Operand::Input(2)];
    let state = vec![directions, batch, hidden];
    let parameters = [(3, "bias", vec![directions, 2 * rows]), (5, "first", state.clone()), (6, "cell", state.clone())];
    for (position, role, shape) in parameters.into_iter().take(if is_lstm { 3 } else { 2 }) {
        match context.optional(position) {
            Some(tensor) if tensor.shape == shape && tensor.data_type == DataType::F32 => {
                operands.push(Operand::Input(position));
            }
            Some(tensor) => {
                return Err(context.invalid(format!("`{}` of shape {:?} is not {shape:?}", tensor.name, tensor.shape)));
            }
            None => operands.push(Operand::Constant { role, data: TensorData::F32(ArrayD::zeros(IxDyn(&shape))) }),
        }
    }
    let mut outputs = vec![(DataType::F32, vec![time, directions, batch, hidden]), (DataType::F32, state.clone())];
    if is_lstm {
        outputs.push((DataType::F32, state));
    }
    let kind = OpKind::General(GeneralKind::Recurrent { cell, direction });
    Ok(Lowered::Op { kind, operands, outputs })
}

/// The cell, whose activations must be the usual ones.
fn cell(context: &Context<'_>, activations: &[bytes::Bytes], directions: usize) -> Result<RecurrentCell, ModelError> {
    let (cell, usual): (RecurrentCell, &[&str]) = match context.node.op_type() {
        "LSTM" => (RecurrentCell::Lstm, &["sigmoid", "tanh", "tanh"]),
        "GRU" => {
            let linear_before_reset = context.attributes.flag("linear_before_reset", false)?;
            (RecurrentCell::Gru { linear_before_reset }, &["sigmoid", "tanh"])
        }
        _ if activations.first().is_some_and(|name| name.eq_ignore_ascii_case(b"relu")) => {
            (RecurrentCell::Relu, &["relu"])
        }
        _ => (RecurrentCell::Tanh, &["tanh"]),
    };
    let expected = usual.iter().cycle().take(usual.len() * directions);
    let same = activations.len() == usual.len() * directions
        && activations.iter().zip(expected).all(|(found, usual)| found.eq_ignore_ascii_case(usual.as_bytes()));
    if activations.is_empty() || same {
        return Ok(cell);
    }
    Err(context.unsupported("other activations than the usual ones", ADVICE))
}
