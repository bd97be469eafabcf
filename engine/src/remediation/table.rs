//! The table of steps: one row for each, and the courses that are made of them.
//!
//! A row says what the step does, how long it may take, what each failure leads to and what
//! is undone if the operation is given up there. Nothing else in the engine knows a step by
//! name but the few lines of `advance.rs` that keep what a step has learnt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::work::{self, Job, Test, View};
use super::{Context, Operation, OperationKind, Swept};
use crate::action::FailureKind;
use crate::decision::Rung;

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
    /// None: nothing is taken away.
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
    /// If the operation may have cordoned the node.
    Cordoned,
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

/// The usual reactions to a call that may be made twice.
const ORDINARY: Reactions = Reactions {
    retry: Course::Again,
    unknown: Course::Again,
    refused: Course::GiveUp,
    no_capacity: Course::GiveUp,
    not_found: Course::GiveUp,
    not_owned: Course::GiveUp,
    gate: Course::Park,
    needs_token: Course::GiveUp,
    blocked: Course::Again,
    timed_out: Course::Again,
};

/// The reactions of a step that takes something away which must not stay.
const INSISTENT: Reactions = Reactions {
    retry: Course::Insist,
    unknown: Course::Insist,
    refused: Course::Insist,
    no_capacity: Course::Insist,
    not_found: Course::Pass,
    // Another one under the same name: what was to be taken away is gone.
    not_owned: Course::Pass,
    gate: Course::Park,
    needs_token: Course::Insist,
    blocked: Course::Insist,
    timed_out: Course::Insist,
};

/// The reactions of a call that cannot be told from not having been made, and does no harm.
const REBOOT: Reactions = Reactions {
    unknown: Course::Pass,
    ..ORDINARY
};

/// The reactions of a search: it is asked until it is answered.
const SEARCH: Reactions = Reactions {
    not_found: Course::Insist,
    not_owned: Course::Insist,
    ..INSISTENT
};

/// For steps that call nothing.
const NONE: Reactions = ORDINARY;

macro_rules! table {
    ($($(#[$doc:meta])* $step:ident = $name:literal { $($row:tt)* })+) => {
        /// The steps there are, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Step {
            $($(#[$doc])* #[serde(rename = $name)] $step,)+
        }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Step] = &[$(Step::$step,)+];

            /// Its name in the journal, in logs and in `status`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)+
                }
            }

            /// Its row.
            pub(super) fn row(self) -> &'static Row {
                match self {
                    $(Self::$step => {
                        const ROW: Row = Row { $($row)* };
                        &ROW
                    })+
                }
            }
        }
    };
}

table! {
    /// Makes the token with which the new VM may join.
    CreateToken = "create_token" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::create_token),
        deadline: Deadline::Calls,
        late: Course::GiveUp,
        on: ORDINARY,
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// Creates the VM, once.
    CreateServer = "create_server" {
        applies: Applies::Always,
        work: Work::Act(work::create_server),
        deadline: Deadline::Build,
        late: Course::GiveUp,
        on: Reactions {
            unknown: Course::Go(Step::Settle),
            needs_token: Course::Go(Step::CreateToken),
            ..ORDINARY
        },
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// A creation of unknown outcome may still come to be: it is given time.
    Settle = "settle" {
        applies: Applies::Always,
        work: Work::Watch("a creation of unknown outcome to settle", work::never),
        deadline: Deadline::Settle,
        late: Course::Go(Step::Search),
        on: NONE,
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// Looks for the VM: one found is it; none found twice, then it is created again.
    Search = "search" {
        applies: Applies::Always,
        work: Work::Act(work::find),
        deadline: Deadline::None,
        late: Course::GiveUp,
        on: SEARCH,
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// Deletes VMs with the operation's mark that are one too many.
    DropTwin = "drop_twin" {
        applies: Applies::Always,
        work: Work::Act(work::drop_twin),
        deadline: Deadline::None,
        late: Course::GiveUp,
        on: INSISTENT,
        undo: Undo::Made,
        brakes: Brakes::Sight,
    }
    /// The VM is ACTIVE and has an address.
    WaitActive = "wait_active" {
        applies: Applies::Always,
        work: Work::Watch("the VM to become ACTIVE", work::is_active),
        deadline: Deadline::Build,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// Lets the VM's kubelet in: what it asks for is approved, once.
    ApproveJoin = "approve_join" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::approve_join),
        deadline: Deadline::Join,
        late: Course::GiveUp,
        on: Reactions {
            // It could not look, and looks until its time is over.
            retry: Course::Insist,
            unknown: Course::Insist,
            timed_out: Course::GiveUp,
            ..ORDINARY
        },
        undo: Undo::MadeUnlessServing,
        brakes: Brakes::None,
    }
    /// A Ready node of that name runs on that VM.
    WaitJoin = "wait_join" {
        applies: Applies::Kubernetes,
        work: Work::Watch("the node to join and be Ready", work::has_joined),
        deadline: Deadline::Join,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::MadeUnlessServing,
        brakes: Brakes::None,
    }
    /// Puts the pool's labels on the node.
    Label = "label" {
        applies: Applies::Labels,
        work: Work::Act(work::label),
        deadline: Deadline::Calls,
        late: Course::GiveUp,
        on: ORDINARY,
        undo: Undo::MadeUnlessServing,
        brakes: Brakes::None,
    }
    /// The node has joined: nobody else may with its token.
    DeleteToken = "delete_token" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::delete_token),
        deadline: Deadline::None,
        late: Course::GiveUp,
        on: INSISTENT,
        undo: Undo::MadeUnlessServing,
        brakes: Brakes::None,
    }
    /// Looks once more if a creation was ever in doubt: one VM only may be left.
    Tally = "tally" {
        applies: Applies::Doubt,
        work: Work::Act(work::find),
        deadline: Deadline::None,
        late: Course::GiveUp,
        on: SEARCH,
        undo: Undo::MadeUnlessServing,
        brakes: Brakes::None,
    }
    /// No new pods on the old node.
    Cordon = "cordon" {
        applies: Applies::Serving,
        work: Work::Act(work::cordon),
        deadline: Deadline::Calls,
        late: Course::GiveUp,
        on: Reactions { not_found: Course::Pass, ..ORDINARY },
        undo: Undo::Cordon,
        brakes: Brakes::All,
    }
    /// Empties the old node, honouring disruption budgets.
    Drain = "drain" {
        applies: Applies::Serving,
        work: Work::Act(work::drain),
        deadline: Deadline::Drain,
        late: Course::GiveUp,
        on: Reactions {
            not_found: Course::Pass,
            blocked: Course::GiveUp,
            timed_out: Course::GiveUp,
            ..ORDINARY
        },
        undo: Undo::Cordon,
        brakes: Brakes::All,
    }
    /// Deletes the old VM. From here on there is no way back.
    DeleteServer = "delete_server" {
        applies: Applies::Always,
        work: Work::Act(work::delete_server),
        deadline: Deadline::Calls,
        late: Course::GiveUp,
        on: Reactions {
            not_found: Course::Pass,
            not_owned: Course::LetGo,
            ..ORDINARY
        },
        undo: Undo::Cordon,
        brakes: Brakes::All,
    }
    /// The old VM is gone; if it is not after a while, it is deleted once more.
    WaitGone = "wait_gone" {
        applies: Applies::Always,
        work: Work::Watch("the VM to be gone", work::is_gone),
        deadline: Deadline::Settle,
        late: Course::Go(Step::DeleteServer),
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Deletes the Node of a VM that is confirmed gone or off.
    DeleteNode = "delete_node" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::delete_node),
        deadline: Deadline::None,
        late: Course::GiveUp,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::Sight,
    }
    /// Once more, in a listing asked for since: the VM is gone, and nothing of its node lives.
    ConfirmGone = "confirm_gone" {
        applies: Applies::Always,
        work: Work::Watch("the VM to be seen gone once more", work::stays_gone),
        deadline: Deadline::Settle,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Deletes the Node of a VM that others deleted. What is given up here is found again.
    ClearNode = "clear_node" {
        applies: Applies::Always,
        work: Work::Act(work::clear_node),
        deadline: Deadline::Calls,
        late: Course::GiveUp,
        on: Reactions { not_found: Course::Pass, ..ORDINARY },
        undo: Undo::Nothing,
        brakes: Brakes::Sight,
    }
    /// Reboots the VM softly; one that is off or cannot is rebooted hard.
    RebootSoft = "reboot_soft" {
        applies: Applies::NoFence,
        work: Work::Act(work::reboot_soft),
        deadline: Deadline::HalfRung,
        late: Course::Go(Step::RebootHard),
        on: Reactions { refused: Course::Go(Step::RebootHard), ..REBOOT },
        undo: Undo::Nothing,
        brakes: Brakes::All,
    }
    /// The node is back: heard again, and Ready.
    WaitBack = "wait_back" {
        applies: Applies::NoFence,
        work: Work::Watch("the node to come back", work::is_back),
        deadline: Deadline::HalfRung,
        late: Course::Go(Step::RebootHard),
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Starts the VM that was stopped: a hard reboot does.
    StartServer = "start_server" {
        applies: Applies::Fence,
        work: Work::Act(work::start_server),
        deadline: Deadline::HalfRung,
        late: Course::GiveUp,
        on: ORDINARY,
        undo: Undo::Nothing,
        brakes: Brakes::Sight,
    }
    /// Reboots the VM as if its power were cut.
    RebootHard = "reboot_hard" {
        applies: Applies::NoFence,
        work: Work::Act(work::reboot_hard),
        deadline: Deadline::HalfRung,
        late: Course::GiveUp,
        on: REBOOT,
        undo: Undo::Nothing,
        brakes: Brakes::All,
    }
    /// The node is back after that.
    WaitBackHard = "wait_back_hard" {
        applies: Applies::Always,
        work: Work::Watch("the node to come back", work::is_back),
        deadline: Deadline::HalfRung,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Stops the old VM: the fence.
    StopServer = "stop_server" {
        applies: Applies::Fence,
        work: Work::Act(work::stop_server),
        deadline: Deadline::Rung,
        late: Course::GiveUp,
        on: Reactions {
            // One that comes through late must not stop the VM after its rebuild.
            unknown: Course::Look,
            // Not there any more: whether that is so, the next step looks.
            not_found: Course::Pass,
            ..ORDINARY
        },
        undo: Undo::Nothing,
        brakes: Brakes::All,
    }
    /// The old VM is confirmed off.
    WaitOff = "wait_off" {
        applies: Applies::Fence,
        work: Work::Watch("the VM to be confirmed off", work::is_off),
        deadline: Deadline::Rung,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Makes the VM anew from its image.
    RebuildServer = "rebuild_server" {
        applies: Applies::Always,
        work: Work::Act(work::rebuild_server),
        deadline: Deadline::Build,
        late: Course::GiveUp,
        on: Reactions {
            unknown: Course::Look,
            needs_token: Course::Go(Step::CreateToken),
            ..ORDINARY
        },
        undo: Undo::Made,
        brakes: Brakes::Sight,
    }
    /// Undo: the token goes first, so that nobody joins while the rest is undone.
    UndoToken = "undo_token" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::delete_token),
        deadline: Deadline::None,
        late: Course::Insist,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Undo: looks for VMs with the operation's mark until there are none.
    UndoServer = "undo_server" {
        applies: Applies::Created,
        work: Work::Act(work::find),
        deadline: Deadline::None,
        late: Course::Insist,
        on: SEARCH,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Undo: a Node that has appeared, when its VM is gone.
    UndoNode = "undo_node" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::undo_node),
        deadline: Deadline::None,
        late: Course::Insist,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Undo: new pods again.
    Uncordon = "uncordon" {
        applies: Applies::Cordoned,
        work: Work::Act(work::uncordon),
        deadline: Deadline::None,
        late: Course::Insist,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
}

/// The steps of each kind of operation, in their order. `Settle`, `Search` and `DropTwin`
/// are entered by failures alone.
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
        OperationKind::Remove => &[Cordon, Drain, DeleteServer, WaitGone, DeleteNode],
        OperationKind::Sweep(Swept::Vm) => &[DeleteServer, WaitGone, DeleteNode],
        OperationKind::Sweep(Swept::Node) => &[ConfirmGone, ClearNode],
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
            WaitActive,
            ApproveJoin,
            WaitJoin,
            Label,
            DeleteToken,
        ],
        OperationKind::Heal(Rung::Replace) => &[
            StopServer,
            WaitOff,
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
            Self::Cordoned => operation.cordoned,
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
