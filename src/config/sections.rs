//! The sections of `rhizome.yaml`. Their doc comments are what `rhizome config schema` shows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::LimitsConfig;
use super::types::{Address, HttpUrl, Memory, Period, Secret, SecretUrl};

/// The configuration of Rhizome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name. It is part of the mark on every VM: never change it.
    pub cluster: String,
    /// The folder of the journal. It must survive a restart, and only one program may use it.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// The folder of the policies. A relative path begins at this file's folder.
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    /// How long late samples are taken in.
    #[serde(default = "default_lateness")]
    pub lateness: Period,
    /// The pools, by name.
    pub pools: BTreeMap<String, PoolConfig>,
    /// Metrics and heartbeats by Kafka. Without it, agents post to the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Where Rhizome listens: the collector, alerts, status and operators.
    #[serde(default)]
    pub listen: ListenConfig,
    /// The cloud that the VMs are in.
    pub openstack: OpenstackConfig,
    /// The cluster that the VMs join. Needed by each pool with `kubernetes: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesConfig>,
    /// Where a pause can be left beside the API.
    #[serde(default)]
    pub pause: PauseConfig,
    /// The hard limits that no policy can pass.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Who is told what asks for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationsConfig>,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// A pool: nodes of one shape that are scaled together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Never fewer nodes.
    pub min: u32,
    /// Never more, VMs in flight and silent ones counted.
    pub max: u32,
    /// How many above `max` may exist for a while, so that a replacement can come first.
    #[serde(default = "default_surge")]
    pub surge: u32,
    /// False for VMs that are no Kubernetes nodes.
    #[serde(default = "default_true")]
    pub kubernetes: bool,
    /// Labels put on each node after its join.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints that each node joins with, as `key=value:NoSchedule`. A template of `user_data` has
    /// to put them in, as the shipped one does.
    #[serde(default)]
    pub taints: Vec<String>,
    /// What one node has to give; learnt from the first node if it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_capacity: Option<CapacityConfig>,
    /// The image, by id.
    pub image: String,
    /// The flavor, by id.
    pub flavor: String,
    /// Flavors that are taken, in their order, where there is no room for the first.
    #[serde(default)]
    pub fallback_flavors: Vec<String>,
    /// The networks, by id, in their order; none lets Nova choose.
    #[serde(default)]
    pub networks: Vec<String>,
    /// By the id of a network: those that are taken, in their order, when it is full.
    #[serde(default)]
    pub fallback_networks: BTreeMap<String, Vec<String>>,
    /// Make the machines' ports before the machines (on by default): a second create for the same
    /// machine is then refused by Nova as soon as the first has taken its port. False lets Nova
    /// make them, but for a floating address or networks to fall back on.
    #[serde(default = "default_true")]
    pub own_ports: bool,
    /// The network that each machine gets a floating address of, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating_network: Option<String>,
    /// The security groups, by id or by a name that is unique.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The key pair, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// The availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Zones that are taken, in their order, where there is no room in the first.
    #[serde(default)]
    pub fallback_zones: Vec<String>,
    /// The server group, by id: with the policy anti-affinity, a host for each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_group: Option<String>,
    /// Metadata of the machines, beside Rhizome's own marks.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The template of the machines' user data; without it, `kubeadm join` for pools of
    /// Kubernetes and nothing for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<PathBuf>,
    /// How long a VM may take to become ACTIVE.
    #[serde(default = "default_build_timeout")]
    pub build_timeout: Period,
    /// How long a machine may take from ACTIVE to a Ready node.
    #[serde(default = "default_join_timeout")]
    pub join_timeout: Period,
    /// How long a drain may take before the scale-down is cancelled.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: Period,
    /// How long a rung of the ladder has to show effect.
    #[serde(default = "default_rung_timeout")]
    pub rung_timeout: Period,
    /// Scale-down follows the highest need of this long.
    #[serde(default = "default_stabilization")]
    pub stabilization: Period,
}

/// What one node has to give to pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacityConfig {
    /// Cores.
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub cpu: f64,
    /// Memory.
    pub memory: Memory,
    /// How many pods.
    #[serde(default = "default_pods")]
    pub pods: u32,
}

/// Metrics and heartbeats by Kafka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with, as `host:port`; the others are learnt from them.
    #[schemars(length(min = 1))]
    pub brokers: Vec<String>,
    /// Topics, by their whole names.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// Consumer group. Two programs that share it share the partitions. A dry run reads in a group
    /// of its own, this one with `-dry-run` behind it.
    #[serde(default = "default_group")]
    pub group: String,
    /// TLS to the brokers; without it the connection is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTlsConfig>,
    /// SASL credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
    /// Largest answer of a broker in bytes, and so the largest batch.
    #[serde(default = "default_receive_max")]
    pub receive_max_bytes: u32,
    /// Any other setting of librdkafka by its own name, such as `client.rack`. No secrets.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
}

/// TLS to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaTlsConfig {
    /// Certificates to trust, PEM; without it those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate with its chain, PEM, if the brokers ask for one.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The password of the key, if it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Secret>,
}

/// SASL credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// The password as it is: only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of the password by SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A proof of the password by SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Where Rhizome listens, and whom it believes. A forged event could cost a machine, so an
/// address that is not loopback needs TLS and authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// The address and port.
    #[serde(default = "default_address")]
    pub address: Address,
    /// The certificate that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenTlsConfig>,
    /// Bearer tokens that are believed.
    #[serde(default)]
    pub tokens: Vec<TokenConfig>,
    /// Users with a password (basic authentication) that are believed.
    #[serde(default)]
    pub users: Vec<UserConfig>,
    /// What is done without on an address that is not loopback, because a proxy in front does
    /// it or the network is trusted.
    #[serde(default)]
    pub without: Vec<Without>,
}

/// A protection that can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Without {
    /// Tokens and passwords cross the network as they are.
    Tls,
    /// Anybody may send events and give orders.
    Authentication,
}

/// The certificate that the listener shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTlsConfig {
    /// The certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Whose it is, as the journal will say.
    pub name: String,
    /// The token.
    pub token: Secret,
    /// What it may do.
    pub may: Vec<Right>,
}

/// A user with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The user's name, as the journal will say.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What the user may do.
    pub may: Vec<Right>,
}

/// What a token or user may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Send events (`/v1/events`).
    Ingest,
    /// Send alerts (`/v1/alerts`, `/api/v2/alerts`). With `ingest` beside it whoever has the token
    /// would be two witnesses, so beyond loopback it is refused.
    Alert,
    /// Read status, `why` and metrics.
    Read,
    /// Pause, scale, replace and the like; also read.
    Operate,
}

/// The cloud that the VMs are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenstackConfig {
    /// Keystone's address, with or without `/v3`. Without it, address and credentials are looked
    /// for as openstacksdk does: in `clouds.yaml`, `secure.yaml` and the variables `OS_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_url: Option<HttpUrl>,
    /// Which cloud of `clouds.yaml`; without it `OS_CLOUD`, the variables, or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// An application credential: it can be bound to what Rhizome needs, and taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_credential: Option<ApplicationCredentialConfig>,
    /// A user's password, for one project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordConfig>,
    /// The region; may be left out where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Which of the catalog's endpoints are used; without `auth_url` the cloud's file says it.
    #[serde(default)]
    pub interface: Interface,
    /// A CA to trust beside the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How often the servers are listed.
    #[serde(default = "default_poll")]
    pub poll: Period,
}

/// An application credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationCredentialConfig {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// A user's password, for one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordConfig {
    /// The user's name.
    pub user: String,
    /// The domain that the user is in.
    #[serde(default = "default_domain")]
    pub user_domain: String,
    /// The password.
    pub password: Secret,
    /// The project.
    pub project: String,
    /// The domain that the project is in.
    #[serde(default = "default_domain")]
    pub project_domain: String,
}

/// Which of a service's endpoints is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// The one for everybody.
    #[default]
    Public,
    /// The one inside the cloud.
    Internal,
    /// The one for its operators.
    Admin,
}

/// The cluster that the VMs join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// The kubeconfig; without it, the service account of the pod that Rhizome runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it, its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// How new machines join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinConfig>,
    /// What a drain may lose.
    #[serde(default)]
    pub drain: DrainConfig,
}

/// What a drain may lose. What it may not stands in its way, and the drain is given up with the
/// pod's name, as kubectl does without its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainConfig {
    /// Evict pods that no controller would make again (kubectl: `--force`).
    #[serde(default)]
    pub evict_unmanaged: bool,
    /// Evict pods that keep data in an `emptyDir` (kubectl: `--delete-emptydir-data`).
    #[serde(default)]
    pub evict_local_storage: bool,
}

/// How new machines join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The API server as the machines reach it, as `host:port`.
    pub endpoint: String,
    /// Pins of the cluster's CA, each `sha256:` and a hash in hex.
    #[schemars(length(min = 1))]
    pub ca_cert_hashes: Vec<String>,
    /// Who approves the certificates of new machines.
    #[serde(default)]
    pub approve: Approve,
}

/// Who approves the certificates of new machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approve {
    /// Rhizome does, once for each machine that it makes. Needs `deploy/rbac.yaml`.
    #[default]
    Rhizome,
    /// The cluster does, as kubeadm sets it up: whoever holds a join token becomes a node.
    Cluster,
}

/// Where a pause can be left beside `rhizome pause`, for when the API does not answer. Each stands
/// for as long as it is there: over restarts, and until it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseConfig {
    /// A file: while it is there, nothing is changed. Names of pools in it pause these alone, and
    /// what stands after a `#` is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// A ConfigMap, as `NAMESPACE/NAME`: while it is there, nothing is changed. Its keys `pools`,
    /// `who` and `why` may say more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
}

/// Who is told what asks for a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationsConfig {
    /// Where each notification is posted, as JSON: the address, or, as its path is often a secret,
    /// the file or the environment variable that holds it.
    pub webhook: SecretUrl,
    /// A bearer token to send along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: `info`, or per part as in `info,rhizome=debug`.
    pub level: String,
    /// How.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            address: default_address(),
            tls: None,
            tokens: Vec::new(),
            users: Vec::new(),
            without: Vec::new(),
        }
    }
}

fn default_state() -> PathBuf {
    "/var/lib/rhizome".into()
}

fn default_policies() -> PathBuf {
    "policies".into()
}

/// Ten minutes: events up to that late give the decision of the clean stream.
fn default_lateness() -> Period {
    Period(std::time::Duration::from_secs(600))
}

fn default_address() -> Address {
    Address(std::net::SocketAddr::from(([127, 0, 0, 1], 8420)))
}

fn default_group() -> String {
    "rhizome".to_owned()
}

fn default_domain() -> String {
    "Default".to_owned()
}

/// 16 MiB: a record is under 1 KiB and a batch of an agent some 100 KiB.
fn default_receive_max() -> u32 {
    16 << 20
}

fn default_poll() -> Period {
    Period(std::time::Duration::from_secs(10))
}

/// 110: what a kubelet takes by itself.
fn default_pods() -> u32 {
    110
}

fn default_true() -> bool {
    true
}

fn pool_default() -> rhizome_engine::settings::PoolSettings {
    rhizome_engine::settings::PoolSettings::default()
}

fn default_surge() -> u32 {
    pool_default().surge
}

fn default_build_timeout() -> Period {
    Period(pool_default().build_timeout)
}

fn default_join_timeout() -> Period {
    Period(pool_default().join_timeout)
}

fn default_drain_timeout() -> Period {
    Period(pool_default().drain_timeout)
}

fn default_rung_timeout() -> Period {
    Period(pool_default().rung_timeout)
}

fn default_stabilization() -> Period {
    Period(pool_default().stabilization)
}
