//! The last word: hard limits that no script can pass. Each refusal has a reason.
//!
//! The guard looks at one effort at a time, just before it would begin, and at the brakes,
//! which hold for a pool, a source or everything until what set them off has been gone for
//! long enough. It changes nothing; the gate looks again at the moment of each call.

use std::time::Duration;

use crate::cluster::{Member, PoolSlot, Server};
use crate::decision::{Evidence, Reason, Rung, Witness};
use crate::event::{SourceName, Target};
use crate::journal::State;
use crate::names::{NodeName, PoolName};
use crate::remediation::{Operation, OperationKind};
use crate::settings::{Limits, PoolSettings};
use crate::signals::Sight;
use crate::time::Now;
use crate::window::NodeSlot;

mod brakes;
mod ill;
mod limits;
mod sight;

pub(crate) use brakes::{Brakes, Change};
pub(crate) use ill::{Facts, Suspects, allowed_ill, domains_of};

/// Pools of up to so many nodes are healed behind a fence only (I10).
const FENCED_POOL: usize = 2;

/// What is about to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effort<'a> {
    /// One node more, for what was seen there.
    Add { evidence: &'a Evidence },
    /// One node less, by a rule or by an operator.
    Remove {
        member: &'a Member,
        evidence: &'a Evidence,
    },
    /// What nobody claims is taken away.
    Sweep {
        node: &'a NodeName,
        /// The VM; without one, the Node whose VM is gone.
        vm: Option<&'a Server>,
        control_plane: bool,
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
            Effort::Remove { member, evidence } => {
                self.untouchable(name, member)?;
                self.sight_of(settings)?;
                self.covered(evidence)?;
                self.storm(pool, name, settings, None)?;
                self.minimum(pool, settings, member)?;
                self.last_of_zone(pool, settings, member)?;
                self.budget(pool, name)?;
                self.velocity(name)
            }
            Effort::Sweep {
                node,
                vm,
                control_plane,
            } => {
                self.no_word_against(node, control_plane)?;
                if vm.is_some_and(|server| server.protected) {
                    return refuse(Reason::Protected, format!("the VM of {node} is protected"));
                }
                self.sight_of(settings)?;
                self.one_sweep(name)?;
                if vm.is_some() {
                    self.storm(pool, name, settings, None)?;
                    self.velocity(name)?;
                }
                Ok(())
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
                self.budget(pool, name)?;
                if rung == Rung::Replace {
                    self.circuit(name)?;
                    self.room(pool, name, settings, settings.surge)?;
                    self.velocity(name)?;
                }
                Ok(())
            }
        }
    }

    /// Whether the VM is stopped, and confirmed off, before a rung does anything else. A node
    /// that still serves stays until its replacement is Ready (I5). In a pool of one or two
    /// there are not enough to tell a node's failure from our own blindness, so even a reboot
    /// waits for the fence (I10); a rebuild always does.
    pub(crate) fn fences_first(&self, member: &Member, rung: Rung) -> bool {
        let cluster = self.sight.cluster;
        let settings = member.pool.and_then(|pool| self.sight.pool_settings(pool));
        match (rung, member.pool, settings) {
            (Rung::Reboot, Some(pool), _) => cluster.in_pool(pool).len() <= FENCED_POOL,
            (Rung::Replace, _, Some(settings)) => {
                let slot = cluster.slot(member.name.as_str());
                let ill = slot.is_some_and(|slot| self.is_ill(slot, member, settings));
                ill || !member.serves(settings.kubernetes)
            }
            _ => true,
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
        self.running(pool)?;
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

    /// What stops operations that are under way too: a pause, and a journal that fails.
    pub(crate) fn running(&self, pool: &PoolName) -> Result<(), Refused> {
        if let Some(why) = self.state.pause_of(pool) {
            return refuse(Reason::Paused, why);
        }
        if self.brakes.journal_well {
            return Ok(());
        }
        refuse(
            Reason::JournalFailed,
            "the journal cannot be written, so nothing is acted on",
        )
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

    fn untouchable(&self, pool: &PoolName, member: &Member) -> Result<(), Refused> {
        let name = &member.name;
        let control_plane = member.node.as_ref().is_some_and(|node| node.control_plane);
        self.no_word_against(name, control_plane)?;
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
                    "the journal does not know the VM {} of {name} in {pool} as ours: \
                     `rhizome adopt` takes one with our marks under management",
                    server.id
                ),
            );
        }
        Ok(())
    }

    /// Nothing forbids touching the node of this name, and nothing is done to it already.
    fn no_word_against(&self, name: &NodeName, control_plane: bool) -> Result<(), Refused> {
        if control_plane {
            return refuse(
                Reason::ControlPlane,
                format!("{name} is of the control plane"),
            );
        }
        if self.is_protected(name) {
            return refuse(Reason::Protected, format!("{name} is protected"));
        }
        self.out_of_maintenance(Target::Node(name.clone()), name.as_str())?;
        match self.operation_of(name) {
            None => Ok(()),
            Some(operation) => refuse(
                Reason::InFlight,
                format!("{operation} is under way for {name}"),
            ),
        }
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

    /// Whether no storm has begun in the pool, or around the node, since it was decided on.
    pub(crate) fn calm(&self, pool: &PoolName, node: Option<&NodeName>) -> Result<(), Refused> {
        let cluster = self.sight.cluster;
        let Some(slot) = cluster.pool_slot(pool) else {
            return Ok(());
        };
        let (name, settings) = self.pool(slot)?;
        let healed = node.and_then(|node| cluster.slot(node.as_str()));
        self.storm(slot, name, settings, healed)
    }

    fn operations(&self, pool: &'a PoolName) -> impl Iterator<Item = OperationKind> + use<'a> {
        self.state
            .operations
            .values()
            .filter(move |operation| operation.pool == *pool)
            .map(|operation| operation.kind)
    }

    pub(crate) fn operation_of(&self, name: &NodeName) -> Option<crate::names::OperationId> {
        self.operation_on(name).map(|operation| operation.id)
    }

    fn operation_on(&self, name: &NodeName) -> Option<&'a Operation> {
        self.state.operations.on(name)
    }
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
