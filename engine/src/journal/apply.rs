//! How each record changes the state: the only place where durable state changes.

use std::time::Duration;

use super::{Brake, HEAL_MEMORY, Record, Removal, STAYED_MEMORY, State};
use crate::action::{Action, ActionKind, FailureKind};
use crate::decision::Origin;
use crate::event::Wish;
use crate::names::{NodeName, OperationId, VmId};
use crate::remediation::{Ending, Moment, Operation, OperationKind, Phase, Stopped};
use crate::time::{Monotonic, Now};

/// Removals are remembered for as long as the longest velocity cap looks back.
const REMOVALS_KEPT: Duration = Duration::from_secs(600);
/// Rungs remembered per node: more than a day may hold (I37 allows three).
const RUNGS_KEPT: usize = 16;
/// Operators' keys remembered, so that a request sent twice is one wish.
const WISHES_KEPT: usize = 256;
/// Names remembered as used. They are drawn from a hash of a number that is never used twice,
/// so this is a second net.
const NAMES_KEPT: usize = 4_096;

impl State {
    /// Changes the state as the record says.
    ///
    /// The same records in the same order give the same state, whether they were made just now
    /// or read back. A record that fits nothing changes nothing.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Epoch {
                epoch, journal, at, ..
            } => self.begin(*epoch, *journal, *at),
            Record::Snapshot { state } => *self = (**state).clone(),
            Record::Decision { decision } => {
                let (pool, by) = (&decision.pool, &decision.origin);
                self.refused.grant(pool, None, by);
                if decision.node.is_some() {
                    self.refused.grant(pool, decision.node.as_ref(), by);
                }
            }
            Record::Refusal { refusal } => self.refused.tell(refusal),
            Record::Operation { operation } => self.operation(operation),
            Record::Intent { at, action } => {
                self.removal(*at, action);
                if let Some(operation) = self.operations.get_mut(&action.key.operation) {
                    operation.started(action.key);
                }
                self.open.insert(action.key, (**action).clone());
            }
            Record::Outcome { key, result, .. } => {
                let action = self.open.remove(key);
                let unsent = matches!(result, Err(failure) if failure.kind == FailureKind::Gate);
                if let Some(action) = action.filter(|_| unsent) {
                    self.not_removed(&action);
                }
            }
            Record::Desired {
                pool, size, origin, ..
            } => {
                self.desired.insert(pool.clone(), (*size, origin.clone()));
            }
            Record::Cooldown { rule, pool, at } => {
                self.cooldowns.insert((rule.clone(), pool.clone()), *at);
            }
            Record::Rung { node, rung, at } => {
                self.forget_rungs(*at);
                let rungs = self.rungs.entry(node.clone()).or_default();
                rungs.push_back((*rung, *at));
                while rungs.len() > RUNGS_KEPT {
                    rungs.pop_front();
                }
            }
            Record::Wish { at, key, wish, .. } => self.wish(*at, key, wish),
            Record::Pause { source, pause, at } => match pause {
                Some(pause) => {
                    self.standing.insert(*source, (at.wall, pause.clone()));
                }
                None => {
                    self.standing.remove(source);
                }
            },
            Record::Brake {
                brake,
                on,
                at,
                detail,
            } => {
                if *on {
                    self.brakes.insert(brake.clone(), (*at, detail.clone()));
                } else {
                    self.brakes.remove(brake);
                    if let Brake::Blind(source) = brake {
                        self.returned.insert(*source, *at);
                    }
                }
            }
            Record::Circuit { pool, failures, at } => {
                if *failures == 0 {
                    self.circuits.remove(pool);
                } else {
                    self.circuits.insert(pool.clone(), (*failures, *at));
                }
            }
            Record::Adopted {
                vm,
                node,
                operation,
                ..
            } => self.adopt(vm, node, *operation),
            Record::Pool { pool, settings, .. } => {
                self.pools.insert(pool.clone(), (**settings).clone());
            }
            Record::Policies { hash, .. } => self.policies.clone_from(hash),
        }
        if let Some(at) = record.at() {
            self.last = at;
        }
    }

    fn begin(&mut self, epoch: u64, journal: u32, at: Now) {
        let last = Moment {
            epoch: self.epoch,
            at: self.last,
        };
        for operation in self.operations.values_mut() {
            operation.left_alone(last);
        }
        self.epoch = epoch;
        if self.journal == 0 {
            self.journal = journal;
        }
        self.started = at;
        self.next_operation = self.next_operation.max(1);
        let onto = |then: &mut Now| onto(at, then);
        self.cooldowns.values_mut().for_each(onto);
        self.removals
            .iter_mut()
            .for_each(|removal| onto(&mut removal.at));
        self.circuits.values_mut().for_each(|(_, then)| onto(then));
        self.returned.values_mut().for_each(onto);
        self.brakes.values_mut().for_each(|(then, _)| onto(then));
        self.rungs
            .values_mut()
            .flatten()
            .for_each(|(_, then)| onto(then));
        self.excused
            .values_mut()
            .flatten()
            .for_each(|(_, then)| onto(then));
        self.stayed.values_mut().for_each(onto);
        self.forget_rungs(at);
    }

    /// Forgets the rungs that count no longer. Nodes that others delete leave theirs behind.
    fn forget_rungs(&mut self, now: Now) {
        for of_nodes in [&mut self.rungs, &mut self.excused] {
            of_nodes.retain(|_, rungs| {
                rungs.retain(|(_, at)| now.mono.since(at.mono) < HEAL_MEMORY);
                !rungs.is_empty()
            });
        }
    }

    /// Remembers a rung that came to nothing by the cloud's doing.
    fn excuse(&mut self, operation: &Operation, ending: &Ending) {
        let (OperationKind::Heal(rung), Ending::Failed(_)) = (operation.kind, ending) else {
            return;
        };
        let Some(old) = operation.old.as_ref().filter(|_| operation.excused) else {
            return;
        };
        let at = self.step_began(operation);
        let rungs = self.excused.entry(old.node.clone()).or_default();
        rungs.push_back((rung, at));
        while rungs.len() > RUNGS_KEPT {
            rungs.pop_front();
        }
    }

    /// When the operation's last step began, on the clock of this run.
    fn step_began(&self, operation: &Operation) -> Now {
        let mut at = operation.step_began.at;
        if operation.step_began.epoch != self.epoch {
            onto(self.started, &mut at);
        }
        at
    }

    fn operation(&mut self, operation: &Operation) {
        self.next_operation = self.next_operation.max(operation.id.number + 1);
        for machine in operation.machines() {
            self.name(&machine.node);
        }
        // What it made is ours from the moment its id is known, and what it removed is not
        // known any more when it is over.
        let made = operation.new.as_ref().and_then(|new| new.vm.clone());
        let late = self.late_stops.remove(&operation.id);
        if let Some(vm) = made.as_ref().filter(|_| late.is_none()) {
            self.owned.insert(vm.clone(), operation.id);
        }
        let standing = operation.parked.is_some();
        if !standing {
            // It goes on, or is over: what held it back is said anew the next time.
            self.forget_hold(operation);
        }
        let Phase::Over { ending } = &operation.phase else {
            if let Some(vm) = operation.old.as_ref().and_then(|old| old.vm.as_ref())
                && operation.stopped.is_some()
            {
                // Whoever treats the machine next has its stop to undo.
                self.late_stops.retain(|_, late| !is_of(late, vm));
            }
            self.operations.insert(operation.clone());
            return;
        };
        if late.is_some() && !self.operations.contains_key(&operation.id) {
            // It was over before: no more than its stop is forgotten.
            return;
        }
        if operation.stopped == Some(Stopped::Late) {
            self.late_stops.insert(operation.id, operation.clone());
        }
        self.stay(operation, ending);
        self.excuse(operation, ending);
        let old = operation.old.as_ref().and_then(|old| old.vm.clone());
        let swept = matches!(operation.kind, OperationKind::Sweep(_));
        let gone = match (ending, operation.committed || swept) {
            (Ending::Done, true) if old != made => old,
            // One that serves already is not undone: it stays, and stays ours.
            (Ending::Failed(_) | Ending::Cancelled(_), _)
                if old != made && operation.creates == 0 =>
            {
                made
            }
            _ => None,
        };
        if let Some(vm) = gone {
            self.owned.remove(&vm);
            if let Some(old) = operation.old.as_ref().filter(|old| old.vm == Some(vm)) {
                // Its name is never used again, so nothing more is said of it.
                self.rungs.remove(&old.node);
                self.excused.remove(&old.node);
                self.stayed.remove(&old.node);
                self.refused.forget_node(&old.node);
            }
        }
        self.operations.remove(&operation.id);
        self.open.retain(|key, _| key.operation != operation.id);
    }

    /// Remembers a removal that was given up: not one that somebody called off.
    fn stay(&mut self, operation: &Operation, ending: &Ending) {
        let gave_up = operation.kind == OperationKind::Remove
            && operation.sent
            && operation.cancelled.is_none()
            && matches!(ending, Ending::Cancelled(_));
        let Some(old) = operation.old.as_ref().filter(|_| gave_up) else {
            return;
        };
        let at = self.step_began(operation);
        self.stayed
            .retain(|_, earlier| at.mono.since(earlier.mono) < STAYED_MEMORY);
        self.stayed.insert(old.node.clone(), at);
    }

    /// How long ago a removal of the node was given up, if that was lately.
    pub(crate) fn stayed_for(&self, now: Now, node: &NodeName) -> Option<Duration> {
        let at = self.stayed.get(node)?;
        Some(now.mono.since(at.mono)).filter(|ago| *ago < STAYED_MEMORY)
    }

    /// Whether a stop of the VM was still on its way when its operation ended.
    pub(crate) fn has_late_stop(&self, vm: &VmId) -> bool {
        self.late_stops.values().any(|late| is_of(late, vm))
    }

    /// Whether the deletion of the VM is among those that count.
    pub(crate) fn is_removed(&self, vm: &VmId) -> bool {
        let of = |removal: &Removal| removal.vm.as_ref() == Some(vm);
        self.removals.iter().any(of)
    }

    /// Ours from now on, as if this journal had made it.
    fn adopt(&mut self, vm: &VmId, node: &NodeName, operation: Option<OperationId>) {
        // One without an operation in its marks gets a number that no operation has.
        let unmarked = OperationId {
            journal: self.journal,
            number: 0,
        };
        self.owned.insert(vm.clone(), operation.unwrap_or(unmarked));
        self.name(node);
        self.refused.forget_node(node);
    }

    /// The name was given once, and never is again.
    fn name(&mut self, node: &NodeName) {
        if !self.named.contains(node) {
            self.named.push_back(node.clone());
        }
        while self.named.len() > NAMES_KEPT {
            self.named.pop_front();
        }
    }

    fn forget_hold(&mut self, operation: &Operation) {
        let stood = self.operations.get(&operation.id);
        if stood.is_some_and(|stood| stood.parked.is_some()) {
            self.refused.forget_origin(&Origin::Operation(operation.id));
        }
    }

    /// The gate held it back: nothing was removed, however often it is asked for.
    fn not_removed(&mut self, action: &Action) {
        self.removals
            .retain(|removal| removal.key != Some(action.key));
    }

    /// Counts each VM once: a delete that is tried again is one removal.
    fn removal(&mut self, at: Now, action: &Action) {
        if let ActionKind::DeleteServer { vm } = &action.kind
            && !self.is_removed(&vm.id)
        {
            self.removals.push_back(Removal {
                pool: action.pool.clone(),
                at,
                vm: Some(vm.id.clone()),
                key: Some(action.key),
            });
        }
        while self
            .removals
            .front()
            .is_some_and(|first| at.mono.since(first.at.mono) > REMOVALS_KEPT)
        {
            self.removals.pop_front();
        }
    }

    fn wish(&mut self, at: Now, key: &str, wish: &Wish) {
        self.wishes.push_back(key.to_owned());
        while self.wishes.len() > WISHES_KEPT {
            self.wishes.pop_front();
        }
        match wish {
            Wish::Pause { pool } => {
                self.paused.insert(pool.clone());
            }
            Wish::Resume { pool } => {
                if pool.is_none() {
                    self.paused.clear();
                } else {
                    self.paused.remove(pool);
                }
            }
            Wish::Protect { node, on } => {
                if *on {
                    self.protected.insert(node.clone());
                } else {
                    self.protected.remove(node);
                }
            }
            Wish::Maintenance { target, length } => {
                self.maintenance.retain(|_, end| *end > at.wall);
                if length.is_zero() {
                    self.maintenance.remove(target);
                } else {
                    self.maintenance
                        .insert(target.clone(), at.wall.plus(*length));
                }
            }
            Wish::Scale { .. }
            | Wish::Replace { .. }
            | Wish::Cancel { .. }
            | Wish::Adopt { .. } => {}
        }
    }
}

/// Whether the operation's old VM is this one.
fn is_of(operation: &Operation, vm: &VmId) -> bool {
    let old = operation.old.as_ref();
    old.and_then(|old| old.vm.as_ref()) == Some(vm)
}

/// Moves a stored time onto the clock of the run that began at `began`.
///
/// The monotonic clock of an earlier run means nothing in this one. What was stored is moved by
/// the wall time that passed; if the wall clock was set back meanwhile, nothing has passed, so that
/// a cooldown is longer and never shorter.
fn onto(began: Now, then: &mut Now) {
    let passed = began.wall.since(then.wall);
    let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    then.mono = Monotonic(began.mono.0.saturating_sub(passed));
}
