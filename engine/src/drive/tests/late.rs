//! Stops that come through when their operation is over.

use std::time::Duration;

use super::called_off::{a_stop_was_asked_for, asked, cancelled, run_but};
use super::endings;
use crate::action::{ActionKind, ActionResult, Done};
use crate::event::{ServerStatus, Wish};
use crate::lab::{Lab, on_engine_stack};
use crate::names::NodeName;
use crate::remediation::{Ending, Stopped};

/// How long a rung has.
const RUNG: Duration = Duration::from_secs(300);

fn accepted(_: &ActionKind) -> Option<ActionResult> {
    Some(Ok(Done::Accepted))
}

/// A heal was called off, and its stop still waits for the host under the VM when that is over.
fn ended_with_its_stop_on_its_way() -> Lab {
    let mut lab = a_stop_was_asked_for(RUNG, accepted);
    lab.node("w2").task = Some("powering-off");
    run_but(&mut lab, 11, accepted);
    let node = NodeName::new("w2");
    lab.wish(Wish::Protect { node, on: true });
    run_but(&mut lab, 150, accepted);
    assert!(cancelled(&lab, "w2 is protected"), "{:?}", endings(&lab));
    lab
}

#[test]
fn a_stop_that_comes_through_when_its_heal_is_over_is_undone() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            let mut lab = ended_with_its_stop_on_its_way();
            run_but(&mut lab, 3600, accepted);
            if restarts {
                lab.restart();
            }
            assert_eq!(asked(&lab), ["stop_server"], "its host is still away");
            let w2 = lab.node("w2");
            (w2.task, w2.status) = (None, ServerStatus::Shutoff);
            run_but(&mut lab, 12, accepted);
            assert_eq!(asked(&lab), ["stop_server", "start_server"]);
            lab.node("w2").status = ServerStatus::Active;
            run_but(&mut lab, 30, accepted);
            let last = endings(&lab).pop();
            let undone = matches!(&last, Some(Ending::Cancelled(why)) if why.contains("undone"));
            assert!(undone, "{last:?}");
            // Once, and no more.
            lab.node("w2").status = ServerStatus::Shutoff;
            run_but(&mut lab, 300, accepted);
            assert_eq!(asked(&lab).len(), 2, "somebody else has stopped it");
        }
    });
}

#[test]
fn a_stop_that_was_given_up_by_the_cloud_is_not_waited_for() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            let mut lab = ended_with_its_stop_on_its_way();
            lab.node("w2").task = None;
            run_but(&mut lab, 12, accepted);
            if restarts {
                lab.restart();
            }
            lab.node("w2").status = ServerStatus::Shutoff;
            run_but(&mut lab, 300, accepted);
            assert_eq!(asked(&lab), ["stop_server"], "somebody else has stopped it");
            assert!(lab.engine.state().late_stops.is_empty());
        }
    });
}

#[test]
fn a_stop_on_its_way_is_not_forgotten_while_nobody_knows_of_its_cell() {
    on_engine_stack(|| {
        let mut lab = ended_with_its_stop_on_its_way();
        let w2 = lab.node("w2");
        // What Nova shows of a VM whose cell is down: neither a status nor what is under way.
        (w2.task, w2.status) = (None, ServerStatus::Unknown);
        run_but(&mut lab, 12, accepted);
        lab.node("w2").status = ServerStatus::Shutoff;
        run_but(&mut lab, 12, accepted);
        assert_eq!(asked(&lab), ["stop_server", "start_server"]);
    });
}

#[test]
fn a_machine_that_is_to_be_started_again_is_not_left_while_nobody_knows_of_its_cell() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, accepted);
        let node = NodeName::new("w2");
        lab.wish(Wish::Protect { node, on: true });
        lab.node("w2").status = ServerStatus::Shutoff;
        run_but(&mut lab, 12, accepted);
        assert_eq!(asked(&lab), ["stop_server", "start_server"]);
        lab.node("w2").status = ServerStatus::Unknown;
        run_but(&mut lab, 30, accepted);
        assert!(endings(&lab).is_empty(), "{:?}", endings(&lab));
        lab.node("w2").status = ServerStatus::Shutoff;
        run_but(&mut lab, 30, accepted);
        let calls = asked(&lab);
        let starts = calls.iter().filter(|call| **call == "start_server");
        assert!(starts.count() > 1, "it was not started: once more");
    });
}

#[test]
fn i16_who_treats_the_machine_next_has_the_stop_that_is_on_its_way() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            let mut lab = ended_with_its_stop_on_its_way();
            assert_eq!(lab.engine.state().late_stops.len(), 1);
            let node = NodeName::new("w2");
            lab.wish(Wish::Protect { node, on: false });
            for _ in 0..3_600 {
                if lab.engine.state().operations.is_empty() {
                    lab.run(1);
                }
            }
            if restarts {
                lab.restart();
            }
            let state = lab.engine.state();
            let next = state.operations.values().next();
            let next = next.and_then(|next| next.stopped);
            assert_eq!(next, Some(Stopped::Asked));
            assert!(state.late_stops.is_empty(), "one operation follows it");
        }
    });
}
