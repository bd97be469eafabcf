//! OpenStack: the servers under the nodes.
//!
//! | file | what it does |
//! |---|---|
//! | `auth.rs` | Keystone: a token, renewed in time; endpoints out of its catalog |
//! | `discovery.rs` | which version of a service is used, where the catalog names none |
//! | `client.rs` | Nova's calls, each with its microversion, its ids and its time-out |
//! | `errors.rs` | what an answer means, by what must be done about it |
//! | `protocol.rs` | what Nova writes and reads |
//! | `clouds.rs` | credentials out of `clouds.yaml`, `secure.yaml` and `OS_*` |
//! | `clouds/files.rs` | where those files are searched for, and how one is laid over the other |
//! | `examine.rs` | what is not as it has to be: access, roles, clocks, quotas |
//! | `examine/quotas.rs` | whether the quotas hold what the pools may come to |
//! | `executor.rs` | actions: look, check that it is ours, pass the gate, call once |
//! | `create.rs` | the create: quotas, ports, and which flavor and zone |
//! | `candidates.rs` | which flavor and zone a pool's next machine is tried with |
//! | `preflight.rs` | the quotas before a create |
//! | `network.rs` | Neutron: the ports and addresses that are made for a server |
//! | `network/look.rs` | what Neutron has, each list read to its end |
//! | `watch.rs` | the poll, and what has gone missing since the last one |
//!
//! Nova has no idempotency token. What keeps a server from being made twice is the operation's
//! mark in its metadata, a look before the create, and that an answer that was lost is
//! reported as `Unknown` and never asked for again from here.

mod auth;
mod candidates;
mod client;
mod clouds;
mod create;
mod discovery;
mod errors;
mod examine;
mod executor;
mod network;
mod preflight;
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
use candidates::Candidates;
use client::Nova;
pub use clouds::{CloudsError, Found, Surroundings, find as find_cloud};

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
        /// The user.
        username: Named,
        /// The domain that the user is in. It does not matter to one who is named by his id.
        user_domain: Named,
        /// The password.
        password: SecretString,
        /// The project.
        project: Named,
        /// The domain that the project is in.
        project_domain: Named,
    },
    /// An application credential, which is bound to its project already.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
}

/// A user, project or domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By its name.
    Name(String),
    /// By its id.
    Id(String),
}

impl From<&str> for Named {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
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
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The image.
    pub image: String,
    /// The flavors, the one to take first; the others where there is no room for it.
    pub flavors: Vec<String>,
    /// The networks, in order; none lets Nova choose (`auto`).
    pub networks: Vec<Network>,
    /// Whether ports are made before the server. They always are for a floating address and for
    /// networks that others may take the place of.
    pub own_ports: bool,
    /// The security groups, by id or by a name that is unique.
    pub security_groups: Vec<String>,
    /// The key pair, by name.
    pub key_name: Option<String>,
    /// The availability zones, the one to take first; none leaves it to Nova.
    pub availability_zones: Vec<String>,
    /// The server group: with the policy anti-affinity, a host for each machine.
    pub server_group: Option<String>,
    /// The network that each machine gets a floating address of.
    pub floating_network: Option<String>,
    /// Metadata beside our own marks.
    pub metadata: BTreeMap<String, String>,
    /// What it is told at its first boot; none for nothing.
    pub user_data: Option<Arc<UserData>>,
}

impl Machine {
    /// Whether its ports are made before it.
    fn wants_ports(&self) -> bool {
        let others = || self.networks.iter().any(|it| !it.fallback.is_empty());
        !self.networks.is_empty() && (self.own_ports || self.floating_network.is_some() || others())
    }
}

/// A network that each machine of a pool is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Those that are taken in its place when it has no address left, in their order.
    pub fallback: Vec<String>,
}

impl Network {
    /// The network and those that may take its place.
    fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.id)
            .chain(&self.fallback)
            .map(String::as_str)
    }

    fn has(&self, id: &str) -> bool {
        self.all().any(|own| own == id)
    }
}

impl From<&str> for Network {
    fn from(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            fallback: Vec::new(),
        }
    }
}

/// The executor of OpenStack.
pub struct Openstack {
    nova: Nova,
    options: OpenstackOptions,
    clock: Arc<dyn Clock>,
    vault: Arc<TokenVault>,
    candidates: Candidates,
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
            candidates: Candidates::default(),
            touched: DashMap::new(),
            nudge: Notify::new(),
        })
    }
}
