//! What is known of one name: its VM, its node, or both. Plain data, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::{Placement, PoolSlot, Uid};
use crate::action::{mark, taint};
use crate::event::{NodeView, Ready, Requests, ServerStatus, ServerView};
use crate::names::{NodeName, OperationId, VmId};
use crate::time::{Monotonic, Now, Timestamp};

/// Node annotations that protect a node, as users of other autoscalers set them.
const PROTECTING_ANNOTATIONS: [&str; 2] = [
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "karpenter.sh/do-not-disrupt",
];

/// What is known of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The name of the node and of its VM.
    pub name: NodeName,
    /// Its pool, if it is in one of ours.
    pub pool: Option<PoolSlot>,
    /// Its VM.
    pub server: Option<Server>,
    /// Its node.
    pub node: Option<Node>,
    /// When it was first seen in this run: silence is not counted from before.
    pub since: Timestamp,
}

/// What matters to us of a VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: VmId,
    /// Nova's status.
    pub status: ServerStatus,
    /// When it was created.
    pub created: Timestamp,
    /// The operation in its mark.
    pub operation: Option<OperationId>,
    /// The operation whose ports it lives on, if they are ours.
    pub network: Option<OperationId>,
    /// Whether owner and cluster in its marks are ours.
    pub marked: bool,
    /// Whether it has an address.
    pub addressed: bool,
    /// Whether it carries the mark that forbids touching it.
    pub protected: bool,
    /// Whether nothing is under way on it (`task_state` is null).
    pub idle: bool,
    /// Failure domains.
    pub zone: Option<Arc<str>>,
    /// Failure domains.
    pub host: Option<Arc<str>>,
    /// What Nova says of its failure.
    pub fault: Option<Box<str>>,
}

/// What matters to us of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its uid.
    pub uid: Uid,
    /// The VM in its provider id.
    pub vm: Option<VmId>,
    /// The condition `Ready`.
    pub ready: Ready,
    /// Since when it is seen to be so, on our clock.
    pub ready_since: Monotonic,
    /// Its lease, if one was seen.
    pub lease: Option<Lease>,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Whether it is of the control plane.
    pub control_plane: bool,
    /// Whether a label or annotation forbids touching it.
    pub protected: bool,
    /// What it has to give.
    pub allocatable: Requests,
    /// Its labels and taints, by which pods are placed: one for all nodes that have the same.
    pub placement: Arc<Placement>,
    /// When it was created.
    pub created: Timestamp,
}

/// A node's lease.
///
/// Its time is the kubelet's own: read as a value that changes while the kubelet lives, and
/// never held against our clock, so that one clock that is wrong makes nobody ill (as the node
/// controller of Kubernetes does).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When it was renewed, as it says.
    pub renewed: Timestamp,
    /// When that was first seen here.
    pub seen: Monotonic,
}

impl Member {
    /// Whether its node is Ready.
    pub fn is_ready(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| node.ready == Ready::True)
    }

    /// Whether it serves: Ready, or a running VM in a pool outside Kubernetes.
    pub fn serves(&self, kubernetes: bool) -> bool {
        if kubernetes {
            self.is_ready()
        } else {
            self.server
                .as_ref()
                .is_some_and(|server| server.status == ServerStatus::Active)
        }
    }

    /// How long the cluster has had nothing good to say of it: the condition `Ready` seen false
    /// or unknown, or the lease seen unchanged for longer than `grace`. Nothing if it is well or
    /// no node.
    pub fn not_ready_for(&self, now: Monotonic, grace: Duration) -> Option<Duration> {
        let node = self.node.as_ref()?;
        let unready = (node.ready != Ready::True).then(|| now.since(node.ready_since));
        let overdue = node
            .lease
            .map(|lease| now.since(lease.seen))
            .filter(|age| *age > grace);
        unready.max(overdue)
    }

    /// From when on its agent can have been silent: a machine that is still booting is not, its
    /// node's life begins with its join.
    pub(crate) fn born(&self) -> Timestamp {
        self.node
            .as_ref()
            .map_or(self.since, |node| node.created.max(self.since))
    }
}

impl From<&ServerView> for Server {
    /// What matters of it. Whose it is is for the cluster to say.
    fn from(view: &ServerView) -> Self {
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        let operation = |name| view.metadata.get(name).and_then(|text| text.parse().ok());
        Self {
            id: view.id.clone(),
            status: view.status.clone(),
            created: view.created,
            operation: operation(mark::OPERATION),
            network: operation(mark::NETWORK),
            marked: false,
            addressed: !view.addresses.is_empty(),
            protected: view.metadata.contains_key(mark::DO_NOT_TOUCH),
            idle: view.task_state.is_none(),
            zone: shared(&view.zone),
            host: shared(&view.host_id),
            fault: view.fault.as_deref().map(Box::from),
        }
    }
}

impl Node {
    /// What matters of it, as seen now. Its lease comes by another way.
    pub fn new(view: &NodeView, placement: Arc<Placement>, now: Now) -> Self {
        let refuses = |key: &&str| view.annotations.get(key).is_some_and(|set| set == "true");
        Self {
            uid: view.uid.as_str().into(),
            vm: view.vm.clone(),
            ready: view.ready,
            ready_since: now.mono,
            lease: None,
            cordoned: view.unschedulable,
            control_plane: view.control_plane,
            protected: view.labels.contains_key(mark::DO_NOT_TOUCH)
                || PROTECTING_ANNOTATIONS.iter().any(refuses),
            allocatable: view.allocatable,
            placement,
            created: view.created,
        }
    }

    /// Whether somebody has said that it is out of service.
    pub fn is_out_of_service(&self) -> bool {
        let mut taints = self.placement.taints().iter();
        taints.any(|taint| taint.key == taint::OUT_OF_SERVICE)
    }
}
