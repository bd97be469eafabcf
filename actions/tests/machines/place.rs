//! The cloud and the cluster, our executor on both with its least rights, and the switchboard.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rhizome_actions::kubernetes::{Access, Approval, Kubernetes, KubernetesOptions};
use rhizome_actions::openstack::{Credentials, Interface, Machine, Openstack, OpenstackOptions};
use rhizome_actions::{
    Executor, JoinOptions, KUBEADM_JOIN, Services, TokenVault, UserData, install_crypto_provider,
};
use rhizome_engine::action::{
    Action, ActionKey, ActionKind, ActionResult, Done, NodeRef, VmRef, mark,
};
use rhizome_engine::event::{NodeView, Observation, Ready, ServerStatus, ServerView};
use rhizome_engine::names::{OperationId, VmId};
use rhizome_engine::time::Timestamp;
use serde_json::Value;

use crate::acting::{Open, wall_clock};
use crate::scripts::{self, Shared};

/// How long a state is waited for. Machines boot in it, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(420);
const CLUSTER: &str = "blue";
const POOL: &str = "workers";
/// Of every node of the pool. It keeps no pod away that has nowhere else to go.
pub const TAINT: &str = "example.org/pool=workers:PreferNoSchedule";

/// What runs here, and our executor on it.
pub struct Place {
    env: BTreeMap<String, String>,
    services: Services,
}

/// A machine that has become a node.
#[derive(Debug, Clone)]
pub struct Worker {
    pub number: u64,
    pub name: String,
    pub vm: VmRef,
    pub node: NodeRef,
}

/// All of it, started by the first test that asks; none if it cannot be had here.
pub async fn place() -> Option<Arc<Place>> {
    static ENV: Shared<BTreeMap<String, String>> = Shared::new("machines");
    install_crypto_provider();
    let env = ENV.get(|| {
        let fresh = std::env::var_os("RHIZOME_SERVERS_KEEP").is_none();
        let up = (!fresh || scripts::run("machines", "down", &[], &[]))
            && scripts::run("machines", "up", &[], &[]);
        let env = up.then(|| scripts::env("machines"))?;
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac.yaml");
        kubectl(&env, &["apply", "-f", manifest]);
        Some(env)
    });
    let env = env.cloned()?;
    let clock = wall_clock();
    // The secret half of a token goes from the cluster's side to the cloud's by this.
    let vault = Arc::new(TokenVault::new());
    let cloud = Openstack::new(cloud(&env), clock.clone(), vault.clone()).unwrap();
    let cluster = Kubernetes::new(cluster(&env), clock, vault).await.unwrap();
    Some(Arc::new(Place {
        services: Services::new(Arc::new(cloud), Arc::new(cluster)),
        env,
    }))
}

fn cloud(env: &BTreeMap<String, String>) -> OpenstackOptions {
    let join = JoinOptions {
        endpoint: env["endpoint"].clone(),
        ca_cert_hashes: vec![env["ca_hash"].clone()],
        taints: vec![TAINT.parse().unwrap()],
    };
    let machine = Machine {
        image: env["image"].clone(),
        flavors: vec![env["flavor_medium"].clone()],
        networks: vec![env["demo_network"].as_str().into()],
        security_groups: vec!["nodes".to_owned()],
        user_data: Some(Arc::new(UserData::new(KUBEADM_JOIN, join, true).unwrap())),
        ..Machine::default()
    };
    OpenstackOptions {
        auth_url: env["keystone"].clone(),
        credentials: Credentials::ApplicationCredential {
            id: env["credential_id"].clone(),
            secret: env["credential_secret"].clone().into(),
        },
        region: Some("RegionOne".to_owned()),
        interface: Interface::Public,
        ca_file: None,
        cluster: CLUSTER.to_owned(),
        poll: Duration::from_secs(5),
        machines: BTreeMap::from([(POOL.into(), machine)]),
    }
}

/// As the account of `deploy/rbac.yaml`, which may do what Rhizome needs and no more.
fn cluster(env: &BTreeMap<String, String>) -> KubernetesOptions {
    let token = kubectl(env, &["create", "token", "rhizome", "-n", "rhizome"]);
    KubernetesOptions {
        access: Access::Url {
            url: format!("https://{}", env["endpoint"]),
            token: Some(token.trim().to_owned().into()),
            ca_file: Some(env["ca"].clone().into()),
        },
        approval: Approval::Rhizome,
        evict_unmanaged: false,
        evict_local_storage: false,
    }
}

fn kubectl(env: &BTreeMap<String, String>, arguments: &[&str]) -> String {
    let output = Command::new(&env["kubectl"])
        .args(["--kubeconfig", &env["kubeconfig"]])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Place {
    /// kubectl, as one who may do everything. What it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&self.env, arguments)
    }

    /// Makes what is described, in place of what there is.
    pub fn apply(&self, object: &Value) {
        let mut kubectl = Command::new(&self.env["kubectl"]);
        crate::kubectl::apply(
            kubectl.args(["--kubeconfig", &self.env["kubeconfig"]]),
            object,
        );
    }

    /// Reads objects: `what` as kubectl takes it.
    pub fn get(&self, what: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// The switchboard: `kill`, `freeze`, `cut` and their like. Whether it did, and what it said.
    pub fn switch(&self, what: &str, worker: &Worker, more: &[&str]) -> (bool, String) {
        let output = Command::new(&self.env["machine"])
            .args([what, worker.vm.id.as_str()])
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success(), said)
    }

    pub async fn act(&self, number: u64, kind: ActionKind) -> ActionResult {
        self.within(PATIENCE, number, kind).await
    }

    pub async fn within(&self, timeout: Duration, number: u64, kind: ActionKind) -> ActionResult {
        let action = Action {
            key: ActionKey {
                operation: operation(number),
                sequence: 0,
            },
            epoch: 1,
            pool: POOL.into(),
            expires: Timestamp(i64::MAX),
            timeout,
            kind,
        };
        self.services.execute(&action, Arc::new(Open)).await
    }

    /// Adds a node in the steps in which Rhizome does.
    pub async fn add(&self, name: &str) -> Worker {
        let number = number();
        let ttl = Duration::from_secs(1_200);
        let node = name.into();
        let token = self.act(number, ActionKind::CreateToken { node, ttl });
        assert_eq!(token.await, Ok(Done::Accepted));
        let create = ActionKind::CreateServer {
            node: name.into(),
            metadata: marks(number),
        };
        let id = match self.act(number, create).await {
            Ok(Done::Created { vm }) => vm,
            other => panic!("{name}: {other:?}"),
        };
        let approve = ActionKind::ApproveJoin {
            node: name.into(),
            vm: id.clone(),
        };
        assert_eq!(self.act(number, approve).await, Ok(Done::Accepted));
        let node = self.node_is(name, Ready::True).await;
        assert_eq!(
            node.vm.as_ref(),
            Some(&id),
            "the provider id is the server's"
        );
        let forget = self.act(number, ActionKind::DeleteToken).await;
        assert_eq!(forget, Ok(Done::Accepted));
        let server = self.server_is(&id, ServerStatus::Active).await;
        Worker {
            number,
            name: name.to_owned(),
            vm: VmRef {
                id,
                created: server.created,
                operation: Some(operation(number)),
            },
            node: NodeRef {
                name: node.name,
                uid: node.uid,
            },
        }
    }

    /// Takes a machine away as Rhizome does: the server first, and the Node when that is gone.
    pub async fn remove(&self, worker: &Worker) {
        let vm = worker.vm.clone();
        let delete = self.act(worker.number, ActionKind::DeleteServer { vm });
        assert_eq!(delete.await, Ok(Done::Accepted));
        until("the machine to be gone", || {
            self.switch("state", worker, &[]).1 == "absent"
        })
        .await;
        until_some("the server to be gone", || async {
            self.server(&worker.vm.id).await.is_none().then_some(())
        })
        .await;
        let node = worker.node.clone();
        let delete = self.act(worker.number, ActionKind::DeleteNode { node });
        assert_eq!(delete.await, Ok(Done::Accepted));
        assert!(self.node(&worker.name).await.is_none());
    }

    /// Waits until the node is there and that ready.
    pub async fn node_is(&self, name: &str, ready: Ready) -> NodeView {
        let what = format!("the node {name} to be {ready:?}");
        until_some(&what, || async {
            self.node(name).await.filter(|node| node.ready == ready)
        })
        .await
    }

    pub async fn node(&self, name: &str) -> Option<NodeView> {
        let found = self.observe().await.into_iter().find_map(|one| match one {
            Observation::Nodes { nodes, .. } => Some(nodes),
            _ => None,
        });
        let mut nodes = found.unwrap_or_default().into_iter();
        nodes.find(|node| node.name.as_str() == name)
    }

    /// Waits until the server is in this status and nothing is under way with it.
    pub async fn server_is(&self, id: &VmId, status: ServerStatus) -> ServerView {
        let what = format!("the server {id} to be {status:?}");
        until_some(&what, || async {
            let server = self.server(id).await;
            server.filter(|it| it.status == status && it.task_state.is_none())
        })
        .await
    }

    pub async fn server(&self, id: &VmId) -> Option<ServerView> {
        let found = self.observe().await.into_iter().find_map(|one| match one {
            Observation::Servers { servers, .. } => Some(servers),
            _ => None,
        });
        let mut servers = found.unwrap_or_default().into_iter();
        servers.find(|server| server.id == *id)
    }

    /// What is seen of both, once both answer: silence is not absence.
    async fn observe(&self) -> Vec<Observation> {
        until_some("an answer of cloud and cluster", || async {
            self.services.observe().await.ok()
        })
        .await
    }

    /// Which boot of its machine a node is in.
    pub fn boot_id(&self, worker: &Worker) -> String {
        let node = self.get(&["node", &worker.name]);
        node["status"]["nodeInfo"]["bootID"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// How often the containers of a node's pods in this namespace were started again.
    pub fn restarts(&self, space: &str, worker: &Worker) -> u64 {
        let pods = self.pods_on(space, worker);
        let states = pods.iter().flat_map(|pod| {
            let all = pod["status"]["containerStatuses"].as_array();
            all.cloned().unwrap_or_default()
        });
        states
            .map(|one| one["restartCount"].as_u64().unwrap_or(0))
            .sum()
    }

    pub fn pods_on(&self, space: &str, worker: &Worker) -> Vec<Value> {
        let node = format!("--field-selector=spec.nodeName={}", worker.name);
        let all = self.get(&["pods", "-n", space, &node]);
        all["items"].as_array().unwrap().clone()
    }
}

/// Asks until there is something.
pub async fn until_some<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asks until it is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    until_some(what, || {
        let so = so();
        async move { so.then_some(()) }
    })
    .await;
}

/// A number that no other test of this process has.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn operation(number: u64) -> OperationId {
    OperationId {
        journal: 0xb007_b007,
        number,
    }
}

fn marks(number: u64) -> BTreeMap<String, String> {
    [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, CLUSTER.to_owned()),
        (mark::POOL, POOL.to_owned()),
        (mark::OPERATION, operation(number).to_string()),
        (mark::EPOCH, "1".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
