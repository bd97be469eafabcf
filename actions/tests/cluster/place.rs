//! The cluster, our executor with its least rights, and an account that may do everything.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rhizome_actions::kubernetes::{Access, Approval, ConfigMap, Kubernetes, KubernetesOptions};
use rhizome_actions::{Executor, JoinToken, TokenVault, install_crypto_provider};
use rhizome_engine::action::{Action, ActionKey, ActionKind, ActionResult, Done, NodeRef};
use rhizome_engine::event::{NodeView, Observation, Ready};
use rhizome_engine::names::{OperationId, VmId};
use rhizome_engine::time::{Clock, Timestamp};
use rhizome_standin::kubelet::{Join, Kubelet};
use rhizome_standin::{Real, Relay, ScaledClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::acting::{Open, wall_clock};
use crate::scripts::{self, Shared};

/// How long a state is waited for. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Held by each test while it is at the cluster, and by one alone that restarts it.
static AT_WORK: RwLock<()> = RwLock::const_new(());

/// The cluster that all tests of this process share.
pub struct Place {
    env: BTreeMap<String, String>,
    token: String,
}

/// Our executor, and what it keeps.
pub struct Ours {
    pub place: &'static Place,
    pub kubernetes: Arc<Kubernetes>,
    vault: Arc<TokenVault>,
    clock: Arc<ScaledClock>,
    _at_work: Option<RwLockReadGuard<'static, ()>>,
}

/// The cluster; none if it cannot be had here.
fn place() -> Option<&'static Place> {
    static PLACE: Shared<Place> = Shared::new("kubernetes");
    PLACE.get(|| {
        // What an earlier run left behind would be in the way.
        let up = scripts::run("kubernetes", "down", &["--wipe"], &[])
            && scripts::run("kubernetes", "up", &[], &[]);
        let env = up.then(|| scripts::env("kubernetes"))?;
        let mut place = Place {
            env,
            token: String::new(),
        };
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac.yaml");
        place.kubectl(&["apply", "-f", manifest]);
        let token = place.kubectl(&["create", "token", "rhizome", "-n", "rhizome"]);
        token.trim().clone_into(&mut place.token);
        Some(place)
    })
}

impl Place {
    fn access(&self, token: &str) -> Access {
        Access::Url {
            url: self.url(),
            token: Some(token.to_owned().into()),
            ca_file: Some(self.ca_file().into()),
        }
    }

    /// Where the API server is.
    pub fn url(&self) -> String {
        format!("https://{}", self.env["endpoint"])
    }

    /// The file of the cluster's CA.
    pub fn ca_file(&self) -> &str {
        &self.env["ca"]
    }

    /// A relay before the API server, and an executor of ours that reaches it through that.
    pub async fn relayed(&self) -> (Relay, Arc<Kubernetes>) {
        let real = Real {
            kubernetes: self.url(),
            ca: std::fs::read(self.ca_file()).unwrap(),
            ..Real::default()
        };
        let relay = Relay::start(&real, wall_clock()).await.unwrap();
        let access = Access::Url {
            url: relay.kubernetes_url(),
            token: Some(self.token.clone().into()),
            ca_file: None,
        };
        (relay, Arc::new(Ours::executor(access).await))
    }

    /// The version that the cluster's objects are at.
    pub fn version(&self) -> String {
        let nodes = self.kubectl(&["get", "--raw", "/api/v1/nodes"]);
        let nodes: Value = serde_json::from_str(&nodes).unwrap();
        let version = &nodes["metadata"]["resourceVersion"];
        version.as_str().unwrap().to_owned()
    }

    /// Lets etcd forget all versions before the present one.
    pub fn compact(&self) {
        let body = json!({"revision": self.version(), "physical": true}).to_string();
        let certificates = [
            "--cert",
            &self.env["etcd_cert"],
            "--key",
            &self.env["etcd_key"],
        ];
        let url = format!("{}/v3/kv/compaction", self.env["etcd"]);
        let output = Command::new("curl")
            .args(["-sk", "--fail-with-body", "-d", &body, &url])
            .args(certificates)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Ends the API server and all that goes with it, and starts it again on what etcd holds.
    pub fn restart(&self) {
        assert!(scripts::run("kubernetes", "down", &[], &[]));
        assert!(scripts::run("kubernetes", "up", &[], &[]));
    }

    /// kubectl, as one who may do everything. What it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.env["kubectl"]);
        command
            .args(["--kubeconfig", &self.env["kubeconfig"]])
            .args(arguments);
        command
    }

    /// Makes what is described, in place of what there is.
    pub fn apply(&self, object: &Value) {
        crate::kubectl::apply(&mut self.command(&[]), object);
    }

    /// Reads objects: `what` as kubectl takes it.
    pub fn get(&self, what: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat());
        serde_json::from_str(&text).unwrap()
    }
}

/// Reads until `wanted` makes something of it.
pub async fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(Instant::now() < end, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Ours {
    /// None if the cluster cannot be had here.
    pub async fn start() -> Option<Self> {
        Self::with(Approval::Rhizome).await
    }

    pub async fn with(approval: Approval) -> Option<Self> {
        install_crypto_provider();
        let place = place()?;
        let at_work = AT_WORK.read().await;
        let mut ours = Self::as_account(place, &place.token, approval).await;
        ours._at_work = Some(at_work);
        Some(ours)
    }

    /// The cluster, with nobody else at work there.
    pub async fn alone() -> Option<(&'static Place, RwLockWriteGuard<'static, ()>)> {
        install_crypto_provider();
        let place = place()?;
        Some((place, AT_WORK.write().await))
    }

    /// As the account with this token.
    pub async fn as_account(place: &'static Place, token: &str, approval: Approval) -> Self {
        let clock = wall_clock();
        let vault = Arc::new(TokenVault::new());
        let options = options(place.access(token), approval);
        let kubernetes = Kubernetes::new(options, clock.clone(), vault.clone())
            .await
            .unwrap();
        Self {
            place,
            kubernetes: Arc::new(kubernetes),
            vault,
            clock,
            _at_work: None,
        }
    }

    /// An executor that reaches the cluster in another way.
    pub async fn executor(access: Access) -> Kubernetes {
        let options = options(access, Approval::Rhizome);
        let vault = Arc::new(TokenVault::new());
        Kubernetes::new(options, wall_clock(), vault).await.unwrap()
    }

    /// A ConfigMap, read by our account.
    pub async fn config_map(&self, namespace: &str, name: &str) -> ConfigMap {
        let access = self.place.access(&self.place.token);
        ConfigMap::new(&access, namespace, name).await.unwrap()
    }

    /// Carries out an action that may take so many seconds.
    pub async fn within(&self, seconds: u64, number: u64, kind: ActionKind) -> ActionResult {
        let action = Action {
            key: ActionKey {
                operation: operation(number),
                sequence: 0,
            },
            epoch: 1,
            pool: "workers".into(),
            expires: Timestamp(i64::MAX),
            timeout: Duration::from_secs(seconds),
            kind,
        };
        self.kubernetes.execute(&action, Arc::new(Open)).await
    }

    /// Carries out an action that must succeed.
    pub async fn done(&self, number: u64, kind: ActionKind) -> Done {
        self.within(PATIENCE.as_secs(), number, kind).await.unwrap()
    }

    /// Makes the token of an operation. What a machine joins by.
    pub async fn token(&self, number: u64, node: &str) -> Join {
        let create = ActionKind::CreateToken {
            node: node.into(),
            ttl: Duration::from_secs(1_200),
        };
        assert_eq!(self.done(number, create).await, Done::Accepted);
        let token: JoinToken = self
            .vault
            .get(operation(number), self.clock.now().wall)
            .unwrap();
        self.signed(&token).await;
        Join {
            endpoint: self.place.env["endpoint"].clone(),
            token: token.text().expose_secret().to_owned(),
            ca_cert_hashes: vec![self.place.env["ca_hash"].clone()],
            node: node.to_owned(),
            provider_id: format!("openstack:///vm-of-{node}"),
        }
    }

    /// The cluster signs its info with a new token within a moment; a machine boots longer.
    async fn signed(&self, token: &JoinToken) {
        let key = format!("jws-kubeconfig-{}", token.id());
        until("a signature with the token", || {
            let info = self
                .place
                .get(&["configmap", "cluster-info", "-n", "kube-public"]);
            info["data"].get(&key).map(|_| ())
        })
        .await;
    }

    /// Adds a node the whole way.
    pub async fn add(&self, number: u64, name: &str) -> (Kubelet, NodeRef) {
        let join = self.token(number, name).await;
        let (kubelet, let_in) =
            tokio::join!(Kubelet::join(&join), self.done(number, approve(name)),);
        assert_eq!(let_in, Done::Accepted);
        let node = self.node_is(name, Ready::True).await;
        assert_eq!(node.vm, Some(vm(name)), "the provider id is the server's");
        (kubelet.unwrap(), node_ref(&node))
    }

    /// Waits until the node is there and that ready.
    pub async fn node_is(&self, name: &str, ready: Ready) -> NodeView {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(node) = self.node(name).await
                && node.ready == ready
            {
                return node;
            }
            assert!(Instant::now() < end, "{name} was never seen {ready:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn node(&self, name: &str) -> Option<NodeView> {
        let seen = self.kubernetes.observe().await.unwrap();
        seen.into_iter().find_map(|one| match one {
            Observation::Nodes { nodes, .. } => {
                nodes.into_iter().find(|node| node.name.as_str() == name)
            }
            _ => None,
        })
    }

    /// The names of the requests made with the operation's token, and whether each is approved.
    pub fn requests(&self, number: u64) -> BTreeMap<String, bool> {
        let user = format!("system:bootstrap:{}", JoinToken::id_of(operation(number)));
        let all = self.place.get(&["certificatesigningrequests"]);
        let items = all["items"].as_array().unwrap();
        items
            .iter()
            .filter(|request| request["spec"]["username"] == user.as_str())
            .map(|request| {
                let conditions = request["status"]["conditions"].as_array();
                let approved =
                    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Approved"));
                (
                    request["metadata"]["name"].as_str().unwrap().to_owned(),
                    approved,
                )
            })
            .collect()
    }
}

fn options(access: Access, approval: Approval) -> KubernetesOptions {
    KubernetesOptions {
        access,
        approval,
        evict_unmanaged: false,
        evict_local_storage: false,
    }
}

pub fn approve(name: &str) -> ActionKind {
    ActionKind::ApproveJoin {
        node: name.into(),
        vm: vm(name),
    }
}

pub fn vm(name: &str) -> VmId {
    VmId::new(format!("vm-of-{name}"))
}

pub fn node_ref(node: &NodeView) -> NodeRef {
    NodeRef {
        name: node.name.clone(),
        uid: node.uid.clone(),
    }
}

/// A number that no other test of this process has.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn operation(number: u64) -> OperationId {
    OperationId {
        journal: 0xa1b2_c3d4,
        number,
    }
}
