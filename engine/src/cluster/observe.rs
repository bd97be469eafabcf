//! What listings and watches show, taken into the cluster: who came, who left, who changed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inventory::Listing;
use super::{Change, Cluster, Known, Lease, Member, Node, PoolSlot, Server, Slots};
use crate::action::mark;
use crate::event::{Labels, NodeView, Observation, Ready, ServerStatus, ServerView};
use crate::names::{NodeName, PoolName, VmId};
use crate::time::Now;
use crate::window::{NodeSlot, Windows, grow};

/// An agent heard this lately runs: three intervals of ten seconds.
const HEARD_LATELY: Duration = Duration::from_secs(30);

impl Cluster {
    /// Takes in what was observed. `slots` gives a slot to each name that comes and takes it
    /// back from each that goes.
    ///
    /// Listings say themselves when they were asked for, on the wall's clock; `now` is when
    /// they came.
    pub fn observe(
        &mut self,
        now: Now,
        observation: Observation,
        known: &Known,
        slots: &mut Slots<'_>,
    ) {
        match observation {
            Observation::Servers {
                at,
                complete,
                servers,
            } => self.list_servers((now, now.at(at)), complete, servers, known, slots),
            Observation::Server(server) => self.put_server(now, &server, slots),
            // While listings are doubted a 404 is one more word of the same cloud (I13): the VM
            // goes when a listing that lacks it is believed.
            Observation::ServerGone(id) => {
                if self.servers.doubt().is_none() || known.leaving.contains(&id) {
                    self.drop_server(&id, slots);
                }
            }
            Observation::Nodes { at, nodes } => {
                self.list_nodes((now, now.at(at)), nodes, known.heard, slots);
            }
            Observation::Node(node) => self.put_node(now, &node, slots),
            Observation::NodeGone { name, uid } => {
                let same = |node: &Node| node.uid == *uid;
                if self
                    .find(name.as_str())
                    .is_some_and(|member| member.node.as_ref().is_some_and(same))
                {
                    self.drop_node(&name, slots);
                }
            }
            Observation::Lease { node, renewed } => {
                let Some(slot) = self.slot(node.as_str()) else {
                    return;
                };
                if let Some(node) = self.at_mut(slot).and_then(|m| m.node.as_mut())
                    && node.lease.is_none_or(|lease| lease.renewed != renewed)
                {
                    let lives = node.lease.is_some();
                    node.lease = Some(Lease {
                        renewed,
                        seen: now.mono,
                    });
                    slots.changes.push(Change::Seen(slot));
                    if lives {
                        self.take_back(slot, slots);
                    }
                }
            }
            Observation::Pods {
                unschedulable,
                shapes,
                nodes,
            } => {
                self.unschedulable = unschedulable;
                self.shapes = shapes;
                self.pods = nodes;
                self.pods_seen = true;
            }
            // The sweep's to look after.
            Observation::Ports(_) => {}
        }
    }

    fn list_servers(
        &mut self,
        (now, asked): (Now, Now),
        complete: bool,
        servers: Vec<ServerView>,
        Known { leaving, heard }: &Known,
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
        // The list goes as a whole, below: freed piece by piece, what is kept would fill the gaps,
        // and nothing larger would ever fit there again.
        for server in &servers {
            self.put_server(now, server, slots);
        }
        drop(servers);
        let listing = Listing {
            asked,
            complete,
            listed: ids.len(),
            known: known.len(),
            missing: missing.len(),
            contradicted: (missing.len() > 1 && !heard)
                || self.shows_life(now, &missing, slots.windows),
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
            self.count_widows(slots);
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

    fn list_nodes(
        &mut self,
        (now, asked): (Now, Now),
        nodes: Vec<NodeView>,
        heard: bool,
        slots: &mut Slots<'_>,
    ) {
        let names: BTreeSet<_> = nodes.iter().map(|node| node.name.clone()).collect();
        let listed: Vec<_> = self
            .members()
            .filter(|(_, member)| member.node.is_some())
            .map(|(_, member)| member.name.clone())
            .collect();
        let known = listed.len();
        for node in &nodes {
            self.put_node(now, node, slots);
        }
        drop(nodes);
        let missing: Vec<_> = listed
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        let speaks = |name: &NodeName| {
            let slot = self.slot(name.as_str());
            let last = slot.and_then(|slot| slots.windows.last_heard(slot));
            now.wall.since(last.unwrap_or_default()) < HEARD_LATELY
        };
        let listing = Listing {
            asked,
            complete: true,
            listed: names.len(),
            known,
            missing: missing.len(),
            // That a node was deleted the watch says; of a list that shrank the agents are the
            // second source (I13).
            contradicted: (missing.len() > 1 && !heard) || missing.iter().any(speaks),
        };
        if self.nodes.seen(now, &listing) {
            for name in &missing {
                self.drop_node(name, slots);
            }
        }
    }

    fn put_server(&mut self, now: Now, view: &ServerView, slots: &mut Slots<'_>) {
        if view.status == ServerStatus::Deleted {
            self.drop_server(&view.id, slots);
            return;
        }
        let pool = self.marked_pool(&view.metadata);
        let marked = view.metadata.get(mark::OWNER) == Some(mark::OWNER_VALUE)
            && view.metadata.get(mark::CLUSTER) == Some(self.name.as_str());
        let mut server = Server {
            marked,
            ..Server::from(view)
        };
        // A VM that was renamed keeps its slot: the id decides.
        let slot = match self.vms.get_key_value(&view.id) {
            Some((id, slot)) => {
                // One text for all that name it, however often it is listed.
                server.id = id.clone();
                *slot
            }
            None => {
                let slot = self.join(now, &view.name, slots);
                // The journal's text where it has one.
                let known = self.expected.get(&view.id).cloned();
                server.id = known.unwrap_or_else(|| VmId::new(view.id.as_str()));
                self.vms.insert(server.id.clone(), slot);
                slot
            }
        };
        self.widows.remove(&slot);
        self.take_back(slot, slots);
        self.twins.remove(&server.id);
        if let Some(member) = self
            .members
            .get_mut(slot.0 as usize)
            .and_then(Option::as_mut)
        {
            let told = member.node.as_ref().and_then(|node| node.vm.as_ref());
            let shown = member.server.as_ref();
            // Of two VMs under one name the one that the node runs on is shown, else the older.
            let other = shown.is_some_and(|shown| {
                shown.id != server.id
                    && told != Some(&server.id)
                    && (told == Some(&shown.id)
                        || (shown.created, &shown.id) < (server.created, &server.id))
            });
            let aside = if other {
                Some(server)
            } else {
                if let Some(node) = member.node.as_mut()
                    && node.vm.as_ref() == Some(&server.id)
                {
                    node.vm = Some(server.id.clone());
                }
                let id = server.id.clone();
                let before = self.show(slot, Some(server));
                before.filter(|before| before.id != id)
            };
            if let Some(aside) = aside {
                self.twins.insert(aside.id.clone(), (slot, aside));
            }
        }
        if marked && self.place(slot, pool) {
            slots.changes.push(Change::Moved(slot));
        }
        slots.changes.push(Change::Seen(slot));
    }

    fn put_node(&mut self, now: Now, view: &NodeView, slots: &mut Slots<'_>) {
        let pool = self.marked_pool(&view.labels);
        let slot = self.join(now, view.name.as_str(), slots);
        if view.ready == Ready::True {
            self.take_back(slot, slots);
        }
        let before = match self.members.get_mut(slot.0 as usize) {
            Some(Some(member)) => {
                self.serving.leave(member);
                member.node.take()
            }
            _ => None,
        };
        let had = before.as_ref().map(|before| &before.placement);
        let placement = self.placements.share(had, view);
        let mut node = Node::new(view, placement, now);
        let before = before.filter(|before| before.uid == node.uid);
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
        if let Some(Some(member)) = self.members.get_mut(slot.0 as usize) {
            let shown = member.server.as_ref().map(|server| &server.id);
            if let Some(id) = shown.filter(|id| node.vm.as_ref() == Some(*id)) {
                node.vm = Some(id.clone());
            }
            member.node = Some(node);
            self.serving.enter(member);
        }
        // The VM's metadata says which pool, else the Node's label. A node whose VM is gone
        // stays where it was.
        let by_label = !by_vm && pool.is_some() && !self.aside.contains_key(&slot);
        if by_label && self.place(slot, pool) {
            slots.changes.push(Change::Moved(slot));
        }
        slots.changes.push(Change::Seen(slot));
    }

    fn drop_server(&mut self, id: &VmId, slots: &mut Slots<'_>) {
        if let Some(slot) = self.vms.remove(id) {
            self.twins.remove(id);
            let shown = self.member(slot).and_then(|member| member.server.as_ref());
            if shown.is_some_and(|shown| shown.id == *id) {
                let twin = self.twins.iter().find(|(_, (other, _))| *other == slot);
                let twin = twin.map(|(id, _)| id.clone());
                let twin = twin.and_then(|id| self.twins.remove(&id));
                self.show(slot, twin.map(|(_, server)| server));
            }
            self.leave_if_empty(slot, slots);
        }
    }

    /// Another VM in place of the one that the member shows, which it gives back.
    fn show(&mut self, slot: NodeSlot, mut server: Option<Server>) -> Option<Server> {
        let member = self.members.get_mut(slot.0 as usize)?.as_mut()?;
        if member.pool.is_some() {
            // Before the other one leaves: what both stand on stays.
            if let Some(server) = server.as_mut() {
                self.domains.enter(server);
            }
            if let Some(before) = &member.server {
                self.domains.leave(before);
            }
        }
        self.serving.leave(member);
        let before = std::mem::replace(&mut member.server, server);
        self.serving.enter(member);
        before
    }

    fn drop_node(&mut self, name: &NodeName, slots: &mut Slots<'_>) {
        if let Some(slot) = self.slot(name.as_str()) {
            if let Some(Some(member)) = self.members.get_mut(slot.0 as usize) {
                self.serving.leave(member);
                let node = member.node.take();
                self.serving.enter(member);
                if let Some(node) = node {
                    self.placements.let_go(&node.placement);
                }
            }
            self.leave_if_empty(slot, slots);
        }
    }

    fn marked_pool(&self, marks: &Labels) -> Option<PoolSlot> {
        let name = marks.get(mark::POOL)?;
        self.pool_slot(&PoolName::new(name))
    }

    /// The slot of a name, which may be new. What is kept of a list is a text of its own: one
    /// that came with the list would keep the memory around it from being used again.
    fn join(&mut self, now: Now, name: &str, slots: &mut Slots<'_>) -> NodeSlot {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let name = NodeName::new(name);
        let slot = slots.give(&name);
        let index = slot.0 as usize;
        while self.members.len() <= index {
            grow(&mut self.members);
            self.members.push(None);
        }
        let member = Some(Member {
            name: name.clone(),
            pool: None,
            server: None,
            node: None,
            since: now.wall,
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
            slots.changes.push(Change::Seen(slot));
            return;
        }
        self.place(slot, None);
        self.widows.remove(&slot);
        self.aside.remove(&slot);
        if let Some(member) = self.members.get_mut(slot.0 as usize).and_then(Option::take) {
            self.slots.remove(&member.name);
            slots.take(slot);
        }
    }

    /// Says whether the member left a pool by it.
    pub(super) fn place(&mut self, slot: NodeSlot, pool: Option<PoolSlot>) -> bool {
        let Some(Some(member)) = self.members.get_mut(slot.0 as usize) else {
            return false;
        };
        self.serving.leave(member);
        let before = std::mem::replace(&mut member.pool, pool);
        self.serving.enter(member);
        if before == pool {
            return false;
        }
        if let Some(server) = member.server.as_mut() {
            match (before, pool) {
                (None, Some(_)) => self.domains.enter(server),
                (Some(_), None) => self.domains.leave(server),
                _ => {}
            }
        }
        for changed in before.into_iter().chain(pool) {
            if let Some(changes) = self.pool_changes.get_mut(usize::from(changed.0)) {
                *changes += 1;
            }
        }
        if let Some(slots) = before.and_then(|pool| self.pool_members.get_mut(usize::from(pool.0)))
        {
            slots.retain(|other| *other != slot);
        }
        if let Some(slots) = pool.and_then(|pool| self.pool_members.get_mut(usize::from(pool.0))) {
            let at = slots.partition_point(|other| *other < slot);
            slots.insert(at, slot);
        }
        before.is_some()
    }

    fn at_mut(&mut self, slot: NodeSlot) -> Option<&mut Member> {
        self.members.get_mut(slot.0 as usize)?.as_mut()
    }
}
