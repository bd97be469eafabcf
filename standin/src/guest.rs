//! What runs on the servers: a light guest that joins the cluster, renews its Lease, runs
//! pods, and falls ill on command.
//!
//! ```text
//!   off ──power on──▶ booting ──boot time──▶ joining ──▶ up ──power off──▶ off
//!                                               ├─ asks for its certificate, and waits until it is issued
//!                                               └─ bad token, name taken ─▶ not joined
//! ```
//!
//! A guest may also run elsewhere, in a container that plays the machine (`hosts.rs`): then only
//! its power is followed here, and it joins and speaks by itself.
//!
//! A guest knows of the cluster what a kubelet would: its user data when its disk is new, and
//! the certificate on that disk afterwards. It is spoken to through [`World`]; what it does
//! shows in the APIs.

use std::collections::BTreeMap;
use std::time::Duration;

use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use crate::cloud::Server;
use crate::json::{set, text, text_or_empty};
use crate::kube::certificates::Standing;
use crate::kube::pods::{condition, is_ready, set_condition};
use crate::kube::store::is_deleting;
use crate::kube::{Kind, pods};
use crate::ledger::Fact;
use crate::user_data::{find_node_name, find_token, user_data};
use crate::world::{World, seconds};

/// How long a kubelet goes on trying to join before its first boot counts as failed:
/// kubeadm's own patience (`timeouts.discovery`, 5 min).
const JOIN_PATIENCE: Duration = Duration::from_secs(300);

/// The guests, by their server's id.
#[derive(Debug, Clone, Default)]
pub struct Guests {
    guests: BTreeMap<String, Guest>,
}

/// One guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its server.
    pub server: String,
    /// The node that it is or means to be.
    pub node: String,
    /// How far it has come.
    pub phase: Phase,
    /// What ails it.
    pub illness: Option<Illness>,
    /// What is needed to cure it.
    cure: Cure,
    boots: u32,
    disk: u32,
    /// True once this disk holds a kubelet's certificate.
    has_certificate: bool,
    /// Who plays it, if it runs elsewhere.
    pub host: Option<String>,
    /// What it keeps there on its disk: its certificate.
    pub(crate) disk_holds: Option<String>,
    /// A token that is refused until then is not tried for ever.
    join_until: Timestamp,
    renewed: Timestamp,
    ready_at: Timestamp,
    /// When Nova notices that it crashed.
    crash_seen: Option<Timestamp>,
    pub(crate) next_record: Timestamp,
}

/// How far a guest has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its power is off.
    Off,
    /// It boots, until then.
    Booting(Timestamp),
    /// It tries to join.
    Joining,
    /// Its kubelet runs.
    Up,
    /// It gave up joining.
    NotJoined,
}

/// What can ail a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Illness {
    /// Silent altogether, and Nova notices in its own time: SHUTOFF.
    Crashed,
    /// Silent altogether, and Nova goes on saying ACTIVE.
    Hung,
    /// The metrics agent is silent; the kubelet is well.
    AgentLost,
    /// The kubelet is silent; the metrics agent goes on.
    KubeletLost,
    /// The kubelet speaks and says that it is not ready.
    NotReady,
}

/// What cures a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Any reboot.
    Reboot,
    /// A new disk: rebuild.
    Rebuild,
    /// Nothing but another server.
    Nothing,
}

impl Illness {
    fn name(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Hung => "hung",
            Self::AgentLost => "agent lost",
            Self::KubeletLost => "kubelet lost",
            Self::NotReady => "not ready",
        }
    }
}

impl Guest {
    /// Whether it has joined the cluster.
    pub fn is_node(&self) -> bool {
        self.has_certificate || self.disk_holds.is_some()
    }

    /// The boot that it is in, counted from 1; none while it is off, boots or lies ill.
    pub(crate) fn running_boot(&self) -> Option<u32> {
        let up = !matches!(self.phase, Phase::Off | Phase::Booting(_));
        let well = !matches!(self.illness, Some(Illness::Crashed | Illness::Hung));
        (up && well).then_some(self.boots)
    }

    /// Whether its kubelet speaks.
    fn kubelet_speaks(&self) -> bool {
        self.phase == Phase::Up
            && !matches!(
                self.illness,
                Some(Illness::Crashed | Illness::Hung | Illness::KubeletLost)
            )
    }

    /// Whether its metrics agent speaks.
    pub fn agent_speaks(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Joining | Phase::NotJoined)
            && !matches!(
                self.illness,
                Some(Illness::Crashed | Illness::Hung | Illness::AgentLost)
            )
    }
}

impl Guests {
    /// All guests, by their servers' ids.
    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Guest> {
        self.guests.values_mut()
    }

    /// The guest of a server.
    pub fn get(&self, server: &str) -> Option<&Guest> {
        self.guests.get(server)
    }

    pub(crate) fn get_mut(&mut self, server: &str) -> Option<&mut Guest> {
        self.guests.get_mut(server)
    }

    /// The guest that is that node.
    pub fn of_node(&self, node: &str) -> Option<&Guest> {
        self.guests.values().find(|guest| guest.node == node)
    }
}

impl World {
    /// Makes the guest behind a node ill, until `cure` or [`World::recover`]. Says whether
    /// there is such a guest.
    pub fn fall_ill(&mut self, node: &str, illness: Illness, cure: Cure) -> bool {
        let now = self.now;
        let crash_seen = now.plus(self.options.power_sync_time);
        let Some(guest) = self
            .guests
            .guests
            .values_mut()
            .find(|guest| guest.node == node)
        else {
            return false;
        };
        guest.illness = Some(illness);
        guest.cure = cure;
        guest.crash_seen = (illness == Illness::Crashed).then_some(crash_seen);
        let server = guest.server.clone();
        self.note(Fact::Guest {
            server,
            what: illness.name(),
        });
        true
    }

    /// Makes the guest behind a node well again, as if nothing had been. Says whether there
    /// is such a guest.
    pub fn recover(&mut self, node: &str) -> bool {
        let Some(guest) = self
            .guests
            .guests
            .values_mut()
            .find(|guest| guest.node == node)
        else {
            return false;
        };
        guest.illness = None;
        guest.crash_seen = None;
        let server = guest.server.clone();
        self.note(Fact::Guest {
            server,
            what: "recovered",
        });
        true
    }

    /// Lets guests follow their servers' power, boot, join, speak and run their pods.
    pub(crate) fn step_guests(&mut self) {
        self.follow_power();
        let ids: Vec<String> = self.guests.guests.keys().cloned().collect();
        for id in ids {
            self.step_guest(&id);
        }
    }

    fn follow_power(&mut self) {
        let now = self.now;
        let servers = &self.cloud.servers;
        self.guests.guests.retain(|id, _| servers.contains_key(id));
        for server in self.cloud.servers.values() {
            if !server.built || server.is_cut_off() {
                continue;
            }
            let guest = self
                .guests
                .guests
                .entry(server.id.clone())
                .or_insert_with(|| Guest::of(server));
            if !server.powered() {
                guest.phase = Phase::Off;
            } else if guest.boots != server.boots || guest.phase == Phase::Off {
                guest.boot(server, now, self.options.boot_time);
            }
        }
    }

    fn step_guest(&mut self, id: &str) {
        let now = self.now;
        let Some(guest) = self.guests.guests.get_mut(id) else {
            return;
        };
        if guest.crash_seen.is_some_and(|at| at <= now) {
            guest.crash_seen = None;
            self.see_crash(id);
            return;
        }
        if let Phase::Booting(until) = guest.phase
            && until <= now
            && !matches!(guest.illness, Some(Illness::Crashed | Illness::Hung))
        {
            guest.phase = Phase::Joining;
            guest.join_until = now.plus(JOIN_PATIENCE);
        }
        if guest.host.is_some() {
            return;
        }
        if guest.phase == Phase::Joining {
            self.join(id);
        }
        if self.guests.get(id).is_some_and(Guest::kubelet_speaks) {
            self.run_kubelet(id);
        }
    }

    /// Nova's look at power states finds the guest down.
    fn see_crash(&mut self, id: &str) {
        let now = self.now;
        if let Some(server) = self.cloud.servers.get_mut(id)
            && server.vm_state == crate::cloud::VmState::Active
        {
            server.vm_state = crate::cloud::VmState::Stopped;
            server.updated = now;
            self.note(Fact::ServerOff { id: id.to_owned() });
        }
    }

    /// One turn of joining: with the certificate on the disk, else by asking for one with the
    /// token in the user data.
    fn join(&mut self, id: &str) {
        let Some((guest, server)) = self.guests.get(id).zip(self.cloud.servers.get(id)) else {
            return;
        };
        let (node, disk, until) = (guest.node.clone(), guest.disk, guest.join_until);
        let node_is_ready = self.cluster.store.get(Kind::Node, "", &node).map(is_ready);
        if guest.has_certificate {
            self.joined(id, &node, node_is_ready.is_some());
            return;
        }
        let Some(token) = find_token(&user_data(server)) else {
            self.join_failed(id, node, "no token in the user data");
            return;
        };
        // The key is on the disk, and the request is called after it.
        let request = format!("node-csr-{id}-{disk}");
        let asked = self.cluster.store.get(Kind::Csr, "", &request).is_some();
        // kubeadm's own check: "a Node with name … and status "Ready" already exists".
        if !asked && node_is_ready == Some(true) {
            self.join_failed(id, node, "a ready node of that name exists");
            return;
        }
        match self.ask_for_certificate(&token, &node, &request) {
            Standing::Issued => self.joined(id, &node, node_is_ready.is_some()),
            // Its kubelet waits for as long as it takes.
            Standing::Waits => {}
            Standing::Denied => self.join_failed(id, node, "certificate denied"),
            Standing::Refused if self.now >= until => {
                self.join_failed(id, node, "token not accepted");
            }
            Standing::Refused => {}
        }
    }

    fn join_failed(&mut self, id: &str, node: String, reason: &'static str) {
        if let Some(guest) = self.guests.guests.get_mut(id) {
            guest.phase = Phase::NotJoined;
        }
        self.note(Fact::JoinFailed {
            node,
            server: id.to_owned(),
            reason,
        });
    }

    fn joined(&mut self, id: &str, node: &str, known: bool) {
        let Some(server) = self.cloud.servers.get(id).cloned() else {
            return;
        };
        let ready_at = self.now.plus(self.options.ready_time);
        let first = self
            .guests
            .get(id)
            .is_some_and(|guest| !guest.has_certificate);
        if let Some(guest) = self.guests.guests.get_mut(id) {
            guest.phase = Phase::Up;
            guest.has_certificate = true;
            guest.ready_at = ready_at;
            guest.renewed = Timestamp(0);
        }
        // Seen: a second VM of the same name takes the old Node over, uid, provider id,
        // cordon and labels included.
        if !known {
            let object = node_object(self, &server, node);
            self.put_object(Kind::Node, object);
        }
        if first {
            self.note(Fact::NodeJoined {
                node: node.to_owned(),
                server: id.to_owned(),
                operation: server.operation(),
                took_over: known,
            });
        }
    }

    /// What a kubelet does at each turn: its Lease, its conditions, its pods.
    fn run_kubelet(&mut self, id: &str) {
        let now = self.now;
        let Some(guest) = self.guests.guests.get_mut(id) else {
            return;
        };
        let node = guest.node.clone();
        let ready = guest.ready_at <= now && guest.illness != Some(Illness::NotReady);
        let renew = now.since(guest.renewed) >= self.options.lease_renew_time;
        if renew {
            guest.renewed = now;
        }
        // Seen: a running kubelet whose Node was deleted does not make it again.
        if self.cluster.store.get(Kind::Node, "", &node).is_none() {
            return;
        }
        if renew {
            self.renew_lease(&node);
        }
        self.report(&node, ready);
        self.run_pods(&node);
    }

    fn report(&mut self, node: &str, ready: bool) {
        let now = self.now;
        let ready = if ready {
            (
                "Ready",
                "True",
                "KubeletReady",
                "kubelet is posting ready status",
            )
        } else {
            (
                "Ready",
                "False",
                "KubeletNotReady",
                "container runtime network not ready",
            )
        };
        let reports = [
            ready,
            (
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            (
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
            (
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
        ];
        let said = |node: &Value| {
            reports
                .iter()
                .all(|(kind, status, ..)| condition(node, kind) == Some(status))
        };
        if self.cluster.get(Kind::Node, "", node).is_none_or(said) {
            return;
        }
        let key = (String::new(), node.to_owned());
        self.cluster.store.update(Kind::Node, &key, |node| {
            for (kind, status, reason, message) in reports {
                set_condition(node, now, kind, status, reason, message);
            }
        });
    }

    fn run_pods(&mut self, node: &str) {
        let now = self.now;
        let stop_time = self.options.pod_stop_time;
        for key in self.pods_on(node) {
            let Some(pod) = self.cluster.store.get(Kind::Pod, &key.0, &key.1) else {
                continue;
            };
            if is_deleting(pod) {
                let grace = crate::json::integer(pod, "/metadata/deletionGracePeriodSeconds")
                    .and_then(|grace| u64::try_from(grace).ok())
                    .map_or(Duration::ZERO, Duration::from_secs);
                let asked = text(pod, "/metadata/deletionTimestamp")
                    .and_then(crate::world::parse_time)
                    .map_or(now, |end| end.minus(grace));
                if now.since(asked) >= stop_time.min(grace) {
                    pods::delete(self, &key, Some(0));
                }
                continue;
            }
            let starts = text_or_empty(pod, "/status/phase") == "Pending";
            if starts || !is_ready(pod) {
                self.cluster.store.update(Kind::Pod, &key, |pod| {
                    if starts {
                        set(pod, "/status/phase", "Running");
                        set(pod, "/status/startTime", seconds(now));
                    }
                    if text_or_empty(pod, "/status/phase") == "Running" {
                        for kind in ["Initialized", "Ready", "ContainersReady"] {
                            set_condition(pod, now, kind, "True", "", "");
                        }
                    }
                });
            }
        }
    }
}

impl Guest {
    fn of(server: &Server) -> Self {
        Self {
            server: server.id.clone(),
            node: find_node_name(&user_data(server)).unwrap_or_else(|| server.name.clone()),
            phase: Phase::Off,
            illness: None,
            cure: Cure::Reboot,
            boots: 0,
            disk: 0,
            has_certificate: false,
            host: None,
            disk_holds: None,
            join_until: Timestamp(0),
            renewed: Timestamp(0),
            ready_at: Timestamp(0),
            crash_seen: None,
            next_record: Timestamp(0),
        }
    }

    /// Power comes on: cured of what this cures, and with a new disk also of its memory.
    fn boot(&mut self, server: &Server, now: Timestamp, boot_time: Duration) {
        let new_disk = self.disk != server.disk;
        let strength = if new_disk {
            Cure::Rebuild
        } else {
            Cure::Reboot
        };
        if self.cure <= strength {
            self.illness = None;
            self.crash_seen = None;
        }
        if new_disk {
            self.has_certificate = false;
            self.disk_holds = None;
            self.node = find_node_name(&user_data(server)).unwrap_or_else(|| server.name.clone());
        }
        self.boots = server.boots;
        self.disk = server.disk;
        self.phase = Phase::Booting(now.plus(boot_time));
    }
}

/// The Node as its kubelet makes it: not ready, and tainted so by the API server.
fn node_object(world: &World, server: &Server, node: &str) -> Value {
    let flavor = world
        .options
        .flavors
        .iter()
        .find(|flavor| flavor.id == server.flavor);
    let (cores, memory_mib, flavor_name) = flavor.map_or((1, 1_024, ""), |flavor| {
        (flavor.vcpus, flavor.ram_mib, flavor.name.as_str())
    });
    let size = json!({"cpu": cores.to_string(), "memory": format!("{memory_mib}Mi"), "pods": "110",
        "ephemeral-storage": "20Gi"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": node,
            "labels": {
                "kubernetes.io/hostname": node, "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": flavor_name,
                "topology.kubernetes.io/zone": server.zone,
                "topology.kubernetes.io/region": world.options.credentials.region,
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {
            "providerID": format!("openstack:///{}", server.id),
            "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}],
        },
        "status": {
            "capacity": size, "allocatable": size,
            "addresses": [{"type": "InternalIP", "address": server.address()},
                {"type": "Hostname", "address": node}],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "operatingSystem": "linux",
                "architecture": "amd64", "machineID": server.id.replace('-', ""),
                "systemUUID": server.id, "bootID": format!("{}-{}", server.id, server.boots),
                "containerRuntimeVersion": "containerd://2.1.0", "osImage": "Debian 12",
                "kernelVersion": "6.1.0", "kubeProxyVersion": ""},
        },
    })
}
