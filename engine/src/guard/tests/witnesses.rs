//! Who counts as a witness, and what an operator's word does.

use super::{load_rises, w3_dies, warm};
use crate::decision::Reason;
use crate::engine::Answer;
use crate::event::{ServerStatus, Wish};
use crate::journal::Record;
use crate::lab::{Lab, Plan, on_engine_stack, pool};
use crate::names::NodeName;

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
fn a_wrong_clock_on_a_node_makes_no_second_witness_and_hides_none() {
    // Rows: by how many seconds its clock is ahead, whether its kubelet lives on.
    for (ahead, kubelet) in [(-3600, true), (3600, true), (-3600, false), (3600, false)] {
        on_engine_stack(move || {
            let mut lab = Lab::new(Plan {
                policy: r#"heal("workers").when(not_ready("60s")).ladder(["reboot"]);"#,
                ..Plan::default()
            });
            lab.node("w3").ahead = ahead;
            warm(&mut lab);
            let w3 = lab.node("w3");
            w3.agent = false;
            w3.kubelet = kubelet;
            lab.run(150);
            assert_eq!(
                lab.decided().is_empty(),
                kubelet,
                "{ahead}: {:?}",
                lab.decided()
            );
        });
    }
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
fn an_agent_that_dies_again_is_told_again_but_not_with_each_minute() {
    // How long the agent is dead and lives, twice, and how often its silence is told. While it stands a
    // body is entered again, which is not asking anew.
    for (dead, lives, told) in [(200, 300, 2), (30, 10, 1)] {
        on_engine_stack(move || {
            let mut lab = Lab::new(Plan {
                policy: r#"heal("workers").when(silent("20s")).ladder(["reboot"]);"#,
                ..Plan::default()
            });
            warm(&mut lab);
            for _ in 0..2 {
                lab.node("w3").agent = false;
                lab.run(dead);
                lab.node("w3").agent = true;
                lab.run(lives);
            }
            let reasons = lab.reasons();
            assert_eq!(reasons, vec![Reason::OneWitness; told], "dead for {dead} s");
            assert!(lab.decided().is_empty());
        });
    }
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
