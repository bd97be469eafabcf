//! Which flavor and zone a pool's next machine is tried with.
//!
//! The order is the pool's: its first flavor in each of its zones, then the next flavor. What
//! came to nothing is passed over for a while, whether Nova refused it at once or said `No valid
//! host` when the server was made already. All of it is in memory only: after a restart the
//! first is tried first again.

use std::time::Duration;

use dashmap::DashMap;
use rhizome_engine::names::{OperationId, PoolName};
use rhizome_engine::time::Monotonic;

use super::Machine;

/// How long one that came to nothing is passed over.
///
/// Ten minutes: long enough for the two tries that a pool's breaker leaves, short enough that
/// a flavor that has room again is soon used again.
const PASSED_OVER: Duration = Duration::from_secs(600);
/// Words of a fault that say that there was no room, and not that the machine is at fault.
const NO_ROOM: [&str; 3] = ["no valid host", "exhausted all hosts", "not enough hosts"];

/// A flavor and a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    place: usize,
    pub(super) flavor: &'a str,
    /// None leaves the zone to Nova.
    pub(super) zone: Option<&'a str>,
}

/// What was tried.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    failed: DashMap<(PoolName, usize), Monotonic>,
    taken: DashMap<OperationId, (PoolName, usize)>,
}

impl Candidates {
    /// Those of a pool in the order in which they are tried now: what failed lately comes last.
    pub(super) fn order<'a>(
        &self,
        pool: &PoolName,
        machine: &'a Machine,
        now: Monotonic,
    ) -> Vec<Candidate<'a>> {
        let zones = || {
            let named = machine
                .availability_zones
                .iter()
                .map(|zone| Some(zone.as_str()));
            let none = machine.availability_zones.is_empty().then_some(None);
            named.chain(none)
        };
        let mut all: Vec<Candidate<'a>> = machine
            .flavors
            .iter()
            .flat_map(|flavor| zones().map(move |zone| (flavor.as_str(), zone)))
            .enumerate()
            .map(|(place, (flavor, zone))| Candidate {
                place,
                flavor,
                zone,
            })
            .collect();
        let failed = |candidate: &Candidate<'_>| {
            let at = self.failed.get(&(pool.clone(), candidate.place));
            at.is_some_and(|at| now.since(*at) < PASSED_OVER)
        };
        all.sort_by_key(failed);
        all
    }

    /// An operation's server was asked for with this one.
    pub(super) fn taken(&self, operation: OperationId, pool: &PoolName, candidate: Candidate<'_>) {
        self.taken
            .insert(operation, (pool.clone(), candidate.place));
    }

    /// This one came to nothing.
    pub(super) fn failed(&self, pool: &PoolName, candidate: Candidate<'_>, now: Monotonic) {
        self.failed.insert((pool.clone(), candidate.place), now);
    }

    /// The operation's server is in ERROR for this reason.
    pub(super) fn in_error(&self, operation: OperationId, fault: &str, now: Monotonic) {
        let fault = fault.to_lowercase();
        if NO_ROOM.iter().any(|words| fault.contains(words))
            && let Some((_, key)) = self.taken.remove(&operation)
        {
            self.failed.insert(key, now);
        }
    }

    /// The operation's server is built, or gone.
    pub(super) fn over(&self, operation: OperationId) {
        self.taken.remove(&operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flavor_is_tried_in_each_zone_and_what_failed_lately_comes_last() {
        let machine = Machine {
            flavors: vec!["a".to_owned(), "b".to_owned()],
            availability_zones: vec!["z1".to_owned(), "z2".to_owned()],
            ..Machine::default()
        };
        let (pool, candidates) = (PoolName::new("workers"), Candidates::default());
        let order = |now: u64| -> Vec<String> {
            let order = candidates.order(&pool, &machine, Monotonic(now));
            let show = |it: &Candidate<'_>| format!("{}{}", it.flavor, it.zone.unwrap_or("-"));
            order.iter().map(show).collect()
        };
        assert_eq!(order(0), ["az1", "az2", "bz1", "bz2"]);
        let operation = OperationId {
            journal: 1,
            number: 2,
        };
        let first = candidates.order(&pool, &machine, Monotonic(0))[0];
        candidates.taken(operation, &pool, first);
        candidates.in_error(operation, "injected", Monotonic(0));
        assert_eq!(order(0)[0], "az1", "the machine's own fault");
        candidates.in_error(operation, "No valid host was found. ", Monotonic(0));
        assert_eq!(order(0), ["az2", "bz1", "bz2", "az1"]);
        assert_eq!(order(PASSED_OVER.as_millis() as u64)[0], "az1");
        let plain = Machine {
            flavors: vec!["a".to_owned()],
            ..Machine::default()
        };
        let only = candidates.order(&"other".into(), &plain, Monotonic(0));
        assert_eq!((only.len(), only[0].zone), (1, None));
    }
}
