//! The cloud and the cluster behind one executor.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rhizome_actions::{Executor, Gate, Seen, Services};
use rhizome_engine::action::{Action, ActionKind, ActionResult, Done, Failure, FailureKind};
use rhizome_engine::event::Observation;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{TestGate, action};

/// Remembers what it was asked, and can see nothing if it is blind.
#[derive(Default)]
struct Service {
    blind: bool,
    asked: Mutex<Vec<&'static str>>,
}

#[async_trait]
impl Executor for Service {
    async fn execute(&self, action: &Action, _: Arc<dyn Gate>) -> ActionResult {
        self.asked.lock().unwrap().push(action.kind.name());
        Ok(Done::Accepted)
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        if self.blind {
            return Err(Failure::new(FailureKind::Retry { after: None }, "blind"));
        }
        Ok(vec![Observation::ServerGone("a".into())])
    }

    async fn watch(&self, _: mpsc::Sender<Seen>, stop: CancellationToken) {
        stop.cancelled().await;
    }
}

#[tokio::test]
async fn each_action_goes_to_the_service_that_carries_it_out() {
    let (cloud, cluster) = (Arc::new(Service::default()), Arc::new(Service::default()));
    let services = Services::new(cloud.clone(), cluster.clone());
    for kind in [ActionKind::FindServer, ActionKind::DeleteToken] {
        let done = services.execute(&action(kind), TestGate::open()).await;
        assert_eq!(done, Ok(Done::Accepted));
    }
    assert_eq!(*cloud.asked.lock().unwrap(), ["find_server"]);
    assert_eq!(*cluster.asked.lock().unwrap(), ["delete_token"]);
}

#[tokio::test]
async fn a_look_is_whole_or_it_is_none() {
    let seeing = Arc::new(Service::default());
    let blind = Arc::new(Service {
        blind: true,
        ..Service::default()
    });
    let both = Services::new(seeing.clone(), seeing.clone());
    assert_eq!(both.observe().await.unwrap().len(), 2);
    assert!(
        Services::new(seeing.clone(), blind.clone())
            .observe()
            .await
            .is_err()
    );
    assert!(Services::new(blind, seeing).observe().await.is_err());
}
