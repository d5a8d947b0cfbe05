//! From evaluations to the tiles that are missing, and from tiles back to results in the order asked for.

use crate::memo::{Finished, Known};
use holdfast_common::Digest;
use holdfast_common::evaluation::{
    Candidate, Evaluation, LEAF_SAMPLES, SampleIndex, SampleResult, Want, context_digest,
};
use holdfast_core::schedule::Tile;
use std::collections::{BTreeMap, BTreeSet};

/// All that is asked for of one context.
struct Need<'a> {
    evaluation: &'a Evaluation,
    /// In the order first asked for.
    samples: Vec<SampleIndex>,
    found: Known,
    /// Evaluations that still want a copy.
    uses: usize,
}

/// Results on their way together.
pub(super) struct Assembly<'a> {
    evaluations: &'a [Evaluation],
    keys: &'a [Digest],
    order: Vec<Digest>,
    needs: BTreeMap<Digest, Need<'a>>,
}

impl<'a> Assembly<'a> {
    /// Nothing found yet; `keys` are the contexts of the evaluations.
    pub(super) fn new(evaluations: &'a [Evaluation], keys: &'a [Digest]) -> Assembly<'a> {
        let (mut order, mut needs) = (Vec::new(), BTreeMap::<Digest, (Need<'a>, BTreeSet<SampleIndex>)>::new());
        for (evaluation, key) in evaluations.iter().zip(keys) {
            let (need, seen) = needs.entry(*key).or_insert_with(|| {
                order.push(*key);
                (Need { evaluation, samples: Vec::new(), found: Known::new(), uses: 0 }, BTreeSet::new())
            });
            need.uses += 1;
            need.samples.extend(evaluation.samples.iter().filter(|sample| seen.insert(**sample)));
        }
        let needs = needs.into_iter().map(|(key, (need, _))| (key, need)).collect();
        Assembly { evaluations, keys, order, needs }
    }

    /// The contexts, without repetition, in the order first asked for.
    pub(super) fn contexts(&self) -> Vec<Digest> {
        self.order.clone()
    }

    /// Takes what the memo store knows of each of [`Assembly::contexts`]; gives how many samples of it are of use.
    pub(super) fn add_known(&mut self, known: Vec<Known>) -> u64 {
        let mut useful = 0;
        for (key, known) in self.order.iter().zip(known) {
            if let Some(need) = self.needs.get_mut(key) {
                useful += need.samples.iter().filter(|sample| known.contains_key(sample)).count() as u64;
                need.found = known;
            }
        }
        useful
    }

    /// Tiles of what is not there: on every leaf, the candidates that miss the same samples stand together; leaves that
    /// miss the same candidates follow one another in one tile.
    pub(super) fn missing(&self) -> Vec<Tile> {
        type Group<'a> = (Digest, &'a Want, Vec<SampleIndex>);
        let mut groups: BTreeMap<(usize, Group<'_>), Vec<&Candidate>> = BTreeMap::new();
        for need in self.order.iter().filter_map(|key| self.needs.get(key)) {
            for (leaf, samples) in need.samples.chunks(LEAF_SAMPLES).enumerate() {
                let samples: Vec<_> =
                    samples.iter().copied().filter(|sample| !need.found.contains_key(sample)).collect();
                if !samples.is_empty() {
                    let group = (need.evaluation.workload, &need.evaluation.want, samples);
                    groups.entry((leaf, group)).or_default().push(&need.evaluation.candidate);
                }
            }
        }
        let mut tiles: Vec<Tile> = Vec::new();
        let mut of_candidates: BTreeMap<(Digest, &Want, Vec<&Candidate>), usize> = BTreeMap::new();
        for ((_, (workload, want, samples)), candidates) in groups {
            let place = of_candidates.entry((workload, want, candidates.clone())).or_insert(tiles.len());
            match tiles.get_mut(*place) {
                Some(tile) => tile.samples.extend(samples),
                None => tiles.push(Tile {
                    workload,
                    want: want.clone(),
                    candidates: candidates.into_iter().cloned().collect(),
                    samples,
                }),
            }
        }
        tiles
    }

    /// Takes the results of a tile.
    pub(super) fn add(&mut self, finished: &Finished) -> Result<(), serde_json::Error> {
        let tile = &finished.tile;
        for (candidate, results) in tile.candidates.iter().zip(finished.results.iter()) {
            let key = context_digest(tile.workload, candidate, &tile.want)?;
            if let Some(need) = self.needs.get_mut(&key) {
                need.found.extend(tile.samples.iter().copied().zip(results.iter().cloned()));
            }
        }
        Ok(())
    }

    /// One list an evaluation, in the order of its samples.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<SampleResult>>, String> {
        let mut all = Vec::with_capacity(self.evaluations.len());
        for (evaluation, key) in self.evaluations.iter().zip(self.keys) {
            let need = self.needs.get_mut(key).ok_or_else(|| "an evaluation was lost".to_owned())?;
            need.uses -= 1;
            let last = need.uses == 0;
            let mut results = Vec::with_capacity(evaluation.samples.len());
            for sample in &evaluation.samples {
                let result = if last { need.found.remove(sample) } else { need.found.get(sample).cloned() };
                results
                    .push(result.ok_or_else(|| format!("sample {} has no result, or is asked for twice", sample.0))?);
            }
            all.push(results);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::scheme::GroupId;
    use std::sync::Arc;

    fn evaluation(group: u32, samples: &[u32]) -> Evaluation {
        Evaluation {
            workload: Digest::of(b"workload"),
            candidate: Candidate { scheme: Some(Digest::of(b"scheme")), reverted: vec![GroupId(group)] },
            want: Want::Contributions,
            samples: samples.iter().copied().map(SampleIndex).collect(),
        }
    }

    fn result(group: u32, sample: u32) -> SampleResult {
        SampleResult { parts: vec![vec![f64::from(group * 1000 + sample)]] }
    }

    fn keys(evaluations: &[Evaluation]) -> Vec<Digest> {
        let key = |e: &Evaluation| context_digest(e.workload, &e.candidate, &e.want).expect("a context");
        evaluations.iter().map(key).collect()
    }

    #[test]
    fn candidates_that_miss_the_same_samples_share_tiles() {
        let samples: Vec<u32> = (0..200).collect();
        let evaluations: Vec<_> = (0..5).map(|group| evaluation(group, &samples)).collect();
        let keys = keys(&evaluations);
        let mut assembly = Assembly::new(&evaluations, &keys);
        let tiles = assembly.missing();
        assert_eq!(tiles.len(), 1);
        assert_eq!((tiles[0].candidates.len(), tiles[0].samples.len()), (5, 200));
        let known = |group| (0..64).map(|sample| (SampleIndex(sample), result(group, sample))).collect::<Known>();
        let useful = assembly.add_known(vec![known(0), Known::new(), Known::new(), Known::new(), known(4)]);
        assert_eq!(useful, 128);
        let shapes: Vec<_> =
            assembly.missing().iter().map(|tile| (tile.candidates.len(), tile.samples.len())).collect();
        assert_eq!(shapes, [(3, 64), (5, 136)]);
    }

    #[test]
    fn results_come_back_in_the_order_asked_for_even_when_asked_twice() {
        let evaluations =
            [evaluation(1, &[9, 3, 5]), evaluation(2, &[3]), evaluation(1, &[5, 7]), evaluation(1, &[3, 9])];
        let keys = keys(&evaluations);
        let mut assembly = Assembly::new(&evaluations, &keys);
        assert_eq!(assembly.contexts().len(), 2);
        for tile in assembly.missing() {
            let row = |candidate: &Candidate| {
                tile.samples.iter().map(|sample| result(candidate.reverted[0].0, sample.0)).collect()
            };
            let results = Arc::new(tile.candidates.iter().map(row).collect());
            assembly.add(&Finished { tile: Arc::new(tile.clone()), results }).expect("added");
        }
        let expected: Vec<Vec<_>> = [(1, vec![9, 3, 5]), (2, vec![3]), (1, vec![5, 7]), (1, vec![3, 9])]
            .into_iter()
            .map(|(group, samples)| samples.into_iter().map(|sample| result(group, sample)).collect())
            .collect();
        assert_eq!(assembly.finish(), Ok(expected));
    }
}
