//! What operators are told of a size, and what counts in it.

use crate::decision::Rung;
use crate::engine::Answer;
use crate::event::Wish;
use crate::guard::tests::rung;
use crate::lab::{Lab, Plan, on_engine_stack, pool};

/// A lab of six in which w3 is being replaced.
fn replacing(max: u32) -> Lab {
    let mut plan = Plan {
        before: vec![rung(Rung::Reboot, 1200)],
        ..Plan::default()
    };
    plan.pool.max = max;
    let mut lab = Lab::new(plan);
    lab.run(400);
    lab.die("w3");
    lab.run(90);
    assert_eq!(lab.decided(), ["replace w3"], "{:?}", lab.reasons());
    lab
}

fn scale(lab: &mut Lab, size: u32) -> Answer {
    lab.wish(Wish::Scale { pool: pool(), size })
}

#[test]
fn a_node_and_its_replacement_are_one_in_the_size_and_two_against_the_maximum() {
    on_engine_stack(|| {
        let mut lab = replacing(8);
        assert_eq!(lab.engine.status(lab.now).pools[0].size, 6);
        let answer = scale(&mut lab, 7);
        assert!(matches!(answer, Answer::Granted(_)), "{answer:?}");
        assert_eq!(lab.decided().len(), 2, "{:?}", lab.decided());
        assert!(
            lab.decided()[1].ends_with("(6 to 7)"),
            "{:?}",
            lab.decided()
        );

        let mut lab = replacing(6);
        let Answer::Refused(_, why) = scale(&mut lab, 7) else {
            panic!("{:?}", lab.answers);
        };
        assert!(why.contains("of at most 6"), "{why}");
    });
}

#[test]
fn an_operator_is_told_of_every_addition_and_of_the_maximum() {
    on_engine_stack(|| {
        let mut plan = Plan {
            nodes: 3,
            ..Plan::default()
        };
        plan.limits.additions_at_once = 2;
        let mut lab = Lab::new(plan);
        lab.run(20);
        let Answer::Granted(text) = scale(&mut lab, 100) else {
            panic!("{:?}", lab.answers);
        };
        for part in [
            "(3 to 4); ",
            "(4 to 5); ",
            "3 more follow as the brakes allow",
            "at most 8 may be in workers, and 100 were asked for",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let mut lab = Lab::new(Plan::default());
        lab.run(20);
        let Answer::Granted(text) = scale(&mut lab, 7) else {
            panic!("{:?}", lab.answers);
        };
        assert!(text.ends_with("(6 to 7)"), "{text}");
    });
}
