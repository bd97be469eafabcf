//! The story: one text of courses, told on stand-ins and on real machines.
//!
//! `courses.rs` is the text. It knows a [`world::World`] and the program as its operators do, and
//! not which world it is: `standins.rs` is made of our own cloud and cluster, `machines.rs` of
//! OpenStack's own services, whose servers boot and become nodes of a real Kubernetes, with
//! collectd in them and a real Kafka behind. `stage.rs` waits, kills and judges; after each course
//! Nova, Neutron and the API server are asked what there is.
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
#[path = "../servers/kubectl.rs"]
mod kubectl;
mod machines;
#[path = "../it/harness/program.rs"]
mod program;
#[path = "../servers/scripts.rs"]
mod scripts;
mod site;
mod stage;
mod standins;
mod trap;
mod world;

use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::time::{Clock, Monotonic};

/// How long any state is waited for: whole courses take seconds on stand-ins and a minute or two
/// on machines that boot; a machine that builds or runs other tests meanwhile gets more.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn passed(clock: &RealClock, since: Monotonic) -> Duration {
    clock.now().mono.since(since)
}

/// Says how far the story is. Not by `eprintln`: the harness would keep that to itself.
fn say(what: &str) {
    static CLOCK: LazyLock<(RealClock, Monotonic)> = LazyLock::new(|| {
        let clock = RealClock::new();
        let began = clock.now().mono;
        (clock, began)
    });
    let (clock, began) = &*CLOCK;
    let seconds = passed(clock, *began).as_secs();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "story, {seconds} s: {what}").unwrap();
}

/// One story at a time: real machines leave no room beside them.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_story_comes_out_on_stand_ins() {
    let _turn = turn();
    let lengths = kills::whole(stand_ins);
    kills::at_every_record(&lengths, stand_ins);
}

/// The courses that matter most, with one kill in each, at a record that `RHIZOME_STORY_SEED` says.
/// With `RHIZOME_STORY=whole` all courses, with `RHIZOME_STORY=every` each again and again, with a
/// kill at each of its records.
#[test]
fn the_story_comes_out_on_machines_that_boot() {
    let _turn = turn();
    say("machines: being made");
    let Some(machines) = machines::Machines::start() else {
        return;
    };
    say("machines: ready");
    let setting = |name: &str| std::env::var(name).ok();
    let seed = setting("RHIZOME_STORY_SEED").map_or(1, |seed| seed.parse().unwrap());
    let world = Box::new(machines);
    match setting("RHIZOME_STORY").as_deref() {
        None => kills::sampled(world, &courses::SAMPLE, seed),
        Some("whole") => kills::sampled(world, &courses::STORY, seed),
        Some("every") => kills::at_every_record_in_turn(world),
        Some(other) => panic!("RHIZOME_STORY: `whole` or `every`, not `{other}`"),
    }
}

fn stand_ins() -> Box<dyn world::World> {
    Box::new(standins::StandIns::start())
}
