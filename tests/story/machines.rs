//! The story's world of machines that boot: OpenStack's own services, a real Kubernetes, a real
//! Kafka, and in each worker what its user data makes of it: containerd, kubelet and collectd.
//!
//! Rhizome has the rights of `deploy/rbac.yaml` here, and an application credential.

mod admin;
mod apis;
mod place;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::scripts;
use crate::world::{Node, Pace, Place, Strike, Truth, Worker, World};
use admin::{apply, clear, everything, kubectl, service_account};
use apis::{Cloud, Cluster};
use place::{pace, place};

const TOPIC: &str = "story";

/// The pods that are put to work.
const WORK: &str = "web";

/// Where collectd in a machine reads how busy it is said to be, in percent.
const LOAD: &str = "/run/story-load";

/// So many looks later a worker is told again.
const REMEMBER: u32 = 8;

/// Everything that the story is told on here.
pub(crate) struct Machines {
    env: BTreeMap<String, String>,
    runtime: Runtime,
    cloud: Cloud,
    cluster: Cluster,
    place: Place,
    pace: Pace,
    demand: f64,
    /// What each server was told last of how busy it is.
    told: BTreeMap<String, u32>,
    /// Looks until all are told anew: whoever boots has forgotten it.
    remember: u32,
}

impl Machines {
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
        let broker = scripts::env("kafka");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(topic(&broker["plain"]));
        let token = service_account(&env);
        let place = place(&env, &broker, token);
        let cluster = Cluster::new(&place.cluster, &env["ca"], &everything(&env));
        let mut cloud = Cloud::new(&env["keystone"], "demo", &env["password"]);
        runtime.block_on(cloud.clear(&env["master"]));
        clear(WORK, &env);
        Some(Self {
            runtime,
            cloud,
            cluster,
            place,
            pace: pace(),
            demand: 0.0,
            told: BTreeMap::new(),
            remember: REMEMBER,
            env,
        })
    }

    /// The switchboard: what it says, if it could do it.
    fn machine(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new(&self.env["machine"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    }

    fn switch(&self, arguments: &[&str]) {
        assert!(self.machine(arguments).is_some(), "{arguments:?}");
    }

    /// The work spreads over the workers that are ready: tells each how busy it is by that.
    fn spread(&mut self, nodes: &BTreeMap<String, Node>) {
        let master = &self.env["master"];
        let workers = nodes.values().filter(|node| node.server != *master);
        let ready: Vec<_> = workers
            .filter(|node| node.ready && !node.cordoned)
            .collect();
        let share = self.demand / f64::from(u32::try_from(ready.len().max(1)).unwrap());
        let percent = (share.min(1.0) * 100.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100"
        )]
        let percent = percent as u32;
        self.remember -= 1;
        if self.remember == 0 {
            self.remember = REMEMBER;
            self.told.clear();
        }
        for node in ready {
            if self.told.get(&node.server) == Some(&percent) {
                continue;
            }
            let line = format!("echo {percent} >{LOAD}");
            // One that is dead by now cannot be told.
            if self
                .machine(&["sh", &node.server, "sh", "-c", &line])
                .is_some()
            {
                self.told.insert(node.server.clone(), percent);
            }
        }
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
        apply(
            &self.env,
            &json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "apps/v1", "kind": "Deployment",
             "metadata": {"name": WORK, "namespace": "default"},
             "spec": {"replicas": pods, "selector": {"matchLabels": {"app": WORK}},
                "template": {"metadata": {"labels": {"app": WORK}},
                    "spec": {"terminationGracePeriodSeconds": 1, "tolerations": moves_soon(),
                        "containers": [{"name": "main", "image": "localhost/busybox:stable",
                            "imagePullPolicy": "IfNotPresent", "command": ["sleep", "86400"],
                            "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}}]}}}},
            {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
             "metadata": {"name": WORK, "namespace": "default"},
             "spec": {"minAvailable": healthy, "selector": {"matchLabels": {"app": WORK}}}}]}),
        );
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
        let (servers, ports) = self.runtime.block_on(self.cloud.look())?;
        let (nodes, tokens, running) = self.runtime.block_on(self.cluster.look(WORK))?;
        Some(Truth {
            servers,
            ports,
            nodes,
            tokens,
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

/// The broker, which the nodes reach as well.
fn kafka_up(env: &BTreeMap<String, String>) -> bool {
    scripts::run("kafka", "up", &[], &[("KAFKA_ALSO_ON", &env["host"])])
}

async fn topic(broker: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    // What an earlier run left would fill the windows.
    let _ = admin.delete_topics(&[TOPIC], &options).await;
    let clock = rhizome::clock::RealClock::new();
    let began = rhizome_engine::time::Clock::now(&clock).mono;
    loop {
        let new = NewTopic::new(TOPIC, 4, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[new], &options).await.unwrap();
        if made.iter().all(Result::is_ok) {
            return;
        }
        assert!(crate::passed(&clock, began) < crate::PATIENCE, "{made:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A pod's tolerations: it goes elsewhere as soon as its node is given up, and not after minutes.
fn moves_soon() -> Value {
    let tolerated = |taint: &str| {
        json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 5})
    };
    json!([tolerated("not-ready"), tolerated("unreachable")])
}
