//! What calls an operation off once it is under way, and what of it is remembered.

use std::time::Duration;

use super::endings;
use crate::action::{ActionKind, ActionResult, Done, Failure, FailureKind};
use crate::decision::Reason;
use crate::event::{Input, ServerStatus, SourceName, Target, Wish};
use crate::journal::{Domain, Record};
use crate::lab::{Lab, Plan, on_engine_stack};
use crate::names::NodeName;
use crate::remediation::Ending;

/// How long a rung has.
const RUNG: Duration = Duration::from_secs(300);

/// What was asked for, in its order.
pub(super) fn asked(lab: &Lab) -> Vec<&'static str> {
    let sent = lab.records.iter().filter_map(|record| match record {
        Record::Intent { action, .. } => Some(action.kind.name()),
        _ => None,
    });
    sent.collect()
}

/// How many records journaled an operation.
fn journaled(lab: &Lab) -> usize {
    let is = |record: &&Record| matches!(record, Record::Operation { .. });
    lab.records.iter().filter(is).count()
}

/// Runs on while everything that is asked for is done, but what `other` answers, if anything.
pub(super) fn run_but(
    lab: &mut Lab,
    seconds: u64,
    other: impl Fn(&ActionKind) -> Option<ActionResult>,
) {
    for _ in 0..seconds {
        lab.run(1);
        let (kept, actions): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.actions)
            .into_iter()
            .partition(|action| other(&action.kind).is_none());
        lab.actions = kept;
        for action in actions {
            let result = other(&action.kind).unwrap();
            lab.step(Input::Outcome(action.key, result));
        }
    }
}

/// Everything is done at once but drains, which go on.
pub(super) fn drains_go_on(kind: &ActionKind) -> Option<ActionResult> {
    let drain = matches!(kind, ActionKind::Drain { .. });
    (!drain).then_some(Ok(Done::Accepted))
}

fn accepted(_: &ActionKind) -> Option<ActionResult> {
    Some(Ok(Done::Accepted))
}

/// A lab in which a node is being drained, by an operator's word or, `by_rule`, because load fell.
pub(super) fn draining(plan: Plan, by_rule: bool) -> Lab {
    let size = u32::try_from(plan.nodes).unwrap() - 1;
    let mut lab = Lab::new(plan);
    run_but(&mut lab, 400, drains_go_on);
    if by_rule {
        lab.cpu(Some(0.05));
        run_but(&mut lab, 90, drains_go_on);
    } else {
        let pool = crate::lab::pool();
        lab.wish(Wish::Scale { pool, size });
        run_but(&mut lab, 10, drains_go_on);
    }
    assert_eq!(asked(&lab), ["cordon", "drain"], "{:?}", lab.decided());
    lab
}

pub(super) fn cancelled(lab: &Lab, why: &str) -> bool {
    matches!(&endings(lab)[..], [Ending::Cancelled(text)] if text.contains(why))
}

#[test]
fn i2_a_removal_is_called_off_when_another_falls_ill_during_its_drain() {
    on_engine_stack(|| {
        // Rows: the least that must serve, what becomes of the removal when w6 dies meanwhile.
        for (min, goes_on) in [(4, true), (5, false)] {
            let mut plan = Plan::default();
            plan.pool.min = min;
            let mut lab = draining(plan, false);
            lab.die("w6");
            run_but(&mut lab, 70, drains_go_on);
            run_but(&mut lab, 20, accepted);
            let deleted = asked(&lab).contains(&"delete_server");
            assert_eq!(deleted, goes_on, "at least {min}: {:?}", asked(&lab));
            if !goes_on {
                assert!(
                    cancelled(&lab, "at least 5 must remain"),
                    "{:?}",
                    endings(&lab)
                );
                assert_eq!(asked(&lab)[2], "uncordon");
            }
        }
    });
}

#[test]
fn i2_what_is_being_removed_already_is_no_node_less_twice() {
    on_engine_stack(|| {
        // Two of twenty go at once, down to the minimum: the first is gone before the second is.
        let mut plan = Plan {
            nodes: 20,
            ..Plan::default()
        };
        plan.pool.min = 18;
        plan.pool.max = 30;
        plan.limits.removals_per_minute_pool = 5;
        plan.policy = r#"
            scale_down("workers").when(mean("cpu", "1m") < 0.2)
                .then(|pool| pool.resize_to(18, "calm"));
        "#;
        let mut lab = Lab::new(plan);
        run_but(&mut lab, 400, drains_go_on);
        lab.cpu(Some(0.05));
        run_but(&mut lab, 90, drains_go_on);
        assert_eq!(lab.decided(), ["remove w1", "remove w10"]);
        let first = lab.actions.remove(0);
        lab.step(Input::Outcome(first.key, Ok(Done::Drained { evicted: 1 })));
        run_but(&mut lab, 2, drains_go_on);
        lab.node("w1").kubelet = false;
        run_but(&mut lab, 70, drains_go_on);
        run_but(&mut lab, 5, accepted);
        let deletes = asked(&lab)
            .into_iter()
            .filter(|name| *name == "delete_server");
        assert_eq!(deletes.count(), 2, "{:?}", endings(&lab));
    });
}

#[test]
fn i32_a_rules_removal_is_called_off_when_the_load_comes_back_during_its_drain() {
    on_engine_stack(|| {
        for comes_back in [false, true] {
            let mut lab = draining(Plan::default(), true);
            lab.cpu(Some(if comes_back { 0.95 } else { 0.5 }));
            run_but(&mut lab, 100, drains_go_on);
            run_but(&mut lab, 20, accepted);
            let deleted = asked(&lab).contains(&"delete_server");
            assert_eq!(deleted, !comes_back, "{:?}", asked(&lab));
            if comes_back {
                assert!(
                    cancelled(&lab, "is asked to grow to"),
                    "{:?}",
                    endings(&lab)
                );
            }
        }
    });
}

#[test]
fn a_word_against_the_node_or_its_pool_calls_a_removal_off_at_once() {
    on_engine_stack(|| {
        let length = std::time::Duration::from_secs(3600);
        let words = [
            (
                "w1 is protected",
                Wish::Protect {
                    node: NodeName::new("w1"),
                    on: true,
                },
            ),
            (
                "w1 is in maintenance",
                Wish::Maintenance {
                    target: Target::Node(NodeName::new("w1")),
                    length,
                },
            ),
            (
                "workers is in maintenance",
                Wish::Maintenance {
                    target: Target::Pool(crate::lab::pool()),
                    length,
                },
            ),
        ];
        for (why, word) in words {
            let mut lab = draining(Plan::default(), false);
            lab.wish(word);
            lab.run(1);
            let operation = lab.engine.state().operations.values().next().unwrap();
            let said = operation.cancelled.clone().unwrap_or_default();
            assert!(said.contains(why), "while its drain goes on: {said}");
            run_but(&mut lab, 20, accepted);
            assert!(cancelled(&lab, why), "{:?}", endings(&lab));
            assert_eq!(asked(&lab)[2..], ["uncordon"]);
        }
    });
}

#[test]
fn a_rebuild_that_can_only_go_on_goes_on_when_its_node_is_protected() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"heal("workers").when(silent("60s")).ladder(["rebuild"]);"#,
            ..Plan::default()
        });
        lab.run(400);
        lab.die("w3");
        run_but(&mut lab, 90, accepted);
        lab.node("w3").status = ServerStatus::Shutoff;
        run_but(&mut lab, 20, accepted);
        lab.node("w3").node = false;
        run_but(&mut lab, 20, accepted);
        assert_eq!(asked(&lab).last(), Some(&"rebuild_server"));
        let operation = lab.engine.state().operations.keys().next().copied();
        lab.node("w3").made_by = operation;
        run_but(&mut lab, 20, accepted);
        assert_eq!(asked(&lab).last(), Some(&"start_server"));
        lab.node("w3").status = ServerStatus::Active;
        let node = NodeName::new("w3");
        lab.wish(Wish::Protect { node, on: true });
        let before = journaled(&lab);
        run_but(&mut lab, 20, accepted);
        assert_eq!(asked(&lab).last(), Some(&"approve_join"));
        let more = journaled(&lab) - before;
        assert!(more < 10, "{more} records of one step");
    });
}

#[test]
fn a_removal_that_could_not_be_done_is_not_tried_on_the_same_node_for_an_hour() {
    on_engine_stack(|| {
        let drains_time_out = |kind: &ActionKind| match kind {
            ActionKind::Drain { .. } => Some(Err(Failure::new(
                FailureKind::TimedOut,
                "a budget never gives way",
            ))),
            _ => Some(Ok(Done::Accepted)),
        };
        for restarts in [false, true] {
            let mut plan = Plan {
                nodes: 3,
                policy: r#"scale_down("workers").when(mean("cpu", "1m") < 0.2);"#,
                ..Plan::default()
            };
            plan.pool.min = 1;
            let mut lab = Lab::new(plan);
            run_but(&mut lab, 400, drains_time_out);
            lab.cpu(Some(0.05));
            run_but(&mut lab, 90, drains_time_out);
            assert_eq!(lab.decided(), ["remove w1"], "not again at once");
            if restarts {
                lab.restart();
            }
            run_but(&mut lab, 3000, drains_time_out);
            assert_eq!(lab.decided(), ["remove w1", "remove w2", "remove w3"]);
            let refused = lab.reasons().contains(&Reason::AfterFailure);
            assert!(refused, "{:?}", lab.reasons());
            run_but(&mut lab, 1200, drains_time_out);
            assert_eq!(lab.decided()[3], "remove w1");
        }
    });
}

/// One of two nodes has died, and its VM is about to be seen off.
pub(super) fn a_stop_was_asked_for(
    rung_timeout: Duration,
    other: impl Fn(&ActionKind) -> Option<ActionResult>,
) -> Lab {
    let mut plan = Plan {
        nodes: 2,
        ..Plan::default()
    };
    plan.pool.min = 1;
    plan.pool.rung_timeout = rung_timeout;
    let mut lab = Lab::new(plan);
    lab.bystander = true;
    lab.run(400);
    lab.die("w2");
    while asked(&lab).is_empty() {
        run_but(&mut lab, 1, &other);
    }
    assert_eq!(asked(&lab), ["stop_server"], "{:?}", lab.decided());
    lab
}

#[test]
fn a_machine_that_we_stopped_is_started_again_though_the_broker_is_away() {
    on_engine_stack(|| {
        let mut lab = a_stop_was_asked_for(RUNG, accepted);
        lab.sources.insert(SourceName::Kafka, false);
        lab.run(1);
        lab.node("w2").status = ServerStatus::Shutoff;
        run_but(&mut lab, 30, accepted);
        assert_eq!(asked(&lab), ["stop_server", "start_server"]);
    });
}

#[test]
fn a_machine_that_we_stopped_is_started_again_when_its_heal_is_called_off() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            let mut lab = a_stop_was_asked_for(RUNG, accepted);
            let node = NodeName::new("w2");
            lab.wish(Wish::Protect { node, on: true });
            if restarts {
                lab.restart();
                lab.round();
            }
            run_but(&mut lab, 10, accepted);
            assert_eq!(asked(&lab), ["stop_server"], "its stop is on its way");
            lab.node("w2").status = ServerStatus::Shutoff;
            run_but(&mut lab, 12, accepted);
            assert_eq!(asked(&lab), ["stop_server", "start_server"]);
            assert!(endings(&lab).is_empty(), "whether it runs is looked at");
            lab.node("w2").status = ServerStatus::Active;
            run_but(&mut lab, 30, accepted);
            assert!(cancelled(&lab, "w2 is protected"), "{:?}", endings(&lab));
            let calls = asked(&lab);
            let others = calls.iter().filter(|call| **call != "start_server");
            assert_eq!(others.count(), 1, "{calls:?}");
        }
    });
}

/// The gate holds a drain back by it.
#[test]
fn an_operation_keeps_what_its_machine_stands_on() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        for node in &mut lab.nodes {
            node.zone = Some("az-1".to_owned());
        }
        lab.run(400);
        lab.die("w3");
        lab.run(70);
        let state = lab.engine.state();
        let operation = state.operations.values().next().unwrap();
        let old = operation.old.as_ref().unwrap();
        assert_eq!(old.stands_on, [Domain::Zone("az-1".to_owned())]);
    });
}
