//! Proposals, decisions and refusals, and the reason of each with the values that it saw.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{NodeName, OperationId, PoolName, RuleId, VmId};
use crate::time::Timestamp;

mod told;

pub use told::{Told, told_again_after};

/// What a rule or an operator asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Who asks.
    pub origin: Origin,
    /// For what.
    pub ask: Ask,
    /// Why, in the policy's or the operator's words.
    pub why: String,
    /// The values that it saw.
    pub evidence: Evidence,
    /// Since when it is asked for without a break. Not of what the bounds and the sweep ask for with each
    /// look, and of operators, who have their answer in hand.
    pub since: Option<Timestamp>,
    /// When the body that asks for it was entered last, if it is again and again.
    pub entered: Option<Timestamp>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A rule of a policy.
    Rule(RuleId),
    /// An operator, by name.
    Operator(String),
    /// The planner itself: below the minimum, above the maximum, a duplicate to remove.
    Bounds,
    /// The sweep, which finds what nobody claims.
    Sweep,
    /// An operation under way, whose next step is held back.
    Operation(OperationId),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// That the pool have this many nodes.
    Resize {
        /// The pool.
        pool: PoolName,
        /// How many nodes, as proposed: not yet held against the bounds.
        to: i64,
        /// Which way the rule may move it.
        direction: Direction,
    },
    /// That the node be healed, beginning at the first rung that was not tried lately.
    Heal {
        /// The node.
        node: NodeName,
        /// The rungs, gentlest first.
        ladder: Vec<Rung>,
        /// The witness that the rule itself is.
        witness: Witness,
    },
    /// That what nobody claims be taken away.
    Sweep {
        /// The name that it has.
        node: NodeName,
        /// The VM; without one, the Node whose VM is gone.
        vm: Option<VmId>,
    },
    /// That ports and addresses without a VM be taken away.
    SweepPorts {
        /// The name of the VM that they were made for.
        node: NodeName,
        /// The operation that made them.
        operation: OperationId,
    },
}

/// Which way a rule may move a pool's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More nodes only (`scale_up`).
    Up,
    /// Fewer nodes only (`scale_down`).
    Down,
    /// Either (an operator's `scale`).
    Either,
}

/// A rung of the healing ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Reboot, softly and then hard.
    Reboot,
    /// The same VM from its image anew.
    Rebuild,
    /// A new VM, and the old one deleted.
    Replace,
}

/// Who says that a node is ill. Two different ones must agree before it is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// Its agent's records stopped while the input flows.
    Heartbeat,
    /// Its metrics say so.
    Metrics,
    /// Its lease or its Ready condition.
    Kubernetes,
    /// Nova's status of its VM.
    Nova,
    /// An alert.
    Alert,
    /// The operator's word, which needs no second.
    Operator,
}

/// The values that a decision or refusal saw, in the order of the rule's text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// One line per signal.
    pub values: Vec<Observed>,
    /// Who says so, of a heal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<Witness>,
    /// The hash of the policies that ran, in hex, shortened.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub policy: Arc<str>,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

/// One signal as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The signal as the policy writes it: `mean("cpu", "5m")`.
    pub signal: Arc<str>,
    /// Its value; nothing if there was none. Missing is not zero.
    pub value: Option<f64>,
    /// How much of its window is covered by samples, 0..=1, where that means something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// What it was compared with, if with a constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
}

/// A proposal that was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The operation that carries it out; none for a change of a desired size that needs none.
    pub operation: Option<OperationId>,
    /// The pool.
    pub pool: PoolName,
    /// The node, if it is about one.
    pub node: Option<NodeName>,
    /// What will be done, in words: `add 2 nodes`, `remove worker-3`, `replace worker-1`.
    pub what: String,
    /// Who asked.
    pub origin: Origin,
    /// Why.
    pub why: String,
    /// The values that it saw.
    pub evidence: Evidence,
}

/// A proposal that was not granted. As visible as a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// When it was refused.
    pub at: Timestamp,
    /// The pool.
    pub pool: PoolName,
    /// The node, if it is about one.
    pub node: Option<NodeName>,
    /// What was asked for, in words.
    pub what: String,
    /// Who asked.
    pub origin: Origin,
    /// Why not.
    pub reason: Reason,
    /// Why not, with the values of this case.
    pub detail: String,
    /// The values that the proposal saw.
    pub evidence: Evidence,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a proposal was not granted: a closed set, and each has a test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// Its name in logs, metrics and scenarios.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The pool is at its maximum, counting VMs in flight and silent ones.
    AtMaximum = "at_maximum",
    /// The pool is at its minimum of ready nodes.
    AtMinimum = "at_minimum",
    /// The pool has that size already, or is on its way to it.
    NoChange = "no_change",
    /// The rule's cooldown runs.
    Cooldown = "cooldown",
    /// Within the stabilization window a higher need was seen.
    Stabilizing = "stabilizing",
    /// Another proposal for the pool or node won: heal before scale, up before down.
    Conflict = "conflict",
    /// An operation for this node, or the most that may run at once, is under way.
    InFlight = "in_flight",
    /// Only one witness says so.
    OneWitness = "one_witness",
    /// The windows are not covered well enough.
    ThinData = "thin_data",
    /// A source that the proposal depends on cannot be heard well.
    Blind = "blind",
    /// Sight came back too short a while ago.
    SightReturning = "sight_returning",
    /// The start-up hold: windows, inventory or journal are not whole yet.
    StartUp = "start_up",
    /// Too many are silent or ill at once.
    Storm = "storm",
    /// More than the share of the pool that may be out at once.
    Share = "share",
    /// Too many removals in a short while.
    Velocity = "velocity",
    /// A list came back empty or much smaller than before.
    PartialInventory = "partial_inventory",
    /// Too many failures in a row: the pool's circuit is open.
    CircuitOpen = "circuit_open",
    /// Something there was not carried out a moment ago: the next try comes after a pause.
    AfterFailure = "after_failure",
    /// The node is protected by an operator, an annotation or a mark.
    Protected = "protected",
    /// The node is of the control plane.
    ControlPlane = "control_plane",
    /// The node or pool is in maintenance.
    Maintenance = "maintenance",
    /// Paused by an operator, a file or a ConfigMap; or whether it is cannot be read.
    Paused = "paused",
    /// The VM is not ours.
    NotOwned = "not_owned",
    /// No such pool or node.
    Unknown = "unknown",
    /// The journal cannot be written.
    JournalFailed = "journal_failed",
    /// Wall and monotonic clock have parted.
    ClockStep = "clock_step",
    /// A second policy on the node's ladder was tried lately: the next rung has to wait.
    LadderWait = "ladder_wait",
    /// Every rung of the ladder was tried.
    LadderExhausted = "ladder_exhausted",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a refusal stands under: the pool and who asks for what there, and the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusalKey {
    pub(crate) asked: (PoolName, String),
    pub(crate) node: Option<NodeName>,
}

impl Refusal {
    /// What it stands under.
    pub(crate) fn key(&self) -> RefusalKey {
        Self::key_of(&self.pool, self.node.as_ref(), &self.origin, &self.what)
    }

    /// The key of `origin`'s asking for `what`. One body may ask for several things, and each is
    /// refused for itself; a size that is another at each look is no other thing.
    pub(crate) fn key_of(
        pool: &PoolName,
        node: Option<&NodeName>,
        origin: &Origin,
        what: &str,
    ) -> RefusalKey {
        let asked = format!("{}{}", Self::prefix(origin), crate::story::kind_of(what));
        RefusalKey {
            asked: (pool.clone(), asked),
            node: node.cloned(),
        }
    }

    /// What the keys of all refusals of `origin` begin with.
    pub(crate) fn prefix(origin: &Origin) -> String {
        format!("{origin}: ")
    }
}

impl Rung {
    /// As policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Rebuild => "rebuild",
            Self::Replace => "replace",
        }
    }
}

impl Witness {
    /// As scenarios, logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Metrics => "metrics",
            Self::Kubernetes => "kubernetes",
            Self::Nova => "nova",
            Self::Alert => "alert",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Operator(who) => write!(f, "operator {who}"),
            Self::Bounds => f.write_str("bounds"),
            Self::Sweep => f.write_str("sweep"),
            Self::Operation(id) => write!(f, "operation {id}"),
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "{} = {:.4}", self.signal, value)?,
            None => write!(f, "{} = none", self.signal)?,
        }
        if let Some(coverage) = self.coverage {
            write!(f, " ({:.0} % covered)", coverage * 100.0)?;
        }
        Ok(())
    }
}
