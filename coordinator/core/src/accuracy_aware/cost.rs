//! What a reverted group costs: operations, and latency by a table or by counted multiplications.

use crate::parameters::SearchParameters;
use holdfast_common::scheme::{GroupId, QuantizerGroup, Scheme};
use std::collections::BTreeSet;

/// How much longer a multiply-accumulate operation takes in float than on codes, as measured for convolutions with our
/// own kernels.
const FLOAT_SHARE: f64 = 4.5;

/// Latencies of every group, by group id.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    operations: Vec<usize>,
    int8: Vec<f64>,
    float: Vec<f64>,
    /// Whether latency and not the number of operations is what a search saves.
    by_latency: bool,
}

impl Costs {
    /// Groups all of whose operations are in the table cost what it says. The others cost their multiplications, in the
    /// table's unit as far as it tells one.
    pub(super) fn new(scheme: &Scheme, parameters: &SearchParameters) -> Costs {
        let tabled = |group: &QuantizerGroup| -> Option<(f64, f64)> {
            let mut latencies = group.operations.iter().map(|name| parameters.latencies.get(name));
            latencies
                .try_fold((0.0, 0.0), |(int8, float), latency| Some((int8 + latency?.int8, float + latency?.float)))
        };
        let (mut tabled_float, mut tabled_macs) = (0.0, 0.0);
        for group in &scheme.groups {
            if let Some((_, float)) = tabled(group).filter(|_| group.macs > 0) {
                tabled_float += float;
                tabled_macs += group.macs as f64;
            }
        }
        let per_mac = if tabled_float > 0.0 { tabled_float / (FLOAT_SHARE * tabled_macs) } else { 1.0 };
        let latency = |group: &QuantizerGroup| {
            let macs = group.macs as f64 * per_mac;
            tabled(group).unwrap_or((macs, macs * FLOAT_SHARE))
        };
        let (int8, float) = scheme.groups.iter().map(latency).unzip();
        let operations = scheme.groups.iter().map(|group| group.operations.len()).collect();
        Costs { operations, int8, float, by_latency: parameters.cost_aware }
    }

    /// Operations of these groups.
    pub(super) fn operations(&self, groups: &BTreeSet<GroupId>) -> usize {
        groups.iter().map(|group| self.operations[group.0 as usize]).sum()
    }

    /// What reverting the group loses, in the unit the search saves: operations, or latency.
    pub(super) fn weight(&self, group: GroupId) -> f64 {
        let index = group.0 as usize;
        if self.by_latency { self.float[index] - self.int8[index] } else { self.operations[index] as f64 }
    }

    /// The same for a set.
    pub(super) fn weights(&self, groups: &BTreeSet<GroupId>) -> f64 {
        groups.iter().map(|group| self.weight(*group)).sum()
    }

    /// Latency a reverted group loses.
    pub(super) fn lost(&self, group: GroupId) -> f64 {
        self.float[group.0 as usize] - self.int8[group.0 as usize]
    }

    /// Estimated latency with these groups reverted, as a share of all in float; 1 where nothing takes any time.
    pub(super) fn latency(&self, reverted: &BTreeSet<GroupId>) -> f64 {
        let (mut total, mut float) = (0.0, 0.0);
        for index in 0..self.float.len() {
            let is_float = reverted.contains(&GroupId(index as u32));
            total += if is_float { self.float[index] } else { self.int8[index] };
            float += self.float[index];
        }
        if float > 0.0 { total / float } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Latency;

    fn scheme() -> Scheme {
        let group = |name: &str, macs| QuantizerGroup {
            name: name.to_owned(),
            quantizers: Vec::new(),
            operations: vec![name.to_owned()],
            macs,
        };
        Scheme { groups: vec![group("a", 100), group("b", 300), group("c", 0)], ..Scheme::default() }
    }

    #[test]
    fn without_a_table_latency_is_multiplications() {
        let costs = Costs::new(&scheme(), &SearchParameters { cost_aware: true, ..Default::default() });
        assert_eq!(costs.weight(GroupId(1)), 3.0 * costs.weight(GroupId(0)));
        assert_eq!(costs.latency(&BTreeSet::new()), 1.0 / FLOAT_SHARE);
        assert_eq!(costs.latency(&[0, 1, 2].map(GroupId).into()), 1.0);
        let plain = Costs::new(&scheme(), &SearchParameters::default());
        assert_eq!((plain.weight(GroupId(0)), plain.weight(GroupId(2))), (1.0, 1.0));
    }

    #[test]
    fn a_table_counts_before_multiplications_and_gives_them_its_unit() {
        let latencies = [("a".to_owned(), Latency { int8: 30.0, float: 45.0 })].into();
        let costs = Costs::new(&scheme(), &SearchParameters { cost_aware: true, latencies, ..Default::default() });
        assert_eq!(costs.weight(GroupId(0)), 15.0);
        assert_eq!((costs.int8[1], costs.float[1]), (30.0, 135.0));
    }
}
