//! What workers say, to the wire and back.

use super::parts::{columns_in, columns_out};
use super::{WireError, digest, lease_in, lease_out, leases_in, text_in, text_out};
use crate::message::{Hello, Incarnation, Isa, Lease, TaskFailure, TaskResult, Tile, WorkerMessage};
use crate::wire;
use crate::wire::task_failure::Failure;
use crate::wire::worker_message::Message;
use holdfast_common::evaluation::SampleIndex;
use std::sync::Arc;

fn isa_in(value: i32) -> Result<Isa, WireError> {
    match wire::Isa::try_from(value) {
        Ok(wire::Isa::Scalar) => Ok(Isa::Scalar),
        Ok(wire::Isa::Avx2) => Ok(Isa::Avx2),
        Ok(wire::Isa::Avx512Vnni) => Ok(Isa::Avx512Vnni),
        Ok(wire::Isa::Neon) => Ok(Isa::Neon),
        Ok(wire::Isa::NeonDotprod) => Ok(Isa::NeonDotprod),
        Ok(wire::Isa::Unspecified) | Err(_) => Err(WireError::Enumeration { field: "isa", value }),
    }
}

fn isa_out(isa: Isa) -> wire::Isa {
    match isa {
        Isa::Scalar => wire::Isa::Scalar,
        Isa::Avx2 => wire::Isa::Avx2,
        Isa::Avx512Vnni => wire::Isa::Avx512Vnni,
        Isa::Neon => wire::Isa::Neon,
        Isa::NeonDotprod => wire::Isa::NeonDotprod,
    }
}

fn hello_in(hello: wire::Hello) -> Result<Hello, WireError> {
    let count = hello.incarnation.len();
    let incarnation: [u8; 16] = hello.incarnation.as_slice().try_into().map_err(|_| WireError::Count {
        field: "bytes of the incarnation",
        count,
        expected: 16,
    })?;
    if incarnation == [0; 16] {
        return Err(WireError::Empty("incarnation"));
    }
    Ok(Hello {
        protocol: hello.protocol,
        engine_semantics: hello.engine_semantics,
        build: text_in("build", hello.build)?,
        incarnation: Incarnation(u128::from_be_bytes(incarnation)),
        name: text_in("name", hello.name)?,
        isa: isa_in(hello.isa)?,
        cores: hello.cores,
        memory_bytes: hello.memory_bytes,
        held: leases_in("held", hello.held)?,
        unacked: leases_in("unacked", hello.unacked)?,
        credits: hello.credits,
    })
}

fn hello_out(hello: &Hello) -> wire::Hello {
    wire::Hello {
        protocol: hello.protocol,
        engine_semantics: hello.engine_semantics,
        build: text_out(&hello.build),
        incarnation: hello.incarnation.0.to_be_bytes().to_vec(),
        name: text_out(&hello.name),
        isa: isa_out(hello.isa).into(),
        cores: hello.cores,
        memory_bytes: hello.memory_bytes,
        held: hello.held.iter().map(lease_out).collect(),
        unacked: hello.unacked.iter().map(lease_out).collect(),
        credits: hello.credits,
    }
}

fn result_in(result: wire::TaskResult) -> Result<TaskResult, WireError> {
    let tile = Tile::try_from(result.tile.ok_or(WireError::Missing("tile"))?)?;
    let (count, expected) = (result.candidates.len(), tile.candidates.len());
    if count != expected {
        return Err(WireError::Count { field: "candidates", count, expected });
    }
    let samples = tile.samples.len();
    let results =
        result.candidates.into_iter().map(|columns| columns_in(columns, samples)).collect::<Result<Vec<_>, _>>()?;
    Ok(TaskResult {
        lease: lease_in(result.lease)?,
        tile: Arc::new(tile),
        results: Arc::new(results),
        busy_us: result.busy_us,
    })
}

fn result_out(result: &TaskResult) -> wire::TaskResult {
    wire::TaskResult {
        lease: Some(lease_out(&result.lease)),
        tile: Some(wire::Tile::from(&*result.tile)),
        candidates: result.results.iter().map(|results| columns_out(results)).collect(),
        busy_us: result.busy_us,
    }
}

fn failure_in(failure: wire::TaskFailure) -> Result<(Lease, TaskFailure), WireError> {
    let lease = lease_in(failure.lease)?;
    let text = |message| text_in("failure message", message);
    let failure = match failure.failure.ok_or(WireError::Missing("failure"))? {
        Failure::RetryElsewhere(failure) => TaskFailure::RetryElsewhere { message: text(failure.message)? },
        Failure::PoisonSample(failure) => {
            TaskFailure::PoisonSample { sample: SampleIndex(failure.sample), message: text(failure.message)? }
        }
        Failure::WorkerBroken(failure) => TaskFailure::WorkerBroken { message: text(failure.message)? },
        Failure::ModelUnsupported(failure) => TaskFailure::ModelUnsupported { message: text(failure.message)? },
        Failure::ArtifactMissing(failure) => TaskFailure::ArtifactMissing {
            digest: digest("artifact", &failure.digest)?,
            message: text(failure.message)?,
        },
    };
    Ok((lease, failure))
}

fn failure_out(lease: &Lease, failure: &TaskFailure) -> wire::TaskFailure {
    let failure = match failure {
        TaskFailure::RetryElsewhere { message } => {
            Failure::RetryElsewhere(wire::RetryElsewhere { message: text_out(message) })
        }
        TaskFailure::PoisonSample { sample, message } => {
            Failure::PoisonSample(wire::PoisonSample { sample: sample.0, message: text_out(message) })
        }
        TaskFailure::WorkerBroken { message } => {
            Failure::WorkerBroken(wire::WorkerBroken { message: text_out(message) })
        }
        TaskFailure::ModelUnsupported { message } => {
            Failure::ModelUnsupported(wire::ModelUnsupported { message: text_out(message) })
        }
        TaskFailure::ArtifactMissing { digest, message } => {
            Failure::ArtifactMissing(wire::ArtifactMissing { digest: digest.0.to_vec(), message: text_out(message) })
        }
    };
    wire::TaskFailure { lease: Some(lease_out(lease)), failure: Some(failure) }
}

impl TryFrom<wire::WorkerMessage> for WorkerMessage {
    type Error = WireError;

    fn try_from(message: wire::WorkerMessage) -> Result<WorkerMessage, WireError> {
        Ok(match message.message.ok_or(WireError::Missing("message"))? {
            Message::Hello(hello) => WorkerMessage::Hello(hello_in(hello)?),
            Message::Credit(credit) => WorkerMessage::Credit(credit.limit),
            Message::Result(result) => WorkerMessage::Result(result_in(result)?),
            Message::Failure(failure) => {
                let (lease, failure) = failure_in(failure)?;
                WorkerMessage::Failure(lease, failure)
            }
            Message::Heartbeat(beat) => WorkerMessage::Heartbeat(leases_in("held", beat.held)?),
            Message::Bye(bye) => WorkerMessage::Bye(text_in("reason", bye.reason)?),
        })
    }
}

impl From<&WorkerMessage> for wire::WorkerMessage {
    fn from(message: &WorkerMessage) -> wire::WorkerMessage {
        let message = match message {
            WorkerMessage::Hello(hello) => Message::Hello(hello_out(hello)),
            WorkerMessage::Credit(limit) => Message::Credit(wire::Credit { limit: *limit }),
            WorkerMessage::Result(result) => Message::Result(result_out(result)),
            WorkerMessage::Failure(lease, failure) => Message::Failure(failure_out(lease, failure)),
            WorkerMessage::Heartbeat(held) => {
                Message::Heartbeat(wire::Heartbeat { held: held.iter().map(lease_out).collect() })
            }
            WorkerMessage::Bye(reason) => Message::Bye(wire::Bye { reason: text_out(reason) }),
        };
        wire::WorkerMessage { message: Some(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TILE_SAMPLES_MAX;
    use holdfast_common::Digest;
    use holdfast_common::evaluation::{Candidate, SampleResult, Want};
    use holdfast_common::scheme::GroupId;
    use prost::Message as _;

    fn lease() -> Lease {
        Lease { epoch: 3, task: 1 << 40, generation: 2 }
    }

    fn tile() -> Tile {
        Tile {
            workload: Digest::of(b"workload"),
            want: Want::Statistics(Digest::of(b"list")),
            candidates: vec![
                Candidate::baseline(),
                Candidate { scheme: Some(Digest::of(b"scheme")), reverted: vec![GroupId(1), GroupId(7)] },
            ],
            samples: vec![SampleIndex(9), SampleIndex(4)],
        }
    }

    fn messages() -> Vec<WorkerMessage> {
        let row = |value: f64| SampleResult { parts: vec![vec![value], vec![value, 0.1]] };
        let mut messages = vec![
            WorkerMessage::Hello(Hello {
                protocol: 1,
                engine_semantics: 4,
                build: "0.1.0".into(),
                incarnation: Incarnation(77),
                name: "rack 3".into(),
                isa: Isa::NeonDotprod,
                cores: 2,
                memory_bytes: 1 << 33,
                held: vec![lease()],
                unacked: vec![lease(), lease()],
                credits: 2,
            }),
            WorkerMessage::Credit(0),
            WorkerMessage::Result(TaskResult {
                lease: lease(),
                tile: Arc::new(tile()),
                results: Arc::new(vec![vec![row(1.0), row(2.5)], vec![row(-0.0), row(1e300)]]),
                busy_us: 12,
            }),
            WorkerMessage::Result(TaskResult {
                lease: lease(),
                tile: Arc::new(Tile { want: Want::Distance, ..tile() }),
                results: Arc::new(vec![vec![row(0.5), row(0.25)], vec![row(0.0), row(2.0)]]),
                busy_us: 7,
            }),
            WorkerMessage::Heartbeat(vec![lease()]),
            WorkerMessage::Bye("drained".into()),
        ];
        let message = || "why".to_owned();
        for failure in [
            TaskFailure::RetryElsewhere { message: message() },
            TaskFailure::PoisonSample { sample: SampleIndex(5), message: message() },
            TaskFailure::WorkerBroken { message: message() },
            TaskFailure::ModelUnsupported { message: message() },
            TaskFailure::ArtifactMissing { digest: Digest::of(b"blob"), message: message() },
        ] {
            messages.push(WorkerMessage::Failure(lease(), failure));
        }
        messages
    }

    #[test]
    fn every_worker_message_survives_the_wire() {
        for message in messages() {
            let bytes = wire::WorkerMessage::from(&message).encode_to_vec();
            let back = wire::WorkerMessage::decode(bytes.as_slice()).expect("own bytes decode");
            assert_eq!(WorkerMessage::try_from(back), Ok(message));
        }
    }

    #[test]
    fn damaged_worker_messages_are_refused_or_valid_but_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for message in messages() {
            let bytes = wire::WorkerMessage::from(&message).encode_to_vec();
            for _ in 0..2_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut damaged = bytes.clone();
                let place = (state >> 33) as usize % damaged.len();
                damaged[place] ^= (state >> 24) as u8 | 1;
                if let Ok(wire) = wire::WorkerMessage::decode(damaged.as_slice()) {
                    let _ = WorkerMessage::try_from(wire);
                }
            }
        }
    }

    #[test]
    fn an_unset_enumeration_is_refused_at_the_door() {
        let WorkerMessage::Hello(hello) = &messages()[0] else { unreachable!("the first message is the hello") };
        let mut wire = hello_out(hello);
        wire.isa = 0;
        assert_eq!(hello_in(wire.clone()), Err(WireError::Enumeration { field: "isa", value: 0 }));
        wire.isa = 99;
        assert_eq!(hello_in(wire), Err(WireError::Enumeration { field: "isa", value: 99 }));
    }

    #[test]
    fn tiles_that_break_the_rules_are_refused() {
        let good = wire::Tile::from(&tile());
        assert!(Tile::try_from(good.clone()).is_ok());
        let refused = |change: fn(&mut wire::Tile)| {
            let mut tile = good.clone();
            change(&mut tile);
            Tile::try_from(tile).is_err()
        };
        assert!(refused(|tile| tile.samples = vec![1, 2, 1]), "a repeated sample");
        assert!(refused(|tile| tile.samples.clear()), "no sample");
        assert!(refused(|tile| tile.samples = (0..=TILE_SAMPLES_MAX as u32).collect()), "too many samples");
        assert!(refused(|tile| tile.candidates.clear()), "no candidate");
        assert!(refused(|tile| tile.candidates[1].reverted = vec![7, 1]), "groups out of order");
        assert!(refused(|tile| tile.candidates[0].reverted = vec![1]), "a float model with reverted groups");
        assert!(refused(|tile| tile.workload.truncate(5)), "a short digest");
        assert!(refused(|tile| tile.want = None), "nothing wanted");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character() {
        let text = "ä".repeat(4000);
        let cut = text_out(&text);
        assert!(cut.len() <= crate::TEXT_BYTES_MAX && text.starts_with(&cut) && cut.len() > 4000);
    }
}
