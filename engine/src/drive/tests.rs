//! What holds operations back once they are under way.

use crate::action::{ActionKind, Done, FailureKind};
use crate::decision::{Origin, Reason};
use crate::event::{Input, Observation, SourceName, Wish};
use crate::journal::{Brake, Record};
use crate::lab::{Lab, Plan, on_engine_stack};
use crate::remediation::{Ending, Phase};

mod called_off;
mod late;
mod restarts;

/// How often the VM was rebooted, softly and hard.
fn reboots(lab: &Lab) -> (usize, usize) {
    let is = |wanted: bool| {
        let intents = lab.records.iter().filter(|record| {
            matches!(record, Record::Intent { action, .. }
                if matches!(action.kind, ActionKind::RebootServer { hard, .. } if hard == wanted))
        });
        intents.count()
    };
    (is(false), is(true))
}

fn endings(lab: &Lab) -> Vec<Ending> {
    let over = lab.records.iter().filter_map(|record| match record {
        Record::Operation { operation } => match &operation.phase {
            Phase::Over { ending } => Some(ending.clone()),
            _ => None,
        },
        _ => None,
    });
    over.collect()
}

/// A lab in which w3 has died and was rebooted softly just now.
fn rebooted() -> Lab {
    let mut lab = Lab::new(Plan::default());
    lab.obedient = true;
    lab.run(400);
    lab.die("w3");
    lab.run(70);
    assert_eq!(reboots(&lab), (1, 0), "{:?}", lab.decided());
    lab
}

#[test]
fn a_storm_that_began_after_the_heal_holds_its_next_blow_back() {
    on_engine_stack(|| {
        let mut lab = rebooted();
        lab.die("w1");
        lab.die("w2");
        lab.run(600);
        assert_eq!(reboots(&lab), (1, 0), "the hard reboot is held back");
        let held: Vec<_> = lab
            .refusals()
            .into_iter()
            .filter(|refusal| matches!(refusal.origin, Origin::Operation(_)))
            .map(|refusal| (refusal.reason, refusal.what.clone()))
            .collect();
        assert_eq!(held.len(), 1, "told once: {held:?}");
        assert_eq!(held[0].0, Reason::Storm, "{held:?}");
        let waits = lab.engine.status(lab.now).operations[0].waits.clone();
        assert!(waits.contains("silent or ill at once"), "{waits}");
        for name in ["w1", "w2"] {
            lab.node(name).agent = true;
            lab.node(name).kubelet = true;
        }
        lab.run(360);
        assert_eq!(reboots(&lab), (1, 1), "the storm is over");
    });
}

#[test]
fn the_same_without_a_storm_goes_on() {
    on_engine_stack(|| {
        let mut lab = rebooted();
        lab.run(200);
        assert_eq!(reboots(&lab), (1, 1));
    });
}

#[test]
fn in_a_pause_a_steps_time_stands_still_over_a_restart_too() {
    on_engine_stack(|| {
        for restarts in [false, true] {
            let mut lab = rebooted();
            lab.wish(Wish::Pause { pool: None });
            lab.run(300);
            if restarts {
                lab.restart();
                lab.round();
            }
            lab.run(300);
            assert_eq!(reboots(&lab), (1, 0), "nothing is sent in a pause");
            lab.wish(Wish::Resume { pool: None });
            lab.run(5);
            assert_eq!(reboots(&lab), (1, 0), "its time is not over: {restarts}");
            lab.node("w3").agent = true;
            lab.node("w3").kubelet = true;
            lab.run(30);
            assert_eq!(endings(&lab), [Ending::Done], "it came back in its time");
            assert_eq!(reboots(&lab), (1, 0));
        }
    });
}

#[test]
fn a_removal_stops_before_the_drain_in_a_storm_and_goes_on_after_it() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.wish(Wish::Scale {
            pool: crate::lab::pool(),
            size: 5,
        });
        lab.run(1);
        let names = |lab: &Lab| -> Vec<&'static str> {
            let sent = lab.records.iter().filter_map(|record| match record {
                Record::Intent { action, .. } => Some(action.kind.name()),
                _ => None,
            });
            sent.collect()
        };
        assert_eq!(names(&lab), ["cordon"], "{:?}", lab.decided());
        for name in ["w4", "w5", "w6"] {
            lab.die(name);
        }
        lab.run(60);
        lab.obedient = true;
        lab.run(300);
        assert_eq!(names(&lab), ["cordon"], "the drain waits for the storm");
        for name in ["w4", "w5", "w6"] {
            lab.node(name).agent = true;
            lab.node(name).kubelet = true;
        }
        lab.run(360);
        assert_eq!(names(&lab)[..3], ["cordon", "drain", "delete_server"]);
    });
}

#[test]
fn a_pool_taken_out_of_the_configuration_leaves_no_operation_standing() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.wish(Wish::Scale {
            pool: crate::lab::pool(),
            size: 5,
        });
        lab.run(1);
        assert_eq!(lab.engine.status(lab.now).operations.len(), 1);
        lab.restart_without_the_pool();
        lab.run(2);
        let told: Vec<_> = lab.notices.iter().map(|notice| &notice.text).collect();
        assert!(
            told.iter().any(|text| text.contains("is being undone")),
            "{told:?}"
        );
        lab.obedient = true;
        lab.run(20);
        assert!(
            matches!(&endings(&lab)[..], [Ending::Cancelled(why)] if why.contains("`workers`")),
            "{:?}",
            endings(&lab)
        );
        assert!(lab.engine.status(lab.now).operations.is_empty());
    });
}

#[test]
fn what_is_tried_without_end_is_told() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.wish(Wish::Scale {
            pool: crate::lab::pool(),
            size: 7,
        });
        lab.run(1);
        // The token is made, and what comes of the VM is never answered.
        lab.fail = Some(FailureKind::Unknown);
        lab.run(1200);
        let told = lab
            .notices
            .iter()
            .filter(|notice| notice.text.contains("tried on"));
        assert_eq!(told.count(), 1, "{:?}", lab.notices);
    });
}

/// The seconds after the start at which w3, which dies, is decided on and its reboot is begun,
/// while everything that is asked for is done but drains, which never end.
fn healed_beside(removal: bool) -> (u64, u64) {
    let mut plan = Plan {
        nodes: 30,
        ..Plan::default()
    };
    plan.pool.max = 40;
    let mut lab = Lab::new(plan);
    let drains_never_end = |lab: &mut Lab, seconds: u64| {
        for _ in 0..seconds {
            lab.run(1);
            for action in std::mem::take(&mut lab.actions) {
                if !matches!(action.kind, ActionKind::Drain { .. }) {
                    lab.step(Input::Outcome(action.key, Ok(Done::Accepted)));
                }
            }
        }
    };
    drains_never_end(&mut lab, 400);
    if removal {
        let pool = crate::lab::pool();
        lab.wish(Wish::Scale { pool, size: 29 });
    }
    drains_never_end(&mut lab, 10);
    let drained = |record: &Record| {
        matches!(record, Record::Intent { action, .. }
            if matches!(action.kind, ActionKind::Drain { .. }))
    };
    assert_eq!(lab.records.iter().any(drained), removal);
    lab.die("w3");
    drains_never_end(&mut lab, 90);
    let begin = crate::lab::BEGIN.wall;
    let decided = lab.records.iter().find_map(|record| match record {
        Record::Decision { decision } if decision.what == "reboot w3" => {
            Some(decision.at.since(begin).as_secs())
        }
        _ => None,
    });
    let begun = lab.records.iter().find_map(|record| match record {
        Record::Intent { at, action } if matches!(action.kind, ActionKind::RebootServer { .. }) => {
            Some(at.wall.since(begin).as_secs())
        }
        _ => None,
    });
    (decided.unwrap(), begun.unwrap())
}

#[test]
fn i25_a_drain_that_hangs_delays_no_other_node() {
    on_engine_stack(|| {
        let (decided, begun) = healed_beside(false);
        let (decided_beside, begun_beside) = healed_beside(true);
        assert!(decided_beside <= decided + 1, "{decided_beside}, {decided}");
        assert!(begun_beside <= begun + 1, "{begun_beside}, {begun}");
    });
}

#[test]
fn i5_i16_who_serves_is_replaced_first_and_who_does_not_is_fenced_first() {
    on_engine_stack(|| {
        // Rows: whether the node is dead, what is asked for first.
        for (dead, first) in [(false, "create_token"), (true, "stop_server")] {
            let mut lab = Lab::new(Plan::default());
            lab.run(400);
            if dead {
                lab.die("w3");
                lab.run(40);
            }
            let node = crate::names::NodeName::new("w3");
            lab.wish(Wish::Replace { node });
            let asked: Vec<_> = lab
                .actions
                .iter()
                .map(|action| action.kind.name())
                .collect();
            assert_eq!(asked, [first], "{:?}", lab.answers);
        }
    });
}

/// Answers what a new node needs until its VM is asked for, and says that this is `vm-new`.
fn create(lab: &mut Lab) {
    for _ in 0..10 {
        for action in std::mem::take(&mut lab.actions) {
            let created = matches!(action.kind, ActionKind::CreateServer { .. });
            let done = if created {
                Done::Created {
                    vm: crate::names::VmId::new("vm-new"),
                }
            } else {
                Done::Accepted
            };
            lab.step(Input::Outcome(action.key, Ok(done)));
            if created {
                return;
            }
        }
        lab.run(1);
    }
    panic!("no VM was asked for: {:?}", lab.reasons());
}

#[test]
fn a_list_that_lacks_a_new_vm_says_that_it_is_gone_only_after_the_time_to_settle() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.wish(Wish::Scale {
            pool: crate::lab::pool(),
            size: 7,
        });
        let before = lab.now.wall;
        create(&mut lab);
        lab.list_asked(before);
        lab.step(Input::Tick);
        let doing = |lab: &Lab| {
            let operations = lab.engine.state().operations.values();
            operations
                .filter(|operation| operation.phase == Phase::Doing)
                .count()
        };
        assert_eq!(doing(&lab), 1, "it was on its way");
        lab.run(1);
        lab.list();
        assert_eq!(doing(&lab), 1, "a replica that lags may have answered");
        lab.run(crate::settings::Limits::default().settle.as_secs());
        lab.list();
        assert_eq!(doing(&lab), 0, "now it is gone");
    });
}

#[test]
fn i13_an_empty_list_and_404s_are_one_cloud_that_errs() {
    on_engine_stack(|| {
        let mut plan = Plan::default();
        plan.pool.kubernetes = false;
        let mut lab = Lab::new(plan);
        for node in &mut lab.nodes {
            node.node = false;
            node.kubelet = false;
        }
        lab.run(400);
        for node in &mut lab.nodes {
            node.listed = false;
        }
        for _ in 0..12 {
            lab.round();
            for name in ["w1", "w2", "w3", "w4", "w5", "w6"] {
                let gone = Observation::ServerGone(crate::lab::vm(name));
                lab.step(Input::Observation(gone));
            }
            lab.run(10);
        }
        assert_eq!(lab.decided(), [""; 0], "their agents speak");
        // Nothing is heard of anybody: that agrees with nothing.
        for node in &mut lab.nodes {
            node.agent = false;
        }
        lab.run(300);
        assert_eq!(lab.decided(), [""; 0], "an outage of both");
        // Others are heard, and these are not: now they are gone.
        lab.bystander = true;
        lab.run(120);
        assert!(lab.engine.status(lab.now).pools[0].nodes.is_empty());
    });
}

/// An API server whose database is empty, or another's.
#[test]
fn i13_an_empty_list_of_nodes_is_not_believed_while_their_agents_speak() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.bystander = true;
        lab.run(400);
        for node in &mut lab.nodes {
            node.node = false;
        }
        let doubted = |lab: &Lab| {
            let brake = Brake::Inventory(SourceName::Kubernetes);
            lab.engine.state().brakes.contains_key(&brake)
        };
        lab.run(200);
        assert!(doubted(&lab));
        assert_eq!(lab.engine.status(lab.now).pools[0].ready, 6);
        for node in &mut lab.nodes {
            node.agent = false;
        }
        lab.run(100);
        assert!(!doubted(&lab), "nobody contradicts it any more");
        assert_eq!(lab.engine.status(lab.now).pools[0].ready, 0);
        assert_eq!(lab.decided(), [""; 0]);
    });
}

#[test]
fn a_rung_of_which_nothing_was_sent_was_not_tried() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        lab.die("w3");
        // Held back until the decision is too old, and again.
        lab.fail = Some(FailureKind::Gate);
        lab.run(500);
        assert!(lab.decided().len() >= 2, "{:?}", lab.decided());
        assert!(lab.decided().iter().all(|what| *what == "reboot w3"));
        assert!(lab.engine.state().rungs.is_empty());
        lab.fail = None;
        lab.obedient = true;
        lab.run(150);
        let rungs = lab.engine.state().rungs.values().flatten();
        assert_eq!(rungs.count(), 1, "{:?}", lab.decided());
    });
}
