//! Chains of moves become one: a channel shuffle is five operations in a model and one pass over memory here.

use super::Builder;
use crate::plan::buffer::BufferId;
use crate::plan::instruction::{Instruction, Kernel};
use crate::plan::rearrange::{Rearrangement, Recorder};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

/// Inputs a joined move may have; concatenations of concatenations must not grow without bound.
const INPUTS_MAX: usize = 64;

impl Builder<'_> {
    /// Lets moves read where the moves before them read, where nobody but moves looks at what lies between.
    pub(super) fn compose_moves(&mut self, forever: &BTreeSet<BufferId>) {
        let mut readers: HashMap<BufferId, usize> = HashMap::new();
        let mut kept = forever.clone();
        for instruction in &self.instructions {
            instruction.inputs.iter().for_each(|buffer| *readers.entry(*buffer).or_default() += 1);
            if !matches!(instruction.kernel, Kernel::Rearrange { .. }) {
                kept.extend(&instruction.inputs);
            }
        }
        let mut composed: Vec<Instruction> = Vec::with_capacity(self.instructions.len());
        for mut instruction in std::mem::take(&mut self.instructions) {
            let mut input = 0;
            while input < instruction.inputs.len() {
                let buffer = instruction.inputs[input];
                let first = composed.iter().rposition(|earlier| earlier.output == buffer);
                let first = first.filter(|_| !kept.contains(&buffer));
                // What now stands at this input may come from a move as well, so it is looked at again.
                match first.filter(|first| self.join(&composed[*first], &mut instruction, input)) {
                    Some(first) => {
                        let sources = composed[first].inputs.clone();
                        sources.iter().for_each(|source| *readers.entry(*source).or_default() += 1);
                        let left = readers.entry(buffer).or_default();
                        *left = left.saturating_sub(1);
                        if *left == 0 {
                            composed.remove(first);
                            sources.iter().for_each(|source| *readers.entry(*source).or_default() -= 1);
                        }
                    }
                    None => input += 1,
                }
            }
            composed.push(instruction);
        }
        self.instructions = composed;
    }

    /// Makes `second` read what `first` reads for its input; false where that is not possible.
    fn join(&self, first: &Instruction, second: &mut Instruction, input: usize) -> bool {
        if first.inputs.len() + second.inputs.len() > INPUTS_MAX {
            return false;
        }
        let Kernel::Rearrange { rearrangement: a, fill: a_fill } = &first.kernel else { return false };
        let Kernel::Rearrange { rearrangement: b, fill: b_fill } = &mut second.kernel else { return false };
        if !a.fills.is_empty() && !b.fills.is_empty() && a_fill.to_bits() != b_fill.to_bits() {
            return false;
        }
        let appended = second.inputs.len();
        let elements = self.specs[first.output.0].elements;
        let list = || Ok::<_, Infallible>(compose(a, b, input, appended, elements));
        let joined = match self.cache.composed(a, b, input, list) {
            Ok(joined) => joined,
            Err(never) => match never {},
        };
        if !a.fills.is_empty() {
            *b_fill = *a_fill;
        }
        *b = joined;
        let mut sources = first.inputs.iter();
        second.inputs[input] = *sources.next().unwrap_or(&second.inputs[input]);
        second.inputs.extend(sources);
        let operations = first.operations.iter().chain(&second.operations).copied().collect();
        second.operations = operations;
        true
    }
}

/// `b` with its input `input`, of this many elements, read through `a`, whose first input takes that place and whose
/// others are `appended` and following.
fn compose(a: &Rearrangement, b: &Rearrangement, input: usize, appended: usize, elements: usize) -> Rearrangement {
    let walk = |start: u32, step: i32, len: u32| {
        (0..i64::from(len)).map(move |index| (i64::from(start) + index * i64::from(step)) as usize)
    };
    let mut origin: Vec<Option<(usize, usize)>> = vec![None; elements];
    for run in &a.runs {
        let from = if run.input == 0 { input } else { appended + run.input as usize - 1 };
        let sources = walk(run.source, run.source_step, run.len);
        for (target, source) in walk(run.target, run.target_step, run.len).zip(sources) {
            origin[target] = Some((from, source));
        }
    }
    let mut recorder = Recorder::default();
    for &(first, len, step) in &b.fills {
        walk(first, step, len).for_each(|target| recorder.fill(target));
    }
    for run in &b.runs {
        let sources = walk(run.source, run.source_step, run.len);
        for (target, source) in walk(run.target, run.target_step, run.len).zip(sources) {
            match (run.input as usize == input).then(|| origin[source]) {
                None => recorder.copy(run.input as usize, source, target),
                Some(Some((from, source))) => recorder.copy(from, source, target),
                Some(None) => recorder.fill(target),
            }
        }
    }
    recorder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(copies: &[(usize, usize, usize)], fills: &[usize]) -> Rearrangement {
        let mut recorder = Recorder::default();
        copies.iter().for_each(|&(input, source, target)| recorder.copy(input, source, target));
        fills.iter().for_each(|target| recorder.fill(*target));
        recorder.finish()
    }

    #[test]
    fn two_moves_composed_do_what_they_do_one_after_the_other() {
        let a = listed(&[(0, 3, 0), (1, 0, 1), (0, 1, 2), (1, 2, 4)], &[3]);
        let b = listed(&[(0, 0, 5), (1, 4, 0), (1, 1, 1), (1, 3, 2), (0, 2, 3), (1, 0, 6)], &[4]);
        let (x, y, z) = ([10u8, 11, 12, 13], [20u8, 21, 22], [30u8, 31, 32]);
        let mut between = [0u8; 5];
        a.apply(|input| [&x[..], &y][input], 7, &mut between);
        let (mut apart, mut joined) = ([0u8; 7], [0u8; 7]);
        b.apply(|input| [&z[..], &between][input], 7, &mut apart);
        compose(&a, &b, 1, 2, 5).apply(|input| [&z[..], &x, &y][input], 7, &mut joined);
        assert_eq!(apart, joined);
        assert_eq!(joined, [22, 20, 7, 32, 7, 30, 13]);
    }
}
