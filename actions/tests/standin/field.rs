//! A cloud, a cluster, and our executors over both.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rhizome_actions::kubernetes::{Access, Approval, Kubernetes, KubernetesOptions};
use rhizome_actions::openstack::{Credentials, Interface, Machine, Openstack, OpenstackOptions};
use rhizome_actions::{
    Executor, JoinOptions, KUBEADM_JOIN, Seen, Services, TokenVault, UserData,
    install_crypto_provider,
};
use rhizome_engine::action::{
    Action, ActionKey, ActionKind, ActionResult, Done, NodeRef, VmRef, mark,
};
use rhizome_engine::event::{NodeView, Observation, Ready, ServerStatus, ServerView};
use rhizome_engine::names::{OperationId, VmId};
use rhizome_engine::time::{Clock, Timestamp};
use rhizome_standin::{ManualClock, Options, Standin};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::TestGate;

/// 2026-11-22T07:42:54Z.
const START: Timestamp = Timestamp(1_795_333_374_000);
/// How far the clock goes at once: the step of the stand-in's world.
const STEP: Duration = Duration::from_millis(500);
/// Turns that everybody gets between two steps. A request and its answer take about a dozen.
const TURNS: u32 = 40;
/// How long, on the moved clock, something is waited for before it counts as not coming.
const PATIENCE: Duration = Duration::from_secs(1_200);
const POOL: &str = "workers";
const CLUSTER: &str = "blue";

pub fn operation(number: u64) -> OperationId {
    OperationId {
        journal: 0xa1b2_c3d4,
        number,
    }
}

pub fn marks(number: u64) -> BTreeMap<String, String> {
    [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, CLUSTER.to_owned()),
        (mark::POOL, POOL.to_owned()),
        (mark::OPERATION, operation(number).to_string()),
        (mark::NETWORK, operation(number).to_string()),
        (mark::EPOCH, "1".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// An action of the operation of that number.
pub fn action(number: u64, kind: ActionKind) -> Action {
    Action {
        key: ActionKey {
            operation: operation(number),
            sequence: 0,
        },
        epoch: 1,
        pool: POOL.into(),
        expires: Timestamp(i64::MAX),
        timeout: Duration::from_secs(300),
        kind,
    }
}

pub fn create(number: u64, node: &str) -> Action {
    let kind = ActionKind::CreateServer {
        node: node.into(),
        metadata: marks(number),
    };
    action(number, kind)
}

pub fn create_token(number: u64, node: &str) -> Action {
    let kind = ActionKind::CreateToken {
        node: node.into(),
        ttl: Duration::from_secs(900),
    };
    action(number, kind)
}

/// The executors, and what they act on.
pub struct Field {
    pub standin: Standin,
    pub clock: ManualClock,
    pub gate: Arc<TestGate>,
    pub services: Arc<Services>,
}

impl Field {
    pub async fn start() -> Self {
        Self::with(Options::default(), |machine| machine).await
    }

    /// With a cloud, and machines, of one's own.
    pub async fn with(options: Options, machine: impl FnOnce(Machine) -> Machine) -> Self {
        install_crypto_provider();
        let clock = ManualClock::new(START);
        let standin = Standin::start(options, Arc::new(clock.clone()))
            .await
            .unwrap();
        let vault = Arc::new(TokenVault::new());
        let cloud = cloud(&standin, &clock, &vault, machine);
        let cluster = cluster(&standin, &clock, vault).await;
        Self {
            services: Arc::new(Services::new(Arc::new(cloud), Arc::new(cluster))),
            standin,
            clock,
            gate: TestGate::open(),
        }
    }

    /// Lets time pass until `work` is done.
    pub async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let end = self.clock.now().mono.plus(PATIENCE);
        loop {
            for _ in 0..TURNS {
                if let std::task::Poll::Ready(done) = futures::poll!(&mut work) {
                    return done;
                }
                tokio::task::yield_now().await;
            }
            assert!(
                self.clock.now().mono < end,
                "what was waited for did not come within {PATIENCE:?}"
            );
            self.clock.advance(STEP);
        }
    }

    /// Carries an action out while time passes.
    pub async fn act(&self, action: &Action) -> ActionResult {
        let gate = self.gate.clone();
        self.passing(self.services.execute(action, gate)).await
    }

    /// Carries an action out that must succeed.
    pub async fn done(&self, number: u64, kind: ActionKind) -> Done {
        self.act(&action(number, kind)).await.unwrap()
    }

    pub async fn look(&self) -> Vec<Observation> {
        self.passing(self.services.observe()).await.unwrap()
    }

    /// Looks again and again, with time passing, until `wanted` is seen.
    pub async fn until<T>(&self, wanted: impl Fn(&[Observation]) -> Option<T>) -> T {
        let end = self.clock.now().mono.plus(PATIENCE);
        loop {
            if let Some(found) = wanted(&self.look().await) {
                return found;
            }
            assert!(self.clock.now().mono < end, "it was never seen");
            self.clock.advance(STEP);
        }
    }

    /// Waits until the server is in that status.
    pub async fn server_is(&self, id: &str, status: ServerStatus) -> ServerView {
        self.until(|seen| server(seen, id).filter(|server| server.status == status))
            .await
    }

    /// Waits until the node is there and that ready.
    pub async fn node_is(&self, name: &str, ready: Ready) -> NodeView {
        self.until(|seen| node(seen, name).filter(|node| node.ready == ready))
            .await
    }

    /// Adds a node the whole way: token, server, boot, join, Ready.
    pub async fn add(&self, number: u64, name: &str) -> (VmRef, NodeRef) {
        assert_eq!(
            self.act(&create_token(number, name)).await,
            Ok(Done::Accepted)
        );
        let Ok(Done::Created { vm }) = self.act(&create(number, name)).await else {
            panic!("not created");
        };
        let server = self.server_is(vm.as_str(), ServerStatus::Active).await;
        self.let_in(number, name, &vm).await;
        let node = self.node_is(name, Ready::True).await;
        assert_eq!(node.vm, Some(vm.clone()));
        (vm_ref(&server, number), node_ref(&node))
    }

    /// Lets the operation's VM into the cluster.
    pub async fn let_in(&self, number: u64, name: &str, vm: &VmId) {
        let join = ActionKind::ApproveJoin {
            node: name.into(),
            vm: vm.clone(),
        };
        assert_eq!(self.done(number, join).await, Done::Accepted);
    }

    /// Starts the watches.
    pub fn watch(&self) -> Watching {
        let (sender, seen) = mpsc::channel(1_000);
        let stop = CancellationToken::new();
        let (services, stopped) = (Arc::clone(&self.services), stop.clone());
        let task = tokio::spawn(async move { services.watch(sender, stopped).await });
        Watching { seen, stop, task }
    }

    /// How many requests for a change have come so far.
    pub fn mutations(&self) -> usize {
        self.standin.ledger().mutations().count()
    }
}

/// Watches that run.
pub struct Watching {
    pub seen: mpsc::Receiver<Seen>,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Watching {
    /// Lets time pass until the watches say something of which `wanted` makes something.
    pub async fn until<T>(&mut self, field: &Field, wanted: impl Fn(Seen) -> Option<T>) -> T {
        let seen = &mut self.seen;
        field
            .passing(async {
                loop {
                    if let Some(found) = wanted(seen.recv().await.unwrap()) {
                        return found;
                    }
                }
            })
            .await
    }
}

pub fn server(seen: &[Observation], id: &str) -> Option<ServerView> {
    seen.iter().find_map(|one| match one {
        Observation::Servers { servers, .. } => servers
            .iter()
            .find(|server| server.id.as_str() == id)
            .cloned(),
        _ => None,
    })
}

pub fn node(seen: &[Observation], name: &str) -> Option<NodeView> {
    seen.iter().find_map(|one| match one {
        Observation::Nodes { nodes, .. } => nodes
            .iter()
            .find(|node| node.name.as_str() == name)
            .cloned(),
        _ => None,
    })
}

pub fn vm_ref(server: &ServerView, number: u64) -> VmRef {
    VmRef {
        id: server.id.clone(),
        created: server.created,
        operation: Some(operation(number)),
    }
}

pub fn node_ref(node: &NodeView) -> NodeRef {
    NodeRef {
        name: node.name.clone(),
        uid: node.uid.clone(),
    }
}

fn cloud(
    standin: &Standin,
    clock: &ManualClock,
    vault: &Arc<TokenVault>,
    change: impl FnOnce(Machine) -> Machine,
) -> Openstack {
    let credentials = standin.credentials();
    let join = JoinOptions {
        endpoint: "10.0.0.10:6443".to_owned(),
        ca_cert_hashes: vec![format!("sha256:{}", "0".repeat(64))],
        taints: Vec::new(),
    };
    let machine = Machine {
        image: Options::default().images.keys().next().unwrap().clone(),
        flavors: vec!["2".to_owned()],
        networks: vec![Options::default().networks[0].as_str().into()],
        user_data: Some(Arc::new(UserData::new(KUBEADM_JOIN, join, true).unwrap())),
        ..Machine::default()
    };
    let options = OpenstackOptions {
        auth_url: standin.openstack_url(),
        credentials: Credentials::ApplicationCredential {
            id: credentials.application_credential_id.clone(),
            secret: credentials.application_credential_secret.clone().into(),
        },
        region: Some(credentials.region.clone()),
        interface: Interface::Public,
        ca_file: None,
        cluster: CLUSTER.to_owned(),
        poll: Duration::from_secs(5),
        machines: BTreeMap::from([(POOL.into(), change(machine))]),
    };
    Openstack::new(options, Arc::new(clock.clone()), Arc::clone(vault)).unwrap()
}

async fn cluster(standin: &Standin, clock: &ManualClock, vault: Arc<TokenVault>) -> Kubernetes {
    let options = KubernetesOptions {
        access: Access::Url {
            url: standin.kubernetes_url(),
            token: Some(standin.credentials().kubernetes_token.clone().into()),
            ca_file: None,
        },
        approval: Approval::Rhizome,
        evict_unmanaged: false,
        evict_local_storage: false,
    };
    Kubernetes::new(options, Arc::new(clock.clone()), vault)
        .await
        .unwrap()
}
