//! Each action failed, repeated, lost and late; the program killed after every record.

use super::*;
use crate::action::FailureKind;

const KINDS: &[FailureKind] = &[
    FailureKind::Retry { after: None },
    FailureKind::Retry {
        after: Some(Duration::from_secs(45)),
    },
    FailureKind::Unknown,
    FailureKind::Refused,
    FailureKind::NoCapacity,
    FailureKind::NotFound,
    FailureKind::NotOwned,
    FailureKind::Gate,
    FailureKind::NeedsToken,
    FailureKind::Blocked,
    FailureKind::TimedOut,
];

/// Shorter than the time to settle, as the late creations were that were measured.
const LATE: Duration = Duration::from_secs(90);

/// The number of calls of the case when nothing fails.
fn calls(case: Case) -> usize {
    let mut run = Run::new(case);
    run.run(|_, _| Fault::None);
    run.world.calls.len()
}

/// The number of records of the case when nothing fails.
fn records(case: Case) -> usize {
    let mut run = Run::new(case);
    run.run(|_, _| Fault::None);
    run.records
}

#[test]
fn each_action_failed_once_in_turn_at_each_kind_leaves_nothing_behind() {
    for case in CASES {
        for at in 0..calls(*case) {
            for kind in KINDS {
                let mut run = Run::new(*case);
                let ending = run.run(|number, _| match number == at {
                    true => Fault::Fail(*kind),
                    false => Fault::None,
                });
                run.assert_clean(&ending);
            }
        }
    }
}

#[test]
fn each_action_failed_for_an_hour_in_turn_at_each_kind_leaves_nothing_behind() {
    for case in CASES {
        for at in 0..calls(*case) {
            for kind in KINDS {
                let mut run = Run::new(*case);
                let mut since = None;
                let mut name = "";
                let began = run.world.clock;
                let _ = began;
                let mut tries = 0;
                let ending = run.run(|number, action| {
                    if number == at {
                        since = Some(number);
                        name = action.kind.name();
                    }
                    if since.is_some() && action.kind.name() == name && tries < 60 {
                        tries += 1;
                        return Fault::Fail(*kind);
                    }
                    Fault::None
                });
                run.assert_clean(&ending);
            }
        }
    }
}

#[test]
fn each_action_done_twice_is_done_once() {
    for case in CASES {
        for fault in [Fault::Twice, Fault::AnswerLost, Fault::NeverSent] {
            for at in 0..calls(*case) {
                let mut run = Run::new(*case);
                let ending = run.run(|number, _| match number == at {
                    true => fault,
                    false => Fault::None,
                });
                assert_eq!(ending, Ending::Done, "{case:?} {fault:?} at {at}");
                run.assert_clean(&ending);
            }
            let mut run = Run::new(*case);
            let ending = run.run(|_, action| match fault {
                // A search whose answer is never heard finds nothing, however long.
                Fault::Twice => Fault::Twice,
                _ if action.kind.mutates() && run_is_first(action) => fault,
                _ => Fault::None,
            });
            run.assert_clean(&ending);
        }
    }
}

/// Every other action, so that each has its second try.
fn run_is_first(action: &Action) -> bool {
    action.key.sequence % 2 == 0
}

#[test]
fn killed_after_every_record_it_comes_to_the_same_end() {
    for case in CASES {
        for record in 1..=records(*case) {
            for fault in [Fault::NeverSent, Fault::None, Fault::Late(LATE)] {
                let mut run = Run::new(*case);
                run.crashes = vec![Crash { record, fault }];
                let ending = run.run(|_, _| Fault::None);
                assert_eq!(ending, Ending::Done, "{case:?} {fault:?} after {record}");
                run.assert_clean(&ending);
            }
        }
    }
}

#[test]
fn called_off_at_every_record_it_undoes_what_can_be_undone() {
    for case in CASES {
        for record in 1..=records(*case) {
            let mut run = Run::new(*case);
            run.cancel_at = Some(record);
            let ending = run.run(|_, _| Fault::None);
            assert!(
                matches!(ending, Ending::Done | Ending::Cancelled(_)),
                "{case:?} after {record}: {ending:?}"
            );
            run.assert_clean(&ending);
        }
    }
}
