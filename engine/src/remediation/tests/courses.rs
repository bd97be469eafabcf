//! The courses when the world does as it should, and when its machines do not.

use super::world::Troubles;
use super::*;
use crate::action::FailureKind;

/// The calls of each case when nothing fails, in their order.
const CALLS: &[(Case, &str)] = &[
    (
        Case::Add,
        "create_token create_server approve_join label_node delete_token",
    ),
    (Case::AddPlain, "create_server"),
    (
        Case::Remove,
        "cordon drain delete_server delete_node release_ports",
    ),
    (Case::RemovePlain, "delete_server release_ports"),
    (Case::Reboot, "reboot_server"),
    (Case::RebootPlain, "reboot_server"),
    (Case::RebootFenced, "stop_server start_server"),
    (Case::RebootFencedPlain, "stop_server start_server"),
    (
        Case::Rebuild,
        "stop_server delete_node create_token rebuild_server start_server approve_join label_node delete_token",
    ),
    (
        Case::RebuildPlain,
        "stop_server rebuild_server start_server",
    ),
    (
        Case::ReplaceFenced,
        "stop_server out_of_service create_token create_server approve_join label_node delete_token delete_server delete_node release_ports",
    ),
    (
        Case::ReplaceFencedPlain,
        "stop_server create_server delete_server release_ports",
    ),
    (
        Case::ReplaceServing,
        "create_token create_server approve_join label_node delete_token cordon drain delete_server delete_node release_ports",
    ),
    (
        Case::ReplaceServingPlain,
        "create_server delete_server release_ports",
    ),
    (Case::SweepVm, "delete_server delete_node release_ports"),
    (Case::SweepVmPlain, "delete_server release_ports"),
    (Case::SweepNode, "delete_node"),
];

#[test]
fn each_course_makes_these_calls_and_no_other() {
    for (case, calls) in CALLS {
        let mut run = Run::new(*case);
        let ending = run.run(|_, _| Fault::None);
        assert_eq!(ending, Ending::Done, "{case:?}");
        assert_eq!(run.world.calls.join(" "), *calls, "{case:?}");
        run.assert_clean(&ending);
    }
    assert_eq!(CALLS.len(), CASES.len());
}

/// How it is told that a VM stays in BUILD.
const BUILD_WITHOUT_END: &str = "failed: BUILD without end: the VM is not ACTIVE after 20m";

/// How it is told that a VM runs and cannot be reached.
const WITHOUT_AN_ADDRESS: &str = "failed: ACTIVE without an address: the VM has none after 20m";

#[test]
fn what_was_made_for_a_vm_that_does_not_come_up_is_undone_whatever_became_of_it() {
    let none = Troubles::default();
    let error = Troubles {
        error: true,
        ..none
    };
    let build = Troubles {
        build_for_ever: true,
        ..none
    };
    let no_address = Troubles {
        no_address: true,
        ..none
    };
    for troubles in [error, build, no_address] {
        for (case, wanted) in [
            (
                Case::Add,
                "create_token create_server delete_token delete_server release_ports",
            ),
            (Case::AddPlain, "create_server delete_server release_ports"),
        ] {
            let mut run = Run::new(case);
            run.world.troubles = troubles;
            let ending = run.run(|_, _| Fault::None);
            // What is asked for on the way, as long as it takes, makes nothing.
            let looks = |call: &&String| !matches!(call.as_str(), "find_server" | "extend_token");
            let mut calls: Vec<_> = run.world.calls.iter().filter(looks).cloned().collect();
            // Asked for until it is gone.
            calls.dedup();
            assert_eq!(calls.join(" "), wanted, "{case:?} {troubles:?}");
            run.assert_clean(&ending);
        }
    }
}

#[test]
fn machines_that_misbehave_lead_to_these_ends() {
    let none = Troubles::default();
    let error = Troubles {
        error: true,
        ..none
    };
    let build = Troubles {
        build_for_ever: true,
        ..none
    };
    let no_address = Troubles {
        no_address: true,
        ..none
    };
    let no_join = Troubles {
        no_join: true,
        ..none
    };
    let lag = Troubles {
        lists_lag: true,
        ..none
    };
    let taken = Troubles {
        name_taken: true,
        ..none
    };
    let blocked = Troubles {
        blocked: true,
        ..none
    };
    let no_stop = Troubles {
        no_stop: true,
        ..none
    };
    let stuck = Troubles {
        stuck_deletes: 3,
        ..none
    };
    let rows = [
        (
            "a VM in ERROR",
            Case::Add,
            error,
            "failed: the VM is in ERROR: No valid host was found. ",
        ),
        ("BUILD for ever", Case::Add, build, BUILD_WITHOUT_END),
        (
            "a plain VM in BUILD for ever",
            Case::AddPlain,
            build,
            BUILD_WITHOUT_END,
        ),
        (
            "a replacement in BUILD for ever",
            Case::ReplaceServing,
            build,
            BUILD_WITHOUT_END,
        ),
        (
            "ACTIVE, and it cannot be reached",
            Case::Add,
            no_address,
            WITHOUT_AN_ADDRESS,
        ),
        (
            "a plain VM that cannot be reached",
            Case::AddPlain,
            no_address,
            WITHOUT_AN_ADDRESS,
        ),
        (
            "it never joins",
            Case::Add,
            no_join,
            "failed: step wait_join took too long",
        ),
        ("lists that lag", Case::Add, lag, "done"),
        ("lists of plain VMs that lag", Case::AddPlain, lag, "done"),
        (
            "lists that lag behind a replacement",
            Case::ReplaceFenced,
            lag,
            "done",
        ),
        (
            "another joins under its name and is Ready",
            Case::Add,
            taken,
            "failed: the node `w-9` runs on another VM",
        ),
        (
            "another joins under a replacement's name and is Ready",
            Case::ReplaceServing,
            taken,
            "failed: the node `w-9` runs on another VM",
        ),
        (
            "a plain VM in ERROR",
            Case::AddPlain,
            error,
            "failed: the VM is in ERROR: No valid host was found. ",
        ),
        (
            "a budget in the way",
            Case::Remove,
            blocked,
            "cancelled: budget `db` allows none",
        ),
        ("deletes that stick", Case::Remove, stuck, "done"),
        (
            "deletes that stick in undo",
            Case::Add,
            Troubles {
                no_join: true,
                ..stuck
            },
            "failed: step wait_join took too long",
        ),
        (
            "a dead host cannot be fenced",
            Case::ReplaceFenced,
            no_stop,
            "failed: step wait_off took too long",
        ),
        (
            "a small pool's dead host is not rebooted without a fence",
            Case::RebootFenced,
            no_stop,
            "failed: step wait_off took too long",
        ),
        (
            "the new one fails",
            Case::ReplaceFenced,
            error,
            "failed: the VM is in ERROR: No valid host was found. ",
        ),
        (
            "the old one cannot be drained",
            Case::ReplaceServing,
            blocked,
            "failed: budget `db` allows none",
        ),
        (
            "a rebuild in ERROR",
            Case::Rebuild,
            error,
            "failed: the VM is in ERROR: No valid host was found. ",
        ),
        (
            "a hard reboot helps",
            Case::Reboot,
            Troubles {
                needs_hard: true,
                ..none
            },
            "done",
        ),
        (
            "no reboot helps",
            Case::Reboot,
            Troubles {
                reboot_useless: true,
                ..none
            },
            "failed: step wait_back_hard took too long",
        ),
    ];
    for (name, case, troubles, wanted) in rows {
        let mut run = Run::new(case);
        run.world.troubles = troubles;
        let ending = run.run(|_, _| Fault::None);
        let text = match &ending {
            Ending::Done => "done".to_owned(),
            Ending::Failed(why) => format!("failed: {why}"),
            Ending::Cancelled(why) => format!("cancelled: {why}"),
            Ending::Dry => "dry".to_owned(),
        };
        assert_eq!(text, wanted, "{name}");
        run.assert_clean(&ending);
    }
}

#[test]
fn what_the_cloud_fails_at_is_told_from_what_the_node_does() {
    let none = Troubles::default();
    let fail = |call: &'static str, kind| (none, call, Some(kind));
    let trouble = |troubles| (troubles, "", None);
    // Rows: the case, what goes wrong, whether that says nothing of the node.
    let rows = [
        (
            Case::ReplaceFenced,
            fail("create_server", FailureKind::NoCapacity),
            true,
        ),
        (
            Case::ReplaceFenced,
            fail("create_server", FailureKind::Retry { after: None }),
            true,
        ),
        (
            Case::ReplaceFenced,
            fail("create_token", FailureKind::Retry { after: None }),
            true,
        ),
        (
            Case::ReplaceFenced,
            fail("create_server", FailureKind::Refused),
            false,
        ),
        (
            Case::ReplaceFenced,
            fail("approve_join", FailureKind::TimedOut),
            false,
        ),
        (
            Case::ReplaceServing,
            fail("drain", FailureKind::TimedOut),
            false,
        ),
        (
            Case::Reboot,
            fail("reboot_server", FailureKind::Retry { after: None }),
            true,
        ),
        (
            Case::Rebuild,
            fail("rebuild_server", FailureKind::NoCapacity),
            true,
        ),
        (
            Case::ReplaceFenced,
            trouble(Troubles {
                error: true,
                ..none
            }),
            true,
        ),
        (
            Case::ReplaceFenced,
            trouble(Troubles {
                build_for_ever: true,
                ..none
            }),
            true,
        ),
        (
            Case::Rebuild,
            trouble(Troubles {
                error: true,
                ..none
            }),
            true,
        ),
        (
            Case::ReplaceFenced,
            trouble(Troubles {
                no_stop: true,
                ..none
            }),
            true,
        ),
        (
            Case::ReplaceFenced,
            trouble(Troubles {
                no_join: true,
                ..none
            }),
            false,
        ),
        (
            Case::Reboot,
            trouble(Troubles {
                reboot_useless: true,
                ..none
            }),
            false,
        ),
    ];
    for (case, (troubles, call, kind), excused) in rows {
        let mut run = Run::new(case);
        run.world.troubles = troubles;
        let ending = run.run(|_, action| match kind {
            Some(kind) if action.kind.name() == call => Fault::Fail(kind),
            _ => Fault::None,
        });
        let what = format!("{case:?} {troubles:?} {call} {kind:?}");
        assert!(matches!(ending, Ending::Failed(_)), "{what}: {ending:?}");
        assert_eq!(run.operation.excused, excused, "{what}");
    }
}

/// A world whose builds take nearly all their time.
fn slow(case: Case) -> Run {
    let mut run = Run::new(case);
    run.world.troubles.slow_build = true;
    run
}

#[test]
fn a_token_is_extended_while_its_vm_builds_and_not_beyond_the_builds_own_time() {
    let extends = |run: &Run| {
        let calls = run.world.calls.iter();
        calls.filter(|call| *call == "extend_token").count()
    };
    for case in [
        Case::Add,
        Case::Rebuild,
        Case::ReplaceFenced,
        Case::ReplaceServing,
    ] {
        let mut run = slow(case);
        assert_eq!(run.run(|_, _| Fault::None), Ending::Done, "{case:?}");
        // Each five minutes, and a rebuilt VM has to be started when twenty are over.
        let times = if case == Case::Rebuild { 4 } else { 3 };
        assert_eq!(extends(&run), times, "{case:?}");
        run.assert_clean(&Ending::Done);

        // One that fails costs nothing: the next comes in its time.
        for kind in [
            FailureKind::Retry { after: None },
            FailureKind::Unknown,
            FailureKind::Refused,
            FailureKind::NotFound,
            FailureKind::Gate,
        ] {
            let mut first = true;
            let mut run = slow(case);
            let ending = run.run(|_, action| match action.kind {
                ActionKind::ExtendToken { .. } if std::mem::take(&mut first) => Fault::Fail(kind),
                _ => Fault::None,
            });
            assert_eq!(ending, Ending::Done, "{case:?} {kind:?}");
            run.assert_clean(&ending);
        }

        // Without any the machine cannot join, which is what they are for.
        let mut run = slow(case);
        let ending = run.run(|_, action| match action.kind {
            ActionKind::ExtendToken { .. } => Fault::Fail(FailureKind::Refused),
            _ => Fault::None,
        });
        let Ending::Failed(why) = &ending else {
            panic!("{case:?}: {ending:?}")
        };
        assert_eq!(why, "step wait_join took too long", "{case:?}");
        run.assert_clean(&ending);
    }
    let mut run = Run::new(Case::Add);
    run.world.troubles.build_for_ever = true;
    let begun = run.world.clock;
    let ending = run.run(|_, _| Fault::None);
    assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
    let took = run.world.clock.since(begun);
    let build = run.pool.build_timeout;
    assert!(took < build + Duration::from_secs(120), "{took:?}");
    assert_eq!(extends(&run), 3);
    run.assert_clean(&ending);
    let mut plain = slow(Case::AddPlain);
    assert_eq!(plain.run(|_, _| Fault::None), Ending::Done);
    assert_eq!(extends(&plain), 0, "it has none");
}
