//! A dry run: decides and journals, never acts. An executor of its own, not a flag.
//!
//! It looks at the world through the real executors, so that what it would do is decided on
//! what is really there, and it has no way to call anything that changes something.

use std::sync::Arc;

use async_trait::async_trait;
use rhizome_engine::action::{Action, ActionResult, Done, Failure};
use rhizome_engine::event::Observation;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Executor, Gate, Seen};

/// Passes looking through, and answers every mutating action with [`Done::Dry`].
pub struct DryRun {
    inner: Arc<dyn Executor>,
}

impl DryRun {
    /// Looks through `inner`.
    pub fn new(inner: Arc<dyn Executor>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl Executor for DryRun {
    async fn execute(&self, action: &Action, gate: Arc<dyn Gate>) -> ActionResult {
        if action.kind.mutates() {
            tracing::info!(
                action = action.kind.name(),
                key = %action.key,
                pool = %action.pool,
                "dry run: not called"
            );
            return Ok(Done::Dry);
        }
        self.inner.execute(action, gate).await
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        self.inner.observe().await
    }

    async fn watch(&self, out: mpsc::Sender<Seen>, stop: CancellationToken) {
        self.inner.watch(out, stop).await;
    }
}
