//! What leaves the engine: actions as plain data, and what comes back of each.
//!
//! An executor in the room `actions` carries them out. The engine says everything that is to
//! be known for that; a plan leaves no meaningful choice to the executor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::time::Timestamp;

/// Marks in a VM's metadata by which it is known to be ours.
pub mod mark {
    /// Always `rhizome`.
    pub const OWNER: &str = "rhizome-owner";
    /// The name of the cluster in the configuration.
    pub const CLUSTER: &str = "rhizome-cluster";
    /// The pool.
    pub const POOL: &str = "rhizome-pool";
    /// The operation that created it: the idempotency key of the creation.
    pub const OPERATION: &str = "rhizome-operation";
    /// The operation whose ports and floating addresses it lives on. A rebuild, which replaces
    /// [`OPERATION`], leaves this one.
    pub const NETWORK: &str = "rhizome-network";
    /// The epoch (start of the program) that asked for it.
    pub const EPOCH: &str = "rhizome-epoch";
    /// The value of [`OWNER`].
    pub const OWNER_VALUE: &str = "rhizome";
    /// Anyone may set it, on a VM or as a node's label: then it is never touched.
    pub const DO_NOT_TOUCH: &str = "rhizome-do-not-touch";
}

/// The taint of a node that is out of service, as Kubernetes has it.
pub mod taint {
    /// Its key.
    pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
    /// Its value: the machine is off.
    pub const VALUE: &str = "nodeshutdown";
    /// Its effect.
    pub const EFFECT: &str = "NoExecute";
}

/// The idempotency key of one action: the same key, the same effect, however often tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey {
    /// The operation it belongs to.
    pub operation: OperationId,
    /// Which step of it, from 0, counted on through retries and undos: never used twice.
    pub sequence: u32,
}

impl std::fmt::Display for ActionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.operation, self.sequence)
    }
}

/// One call or short course of calls that an executor is to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Its idempotency key.
    pub key: ActionKey,
    /// The epoch of the program that decided it.
    pub epoch: u64,
    /// The pool it is done for.
    pub pool: PoolName,
    /// Not to be begun after this (wall clock): what was decided on may no longer hold.
    pub expires: Timestamp,
    /// Not to take longer than this from its beginning.
    pub timeout: Duration,
    /// What to do.
    pub kind: ActionKind,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum ActionKind {
    /// Make a bootstrap token for the operation's VM, in place of one made before for it.
    ///
    /// The secret half stays in the executor's memory and is never journaled: after a restart
    /// the step is done again.
    CreateToken {
        /// The node that may join with it.
        node: NodeName,
        /// How long it lives.
        ttl: Duration,
    },
    /// Let the operation's token live longer, in place: its VM, which holds it, still builds.
    ExtendToken {
        /// How long it lives from now on.
        ttl: Duration,
    },
    /// Delete the operation's token. Gone already is success.
    DeleteToken,
    /// Let the operation's VM into the cluster: wait for its kubelet to ask for a certificate
    /// with the operation's token, and approve that, once.
    ///
    /// Whoever else asks with the token, a twin of the VM or a thief, is never let in.
    ApproveJoin {
        /// The node that it may become.
        node: NodeName,
        /// The VM that it is.
        vm: VmId,
    },
    /// Create the VM, once. Needs the token, unless the pool is outside Kubernetes.
    CreateServer {
        /// The VM's name, which is also its node's.
        node: NodeName,
        /// All our marks.
        metadata: BTreeMap<String, String>,
    },
    /// Look for VMs that carry this operation's mark, over all statuses. Changes nothing.
    FindServer,
    /// Reboot the VM.
    RebootServer {
        /// The VM and its generation.
        vm: VmRef,
        /// Hard: as if power were cut.
        hard: bool,
    },
    /// Stop the VM: the fence before another takes its place.
    StopServer {
        /// The VM and its generation.
        vm: VmRef,
    },
    /// Start the VM, which is off. One that runs is left alone, so that a start that was done and
    /// not heard of does no harm the second time, as a reboot would.
    StartServer {
        /// The VM and its generation.
        vm: VmRef,
    },
    /// Make the VM anew from its image, under the same id. Needs the token.
    RebuildServer {
        /// The VM and its generation.
        vm: VmRef,
        /// Its name, which is also its node's.
        node: NodeName,
        /// The operation's mark, put in place of the old one.
        metadata: BTreeMap<String, String>,
    },
    /// Delete the VM. Gone already is success.
    DeleteServer {
        /// The VM and its generation.
        vm: VmRef,
    },
    /// Delete the ports and floating addresses that were made for a VM that is gone, or never
    /// came. Left alone while a VM lives on them; none there is success.
    ReleasePorts {
        /// The operation that made them.
        operation: OperationId,
    },
    /// No new pods on the node.
    Cordon {
        /// The node and its generation.
        node: NodeRef,
    },
    /// New pods again: the undo of [`ActionKind::Cordon`].
    Uncordon {
        /// The node and its generation.
        node: NodeRef,
    },
    /// Evict the pods, honouring their disruption budgets, until none is left.
    Drain {
        /// The node and its generation.
        node: NodeRef,
    },
    /// Put labels on the node.
    LabelNode {
        /// The node and its generation.
        node: NodeRef,
        /// The labels.
        labels: BTreeMap<String, String>,
    },
    /// Say that the node, whose VM is confirmed off, is out of service: its pods are ended without
    /// its kubelet, and their volumes detach. Said already is success.
    OutOfService {
        /// The node and its generation.
        node: NodeRef,
    },
    /// The undo of [`ActionKind::OutOfService`], before the VM may run again.
    InService {
        /// The node and its generation.
        node: NodeRef,
    },
    /// Delete the Node object, whose VM is confirmed gone or off. Gone already is success.
    DeleteNode {
        /// The node and its generation.
        node: NodeRef,
    },
}

/// A VM and what must still be true of it when it is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRef {
    /// Its id: never a name, never a place in a list.
    pub id: VmId,
    /// Its `created` time: with the id, its generation.
    pub created: Timestamp,
    /// The operation in its mark.
    pub operation: Option<OperationId>,
}

/// A node and its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// Its name.
    pub name: NodeName,
    /// Its uid.
    pub uid: String,
}

impl ActionKind {
    /// Its name in logs, metrics and the ledger, from a closed set.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateToken { .. } => "create_token",
            Self::ExtendToken { .. } => "extend_token",
            Self::DeleteToken => "delete_token",
            Self::ApproveJoin { .. } => "approve_join",
            Self::CreateServer { .. } => "create_server",
            Self::FindServer => "find_server",
            Self::RebootServer { .. } => "reboot_server",
            Self::StopServer { .. } => "stop_server",
            Self::StartServer { .. } => "start_server",
            Self::RebuildServer { .. } => "rebuild_server",
            Self::DeleteServer { .. } => "delete_server",
            Self::ReleasePorts { .. } => "release_ports",
            Self::Cordon { .. } => "cordon",
            Self::Uncordon { .. } => "uncordon",
            Self::Drain { .. } => "drain",
            Self::LabelNode { .. } => "label_node",
            Self::OutOfService { .. } => "out_of_service",
            Self::InService { .. } => "in_service",
            Self::DeleteNode { .. } => "delete_node",
        }
    }

    /// Whether it changes anything in the world.
    pub fn mutates(&self) -> bool {
        !matches!(self, Self::FindServer)
    }

    /// Whether it takes something away from the workload, and so counts against the velocity
    /// caps and stops for every brake.
    pub fn destroys(&self) -> bool {
        matches!(
            self,
            Self::RebootServer { .. }
                | Self::StopServer { .. }
                | Self::RebuildServer { .. }
                | Self::DeleteServer { .. }
                | Self::Drain { .. }
                | Self::OutOfService { .. }
                | Self::DeleteNode { .. }
        )
    }

    /// Whether its call may come as late as the end of its time, because it waits for another
    /// to ask first.
    pub fn waits(&self) -> bool {
        matches!(self, Self::ApproveJoin { .. })
    }

    /// Whether the cloud carries it out; else the cluster does.
    pub fn is_cloud(&self) -> bool {
        matches!(
            self,
            Self::CreateServer { .. }
                | Self::FindServer
                | Self::RebootServer { .. }
                | Self::StopServer { .. }
                | Self::StartServer { .. }
                | Self::RebuildServer { .. }
                | Self::DeleteServer { .. }
                | Self::ReleasePorts { .. }
        )
    }
}

/// What came of an action.
pub type ActionResult = Result<Done, Failure>;

/// It was done, and this was learnt by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Accepted. What it led to is to be observed.
    Accepted,
    /// The VM that was created.
    Created {
        /// Its id.
        vm: VmId,
    },
    /// The VMs that carry the operation's mark.
    Found {
        /// Their ids and creation times; more than one is a duplicate to be removed.
        servers: Vec<(VmId, Timestamp)>,
        /// False if the listing was partial: none found is then not none there.
        complete: bool,
    },
    /// The node is empty.
    Drained {
        /// Pods evicted.
        evicted: u32,
    },
    /// Nothing to do: it was so already, or the thing is gone.
    Already,
    /// A dry run: nothing was called.
    Dry,
}

/// It failed, and this is what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the engine must do.
    pub kind: FailureKind,
    /// For a person: lower case, no secrets, the other side's words included.
    pub message: String,
}

/// Failures, named by what must be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Nothing happened: try again later.
    Retry {
        /// Not before this long from now, if the other side said so.
        after: Option<Duration>,
    },
    /// It may have happened: look before doing anything else.
    Unknown,
    /// It will never succeed as asked: give the step up.
    Refused,
    /// No room: quota, capacity. Give up and let the pool's circuit count it.
    NoCapacity,
    /// The thing is not there (any more).
    NotFound,
    /// It is not ours, or not the one that was decided on.
    NotOwned,
    /// The gate held it back: pause, expiry, velocity. Nothing was sent.
    Gate,
    /// What the executor needs of an earlier step is gone (a token's secret, after a restart):
    /// do that step again.
    NeedsToken,
    /// A disruption budget or a pod's own wish stands in the way; the message names it.
    Blocked,
    /// Its time ran out with nothing unknown left behind (a drain that was given up).
    TimedOut,
}

impl Failure {
    /// A failure of `kind`, told in `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
