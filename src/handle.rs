//! How the rest of the program talks to the engine's thread: questions, and operators' wishes.
//!
//! The engine lives on one thread and is never locked. A call is put into a bounded queue, the
//! thread answers once what it did is on the disk, and whoever called waits on a one-shot channel.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rhizome_connectors::{Delivery, Inlet};
use rhizome_engine::event::{Input, OperatorRequest, Target};
use rhizome_engine::overview::Overview;
use rhizome_engine::status::{Status, Why};
use rhizome_engine::{Answer, Counters};
use tokio::sync::oneshot;

/// Calls that may wait for the engine. Operators are few; more are told to come again.
pub(crate) const CALLS_WAITING: usize = 64;

/// One call.
#[derive(Debug)]
pub enum Call {
    /// Everything at a glance.
    Status(oneshot::Sender<Box<Status>>),
    /// The engine in numbers.
    Overview(oneshot::Sender<Overview>),
    /// Why a node or pool is treated as it is.
    Why(Target, oneshot::Sender<Option<Why>>),
    /// An operator's wish.
    Operator(OperatorRequest, oneshot::Sender<Answer>),
    /// The engine's counters.
    Counters(oneshot::Sender<Counters>),
}

/// Puts calls to the engine. Clones share it.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    calls: SyncSender<Call>,
    inlet: Inlet,
}

/// The engine's end of the calls.
pub type Calls = std::sync::mpsc::Receiver<Call>;

/// Why a call was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Too many wait already.
    #[error("the engine is busy: try again")]
    Busy,
    /// It has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// A handle and the end for the engine's thread. `inlet` wakes it.
pub fn handle(inlet: Inlet) -> (EngineHandle, Calls) {
    let (calls, received) = sync_channel(CALLS_WAITING);
    (EngineHandle { calls, inlet }, received)
}

impl EngineHandle {
    /// Everything at a glance.
    ///
    /// # Errors
    ///
    /// Returns [`CallError`] if the engine does not answer.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.call(Call::Status).await.map(|status| *status)
    }

    /// The engine in numbers: what is asked for now and again, in a large fleet too.
    ///
    /// # Errors
    ///
    /// As [`EngineHandle::status`].
    pub async fn overview(&self) -> Result<Overview, CallError> {
        self.call(Call::Overview).await
    }

    /// Why a node or pool is treated as it is; `None` if there is no such thing.
    ///
    /// # Errors
    ///
    /// As [`EngineHandle::status`].
    pub async fn why(&self, target: Target) -> Result<Option<Why>, CallError> {
        self.call(|reply| Call::Why(target, reply)).await
    }

    /// Hands in an operator's wish and waits for its answer.
    ///
    /// # Errors
    ///
    /// As [`EngineHandle::status`]; whether the wish was taken is then not known, and the same
    /// request, with its key, can be sent again.
    pub async fn wish(&self, request: OperatorRequest) -> Result<Answer, CallError> {
        self.call(|reply| Call::Operator(request, reply)).await
    }

    /// The engine's counters.
    ///
    /// # Errors
    ///
    /// As [`EngineHandle::status`].
    pub async fn counters(&self) -> Result<Counters, CallError> {
        self.call(Call::Counters).await
    }

    async fn call<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.calls
            .try_send(make(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => CallError::Busy,
                TrySendError::Disconnected(_) => CallError::Stopped,
            })?;
        // Wakes the thread if it waits for input. A full queue of input wakes it as well.
        let _ = self.inlet.try_send(Delivery::new(Input::Tick));
        answer.await.map_err(|_| CallError::Stopped)
    }
}
