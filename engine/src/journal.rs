//! The records of the journal, and the state that they add up to. No file here.
//!
//! Durable state changes in one way only: a [`Record`] is applied to [`State`]. The running
//! engine makes a record, applies it and puts it out to be written; a restart reads the
//! records back and applies them. So what a crash leaves behind is always the state after
//! some record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionKey, ActionResult};
use crate::decision::{Decision, Origin, Refusal, Rung};
use crate::event::{PauseSource, StandingPause, Target, Wish};
use crate::names::{NodeName, OperationId, PoolName, RuleId, VmId};
use crate::remediation::Operation;
use crate::settings::PoolSettings;
use crate::time::Now;
pub use operations::Operations;
pub use refused::Refused;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// The program started. The first record of each start.
    Epoch {
        /// Counted from 1.
        epoch: u64,
        /// Drawn once, when the journal was made: the first half of every operation id.
        journal: u32,
        /// When.
        at: Now,
        /// The program's version.
        version: String,
    },
    /// The state so far, at the head of a compacted journal.
    Snapshot {
        /// It.
        state: Box<State>,
    },
    /// A proposal was granted.
    Decision {
        /// It.
        decision: Decision,
    },
    /// A proposal was not granted, which was not told already.
    Refusal {
        /// It.
        refusal: Refusal,
    },
    /// An operation began, moved on to another step, or ended.
    Operation {
        /// As it is from now on.
        operation: Box<Operation>,
    },
    /// An action is about to be carried out. Synced before the first byte of it is sent.
    Intent {
        /// When.
        at: Now,
        /// It.
        action: Box<Action>,
    },
    /// How an action ended.
    Outcome {
        /// When.
        at: Now,
        /// Which.
        key: ActionKey,
        /// How.
        result: ActionResult,
    },
    /// The pool shall have this many nodes.
    Desired {
        /// The pool.
        pool: PoolName,
        /// How many.
        size: u32,
        /// Who wants it so.
        origin: Origin,
        /// When.
        at: Now,
    },
    /// A rule acted: its cooldown begins.
    Cooldown {
        /// The rule.
        rule: RuleId,
        /// The pool it acted on.
        pool: PoolName,
        /// When.
        at: Now,
    },
    /// A rung of a node's ladder was begun: its first call was made.
    Rung {
        /// The node.
        node: NodeName,
        /// The rung.
        rung: Rung,
        /// When.
        at: Now,
    },
    /// What an operator wished; a pause, protection or maintenance takes effect with it.
    Wish {
        /// When.
        at: Now,
        /// The idempotency key of the request.
        key: String,
        /// Who.
        who: String,
        /// Why.
        why: String,
        /// What.
        wish: Wish,
    },
    /// A pause by a file or a ConfigMap began, changed or ended.
    Pause {
        /// Where it stands.
        source: PauseSource,
        /// The pause from now on; none ends it.
        pause: Option<StandingPause>,
        /// When.
        at: Now,
    },
    /// A VM with our marks was taken under management on an operator's word.
    Adopted {
        /// The VM.
        vm: VmId,
        /// The name that it has.
        node: NodeName,
        /// The pool in its marks.
        pool: PoolName,
        /// The operation in its marks, of whatever journal.
        operation: Option<OperationId>,
        /// Who said so.
        who: String,
        /// When.
        at: Now,
    },
    /// A brake of the guard closed or opened.
    Brake {
        /// Which, and where.
        brake: Brake,
        /// Whether it holds from now on.
        on: bool,
        /// When.
        at: Now,
        /// Why, with the values.
        detail: String,
    },
    /// A replacement or addition in the pool succeeded or failed.
    Circuit {
        /// The pool.
        pool: PoolName,
        /// Failures in a row from now on; 0 closes the circuit.
        failures: u32,
        /// When.
        at: Now,
    },
    /// The settings of a pool whose operations are begun from now on. With them an operation is
    /// carried to its end when the pool is taken out of the configuration.
    Pool {
        /// The pool.
        pool: PoolName,
        /// They.
        settings: Box<PoolSettings>,
        /// When.
        at: Now,
    },
    /// Other policies run from now on.
    Policies {
        /// Their hash, in hex.
        hash: String,
        /// When.
        at: Now,
    },
}

impl Record {
    /// When it was made, where it says so on both clocks.
    fn at(&self) -> Option<Now> {
        match self {
            Self::Epoch { at, .. }
            | Self::Intent { at, .. }
            | Self::Outcome { at, .. }
            | Self::Desired { at, .. }
            | Self::Cooldown { at, .. }
            | Self::Wish { at, .. }
            | Self::Pause { at, .. }
            | Self::Adopted { at, .. }
            | Self::Brake { at, .. }
            | Self::Circuit { at, .. }
            | Self::Pool { at, .. }
            | Self::Policies { at, .. } => Some(*at),
            // That of a rung is when its operation began.
            Self::Rung { .. }
            | Self::Snapshot { .. }
            | Self::Decision { .. }
            | Self::Refusal { .. }
            | Self::Operation { .. } => None,
        }
    }
}

/// What VMs have in common that fails as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// An availability zone.
    Zone(String),
    /// The host under them, as Nova names it to a project.
    Hypervisor(String),
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zone(name) => write!(f, "zone {name}"),
            Self::Hypervisor(name) => write!(f, "hypervisor {name}"),
        }
    }
}

/// A brake of the guard, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Brake {
    /// Too many are silent or ill in the pool.
    Storm(PoolName),
    /// Too many are silent or ill of what fails together, whichever pools they are in.
    Domain(Domain),
    /// A source cannot be heard.
    Blind(crate::event::SourceName),
    /// The list of servers or nodes shrank without our doing.
    Inventory(crate::event::SourceName),
    /// Wall and monotonic clock have parted.
    Clock,
    /// Whether somebody has left a pause there cannot be read.
    Pause(PauseSource),
}

/// All that outlives a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// The epoch that runs.
    pub epoch: u64,
    /// The journal's own number.
    pub journal: u32,
    /// When the epoch began.
    pub started: Now,
    /// When the program was last heard of, as the records tell: it was there until then at least.
    #[serde(default)]
    pub last: Now,
    /// The number of the next operation.
    pub next_operation: u64,
    /// Operations under way.
    pub operations: Operations,
    /// Operations that are over and whose stop of a VM was still on its way then.
    #[serde(default)]
    pub late_stops: BTreeMap<OperationId, Operation>,
    /// Intents without an outcome yet.
    #[serde(with = "pairs")]
    pub open: BTreeMap<ActionKey, Action>,
    /// Desired sizes, and who wants them so.
    pub desired: BTreeMap<PoolName, (u32, Origin)>,
    /// When each rule last acted on each pool.
    #[serde(with = "pairs")]
    pub cooldowns: BTreeMap<(RuleId, PoolName), Now>,
    /// The rungs begun on each node, oldest first, at most 16.
    pub rungs: BTreeMap<NodeName, VecDeque<(Rung, Now)>>,
    /// Those that came to nothing by the cloud's doing, and when: they may be tried again.
    #[serde(default)]
    pub excused: BTreeMap<NodeName, VecDeque<(Rung, Now)>>,
    /// Paused pools; `None` in it is all.
    pub paused: BTreeSet<Option<PoolName>>,
    /// Pauses by a file or a ConfigMap, and since when each stands.
    #[serde(default)]
    pub standing: BTreeMap<PauseSource, (crate::time::Timestamp, StandingPause)>,
    /// Protected nodes.
    pub protected: BTreeSet<NodeName>,
    /// Maintenance and its end on the wall clock.
    #[serde(with = "pairs")]
    pub maintenance: BTreeMap<Target, crate::time::Timestamp>,
    /// Brakes that hold, since when and why.
    #[serde(with = "pairs")]
    pub brakes: BTreeMap<Brake, (Now, String)>,
    /// When each source was heard again after it could not be.
    #[serde(default)]
    pub returned: BTreeMap<crate::event::SourceName, Now>,
    /// Failures in a row and when the last was.
    pub circuits: BTreeMap<PoolName, (u32, Now)>,
    /// The VMs that were deleted, for the velocity caps: the last ten minutes.
    pub removals: VecDeque<Removal>,
    /// VMs that we know as ours, with the operation that made each.
    pub owned: BTreeMap<crate::names::VmId, OperationId>,
    /// Names that were given to a node once, newest last: a name is never used twice.
    pub named: VecDeque<NodeName>,
    /// Keys of operators' requests already taken, the last 256.
    pub wishes: VecDeque<String>,
    /// The refusals that were told last, so that one is journaled when it changes only.
    pub refused: Refused,
    /// The hash of the policies that run.
    pub policies: String,
    /// The settings that each pool's last operation was begun with.
    #[serde(default)]
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// Nodes whose removal was begun and given up, as when a drain cannot end, and when.
    #[serde(default)]
    pub stayed: BTreeMap<NodeName, Now>,
}

/// Rungs begun on a node are counted over this long (I37), and then forgotten.
pub(crate) const HEAL_MEMORY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// A removal that was given up is remembered for this long: a budget that never gives way does not
/// within minutes, and each further try evicts all other pods of the node for nothing.
pub(crate) const STAYED_MEMORY: std::time::Duration = std::time::Duration::from_secs(3600);

/// A VM for whose deletion an intent was journaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Its pool.
    pub pool: PoolName,
    /// When.
    pub at: Now,
    /// The VM; journals of the first weeks do not tell.
    #[serde(default)]
    pub vm: Option<crate::names::VmId>,
    /// The action of the first attempt.
    #[serde(default)]
    pub key: Option<ActionKey>,
}

mod apply;
mod operations;
mod refused;
#[cfg(test)]
mod tests;

/// Maps whose keys are not text, as lists of pairs in JSON.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
