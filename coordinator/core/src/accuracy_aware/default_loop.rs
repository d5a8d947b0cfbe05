//! The revert loop that never returns worse than the best state seen and never evaluates a state twice.

use super::search::{Ending, Search, State};
use super::selection;
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::record::{Decision, StopReason};
use holdfast_common::scheme::GroupId;
use std::collections::{BTreeSet, VecDeque};

/// Reverts groups one after another until the limits hold or nothing is left to try.
///
/// A group that makes the target metric worse is quantized again and not tried again from the same state. The groups
/// are ranked again where the state has changed since the last ranking. Where every group left makes it worse, the
/// search goes on from the least bad of them, for a later group may more than mend it; the best state seen is the
/// answer all the same.
pub(super) async fn revert<E: Evaluator>(search: &mut Search<'_, E>, entering: State) -> Result<Ending, CoreError> {
    let rounds = search.parameters.max_iter_num.unwrap_or(usize::MAX);
    let mut made = 0;
    let mut target = search.goal.target(&entering.drops);
    let mut best = entering.clone();
    let mut from = Origin::new(entering);
    let mut ranked = from.state.reverted.clone();
    let left = search.left(&ranked);
    let given =
        search.parameters.search.ranking.as_ref().map(|names| selection::order(names, search.scheme)).transpose()?;
    // `None` asks for a ranking; it is put off until a round needs it, so that none is paid for in vain.
    let mut order: Option<VecDeque<GroupId>> =
        given.map(|groups| groups.into_iter().filter(|group| left.contains(group)).collect());

    while made < rounds {
        if let Some(spent) = search.spent(made) {
            return Ok(Ending::gave_up(best, spent));
        }
        if search.is_everything_reverted(&from.state) {
            return Ok(Ending::gave_up(best, StopReason::EverythingReverted));
        }
        let list = match &mut order {
            Some(list) => list,
            None => {
                ranked.clone_from(&from.state.reverted);
                order.insert(search.rank(&from.state, target, &from.failed).await?)
            }
        };
        let Some(group) = list.pop_front() else {
            let left = search.left(&from.state.reverted);
            if left.iter().all(|group| from.failed.contains(group)) {
                let Some(least_bad) = from.least_bad.take() else {
                    return Ok(Ending::gave_up(best, StopReason::NoGroupLeft));
                };
                search.note("where every group left made it worse, the search went on from the least bad of them");
                from = Origin::new(least_bad);
            }
            order = None;
            continue;
        };
        let mut reverted = from.state.reverted.clone();
        reverted.insert(group);
        if !search.is_affordable(&reverted) {
            return Ok(Ending::gave_up(best, StopReason::OperationBudget));
        }
        let candidate = search.validate(&from.state, group).await?;
        made += 1;

        if search.is_met(&candidate) {
            search.decide(group, target, &candidate, Decision::Met, "all drops are within their limits");
            return Ok(Ending::met(candidate));
        }
        if search.goal.violation(&candidate.drops) < search.goal.violation(&best.drops) {
            best = candidate.clone();
        }
        if search.is_everything_reverted(&candidate) {
            search.decide(group, target, &candidate, Decision::GaveUp, "nothing is quantized any more");
            return Ok(Ending::gave_up(best, StopReason::EverythingReverted));
        }
        let worse = candidate.drops[target] > from.state.drops[target];
        if worse && search.parameters.use_prev_if_drop_increase {
            search.decide(group, target, &candidate, Decision::SteppedBack, "the drop grew");
            from.fail(group, candidate, target);
            if from.state.reverted != ranked {
                order = None;
            }
            continue;
        }

        let satisfied = candidate.drops[target] <= search.goal.limits[target];
        let reason = match (worse, satisfied) {
            (true, _) => "the drop grew, and stepping back is switched off",
            (false, true) => "this metric is within its limit, another is not",
            (false, false) => "the drop did not grow",
        };
        search.decide(group, target, &candidate, Decision::Kept, reason);
        if satisfied {
            target = search.goal.target(&candidate.drops);
        }
        if worse || satisfied {
            order = None;
        }
        from = Origin::new(candidate);
    }
    Ok(Ending::gave_up(best, StopReason::RoundLimit))
}

/// The state the next candidates start from, and what was tried from it in vain.
struct Origin {
    state: State,
    failed: BTreeSet<GroupId>,
    /// The failed candidate with the smallest drop of the target; the earliest of equal ones.
    least_bad: Option<State>,
}

impl Origin {
    fn new(state: State) -> Origin {
        Origin { state, failed: BTreeSet::new(), least_bad: None }
    }

    fn fail(&mut self, group: GroupId, candidate: State, target: usize) {
        self.failed.insert(group);
        if self.least_bad.as_ref().is_none_or(|least| candidate.drops[target] < least.drops[target]) {
            self.least_bad = Some(candidate);
        }
    }
}
