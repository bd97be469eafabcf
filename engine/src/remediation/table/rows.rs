//! The rows.
//!
//! A row that calls something needs its executor in the room `actions`; the crash tests run over
//! all rows and need no word about it.

use serde::{Deserialize, Serialize};

use super::super::{watch, work};
use super::{Applies, Brakes, Course, Deadline, Reactions, Row, Undo, Work};

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

/// The reactions of a call that is of use and not needed: on without it.
const OPTIONAL: Reactions = Reactions {
    retry: Course::Pass,
    unknown: Course::Pass,
    refused: Course::Pass,
    no_capacity: Course::Pass,
    not_found: Course::Pass,
    not_owned: Course::Pass,
    gate: Course::Pass,
    needs_token: Course::Pass,
    blocked: Course::Pass,
    timed_out: Course::Pass,
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
            pub(in super::super) fn row(self) -> &'static Row {
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
        work: Work::Watch("a creation of unknown outcome to settle", watch::never),
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
        work: Work::Watch("the VM to become ACTIVE", watch::is_active),
        deadline: Deadline::Build,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Made,
        brakes: Brakes::None,
    }
    /// Gives the token more time, and goes back to the VM that still builds. Entered from there alone.
    ExtendToken = "extend_token" {
        applies: Applies::Kubernetes,
        work: Work::Act(work::extend_token),
        deadline: Deadline::None,
        late: Course::Pass,
        on: OPTIONAL,
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
        work: Work::Watch("the node to join and be Ready", watch::has_joined),
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
        work: Work::Watch("the VM to be gone", watch::is_gone),
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
    /// Deletes the ports and addresses that the old VM lived on: Nova keeps what it was given.
    /// A network service that does not answer for long holds up nobody: the sweep finds them.
    ReleasePorts = "release_ports" {
        applies: Applies::Always,
        work: Work::Act(work::release_ports),
        deadline: Deadline::Calls,
        late: Course::Pass,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Once more, in a listing asked for since: the VM is gone, and nothing of its node lives.
    ConfirmGone = "confirm_gone" {
        applies: Applies::Always,
        work: Work::Watch("the VM to be seen gone once more", watch::stays_gone),
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
        work: Work::Watch("the node to come back", watch::is_back),
        deadline: Deadline::HalfRung,
        late: Course::Go(Step::RebootHard),
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Starts the VM that was stopped.
    StartServer = "start_server" {
        applies: Applies::Fence,
        work: Work::Act(work::start_server),
        deadline: Deadline::HalfRung,
        late: Course::GiveUp,
        on: ORDINARY,
        undo: Undo::Nothing,
        brakes: Brakes::None,
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
        work: Work::Watch("the node to come back", watch::is_back),
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
        work: Work::Watch("the VM to be confirmed off", watch::is_off),
        deadline: Deadline::Rung,
        late: Course::GiveUp,
        on: NONE,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Lets the volumes of the old VM, which is confirmed off, detach. Where that cannot be said
    /// the heal goes on: they detach by themselves, minutes later.
    OutOfService = "out_of_service" {
        applies: Applies::FencedNode,
        work: Work::Act(work::out_of_service),
        deadline: Deadline::Calls,
        late: Course::Pass,
        on: Reactions {
            refused: Course::Pass,
            not_found: Course::Pass,
            not_owned: Course::Pass,
            ..ORDINARY
        },
        undo: Undo::Nothing,
        brakes: Brakes::Sight,
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
    /// Starts the VM again once it is made anew: it was off, and is so again.
    StartRebuilt = "start_rebuilt" {
        applies: Applies::Always,
        work: Work::Act(work::start_rebuilt),
        deadline: Deadline::Build,
        late: Course::GiveUp,
        on: ORDINARY,
        undo: Undo::Made,
        brakes: Brakes::None,
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
    /// Undo: ports and addresses, when there is no VM that lives on them.
    UndoPorts = "undo_ports" {
        applies: Applies::Ports,
        work: Work::Act(work::undo_ports),
        deadline: Deadline::Calls,
        late: Course::Pass,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Undo: the node is no longer out of service. Before its VM may run again: what runs on a node
    /// that is said to be out of service loses its volumes under its feet.
    InService = "in_service" {
        applies: Applies::OutOfService,
        work: Work::Act(work::in_service),
        deadline: Deadline::None,
        late: Course::Insist,
        on: INSISTENT,
        undo: Undo::Nothing,
        brakes: Brakes::None,
    }
    /// Undo: a VM that we stopped is started again, a stop that comes through late included.
    UndoStop = "undo_stop" {
        applies: Applies::Always,
        work: Work::Act(work::undo_stop),
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
