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
    accepted: AtomicBool,
}

impl<'a> InHand<'a> {
    pub(crate) fn new(action: &'a Action, gate: &'a dyn Gate) -> Self {
        Self {
            action,
            gate,
            open: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
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

    /// The other side has accepted that call: what it asked for happens.
    pub(crate) fn accepted(&self) {
        self.accepted.store(true, Ordering::SeqCst);
    }

    /// Whether what the action is about may have happened to a server already: a call is open,
    /// or the one that such an action consists of was accepted.
    fn may_have_happened(&self) -> bool {
        let kind = &self.action.kind;
        let is_one_call = kind.is_cloud() && kind.destroys();
        self.open.load(Ordering::SeqCst) || (is_one_call && self.accepted.load(Ordering::SeqCst))
    }

    /// Does `work` within the action's time on `clock`.
    ///
    /// When time runs out with a mutating call unanswered, or after the one that mattered, its
    /// outcome is unknown: whoever is told so looks.
    pub(crate) async fn within(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = ActionResult>,
    ) -> ActionResult {
        let timeout = self.action.timeout;
        tokio::select! {
            biased;
            result = work => result,
            () = clock.sleep(timeout) => Err(if self.may_have_happened() {
                Failure::new(
                    FailureKind::Unknown,
                    format!("`{}` was not finished within {}: it may have happened",
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use rhizome_engine::action::{ActionKey, ActionKind, NodeRef, VmRef};
    use rhizome_engine::names::OperationId;
    use rhizome_engine::time::{Now, Timestamp};

    use super::*;

    struct Open;

    impl Gate for Open {
        fn pass(&self, _: &Action, _: &'static str) -> Result<Pass, Failure> {
            Ok(Pass { _private: () })
        }
    }

    /// A clock on which all time passes at once.
    struct Over;

    impl Clock for Over {
        fn now(&self) -> Now {
            Now::default()
        }

        fn sleep(&self, _: Duration) -> futures::future::BoxFuture<'static, ()> {
            futures::future::ready(()).boxed()
        }
    }

    fn delete() -> ActionKind {
        ActionKind::DeleteServer {
            vm: VmRef {
                id: "vm-1".into(),
                created: Timestamp(0),
                operation: None,
            },
        }
    }

    fn drain() -> ActionKind {
        ActionKind::Drain {
            node: NodeRef {
                name: "w-1".into(),
                uid: "uid-1".to_owned(),
            },
        }
    }

    /// What is told when time runs out after `calls` on the way.
    async fn told(kind: ActionKind, calls: impl Fn(&InHand<'_>)) -> FailureKind {
        let action = Action {
            key: ActionKey {
                operation: OperationId {
                    journal: 1,
                    number: 1,
                },
                sequence: 0,
            },
            epoch: 1,
            pool: "workers".into(),
            expires: Timestamp(i64::MAX),
            timeout: Duration::from_secs(60),
            kind,
        };
        let hand = InHand::new(&action, &Open);
        let work = async {
            calls(&hand);
            std::future::pending().await
        };
        hand.within(&Over, work).await.unwrap_err().kind
    }

    #[tokio::test]
    async fn time_that_runs_out_after_a_deletion_was_let_through_says_that_it_may_have_happened() {
        let sent = |hand: &InHand<'_>| drop(hand.pass("delete").unwrap());
        let accepted = |hand: &InHand<'_>| {
            sent(hand);
            hand.answered();
            hand.accepted();
        };
        let refused = |hand: &InHand<'_>| {
            sent(hand);
            hand.answered();
        };
        assert_eq!(told(delete(), |_| ()).await, FailureKind::TimedOut);
        assert_eq!(told(delete(), sent).await, FailureKind::Unknown);
        assert_eq!(told(delete(), accepted).await, FailureKind::Unknown);
        assert_eq!(told(delete(), refused).await, FailureKind::TimedOut);
        // A drain is of many calls: between two of them nothing is in doubt.
        assert_eq!(told(drain(), accepted).await, FailureKind::TimedOut);
    }
}
