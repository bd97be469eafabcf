//! Each action failed, repeated, lost and late; the program killed after every record.

use proptest::prelude::*;

use super::world::Troubles;
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
                run.trace = format!("{kind:?} at {at}: {:?}", run.world.calls);
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
                let mut name = "";
                let mut left = 60;
                let ending = run.run(|number, action| {
                    if number == at {
                        name = action.kind.name();
                    }
                    if action.kind.name() == name && left > 0 {
                        left -= 1;
                        return Fault::Fail(*kind);
                    }
                    Fault::None
                });
                run.trace = format!("{kind:?} at {at}: {:?}", run.world.calls);
                // Ten minutes are enough for these: the sweep finds what is left.
                run.gave_ports_up = name == "release_ports";
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
                _ if action.kind.mutates() && is_first_try(action) => fault,
                _ => Fault::None,
            });
            run.assert_clean(&ending);
        }
    }
}

/// Every other action, so that each has its second try.
fn is_first_try(action: &Action) -> bool {
    action.key.sequence.is_multiple_of(2)
}

#[test]
fn killed_after_every_record_it_comes_to_the_same_end() {
    for case in CASES {
        for record in 1..=records(*case) {
            for fault in [
                Fault::NeverSent,
                Fault::Halfway,
                Fault::None,
                Fault::Late(LATE),
            ] {
                let mut run = Run::new(*case);
                run.crashes = vec![Crash { record, fault }];
                let ending = run.run(|_, _| Fault::None);
                run.trace = format!("{fault:?} after {record}: {:?}", run.world.calls);
                assert_eq!(ending, Ending::Done, "{case:?}: {}", run.trace);
                run.assert_clean(&ending);
            }
        }
    }
}

#[test]
fn killed_after_every_record_of_a_long_build_it_joins_all_the_same() {
    for case in [Case::Add, Case::ReplaceFenced] {
        let records = {
            let mut run = Run::new(case);
            run.world.troubles.slow_build = true;
            run.run(|_, _| Fault::None);
            run.records
        };
        for record in 1..=records {
            let mut run = Run::new(case);
            run.world.troubles.slow_build = true;
            run.crashes = vec![Crash {
                record,
                fault: Fault::None,
            }];
            let ending = run.run(|_, _| Fault::None);
            run.trace = format!("after {record}: {:?}", run.world.calls);
            assert_eq!(ending, Ending::Done, "{case:?}: {}", run.trace);
            run.assert_clean(&ending);
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

#[test]
fn a_vm_that_is_taken_over_while_its_deletion_is_in_doubt_is_let_go() {
    let mut run = Run::new(Case::RemovePlain);
    let ending = run.run(|number, _| match number {
        0 => Fault::NeverSent,
        _ => Fault::Fail(FailureKind::NotOwned),
    });
    assert!(matches!(ending, Ending::Cancelled(_)), "{ending:?}");
}

#[test]
fn a_node_that_joins_while_its_creation_is_undone_goes_too() {
    let mut run = Run::new(Case::Add);
    // The record after the creation's outcome: it settles.
    run.cancel_at = Some(5);
    let ending = run.run(|number, action| match action.kind {
        ActionKind::CreateServer { .. } => Fault::AnswerLost,
        // Long enough for the VM to come up and join with it.
        ActionKind::DeleteToken if number < 8 => Fault::Fail(FailureKind::Retry { after: None }),
        _ => Fault::None,
    });
    assert!(matches!(ending, Ending::Cancelled(_)), "{ending:?}");
    run.assert_clean(&ending);
}

#[test]
fn called_off_or_killed_between_the_port_and_its_vm_no_port_is_left() {
    for case in [
        Case::Add,
        Case::AddPlain,
        Case::ReplaceFenced,
        Case::ReplaceServing,
    ] {
        for at in 1..20 {
            let mut run = Run::new(case);
            run.cancel_at = Some(at);
            run.crashes = vec![Crash {
                record: at,
                fault: Fault::Halfway,
            }];
            let ending = run.run(|_, action| match action.kind {
                ActionKind::CreateServer { .. } => Fault::Halfway,
                _ => Fault::None,
            });
            run.trace = format!("called off after {at}: {:?}", run.world.calls);
            run.assert_clean(&ending);
        }
    }
}

#[test]
fn the_node_of_a_vm_that_somebody_else_took_over_stays() {
    let mut stayed = 0;
    for case in [Case::Add, Case::ReplaceFenced, Case::ReplaceServing] {
        for at in 1..30 {
            let mut run = Run::new(case);
            run.cancel_at = Some(at);
            let ending = run.run(|_, action| match &action.kind {
                ActionKind::CreateServer { .. } => Fault::AnswerLost,
                ActionKind::DeleteServer { vm } if vm.operation == Some(ID) => {
                    Fault::Fail(FailureKind::NotOwned)
                }
                _ => Fault::None,
            });
            run.trace = format!("called off after {at}: {:?}", run.world.calls);
            run.assert_clean(&ending);
            let node = run.world.nodes.get(&NodeName::new("w-9"));
            stayed += usize::from(node.is_some_and(|node| run.is_anothers(node)));
        }
    }
    assert!(stayed > 0, "no VM that was taken over had joined");
}

#[test]
fn a_creation_that_comes_through_after_the_time_to_settle_leaves_one_vm() {
    for late in [130, 150, 165, 175, 185, 195] {
        for case in [Case::Add, Case::ReplaceFenced, Case::ReplaceServing] {
            let mut run = Run::new(case);
            let mut first = true;
            let ending = run.run(|_, action| match action.kind {
                ActionKind::CreateServer { .. } if std::mem::take(&mut first) => {
                    Fault::Late(Duration::from_secs(late))
                }
                _ => Fault::None,
            });
            assert_eq!(ending, Ending::Done, "{case:?} {late} s late");
            run.assert_clean(&ending);
        }
    }
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        3 => (0..KINDS.len()).prop_map(|kind| Fault::Fail(KINDS[kind])),
        1 => Just(Fault::AnswerLost),
        1 => Just(Fault::NeverSent),
        1 => Just(Fault::Halfway),
        1 => Just(Fault::Late(LATE)),
        1 => Just(Fault::Twice),
    ]
}

fn any_troubles() -> impl Strategy<Value = Troubles> {
    prop_oneof![
        6 => Just(Troubles::default()),
        1 => Just(Troubles { error: true, ..Troubles::default() }),
        1 => Just(Troubles { build_for_ever: true, ..Troubles::default() }),
        1 => Just(Troubles { no_join: true, ..Troubles::default() }),
        1 => Just(Troubles { name_taken: true, ..Troubles::default() }),
        2 => Just(Troubles { lists_lag: true, ..Troubles::default() }),
        1 => Just(Troubles { blocked: true, ..Troubles::default() }),
        1 => Just(Troubles { no_stop: true, ..Troubles::default() }),
        1 => Just(Troubles { needs_hard: true, ..Troubles::default() }),
        1 => (1_u32..4).prop_map(|stuck_deletes| Troubles {
            stuck_deletes,
            ..Troubles::default()
        }),
    ]
}

#[test]
fn called_off_at_a_restart_a_machine_that_never_joined_is_not_left_behind() {
    for at in 1..20 {
        let mut run = Run::new(Case::Add);
        run.world.troubles.no_join = true;
        run.cancel_at = Some(at);
        run.crashes = vec![Crash {
            record: at,
            fault: Fault::None,
        }];
        let ending = run.run(|_, _| Fault::None);
        run.trace = format!("called off and killed after {at}: {:?}", run.world.calls);
        run.assert_clean(&ending);
    }
}

/// Crashes at rising records, the fault being that of the action that was under way.
fn any_crashes() -> impl Strategy<Value = Vec<Crash>> {
    let fault = prop_oneof![
        Just(Fault::None),
        Just(Fault::NeverSent),
        Just(Fault::Halfway),
        Just(Fault::Late(LATE))
    ];
    proptest::collection::vec((1_usize..12, fault), 0..4).prop_map(|gaps| {
        let mut record = 0;
        gaps.into_iter()
            .map(|(gap, fault)| {
                record += gap;
                Crash { record, fault }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // The world itself fails the test when two VMs of the operation have joined, or when a
    // VM is touched that is not the operation's.
    #[test]
    fn whatever_fails_nothing_is_left_behind(
        case in (0..CASES.len()).prop_map(|case| CASES[case]),
        troubles in any_troubles(),
        faults in proptest::collection::vec(any_fault(), 0..16),
        crashes in any_crashes(),
        cancel_at in proptest::option::weighted(0.3, 1_usize..30),
    ) {
        let mut run = Run::new(case);
        run.world.troubles = troubles;
        run.crashes = crashes;
        run.cancel_at = cancel_at;
        let ending = run.run(|number, _| faults.get(number).copied().unwrap_or(Fault::None));
        run.trace = format!("{:?}", run.world.calls);
        run.assert_clean(&ending);
    }
}
