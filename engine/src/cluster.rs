//! Observed state: node pools, nodes and VMs, as the last listings and watches showed them.
//!
//! A *member* is one name: a VM, its node, or both. It has a slot, by which the windows and
//! the rules know it; names are looked up once per record in a map that is never iterated.
//! Nothing is decided here. The walk goes on in `window.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::event::{NodePods, PodShape, PodView, Requests};
use crate::names::{NodeName, PoolName, VmId};
use crate::settings::Settings;
use crate::window::{NodeSlot, Windows};

use domains::Domains;
use placement::Placements;
use serving::Serving;

mod domains;
mod inventory;
mod member;
mod observe;
mod placement;
mod serving;
mod uid;
mod widows;

pub(crate) use domains::Kind;
pub use inventory::Inventory;
pub use member::{Lease, Member, Node, Server};
pub use placement::Placement;
pub use uid::Uid;

/// A pool's place in the engine's vectors: its rank by name in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolSlot(pub u16);

/// Most names without a place in the inventory that are kept for `status` to show.
const UNKNOWN_NAMES_KEPT: usize = 32;

/// Everything observed.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    pools: Vec<PoolName>,
    slots: hashbrown::HashMap<NodeName, NodeSlot, FixedState>,
    members: Vec<Option<Member>>,
    pool_members: Vec<Vec<NodeSlot>>,
    /// By pool slot: how often a member has come or gone.
    pool_changes: Vec<u64>,
    domains: Domains,
    placements: Placements,
    serving: Serving,
    /// Under which name each VM is.
    vms: BTreeMap<VmId, NodeSlot>,
    /// VMs beyond the one that their name shows.
    twins: BTreeMap<VmId, (NodeSlot, Server)>,
    /// VMs that the journal knows as ours, until the first listing that is believed.
    expected: BTreeSet<VmId>,
    /// Nodes without their VM, and how many believed listings in a row lacked it.
    widows: BTreeMap<NodeSlot, u32>,
    /// Those of them that are in no pool any more, and the pool each was in.
    aside: BTreeMap<NodeSlot, PoolSlot>,
    unschedulable: Vec<PodView>,
    /// The shapes that `pods` speaks of by their places.
    shapes: Vec<PodShape>,
    pods: BTreeMap<NodeName, NodePods>,
    pods_seen: bool,
    servers: Inventory,
    nodes: Inventory,
    unknown: u64,
    unknown_names: Vec<String>,
}

/// What a listing is held against.
#[derive(Debug, Default)]
pub struct Known {
    /// VMs that operations are deleting, which a list may lack.
    pub leaving: BTreeSet<VmId>,
    /// Whether agents can be heard: if not, that they are silent agrees with nothing.
    pub heard: bool,
}

/// Gives out slots and takes them back: the windows', so that both always mean the same node.
#[derive(Debug)]
pub struct Slots<'a> {
    /// Where the slots are.
    pub windows: &'a mut Windows,
    /// Slots of names that were restored from a snapshot and have not been seen yet.
    pub kept: &'a mut BTreeMap<NodeName, NodeSlot>,
    /// What changed, for the rules to follow.
    pub changes: &'a mut Vec<Change>,
}

impl Slots<'_> {
    fn give(&mut self, name: &NodeName) -> NodeSlot {
        let slot = match self.kept.remove(name) {
            Some(slot) => slot,
            None => self.windows.add_node(),
        };
        self.changes.push(Change::Joined(slot));
        slot
    }

    fn take(&mut self, slot: NodeSlot) {
        self.windows.remove_node(slot);
        self.changes.push(Change::Left(slot));
    }
}

/// What an observation changed, for the windows and rules to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something was observed of a name that has a slot.
    Seen(NodeSlot),
    /// A name got a slot.
    Joined(NodeSlot),
    /// A name lost its slot.
    Left(NodeSlot),
    /// A node is in another pool than before, or in none.
    Moved(NodeSlot),
}

impl Cluster {
    /// Nothing observed yet.
    pub fn new(settings: &Settings) -> Self {
        let pools: Vec<_> = settings.pools.keys().cloned().collect();
        Self {
            name: settings.cluster.clone(),
            pool_members: vec![Vec::new(); pools.len()],
            pool_changes: vec![0; pools.len()],
            serving: Serving::new(pools.len()),
            pools,
            domains: Domains::default(),
            placements: Placements::default(),
            slots: hashbrown::HashMap::with_hasher(FixedState::default()),
            members: Vec::new(),
            vms: BTreeMap::new(),
            twins: BTreeMap::new(),
            expected: BTreeSet::new(),
            widows: BTreeMap::new(),
            aside: BTreeMap::new(),
            unschedulable: Vec::new(),
            shapes: Vec::new(),
            pods: BTreeMap::new(),
            pods_seen: false,
            servers: Inventory::new(&settings.limits),
            nodes: Inventory::new(&settings.limits),
            unknown: 0,
            unknown_names: Vec::new(),
        }
    }

    /// The slot of a name.
    pub fn slot(&self, name: &str) -> Option<NodeSlot> {
        self.slots.get(name).copied()
    }

    /// The member in a slot.
    pub fn member(&self, slot: NodeSlot) -> Option<&Member> {
        self.members.get(slot.0 as usize)?.as_ref()
    }

    /// The member of a name.
    pub fn find(&self, name: &str) -> Option<&Member> {
        self.member(self.slot(name)?)
    }

    /// The VM of this id. Two of one name are two VMs.
    pub fn server(&self, vm: &VmId) -> Option<&Server> {
        let shown = self.member(*self.vms.get(vm)?)?.server.as_ref();
        let twin = || self.twins.get(vm).map(|(_, server)| server);
        shown.filter(|shown| shown.id == *vm).or_else(twin)
    }

    /// Every VM, and the slot of its name.
    pub fn all_servers(&self) -> impl Iterator<Item = (NodeSlot, &Server)> {
        let known = self.vms.iter();
        known.filter_map(|(id, slot)| Some((*slot, self.server(id)?)))
    }

    /// VMs of the pool beyond one for each name: the twins that a creation of unknown outcome
    /// can leave, until they are deleted.
    pub fn twins(&self, pool: PoolSlot) -> usize {
        let here = |(slot, _): &&(NodeSlot, Server)| {
            let member = self.member(*slot);
            member.is_some_and(|member| member.pool == Some(pool))
        };
        self.twins.values().filter(here).count()
    }

    /// The VMs that must be there by the journal. Before the first listing: one that lacks
    /// many of them is partial, just as a later one would be (I13).
    pub fn expect(&mut self, vms: impl IntoIterator<Item = VmId>) {
        self.expected.extend(vms);
    }

    /// All members, in slot order.
    pub fn members(&self) -> impl Iterator<Item = (NodeSlot, &Member)> {
        self.members
            .iter()
            .enumerate()
            .filter_map(|(slot, member)| {
                let slot = NodeSlot(u32::try_from(slot).ok()?);
                Some((slot, member.as_ref()?))
            })
    }

    /// The pools, in slot order.
    pub fn pools(&self) -> impl Iterator<Item = (PoolSlot, &PoolName)> {
        self.pools
            .iter()
            .enumerate()
            .filter_map(|(slot, name)| Some((PoolSlot(u16::try_from(slot).ok()?), name)))
    }

    /// The slot of a pool.
    pub fn pool_slot(&self, name: &PoolName) -> Option<PoolSlot> {
        let slot = self.pools.binary_search(name).ok()?;
        u16::try_from(slot).ok().map(PoolSlot)
    }

    /// The name of a pool.
    pub fn pool_name(&self, slot: PoolSlot) -> Option<&PoolName> {
        self.pools.get(usize::from(slot.0))
    }

    /// The slots of a pool's members, in order.
    pub fn in_pool(&self, pool: PoolSlot) -> &[NodeSlot] {
        self.pool_members
            .get(usize::from(pool.0))
            .map_or(&[], Vec::as_slice)
    }

    /// How many VMs of our pools stand on this zone or hypervisor.
    pub(crate) fn standing_on(&self, kind: Kind, name: &Arc<str>) -> usize {
        self.domains.size(kind, name)
    }

    /// A number that is another one after a member of the pool has come or gone.
    pub(crate) fn changes_of(&self, pool: PoolSlot) -> u64 {
        self.pool_changes
            .get(usize::from(pool.0))
            .copied()
            .unwrap_or_default()
    }

    /// The members of a pool, in slot order.
    pub fn pool(&self, pool: PoolSlot) -> impl Iterator<Item = &Member> {
        self.in_pool(pool)
            .iter()
            .filter_map(|slot| self.member(*slot))
    }

    /// The listing of VMs.
    pub fn servers(&self) -> &Inventory {
        &self.servers
    }

    /// The listing of nodes.
    pub fn nodes(&self) -> &Inventory {
        &self.nodes
    }

    /// Pods that wait for room.
    pub fn unschedulable(&self) -> &[PodView] {
        &self.unschedulable
    }

    /// What the pods on a node ask for; nothing if pods were never seen.
    pub fn requests(&self, node: &NodeName) -> Option<Requests> {
        self.pods_seen.then(|| {
            self.pods
                .get(node)
                .map_or_else(Requests::default, |pods| pods.requests)
        })
    }

    /// What runs on a node; nothing if pods were never seen or none is there.
    pub fn pods_on(&self, node: &NodeName) -> Option<&NodePods> {
        self.pods.get(node)
    }

    /// The pods of a node that a drain would evict: each shape, and how many of it.
    pub fn movable(&self, node: &NodeName) -> impl Iterator<Item = (&PodShape, u32)> {
        let movable = self.pods.get(node).map_or(&[][..], |pods| &pods.movable);
        movable.iter().filter_map(|(shape, count)| {
            let shape = self.shapes.get(usize::try_from(*shape).ok()?)?;
            Some((shape, *count))
        })
    }

    /// Records that named something outside of the inventory: how many, and some of the names.
    pub fn unknown(&self) -> (u64, &[String]) {
        (self.unknown, &self.unknown_names)
    }

    /// Counts a record of a name that is not in the inventory. It creates no other state.
    pub fn count_unknown(&mut self, name: &str) {
        self.unknown += 1;
        if self.unknown_names.len() < UNKNOWN_NAMES_KEPT
            && !self.unknown_names.iter().any(|known| known == name)
        {
            self.unknown_names.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
