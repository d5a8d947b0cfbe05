//! Who is told what happens while it happens: a terminal, a page, or nobody.

use crate::evaluator::Stage;
use crate::record::{ProbeRecord, RankingRecord, RoundRecord, StageRecord, TrialRecord};
use holdfast_common::scheme::Scheme;

/// Is told about starts and decisions; decides nothing but, where a run has a time budget, when it is used up.
pub trait Observer: Send + Sync {
    /// So many evaluations of so many samples each are about to be asked for.
    fn stage_started(&self, _stage: Stage, _evaluations: usize, _samples: usize) {}

    /// A scheme was made that the search may begin with; it has not been measured yet.
    fn quantized(&self, _scheme: &Scheme) {}

    /// A model was evaluated on the whole validation set.
    fn measured(&self, _stage: &StageRecord) {}

    /// Parameters were tried on the hardest samples.
    fn tried(&self, _trial: &TrialRecord) {}

    /// Groups were ranked.
    fn ranked(&self, _ranking: &RankingRecord) {}

    /// A round was decided.
    fn decided(&self, _round: &RoundRecord) {}

    /// A state was found to be within the limits, or not to be.
    fn probed(&self, _probe: &ProbeRecord) {}

    /// So many candidates at least, and so many at most, have yet to be asked about on the validation set.
    fn remaining(&self, _at_least: usize, _at_most: usize) {}

    /// Whether the time budget is used up. Asked between evaluations; the core itself has no clock.
    fn out_of_time(&self) -> bool {
        false
    }

    /// Something a person should know.
    fn noted(&self, _note: &str) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
