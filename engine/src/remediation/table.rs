//! The table of steps: one row for each, and the courses that are made of them.
//!
//! A row says what the step does, how long it may take, what each failure leads to and what
//! is undone if the operation is given up there. Nothing else in the engine knows a step by
//! name but the few lines of `react.rs` that keep what a step has learnt. The rows themselves
//! are in `table/rows.rs`; here is what they are made of.

mod rows;

use std::time::Duration;

use super::work::{Job, Test, View};
use super::{Context, Operation, OperationKind, Swept};
use crate::action::FailureKind;
use crate::decision::Rung;

pub use rows::Step;

/// A step that only makes a call may take this long, retries included.
///
/// Ten minutes: an API server or Keystone that restarts is back by then (seconds to minutes
/// were measured), and a decision older than that had better be made again.
const CALLS_DEADLINE: Duration = Duration::from_secs(600);

/// One row.
pub(super) struct Row {
    /// When the step belongs to the course; passed over otherwise.
    pub applies: Applies,
    /// What it does.
    pub work: Work,
    /// How long it may take.
    pub deadline: Deadline,
    /// What is done when its time is over.
    pub late: Course,
    /// What is done on each failure of its action.
    pub on: Reactions,
    /// What is undone if the operation is given up here.
    pub undo: Undo,
    /// Which brakes hold its call back, once the operation is under way.
    pub brakes: Brakes,
}

/// Which of the guard's brakes are looked at again before a step's call. A pause, and a journal
/// that fails, hold back every call there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brakes {
    /// All of them: sight that was lost, and a storm that has begun since. To stop here leaves
    /// the machine as it is.
    All,
    /// Lost sight alone. The machine is off already, or is a twin that serves nobody: to stop
    /// for a storm would do more harm than to go on.
    Sight,
    /// None: nothing is taken away, or it is given back: a VM that we stopped ourselves is started
    /// again whatever cannot be seen.
    None,
}

/// When a step belongs to the course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    /// Always.
    Always,
    /// In a pool of Kubernetes nodes.
    Kubernetes,
    /// There, if the pool has labels to put on.
    Labels,
    /// There, if the old node still serves.
    Serving,
    /// If the old VM must be off first.
    Fence,
    /// If it need not.
    NoFence,
    /// While it is not known how many VMs were created.
    Doubt,
    /// If a VM may have been created.
    Created,
    /// If a port may have been made for it.
    Ports,
    /// If the operation may have cordoned the node.
    Cordoned,
    /// In a pool of Kubernetes nodes, if the old VM must be off first.
    FencedNode,
    /// If the operation may have said that the node is out of service.
    OutOfService,
}

/// What a step does: start an action, or watch for something.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Starts an action; its success is the step's.
    Act(fn(&View<'_>) -> Job),
    /// Waits until the test says so.
    Watch(&'static str, fn(&View<'_>) -> Test),
}

/// How long a step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// As long as it takes.
    None,
    /// [`CALLS_DEADLINE`].
    Calls,
    /// `build_timeout` of the pool.
    Build,
    /// `join_timeout` of the pool.
    Join,
    /// `drain_timeout` of the pool.
    Drain,
    /// `rung_timeout` of the pool.
    Rung,
    /// Half of it: two reboots share it.
    HalfRung,
    /// `settle` of the limits.
    Settle,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Once more, a bounded number of times with doubling pauses; then given up.
    Again,
    /// The same, after the time in which a call of unknown outcome still comes through.
    Look,
    /// Once more, without end: what it removes must not be left behind.
    Insist,
    /// Nothing was sent: the step begins anew after a while.
    Park,
    /// As good as done.
    Pass,
    /// On at this step.
    Go(Step),
    /// Given up: undo, and end.
    GiveUp,
    /// The same, even past the point of no return: it is not ours any more.
    LetGo,
}

/// What is done on each kind of failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reactions {
    pub retry: Course,
    pub unknown: Course,
    pub refused: Course,
    pub no_capacity: Course,
    pub not_found: Course,
    pub not_owned: Course,
    pub gate: Course,
    pub needs_token: Course,
    pub blocked: Course,
    pub timed_out: Course,
}

/// What is undone if the operation is given up at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// Nothing.
    Nothing,
    /// The cordon.
    Cordon,
    /// All that it made: token, VM and Node.
    Made,
    /// The same, unless its node serves already: nothing takes that away without a drain.
    MadeUnlessServing,
}

/// The steps of each kind of operation, in their order. `Settle`, `Search` and `DropTwin`
/// are entered by failures alone, and `ExtendToken` from a build that takes long.
pub(super) fn course(kind: OperationKind) -> &'static [Step] {
    use Step::*;
    match kind {
        OperationKind::Add => &[
            CreateToken,
            CreateServer,
            WaitActive,
            ApproveJoin,
            WaitJoin,
            Label,
            DeleteToken,
            Tally,
        ],
        OperationKind::Remove => &[
            Cordon,
            Drain,
            DeleteServer,
            WaitGone,
            DeleteNode,
            ReleasePorts,
        ],
        OperationKind::Sweep(Swept::Vm) => &[DeleteServer, WaitGone, DeleteNode, ReleasePorts],
        OperationKind::Sweep(Swept::Node) => &[ConfirmGone, ClearNode],
        OperationKind::Sweep(Swept::Ports) => &[ReleasePorts],
        OperationKind::Heal(Rung::Reboot) => &[
            StopServer,
            WaitOff,
            StartServer,
            RebootSoft,
            WaitBack,
            RebootHard,
            WaitBackHard,
        ],
        OperationKind::Heal(Rung::Rebuild) => &[
            StopServer,
            WaitOff,
            DeleteNode,
            CreateToken,
            RebuildServer,
            StartRebuilt,
            WaitActive,
            ApproveJoin,
            WaitJoin,
            Label,
            DeleteToken,
        ],
        OperationKind::Heal(Rung::Replace) => &[
            StopServer,
            WaitOff,
            OutOfService,
            CreateToken,
            CreateServer,
            WaitActive,
            ApproveJoin,
            WaitJoin,
            Label,
            DeleteToken,
            Tally,
            Cordon,
            Drain,
            DeleteServer,
            WaitGone,
            DeleteNode,
            ReleasePorts,
        ],
    }
}

impl Step {
    /// The step after it in the course of `operation`; none if it is the last.
    pub(super) fn after(self, operation: &Operation, context: &Context<'_>) -> Option<Step> {
        if self == Step::WaitBack {
            // Back after the soft reboot: the hard one is not needed.
            return None;
        }
        course(operation.kind)
            .iter()
            .copied()
            .skip_while(|step| *step != self)
            .skip(1)
            .find(|step| step.row().applies.to(operation, context))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Applies {
    /// Whether the step belongs to the course of `operation` as it stands.
    pub(super) fn to(self, operation: &Operation, context: &Context<'_>) -> bool {
        let kubernetes = context.pool.kubernetes;
        match self {
            Self::Always => true,
            Self::Kubernetes => kubernetes,
            Self::Labels => kubernetes && !context.pool.labels.is_empty(),
            Self::Serving => kubernetes && !operation.fenced_first,
            Self::Fence => {
                operation.fenced_first || operation.kind == OperationKind::Heal(Rung::Rebuild)
            }
            Self::NoFence => !operation.fenced_first,
            Self::Doubt => operation.doubt.is_some(),
            Self::Created => {
                operation.creates_vm() && (operation.creates > 0 || operation.doubt.is_some())
            }
            Self::Ports => operation.ports,
            Self::Cordoned => operation.cordoned,
            Self::FencedNode => kubernetes && operation.fenced_first,
            Self::OutOfService => operation.out_of_service,
        }
    }
}

impl Deadline {
    /// The length; none for as long as it takes.
    pub(super) fn length(self, context: &Context<'_>) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Calls => Some(CALLS_DEADLINE),
            Self::Build => Some(context.pool.build_timeout),
            Self::Join => Some(context.pool.join_timeout),
            Self::Drain => Some(context.pool.drain_timeout),
            Self::Rung => Some(context.pool.rung_timeout),
            Self::HalfRung => Some(context.pool.rung_timeout / 2),
            Self::Settle => Some(context.limits.settle),
        }
    }
}

impl Reactions {
    /// What is done on a failure of this kind.
    pub(super) fn to(&self, kind: FailureKind) -> Course {
        match kind {
            FailureKind::Retry { .. } => self.retry,
            FailureKind::Unknown => self.unknown,
            FailureKind::Refused => self.refused,
            FailureKind::NoCapacity => self.no_capacity,
            FailureKind::NotFound => self.not_found,
            FailureKind::NotOwned => self.not_owned,
            FailureKind::Gate => self.gate,
            FailureKind::NeedsToken => self.needs_token,
            FailureKind::Blocked => self.blocked,
            FailureKind::TimedOut => self.timed_out,
        }
    }
}
