//! The truth: what servers, nodes, pods and secrets there are, and how time changes them.
//!
//! Both services show it and the guests live in it. It moves in small even steps up to
//! whatever time it is told, so the same requests at the same times make the same world; it
//! reads no clock and does no I/O. Next: `cloud.rs` for servers, `kube/` for the cluster,
//! `guest.rs` for what runs on the servers.

use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::time::Timestamp;

use crate::agent::Load;
use crate::cloud::{Cloud, Outcome};
use crate::guest::Guests;
use crate::ids::Ids;
use crate::kube::Cluster;
use crate::ledger::{Fact, Ledger};
use crate::options::Options;

/// How finely time runs in the world: fine enough for a scheduler's and a kubelet's pace,
/// coarse enough that a simulated hour costs milliseconds.
pub(crate) const STEP: Duration = Duration::from_millis(500);

/// Cloud, cluster and guests at one moment.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) options: Arc<Options>,
    pub(crate) now: Timestamp,
    pub(crate) ids: Ids,
    /// The servers.
    pub cloud: Cloud,
    /// The cluster's objects.
    pub cluster: Cluster,
    /// What runs on the servers.
    pub guests: Guests,
    /// The work that the nodes do.
    pub load: Load,
    /// What was asked and what happened.
    pub ledger: Ledger,
    /// What agents published and nobody has fetched yet: node and record.
    pub(crate) outbox: Vec<(String, Vec<u8>)>,
    /// Keystone cannot be reached, by Nova either.
    pub(crate) keystone_away: bool,
    /// What the next create's build comes to, if a fault says so.
    pub(crate) next_build: Option<Outcome>,
    /// The task that the next request begins never ends, if a fault says so.
    pub(crate) next_task_stuck: bool,
}

impl World {
    /// An empty cloud and an empty cluster at `now`.
    pub(crate) fn new(options: Arc<Options>, now: Timestamp) -> Self {
        let mut ids = Ids::new(options.seed);
        let cluster = Cluster::new(now, &mut ids);
        Self {
            cloud: Cloud::new(&mut ids, &options.security_groups),
            options,
            now,
            ids,
            cluster,
            guests: Guests::default(),
            load: Load::default(),
            ledger: Ledger::default(),
            outbox: Vec::new(),
            keystone_away: false,
            next_build: None,
            next_task_stuck: false,
        }
    }

    /// The time up to which the world has come.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Lets time run up to `now`. Time that goes backwards changes nothing.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while self.now.plus(STEP) <= now {
            self.now = self.now.plus(STEP);
            self.step();
        }
    }

    /// Lets everything whose time has come happen, without time passing.
    pub(crate) fn step(&mut self) {
        self.step_cloud();
        self.step_guests();
        self.step_cluster();
        self.step_agents();
    }

    /// Notes in the ledger that something happened now.
    pub(crate) fn note(&mut self, fact: Fact) {
        self.ledger.note(self.now, fact);
    }
}

/// A time as Nova writes it: whole seconds.
pub(crate) fn seconds(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.millis() - at.millis().rem_euclid(1_000)) {
        Ok(at) => at.to_string(),
        Err(_) => String::new(),
    }
}

/// A time with six digits after the point, as Keystone and Leases have it.
pub(crate) fn micros(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(at) => format!("{at:.6}"),
        Err(_) => String::new(),
    }
}

/// Reads a time as either of them writes it.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_services_do() {
        let at = Timestamp(1_795_333_374_192);
        assert_eq!(seconds(at), "2026-11-22T07:42:54Z");
        assert_eq!(micros(at), "2026-11-22T07:42:54.192000Z");
        assert_eq!(parse_time(&micros(at)), Some(at));
        assert_eq!(parse_time("soon"), None);
    }
}
