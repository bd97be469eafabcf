//! Where a step leads that was done or failed: on, once more, back, or over.
//!
//! It acts on nothing: an operation in, an operation out. What each failure leads to stands in
//! the table.

use std::time::Duration;

use super::table::{Course, Step, Undo};
use super::turn::Turn;
use super::{Ending, Operation, OperationKind, Pause, Phase, Sight, Stopped};
use crate::action::{Done, Failure, FailureKind};
use crate::event::Ready;

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

/// How soon after a start was accepted it is looked whether the VM runs: it takes a second or two,
/// and the poll comes every ten.
const START_PAUSE: Duration = Duration::from_secs(15);

impl Turn<'_> {
    /// What a success leads to.
    pub(super) fn succeeded(&self, mut operation: Operation, done: &Done) -> Operation {
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
            // Somebody else had stopped it, or an attempt of ours that was not heard of.
            (Step::StopServer, Done::Already) => self.pass(operation),
            (Step::StopServer, _) => {
                operation.stopped = Some(Stopped::Asked);
                self.pass(operation)
            }
            (Step::UndoStop, Done::Already) => self.pass(operation),
            (Step::UndoStop, _) => {
                operation.stopped = Some(Stopped::Off);
                self.again_without_end(operation, Some(START_PAUSE))
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
    pub(super) fn failed(&self, mut operation: Operation, failure: &Failure) -> Operation {
        let unknown = failure.kind == FailureKind::Unknown;
        let unsent = matches!(failure.kind, FailureKind::Gate | FailureKind::NeedsToken);
        operation.sent |= !unsent;
        operation.failure = Some(failure.message.clone());
        if operation.phase == Phase::Doing {
            operation.excused = is_excuse(operation.step, failure.kind);
        }
        match operation.step {
            Step::CreateServer if unknown => operation.doubt = Some(self.context.here()),
            Step::CreateServer => operation.creates = operation.creates.saturating_sub(1),
            Step::DeleteServer if unknown || failure.kind == FailureKind::NotFound => {
                operation.committed = true;
            }
            Step::StopServer if unknown && !found_off(&operation) => {
                operation.stopped = operation.stopped.or(Some(Stopped::Asked));
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

    pub(super) fn react(
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
        operation.restarts = 0;
        operation.none_found = None;
        if step.row().applies.to(&operation, self.context) {
            operation
        } else {
            self.pass(operation)
        }
    }

    /// From a build that takes long to its token.
    pub(super) fn to_its_token(mut operation: Operation) -> Operation {
        // INVARIANT: the time of the build goes on, and stands still with it in a pause.
        operation.builds = Some(operation.step);
        operation.step = Step::ExtendToken;
        operation
    }

    /// Back to the build, whose time went on.
    fn back_to_the_build(&self, mut operation: Operation) -> Operation {
        operation.step = operation.builds.take().unwrap_or(Step::WaitActive);
        // Whether it was extended or not: the next time is a while from now.
        operation.token = Some(self.context.here());
        operation
    }

    /// The step is done: on to the next, or over.
    pub(super) fn pass(&self, mut operation: Operation) -> Operation {
        operation.failure = None;
        match operation.phase.clone() {
            Phase::Doing => {
                operation.excused = false;
                match operation.step {
                    Step::ExtendToken => return self.back_to_the_build(operation),
                    Step::CreateToken => operation.token = Some(self.context.here()),
                    Step::WaitOff => operation.stopped = operation.stopped.map(|_| Stopped::Off),
                    // It runs again, or is another machine by now.
                    Step::StartServer | Step::RebuildServer => operation.stopped = None,
                    _ => {}
                }
                match operation.step.after(&operation, self.context) {
                    Some(step) => self.enter(operation, step),
                    None => self.over(operation, Ending::Done),
                }
            }
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
    pub(super) fn skipped(&self, mut operation: Operation) -> Operation {
        match operation.step {
            Step::DropTwin => self.dropped(operation),
            Step::UndoStop if self.stop_goes_on(&operation) => {
                operation.stopped = Some(Stopped::Late);
                self.pass(operation)
            }
            _ => self.pass(operation),
        }
    }

    /// Whether the cloud is still at work on the stop that was asked for.
    fn stop_goes_on(&self, operation: &Operation) -> bool {
        let vm = operation.old.as_ref().and_then(|old| old.vm.as_ref());
        let server = vm.map(|vm| self.seen.server(vm));
        operation.stopped == Some(Stopped::Asked)
            && matches!(server, Some(Sight::There(server)) if !server.idle)
    }

    fn over(&self, mut operation: Operation, ending: Ending) -> Operation {
        operation.phase = Phase::Over { ending };
        operation.pause = None;
        operation.parked = None;
        operation
    }

    /// Gives the operation up: a removal is called off, everything else has failed.
    pub(super) fn give_up(&self, mut operation: Operation, why: &str) -> Operation {
        if self.is_bound(&operation) {
            return self.again_without_end(operation, None);
        }
        operation.excused |= is_the_clouds(operation.step);
        let ending = match operation.kind {
            OperationKind::Remove | OperationKind::Sweep(_) => Ending::Cancelled(why.to_owned()),
            OperationKind::Add | OperationKind::Heal(_) => Ending::Failed(why.to_owned()),
        };
        self.undo(operation, ending)
    }

    /// Turns round.
    pub(super) fn undo(&self, mut operation: Operation, ending: Ending) -> Operation {
        if unseen(&operation) {
            // That no list shows it says as little as if it had never been heard of.
            operation.doubt.get_or_insert(self.context.here());
        }
        let made: &[Step] = if operation.creates_vm() {
            &[
                Step::UndoToken,
                Step::UndoServer,
                Step::UndoNode,
                Step::UndoPorts,
            ]
        } else {
            &[Step::UndoToken]
        };
        let undone: &[Step] = match self.row.undo {
            _ if !operation.sent => &[],
            Undo::Nothing => &[],
            Undo::Cordon => &[Step::Uncordon],
            Undo::MadeUnlessServing if self.may_serve(&operation) => {
                &[Step::UndoToken, Step::Tally]
            }
            Undo::Made | Undo::MadeUnlessServing => made,
        };
        // First of all, for what comes after lets the old VM run again.
        let first = operation.out_of_service.then_some(Step::InService);
        // INVARIANT: where the new machine stays, the old one stays off: it may hold its volumes.
        let keeps_new = operation.creates > 0 && !undone.contains(&Step::UndoServer);
        let last = (operation.stopped.is_some() && !keeps_new).then_some(Step::UndoStop);
        let steps = first.into_iter().chain(undone.iter().copied()).chain(last);
        operation.phase = Phase::Undoing {
            rest: steps.collect(),
            ending,
        };
        self.pass(operation)
    }

    /// Whether the new node, which has joined, may still serve. Not seen is not gone; one of its name
    /// that runs on another VM says nothing for ours.
    fn may_serve(&self, operation: &Operation) -> bool {
        let Some(new) = &operation.new else {
            return false;
        };
        match self.seen.node(&new.node) {
            Sight::There(node) => {
                let ours = node.vm.is_none() || node.vm == new.vm;
                node.ready == Ready::True && ours
            }
            Sight::Unknown => true,
            Sight::Gone { .. } => false,
        }
    }
}

/// Whether it has made a VM that no list has shown yet.
fn unseen(operation: &Operation) -> bool {
    let new = operation.new.as_ref().filter(|_| operation.creates_vm());
    new.is_some_and(|new| new.vm.is_some() && new.created.is_none())
}

/// Whether somebody had stopped the old VM before it was decided on.
fn found_off(operation: &Operation) -> bool {
    operation.old.as_ref().is_some_and(|old| old.off)
}

/// Whether a failure of the step's call is the cloud's or the cluster's own: no room, or no good
/// answer. What is refused will be so again; and a machine that does not ask to join, or a drain
/// that does not end, was looked at well enough.
fn is_excuse(step: Step, kind: FailureKind) -> bool {
    match kind {
        FailureKind::Retry { .. } | FailureKind::Unknown | FailureKind::NoCapacity => true,
        FailureKind::TimedOut => !matches!(step, Step::ApproveJoin | Step::Drain),
        _ => false,
    }
}

/// Whether it is the cloud that lets one wait at this step: no host for a VM, or none that stops it.
fn is_the_clouds(step: Step) -> bool {
    matches!(
        step,
        Step::WaitOff | Step::Settle | Step::Search | Step::StartRebuilt | Step::WaitActive
    )
}
