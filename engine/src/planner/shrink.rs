//! How a pool shrinks: whether it may, and which node goes.
//!
//! That it is to be smaller is said in `size.rs`. Here one node is chosen: the first of the
//! candidates that the guard lets go.

use std::collections::BTreeSet;

use super::fit;
use crate::cluster::PoolSlot;
use crate::decision::{Origin, Proposal, Reason};
use crate::engine::Engine;
use crate::guard::{Effort, Refused};
use crate::journal::STAYED_MEMORY;
use crate::names::{NodeName, PoolName};
use crate::settings::PoolSettings;
use crate::time::{Now, format_duration, show_duration};
use crate::window::NodeSlot;

impl Engine {
    /// An operator wants fewer: the size is set, and `reconcile` takes one node at a time as the
    /// guard lets it. What stops everything refuses the wish, so that nothing happens later
    /// that the operator was not told of.
    pub(super) fn plan_shrink(
        &mut self,
        now: Now,
        name: &PoolName,
        settings: &PoolSettings,
        proposal: &Proposal,
        to: u32,
    ) {
        self.rules.answered(proposal);
        if let Err(why) = self.guard(now).everywhere(name) {
            self.refuse(now, name, None, proposal, why);
            return;
        }
        let size = to.max(settings.min);
        self.set_desired(now, name, proposal, size);
        let mut text =
            format!("{name} is to have {size}: nodes go one at a time, as the brakes allow");
        let pool = self.world.cluster.pool_slot(name);
        let unclaimed = pool.map_or(0, |pool| self.unclaimed_in(now, pool));
        if unclaimed > 0 {
            text.push_str(&format!(
                "; {unclaimed} that nobody claims count, and no other goes in their place: they \
                 are swept, or wait for `rhizome adopt`"
            ));
        }
        self.answer_granted(proposal, &text);
    }

    pub(super) fn plan_down(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        proposal: &Proposal,
        to: u32,
    ) {
        if self.cools(now, name, proposal) || self.pauses(now, name, proposal) {
            return;
        }
        if let Err(why) = self.stabilized(now, pool, name, settings, to) {
            self.refuse(now, name, None, proposal, why);
            return;
        }
        let size = self.sight(now).size(pool);
        let staying = size.saturating_sub(self.removing(name));
        self.remove_one(now, pool, name, proposal, Some(staying.saturating_sub(1)));
    }

    /// Scale-down follows the highest need of the stabilization window. What was needed before
    /// the start is not known, so the window has to pass once.
    fn stabilized(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        to: u32,
    ) -> Result<(), Refused> {
        let window = settings.stabilization;
        let up = now.mono.since(self.state.started.mono);
        if up < window {
            return Err((
                Reason::Stabilizing,
                format!(
                    "started {} ago, what {name} needed in {} is not known yet",
                    show_duration(up),
                    format_duration(window)
                ),
            ));
        }
        let size = self.sight(now).size(pool);
        let Some(needs) = self.needs.get_mut(usize::from(pool.0)) else {
            return Ok(());
        };
        let highest = needs.highest(now.mono, window);
        if to.max(highest) < size {
            return Ok(());
        }
        Err((
            Reason::Stabilizing,
            format!(
                "{name} was to have {highest} within the last {}",
                format_duration(window)
            ),
        ))
    }

    /// Takes one node out of the pool: the first candidate that the guard lets go. The size that
    /// is desired then is journaled first, so that a crash in between makes no node anew.
    pub(super) fn remove_one(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        proposal: &Proposal,
        desired: Option<u32>,
    ) {
        let mut refused: Vec<Refused> = Vec::new();
        for slot in self.candidates(now, pool) {
            let Some(member) = self.world.cluster.member(slot).cloned() else {
                continue;
            };
            let effort = Effort::Remove {
                member: &member,
                evidence: &proposal.evidence,
            };
            let may = self.guard(now).check(pool, effort);
            match may.and_then(|()| self.may_be_tried(now, &member.name, proposal)) {
                Ok(()) => {
                    if let Some(desired) = desired {
                        self.set_desired(now, name, proposal, desired);
                    }
                    self.begin_remove(now, name, &member, proposal);
                    return;
                }
                Err(why) => refused.push(why),
            }
        }
        let why = why_none(refused)
            .unwrap_or_else(|| (Reason::AtMinimum, format!("{name} has no node to give")));
        self.refuse(now, name, None, proposal, why);
    }

    /// A node that could not be emptied is not tried again by a rule for a while: its pods that
    /// came back would be evicted again, for nothing. An operator's word tries it last.
    fn may_be_tried(&self, now: Now, node: &NodeName, proposal: &Proposal) -> Result<(), Refused> {
        let Some(stayed) = self.state.stayed_for(now, node) else {
            return Ok(());
        };
        if !matches!(proposal.origin, Origin::Rule(_)) {
            return Ok(());
        }
        Err((
            Reason::AfterFailure,
            format!(
                "the removal of {node} came to nothing {} ago: a rule takes it again after {}",
                show_duration(stayed),
                format_duration(STAYED_MEMORY)
            ),
        ))
    }

    /// Who would be missed least first: those whose pods fit elsewhere, and of them cordoned, then
    /// with the fewest pods, then the youngest; the name decides the rest. Who has pods that may not
    /// be moved comes after all of them, and who could not be removed lately last.
    fn candidates(&self, now: Now, pool: PoolSlot) -> Vec<NodeSlot> {
        let mut slots = self.world.cluster.in_pool(pool).to_vec();
        let key = |slot: &NodeSlot| {
            let member = self.world.cluster.member(*slot)?;
            let cordoned = member.node.as_ref().is_some_and(|node| node.cordoned);
            let cluster = &self.world.cluster;
            let requests = cluster.requests(&member.name).unwrap_or_default();
            let held = cluster.pods_on(&member.name).is_some_and(|on| on.held > 0);
            let created = member.server.as_ref().map(|server| server.created);
            Some((
                self.state.stayed_for(now, &member.name).is_some(),
                held,
                !cordoned,
                requests.pods,
                requests.cpu_millis,
                std::cmp::Reverse(created),
                member.name.clone(),
            ))
        };
        slots.sort_by_cached_key(key);
        let fitting = self.fitting(&slots);
        slots.sort_by_cached_key(|slot| {
            // What came first stays first among equals.
            key(slot).map(|(stayed, held, ..)| (stayed, held, !fitting.contains(slot)))
        });
        slots
    }

    /// Those whose pods would fit on the other nodes of the cluster; all, while the pods have not
    /// been seen. Only the first are looked at.
    fn fitting(&self, slots: &[NodeSlot]) -> BTreeSet<NodeSlot> {
        let cluster = &self.world.cluster;
        let operations = self.state.operations.values();
        let busy = operations.filter_map(crate::remediation::Operation::node);
        let Some(rooms) = fit::rooms(cluster, &busy.collect()) else {
            return slots.iter().copied().collect();
        };
        let first = slots.iter().take(fit::CANDIDATES_MAX);
        let fits = |slot: &&NodeSlot| {
            let member = cluster.member(**slot);
            member.is_some_and(|member| fit::fits_elsewhere(cluster, &member.name, &rooms))
        };
        first.filter(fits).copied().collect()
    }
}

/// Why none of the candidates may go, told of one: what holds back a node that nothing else
/// speaks against holds back the pool. Only where each has a reason of its own, the first tells it.
fn why_none(refused: Vec<Refused>) -> Option<Refused> {
    let of_the_pool = refused.iter().position(|(reason, _)| !is_its_own(*reason));
    refused.into_iter().nth(of_the_pool.unwrap_or_default())
}

/// Whether the reason lies in the node that was looked at, so that another may well go.
fn is_its_own(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NotOwned
            | Reason::ControlPlane
            | Reason::Protected
            | Reason::Maintenance
            | Reason::InFlight
            | Reason::AfterFailure
    )
}

#[cfg(test)]
mod tests;
