//! Faults on the way to cloud and cluster: one table, played on stand-ins and on real services.
//!
//! `table.rs` says what meets which call; the courses are the story's, which ends each with what
//! Nova, Neutron and the API server say there is: the machines that were wanted, once, and no port
//! and no token besides. `services.rs` is a Keystone, a Nova, a Neutron and an API server of their
//! own, with a relay before them that plays the faults, and light guests as the machines.

mod services;
mod table;

use std::sync::Arc;

use rhizome_standin::{Ledger, Relay, Rule, Standin};

use crate::say;
use crate::standins::StandIns;
use services::Services;
use table::Much;

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

    /// What is behind, for those who read how far it is.
    fn name(&self) -> &'static str {
        match self {
            Self::StandIn(_) => "faults on stand-ins",
            Self::Relay(_) => "faults on real services",
        }
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

/// The whole table.
#[test]
fn no_lost_or_late_answer_doubles_or_leaves_anything_on_stand_ins() {
    let world = StandIns::start();
    let front = Front::StandIn(Arc::clone(&world.standin));
    table::play(Box::new(world), &front, Much::Whole);
}

/// The row in which most could be done twice; with `RHIZOME_FAULTS=whole` the whole table.
#[test]
fn no_lost_or_late_answer_doubles_or_leaves_anything_on_real_services() {
    let much = match std::env::var("RHIZOME_FAULTS").as_deref() {
        Err(_) => Much::FirstRow,
        Ok("whole") => Much::Whole,
        Ok(other) => panic!("RHIZOME_FAULTS: `whole`, not `{other}`"),
    };
    say("faults on real services: being made");
    let Some(world) = Services::start() else {
        return;
    };
    let front = Front::Relay(Arc::clone(&world.relay));
    table::play(Box::new(world), &front, much);
}
