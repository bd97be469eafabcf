//! What is swept, what is told, and what is adopted.

use std::time::Duration;

use crate::action::ActionKind;
use crate::decision::Reason;
use crate::engine::Answer;
use crate::event::{Target, Wish};
use crate::journal::Record;
use crate::lab::{Lab, LabNode, Plan, on_engine_stack, operation, pool};
use crate::names::NodeName;
use crate::notice::NoticeKind;

/// A lab with a VM more that this journal's operation made and nothing claims.
fn with_an_orphan(change: impl FnOnce(&mut LabNode)) -> Lab {
    let plan = Plan {
        nodes: 7,
        foreign: vec![6],
        ..Plan::default()
    };
    let mut lab = Lab::new(plan);
    let orphan = lab.node("w7");
    orphan.made_by = Some(operation(7));
    orphan.agent = false;
    orphan.kubelet = false;
    orphan.node = false;
    change(orphan);
    lab.obedient = true;
    lab
}

fn deleted(lab: &Lab) -> Vec<String> {
    let sent = lab.records.iter().filter_map(|record| match record {
        Record::Intent { action, .. } => match &action.kind {
            ActionKind::DeleteServer { vm } => Some(vm.id.to_string()),
            ActionKind::DeleteNode { node } => Some(node.name.to_string()),
            _ => None,
        },
        _ => None,
    });
    sent.collect()
}

fn told(lab: &Lab, kind: NoticeKind) -> usize {
    let notices = lab.notices.iter();
    notices
        .filter(|notice| notice.kind == kind && notice.on)
        .count()
}

#[test]
fn an_orphan_is_swept_once_it_was_seen_so_twice_five_minutes_apart() {
    on_engine_stack(|| {
        let mut lab = with_an_orphan(|_| {});
        lab.run(280);
        assert_eq!(deleted(&lab), Vec::<String>::new());
        lab.run(60);
        assert_eq!(deleted(&lab), ["vm-w7"], "{:?}", lab.reasons());
        assert!(
            lab.decided()
                .iter()
                .any(|what| what.starts_with("sweep VM vm-w7")),
            "{:?}",
            lab.decided()
        );
    });
}

/// One row for each condition of I8, and for each sign of life.
#[test]
fn what_lacks_one_condition_is_left_alone() {
    type Change = fn(&mut LabNode);
    let rows: [(&str, Change); 7] = [
        ("it is young", |node| node.age = Duration::ZERO),
        ("no mark of ours", |node| node.ours = false),
        ("another journal made it", |node| {
            node.made_by = Some(crate::names::OperationId {
                journal: 2,
                number: 7,
            });
        }),
        ("the journal is an older one, put back", |node| {
            node.made_by = Some(operation(99));
        }),
        ("nobody knows who made it", |node| node.made_by = None),
        ("its node is Ready", |node| {
            node.node = true;
            node.kubelet = true;
        }),
        ("its agent is heard", |node| node.agent = true),
    ];
    on_engine_stack(move || {
        for (name, change) in rows {
            let mut lab = with_an_orphan(change);
            lab.run(800);
            assert_eq!(deleted(&lab), Vec::<String>::new(), "{name}");
        }
    });
}

#[test]
fn a_lost_journal_costs_no_machine_and_doubles_none() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.obedient = true;
        lab.run(60);
        lab.lose_the_journal();
        lab.run(900);
        assert_eq!(lab.decided(), Vec::<&str>::new());
        assert_eq!(told(&lab, NoticeKind::NotAdopted), 1);
        let status = lab.engine.status(lab.now);
        assert_eq!(status.pools[0].size, 6);
        assert_eq!(status.unclaimed.len(), 6);
        assert!(status.unclaimed[0].what.starts_with("not adopted"));

        lab.die("w3");
        lab.run(120);
        assert!(lab.reasons().contains(&Reason::NotOwned), "not healed yet");
        let answer = lab.wish(Wish::Adopt {
            target: Target::Pool(pool()),
        });
        assert_eq!(
            answer,
            Answer::Granted("6 VMs of workers are ours from now on".to_owned())
        );
        lab.run(120);
        assert_eq!(lab.decided(), ["reboot w3"], "healed like our own");
        assert!(lab.engine.status(lab.now).unclaimed.is_empty());
        lab.restart();
        assert_eq!(lab.engine.state().owned.len(), 6, "journaled");
    });
}

#[test]
fn only_what_carries_our_marks_is_adopted() {
    on_engine_stack(|| {
        let mut lab = with_an_orphan(|node| node.ours = false);
        lab.run(20);
        let adopt = |name: &str| Wish::Adopt {
            target: Target::Node(NodeName::new(name)),
        };
        let foreign = lab.wish(adopt("w7"));
        assert!(matches!(foreign, Answer::Refused(Reason::NotOwned, _)));
        let own = lab.wish(adopt("w1"));
        assert_eq!(own, Answer::Granted("w1 is ours already".to_owned()));
        let nobody = lab.wish(adopt("nobody"));
        assert!(matches!(nobody, Answer::Refused(Reason::Unknown, _)));
    });
}

#[test]
fn a_node_whose_vm_is_gone_counts_no_longer_and_goes_too() {
    on_engine_stack(|| {
        let plan = Plan {
            pool: crate::settings::PoolSettings {
                min: 6,
                max: 8,
                ..crate::settings::PoolSettings::default()
            },
            ..Plan::default()
        };
        let mut lab = Lab::new(plan);
        lab.run(400);
        lab.die("w3");
        lab.node("w3").listed = false;
        lab.run(80);
        let status = lab.engine.status(lab.now);
        let names: Vec<_> = status.pools[0].nodes.iter().map(|n| &n.name).collect();
        assert!(!names.contains(&&NodeName::new("w3")), "{names:?}");
        assert!(
            lab.decided()
                .iter()
                .any(|what| what.starts_with("add workers-")),
            "{:?}",
            lab.decided()
        );
        lab.run(90);
        assert_eq!(deleted(&lab), ["w3"], "the Node: {:?}", lab.decided());
    });
}

#[test]
fn a_vm_that_the_cloud_denies_while_its_node_lives_is_an_alarm_and_no_deletion() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.obedient = true;
        lab.run(400);
        lab.node("w3").listed = false;
        lab.run(900);
        assert_eq!(told(&lab, NoticeKind::VmMissing), 1, "{:?}", lab.notices);
        assert_eq!(deleted(&lab), Vec::<String>::new());
        assert_eq!(lab.engine.status(lab.now).pools[0].size, 6, "it counts");
        lab.node("w3").listed = true;
        lab.run(90);
        let over = lab.notices.iter().filter(|notice| !notice.on);
        assert_eq!(over.filter(|n| n.kind == NoticeKind::VmMissing).count(), 1);
    });
}
