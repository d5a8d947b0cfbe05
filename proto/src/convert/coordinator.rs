//! What the coordinator says, to the wire and back.

use super::{WireError, lease_in, lease_out, text_in, text_out};
use crate::message::{CoordinatorMessage, RejectCode, Task, Welcome};
use crate::wire;
use crate::wire::coordinator_message::Message;

fn code_in(value: i32) -> Result<RejectCode, WireError> {
    match wire::RejectCode::try_from(value) {
        Ok(wire::RejectCode::Protocol) => Ok(RejectCode::Protocol),
        Ok(wire::RejectCode::EngineSemantics) => Ok(RejectCode::EngineSemantics),
        Ok(wire::RejectCode::Malformed) => Ok(RejectCode::Malformed),
        Ok(wire::RejectCode::Full) => Ok(RejectCode::Full),
        Ok(wire::RejectCode::Expelled) => Ok(RejectCode::Expelled),
        Ok(wire::RejectCode::Stopping) => Ok(RejectCode::Stopping),
        Ok(wire::RejectCode::Unspecified) | Err(_) => Err(WireError::Enumeration { field: "code", value }),
    }
}

fn code_out(code: RejectCode) -> wire::RejectCode {
    match code {
        RejectCode::Protocol => wire::RejectCode::Protocol,
        RejectCode::EngineSemantics => wire::RejectCode::EngineSemantics,
        RejectCode::Malformed => wire::RejectCode::Malformed,
        RejectCode::Full => wire::RejectCode::Full,
        RejectCode::Expelled => wire::RejectCode::Expelled,
        RejectCode::Stopping => wire::RejectCode::Stopping,
    }
}

impl TryFrom<wire::CoordinatorMessage> for CoordinatorMessage {
    type Error = WireError;

    fn try_from(message: wire::CoordinatorMessage) -> Result<CoordinatorMessage, WireError> {
        Ok(match message.message.ok_or(WireError::Missing("message"))? {
            Message::Welcome(welcome) => CoordinatorMessage::Welcome(Welcome {
                session: welcome.session,
                epoch: welcome.epoch,
                lease_ms: welcome.lease_ms,
                beat_ms: welcome.beat_ms,
            }),
            Message::Reject(reject) => {
                CoordinatorMessage::Reject(code_in(reject.code)?, text_in("message", reject.message)?)
            }
            Message::Task(task) => CoordinatorMessage::Task(Task::try_from(task)?),
            Message::Ack(ack) => CoordinatorMessage::Ack(lease_in(ack.lease)?),
            Message::Revoke(revoke) => CoordinatorMessage::Revoke(lease_in(revoke.lease)?),
            Message::Drain(drain) => CoordinatorMessage::Drain(text_in("reason", drain.reason)?),
        })
    }
}

impl From<&CoordinatorMessage> for wire::CoordinatorMessage {
    fn from(message: &CoordinatorMessage) -> wire::CoordinatorMessage {
        let message = match message {
            CoordinatorMessage::Welcome(welcome) => Message::Welcome(wire::Welcome {
                session: welcome.session,
                epoch: welcome.epoch,
                lease_ms: welcome.lease_ms,
                beat_ms: welcome.beat_ms,
            }),
            CoordinatorMessage::Reject(code, message) => {
                Message::Reject(wire::Reject { code: code_out(*code).into(), message: text_out(message) })
            }
            CoordinatorMessage::Task(task) => Message::Task(wire::Task::from(task)),
            CoordinatorMessage::Ack(lease) => Message::Ack(wire::Ack { lease: Some(lease_out(lease)) }),
            CoordinatorMessage::Revoke(lease) => Message::Revoke(wire::Revoke { lease: Some(lease_out(lease)) }),
            CoordinatorMessage::Drain(reason) => Message::Drain(wire::Drain { reason: text_out(reason) }),
        };
        wire::CoordinatorMessage { message: Some(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lease, Tile};
    use holdfast_common::Digest;
    use holdfast_common::evaluation::{Candidate, SampleIndex, Want};
    use prost::Message as _;
    use std::sync::Arc;

    #[test]
    fn every_coordinator_message_survives_the_wire() {
        let lease = Lease { epoch: 1, task: 2, generation: 3 };
        let tile = Tile {
            workload: Digest::of(b"workload"),
            want: Want::Contributions,
            candidates: vec![Candidate::baseline()],
            samples: vec![SampleIndex(0), SampleIndex(u32::MAX)],
        };
        let codes = [
            RejectCode::Protocol,
            RejectCode::EngineSemantics,
            RejectCode::Malformed,
            RejectCode::Full,
            RejectCode::Expelled,
            RejectCode::Stopping,
        ];
        let mut messages = vec![
            CoordinatorMessage::Welcome(Welcome { session: 1, epoch: 2, lease_ms: 3, beat_ms: 4 }),
            CoordinatorMessage::Task(Task { lease, attempt: 2, tile: Arc::new(tile) }),
            CoordinatorMessage::Ack(lease),
            CoordinatorMessage::Revoke(lease),
            CoordinatorMessage::Drain("done".into()),
        ];
        messages.extend(codes.map(|code| CoordinatorMessage::Reject(code, "why".into())));
        for message in messages {
            let bytes = wire::CoordinatorMessage::from(&message).encode_to_vec();
            let back = wire::CoordinatorMessage::decode(bytes.as_slice()).expect("own bytes decode");
            assert_eq!(CoordinatorMessage::try_from(back), Ok(message));
        }
    }

    #[test]
    fn a_rejection_without_a_code_is_refused() {
        let wire = wire::CoordinatorMessage {
            message: Some(Message::Reject(wire::Reject { code: 0, message: String::new() })),
        };
        assert_eq!(CoordinatorMessage::try_from(wire), Err(WireError::Enumeration { field: "code", value: 0 }),);
    }
}
