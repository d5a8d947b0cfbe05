//! The revert loop with POT's decisions, flaws included: what it steps back from sets the bar for the next candidate,
//! the best state is not remembered, and the numbers it reports can be those of a discarded candidate.

use super::search::{Ending, Search, State};
use crate::error::CoreError;
use crate::evaluator::Evaluator;
use crate::record::{Decision, StopReason};
use std::collections::BTreeSet;

/// Reverts groups one after another until the limits hold or nothing is left to try.
pub(super) async fn revert<E: Evaluator>(search: &mut Search<'_, E>, entering: State) -> Result<Ending, CoreError> {
    let rounds = search.parameters.max_iter_num.unwrap_or(usize::MAX);
    if rounds == 0 {
        return Ok(Ending::gave_up(entering, StopReason::RoundLimit));
    }
    let nothing = BTreeSet::new();
    let mut target = search.goal.target(&entering.drops);
    let mut previous = entering.drops[target];
    let mut just_stepped_back = true;
    let mut order = search.rank(&entering, target, &nothing).await?;
    let mut kept = entering.clone();
    let mut reported = entering.values.clone();

    for _ in 0..rounds {
        let Some(group) = order.pop_front() else {
            return Ok(Ending { state: kept, values: reported, stopped: Some(StopReason::NoGroupLeft) });
        };
        let candidate = search.validate(&kept, group).await?;
        reported.clone_from(&candidate.values);
        let drop = candidate.drops[target];
        let limit = search.goal.limits[target];

        if search.is_everything_reverted(&candidate) {
            search.decide(group, target, &candidate, Decision::GaveUp, "nothing is quantized any more");
            return Ok(Ending::gave_up(candidate, StopReason::EverythingReverted));
        }
        if search.is_met(&candidate) {
            search.decide(group, target, &candidate, Decision::Met, "all drops are within their limits");
            return Ok(Ending::met(candidate));
        }
        if limit < drop && drop <= previous {
            search.decide(group, target, &candidate, Decision::Kept, "the drop did not grow");
            kept = candidate;
            previous = drop;
            just_stepped_back = false;
            continue;
        }
        if drop > previous && just_stepped_back {
            search.decide(group, target, &candidate, Decision::Kept, "the drop grew, but the last round stepped back");
            kept = candidate;
            previous = drop;
            just_stepped_back = false;
            continue;
        }

        let steps_back = drop > previous && search.parameters.use_prev_if_drop_increase;
        if steps_back {
            search.decide(group, target, &candidate, Decision::SteppedBack, "the drop grew");
            just_stepped_back = true;
        } else {
            let reason =
                if drop > previous { "the drop grew" } else { "this metric is within its limit, another is not" };
            search.decide(group, target, &candidate, Decision::Kept, reason);
        }
        previous = drop;
        if drop <= limit {
            target = search.goal.target(&candidate.drops);
            previous = entering.drops[target];
            just_stepped_back = false;
        }
        if !steps_back {
            kept = candidate;
        }
        order = search.rank(&kept, target, &nothing).await?;
    }
    Ok(Ending { state: kept, values: reported, stopped: Some(StopReason::RoundLimit) })
}
