//! What is swept, what is told, and what is adopted.

use std::time::Duration;

use proptest::prelude::*;

use crate::action::ActionKind;
use crate::decision::Reason;
use crate::engine::Answer;
use crate::event::{Input, Observation, PortsView, Target, Wish};
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

#[test]
fn of_two_vms_that_the_cloud_denies_each_is_told_by_its_node_and_over_by_itself() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.obedient = true;
        lab.run(400);
        let missing = |lab: &Lab| -> Vec<_> {
            let notices = lab.notices.iter();
            notices
                .filter(|notice| notice.kind == NoticeKind::VmMissing)
                .map(|notice| (notice.on, notice.pool.clone(), notice.subject.clone()))
                .collect()
        };
        let of = |on: bool, node: &str| (on, Some(pool()), Some(node.to_owned()));
        lab.node("w3").listed = false;
        lab.run(900);
        lab.node("w4").listed = false;
        lab.run(900);
        assert_eq!(missing(&lab), [of(true, "w3"), of(true, "w4")]);
        lab.node("w3").listed = true;
        lab.run(90);
        assert_eq!(missing(&lab).last(), Some(&of(false, "w3")), "w4 holds on");
        lab.restart();
        lab.run(900);
        assert_eq!(missing(&lab).last(), Some(&of(true, "w4")), "told again");
        lab.node("w4").listed = true;
        lab.run(90);
        assert_eq!(missing(&lab).last(), Some(&of(false, "w4")));
        assert_eq!(missing(&lab).len(), 5);
    });
}

/// Ports of the operation of this number, as the cloud shows them.
fn ports_of(number: u64) -> Input {
    Input::Observation(Observation::Ports(vec![PortsView {
        operation: operation(number),
        pool: pool(),
        node: NodeName::new("w-gone"),
    }]))
}

fn released(lab: &Lab) -> Vec<String> {
    let sent = lab.records.iter().filter_map(|record| match record {
        Record::Intent { action, .. } => match &action.kind {
            ActionKind::ReleasePorts { operation } => Some(operation.to_string()),
            _ => None,
        },
        _ => None,
    });
    sent.collect()
}

#[test]
fn ports_that_outlived_their_operation_are_swept_once_they_were_seen_so_for_five_minutes() {
    on_engine_stack(|| {
        // The lab's nodes live on no ports of ours, and were made by numbers that are over.
        let mut lab = with_an_orphan(|node| node.listed = false);
        for _ in 0..4 {
            lab.step(ports_of(7));
            lab.run(120);
        }
        assert_eq!(
            released(&lab),
            [operation(7).to_string()],
            "{:?}",
            lab.reasons()
        );
        assert_eq!(deleted(&lab), Vec::<String>::new());
    });
}

#[test]
fn ports_of_a_vm_that_the_cloud_denies_while_its_node_lives_are_left_alone() {
    on_engine_stack(|| {
        let mut lab = with_an_orphan(|node| node.listed = false);
        let lives = |name: &str| {
            Input::Observation(Observation::Ports(vec![PortsView {
                operation: operation(7),
                pool: pool(),
                node: NodeName::new(name),
            }]))
        };
        for _ in 0..5 {
            lab.step(lives("w1"));
            lab.run(120);
        }
        assert_eq!(released(&lab), Vec::<String>::new(), "{:?}", lab.decided());
    });
}

#[test]
fn ports_that_lack_one_condition_are_left_alone() {
    on_engine_stack(|| {
        // A VM with the operation's mark is listed: they are its.
        let mut lab = with_an_orphan(|node| node.agent = true);
        // A look that stays away, or comes once: nothing is known of them any more.
        let mut stale = with_an_orphan(|node| node.listed = false);
        stale.step(ports_of(7));
        stale.run(900);
        // A number that this journal has not given out.
        let mut newer = with_an_orphan(|node| node.listed = false);
        for _ in 0..4 {
            lab.step(ports_of(7));
            lab.run(120);
            newer.step(ports_of(1_000_000));
            newer.run(120);
        }
        for lab in [lab, stale, newer] {
            assert_eq!(released(&lab), Vec::<String>::new(), "{:?}", lab.decided());
        }
    });
}

/// What a VM of the property below is like.
#[derive(Debug, Clone)]
struct Lot {
    claimed: bool,
    marked: bool,
    made_by: Option<crate::names::OperationId>,
    old: bool,
    agent: bool,
    kubelet: bool,
    node: bool,
}

impl Lot {
    /// Whether I8 lets it be swept.
    fn may_be_swept(&self) -> bool {
        let own = self
            .made_by
            .is_some_and(|by| by.journal == 1 && by.number < 100);
        let lives = self.agent || (self.node && self.kubelet);
        !self.claimed && self.marked && own && self.old && !lives
    }
}

fn lots() -> impl Strategy<Value = Vec<Lot>> {
    let of_another_journal = crate::names::OperationId {
        journal: 2,
        number: 7,
    };
    let made_by = prop_oneof![
        3 => Just(Some(operation(5))),
        1 => Just(Some(operation(100))),
        1 => Just(Some(of_another_journal)),
        1 => Just(None),
    ];
    // Most lack nothing to be swept but for what the case is about.
    let mostly = || prop::bool::weighted(0.8);
    let seldom = || prop::bool::weighted(0.2);
    let lot = (
        prop::bool::ANY,
        mostly(),
        made_by,
        mostly(),
        seldom(),
        seldom(),
        seldom(),
    );
    let lot = lot.prop_map(
        |(claimed, marked, made_by, old, agent, kubelet, node)| Lot {
            claimed,
            marked,
            made_by,
            old,
            agent,
            kubelet,
            node,
        },
    );
    prop::collection::vec(lot, 1..6)
}

/// Plays the lots beside six nodes that serve, and gives which VMs the sweep named.
fn swept(lots: &[Lot]) -> Vec<usize> {
    let first = 6;
    let foreign = lots.iter().enumerate();
    let foreign = foreign.filter(|(_, lot)| !lot.claimed);
    let mut lab = Lab::new(Plan {
        nodes: first + lots.len(),
        foreign: foreign.map(|(place, _)| first + place).collect(),
        ..Plan::default()
    });
    lab.obedient = true;
    for (place, lot) in lots.iter().enumerate() {
        let node = lab.node(&format!("w{}", first + place + 1));
        node.ours = lot.marked;
        node.made_by = lot.made_by;
        node.agent = lot.agent;
        node.kubelet = lot.kubelet;
        node.node = lot.node;
        if !lot.old {
            node.age = Duration::ZERO;
        }
    }
    lab.run(420);
    let names = |place: &usize| {
        let sweeps = format!("sweep VM vm-w{}", first + place + 1);
        lab.decided().iter().any(|what| what.starts_with(&sweeps))
    };
    (0..lots.len()).filter(names).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_sweep_never_names_a_claimed_vm_nor_one_that_lacks_a_condition(lots in lots()) {
        let played = lots.clone();
        for place in on_engine_stack(move || swept(&played)) {
            prop_assert!(lots[place].may_be_swept(), "{:?}", lots[place]);
        }
    }
}
