//! What rules want while their conditions hold.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::Rules;
use crate::decision::{Ask, Proposal};
use crate::planner::Settled;
use crate::time::Monotonic;
use crate::window::NodeSlot;

/// A node, and the place of one of its rules.
pub(crate) type NodeKey = (NodeSlot, usize);

/// What is decided on at once. What merely goes on to stand is decided on again with each tick.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    nodes: BTreeSet<NodeSlot>,
    all: bool,
}

impl Fresh {
    /// A node's rule proposes: what is wanted of that node is weighed, and nothing besides, unless it
    /// is about the pool.
    pub(super) fn of_node(&mut self, slot: NodeSlot, proposals: &[Proposal]) {
        let heals = |proposal: &Proposal| matches!(proposal.ask, Ask::Heal { .. });
        self.all |= !proposals.iter().all(heals);
        self.nodes.insert(slot);
    }

    /// What a pool's rule, an operator or an alert asks for is weighed against all that stands.
    pub(super) fn of_all(&mut self) {
        self.all = true;
    }

    pub(crate) fn is_of_all(&self) -> bool {
        self.all
    }

    pub(crate) fn is_nothing(&self) -> bool {
        !self.all && self.nodes.is_empty()
    }

    /// The nodes whose rules proposed, in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeSlot> {
        self.nodes.iter().copied()
    }
}

/// What a rule wants while its condition holds.
#[derive(Debug)]
pub(crate) struct Standing {
    proposals: Arc<[Proposal]>,
    ran: Monotonic,
    /// The size that a pool's body was told.
    size: Option<u32>,
    settled: Option<Settled>,
}

impl Standing {
    /// What a body that was entered just now proposed.
    pub(super) fn new(proposals: Vec<Proposal>, ran: Monotonic, size: Option<u32>) -> Self {
        Self {
            proposals: proposals.into(),
            ran,
            size,
            settled: None,
        }
    }

    pub(crate) fn proposals(&self) -> &Arc<[Proposal]> {
        &self.proposals
    }

    /// Why it need not be weighed, if so.
    pub(crate) fn settled(&self) -> Option<Settled> {
        self.settled
    }

    /// When the body was entered.
    pub(super) fn ran(&self) -> Monotonic {
        self.ran
    }

    pub(super) fn size(&self) -> Option<u32> {
        self.size
    }
}

impl Rules {
    /// What operators and alerts ask for, the oldest first.
    pub(crate) fn asked(&mut self, now: Monotonic) -> Vec<Arc<Proposal>> {
        self.asked.retain(|asked| asked.until > now);
        let asked = self.asked.iter();
        asked.map(|asked| Arc::clone(&asked.proposal)).collect()
    }

    /// What the rules of nodes want, in the order of nodes and rules, from after `last` on.
    pub(crate) fn of_nodes_after(
        &self,
        last: Option<NodeKey>,
    ) -> impl Iterator<Item = (&NodeKey, &Standing)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.nodes.range((from, Bound::Unbounded))
    }

    /// What the rules of pools want, in the order of pools and rules.
    pub(crate) fn of_pools(&self) -> Vec<Arc<[Proposal]>> {
        let pools = self.pools.values().map(Standing::proposals);
        pools.cloned().collect()
    }

    /// Notes whether what a node's rule wants need not be weighed for the time being.
    pub(crate) fn settle(&mut self, key: NodeKey, settled: Option<Settled>) {
        if let Some(standing) = self.nodes.get_mut(&key) {
            standing.settled = settled;
        }
    }

    /// Something is another at the node: what its rules want is weighed again.
    pub(crate) fn unsettle(&mut self, slot: NodeSlot) {
        let of_node = (slot, 0)..=(slot, usize::MAX);
        for standing in self.nodes.range_mut(of_node).map(|(_, standing)| standing) {
            standing.settled = None;
        }
    }

    /// What the rules of all nodes want is weighed again.
    pub(crate) fn unsettle_all(&mut self) {
        for standing in self.nodes.values_mut() {
            standing.settled = None;
        }
    }

    /// Whether nothing stands.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asked.is_empty() && self.nodes.is_empty() && self.pools.is_empty()
    }

    /// What the rules want of this node, but for what need not be weighed.
    pub(crate) fn unsettled(&self, slot: NodeSlot) -> Vec<(NodeKey, Arc<[Proposal]>)> {
        let of_node = self.nodes.range((slot, 0)..=(slot, usize::MAX));
        of_node
            .filter(|(_, standing)| standing.settled.is_none())
            .map(|(key, standing)| (*key, Arc::clone(&standing.proposals)))
            .collect()
    }

    /// What was proposed since the last call.
    pub(crate) fn take_fresh(&mut self) -> Fresh {
        std::mem::take(&mut self.fresh)
    }
}
