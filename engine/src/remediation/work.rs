//! What the steps do: the functions that the table names. What they watch for is in `watch.rs`.
//!
//! Each looks at the operation and at what is observed, and changes nothing.

use super::watch::{is_active, is_back, is_off, is_since, stays_gone};
use super::{Context, Machine, Operation, Seen, Sight, Stopped, marks};
use crate::action::{ActionKind, NodeRef, mark};
use crate::cluster::Node;
use crate::decision::Rung;
use crate::event::{Ready, ServerStatus};
use crate::remediation::{OperationKind, Step};

/// A token is extended when this part of its time has passed: a quarter. So a machine has three
/// quarters of it for its join, whenever its build ends, and an extension that fails is tried
/// thrice more before the token is gone.
const TOKEN_PARTS: u32 = 4;

/// What a step looks at.
pub(super) struct View<'a> {
    pub operation: &'a Operation,
    pub seen: &'a dyn Seen,
    pub context: &'a Context<'a>,
}

/// What an acting step wants done.
pub(super) enum Job {
    /// This.
    Do(ActionKind),
    /// Nothing: it is so already.
    Skip,
    /// Something it needs has not been observed yet.
    NotYet(&'static str),
    /// It must not be done, for this reason.
    No(String),
}

/// What a watching step sees.
pub(super) enum Test {
    /// It has come.
    Yes,
    /// Not yet.
    NotYet,
    /// Not yet, and this is what it is called if it is still so when the step's time is over.
    Stuck(String),
    /// It will not come, for this reason.
    Failed(String),
}

impl<'a> View<'a> {
    pub(super) fn server_of(&self, machine: Option<&Machine>) -> Sight<crate::cluster::Server> {
        machine
            .and_then(|machine| machine.vm.as_ref())
            .map_or(Sight::Unknown, |vm| self.seen.server(vm))
    }

    pub(super) fn node_of(&self, machine: Option<&Machine>) -> Sight<crate::cluster::Node> {
        machine.map_or(Sight::Unknown, |machine| self.seen.node(&machine.node))
    }

    pub(super) fn old(&self) -> Option<&'a Machine> {
        self.operation.old.as_ref()
    }

    pub(super) fn made(&self) -> Option<&'a Machine> {
        self.operation.new.as_ref()
    }

    /// Whether the machine's kubelet renewed its lease so lately that it must be running.
    pub(super) fn lease_is_fresh(&self, machine: Option<&Machine>) -> bool {
        machine
            .and_then(|machine| self.seen.lease(&machine.node))
            .is_some_and(|renewed| {
                self.context.now.mono.since(renewed) < self.context.limits.lease_grace
            })
    }

    /// The new node, if it is Ready on the new VM.
    fn serving(&self) -> bool {
        let vm = self.made().and_then(|machine| machine.vm.as_ref());
        match self.node_of(self.made()) {
            Sight::There(node) => {
                node.ready == Ready::True && vm.is_some() && node.vm.as_ref() == vm
            }
            Sight::Unknown | Sight::Gone { .. } => false,
        }
    }

    /// Does `act` to the old node, if it is still the one that was decided on.
    fn on_old_node(&self, act: impl FnOnce(NodeRef) -> ActionKind) -> Job {
        let Some(old) = self.old() else {
            return Job::Skip;
        };
        match (self.node_of(Some(old)), old.node_ref()) {
            // A list can lack a node that is there: one that talks is not gone.
            (Sight::Gone { .. }, _) if self.talks(old) => {
                Job::NotYet("the node, whose agent is heard, to be listed again")
            }
            (Sight::Gone { .. }, _) => Job::Skip,
            (Sight::There(node), Some(pinned)) if node.uid != *pinned.uid => Job::No(format!(
                "another node has joined under the name `{}`",
                old.node
            )),
            (Sight::There(node), None) if node.vm.is_some() && node.vm != old.vm => {
                Job::No(format!("the node `{}` runs on another VM", old.node))
            }
            (_, Some(pinned)) => Job::Do(act(pinned)),
            (_, None) => Job::NotYet("the node to be observed"),
        }
    }

    /// What shows that the old machine runs, if anything does. A name that another VM has taken
    /// tells nothing of it.
    pub(super) fn life(&self) -> Option<&'static str> {
        let old = self.old()?;
        if let Sight::There(node) = self.node_of(Some(old)) {
            if node.vm != old.vm {
                return None;
            }
            if node.ready == Ready::True {
                return Some("its node is Ready");
            }
            if self.lease_is_fresh(Some(old)) {
                return Some("its kubelet renews its lease");
            }
        }
        self.talks(old).then_some("its agent is heard")
    }

    /// Whether the decision is older than it may be when it is begun: what it was made on may no
    /// longer hold (I32).
    fn is_stale(&self) -> bool {
        let age = self.operation.began.until(self.context.here());
        age > self.context.limits.decision_expiry
    }

    /// Whether the machine's agent was heard so lately that it must be running.
    fn talks(&self, machine: &Machine) -> bool {
        self.seen.heard(&machine.node).is_some_and(|heard| {
            self.context.now.mono.since(heard.mono) < self.context.limits.lease_grace
        })
    }

    /// Does `act` to the old VM, once its generation is known.
    fn on_old_vm(&self, act: impl FnOnce(crate::action::VmRef) -> ActionKind) -> Job {
        match self.old().and_then(Machine::vm_ref) {
            Some(vm) => Job::Do(act(vm)),
            None => Job::NotYet("the VM to be observed"),
        }
    }
}

pub(super) fn create_token(view: &View<'_>) -> Job {
    match view.made() {
        Some(new) => Job::Do(ActionKind::CreateToken {
            node: new.node.clone(),
            ttl: view.context.limits.token_ttl,
        }),
        None => Job::Skip,
    }
}

pub(super) fn extend_token(view: &View<'_>) -> Job {
    Job::Do(ActionKind::ExtendToken {
        ttl: view.context.limits.token_ttl,
    })
}

/// Whether the VM still builds with a token that should have more time.
pub(super) fn should_extend(view: &View<'_>) -> bool {
    let builds = match view.operation.step {
        Step::StartRebuilt => !matches!(is_active(view), Test::Failed(_)),
        Step::WaitActive => matches!(is_active(view), Test::NotYet | Test::Stuck(_)),
        _ => false,
    };
    let after = view.context.limits.token_ttl / TOKEN_PARTS;
    let here = view.context.here();
    builds
        && view.context.pool.kubernetes
        && view
            .operation
            .token
            .is_some_and(|since| since.until(here) >= after)
}

pub(super) fn delete_token(_: &View<'_>) -> Job {
    Job::Do(ActionKind::DeleteToken)
}

pub(super) fn approve_join(view: &View<'_>) -> Job {
    let Some((new, vm)) = view.made().and_then(|new| Some((new, new.vm.as_ref()?))) else {
        return Job::NotYet("the VM to be known");
    };
    if view.serving() {
        // A template of the operator's own may join by other means than our token.
        return Job::Skip;
    }
    match view.server_of(Some(new)) {
        Sight::There(server) if server.status == ServerStatus::Active => {
            Job::Do(ActionKind::ApproveJoin {
                node: new.node.clone(),
                vm: vm.clone(),
            })
        }
        Sight::Gone { .. } => Job::No(format!("the VM `{vm}` is gone before it joined")),
        // Whatever asks while our VM does not run is not our VM.
        _ => Job::NotYet("the VM to run"),
    }
}

pub(super) fn create_server(view: &View<'_>) -> Job {
    let Some(new) = view.made() else {
        return Job::Skip;
    };
    if let Sight::There(_) = view.node_of(Some(new)) {
        // A second VM under the name would take the Node over without a word.
        return Job::No(format!(
            "a node named `{}` is in the cluster already",
            new.node
        ));
    }
    let mut metadata = marks(view.operation, view.context);
    metadata.insert(mark::NETWORK.to_owned(), view.operation.id.to_string());
    Job::Do(ActionKind::CreateServer {
        node: new.node.clone(),
        metadata,
    })
}

pub(super) fn find(_: &View<'_>) -> Job {
    Job::Do(ActionKind::FindServer)
}

pub(super) fn drop_twin(view: &View<'_>) -> Job {
    match view.operation.twins.first() {
        Some(twin) => Job::Do(ActionKind::DeleteServer { vm: twin.clone() }),
        None => Job::Skip,
    }
}

pub(super) fn label(view: &View<'_>) -> Job {
    match view.made().and_then(Machine::node_ref) {
        Some(node) => Job::Do(ActionKind::LabelNode {
            node,
            labels: view.context.pool.labels.clone(),
        }),
        None => Job::NotYet("the node to be observed"),
    }
}

pub(super) fn cordon(view: &View<'_>) -> Job {
    match view.node_of(view.old()) {
        // Someone else's cordon: it serves as well, and is not ours to take off.
        Sight::There(node) if node.cordoned && !view.operation.cordoned => Job::Skip,
        _ => view.on_old_node(|node| ActionKind::Cordon { node }),
    }
}

pub(super) fn uncordon(view: &View<'_>) -> Job {
    match view.on_old_node(|node| ActionKind::Uncordon { node }) {
        // Another node under the name has no cordon of ours.
        Job::No(_) => Job::Skip,
        job => job,
    }
}

pub(super) fn out_of_service(view: &View<'_>) -> Job {
    // INVARIANT (I16): only of a VM that is confirmed off are the volumes let go.
    match (is_off(view), view.server_of(view.old())) {
        (Test::Yes, _) => {}
        (Test::Failed(why), _) => return Job::No(why),
        (Test::NotYet | Test::Stuck(_), Sight::There(server))
            if server.status != ServerStatus::Shutoff =>
        {
            return Job::No("the old VM is off no longer".to_owned());
        }
        (Test::NotYet | Test::Stuck(_), _) => return Job::NotYet("the VM to be confirmed off"),
    }
    match view.node_of(view.old()) {
        // Someone else's word: it serves as well, and is not ours to take back.
        Sight::There(node) if node.is_out_of_service() && !view.operation.out_of_service => {
            Job::Skip
        }
        _ => match view.on_old_node(|node| ActionKind::OutOfService { node }) {
            // The one that was decided on is gone.
            Job::No(_) => Job::Skip,
            job => job,
        },
    }
}

pub(super) fn in_service(view: &View<'_>) -> Job {
    match view.on_old_node(|node| ActionKind::InService { node }) {
        // Another node under the name was never said to be out of service.
        Job::No(_) => Job::Skip,
        job => job,
    }
}

pub(super) fn drain(view: &View<'_>) -> Job {
    view.on_old_node(|node| ActionKind::Drain { node })
}

pub(super) fn delete_server(view: &View<'_>) -> Job {
    let serves = view.operation.kind == OperationKind::Heal(Rung::Replace)
        && view.context.pool.kubernetes
        && !view.operation.fenced_first;
    if serves && !view.operation.committed && !view.serving() {
        // INVARIANT: one that still serves goes only when the new one serves.
        return Job::NotYet("the new node to be Ready");
    }
    let sweeps = matches!(view.operation.kind, OperationKind::Sweep(_));
    if let Some(life) = view.life().filter(|_| sweeps && !view.operation.committed) {
        return Job::No(life.to_owned());
    }
    view.on_old_vm(|vm| ActionKind::DeleteServer { vm })
}

/// What was made beside the old VM, which is gone, goes after it.
pub(super) fn release_ports(view: &View<'_>) -> Job {
    let old = view.old();
    match old.and_then(|old| old.network.or(old.operation)) {
        Some(operation) => Job::Do(ActionKind::ReleasePorts { operation }),
        None => Job::Skip,
    }
}

/// What was made beside a VM that did not stay goes too.
pub(super) fn undo_ports(view: &View<'_>) -> Job {
    Job::Do(ActionKind::ReleasePorts {
        operation: view.operation.id,
    })
}

pub(super) fn clear_node(view: &View<'_>) -> Job {
    match stays_gone(view) {
        Test::Yes => view.on_old_node(|node| ActionKind::DeleteNode { node }),
        Test::NotYet | Test::Stuck(_) => Job::NotYet("the VM to be seen gone once more"),
        Test::Failed(why) => Job::No(why),
    }
}

pub(super) fn delete_node(view: &View<'_>) -> Job {
    match view.on_old_node(|node| ActionKind::DeleteNode { node }) {
        // The one that was decided on is gone.
        Job::No(_) => Job::Skip,
        job => job,
    }
}

pub(super) fn undo_node(view: &View<'_>) -> Job {
    let Some(new) = view.made().filter(|_| view.operation.creates_vm()) else {
        return Job::Skip;
    };
    match view.node_of(Some(new)) {
        Sight::There(node) if is_anothers(view, &node) => Job::Skip,
        Sight::There(node) if is_unseen(view, &node) => Job::NotYet("the VM to be observed"),
        Sight::There(node) if view.operation.sent && is_own(view.operation, new, &node) => {
            Job::Do(ActionKind::DeleteNode {
                node: NodeRef {
                    name: new.node.clone(),
                    uid: node.uid.to_string(),
                },
            })
        }
        Sight::There(_) | Sight::Gone { .. } => Job::Skip,
        Sight::Unknown => Job::NotYet("the nodes to be listed"),
    }
}

/// Whether the node's VM runs and does not carry the operation's mark any more: somebody else took
/// it over, and its node with it.
fn is_anothers(view: &View<'_>, node: &Node) -> bool {
    let server = node.vm.as_ref().map(|vm| view.seen.server(vm));
    matches!(server, Some(Sight::There(server))
        if server.status != ServerStatus::Deleted && server.operation != Some(view.operation.id))
}

/// Whether it cannot be told whose the node's VM is.
fn is_unseen(view: &View<'_>, node: &Node) -> bool {
    let server = node.vm.as_ref().map(|vm| view.seen.server(vm));
    matches!(server, Some(Sight::Unknown))
}

/// Whether the node of the new machine's name came of this operation.
fn is_own(operation: &Operation, new: &Machine, node: &Node) -> bool {
    new.uid.as_ref().is_some_and(|uid| node.uid == **uid)
        || node
            .vm
            .as_ref()
            .is_some_and(|vm| new.vm.as_ref() == Some(vm) || operation.dropped.contains(vm))
}

pub(super) fn reboot_soft(view: &View<'_>) -> Job {
    // An attempt of long ago, or the node itself, has brought it back.
    if view.is_stale() && matches!(is_back(view), Test::Yes) {
        return Job::Skip;
    }
    view.on_old_vm(|vm| ActionKind::RebootServer { vm, hard: false })
}

pub(super) fn reboot_hard(view: &View<'_>) -> Job {
    // It may have come back while this step had to wait for sight, or for the gate.
    if matches!(is_back(view), Test::Yes) {
        return Job::Skip;
    }
    view.on_old_vm(|vm| ActionKind::RebootServer { vm, hard: true })
}

pub(super) fn stop_server(view: &View<'_>) -> Job {
    if let Sight::There(server) = view.server_of(view.old())
        && view.operation.tries > 0
        && server.status == ServerStatus::Shutoff
    {
        return Job::Skip;
    }
    // INVARIANT (I32): what lives by the time that a stop is tried once more keeps its power.
    if let Some(life) = view.life().filter(|_| view.is_stale()) {
        return Job::No(life.to_owned());
    }
    view.on_old_vm(|vm| ActionKind::StopServer { vm })
}

pub(super) fn start_server(view: &View<'_>) -> Job {
    match view.server_of(view.old()) {
        // It was confirmed off: an attempt of unknown outcome, or somebody else, has started it.
        Sight::There(server) if server.status != ServerStatus::Shutoff => Job::Skip,
        _ => view.on_old_vm(|vm| ActionKind::StartServer { vm }),
    }
}

/// Starts the VM that we stopped. A stop of unknown outcome, or one that its host has not heard of
/// yet, is given the time to settle; after that the VM is left as it is. While the cloud is still
/// at work on the stop, the operation is taken up again when it comes through.
pub(super) fn undo_stop(view: &View<'_>) -> Job {
    let waited = view.operation.step_began.until(view.context.here());
    let settled = waited >= view.context.limits.settle;
    let was_off = view.operation.stopped != Some(Stopped::Asked);
    match view.server_of(view.old()) {
        Sight::There(server) if server.idle && server.status == ServerStatus::Shutoff => {
            view.on_old_vm(|vm| ActionKind::StartServer { vm })
        }
        Sight::There(server) if server.idle && was_off => Job::Skip,
        Sight::There(_) if settled => Job::Skip,
        Sight::Gone { asked } if is_since(view, asked) => Job::Skip,
        Sight::There(_) | Sight::Gone { .. } => Job::NotYet("the VM to be off, or to run again"),
        Sight::Unknown => Job::NotYet("the VM to be observed"),
    }
}

/// Starts the VM that was made anew. Nova brings one that was off back to being off: it is seen in
/// REBUILD, then ACTIVE with its power going off again, then SHUTOFF.
pub(super) fn start_rebuilt(view: &View<'_>) -> Job {
    let Sight::There(server) = view.server_of(view.made()) else {
        return match is_active(view) {
            Test::Failed(why) => Job::No(why),
            _ => Job::NotYet("the VM to be observed"),
        };
    };
    if let Test::Failed(why) = is_active(view) {
        return Job::No(why);
    }
    // Until it carries the mark, what is shown is the VM as it was before.
    let rebuilt = server.idle && server.operation == Some(view.operation.id);
    match (view.made().and_then(Machine::vm_ref), server.status) {
        // ACTIVE may be the moment before its power goes off: whether it is, the call looks.
        (Some(vm), ServerStatus::Shutoff | ServerStatus::Active) if rebuilt => {
            Job::Do(ActionKind::StartServer { vm })
        }
        _ => Job::NotYet("the VM to be made anew"),
    }
}

pub(super) fn rebuild_server(view: &View<'_>) -> Job {
    let Some(new) = view.made() else {
        return Job::Skip;
    };
    if let Sight::There(server) = view.server_of(Some(new))
        && view.operation.tries > 0
        && (server.operation == Some(view.operation.id)
            || matches!(server.status, ServerStatus::Rebuild | ServerStatus::Active))
    {
        // It was confirmed off, and had another mark: an attempt of unknown outcome has come
        // through.
        return Job::Skip;
    }
    match new.vm_ref() {
        Some(vm) => Job::Do(ActionKind::RebuildServer {
            vm,
            node: new.node.clone(),
            metadata: marks(view.operation, view.context),
        }),
        None => Job::NotYet("the VM to be observed"),
    }
}
