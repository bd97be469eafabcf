//! Whether a node is healed, and by which rung: what stands is weighed without changing anything,
//! and what comes of it is carried out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Cooling;
use crate::cluster::{Member, PoolSlot};
use crate::decision::{Ask, Evidence, Origin, Proposal, Reason, Rung, Witness};
use crate::engine::Engine;
use crate::guard::{Effort, Refused};
use crate::names::{NodeName, PoolName};
use crate::settings::PoolSettings;
use crate::time::{Now, format_duration, show_duration};
use crate::window::NodeSlot;

use super::{CLOUD_BACKOFF, LADDER_MEMORY};

/// What comes of a proposal to heal a node as things stand.
#[derive(Debug)]
enum Weighed {
    /// Nothing, and nobody need be told: it is under way, or was just granted.
    Nothing,
    /// It is not granted.
    Refused(Refused),
    /// It begins with this rung.
    Granted(Rung),
}

/// Where a node is and what applies there.
#[derive(Clone, Copy)]
struct Place<'a> {
    slot: NodeSlot,
    member: &'a Member,
    pool: PoolSlot,
    name: &'a PoolName,
    settings: &'a PoolSettings,
}

impl Engine {
    /// Heals a node, or says why not; the reason of a refusal.
    pub(super) fn plan_heal(&mut self, now: Now, proposal: &Proposal) -> Option<Reason> {
        let Ask::Heal { node, .. } = &proposal.ask else {
            return None;
        };
        let slot = self.world.cluster.slot(node.as_str());
        let Some(place) = slot.and_then(|slot| self.place(slot)) else {
            // Whoever can send alerts could make up names: they are counted, and only one refusal
            // stands for all that a rule asks for of nobody.
            self.world.cluster.count_unknown(node.as_str());
            let why = format!("`{node}` is in no pool of ours");
            let nowhere = PoolName::new("");
            self.refuse(now, &nowhere, None, proposal, (Reason::Unknown, why));
            self.rules.answered(proposal);
            return None;
        };
        let (weighed, witnesses) = self.weigh(now, place, proposal);
        let name = place.name.clone();
        let evidence = || Evidence {
            witnesses,
            ..proposal.evidence.clone()
        };
        match weighed {
            Weighed::Nothing => None,
            Weighed::Refused(why) => {
                let reason = why.0;
                self.refuse_seen(now, &name, Some(node), proposal, why, evidence);
                Some(reason)
            }
            Weighed::Granted(rung) => {
                let member = place.member.clone();
                let proposal = Proposal {
                    evidence: evidence(),
                    ..proposal.clone()
                };
                self.begin_heal(now, &name, &member, rung, &proposal);
                None
            }
        }
    }

    /// The reason for which the proposal would be refused now.
    pub(super) fn refusal_of(
        &self,
        now: Now,
        slot: NodeSlot,
        proposal: &Proposal,
    ) -> Option<Reason> {
        match self.weigh(now, self.place(slot)?, proposal).0 {
            Weighed::Refused((reason, _)) => Some(reason),
            Weighed::Nothing | Weighed::Granted(_) => None,
        }
    }

    fn place(&self, slot: NodeSlot) -> Option<Place<'_>> {
        let member = self.world.cluster.member(slot)?;
        let pool = member.pool?;
        let (name, settings) = self.pool_at(pool)?;
        Some(Place {
            slot,
            member,
            pool,
            name,
            settings,
        })
    }

    /// What comes of the proposal, and who says that the node is ill.
    fn weigh(&self, now: Now, place: Place<'_>, proposal: &Proposal) -> (Weighed, Vec<Witness>) {
        let Ask::Heal {
            ladder, witness, ..
        } = &proposal.ask
        else {
            return (Weighed::Nothing, Vec::new());
        };
        let Place { member, name, .. } = place;
        // What is being healed goes on to be ill for a while: that is no refusal.
        let healing = self.guard(now).operation_of(&member.name).is_some();
        if healing && matches!(proposal.origin, Origin::Rule(_)) {
            return (Weighed::Nothing, Vec::new());
        }
        match self.cooling(now, name, proposal) {
            Cooling::No => {}
            Cooling::JustActed => return (Weighed::Nothing, Vec::new()),
            Cooling::Refused(why) => return (Weighed::Refused(why), Vec::new()),
        }
        let witnesses = self.witnesses(now, place, *witness);
        let rung = match self.next_rung(now, member, ladder, place.settings, *witness) {
            Ok(rung) => rung,
            Err(why) => return (Weighed::Refused(why), witnesses),
        };
        let effort = Effort::Heal {
            slot: place.slot,
            member,
            rung,
            witnesses: &witnesses,
            evidence: &proposal.evidence,
        };
        match self.guard(now).check(place.pool, effort) {
            Ok(()) => (Weighed::Granted(rung), witnesses),
            Err(why) => (Weighed::Refused(why), witnesses),
        }
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
        let rung = match next {
            Some(rung) => *rung,
            None => self.rung_again(now, member, ladder)?,
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
        Ok(rung)
    }

    /// Every rung was tried: the first that came to nothing by the cloud's doing is tried once
    /// more, in its time.
    fn rung_again(&self, now: Now, member: &Member, ladder: &[Rung]) -> Result<Rung, Refused> {
        let of = |rungs: &BTreeMap<NodeName, VecDeque<(Rung, Now)>>, rung: Rung| {
            let rungs = rungs.get(&member.name).into_iter().flatten();
            let ago = rungs.filter(move |(of, _)| *of == rung);
            let ago = ago.map(|(_, at)| now.mono.since(at.mono));
            ago.filter(|ago| *ago < LADDER_MEMORY).collect::<Vec<_>>()
        };
        let mut soonest: Option<(Rung, Duration)> = None;
        for rung in ladder {
            let excused = of(&self.state.excused, *rung);
            let begun = of(&self.state.rungs, *rung).into_iter().min();
            let Some(ago) = excused.iter().min().copied() else {
                continue;
            };
            if begun.is_some_and(|begun| begun < ago) {
                // It was begun again since, and that says something of the node.
                continue;
            }
            let doublings = u32::try_from(excused.len().saturating_sub(1)).unwrap_or(u32::MAX);
            let waits = CLOUD_BACKOFF
                .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
                .min(LADDER_MEMORY);
            let left = waits.saturating_sub(ago);
            if left.is_zero() {
                return Ok(*rung);
            }
            if soonest.is_none_or(|(_, least)| left < least) {
                soonest = Some((*rung, left));
            }
        }
        Err(match soonest {
            Some((rung, left)) => (
                Reason::LadderWait,
                format!(
                    "{} of {} failed by the cloud's doing: it may be tried again in {}",
                    rung.as_str(),
                    member.name,
                    show_duration(left)
                ),
            ),
            None => (
                Reason::LadderExhausted,
                format!("every rung was tried on {} lately", member.name),
            ),
        })
    }

    fn witnesses(&self, now: Now, place: Place<'_>, rule: Witness) -> Vec<Witness> {
        let seen = self
            .guard(now)
            .witnesses(place.slot, place.member, place.settings);
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
}
