//! Operations at work: each step is taken when it may be.
//!
//! `remediation` says what comes next; this file asks it, journals what it says and puts the
//! action out. What begins an operation is in `drive/begin.rs`, what holds one back in
//! `drive/held.rs`, what its end leads to in `drive/ended.rs`, and what may come after that in
//! `drive/late.rs`.

use crate::action::{Action, ActionKey, ActionResult};
use crate::decision::{Reason, Rung};
use crate::engine::{Answer, Engine};
use crate::journal::Record;
use crate::names::{NodeName, OperationId, PoolName};
use crate::notice::NoticeKind;
use crate::remediation::{self, Context, Ending, Moment, Next, Operation, OperationKind, Phase};
use crate::settings::PoolSettings;
use crate::time::Now;

mod begin;
mod ended;
mod eyes;
mod held;
mod late;
#[cfg(test)]
mod tests;

use eyes::Eyes;

/// Moves of one operation within one step. A course has some twenty; more is a loop.
const MOVES_AT_ONCE: usize = 64;

/// Failed tries of one step after which somebody is told. What is not given up after as many is
/// tried without end: with the pauses some four minutes, longer than a restart of what is called.
const TRIES_TOLD: u32 = 8;

/// Why an operation of a pool that is in neither place can do nothing.
const NO_SETTINGS: &str = "its pool is neither in the configuration nor in the journal: put it \
                           back into the configuration, so that it can be carried to its end";

impl Engine {
    /// Takes every operation as far as it may go now.
    pub(crate) fn drive(&mut self, now: Now) {
        self.follow_late_stops(now);
        let ids: Vec<_> = self.state.operations.keys().copied().collect();
        for id in ids {
            self.drive_one(now, id);
        }
    }

    fn drive_one(&mut self, now: Now, id: OperationId) {
        for _ in 0..MOVES_AT_ONCE {
            let Some(operation) = self.state.operations.get(&id).cloned() else {
                return;
            };
            if let Some(why) = self.forbidden(now, &operation)
                && self.call_off(now, &operation, &why)
            {
                continue;
            }
            let Some(next) = self.next_of(now, &operation) else {
                return;
            };
            match next {
                Next::Wait { .. } => {
                    self.follow_pause(now, &operation);
                    return;
                }
                Next::Move(moved) => self.put(now, *moved),
                Next::End(over, ending) => {
                    self.end(now, *over, &ending);
                    return;
                }
                Next::Act { kind, timeout } => {
                    if self.is_too_old(now, &operation)
                        && self.call_off(now, &operation, "not begun before the decision expired")
                    {
                        continue;
                    }
                    if let Err(why) = self.may_act(now, &operation, &kind) {
                        self.hold(now, &operation, &kind, why);
                        return;
                    }
                    if let Err((_, why)) = self.may_still_go(now, &operation, &kind)
                        && self.call_off(now, &operation, &why)
                    {
                        continue;
                    }
                    if self.go_on(now, &operation) {
                        continue;
                    }
                    let mut expiry = self.world.settings.limits.decision_expiry;
                    if kind.waits() {
                        expiry = expiry.saturating_add(timeout);
                    }
                    let action = Action {
                        key: operation.next_key(),
                        epoch: self.state.epoch,
                        pool: operation.pool.clone(),
                        expires: now.wall.plus(expiry),
                        timeout,
                        kind,
                    };
                    self.emit(Record::Intent {
                        at: now,
                        action: Box::new(action.clone()),
                    });
                    self.out.actions.push(action);
                    return;
                }
            }
        }
    }

    /// What an operation waits for, or what holds it back, for people.
    pub(crate) fn waits_for(&self, now: Now, operation: &Operation) -> String {
        if let Err((_, why)) = self.guard(now).running(&operation.pool) {
            return why;
        }
        match self.next_of(now, operation) {
            Some(Next::Wait { what, .. }) => what.to_owned(),
            Some(Next::Act { kind, .. }) => match self.may_act(now, operation, &kind) {
                Ok(()) => String::new(),
                Err((_, why)) => why,
            },
            Some(Next::Move(_) | Next::End(..)) => String::new(),
            None => NO_SETTINGS.to_owned(),
        }
    }

    fn next_of(&self, now: Now, operation: &Operation) -> Option<Next> {
        let settings = self.settings_of(&operation.pool)?;
        let eyes = Eyes { engine: self };
        Some(remediation::advance(
            operation,
            &eyes,
            &self.context(now, settings),
        ))
    }

    /// The settings of a pool: as configured, else as journaled with its last operation.
    fn settings_of(&self, pool: &PoolName) -> Option<&PoolSettings> {
        let configured = self.world.settings.pools.get(pool);
        configured.or_else(|| self.state.pools.get(pool))
    }

    fn context<'a>(&'a self, now: Now, pool: &'a PoolSettings) -> Context<'a> {
        Context {
            cluster: &self.world.settings.cluster,
            pool,
            limits: &self.world.settings.limits,
            epoch: self.state.epoch,
            now,
            blind: self.guard(now).blind(pool),
        }
    }

    /// Takes in how an action ended.
    pub(crate) fn outcome(&mut self, now: Now, key: ActionKey, result: ActionResult) {
        let Some(operation) = self.state.operations.get(&key.operation) else {
            return;
        };
        // An outcome that was taken in before, or of an action given up for lost at a restart.
        if operation.in_flight != Some(key.sequence) {
            return;
        }
        let Some(settings) = self.settings_of(&operation.pool) else {
            return;
        };
        let context = self.context(now, settings);
        let moved = remediation::outcome(operation, key, &result, &Eyes { engine: self }, &context);
        self.emit(Record::Outcome {
            at: now,
            key,
            result,
        });
        self.put(now, moved);
        self.drive_one(now, key.operation);
    }

    /// Why an operation asks for a human: it can do nothing, or what must not be left behind is
    /// tried without end and has been for a while.
    pub(crate) fn stuck(&self, operation: &Operation) -> Option<String> {
        let id = operation.id;
        if self.settings_of(&operation.pool).is_none() {
            return Some(format!("{id} stands still: {NO_SETTINGS}"));
        }
        if operation.tries < TRIES_TOLD {
            return None;
        }
        let name = operation.node().map(ToString::to_string);
        Some(format!(
            "{id} ({}) stands at {} and is tried on, once a minute: {}",
            name.unwrap_or_default(),
            operation.step,
            operation
                .failure
                .as_deref()
                .unwrap_or("no failure is known")
        ))
    }

    /// After a start: what was in flight at a crash is taken up again.
    pub(crate) fn resume(&mut self, now: Now) {
        let operations: Vec<_> = self.state.operations.values().cloned().collect();
        for operation in operations {
            let Some(settings) = self.settings_of(&operation.pool) else {
                continue;
            };
            let open = self.state.open.keys().copied();
            let open = open.filter(|key| key.operation == operation.id).max();
            let resumed = remediation::resume(&operation, open, &self.context(now, settings));
            if resumed != operation {
                self.put(now, resumed.clone());
            }
            if !self.world.settings.pools.contains_key(&resumed.pool) {
                self.leave_pool(now, &resumed);
            }
        }
    }

    /// The pool was taken out of the configuration with this operation under way: what can be
    /// undone is, and what cannot goes on to its end, with the settings that it was begun with.
    fn leave_pool(&mut self, now: Now, operation: &Operation) {
        let Operation { id, pool, .. } = operation;
        let why = format!("the pool `{pool}` was taken out of the configuration");
        let text = match remediation::cancel(operation, &why) {
            Ok(cancelled) => {
                if cancelled != *operation {
                    self.put(now, cancelled);
                }
                format!("{id}: {why}: what it did is being undone")
            }
            Err(too_late) => format!("{id}: {why}, and {too_late}"),
        };
        self.notice(
            now,
            NoticeKind::OperationEnded,
            true,
            Some(pool.clone()),
            text,
        );
    }

    pub(crate) fn cancel(&mut self, now: Now, id: OperationId, who: &str) -> Answer {
        let unknown = (Reason::Unknown, format!("no operation {id} is under way"));
        let Some(operation) = self.state.operations.get(&id).cloned() else {
            return Answer::Refused(unknown.0, unknown.1);
        };
        match remediation::cancel(&operation, &format!("cancelled by {who}")) {
            Ok(cancelled) => {
                self.put(now, cancelled);
                // Else the next of its kind would begin in a while.
                let kept = (operation.kind == OperationKind::Remove)
                    .then(|| self.keep_size(now, &operation.pool))
                    .flatten();
                self.drive_one(now, id);
                let mut text = format!("{id} is called off; what it did is being undone");
                if let Some(size) = kept {
                    text.push_str(&format!(", and {} keeps {size}", operation.pool));
                }
                Answer::Granted(text)
            }
            Err(too_late) => Answer::Refused(Reason::Conflict, too_late.to_string()),
        }
    }

    /// Journals an operation as it stands now, and what its end leads to if it is over.
    fn put(&mut self, now: Now, operation: Operation) {
        let rung = self.rung_of(&operation);
        match operation.phase.clone() {
            Phase::Over { ending } => self.end(now, operation, &ending),
            Phase::Doing | Phase::Undoing { .. } => self.emit(Record::Operation {
                operation: Box::new(operation),
            }),
        }
        // INVARIANT: a crash may fall between the two records. A rung without its operation would
        // be counted twice; one too few is only tried once more.
        if let Some((node, rung, began)) = rung {
            // On the clock of this run: of an operation that is older, now.
            let at = if began.epoch == self.state.epoch {
                began.at
            } else {
                now
            };
            self.emit(Record::Rung { node, rung, at });
        }
    }

    /// The rung that counts from now on: with the first call that the gate let through, or that a
    /// dry run did not make. One of which nothing was sent, because it expired or was held back,
    /// was not tried.
    fn rung_of(&self, operation: &Operation) -> Option<(NodeName, Rung, Moment)> {
        let OperationKind::Heal(rung) = operation.kind else {
            return None;
        };
        let before = self.state.operations.get(&operation.id)?;
        let dry = matches!(
            operation.phase,
            Phase::Over {
                ending: Ending::Dry
            }
        );
        let begun = !before.sent && (operation.sent || dry);
        let old = operation.old.as_ref().filter(|_| begun)?;
        Some((old.node.clone(), rung, operation.began))
    }
}
