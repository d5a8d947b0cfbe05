//! Between the words of the wire and the words of the scheduler.

use holdfast_core::schedule;
use holdfast_proto::message;
use std::sync::Arc;

pub(super) fn worker_id(incarnation: message::Incarnation) -> schedule::WorkerId {
    schedule::WorkerId(incarnation.0)
}

pub(super) fn lease_in(lease: message::Lease) -> schedule::LeaseId {
    schedule::LeaseId { epoch: lease.epoch, task: lease.task, generation: lease.generation }
}

pub(super) fn lease_out(lease: schedule::LeaseId) -> message::Lease {
    message::Lease { epoch: lease.epoch, task: lease.task, generation: lease.generation }
}

pub(super) fn leases_in(leases: Vec<message::Lease>) -> Vec<schedule::LeaseId> {
    leases.into_iter().map(lease_in).collect()
}

pub(super) fn tile_in(tile: Arc<message::Tile>) -> schedule::Tile {
    let message::Tile { workload, want, candidates, samples } = Arc::unwrap_or_clone(tile);
    schedule::Tile { workload, want, candidates, samples }
}

pub(super) fn task_out(task: &schedule::Task) -> message::Task {
    let schedule::Tile { workload, want, candidates, samples } = (*task.tile).clone();
    let tile = Arc::new(message::Tile { workload, want, candidates, samples });
    message::Task { lease: lease_out(task.lease), attempt: task.attempt, tile }
}

pub(super) fn failure_in(failure: message::TaskFailure) -> schedule::Failure {
    use message::TaskFailure;
    let text = failure.to_string();
    match failure {
        TaskFailure::RetryElsewhere { message } => schedule::Failure::RetryElsewhere(message),
        TaskFailure::PoisonSample { sample, message } => schedule::Failure::PoisonSample(sample, message),
        TaskFailure::WorkerBroken { message } => schedule::Failure::WorkerBroken(message),
        TaskFailure::ModelUnsupported { .. } => schedule::Failure::ModelUnsupported(text),
        TaskFailure::ArtifactMissing { .. } => schedule::Failure::RetryElsewhere(text),
    }
}
