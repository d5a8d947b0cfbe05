//! Work ahead of what is asked for, as sets of pairs: what a submission takes over of it, and what is no longer needed.

use super::Tile;
use holdfast_common::evaluation::{Candidate, SampleIndex};
use std::collections::BTreeSet;

/// Whether two tiles have a (candidate, sample) pair in common.
pub(super) fn meet(a: &Tile, b: &Tile) -> bool {
    if a.workload != b.workload || a.want != b.want || !b.candidates.iter().any(|other| a.candidates.contains(other)) {
        return false;
    }
    let (few, many) = if a.samples.len() < b.samples.len() { (a, b) } else { (b, a) };
    let few: BTreeSet<SampleIndex> = few.samples.iter().copied().collect();
    many.samples.iter().any(|sample| few.contains(sample))
}

/// What is left of these tiles, whose pairs are disjoint, without the pairs of `piece`; `None` where the piece has a pair
/// that none of them has.
pub(super) fn without(tiles: &[Tile], piece: &Tile) -> Option<Vec<Tile>> {
    let of_piece: BTreeSet<SampleIndex> = piece.samples.iter().copied().collect();
    let (mut left, mut taken) = (Vec::with_capacity(tiles.len()), 0);
    for tile in tiles {
        if !meet(tile, piece) {
            left.push(tile.clone());
            continue;
        }
        let (shared, others): (Vec<Candidate>, Vec<Candidate>) =
            tile.candidates.iter().cloned().partition(|candidate| piece.candidates.contains(candidate));
        let (covered, rest): (Vec<SampleIndex>, Vec<SampleIndex>) =
            tile.samples.iter().copied().partition(|sample| of_piece.contains(sample));
        taken += shared.len() as u64 * covered.len() as u64;
        if !others.is_empty() {
            left.push(Tile { candidates: others, ..tile.clone() });
        }
        if !rest.is_empty() {
            left.push(Tile { candidates: shared, samples: rest, ..tile.clone() });
        }
    }
    (taken == piece.cells()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::Digest;
    use holdfast_common::evaluation::Want;
    use holdfast_common::scheme::GroupId;

    fn tile(groups: &[u32], samples: std::ops::Range<u32>) -> Tile {
        let candidate = |group: &u32| Candidate { scheme: Some(Digest::of(b"s")), reverted: vec![GroupId(*group)] };
        Tile {
            workload: Digest::of(b"w"),
            want: Want::Contributions,
            candidates: groups.iter().map(candidate).collect(),
            samples: samples.map(SampleIndex).collect(),
        }
    }

    fn pairs(tiles: &[Tile]) -> BTreeSet<(Candidate, SampleIndex)> {
        let mut all = BTreeSet::new();
        for tile in tiles {
            for candidate in &tile.candidates {
                for sample in &tile.samples {
                    assert!(all.insert((candidate.clone(), *sample)), "a pair stands twice");
                }
            }
        }
        all
    }

    #[test]
    fn what_is_left_and_the_piece_are_together_what_was_asked_for() {
        let asked = [tile(&[1, 2, 3], 0..100), tile(&[1, 3], 100..130), tile(&[4], 0..100)];
        for piece in [tile(&[2], 0..64), tile(&[3, 1], 90..110), tile(&[1, 2, 3], 0..100), tile(&[4], 99..100)] {
            let left = without(&asked, &piece).expect("all of the piece is asked for");
            let (left, piece) = (pairs(&left), pairs(std::slice::from_ref(&piece)));
            assert!(left.is_disjoint(&piece));
            assert_eq!(left.union(&piece).cloned().collect::<BTreeSet<_>>(), pairs(&asked));
        }
    }

    #[test]
    fn a_piece_that_holds_more_than_is_asked_for_is_not_taken_over() {
        let asked = [tile(&[1, 2], 0..64)];
        for piece in [tile(&[1, 3], 0..64), tile(&[1], 32..65), tile(&[5], 0..64)] {
            assert_eq!(without(&asked, &piece), None);
        }
        let other = Tile { want: Want::Distance, ..tile(&[1], 0..64) };
        assert!(without(&asked, &other).is_none() && !meet(&asked[0], &other));
        assert!(meet(&asked[0], &tile(&[2, 9], 63..70)) && !meet(&asked[0], &tile(&[2], 64..70)));
    }
}
