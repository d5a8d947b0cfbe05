//! Tiles and tasks, to the wire and back.

use super::{WireError, bounded, digest, lease_in, lease_out};
use crate::message::{Task, Tile};
use crate::{TILE_CANDIDATES_MAX, TILE_SAMPLES_MAX, wire};
use holdfast_common::evaluation::{Candidate, SampleIndex, Want};
use holdfast_common::scheme::GroupId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most groups a candidate may have reverted.
const REVERTED_MAX: usize = 1 << 20;

pub(super) fn samples_in(samples: Vec<u32>) -> Result<Vec<SampleIndex>, WireError> {
    bounded("samples", samples.len(), TILE_SAMPLES_MAX)?;
    if samples.is_empty() {
        return Err(WireError::Empty("samples"));
    }
    if !samples.is_sorted_by(|a, b| a < b) && samples.iter().collect::<BTreeSet<_>>().len() < samples.len() {
        return Err(WireError::Disorder("samples"));
    }
    Ok(samples.into_iter().map(SampleIndex).collect())
}

fn candidate_in(candidate: wire::Candidate) -> Result<Candidate, WireError> {
    bounded("reverted groups", candidate.reverted.len(), REVERTED_MAX)?;
    if !candidate.reverted.is_sorted_by(|a, b| a < b) {
        return Err(WireError::Disorder("reverted groups"));
    }
    let scheme = candidate.scheme.map(|scheme| digest("scheme", &scheme)).transpose()?;
    if scheme.is_none() && !candidate.reverted.is_empty() {
        return Err(WireError::Missing("scheme of a candidate with reverted groups"));
    }
    Ok(Candidate { scheme, reverted: candidate.reverted.into_iter().map(GroupId).collect() })
}

fn candidate_out(candidate: &Candidate) -> wire::Candidate {
    wire::Candidate {
        scheme: candidate.scheme.map(|digest| digest.0.to_vec()),
        reverted: candidate.reverted.iter().map(|group| group.0).collect(),
    }
}

fn want_in(want: Option<wire::Want>) -> Result<Want, WireError> {
    match want.and_then(|want| want.want).ok_or(WireError::Missing("want"))? {
        wire::want::Want::Contributions(_) => Ok(Want::Contributions),
        wire::want::Want::Predictions(_) => Ok(Want::Predictions),
        wire::want::Want::Distance(_) => Ok(Want::Distance),
        wire::want::Want::Statistics(bytes) => Ok(Want::Statistics(digest("statistics", &bytes)?)),
    }
}

fn want_out(want: &Want) -> wire::Want {
    let want = match want {
        Want::Predictions => wire::want::Want::Predictions(wire::Predictions {}),
        Want::Distance => wire::want::Want::Distance(wire::Distance {}),
        Want::Contributions => wire::want::Want::Contributions(wire::Contributions {}),
        Want::Statistics(digest) => wire::want::Want::Statistics(digest.0.to_vec()),
    };
    wire::Want { want: Some(want) }
}

impl TryFrom<wire::Tile> for Tile {
    type Error = WireError;

    fn try_from(tile: wire::Tile) -> Result<Tile, WireError> {
        bounded("candidates", tile.candidates.len(), TILE_CANDIDATES_MAX)?;
        if tile.candidates.is_empty() {
            return Err(WireError::Empty("candidates"));
        }
        Ok(Tile {
            workload: digest("workload", &tile.workload)?,
            want: want_in(tile.want)?,
            candidates: tile.candidates.into_iter().map(candidate_in).collect::<Result<_, _>>()?,
            samples: samples_in(tile.samples)?,
        })
    }
}

impl From<&Tile> for wire::Tile {
    fn from(tile: &Tile) -> wire::Tile {
        wire::Tile {
            workload: tile.workload.0.to_vec(),
            want: Some(want_out(&tile.want)),
            candidates: tile.candidates.iter().map(candidate_out).collect(),
            samples: tile.samples.iter().map(|sample| sample.0).collect(),
        }
    }
}

impl TryFrom<wire::Task> for Task {
    type Error = WireError;

    fn try_from(task: wire::Task) -> Result<Task, WireError> {
        let tile = Tile::try_from(task.tile.ok_or(WireError::Missing("tile"))?)?;
        Ok(Task { lease: lease_in(task.lease)?, attempt: task.attempt, tile: Arc::new(tile) })
    }
}

impl From<&Task> for wire::Task {
    fn from(task: &Task) -> wire::Task {
        wire::Task {
            lease: Some(lease_out(&task.lease)),
            attempt: task.attempt,
            tile: Some(wire::Tile::from(&*task.tile)),
        }
    }
}
