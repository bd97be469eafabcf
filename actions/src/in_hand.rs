//! One action in hand: its gate, its deadline, and whether anything was sent.
//!
//! What a broken-off action leaves behind depends on one fact alone: whether a mutating call
//! had begun. It is kept here, where every pass is asked for.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use rhizome_engine::action::{Action, ActionResult, Failure, FailureKind};
use rhizome_engine::time::{Clock, show_duration};

use crate::{Gate, Pass};

/// An action that is being carried out.
pub(crate) struct InHand<'a> {
    /// What is to be done.
    pub(crate) action: &'a Action,
    gate: &'a dyn Gate,
    open: AtomicBool,
}

impl<'a> InHand<'a> {
    pub(crate) fn new(action: &'a Action, gate: &'a dyn Gate) -> Self {
        Self {
            action,
            gate,
            open: AtomicBool::new(false),
        }
    }

    /// Asks the gate for one mutating call, which must follow at once.
    pub(crate) fn pass(&self, call: &'static str) -> Result<Pass, Failure> {
        let pass = self.gate.pass(self.action, call)?;
        self.open.store(true, Ordering::SeqCst);
        Ok(pass)
    }

    /// Asks the gate whether to go on waiting, with no call to be made just now.
    pub(crate) fn goes_on(&self) -> Result<(), Failure> {
        self.gate.goes_on(self.action)
    }

    /// The other side has answered the call that was let through last.
    pub(crate) fn answered(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Does `work` within the action's time on `clock`.
    ///
    /// When time runs out with a mutating call unanswered, its outcome is unknown.
    pub(crate) async fn within(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = ActionResult>,
    ) -> ActionResult {
        let timeout = self.action.timeout;
        tokio::select! {
            biased;
            result = work => result,
            () = clock.sleep(timeout) => Err(if self.open.load(Ordering::SeqCst) {
                Failure::new(
                    FailureKind::Unknown,
                    format!("`{}` was not answered within {}: it may have happened",
                        self.action.kind.name(), show_duration(timeout)),
                )
            } else {
                Failure::new(
                    FailureKind::TimedOut,
                    format!("`{}` was not finished within {}, and no call of it is open",
                        self.action.kind.name(), show_duration(timeout)),
                )
            }),
        }
    }
}
