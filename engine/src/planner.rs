//! Proposals to decisions: one arbiter for healing, scaling and operators' wishes.
//!
//! Healing comes before scaling and up before down. What is granted begins as an operation in
//! the same step; what is not has its reason. Sizes are planned against what is counted: VMs in
//! flight and silent ones included.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::PoolSlot;
use crate::decision::{Ask, Direction, Origin, Proposal, Reason, Rung};
use crate::engine::Engine;
use crate::guard::{Guard, Refused};
use crate::names::{PoolName, RuleId};
use crate::remediation::OperationKind;
use crate::rules::{Fresh, NodeKey};
use crate::time::{Now, format_duration, show_duration};

/// A rule that goes on to ask this long after its act wants more than it was granted. Sooner it
/// is the same wish, whose effect nothing can have shown yet.
const ASKS_ON: Duration = Duration::from_secs(60);

mod fit;
mod heal;
mod settled;
mod shrink;
mod size;

pub(crate) use settled::{Outlooks, Settled};
pub(crate) use size::Needs;

/// A rung counts as tried for this long; after that the ladder begins at its foot again.
const LADDER_MEMORY: Duration = Duration::from_secs(2 * 3600);

/// A rung that came to nothing by the cloud's doing may be tried again after this long, and after
/// twice as long each further time, up to [`LADDER_MEMORY`].
///
/// A quarter of an hour: a quota is raised by then, or a hypervisor is back, and `heals_per_node`
/// leaves but one or two tries a day, which are worth to be put off a little.
const CLOUD_BACKOFF: Duration = Duration::from_secs(900);

/// Whether the cooldown of a rule keeps what it proposes from being granted.
enum Cooling {
    No,
    /// It acted so short a while ago that it is the same wish.
    JustActed,
    Refused(Refused),
}

/// A proposal to change a pool's size, with the size it comes to within the pool's bounds.
struct Resize {
    proposal: Proposal,
    to: u32,
    direction: Direction,
}

impl Engine {
    /// Decides on everything that stands, and on what the bounds ask for by themselves.
    ///
    /// In a fixed order: what operators and alerts ask for, nodes, pools. A refusal that stands as
    /// it is (`settled.rs`) is passed over.
    pub(crate) fn plan(&mut self, now: Now) {
        let mut resizes = BTreeMap::new();
        for proposal in self.rules.asked(now.mono) {
            self.plan_one(now, &proposal, &mut resizes);
        }
        self.outlooks.forget();
        let mut last = None;
        while let Some((key, proposals)) = self.next_unsettled(now, last) {
            self.plan_node(now, key, &proposals, &mut resizes);
            last = Some(key);
        }
        for proposals in self.rules.of_pools() {
            for proposal in &*proposals {
                self.plan_one(now, proposal, &mut resizes);
            }
        }
        for slot in 0..self.pool_count() {
            let slot = PoolSlot(slot);
            let asked = resizes.remove(&slot).unwrap_or_default();
            self.plan_size(now, slot, asked);
        }
    }

    /// Decides on what rules of nodes proposed just now. What else stands waits for the tick: by
    /// these nothing of it can be granted that was not. So does what else a rule of theirs wants of
    /// the pool.
    pub(crate) fn plan_fresh(&mut self, now: Now, fresh: &Fresh) {
        let mut resizes = BTreeMap::new();
        self.outlooks.forget();
        for slot in fresh.nodes() {
            for (key, proposals) in self.rules.unsettled(slot) {
                self.plan_node(now, key, &proposals, &mut resizes);
            }
        }
    }

    /// Decides on what a rule wants of a node.
    fn plan_node(
        &mut self,
        now: Now,
        key: NodeKey,
        proposals: &[Proposal],
        resizes: &mut BTreeMap<PoolSlot, Vec<Resize>>,
    ) {
        let reasons: Vec<_> = proposals
            .iter()
            .map(|proposal| self.plan_one(now, proposal, resizes))
            .collect();
        if let [Some(reason)] = reasons[..] {
            self.settle(now, key, reason);
        }
    }

    /// Decides on one proposal, or puts it to the others that would resize the pool. The reason,
    /// if a node is not healed.
    fn plan_one(
        &mut self,
        now: Now,
        proposal: &Proposal,
        resizes: &mut BTreeMap<PoolSlot, Vec<Resize>>,
    ) -> Option<Reason> {
        match &proposal.ask {
            // The sweep begins what it asks for by itself.
            Ask::Sweep { .. } | Ask::SweepPorts { .. } => None,
            Ask::Heal { .. } => self.plan_heal(now, proposal),
            Ask::Resize {
                pool,
                to,
                direction,
            } => {
                let Some(slot) = self.world.cluster.pool_slot(pool) else {
                    let why = (Reason::Unknown, format!("there is no pool `{pool}`"));
                    self.refuse(now, pool, None, proposal, why);
                    return None;
                };
                // A body's number is between nothing and a bound; the pool's own bounds
                // are held against it below.
                let to = u32::try_from((*to).max(0)).unwrap_or(u32::MAX);
                resizes.entry(slot).or_default().push(Resize {
                    proposal: proposal.clone(),
                    to,
                    direction: *direction,
                });
                None
            }
        }
    }

    /// Whether the cooldown of the proposal's rule runs: then nothing comes of it. It is refused
    /// when it is asked for anew, not while the rule goes on asking for what was just granted.
    fn cooling(&self, now: Now, pool: &PoolName, proposal: &Proposal) -> Cooling {
        let Origin::Rule(id) = &proposal.origin else {
            return Cooling::No;
        };
        let length = self.cooldown_of(id);
        if length.is_zero() {
            return Cooling::No;
        }
        let Some(last) = self.state.cooldowns.get(&(id.clone(), pool.clone())) else {
            return Cooling::No;
        };
        let passed = now.mono.since(last.mono);
        if passed >= length {
            Cooling::No
        } else if passed < ASKS_ON {
            Cooling::JustActed
        } else {
            let why = format!(
                "{id} acted {} ago, its cooldown is {}",
                show_duration(passed),
                format_duration(length)
            );
            Cooling::Refused((Reason::Cooldown, why))
        }
    }

    /// The same of a proposal to resize the pool, and says so.
    fn cools(&mut self, now: Now, pool: &PoolName, proposal: &Proposal) -> bool {
        match self.cooling(now, pool, proposal) {
            Cooling::No => return false,
            Cooling::JustActed => {}
            Cooling::Refused(why) => self.refuse(now, pool, None, proposal, why),
        }
        true
    }

    fn cooldown_of(&self, id: &RuleId) -> Duration {
        let rule = self.rules.policies().rule(id);
        rule.map_or(Duration::ZERO, |rule| rule.cooldown)
    }

    pub(crate) fn begin_cooldown(&mut self, now: Now, origin: &Origin, pool: &PoolName) {
        if let Origin::Rule(rule) = origin
            && !self.cooldown_of(rule).is_zero()
            && self.state.cooldowns.get(&(rule.clone(), pool.clone())) != Some(&now)
        {
            self.emit(crate::journal::Record::Cooldown {
                rule: rule.clone(),
                pool: pool.clone(),
                at: now,
            });
        }
    }

    /// Removals of the pool under way, without those that were called off.
    pub(crate) fn removing(&self, pool: &PoolName) -> u32 {
        let removals = self.state.operations.values().filter(|operation| {
            operation.pool == *pool
                && operation.kind == OperationKind::Remove
                && operation.cancelled.is_none()
        });
        u32::try_from(removals.count()).unwrap_or(u32::MAX)
    }

    /// Whether anything adds to the pool or takes from it, or is being undone.
    fn is_changing(&self, pool: &PoolName) -> bool {
        self.adding(pool) > 0
            || self.count_operations(pool, |kind| kind == OperationKind::Remove) > 0
    }

    fn adding(&self, pool: &PoolName) -> u32 {
        self.count_operations(pool, |kind| {
            matches!(
                kind,
                OperationKind::Add | OperationKind::Heal(Rung::Replace)
            )
        })
    }

    fn count_operations(&self, pool: &PoolName, of: fn(OperationKind) -> bool) -> u32 {
        let count = self
            .state
            .operations
            .values()
            .filter(|operation| operation.pool == *pool && of(operation.kind))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn guard(&self, now: Now) -> Guard<'_> {
        Guard {
            sight: self.sight(now),
            state: &self.state,
            brakes: &self.world.brakes,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
