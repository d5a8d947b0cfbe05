//! Candidates that begin alike: what the trunk has computed of a sample is copied into a branch's memory at the last
//! place where the two agree, and the branch goes on from there.
//!
//! The plans of candidates that revert different groups of one scheme give the same instructions up to the first
//! operation whose precision differs. Nothing is kept from one sample to the next: the trunk stops at every fork, its
//! branches run to their ends, the trunk goes on.

use super::buffer::{Arena, BufferId};
use super::instruction::Instruction;
use super::{Finished, Plan, PlanError, Port, PortBuffer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Memory that the branches of one bundle keep from sample to sample, a thread; more of them allocate theirs again.
const BRANCH_BYTES: usize = 192 << 20;

/// Where a branch leaves the trunk, and what it takes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Instructions that the trunk runs for the branch.
    shared: usize,
    /// Buffers of the trunk whose contents go to buffers of the branch.
    copies: Vec<(BufferId, BufferId)>,
}

impl Fork {
    /// Instructions that the trunk runs for the branch.
    pub fn shared(&self) -> usize {
        self.shared
    }
}

/// What a buffer holds: comparable between two plans as far as they agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Nothing yet.
    Nothing,
    /// The model input of this position.
    Input(usize),
    /// The constant of this position in the plan's own list.
    Constant(usize),
    /// What the instruction of this position made, and which of its results.
    Made(usize, usize),
}

impl Plan {
    /// Where this plan, of the same graph, leaves the trunk.
    pub fn fork(&self, trunk: &Plan) -> Fork {
        let (mut own, mut theirs) = (self.first_contents(), trunk.first_contents());
        let mut history = vec![(own.clone(), theirs.clone())];
        let pairs = self.instructions.iter().zip(&trunk.instructions).enumerate();
        for (index, (mine, other)) in pairs {
            let agree = |(a, b): (&BufferId, &BufferId)| match (own[a.0], theirs[b.0]) {
                (Content::Constant(a), Content::Constant(b)) => self.constants[a].1 == trunk.constants[b].1,
                (a, b) => a == b,
            };
            let alike = mine.inputs.len() == other.inputs.len() && mine.inputs.iter().zip(&other.inputs).all(agree);
            if !alike || !same_call(mine, other) {
                break;
            }
            mine.outputs().enumerate().for_each(|(which, output)| own[output.0] = Content::Made(index, which));
            other.outputs().enumerate().for_each(|(which, output)| theirs[output.0] = Content::Made(index, which));
            history.push((own.clone(), theirs.clone()));
        }
        // The trunk may have put something else where a value lay that only the branch still needs; then the branch
        // leaves earlier, at the latest before the first instruction, when all inputs are there.
        for (shared, (own, theirs)) in history.iter().enumerate().rev() {
            if let Some(copies) = copies(&self.needed(shared), own, theirs) {
                return Fork { shared, copies };
            }
        }
        Fork { shared: 0, copies: Vec::new() }
    }

    fn first_contents(&self) -> Vec<Content> {
        let mut contents = vec![Content::Nothing; self.buffers.len()];
        for (position, port) in self.inputs.iter().enumerate() {
            contents[port.buffer.0] = Content::Input(position);
        }
        for (position, (buffer, _)) in self.constants.iter().enumerate() {
            contents[buffer.0] = Content::Constant(position);
        }
        contents
    }

    /// Buffers whose contents are read from this instruction on before anything is written to them.
    fn needed(&self, from: usize) -> BTreeSet<BufferId> {
        let mut needed: BTreeSet<BufferId> =
            self.outputs.iter().chain(&self.observed).map(|port| port.buffer).collect();
        for instruction in self.instructions[from..].iter().rev() {
            instruction.outputs().for_each(|output| {
                needed.remove(output);
            });
            needed.extend(&instruction.inputs);
        }
        needed
    }

    /// Runs one sample through the trunk and every branch, in the order in which they leave it. `read` is told the
    /// branch's position, or `None` for the trunk, which runs to its end only where `to_the_end` asks for it.
    ///
    /// # Errors
    ///
    /// What `write` and `read` return, and an index from outside that points nowhere.
    pub fn run_branches<E: From<PlanError>>(
        &self,
        to_the_end: bool,
        branches: &[(Arc<Plan>, Fork)],
        write: impl FnMut(&Port, PortBuffer<'_>) -> Result<(), E>,
        mut read: impl FnMut(Option<usize>, &Finished<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut order: Vec<usize> = (0..branches.len()).collect();
        order.sort_by_key(|branch| branches[*branch].1.shared);
        self.execute(write, |trunk| {
            let (mut done, mut kept) = (0, 0);
            for branch in order {
                let (plan, fork) = &branches[branch];
                run(&self.instructions[done..fork.shared], trunk)?;
                done = fork.shared;
                kept += plan.arena_bytes();
                plan.with_arena(kept <= BRANCH_BYTES, |arena| {
                    fork.copies.iter().for_each(|(from, to)| arena.copy(*to, trunk, *from));
                    run(&plan.instructions[done..], arena)?;
                    read(Some(branch), &Finished { plan, arena })
                })?;
            }
            if !to_the_end {
                return Ok(());
            }
            run(&self.instructions[done..], trunk)?;
            read(None, &Finished { plan: self, arena: trunk })
        })
    }

    /// Lends a free arena, or a new one, and keeps it afterwards if it is to.
    pub(super) fn with_arena<R>(&self, keep: bool, work: impl FnOnce(&mut Arena) -> R) -> R {
        let kept = self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let mut arena = kept.unwrap_or_else(|| Arena::new(&self.buffers, &self.constants, self.isa));
        let result = work(&mut arena);
        if keep {
            self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(arena);
        }
        result
    }

    /// Gives the memory kept for later samples back.
    pub fn release_memory(&self) {
        self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }
}

/// Runs instructions one after another.
pub(super) fn run(instructions: &[Instruction], arena: &mut Arena) -> Result<(), PlanError> {
    instructions.iter().try_for_each(|instruction| instruction.run(arena).map_err(PlanError::from))
}

/// Whether two instructions do the same to equal inputs.
fn same_call(a: &Instruction, b: &Instruction) -> bool {
    a.isa == b.isa && a.operations == b.operations && a.kernel == b.kernel
}

/// Where in the trunk each needed content lies; `None` where one is gone.
fn copies(needed: &BTreeSet<BufferId>, own: &[Content], theirs: &[Content]) -> Option<Vec<(BufferId, BufferId)>> {
    let mut copies = Vec::new();
    for buffer in needed {
        let content = own[buffer.0];
        if matches!(content, Content::Constant(_) | Content::Nothing) {
            continue;
        }
        let source = theirs.iter().position(|held| *held == content)?;
        copies.push((BufferId(source), *buffer));
    }
    Some(copies)
}
