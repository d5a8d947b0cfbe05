//! From what became of a task to whether it is tried again.

use super::{ATTEMPTS_MAX, Failure, POISON_ATTEMPTS_MAX};

/// How often a task was lost or failed, and why last.
#[derive(Clone, Debug, Default)]
pub(super) struct Setbacks {
    losses: u32,
    poisonings: u32,
    reasons: Vec<String>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give it to another worker if there is one.
    Retry,
    /// Whatever asked for it fails with this message.
    Fail(String),
}

impl Setbacks {
    /// The lease was lost: its worker fell silent, left or forgot it.
    pub(super) fn lost(&mut self, worker: &str, how: &str) -> Verdict {
        self.losses += 1;
        self.reasons.push(format!("{worker}: {how}"));
        self.verdict_on_losses()
    }

    /// The worker said that it did not compute the task.
    pub(super) fn failed(&mut self, worker: &str, failure: &Failure) -> Verdict {
        match failure {
            Failure::RetryElsewhere(message) => self.lost(worker, message),
            Failure::WorkerBroken(message) => self.lost(worker, &format!("worker is broken: {message}")),
            Failure::PoisonSample(sample, message) => {
                self.poisonings += 1;
                if self.poisonings >= POISON_ATTEMPTS_MAX {
                    let sample = sample.0;
                    return Verdict::Fail(format!(
                        "sample {sample} cannot be evaluated (tried {} times, last on {worker}): {message}; repair the \
                         sample or remove it from the data set",
                        self.poisonings
                    ));
                }
                Verdict::Retry
            }
            Failure::ModelUnsupported(message) => Verdict::Fail(format!("{message} (said by worker {worker})")),
        }
    }

    fn verdict_on_losses(&self) -> Verdict {
        if self.losses < ATTEMPTS_MAX {
            return Verdict::Retry;
        }
        Verdict::Fail(format!(
            "given up after {} attempts ({}); see the workers' logs",
            self.losses,
            self.reasons.join("; ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::evaluation::SampleIndex;

    #[test]
    fn a_task_is_given_up_after_the_last_allowed_loss_and_all_reasons_are_told() {
        let mut setbacks = Setbacks::default();
        for attempt in 1..ATTEMPTS_MAX {
            assert_eq!(setbacks.lost(&format!("w{attempt}"), "lease expired"), Verdict::Retry);
        }
        let Verdict::Fail(message) = setbacks.lost("last", "out of memory") else { panic!("must give up") };
        assert!(message.contains("w1: lease expired") && message.contains("last: out of memory"), "{message}");
    }

    #[test]
    fn a_poison_sample_is_tried_twice_and_then_named() {
        let mut setbacks = Setbacks::default();
        let failure = Failure::PoisonSample(SampleIndex(17), "truncated JPEG".into());
        assert_eq!(setbacks.failed("a", &failure), Verdict::Retry);
        let Verdict::Fail(message) = setbacks.failed("b", &failure) else { panic!("must give up") };
        assert!(message.contains("sample 17") && message.contains("truncated JPEG"), "{message}");
    }

    #[test]
    fn an_unsupported_model_is_not_tried_again() {
        let verdict = Setbacks::default().failed("a", &Failure::ModelUnsupported("no operator `Foo`".into()));
        assert!(matches!(verdict, Verdict::Fail(message) if message.contains("Foo")));
    }
}
