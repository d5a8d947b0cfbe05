//! Operations that only move elements (transposes, slices, padding, concatenation, layout changes) as lists of strided runs.

/// A strided run: `len` elements from `source + i·source_step` to `target + i·target_step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which input.
    pub input: u32,
    /// First source element.
    pub source: u32,
    /// First target element.
    pub target: u32,
    /// Elements.
    pub len: u32,
    /// Source stride; 0 repeats one element.
    pub source_step: i32,
    /// Target stride.
    pub target_step: i32,
}

/// A move-only operation, resolved for fixed layouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rearrangement {
    /// Runs that copy.
    pub runs: Vec<Run>,
    /// (first element, elements, stride) of what takes the fill value.
    pub fills: Vec<(u32, u32, i32)>,
}

/// Matrices of equal extents that lie in a buffer at constant distances of their rows and columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Matrices {
    /// Elements from a row to the next and from a column to the next.
    pub steps: [usize; 2],
    /// First element of each.
    pub bases: Vec<usize>,
}

impl Rearrangement {
    /// Where the moves take matrices of these extents from, which their result, of so many elements, is row-major one
    /// after another; `None` where they lie at no constant distances, or come from elsewhere than the first input.
    pub fn matrices(&self, elements: usize, [rows, columns]: [usize; 2]) -> Option<Matrices> {
        let from_first = self.fills.is_empty() && self.runs.iter().all(|run| run.input == 0);
        if !from_first || rows < 2 || columns < 2 || !elements.is_multiple_of(rows * columns) {
            return None;
        }
        let mut origin = vec![usize::MAX; elements];
        for run in &self.runs {
            let (mut source, mut target) = (run.source as usize, run.target as usize);
            for _ in 0..run.len {
                origin[target] = source;
                source = source.wrapping_add_signed(run.source_step as isize);
                target = target.wrapping_add_signed(run.target_step as isize);
            }
        }
        let first = *origin.first()?;
        let steps = [origin[columns].checked_sub(first)?, origin[1].checked_sub(first)?];
        let mut bases = Vec::with_capacity(elements / (rows * columns));
        for matrix in origin.chunks_exact(rows * columns) {
            let base = matrix[0];
            for (row, values) in matrix.chunks_exact(columns).enumerate() {
                let expected = (0..columns).map(|column| base + row * steps[0] + column * steps[1]);
                if !values.iter().copied().eq(expected) {
                    return None;
                }
            }
            bases.push(base);
        }
        Some(Matrices { steps, bases })
    }

    /// Moves everything; `inputs` gives the elements of the input with an index.
    pub fn apply<'a, T: Copy + 'a>(&self, inputs: impl Fn(usize) -> &'a [T], fill: T, output: &mut [T]) {
        for &(first, len, step) in &self.fills {
            let mut target = first as usize;
            if step == 1 {
                output[target..target + len as usize].fill(fill);
                continue;
            }
            for _ in 0..len {
                output[target] = fill;
                target = target.wrapping_add_signed(step as isize);
            }
        }
        for run in &self.runs {
            let (source, target, len) = (run.source as usize, run.target as usize, run.len as usize);
            let input = inputs(run.input as usize);
            if run.source_step == 1 && run.target_step == 1 {
                output[target..target + len].copy_from_slice(&input[source..source + len]);
                continue;
            }
            let (mut from, mut to) = (source, target);
            for _ in 0..len {
                output[to] = input[from];
                from = from.wrapping_add_signed(run.source_step as isize);
                to = to.wrapping_add_signed(run.target_step as isize);
            }
        }
    }
}

/// Collects single moves, in any order that keeps neighbours together, into runs.
#[derive(Debug, Default)]
pub struct Recorder {
    done: Rearrangement,
    run: Option<Run>,
    fill: Option<(u32, u32, i32)>,
}

impl Recorder {
    /// Element `source` of input `input` goes to `target`.
    pub fn copy(&mut self, input: usize, source: usize, target: usize) {
        let (input, source, target) = (input as u32, source as u32, target as u32);
        if let Some(run) = &mut self.run {
            let end = i64::from(run.len);
            let fits = |first: u32, step: i32, next: u32| i64::from(first) + end * i64::from(step) == i64::from(next);
            if run.input == input && run.len == 1 {
                let step = |from: u32, to: u32| i32::try_from(i64::from(to) - i64::from(from)).ok();
                if let (Some(source_step), Some(target_step)) = (step(run.source, source), step(run.target, target)) {
                    (run.source_step, run.target_step, run.len) = (source_step, target_step, 2);
                    return;
                }
            } else if run.input == input
                && fits(run.source, run.source_step, source)
                && fits(run.target, run.target_step, target)
            {
                run.len += 1;
                return;
            }
            self.done.runs.push(*run);
        }
        self.run = Some(Run { input, source, target, len: 1, source_step: 1, target_step: 1 });
    }

    /// `target` takes the fill value.
    pub fn fill(&mut self, target: usize) {
        let target = target as u32;
        if let Some((first, len, step)) = &mut self.fill {
            if *len == 1 {
                if let Ok(distance) = i32::try_from(i64::from(target) - i64::from(*first)) {
                    (*len, *step) = (2, distance);
                    return;
                }
            } else if i64::from(*first) + i64::from(*len) * i64::from(*step) == i64::from(target) {
                *len += 1;
                return;
            }
            self.done.fills.push((*first, *len, *step));
        }
        self.fill = Some((target, 1, 1));
    }

    /// All moves.
    pub fn finish(mut self) -> Rearrangement {
        self.done.runs.extend(self.run);
        self.done.fills.extend(self.fill);
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_and_interleaved_matrices_are_recognised() {
        let listed = |source: &dyn Fn(usize, usize, usize) -> usize| {
            let mut recorder = Recorder::default();
            let places = (0..3).flat_map(|m| (0..4).flat_map(move |r| (0..5).map(move |c| (m, r, c))));
            places.enumerate().for_each(|(target, (m, r, c))| recorder.copy(0, source(m, r, c), target));
            recorder.finish().matrices(60, [4, 5])
        };
        let heads = listed(&|matrix, row, column| row * 15 + matrix * 5 + column);
        assert_eq!(heads, Some(Matrices { steps: [15, 1], bases: vec![0, 5, 10] }));
        let turned = listed(&|matrix, row, column| matrix * 20 + column * 4 + row);
        assert_eq!(turned, Some(Matrices { steps: [1, 4], bases: vec![0, 20, 40] }));
        assert_eq!(listed(&|matrix, row, column| if row == 3 { 0 } else { matrix * 20 + row * 5 + column }), None);
    }

    #[test]
    fn neighbouring_moves_become_runs_and_move_the_same() {
        let moves = [(0, 4, 0), (0, 5, 1), (0, 6, 2), (1, 0, 3), (1, 3, 4), (1, 6, 5), (0, 1, 9), (0, 0, 8)];
        let mut recorder = Recorder::default();
        for (input, source, target) in moves {
            recorder.copy(input, source, target);
        }
        recorder.fill(6);
        recorder.fill(7);
        let rearrangement = recorder.finish();
        assert_eq!(rearrangement.runs.len(), 3);
        assert_eq!(rearrangement.fills, vec![(6, 2, 1)]);
        let (a, b): (Vec<u8>, Vec<u8>) = ((10..20).collect(), (30..40).collect());
        let mut output = vec![0; 10];
        rearrangement.apply(|input| [&a, &b][input].as_slice(), 99, &mut output);
        assert_eq!(output, [14, 15, 16, 30, 33, 36, 99, 99, 10, 11]);
    }
}
