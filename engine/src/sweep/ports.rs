//! Ports and floating addresses whose operation is over and that no VM lives on.
//!
//! The step that takes them away does not wait for ever for a network service that is away, and
//! a creation can come through so late that nobody waits for it any more. So they are looked for.
//! Ports of another journal are nobody's to take: it may be alive.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ORPHAN_AGAIN, Unclaimed};
use crate::cluster::PoolSlot;
use crate::engine::Engine;
use crate::event::PortsView;
use crate::guard::Effort;
use crate::names::OperationId;
use crate::remediation::{Machine, Swept};
use crate::time::{Now, format_duration};

/// A look at the ports that is older than this says nothing any more: three looks of two minutes.
const FRESH: Duration = Duration::from_secs(6 * 60);

/// What an operation left behind.
#[derive(Debug)]
pub(super) struct Left {
    what: PortsView,
    /// Since when it is seen so, without a break.
    first: Now,
    last: Now,
}

impl Left {
    /// For `status`.
    pub(super) fn shown(&self) -> Unclaimed {
        Unclaimed {
            node: self.what.node.clone(),
            pool: self.what.pool.clone(),
            vm: None,
            what: format!(
                "ports that {} made and no VM lives on: swept {} after they were first seen so",
                self.what.operation,
                format_duration(ORPHAN_AGAIN)
            ),
        }
    }
}

impl Engine {
    /// Takes in which operations have ports in the cloud.
    pub(crate) fn see_ports(&mut self, now: Now, ports: Vec<PortsView>) {
        let mut before = std::mem::take(&mut self.sweep.ports);
        let left: BTreeMap<OperationId, Left> = ports
            .into_iter()
            .filter(|what| self.pool_of_left(now, what).is_some())
            .map(|what| {
                let first = before.remove(&what.operation).map(|left| left.first);
                let left = Left {
                    first: first.unwrap_or(now),
                    last: now,
                    what,
                };
                (left.what.operation, left)
            })
            .collect();
        self.sweep.ports = left;
    }

    /// The pool of ports that are left over; none if they are not, as far as can be seen.
    fn pool_of_left(&self, now: Now, ports: &PortsView) -> Option<PoolSlot> {
        let operation = ports.operation;
        let operations = &self.state.operations;
        let under_way = operations.contains_key(&operation)
            || operations
                .values()
                .flat_map(|one| one.machines())
                .any(|machine| machine.network == Some(operation));
        let lived_on = || {
            let mut servers = self.world.cluster.all_servers();
            servers.any(|(_, server)| {
                server.network == Some(operation) || server.operation == Some(operation)
            })
        };
        // I26: the cloud may deny a VM that lives, and it needs its ports.
        let lives = || {
            let slot = self.world.cluster.slot(ports.node.as_str())?;
            self.life(now, slot, self.world.cluster.member(slot)?)
        };
        if under_way || !self.is_of_this_journal(operation) || lived_on() || lives().is_some() {
            return None;
        }
        self.world.cluster.pool_slot(&ports.pool)
    }

    pub(super) fn sweep_ports(&mut self, now: Now) {
        let due = |left: &&Left| {
            left.last.mono.since(left.first.mono) >= ORPHAN_AGAIN
                && now.mono.since(left.last.mono) <= FRESH
        };
        let left = self.sweep.ports.values().filter(due);
        let left: Vec<_> = left.map(|left| left.what.clone()).collect();
        for ports in left {
            let Some(pool) = self.pool_of_left(now, &ports) else {
                self.sweep.ports.remove(&ports.operation);
                continue;
            };
            let effort = Effort::Sweep {
                node: &ports.node,
                vm: None,
                control_plane: false,
            };
            let checked = self.guard(now).check(pool, effort);
            if checked.is_ok() {
                // If they are still there afterwards, they are seen anew.
                self.sweep.ports.remove(&ports.operation);
            }
            let why = format!("{} is over, and no VM lives on its ports", ports.operation);
            let old = Machine {
                uid: None,
                network: Some(ports.operation),
                ..Machine::named(ports.node, ports.operation)
            };
            self.begin_or_refuse(now, pool, old, Swept::Ports, why, checked);
        }
    }
}
