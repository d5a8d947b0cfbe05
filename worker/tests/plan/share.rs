//! Candidates that branch off a trunk give the bits that they give alone, and leave it as late as they can.

use crate::net::{Net, assert_bits, first_output};
use crate::runs::{SHAPE, network, sample};
use holdfast_common::scheme::GroupId;
use holdfast_kernels::Isa;
use holdfast_worker::plan::{Fork, PackedCache, Plan, PlanError, PortBuffer, Variant};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Every set of groups of the network.
fn every_set() -> Vec<BTreeSet<GroupId>> {
    let groups = network().scheme.groups.len() as u32;
    (0..1u32 << groups).map(|bits| (0..groups).filter(|group| bits >> group & 1 == 1).map(GroupId).collect()).collect()
}

fn plan(net: &Net, cache: &PackedCache, reverted: &BTreeSet<GroupId>) -> Arc<Plan> {
    let variant = Variant::Quantized { scheme: &net.scheme, digest: net.scheme.digest().unwrap(), reverted };
    Arc::new(Plan::new(&net.graph, variant, Isa::best(), cache, &BTreeSet::new()).unwrap())
}

/// The outputs of the branches, in their order, and of the trunk.
fn together(trunk: &Plan, branches: &[(Arc<Plan>, Fork)], values: &[f32]) -> Vec<Vec<f32>> {
    let mut found = vec![Vec::new(); branches.len() + 1];
    trunk
        .run_branches(
            true,
            branches,
            |port, buffer| {
                let PortBuffer::F32(buffer) = buffer else { panic!("a float input") };
                port.placement.scatter(values.iter().copied(), buffer);
                Ok::<(), PlanError>(())
            },
            |branch, finished| {
                found[branch.unwrap_or(branches.len())] = finished.outputs()[0].iter().copied().collect();
                Ok(())
            },
        )
        .unwrap();
    found
}

#[test]
fn branches_of_every_trunk_give_the_bits_they_give_alone() {
    let (net, cache) = (network(), PackedCache::default());
    let plans: Vec<(BTreeSet<GroupId>, Arc<Plan>)> =
        every_set().into_iter().map(|set| (set.clone(), plan(&net, &cache, &set))).collect();
    let alone: Vec<Vec<Vec<f32>>> =
        (30..32).map(|seed| plans.iter().map(|(_, plan)| first_output(&net, plan, &sample(seed))).collect()).collect();
    for (index, (reverted, trunk)) in plans.iter().enumerate() {
        let branches: Vec<(Arc<Plan>, Fork)> =
            plans.iter().map(|(_, plan)| (Arc::clone(plan), plan.fork(trunk))).collect();
        for (seed, alone) in (30..32).zip(&alone) {
            let found = together(trunk, &branches, &sample(seed)[0]);
            for ((found, expected), (branch, _)) in found.iter().zip(alone).zip(&plans) {
                assert_bits(found, expected, &format!("{branch:?} off {reverted:?}"));
            }
            assert_bits(&found[plans.len()], &alone[index], &format!("the trunk {reverted:?}"));
        }
    }
}

#[test]
fn a_branch_shares_everything_before_the_first_operation_it_changes() {
    let (net, cache) = (network(), PackedCache::default());
    let trunk = plan(&net, &cache, &BTreeSet::new());
    let shared: Vec<usize> = net
        .scheme
        .group_ids()
        .map(|group| plan(&net, &cache, &BTreeSet::from([group])).fork(&trunk).shared())
        .collect();
    assert_eq!(shared[0], 0, "the first operation changes");
    assert!(shared.is_sorted() && shared[4] > shared[2] && shared[2] > 0, "{shared:?}");
    assert_eq!(trunk.fork(&trunk).shared(), trunk.instructions().count());
}

#[test]
fn a_sample_of_a_branch_leaves_no_trace_for_the_next() {
    let (net, cache) = (network(), PackedCache::default());
    let trunk = plan(&net, &cache, &BTreeSet::new());
    let branches: Vec<(Arc<Plan>, Fork)> = net
        .scheme
        .group_ids()
        .map(|group| plan(&net, &cache, &BTreeSet::from([group])))
        .map(|plan| (Arc::clone(&plan), plan.fork(&trunk)))
        .collect();
    let first = together(&trunk, &branches, &sample(40)[0]);
    together(&trunk, &branches, &vec![f32::NAN; SHAPE.iter().product()]);
    branches.iter().for_each(|(plan, _)| plan.release_memory());
    let again = together(&trunk, &branches, &sample(40)[0]);
    for (again, first) in again.iter().zip(&first) {
        assert_bits(again, first, "the same sample again");
    }
}
