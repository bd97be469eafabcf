//! Pauses that are left in a file: how long they stand, and what holds when nobody can tell.

use std::collections::BTreeSet;

use super::{load_rises, w3_dies, warm};
use crate::decision::Reason;
use crate::engine::Answer;
use crate::event::{PauseSource, StandingPause, Wish};
use crate::journal::{Brake, Record};
use crate::lab::{Lab, Plan, on_engine_stack, pool};
use crate::names::PoolName;

pub(super) fn everything(why: &str) -> StandingPause {
    StandingPause {
        pools: BTreeSet::new(),
        who: "ann".to_owned(),
        why: why.to_owned(),
    }
}

fn paused(lab: &Lab) -> bool {
    lab.engine.status(lab.now).pools[0].paused
}

#[test]
fn a_pause_by_a_file_stands_over_a_restart_until_it_is_seen_to_be_gone() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        for _ in 0..3 {
            lab.pause_file(Ok(Some(everything("upgrade"))));
        }
        let told = |record: &&Record| matches!(record, Record::Pause { .. });
        assert_eq!(lab.records.iter().filter(told).count(), 1, "told once");
        lab.restart();
        warm(&mut lab);
        load_rises(&mut lab);
        assert!(
            paused(&lab) && lab.decided().is_empty(),
            "{:?}",
            lab.decided()
        );
        let status = lab.engine.status(lab.now);
        assert_eq!(status.pauses[0].pause.why, "upgrade");
        lab.pause_file(Ok(None));
        lab.run(5);
        assert!(!paused(&lab) && !lab.decided().is_empty());
    });
}

#[test]
fn a_pause_of_another_pool_is_none_of_this_one() {
    let mut pause = everything("upgrade");
    assert!(pause.covers(&pool()));
    pause.pools.insert(PoolName::new("others"));
    assert!(!pause.covers(&pool()));
    pause.pools.insert(pool());
    assert!(pause.covers(&pool()));
    assert_eq!(pause.scope(), "others, workers");
}

#[test]
fn where_a_pause_cannot_be_read_what_stood_stands_and_only_adding_goes_on() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.pause_file(Ok(Some(everything("upgrade"))));
        lab.pause_file(Err("permission denied"));
        assert!(paused(&lab), "as it was");
        lab.pause_file(Ok(None));
        assert!(!paused(&lab));
        lab.pause_file(Err("permission denied"));
        lab.pause_file(Err("permission denied"));
        w3_dies(&mut lab);
        assert_eq!(lab.decided(), Vec::<&str>::new());
        assert_eq!(lab.reasons(), [Reason::Paused]);
        load_rises(&mut lab);
        assert!(lab.decided()[0].starts_with("add"), "{:?}", lab.decided());
        let brakes = lab.records.iter().filter(|record| {
            matches!(
                record,
                Record::Brake {
                    brake: Brake::Pause(PauseSource::File),
                    ..
                }
            )
        });
        assert_eq!(brakes.count(), 3, "on, off and on again");
    });
}

#[test]
fn what_nobody_looks_for_any_more_stands_until_an_operator_ends_it() {
    on_engine_stack(|| {
        let mut lab = Lab::new(Plan::default());
        warm(&mut lab);
        lab.pause_file(Ok(Some(everything("upgrade"))));
        let told = lab.wish(Wish::Resume { pool: None });
        assert!(
            matches!(&told, Answer::Granted(text) if text.contains("the pause file still pauses")),
            "{told:?}"
        );
        assert!(paused(&lab), "it is there still");
        lab.pause_file(Err("permission denied"));
        lab.restart_without_the_pause_file();
        warm(&mut lab);
        let status = lab.engine.status(lab.now);
        assert!(status.brakes.is_empty(), "{:?}", status.brakes);
        assert!(paused(&lab), "a pause is state, not configuration");
        let told = lab.wish(Wish::Resume { pool: None });
        assert_eq!(told, Answer::Granted("resumed everything".to_owned()));
        assert!(!paused(&lab));
    });
}
