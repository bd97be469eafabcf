//! Who is silent or ill: what a storm is told by, and who is a witness besides the rule.
//!
//! Nobody looks at every node each second. [`Suspects`] holds all those that may be ill, and for
//! each of the others the moment from which it may be; what they really are is asked of the few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::limits::share_of;
use super::{Guard, Refused, refuse};
use crate::cluster::{Cluster, Kind, Member, Node, PoolSlot, Server};
use crate::decision::{Reason, Witness};
use crate::event::{Ready, ServerStatus, SourceName};
use crate::journal::{Brake, Domain};
use crate::names::PoolName;
use crate::remediation::OperationKind;
use crate::settings::PoolSettings;
use crate::signals::Sight;
use crate::time::{Now, Timestamp};
use crate::window::{NodeSlot, Windows};

/// Reporting intervals without a record before a node counts as silent for storm and witness.
///
/// Three: one lost record is ordinary, and a broker failover can lose two. The policy's own
/// threshold comes on top.
const SUSPECT_INTERVALS: u32 = 3;

/// And no sooner than this: three intervals of ten seconds, which agents have by default.
const SUSPECT: Duration = Duration::from_secs(30);

/// Suspicions are kept by the second, and begin up to two of them early: so much may be between
/// two moments of one second, and so far may the clocks part before all is put down anew.
const SLICE_MS: i64 = 1_000;

/// A second since the epoch; before it is as at it, and after 2106 is as then.
type Second = u32;

/// What the moment from which a node may be ill follows from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) windows: &'a Windows,
    pub(crate) lease_grace: Duration,
}

/// Every member of a pool that may be silent or ill now, and when each of the others may be.
///
/// ```text
///           its moment comes, or what was observed says so
///  timed  -------------------------------------------------->  suspect
///         <--------------------------------------------------
///                looked at each second: heard of since
/// ```
///
/// INVARIANT: whoever [`Guard::is_ill`] is a suspect. Being heard of only moves a node's moment
/// further away, so that a record changes nothing here; of all else that moves it, which is an
/// observation or an agent that begins to report more often, [`Suspects::watch`] is told.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    suspects: BTreeSet<(PoolSlot, NodeSlot)>,
    /// By second: who may be ill from then on. An entry that `places` does not know any more is
    /// passed over.
    timers: BTreeMap<Second, Vec<NodeSlot>>,
    /// By node slot.
    places: Vec<Place>,
    /// Whose moment lies up to here is a suspect.
    second: Second,
    /// The wall clock less the monotonic one, in milliseconds: silence is counted on the one,
    /// a lease's age on the other, and moments are put down on the first.
    apart: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// In no pool of ours.
    #[default]
    Nowhere,
    /// A timer of this second.
    Timed(Second),
    /// Among the suspects of this pool.
    Suspect(PoolSlot),
}

impl Suspects {
    /// The suspects of a pool, in slot order.
    fn of(&self, pool: PoolSlot) -> impl Iterator<Item = NodeSlot> + use<'_> {
        let (first, last) = (NodeSlot(0), NodeSlot(u32::MAX));
        let of_pool = self.suspects.range((pool, first)..=(pool, last));
        of_pool.map(|(_, slot)| *slot)
    }

    /// How many there are, in all pools.
    fn count(&self) -> usize {
        self.suspects.len()
    }

    /// Whether the node may be silent or ill.
    pub(crate) fn has(&self, slot: NodeSlot) -> bool {
        matches!(self.place(slot), Place::Suspect(_))
    }

    /// Lets time pass: whose moment has come is a suspect from now on.
    pub(crate) fn advance(&mut self, now: Now, facts: Facts<'_>) {
        self.second = second_of(now.wall).saturating_add(1);
        let apart = now.wall.millis().saturating_sub(millis(now.mono.0));
        if apart.abs_diff(self.apart) > SLICE_MS.unsigned_abs() {
            self.apart = apart;
            self.put_all(facts);
        }
        while let Some(entry) = self.timers.first_entry() {
            if *entry.key() > self.second {
                return;
            }
            let (second, slots) = entry.remove_entry();
            for slot in slots {
                if self.place(slot) == Place::Timed(second) {
                    self.put(slot, facts);
                }
            }
        }
    }

    /// Lets go of the suspects that were heard of since.
    pub(crate) fn review(&mut self, facts: Facts<'_>) {
        let suspects: Vec<_> = self.suspects.iter().map(|(_, slot)| *slot).collect();
        for slot in suspects {
            self.put(slot, facts);
        }
    }

    /// The clocks have parted: no moment stays as it was put down.
    fn put_all(&mut self, facts: Facts<'_>) {
        self.timers.clear();
        self.suspects.clear();
        let slots = std::mem::take(&mut self.places).len();
        for slot in (0..).map(NodeSlot).take(slots) {
            self.put(slot, facts);
        }
    }

    /// Something was observed of the node, or it is new, or gone.
    pub(crate) fn watch(&mut self, slot: NodeSlot, facts: Facts<'_>) {
        let due = facts.due(slot, self.apart).map(second);
        // A moment that moved further away is found when the old one comes.
        if let (Place::Timed(armed), Some((_, due))) = (self.place(slot), due)
            && armed <= due
        {
            return;
        }
        self.put(slot, facts);
    }

    fn put(&mut self, slot: NodeSlot, facts: Facts<'_>) {
        let place = match facts.due(slot, self.apart).map(second) {
            None => Place::Nowhere,
            Some((pool, due)) if due <= self.second => Place::Suspect(pool),
            Some((_, due)) => Place::Timed(due),
        };
        let before = self.place(slot);
        if before == place {
            return;
        }
        if let Place::Suspect(pool) = before {
            self.suspects.remove(&(pool, slot));
        }
        match place {
            Place::Nowhere => {}
            Place::Timed(due) => self.timers.entry(due).or_default().push(slot),
            Place::Suspect(pool) => {
                self.suspects.insert((pool, slot));
            }
        }
        let at = slot.0 as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, Place::Nowhere);
        }
        if let Some(kept) = self.places.get_mut(at) {
            *kept = place;
        }
    }

    fn place(&self, slot: NodeSlot) -> Place {
        self.places
            .get(slot.0 as usize)
            .copied()
            .unwrap_or_default()
    }
}

impl Facts<'_> {
    /// From when on the member may be silent or ill if nothing more is heard of it, whatever
    /// can be heard then; nothing if it is in no pool.
    fn due(&self, slot: NodeSlot, apart: i64) -> Option<(PoolSlot, Timestamp)> {
        let member = self.cluster.member(slot)?;
        let pool = member.pool?;
        let heard = self.windows.last_heard(slot).unwrap_or_default();
        let mut due = heard
            .max(member.born())
            .plus(suspect_after(self.windows, slot));
        if let Some(lease) = member.node.as_ref().and_then(|node| node.lease) {
            let overdue = lease.seen.plus(self.lease_grace);
            due = due.min(Timestamp(millis(overdue.0).saturating_add(apart)));
        }
        let unready = |node: &Node| node.ready != Ready::True;
        if member.server.as_ref().is_some_and(is_off) || member.node.as_ref().is_some_and(unready) {
            due = Timestamp::default();
        }
        Some((pool, due))
    }
}

fn second((pool, due): (PoolSlot, Timestamp)) -> (PoolSlot, Second) {
    (pool, second_of(due))
}

fn millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn second_of(time: Timestamp) -> Second {
    let second = time.millis().div_euclid(SLICE_MS).max(0);
    Second::try_from(second).unwrap_or(Second::MAX)
}

/// For how long a node must be silent to be suspected of it: by its own agent's rhythm.
fn suspect_after(windows: &Windows, slot: NodeSlot) -> Duration {
    let interval = windows.interval(slot).unwrap_or_default();
    SUSPECT.max(interval * SUSPECT_INTERVALS)
}

/// A zone or hypervisor of which too many are silent or ill.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct IllDomain {
    pub(super) domain: Domain,
    pub(super) down: usize,
    all: usize,
}

impl std::fmt::Display for IllDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { domain, down, all } = self;
        write!(f, "{down} of {all} in {domain} are silent or ill at once")
    }
}

impl From<(Kind, &Arc<str>)> for Domain {
    fn from((kind, name): (Kind, &Arc<str>)) -> Self {
        match kind {
            Kind::Zone => Self::Zone(name.as_ref().to_owned()),
            Kind::Hypervisor => Self::Hypervisor(name.as_ref().to_owned()),
        }
    }
}

/// What a VM stands on, to be kept.
pub(crate) fn domains_of(server: &Server) -> Vec<Domain> {
    server.domains().map(Domain::from).collect()
}

/// Whether Nova says that the VM does not run.
fn is_off(server: &Server) -> bool {
    matches!(server.status, ServerStatus::Error | ServerStatus::Shutoff)
}

impl Guard<'_> {
    /// I10: too many silent or ill at once is more likely our input, a network or a hypervisor.
    pub(super) fn storm(
        &self,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        healed: Option<NodeSlot>,
    ) -> Result<(), Refused> {
        if let Some((_, why)) = self.state.brakes.get(&Brake::Storm(name.clone())) {
            return refuse(Reason::Storm, why.clone());
        }
        let size = self.sight.cluster.in_pool(pool).len();
        let allowed = allowed_ill(size, self.limits().storm_share);
        if let Some(ill) = self.more_ill_than(allowed, pool, settings) {
            return refuse(
                Reason::Storm,
                format!("{ill} of {size} in {name} are silent or ill at once, {allowed} may be"),
            );
        }
        match healed {
            Some(slot) => self.domain_storm(slot),
            None => Ok(()),
        }
    }

    /// How many of the pool are silent or ill, if more than so many are. Whoever is ill is a
    /// suspect: where these are few, none of them is looked at.
    pub(super) fn more_ill_than(
        &self,
        allowed: usize,
        pool: PoolSlot,
        settings: &PoolSettings,
    ) -> Option<usize> {
        let ill = || self.ill(pool, settings).len();
        if self.sight.suspects.of(pool).nth(allowed).is_none() {
            debug_assert!(ill() <= allowed, "whoever is ill is among the suspects");
            return None;
        }
        Some(ill()).filter(|ill| *ill > allowed)
    }

    /// I10 for what the node stands on: two or more, and half, of its zone or hypervisor, in
    /// whichever pools they are. Then that is what is ill.
    fn domain_storm(&self, slot: NodeSlot) -> Result<(), Refused> {
        let member = self.sight.cluster.member(slot);
        let Some(own) = member.and_then(|member| member.server.as_ref()) else {
            return Ok(());
        };
        if !self.state.brakes.is_empty() {
            for domain in own.domains() {
                let brake = Brake::Domain(domain.into());
                if let Some((_, why)) = self.state.brakes.get(&brake) {
                    return refuse(Reason::Storm, why.clone());
                }
            }
        }
        match own.domains().find_map(|domain| self.ill_domain(domain)) {
            Some(ill) => refuse(Reason::Storm, ill.to_string()),
            None => Ok(()),
        }
    }

    /// The zone or hypervisor, if two or more and half of it are silent or ill.
    pub(super) fn ill_domain(&self, (kind, name): (Kind, &Arc<str>)) -> Option<IllDomain> {
        let all = self.sight.cluster.standing_on(kind, name);
        if !is_storm(self.sight.suspects.count(), all) {
            return None;
        }
        let here = |slot: &NodeSlot| {
            let server = self.server_at(*slot);
            server.is_some_and(|server| server.domains().any(|own| own == (kind, name)))
        };
        let down = |(pool, settings)| {
            let suspects = self.sight.suspects.of(pool).filter(here);
            self.ill_of(suspects, settings).len()
        };
        let down = self.pools_with_settings().map(down).sum();
        is_storm(down, all).then(|| IllDomain {
            domain: (kind, name).into(),
            down,
            all,
        })
    }

    fn pools_with_settings(&self) -> impl Iterator<Item = (PoolSlot, &PoolSettings)> {
        let pools = self.sight.cluster.pools().map(|(pool, _)| pool);
        pools.filter_map(|pool| Some((pool, self.sight.pool_settings(pool)?)))
    }

    fn server_at(&self, slot: NodeSlot) -> Option<&Server> {
        self.sight.cluster.member(slot)?.server.as_ref()
    }

    /// Zones and hypervisors of which two or more, and half, are silent or ill.
    pub(super) fn ill_domains(&self) -> Vec<IllDomain> {
        let mut down: BTreeMap<(Kind, &Arc<str>), usize> = BTreeMap::new();
        for (pool, settings) in self.pools_with_settings() {
            let ill = self.ill(pool, settings).into_iter();
            for server in ill.filter_map(|slot| self.server_at(slot)) {
                for domain in server.domains() {
                    *down.entry(domain).or_default() += 1;
                }
            }
        }
        let ill = down.into_iter().filter_map(|((kind, name), down)| {
            let all = self.sight.cluster.standing_on(kind, name);
            debug_assert_eq!(
                all,
                self.counted_on(kind, name),
                "counted as they come and go"
            );
            is_storm(down, all).then(|| IllDomain {
                domain: (kind, name).into(),
                down,
                all,
            })
        });
        ill.collect()
    }

    /// How many stand on it, counted anew.
    fn counted_on(&self, kind: Kind, name: &Arc<str>) -> usize {
        let cluster = self.sight.cluster;
        let pools = cluster.pools().map(|(pool, _)| pool);
        let all = pools.flat_map(|pool| cluster.in_pool(pool));
        let servers = all.filter_map(|slot| self.server_at(*slot));
        servers
            .filter(|server| server.domains().any(|own| own == (kind, name)))
            .count()
    }

    /// Members that are silent or ill, in slot order.
    pub(crate) fn ill(&self, pool: PoolSlot, settings: &PoolSettings) -> Vec<NodeSlot> {
        let suspects = self.sight.suspects.of(pool);
        let ill = self.ill_of(suspects, settings);
        debug_assert_eq!(
            ill,
            self.ill_of(self.sight.cluster.in_pool(pool).iter().copied(), settings),
            "whoever is ill is among the suspects"
        );
        ill
    }

    fn ill_of(
        &self,
        slots: impl Iterator<Item = NodeSlot>,
        settings: &PoolSettings,
    ) -> Vec<NodeSlot> {
        let ill = |slot: &NodeSlot| {
            let member = self.sight.cluster.member(*slot);
            member.is_some_and(|member| self.is_ill(*slot, member, settings))
        };
        slots.filter(ill).collect()
    }

    pub(crate) fn is_ill(&self, slot: NodeSlot, member: &Member, settings: &PoolSettings) -> bool {
        (self.is_silent(slot, member) || !self.seen_by_others(member, settings).is_empty())
            && !self.is_our_doing(member)
    }

    /// Whether an operation is why the member is not well: it is being made, taken away, or its
    /// replacement serves already. One under a heal that has not come to that is as ill as it
    /// was before, or a pool that fails one after another would never be a storm (I10, I15).
    fn is_our_doing(&self, member: &Member) -> bool {
        let Some(operation) = self.operation_on(&member.name) else {
            return false;
        };
        let is_old = operation
            .old
            .as_ref()
            .is_some_and(|old| old.node == member.name);
        let healed = matches!(operation.kind, OperationKind::Heal(_)) && is_old;
        let new = operation.new.as_ref().filter(|new| new.node != member.name);
        let new = new.and_then(|new| self.sight.cluster.find(new.node.as_str()));
        let pool = self.sight.settings.pools.get(&operation.pool);
        let kubernetes = pool.is_none_or(|pool| pool.kubernetes);
        !healed || new.is_some_and(|new| new.serves(kubernetes))
    }

    fn is_silent(&self, slot: NodeSlot, member: &Member) -> bool {
        let silence = self.sight.silence(slot, member);
        silence.is_some_and(|silence| silence >= suspect_after(self.sight.windows, slot))
    }

    /// Who besides the rule itself says now that the node is ill.
    pub(crate) fn witnesses(
        &self,
        slot: NodeSlot,
        member: &Member,
        settings: &PoolSettings,
    ) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        if self.is_silent(slot, member) {
            witnesses.push(Witness::Heartbeat);
        }
        witnesses.extend(self.seen_by_others(member, settings));
        if self.brakes.alerted(&member.name) {
            witnesses.push(Witness::Alert);
        }
        witnesses
    }

    fn seen_by_others(&self, member: &Member, settings: &PoolSettings) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        let grace = self.limits().lease_grace;
        // What cannot be heard says nothing: leases grow old while the API server is away.
        let heard = |source| {
            let Sight { now, settings, .. } = self.sight;
            self.brakes.hears(source, now, settings).is_ok()
        };
        if settings.kubernetes
            && member.not_ready_for(self.sight.now.mono, grace).is_some()
            && heard(SourceName::Kubernetes)
        {
            witnesses.push(Witness::Kubernetes);
        }
        if member.server.as_ref().is_some_and(is_off) && heard(SourceName::Openstack) {
            witnesses.push(Witness::Nova);
        }
        witnesses
    }
}

/// I10: two or more, and half, of all that stand on the same.
fn is_storm(down: usize, all: usize) -> bool {
    down >= 2 && down * 2 >= all
}

/// I10: how many of `size` may be silent or ill at once.
pub(crate) fn allowed_ill(size: usize, share: f64) -> usize {
    share_of(size, share)
}
