//! Kubernetes: the nodes over the VMs.
//!
//! | file | what it does |
//! |---|---|
//! | `client.rs` | one request and its answer, with a time-out and no retry of its own |
//! | `errors.rs` | what an answer means, by what must be done about it |
//! | `nodes.rs` | cordon, label, out of service, delete: each on the node of one uid |
//! | `token.rs` | the bootstrap token of one operation |
//! | `approve.rs` | lets in the one machine that the token was made for |
//! | `request.rs` | whom a request for a certificate is for |
//! | `drain.rs` | evicts pod by pod, honouring budgets and the pods' own wishes |
//! | `pods.rs` | what may be evicted, who waits for room, what is asked for |
//! | `observe.rs` | nodes, leases and pods as the engine knows them |
//! | `watch.rs` | the watches, and a probe that does not believe in their silence |
//! | `examine.rs` | what is not as it has to be: access, clocks, rights |
//! | `config_map.rs` | one ConfigMap: a pause that is left in the cluster |
//! | `quantity.rs` | `250m`, `1.5Gi` |

mod approve;
mod client;
mod config_map;
mod drain;
mod errors;
mod examine;
mod nodes;
mod observe;
mod pods;
mod quantity;
mod request;
mod token;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rhizome_engine::action::{Action, ActionKind, ActionResult, Failure, FailureKind};
use rhizome_engine::event::Observation;
use rhizome_engine::time::Clock;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::in_hand::InHand;
use crate::{Executor, Gate, Seen, SetupError, TokenVault};
use client::Cluster;

pub use config_map::{ConfigMap, Kept};

/// Which cluster, with what right, and how drains treat what they find.
#[derive(Debug, Clone)]
pub struct KubernetesOptions {
    /// How the API server is reached.
    pub access: Access,
    /// Who lets new machines in.
    pub approval: Approval,
    /// Evict pods that no controller will make again. They are lost by it.
    pub evict_unmanaged: bool,
    /// Evict pods that keep data in an `emptyDir`. The data is lost by it.
    pub evict_local_storage: bool,
}

/// Who approves the certificates of machines that join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approval {
    /// We do, each after a look at who asks. Tokens are of a group that may ask and for which
    /// the cluster approves nothing by itself.
    #[default]
    Rhizome,
    /// The cluster does, as kubeadm sets it up: whoever holds a token becomes the node that
    /// it says it is. Tokens are of kubeadm's own group.
    Cluster,
}

/// How the API server is reached.
#[derive(Debug, Clone)]
pub enum Access {
    /// By a kubeconfig file.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context; the file's current one if not said.
        context: Option<String>,
    },
    /// By the service account of the pod that we run in.
    InCluster,
    /// By an address.
    Url {
        /// `https://host:6443`, or `http://` on loopback.
        url: String,
        /// A bearer token.
        token: Option<SecretString>,
        /// The cluster's CA, in PEM.
        ca_file: Option<PathBuf>,
    },
}

/// The executor of Kubernetes.
pub struct Kubernetes {
    cluster: Cluster,
    options: KubernetesOptions,
    clock: Arc<dyn Clock>,
    vault: Arc<TokenVault>,
}

impl Kubernetes {
    /// Sets the client up. Nothing is called before the first action or look.
    ///
    /// # Errors
    ///
    /// Returns [`SetupError`] for a kubeconfig, an address or a CA that cannot be used.
    pub async fn new(
        options: KubernetesOptions,
        clock: Arc<dyn Clock>,
        vault: Arc<TokenVault>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            cluster: Cluster::new(&options.access).await?,
            options,
            clock,
            vault,
        })
    }

    async fn act(&self, hand: &InHand<'_>) -> ActionResult {
        match &hand.action.kind {
            ActionKind::CreateToken { ttl, .. } => self.create_token(hand, *ttl).await,
            ActionKind::ExtendToken { ttl } => self.extend_token(hand, *ttl).await,
            ActionKind::DeleteToken => self.delete_token(hand).await,
            ActionKind::ApproveJoin { node, vm } => self.approve_join(hand, node, vm).await,
            ActionKind::Cordon { node } => self.cordon(hand, node, true).await,
            ActionKind::Uncordon { node } => self.cordon(hand, node, false).await,
            ActionKind::LabelNode { node, labels } => self.label(hand, node, labels).await,
            ActionKind::Drain { node } => self.drain(hand, node).await,
            ActionKind::OutOfService { node } => self.out_of_service(hand, node, true).await,
            ActionKind::InService { node } => self.out_of_service(hand, node, false).await,
            ActionKind::DeleteNode { node } => self.delete_node(hand, node).await,
            other => Err(Failure::new(
                FailureKind::Refused,
                format!("`{}` is not the cluster's to carry out", other.name()),
            )),
        }
    }
}

#[async_trait]
impl Executor for Kubernetes {
    async fn execute(&self, action: &Action, gate: Arc<dyn Gate>) -> ActionResult {
        tracing::info!(action = action.kind.name(), key = %action.key, "acting on kubernetes");
        let hand = InHand::new(action, gate.as_ref());
        // These keep their own deadline: they end between two calls and say what stood in the way.
        if matches!(
            action.kind,
            ActionKind::Drain { .. } | ActionKind::ApproveJoin { .. }
        ) {
            return self.act(&hand).await;
        }
        hand.within(self.clock.as_ref(), self.act(&hand)).await
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        self.look().await
    }

    async fn watch(&self, out: mpsc::Sender<Seen>, stop: CancellationToken) {
        // Dropped wherever it stands, so that a hanging answer does not hold up the end.
        tokio::select! {
            () = self.watch_all(out) => {}
            () = stop.cancelled() => {}
        }
    }
}
