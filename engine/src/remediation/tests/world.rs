//! A tiny world for the tests: a cloud, a cluster and their ledger, on virtual time.
//!
//! It knows none of the step machine's rules. It does what it is asked, late and badly if a
//! fault says so, and fails the test at once when something is asked that may never be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::{Machine, Seen, Sight};
use crate::action::{
    Action, ActionKind, ActionResult, Done, Failure, FailureKind, VmRef, mark, taint,
};
use crate::cluster::Placement;
use crate::event::{Labels, NodeView, Ready, Requests, ServerStatus, ServerView, Taint};
use crate::names::{NodeName, OperationId, VmId};
use crate::time::{Monotonic, Now, Timestamp};

/// How long the world's own processes take.
pub(super) const BUILD: Duration = Duration::from_secs(20);
/// The pool's default gives it twenty minutes, as many as its token has.
const SLOW_BUILD: Duration = Duration::from_secs(1190);
const JOIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_secs(10);
/// How long lists that lag do so: less than a creation is given to settle.
const LISTS_LAG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(5);

/// What is wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It fails like this, and nothing happened.
    Fail(FailureKind),
    /// It is done; the answer is lost.
    AnswerLost,
    /// It is not done; the answer is lost.
    NeverSent,
    /// Of a creation the port is made and the VM is not; the answer is lost.
    Halfway,
    /// The answer is lost; it is done this much later.
    Late(Duration),
    /// It is done twice, as if the wire had repeated it.
    Twice,
}

/// A VM that is none of this world's.
pub(super) const SOMEBODY_ELSES: &str = "somebody-elses";

/// What is wrong with the world as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Troubles {
    /// New VMs end in ERROR.
    pub error: bool,
    /// New VMs stay in BUILD for ever.
    pub build_for_ever: bool,
    /// New VMs are ACTIVE and have no address.
    pub no_address: bool,
    /// New VMs take all but ten seconds of the time that they have.
    pub slow_build: bool,
    /// No list shows a new VM before it is a minute old: a replica that lags answers.
    pub lists_lag: bool,
    /// New VMs never join.
    pub no_join: bool,
    /// The Node that joins under a new VM's name runs on a VM of somebody else's.
    pub name_taken: bool,
    /// A pod's budget never lets it go.
    pub blocked: bool,
    /// VMs cannot be stopped (their host is dead).
    pub no_stop: bool,
    /// Only a hard reboot helps.
    pub needs_hard: bool,
    /// No reboot helps.
    pub reboot_useless: bool,
    /// Deleting a VM ends in ERROR this often before it works.
    pub stuck_deletes: u32,
}

#[derive(Debug, Clone)]
struct Server {
    view: ServerView,
    /// The token in its user data.
    token: Option<u64>,
    /// What it becomes, and when.
    becomes: Option<(Monotonic, Becomes)>,
    /// When it joins, if it can.
    joins: Option<Monotonic>,
    /// Whether its guest works.
    alive: bool,
    /// Whether its disk is as its image, so that it has to join.
    blank: bool,
    /// From when on lists show it.
    listed: Monotonic,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Becomes {
    Active,
    Alive,
    /// Its power is on, and its guest does not come up.
    Dead,
    /// Made anew, and its power goes off again.
    OffAgain,
    Off,
    Error,
    Gone,
}

/// A call, and how things stood when it came.
pub(super) struct Entry {
    pub kind: ActionKind,
    /// The status of the operation's old VM; none if it is gone.
    pub old: Option<ServerStatus>,
    /// The statuses of the VMs with the operation's mark.
    pub made: Vec<ServerStatus>,
    /// The nodes that are Ready.
    pub ready: BTreeSet<NodeName>,
}

pub(super) struct World {
    pub clock: Monotonic,
    /// When the running epoch began, on `clock`: its own monotonic clock starts there.
    pub epoch_began: Monotonic,
    pub troubles: Troubles,
    /// Every call that came in, by name.
    pub calls: Vec<String>,
    /// The same, with how things stood when it came.
    pub ledger: Vec<Entry>,
    pub nodes: BTreeMap<NodeName, NodeView>,
    pub drained: BTreeSet<NodeName>,
    /// VMs that someone else deleted or took over.
    pub lost: BTreeSet<VmId>,
    /// Nodes that someone else deleted.
    pub lost_nodes: BTreeSet<NodeName>,
    kubernetes: bool,
    operation: OperationId,
    old: Option<VmId>,
    servers: BTreeMap<VmId, Server>,
    token: Option<u64>,
    /// The operations that have ports.
    ports: BTreeSet<OperationId>,
    /// Until when it is taken.
    token_until: Monotonic,
    made: u64,
    /// Calls that come through late, with the token that was there when they were sent.
    late: Vec<(Monotonic, Action, Option<u64>)>,
    /// What the poll saw last, and when.
    shown: Option<(Monotonic, BTreeMap<VmId, ServerView>)>,
    leases: BTreeMap<NodeName, Monotonic>,
    heard: BTreeMap<NodeName, Monotonic>,
}

impl World {
    pub(super) fn new(operation: OperationId, kubernetes: bool) -> Self {
        let mut world = Self {
            clock: Monotonic(1_000_000),
            epoch_began: Monotonic(900_000),
            troubles: Troubles::default(),
            calls: Vec::new(),
            ledger: Vec::new(),
            nodes: BTreeMap::new(),
            drained: BTreeSet::new(),
            lost: BTreeSet::new(),
            lost_nodes: BTreeSet::new(),
            kubernetes,
            operation,
            old: None,
            servers: BTreeMap::new(),
            token: None,
            ports: BTreeSet::new(),
            token_until: Monotonic(0),
            made: 0,
            late: Vec::new(),
            shown: None,
            leases: BTreeMap::new(),
            heard: BTreeMap::new(),
        };
        world.member("bystander", true);
        world
    }

    /// Puts a machine of another operation into the world.
    pub(super) fn member(&mut self, name: &str, alive: bool) -> Machine {
        let other = OperationId {
            journal: 7,
            number: 1,
        };
        // Another than made it last, as after a rebuild.
        let network = OperationId {
            journal: 7,
            number: 100 + self.made,
        };
        let marks = BTreeMap::from([
            (mark::OPERATION.to_owned(), other.to_string()),
            (mark::NETWORK.to_owned(), network.to_string()),
        ]);
        self.ports.insert(network);
        let id = self.make(name, marks, None);
        let created = {
            let server = self.servers.get_mut(&id).unwrap();
            server.view.status = ServerStatus::Active;
            server.view.addresses = vec!["10.0.0.9".to_owned()];
            server.becomes = None;
            server.joins = None;
            server.alive = alive;
            server.blank = false;
            server.listed = Monotonic::default();
            server.view.created
        };
        if self.kubernetes {
            self.join(&id);
        }
        let node = NodeName::new(name);
        if !alive && let Some(view) = self.nodes.get_mut(&node) {
            view.ready = Ready::Unknown;
        }
        Machine {
            uid: self.nodes.get(&node).map(|view| view.uid.clone()),
            node,
            vm: Some(id),
            created: Some(created),
            operation: Some(other),
            network: Some(network),
            off: false,
            stands_on: Vec::new(),
        }
    }

    /// This is the operation's old machine: it may be touched.
    pub(super) fn hand_over(&mut self, old: &Machine) {
        self.old = old.vm.clone();
    }

    /// Someone deletes the VM; its Node stays.
    pub(super) fn lose_vm(&mut self, old: Option<&Machine>) {
        if let Some(vm) = old.and_then(|old| old.vm.clone()) {
            self.servers.remove(&vm);
            self.silence(&vm);
            self.lost.insert(vm);
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: Timestamp(1_700_000_000_000 + i64::try_from(self.clock.0).unwrap()),
            mono: Monotonic(self.clock.0 - self.epoch_began.0),
        }
    }

    fn in_epoch(&self, at: Monotonic) -> Option<Now> {
        (at >= self.epoch_began).then(|| Now {
            wall: Timestamp(1_700_000_000_000 + i64::try_from(at.0).unwrap()),
            mono: Monotonic(at.0 - self.epoch_began.0),
        })
    }

    /// The program starts again: it has seen nothing yet.
    pub(super) fn restart(&mut self) {
        self.epoch_began = self.clock;
        self.shown = None;
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, by: Duration) {
        self.clock = self.clock.plus(by);
        let clock = self.clock;
        let (due, late) = self.late.drain(..).partition(|(at, ..)| *at <= clock);
        self.late = late;
        let due: Vec<(Monotonic, Action, Option<u64>)> = due;
        for (_, action, token) in due {
            let current = std::mem::replace(&mut self.token, token);
            let _ = self.carry_out(&action);
            self.token = current;
        }
        for id in self.servers.keys().cloned().collect::<Vec<_>>() {
            self.grow(&id);
        }
        self.check();
        let polled = self.shown.as_ref().map(|(at, _)| *at);
        if polled.is_none_or(|at| clock.since(at) >= POLL) {
            let listed = self.servers.iter().filter(|(_, one)| self.lists(one));
            let views = listed.map(|(id, server)| (id.clone(), server.view.clone()));
            self.shown = Some((clock, views.collect()));
        }
    }

    /// Whether a list shows the VM.
    fn lists(&self, server: &Server) -> bool {
        server.listed <= self.clock
    }

    fn grow(&mut self, id: &VmId) {
        let clock = self.clock;
        let server = self.servers.get_mut(id).unwrap();
        if let Some((at, becomes)) = server.becomes
            && at <= clock
        {
            server.becomes = None;
            match becomes {
                Becomes::Active if self.troubles.no_address => {
                    server.view.status = ServerStatus::Active;
                }
                Becomes::Active => {
                    server.view.status = ServerStatus::Active;
                    server.view.task_state = None;
                    server.view.addresses = vec!["10.0.0.5".to_owned()];
                    server.alive = true;
                    server.joins = Some(clock.plus(JOIN));
                }
                Becomes::Alive => {
                    server.view.status = ServerStatus::Active;
                    server.view.task_state = None;
                    server.alive = true;
                    server.joins = server.blank.then_some(clock.plus(JOIN));
                }
                Becomes::Dead => {
                    server.view.status = ServerStatus::Active;
                    server.view.task_state = None;
                }
                Becomes::OffAgain => {
                    server.view.status = ServerStatus::Active;
                    server.view.task_state = Some("powering-off".to_owned());
                    server.becomes = Some((clock.plus(SHORT), Becomes::Off));
                }
                Becomes::Off => {
                    server.view.status = ServerStatus::Shutoff;
                    server.view.task_state = None;
                    server.alive = false;
                    server.joins = None;
                }
                Becomes::Error => {
                    server.view.status = ServerStatus::Error;
                    server.view.task_state = None;
                    server.view.fault = Some("No valid host was found. ".to_owned());
                }
                Becomes::Gone => {
                    self.servers.remove(id);
                }
            }
        }
        let Some(server) = self.servers.get(id).cloned() else {
            self.silence(id);
            return;
        };
        if server.joins.is_some_and(|at| at <= clock) {
            self.servers.get_mut(id).unwrap().joins = None;
            let name = NodeName::new(&server.view.name);
            let may = !self.kubernetes
                || (server.token.is_some()
                    && server.token == self.token
                    && clock < self.token_until
                    && !self.nodes.contains_key(&name));
            if may && !self.troubles.no_join {
                self.servers.get_mut(id).unwrap().blank = false;
                self.join(id);
            }
        }
        if server.alive {
            self.speak(id, &server.view.name);
        } else {
            self.silence(id);
        }
    }

    fn speak(&mut self, id: &VmId, name: &str) {
        let name = NodeName::new(name);
        if !self.kubernetes {
            self.heard.insert(name, self.clock);
        } else if let Some(node) = self.nodes.get_mut(&name)
            && node.vm.as_ref() == Some(id)
        {
            node.ready = Ready::True;
            self.leases.insert(name.clone(), self.clock);
            self.heard.insert(name, self.clock);
        }
    }

    fn silence(&mut self, id: &VmId) {
        for node in self.nodes.values_mut() {
            if node.vm.as_ref() == Some(id) {
                node.ready = Ready::Unknown;
            }
        }
    }

    fn join(&mut self, id: &VmId) {
        if !self.kubernetes {
            return;
        }
        self.made += 1;
        let server = &self.servers[id];
        let name = NodeName::new(&server.view.name);
        let taken = self.troubles.name_taken && server.token.is_some();
        let vm = if taken {
            VmId::new(SOMEBODY_ELSES)
        } else {
            id.clone()
        };
        let node = NodeView {
            name: name.clone(),
            uid: format!("uid-{}", self.made),
            vm: Some(vm),
            labels: Labels::default(),
            annotations: Labels::default(),
            created: self.now().wall,
            ready: Ready::True,
            ready_since: self.now().wall,
            unschedulable: false,
            control_plane: false,
            taints: Vec::new(),
            allocatable: Requests::default(),
        };
        self.drained.remove(&name);
        self.nodes.insert(name, node);
    }

    /// How long a VM takes until it is ACTIVE.
    fn build(&self) -> Duration {
        match self.troubles.slow_build {
            true => SLOW_BUILD,
            false => BUILD,
        }
    }

    fn make(&mut self, name: &str, metadata: BTreeMap<String, String>, token: Option<u64>) -> VmId {
        self.made += 1;
        let id = VmId::new(format!("vm-{}", self.made));
        let becomes = if self.troubles.error {
            Some(Becomes::Error)
        } else {
            (!self.troubles.build_for_ever).then_some(Becomes::Active)
        };
        let server = Server {
            view: ServerView {
                id: id.clone(),
                name: name.to_owned(),
                status: ServerStatus::Build,
                task_state: None,
                created: self.now().wall,
                metadata: metadata.into_iter().collect(),
                addresses: Vec::new(),
                fault: None,
                zone: None,
                host_id: None,
            },
            token,
            becomes: becomes.map(|becomes| (self.clock.plus(self.build()), becomes)),
            joins: None,
            alive: false,
            blank: true,
            listed: match self.troubles.lists_lag {
                true => self.clock.plus(LISTS_LAG),
                false => self.clock,
            },
        };
        self.servers.insert(id.clone(), server);
        id
    }

    /// Carries an action out, with its fault.
    pub(super) fn call(&mut self, action: &Action, fault: Fault) -> ActionResult {
        self.calls.push(action.kind.name().to_owned());
        let old = self.old.as_ref().and_then(|old| self.servers.get(old));
        let ready = self.nodes.values().filter(|node| node.ready == Ready::True);
        self.ledger.push(Entry {
            kind: action.kind.clone(),
            old: old.map(|server| server.view.status.clone()),
            made: self.marked().map(|made| made.view.status.clone()).collect(),
            ready: ready.map(|node| node.name.clone()).collect(),
        });
        let lost = || Err(Failure::new(FailureKind::Unknown, "the answer was lost"));
        match fault {
            Fault::None => self.carry_out(action),
            Fault::Fail(kind) => {
                if matches!(kind, FailureKind::NotFound | FailureKind::NotOwned) {
                    self.lose(&action.kind, kind == FailureKind::NotFound);
                }
                Err(Failure::new(kind, "the test says so"))
            }
            Fault::AnswerLost => {
                let _ = self.carry_out(action);
                lost()
            }
            Fault::NeverSent => lost(),
            Fault::Halfway => {
                if let ActionKind::CreateServer { .. } = action.kind {
                    self.ports.insert(self.operation);
                }
                lost()
            }
            // Only the cloud was seen to do things long after its answer was given up. The API
            // server drops what its caller no longer waits for.
            Fault::Late(_) if !action.kind.is_cloud() => {
                let _ = self.carry_out(action);
                lost()
            }
            Fault::Late(by) => {
                self.late
                    .push((self.clock.plus(by), action.clone(), self.token));
                lost()
            }
            Fault::Twice => {
                // The wire repeats only what may be repeated: a POST of a VM never is.
                if !matches!(action.kind, ActionKind::CreateServer { .. }) {
                    let _ = self.carry_out(action);
                }
                self.carry_out(action)
            }
        }
    }

    /// Makes a failure true: someone else deleted what was asked for, or took it over.
    fn lose(&mut self, kind: &ActionKind, gone: bool) {
        match kind {
            ActionKind::DeleteToken => self.token = None,
            ActionKind::RebootServer { vm, .. }
            | ActionKind::StopServer { vm }
            | ActionKind::StartServer { vm }
            | ActionKind::RebuildServer { vm, .. }
            | ActionKind::DeleteServer { vm } => {
                self.lost.insert(vm.id.clone());
                if gone {
                    self.servers.remove(&vm.id);
                    self.silence(&vm.id);
                } else if let Some(server) = self.servers.get_mut(&vm.id) {
                    server.view.metadata = Labels::default();
                }
            }
            ActionKind::Cordon { node }
            | ActionKind::Uncordon { node }
            | ActionKind::Drain { node }
            | ActionKind::LabelNode { node, .. }
            | ActionKind::OutOfService { node }
            | ActionKind::InService { node }
            | ActionKind::DeleteNode { node } => {
                self.lost_nodes.insert(node.name.clone());
                self.nodes.remove(&node.name);
                self.leases.remove(&node.name);
            }
            ActionKind::CreateToken { .. }
            | ActionKind::ExtendToken { .. }
            | ActionKind::CreateServer { .. }
            | ActionKind::ApproveJoin { .. }
            | ActionKind::FindServer => {}
            ActionKind::ReleasePorts { operation } => {
                self.ports.remove(operation);
            }
        }
    }

    fn carry_out(&mut self, action: &Action) -> ActionResult {
        match &action.kind {
            ActionKind::CreateToken { ttl, .. } => {
                self.made += 1;
                self.token = Some(self.made);
                self.token_until = self.clock.plus(*ttl);
                Ok(Done::Accepted)
            }
            ActionKind::ExtendToken { ttl } => {
                if self.token.is_none() {
                    return Err(Failure::new(FailureKind::NotFound, "no such token"));
                }
                self.token_until = self.clock.plus(*ttl);
                Ok(Done::Accepted)
            }
            ActionKind::DeleteToken => {
                self.token = None;
                Ok(Done::Accepted)
            }
            ActionKind::ApproveJoin { .. } => Ok(Done::Accepted),
            ActionKind::CreateServer { node, metadata } => {
                if self.kubernetes && self.token.is_none() {
                    return Err(Failure::new(FailureKind::NeedsToken, "no token"));
                }
                self.ports.insert(self.operation);
                let vm = self.make(node.as_str(), metadata.clone(), self.token);
                Ok(Done::Created { vm })
            }
            ActionKind::FindServer => Ok(Done::Found {
                servers: self
                    .marked()
                    .filter(|server| self.lists(server))
                    .map(|server| (server.view.id.clone(), server.view.created))
                    .collect(),
                complete: true,
            }),
            ActionKind::RebootServer { vm, hard } => self.reboot(vm, *hard),
            ActionKind::StopServer { vm } => self.stop(vm),
            ActionKind::StartServer { vm } => self.start(vm),
            ActionKind::RebuildServer { vm, metadata, .. } => self.rebuild(vm, metadata),
            ActionKind::DeleteServer { vm } => self.delete(vm),
            ActionKind::ReleasePorts { operation } => {
                let mark = operation.to_string();
                let lives = |server: &&Server| {
                    server.view.metadata.get(mark::NETWORK) == Some(mark.as_str())
                };
                let lived_on = self.servers.values().find(lives);
                assert!(
                    lived_on.is_none(),
                    "ports were released of a VM that is there: {lived_on:?}"
                );
                self.ports.remove(operation);
                Ok(Done::Accepted)
            }
            ActionKind::Cordon { node } => self.on_node(&node.name, &node.uid, |view| {
                view.unschedulable = true;
            }),
            ActionKind::Uncordon { node } => self.on_node(&node.name, &node.uid, |view| {
                view.unschedulable = false;
            }),
            ActionKind::Drain { node } => self.drain(&node.name),
            ActionKind::LabelNode { node, labels } => {
                let labels = labels.clone();
                self.on_node(&node.name, &node.uid, |view| view.labels.extend(&labels))
            }
            ActionKind::OutOfService { node } => {
                let result = self.on_node(&node.name, &node.uid, |view| {
                    view.taints = vec![out_of_service()];
                });
                if result.is_ok() {
                    self.assert_off(&node.name, "said to be out of service");
                }
                result
            }
            ActionKind::InService { node } => {
                self.on_node(&node.name, &node.uid, |view| view.taints.clear())
            }
            ActionKind::DeleteNode { node } => {
                let result = self.on_node(&node.name, &node.uid, |_| {});
                if result.is_ok() {
                    self.assert_off(&node.name, "deleted");
                    self.nodes.remove(&node.name);
                    self.leases.remove(&node.name);
                }
                result
            }
        }
    }

    /// What may only be done to a node whose VM is gone or off.
    fn assert_off(&self, node: &NodeName, done: &str) {
        let vm = self.nodes[node].vm.as_ref();
        let running = vm.and_then(|vm| self.servers.get(vm));
        assert!(
            running.is_none_or(|server| server.view.status == ServerStatus::Shutoff),
            "a Node was {done} whose VM is neither gone nor off"
        );
    }

    /// The VM, if it is the operation's to touch. Anything else fails the test.
    fn owned(&mut self, vm: &VmRef) -> Result<&mut Server, Failure> {
        let operation = self.operation.to_string();
        let old = self.old.clone();
        if self.lost.contains(&vm.id) && self.servers.contains_key(&vm.id) {
            // Someone took it over after it was asked for.
            return Err(Failure::new(FailureKind::NotOwned, "it has another owner"));
        }
        let Some(server) = self.servers.get_mut(&vm.id) else {
            return Err(Failure::new(FailureKind::NotFound, "no such VM"));
        };
        let mark = server.view.metadata.get(mark::OPERATION).map(str::to_owned);
        assert!(
            old.as_ref() == Some(&vm.id) || mark.as_ref() == Some(&operation),
            "{} is not the operation's",
            vm.id
        );
        let named = vm.operation.map(|operation| operation.to_string());
        if server.view.created != vm.created || (mark != named && mark != Some(operation)) {
            return Err(Failure::new(FailureKind::NotOwned, "another generation"));
        }
        Ok(server)
    }

    /// What must hold before a VM may run again.
    fn assert_in_service(&self, vm: &VmRef) {
        let of_it = |node: &&NodeView| node.vm.as_ref() == Some(&vm.id);
        let node = self.nodes.values().find(of_it);
        assert!(
            node.is_none_or(|node| node.taints.is_empty()),
            "a VM may run again whose node is out of service"
        );
    }

    fn reboot(&mut self, vm: &VmRef, hard: bool) -> ActionResult {
        let troubles = self.troubles;
        let at = self.clock.plus(BUILD);
        self.assert_in_service(vm);
        let server = self.owned(vm)?;
        if !troubles.reboot_useless && (hard || !troubles.needs_hard) {
            server.becomes = Some((at, Becomes::Alive));
        }
        Ok(Done::Accepted)
    }

    fn stop(&mut self, vm: &VmRef) -> ActionResult {
        let no_stop = self.troubles.no_stop;
        let at = self.clock.plus(SHORT);
        let server = self.owned(vm)?;
        if server.view.status == ServerStatus::Shutoff {
            return Ok(Done::Already);
        }
        server.view.task_state = Some("powering-off".to_owned());
        server.becomes = (!no_stop).then_some((at, Becomes::Off));
        Ok(Done::Accepted)
    }

    fn start(&mut self, vm: &VmRef) -> ActionResult {
        self.assert_in_service(vm);
        let useless = self.troubles.reboot_useless;
        let at = self.clock.plus(BUILD);
        let server = self.owned(vm)?;
        let busy = server.view.task_state.is_some();
        match server.view.status {
            ServerStatus::Active if !busy => return Ok(Done::Already),
            ServerStatus::Shutoff if !busy => {}
            _ => {
                let wait = FailureKind::Retry { after: None };
                return Err(Failure::new(wait, "it is not off, or at work"));
            }
        }
        server.view.task_state = Some("powering-on".to_owned());
        server.becomes = Some((
            at,
            if useless {
                Becomes::Dead
            } else {
                Becomes::Alive
            },
        ));
        Ok(Done::Accepted)
    }

    fn rebuild(&mut self, vm: &VmRef, metadata: &BTreeMap<String, String>) -> ActionResult {
        let ours = self.operation;
        let mark = self
            .owned(vm)?
            .view
            .metadata
            .get(mark::OPERATION)
            .map(str::to_owned);
        if vm.operation != Some(ours) && mark == Some(ours.to_string()) {
            return Ok(Done::Already);
        }
        if self.kubernetes && self.token.is_none() {
            return Err(Failure::new(FailureKind::NeedsToken, "no token"));
        }
        let token = self.token;
        let at = self.clock.plus(self.build());
        let error = self.troubles.error;
        let server = self.owned(vm)?;
        server.view.metadata.extend(metadata);
        let was_off = server.view.status == ServerStatus::Shutoff;
        server.view.status = ServerStatus::Rebuild;
        server.view.task_state = Some("rebuilding".to_owned());
        server.token = token;
        server.joins = None;
        server.blank = true;
        let becomes = match (error, was_off) {
            (true, _) => Becomes::Error,
            // Seen on Nova: one that was off is brought back to that.
            (false, true) => Becomes::OffAgain,
            (false, false) => Becomes::Active,
        };
        server.becomes = Some((at, becomes));
        Ok(Done::Accepted)
    }

    fn delete(&mut self, vm: &VmRef) -> ActionResult {
        let at = self.clock.plus(SHORT);
        let stuck = self.troubles.stuck_deletes > 0;
        let server = self.owned(vm)?;
        server.becomes = Some((at, if stuck { Becomes::Error } else { Becomes::Gone }));
        let name = NodeName::new(&server.view.name);
        let served = server.alive && self.old.as_ref() == Some(&vm.id);
        self.troubles.stuck_deletes = self.troubles.stuck_deletes.saturating_sub(1);
        assert!(
            !served || !self.nodes.contains_key(&name) || self.drained.contains(&name),
            "a VM that served was deleted with its pods"
        );
        Ok(Done::Accepted)
    }

    fn drain(&mut self, name: &NodeName) -> ActionResult {
        let Some(node) = self.nodes.get(name) else {
            return Err(Failure::new(FailureKind::NotFound, "no such node"));
        };
        assert!(node.unschedulable, "drained without a cordon");
        if self.troubles.blocked {
            return Err(Failure::new(
                FailureKind::Blocked,
                "budget `db` allows none",
            ));
        }
        self.drained.insert(name.clone());
        Ok(Done::Drained { evicted: 3 })
    }

    fn on_node(
        &mut self,
        name: &NodeName,
        uid: &str,
        act: impl FnOnce(&mut NodeView),
    ) -> ActionResult {
        match self.nodes.get_mut(name) {
            None => Err(Failure::new(FailureKind::NotFound, "no such node")),
            Some(node) if node.uid != uid => {
                Err(Failure::new(FailureKind::NotOwned, "another node"))
            }
            Some(node) => {
                act(node);
                Ok(Done::Accepted)
            }
        }
    }

    fn marked(&self) -> impl Iterator<Item = &Server> {
        let operation = self.operation.to_string();
        self.servers.values().filter(move |server| {
            server.view.metadata.get(mark::OPERATION) == Some(operation.as_str())
        })
    }

    /// What must hold at every instant.
    fn check(&self) {
        let joined = self.marked().filter(|server| {
            self.nodes
                .values()
                .any(|node| node.vm.as_ref() == Some(&server.view.id))
        });
        assert!(joined.count() <= 1, "two VMs of one operation have joined");
        let bystander = &self.servers[&VmId::new("vm-1")];
        assert_eq!(bystander.view.status, ServerStatus::Active);
    }

    // What the tests ask about the end.

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether ports are there that no VM lives on.
    pub(super) fn has_ports_left(&self) -> bool {
        let marks = self.servers.values();
        let marks: BTreeSet<_> = marks
            .filter_map(|server| server.view.metadata.get(mark::NETWORK))
            .collect();
        let mut ports = self.ports.iter();
        ports.any(|operation| !marks.contains(operation.to_string().as_str()))
    }

    /// VMs that carry the operation's mark.
    pub(super) fn made_vms(&self) -> Vec<VmId> {
        self.marked().map(|server| server.view.id.clone()).collect()
    }

    pub(super) fn has_vm(&self, id: &VmId) -> bool {
        self.servers.contains_key(id)
    }

    /// Somebody else stops the VM.
    pub(super) fn switch_off(&mut self, id: &VmId) {
        let server = self.servers.get_mut(id).unwrap();
        server.view.status = ServerStatus::Shutoff;
        server.alive = false;
    }

    /// The VM's status, and whether it is this operation's own.
    pub(super) fn status_of(&self, id: &VmId) -> Option<(ServerStatus, bool)> {
        let server = self.servers.get(id)?;
        let own = self.marked().any(|marked| marked.view.id == *id);
        Some((server.view.status.clone(), own))
    }

    pub(super) fn settled(&self) -> bool {
        self.late.is_empty() && self.servers.values().all(|server| server.becomes.is_none())
    }
}

fn out_of_service() -> Taint {
    Taint {
        key: taint::OUT_OF_SERVICE.to_owned(),
        value: taint::VALUE.to_owned(),
        effect: taint::EFFECT.to_owned(),
    }
}

impl Seen for World {
    fn server(&self, id: &VmId) -> Sight<crate::cluster::Server> {
        let Some((at, shown)) = &self.shown else {
            return Sight::Unknown;
        };
        match (shown.get(id), self.in_epoch(*at)) {
            (Some(view), _) => Sight::There(view.into()),
            (None, Some(asked)) => Sight::Gone { asked },
            (None, None) => Sight::Unknown,
        }
    }

    fn node(&self, name: &NodeName) -> Sight<crate::cluster::Node> {
        match self.nodes.get(name) {
            Some(view) => {
                let placement = Arc::new(Placement::of(view));
                Sight::There(crate::cluster::Node::new(view, placement, self.now()))
            }
            None if self.shown.is_some() => Sight::Gone { asked: self.now() },
            None => Sight::Unknown,
        }
    }

    fn heard(&self, node: &NodeName) -> Option<Now> {
        self.in_epoch(*self.heard.get(node)?)
    }

    fn lease(&self, node: &NodeName) -> Option<Monotonic> {
        let seen = self.in_epoch(*self.leases.get(node)?)?;
        Some(seen.mono)
    }
}
