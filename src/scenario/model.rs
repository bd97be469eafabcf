//! The cloud and the cluster of a scenario: a few dozen lines of truth, on virtual time.
//!
//! It is no stand-in for OpenStack or Kubernetes (that is the package `rhizome-standin`, over
//! HTTP): it only answers actions the way a healthy cloud does, with the delays below, so that
//! a policy can be rehearsed. It knows nothing of the engine's plans.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rhizome_engine::action::{
    Action, ActionKey, ActionKind, ActionResult, Done, Failure, FailureKind, mark,
};
use rhizome_engine::event::{
    Labels, NodeView, Observation, PortsView, Ready, Requests, ServerStatus, ServerView,
};
use rhizome_engine::names::{NodeName, OperationId, PoolName, VmId};
use rhizome_engine::time::Timestamp;

use super::parse::Builds;

mod befalls;
pub(super) mod pods;
mod ports;

/// From the request to ACTIVE.
const BUILD: Duration = Duration::from_secs(40);
/// From ACTIVE to a Ready node.
const JOIN: Duration = Duration::from_secs(50);
/// Of a reboot or rebuild, until it is back.
const REBOOT: Duration = Duration::from_secs(30);
/// Until a deleted VM is gone, or a stopped one is off.
const DELETE: Duration = Duration::from_secs(5);
/// Until a node is empty.
const DRAIN: Duration = Duration::from_secs(20);
/// Until a call that hangs is given up.
const HANG: Duration = Duration::from_secs(5);
/// How often a kubelet renews its lease.
const LEASE: Duration = Duration::from_secs(10);
/// After this long without a lease the cluster says Unknown.
const GRACE: Duration = Duration::from_secs(50);

/// A machine: its VM, its node and what lives on it.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) name: NodeName,
    id: VmId,
    status: ServerStatus,
    created: Timestamp,
    metadata: BTreeMap<String, String>,
    node: Option<Node>,
    /// Whether its VM exists.
    there: bool,
    /// Whether the machine runs, and its agent on it.
    alive: bool,
    agent: bool,
    /// Whether no reboot brings it back.
    broken: bool,
    /// Whether its disk is as its image: it has to join.
    blank: bool,
    /// Whether the cloud does not show it although it is there.
    hidden: bool,
    /// What its pods ask for.
    pods: Vec<Requests>,
    /// Whether it has an address once it is built.
    addressed: bool,
}

#[derive(Debug, Clone)]
struct Node {
    uid: String,
    ready: Ready,
    since: Timestamp,
    renewed: Timestamp,
    cordoned: bool,
    out_of_service: bool,
    created: Timestamp,
}

/// What becomes of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done, and says so.
    Done,
    /// Nothing happens, and whoever asked is told to try again.
    Refused,
    /// Nothing happens, and whoever asked cannot tell.
    NotDone,
    /// It is done, and whoever asked cannot tell.
    AnswerLost,
    /// Whoever asked cannot tell, and it is done only this much later.
    Late(Duration),
}

/// What will be so at a time.
#[derive(Debug, Clone)]
enum Later {
    Outcome(ActionKey, ActionResult),
    Begin(Box<Action>),
    Active(VmId),
    Join(VmId),
    Off(VmId),
    Gone(VmId),
}

/// A machine as it really is, whatever is seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub name: NodeName,
    /// Its pool.
    pub pool: PoolName,
    /// Its VM.
    pub vm: VmId,
    /// The operation in the VM's mark.
    pub operation: Option<String>,
    /// Whether the VM exists.
    pub there: bool,
    /// Whether it runs.
    pub serves: bool,
    /// Whether the cluster has a node of it.
    pub joined: bool,
    /// Whether that is cordoned.
    pub cordoned: bool,
}

/// All machines, and what is under way.
#[derive(Debug)]
pub(super) struct Model {
    cluster: String,
    kubernetes: BTreeMap<PoolName, bool>,
    machines: Vec<Machine>,
    /// By the operation that made them: ports, with the names that they were made for.
    ports: BTreeMap<OperationId, PortsView>,
    later: BTreeMap<(Timestamp, u64), Later>,
    number: u64,
    pub(super) unschedulable: u32,
    /// Pods of drained nodes that found no room.
    waiting: Vec<Requests>,
    pub(super) builds: Builds,
    pub(super) empty_list: bool,
    pub(super) partial_list: bool,
    dirty: bool,
}

impl Model {
    pub(super) fn new(cluster: &str, kubernetes: BTreeMap<PoolName, bool>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            kubernetes,
            machines: Vec::new(),
            ports: BTreeMap::new(),
            later: BTreeMap::new(),
            number: 0,
            unschedulable: 0,
            waiting: Vec::new(),
            builds: Builds::Well,
            empty_list: false,
            partial_list: false,
            dirty: true,
        }
    }

    /// A machine that is there, made by us and Ready, from the beginning.
    pub(super) fn found(
        &mut self,
        now: Timestamp,
        pool: &PoolName,
        name: &NodeName,
        operation: OperationId,
    ) -> VmId {
        let metadata = self.marks(pool, operation);
        self.make_ports(pool, name, operation);
        let created = now.minus(Duration::from_secs(86_400));
        let id = self.make(created, name.clone(), metadata, ServerStatus::Active);
        self.join(&id, now);
        id
    }

    /// A VM that is there, off and in no cluster, and was made by `operation` just now.
    pub(super) fn left_over(
        &mut self,
        now: Timestamp,
        pool: &PoolName,
        name: &NodeName,
        operation: OperationId,
    ) {
        let metadata = self.marks(pool, operation);
        self.make(now, name.clone(), metadata, ServerStatus::Shutoff);
    }

    pub(super) fn machine_mut(&mut self, name: &NodeName) -> Option<&mut Machine> {
        self.dirty = true;
        self.machines
            .iter_mut()
            .find(|machine| machine.name == *name)
    }

    /// The machines whose agents speak, with their pools.
    pub(super) fn speaking(&self) -> impl Iterator<Item = (&NodeName, PoolName)> {
        self.machines
            .iter()
            .filter(|machine| machine.alive && machine.agent)
            .filter(|machine| machine.node.is_some() || !self.is_kubernetes(machine))
            .map(|machine| (&machine.name, machine.pool()))
    }

    /// Takes an action: what it leads to comes later.
    pub(super) fn act(&mut self, now: Timestamp, action: &Action, fate: Fate) {
        let unknown = || {
            Err(Failure::new(
                FailureKind::Unknown,
                "the connection was reset",
            ))
        };
        let (after, result) = match fate {
            Fate::Done => self.begin(now, action),
            Fate::Refused => {
                let kind = FailureKind::Retry { after: None };
                (HANG, Err(Failure::new(kind, "the service is unavailable")))
            }
            Fate::NotDone => (HANG, unknown()),
            Fate::AnswerLost => {
                // What it says is lost; what it did is not.
                let (_, _) = self.begin(now, action);
                (HANG, unknown())
            }
            Fate::Late(by) => {
                self.at(now.plus(by), Later::Begin(Box::new(action.clone())));
                (HANG, unknown())
            }
        };
        self.at(now.plus(after), Later::Outcome(action.key, result));
    }

    /// Whoever asked is gone: no answer reaches it.
    pub(super) fn forget_answers(&mut self) {
        self.later
            .retain(|_, later| !matches!(later, Later::Outcome(..)));
    }

    /// The machines there are, as they really are.
    pub(super) fn machines(&self) -> impl Iterator<Item = Fact> {
        self.machines.iter().map(|machine| Fact {
            name: machine.name.clone(),
            pool: machine.pool(),
            vm: machine.id.clone(),
            operation: machine.metadata.get(mark::OPERATION).cloned(),
            there: machine.there,
            serves: machine.alive && machine.there,
            joined: machine.node.is_some(),
            cordoned: machine.node.as_ref().is_some_and(|node| node.cordoned),
        })
    }

    /// Lets everything happen that is due, and says which actions ended.
    pub(super) fn advance(&mut self, now: Timestamp) -> VecDeque<(ActionKey, ActionResult)> {
        let mut ended = VecDeque::new();
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Later::Outcome(key, result) => ended.push_back((key, result)),
                Later::Begin(action) => {
                    let (_, _) = self.begin(now, &action);
                }
                Later::Active(id) => self.become_active(&id, now),
                Later::Join(id) => self.join(&id, now),
                Later::Off(id) => self.set(&id, |machine| {
                    machine.status = ServerStatus::Shutoff;
                    machine.alive = false;
                }),
                // The Node object outlives its VM until it is deleted.
                Later::Gone(id) => self.set(&id, |machine| {
                    machine.there = false;
                    machine.alive = false;
                }),
            }
            self.dirty = true;
        }
        self.machines
            .retain(|machine| machine.there || machine.node.is_some());
        ended
    }

    /// What is seen now: whole listings, when anything changed or `listing` asks for them.
    pub(super) fn observe(&mut self, now: Timestamp, listing: bool) -> Vec<Observation> {
        self.renew(now);
        if !listing && !self.dirty {
            return Vec::new();
        }
        self.dirty = false;
        let servers = if self.empty_list {
            Vec::new()
        } else {
            self.machines
                .iter()
                .filter(|machine| machine.there && !machine.hidden)
                .map(Machine::server)
                .collect()
        };
        let nodes = self.machines.iter().filter_map(Machine::node_view);
        vec![
            Observation::Servers {
                at: now,
                complete: !self.partial_list,
                servers,
            },
            Observation::Nodes {
                at: now,
                nodes: nodes.collect(),
            },
            self.pods(now),
        ]
    }

    /// The leases there are.
    pub(super) fn leases(&self) -> Vec<Observation> {
        self.machines
            .iter()
            .filter_map(|machine| {
                Some(Observation::Lease {
                    node: machine.name.clone(),
                    renewed: machine.node.as_ref()?.renewed,
                })
            })
            .collect()
    }

    fn begin(&mut self, now: Timestamp, action: &Action) -> (Duration, ActionResult) {
        let second = Duration::from_secs(1);
        let done = (second, Ok(Done::Accepted));
        match &action.kind {
            ActionKind::CreateToken { .. }
            | ActionKind::ExtendToken { .. }
            | ActionKind::DeleteToken
            | ActionKind::ApproveJoin { .. }
            | ActionKind::LabelNode { .. } => done,
            ActionKind::ReleasePorts { operation } => (second, self.release(*operation)),
            ActionKind::FindServer => (second, Ok(self.find(action.key.operation))),
            ActionKind::CreateServer { node, metadata } => {
                self.make_ports(&action.pool, node, action.key.operation);
                let id = self.make(now, node.clone(), metadata.clone(), ServerStatus::Build);
                self.at(now.plus(BUILD), Later::Active(id.clone()));
                (second, Ok(Done::Created { vm: id }))
            }
            ActionKind::RebootServer { vm, .. } => {
                self.set(&vm.id, |machine| machine.status = ServerStatus::Reboot);
                self.at(now.plus(REBOOT), Later::Active(vm.id.clone()));
                done
            }
            ActionKind::RebuildServer { vm, metadata, .. } => {
                let metadata = metadata.clone();
                self.set(&vm.id, |machine| {
                    machine.status = ServerStatus::Rebuild;
                    machine.metadata.extend(metadata);
                    machine.alive = false;
                    machine.blank = true;
                });
                // It was off, and Nova brings it back to that.
                self.at(now.plus(REBOOT), Later::Off(vm.id.clone()));
                done
            }
            ActionKind::StopServer { vm } => {
                self.at(now.plus(DELETE), Later::Off(vm.id.clone()));
                done
            }
            ActionKind::StartServer { vm } => {
                self.at(now.plus(REBOOT), Later::Active(vm.id.clone()));
                done
            }
            ActionKind::DeleteServer { vm } => {
                self.at(now.plus(DELETE), Later::Gone(vm.id.clone()));
                done
            }
            ActionKind::Cordon { node } | ActionKind::Uncordon { node } => {
                let cordoned = matches!(action.kind, ActionKind::Cordon { .. });
                self.node(&node.name, |node| node.cordoned = cordoned);
                done
            }
            ActionKind::Drain { node } => (DRAIN, Ok(self.drain(&node.name))),
            ActionKind::OutOfService { node } | ActionKind::InService { node } => {
                let out = matches!(action.kind, ActionKind::OutOfService { .. });
                self.node(&node.name, |node| node.out_of_service = out);
                done
            }
            ActionKind::DeleteNode { node } => {
                if let Some(machine) = self.machine_mut(&node.name) {
                    machine.node = None;
                }
                done
            }
        }
    }

    fn marks(&self, pool: &PoolName, operation: OperationId) -> BTreeMap<String, String> {
        let marks = [
            (mark::OWNER, mark::OWNER_VALUE.to_owned()),
            (mark::CLUSTER, self.cluster.clone()),
            (mark::POOL, pool.to_string()),
            (mark::OPERATION, operation.to_string()),
            (mark::NETWORK, operation.to_string()),
        ];
        let owned = marks.into_iter();
        owned.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn find(&self, operation: OperationId) -> Done {
        let text = operation.to_string();
        let servers = self
            .machines
            .iter()
            .filter(|machine| machine.there && machine.metadata.get(mark::OPERATION) == Some(&text))
            .map(|machine| (machine.id.clone(), machine.created))
            .collect();
        Done::Found {
            servers,
            complete: true,
        }
    }

    fn make(
        &mut self,
        now: Timestamp,
        name: NodeName,
        metadata: BTreeMap<String, String>,
        status: ServerStatus,
    ) -> VmId {
        self.number += 1;
        let id = VmId::new(format!("00000000-0000-4000-8000-{:012}", self.number));
        self.machines.push(Machine {
            name,
            id: id.clone(),
            status,
            created: now,
            metadata,
            node: None,
            there: true,
            alive: false,
            agent: true,
            broken: false,
            blank: true,
            hidden: false,
            pods: Vec::new(),
            addressed: true,
        });
        self.dirty = true;
        id
    }

    fn become_active(&mut self, id: &VmId, now: Timestamp) {
        let builds = self.builds;
        let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == *id) else {
            return;
        };
        if machine.status == ServerStatus::Build {
            machine.status = match builds {
                Builds::Well => ServerStatus::Active,
                Builds::Fail => ServerStatus::Error,
                Builds::Hang => return,
                Builds::WithoutAddress => {
                    machine.addressed = false;
                    ServerStatus::Active
                }
            };
            if builds != Builds::Well {
                return;
            }
        }
        let joins = machine.blank;
        machine.status = ServerStatus::Active;
        if !joins {
            machine.alive = !machine.broken;
            machine.agent = machine.alive;
        } else {
            self.at(now.plus(JOIN), Later::Join(id.clone()));
        }
    }

    fn join(&mut self, id: &VmId, now: Timestamp) {
        self.number += 1;
        let number = self.number;
        let kubernetes = self
            .machines
            .iter()
            .find(|machine| machine.id == *id)
            .is_some_and(|machine| self.is_kubernetes(machine));
        self.set(id, |machine| {
            machine.alive = true;
            machine.agent = true;
            machine.blank = false;
            if kubernetes {
                machine.node = Some(Node {
                    uid: format!("uid-{number}"),
                    ready: Ready::True,
                    since: now,
                    renewed: now,
                    cordoned: false,
                    out_of_service: false,
                    created: now,
                });
            }
        });
        self.schedule();
    }

    /// Kubelets renew their leases; the cluster gives up on those that do not.
    fn renew(&mut self, now: Timestamp) {
        for machine in &mut self.machines {
            let Some(node) = &mut machine.node else {
                continue;
            };
            if machine.alive && now.since(node.renewed) >= LEASE {
                node.renewed = now;
            }
            let ready = if now.since(node.renewed) > GRACE {
                Ready::Unknown
            } else {
                Ready::True
            };
            if node.ready != ready {
                node.ready = ready;
                node.since = now;
                self.dirty = true;
            }
        }
    }

    fn is_kubernetes(&self, machine: &Machine) -> bool {
        self.kubernetes
            .get(&machine.pool())
            .copied()
            .unwrap_or(true)
    }

    fn set(&mut self, id: &VmId, change: impl FnOnce(&mut Machine)) {
        self.dirty = true;
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == *id) {
            change(machine);
        }
    }

    fn node(&mut self, name: &NodeName, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self
            .machine_mut(name)
            .and_then(|machine| machine.node.as_mut())
        {
            change(node);
        }
    }

    fn at(&mut self, at: Timestamp, later: Later) {
        self.number += 1;
        self.later.insert((at, self.number), later);
    }
}

impl Machine {
    fn pool(&self) -> PoolName {
        PoolName::new(self.metadata.get(mark::POOL).map_or("", String::as_str))
    }

    fn server(&self) -> ServerView {
        ServerView {
            id: self.id.clone(),
            name: self.name.to_string(),
            status: self.status.clone(),
            task_state: None,
            created: self.created,
            metadata: self.metadata.iter().collect(),
            addresses: if self.status == ServerStatus::Build || !self.addressed {
                Vec::new()
            } else {
                vec!["10.0.0.1".to_owned()]
            },
            fault: (self.status == ServerStatus::Error)
                .then(|| "No valid host was found.".to_owned()),
            zone: None,
            host_id: None,
        }
    }

    fn node_view(&self) -> Option<NodeView> {
        let node = self.node.as_ref()?;
        Some(NodeView {
            name: self.name.clone(),
            uid: node.uid.clone(),
            vm: Some(self.id.clone()),
            labels: Labels::default(),
            annotations: Labels::default(),
            created: node.created,
            ready: node.ready,
            ready_since: node.since,
            unschedulable: node.cordoned,
            control_plane: false,
            taints: pods::taints(node.out_of_service),
            allocatable: pods::ALLOCATABLE,
        })
    }
}
