//! The ports that are made for machines, and outlive them until they are released.

use rhizome_engine::action::{ActionResult, Done, Failure, FailureKind, mark};
use rhizome_engine::event::{Observation, PortsView};
use rhizome_engine::names::{NodeName, OperationId, PoolName};

use super::Model;

impl Model {
    /// The ports there are, whether a machine lives on them or not.
    pub(in crate::scenario) fn ports(&self) -> Observation {
        Observation::Ports(self.ports.values().cloned().collect())
    }

    /// The operations whose ports no machine lives on.
    pub(in crate::scenario) fn ports_left(&self) -> Vec<OperationId> {
        let there = self.machines.iter().filter(|machine| machine.there);
        let used: Vec<_> = there
            .filter_map(|machine| machine.metadata.get(mark::NETWORK))
            .collect();
        let left = self.ports.keys();
        left.filter(|operation| !used.contains(&&operation.to_string()))
            .copied()
            .collect()
    }

    /// Ports of one operation, for a machine of this name.
    pub(super) fn make_ports(&mut self, pool: &PoolName, node: &NodeName, operation: OperationId) {
        let view = PortsView {
            operation,
            pool: pool.clone(),
            node: node.clone(),
        };
        self.ports.insert(operation, view);
    }

    /// Takes the ports of an operation away, unless a machine lives on them.
    pub(super) fn release(&mut self, operation: OperationId) -> ActionResult {
        if !self.ports.contains_key(&operation) {
            return Ok(Done::Already);
        }
        if !self.ports_left().contains(&operation) {
            return Err(Failure::new(
                FailureKind::NotOwned,
                "a machine lives on them",
            ));
        }
        self.ports.remove(&operation);
        Ok(Done::Accepted)
    }
}
