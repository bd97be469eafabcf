//! The story: one text of courses, told on stand-ins and on real machines.
//!
//! `courses.rs` is the text. It knows a [`world::World`] and the program as its operators do, and
//! not which world it is: `standins.rs` is made of our own cloud and cluster, `machines.rs` of
//! OpenStack's own services, whose servers boot and become nodes of a real Kubernetes, with
//! collectd in them and a real Kafka behind. `stage.rs` waits, kills and judges; after each course
//! Nova, Neutron and the API server are asked what there is. `faults.rs` plays some of it again, with
//! faults on the way to cloud and cluster, and `compose.rs` watches `docker-compose.yml` tell its own.
//!
//! Nearly all of it is waiting, so all tests of this binary run at the same time.
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
mod asked;
mod compose;
mod courses;
mod faults;
mod forks;
mod judge;
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
use std::sync::LazyLock;
use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::time::{Clock, Monotonic};

use courses::PARTS;
use kills::Span;

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

/// How often a troupe on stand-ins tells a part, about. Fewer times are more troupes at once, which
/// take the processors from the machines that boot meanwhile (four times each: a load of 140 on two).
const TIMES: usize = 14;

/// Troupes that tell a part on machines at the same time.
const ON_MACHINES: usize = 3;

/// The whole story, and all of it again and again with a kill at each record; with `RHIZOME_STORY`
/// those of its parts.
#[test]
fn the_story_comes_out_on_stand_ins() {
    let asked = asked();
    std::thread::scope(|scope| {
        if asked.is_none() {
            scope.spawn(|| kills::whole(&stand_ins));
        }
        for span in asked.unwrap_or_else(|| PARTS.iter().map(Span::whole).collect()) {
            let troupes = span.part.records().div_ceil(TIMES).max(1);
            scope.spawn(move || kills::at_every_record(&span, troupes, &stand_ins));
        }
    });
}

/// All courses, with one kill in each, at a record that `RHIZOME_STORY_SEED` says; with
/// `RHIZOME_STORY` those of its parts again and again, with a kill at each record.
#[test]
fn the_story_comes_out_on_machines_that_boot() {
    let asked = asked();
    let seed = std::env::var("RHIZOME_STORY_SEED").map_or(1, |seed| seed.parse().unwrap());
    say("machines: being made");
    let Some(ground) = machines::Ground::start() else {
        return;
    };
    say("machines: ready");
    let worlds = || -> Box<dyn world::World> { Box::new(ground.world()) };
    match asked {
        None => kills::sampled(&courses::BY_TROUPES, seed, &worlds),
        Some(spans) => {
            for span in spans {
                let troupes = if span.part.to_all { 1 } else { ON_MACHINES };
                kills::at_every_record(&span, troupes, &worlds);
            }
        }
    }
}

/// What `RHIZOME_STORY` asks for, if it is set.
fn asked() -> Option<Vec<Span>> {
    let text = std::env::var("RHIZOME_STORY").ok()?;
    Some(asked::spans(&text).unwrap_or_else(|why| panic!("{why}")))
}

fn stand_ins() -> Box<dyn world::World> {
    Box::new(standins::StandIns::start())
}
