//! How an operation moves along the table: what is next, what an outcome leads to, how it is
//! taken up after a restart and how it is called off.

use std::time::Duration;

use super::table::{Course, Row, Step, Undo, Work};
use super::work::{Job, Test, View};
use super::{
    Context, Ending, Machine, Moment, Next, Operation, OperationKind, Pause, Phase, Seen, Sight,
};
use crate::action::{ActionKey, ActionKind, ActionResult, Done, Failure, FailureKind};
use crate::decision::Rung;
use crate::event::Ready;
use crate::names::VmId;

/// The first pause after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(2);

/// The longest of these pauses: what must not be left behind is tried once a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The longest that the other side's own "not before" is heeded.
const AFTER_MAX: Duration = Duration::from_secs(600);

/// Tries of a step before it is given up: with the pauses about four minutes.
const TRIES_MAX: u32 = 8;

/// How often an operation may leave its course for an earlier step before it is given up.
const DETOURS_MAX: u32 = 16;

/// How soon the gate is asked again.
const GATE_PAUSE: Duration = Duration::from_secs(5);

/// How soon a waiting operation is looked at again, if nothing is observed before.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long one call may take. A create was measured to hang for 25 s and then to succeed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

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
/// before anything else, everything else is safe to do again. Taking it up twice is the same
/// as once.
pub fn resume(operation: &Operation, open: Option<ActionKey>, context: &Context<'_>) -> Operation {
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
        operation.step_began = operation.step_began.plus(since.until(here));
    }
    operation
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

    fn lease(&self, _: &crate::names::NodeName) -> Option<crate::time::Now> {
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
    }
    if machine.uid.is_none()
        && let Sight::There(node) = seen.node(&machine.node)
        && node.vm.as_ref() == Some(vm)
        && Some(&node.uid) != former
    {
        machine.uid = Some(node.uid.clone());
    }
}

/// One look at an operation: what is observed, what it is measured by, and its row.
pub(super) struct Turn<'a> {
    pub(super) seen: &'a dyn Seen,
    pub(super) context: &'a Context<'a>,
    row: &'static Row,
}

impl Turn<'_> {
    /// Turned round, if it was called off or came too late to be begun.
    fn recalled(&self, operation: &Operation) -> Option<Operation> {
        if operation.phase != Phase::Doing || operation.committed {
            return None;
        }
        if let Some(why) = &operation.cancelled
            && !is_rebuilt(operation)
            && !self.cannot_tell_what_to_undo(operation)
        {
            return Some(self.undo(operation.clone(), Ending::Cancelled(why.clone())));
        }
        let age = operation.began.until(self.context.here());
        if !operation.sent && age > self.context.limits.decision_expiry {
            // What it was decided on may no longer hold, and nothing is to be undone.
            let ending =
                Ending::Cancelled("the decision expired before it could be begun".to_owned());
            return Some(self.undo(operation.clone(), ending));
        }
        None
    }

    fn next(&self, operation: &Operation) -> Next {
        let view = View {
            operation,
            seen: self.seen,
            context: self.context,
        };
        match self.row.work {
            Work::Watch(what, test) => match test(&view) {
                Test::Yes => self.moved(self.pass(operation.clone())),
                Test::Failed(why) => self.moved(self.give_up(operation.clone(), &why)),
                Test::NotYet => self.wait_in_time(operation, LOOK_AGAIN, what),
            },
            Work::Act(job) => {
                let here = self.context.here();
                if let Some(pause) = operation.pause
                    && !pause.left(here).is_zero()
                {
                    return self.wait_in_time(operation, pause.left(here), "a pause to be over");
                }
                match job(&view) {
                    // A step that never got its call through is late, not tried once more.
                    Job::Do(_)
                        if operation.tries > 0
                            && self.left(operation).is_zero()
                            && !self.waits_in_the_dark(operation) =>
                    {
                        self.late(operation)
                    }
                    Job::Do(kind) => Next::Act {
                        timeout: self.timeout(&kind, operation),
                        kind,
                    },
                    Job::Skip => self.moved(self.skipped(operation.clone())),
                    Job::NotYet(what) => self.wait_in_time(operation, LOOK_AGAIN, what),
                    Job::No(why) => self.moved(self.give_up(operation.clone(), &why)),
                }
            }
        }
    }

    /// How long the action may take.
    fn timeout(&self, kind: &ActionKind, operation: &Operation) -> Duration {
        match kind {
            ActionKind::Drain { .. } | ActionKind::ApproveJoin { .. } => {
                self.left(operation).max(BACKOFF_MIN)
            }
            _ => CALL_TIMEOUT,
        }
    }

    /// How much is left of the step's time.
    fn left(&self, operation: &Operation) -> Duration {
        // Whoever cannot turn round has no deadline, but may be sent back to try once more.
        let binding = !self.is_bound(operation) || matches!(self.row.late, Course::Go(_));
        match self.row.deadline.length(self.context) {
            Some(length) if binding => {
                let here = operation.parked.unwrap_or(self.context.here());
                length.saturating_sub(operation.step_began.until(here))
            }
            _ => Duration::MAX,
        }
    }

    /// Whether there is no way but on: it is undoing, or past the point of no return.
    pub(super) fn is_bound(&self, operation: &Operation) -> bool {
        operation.committed || operation.phase != Phase::Doing
    }

    /// Waits for `length`, or does what is to be done when the step's time is over.
    fn wait_in_time(&self, operation: &Operation, length: Duration, what: &'static str) -> Next {
        let left = self.left(operation);
        if left.is_zero() {
            if self.waits_in_the_dark(operation) || self.cannot_tell_what_to_undo(operation) {
                return wait(length, "sight to return", self.context);
            }
            return self.late(operation);
        }
        wait(length.min(left), what, self.context)
    }

    /// Whether what the step waits for may long be so, and only cannot be seen: giving up would
    /// take away a machine that works (I12).
    fn waits_in_the_dark(&self, operation: &Operation) -> bool {
        let blind = self.context.blind;
        operation.phase == Phase::Doing
            && match operation.step {
                Step::ApproveJoin | Step::WaitJoin => blind.cluster,
                Step::WaitBack | Step::WaitBackHard => blind.cluster || blind.agents,
                _ => false,
            }
    }

    /// Whether its new machine stays or goes cannot be told before its node is looked for: right
    /// after a start nothing has been listed yet.
    fn cannot_tell_what_to_undo(&self, operation: &Operation) -> bool {
        let new = operation.new.as_ref();
        operation.phase == Phase::Doing
            && self.context.pool.kubernetes
            && self.row.undo == Undo::MadeUnlessServing
            && new.is_some_and(|new| matches!(self.seen.node(&new.node), Sight::Unknown))
    }

    fn late(&self, operation: &Operation) -> Next {
        let why = match &operation.failure {
            Some(failure) => format!("step {} took too long: {failure}", operation.step),
            None => format!("step {} took too long", operation.step),
        };
        self.moved(self.react(operation.clone(), self.row.late, None, &why))
    }

    /// To be journaled, or the end.
    fn moved(&self, operation: Operation) -> Next {
        match operation.phase.clone() {
            Phase::Over { ending } => Next::End(Box::new(operation), ending),
            _ => Next::Move(Box::new(operation)),
        }
    }

    /// What a success leads to.
    fn succeeded(&self, mut operation: Operation, done: &Done) -> Operation {
        match (operation.step, done) {
            (Step::CreateServer, Done::Created { vm }) => {
                if let Some(new) = &mut operation.new {
                    new.vm = Some(vm.clone());
                }
                self.pass(operation)
            }
            (Step::CreateServer, _) => {
                // It was made, but which it is has to be looked for.
                operation.doubt = Some(self.context.here());
                self.enter(operation, Step::Search)
            }
            (Step::Search | Step::Tally | Step::UndoServer, Done::Found { servers, complete }) => {
                self.found(operation, servers, *complete)
            }
            (Step::Search | Step::Tally | Step::UndoServer, _) => {
                self.again_without_end(operation, None)
            }
            (Step::DropTwin, _) => self.dropped(operation),
            (Step::DeleteServer, _) => {
                operation.committed = true;
                self.pass(operation)
            }
            (Step::RebuildServer, _) => {
                if let Some(new) = &mut operation.new {
                    new.operation = Some(operation.id);
                }
                self.pass(operation)
            }
            _ => self.pass(operation),
        }
    }

    /// What a failure leads to.
    fn failed(&self, mut operation: Operation, failure: &Failure) -> Operation {
        let unknown = failure.kind == FailureKind::Unknown;
        let unsent = matches!(failure.kind, FailureKind::Gate | FailureKind::NeedsToken);
        operation.sent |= !unsent;
        operation.failure = Some(failure.message.clone());
        match operation.step {
            Step::CreateServer if unknown => operation.doubt = Some(self.context.here()),
            Step::CreateServer => operation.creates = operation.creates.saturating_sub(1),
            Step::DeleteServer if unknown || failure.kind == FailureKind::NotFound => {
                operation.committed = true;
            }
            _ => {}
        }
        let course = self.row.on.to(failure.kind);
        if operation.step == Step::DropTwin && course == Course::Pass {
            return self.dropped(operation);
        }
        let after = match failure.kind {
            FailureKind::Retry { after } => after,
            _ => None,
        };
        self.react(operation, course, after, &failure.message)
    }

    fn react(
        &self,
        mut operation: Operation,
        course: Course,
        after: Option<Duration>,
        why: &str,
    ) -> Operation {
        let bound = self.is_bound(&operation);
        match course {
            Course::Again | Course::Look | Course::GiveUp if bound => {
                self.again_without_end(operation, after)
            }
            Course::Again | Course::Look if operation.tries.saturating_add(1) >= TRIES_MAX => {
                self.give_up(operation, why)
            }
            Course::Again => self.again_without_end(operation, after),
            Course::Look => {
                let settle = self.context.limits.settle;
                self.again_without_end(operation, Some(settle))
            }
            Course::Insist => self.again_without_end(operation, after),
            Course::Park => {
                operation.step_began = self.context.here();
                operation.parked = None;
                self.paused(operation, GATE_PAUSE)
            }
            Course::Pass => self.pass(operation),
            Course::Go(_) if !bound && operation.detours >= DETOURS_MAX => {
                self.give_up(operation, why)
            }
            Course::Go(step) => {
                operation.detours = operation.detours.saturating_add(1);
                self.enter(operation, step)
            }
            Course::GiveUp => self.give_up(operation, why),
            Course::LetGo => {
                operation.committed = false;
                self.give_up(operation, why)
            }
        }
    }

    /// The step once more, after a pause that grows.
    pub(super) fn again_without_end(
        &self,
        mut operation: Operation,
        after: Option<Duration>,
    ) -> Operation {
        let doublings = operation.tries.min(16);
        let backoff = BACKOFF_MIN
            .saturating_mul(1_u32 << doublings)
            .min(BACKOFF_MAX);
        operation.tries = operation.tries.saturating_add(1);
        let length = backoff.max(after.unwrap_or_default().min(AFTER_MAX));
        self.paused(operation, length)
    }

    pub(super) fn paused(&self, mut operation: Operation, length: Duration) -> Operation {
        operation.pause = Some(Pause {
            from: self.context.here(),
            length,
        });
        operation
    }

    /// To the beginning of `step`; over it, if it does not belong to the course.
    pub(super) fn enter(&self, mut operation: Operation, step: Step) -> Operation {
        operation.step = step;
        operation.step_began = self.context.here();
        operation.tries = 0;
        operation.pause = None;
        operation.parked = None;
        operation.none_found = None;
        if step.row().applies.to(&operation, self.context) {
            operation
        } else {
            self.pass(operation)
        }
    }

    /// The step is done: on to the next, or over.
    pub(super) fn pass(&self, mut operation: Operation) -> Operation {
        operation.failure = None;
        match operation.phase.clone() {
            Phase::Doing => match operation.step.after(&operation, self.context) {
                Some(step) => self.enter(operation, step),
                None => self.over(operation, Ending::Done),
            },
            Phase::Undoing { mut rest, ending } => {
                if rest.is_empty() {
                    return self.over(operation, ending);
                }
                let step = rest.remove(0);
                operation.phase = Phase::Undoing { rest, ending };
                self.enter(operation, step)
            }
            Phase::Over { .. } => operation,
        }
    }

    /// The step had nothing to do.
    fn skipped(&self, operation: Operation) -> Operation {
        match operation.step {
            Step::DropTwin => self.dropped(operation),
            _ => self.pass(operation),
        }
    }

    fn over(&self, mut operation: Operation, ending: Ending) -> Operation {
        operation.phase = Phase::Over { ending };
        operation.pause = None;
        operation.parked = None;
        operation
    }

    /// Gives the operation up: a removal is called off, everything else has failed.
    pub(super) fn give_up(&self, operation: Operation, why: &str) -> Operation {
        if self.is_bound(&operation) {
            return self.again_without_end(operation, None);
        }
        let ending = match operation.kind {
            OperationKind::Remove | OperationKind::Sweep(_) => Ending::Cancelled(why.to_owned()),
            OperationKind::Add | OperationKind::Heal(_) => Ending::Failed(why.to_owned()),
        };
        self.undo(operation, ending)
    }

    /// Turns round.
    fn undo(&self, mut operation: Operation, ending: Ending) -> Operation {
        let made: &[Step] = if operation.creates_vm() {
            &[Step::UndoToken, Step::UndoServer, Step::UndoNode]
        } else {
            &[Step::UndoToken]
        };
        let steps: &[Step] = match self.row.undo {
            _ if !operation.sent => &[],
            Undo::Nothing => &[],
            Undo::Cordon => &[Step::Uncordon],
            Undo::MadeUnlessServing if self.may_serve(&operation) => {
                &[Step::UndoToken, Step::Tally]
            }
            Undo::Made | Undo::MadeUnlessServing => made,
        };
        operation.phase = Phase::Undoing {
            rest: steps.to_vec(),
            ending,
        };
        self.pass(operation)
    }

    /// Whether the new node, which has joined, may still serve. Not seen is not gone.
    fn may_serve(&self, operation: &Operation) -> bool {
        match operation.new.as_ref().map(|new| self.seen.node(&new.node)) {
            Some(Sight::There(node)) => node.ready == Ready::True,
            Some(Sight::Unknown) => true,
            Some(Sight::Gone { .. }) | None => false,
        }
    }
}

fn wait(length: Duration, what: &'static str, context: &Context<'_>) -> Next {
    Next::Wait {
        until: context.now.mono.plus(length),
        what,
    }
}
