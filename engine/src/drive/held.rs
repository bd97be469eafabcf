//! What holds an operation back once it is under way: a pause, a journal that fails, and the
//! brakes of the guard, looked at again before each call that a row of the table says.
//!
//! What is held back stands where it is: its step's time stands still, and why it stands is
//! journaled as a refusal. A word against the very node or its pool calls the operation off
//! instead, and so does a pool that can no longer spare the node.

use super::NO_SETTINGS;
use crate::action::ActionKind;
use crate::decision::{Evidence, Origin, Reason, Refusal};
use crate::engine::Engine;
use crate::event::Target;
use crate::guard::Refused;
use crate::journal::Record;
use crate::remediation::{self, Brakes, Moment, Operation, OperationKind, Phase};
use crate::time::Now;

impl Engine {
    /// I32: a decision that nothing was done for in its time is not carried out any more.
    pub(super) fn is_too_old(&self, now: Now, operation: &Operation) -> bool {
        !operation.sent
            && operation.sequence == 0
            && operation.phase == Phase::Doing
            && operation.began.until(self.here(now)) > self.world.settings.limits.decision_expiry
    }

    /// Whether an operation may make this call now.
    pub(super) fn may_act(
        &self,
        now: Now,
        operation: &Operation,
        kind: &ActionKind,
    ) -> Result<(), Refused> {
        if !kind.mutates() {
            return Ok(());
        }
        let guard = self.guard(now);
        guard.running(&operation.pool)?;
        let Some(settings) = self.settings_of(&operation.pool) else {
            return Err((Reason::Unknown, NO_SETTINGS.to_owned()));
        };
        match operation.brakes() {
            Brakes::None => Ok(()),
            Brakes::Sight => guard.sight_of(settings),
            Brakes::All => {
                guard.sight_of(settings)?;
                let old = operation.old.as_ref();
                guard.calm(&operation.pool, old.map(|machine| &machine.node))
            }
        }
    }

    /// The operation stands where it is, and says why.
    pub(super) fn hold(
        &mut self,
        now: Now,
        operation: &Operation,
        kind: &ActionKind,
        (reason, detail): Refused,
    ) {
        self.stand(now, operation);
        let node = operation.node().cloned();
        let origin = Origin::Operation(operation.id);
        let what = format!("{} of {}", kind.name(), operation.id);
        let key = Refusal::key_of(&operation.pool, node.as_ref(), &origin, &what);
        let told = self.state.refused.get(&key);
        if told.is_some_and(|told| told.covers(reason, None, now.wall)) {
            return;
        }
        self.emit(Record::Refusal {
            refusal: Refusal {
                at: now.wall,
                pool: operation.pool.clone(),
                node,
                what,
                origin,
                reason,
                detail,
                evidence: Evidence::default(),
            },
        });
    }

    /// Nothing holds the operation back any more. Whether it stood until now: its step's time
    /// goes on from where it was.
    pub(super) fn go_on(&mut self, now: Now, operation: &Operation) -> bool {
        if operation.parked.is_none() {
            return false;
        }
        let here = self.here(now);
        self.put(now, remediation::unpark(operation, here));
        true
    }

    /// An operation that waits does so in its time. That stands still in a pause (I39), and after a
    /// start until what came of the step can be seen, and the step asks again by itself.
    pub(super) fn follow_pause(&mut self, now: Now, operation: &Operation) {
        let guard = self.guard(now);
        let settings = self.settings_of(&operation.pool);
        let unseen = settings.is_some_and(|settings| guard.inventory_read(settings).is_err());
        if unseen || guard.running(&operation.pool).is_err() {
            self.stand(now, operation);
        } else if operation.pauses_for(self.here(now)).is_none() {
            self.go_on(now, operation);
        }
    }

    /// A word that came after the decision: a node that an operator protects meanwhile, or takes
    /// into maintenance by itself or with its pool, is let go as long as its VM still is there.
    pub(super) fn forbidden(&self, now: Now, operation: &Operation) -> Option<String> {
        let old = operation.old.as_ref()?;
        if operation.phase != Phase::Doing || operation.committed {
            return None;
        }
        let (node, pool) = (&old.node, &operation.pool);
        if self.guard(now).is_protected(node) {
            return Some(format!("{node} is protected meanwhile"));
        }
        let rests = |target: Target| {
            let end = self.state.maintenance.get(&target);
            end.is_some_and(|end| *end > now.wall)
        };
        let name = if rests(Target::Node(node.clone())) {
            node.as_str()
        } else if rests(Target::Pool(pool.clone())) {
            pool.as_str()
        } else {
            return None;
        };
        Some(format!("{name} is in maintenance meanwhile"))
    }

    /// I2: what let a removal begin is asked again before the pods are evicted and before the VM
    /// is deleted. Between the two lie minutes, in which others may have fallen ill.
    pub(super) fn may_still_go(
        &self,
        now: Now,
        operation: &Operation,
        kind: &ActionKind,
    ) -> Result<(), Refused> {
        let takes = matches!(
            kind,
            ActionKind::Drain { .. } | ActionKind::DeleteServer { .. }
        );
        let (Some(old), Some(settings)) = (&operation.old, self.settings_of(&operation.pool))
        else {
            return Ok(());
        };
        if operation.kind != OperationKind::Remove || operation.committed || !takes {
            return Ok(());
        }
        self.guard(now).spares(&operation.pool, settings, &old.node)
    }

    /// Calls an operation off. False if nothing comes of it: it can only go on to its end, or it
    /// was called off already.
    pub(crate) fn call_off(&mut self, now: Now, operation: &Operation, why: &str) -> bool {
        if operation.cancelled.is_some() {
            return false;
        }
        match remediation::cancel(operation, why) {
            Ok(cancelled) if cancelled != *operation => {
                self.put(now, cancelled);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn stand(&mut self, now: Now, operation: &Operation) {
        if operation.parked.is_none() {
            let here = self.here(now);
            self.put(now, remediation::park(operation, here));
        }
    }

    pub(super) fn here(&self, now: Now) -> Moment {
        Moment {
            epoch: self.state.epoch,
            at: now,
        }
    }
}
