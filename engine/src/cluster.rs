//! Observed state: node pools, nodes and VMs, as the last listings and watches showed them.
//!
//! A *member* is one name: a VM, its node, or both. It has a slot, by which the windows and
//! the rules know it; names are looked up once per record in a map that is never iterated.
//! Nothing is decided here. The walk goes on in `window.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::action::mark;
use crate::event::{NodeView, Observation, PodView, Ready, Requests, ServerStatus, ServerView};
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::settings::Settings;
use crate::time::{Monotonic, Now, Timestamp};
use crate::window::{NodeSlot, Windows};

mod inventory;

pub use inventory::Inventory;

use inventory::Listing;

/// A pool's place in the engine's vectors: its rank by name in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolSlot(pub u16);

/// Most names without a place in the inventory that are kept for `status` to show.
const UNKNOWN_NAMES_KEPT: usize = 32;

/// An agent heard this lately runs: three intervals of ten seconds.
const HEARD_LATELY: Duration = Duration::from_secs(30);

/// Node annotations that protect a node, as users of other autoscalers set them.
const PROTECTING_ANNOTATIONS: [&str; 2] = [
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "karpenter.sh/do-not-disrupt",
];

/// What is known of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The name of the node and of its VM.
    pub name: NodeName,
    /// Its pool, if it is in one of ours.
    pub pool: Option<PoolSlot>,
    /// Its VM.
    pub server: Option<Server>,
    /// Its node.
    pub node: Option<Node>,
    /// When it was first seen in this run: silence is not counted from before.
    pub since: Now,
}

/// What matters to us of a VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: VmId,
    /// Nova's status.
    pub status: ServerStatus,
    /// When it was created.
    pub created: Timestamp,
    /// The operation in its mark.
    pub operation: Option<OperationId>,
    /// Whether owner and cluster in its marks are ours.
    pub marked: bool,
    /// Whether it has an address.
    pub addressed: bool,
    /// Whether it carries the mark that forbids touching it.
    pub protected: bool,
    /// Whether nothing is under way on it (`task_state` is null).
    pub idle: bool,
    /// Failure domains.
    pub zone: Option<Box<str>>,
    /// Failure domains.
    pub host: Option<Box<str>>,
    /// What Nova says of its failure.
    pub fault: Option<Box<str>>,
}

/// What matters to us of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its uid.
    pub uid: String,
    /// The VM in its provider id.
    pub vm: Option<VmId>,
    /// The condition `Ready`.
    pub ready: Ready,
    /// Since when it is seen to be so, on our clocks.
    pub ready_since: Now,
    /// Its lease, if one was seen.
    pub lease: Option<Lease>,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether it is of the control plane.
    pub control_plane: bool,
    /// Whether a label or annotation forbids touching it.
    pub protected: bool,
    /// What it has to give.
    pub allocatable: Requests,
    /// When it was created.
    pub created: Timestamp,
}

/// A node's lease.
///
/// Its time is the kubelet's own: read as a value that changes while the kubelet lives, and
/// never held against our clock, so that one clock that is wrong makes nobody ill (as the node
/// controller of Kubernetes does).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When it was renewed, as it says.
    pub renewed: Timestamp,
    /// When that was first seen here.
    pub seen: Now,
}

impl Member {
    /// Whether its node is Ready.
    pub fn is_ready(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| node.ready == Ready::True)
    }

    /// Whether it serves: Ready, or a running VM in a pool outside Kubernetes.
    pub fn serves(&self, kubernetes: bool) -> bool {
        if kubernetes {
            self.is_ready()
        } else {
            self.server
                .as_ref()
                .is_some_and(|server| server.status == ServerStatus::Active)
        }
    }

    /// How long the cluster has had nothing good to say of it: the condition `Ready` seen false
    /// or unknown, or the lease seen unchanged for longer than `grace`. Nothing if it is well or
    /// no node.
    pub fn not_ready_for(&self, now: Monotonic, grace: Duration) -> Option<Duration> {
        let node = self.node.as_ref()?;
        let unready = (node.ready != Ready::True).then(|| now.since(node.ready_since.mono));
        let overdue = node
            .lease
            .map(|lease| now.since(lease.seen.mono))
            .filter(|age| *age > grace);
        unready.max(overdue)
    }
}

impl From<&ServerView> for Server {
    /// What matters of it. Whose it is is for the cluster to say.
    fn from(view: &ServerView) -> Self {
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        Self {
            id: view.id.clone(),
            status: view.status.clone(),
            created: view.created,
            operation: view
                .metadata
                .get(mark::OPERATION)
                .and_then(|text| text.parse().ok()),
            marked: false,
            addressed: !view.addresses.is_empty(),
            protected: view.metadata.contains_key(mark::DO_NOT_TOUCH),
            idle: view.task_state.is_none(),
            zone: boxed(&view.zone),
            host: boxed(&view.host_id),
            fault: boxed(&view.fault),
        }
    }
}

impl Node {
    /// What matters of it, as seen now. Its lease comes by another way.
    pub fn new(view: &NodeView, now: Now) -> Self {
        let refuses = |key: &&str| view.annotations.get(*key).is_some_and(|set| set == "true");
        Self {
            uid: view.uid.clone(),
            vm: view.vm.clone(),
            ready: view.ready,
            ready_since: now,
            lease: None,
            cordoned: view.unschedulable,
            control_plane: view.control_plane,
            protected: view.labels.contains_key(mark::DO_NOT_TOUCH)
                || PROTECTING_ANNOTATIONS.iter().any(refuses),
            allocatable: view.allocatable,
            created: view.created,
        }
    }
}

/// Everything observed.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    pools: Vec<PoolName>,
    slots: hashbrown::HashMap<NodeName, NodeSlot, FixedState>,
    members: Vec<Option<Member>>,
    pool_members: Vec<Vec<NodeSlot>>,
    vms: BTreeMap<VmId, (NodeSlot, Server)>,
    /// VMs that the journal knows as ours, until the first listing that is believed.
    expected: BTreeSet<VmId>,
    unschedulable: Vec<PodView>,
    requests: BTreeMap<NodeName, Requests>,
    pods_seen: bool,
    servers: Inventory,
    nodes: Inventory,
    unknown: u64,
    unknown_names: Vec<String>,
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
    /// A name got a slot.
    Joined(NodeSlot),
    /// A name lost its slot.
    Left(NodeSlot),
}

impl Cluster {
    /// Nothing observed yet.
    pub fn new(settings: &Settings) -> Self {
        let pools: Vec<_> = settings.pools.keys().cloned().collect();
        Self {
            name: settings.cluster.clone(),
            pool_members: vec![Vec::new(); pools.len()],
            pools,
            slots: hashbrown::HashMap::with_hasher(FixedState::default()),
            members: Vec::new(),
            vms: BTreeMap::new(),
            expected: BTreeSet::new(),
            unschedulable: Vec::new(),
            requests: BTreeMap::new(),
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
        self.vms.get(vm).map(|(_, server)| server)
    }

    /// VMs of the pool beyond one for each name: the twins that a creation of unknown outcome
    /// can leave, until they are deleted.
    pub fn twins(&self, pool: PoolSlot) -> usize {
        let second = |(slot, server): &&(NodeSlot, Server)| {
            self.member(*slot).is_some_and(|member| {
                let shown = member.server.as_ref().map(|shown| &shown.id);
                member.pool == Some(pool) && shown != Some(&server.id)
            })
        };
        self.vms.values().filter(second).count()
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
        self.pods_seen
            .then(|| self.requests.get(node).copied().unwrap_or_default())
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

    /// Takes in what was observed. `slots` gives a slot to each name that comes and takes it
    /// back from each that goes.
    ///
    /// `leaving` are the VMs that operations are deleting, which a list may lack.
    pub fn observe(
        &mut self,
        now: Now,
        observation: Observation,
        leaving: &BTreeSet<VmId>,
        slots: &mut Slots<'_>,
    ) {
        match observation {
            Observation::Servers {
                at: _,
                complete,
                servers,
            } => self.list_servers(now, complete, servers, leaving, slots),
            Observation::Server(server) => self.put_server(now, server, slots),
            Observation::ServerGone(id) => self.drop_server(&id, slots),
            Observation::Nodes { at: _, nodes } => self.list_nodes(now, nodes, slots),
            Observation::Node(node) => self.put_node(now, node, slots),
            Observation::NodeGone { name, uid } => {
                let same = |node: &Node| node.uid == uid;
                if self
                    .find(name.as_str())
                    .is_some_and(|member| member.node.as_ref().is_some_and(same))
                {
                    self.drop_node(&name, slots);
                }
            }
            Observation::Lease { node, renewed } => {
                if let Some(node) = self.member_mut(&node).and_then(|m| m.node.as_mut())
                    && node.lease.is_none_or(|lease| lease.renewed != renewed)
                {
                    node.lease = Some(Lease { renewed, seen: now });
                }
            }
            Observation::Pods {
                unschedulable,
                requests,
            } => {
                self.unschedulable = unschedulable;
                self.requests = requests;
                self.pods_seen = true;
            }
        }
    }

    fn list_servers(
        &mut self,
        now: Now,
        complete: bool,
        servers: Vec<ServerView>,
        leaving: &BTreeSet<VmId>,
        slots: &mut Slots<'_>,
    ) {
        let ids: BTreeSet<_> = servers.iter().map(|server| server.id.clone()).collect();
        let known: BTreeSet<_> = self
            .vms
            .keys()
            .chain(&self.expected)
            .filter(|id| !leaving.contains(*id))
            .cloned()
            .collect();
        let missing: BTreeSet<_> = known.difference(&ids).cloned().collect();
        for server in servers {
            self.put_server(now, server, slots);
        }
        let listing = Listing {
            complete,
            listed: ids.len(),
            known: known.len(),
            missing: missing.len(),
            contradicted: self.shows_life(now, &missing, slots.windows),
        };
        // Not in a list is gone only if the list is whole and has not shrunk without our doing.
        if self.servers.seen(now, &listing) {
            self.expected.clear();
            let gone: Vec<_> = self
                .vms
                .keys()
                .filter(|id| !ids.contains(*id))
                .cloned()
                .collect();
            for id in gone {
                self.drop_server(&id, slots);
            }
        }
    }

    /// Whether anything else shows that one of these VMs runs: its node is Ready, or its agent
    /// was heard just now. This is the second source that I13 asks for.
    fn shows_life(&self, now: Now, vms: &BTreeSet<VmId>, windows: &Windows) -> bool {
        if vms.is_empty() {
            return false;
        }
        self.members().any(|(slot, member)| {
            let shown = member.server.as_ref().map(|server| &server.id);
            let told = member.node.as_ref().and_then(|node| node.vm.as_ref());
            let missing = shown.or(told).is_some_and(|vm| vms.contains(vm));
            let heard = windows.last_heard(slot).unwrap_or_default();
            missing && (member.is_ready() || now.wall.since(heard) < HEARD_LATELY)
        })
    }

    fn list_nodes(&mut self, now: Now, nodes: Vec<NodeView>, slots: &mut Slots<'_>) {
        let names: BTreeSet<_> = nodes.iter().map(|node| node.name.clone()).collect();
        let listed: Vec<_> = self
            .members()
            .filter(|(_, member)| member.node.is_some())
            .map(|(_, member)| member.name.clone())
            .collect();
        for node in nodes {
            self.put_node(now, node, slots);
        }
        let missing = listed.iter().filter(|name| !names.contains(*name)).count();
        let listing = Listing {
            complete: true,
            listed: names.len(),
            known: listed.len(),
            missing,
            // The cluster is the only one who knows which nodes it has.
            contradicted: false,
        };
        if self.nodes.seen(now, &listing) {
            for name in listed.iter().filter(|name| !names.contains(*name)) {
                self.drop_node(name, slots);
            }
        }
    }

    fn put_server(&mut self, now: Now, view: ServerView, slots: &mut Slots<'_>) {
        if view.status == ServerStatus::Deleted {
            self.drop_server(&view.id, slots);
            return;
        }
        let name = NodeName::new(&view.name);
        let pool = self.marked_pool(&view.metadata);
        let marked = view.metadata.get(mark::OWNER).map(String::as_str) == Some(mark::OWNER_VALUE)
            && view.metadata.get(mark::CLUSTER) == Some(&self.name);
        let server = Server {
            marked,
            ..Server::from(&view)
        };
        // A VM that was renamed keeps its slot: the id decides.
        let slot = match self.vms.get(&view.id) {
            Some((slot, _)) => *slot,
            None => self.join(now, name, slots),
        };
        self.vms.insert(view.id, (slot, server.clone()));
        if let Some(member) = self.at_mut(slot) {
            let told = member.node.as_ref().and_then(|node| node.vm.as_ref());
            let shown = member.server.as_ref();
            // Of two VMs under one name the one that the node runs on is shown, else the older.
            let other = shown.is_some_and(|shown| {
                shown.id != server.id
                    && told != Some(&server.id)
                    && (told == Some(&shown.id)
                        || (shown.created, &shown.id) < (server.created, &server.id))
            });
            if !other {
                member.server = Some(server);
            }
        }
        if marked {
            self.place(slot, pool);
        }
    }

    fn put_node(&mut self, now: Now, view: NodeView, slots: &mut Slots<'_>) {
        let pool = self.marked_pool(&view.labels);
        let slot = self.join(now, view.name.clone(), slots);
        let mut node = Node::new(&view, now);
        let before = self
            .member(slot)
            .and_then(|member| member.node.as_ref())
            .filter(|before| before.uid == node.uid);
        if let Some(before) = before {
            node.lease = before.lease;
            if before.ready == node.ready {
                node.ready_since = before.ready_since;
            }
        }
        let by_vm = self
            .member(slot)
            .and_then(|member| member.server.as_ref())
            .is_some_and(|server| server.marked);
        if let Some(member) = self.at_mut(slot) {
            member.node = Some(node);
        }
        // The VM's metadata says which pool, else the Node's label. A node whose VM is gone
        // stays where it was.
        if !by_vm && pool.is_some() {
            self.place(slot, pool);
        }
    }

    fn drop_server(&mut self, id: &VmId, slots: &mut Slots<'_>) {
        if let Some((slot, _)) = self.vms.remove(id) {
            let twin = self.vms.values().find(|(other, _)| *other == slot);
            let twin = twin.map(|(_, server)| server.clone());
            if let Some(member) = self.at_mut(slot)
                && member.server.as_ref().is_some_and(|shown| shown.id == *id)
            {
                member.server = twin;
            }
            self.leave_if_empty(slot, slots);
        }
    }

    fn drop_node(&mut self, name: &NodeName, slots: &mut Slots<'_>) {
        if let Some(slot) = self.slot(name.as_str()) {
            if let Some(member) = self.at_mut(slot) {
                member.node = None;
            }
            self.leave_if_empty(slot, slots);
        }
    }

    fn marked_pool(&self, marks: &BTreeMap<String, String>) -> Option<PoolSlot> {
        let name = marks.get(mark::POOL)?;
        self.pool_slot(&PoolName::new(name))
    }

    fn join(&mut self, now: Now, name: NodeName, slots: &mut Slots<'_>) -> NodeSlot {
        if let Some(slot) = self.slots.get(&name) {
            return *slot;
        }
        let slot = slots.give(&name);
        let index = slot.0 as usize;
        if self.members.len() <= index {
            self.members.resize_with(index + 1, || None);
        }
        let member = Some(Member {
            name: name.clone(),
            pool: None,
            server: None,
            node: None,
            since: now,
        });
        if let Some(place) = self.members.get_mut(index) {
            *place = member;
        }
        self.slots.insert(name, slot);
        slot
    }

    fn leave_if_empty(&mut self, slot: NodeSlot, slots: &mut Slots<'_>) {
        let empty = self
            .member(slot)
            .is_some_and(|member| member.server.is_none() && member.node.is_none());
        if !empty {
            return;
        }
        self.place(slot, None);
        if let Some(member) = self.members.get_mut(slot.0 as usize).and_then(Option::take) {
            self.slots.remove(&member.name);
            slots.take(slot);
        }
    }

    fn place(&mut self, slot: NodeSlot, pool: Option<PoolSlot>) {
        let Some(member) = self.at_mut(slot) else {
            return;
        };
        let before = std::mem::replace(&mut member.pool, pool);
        if before == pool {
            return;
        }
        if let Some(slots) = before.and_then(|pool| self.pool_members.get_mut(usize::from(pool.0)))
        {
            slots.retain(|other| *other != slot);
        }
        if let Some(slots) = pool.and_then(|pool| self.pool_members.get_mut(usize::from(pool.0))) {
            let at = slots.partition_point(|other| *other < slot);
            slots.insert(at, slot);
        }
    }

    fn at_mut(&mut self, slot: NodeSlot) -> Option<&mut Member> {
        self.members.get_mut(slot.0 as usize)?.as_mut()
    }

    fn member_mut(&mut self, name: &NodeName) -> Option<&mut Member> {
        let slot = self.slot(name.as_str())?;
        self.at_mut(slot)
    }
}

#[cfg(test)]
mod tests;
