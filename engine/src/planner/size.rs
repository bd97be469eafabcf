//! How large a pool is to be: growing, shrinking, and working towards the size that is desired.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Resize, fit};
use crate::cluster::PoolSlot;
use crate::decision::{Ask, Direction, Evidence, Origin, Proposal, Reason};
use crate::engine::Engine;
use crate::guard::{Effort, Refused};
use crate::journal::STAYED_MEMORY;
use crate::names::{NodeName, PoolName};
use crate::remediation::OperationKind;
use crate::settings::PoolSettings;
use crate::time::{Monotonic, Now, format_duration, show_duration};
use crate::window::NodeSlot;

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

    fn highest(&mut self, now: Monotonic, keep: Duration) -> u32 {
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
        if begun > 0 {
            // What could not begin now is made up for by `reconcile` when the guard lets it.
            self.rules.answered(proposal);
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

    /// An operator wants fewer: the size is set, and `reconcile` takes one node at a time as the
    /// guard lets it. What stops everything refuses the wish, so that nothing happens later
    /// that the operator was not told of.
    fn plan_shrink(
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
        let text = format!("{name} is to have {size}: nodes go one at a time, as the brakes allow");
        self.answer_granted(proposal, &text);
    }

    /// Begins up to `count` additions and says how many; a refusal is noted once.
    fn add(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        count: u32,
        proposal: &Proposal,
        sizes: Sizes,
    ) -> u32 {
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
        let mut begun = 0;
        let evidence = &proposal.evidence;
        for _ in 0..count.min(most) {
            if let Err(why) = self.guard(now).check(pool, Effort::Add { evidence }) {
                if begun == 0 {
                    self.refuse(now, name, None, proposal, why);
                }
                break;
            }
            if let Some(desired) = sizes.desired {
                self.set_desired(now, name, proposal, desired);
            }
            self.begin_add(now, name, proposal, sizes.now + begun);
            begun += 1;
        }
        begun
    }

    fn plan_down(
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
    fn remove_one(
        &mut self,
        now: Now,
        pool: PoolSlot,
        name: &PoolName,
        proposal: &Proposal,
        desired: Option<u32>,
    ) {
        let mut first: Option<(NodeName, Refused)> = None;
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
                Err(why) => first = first.or(Some((member.name.clone(), why))),
            }
        }
        let why = first.map_or_else(
            || (Reason::AtMinimum, format!("{name} has no node to give")),
            |(_, why)| why,
        );
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
        } else if wanted < staying && self.adding(name) + self.removing(name) == 0 {
            // Only an operator's word, or the maximum, takes nodes away without a rule.
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
    fn pauses(&mut self, now: Now, name: &PoolName, proposal: &Proposal) -> bool {
        let Some(why) = self.is_quiet(now, name) else {
            return false;
        };
        self.refuse(now, name, None, proposal, (Reason::AfterFailure, why));
        true
    }

    fn set_desired(&mut self, now: Now, name: &PoolName, proposal: &Proposal, size: u32) {
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
