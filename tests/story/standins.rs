//! The story's world of our own: the stand-in cloud and cluster, their agents, and librdkafka's
//! mock of a broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rhizome::clock::RealClock;
use rhizome_standin::checker::{Bounds, at_the_end};
use rhizome_standin::{Cure, Illness, Kind, Options, Standin, VmState, Workload};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::forks;
use crate::site::MAX;
use crate::world::{Node, Pace, Place, Strike, Truth, Worker, World};

const TOPIC: &str = "metrics";

/// The pool.
const POOL: &str = "workers";

/// The one broker of the mock.
const BROKER: i32 = 1;

/// Cores of a worker.
const CORES: f64 = 4.0;

/// How often each agent speaks.
const BEAT: Duration = Duration::from_millis(500);

/// How long a quick reboot takes.
const QUICK: Duration = Duration::from_millis(1_500);

/// The pods that are put to work.
const WORK: &str = "web";

pub(crate) struct StandIns {
    pub(crate) standin: Arc<Standin>,
    kafka: MockCluster<'static, DefaultProducerContext>,
    place: Place,
    pace: Pace,
    /// Runs the stand-ins.
    _runtime: Runtime,
}

impl StandIns {
    pub(crate) fn start() -> Self {
        rhizome_actions::install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kafka = MockCluster::new(1).unwrap();
        kafka.create_topic(TOPIC, 2, 1).unwrap();
        let clock = Arc::new(RealClock::new());
        let standin = runtime.block_on(Standin::start(quick(), clock)).unwrap();
        publish(&standin, &kafka.bootstrap_servers());
        standin.world(|world| world.put_object(Kind::Node, master()));
        Self {
            place: place(&standin, &kafka.bootstrap_servers()),
            pace: pace(),
            standin: Arc::new(standin),
            kafka,
            _runtime: runtime,
        }
    }
}

impl World for StandIns {
    fn place(&self) -> &Place {
        &self.place
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn set_demand(&mut self, workers: f64) {
        self.standin
            .world(|world| world.set_demand(workers * CORES));
    }

    /// It has threads of its own for that.
    fn go_on(&mut self) {}

    fn put_to_work(&mut self, pods: usize, healthy: usize) {
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": WORK, "namespace": "default", "generation": 1},
            "spec": {"minAvailable": healthy, "selector": {"matchLabels": {"app": WORK}}}});
        let workload = Workload {
            replicas: u32::try_from(pods).unwrap(),
            ..Workload::default()
        };
        self.standin.world(|world| {
            world.set_workload(WORK, workload);
            world.put_object(Kind::Budget, budget);
        });
    }

    fn strike(&mut self, worker: &Worker, what: Strike) {
        let ill = |illness, cure| {
            let there =
                |world: &mut rhizome_standin::World| world.fall_ill(&worker.node, illness, cure);
            assert!(self.standin.world(there), "{worker:?} is not there");
        };
        match what {
            Strike::PlugPulled => ill(Illness::Crashed, Cure::Nothing),
            // From outside a guest without a network looks as one that hangs.
            Strike::Hung | Strike::Cut => ill(Illness::Hung, Cure::Reboot),
            Strike::AgentDead => ill(Illness::AgentLost, Cure::Nothing),
            Strike::QuickReboot => {
                ill(Illness::Hung, Cure::Reboot);
                std::thread::sleep(QUICK);
                self.mend(worker, what);
            }
            Strike::Stopped => self.standin.world(|world| {
                let server = world.cloud.servers.get_mut(&worker.server).unwrap();
                server.vm_state = VmState::Stopped;
            }),
        }
    }

    fn mend(&mut self, worker: &Worker, _: Strike) {
        self.standin.world(|world| world.recover(&worker.node));
    }

    fn set_kafka(&mut self, up: bool) {
        let switched = if up {
            self.kafka.broker_up(BROKER)
        } else {
            forks::none_while(|| self.kafka.broker_down(BROKER))
        };
        switched.unwrap();
    }

    fn set_keystone(&mut self, up: bool) {
        self.standin.faults(|faults| faults.keystone_down = !up);
    }

    fn truth(&mut self) -> Option<Truth> {
        Some(self.standin.world(|world| truth(world)))
    }

    fn wrong(&mut self) -> Vec<String> {
        let bounds = Bounds {
            most: BTreeMap::from([(POOL.to_owned(), MAX + 1)]),
            // The caps are taken off in the configuration: a story sees many removals.
            velocity: Vec::new(),
        };
        let broken = self.standin.world(|world| at_the_end(world, &bounds));
        broken.iter().map(ToString::to_string).collect()
    }

    fn tell(&mut self) -> String {
        let ledger = self.standin.ledger();
        let facts = ledger.facts.iter().rev().take(30);
        facts.map(|fact| format!("{fact:?}\n")).collect()
    }
}

/// A node of the control plane, which nobody here may touch.
fn master() -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "master-1",
            "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"taints": [
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn truth(world: &rhizome_standin::World) -> Truth {
    let text = |object: &Value, pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let ready = |object: &Value| {
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
    };
    let servers = world.cloud.servers.values().map(|server| {
        (
            server.id.clone(),
            (server.name.clone(), server.status().to_owned()),
        )
    });
    let ports = world
        .cloud
        .ports
        .values()
        .map(|port| (port.id.clone(), port.device.clone().unwrap_or_default()));
    let nodes = world.cluster.list(Kind::Node).map(|node| {
        let provider = text(node, "/spec/providerID");
        let seen = Node {
            server: provider.rsplit('/').next().unwrap_or_default().to_owned(),
            uid: text(node, "/metadata/uid"),
            ready: ready(node),
            cordoned: node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)),
        };
        (text(node, "/metadata/name"), seen)
    });
    let tokens = world
        .cluster
        .list(Kind::Secret)
        .filter(|secret| secret["type"] == "bootstrap.kubernetes.io/token")
        .map(|secret| text(secret, "/metadata/name"));
    let running = world
        .cluster
        .list(Kind::Pod)
        .filter(|pod| pod["metadata"]["labels"]["app"] == WORK)
        .filter(|pod| pod["status"]["phase"] == "Running")
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| (text(pod, "/metadata/name"), text(pod, "/spec/nodeName")));
    Truth {
        servers: servers.collect(),
        ports: ports.collect(),
        nodes: nodes.collect(),
        tokens: tokens.collect(),
        running: running.collect(),
    }
}

/// Machines that are there within a second.
fn quick() -> Options {
    let millis = Duration::from_millis;
    Options {
        build_time: millis(300),
        action_time: millis(200),
        delete_time: millis(200),
        boot_time: millis(300),
        ready_time: millis(200),
        lease_renew_time: millis(500),
        pod_stop_time: millis(100),
        power_sync_time: millis(1_000),
        agent_interval: BEAT,
        ..Options::default()
    }
}

fn pace() -> Pace {
    Pace {
        look: Duration::from_millis(200),
        window: "4s",
        hold: "2s",
        cooldown: "2s",
        silent: "5s",
        lease_grace: "4s",
        rung: "40s",
        rung_in_vain: "20s",
        poll: "1s",
        calm: "1s",
        settle: "3s",
        kafka_away: Duration::from_secs(15),
        quiet: Duration::from_secs(8),
    }
}

/// The guests' agents publish to the broker, keyed by node, as real ones do.
fn publish(standin: &Standin, broker: &str) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("linger.ms", "5")
        .set("reconnect.backoff.max.ms", "1000")
        .create()
        .unwrap();
    standin.deliver_to(move |node, record| {
        // A full queue is a lost record, as it is with a real agent.
        let _ = producer.send(BaseRecord::to(TOPIC).key(node).payload(&record));
    });
}

fn place(standin: &Standin, broker: &str) -> Place {
    let options = Options::default();
    let credentials = standin.credentials();
    let cluster = standin.kubernetes_url();
    Place {
        pool: POOL.to_owned(),
        cluster_name: "story".to_owned(),
        keystone: format!("{}/v3", standin.openstack_url()),
        login: format!(
            "password: {{ user: {}, password: {{ file: openstack-secret }}, project: {} }}",
            credentials.username, credentials.project
        ),
        secret: credentials.password.clone(),
        endpoint: cluster.trim_start_matches("http://").to_owned(),
        cluster,
        ca: None,
        token: credentials.kubernetes_token.clone(),
        pin: format!("sha256:{}", "0".repeat(64)),
        image: options.images.keys().next().unwrap().clone(),
        flavor: "3".to_owned(),
        network: options.networks.first().unwrap().clone(),
        template: None,
        broker: broker.to_owned(),
        topic: TOPIC.to_owned(),
    }
}
