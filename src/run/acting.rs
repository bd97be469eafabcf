//! From the engine's thread to the executors and back: each action a task, each outcome an input.
//!
//! It comes after the journal: what arrives here has its intent on the disk. The gate is asked
//! inside of the executor, before each call.

use std::sync::Arc;
use std::time::Duration;

use rhizome_actions::Executor;
use rhizome_connectors::{Delivery, Inlet};
use rhizome_engine::action::{Action, Failure, FailureKind};
use rhizome_engine::event::Input;
use rhizome_engine::time::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::gate::ProgramGate;

/// An executor that does not come back within its action's own time-out is given this much
/// more before its outcome counts as unknown.
const ANSWER_MARGIN: Duration = Duration::from_secs(30);

/// Carries actions out.
#[derive(Clone)]
pub struct Acting {
    /// Calls the cloud and the cluster.
    pub executor: Arc<dyn Executor>,
    /// Looks again before each call.
    pub gate: Arc<ProgramGate>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The way back for outcomes.
    pub inlet: Inlet,
    /// Every action under way, for a stop to wait for.
    pub tasks: TaskTracker,
}

/// Each action on a task of its own: one that hangs holds up no other. Their number is bounded
/// by the guard's limit on operations.
pub async fn act(
    acting: Acting,
    mut actions: mpsc::UnboundedReceiver<Action>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            action = actions.recv() => match action {
                Some(action) => {
                    let acting = acting.clone();
                    acting.tasks.clone().spawn(async move { acting.carry_out(action).await });
                }
                None => return,
            },
        }
    }
}

impl Acting {
    async fn carry_out(&self, action: Action) {
        let limit = self.clock.sleep(action.timeout + ANSWER_MARGIN);
        let gate = self.gate.for_action();
        // On a task of its own, so that a panic in an executor costs this one action.
        let executor = Arc::clone(&self.executor);
        let key = action.key;
        let name = action.kind.name();
        let work = tokio::spawn(async move { executor.execute(&action, gate).await });
        let abort = work.abort_handle();
        let result = tokio::select! {
            joined = work => joined.unwrap_or_else(|error| {
                error!(%key, action = name, %error, "an executor panicked");
                Err(Failure::new(FailureKind::Unknown, "the executor panicked"))
            }),
            () = limit => {
                abort.abort();
                Err(Failure::new(FailureKind::Unknown, "no answer came in time"))
            }
        };
        send(&self.inlet, Input::Outcome(key, result)).await;
    }
}

/// Hands over from a task, waiting for room without blocking the runtime.
pub(super) async fn send(inlet: &Inlet, input: Input) {
    let inlet = inlet.clone();
    let sent = tokio::task::spawn_blocking(move || inlet.send(Delivery::new(input))).await;
    if !matches!(sent, Ok(Ok(()))) {
        warn!(
            "the engine has stopped: an input is lost and will be looked for after the next start"
        );
    }
}
