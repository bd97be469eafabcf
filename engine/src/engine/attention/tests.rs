//! What holds is told on, told off, and told again after a start.

use std::time::Duration;

use crate::action::{Failure, FailureKind};
use crate::decision::Rung;
use crate::event::{Input, SourceName, Wish};
use crate::guard::tests::rung;
use crate::journal::Record;
use crate::lab::{Lab, Plan, on_engine_stack, pool};
use crate::notice::NoticeKind;

/// What was told of the kind, in its order.
fn told(lab: &Lab, kind: NoticeKind) -> Vec<bool> {
    let of_kind = lab.notices.iter().filter(|notice| notice.kind == kind);
    of_kind.map(|notice| notice.on).collect()
}

fn failed_in_a_row(lab: &mut Lab, failures: u32) {
    let at = lab.now;
    lab.engine.emit(Record::Circuit {
        pool: pool(),
        failures,
        at,
    });
    lab.run(2);
}

#[test]
fn a_circuit_is_told_open_again_after_a_start_and_closed() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(20);
        failed_in_a_row(&mut lab, 2);
        assert_eq!(told(&lab, NoticeKind::Circuit), [false; 0]);
        failed_in_a_row(&mut lab, 3);
        failed_in_a_row(&mut lab, 4);
        assert_eq!(told(&lab, NoticeKind::Circuit), [true], "once");
        lab.restart();
        lab.run(20);
        assert_eq!(told(&lab, NoticeKind::Circuit), [true, true]);
        failed_in_a_row(&mut lab, 0);
        assert_eq!(told(&lab, NoticeKind::Circuit), [true, true, false]);
        let last = lab.notices.last().unwrap();
        assert_eq!(last.pool, Some(pool()));
        assert!(last.text.starts_with("over: 4 failures"), "{}", last.text);
        lab.restart();
        lab.run(20);
        assert_eq!(told(&lab, NoticeKind::Circuit).len(), 3);
    });
}

#[test]
fn a_storm_and_a_lost_source_are_each_told_and_told_over() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        for name in ["w1", "w2", "w3"] {
            lab.die(name);
        }
        lab.run(90);
        assert_eq!(told(&lab, NoticeKind::Storm), [true]);
        lab.restart();
        lab.run(1);
        assert_eq!(told(&lab, NoticeKind::Storm), [true, true]);
        lab.sources.insert(SourceName::Openstack, false);
        lab.run(30);
        assert_eq!(told(&lab, NoticeKind::Blind), [true]);
        lab.sources.insert(SourceName::Openstack, true);
        for name in ["w1", "w2", "w3"] {
            lab.node(name).agent = true;
            lab.node(name).kubelet = true;
        }
        lab.run(420);
        assert_eq!(told(&lab, NoticeKind::Blind), [true, false]);
        assert_eq!(told(&lab, NoticeKind::Storm), [true, true, false]);
    });
}

#[test]
fn a_journal_that_cannot_be_written_is_told_and_told_over() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(20);
        for well in [false, false, true, true] {
            lab.step(Input::JournalHealth(well));
            lab.run(2);
        }
        assert_eq!(told(&lab, NoticeKind::Journal), [true, false], "once each");
        lab.restart();
        lab.run(20);
        assert_eq!(told(&lab, NoticeKind::Journal).len(), 2);
        lab.step(Input::JournalHealth(false));
        lab.run(2);
        assert_eq!(told(&lab, NoticeKind::Journal).last(), Some(&true));
    });
}

#[test]
fn clocks_that_parted_are_told_again_after_a_start_and_told_over_once_they_go_together() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(20);
        lab.now.wall = lab.now.wall.plus(Duration::from_secs(86_400));
        lab.run(2);
        assert_eq!(told(&lab, NoticeKind::Clock), [true]);
        let notice = lab.notices.last().unwrap();
        assert!(notice.text.contains("parted by"), "{}", notice.text);
        lab.restart();
        lab.run(1);
        assert_eq!(told(&lab, NoticeKind::Clock), [true, true]);
        lab.run(600);
        assert_eq!(told(&lab, NoticeKind::Clock), [true, true, false]);
    });
}

#[test]
fn a_pool_that_is_gone_holds_nothing() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(20);
        failed_in_a_row(&mut lab, 3);
        lab.notices.clear();
        lab.restart_without_the_pool();
        lab.run(20);
        assert_eq!(told(&lab, NoticeKind::Circuit), [false; 0]);
    });
}

#[test]
fn a_ladder_is_over_when_its_node_is_well_again() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            before: vec![rung(Rung::Reboot, 1200), rung(Rung::Replace, 1200)],
            ..Plan::default()
        });
        lab.run(400);
        lab.die("w3");
        lab.run(300);
        assert_eq!(told(&lab, NoticeKind::LadderExhausted), [true]);
        let notice = lab.notices.last().unwrap();
        assert_eq!(notice.subject.as_deref(), Some("w3"));
        lab.restart();
        lab.run(300);
        assert_eq!(told(&lab, NoticeKind::LadderExhausted), [true, true]);
        lab.node("w3").agent = true;
        lab.node("w3").kubelet = true;
        lab.run(200);
        assert_eq!(told(&lab, NoticeKind::LadderExhausted), [true, true, false]);
    });
}

#[test]
fn an_operation_that_ended_badly_happened_and_one_that_cannot_get_on_holds() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        lab.run(400);
        let scale = Wish::Scale {
            pool: pool(),
            size: 7,
        };
        lab.wish(scale.clone());
        let action = lab.actions.pop().unwrap();
        let failure = Failure::new(FailureKind::Refused, "the quota is used up");
        lab.step(Input::Outcome(action.key, Err(failure)));
        lab.obedient = true;
        lab.run(10);
        assert_eq!(told(&lab, NoticeKind::OperationEnded), [true]);
        assert_eq!(told(&lab, NoticeKind::Operation), [false; 0]);

        lab.obedient = false;
        lab.run(200);
        assert_eq!(lab.engine.state().operations.len(), 1, "tried again");
        lab.fail = Some(FailureKind::Unknown);
        lab.run(1200);
        assert_eq!(told(&lab, NoticeKind::Operation), [true]);
        let mut notices = lab.notices.iter();
        let stuck = notices.find(|notice| notice.kind == NoticeKind::Operation);
        let subject = stuck.unwrap().subject.clone();
        let id = *lab.engine.state().operations.keys().next().unwrap();
        assert_eq!(subject, Some(id.to_string()));
        lab.restart();
        lab.run(2);
        assert_eq!(told(&lab, NoticeKind::Operation), [true, true]);
        lab.fail = None;
        lab.obedient = true;
        for _ in 0..300 {
            lab.run(10);
            if told(&lab, NoticeKind::Operation).last() == Some(&false) {
                return;
            }
        }
        panic!("{:?}: {:?}", lab.notices, lab.engine.state().operations);
    });
}
