//! Proposals to decisions: one arbiter for healing, scaling and operators' wishes.
//!
//! Healing comes before scaling and up before down. What is granted begins as an operation in
//! the same step; what is not has its reason. Sizes are planned against what is counted: VMs in
//! flight and silent ones included.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{Member, PoolSlot};
use crate::decision::{Ask, Direction, Origin, Proposal, Reason, Rung, Witness};
use crate::engine::Engine;
use crate::guard::{Effort, Guard, Refused};
use crate::names::{NodeName, PoolName, RuleId};
use crate::remediation::OperationKind;
use crate::settings::PoolSettings;
use crate::time::{Now, format_duration, show_duration};
use crate::window::NodeSlot;

/// A rule that goes on to ask this long after its act wants more than it was granted. Sooner it
/// is the same wish, whose effect nothing can have shown yet.
const ASKS_ON: Duration = Duration::from_secs(60);

mod size;

pub(crate) use size::Needs;

/// A rung counts as tried for this long; after that the ladder begins at its foot again.
const LADDER_MEMORY: Duration = Duration::from_secs(2 * 3600);

/// A proposal to change a pool's size, with the size it comes to within the pool's bounds.
struct Resize {
    proposal: Proposal,
    to: u32,
    direction: Direction,
}

impl Engine {
    /// Decides on everything that stands, and on what the bounds ask for by themselves.
    pub(crate) fn plan(&mut self, now: Now) {
        let mut resizes: BTreeMap<PoolSlot, Vec<Resize>> = BTreeMap::new();
        for proposal in self.rules.standing(now.mono) {
            match &proposal.ask {
                // The sweep begins what it asks for by itself.
                Ask::Sweep { .. } => {}
                Ask::Heal { node, .. } => {
                    let node = node.clone();
                    self.plan_heal(now, &node, proposal);
                }
                Ask::Resize {
                    pool,
                    to,
                    direction,
                } => {
                    let (to, direction) = (*to, *direction);
                    let Some(slot) = self.world.cluster.pool_slot(pool) else {
                        let pool = pool.clone();
                        let why = (Reason::Unknown, format!("there is no pool `{pool}`"));
                        self.refuse(now, &pool, None, &proposal, why);
                        continue;
                    };
                    // A body's number is between nothing and a bound; the pool's own bounds
                    // are held against it below.
                    let to = u32::try_from(to.max(0)).unwrap_or(u32::MAX);
                    resizes.entry(slot).or_default().push(Resize {
                        proposal,
                        to,
                        direction,
                    });
                }
            }
        }
        for slot in 0..self.pool_count() {
            let slot = PoolSlot(slot);
            let asked = resizes.remove(&slot).unwrap_or_default();
            self.plan_size(now, slot, asked);
        }
    }

    fn plan_heal(&mut self, now: Now, node: &NodeName, proposal: Proposal) {
        let Ask::Heal {
            ladder, witness, ..
        } = &proposal.ask
        else {
            return;
        };
        let found = self.world.cluster.slot(node.as_str()).and_then(|slot| {
            let member = self.world.cluster.member(slot)?;
            let pool = member.pool?;
            Some((slot, member.clone(), pool))
        });
        let Some((slot, member, pool)) = found else {
            // Whoever can send alerts could make up names: they are counted, and only one refusal
            // stands for all that a rule asks for of nobody.
            self.world.cluster.count_unknown(node.as_str());
            let why = format!("`{node}` is in no pool of ours");
            let nowhere = PoolName::new("");
            self.refuse(now, &nowhere, None, &proposal, (Reason::Unknown, why));
            self.rules.answered(&proposal);
            return;
        };
        let Some((name, settings)) = self.pool_of(pool) else {
            return;
        };
        let (ladder, witness) = (ladder.clone(), *witness);
        // What is being healed goes on to be ill for a while: that is no refusal.
        let healing = self.guard(now).operation_of(node).is_some();
        if healing && matches!(proposal.origin, Origin::Rule(_)) {
            return;
        }
        if self.cools(now, &name, Some(node), &proposal) {
            return;
        }
        let witnesses = self.witnesses(now, slot, &member, &settings, witness);
        let mut proposal = proposal;
        proposal.evidence.witnesses.clone_from(&witnesses);
        let rung = match self.next_rung(now, &member, &ladder, &settings, witness) {
            Ok(rung) => rung,
            Err(why) => {
                self.refuse(now, &name, Some(node), &proposal, why);
                return;
            }
        };
        let effort = Effort::Heal {
            slot,
            member: &member,
            rung,
            witnesses: &witnesses,
            evidence: &proposal.evidence,
        };
        if let Err(why) = self.guard(now).check(pool, effort) {
            self.refuse(now, &name, Some(node), &proposal, why);
            return;
        }
        self.begin_heal(now, &name, &member, rung, &proposal);
    }

    /// The first rung of the ladder that was not tried lately.
    fn next_rung(
        &self,
        now: Now,
        member: &Member,
        ladder: &[Rung],
        settings: &PoolSettings,
        witness: Witness,
    ) -> Result<Rung, Refused> {
        let tried: Vec<_> = self
            .state
            .rungs
            .get(&member.name)
            .into_iter()
            .flatten()
            .filter(|(_, at)| now.mono.since(at.mono) < LADDER_MEMORY)
            .collect();
        let next = ladder
            .iter()
            .find(|rung| !tried.iter().any(|(tried, _)| tried == *rung));
        let Some(rung) = next else {
            return Err((
                Reason::LadderExhausted,
                format!("every rung was tried on {} lately", member.name),
            ));
        };
        // A rung needs time to show what it did. The operator's word does not wait.
        if let Some((last, at)) = tried.last()
            && witness != Witness::Operator
        {
            let waited = now.mono.since(at.mono);
            if waited < settings.rung_timeout {
                return Err((
                    Reason::LadderWait,
                    format!(
                        "{} was begun {} ago, {} has {} to show effect",
                        last.as_str(),
                        show_duration(waited),
                        last.as_str(),
                        format_duration(settings.rung_timeout)
                    ),
                ));
            }
        }
        Ok(*rung)
    }

    fn witnesses(
        &self,
        now: Now,
        slot: NodeSlot,
        member: &Member,
        settings: &PoolSettings,
        rule: Witness,
    ) -> Vec<Witness> {
        let seen = self.guard(now).witnesses(slot, member, settings);
        // What the cluster itself can tell of this very node has to be so: a body may name
        // another node than the one that its rule looked at.
        // An alert stands longer in the rules than it is a witness.
        let told = matches!(
            rule,
            Witness::Heartbeat | Witness::Kubernetes | Witness::Alert
        );
        let mut witnesses = Vec::new();
        if !told || seen.contains(&rule) {
            witnesses.push(rule);
        }
        for witness in seen {
            if !witnesses.contains(&witness) {
                witnesses.push(witness);
            }
        }
        witnesses
    }

    /// Whether the cooldown of the proposal's rule runs: then nothing comes of it. It is refused
    /// when it is asked for anew, not while the rule goes on asking for what was just granted.
    fn cools(
        &mut self,
        now: Now,
        pool: &PoolName,
        node: Option<&NodeName>,
        proposal: &Proposal,
    ) -> bool {
        let Origin::Rule(id) = &proposal.origin else {
            return false;
        };
        let length = self.cooldown_of(id);
        let Some(last) = self.state.cooldowns.get(&(id.clone(), pool.clone())) else {
            return false;
        };
        let passed = now.mono.since(last.mono);
        if passed >= length {
            return false;
        }
        if passed >= ASKS_ON {
            let why = format!(
                "{id} acted {} ago, its cooldown is {}",
                show_duration(passed),
                format_duration(length)
            );
            self.refuse(now, pool, node, proposal, (Reason::Cooldown, why));
        }
        true
    }

    fn cooldown_of(&self, id: &RuleId) -> Duration {
        self.rules
            .policies()
            .rules()
            .iter()
            .find(|rule| rule.id == *id)
            .map_or(Duration::ZERO, |rule| rule.cooldown)
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

    fn removing(&self, pool: &PoolName) -> u32 {
        self.count_operations(pool, |kind| kind == OperationKind::Remove)
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
