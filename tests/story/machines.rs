//! The story's world of machines that boot: OpenStack's own services, a real Kubernetes, a real
//! Kafka, and in each worker what its user data makes of it: containerd, kubelet and collectd.
//!
//! Rhizome has the rights of `deploy/rbac.yaml` here, and an application credential. Several of it
//! have room side by side: each world is a pool, a topic and a budget of its own in the one cloud and
//! the one cluster, and what bears the marks of another does not belong to it.

pub(crate) mod admin;
pub(crate) mod apis;
mod collectd;
mod place;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::world::{Node, Pace, Place, Strike, Truth, Worker, World};
use crate::{forks, scripts};
use admin::{apply, clear, everything, kubectl, leave, service_account, work};
use apis::{Cloud, Cluster};
use collectd::Agents;
use place::{pace, place};

/// How the pools of all these worlds are called, each with its number behind.
const POOLS: &str = "workers-";

/// What all worlds are in: the cloud, the cluster and the broker.
pub(crate) struct Ground {
    env: BTreeMap<String, String>,
    broker: BTreeMap<String, String>,
    /// The token of Rhizome's account.
    rhizome: String,
    /// The token of an account that may do everything.
    everything: String,
    /// Worlds made so far.
    worlds: AtomicUsize,
}

impl Ground {
    /// Brings everything up; nothing if it cannot be had here.
    pub(crate) fn start() -> Option<Self> {
        rhizome_actions::install_crypto_provider();
        if !scripts::run("machines", "up", &[], &[]) {
            return None;
        }
        let env = scripts::env("machines");
        if !kafka_up(&env) {
            return None;
        }
        let mut cloud = Cloud::new(&env["keystone"], "demo", &env["password"]);
        let not_the_master = |id: &str, _: &str| id != env["master"];
        runtime().block_on(cloud.clear(not_the_master, |_| true));
        clear(&env);
        Some(Self {
            broker: scripts::env("kafka"),
            rhizome: service_account(&env),
            everything: everything(&env),
            worlds: AtomicUsize::new(0),
            env,
        })
    }

    /// One more world, with nothing in it yet.
    pub(crate) fn world(&self) -> Machines {
        let number = self.worlds.fetch_add(1, Ordering::SeqCst) + 1;
        let pool = format!("{POOLS}{number}");
        let place = place(&self.env, &self.broker, pool, self.rhizome.clone());
        let runtime = runtime();
        runtime.block_on(topic(&place.broker, &place.topic));
        Machines {
            cluster: Cluster::new(&place.cluster, &self.env["ca"], &self.everything),
            cloud: Cloud::new(&self.env["keystone"], "demo", &self.env["password"]),
            agents: Agents::new(&self.env["machine"]),
            env: self.env.clone(),
            runtime,
            place,
            pace: pace(),
            demand: 0.0,
        }
    }
}

/// A world: a pool in the cloud and the cluster.
pub(crate) struct Machines {
    env: BTreeMap<String, String>,
    runtime: Runtime,
    cloud: Cloud,
    cluster: Cluster,
    agents: Agents,
    place: Place,
    pace: Pace,
    demand: f64,
}

impl Machines {
    /// The switchboard: what it says, if it could do it.
    fn machine(&self, arguments: &[&str]) -> Option<String> {
        let output = forks::output(Command::new(&self.env["machine"]).args(arguments)).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    }

    fn switch(&self, arguments: &[&str]) {
        assert!(self.machine(arguments).is_some(), "{arguments:?}");
    }

    /// Whether a node or a server of this name is another world's.
    fn is_anothers(&self, name: &str) -> bool {
        name.starts_with(POOLS) && !is_of(&self.place.pool, name)
    }

    /// The work spreads over the workers that are ready: sets how busy each is by that.
    fn spread(&mut self, nodes: &BTreeMap<String, Node>) {
        let workers = nodes
            .iter()
            .filter(|(name, _)| is_of(&self.place.pool, name));
        let ready: Vec<_> = workers
            .clone()
            .filter(|(_, node)| node.ready && !node.cordoned)
            .collect();
        let share = self.demand / f64::from(u32::try_from(ready.len().max(1)).unwrap());
        let percent = (share.min(1.0) * 100.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100"
        )]
        let percent = percent as u32;
        for (name, node) in ready {
            self.agents.set(&node.server, name, percent);
        }
        self.agents
            .keep(|server| workers.clone().any(|(_, node)| node.server == *server));
    }
}

impl Drop for Machines {
    /// Makes room for others. Whoever looks for the reason of a failure finds all as it was.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let pool = self.place.pool.as_str();
        let servers = |_: &str, name: &str| is_of(pool, name);
        self.runtime
            .block_on(self.cloud.clear(servers, |of| of == pool));
        leave(pool, &self.env);
    }
}

impl World for Machines {
    fn place(&self) -> &Place {
        &self.place
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn set_demand(&mut self, workers: f64) {
        self.demand = workers;
    }

    fn go_on(&mut self) {
        if let Some(nodes) = self.runtime.block_on(self.cluster.nodes()) {
            self.spread(&nodes);
        }
    }

    fn put_to_work(&mut self, pods: usize, healthy: usize) {
        apply(&self.env, &work(&self.place.pool, pods, healthy));
    }

    fn strike(&mut self, worker: &Worker, what: Strike) {
        let server = worker.server.as_str();
        match what {
            Strike::PlugPulled => {
                // With the power its disk is lost: it boots, and is no node any more.
                let damage = ["rm", "-f", "/usr/bin/kubelet", "/usr/sbin/collectd"];
                self.switch(&[&["sh", server][..], &damage].concat());
                self.switch(&["kill", server]);
            }
            Strike::QuickReboot => self.switch(&["reboot", server]),
            Strike::Hung => self.switch(&["freeze", server]),
            Strike::Cut => self.switch(&["cut", server]),
            Strike::AgentDead => self.switch(&["sh", server, "systemctl", "stop", "collectd"]),
            Strike::Stopped => {
                let stop = json!({"os-stop": null});
                let stop = self.cloud.act(server, &stop);
                assert!(
                    self.runtime.block_on(stop),
                    "{worker:?} could not be stopped"
                );
            }
        }
    }

    fn mend(&mut self, worker: &Worker, what: Strike) {
        assert_eq!(what, Strike::AgentDead, "the others are Rhizome's to mend");
        self.switch(&["sh", &worker.server, "systemctl", "start", "collectd"]);
    }

    fn set_kafka(&mut self, up: bool) {
        let done = if up {
            kafka_up(&self.env)
        } else {
            scripts::run("kafka", "down", &[], &[])
        };
        assert!(done, "kafka");
    }

    fn set_keystone(&mut self, up: bool) {
        let settings = [
            ("RHIZOME_SERVERS_DIR", self.env["openstack"].as_str()),
            ("RHIZOME_STACK_DRIVER", "machines"),
            ("RHIZOME_MACHINE", self.env["machine"].as_str()),
        ];
        let done = if up {
            scripts::run("openstack", "up", &[], &settings)
        } else {
            scripts::run("openstack", "down", &["--kill", "keystone"], &settings)
        };
        assert!(done, "keystone");
    }

    fn truth(&mut self) -> Option<Truth> {
        let (mut servers, ports) = self.runtime.block_on(self.cloud.look())?;
        let seen = self.runtime.block_on(self.cluster.look(&self.place.pool))?;
        let (mut nodes, tokens, running) = seen;
        servers.retain(|_, (name, _)| !self.is_anothers(name));
        nodes.retain(|name, _| !self.is_anothers(name));
        let here = |pool: &str| pool == self.place.pool || !pool.starts_with(POOLS);
        let ports = ports.into_iter().filter(|(_, (_, pool))| here(pool));
        let tokens = tokens.into_iter().filter(|(_, pool)| here(pool));
        Some(Truth {
            servers,
            ports: ports.map(|(id, (device, _))| (id, device)).collect(),
            nodes,
            tokens: tokens.map(|(token, _)| token).collect(),
            running,
        })
    }

    fn wrong(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn tell(&mut self) -> String {
        let kubectl = |arguments: &[&str]| kubectl(&self.env, arguments);
        let mut told = vec![
            kubectl(&["get", "nodes,pods,csr", "-A", "-o", "wide"]),
            kubectl(&["get", "events", "-A", "--sort-by", ".lastTimestamp"]),
        ];
        let servers = self
            .runtime
            .block_on(self.cloud.look())
            .unwrap_or_default()
            .0;
        for (server, (name, status)) in servers {
            if self.is_anothers(&name) {
                continue;
            }
            told.push(format!(
                "-- {name} {server} {status} {:?}",
                self.machine(&["state", &server])
            ));
            let log = "tail -n 15 /var/log/cloud-init-output.log; journalctl -n 15 --no-pager -u kubelet -u collectd";
            told.extend(self.machine(&["sh", &server, "sh", "-c", log]));
        }
        told.join("\n")
    }
}

/// Whether a node or a server of this name is of the pool.
fn is_of(pool: &str, name: &str) -> bool {
    let rest = name.strip_prefix(pool);
    rest.is_some_and(|rest| rest.starts_with('-'))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The broker, which the nodes reach as well.
fn kafka_up(env: &BTreeMap<String, String>) -> bool {
    scripts::run("kafka", "up", &[], &[("KAFKA_ALSO_ON", &env["host"])])
}

async fn topic(broker: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    // What an earlier run left would fill the windows.
    let _ = admin.delete_topics(&[name], &options).await;
    let clock = rhizome::clock::RealClock::new();
    let began = rhizome_engine::time::Clock::now(&clock).mono;
    loop {
        let new = NewTopic::new(name, 4, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[new], &options).await.unwrap();
        if made.iter().all(Result::is_ok) {
            return;
        }
        assert!(crate::passed(&clock, began) < crate::PATIENCE, "{made:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
