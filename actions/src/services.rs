//! The cloud and the cluster as one executor: the only one that the main loop knows.

use std::sync::Arc;

use async_trait::async_trait;
use rhizome_engine::action::{Action, ActionResult, Failure};
use rhizome_engine::event::Observation;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Executor, Gate, Seen};

/// Routes each action to the service that carries it out, and looks at both.
pub struct Services {
    cloud: Arc<dyn Executor>,
    cluster: Arc<dyn Executor>,
}

impl Services {
    /// Of a cloud and a cluster.
    pub fn new(cloud: Arc<dyn Executor>, cluster: Arc<dyn Executor>) -> Self {
        Self { cloud, cluster }
    }
}

#[async_trait]
impl Executor for Services {
    async fn execute(&self, action: &Action, gate: Arc<dyn Gate>) -> ActionResult {
        let service = if action.kind.is_cloud() {
            &self.cloud
        } else {
            &self.cluster
        };
        let result = service.execute(action, gate).await;
        match &result {
            Ok(done) => {
                tracing::info!(action = action.kind.name(), key = %action.key, ?done, "action done");
            }
            Err(failure) => tracing::warn!(
                action = action.kind.name(),
                key = %action.key,
                kind = ?failure.kind,
                error = %failure,
                "action failed"
            ),
        }
        result
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        let (cloud, cluster) = tokio::join!(self.cloud.observe(), self.cluster.observe());
        let mut seen = cloud?;
        seen.extend(cluster?);
        Ok(seen)
    }

    async fn watch(&self, out: mpsc::Sender<Seen>, stop: CancellationToken) {
        tokio::join!(
            self.cloud.watch(out.clone(), stop.clone()),
            self.cluster.watch(out, stop)
        );
    }
}
