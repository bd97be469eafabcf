//! Cloud and cluster from the configuration: the executors, and the webhook's address.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rhizome_actions::kubernetes::{Access, Approval, ConfigMap, Kubernetes, KubernetesOptions};
use rhizome_actions::openstack::{
    CloudsError, Credentials, Found, Interface as Endpoint, Machine, Named, Network, Openstack,
    OpenstackOptions, Surroundings, find_cloud,
};
use rhizome_actions::{
    DryRun, Executor, Gate, JoinOptions, KUBEADM_JOIN, Seen, Services, SetupError, TokenVault,
    UserData,
};
use rhizome_engine::action::{Action, ActionResult, Failure, FailureKind};
use rhizome_engine::event::Observation;
use rhizome_engine::names::PoolName;
use rhizome_engine::time::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Approve, Interface, Loaded, PoolConfig, Secret, SecretError};
use crate::notify::Webhook;

/// Why cloud or cluster cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A client cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A template cannot be read.
    #[error("the user data of the pool `{pool}` cannot be read from `{}`", path.display())]
    Template {
        /// The pool.
        pool: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing to sign in with was found.
    #[error(transparent)]
    Clouds(#[from] CloudsError),
    /// Neither way to sign in is configured.
    #[error("`openstack` needs `application_credential` or `password`")]
    NoCredentials,
}

/// The one executor that the program acts and looks by.
pub(super) async fn executor(
    loaded: &Loaded,
    dry_run: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Executor>, ServicesError> {
    let vault = Arc::new(TokenVault::new());
    let (options, source) = openstack(loaded)?;
    tracing::info!(source, "credentials for openstack found");
    let cloud = Openstack::new(options, Arc::clone(clock), Arc::clone(&vault))?;
    let cluster: Arc<dyn Executor> = match kubernetes(loaded) {
        Some(options) => {
            Arc::new(Kubernetes::new(options, Arc::clone(clock), Arc::clone(&vault)).await?)
        }
        None => Arc::new(NoCluster),
    };
    let services: Arc<dyn Executor> = Arc::new(Services::new(Arc::new(cloud), cluster));
    Ok(if dry_run {
        Arc::new(DryRun::new(services))
    } else {
        services
    })
}

/// Where notifications go, if anywhere.
pub(super) fn webhook(loaded: &Loaded) -> Result<Option<Webhook>, ServicesError> {
    let Some(config) = &loaded.config.notifications else {
        return Ok(None);
    };
    let token = match &config.token {
        Some(token) => Some(token.read(&loaded.folder)?),
        None => None,
    };
    Ok(Some(Webhook {
        url: config.webhook.read(&loaded.folder)?,
        token,
    }))
}

/// Where the cloud is and who we are there, by the configuration or as openstacksdk finds it.
fn access(loaded: &Loaded) -> Result<Found, ServicesError> {
    let config = &loaded.config.openstack;
    let Some(auth_url) = &config.auth_url else {
        let (cloud, region) = (config.cloud.as_deref(), config.region.as_deref());
        return Ok(find_cloud(cloud, region, &Surroundings::here())?);
    };
    let (credentials, secret) = if let Some(credential) = &config.application_credential {
        let found = Credentials::ApplicationCredential {
            id: credential.id.clone(),
            secret: credential.secret.read(&loaded.folder)?,
        };
        (found, &credential.secret)
    } else if let Some(password) = &config.password {
        let found = Credentials::Password {
            username: Named::Name(password.user.clone()),
            user_domain: Named::Name(password.user_domain.clone()),
            password: password.password.read(&loaded.folder)?,
            project: Named::Name(password.project.clone()),
            project_domain: Named::Name(password.project_domain.clone()),
        };
        (found, &password.password)
    } else {
        return Err(ServicesError::NoCredentials);
    };
    Ok(Found {
        source: match secret {
            Secret::File(path) => {
                format!(
                    "the configuration, the secret from the file `{}`",
                    path.display()
                )
            }
            Secret::Env(name) => {
                format!("the configuration, the secret from the variable `{name}`")
            }
        },
        auth_url: auth_url.0.clone(),
        credentials,
        region: None,
        interface: match config.interface {
            Interface::Public => Endpoint::Public,
            Interface::Internal => Endpoint::Internal,
            Interface::Admin => Endpoint::Admin,
        },
        ca: None,
    })
}

/// What the client of the cloud is set up with, and where its credentials come from.
pub(crate) fn openstack(loaded: &Loaded) -> Result<(OpenstackOptions, String), ServicesError> {
    let config = &loaded.config.openstack;
    let access = access(loaded)?;
    let mut machines = std::collections::BTreeMap::new();
    for (name, pool) in &loaded.config.pools {
        machines.insert(PoolName::new(name), machine(loaded, name, pool)?);
    }
    let options = OpenstackOptions {
        auth_url: access.auth_url,
        credentials: access.credentials,
        // What the configuration says goes before what a cloud's file says.
        region: config.region.clone().or(access.region),
        interface: access.interface,
        ca_file: match &config.ca {
            Some(path) => Some(loaded.folder.join(path)),
            None => access.ca,
        },
        cluster: loaded.config.cluster.clone(),
        poll: config.poll.0,
        machines,
    };
    Ok((options, access.source))
}

fn machine(loaded: &Loaded, name: &str, pool: &PoolConfig) -> Result<Machine, ServicesError> {
    let mut join = loaded
        .config
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.join.as_ref())
        .map(|join| JoinOptions {
            endpoint: join.endpoint.clone(),
            ca_cert_hashes: join.ca_cert_hashes.clone(),
            ..JoinOptions::default()
        })
        .unwrap_or_default();
    // They are the pool's, so a template has them without a `join` too. The configuration was
    // checked: what is no taint is not there.
    let taints = pool.taints.iter().filter_map(|taint| taint.parse().ok());
    join.taints = taints.collect();
    let template = match &pool.user_data {
        Some(path) => {
            let path = loaded.folder.join(path);
            let text =
                std::fs::read_to_string(&path).map_err(|source| ServicesError::Template {
                    pool: name.to_owned(),
                    path,
                    source,
                })?;
            Some(text)
        }
        None => pool.kubernetes.then(|| KUBEADM_JOIN.to_owned()),
    };
    let user_data = match template {
        Some(template) => {
            let user_data =
                UserData::new(template, join, pool.kubernetes).map_err(SetupError::from)?;
            Some(Arc::new(user_data))
        }
        None => None,
    };
    Ok(Machine {
        image: pool.image.clone(),
        flavors: first_and(Some(&pool.flavor), &pool.fallback_flavors),
        networks: networks(pool),
        own_ports: pool.own_ports,
        security_groups: pool.security_groups.clone(),
        key_name: pool.key_name.clone(),
        availability_zones: first_and(pool.availability_zone.as_ref(), &pool.fallback_zones),
        server_group: pool.server_group.clone(),
        floating_network: pool.floating_network.clone(),
        metadata: pool.metadata.clone(),
        user_data,
    })
}

fn first_and(first: Option<&String>, others: &[String]) -> Vec<String> {
    first.into_iter().chain(others).cloned().collect()
}

fn networks(pool: &PoolConfig) -> Vec<Network> {
    let network = |id: &String| Network {
        id: id.clone(),
        fallback: pool.fallback_networks.get(id).cloned().unwrap_or_default(),
    };
    pool.networks.iter().map(network).collect()
}

pub(crate) fn kubernetes(loaded: &Loaded) -> Option<KubernetesOptions> {
    let config = loaded.config.kubernetes.as_ref()?;
    let access = match &config.kubeconfig {
        Some(path) => Access::Kubeconfig {
            path: loaded.folder.join(path),
            context: config.context.clone(),
        },
        None => Access::InCluster,
    };
    let approve = config.join.as_ref().map(|join| join.approve);
    Some(KubernetesOptions {
        access,
        approval: match approve.unwrap_or_default() {
            Approve::Rhizome => Approval::Rhizome,
            Approve::Cluster => Approval::Cluster,
        },
        evict_unmanaged: config.drain.evict_unmanaged,
        evict_local_storage: config.drain.evict_local_storage,
    })
}

/// The ConfigMap that a pause can be left in, and its name, if one is named.
pub(crate) async fn pause_map(loaded: &Loaded) -> Result<Option<(ConfigMap, String)>, SetupError> {
    let named = loaded.config.pause.config_map.as_deref();
    let Some((name, options)) = named.zip(kubernetes(loaded)) else {
        return Ok(None);
    };
    let (namespace, map) = name.split_once('/').unwrap_or(("", name));
    let map = ConfigMap::new(&options.access, namespace, map).await?;
    Ok(Some((map, name.to_owned())))
}

/// In place of a cluster where no pool has one.
struct NoCluster;

#[async_trait]
impl Executor for NoCluster {
    async fn execute(&self, action: &Action, _: Arc<dyn Gate>) -> ActionResult {
        let what = format!(
            "`{}` needs a cluster, and none is configured",
            action.kind.name()
        );
        Err(Failure::new(FailureKind::Refused, what))
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        Ok(Vec::new())
    }

    async fn watch(&self, _: mpsc::Sender<Seen>, _: CancellationToken) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CONFIG: &str = "
cluster: test
pools:
  workers:
    { min: 1, max: 3, image: i, flavor: f, user_data: mine, taints: [\"gpu=yes:NoSchedule\"] }
kubernetes: {}
openstack:
  auth_url: http://127.0.0.1:5000
  application_credential: { id: a, secret: { env: S } }
";

    #[test]
    fn a_template_of_ones_own_has_the_taints_without_a_join_too() {
        let folder = tempfile::tempdir().unwrap();
        // The template is filled in on trial, and what is not there is an error.
        std::fs::write(folder.path().join("mine"), "<{ taints[0].key }>").unwrap();
        let loaded = Loaded {
            config: config::parse("rhizome.yaml", CONFIG).unwrap(),
            folder: folder.path().to_owned(),
        };
        let pool = &loaded.config.pools["workers"];
        let machine = machine(&loaded, "workers", pool).unwrap();
        assert!(machine.user_data.is_some());
    }
}
