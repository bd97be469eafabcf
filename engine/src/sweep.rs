//! The sweep: what nobody claims is found, told, and taken away where that is safe.
//!
//! ```text
//! a VM with our marks, no claim in the journal
//!   |-- of this very journal, old, no sign of life, seen so twice --> swept (I8)
//!   +-- anything else: a lost journal, a machine that serves ------> told, until it is adopted
//! a Node of ours whose VM two listings lack
//!   |-- nothing of it lives ---------------> set aside at once, and its Node swept
//!   +-- its kubelet or agent is heard -----> an alarm for a human, never a deletion (I26)
//! ports of an operation of this journal that is over, and no VM lives on them --> swept
//! ```
//!
//! A sweep is an operation like any other: through the guard, journaled, and through the gate.
//! Who wants it all taken under management says so: `rhizome adopt`.

mod notices;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::{Member, PoolSlot, Server};
use crate::decision::{Ask, Evidence, Origin, Proposal, Reason};
use crate::engine::{Answer, Engine};
use crate::event::{Ready, ServerStatus, SourceName, Target};
use crate::guard::Effort;
use crate::journal::{Brake, Record};
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::remediation::{Machine, OperationKind, Swept};
use crate::time::{Monotonic, Now, format_duration};
use crate::window::NodeSlot;

/// How often everything is looked through. What is swept has been lying about for a quarter of
/// an hour, so a minute more is nothing.
const EVERY: Duration = Duration::from_secs(60);

/// A VM younger than this may yet be claimed (I8; machine-controller-manager's GC).
const ORPHAN_AGE: Duration = Duration::from_secs(15 * 60);

/// The two sweeps that must have seen an orphan lie at least this far apart (I8).
const ORPHAN_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Believed listings that must have lacked a VM before it counts as gone: one can be wrong.
const GONE_LISTS: u32 = 2;

/// An agent heard this lately runs: three intervals of ten seconds.
const HEARD_LATELY: Duration = Duration::from_secs(30);

/// Most of what nobody claims that `status` shows.
const SHOWN: usize = 100;

/// What the sweeps of this run have seen.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    next: Option<Monotonic>,
    /// Since when each VM that nobody claims was seen so, without a break.
    orphans: BTreeMap<VmId, Now>,
    /// What each pool's notice said last: how many wait to be adopted.
    told: BTreeMap<PoolName, usize>,
    /// Nodes that live and whose VM the cloud does not show, with their pools.
    missing: BTreeMap<NodeName, Option<PoolName>>,
    /// What each operation left behind in the network service.
    ports: BTreeMap<OperationId, ports::Left>,
}

/// Something that nobody claims, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// The name that it has.
    pub node: NodeName,
    /// The pool in its marks.
    pub pool: PoolName,
    /// The VM; none if it is a Node without one.
    pub vm: Option<VmId>,
    /// What it is, and what becomes of it.
    pub what: String,
}

/// A VM with our marks that the journal does not claim.
struct Orphan {
    slot: NodeSlot,
    name: NodeName,
    pool: PoolSlot,
    server: Server,
    /// Why it is not swept; none if it may be once it has been seen so for long enough.
    kept: Option<&'static str>,
}

impl Engine {
    /// Looks through everything, when it is time.
    pub(crate) fn sweep(&mut self, now: Now) {
        if self.sweep.next.is_some_and(|next| now.mono < next) || !self.sees_everything(now) {
            return;
        }
        self.sweep.next = Some(now.mono.plus(EVERY));
        let orphans = self.orphans(now);
        self.tell_unadopted(now, &orphans);
        self.note(now, &orphans);
        for orphan in orphans {
            self.sweep_vm(now, &orphan);
        }
        self.sweep_nodes(now);
        self.sweep_ports(now);
        self.tell_missing(now);
    }

    /// A listing of VMs was taken in: whoever lost its VM and gives no sign of life counts no
    /// longer.
    pub(crate) fn set_aside(&mut self, now: Now) {
        let stale: Vec<_> = self
            .widows()
            .filter(|(slot, member)| self.life(now, *slot, member).is_none())
            .filter(|(_, member)| self.guard(now).operation_of(&member.name).is_none())
            .map(|(slot, _)| slot)
            .collect();
        for slot in stale {
            self.world.cluster.set_aside(slot);
            self.world.watch(slot);
            self.rules.left(slot);
        }
    }

    /// Takes VMs with our marks that the journal does not know under management.
    pub(crate) fn adopt(&mut self, now: Now, target: &Target, who: &str) -> Answer {
        let candidates: Vec<_> = self
            .orphans(now)
            .into_iter()
            .filter(|orphan| match target {
                Target::Node(node) => orphan.name == *node,
                Target::Pool(pool) => self.world.cluster.pool_name(orphan.pool) == Some(pool),
            })
            .filter(|orphan| !self.is_control_plane(orphan.slot))
            // Of two VMs under one name, the one that is shown.
            .filter(|orphan| self.shown(orphan.slot) == Some(&orphan.server.id))
            .collect();
        if candidates.is_empty() {
            return self.nothing_to_adopt(target);
        }
        let count = candidates.len();
        for orphan in candidates {
            let Some(pool) = self.world.cluster.pool_name(orphan.pool).cloned() else {
                continue;
            };
            self.sweep.orphans.remove(&orphan.server.id);
            self.emit(Record::Adopted {
                vm: orphan.server.id,
                node: orphan.name,
                pool,
                operation: orphan.server.operation,
                who: who.to_owned(),
                at: now,
            });
        }
        self.sweep.next = None;
        self.replan();
        let name = match target {
            Target::Node(node) => node.as_str(),
            Target::Pool(pool) => pool.as_str(),
        };
        let plural = if count == 1 { "VM" } else { "VMs" };
        Answer::Granted(format!("{count} {plural} of {name} are ours from now on"))
    }

    /// What nobody claims just now.
    pub(crate) fn unclaimed(&self, now: Now) -> Vec<Unclaimed> {
        let pool = |slot| self.world.cluster.pool_name(slot).cloned();
        let orphans = self.orphans(now).into_iter().filter_map(|orphan| {
            let what = match orphan.kept {
                Some(why) => format!("not adopted: {why}"),
                None => format!(
                    "left over: swept {} after it was first seen so",
                    format_duration(ORPHAN_AGAIN)
                ),
            };
            Some(Unclaimed {
                node: orphan.name,
                pool: pool(orphan.pool)?,
                vm: Some(orphan.server.id),
                what,
            })
        });
        let nodes = self.world.cluster.aside().filter_map(|(_, member, slot)| {
            Some(Unclaimed {
                node: member.name.clone(),
                pool: pool(slot)?,
                vm: None,
                what: "its VM is gone: the Node is swept".to_owned(),
            })
        });
        let ports = self.sweep.ports.values().map(ports::Left::shown);
        orphans.chain(nodes).chain(ports).take(SHOWN).collect()
    }

    /// Members of the pool that count in its size and that no removal is for: VMs that nobody
    /// claims, and those that a sweep is taking away.
    pub(crate) fn unclaimed_in(&self, now: Now, pool: PoolSlot) -> u32 {
        let orphans = self.orphans(now).into_iter();
        let orphans = orphans.map(|orphan| (orphan.slot, orphan.server.id));
        let operations = self.state.operations.values();
        let sweeps = operations.filter(|one| one.kind == OperationKind::Sweep(Swept::Vm));
        let swept = sweeps.filter_map(|one| {
            let old = one.old.as_ref()?;
            Some((self.world.cluster.slot(old.node.as_str())?, old.vm.clone()?))
        });
        let counts = |(slot, vm): &(NodeSlot, VmId)| {
            let member = self.world.cluster.member(*slot);
            // Of two VMs under one name, the pool's size counts the one that is shown.
            member.is_some_and(|member| member.pool == Some(pool)) && self.shown(*slot) == Some(vm)
        };
        let found: BTreeSet<_> = orphans.chain(swept).filter(counts).collect();
        u32::try_from(found.len()).unwrap_or(u32::MAX)
    }

    /// A sweep needs whole lists, believed and fresh: what they lack or hold in error would be
    /// taken for unclaimed.
    fn sees_everything(&self, now: Now) -> bool {
        let cluster = &self.world.cluster;
        let believed = |source| !self.state.brakes.contains_key(&Brake::Inventory(source));
        cluster.servers().asked().is_some()
            && cluster.servers().doubt().is_none()
            && believed(SourceName::Openstack)
            && self
                .world
                .brakes
                .hears(SourceName::Openstack, now, &self.world.settings)
                .is_ok()
    }

    /// VMs with our marks, in a pool of ours, that no record claims.
    fn orphans(&self, now: Now) -> Vec<Orphan> {
        let operations = &self.state.operations;
        let machines = operations.values().flat_map(|one| one.machines());
        let mut claimed: BTreeSet<&VmId> = machines.filter_map(|one| one.vm.as_ref()).collect();
        let twins = operations.values().flat_map(|one| &one.twins);
        claimed.extend(twins.map(|twin| &twin.id));
        let unclaimed = |server: &Server| {
            server.marked
                && !self.state.owned.contains_key(&server.id)
                && !claimed.contains(&server.id)
                && !server
                    .operation
                    .is_some_and(|operation| operations.contains_key(&operation))
        };
        let found = self.world.cluster.all_servers();
        let found = found.filter(|(_, server)| unclaimed(server));
        found
            .filter_map(|(slot, server)| {
                let member = self.world.cluster.member(slot)?;
                Some(Orphan {
                    slot,
                    name: member.name.clone(),
                    pool: member.pool?,
                    server: server.clone(),
                    kept: self.kept(now, slot, member, server),
                })
            })
            .collect()
    }

    /// Why a VM that nobody claims is not swept.
    fn kept(
        &self,
        now: Now,
        slot: NodeSlot,
        member: &Member,
        server: &Server,
    ) -> Option<&'static str> {
        if !server
            .operation
            .is_some_and(|one| self.is_of_this_journal(one))
        {
            return Some("no operation of this journal made it");
        }
        let node = member.node.as_ref().and_then(|node| node.vm.as_ref());
        if node.is_some_and(|vm| *vm != server.id) {
            // Its name is another VM's: what lives under it is that one.
            return None;
        }
        self.life(now, slot, member)
    }

    /// Whether the journal has given this number out. One that is yet to come is of a newer
    /// journal than this, which is an old one put back.
    fn is_of_this_journal(&self, operation: OperationId) -> bool {
        operation.journal == self.state.journal && operation.number < self.state.next_operation
    }

    /// What shows that a machine runs, if anything does.
    fn life(&self, now: Now, slot: NodeSlot, member: &Member) -> Option<&'static str> {
        let grace = self.world.settings.limits.lease_grace;
        if let Some(node) = &member.node {
            if node.ready == Ready::True {
                return Some("its node is Ready");
            }
            let renewed = node.lease.map(|lease| now.mono.since(lease.seen));
            if renewed.is_some_and(|age| age <= grace) {
                return Some("its kubelet renews its lease");
            }
        }
        let heard = self.world.windows.last_heard(slot).unwrap_or_default();
        (now.wall.since(heard) < HEARD_LATELY).then_some("its agent is heard")
    }

    /// Nodes that are ours and whose VM the listings have lacked for long enough.
    fn widows(&self) -> impl Iterator<Item = (NodeSlot, &Member)> {
        self.world
            .cluster
            .widows()
            .filter(|(_, member, lists)| *lists >= GONE_LISTS && self.is_ours(member))
            .map(|(slot, member, _)| (slot, member))
    }

    fn is_ours(&self, member: &Member) -> bool {
        let vm = member.node.as_ref().and_then(|node| node.vm.as_ref());
        vm.is_some_and(|vm| self.state.owned.contains_key(vm))
    }

    fn shown(&self, slot: NodeSlot) -> Option<&VmId> {
        let member = self.world.cluster.member(slot)?;
        member.server.as_ref().map(|server| &server.id)
    }

    fn is_control_plane(&self, slot: NodeSlot) -> bool {
        let node = self.world.cluster.member(slot);
        let node = node.and_then(|member| member.node.as_ref());
        node.is_some_and(|node| node.control_plane)
    }

    /// Notes since when each orphan was seen as one that may be swept.
    fn note(&mut self, now: Now, orphans: &[Orphan]) {
        let before = std::mem::take(&mut self.sweep.orphans);
        self.sweep.orphans = orphans
            .iter()
            .filter(|orphan| orphan.kept.is_none())
            .map(|orphan| {
                let id = orphan.server.id.clone();
                let first = before.get(&id).copied().unwrap_or(now);
                (id, first)
            })
            .collect();
    }

    fn sweep_vm(&mut self, now: Now, orphan: &Orphan) {
        let server = &orphan.server;
        let Some(first) = self.sweep.orphans.get(&server.id).copied() else {
            return;
        };
        let seen = now.mono.since(first.mono);
        let age = now.wall.since(server.created);
        if seen < ORPHAN_AGAIN || age <= ORPHAN_AGE {
            return;
        }
        let operation = server.operation.map(|operation| operation.to_string());
        let why = format!(
            "made by {} and claimed by no record for {}, and nothing shows that it serves",
            operation.unwrap_or_default(),
            format_duration(seen)
        );
        let node = self.world.cluster.member(orphan.slot);
        let node = node.and_then(|member| member.node.as_ref());
        let own = node.filter(|node| node.vm.as_ref() == Some(&server.id));
        let old = Machine {
            node: orphan.name.clone(),
            uid: own.map(|node| node.uid.to_string()),
            vm: Some(server.id.clone()),
            created: Some(server.created),
            operation: server.operation,
            network: server.network,
            off: server.status == ServerStatus::Shutoff,
            stands_on: Vec::new(),
        };
        let effort = Effort::Sweep {
            node: &orphan.name,
            vm: Some(server),
            control_plane: self.is_control_plane(orphan.slot),
        };
        let checked = self.guard(now).check(orphan.pool, effort);
        self.begin_or_refuse(now, orphan.pool, old, Swept::Vm, why, checked);
    }

    fn sweep_nodes(&mut self, now: Now) {
        let stale: Vec<_> = self
            .world
            .cluster
            .aside()
            .map(|(slot, member, pool)| (slot, member.clone(), pool))
            .collect();
        for (slot, member, pool) in stale {
            let Some(node) = &member.node else { continue };
            if self.guard(now).operation_of(&member.name).is_some() {
                continue;
            }
            let effort = Effort::Sweep {
                node: &member.name,
                vm: None,
                control_plane: self.is_control_plane(slot),
            };
            let checked = self.guard(now).check(pool, effort);
            let old = Machine {
                node: member.name.clone(),
                uid: Some(node.uid.to_string()),
                vm: node.vm.clone(),
                created: None,
                operation: None,
                network: None,
                off: false,
                stands_on: Vec::new(),
            };
            let why =
                "its VM is gone from two listings, and nothing shows that it lives".to_owned();
            self.begin_or_refuse(now, pool, old, Swept::Node, why, checked);
        }
    }

    fn begin_or_refuse(
        &mut self,
        now: Now,
        pool: PoolSlot,
        old: Machine,
        swept: Swept,
        why: String,
        checked: Result<(), crate::guard::Refused>,
    ) {
        let Some(pool) = self.world.cluster.pool_name(pool).cloned() else {
            return;
        };
        let node = old.node.clone();
        let ask = match (swept, old.operation) {
            (Swept::Ports, Some(operation)) => Ask::SweepPorts {
                node: node.clone(),
                operation,
            },
            _ => Ask::Sweep {
                node: node.clone(),
                vm: old.vm.clone().filter(|_| swept == Swept::Vm),
            },
        };
        let proposal = Proposal {
            origin: Origin::Sweep,
            ask,
            why,
            evidence: Evidence::default(),
            since: None,
            entered: None,
        };
        match checked {
            Ok(()) => self.begin_sweep(now, &pool, old, swept, &proposal),
            Err(why) => self.refuse(now, &pool, Some(&node), &proposal, why),
        }
    }

    fn nothing_to_adopt(&self, target: &Target) -> Answer {
        let Target::Node(node) = target else {
            return Answer::Granted("every VM of it is ours already".to_owned());
        };
        let member = self.world.cluster.find(node.as_str());
        let server = member.and_then(|member| member.server.as_ref());
        match server {
            Some(server) if self.state.owned.contains_key(&server.id) => {
                Answer::Granted(format!("{node} is ours already"))
            }
            Some(server) if server.marked => Answer::Refused(
                Reason::ControlPlane,
                format!("{node} is of the control plane, or in no pool of the configuration"),
            ),
            Some(_) => Answer::Refused(
                Reason::NotOwned,
                format!("the VM of {node} does not carry our marks"),
            ),
            None => Answer::Refused(
                Reason::NotOwned,
                format!("{node} has no VM that the cloud shows"),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
