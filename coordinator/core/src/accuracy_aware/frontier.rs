//! The states worth choosing from: none of them is both slower and further from the limits than another.

use crate::record::FrontierRecord;

/// States that were measured in full, as far as they are not beaten.
#[derive(Clone, Debug, Default)]
pub(super) struct Frontier {
    /// With their violation, fastest first, so that violations fall.
    points: Vec<(FrontierRecord, f64)>,
}

impl Frontier {
    /// Adds a state unless another is as fast and as near to the limits; drops those it beats.
    pub(super) fn add(&mut self, point: FrontierRecord, violation: f64) {
        let beaten = |(other, worse): &(FrontierRecord, f64)| other.latency <= point.latency && *worse <= violation;
        if self.points.iter().any(beaten) {
            return;
        }
        self.points.retain(|(other, worse)| other.latency < point.latency || *worse < violation);
        let place = self.points.partition_point(|(other, _)| other.latency < point.latency);
        self.points.insert(place, (point, violation));
    }

    pub(super) fn into_records(self) -> Vec<FrontierRecord> {
        self.points.into_iter().map(|(point, _)| point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beaten_states_are_left_out() {
        let mut frontier = Frontier::default();
        for (latency, violation) in
            [(0.5, 0.1), (0.3, 0.4), (0.4, 0.4), (0.6, 0.2), (0.5, 0.05), (0.2, 0.9), (0.9, 0.0)]
        {
            let point =
                FrontierRecord { reverted: Vec::new(), operations: 0, latency, values: Vec::new(), drops: Vec::new() };
            frontier.add(point, violation);
        }
        let latencies: Vec<f64> = frontier.into_records().iter().map(|point| point.latency).collect();
        assert_eq!(latencies, [0.2, 0.3, 0.5, 0.9]);
    }
}
