//! A world of real services: Keystone, Nova with its fake hypervisor, Neutron, and an API server
//! with its controllers, reached through a relay by the program and directly by everybody else.
//!
//! Nova's servers run nothing here. Each that is ACTIVE has a light guest in this process, which
//! joins by the token that was made for it, and speaks to a broker as an agent does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rhizome::clock::RealClock;
use rhizome_actions::JoinToken;
use rhizome_engine::action::mark;
use rhizome_engine::time::Clock;
use rhizome_standin::kubelet::{Join, Kubelet};
use rhizome_standin::{Real, Relay};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::machines::admin::{apply, clear, everything, kubectl, service_account, work};
use crate::machines::apis::{Cloud, Cluster};
use crate::scripts;
use crate::world::{Node, Pace, Place, Strike, Truth, Worker, World};

const TOPIC: &str = "metrics";

/// The pool, and the pods that are put to work in it.
const POOL: &str = "workers";

/// How often each agent speaks.
const BEAT: Duration = Duration::from_millis(500);

/// So many beats lie between two looks at the servers: a list costs Nova a good part of a second.
const LOOK: u32 = 4;

/// Everything that the faults are played on here.
pub(crate) struct Services {
    pub(crate) relay: Arc<Relay>,
    cloud: Cloud,
    cluster: Cluster,
    env: BTreeMap<String, String>,
    place: Place,
    pace: Pace,
    /// How many workers would be kept busy, in thousandths.
    demand: Arc<AtomicU64>,
    // Before what they run on.
    runtime: Runtime,
    _kafka: MockCluster<'static, DefaultProducerContext>,
}

impl Services {
    /// Brings everything up; nothing if it cannot be had here.
    pub(crate) fn start() -> Option<Self> {
        rhizome_actions::install_crypto_provider();
        let openstack = fresh("openstack")?;
        let env = fresh("kubernetes")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let url = format!("https://{}", env["endpoint"]);
        let reach = || {
            let cloud = Cloud::new(&openstack["keystone"], "demo", &openstack["password"]);
            let cluster = Cluster::new(&url, &env["ca"], &everything(&env));
            (cloud, cluster)
        };
        let (mut cloud, cluster) = reach();
        runtime.block_on(cloud.clear(|_, _| true, |_| true));
        clear(&env);
        let (compute, network) = runtime.block_on(cloud.addresses()).unwrap();
        let real = Real {
            keystone: openstack["keystone"].clone(),
            compute,
            network,
            kubernetes: url.clone(),
            ca: std::fs::read(&env["ca"]).unwrap(),
        };
        let clock = Arc::new(RealClock::new());
        let relay = runtime.block_on(Relay::start(&real, clock)).unwrap();
        let kafka = MockCluster::new(1).unwrap();
        kafka.create_topic(TOPIC, 2, 1).unwrap();
        let demand = Arc::new(AtomicU64::new(0));
        let (cloud_of_guests, cluster_of_guests) = reach();
        let guests = Guests {
            cloud: cloud_of_guests,
            cluster: cluster_of_guests,
            env: env.clone(),
            producer: producer(&kafka.bootstrap_servers()),
            demand: Arc::clone(&demand),
            live: BTreeMap::new(),
        };
        runtime.spawn(guests.live());
        let place = place(&openstack, &env, &relay, &kafka.bootstrap_servers());
        Some(Self {
            relay: Arc::new(relay),
            cloud,
            cluster,
            env,
            place,
            pace: pace(),
            demand,
            runtime,
            _kafka: kafka,
        })
    }
}

impl World for Services {
    fn place(&self) -> &Place {
        &self.place
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn set_demand(&mut self, workers: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few workers"
        )]
        let thousandths = (workers * 1_000.0) as u64;
        self.demand.store(thousandths, Ordering::SeqCst);
    }

    /// It has threads of its own for that.
    fn go_on(&mut self) {}

    fn put_to_work(&mut self, pods: usize, healthy: usize) {
        apply(&self.env, &work(POOL, pods, healthy));
    }

    fn strike(&mut self, worker: &Worker, what: Strike) {
        panic!("no course of these strikes {worker:?}: {what:?}");
    }

    fn mend(&mut self, worker: &Worker, what: Strike) {
        panic!("no course of these mends {worker:?}: {what:?}");
    }

    fn set_kafka(&mut self, _: bool) {
        panic!("no course of these stops Kafka");
    }

    fn set_keystone(&mut self, up: bool) {
        self.relay.faults(|faults| faults.keystone_down = !up);
    }

    fn truth(&mut self) -> Option<Truth> {
        let (servers, ports) = self.runtime.block_on(self.cloud.look())?;
        let (nodes, tokens, running) = self.runtime.block_on(self.cluster.look(POOL))?;
        Some(Truth {
            servers,
            ports: ports
                .into_iter()
                .map(|(id, (device, _))| (id, device))
                .collect(),
            nodes,
            tokens: tokens.into_iter().map(|(token, _)| token).collect(),
            running,
        })
    }

    fn wrong(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn tell(&mut self) -> String {
        let ledger = self.relay.ledger();
        let asked = ledger.mutations().map(|entry| {
            let (method, path) = (&entry.method, &entry.path);
            let (status, effect, fault) = (entry.status, entry.effect, entry.fault);
            format!(
                "{} {method} {path} {status:?} {effect:?} {fault:?}",
                entry.at
            )
        });
        let asked: Vec<_> = asked.collect();
        let from = asked.len().saturating_sub(60);
        let cluster = kubectl(&self.env, &["get", "nodes,pods,csr", "-A", "-o", "wide"]);
        [&asked[from..], &[cluster]].concat().join("\n")
    }
}

/// A server of the tests, without anything that an earlier run left; what it says of itself.
fn fresh(server: &str) -> Option<BTreeMap<String, String>> {
    let keep = std::env::var_os("RHIZOME_SERVERS_KEEP").is_some();
    let up = (keep || scripts::run(server, "down", &["--wipe"], &[]))
        && scripts::run(server, "up", &[], &[]);
    up.then(|| scripts::env(server))
}

fn producer(broker: &str) -> ThreadedProducer<DefaultProducerContext> {
    ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("linger.ms", "5")
        .create()
        .unwrap()
}

fn place(
    openstack: &BTreeMap<String, String>,
    cluster: &BTreeMap<String, String>,
    relay: &Relay,
    broker: &str,
) -> Place {
    Place {
        pool: POOL.to_owned(),
        cluster_name: "faults".to_owned(),
        keystone: format!("{}/v3", relay.openstack_url()),
        login: format!(
            "application_credential: {{ id: {}, secret: {{ file: openstack-secret }} }}",
            openstack["credential_id"]
        ),
        secret: openstack["credential_secret"].clone(),
        cluster: relay.kubernetes_url(),
        ca: None::<PathBuf>,
        token: service_account(cluster),
        endpoint: cluster["endpoint"].clone(),
        pin: cluster["ca_hash"].clone(),
        image: openstack["image"].clone(),
        flavor: openstack["flavor_medium"].clone(),
        network: openstack["demo_network"].clone(),
        template: None,
        broker: broker.to_owned(),
        topic: TOPIC.to_owned(),
    }
}

/// As on the stand-ins, but nobody is called silent: all of this shares two cores perhaps.
fn pace() -> Pace {
    Pace {
        look: Duration::from_secs(2),
        window: "4s",
        hold: "2s",
        cooldown: "2s",
        silent: "60s",
        lease_grace: "40s",
        rung: "60s",
        rung_in_vain: "60s",
        poll: "2s",
        calm: "1s",
        // Longer than a list takes that was asked for after a delete, on a machine that is busy.
        settle: "20s",
        kafka_away: Duration::from_secs(15),
        quiet: Duration::from_secs(8),
    }
}

/// What runs on Nova's servers.
struct Guests {
    cloud: Cloud,
    cluster: Cluster,
    env: BTreeMap<String, String>,
    producer: ThreadedProducer<DefaultProducerContext>,
    demand: Arc<AtomicU64>,
    /// By the server's id.
    live: BTreeMap<String, Guest>,
}

/// A machine: joining, and then a node, until it is dropped.
struct Guest(JoinHandle<()>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Guests {
    async fn live(mut self) {
        for beat in 0.. {
            if beat % LOOK == 0
                && let Some(servers) = self.cloud.servers().await
            {
                self.power(&servers);
            }
            if let Some(nodes) = self.cluster.nodes().await {
                self.speak(&nodes);
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Boots who is ACTIVE, and pulls the plug of who is not.
    fn power(&mut self, servers: &[Value]) {
        let text = |server: &Value, key: &str| server[key].as_str().unwrap_or_default().to_owned();
        let on: BTreeMap<_, _> = servers
            .iter()
            .filter(|server| server["status"] == "ACTIVE")
            .map(|server| (text(server, "id"), server))
            .collect();
        self.live.retain(|id, _| on.contains_key(id));
        for (id, server) in on {
            if self.live.contains_key(&id) {
                continue;
            }
            let operation = text(&server["metadata"], mark::OPERATION);
            let Some(token) = self.token(&operation) else {
                // Its user data would say so; here it is as a machine that never boots.
                continue;
            };
            let join = Join {
                endpoint: self.env["endpoint"].clone(),
                token,
                ca_cert_hashes: vec![self.env["ca_hash"].clone()],
                node: text(server, "name"),
                provider_id: format!("openstack:///{id}"),
            };
            self.live.insert(id, Guest(tokio::spawn(boot(join))));
        }
    }

    /// The token that was made for this operation, while it is there.
    fn token(&self, operation: &str) -> Option<String> {
        let id = JoinToken::id_of(operation.parse().ok()?);
        let name = format!("bootstrap-token-{id}");
        let secret = r#"go-template={{index .data "token-secret" | base64decode}}"#;
        let get = ["get", "secret", &name, "-n", "kube-system", "-o", secret];
        let said = kubectl(&self.env, &get);
        (said.len() == 16).then(|| format!("{id}.{said}"))
    }

    /// The work spreads over the nodes that take it; each agent says what it makes of it.
    fn speak(&self, nodes: &BTreeMap<String, Node>) {
        let at_work = nodes.values().filter(|node| node.ready && !node.cordoned);
        let at_work = u32::try_from(at_work.count().max(1)).unwrap();
        let demand = u32::try_from(self.demand.load(Ordering::SeqCst)).unwrap();
        let share = f64::from(demand) / 1_000.0 / f64::from(at_work);
        for (name, node) in nodes {
            if !self.live.contains_key(&node.server) {
                continue;
            }
            let works = node.ready && !node.cordoned;
            let cpu = if works { share.min(1.0) } else { 0.03 };
            let time = RealClock::new().now().wall.to_string();
            let record = json!({"node": name, "time": time, "cpu": cpu, "memory": 0.2});
            let record = record.to_string();
            // A full queue is a lost record, as it is with a real agent.
            let _ = self
                .producer
                .send(BaseRecord::to(TOPIC).key(name.as_str()).payload(&record));
        }
    }
}

/// Joins, again and again as kubeadm's unit would, and lives.
async fn boot(join: Join) {
    loop {
        if let Ok(_kubelet) = Kubelet::join(&join).await {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(BEAT).await;
    }
}
