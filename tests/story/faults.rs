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
    let world = StandIns::start();
    let front = Front::StandIn(Arc::clone(&world.standin));
    table::play(Box::new(world), &front, Much::Whole);
}

fn on_the_real_services(much: Much) {
    let Some(world) = Services::start() else {
        return;
    };
    let front = Front::Relay(Arc::clone(&world.relay));
    table::play(Box::new(world), &front, much);
}
