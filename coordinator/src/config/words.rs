//! The word somebody may have meant, and words put into sentences.

/// The words quoted, the last one after an "or".
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => "absent".to_owned(),
    }
}

/// "did you mean" for the closest word, if it is close: at most a third of the letters differ; of short words only the case may.
pub(super) fn nearest(text: &str, words: &[&str]) -> Option<String> {
    let lower = text.to_lowercase();
    let closest = words.iter().map(|word| (edit_distance(&lower, &word.to_lowercase()), *word)).min()?;
    let letters = text.chars().count();
    let near = letters > 3 && closest.0 <= letters / 3 || closest.0 == 0;
    near.then(|| format!("did you mean `{}`?", closest.1))
}

/// Levenshtein distance: insertions, deletions and substitutions that turn one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        row[0] = before;
        for (cell, r) in row[1..].iter_mut().zip(&right) {
            before = (diagonal + usize::from(l != *r)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, before);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_counts_single_letter_changes() {
        for (left, right, distance) in
            [("", "", 0), ("abc", "", 3), ("maximum_drop", "maximal_drop", 2), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
            assert_eq!(edit_distance(right, left), distance, "{right} {left}");
        }
    }
}
