//! Chains of moves become one: a channel shuffle is five operations in a model and one pass over memory here.

use super::Builder;
use crate::plan::buffer::BufferId;
use crate::plan::instruction::{Instruction, Kernel};
use crate::plan::rearrange::{Rearrangement, Recorder};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

impl Builder<'_> {
    /// Lets moves read where the moves before them read, where nobody else looks at what lies between.
    pub(super) fn compose_moves(&mut self, forever: &BTreeSet<BufferId>) {
        let mut readers: HashMap<BufferId, usize> = HashMap::new();
        for buffer in self.instructions.iter().flat_map(|instruction| &instruction.inputs) {
            *readers.entry(*buffer).or_default() += 1;
        }
        let mut composed: Vec<Instruction> = Vec::with_capacity(self.instructions.len());
        for mut instruction in std::mem::take(&mut self.instructions) {
            let mut input = 0;
            while input < instruction.inputs.len() {
                let buffer = instruction.inputs[input];
                let between = readers.get(&buffer) == Some(&1) && !forever.contains(&buffer);
                let first = composed.iter().rposition(|earlier| earlier.output == buffer);
                match first.filter(|_| between).filter(|first| self.join(&composed[*first], &mut instruction, input)) {
                    // What was there is read through now; what comes to stand here may be a move as well.
                    Some(first) => drop(composed.remove(first)),
                    None => input += 1,
                }
            }
            composed.push(instruction);
        }
        self.instructions = composed;
    }

    /// Makes `second` read what `first` reads for its input; false where that is not possible.
    fn join(&self, first: &Instruction, second: &mut Instruction, input: usize) -> bool {
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
