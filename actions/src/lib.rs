//! Actions to the world: OpenStack and Kubernetes.
//!
//! An executor carries out what the engine decided, and looks at what really exists. Each
//! mutating call goes through the [`Gate`]: no client method that mutates can be called
//! without the [`Pass`] that only a gate gives.
//!
//! | file | what it does |
//! |---|---|
//! | `services.rs` | routes an action to the cloud or to the cluster |
//! | `dry_run.rs` | looks, and calls nothing that changes anything |
//! | `findings.rs` | what an examination finds, for `rhizome doctor` |
//! | `in_hand.rs` | one action under way: its gate, its deadline, whether anything was sent |
//! | `openstack/` | Keystone and Nova |
//! | `kubernetes/` | tokens, nodes, drains, and the watches |
//! | `user_data.rs` | what a new machine is told at its first boot |
//! | `vault.rs` | the secret halves of join tokens, in memory only |
//! | `query.rs` | a text as a part of an address |
//! | `redact.rs` | takes secrets out of what the other side says |

mod dry_run;
mod findings;
mod in_hand;
pub mod kubernetes;
pub mod openstack;
mod query;
mod redact;
mod services;
mod user_data;
mod vault;

use std::sync::Arc;

use async_trait::async_trait;
use rhizome_engine::action::{Action, ActionResult, Failure};
use rhizome_engine::event::{Observation, SourceReport};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use dry_run::DryRun;
pub use findings::{Finding, Health};
pub use services::Services;
pub use user_data::{
    Facts, JoinOptions, KUBEADM_JOIN, MAX_ENCODED, Taint, TemplateError, UserData,
};
pub use vault::{JoinToken, TokenVault};

/// Makes ring the process's one TLS provider. First line of `main` and of tests that use TLS.
///
/// Without it the first client panics as soon as a second provider is compiled in.
pub fn install_crypto_provider() {
    // An error says that one is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why a client could not be set up from the configuration.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file named in the configuration cannot be read.
    #[error("cannot read `{path}`: check that it exists and that this user may read it")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A value in the configuration cannot be used.
    #[error("{0}")]
    Value(String),
    /// The template of the user data is not sound.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// Carries out actions on one service, and observes it.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Carries out one action. Safe to call again with the same key.
    async fn execute(&self, action: &Action, gate: Arc<dyn Gate>) -> ActionResult;

    /// Looks once at everything there is: after a start the journal is held against it.
    ///
    /// # Errors
    ///
    /// Returns the failure of the listing; nothing is then known, and nothing is gone.
    async fn observe(&self) -> Result<Vec<Observation>, Failure>;

    /// Goes on looking until `stop`, by watch or by poll, and reports how well it sees.
    async fn watch(&self, out: mpsc::Sender<Seen>, stop: CancellationToken);
}

/// What a watch hands over.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Something observed.
    Observation(Observation),
    /// How well the service can be seen.
    Source(SourceReport),
}

/// Stands in front of every mutating call and looks again at the moment of the call: pause,
/// expiry, velocity, journal.
pub trait Gate: Send + Sync {
    /// Lets one mutating call through, or says why not.
    ///
    /// # Errors
    ///
    /// Returns a failure of kind `Gate`: nothing may be sent.
    fn pass(&self, action: &Action, call: &'static str) -> Result<Pass, Failure>;

    /// Says whether an action that waits between its calls, for pods to end or for a machine to
    /// ask, is to go on waiting.
    ///
    /// # Errors
    ///
    /// Returns a failure of kind `Gate`: it was called off, and ends here.
    fn goes_on(&self, _action: &Action) -> Result<(), Failure> {
        Ok(())
    }
}

/// The right to make one mutating call.
///
/// It cannot be made outside this crate but by [`Pass::granted`], which only the gate of the
/// program and the test gates call (`tests/it/architecture.rs` reads the sources for it).
#[derive(Debug)]
#[must_use = "a pass is for the one call that it was asked for"]
pub struct Pass {
    _private: (),
}

impl Pass {
    /// Grants a pass. For implementations of [`Gate`] only.
    pub fn granted() -> Self {
        Self { _private: () }
    }
}
