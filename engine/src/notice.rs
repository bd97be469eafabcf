//! What asks for a human: a metric, a log line and a webhook notification each.

use serde::{Deserialize, Serialize};

use crate::journal::Brake;
use crate::names::PoolName;
use crate::time::Timestamp;

/// Something that asks for a human, or no longer does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: NoticeKind,
    /// False when it is over. What merely happened is never over ([`NoticeKind::is_event`]).
    pub on: bool,
    /// The pool, if it is about one.
    pub pool: Option<PoolName>,
    /// What it is about beside: a node, a source, a zone, an operation. With kind and pool it says
    /// what is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// In words, with the values of this case.
    pub text: String,
}

/// What asks for a human: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Too many are silent or ill at once.
    Storm,
    /// A source cannot be heard.
    Blind,
    /// A list came back much smaller.
    PartialInventory,
    /// Wall and monotonic clock have parted.
    Clock,
    /// Whether somebody has left a pause, in a file or a ConfigMap, cannot be read.
    PauseUnread,
    /// Failures in a row opened a pool's circuit.
    Circuit,
    /// Every rung of a ladder was tried.
    LadderExhausted,
    /// The journal cannot be written.
    Journal,
    /// An operation cannot get on: it is tried without end, or its pool is gone.
    Operation,
    /// An operation failed or was called off: it happened, and is over as it is told.
    OperationEnded,
    /// VMs carry our marks and the journal does not know them: they wait for an operator's word.
    NotAdopted,
    /// The cloud does not show a VM whose node lives: one of the two is wrong.
    VmMissing,
}

impl NoticeKind {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Blind => "blind",
            Self::PartialInventory => "partial_inventory",
            Self::Clock => "clock",
            Self::PauseUnread => "pause_unread",
            Self::Circuit => "circuit",
            Self::LadderExhausted => "ladder_exhausted",
            Self::Journal => "journal",
            Self::Operation => "operation",
            Self::OperationEnded => "operation_ended",
            Self::NotAdopted => "not_adopted",
            Self::VmMissing => "vm_missing",
        }
    }

    /// Whether it merely happened: nothing holds, and nobody is told that it is over.
    pub fn is_event(self) -> bool {
        self == Self::OperationEnded
    }

    pub(crate) fn of(brake: &Brake) -> Self {
        match brake {
            Brake::Storm(_) | Brake::Domain(_) => Self::Storm,
            Brake::Blind(_) => Self::Blind,
            Brake::Inventory(_) => Self::PartialInventory,
            Brake::Clock => Self::Clock,
            Brake::Pause(_) => Self::PauseUnread,
        }
    }
}
