//! Faults on the way to cloud and cluster: one table, played on stand-ins and on real services.
//!
//! The program is the real binary, and so are engine and executors in it. `table.rs` says what
//! meets which call; the courses are the story's, which ends each with what Nova, Neutron and the
//! API server say there is: the machines that were wanted, once, and no port and no token besides.
//! `standins.rs` is the story's world of our own. `services.rs` is a Keystone, a Nova, a Neutron and
//! an API server of their own, with a relay before them that plays the faults, and light guests as
//! the machines.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails; of the story's text not every course is played here"
)]

#[path = "../it/harness/accounts.rs"]
mod accounts;
#[path = "../story/machines/admin.rs"]
mod admin;
#[path = "../story/machines/apis.rs"]
mod apis;
#[path = "../story/courses.rs"]
mod courses;
#[path = "../story/judge.rs"]
mod judge;
#[path = "../servers/kubectl.rs"]
mod kubectl;
#[path = "../it/harness/program.rs"]
mod program;
#[path = "../servers/scripts.rs"]
mod scripts;
mod services;
#[path = "../story/site.rs"]
mod site;
#[path = "../story/stage.rs"]
mod stage;
#[path = "../story/standins.rs"]
mod standins;
mod table;
#[path = "../story/trap.rs"]
mod trap;
#[path = "../story/world.rs"]
mod world;

use std::io::Write;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::time::{Clock, Monotonic};
use rhizome_standin::{Ledger, Relay, Rule, Standin};

use table::Much;

/// How long any state is waited for: courses take half a minute, and more where much else is built.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Where rules are put: the same ones, whatever is behind.
pub(crate) enum Front {
    StandIn(Arc<Standin>),
    Relay(Arc<Relay>),
}

impl Front {
    fn fault(&self, rule: Rule) {
        let put = match self {
            Self::StandIn(standin) => Some(standin.fault(rule)),
            Self::Relay(relay) => relay.fault(rule),
        };
        put.expect("a fault that both can play");
    }

    fn clear(&self) {
        match self {
            Self::StandIn(standin) => standin.faults(rhizome_standin::Faults::clear),
            Self::Relay(relay) => relay.faults(rhizome_standin::Faults::clear),
        }
    }

    fn ledger(&self) -> Ledger {
        match self {
            Self::StandIn(standin) => standin.ledger(),
            Self::Relay(relay) => relay.ledger(),
        }
    }
}

/// The whole table on stand-ins; with `RHIZOME_FAULTS` on the real services in their place: `first`
/// plays the row in which most could be done twice, `whole` all rows.
#[test]
fn no_lost_or_late_answer_doubles_or_leaves_anything() {
    match std::env::var("RHIZOME_FAULTS").as_deref() {
        Err(_) => on_stand_ins(),
        Ok("first") => on_the_real_services(Much::FirstRow),
        Ok("whole") => on_the_real_services(Much::Whole),
        Ok(other) => panic!("RHIZOME_FAULTS: `first` or `whole`, not `{other}`"),
    }
}

fn on_stand_ins() {
    let world = standins::StandIns::start();
    let front = Front::StandIn(Arc::clone(&world.standin));
    table::play(Box::new(world), &front, Much::Whole);
}

fn on_the_real_services(much: Much) {
    let Some(world) = services::Services::start() else {
        return;
    };
    let front = Front::Relay(Arc::clone(&world.relay));
    table::play(Box::new(world), &front, much);
}

fn passed(clock: &RealClock, since: Monotonic) -> Duration {
    clock.now().mono.since(since)
}

/// Says how far it is. Not by `eprintln`: the harness would keep that to itself.
fn say(what: &str) {
    static CLOCK: LazyLock<(RealClock, Monotonic)> = LazyLock::new(|| {
        let clock = RealClock::new();
        let began = clock.now().mono;
        (clock, began)
    });
    let (clock, began) = &*CLOCK;
    let seconds = passed(clock, *began).as_secs();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "faults, {seconds} s: {what}").unwrap();
}
