//! A row for each reason of the planner, both sides.

use crate::action::{Failure, FailureKind};
use crate::decision::{Reason, Rung};
use crate::engine::Answer;
use crate::event::{Batch, Form, Input, SourceName, Wish};
use crate::guard::tests::rung;
use crate::journal::Record;
use crate::lab::{BEGIN, Lab, Plan, Row, on_engine_stack, play, policies, pool};
use crate::names::{OperationId, RuleId};

fn nothing(_: &mut Lab) {}

fn as_it_is(_: &mut Plan) {}

fn warm(lab: &mut Lab) {
    lab.run(400);
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        reason: Reason::NoChange,
        name: "an operator asks for the size that there is",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Scale {
                pool: pool(),
                size: 6,
            });
        },
        then: nothing,
        else_decides: "",
    },
    Row {
        reason: Reason::Cooldown,
        name: "the rule acted a moment ago",
        plan: |plan| {
            plan.policy = r#"
                scale_up("workers").when(mean("cpu", "1m") > 0.75).cooldown("3m")
                    .then(|pool| pool.resize_to(7, "busy"));
            "#;
        },
        both: warm,
        only: |lab| {
            lab.journal.push(Record::Cooldown {
                rule: RuleId::new("test.rhai:2"),
                pool: pool(),
                at: lab.now,
            });
            lab.restart();
        },
        then: |lab| {
            lab.cpu(Some(0.95));
            lab.run(120);
        },
        else_decides: "add",
    },
    Row {
        reason: Reason::Stabilizing,
        name: "what was needed before the start is not known",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.restart(),
        then: |lab| {
            lab.cpu(Some(0.05));
            lab.run(120);
        },
        else_decides: "remove",
    },
    Row {
        reason: Reason::Conflict,
        name: "one rule asks for more and one for fewer",
        plan: |plan| {
            plan.policy = r#"
                scale_up("workers").when(mean("load", "1m") > 5).then(|pool| pool.add(1, "load"));
                scale_down("workers").when(mean("cpu", "1m") < 0.2);
            "#;
        },
        both: |lab| {
            lab.cpu(Some(0.1));
            lab.run(100);
        },
        only: |lab| {
            let mut batch = crate::event::Batch::new(crate::event::SourceName::Kafka, lab.now.wall);
            for node in &lab.nodes {
                batch.push_record(&node.name, lab.now.wall, None);
                batch.push_sample("load", "", crate::event::Form::Value, 9.0);
            }
            lab.step(crate::event::Input::Batch(batch));
        },
        then: |lab| lab.run(2),
        else_decides: "",
    },
    Row {
        reason: Reason::Unknown,
        name: "an alert names nobody",
        plan: |plan| {
            plan.policy =
                r#"on_alert("Disk").then(|alert| node(alert.label("node")).replace("disk"));"#;
        },
        both: warm,
        only: |lab| lab.alert("Disk", "nobody", true),
        then: |lab| lab.run(2),
        else_decides: "",
    },
    Row {
        reason: Reason::LadderWait,
        name: "the last rung has not shown its effect yet",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.journal.push(Record::Rung {
                node: crate::names::NodeName::new("w3"),
                rung: Rung::Reboot,
                at: lab.now,
            });
            lab.restart();
        },
        then: |lab| {
            lab.die("w3");
            lab.run(90);
        },
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::LadderExhausted,
        name: "every rung was tried",
        plan: |plan| plan.before.push(rung(Rung::Reboot, 1200)),
        both: warm,
        only: |lab| {
            lab.journal.push(rung(Rung::Replace, 1200));
            lab.restart();
            lab.run(310);
        },
        then: |lab| {
            lab.die("w3");
            lab.run(90);
        },
        else_decides: "replace w3",
    },
    Row {
        reason: Reason::AfterFailure,
        name: "an addition failed a moment ago",
        plan: as_it_is,
        both: |lab| {
            warm(lab);
            lab.wish(Wish::Scale {
                pool: pool(),
                size: 7,
            });
        },
        only: |lab| {
            let action = lab.actions.pop().unwrap();
            let failure = Failure::new(FailureKind::Refused, "the quota is used up");
            lab.step(Input::Outcome(action.key, Err(failure)));
        },
        then: |lab| {
            lab.obedient = true;
            lab.run(60);
        },
        else_decides: "",
    },
    Row {
        reason: Reason::InFlight,
        name: "the most additions at once are under way",
        plan: |plan| {
            plan.pool.max = 20;
            plan.limits.additions_at_once = 2;
        },
        both: |lab| {
            warm(lab);
            lab.wish(Wish::Scale {
                pool: pool(),
                size: 7,
            });
        },
        only: |lab| {
            lab.wish(Wish::Scale {
                pool: pool(),
                size: 8,
            });
        },
        then: |lab| {
            lab.wish(Wish::Scale {
                pool: pool(),
                size: 9,
            });
            assert!(lab.decided().len() <= 3);
        },
        else_decides: "",
    },
];

#[test]
fn every_refusal_of_the_planner_has_its_yes_and_its_no() {
    play(ROWS);
}

#[test]
fn a_cooldown_outlives_a_restart() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.cpu(Some(0.95));
        lab.run(100);
        assert_eq!(lab.decided().len(), 1);
        let at = lab.journal.iter().find_map(|record| match record {
            Record::Cooldown { at, .. } => Some(*at),
            _ => None,
        });
        // The monotonic clock of the next run begins anew, as the program's own does.
        lab.now.mono = crate::time::Monotonic::BEGIN;
        lab.restart();
        lab.run(60);
        assert_eq!(lab.decided().len(), 1, "within three minutes");
        while lab.decided().len() < 2 {
            lab.run(1);
        }
        let waited = lab.now.wall.since(at.unwrap().wall).as_secs();
        assert!((180..200).contains(&waited), "{waited}");
    });
}

#[test]
fn a_refusal_is_journaled_when_it_changes_or_is_asked_for_anew() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            nodes: 8,
            ..Plan::default()
        });
        warm(&mut lab);
        lab.cpu(Some(0.95));
        lab.run(600);
        assert_eq!(lab.reasons(), [Reason::AtMaximum]);
        // An edit elsewhere changes nothing of it.
        let other = r#"heal("workers").when(silent("1h")).ladder(["reboot"]);"#;
        let edited = policies(&format!("{}{other}", Plan::default().policy));
        lab.step(Input::Policies(edited));
        lab.run(600);
        assert_eq!(lab.reasons(), [Reason::AtMaximum]);
        // The rule that goes on to hold is not known to have held: it is said once more.
        lab.restart();
        lab.run(600);
        assert_eq!(lab.reasons(), [Reason::AtMaximum; 2]);
        lab.cpu(Some(0.5));
        lab.run(600);
        lab.cpu(Some(0.95));
        lab.run(600);
        assert_eq!(lab.reasons(), [Reason::AtMaximum; 3]);
    });
}

#[test]
fn a_body_that_asks_for_two_things_is_refused_each_once() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"
                heal("workers").when(silent("60s")).then(|node| {
                    node.reboot("first");
                    node.replace("or that");
                });
            "#,
            ..Plan::default()
        });
        warm(&mut lab);
        let rung = Record::Rung {
            node: crate::names::NodeName::new("w3"),
            rung: Rung::Reboot,
            at: lab.now,
        };
        lab.journal.push(rung);
        lab.restart();
        lab.die("w3");
        lab.run(280);
        assert_eq!(
            lab.reasons(),
            [Reason::LadderExhausted, Reason::LadderWait],
            "each of them once"
        );
    });
}

/// How often the replacement of w3 is begun within so many seconds, if it fails like this.
fn replacements(kind: FailureKind, seconds: u64, restarts: bool) -> (usize, Vec<Reason>) {
    let mut plan = Plan::default();
    plan.before.push(rung(Rung::Reboot, 1200));
    let mut lab = Lab::new(plan);
    warm(&mut lab);
    lab.fail = Some(kind);
    lab.die("w3");
    lab.run(90);
    assert_eq!(lab.decided(), ["replace w3"]);
    if restarts {
        lab.restart();
    }
    lab.run(seconds);
    (lab.decided().len(), lab.reasons())
}

#[test]
fn a_rung_that_the_cloud_failed_at_is_tried_again_and_no_other() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            // Rows: how it fails, how often it is begun in the hour after.
            for (kind, times) in [(FailureKind::NoCapacity, 2), (FailureKind::Refused, 1)] {
                let (begun, reasons) = replacements(kind, 600, restarts);
                assert_eq!(begun, 1, "{kind:?}: not at once");
                let waits = reasons.contains(&Reason::LadderWait);
                assert!(waits || kind == FailureKind::Refused, "{reasons:?}");
                let (begun, reasons) = replacements(kind, 3600, restarts);
                assert_eq!(begun, times, "{kind:?}, restarts: {restarts}");
                // With the reboot these are the three that a node may have in a day.
                assert!(reasons.contains(&Reason::LadderExhausted), "{reasons:?}");
            }
        }
    });
}

#[test]
fn what_was_granted_in_between_is_refused_anew() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            nodes: 7,
            policy: r#"
                scale_up("workers").when(mean("cpu", "1m") > 0.75).cooldown("3m")
                    .then(|pool| pool.add(1, "busy"));
            "#,
            ..Plan::default()
        });
        warm(&mut lab);
        lab.cpu(Some(0.95));
        lab.run(60);
        assert_eq!(lab.decided().len(), 1);
        assert_eq!(lab.reasons(), [], "it goes on to ask for what was granted");
        lab.run(600);
        assert_eq!(lab.reasons(), [Reason::Cooldown, Reason::AtMaximum]);
    });
}

#[test]
fn unknown_names_create_no_state() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"on_alert("Disk").then(|alert| node(alert.label("node")).replace("disk"));"#,
            ..Plan::default()
        });
        warm(&mut lab);
        for number in 0..500 {
            lab.alert("Disk", &format!("nobody-{number}"), true);
        }
        lab.run(2);
        assert!(lab.engine.state().refused.len() <= 1);
        assert_eq!(lab.refusals().len(), 1);
    });
}

#[test]
fn min_and_max_count_what_is_in_flight_and_what_is_silent() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        // Two of six are silent (a storm), none is replaced by adding beyond the maximum.
        lab.die("w5");
        lab.die("w6");
        lab.cpu(Some(0.95));
        lab.run(1200);
        assert_eq!(lab.decided().len(), 2, "6 and 2 in flight are 8");
        let adds = |what: &&str| what.starts_with("add");
        assert_eq!(lab.decided().into_iter().filter(adds).count(), 2);
        assert!(lab.reasons().contains(&Reason::AtMaximum));
    });
}

#[test]
fn an_expired_decision_is_not_begun() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.cpu(Some(0.05));
        lab.run(1);
        // Paused in the very moment of the decision: nothing of it may leave afterwards.
        let paused = Record::Wish {
            at: lab.now,
            key: "p".to_owned(),
            who: "ann".to_owned(),
            why: String::new(),
            wish: Wish::Pause { pool: None },
        };
        lab.run(120);
        let place = lab
            .journal
            .iter()
            .position(|record| matches!(record, Record::Intent { .. }))
            .unwrap();
        lab.journal.truncate(place);
        lab.journal.push(paused);
        lab.restart();
        lab.run(200);
        lab.records.clear();
        lab.wish(Wish::Resume { pool: None });
        lab.run(1);
        let intent = |record: &Record| matches!(record, Record::Intent { .. });
        assert!(!lab.records.iter().any(intent));
        assert!(lab.engine.state().operations.is_empty());
    });
}

#[test]
fn a_cancel_of_nothing_is_told_so() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        let answer = lab.wish(Wish::Cancel {
            operation: OperationId {
                journal: 1,
                number: 99,
            },
        });
        assert!(matches!(answer, Answer::Refused(Reason::Unknown, _)));
        assert!(BEGIN.mono < lab.now.mono);
    });
}

#[test]
fn what_a_nodes_rule_proposes_is_decided_on_in_the_step_that_proposed_it() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"heal("workers").when(max("cpu", "1m") > 0.9)
                .then(|node| node.reboot("hot"));"#,
            ..Plan::default()
        });
        warm(&mut lab);
        lab.alert("Disk", "w3", true);
        lab.run(1);
        assert!(lab.decided().is_empty());
        // No tick is due for another half of a second.
        lab.now = lab.now.plus(std::time::Duration::from_millis(500));
        lab.step(Input::Tick);
        lab.now = lab.now.plus(std::time::Duration::from_millis(400));
        let mut batch = Batch::new(SourceName::Kafka, lab.now.wall);
        batch.push_record("w3", lab.now.wall, None);
        batch.push_sample("cpu", "", Form::Value, 0.99);
        lab.step(Input::Batch(batch));
        assert_eq!(lab.decided(), ["reboot w3"]);
    });
}
