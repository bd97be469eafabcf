//! The operations under way, and which node each is on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};

use crate::names::{NodeName, OperationId};
use crate::remediation::Operation;

/// Operations under way, by number. Written and read as a plain map.
///
/// INVARIANT: `by_node` names each node of each operation; in this package's tests each answer is
/// held to a look through all. Every suspect is asked for by name when a heal is weighed, in a fleet
/// that may have hundreds of both.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(from = "BTreeMap<OperationId, Operation>")]
pub struct Operations {
    by_id: BTreeMap<OperationId, Operation>,
    by_node: BTreeMap<NodeName, BTreeSet<OperationId>>,
}

impl Operations {
    /// Takes an operation in, in place of what was known of it.
    pub fn insert(&mut self, operation: Operation) {
        self.remove(&operation.id);
        for machine in operation.machines() {
            let on_node = self.by_node.entry(machine.node.clone()).or_default();
            on_node.insert(operation.id);
        }
        self.by_id.insert(operation.id, operation);
    }

    /// Forgets an operation.
    pub fn remove(&mut self, id: &OperationId) {
        let Some(operation) = self.by_id.remove(id) else {
            return;
        };
        for machine in operation.machines() {
            if let Some(on_node) = self.by_node.get_mut(&machine.node) {
                on_node.remove(id);
                if on_node.is_empty() {
                    self.by_node.remove(&machine.node);
                }
            }
        }
    }

    /// The oldest operation that this node is a machine of.
    pub fn on(&self, node: &NodeName) -> Option<&Operation> {
        let first = self.by_node.get(node).and_then(BTreeSet::first);
        if cfg!(test) {
            let on = |operation: &&Operation| operation.machines().any(|one| one.node == *node);
            let found = self.by_id.values().find(on).map(|operation| &operation.id);
            assert_eq!(first, found, "{node}");
        }
        self.by_id.get(first?)
    }

    /// An operation, for all of it to be changed but which nodes it is on.
    pub(crate) fn get_mut(&mut self, id: &OperationId) -> Option<&mut Operation> {
        self.by_id.get_mut(id)
    }

    /// All operations, for all of each to be changed but which nodes it is on.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Operation> {
        self.by_id.values_mut()
    }
}

impl Deref for Operations {
    type Target = BTreeMap<OperationId, Operation>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl Serialize for Operations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_id.serialize(serializer)
    }
}

impl From<BTreeMap<OperationId, Operation>> for Operations {
    fn from(by_id: BTreeMap<OperationId, Operation>) -> Self {
        let mut operations = Self::default();
        for operation in by_id.into_values() {
            operations.insert(operation);
        }
        operations
    }
}
