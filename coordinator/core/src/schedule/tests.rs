//! The scheduler's rules, one at a time.

use super::*;
use holdfast_common::scheme::GroupId;

const A: WorkerId = WorkerId(1);
const B: WorkerId = WorkerId(2);
const JOB: SubmissionId = SubmissionId(7);

struct Bench {
    scheduler: Scheduler,
    now: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Bench {
        Bench { scheduler: Scheduler::new(ScheduleConfig::new(1)), now: 0, effects: Vec::new() }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.effects = self.scheduler.step(Millis(self.now), input);
        self.effects.clone()
    }

    fn join(&mut self, worker: WorkerId, credits: u32) -> Vec<Effect> {
        self.rejoin(worker, credits, vec![], vec![])
    }

    fn rejoin(&mut self, worker: WorkerId, credits: u32, held: Vec<LeaseId>, unacked: Vec<LeaseId>) -> Vec<Effect> {
        self.step(Input::Join { worker, name: format!("w{}", worker.0), credits, held, unacked })
    }

    fn submit(&mut self, submission: SubmissionId, candidates: u32, samples: u32) -> Vec<Effect> {
        let candidate = |group| Candidate { scheme: Some(Digest::of(b"s")), reverted: vec![GroupId(group)] };
        let tile = Tile {
            workload: Digest::of(b"w"),
            want: Want::Contributions,
            candidates: (0..candidates).map(candidate).collect(),
            samples: (0..samples).map(SampleIndex).collect(),
        };
        self.step(Input::Submit { submission, tiles: vec![tile] })
    }

    fn anticipate(&mut self, submission: SubmissionId, groups: &[u32], samples: u32) -> Vec<Effect> {
        let tiles = groups.iter().map(|group| tile_of(*group, samples)).collect();
        self.step(Input::Anticipate { submission, tiles })
    }

    fn answer(&mut self, worker: WorkerId, task: &Task, value: f64) -> Vec<Effect> {
        let row = vec![SampleResult { parts: vec![vec![value]] }; task.tile.samples.len()];
        let results = Arc::new(vec![row; task.tile.candidates.len()]);
        let tile = task.tile.clone();
        self.step(Input::Result { worker, lease: task.lease, tile, results, busy_us: 1_000_000 })
    }

    fn commit(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let commits: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Commit { commit, .. } => Some(*commit),
                _ => None,
            })
            .collect();
        commits.into_iter().flat_map(|commit| self.step(Input::Committed { commit })).collect()
    }

    fn fail(&mut self, worker: WorkerId, task: &Task, failure: Failure) -> Vec<Effect> {
        self.step(Input::Failure { worker, lease: task.lease, failure })
    }
}

/// One candidate on the first so many samples.
fn tile_of(group: u32, samples: u32) -> Tile {
    Tile {
        workload: Digest::of(b"w"),
        want: Want::Contributions,
        candidates: vec![Candidate { scheme: Some(Digest::of(b"s")), reverted: vec![GroupId(group)] }],
        samples: (0..samples).map(SampleIndex).collect(),
    }
}

fn revoked(effects: &[Effect]) -> Vec<(WorkerId, LeaseId)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Revoke { worker, lease } => Some((*worker, *lease)),
            _ => None,
        })
        .collect()
}

fn sent(effects: &[Effect]) -> Vec<(WorkerId, Task)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { worker, task } => Some((*worker, task.clone())),
            _ => None,
        })
        .collect()
}

fn failure(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Failed { message, .. } => Some(message.as_str()),
        _ => None,
    })
}

#[test]
fn an_ack_follows_the_commit_and_the_end_follows_the_last_ack() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64));
    let [(A, task)] = tasks.as_slice() else { panic!("{tasks:?}") };
    let effects = bench.answer(A, task, 1.0);
    assert!(matches!(effects.as_slice(), [Effect::Commit { submission: Some(JOB), .. }]), "{effects:?}");
    let effects = bench.commit(&effects);
    assert_eq!(effects, [Effect::Ack { worker: A, lease: task.lease }, Effect::Done { submission: JOB }]);
    assert!(!bench.scheduler.has_open());
}

#[test]
fn an_empty_submission_is_done_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(Input::Submit { submission: JOB, tiles: vec![] }), [Effect::Done { submission: JOB }]);
}

#[test]
fn a_worker_gets_no_more_than_its_credits() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    assert_eq!(sent(&bench.submit(JOB, 1, 64 * 10)).len(), 2);
    assert!(sent(&bench.step(Input::Renew { worker: A })).is_empty());
    assert_eq!(sent(&bench.step(Input::Credits { worker: A, limit: 3 })).len(), 1);
}

#[test]
fn a_silent_worker_loses_its_tasks_and_its_late_result_still_counts() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let tasks = sent(&bench.submit(JOB, 1, 64));
    let task = &tasks[0].1;
    bench.now = 14_999;
    assert!(bench.step(Input::Tick).is_empty());
    bench.now = 15_000;
    assert_eq!(bench.scheduler.next_deadline(), Some(Millis(15_000)));
    assert_eq!(bench.step(Input::Tick), [Effect::Lost { worker: A, leases: 1 }]);
    let again = sent(&bench.join(B, 1));
    assert_eq!(again[0].1.tile, task.tile);
    assert_eq!(again[0].1.attempt, 2);
    let effects = bench.answer(A, task, 1.0);
    assert!(effects.contains(&Effect::Revoke { worker: B, lease: again[0].1.lease }), "{effects:?}");
    let effects = bench.commit(&effects);
    assert!(effects.contains(&Effect::Done { submission: JOB }), "{effects:?}");
}

#[test]
fn any_message_renews_a_lease() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.submit(JOB, 1, 64);
    for _ in 0..10 {
        bench.now += 14_000;
        assert!(bench.step(Input::Renew { worker: A }).is_empty());
    }
}

#[test]
fn a_late_duplicate_counts_once_and_a_different_one_ends_the_run() {
    for (value, agrees) in [(1.0, true), (-1.0, false)] {
        let mut bench = Bench::new();
        bench.join(A, 1);
        let first = sent(&bench.submit(JOB, 1, 64 * 2))[0].1.clone();
        bench.now = 20_000;
        bench.step(Input::Tick);
        let second = sent(&bench.join(B, 1))[0].1.clone();
        assert_eq!(first.tile, second.tile);
        let effects = bench.answer(A, &first, 1.0);
        bench.commit(&effects);
        let effects = bench.answer(B, &second, value);
        let commits = effects.iter().any(|effect| matches!(effect, Effect::Commit { .. }));
        assert!(!commits, "counted twice: {effects:?}");
        if agrees {
            assert!(effects.contains(&Effect::Duplicate { worker: B, cells: 64 }), "{effects:?}");
            assert!(effects.contains(&Effect::Ack { worker: B, lease: second.lease }), "{effects:?}");
        } else {
            let named = effects.iter().any(|effect| matches!(effect, Effect::Mismatch { first: A, second: B, .. }));
            assert!(named, "{effects:?}");
            assert!(failure(&effects).is_some_and(|message| message.contains("w2")), "{effects:?}");
            let refused = bench.submit(SubmissionId(8), 1, 1);
            assert!(failure(&refused).is_some(), "nothing runs after a mismatch: {refused:?}");
        }
    }
}

#[test]
fn a_repeated_result_is_acked_again_but_is_no_duplicate() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let task = sent(&bench.submit(JOB, 1, 64 * 2))[0].1.clone();
    let effects = bench.answer(A, &task, 1.0);
    assert!(!bench.answer(A, &task, 1.0).iter().any(|effect| matches!(effect, Effect::Duplicate { .. })));
    let acks = bench.commit(&effects);
    assert_eq!(acks.iter().filter(|effect| matches!(effect, Effect::Ack { .. })).count(), 1);
    let ack = Effect::Ack { worker: A, lease: task.lease };
    assert!(bench.answer(A, &task, 1.0).contains(&ack));
}

#[test]
fn results_of_an_earlier_start_are_kept_though_nobody_waits() {
    let mut bench = Bench::new();
    let lease = LeaseId { epoch: 0, task: 0, generation: 1 };
    bench.rejoin(A, 1, vec![LeaseId { epoch: 0, task: 1, generation: 1 }], vec![lease]);
    let revoke = Effect::Revoke { worker: A, lease: LeaseId { epoch: 0, task: 1, generation: 1 } };
    assert_eq!(bench.effects, [revoke]);
    let task = sent(&bench.submit(JOB, 1, 64))[0].1.clone();
    let old = Task { lease, ..task };
    let effects = bench.answer(A, &old, 1.0);
    assert!(matches!(effects.as_slice(), [Effect::Commit { submission: None, .. }]), "{effects:?}");
    assert_eq!(bench.commit(&effects), [Effect::Ack { worker: A, lease }]);
}

#[test]
fn a_worker_that_comes_back_keeps_what_it_still_holds() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64 * 4));
    bench.step(Input::Disconnected { worker: A });
    bench.now = 9_000;
    let effects = bench.rejoin(A, 2, vec![tasks[0].1.lease], vec![]);
    let again = sent(&effects);
    assert_eq!(again.len(), 1, "one task was forgotten and comes again: {effects:?}");
    assert_eq!(again[0].1.tile, tasks[1].1.tile);
    assert_eq!(again[0].1.attempt, 2);
}

#[test]
fn a_broken_stream_is_a_loss_after_the_time_to_reconnect() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.submit(JOB, 1, 64);
    bench.step(Input::Disconnected { worker: A });
    assert_eq!(bench.scheduler.next_deadline(), Some(Millis(10_000)));
    bench.now = 10_000;
    assert_eq!(bench.step(Input::Tick), [Effect::Lost { worker: A, leases: 1 }]);
}

#[test]
fn a_failed_task_goes_to_another_worker_first() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.join(B, 0);
    let task = sent(&bench.submit(JOB, 1, 64))[0].1.clone();
    bench.step(Input::Credits { worker: B, limit: 1 });
    let effects = bench.fail(A, &task, Failure::RetryElsewhere("disk full".into()));
    assert_eq!(sent(&effects).iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [B]);
}

#[test]
fn attempts_are_bounded_and_the_reasons_are_told() {
    let mut bench = Bench::new();
    let mut tasks = sent(&bench.join(A, 1));
    tasks.extend(sent(&bench.submit(JOB, 1, 64)));
    for attempt in 1..=ATTEMPTS_MAX {
        let (_, task) = tasks.pop().expect("the task is handed out again");
        assert_eq!(task.attempt, attempt);
        let effects = bench.fail(A, &task, Failure::RetryElsewhere("no memory".into()));
        tasks = sent(&effects);
        assert_eq!(failure(&effects).is_some(), attempt == ATTEMPTS_MAX, "{effects:?}");
    }
    assert!(failure(&bench.effects).is_some_and(|message| message.contains("no memory")));
    assert!(!bench.scheduler.has_open());
}

#[test]
fn a_poison_sample_is_named() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let mut task = sent(&bench.submit(JOB, 1, 64))[0].1.clone();
    for _ in 0..POISON_ATTEMPTS_MAX {
        let effects = bench.fail(A, &task, Failure::PoisonSample(SampleIndex(40), "no JPEG".into()));
        if let Some((_, again)) = sent(&effects).pop() {
            task = again;
        }
    }
    assert!(failure(&bench.effects).is_some_and(|message| message.contains("sample 40")), "{:?}", bench.effects);
}

#[test]
fn a_broken_worker_is_expelled_and_its_tasks_go_on() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64 * 2));
    let effects = bench.fail(A, &tasks[0].1, Failure::WorkerBroken("self-test".into()));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Expel { worker: A, .. })), "{effects:?}");
    assert_eq!(sent(&bench.join(B, 2)).len(), 2);
}

#[test]
fn results_for_another_tile_expel_their_worker() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64 * 2));
    let swapped = Task { lease: tasks[0].1.lease, ..tasks[1].1.clone() };
    let effects = bench.answer(A, &swapped, 1.0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Expel { worker: A, .. })), "{effects:?}");
}

#[test]
fn a_straggler_is_duplicated_once_when_nothing_else_waits() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.submit(JOB, 1, 64);
    bench.join(B, 2);
    let due = STRAGGLER_FACTOR * EXPECTED_UNKNOWN_MS;
    assert_eq!(bench.scheduler.next_deadline(), Some(Millis(due)));
    bench.now = due - 1;
    bench.step(Input::Renew { worker: A });
    assert!(sent(&bench.step(Input::Renew { worker: B })).is_empty());
    bench.now = due;
    assert_eq!(sent(&bench.step(Input::Tick)).len(), 1);
    bench.now = due * 2;
    bench.step(Input::Renew { worker: A });
    assert!(sent(&bench.step(Input::Renew { worker: B })).is_empty());
}

#[test]
fn submissions_take_turns() {
    let mut bench = Bench::new();
    bench.submit(SubmissionId(1), 1, 64 * 5);
    bench.submit(SubmissionId(2), 1, 64 * 6);
    let tasks = sent(&bench.join(A, 4));
    let turns: Vec<_> = tasks.iter().map(|(_, task)| bench.scheduler.submission_of(task.lease)).collect();
    assert_eq!(turns, [1, 2, 1, 2].map(|id| Some(SubmissionId(id))));
}

#[test]
fn a_cancelled_submission_is_taken_back() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64 * 5));
    let effects = bench.step(Input::Cancel { submission: JOB });
    let revoked: Vec<_> =
        tasks.iter().map(|(worker, task)| Effect::Revoke { worker: *worker, lease: task.lease }).collect();
    assert_eq!(effects, revoked);
    let effects = bench.answer(A, &tasks[0].1, 1.0);
    assert!(matches!(effects.as_slice(), [Effect::Commit { submission: None, .. }]), "work is not thrown away");
}

#[test]
fn a_thousand_workers_finish_ten_thousand_leaves() {
    let mut bench = Bench::new();
    for worker in 0..1_000 {
        bench.join(WorkerId(worker), 2);
    }
    let mut running: std::collections::VecDeque<_> = sent(&bench.submit(JOB, 1, 64 * 10_000)).into();
    let mut samples = 0;
    while let Some((worker, task)) = running.pop_front() {
        let effects = bench.answer(worker, &task, 1.0);
        running.extend(sent(&effects));
        running.extend(sent(&bench.commit(&effects)));
        samples += task.tile.samples.len();
    }
    assert_eq!(samples, 64 * 10_000);
    assert!(!bench.scheduler.has_open());
}

const AHEAD: SubmissionId = SubmissionId(8);

#[test]
fn work_ahead_goes_to_workers_that_hold_nothing_and_waits_behind_what_is_asked_for() {
    let mut bench = Bench::new();
    bench.join(A, 2);
    bench.join(B, 2);
    let tasks = sent(&bench.submit(JOB, 1, 64));
    let [(A, asked)] = tasks.as_slice() else { panic!("{tasks:?}") };
    let ahead = sent(&bench.anticipate(AHEAD, &[50], 128));
    let [(B, first)] = ahead.as_slice() else { panic!("one task, for the worker that holds nothing: {ahead:?}") };
    assert_eq!(first.tile.candidates, tile_of(50, 1).candidates);
    // A has room for another task, but is not idle; as soon as it is, it helps.
    let effects = bench.answer(A, asked, 1.0);
    assert_eq!(sent(&effects).len(), 1);
    bench.commit(&effects);
    assert!(!bench.scheduler.has_open(), "what is anticipated is not asked for");
}

#[test]
fn asked_for_work_takes_back_what_is_ahead_at_once() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let ahead = sent(&bench.anticipate(AHEAD, &[50], 64));
    let [(A, first)] = ahead.as_slice() else { panic!("{ahead:?}") };
    let effects = bench.submit(JOB, 1, 64);
    assert_eq!(revoked(&effects), [(A, first.lease)]);
    let tasks = sent(&effects);
    let [(A, asked)] = tasks.as_slice() else { panic!("the same step sends what was asked for: {tasks:?}") };
    // It is taken up again when the worker is idle, as often as it takes; being put off is no failure.
    let effects = bench.answer(A, asked, 1.0);
    let again = sent(&effects);
    let [(A, second)] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!((second.lease.task, second.lease.generation), (first.lease.task, first.lease.generation + 1));
}

#[test]
fn a_worker_that_holds_nothing_is_preferred_to_one_with_work_ahead() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.anticipate(AHEAD, &[50], 64);
    bench.join(B, 1);
    let effects = bench.submit(JOB, 1, 64);
    assert!(revoked(&effects).is_empty());
    assert_eq!(sent(&effects).iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [B]);
}

#[test]
fn what_was_begun_ahead_serves_who_asks_for_it() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let ahead = sent(&bench.anticipate(AHEAD, &[0, 50], 64));
    let [(A, begun)] = ahead.as_slice() else { panic!("{ahead:?}") };
    let effects = bench.submit(JOB, 1, 64);
    assert!(effects.is_empty(), "neither taken back nor sent twice: {effects:?}");
    let effects = bench.answer(A, begun, 1.0);
    assert!(matches!(effects[0], Effect::Commit { submission: Some(JOB), .. }), "{effects:?}");
    assert!(bench.commit(&effects).contains(&Effect::Done { submission: JOB }));
}

#[test]
fn promoted_work_is_no_longer_taken_back_and_is_retried() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.anticipate(AHEAD, &[0], 64);
    bench.submit(JOB, 1, 64);
    let effects = bench.step(Input::Submit { submission: SubmissionId(9), tiles: vec![tile_of(60, 64)] });
    assert!(effects.is_empty(), "{effects:?}");
    bench.join(B, 1);
    let effects = bench.step(Input::Leave { worker: A });
    assert!(failure(&effects).is_none());
    let again = sent(&bench.step(Input::Credits { worker: B, limit: 2 }));
    assert!(again.iter().any(|(worker, task)| *worker == B && *task.tile == tile_of(0, 64)), "{again:?}");
}

#[test]
fn what_is_asked_for_is_not_computed_ahead_as_well() {
    let mut bench = Bench::new();
    bench.anticipate(AHEAD, &[0, 50], 64);
    bench.submit(JOB, 1, 32);
    bench.join(A, 2);
    bench.join(B, 2);
    let held: Vec<Tile> = bench.scheduler.tiles().cloned().collect();
    assert_eq!(held, [tile_of(0, 32), tile_of(50, 64)]);
}

#[test]
fn a_new_anticipation_keeps_what_is_still_likely_and_takes_the_rest_back() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    bench.join(B, 1);
    let ahead = sent(&bench.anticipate(AHEAD, &[50, 51], 64));
    let [(A, first), (B, second)] = ahead.as_slice() else { panic!("{ahead:?}") };
    let effects = bench.anticipate(SubmissionId(9), &[52, 51], 64);
    assert_eq!(revoked(&effects), [(A, first.lease)]);
    let new = sent(&effects);
    let [(A, task)] = new.as_slice() else { panic!("{new:?}") };
    assert_eq!(*task.tile, tile_of(52, 64));
    let effects = bench.anticipate(SubmissionId(10), &[], 0);
    assert_eq!(revoked(&effects).len(), 2);
    assert!(revoked(&effects).contains(&(B, second.lease)));
}

#[test]
fn work_ahead_that_fails_fails_nobody() {
    let mut bench = Bench::new();
    bench.join(A, 1);
    let mut tasks = sent(&bench.anticipate(AHEAD, &[50], 64));
    let mut ended = false;
    for _ in 0..ATTEMPTS_MAX {
        let [(A, task)] = tasks.as_slice() else { break };
        let effects = bench.fail(A, &task.clone(), Failure::PoisonSample(SampleIndex(3), "broken".into()));
        ended |= effects.iter().any(|effect| matches!(effect, Effect::Failed { submission: AHEAD, .. }));
        tasks = sent(&effects);
    }
    assert!(ended && tasks.is_empty());
    assert_eq!(sent(&bench.submit(JOB, 1, 64)).len(), 1);
}
