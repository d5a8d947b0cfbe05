//! Who is told what happens while it happens: a terminal, a page, or nobody.

use crate::evaluator::Stage;
use crate::record::{RankingRecord, RoundRecord, StageRecord, TrialRecord};

/// Is told about starts and decisions; decides nothing.
pub trait Observer: Send + Sync {
    /// So many evaluations of so many samples each are about to be asked for.
    fn stage_started(&self, _stage: Stage, _evaluations: usize, _samples: usize) {}

    /// A model was evaluated on the whole validation set.
    fn measured(&self, _stage: &StageRecord) {}

    /// Parameters were tried on the hardest samples.
    fn tried(&self, _trial: &TrialRecord) {}

    /// Groups were ranked.
    fn ranked(&self, _ranking: &RankingRecord) {}

    /// A round was decided.
    fn decided(&self, _round: &RoundRecord) {}

    /// Something a person should know.
    fn noted(&self, _note: &str) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
