//! Operations that only move values, on codes or floats alike.

use super::{Builder, Form, Layout, Value};
use crate::plan::PlanError;
use crate::plan::buffer::BufferKind;
use crate::plan::instruction::Kernel;
use crate::plan::layout::Placement;
use crate::plan::rearrange::{Rearrangement, Recorder};
use holdfast_common::graph::{OpId, OpKind, TensorId};
use std::convert::Infallible;
use std::sync::Arc;

/// Where one output element comes from: an input and a row-major index in it, or the fill value.
type Source = Option<(usize, usize)>;

/// From an output index to its source.
type SourceOf<'a> = Box<dyn Fn(&[usize]) -> Source + 'a>;

impl Builder<'_> {
    /// Lowers a move-only operation, in the form its data comes in.
    pub(super) fn moves(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id).clone();
        if let OpKind::Gather { axis } = op.kind
            && self.graph.constant_input(id, 1).is_none()
        {
            return self.gather_computed(id, axis);
        }
        let data_inputs = if matches!(op.kind, OpKind::Gather { .. }) { 1 } else { op.inputs.len() };
        let codes: Vec<_> = (0..data_inputs).map(|input| self.precision.codes(id, input)).collect();
        let form = match codes.first() {
            Some(Some(first)) if codes.iter().all(|other| *other == Some(*first)) => Form::Codes(*first),
            _ => self.plain_form(op.outputs[0]),
        };
        let mut inputs = Vec::new();
        for input in 0..data_inputs {
            let tensor = op.inputs[input];
            inputs.push(match form {
                Form::Codes(codes) => self.codes_in(tensor, codes, self.stored_layout(tensor))?,
                Form::Real => self.read_real(id, input, self.stored_layout(tensor))?,
                Form::Int => self.int(tensor)?,
            });
        }
        for (position, &output) in op.outputs.iter().enumerate() {
            let result = self.define(output, form);
            let fill = match &op.kind {
                OpKind::Pad { value, .. } => *value,
                _ => 0.0,
            };
            let fill = match form {
                Form::Real | Form::Int => fill,
                Form::Codes(codes) => {
                    let params = self.precision.get(codes);
                    let code = (fill / params.scale).round_ties_even() + f32::from(params.zero_point);
                    code.clamp(f32::from(params.lo), f32::from(params.hi))
                }
            };
            let places = inputs.iter().chain([&result]).map(|value| value.placement.clone()).collect();
            let list = || self.movement(id, position, &inputs, &result);
            let rearrangement = self.cache.moves((Some((id, position)), places), list)?;
            let buffers = inputs.iter().map(|value| value.buffer).collect();
            self.emit(id, Kernel::Rearrange { rearrangement, fill }, buffers, result.buffer);
        }
        Ok(())
    }

    /// The layout in which a tensor already exists, its native one when in both or neither.
    fn stored_layout(&self, tensor: TensorId) -> Layout {
        self.native[tensor.0]
    }

    /// The moves that fill one output.
    fn movement(
        &self,
        id: OpId,
        output: usize,
        inputs: &[Value],
        result: &Value,
    ) -> Result<crate::plan::rearrange::Rearrangement, PlanError> {
        let op = self.graph.op(id);
        let shape = self.shape(op.outputs[output]).to_vec();
        let source = self.source(id, output)?;
        let positions: Vec<Vec<usize>> = inputs.iter().map(|value| value.placement.positions()).collect();
        let mut moves: Vec<(usize, Source)> = Vec::with_capacity(shape.iter().product());
        let mut index = vec![0; shape.len()];
        for target in result.placement.positions() {
            moves.push((target, source(&index)));
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        // In storage order neighbours stay neighbours, and runs get long.
        moves.sort_unstable_by_key(|(target, _)| *target);
        let mut recorder = Recorder::default();
        for (target, source) in moves {
            match source {
                Some((input, element)) => recorder.copy(input, positions[input][element], target),
                None => recorder.fill(target),
            }
        }
        Ok(recorder.finish())
    }

    /// From an output index to where its value comes from.
    fn source(&self, id: OpId, output: usize) -> Result<SourceOf<'_>, PlanError> {
        let op = self.graph.op(id);
        let shape_of = |input: usize| self.shape(op.inputs[input]).to_vec();
        let first = shape_of(0);
        let out_shape = self.shape(op.outputs[output]).to_vec();
        Ok(match &op.kind {
            OpKind::Reshape => Box::new(move |index| Some((0, flatten(index, &out_shape)))),
            OpKind::Transpose { permutation } => Box::new(move |index| {
                let mut source = vec![0; first.len()];
                for (axis, &from) in permutation.iter().enumerate() {
                    source[from] = index[axis];
                }
                Some((0, flatten(&source, &first)))
            }),
            OpKind::Concat { axis } => {
                let shapes: Vec<Vec<usize>> = (0..op.inputs.len()).map(shape_of).collect();
                Box::new(move |index| {
                    let mut source = index.to_vec();
                    for (input, shape) in shapes.iter().enumerate() {
                        if source[*axis] < shape[*axis] {
                            return Some((input, flatten(&source, shape)));
                        }
                        source[*axis] -= shape[*axis];
                    }
                    None
                })
            }
            OpKind::Split { axis } => {
                let before: usize = op.outputs[..output].iter().map(|tensor| self.shape(*tensor)[*axis]).sum();
                Box::new(move |index| {
                    let mut source = index.to_vec();
                    source[*axis] += before;
                    Some((0, flatten(&source, &first)))
                })
            }
            OpKind::Slice { starts, steps } => Box::new(move |index| {
                let source: Vec<usize> = (0..first.len())
                    .map(|axis| starts[axis].wrapping_add_signed(index[axis] as isize * steps[axis]))
                    .collect();
                Some((0, flatten(&source, &first)))
            }),
            OpKind::Pad { begin, .. } => Box::new(move |index| {
                let mut source = vec![0; first.len()];
                for axis in 0..first.len() {
                    let from = index[axis] as isize - begin[axis];
                    source[axis] = usize::try_from(from).ok().filter(|from| *from < first[axis])?;
                }
                Some((0, flatten(&source, &first)))
            }),
            OpKind::Gather { axis } => {
                let Some(indices) = self.graph.constant_input(id, 1).and_then(|indices| indices.to_i64()) else {
                    return Err(self.unsupported(id, "its indices are no constant integers"));
                };
                let index_shape = shape_of(1);
                Box::new(move |index| {
                    let rank = index_shape.len();
                    let which = flatten(&index[*axis..*axis + rank], &index_shape);
                    let mut picked = *indices.get(which)?;
                    if picked < 0 {
                        picked += first[*axis] as i64;
                    }
                    let mut source = index[..*axis].to_vec();
                    source.push(usize::try_from(picked).ok().filter(|picked| *picked < first[*axis])?);
                    source.extend_from_slice(&index[*axis + rank..]);
                    Some((0, flatten(&source, &first)))
                })
            }
            OpKind::Expand => Box::new(move |index| Some((0, broadcast(index, &first)))),
            OpKind::Tile { .. } => Box::new(move |index| {
                let source: Vec<usize> = index.iter().zip(&first).map(|(index, extent)| index % extent).collect();
                Some((0, flatten(&source, &first)))
            }),
            OpKind::DepthToSpace { block, column_row_depth } => Box::new(move |index| {
                let (depth, inner) = (out_shape[1], block * block);
                let (y, x) = (index[2] / block, index[3] / block);
                let cell = (index[2] % block) * block + index[3] % block;
                let channel = if *column_row_depth { index[1] * inner + cell } else { cell * depth + index[1] };
                Some((0, flatten(&[index[0], channel, y, x], &first)))
            }),
            _ => return Err(self.unsupported(id, "it is not a move-only operation")),
        })
    }

    /// A tensor repeated to a larger shape, for readers that broadcast.
    pub(super) fn expanded(
        &mut self,
        id: OpId,
        value: &Value,
        kind: BufferKind,
        shape: &[usize],
        layout: Layout,
    ) -> Value {
        let (placement, elements) = Placement::new(shape, layout, [0; 4]);
        let buffer = self.allocate(kind, &placement, elements);
        let rearrangement = self.broadcast_moves(&value.placement, &placement);
        let kernel = Kernel::Rearrange { rearrangement, fill: 0.0 };
        self.emit(id, kernel, vec![value.buffer], buffer);
        Value { buffer, placement }
    }
}

impl Builder<'_> {
    /// The moves from one place to another whose shape is the same or, broadcast, a larger one.
    pub(super) fn broadcast_moves(&self, from: &Placement, to: &Placement) -> Arc<Rearrangement> {
        let list = || {
            let sources = from.positions();
            let mut moves: Vec<(usize, usize)> = Vec::with_capacity(sources.len());
            let mut index = vec![0; to.shape.len()];
            for target in to.positions() {
                moves.push((target, sources[broadcast(&index, &from.shape)]));
                for axis in (0..to.shape.len()).rev() {
                    index[axis] += 1;
                    if index[axis] < to.shape[axis] {
                        break;
                    }
                    index[axis] = 0;
                }
            }
            moves.sort_unstable();
            let mut recorder = Recorder::default();
            moves.into_iter().for_each(|(target, source)| recorder.copy(0, source, target));
            Ok::<_, Infallible>(recorder.finish())
        };
        match self.cache.moves((None, vec![from.clone(), to.clone()]), list) {
            Ok(moves) => moves,
            Err(never) => match never {},
        }
    }
}

/// Row-major index of a position.
fn flatten(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |flat, (index, extent)| flat * extent + index)
}

/// Row-major index in a smaller shape of what numpy's broadcasting puts at a position of a larger one.
fn broadcast(index: &[usize], shape: &[usize]) -> usize {
    let skipped = index.len() - shape.len();
    index[skipped..]
        .iter()
        .zip(shape)
        .fold(0, |flat, (index, extent)| flat * extent + if *extent == 1 { 0 } else { *index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_repeats_axes_of_extent_one_and_missing_ones() {
        assert_eq!(broadcast(&[1, 2, 3], &[3, 4]), 11);
        assert_eq!(broadcast(&[1, 2, 3], &[3, 1]), 2);
        assert_eq!(broadcast(&[1, 2, 3], &[]), 0);
        assert_eq!(flatten(&[1, 2, 3], &[2, 3, 4]), 23);
    }
}
