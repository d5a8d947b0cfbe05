//! How long to wait before dialling again: doubling, bounded, with full jitter so that a fleet does not return in step.

use std::time::Duration;
use uuid::Uuid;

/// The bound of the first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The bound of every later pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses between attempts.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    bound: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { bound: FIRST }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(LONGEST);
        // The low 62 bits of a version 7 UUID are random.
        let random = Uuid::now_v7().as_u128() as u32;
        bound.mul_f64(f64::from(random) / f64::from(u32::MAX)).max(FIRST / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded_and_differ() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..50).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().all(|pause| (FIRST / 10..=LONGEST).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().max() > pauses.iter().min());
    }
}
