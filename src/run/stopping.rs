//! The end of a run: in order, and in time whatever hangs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Program;

/// How long a stop may take in all. Kubernetes kills a pod 30 s after it has asked it to end,
/// and the process has to have gone by itself before.
const STOP_DEADLINE: Duration = Duration::from_secs(25);

/// Of that, how long Kafka may take to let go and actions under way to end. What has not ended
/// by then is taken up after the next start. The rest is for the journal, the windows and the
/// last notifications, which take ten seconds at most.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);

impl Program {
    /// Stops: no new input and no new call, what is under way may end within a deadline, and
    /// everything that came of it is journaled. Whatever hangs, it returns in time.
    pub async fn stop(self) {
        info!("stopping");
        self.inputs.close();
        self.gate.stop();
        self.stop_engine.draining.store(true, Ordering::Release);
        self.stop.cancel();
        if timeout(STOP_DEADLINE, self.wind_down()).await.is_err() {
            warn!("not everything has ended in time: the next start goes on from the journal");
        }
    }

    async fn wind_down(self) {
        self.actions.close();
        let drained = async {
            self.inputs.stop().await;
            self.actions.wait().await;
        };
        if timeout(DRAIN_DEADLINE, drained).await.is_err() {
            warn!("actions or Kafka are still under way: they are taken up after the next start");
        }
        self.stop_engine.now.store(true, Ordering::Release);
        let engine = self.engine;
        if tokio::task::spawn_blocking(move || engine.join())
            .await
            .is_ok_and(|joined| joined.is_err())
        {
            error!("the engine's thread had panicked");
        }
        // The last notices are told once nobody can send another.
        self.tasks.close();
        self.tasks.wait().await;
    }
}
