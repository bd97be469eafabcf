//! The invariants of a course of steps, by their numbers, each over the ledger of the calls.

use super::world::{Entry, Troubles};
use super::*;
use crate::action::FailureKind;
use crate::event::ServerStatus;

/// What can become of one call.
const FAULTS: &[Fault] = &[
    Fault::None,
    Fault::AnswerLost,
    Fault::NeverSent,
    Fault::Late(Duration::from_secs(90)),
    Fault::Fail(FailureKind::Retry { after: None }),
];

/// Runs the case once for each fault of its call number `at`.
fn with_each_fault(case: Case, at: usize, check: impl Fn(&Run, &Ending)) {
    for fault in FAULTS {
        let mut run = Run::new(case);
        let ending = run.run(|number, _| if number == at { *fault } else { Fault::None });
        check(&run, &ending);
    }
}

/// The deletion of the old VM, if it was asked for.
fn deletes_old(run: &Run) -> impl Iterator<Item = &Entry> {
    let old = run.old.as_ref().and_then(|old| old.vm.clone());
    run.world.ledger.iter().filter(move |entry| {
        matches!(&entry.kind, ActionKind::DeleteServer { vm } if Some(&vm.id) == old.as_ref())
    })
}

#[test]
fn i5_a_node_that_serves_is_removed_only_when_its_replacement_is_ready() {
    for case in [Case::ReplaceServing, Case::ReplaceServingPlain] {
        let calls = 8;
        for at in 0..calls {
            with_each_fault(case, at, |run, ending| {
                let deleted: Vec<_> = deletes_old(run).collect();
                assert_eq!(deleted.is_empty(), *ending != Ending::Done, "{case:?}");
                for entry in deleted {
                    if case.kubernetes() {
                        assert!(entry.ready.contains(&NodeName::new("w-9")), "{case:?}");
                    } else {
                        assert_eq!(entry.made, [ServerStatus::Active], "{case:?}");
                    }
                }
            });
        }
    }
    let none = Troubles::default();
    for troubles in [
        Troubles {
            error: true,
            ..none
        },
        Troubles {
            build_for_ever: true,
            ..none
        },
        Troubles {
            no_address: true,
            ..none
        },
        Troubles {
            no_join: true,
            ..none
        },
    ] {
        let mut run = Run::new(Case::ReplaceServing);
        run.world.troubles = troubles;
        let ending = run.run(|_, _| Fault::None);
        assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
        assert_eq!(deletes_old(&run).count(), 0, "{troubles:?}");
        let touched = |call: &String| matches!(call.as_str(), "cordon" | "drain");
        assert!(!run.world.calls.iter().any(touched), "{troubles:?}");
    }
}

#[test]
fn i16_what_takes_over_an_identity_waits_until_the_old_vm_is_confirmed_off() {
    let takes_over = |entry: &&Entry| {
        matches!(
            entry.kind,
            ActionKind::CreateServer { .. }
                | ActionKind::RebuildServer { .. }
                | ActionKind::RebootServer { .. }
                | ActionKind::OutOfService { .. }
                | ActionKind::StartServer { .. }
                | ActionKind::DeleteNode { .. }
        )
    };
    let off = |entry: &Entry| matches!(entry.old, None | Some(ServerStatus::Shutoff));
    let cases = [
        Case::ReplaceFenced,
        Case::ReplaceFencedPlain,
        Case::Rebuild,
        Case::RebuildPlain,
        Case::RebootFenced,
        Case::RebootFencedPlain,
    ];
    for case in cases {
        // The first call is the fence.
        with_each_fault(case, 0, |run, ending| {
            assert_eq!(*ending, Ending::Done, "{case:?}");
            let first = run.world.ledger.iter().find(takes_over);
            assert!(first.is_some_and(off), "{case:?}: {:?}", run.world.calls);
        });
        // A fence that cannot be confirmed is none, whatever the cluster says of the node.
        let mut run = Run::new(case);
        run.world.troubles.no_stop = true;
        let ending = run.run(|_, _| Fault::None);
        assert!(matches!(ending, Ending::Failed(_)), "{case:?}: {ending:?}");
        assert!(
            !run.world.ledger.iter().any(|entry| takes_over(&entry)),
            "{case:?}"
        );
    }
}

/// The case with its old VM, as far as the call number `calls`, and then called off.
fn called_off_after(case: Case, fault: Fault, off_before: bool) -> (Run, Ending) {
    let mut run = Run::new(case);
    let vm = run.old.as_ref().and_then(|old| old.vm.clone()).unwrap();
    if off_before {
        run.world.switch_off(&vm);
        for machine in [&mut run.operation.old, &mut run.old] {
            machine.as_mut().unwrap().off = true;
        }
    }
    // The records: the intent of the stop, then its outcome.
    run.cancel_at = Some(2);
    let ending = run.run(|number, _| if number == 0 { fault } else { Fault::None });
    (run, ending)
}

#[test]
fn what_we_stopped_is_started_again_and_what_others_stopped_is_not() {
    let late = Fault::Late(Duration::from_secs(90));
    let cases = [
        Case::RebootFenced,
        Case::RebootFencedPlain,
        Case::Rebuild,
        Case::RebuildPlain,
        Case::ReplaceFenced,
        Case::ReplaceFencedPlain,
    ];
    for case in cases {
        // Rows: what becomes of the stop, whether the VM was off before, whether it is started.
        for (fault, off_before, started) in [
            (Fault::None, false, true),
            (Fault::AnswerLost, false, true),
            (late, false, true),
            (Fault::NeverSent, false, false),
            (Fault::None, true, false),
            (Fault::AnswerLost, true, false),
        ] {
            let (run, ending) = called_off_after(case, fault, off_before);
            let what = format!("{case:?} {fault:?}, off before: {off_before}");
            assert!(matches!(ending, Ending::Cancelled(_)), "{what}: {ending:?}");
            let starts = |call: &String| call == "start_server";
            let calls = &run.world.calls;
            assert_eq!(calls.iter().any(starts), started, "{what}: {calls:?}");
            let vm = run.old.as_ref().and_then(|old| old.vm.as_ref()).unwrap();
            let wanted = match off_before {
                true => ServerStatus::Shutoff,
                false => ServerStatus::Active,
            };
            assert_eq!(run.world.status_of(vm), Some((wanted, false)), "{what}");
        }
    }
}

#[test]
fn i16_where_the_replacement_stays_the_old_vm_stays_off() {
    let mut run = Run::new(Case::ReplaceFenced);
    let ending = run.run(|_, action| match action.kind {
        // After the join nothing takes a node that serves away.
        ActionKind::LabelNode { .. } => Fault::Fail(FailureKind::Refused),
        _ => Fault::None,
    });
    assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
    let vm = run.old.as_ref().and_then(|old| old.vm.as_ref()).unwrap();
    assert_eq!(
        run.world.status_of(vm),
        Some((ServerStatus::Shutoff, false))
    );
    assert_eq!(run.world.made_vms().len(), 1);
    run.assert_clean(&ending);
}

#[test]
fn i24_a_drain_that_does_not_end_calls_a_removal_off_and_holds_up_no_fenced_node() {
    // Rows: what becomes of the drain, the calls, whether the node is removed.
    let rows = [
        (
            Fault::Fail(FailureKind::Blocked),
            "cordon drain uncordon",
            false,
        ),
        (
            Fault::Fail(FailureKind::TimedOut),
            "cordon drain uncordon",
            false,
        ),
        // 429: asked again, as long as the drain's own time lasts.
        (
            Fault::Fail(FailureKind::Retry { after: None }),
            "cordon drain drain delete_server delete_node release_ports",
            true,
        ),
    ];
    for (fault, calls, removed) in rows {
        let mut run = Run::new(Case::Remove);
        let ending = run.run(|number, _| if number == 1 { fault } else { Fault::None });
        assert_eq!(run.world.calls.join(" "), calls, "{fault:?}");
        assert_eq!(ending == Ending::Done, removed, "{fault:?}: {ending:?}");
        run.assert_clean(&ending);
    }
    let mut run = Run::new(Case::ReplaceFenced);
    run.world.troubles.blocked = true;
    assert_eq!(run.run(|_, _| Fault::None), Ending::Done);
    assert!(!run.world.calls.iter().any(|call| call == "drain"));
}

/// What is seen of the old machine, and nothing else.
struct Look {
    server: Sight<crate::cluster::Server>,
    lease: Option<Now>,
}

impl Seen for Look {
    fn server(&self, _: &VmId) -> Sight<crate::cluster::Server> {
        self.server.clone()
    }

    fn node(&self, _: &NodeName) -> Sight<crate::cluster::Node> {
        Sight::Unknown
    }

    fn heard(&self, _: &NodeName) -> Option<Now> {
        None
    }

    fn lease(&self, _: &NodeName) -> Option<Monotonic> {
        self.lease.map(|seen| seen.mono)
    }
}

#[test]
fn i26_a_node_is_deleted_only_when_its_vm_is_gone_and_its_lease_is_not_renewed() {
    for case in [Case::Remove, Case::ReplaceFenced, Case::ReplaceServing] {
        for at in 0..8 {
            with_each_fault(case, at, |run, _| {
                let deletes = |entry: &&Entry| {
                    matches!(&entry.kind, ActionKind::DeleteNode { node }
                        if Some(&node.name) == run.old.as_ref().map(|old| &old.node))
                };
                for entry in run.world.ledger.iter().filter(deletes) {
                    assert_eq!(entry.old, None, "{case:?}: {:?}", run.world.calls);
                }
            });
        }
    }
    // The deletion was accepted a minute ago; a list that was asked for just now lacks the VM.
    let mut run = Run::new(Case::Remove);
    let vm = run.old.as_ref().and_then(|old| old.vm.clone()).unwrap();
    let there = run.world.server(&vm);
    run.operation.step = Step::WaitGone;
    run.operation.committed = true;
    run.world.tick(Duration::from_secs(60));
    let now = run.world.now();
    let ago = |seconds| Now {
        wall: now.wall.minus(Duration::from_secs(seconds)),
        mono: Monotonic(now.mono.0 - seconds * 1000),
    };
    let gone = || Sight::Gone { asked: now };
    // Rows: the VM, how long ago its lease was renewed, whether its Node may go.
    let rows = [
        (gone(), None, true),
        (gone(), Some(41), true),
        (gone(), Some(39), false),
        (gone(), Some(0), false),
        (Sight::Gone { asked: ago(90) }, None, false),
        (Sight::Unknown, None, false),
        (there, None, false),
    ];
    for (server, lease, may_go) in rows {
        let what = format!("{server:?}, lease {lease:?}");
        let look = Look {
            server,
            lease: lease.map(ago),
        };
        let next = advance(&run.operation, &look, &run.context());
        let goes = matches!(&next, Next::Move(moved) if moved.step == Step::DeleteNode);
        assert_eq!(goes, may_go, "{what}: {next:?}");
    }
}
