//! How large a pool is to be: growing, shrinking, and working towards the size that is desired.

use std::collections::VecDeque;
use std::time::Duration;

use super::Resize;
use crate::cluster::PoolSlot;
use crate::decision::{Ask, Direction, Evidence, Origin, Proposal, Reason};
use crate::engine::Engine;
use crate::guard::Effort;
use crate::names::PoolName;
use crate::remediation::OperationKind;
use crate::settings::PoolSettings;
use crate::time::{Monotonic, Now};

/// The highest size that was asked for lately, for the stabilization of scale-downs.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    asked: VecDeque<(Monotonic, u32)>,
}

impl Needs {
    fn note(&mut self, now: Monotonic, need: u32, keep: Duration) {
        while self
            .asked
            .back()
            .is_some_and(|(_, smaller)| *smaller <= need)
        {
            self.asked.pop_back();
        }
        self.asked.push_back((now, need));
        self.forget(now, keep);
    }

    fn forget(&mut self, now: Monotonic, keep: Duration) {
        while self
            .asked
            .front()
            .is_some_and(|(at, _)| now.since(*at) > keep)
        {
            self.asked.pop_front();
        }
    }

    pub(super) fn highest(&mut self, now: Monotonic, keep: Duration) -> u32 {
        self.forget(now, keep);
        self.asked.front().map_or(0, |(_, need)| *need)
    }
}

/// How large a pool is, and how large it is to be from the first addition on.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    now: u32,
    desired: Option<u32>,
}

impl Engine {
    pub(super) fn plan_size(&mut self, now: Now, pool: PoolSlot, asked: Vec<Resize>) {
        let Some((name, settings)) = self.pool_of(pool) else {
            return;
        };
        let size = self.sight(now).size(pool);
        let leaving = self.removing(&name);
        let staying = size.saturating_sub(leaving);

        let up = asked
            .iter()
            .filter(|resize| resize.direction != Direction::Down && resize.to > staying)
            .map(|resize| resize.to.min(settings.max))
            .max();
        if let (Some(need), Some(needs)) = (up, self.needs.get_mut(usize::from(pool.0))) {
            needs.note(now.mono, need, settings.stabilization);
        }
        if let Some(need) = up {
            self.keep(now, &name, need);
        }
        let mut grown = false;
        for resize in &asked {
            let to = resize.to;
            match resize.direction {
                Direction::Up | Direction::Either if to > staying => {
                    grown = true;
                    self.plan_up(now, pool, &name, &settings, &resize.proposal, to);
                }
                Direction::Either if to < staying => {
                    self.plan_shrink(now, &name, &settings, &resize.proposal, to);
                }
                Direction::Down if to < staying && up.is_some() => {
                    let why = format!("{name} is asked to grow to {}", up.unwrap_or_default());
                    self.refuse(now, &name, None, &resize.proposal, (Reason::Conflict, why));
                }
                Direction::Down if to < staying => {
                    self.plan_down(now, pool, &name, &settings, &resize.proposal, to);
                }
                _ => {
                    // A rule whose wish is fulfilled, or under way, is not refused anything.
                    let why = format!("{name} has {staying} already, or is on its way to it");
                    self.answer_refused(&resize.proposal, Reason::NoChange, &why);
                    self.rules.answered(&resize.proposal);
                }
            }
        }
        if !grown {
            self.reconcile(now, pool, &name, &settings);
        }
    }

    /// I32: a removal was decided on while nobody asked for more. Where somebody does meanwhile
    /// it is called off, but for an operator's own word.
    fn keep(&mut self, now: Now, name: &PoolName, need: u32) {
        if let Some((_, Origin::Operator(_))) = self.state.desired.get(name) {
            return;
        }
        let removals =
            self.state.operations.values().filter(|operation| {
                operation.kind == OperationKind::Remove && operation.pool == *name
            });
        let why = format!("{name} is asked to grow to {need} meanwhile");
        for operation in removals.cloned().collect::<Vec<_>>() {
            self.call_off(now, &operation, &why);
        }
    }

    fn plan_up(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        settings: &PoolSettings,
        proposal: &Proposal,
        to: u32,
    ) {
        if self.cools(now, name, proposal) {
            return;
        }
        let size = self.sight(now).size(pool);
        let wanted = to.min(settings.max);
        let sizes = Sizes {
            now: size,
            desired: Some(wanted),
        };
        let begun = self.add(
            now,
            pool,
            name,
            wanted.saturating_sub(size),
            proposal,
            sizes,
        );
        if !begun.is_empty() {
            // What could not begin now is made up for by `reconcile` when the guard lets it.
            self.rules.answered(proposal);
            let many = u32::try_from(begun.len()).unwrap_or(u32::MAX);
            let mut text = begun.join("; ");
            let left = wanted.saturating_sub(size).saturating_sub(many);
            if left > 0 {
                text.push_str(&format!("; {left} more follow as the brakes allow"));
            }
            if to > settings.max {
                let max = settings.max;
                text.push_str(&format!(
                    "; at most {max} may be in {name}, and {to} were asked for"
                ));
            }
            self.answer_granted(proposal, &text);
        } else if wanted <= size {
            let why = if to > settings.max {
                let max = settings.max;
                let why = format!(
                    "{name} has {size} of at most {max}, VMs in flight and silent ones counted"
                );
                (Reason::AtMaximum, why)
            } else {
                let why = format!("a removal in {name} has to end first");
                (Reason::InFlight, why)
            };
            self.refuse(now, name, None, proposal, why);
        }
    }

    /// Begins up to `count` additions and says which; a refusal is noted once.
    fn add(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        count: u32,
        proposal: &Proposal,
        sizes: Sizes,
    ) -> Vec<String> {
        let adding = self.adding(name);
        let most = self
            .world
            .settings
            .limits
            .additions_at_once
            .saturating_sub(adding);
        if count > 0 && most == 0 {
            let why = format!("{adding} additions are under way in {name}");
            self.refuse(now, name, None, proposal, (Reason::InFlight, why));
        }
        let mut begun = Vec::new();
        let evidence = &proposal.evidence;
        for place in 0..count.min(most) {
            if let Err(why) = self.guard(now).check(pool, Effort::Add { evidence }) {
                if begun.is_empty() {
                    self.refuse(now, name, None, proposal, why);
                }
                break;
            }
            if let Some(desired) = sizes.desired {
                self.set_desired(now, name, proposal, desired);
            }
            begun.extend(self.begin_add(now, name, proposal, sizes.now + place));
        }
        begun
    }

    /// Moves the pool towards the size that is desired, where no rule asks for anything else.
    fn reconcile(&mut self, now: Now, pool: PoolSlot, name: &PoolName, settings: &PoolSettings) {
        if self.world.cluster.servers().asked().is_none() {
            return;
        }
        let size = self.sight(now).size(pool);
        let staying = size.saturating_sub(self.removing(name));
        let bounds = |why: String, to: u32| Proposal {
            origin: Origin::Bounds,
            ask: Ask::Resize {
                pool: name.clone(),
                to: i64::from(to),
                direction: Direction::Either,
            },
            why,
            evidence: Evidence::default(),
            since: None,
            entered: None,
        };
        let (desired, origin) = match self.state.desired.get(name) {
            Some((desired, origin)) => (*desired, origin.clone()),
            None => {
                let first = staying.clamp(settings.min, settings.max.max(settings.min));
                let proposal = bounds("as found".to_owned(), first);
                self.set_desired(now, name, &proposal, first);
                (first, Origin::Bounds)
            }
        };
        let wanted = desired.clamp(settings.min, settings.max.max(settings.min));
        if wanted > staying {
            let why = format!("{name} has {staying} and is to have {wanted}");
            let mut proposal = bounds(why, wanted);
            if matches!(origin, Origin::Operator(_)) {
                proposal.origin = origin;
            }
            let count = wanted.saturating_sub(size);
            if count > 0 && self.pauses(now, name, &proposal) {
                return;
            }
            let sizes = Sizes {
                now: size,
                desired: None,
            };
            self.add(now, pool, name, count, &proposal, sizes);
        } else if wanted < staying && !self.is_changing(name) {
            // Only an operator's word, or the maximum, takes nodes away without a rule. And no node
            // that serves makes up for a VM that nobody claims: that is swept, or waits for
            // `rhizome adopt`.
            let staying = staying.saturating_sub(self.unclaimed_in(now, pool));
            if staying <= wanted {
                return;
            }
            let over = staying > settings.max;
            if over || matches!(origin, Origin::Operator(_)) {
                let why = format!("{name} has {staying} and is to have {wanted}");
                let mut proposal = bounds(why, wanted);
                if !over {
                    proposal.origin = origin;
                }
                if self.pauses(now, name, &proposal) {
                    return;
                }
                self.remove_one(now, pool, name, &proposal, None);
            }
        }
    }

    /// Whether the pool is left alone for now, and says so: what failed there a moment ago is not
    /// begun again at once.
    pub(super) fn pauses(&mut self, now: Now, name: &PoolName, proposal: &Proposal) -> bool {
        let Some(why) = self.is_quiet(now, name) else {
            return false;
        };
        self.refuse(now, name, None, proposal, (Reason::AfterFailure, why));
        true
    }

    pub(super) fn set_desired(
        &mut self,
        now: Now,
        name: &PoolName,
        proposal: &Proposal,
        size: u32,
    ) {
        let origin = proposal.origin.clone();
        if self.state.desired.get(name) == Some(&(size, origin.clone())) {
            return;
        }
        self.emit(crate::journal::Record::Desired {
            pool: name.clone(),
            size,
            origin,
            at: now,
        });
    }
}

#[cfg(test)]
mod tests;
