//! Nodes whose VM is gone: counted by listings, and set aside when the engine says so.
//!
//! A Node object outlives a VM that others deleted. Set aside it is in no pool: it counts
//! neither in the size nor as ill. Any sign of life takes it back.

use super::{Change, Cluster, Member, PoolSlot, Slots};
use crate::window::NodeSlot;

impl Cluster {
    /// Nodes of our pools whose VM the listings lack, and how many believed listings in a row
    /// have lacked it.
    pub(crate) fn widows(&self) -> impl Iterator<Item = (NodeSlot, &Member, u32)> {
        self.widows
            .iter()
            .filter_map(|(slot, lists)| Some((*slot, self.member(*slot)?, *lists)))
    }

    /// Nodes that are set aside, and the pools that they were in.
    pub(crate) fn aside(&self) -> impl Iterator<Item = (NodeSlot, &Member, PoolSlot)> {
        self.aside
            .iter()
            .filter_map(|(slot, pool)| Some((*slot, self.member(*slot)?, *pool)))
    }

    /// Takes a node out of its pool, because its VM is gone and nothing of it lives.
    pub(crate) fn set_aside(&mut self, slot: NodeSlot) {
        if let Some(pool) = self.member(slot).and_then(|member| member.pool) {
            self.aside.insert(slot, pool);
            self.place(slot, None);
        }
    }

    /// A listing of VMs was believed: whose VM it lacks has been without it once more.
    pub(super) fn count_widows(&mut self, slots: &mut Slots<'_>) {
        let before = std::mem::take(&mut self.widows);
        let without = |slot: NodeSlot, member: &Member| {
            let node = member.node.as_ref()?;
            let ours = member.pool.is_some() || self.aside.contains_key(&slot);
            let gone = !self.vms.contains_key(node.vm.as_ref()?);
            (ours && gone && member.server.is_none()).then_some(())
        };
        let lists = |slot| before.get(&slot).copied().unwrap_or_default();
        self.widows = self
            .members()
            .filter(|(slot, member)| without(*slot, member).is_some())
            .map(|(slot, _)| (slot, lists(slot).saturating_add(1)))
            .collect();
        let back = self.aside.keys().copied();
        let back: Vec<_> = back
            .filter(|slot| !self.widows.contains_key(slot))
            .collect();
        for slot in back {
            self.take_back(slot, slots);
        }
    }

    /// It has its VM, or lives: it is in its pool again.
    pub(super) fn take_back(&mut self, slot: NodeSlot, slots: &mut Slots<'_>) {
        if let Some(pool) = self.aside.remove(&slot) {
            self.place(slot, Some(pool));
            slots.changes.push(Change::Joined(slot));
        }
    }
}
