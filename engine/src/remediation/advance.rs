//! How an operation moves along the table: what is next, what an outcome leads to, how it is
//! taken up after a restart and how it is called off.
//!
//! `turn.rs` looks at one step and its time, `react.rs` says where a success or a failure leads.

use super::table::Step;
use super::turn::{LOOK_AGAIN, Turn, wait};
use super::{
    Context, Ending, Machine, Moment, Next, Operation, OperationKind, Phase, Seen, Sight, Stopped,
};
use crate::action::{ActionKey, ActionResult, Done, Failure, FailureKind};
use crate::decision::Rung;
use crate::names::VmId;

/// Why an operation cannot be called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLate {
    /// Its VM may be deleted already.
    #[error("its VM is being deleted: it can only go on to the end")]
    Deleting,
    /// Its VM is being made anew.
    #[error("its VM is being rebuilt: it can only go on to the end")]
    Rebuilding,
    /// It has ended.
    #[error("it has ended")]
    Over,
}

/// What `operation` does next.
///
/// Asking again without a change of anything gives the same answer.
pub fn advance(operation: &Operation, seen: &dyn Seen, context: &Context<'_>) -> Next {
    if let Phase::Over { ending } = &operation.phase {
        return Next::End(Box::new(operation.clone()), ending.clone());
    }
    if operation.in_flight.is_some() {
        return wait(LOOK_AGAIN, "its action to end", context);
    }
    if let Some(learnt) = learn(operation, seen) {
        return Next::Move(Box::new(learnt));
    }
    let turn = Turn {
        seen,
        context,
        row: operation.step.row(),
    };
    match turn.recalled(operation) {
        Some(turned) => turn.moved(turned),
        None => turn.next(operation),
    }
}

/// Takes in how the action of `key` ended.
///
/// An outcome that is not of the action under way changes nothing.
pub fn outcome(
    operation: &Operation,
    key: ActionKey,
    result: &ActionResult,
    seen: &dyn Seen,
    context: &Context<'_>,
) -> Operation {
    if key.operation != operation.id || operation.in_flight != Some(key.sequence) {
        return operation.clone();
    }
    let mut operation = operation.clone();
    operation.in_flight = None;
    let turn = Turn {
        seen,
        context,
        row: operation.step.row(),
    };
    match result {
        Ok(Done::Dry) => {
            operation.phase = Phase::Over {
                ending: Ending::Dry,
            };
            operation
        }
        Ok(done) => {
            operation.sent = true;
            turn.succeeded(operation, done)
        }
        Err(failure) => turn.failed(operation, failure),
    }
}

/// Takes an operation up after a restart. `open` is its intent that has no outcome.
///
/// What was under way may have happened or not, or may yet happen: a creation is looked for
/// before anything else, everything else is safe to do again. A removal that was decided longer
/// ago than it takes is called off. Taking it up twice is the same as once.
pub fn resume(operation: &Operation, open: Option<ActionKey>, context: &Context<'_>) -> Operation {
    let resumed = take_in_what_was_lost(operation, open, context);
    let limit = context.limits.decision_expiry;
    let limit = limit.saturating_add(context.pool.drain_timeout);
    let old = resumed.began.until(context.here()) > limit;
    if resumed.kind != OperationKind::Remove || resumed.cancelled.is_some() || !old {
        return resumed;
    }
    // INVARIANT (I32): the load that it was decided by may be another.
    cancel(&resumed, "it was decided too long ago").unwrap_or(resumed)
}

fn take_in_what_was_lost(
    operation: &Operation,
    open: Option<ActionKey>,
    context: &Context<'_>,
) -> Operation {
    let mut operation = operation.clone();
    if let Some(key) = open {
        // Journaled, but the crash came before the operation was.
        operation.started(key);
    }
    let Some(sequence) = operation.in_flight else {
        if operation.step == Step::Settle {
            // The wall clock may have been stepped while nobody looked: settle anew.
            operation.step_began = context.here();
            operation.parked = None;
        }
        return operation;
    };
    // Our own end is no failure of the step: it must not be given up for it.
    operation.tries = 0;
    let key = ActionKey {
        operation: operation.id,
        sequence,
    };
    let lost = Failure::new(
        FailureKind::Unknown,
        "the program stopped while this was under way",
    );
    outcome(&operation, key, &Err(lost), &Nothing, context)
}

/// Calls an operation off: at its next step it turns round and undoes what it did.
///
/// # Errors
///
/// Returns [`TooLate`] if it can only go on.
pub fn cancel(operation: &Operation, why: &str) -> Result<Operation, TooLate> {
    match operation.phase {
        Phase::Over { .. } => return Err(TooLate::Over),
        Phase::Undoing { .. } => return Ok(operation.clone()),
        Phase::Doing if operation.committed => return Err(TooLate::Deleting),
        Phase::Doing if is_rebuilt(operation) => return Err(TooLate::Rebuilding),
        Phase::Doing => {}
    }
    Ok(Operation {
        cancelled: Some(why.to_owned()),
        ..operation.clone()
    })
}

/// Holds an operation back from now on: its step's time stands still. What is under way goes on,
/// and its outcome is taken in.
pub fn park(operation: &Operation, here: Moment) -> Operation {
    Operation {
        parked: operation.parked.or(Some(here)),
        ..operation.clone()
    }
}

/// Lets an operation that was held back go on, with as much of its step's time as was left.
pub fn unpark(operation: &Operation, here: Moment) -> Operation {
    let mut operation = operation.clone();
    if let Some(since) = operation.parked.take() {
        // Told in the epoch that runs, whichever the step began in.
        operation.step_began = here.minus(operation.step_began.until(since));
    }
    operation
}

/// Takes up an operation that is over and whose stop has come through only now: the VM is started.
pub(crate) fn take_up(operation: &Operation, here: Moment) -> Operation {
    let ending =
        Ending::Cancelled("its stop came through when it was over, and was undone".to_owned());
    Operation {
        phase: Phase::Undoing {
            rest: Vec::new(),
            ending,
        },
        step: Step::UndoStop,
        step_began: here,
        stopped: Some(Stopped::Off),
        tries: 0,
        pause: None,
        ..operation.clone()
    }
}

/// An operation that is over, and whose stop does not come through any more.
pub(crate) fn forget_stop(operation: &Operation) -> Operation {
    Operation {
        stopped: None,
        ..operation.clone()
    }
}

/// Whether the rebuild was asked for: the mark of the VM is then the operation's own.
pub(super) fn is_rebuilt(operation: &Operation) -> bool {
    operation.kind == OperationKind::Heal(Rung::Rebuild)
        && operation.new.as_ref().and_then(|new| new.operation) == Some(operation.id)
}

/// Nothing is observed right after a start.
struct Nothing;

impl Seen for Nothing {
    fn server(&self, _: &VmId) -> Sight<crate::cluster::Server> {
        Sight::Unknown
    }

    fn node(&self, _: &crate::names::NodeName) -> Sight<crate::cluster::Node> {
        Sight::Unknown
    }

    fn heard(&self, _: &crate::names::NodeName) -> Option<crate::time::Now> {
        None
    }

    fn lease(&self, _: &crate::names::NodeName) -> Option<crate::time::Monotonic> {
        None
    }
}

/// Pins generations that can be seen now and were not known before.
fn learn(operation: &Operation, seen: &dyn Seen) -> Option<Operation> {
    let former = operation.old.as_ref().and_then(|old| old.uid.clone());
    let rebuilds = !operation.creates_vm();
    let mut learnt = operation.clone();
    if let Some(old) = &mut learnt.old {
        learn_machine(old, None, seen);
    }
    if let Some(new) = &mut learnt.new {
        learn_machine(new, former.as_ref(), seen);
        if rebuilds && has_mark(new, operation, seen) {
            new.operation = Some(operation.id);
        }
    }
    (learnt != *operation).then_some(learnt)
}

/// Whether the VM carries the mark of the operation.
fn has_mark(machine: &Machine, operation: &Operation, seen: &dyn Seen) -> bool {
    match machine.vm.as_ref().map(|vm| seen.server(vm)) {
        Some(Sight::There(server)) => server.operation == Some(operation.id),
        _ => false,
    }
}

fn learn_machine(machine: &mut Machine, former: Option<&String>, seen: &dyn Seen) {
    let Some(vm) = &machine.vm else {
        return;
    };
    if machine.created.is_none()
        && let Sight::There(server) = seen.server(vm)
    {
        machine.created = Some(server.created);
        machine.network = machine.network.or(server.network);
    }
    if machine.uid.is_none()
        && let Sight::There(node) = seen.node(&machine.node)
        && node.vm.as_ref() == Some(vm)
        && former.is_none_or(|former| node.uid != **former)
    {
        machine.uid = Some(node.uid.to_string());
    }
}
