//! The last word: hard limits that no script can pass. Each refusal has a reason.
//!
//! The guard looks at one effort at a time, just before it would begin, and at the brakes,
//! which hold for a pool, a source or everything until what set them off has been gone for
//! long enough. It changes nothing; the gate looks again at the moment of each call.

use std::time::Duration;

use crate::cluster::{Member, PoolSlot};
use crate::decision::{Evidence, Reason, Rung, Witness};
use crate::event::{ServerStatus, SourceName, Target};
use crate::journal::{Brake, State};
use crate::names::{NodeName, PoolName};
use crate::remediation::{Blind, OperationKind};
use crate::settings::{Limits, PoolSettings};
use crate::signals::Sight;
use crate::time::{Now, format_duration};
use crate::window::NodeSlot;

mod brakes;

pub(crate) use brakes::{Brakes, Change};

/// Heartbeat intervals without a beat before a node counts as silent for storm and witness.
///
/// Three of ten seconds: one lost record is ordinary, and a broker failover can lose two. The
/// policy's own threshold comes on top.
const SUSPECT: Duration = Duration::from_secs(30);

/// Rungs begun on a node are counted over this long (I37).
const HEAL_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// What is about to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effort<'a> {
    /// One node more, for what was seen there.
    Add { evidence: &'a Evidence },
    /// One node less, by a rule or by an operator.
    Remove {
        slot: NodeSlot,
        member: &'a Member,
        evidence: &'a Evidence,
    },
    /// A rung of the ladder.
    Heal {
        slot: NodeSlot,
        member: &'a Member,
        rung: Rung,
        witnesses: &'a [Witness],
        evidence: &'a Evidence,
    },
}

/// Why not, with the values of this case.
pub(crate) type Refused = (Reason, String);

/// Everything the guard weighs an effort against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(crate) sight: Sight<'a>,
    pub(crate) state: &'a State,
    pub(crate) brakes: &'a Brakes,
}

impl<'a> Guard<'a> {
    /// Lets the effort begin, or says why not.
    pub(crate) fn check(&self, pool: PoolSlot, effort: Effort<'_>) -> Result<(), Refused> {
        let (name, settings) = self.pool(pool)?;
        self.everywhere(name)?;
        match effort {
            Effort::Add { evidence } => {
                self.inventory_read(settings)?;
                self.inventories_whole(&[SourceName::Openstack])?;
                self.hears_what_it_needs(settings, evidence)?;
                self.circuit(name)?;
                self.room(pool, name, settings, 0)
            }
            Effort::Remove {
                slot,
                member,
                evidence,
            } => {
                self.untouchable(name, member)?;
                self.sight_of(settings)?;
                self.covered(evidence)?;
                self.storm(pool, name, settings, None)?;
                self.minimum(pool, settings, member)?;
                self.last_of_zone(pool, member)?;
                self.budget(pool, name, slot)?;
                self.velocity(name)
            }
            Effort::Heal {
                slot,
                member,
                rung,
                witnesses,
                evidence,
            } => {
                self.untouchable(name, member)?;
                let word = witnesses.contains(&Witness::Operator);
                self.sight_of(settings)?;
                if !word {
                    self.covered(evidence)?;
                    two_witnesses(witnesses)?;
                    self.heals(member)?;
                }
                self.storm(pool, name, settings, Some(slot))?;
                self.budget(pool, name, slot)?;
                if rung == Rung::Replace {
                    self.circuit(name)?;
                    self.room(pool, name, settings, settings.surge)?;
                    self.velocity(name)?;
                }
                Ok(())
            }
        }
    }

    fn pool(&self, pool: PoolSlot) -> Result<(&'a PoolName, &'a PoolSettings), Refused> {
        let name = self.sight.cluster.pool_name(pool);
        name.and_then(|name| Some((name, self.sight.settings.pools.get(name)?)))
            .ok_or_else(|| (Reason::Unknown, "no such pool".to_owned()))
    }

    fn limits(&self) -> &'a Limits {
        &self.sight.settings.limits
    }

    /// What stops everything, adding too.
    pub(crate) fn everywhere(&self, pool: &PoolName) -> Result<(), Refused> {
        let paused = &self.state.paused;
        if paused.contains(&None) || paused.contains(&Some(pool.clone())) {
            let scope = if paused.contains(&None) {
                "everything"
            } else {
                pool.as_str()
            };
            return refuse(Reason::Paused, format!("{scope} is paused by an operator"));
        }
        if !self.brakes.journal_well {
            return refuse(
                Reason::JournalFailed,
                "the journal cannot be written, so nothing is acted on",
            );
        }
        self.out_of_maintenance(Target::Pool(pool.clone()), pool.as_str())?;
        let running = self.state.operations.len();
        let most = self.limits().operations as usize;
        if running >= most {
            return refuse(
                Reason::InFlight,
                format!("{running} of at most {most} operations are under way"),
            );
        }
        Ok(())
    }

    /// An operator has not asked for the node or pool to be left alone.
    fn out_of_maintenance(&self, target: Target, name: &str) -> Result<(), Refused> {
        match self.state.maintenance.get(&target) {
            Some(end) if *end > self.sight.now.wall => refuse(
                Reason::Maintenance,
                format!("{name} is in maintenance until {end}"),
            ),
            _ => Ok(()),
        }
    }

    /// Both inventories have been read in this run (I14), so that what is there can be counted.
    fn inventory_read(&self, settings: &PoolSettings) -> Result<(), Refused> {
        let servers = self.sight.cluster.servers().read().is_some();
        let nodes = self.sight.cluster.nodes().read().is_some() || !settings.kubernetes;
        if servers && nodes {
            return Ok(());
        }
        let missing = if servers { "nodes" } else { "VMs" };
        refuse(
            Reason::StartUp,
            format!("the {missing} have not been listed since the start"),
        )
    }

    fn inventories_whole(&self, sources: &[SourceName]) -> Result<(), Refused> {
        for source in sources {
            if let Some((_, why)) = self.state.brakes.get(&Brake::Inventory(*source)) {
                return refuse(Reason::PartialInventory, why.clone());
            }
        }
        Ok(())
    }

    /// Nothing is taken away unless everything that would tell us otherwise can be heard.
    pub(crate) fn sight_of(&self, settings: &PoolSettings) -> Result<(), Refused> {
        self.inventory_read(settings)?;
        self.inventories_whole(&[SourceName::Openstack, SourceName::Kubernetes])?;
        if let Some((_, why)) = self.state.brakes.get(&Brake::Clock) {
            return refuse(Reason::ClockStep, why.clone());
        }
        for source in self.depends_on(settings) {
            self.brakes
                .sees(source, self.sight.now, self.sight.settings, self.state)?;
        }
        self.brakes.windows_full(self.sight.now)
    }

    /// What cannot be seen of a pool's machines just now.
    pub(crate) fn blind(&self, settings: &PoolSettings) -> Blind {
        let unseen = |source| {
            let Sight { now, settings, .. } = self.sight;
            self.brakes.sees(source, now, settings, self.state).is_err()
        };
        let sources = &self.sight.settings.heartbeat_sources;
        Blind {
            cluster: unseen(SourceName::Openstack)
                || (settings.kubernetes && unseen(SourceName::Kubernetes)),
            agents: sources.iter().any(|source| unseen(*source)),
        }
    }

    /// I12: adding may come before everything has been seen for long enough, but not on a source
    /// that is silent now: VMs that cannot be counted, a cluster that nothing can join, pods and
    /// windows that may have changed since.
    fn hears_what_it_needs(
        &self,
        settings: &PoolSettings,
        evidence: &Evidence,
    ) -> Result<(), Refused> {
        let windows = evidence.values.iter().any(|value| value.coverage.is_some());
        for source in self.depends_on(settings) {
            if windows || !self.sight.settings.heartbeat_sources.contains(&source) {
                self.brakes
                    .hears(source, self.sight.now, self.sight.settings)?;
            }
        }
        Ok(())
    }

    fn depends_on(&self, settings: &PoolSettings) -> Vec<SourceName> {
        let mut sources = self.sight.settings.heartbeat_sources.clone();
        sources.push(SourceName::Openstack);
        if settings.kubernetes {
            sources.push(SourceName::Kubernetes);
        }
        sources
    }

    fn circuit(&self, pool: &PoolName) -> Result<(), Refused> {
        let Some((failures, last)) = self.state.circuits.get(pool) else {
            return Ok(());
        };
        let limits = self.limits();
        if *failures < limits.circuit_failures {
            return Ok(());
        }
        let doublings = (failures - limits.circuit_failures).min(16);
        let open = (limits.circuit_min * 2u32.pow(doublings)).min(limits.circuit_max);
        let waited = self.sight.now.mono.since(last.mono);
        if waited >= open {
            // Half-open: one try, and only one at a time.
            let trying = self
                .operations(pool)
                .any(|kind| kind != OperationKind::Remove);
            return if trying {
                refuse(Reason::CircuitOpen, "one try is under way")
            } else {
                Ok(())
            };
        }
        refuse(
            Reason::CircuitOpen,
            format!(
                "{failures} failures in a row: next try in {}",
                format_duration(open.saturating_sub(waited))
            ),
        )
    }

    /// I1: VMs in any status and creates of unknown outcome stay within the maximum and surge.
    fn room(
        &self,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        surge: u32,
    ) -> Result<(), Refused> {
        let twins = u32::try_from(self.sight.cluster.twins(pool)).unwrap_or(u32::MAX);
        let size = self.sight.size(pool).saturating_add(twins);
        let most = settings.max.saturating_add(surge);
        if size < most {
            return Ok(());
        }
        let reason = Reason::AtMaximum;
        refuse(
            reason,
            format!("{name} has {size} of at most {most}, VMs in flight and silent ones counted"),
        )
    }

    fn untouchable(&self, pool: &PoolName, member: &Member) -> Result<(), Refused> {
        let name = &member.name;
        if member.node.as_ref().is_some_and(|node| node.control_plane) {
            return refuse(
                Reason::ControlPlane,
                format!("{name} is of the control plane"),
            );
        }
        if self.is_protected(name) {
            return refuse(Reason::Protected, format!("{name} is protected"));
        }
        self.out_of_maintenance(Target::Node(name.clone()), name.as_str())?;
        if let Some(operation) = self.operation_of(name) {
            return refuse(
                Reason::InFlight,
                format!("{operation} is under way for {name}"),
            );
        }
        let Some(server) = &member.server else {
            return refuse(
                Reason::NotOwned,
                format!("{name} has no VM that the cloud shows as ours"),
            );
        };
        if !server.marked || !self.state.owned.contains_key(&server.id) {
            return refuse(
                Reason::NotOwned,
                format!(
                    "the VM {} of {name} in {pool} was not made by us",
                    server.id
                ),
            );
        }
        Ok(())
    }

    /// Whether an operator, a mark on the VM or one on the node forbids touching it.
    pub(crate) fn is_protected(&self, name: &NodeName) -> bool {
        let marked = self
            .sight
            .cluster
            .find(name.as_str())
            .is_some_and(|member| {
                member
                    .server
                    .as_ref()
                    .is_some_and(|server| server.protected)
                    || member.node.as_ref().is_some_and(|node| node.protected)
            });
        marked || self.state.protected.contains(name)
    }

    /// Thin data never takes a machine away.
    fn covered(&self, evidence: &Evidence) -> Result<(), Refused> {
        let least = self.limits().min_coverage;
        for value in &evidence.values {
            // A window without a value never made a condition hold; what it covers says nothing.
            let thin = value.coverage.filter(|coverage| *coverage < least);
            if let (Some(coverage), Some(_)) = (thin, value.value) {
                return refuse(
                    Reason::ThinData,
                    format!(
                        "{} is covered to {:.0} %, {:.0} % are needed",
                        value.signal,
                        coverage * 100.0,
                        least * 100.0
                    ),
                );
            }
        }
        Ok(())
    }

    /// I37: three begun rungs on one node within a day, then a human.
    fn heals(&self, member: &Member) -> Result<(), Refused> {
        let begun = self
            .state
            .rungs
            .get(&member.name)
            .into_iter()
            .flatten()
            .filter(|(_, at)| self.sight.now.mono.since(at.mono) < HEAL_MEMORY)
            .count();
        if begun < self.limits().heals_per_node as usize {
            return Ok(());
        }
        refuse(
            Reason::LadderExhausted,
            format!("{begun} rungs were tried on {} within 24h", member.name),
        )
    }

    /// I10: too many silent or ill at once is more likely our input, a network or a hypervisor.
    fn storm(
        &self,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        healed: Option<NodeSlot>,
    ) -> Result<(), Refused> {
        if let Some((_, why)) = self.state.brakes.get(&Brake::Storm(name.clone())) {
            return refuse(Reason::Storm, why.clone());
        }
        let ill = self.ill(pool, settings);
        let size = self.sight.cluster.in_pool(pool).len();
        let allowed = allowed_ill(size, self.limits().storm_share);
        if ill.len() > allowed {
            return refuse(
                Reason::Storm,
                format!(
                    "{} of {size} in {name} are silent or ill at once, {allowed} may be",
                    ill.len()
                ),
            );
        }
        match healed {
            Some(slot) => self.domain_storm(pool, slot, &ill),
            None => Ok(()),
        }
    }

    /// Two or more, and half, of a zone or hypervisor: then that is what is ill.
    fn domain_storm(
        &self,
        pool: PoolSlot,
        slot: NodeSlot,
        ill: &[NodeSlot],
    ) -> Result<(), Refused> {
        let cluster = self.sight.cluster;
        let server = |slot: NodeSlot| cluster.member(slot)?.server.as_ref();
        let Some(own) = server(slot) else {
            return Ok(());
        };
        for (kind, domain) in [("zone", &own.zone), ("hypervisor", &own.host)] {
            let Some(domain) = domain else { continue };
            let here = |slot: &&NodeSlot| {
                server(**slot).is_some_and(|server| {
                    let other = if kind == "zone" {
                        &server.zone
                    } else {
                        &server.host
                    };
                    other.as_ref() == Some(domain)
                })
            };
            let all = cluster.in_pool(pool).iter().filter(here).count();
            let down = ill.iter().filter(here).count();
            if down >= 2 && down * 2 >= all {
                return refuse(
                    Reason::Storm,
                    format!("{down} of {all} in {kind} {domain} are silent or ill at once"),
                );
            }
        }
        Ok(())
    }

    /// Members that are silent or ill and not under remediation already.
    pub(crate) fn ill(&self, pool: PoolSlot, settings: &PoolSettings) -> Vec<NodeSlot> {
        let ill = |slot: &NodeSlot| {
            self.sight
                .cluster
                .member(*slot)
                .is_some_and(|member| self.is_ill(*slot, member, settings))
        };
        self.sight
            .cluster
            .in_pool(pool)
            .iter()
            .copied()
            .filter(|slot| ill(slot))
            .collect()
    }

    fn is_ill(&self, slot: NodeSlot, member: &Member, settings: &PoolSettings) -> bool {
        if self.operation_of(&member.name).is_some() {
            return false;
        }
        let silent = self
            .sight
            .silence(slot, member)
            .is_some_and(|silence| silence >= SUSPECT);
        silent || !self.seen_by_others(member, settings).is_empty()
    }

    /// Who besides the rule itself says now that the node is ill.
    pub(crate) fn witnesses(
        &self,
        slot: NodeSlot,
        member: &Member,
        settings: &PoolSettings,
    ) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        if self
            .sight
            .silence(slot, member)
            .is_some_and(|silence| silence >= SUSPECT)
        {
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
        // Asked last, because every node is looked at each second and most are well.
        if settings.kubernetes
            && member.not_ready_for(self.sight.now.wall, grace).is_some()
            && heard(SourceName::Kubernetes)
        {
            witnesses.push(Witness::Kubernetes);
        }
        let off = |server: &crate::cluster::Server| {
            matches!(server.status, ServerStatus::Error | ServerStatus::Shutoff)
        };
        if member.server.as_ref().is_some_and(off) && heard(SourceName::Openstack) {
            witnesses.push(Witness::Nova);
        }
        witnesses
    }

    /// I2: by our own scale-down the Ready nodes never fall below the minimum.
    fn minimum(
        &self,
        pool: PoolSlot,
        settings: &PoolSettings,
        member: &Member,
    ) -> Result<(), Refused> {
        let leaving = self
            .state
            .operations
            .values()
            .filter(|operation| operation.kind == OperationKind::Remove)
            .filter(|operation| self.sight.cluster.pool_slot(&operation.pool) == Some(pool))
            .count();
        let leaving = u32::try_from(leaving).unwrap_or(u32::MAX);
        let size = self.sight.size(pool).saturating_sub(leaving);
        let ready = self.sight.ready(pool).saturating_sub(leaving);
        let own = u32::from(member.serves(settings.kubernetes));
        if size <= settings.min || ready.saturating_sub(own) < settings.min {
            return refuse(
                Reason::AtMinimum,
                format!(
                    "{ready} of {size} serve, at least {} must remain",
                    settings.min
                ),
            );
        }
        Ok(())
    }

    /// I2: never the last node of a zone, where the pool has several zones.
    fn last_of_zone(&self, pool: PoolSlot, member: &Member) -> Result<(), Refused> {
        let zone = |member: &Member| member.server.as_ref()?.zone.clone();
        let Some(own) = zone(member) else {
            return Ok(());
        };
        let zones: Vec<_> = self.sight.cluster.pool(pool).filter_map(zone).collect();
        let here = zones.iter().filter(|zone| **zone == own).count();
        if here == 1 && zones.len() > 1 {
            return refuse(
                Reason::AtMinimum,
                format!("{} is the last node in zone {own}", member.name),
            );
        }
        Ok(())
    }

    /// The share of the pool that may be under removal or healing at once.
    fn budget(&self, pool: PoolSlot, name: &PoolName, _slot: NodeSlot) -> Result<(), Refused> {
        let busy = self
            .operations(name)
            .filter(|kind| *kind != OperationKind::Add)
            .count();
        let size = self.sight.cluster.in_pool(pool).len();
        let most = share_of(size, self.limits().budget_share);
        if busy < most {
            return Ok(());
        }
        refuse(
            Reason::Share,
            format!("{busy} of {size} in {name} are being removed or healed, {most} may be"),
        )
    }

    /// I4: removals in any sliding minute and ten minutes, over restarts.
    fn velocity(&self, pool: &PoolName) -> Result<(), Refused> {
        let limits = self.limits();
        let recent = |within: Duration, only: Option<&PoolName>| {
            let made = self
                .state
                .removals
                .iter()
                .filter(|(pool, at)| {
                    self.sight.now.mono.since(at.mono) < within
                        && only.is_none_or(|only| only == pool)
                })
                .count();
            // Removals that are decided and not yet made will be: they count too.
            let coming = self
                .state
                .operations
                .values()
                .filter(|operation| only.is_none_or(|only| *only == operation.pool))
                .filter(|operation| {
                    matches!(
                        operation.kind,
                        OperationKind::Remove | OperationKind::Heal(Rung::Replace)
                    )
                })
                .count();
            u32::try_from(made + coming).unwrap_or(u32::MAX)
        };
        let minute = recent(Duration::from_secs(60), Some(pool));
        if minute >= limits.removals_per_minute_pool {
            return refuse(
                Reason::Velocity,
                format!(
                    "{minute} removals in {pool} under way or within a minute, {} may be",
                    limits.removals_per_minute_pool
                ),
            );
        }
        let ten = recent(Duration::from_secs(600), None);
        if ten >= limits.removals_per_ten_minutes {
            return refuse(
                Reason::Velocity,
                format!(
                    "{ten} removals in all pools under way or within 10m, {} may be",
                    limits.removals_per_ten_minutes
                ),
            );
        }
        Ok(())
    }

    fn operations(&self, pool: &'a PoolName) -> impl Iterator<Item = OperationKind> + use<'a> {
        self.state
            .operations
            .values()
            .filter(move |operation| operation.pool == *pool)
            .map(|operation| operation.kind)
    }

    pub(crate) fn operation_of(&self, name: &NodeName) -> Option<crate::names::OperationId> {
        self.state
            .operations
            .values()
            .find(|operation| operation.machines().any(|machine| machine.node == *name))
            .map(|operation| operation.id)
    }
}

/// I10: how many of `size` may be silent or ill at once.
pub(crate) fn allowed_ill(size: usize, share: f64) -> usize {
    share_of(size, share)
}

/// A share of a pool, rounded down, and at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of machines are far below 2^52, and the share is between 0 and 1"
)]
fn share_of(size: usize, share: f64) -> usize {
    ((size as f64 * share).floor() as usize).max(1)
}

fn two_witnesses(witnesses: &[Witness]) -> Result<(), Refused> {
    // Metrics and heartbeats come of one agent: what its last values say and that it says no
    // more is one witness.
    let one = |witness: &Witness| match witness {
        Witness::Metrics => Witness::Heartbeat,
        other => *other,
    };
    let distinct: std::collections::BTreeSet<_> = witnesses.iter().map(one).collect();
    if distinct.len() >= 2 {
        return Ok(());
    }
    let only = witnesses.first().map_or("none", |one| one.as_str());
    refuse(
        Reason::OneWitness,
        format!("{only} alone says so; two independent witnesses must agree"),
    )
}

fn refuse(reason: Reason, detail: impl Into<String>) -> Result<(), Refused> {
    Err((reason, detail.into()))
}

/// How far apart the wall clock and the monotonic clock have moved between two readings.
pub(crate) fn clock_drift(before: Now, now: Now) -> Duration {
    let wall = now.wall.0.saturating_sub(before.wall.0);
    let mono = i64::try_from(now.mono.0.saturating_sub(before.mono.0)).unwrap_or(i64::MAX);
    Duration::from_millis(wall.abs_diff(mono))
}

#[cfg(test)]
pub(crate) mod tests;
