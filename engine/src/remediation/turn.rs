//! One look at an operation: its step, the time of it, and what is next.
//!
//! It changes nothing; where a step that is done or failed leads is `react.rs`'s.

use std::time::Duration;

use super::advance::is_rebuilt;
use super::table::{Course, Row, Step, Undo, Work};
use super::work::{self, Job, Test, View};
use super::{Context, Ending, Next, Operation, Phase, Seen, Sight};
use crate::action::ActionKind;

/// How soon a waiting operation is looked at again, if nothing is observed before.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long one call may take. A create was measured to hang for 25 s and then to succeed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The least that an action which waits is given: it looks once.
const WAIT_MIN: Duration = Duration::from_secs(2);

/// One look at an operation: what is observed, what it is measured by, and its row.
pub(super) struct Turn<'a> {
    pub(super) seen: &'a dyn Seen,
    pub(super) context: &'a Context<'a>,
    pub(super) row: &'static Row,
}

impl Turn<'_> {
    /// Turned round, if it was called off or came too late to be begun.
    pub(super) fn recalled(&self, operation: &Operation) -> Option<Operation> {
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

    pub(super) fn next(&self, operation: &Operation) -> Next {
        let view = View {
            operation,
            seen: self.seen,
            context: self.context,
        };
        // One attempt at a time: what is tried once more keeps its count and its pause.
        let free = operation.tries == 0 && operation.phase == Phase::Doing;
        if free && work::should_extend(&view) && !self.left(operation).is_zero() {
            return self.moved(Self::to_its_token(operation.clone()));
        }
        match self.row.work {
            Work::Watch(what, test) => match test(&view) {
                Test::Yes => self.moved(self.pass(operation.clone())),
                Test::Failed(why) => self.moved(self.give_up(operation.clone(), &why)),
                Test::NotYet => self.wait_in_time(operation, LOOK_AGAIN, what, None),
                Test::Stuck(why) => self.wait_in_time(operation, LOOK_AGAIN, what, Some(why)),
            },
            Work::Act(job) => {
                let here = self.context.here();
                if let Some(left) = operation.pauses_for(here) {
                    return self.wait_in_time(operation, left, "a pause to be over", None);
                }
                match job(&view) {
                    // A step that never got its call through is late, not tried once more.
                    Job::Do(_)
                        if operation.tries > 0
                            && self.left(operation).is_zero()
                            && !self.waits_in_the_dark(operation) =>
                    {
                        self.late(operation, None)
                    }
                    Job::Do(kind) => Next::Act {
                        timeout: self.timeout(&kind, operation),
                        kind,
                    },
                    Job::Skip => self.moved(self.skipped(operation.clone())),
                    Job::NotYet(what) => self.wait_in_time(operation, LOOK_AGAIN, what, None),
                    Job::No(why) => self.moved(self.give_up(operation.clone(), &why)),
                }
            }
        }
    }

    /// How long the action may take.
    fn timeout(&self, kind: &ActionKind, operation: &Operation) -> Duration {
        match kind {
            ActionKind::Drain { .. } | ActionKind::ApproveJoin { .. } => {
                self.left(operation).max(WAIT_MIN)
            }
            _ => CALL_TIMEOUT,
        }
    }

    /// How much is left of the step's time.
    fn left(&self, operation: &Operation) -> Duration {
        // Whoever cannot turn round has no deadline, but may be sent back to try once more, or on.
        let elsewhere = matches!(self.row.late, Course::Go(_) | Course::Pass);
        let binding = !self.is_bound(operation) || elsewhere;
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

    /// Waits for `length`, or does what is to be done when the step's time is over; `stuck` is
    /// what that is then called.
    fn wait_in_time(
        &self,
        operation: &Operation,
        length: Duration,
        what: &'static str,
        stuck: Option<String>,
    ) -> Next {
        let left = self.left(operation);
        if left.is_zero() {
            if self.waits_in_the_dark(operation) || self.cannot_tell_what_to_undo(operation) {
                return wait(length, "sight to return", self.context);
            }
            return self.late(operation, stuck);
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

    fn late(&self, operation: &Operation, stuck: Option<String>) -> Next {
        let why = match (stuck, &operation.failure) {
            (Some(why), _) => why,
            (None, Some(failure)) => format!("step {} took too long: {failure}", operation.step),
            (None, None) => format!("step {} took too long", operation.step),
        };
        self.moved(self.react(operation.clone(), self.row.late, None, &why))
    }

    /// To be journaled, or the end.
    pub(super) fn moved(&self, operation: Operation) -> Next {
        match operation.phase.clone() {
            Phase::Over { ending } => Next::End(Box::new(operation), ending),
            _ => Next::Move(Box::new(operation)),
        }
    }
}

pub(super) fn wait(length: Duration, what: &'static str, context: &Context<'_>) -> Next {
    Next::Wait {
        until: context.now.mono.plus(length),
        what,
    }
}
