//! A row for each reason of the guard, both sides, and what the brakes hold over time.

use std::time::Duration;

use crate::decision::{Reason, Rung};
use crate::engine::Answer;
use crate::event::{ServerStatus, SourceName, Target, Wish};
use crate::journal::{Brake, Record};
use crate::lab::{BEGIN, Lab, Plan, Row, on_engine_stack, play, pool};
use crate::names::NodeName;
use crate::time::Now;

fn nothing(_: &mut Lab) {}

fn as_it_is(_: &mut Plan) {}

/// Past the start-up hold and the stabilization window.
fn warm(lab: &mut Lab) {
    lab.run(400);
}

fn w3_dies(lab: &mut Lab) {
    lab.die("w3");
    lab.run(90);
}

fn two_die(lab: &mut Lab) {
    lab.die("w3");
    lab.die("w4");
    lab.run(90);
}

fn load_rises(lab: &mut Lab) {
    lab.cpu(Some(0.95));
    lab.run(120);
}

fn load_falls(lab: &mut Lab) {
    lab.cpu(Some(0.05));
    lab.run(120);
}

fn failures(count: u32) -> Record {
    Record::Circuit {
        pool: pool(),
        failures: count,
        at: BEGIN.plus(Duration::from_secs(500)),
    }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        reason: Reason::AtMaximum,
        name: "a pool of the most it may have",
        plan: |plan| plan.nodes = 8,
        both: warm,
        only: nothing,
        then: load_rises,
        else_decides: "",
    },
    Row {
        reason: Reason::AtMinimum,
        name: "a node that does not serve leaves just the minimum",
        plan: |plan| plan.pool.min = 5,
        both: warm,
        only: |lab| {
            let w6 = lab.node("w6");
            w6.kubelet = false;
            w6.marked_protected = true;
            lab.run(60);
        },
        then: load_falls,
        else_decides: "remove",
    },
    Row {
        reason: Reason::AtMinimum,
        name: "the last node of a zone",
        plan: |plan| {
            plan.nodes = 2;
            plan.pool.min = 0;
        },
        both: nothing,
        only: |lab| {
            lab.node("w1").zone = Some("a".to_owned());
            lab.node("w2").zone = Some("b".to_owned());
        },
        then: |lab| {
            warm(lab);
            load_falls(lab);
        },
        else_decides: "remove",
    },
    Row {
        reason: Reason::StartUp,
        name: "a source that was never heard since the start",
        plan: as_it_is,
        both: nothing,
        only: |lab| {
            lab.sources.remove(&SourceName::Openstack);
        },
        then: |lab| {
            warm(lab);
            w3_dies(lab);
        },
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::PartialInventory,
        name: "half of the VMs are not listed",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            for name in ["w4", "w5", "w6"] {
                lab.node(name).listed = false;
            }
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ClockStep,
        name: "the wall clock jumps by a day",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.now.wall = lab.now.wall.plus(Duration::from_secs(86_400)),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Blind,
        name: "the cloud cannot be heard",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Openstack, false);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Blind,
        name: "nothing is added on pods and windows that cannot be heard",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Kubernetes, false);
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::SightReturning,
        name: "the cloud is heard again since a minute",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Openstack, false);
            lab.run(20);
            lab.sources.insert(SourceName::Openstack, true);
            lab.run(10);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ThinData,
        name: "a tenth of a window",
        plan: |plan| {
            plan.policy = r#"scale_down("workers").when(mean("cpu", "10m") < 0.2);"#;
        },
        both: nothing,
        only: |lab| lab.cpu(None),
        then: |lab| {
            lab.run(700);
            lab.cpu(Some(0.05));
            lab.run(600);
        },
        else_decides: "",
    },
    Row {
        reason: Reason::OneWitness,
        name: "only the agent is silent",
        plan: as_it_is,
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").kubelet = true,
        then: |lab| lab.run(90),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::OneWitness,
        name: "a rule that reads two says what one of them says",
        plan: |plan| {
            plan.policy = r#"
                heal("workers").when(silent("60s") or not_ready("60s")).ladder(["reboot"]);
            "#;
        },
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").agent = true,
        then: |lab| lab.run(150),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::OneWitness,
        name: "how large the pool is says nothing of a node",
        plan: |plan| {
            plan.policy = r#"
                heal("workers").when(not_ready("60s") and size() > 2).ladder(["reboot"]);
            "#;
        },
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").agent = true,
        then: |lab| lab.run(150),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Storm,
        name: "two of six at once",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Storm,
        name: "half of a zone",
        plan: |plan| plan.nodes = 20,
        both: |lab| {
            for name in ["w3", "w4", "w5"] {
                lab.node(name).zone = Some("a".to_owned());
            }
            warm(lab);
        },
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Share,
        name: "a tenth of the pool is under remediation",
        plan: |plan| {
            plan.nodes = 12;
            plan.pool.max = 20;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::Velocity,
        name: "a second removal within a minute",
        plan: |plan| {
            plan.nodes = 30;
            plan.pool.max = 40;
            plan.policy = r#"heal("workers").when(silent("60s")).ladder(["replace"]);"#;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::CircuitOpen,
        name: "three failures in a row",
        plan: |plan| plan.before.push(failures(2)),
        both: |lab| {
            warm(lab);
            lab.run(100);
        },
        only: |lab| {
            lab.journal.push(failures(3));
            lab.restart();
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Protected,
        name: "an operator protects the node",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Protect {
                node: NodeName::new("w3"),
                on: true,
            });
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Protected,
        name: "a mark on the VM protects the node",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").marked_protected = true,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ControlPlane,
        name: "a node of the control plane",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").control_plane = true,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Maintenance,
        name: "a node in maintenance",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Maintenance {
                target: Target::Node(NodeName::new("w3")),
                length: Duration::from_secs(3600),
            });
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Maintenance,
        name: "a pool in maintenance",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Maintenance {
                target: Target::Pool(pool()),
                length: Duration::from_secs(3600),
            });
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Paused,
        name: "everything is paused",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Pause { pool: None });
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::NotOwned,
        name: "a VM without our mark",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").ours = false,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::InFlight,
        name: "the most operations at once are under way",
        plan: |plan| {
            plan.nodes = 30;
            plan.pool.max = 40;
            plan.limits.operations = 1;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::JournalFailed,
        name: "the journal cannot be written",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.step(crate::event::Input::JournalHealth(false));
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::LadderExhausted,
        name: "three rungs on one node within a day",
        plan: |plan| {
            for hours in [3, 4] {
                plan.before.push(rung(Rung::Reboot, hours * 3600));
            }
        },
        both: warm,
        only: |lab| {
            lab.journal.push(rung(Rung::Replace, 5 * 3600));
            lab.restart();
            lab.run(310);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
];

/// A rung of w3 begun so many seconds before the first.
pub(crate) fn rung(rung: Rung, ago: u64) -> Record {
    let ago = Duration::from_secs(ago);
    Record::Rung {
        node: NodeName::new("w3"),
        rung,
        at: Now {
            wall: BEGIN.wall.minus(ago),
            mono: BEGIN.mono,
        },
    }
}

#[test]
fn every_refusal_of_the_guard_has_its_yes_and_its_no() {
    play(&ROWS[1..]);
}

#[test]
fn at_the_maximum_nothing_is_added() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            nodes: 8,
            ..Plan::default()
        });
        warm(&mut lab);
        load_rises(&mut lab);
        assert!(lab.reasons().contains(&Reason::AtMaximum));
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
    });
}

#[test]
fn a_vm_without_a_journal_claim_is_not_ours_whatever_its_mark_says() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            foreign: vec![2],
            ..Plan::default()
        });
        warm(&mut lab);
        w3_dies(&mut lab);
        assert_eq!(lab.reasons(), [Reason::NotOwned]);
        assert!(lab.actions.is_empty());
    });
}

#[test]
fn after_a_storm_every_timer_starts_at_zero() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        two_die(&mut lab);
        let w4 = lab.node("w4");
        w4.agent = true;
        w4.kubelet = true;
        let mut over = None;
        for _ in 0..600 {
            lab.run(1);
            let off = |record: &Record| {
                matches!(
                    record,
                    Record::Brake {
                        brake: Brake::Storm(_),
                        on: false,
                        ..
                    }
                )
            };
            if over.is_none() && lab.records.iter().any(off) {
                over = Some(lab.now);
                assert!(lab.decided().is_empty(), "at once: {:?}", lab.decided());
            }
            if !lab.decided().is_empty() {
                break;
            }
        }
        let waited = lab.now.mono.since(over.unwrap().mono);
        assert_eq!(lab.decided(), ["reboot w3"]);
        assert!((60..=75).contains(&waited.as_secs()), "{waited:?}");
    });
}

#[test]
fn a_restart_does_not_shorten_the_wait_after_blindness() {
    on_engine_stack(|| {
        for restart_while_blind in [true, false] {
            let mut lab = Lab::new(Plan::default());
            warm(&mut lab);
            lab.sources.insert(SourceName::Kafka, false);
            lab.run(60);
            lab.die("w3");
            if restart_while_blind {
                lab.restart();
            }
            lab.sources.insert(SourceName::Kafka, true);
            lab.run(30);
            if !restart_while_blind {
                lab.restart();
            }
            lab.run(250);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
            assert!(lab.reasons().contains(&Reason::SightReturning));
            lab.run(60);
            assert_eq!(lab.decided(), ["reboot w3"]);
        }
    });
}

#[test]
fn a_day_of_the_wall_clock_makes_nobody_silent() {
    on_engine_stack(|| {
        for day in [86_400_000, -86_400_000] {
            let mut plan = Plan {
                nodes: 1,
                ..Plan::default()
            };
            plan.pool.min = 1;
            plan.pool.max = 1;
            let mut lab = Lab::new(plan);
            lab.run(405);
            lab.now.wall.0 += day;
            // The first thing after the jump is a record, before any tick.
            lab.step(crate::event::Input::Tick);
            lab.run(900);
            assert!(lab.decided().is_empty(), "{day}: {:?}", lab.decided());
            let on = |record: &&Record| {
                matches!(
                    record,
                    Record::Brake {
                        brake: Brake::Clock,
                        ..
                    }
                )
            };
            assert_eq!(lab.records.iter().filter(on).count(), 2, "on and off");
        }
    });
}

#[test]
fn an_empty_list_after_a_restart_makes_no_machine() {
    on_engine_stack(|| {
        for kubernetes in [true, false] {
            let mut plan = Plan::default();
            plan.pool.kubernetes = kubernetes;
            plan.pool.min = 6;
            let mut lab = Lab::new(plan);
            warm(&mut lab);
            for node in &mut lab.nodes {
                node.listed = false;
            }
            lab.restart();
            // Less than the two looks, thirty seconds apart, that make it believable.
            lab.run(25);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
            for node in &mut lab.nodes {
                node.listed = true;
            }
            lab.run(120);
            assert!(lab.decided().is_empty(), "{:?}", lab.decided());
        }
    });
}

#[test]
fn a_list_that_agents_contradict_is_never_believed() {
    on_engine_stack(|| {
        let mut plan = Plan::default();
        plan.pool.kubernetes = false;
        plan.pool.min = 6;
        let mut lab = Lab::new(plan);
        warm(&mut lab);
        for node in &mut lab.nodes {
            node.listed = false;
        }
        lab.run(900);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
    });
}

#[test]
fn a_pause_parks_an_operation_and_outlives_a_restart() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.obedient = true;
        warm(&mut lab);
        lab.cpu(Some(0.05));
        while lab.decided().is_empty() {
            lab.run(1);
        }
        lab.wish(Wish::Pause { pool: None });
        lab.run(1);
        let intents = |lab: &Lab| {
            let intent = |record: &&Record| matches!(record, Record::Intent { .. });
            lab.journal.iter().filter(intent).count()
        };
        let before = intents(&lab);
        lab.run(60);
        lab.restart();
        lab.run(60);
        assert_eq!(intents(&lab), before, "nothing leaves while paused");
        lab.wish(Wish::Resume { pool: None });
        lab.run(30);
        assert!(intents(&lab) > before);
    });
}

#[test]
fn a_node_protected_meanwhile_is_let_go() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.cpu(Some(0.05));
        while lab.decided().is_empty() {
            lab.run(1);
        }
        let name = lab.decided()[0].trim_start_matches("remove ").to_owned();
        lab.wish(Wish::Protect {
            node: NodeName::new(&name),
            on: true,
        });
        lab.obedient = true;
        lab.run(60);
        let kinds: Vec<_> = lab
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Intent { action, .. } => Some(action.kind.name()),
                _ => None,
            })
            .collect();
        assert_eq!(kinds, ["cordon", "uncordon"]);
    });
}

#[test]
fn a_request_sent_again_is_told_the_same() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.wish(Wish::Pause { pool: None });
        let scale = || Wish::Scale {
            pool: pool(),
            size: 7,
        };
        let first = lab.wish_as("again", scale());
        assert!(matches!(first, Answer::Refused(Reason::Paused, _)));
        lab.wish(Wish::Resume { pool: None });
        assert_eq!(lab.wish_as("again", scale()), first);
        assert!(lab.decided().is_empty());
    });
}

#[test]
fn nova_and_the_heartbeat_are_two_witnesses() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.node("w3").agent = false;
        lab.node("w3").status = ServerStatus::Shutoff;
        lab.run(90);
        assert_eq!(lab.decided(), ["reboot w3"]);
    });
}

#[test]
fn a_resolved_alert_is_no_proof_of_health_and_a_firing_one_is_one_witness() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"on_alert("Disk").then(|alert| node(alert.label("node")).replace("disk"));"#,
            ..Plan::default()
        });
        warm(&mut lab);
        lab.alert("Disk", "w3", true);
        lab.alert("Disk", "w3", true);
        lab.run(5);
        assert_eq!(lab.reasons(), [Reason::OneWitness]);
        lab.alert("Disk", "w3", false);
        lab.die("w4");
        lab.run(60);
        lab.alert("Disk", "w4", false);
        lab.run(5);
        assert!(lab.decided().is_empty());
        lab.alert("Disk", "w4", true);
        lab.run(2);
        assert_eq!(lab.decided(), ["replace w4"]);
    });
}

#[test]
fn an_agent_that_dies_after_a_high_value_is_one_witness() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            policy: r#"heal("workers").when(mean("cpu", "10m") > 0.9).ladder(["reboot"]);"#,
            ..Plan::default()
        });
        lab.node("w3").cpu = Some(0.99);
        lab.run(700);
        lab.node("w3").agent = false;
        lab.run(90);
        assert!(lab.decided().is_empty(), "{:?}", lab.decided());
        assert!(lab.reasons().contains(&Reason::OneWitness));
    });
}

#[test]
fn an_alert_whose_end_was_lost_is_no_witness_for_ever() {
    for (age, healed) in [(3_000, true), (3_700, false)] {
        on_engine_stack(move || {
            let mut lab = Lab::new(Plan::default());
            lab.run(400);
            lab.alert("DiskFull", "w3", true);
            lab.run(age);
            lab.node("w3").agent = false;
            lab.run(90);
            assert_eq!(!lab.decided().is_empty(), healed, "{:?}", lab.decided());
        });
    }
}

#[test]
fn a_report_after_a_long_silence_begins_the_flow_anew() {
    // Rows: seconds between two good reports, whether the flow goes on through them.
    for (seconds, goes_on) in [(29, true), (31, false)] {
        let settings = crate::settings::Settings {
            cluster: String::new(),
            pools: std::collections::BTreeMap::new(),
            limits: crate::settings::Limits::default(),
            lateness: Duration::ZERO,
            heartbeat_sources: vec![SourceName::Kafka],
        };
        let mut brakes = crate::guard::Brakes::new(BEGIN);
        let later = BEGIN.plus(Duration::from_secs(seconds));
        for now in [BEGIN, later] {
            let report = crate::event::SourceReport {
                source: SourceName::Kafka,
                flowing: true,
                lag: Duration::ZERO,
                refilled: true,
                trouble: String::new(),
            };
            brakes.report(now, &settings, report);
        }
        let since = if goes_on { BEGIN } else { later };
        assert_eq!(brakes.flowing_since(&settings), Some(since));
    }
}
