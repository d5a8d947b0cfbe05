//! A runner without a model: results are a hash of candidate and sample, time is spent waiting. For tests of the cluster.

use super::executor::{StopFlag, TaskOutput, TaskRunner};
use crate::artifact::ArtifactSource;
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex, SampleResult};
use holdfast_proto::message::{Task, TaskFailure};
use std::sync::Arc;
use std::time::Duration;

/// Computes [`SyntheticRunner::result`] of every cell, after a fixed time a cell.
#[derive(Clone, Debug, Default)]
pub struct SyntheticRunner {
    /// Time a sample × candidate pair takes.
    pub cell_time: Duration,
    /// Whether to fetch the workload, as a real runner must.
    pub fetches: bool,
}

impl SyntheticRunner {
    /// What any worker must say about this sample: two parts, one of them not a 32-bit float.
    pub fn result(candidate: &Candidate, sample: SampleIndex) -> SampleResult {
        let mut bytes = candidate.scheme.map_or(Vec::new(), |scheme| scheme.0.to_vec());
        candidate.reverted.iter().for_each(|group| bytes.extend(group.0.to_le_bytes()));
        bytes.extend(sample.0.to_le_bytes());
        let Digest(hash) = Digest::of(&bytes);
        let hit = f64::from(hash[0] % 2);
        let exact = f64::from(u32::from_le_bytes([hash[1], hash[2], hash[3], hash[4]])) / 3.0;
        SampleResult { parts: vec![vec![hit], vec![exact; usize::from(hash[5] % 3)]] }
    }
}

impl TaskRunner for SyntheticRunner {
    fn run(
        &self,
        task: &Task,
        artifacts: &Arc<dyn ArtifactSource>,
        stop: &StopFlag,
    ) -> Result<TaskOutput, TaskFailure> {
        if self.fetches {
            let digest = task.tile.workload;
            artifacts
                .get(&digest)
                .map_err(|error| TaskFailure::ArtifactMissing { digest, message: error.to_string() })?;
        }
        let row = |candidate: &Candidate| {
            task.tile.samples.iter().map(|sample| SyntheticRunner::result(candidate, *sample)).collect()
        };
        for _ in 0..task.tile.cells() {
            if stop.is_set() {
                return Err(TaskFailure::RetryElsewhere { message: "stopped".into() });
            }
            if !self.cell_time.is_zero() {
                std::thread::sleep(self.cell_time);
            }
        }
        Ok(TaskOutput { results: task.tile.candidates.iter().map(row).collect() })
    }
}
