//! Recurrent cells, one direction of one layer: every sum is a [`dot`] product, added in the order the cell states.

use crate::Isa;
use crate::float::{dot, math};

/// Which cell; gates are in ONNX's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Input, output, forget and cell gates.
    Lstm,
    /// Update, reset and hidden gates.
    Gru {
        /// Whether the reset gate acts after the recurrent product.
        linear_before_reset: bool,
    },
    /// tanh of the sum.
    Tanh,
    /// Relu of the sum.
    Relu,
}

impl Cell {
    /// Gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }
}

/// Weights of one direction, row-major.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights<'a> {
    /// `[gates * hidden][input]`.
    pub input: &'a [f32],
    /// `[gates * hidden][hidden]`.
    pub recurrent: &'a [f32],
    /// `[2][gates * hidden]`: of the input product, then of the recurrent one.
    pub bias: &'a [f32],
}

/// One step of one sample: `x` is the input, `hidden` and `memory` (LSTM) the state, both replaced.
///
/// A gate's sum is `(dot(w, x) + input bias) + (dot(r, h) + recurrent bias)`.
///
/// # Panics
///
/// If a slice is too short.
pub fn step(
    isa: Isa,
    cell: Cell,
    weights: CellWeights<'_>,
    x: &[f32],
    hidden: &mut [f32],
    memory: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (size, rows) = (hidden.len(), cell.gates() * hidden.len());
    scratch.clear();
    scratch.resize(2 * rows + size, 0.0);
    let (from_input, rest) = scratch.split_at_mut(rows);
    let (from_state, before) = rest.split_at_mut(rows);
    before.copy_from_slice(hidden);
    for row in 0..rows {
        from_input[row] = dot(isa, &weights.input[row * x.len()..][..x.len()], x) + weights.bias[row];
        from_state[row] = dot(isa, &weights.recurrent[row * size..][..size], before) + weights.bias[rows + row];
    }
    let sum = |gate: usize, unit: usize| from_input[gate * size + unit] + from_state[gate * size + unit];
    match cell {
        Cell::Lstm => {
            for unit in 0..size {
                let (input, output) = (math::sigmoid(sum(0, unit)), math::sigmoid(sum(1, unit)));
                let (forget, candidate) = (math::sigmoid(sum(2, unit)), math::tanh(sum(3, unit)));
                memory[unit] = forget.mul_add(memory[unit], input * candidate);
                hidden[unit] = output * math::tanh(memory[unit]);
            }
        }
        Cell::Gru { linear_before_reset } => {
            let mut reset_state = vec![0.0; size];
            for unit in 0..size {
                reset_state[unit] = math::sigmoid(sum(1, unit)) * before[unit];
            }
            for unit in 0..size {
                let update = math::sigmoid(sum(0, unit));
                let row = 2 * size + unit;
                let recurrent = if linear_before_reset {
                    math::sigmoid(sum(1, unit)) * from_state[row]
                } else {
                    dot(isa, &weights.recurrent[row * size..][..size], &reset_state) + weights.bias[rows + row]
                };
                let candidate = math::tanh(from_input[row] + recurrent);
                hidden[unit] = update.mul_add(before[unit], (1.0 - update) * candidate);
            }
        }
        Cell::Tanh => (0..size).for_each(|unit| hidden[unit] = math::tanh(sum(0, unit))),
        Cell::Relu => (0..size).for_each(|unit| hidden[unit] = math::max(sum(0, unit), 0.0)),
    }
}
