//! Limits that are numbers: how many VMs, how many removals, how many at once, how often.

use std::time::Duration;

use super::{Guard, Refused, refuse};
use crate::cluster::{Member, PoolSlot};
use crate::decision::{Reason, Rung};
use crate::journal::HEAL_MEMORY;
use crate::names::{NodeName, PoolName, VmId};
use crate::remediation::{Operation, OperationKind, Swept};
use crate::settings::PoolSettings;
use crate::time::show_duration;

impl Guard<'_> {
    pub(super) fn circuit(&self, pool: &PoolName) -> Result<(), Refused> {
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
                .any(|kind| matches!(kind, OperationKind::Add | OperationKind::Heal(_)));
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
                show_duration(open.saturating_sub(waited))
            ),
        )
    }

    /// I1: VMs in any status and creates of unknown outcome stay within the maximum and surge.
    pub(super) fn room(
        &self,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        surge: u32,
    ) -> Result<(), Refused> {
        let twins = u32::try_from(self.sight.cluster.twins(pool)).unwrap_or(u32::MAX);
        let size = self.sight.vms(pool).saturating_add(twins);
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

    /// I37: three begun rungs on one node within a day, then a human.
    pub(super) fn heals(&self, member: &Member) -> Result<(), Refused> {
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

    /// Whether the pool can spare the node just now, whatever else is taken from it.
    pub(crate) fn spares(
        &self,
        pool: &PoolName,
        settings: &PoolSettings,
        node: &NodeName,
    ) -> Result<(), Refused> {
        let cluster = self.sight.cluster;
        let (Some(slot), Some(member)) = (cluster.pool_slot(pool), cluster.find(node.as_str()))
        else {
            return Ok(());
        };
        self.minimum(slot, settings, member)?;
        self.last_of_zone(slot, settings, member)
    }

    /// I2: by our own scale-down the Ready nodes never fall below the minimum.
    pub(super) fn minimum(
        &self,
        pool: PoolSlot,
        settings: &PoolSettings,
        member: &Member,
    ) -> Result<(), Refused> {
        let serves = |member: &&Member| member.serves(settings.kubernetes);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let going = self.others_going(pool, member);
        let served = count(going.iter().filter(|other| serves(other)).count());
        let size = self.sight.size(pool).saturating_sub(count(going.len()));
        let ready = self.sight.ready(pool).saturating_sub(served);
        let own = u32::from(serves(&member));
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

    /// I2: never the last node that serves in a zone, where the pool has several zones.
    pub(super) fn last_of_zone(
        &self,
        pool: PoolSlot,
        settings: &PoolSettings,
        member: &Member,
    ) -> Result<(), Refused> {
        let zone = |member: &Member| {
            member
                .server
                .as_ref()
                .and_then(|server| server.zone.clone())
        };
        let Some(own) = zone(member) else {
            return Ok(());
        };
        let going = self.others_going(pool, member);
        let stays = |other: &Member| {
            other.name != member.name
                && other.serves(settings.kubernetes)
                && going.iter().all(|gone| gone.name != other.name)
        };
        let zones = || {
            let members = self.sight.cluster.pool(pool);
            members.filter_map(|other| Some((other, other.server.as_ref()?.zone.as_ref()?)))
        };
        let here = zones().any(|(other, zone)| *zone == own && stays(other));
        let elsewhere = zones().any(|(_, zone)| *zone != own);
        if elsewhere && !here {
            return refuse(
                Reason::AtMinimum,
                format!("{} is the last node that serves in zone {own}", member.name),
            );
        }
        Ok(())
    }

    /// The other members of the pool that removals under way take out of it.
    fn others_going(&self, pool: PoolSlot, member: &Member) -> Vec<&Member> {
        let removals = self
            .state
            .operations
            .values()
            .filter(|operation| operation.kind == OperationKind::Remove);
        removals
            .filter_map(|operation| operation.old.as_ref())
            .filter(|old| old.node != member.name)
            .filter_map(|old| self.sight.cluster.find(old.node.as_str()))
            .filter(|other| other.pool == Some(pool))
            .collect()
    }

    /// The share of the pool that may be under removal or healing at once.
    pub(super) fn budget(&self, pool: PoolSlot, name: &PoolName) -> Result<(), Refused> {
        let busy = self
            .operations(name)
            .filter(|kind| matches!(kind, OperationKind::Remove | OperationKind::Heal(_)))
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

    /// VMs that the operation has yet to delete: the old one, and twins of a creation.
    fn still_to_remove(&self, operation: &Operation) -> usize {
        let removes = matches!(
            operation.kind,
            OperationKind::Remove
                | OperationKind::Heal(Rung::Replace)
                | OperationKind::Sweep(Swept::Vm)
        );
        let old = operation.old.as_ref().filter(|_| removes);
        let made = |vm: &VmId| self.state.is_removed(vm);
        let old = old
            .filter(|old| !old.vm.as_ref().is_some_and(made))
            .iter()
            .count();
        let twins = operation.twins.iter().filter(|twin| !made(&twin.id));
        old + twins.count()
    }

    /// What nobody claims waits for nobody: one at a time in a pool is enough.
    pub(super) fn one_sweep(&self, pool: &PoolName) -> Result<(), Refused> {
        let under_way = self.operations(pool);
        let sweeps = under_way.filter(|kind| matches!(kind, OperationKind::Sweep(_)));
        if sweeps.count() == 0 {
            return Ok(());
        }
        refuse(
            Reason::InFlight,
            format!("a sweep is under way in {pool}, one at a time is enough"),
        )
    }

    /// I4: removals in any sliding minute and ten minutes, over restarts: each VM counts.
    pub(super) fn velocity(&self, pool: &PoolName) -> Result<(), Refused> {
        let limits = self.limits();
        let recent = |within: Duration, only: Option<&PoolName>| {
            let made = self
                .state
                .removals
                .iter()
                .filter(|removal| {
                    self.sight.now.mono.since(removal.at.mono) < within
                        && only.is_none_or(|only| *only == removal.pool)
                })
                .count();
            // VMs whose removal is decided and not yet made will be removed: they count too.
            let coming: usize = self
                .state
                .operations
                .values()
                .filter(|operation| only.is_none_or(|only| *only == operation.pool))
                .map(|operation| self.still_to_remove(operation))
                .sum();
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
}

/// A share of a pool, rounded down, and at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of machines are far below 2^52, and the share is between 0 and 1"
)]
pub(super) fn share_of(size: usize, share: f64) -> usize {
    ((size as f64 * share).floor() as usize).max(1)
}
