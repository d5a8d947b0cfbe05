//! What every search over groups is made of: validating a state, ranking the groups left, and writing down decisions.

use super::cost::Costs;
use super::distance;
use super::frontier::Frontier;
use super::goal::Goal;
use super::measure::{Measure, SampleValues};
use super::ranking::{Scored, by_degradation, sort};
use super::selection::Kept;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::parameters::{Parameters, RankBy};
use crate::record::{Decision, FrontierRecord, RankingRecord, RoundRecord, RunRecord, StopReason};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult};
use holdfast_common::metric::Orientation;
use holdfast_common::scheme::{GroupId, Scheme};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A set of reverted groups and what was measured of it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) reverted: BTreeSet<GroupId>,
    pub(super) values: Vec<f64>,
    pub(super) drops: Vec<f64>,
    /// Per-sample metrics on the pool.
    pub(super) samples: SampleValues,
    /// Results on all validation samples.
    pub(super) results: Arc<Vec<SampleResult>>,
}

/// How a search ended.
pub(super) struct Ending {
    /// The answer.
    pub(super) state: State,
    /// The metrics to report: the answer's own, except for compat mode's flaw.
    pub(super) values: Vec<f64>,
    /// `None`: the limits are met.
    pub(super) stopped: Option<StopReason>,
}

impl Ending {
    pub(super) fn met(state: State) -> Ending {
        Ending { values: state.values.clone(), state, stopped: None }
    }

    pub(super) fn gave_up(state: State, reason: StopReason) -> Ending {
        Ending { values: state.values.clone(), state, stopped: Some(reason) }
    }
}

/// The validation samples that the ranking subset is picked from, with the float model's per-sample metrics there.
pub(super) struct Pool {
    /// Positions in the validation set, ascending.
    pub(super) positions: Vec<usize>,
    pub(super) float: SampleValues,
    /// The float model's results there.
    pub(super) results: Vec<SampleResult>,
}

impl Pool {
    /// The part of values for all validation samples that belongs to the pool.
    pub(super) fn reduce(&self, samples: &SampleValues) -> SampleValues {
        let pick = |values: &Vec<Option<f64>>| {
            self.positions.iter().map(|position| values.get(*position).copied().flatten()).collect()
        };
        samples.iter().map(pick).collect()
    }
}

/// Everything a search needs.
pub(super) struct Search<'a, E> {
    pub(super) measure: Measure<'a, E>,
    pub(super) goal: &'a Goal,
    pub(super) parameters: &'a Parameters,
    pub(super) scheme: &'a Scheme,
    pub(super) digest: Digest,
    pub(super) pool: Pool,
    /// Results of the model that the search began with, on all validation samples.
    pub(super) entering: Arc<Vec<SampleResult>>,
    /// What the user decided about groups.
    pub(super) kept: &'a Kept,
    pub(super) costs: Costs,
    pub(super) frontier: Frontier,
    pub(super) record: RunRecord,
}

impl<E: Evaluator> Search<'_, E> {
    /// Whether nothing is quantized any more.
    pub(super) fn is_everything_reverted(&self, state: &State) -> bool {
        state.reverted.len() == self.scheme.groups.len()
    }

    pub(super) fn is_met(&self, state: &State) -> bool {
        self.goal.is_met(&state.drops)
    }

    pub(super) fn candidate(&self, reverted: &BTreeSet<GroupId>) -> Candidate {
        Candidate { scheme: Some(self.digest), reverted: reverted.iter().copied().collect() }
    }

    /// Evaluates the state with this group reverted in addition on the whole validation set.
    pub(super) async fn validate(&mut self, state: &State, group: GroupId) -> Result<State, CoreError> {
        let mut reverted = state.reverted.clone();
        reverted.insert(group);
        let samples = &self.measure.problem.validation.samples;
        let measured = self.measure.one(Stage::Validation, self.candidate(&reverted), samples).await?;
        let state = self.state(reverted, measured.results)?;
        self.saw(&state);
        Ok(state)
    }

    /// The state with these groups reverted, of which these are the results on all validation samples.
    pub(super) fn state(&self, reverted: BTreeSet<GroupId>, results: Vec<SampleResult>) -> Result<State, CoreError> {
        let values = self.measure.values(Stage::Validation, &results)?;
        let drops = self.goal.drops(&values);
        let samples = self.pool.reduce(&self.measure.sample_values(&results));
        Ok(State { reverted, drops, samples, values, results: Arc::new(results) })
    }

    /// Remembers a state that was measured in full for the frontier.
    pub(super) fn saw(&mut self, state: &State) {
        let point = FrontierRecord {
            reverted: self.names(&state.reverted),
            operations: self.costs.operations(&state.reverted),
            latency: self.costs.latency(&state.reverted),
            values: state.values.clone(),
            drops: state.drops.clone(),
        };
        self.frontier.add(point, self.goal.violation(&state.drops));
    }

    /// Names of groups, in group order.
    pub(super) fn names(&self, groups: &BTreeSet<GroupId>) -> Vec<String> {
        groups.iter().filter_map(|id| self.scheme.group(*id)).map(|group| group.name.clone()).collect()
    }

    /// Groups that may still be reverted in this state.
    pub(super) fn left(&self, reverted: &BTreeSet<GroupId>) -> Vec<GroupId> {
        let is_left = |id: &GroupId| !reverted.contains(id) && !self.kept.quantized.contains(id);
        self.scheme.group_ids().filter(is_left).collect()
    }

    /// The budget that forbids another round after so many.
    pub(super) fn spent(&self, rounds: usize) -> Option<StopReason> {
        if self.parameters.search.budget.evaluations.is_some_and(|most| rounds >= most) {
            return Some(StopReason::EvaluationBudget);
        }
        self.measure.observer.out_of_time().then_some(StopReason::TimeBudget)
    }

    /// Whether as many operations may be reverted.
    pub(super) fn is_affordable(&self, reverted: &BTreeSet<GroupId>) -> bool {
        let most = self.parameters.search.budget.reverted_operations;
        most.is_none_or(|most| self.costs.operations(reverted) <= most)
    }

    /// Ranks the groups that are not reverted in this state and not excluded, all in one batch.
    pub(super) async fn rank(
        &mut self,
        state: &State,
        target: usize,
        excluded: &BTreeSet<GroupId>,
    ) -> Result<VecDeque<GroupId>, CoreError> {
        let groups: Vec<GroupId> =
            self.left(&state.reverted).into_iter().filter(|group| !excluded.contains(group)).collect();
        if groups.is_empty() {
            return Ok(VecDeque::new());
        }
        let samples = self.ranking_subset(state, target).await?;
        if self.parameters.search.rank_by == RankBy::Distance {
            let after_round = self.record.rounds.len();
            return Ok(distance::rank(self, &state.reverted, &groups, samples, after_round).await?.into());
        }
        let candidates = groups
            .iter()
            .map(|group| {
                let mut reverted = state.reverted.clone();
                reverted.insert(*group);
                self.candidate(&reverted)
            })
            .collect();
        let values = self.measure.many(Stage::Ranking, candidates, &samples, target).await?;
        let orientation = self.goal.orientations[target];
        let name = |group: GroupId| self.scheme.groups[group.0 as usize].name.as_str();
        let mut scored: Vec<Scored> = groups
            .iter()
            .zip(&values)
            .map(|(group, value)| Scored::new(*group, name(*group), *value, orientation))
            .collect();
        sort(&mut scored, self.parameters.mode);
        if scored.len() > 1 && values.iter().all(|value| *value == values[0]) {
            self.note("a ranking could not tell the groups apart: all score the same on the ranking subset");
        }
        let ranking = RankingRecord {
            after_round: self.record.rounds.len(),
            metric: self.record.metrics[target].clone(),
            samples,
            scores: scored.iter().map(|s| (s.name.clone(), Some(s.value).filter(|value| value.is_finite()))).collect(),
        };
        self.measure.observer.ranked(&ranking);
        self.record.rankings.push(ranking);
        Ok(scored.into_iter().map(|scored| scored.group).collect())
    }

    /// The samples that suffered most, ascending, so that contributions fold in sample order.
    async fn ranking_subset(&mut self, state: &State, target: usize) -> Result<Vec<SampleIndex>, CoreError> {
        let orientation = self.goal.orientations[target];
        let (float, quantized) = (&self.pool.float[target], &state.samples[target]);
        let mut chosen = by_degradation(orientation, float, quantized, self.parameters.mode);
        if chosen.is_empty() {
            chosen = self.by_distance(&state.reverted).await?;
        }
        chosen.truncate(self.parameters.ranking_subset_size);
        chosen.sort_unstable();
        let samples = &self.measure.problem.validation.samples;
        Ok(chosen.into_iter().map(|index| samples[self.pool.positions[index]]).collect())
    }

    /// Places in the pool, those first whose outputs a state moves most by cosine distance: what tells samples apart where
    /// the metric has no value for a single one.
    pub(super) async fn by_distance(&mut self, reverted: &BTreeSet<GroupId>) -> Result<Vec<usize>, CoreError> {
        self.note("the ranking subset is the samples whose outputs moved most: no sample has a metric of its own");
        let all = &self.measure.problem.validation.samples;
        let samples: Vec<SampleIndex> = self.pool.positions.iter().map(|position| all[*position]).collect();
        let candidate = self.candidate(reverted);
        let moved = self.measure.cosine_distances(Stage::Ranking, candidate, &samples).await?;
        let (still, moved) = (vec![Some(0.0); moved.len()], moved.into_iter().map(Some).collect::<Vec<_>>());
        Ok(by_degradation(Orientation::HigherWorse, &still, &moved, self.parameters.mode))
    }

    /// Writes down what became of a round's candidate.
    pub(super) fn decide(
        &mut self,
        group: GroupId,
        target: usize,
        candidate: &State,
        decision: Decision,
        reason: &'static str,
    ) {
        let described = &self.scheme.groups[group.0 as usize];
        let round = RoundRecord {
            round: self.record.rounds.len() + 1,
            group: described.name.clone(),
            operations: described.operations.clone(),
            target: self.record.metrics[target].clone(),
            values: candidate.values.clone(),
            drops: candidate.drops.clone(),
            reverted: candidate.reverted.len(),
            decision,
            reason: reason.to_owned(),
        };
        self.measure.observer.decided(&round);
        self.record.rounds.push(round);
    }

    /// Notes something once.
    pub(super) fn note(&mut self, note: &str) {
        if !self.record.notes.iter().any(|known| known == note) {
            self.measure.observer.noted(note);
            self.record.notes.push(note.to_owned());
        }
    }
}
