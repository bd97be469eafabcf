//! OpenStack: the servers under the nodes.
//!
//! | file | what it does |
//! |---|---|
//! | `auth.rs` | Keystone: a token, renewed in time; endpoints out of its catalog |
//! | `client.rs` | Nova's calls, each with its microversion, its ids and its time-out |
//! | `errors.rs` | what an answer means, by what must be done about it |
//! | `protocol.rs` | what Nova writes and reads |
//! | `executor.rs` | actions: look, check that it is ours, pass the gate, call once |
//! | `watch.rs` | the poll, and what has gone missing since the last one |
//!
//! Nova has no idempotency token. What keeps a server from being made twice is the operation's
//! mark in its metadata, a look before the create, and that an answer that was lost is
//! reported as `Unknown` and never asked for again from here.

mod auth;
mod client;
mod errors;
mod executor;
mod protocol;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use rhizome_engine::names::{PoolName, VmId};
use rhizome_engine::time::Clock;
use secrecy::SecretString;
use tokio::sync::Notify;

use crate::{SetupError, TokenVault, UserData};
use client::Nova;

/// Which cloud, with what right, and what machines.
#[derive(Debug, Clone)]
pub struct OpenstackOptions {
    /// Keystone's address, with or without `/v3`.
    pub auth_url: String,
    /// Who we are.
    pub credentials: Credentials,
    /// The region whose endpoints are used; may be left out where there is one.
    pub region: Option<String>,
    /// Which of the catalog's endpoints are used.
    pub interface: Interface,
    /// A CA to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The cluster's name: servers with another in their mark are not ours.
    pub cluster: String,
    /// How often the servers are listed.
    pub poll: Duration,
    /// What the machines of each pool are made of.
    pub machines: BTreeMap<PoolName, Machine>,
}

/// How we show who we are to Keystone.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user's password, for one project.
    Password {
        /// The user's name.
        username: String,
        /// The domain that the user is in, by name.
        user_domain: String,
        /// The password.
        password: SecretString,
        /// The project, by name.
        project: String,
        /// The domain that the project is in, by name.
        project_domain: String,
    },
    /// An application credential, which is bound to its project already.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
}

/// Which of a service's endpoints is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interface {
    /// The one for everybody (the default of openstacksdk).
    #[default]
    Public,
    /// The one inside the cloud.
    Internal,
    /// The one for its operators.
    Admin,
}

impl Interface {
    fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// What a pool's machines are made of. Ids, not names: names need not be unique.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The image.
    pub image: String,
    /// The flavor.
    pub flavor: String,
    /// The networks, in order; none lets Nova choose (`auto`).
    pub networks: Vec<String>,
    /// The security groups.
    pub security_groups: Vec<String>,
    /// The key pair, by name.
    pub key_name: Option<String>,
    /// The availability zone.
    pub availability_zone: Option<String>,
    /// What it is told at its first boot; none for nothing.
    pub user_data: Option<Arc<UserData>>,
}

/// The executor of OpenStack.
pub struct Openstack {
    nova: Nova,
    options: OpenstackOptions,
    clock: Arc<dyn Clock>,
    vault: Arc<TokenVault>,
    /// Servers to be asked for by id at the next poll, because something was done to them and
    /// an absence in a list is no proof that they are gone.
    touched: DashMap<VmId, ()>,
    /// Rung when something was done, so that the poll looks at once.
    nudge: Notify,
}

impl Openstack {
    /// Sets the client up. Nothing is called before the first action or look.
    ///
    /// # Errors
    ///
    /// Returns [`SetupError`] for a CA file that cannot be read, or an address that is none.
    pub fn new(
        options: OpenstackOptions,
        clock: Arc<dyn Clock>,
        vault: Arc<TokenVault>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            nova: Nova::new(&options, Arc::clone(&clock))?,
            options,
            clock,
            vault,
            touched: DashMap::new(),
            nudge: Notify::new(),
        })
    }
}
