//! The story: one text of courses, told on a world.
//!
//! `courses.rs` is the text. It knows a [`world::World`] and the program as its operators do, and
//! not which world it is: `standins.rs` is made of our own cloud and cluster. `stage.rs` waits,
//! kills and judges; after each course Nova, Neutron and the API server are asked what there is.
//!
//! Nothing here asserts how long anything takes: states are waited for, with patience.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

#[path = "../it/harness/accounts.rs"]
mod accounts;
mod courses;
mod kills;
#[path = "../it/harness/program.rs"]
mod program;
mod site;
mod stage;
mod standins;
mod world;

use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::time::{Clock, Monotonic};

/// How long any state is waited for: whole courses take seconds on stand-ins and a minute or two
/// on machines that boot; a machine that builds or runs other tests meanwhile gets more.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn passed(clock: &RealClock, since: Monotonic) -> Duration {
    clock.now().mono.since(since)
}

#[test]
fn the_story_comes_out_on_stand_ins() {
    let lengths = kills::whole(stand_ins);
    kills::at_every_record(&lengths, stand_ins);
}

fn stand_ins() -> Box<dyn world::World> {
    Box::new(standins::StandIns::start())
}
