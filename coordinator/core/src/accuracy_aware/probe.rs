//! Pass or fail: whether states are within the limits, asked no further than the answer needs.

use super::hardness::{Bounds, Order};
use super::racing;
use super::search::{Search, State};
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::record::{ProbeRecord, Purpose, StopReason, Verdict};
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult};
use holdfast_common::scheme::GroupId;
use std::collections::{BTreeMap, BTreeSet};

/// Reverted groups of a state.
pub(super) type Groups = BTreeSet<GroupId>;

/// What is known of one state.
struct Probe {
    /// Results by position.
    results: Vec<Option<SampleResult>>,
    /// How many there are.
    known: usize,
    answer: Answer,
    /// Whether the algorithm has come to need the answer; before that, it was only asked side by side.
    is_counted: bool,
}

impl Probe {
    fn new(samples: usize) -> Probe {
        Probe { results: vec![None; samples], known: 0, answer: Answer::Open, is_counted: false }
    }
}

/// What became of the question.
enum Answer {
    Open,
    Passed(State),
    /// Proven, or most probably, beyond a limit; the exact state where all samples are known.
    Refuted(Option<State>),
}

/// The end of a walk through candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The candidate at this index is the first within the limits.
    Passed(usize),
    /// None is.
    NonePassed,
    /// A budget was used up before that was known.
    Spent(StopReason),
}

/// Asks about states, and remembers every answer.
pub(super) struct Prober<'s, 'a, E> {
    pub(super) search: &'s mut Search<'a, E>,
    pub(super) bounds: Bounds,
    probes: BTreeMap<Groups, Probe>,
    counted: usize,
}

impl<'s, 'a, E: Evaluator> Prober<'s, 'a, E> {
    pub(super) fn new(search: &'s mut Search<'a, E>, entering: &State) -> Prober<'s, 'a, E> {
        let bounds = Bounds::new(&search.measure, &entering.results);
        Prober { search, bounds, probes: BTreeMap::new(), counted: 0 }
    }

    /// Whether hopeless states are rejected on a part of the samples.
    pub(super) fn is_proving(&self) -> bool {
        self.search.parameters.search.hardest_first && self.bounds.any()
    }

    /// The first of these sets that is within the limits. The answer does not depend on `width`, how many are begun side
    /// by side, nor on the order of the samples.
    pub(super) async fn first_passing(
        &mut self,
        sets: &[Groups],
        order: &Order,
        width: usize,
        purpose: Purpose,
    ) -> Result<Scan, CoreError> {
        for (index, set) in sets.iter().enumerate() {
            if let Some(spent) = self.spent() {
                return Ok(Scan::Spent(spent));
            }
            let undecided =
                |set: &&Groups| self.probes.get(*set).is_none_or(|probe| matches!(probe.answer, Answer::Open));
            if undecided(&set) {
                let side_by_side = sets[index..].iter().filter(undecided).take(width.max(1));
                let begun: Vec<Groups> = side_by_side.cloned().collect();
                self.anticipate(&sets[index..], &begun, order);
                let target = if self.is_proving() { order.first } else { order.positions.len() };
                self.advance(&begun, order, target, purpose).await?;
            }
            while self.probes.get(set).is_some_and(|probe| matches!(probe.answer, Answer::Open)) {
                let seen = self.seen(set, order);
                self.advance(std::slice::from_ref(set), order, order.next(seen), purpose).await?;
            }
            let Some(probe) = self.probes.get_mut(set) else { continue };
            if !probe.is_counted {
                probe.is_counted = true;
                self.counted += 1;
            }
            if matches!(probe.answer, Answer::Passed(_)) {
                return Ok(Scan::Passed(index));
            }
        }
        Ok(Scan::NonePassed)
    }

    /// The budget that forbids further questions.
    pub(super) fn spent(&self) -> Option<StopReason> {
        let budget = &self.search.parameters.search.budget;
        if budget.evaluations.is_some_and(|most| self.counted >= most) {
            return Some(StopReason::EvaluationBudget);
        }
        self.search.measure.observer.out_of_time().then_some(StopReason::TimeBudget)
    }

    /// How many samples of the order are known without a gap.
    fn seen(&self, set: &Groups, order: &Order) -> usize {
        let Some(probe) = self.probes.get(set) else { return 0 };
        order.positions.iter().take_while(|position| probe.results[**position].is_some()).count()
    }

    fn sample(&self, position: usize) -> SampleIndex {
        self.search.measure.problem.validation.samples[position]
    }

    /// Tells the evaluator what will probably be asked next.
    fn anticipate(&self, sets: &[Groups], begun: &[Groups], order: &Order) {
        let ahead = self.search.parameters.search.ahead;
        if ahead == 0 {
            return;
        }
        let likely = sets.iter().filter(|set| !begun.contains(set) && !self.probes.contains_key(*set)).take(ahead);
        let mut positions = order.positions[..order.first].to_vec();
        positions.sort_unstable();
        let samples: Vec<SampleIndex> = positions.into_iter().map(|position| self.sample(position)).collect();
        let evaluation = |set| self.search.measure.evaluation(self.search.candidate(set), samples.clone());
        self.search.measure.evaluator.anticipate(Stage::Validation, likely.map(evaluation).collect());
    }

    /// Evaluates each set up to so many samples of the order, side by side, and judges what is then known.
    async fn advance(
        &mut self,
        sets: &[Groups],
        order: &Order,
        target: usize,
        purpose: Purpose,
    ) -> Result<(), CoreError> {
        let count = order.positions.len();
        let mut missing: Vec<(Groups, Vec<usize>)> = Vec::with_capacity(sets.len());
        for (index, set) in sets.iter().enumerate() {
            if sets[..index].contains(set) {
                continue;
            }
            let probe = self.probes.entry(set.clone()).or_insert_with(|| Probe::new(count));
            let ahead = order.positions[..target].iter().copied();
            let mut positions: Vec<usize> = ahead.filter(|position| probe.results[*position].is_none()).collect();
            positions.sort_unstable();
            missing.push((set.clone(), positions));
        }
        let asked: Vec<(Candidate, Vec<SampleIndex>)> = missing
            .iter()
            .filter(|(_, positions)| !positions.is_empty())
            .map(|(set, positions)| {
                (self.search.candidate(set), positions.iter().map(|position| self.sample(*position)).collect())
            })
            .collect();
        if !asked.is_empty() {
            let answers = self.search.measure.each(Stage::Validation, asked).await?;
            let asked = missing.iter().filter(|(_, positions)| !positions.is_empty());
            for ((set, positions), results) in asked.zip(answers) {
                let Some(probe) = self.probes.get_mut(set) else { continue };
                probe.known += positions.len();
                for (position, result) in positions.iter().zip(results) {
                    probe.results[*position] = Some(result);
                }
            }
        }
        for (set, _) in missing {
            self.judge(set, order, target, purpose)?;
        }
        Ok(())
    }

    /// Decides what can be decided of a state.
    fn judge(&mut self, set: Groups, order: &Order, seen: usize, purpose: Purpose) -> Result<(), CoreError> {
        let Some(mut probe) = self.probes.remove(&set) else { return Ok(()) };
        let verdict = if probe.known == probe.results.len() {
            let state =
                self.search.state(set.clone(), std::mem::take(&mut probe.results).into_iter().flatten().collect())?;
            self.search.measure.counts.full_evaluations += 1;
            self.search.saw(&state);
            let drops = state.drops.clone();
            if self.search.is_met(&state) {
                probe.answer = Answer::Passed(state);
                Some(Verdict::Passed { drops })
            } else {
                probe.results = state.results.iter().cloned().map(Some).collect();
                probe.answer = Answer::Refuted(Some(state));
                Some(Verdict::Refuted { at_least: drops })
            }
        } else if !self.is_proving() {
            None
        } else {
            let at_least = self.bounds.smallest_drops(self.search, |position| probe.results[position].as_ref())?;
            if !self.search.goal.is_met(&at_least) {
                Some(Verdict::Refuted { at_least })
            } else if racing::is_hopeless(self.search, &probe.results, order, seen)? {
                Some(Verdict::Raced { at_least })
            } else {
                None
            }
        };
        if let Some(verdict) = verdict {
            if matches!(probe.answer, Answer::Open) {
                probe.answer = Answer::Refuted(None);
                self.search.measure.counts.partial_evaluations += 1;
            }
            let record = ProbeRecord {
                purpose,
                reverted: self.search.names(&set),
                operations: self.search.costs.operations(&set),
                samples: probe.known,
                verdict,
            };
            self.search.measure.observer.probed(&record);
            self.search.record.probes.push(record);
        }
        self.probes.insert(set, probe);
        Ok(())
    }

    /// Evaluates what is not known of these states at these positions, without asking about them.
    pub(super) async fn ensure(&mut self, sets: &[Groups], positions: &[usize]) -> Result<(), CoreError> {
        let count = self.search.entering.len();
        let mut missing: Vec<(&Groups, Vec<usize>)> = Vec::new();
        for set in sets {
            let probe = self.probes.entry(set.clone()).or_insert_with(|| Probe::new(count));
            let mut places: Vec<usize> =
                positions.iter().copied().filter(|position| probe.results[*position].is_none()).collect();
            places.sort_unstable();
            if !places.is_empty() {
                missing.push((set, places));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let samples = |places: &Vec<usize>| places.iter().map(|position| self.sample(*position)).collect();
        let asked = missing.iter().map(|(set, places)| (self.search.candidate(set), samples(places))).collect();
        let answers = self.search.measure.each(Stage::Validation, asked).await?;
        for ((set, places), results) in missing.into_iter().zip(answers) {
            let Some(probe) = self.probes.get_mut(set) else { continue };
            probe.known += places.len();
            for (position, result) in places.into_iter().zip(results) {
                probe.results[position] = Some(result);
            }
        }
        Ok(())
    }

    /// Writes down that so many contested samples made a state look hopeless.
    pub(super) fn set_aside(&mut self, set: &Groups, samples: usize, missing: f64, purpose: Purpose) {
        let record = ProbeRecord {
            purpose,
            reverted: self.search.names(set),
            operations: self.search.costs.operations(set),
            samples,
            verdict: Verdict::SetAside { missing },
        };
        self.search.measure.observer.probed(&record);
        self.search.record.probes.push(record);
    }

    /// The state that passed.
    pub(super) fn passed(&self, set: &Groups) -> Option<&State> {
        match &self.probes.get(set)?.answer {
            Answer::Passed(state) => Some(state),
            Answer::Open | Answer::Refuted(_) => None,
        }
    }

    /// Whether the set is known to miss a limit. Only answers that were needed count, for what is asked side by side
    /// depends on how questions are answered.
    pub(super) fn is_refuted(&self, set: &Groups) -> bool {
        self.probes.get(set).is_some_and(|probe| probe.is_counted && matches!(probe.answer, Answer::Refuted(_)))
    }

    /// Whether the set, or one that contains it, is known to miss a limit.
    pub(super) fn is_below_refuted(&self, set: &Groups) -> bool {
        self.probes.keys().any(|known| set.is_subset(known) && self.is_refuted(known))
    }

    /// Validation samples that one sample of the ranking pool stands for.
    pub(super) fn entering_share(&self) -> f64 {
        self.search.entering.len() as f64 / self.search.pool.positions.len().max(1) as f64
    }

    /// What is known of a state at a position.
    pub(super) fn known(&self, set: &Groups, position: usize) -> Option<&SampleResult> {
        self.probes.get(set)?.results.get(position)?.as_ref()
    }

    /// Measures every state that was asked about to the end, and gives the nearest to the limits, `entering` included; of
    /// equal ones the one that reverts less. Only where no state is within the limits.
    pub(super) async fn nearest(&mut self, entering: State, order: &Order) -> Result<State, CoreError> {
        let open: Vec<Groups> = self.probes.keys().cloned().collect();
        let mut best = entering;
        for set in open {
            if self.probes.get(&set).is_some_and(|probe| !probe.is_counted) {
                continue;
            }
            self.complete(&set, order).await?;
            let Some(Probe { answer: Answer::Refuted(Some(state)), .. }) = self.probes.get(&set) else { continue };
            let (new, old) = (self.search.goal.violation(&state.drops), self.search.goal.violation(&best.drops));
            let costs = &self.search.costs;
            let saves = costs.weights(&state.reverted) < costs.weights(&best.reverted);
            if new < old || (new == old && saves) {
                best = state.clone();
            }
        }
        Ok(best)
    }

    /// Fills in what is missing of a refuted state.
    async fn complete(&mut self, set: &Groups, order: &Order) -> Result<(), CoreError> {
        let Some(probe) = self.probes.get(set) else { return Ok(()) };
        if !matches!(probe.answer, Answer::Refuted(None)) {
            return Ok(());
        }
        let missing: Vec<usize> =
            (0..order.positions.len()).filter(|position| probe.results[*position].is_none()).collect();
        let samples: Vec<SampleIndex> = missing.iter().map(|position| self.sample(*position)).collect();
        let answers = match samples.is_empty() {
            true => Vec::new(),
            false => self.search.measure.each(Stage::Validation, vec![(self.search.candidate(set), samples)]).await?,
        };
        let Some(mut probe) = self.probes.remove(set) else { return Ok(()) };
        for (position, result) in missing.into_iter().zip(answers.into_iter().flatten()) {
            probe.results[position] = Some(result);
        }
        probe.known = probe.results.len();
        let state = self.search.state(set.clone(), probe.results.iter().flatten().cloned().collect())?;
        self.search.measure.counts.full_evaluations += 1;
        self.search.measure.counts.partial_evaluations -= 1;
        self.search.saw(&state);
        probe.answer = Answer::Refuted(Some(state));
        self.probes.insert(set.clone(), probe);
        Ok(())
    }
}
