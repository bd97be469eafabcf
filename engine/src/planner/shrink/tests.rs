//! Which node goes, and which never does.

use std::time::Duration;

use crate::decision::Reason;
use crate::engine::Answer;
use crate::event::{Target, Wish};
use crate::lab::{Lab, Plan, on_engine_stack, operation, pool};
use crate::names::OperationId;

fn removals(lab: &Lab) -> Vec<&str> {
    let decided = lab.decided().into_iter();
    decided.filter(|what| what.starts_with("remove")).collect()
}

/// A creation that came through late makes nine of at most eight.
#[test]
fn no_node_that_serves_makes_up_for_a_vm_that_is_to_be_swept() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            nodes: 9,
            foreign: vec![8],
            ..Plan::default()
        });
        let late = lab.node("w9");
        late.made_by = Some(operation(7));
        late.agent = false;
        late.kubelet = false;
        late.node = false;
        // It is swept when it is a quarter of an hour old.
        late.age = Duration::ZERO;
        lab.obedient = true;
        lab.run(840);
        assert_eq!(lab.decided(), Vec::<&str>::new(), "{:?}", lab.reasons());
        let mut waited = 0;
        while lab.decided().is_empty() && waited < 600 {
            lab.run(10);
            waited += 10;
        }
        // While the sweep is under way it counts on.
        lab.run(300);
        assert!(lab.decided()[0].starts_with("sweep VM vm-w9"));
        lab.node("w9").listed = false;
        lab.run(300);
        assert_eq!(lab.decided().len(), 1, "{:?}", lab.decided());
        assert_eq!(lab.engine.status(lab.now).pools[0].size, 8);
    });
}

#[test]
fn an_operators_size_takes_no_node_in_place_of_a_vm_that_is_not_adopted() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan {
            nodes: 5,
            foreign: vec![3, 4],
            ..Plan::default()
        });
        for name in ["w4", "w5"] {
            lab.node(name).made_by = Some(OperationId {
                journal: 2,
                number: 7,
            });
        }
        lab.run(400);
        let Answer::Granted(text) = lab.wish(Wish::Scale {
            pool: pool(),
            size: 3,
        }) else {
            panic!("{:?}", lab.answers);
        };
        assert!(text.contains("2 that nobody claims count"), "{text}");
        lab.run(300);
        assert_eq!(removals(&lab), Vec::<&str>::new());
        lab.wish(Wish::Adopt {
            target: Target::Pool(pool()),
        });
        lab.run(60);
        assert_eq!(
            removals(&lab).len(),
            1,
            "now all five are ours: {:?}",
            lab.reasons()
        );
    });
}

#[test]
fn what_holds_the_pool_back_is_told_and_not_what_speaks_against_one_node() {
    on_engine_stack(|| {
        let mut plan = Plan {
            foreign: vec![5],
            ..Plan::default()
        };
        plan.pool.min = 6;
        let mut lab = Lab::new(plan);
        // The first candidate.
        lab.node("w6").age = Duration::from_secs(3_600);
        lab.run(400);
        lab.cpu(Some(0.05));
        lab.run(120);
        let reasons = lab.reasons();
        assert!(reasons.contains(&Reason::AtMinimum), "{reasons:?}");
        assert!(!reasons.contains(&Reason::NotOwned), "{reasons:?}");
        assert_eq!(removals(&lab), Vec::<&str>::new());
    });
}

/// A lab in which an operator wants four of six, and the first removal is under way.
fn four_of_six() -> (Lab, OperationId) {
    let mut lab = Lab::new(Plan::default());
    lab.run(400);
    lab.wish(Wish::Scale {
        pool: pool(),
        size: 4,
    });
    lab.run(2);
    assert_eq!(removals(&lab).len(), 1, "{:?}", lab.reasons());
    let id = *lab.engine.state().operations.keys().next().unwrap();
    (lab, id)
}

#[test]
fn what_an_operator_was_told_outlives_a_removal_that_was_given_up() {
    on_engine_stack(|| {
        let (mut lab, id) = four_of_six();
        let node = lab.engine.state().operations[&id].node().cloned().unwrap();
        lab.wish(Wish::Protect {
            node: node.clone(),
            on: true,
        });
        lab.obedient = true;
        lab.run(30);
        assert!(lab.engine.state().operations.is_empty());
        assert_eq!(lab.engine.status(lab.now).pools[0].desired, Some(4));
        lab.obedient = false;
        lab.run(200);
        let gone: Vec<_> = removals(&lab);
        assert_eq!(gone.len(), 2, "another goes: {:?}", lab.reasons());
        assert!(!gone[1].contains(node.as_str()), "{gone:?}");
    });
}

#[test]
fn an_operator_who_cancels_a_removal_keeps_the_size() {
    on_engine_stack(|| {
        let (mut lab, id) = four_of_six();
        let Answer::Granted(text) = lab.wish(Wish::Cancel { operation: id }) else {
            panic!("{:?}", lab.answers);
        };
        assert!(text.ends_with("and workers keeps 6"), "{text}");
        lab.obedient = true;
        lab.run(600);
        assert_eq!(removals(&lab).len(), 1, "{:?}", lab.decided());
    });
}
