//! What a restart of the program leaves of a step's time.

use std::time::Duration;

use super::called_off::{a_stop_was_asked_for, asked, cancelled, draining, drains_go_on, run_but};
use super::endings;
use crate::action::{ActionKind, ActionResult, Done, Failure, FailureKind};
use crate::event::{ServerStatus, SourceName};
use crate::lab::{Lab, Plan, on_engine_stack};
use crate::remediation::Ending;

/// As long as a rung has in these tests, which is shorter than everything that holds after a start.
const RUNG: Duration = Duration::from_secs(60);

/// The program is away for ten minutes, and started again.
fn away(lab: &mut Lab) {
    lab.now = lab.now.plus(Duration::from_secs(600));
    lab.restart();
}

fn is_stop(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::StopServer { .. })
}

/// Everything is done at once but stops, which are not heard of.
fn stops_go_on(kind: &ActionKind) -> Option<ActionResult> {
    (!is_stop(kind)).then_some(Ok(Done::Accepted))
}

fn accepted(_: &ActionKind) -> Option<ActionResult> {
    Some(Ok(Done::Accepted))
}

/// The VM is off, is started, and its node is back.
fn comes_back(lab: &mut Lab) {
    for _ in 0..20 {
        if asked(lab).last() != Some(&"start_server") {
            run_but(lab, 1, accepted);
        }
    }
    assert_eq!(
        asked(lab).last(),
        Some(&"start_server"),
        "{:?}",
        endings(lab)
    );
    let node = lab.node("w2");
    node.status = ServerStatus::Active;
    node.agent = true;
    node.kubelet = true;
    run_but(lab, 30, accepted);
    assert_eq!(endings(lab), [Ending::Done]);
}

#[test]
fn a_stop_that_was_seen_by_nobody_is_looked_at_after_the_restart() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, accepted);
        away(&mut lab);
        // Nothing has been listed yet, for longer than the rung has.
        lab.sources.insert(SourceName::Openstack, false);
        for _ in 0..90 {
            lab.now = lab.now.plus(Duration::from_secs(1));
            lab.step(crate::event::Input::Tick);
        }
        assert!(endings(&lab).is_empty(), "{:?}", endings(&lab));
        lab.sources.insert(SourceName::Openstack, true);
        lab.node("w2").status = ServerStatus::Shutoff;
        comes_back(&mut lab);
    });
}

#[test]
fn a_stop_that_a_kill_cut_off_is_asked_for_again_once_sight_is_back() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, stops_go_on);
        // Nobody hears how it ended.
        lab.actions.clear();
        away(&mut lab);
        lab.sources.insert(SourceName::Kafka, false);
        run_but(&mut lab, 60, stops_go_on);
        lab.sources.insert(SourceName::Kafka, true);
        run_but(&mut lab, 290, stops_go_on);
        assert_eq!(asked(&lab), ["stop_server"], "sight is not back");
        assert!(endings(&lab).is_empty(), "{:?}", endings(&lab));
        run_but(&mut lab, 30, accepted);
        assert_eq!(asked(&lab), ["stop_server", "stop_server"]);
        lab.node("w2").status = ServerStatus::Shutoff;
        comes_back(&mut lab);
    });
}

/// The node has recovered by itself meanwhile.
fn recovers(lab: &mut Lab, name: &str) {
    let node = lab.node(name);
    node.agent = true;
    node.kubelet = true;
}

#[test]
fn i32_a_stop_that_a_kill_cut_off_is_not_asked_for_again_of_a_node_that_lives() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, stops_go_on);
        lab.actions.clear();
        away(&mut lab);
        recovers(&mut lab, "w2");
        run_but(&mut lab, 900, accepted);
        assert_eq!(asked(&lab), ["stop_server"]);
        let ended = endings(&lab);
        assert!(
            matches!(&ended[..], [Ending::Failed(why)] if why == "its node is Ready"),
            "{ended:?}"
        );
    });
}

#[test]
fn i32_a_reboot_that_nobody_answered_is_not_asked_for_again_of_a_node_that_lives() {
    on_engine_stack(|| {
        let fails = |kind: &ActionKind| match kind {
            ActionKind::RebootServer { .. } => Some(Err(Failure::new(
                FailureKind::Retry { after: None },
                "no answer",
            ))),
            _ => Some(Ok(Done::Accepted)),
        };
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.die("w3");
        for _ in 0..90 {
            if asked(&lab).is_empty() {
                run_but(&mut lab, 1, fails);
            }
        }
        assert_eq!(asked(&lab), ["reboot_server"]);
        away(&mut lab);
        recovers(&mut lab, "w3");
        run_but(&mut lab, 900, accepted);
        assert_eq!(asked(&lab), ["reboot_server"]);
        assert_eq!(endings(&lab), [Ending::Done]);
    });
}

#[test]
fn i32_a_removal_of_long_ago_is_called_off_by_a_restart() {
    on_engine_stack(|| {
        for (hours, goes_on) in [(0, true), (1, false)] {
            let mut lab = draining(Plan::default(), true);
            lab.actions.clear();
            lab.cpu(Some(0.5));
            lab.now = lab.now.plus(Duration::from_secs(60 + 3600 * hours));
            lab.restart();
            run_but(&mut lab, 400, drains_go_on);
            run_but(&mut lab, 200, accepted);
            let deleted = asked(&lab).contains(&"delete_server");
            assert_eq!(deleted, goes_on, "{:?}", asked(&lab));
            if !goes_on {
                assert_eq!(asked(&lab)[2..], ["uncordon"]);
                assert!(cancelled(&lab, "too long ago"), "{:?}", endings(&lab));
            }
        }
    });
}

#[test]
fn a_step_has_no_more_than_its_time_after_a_restart() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, accepted);
        away(&mut lab);
        run_but(&mut lab, 75, accepted);
        let operations = &lab.engine.state().operations;
        let steps: Vec<_> = operations.values().map(|one| one.step.as_str()).collect();
        assert_eq!(steps, ["undo_stop"], "what was stopped is started again");
    });
}

/// A program that is killed again and again never gets far; what it carries with it ends all the
/// same.
#[test]
fn restarts_without_end_do_not_keep_a_step_for_ever() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, accepted);
        for restarts in 0..40 {
            lab.restart();
            run_but(&mut lab, 12, accepted);
            let operations = &lab.engine.state().operations;
            let waits = |step: &str| operations.values().any(|one| one.step.as_str() == step);
            if !waits("wait_off") {
                assert!(restarts > 6, "each start gave it time: {restarts}");
                return;
            }
        }
        panic!("it waits for ever");
    });
}
