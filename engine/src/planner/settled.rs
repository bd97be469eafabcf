//! Refusals that stand as they are: a proposal is weighed again only when something that it was
//! refused for may be another.
//!
//! Where hundreds of nodes are over what a rule asks for, and nobody else says that they are ill,
//! the same refusal would come out each second for each of them. It follows from little:
//!
//! - of the pool, its [`Outlook`]: what stops everything, and what we cannot see;
//! - of the node, what was observed of it and what the journal says: [`Engine::unsettle`] and
//!   [`Rules::unsettle`](crate::rules::Rules::unsettle) are told of each change;
//! - of the proposal, its evidence: a body that is entered again proposes anew.
//!
//! Time alone changes none of these, but for the outlook and for who is a suspect: the first is
//! taken anew at each plan, and suspects are weighed each time. Whatever else a refusal may follow
//! from (a cooldown, a rung that has yet to show its effect, a storm, the limits) is weighed each
//! time as well: [`Outlook::settles`] says which reasons are of the first kind.
//!
//! INVARIANT: weighing a settled proposal comes to the refusal that stands. In this package's tests
//! each is weighed all the same and held to it.

use std::sync::Arc;

use crate::cluster::PoolSlot;
use crate::decision::{Proposal, Reason};
use crate::engine::Engine;
use crate::journal::Record;
use crate::names::NodeName;
use crate::rules::NodeKey;
use crate::time::Now;

/// What a pool's nodes are refused for whoever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// What stops everything: a pause, a failed journal, maintenance, too many operations.
    everywhere: Option<Reason>,
    /// What cannot be seen well enough to take anything away.
    sight: Option<Reason>,
}

/// Why a proposal need not be weighed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    pool: PoolSlot,
    outlook: Outlook,
    reason: Reason,
}

/// The outlook of each pool that was asked for since something changed, by pool slot.
#[derive(Debug, Default)]
pub(crate) struct Outlooks(Vec<Option<Outlook>>);

impl Outlooks {
    /// Time has passed, or durable state is another.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Outlook {
    /// Whether a refusal for this reason stands until the outlook or the node is another.
    fn settles(self, reason: Reason) -> bool {
        let of_pool = self.everywhere == Some(reason) || self.sight == Some(reason);
        of_pool
            || matches!(
                reason,
                Reason::NotOwned
                    | Reason::ControlPlane
                    | Reason::Protected
                    | Reason::ThinData
                    | Reason::OneWitness
            )
    }
}

impl Engine {
    /// The next rule of a node after `last` whose proposals have to be weighed, and these.
    pub(super) fn next_unsettled(
        &mut self,
        now: Now,
        last: Option<NodeKey>,
    ) -> Option<(NodeKey, Arc<[Proposal]>)> {
        let mut outlooks = std::mem::take(&mut self.outlooks);
        let found = self.rules.of_nodes_after(last).find(|(key, standing)| {
            let settled = standing.settled().filter(|settled| {
                !self.world.suspects.has(key.0)
                    && self.outlook(now, settled.pool, &mut outlooks) == Some(settled.outlook)
            });
            if cfg!(test)
                && let (Some(settled), [proposal]) = (settled, &**standing.proposals())
            {
                let reason = self.refusal_of(now, key.0, proposal);
                assert_eq!(reason, Some(settled.reason), "{proposal:?} was settled");
            }
            settled.is_none()
        });
        let found = found.map(|(key, standing)| (*key, Arc::clone(standing.proposals())));
        self.outlooks = outlooks;
        found
    }

    /// The only proposal of a node's rule was refused: for as long as nothing changes, if so.
    pub(super) fn settle(&mut self, now: Now, key: NodeKey, reason: Reason) {
        let member = self.world.cluster.member(key.0);
        let Some(pool) = member.and_then(|member| member.pool) else {
            return;
        };
        let mut outlooks = std::mem::take(&mut self.outlooks);
        let outlook = self.outlook(now, pool, &mut outlooks);
        self.outlooks = outlooks;
        let settled = outlook
            .filter(|outlook| outlook.settles(reason))
            .map(|outlook| Settled {
                pool,
                outlook,
                reason,
            });
        self.rules.settle(key, settled);
    }

    fn outlook(&self, now: Now, pool: PoolSlot, known: &mut Outlooks) -> Option<Outlook> {
        let place = usize::from(pool.0);
        if let Some(Some(outlook)) = known.0.get(place) {
            return Some(*outlook);
        }
        let (name, settings) = self.pool_at(pool)?;
        let guard = self.guard(now);
        let outlook = Outlook {
            everywhere: guard.everywhere(name).err().map(|(reason, _)| reason),
            sight: guard.sight_of(settings).err().map(|(reason, _)| reason),
        };
        if known.0.len() <= place {
            known.0.resize(place + 1, None);
        }
        *known.0.get_mut(place)? = Some(outlook);
        Some(outlook)
    }

    /// Durable state has changed by this record: what may follow from it is weighed again.
    pub(crate) fn unsettle(&mut self, record: &Record) {
        match record {
            // A refusal takes nothing back.
            Record::Refusal { .. } => return,
            Record::Operation { operation } => {
                for machine in operation.machines() {
                    self.unsettle_node(&machine.node);
                }
            }
            Record::Decision { decision } => {
                if let Some(node) = &decision.node {
                    self.unsettle_node(node);
                }
            }
            Record::Rung { node, .. } | Record::Adopted { node, .. } => self.unsettle_node(node),
            // Rules that cool, and an operator's word on any node or pool.
            Record::Cooldown { .. }
            | Record::Wish { .. }
            | Record::Epoch { .. }
            | Record::Snapshot { .. }
            | Record::Policies { .. } => self.rules.unsettle_all(),
            // What these are about is in the outlook, or is weighed after all that settles.
            Record::Brake { .. }
            | Record::Pause { .. }
            | Record::Intent { .. }
            | Record::Outcome { .. }
            | Record::Desired { .. }
            | Record::Circuit { .. }
            | Record::Pool { .. } => {}
        }
        self.outlooks.forget();
    }

    /// How many proposals need not be weighed.
    #[cfg(test)]
    pub(crate) fn settled(&self) -> usize {
        let standing = self.rules.of_nodes_after(None);
        standing
            .filter(|(_, standing)| standing.settled().is_some())
            .count()
    }

    /// Something was heard about the node beside what was observed of it.
    pub(crate) fn unsettle_node(&mut self, name: &NodeName) {
        if let Some(slot) = self.world.cluster.slot(name.as_str()) {
            self.rules.unsettle(slot);
        }
    }
}

#[cfg(test)]
mod tests;
