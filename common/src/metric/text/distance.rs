//! Edit distance: how few insertions, deletions and substitutions turn one sequence into the other (Levenshtein).

/// The distance; time and memory grow with the product and with the length of the sequences.
pub(in super::super) fn edit_distance<T: PartialEq>(left: &[T], right: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, l) in left.iter().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        row[0] = before;
        for (cell, r) in row[1..].iter_mut().zip(right) {
            before = (diagonal + usize::from(l != r)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, before);
        }
    }
    row.last().copied().unwrap_or(0)
}
