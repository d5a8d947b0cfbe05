//! Which candidates of a tile run together: those of one scheme branch off a trunk that reverts what all of them revert.

use super::loaded::{Library, LoadedWorkload, Wanted};
use crate::artifact::ArtifactSource;
use crate::plan::{Finished, Fork, Plan, PlanError, Port, PortBuffer};
use holdfast_common::Digest;
use holdfast_common::evaluation::Candidate;
use holdfast_common::scheme::GroupId;
use holdfast_proto::message::TaskFailure;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Plans whose memory is kept between tiles; more give it back when a tile is done.
const PLANS_KEEPING_MEMORY: usize = 4;

/// Candidates that run together.
pub struct Bundle {
    trunk: Arc<Plan>,
    /// The trunk's position among the tile's candidates, where it is one of them.
    wanted: Option<usize>,
    branches: Vec<(Arc<Plan>, Fork)>,
    /// The branches' positions among the tile's candidates.
    positions: Vec<usize>,
}

impl Bundle {
    /// Bundles a tile's candidates.
    pub fn all(
        library: &Library,
        workload: &LoadedWorkload,
        candidates: &[Candidate],
        wanted: &Wanted,
        artifacts: &Arc<dyn ArtifactSource>,
    ) -> Result<Vec<Bundle>, TaskFailure> {
        let mut by_scheme: BTreeMap<Option<Digest>, Vec<usize>> = BTreeMap::new();
        for (position, candidate) in candidates.iter().enumerate() {
            by_scheme.entry(candidate.scheme).or_default().push(position);
        }
        let mut bundles = Vec::with_capacity(by_scheme.len());
        for (scheme, positions) in by_scheme {
            let reverted = in_common(positions.iter().map(|position| candidates[*position].reverted.as_slice()));
            let base = Candidate { scheme, reverted };
            let trunk = library.plan(workload, &base, wanted, artifacts)?;
            let at = positions.iter().copied().find(|position| candidates[*position] == base);
            let positions: Vec<usize> = positions.into_iter().filter(|position| Some(*position) != at).collect();
            let mut branches = Vec::with_capacity(positions.len());
            for position in &positions {
                let plan = library.plan(workload, &candidates[*position], wanted, artifacts)?;
                let fork = plan.fork(&trunk);
                branches.push((plan, fork));
            }
            bundles.push(Bundle { trunk, wanted: at, branches, positions });
        }
        Ok(bundles)
    }

    /// Runs one sample through all of them; `read` is told each candidate's position in the tile.
    pub fn run<E: From<PlanError>>(
        &self,
        write: impl FnMut(&Port, PortBuffer<'_>) -> Result<(), E>,
        mut read: impl FnMut(usize, &Finished<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.trunk.run_branches(self.wanted.is_some(), &self.branches, write, |branch, finished| {
            let position = branch.map_or(self.wanted, |branch| self.positions.get(branch).copied());
            position.map_or(Ok(()), |position| read(position, finished))
        })
    }

    /// Gives memory back where many plans would hold it.
    pub fn finish(&self) {
        if self.branches.len() >= PLANS_KEEPING_MEMORY {
            self.branches.iter().for_each(|(plan, _)| plan.release_memory());
        }
    }
}

/// The groups that all of these revert.
fn in_common<'a>(mut reverted: impl Iterator<Item = &'a [GroupId]>) -> Vec<GroupId> {
    let first: BTreeSet<GroupId> = reverted.next().unwrap_or_default().iter().copied().collect();
    reverted
        .fold(first, |common, list| list.iter().copied().filter(|id| common.contains(id)).collect())
        .into_iter()
        .collect()
}
