//! Operations: the course of steps that carries out each decision, and which step is next.
//!
//! ```text
//!            Move (journal it)            Act (journal the intent, then call)
//!   advance ------------------> advance ------------------------> executor
//!      ^                                                              |
//!      +------------------ outcome (journal the operation) <----------+
//! ```
//!
//! [`advance`] says what an operation does next, [`outcome`] takes in how its action ended,
//! [`resume`] takes it up after a restart and [`cancel`] turns it round. All four are pure:
//! an operation and what is observed in, an operation out. They may not act, and they hold
//! nothing of their own: an [`Operation`] is journaled whole at each change, so a crash always
//! leaves one that `resume` can go on with.
//!
//! What a step does, how long it may take, what proves it done, what each failure leads to
//! and what undoes it stand in one table, `remediation/table.rs`. An action goes on to the
//! rooms `journal` (its intent) and then `actions`.

mod advance;
mod react;
mod search;
mod seen;
mod table;
#[cfg(test)]
mod tests;
mod turn;
mod watch;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{ActionKey, ActionKind, NodeRef, VmRef};
use crate::decision::Rung;
use crate::journal::Domain;
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::time::{Monotonic, Now, Timestamp};

pub use advance::{TooLate, advance, cancel, outcome, park, resume, unpark};
pub(crate) use advance::{forget_stop, take_up};
pub use seen::{Blind, Context, Seen, Sight};
pub use table::Step;

pub(crate) use table::Brakes;

/// Restarts of the program that a step is given time for.
///
/// Eight, as many as tries: each gives it what it had left, and no more than the whole anew.
const RESTARTS_MAX: u32 = 8;

/// A course of steps under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, which is also the mark of the VM that it makes.
    pub id: OperationId,
    /// What it is.
    pub kind: OperationKind,
    /// The pool.
    pub pool: PoolName,
    /// The machine that it removes or heals.
    pub old: Option<Machine>,
    /// The machine that it makes; of a rebuild, what the old one is to become.
    pub new: Option<Machine>,
    /// The old VM is stopped, and confirmed off, before anything else is done to it or another
    /// takes its place: of a replacement, because it no longer serves (otherwise the new one
    /// comes first and the old one is drained); of a reboot, because its pool is small.
    pub fenced_first: bool,
    /// The step it stands at.
    pub step: Step,
    /// Whether it goes forward, back, or is over.
    pub phase: Phase,
    /// When it began.
    pub began: Moment,
    /// When the step began. A step that the gate parks begins anew.
    pub step_began: Moment,
    /// The number of the next action: never used twice.
    pub sequence: u32,
    /// The number of the action that is under way.
    pub in_flight: Option<u32>,
    /// How often the step failed so far.
    pub tries: u32,
    /// Nothing is asked before this is over.
    pub pause: Option<Pause>,
    /// Since when it is held back by a pause or a brake: its step's time stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Moment>,
    /// How often the program was started again in this step.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// How often the step was left for another than the one after it.
    pub detours: u32,
    /// Creations that were asked for and may have made a VM that was not deleted since.
    pub creates: u32,
    /// Since when it is not known whether a creation made a VM.
    pub doubt: Option<Moment>,
    /// When a whole listing last had no VM with the operation's mark.
    pub none_found: Option<Moment>,
    /// VMs with the operation's mark that are to be deleted.
    pub twins: Vec<VmRef>,
    /// Those that were: a Node that runs on one of them came of this operation.
    pub dropped: Vec<VmId>,
    /// The search that found the twins, and that looks again when they are deleted.
    pub search: Option<Step>,
    /// Whether anything was sent at all.
    pub sent: bool,
    /// Whether a port may have been made for its VM: a creation was begun.
    #[serde(default)]
    pub ports: bool,
    /// Whether it may have cordoned its old node. A cordon of someone else stays.
    pub cordoned: bool,
    /// Whether it may have said that the old node is out of service. What someone else said stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_service: bool,
    /// Whether the old VM may have been deleted: from then on there is no way back.
    pub committed: bool,
    /// Whether its old VM is off by our doing: whoever turns round starts it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Since when its join token has had all its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Moment>,
    /// The step that goes on when its token is extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<Step>,
    /// Who wants it stopped and why.
    pub cancelled: Option<String>,
    /// The last failure, for people.
    pub failure: Option<String>,
    /// Whether it was the cloud's or the cluster's doing, and says nothing of the node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excused: bool,
}

/// What became of the stop of an old VM. One that somebody else had stopped before has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// It was asked for, and may still come through.
    Asked,
    /// The VM was seen off since.
    Off,
    /// It was still on its way when the operation ended: the host under the VM was away. Whoever
    /// sees the VM off then takes the operation up again.
    Late,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// One node more.
    Add,
    /// One node less.
    Remove,
    /// A rung of the ladder.
    Heal(Rung),
    /// What nobody claims is taken away.
    Sweep(Swept),
}

/// What a sweep takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swept {
    /// A VM of ours that no record of the journal claims and that serves nobody.
    Vm,
    /// The Node of a VM that is gone.
    Node,
    /// Ports and addresses that no VM lives on.
    Ports,
}

/// What is to be done, with all that is known of the machines when it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// One node more, under a name that was never used.
    Add {
        /// Its name.
        node: NodeName,
    },
    /// One node less.
    Remove {
        /// It.
        old: Machine,
    },
    /// Reboot the VM, softly and then hard.
    Reboot {
        /// It.
        old: Machine,
        /// Whether it is stopped first, and started only when it is confirmed off.
        fenced_first: bool,
    },
    /// The same VM from its image anew.
    Rebuild {
        /// It.
        old: Machine,
    },
    /// A new VM, and the old one deleted.
    Replace {
        /// The old one.
        old: Machine,
        /// The name of the new one, never used before.
        node: NodeName,
        /// Whether the old one no longer serves and is stopped first.
        fenced_first: bool,
    },
    /// What nobody claims is taken away.
    Sweep {
        /// It.
        old: Machine,
        /// What of it.
        swept: Swept,
    },
}

/// A node and its VM, pinned as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The node's name.
    pub node: NodeName,
    /// The Node's uid: another one of the name is another node.
    pub uid: Option<String>,
    /// The VM.
    pub vm: Option<VmId>,
    /// When the VM was created: with the id, its generation.
    pub created: Option<Timestamp>,
    /// The operation in the VM's mark.
    pub operation: Option<OperationId>,
    /// The operation whose ports the VM lives on, if they are ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<OperationId>,
    /// Whether the VM was off when it was decided on: then it is somebody else who stopped it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// What the VM stands on, as listed when the operation began: a storm there holds it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stands_on: Vec<Domain>,
}

/// Which way an operation goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Forward.
    Doing,
    /// Back: what it did is undone.
    Undoing {
        /// What is left to undo after the step.
        rest: Vec<Step>,
        /// How it ends then.
        ending: Ending,
    },
    /// Nothing is left to do.
    Over {
        /// How it ended.
        ending: Ending,
    },
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As decided.
    Done,
    /// It could not be done; what it had made is gone again. Counts against the circuit.
    Failed(String),
    /// It was called off; what it had done is undone.
    Cancelled(String),
    /// A dry run: nothing was done.
    Dry,
}

/// A point in time that survives a restart.
///
/// Within one epoch lengths are measured on the monotonic clock, which no step of the wall
/// clock can change. From one epoch to the next the wall clock is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The start of the program that `at` was told in.
    pub epoch: u64,
    /// When.
    pub at: Now,
}

/// A while in which a step is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// From when.
    pub from: Moment,
    /// For how long.
    pub length: Duration,
}

/// What an operation does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing before `until`, unless something new is observed.
    Wait {
        /// When to ask again at the latest.
        until: Monotonic,
        /// What it waits for, for people.
        what: &'static str,
    },
    /// Start this action under [`Operation::next_key`].
    ///
    /// Its intent is journaled first, and applying that record to the state is what calls
    /// [`Operation::started`]: so the operation and its intent never part in a crash.
    Act {
        /// What to do.
        kind: ActionKind,
        /// Not to take longer than this.
        timeout: Duration,
    },
    /// It stands elsewhere now: to be journaled, then asked again.
    Move(Box<Operation>),
    /// It is over: to be journaled as it is here, then forgotten.
    End(Box<Operation>, Ending),
}

impl Operation {
    /// A new operation, at the first step of its course. Nothing is sent yet.
    pub fn begin(id: OperationId, pool: PoolName, order: Order, context: &Context<'_>) -> Self {
        let fenced_first = matches!(
            order,
            Order::Reboot {
                fenced_first: true,
                ..
            } | Order::Replace {
                fenced_first: true,
                ..
            }
        );
        let (kind, old, new) = match order {
            Order::Add { node } => (OperationKind::Add, None, Some(Machine::named(node, id))),
            Order::Remove { old } => (OperationKind::Remove, Some(old), None),
            Order::Sweep { old, swept } => (OperationKind::Sweep(swept), Some(old), None),
            Order::Reboot { old, .. } => (OperationKind::Heal(Rung::Reboot), Some(old), None),
            Order::Rebuild { old } => {
                let new = Machine {
                    uid: None,
                    ..old.clone()
                };
                (OperationKind::Heal(Rung::Rebuild), Some(old), Some(new))
            }
            Order::Replace { old, node, .. } => (
                OperationKind::Heal(Rung::Replace),
                Some(old),
                Some(Machine::named(node, id)),
            ),
        };
        let here = context.here();
        let mut operation = Self {
            id,
            kind,
            pool,
            old,
            new,
            fenced_first,
            step: Step::CreateServer,
            phase: Phase::Doing,
            began: here,
            step_began: here,
            sequence: 0,
            in_flight: None,
            tries: 0,
            pause: None,
            parked: None,
            restarts: 0,
            detours: 0,
            creates: 0,
            doubt: None,
            none_found: None,
            twins: Vec::new(),
            dropped: Vec::new(),
            search: None,
            sent: false,
            ports: false,
            cordoned: false,
            out_of_service: false,
            committed: false,
            stopped: None,
            token: None,
            builds: None,
            cancelled: None,
            failure: None,
            excused: false,
        };
        match operation.plan(context).first() {
            Some(first) => operation.step = *first,
            None => {
                operation.phase = Phase::Over {
                    ending: Ending::Done,
                }
            }
        }
        operation
    }

    /// The steps that it takes if all goes well.
    pub fn plan(&self, context: &Context<'_>) -> Vec<Step> {
        table::course(self.kind)
            .iter()
            .copied()
            .filter(|step| step.row().applies.to(self, context))
            .collect()
    }

    /// The key of its next action.
    pub fn next_key(&self) -> ActionKey {
        ActionKey {
            operation: self.id,
            sequence: self.sequence,
        }
    }

    /// Takes in that the action of this key is about to be sent: its intent is journaled.
    ///
    /// Taking it in twice is the same as once.
    pub fn started(&mut self, key: ActionKey) {
        if key.operation != self.id || key.sequence < self.sequence {
            return;
        }
        self.in_flight = Some(key.sequence);
        self.sequence = key.sequence.saturating_add(1);
        self.pause = None;
        match self.step {
            Step::CreateServer => {
                self.creates = self.creates.saturating_add(1);
                self.ports = true;
            }
            Step::Cordon => self.cordoned = true,
            Step::OutOfService => self.out_of_service = true,
            _ => {}
        }
    }

    /// Takes in that the program was away, and last heard of at `last`: the step's time stands still
    /// from then on, until it can be looked what came of it.
    ///
    /// A step in which that has happened again and again has its time by the wall clock instead: it
    /// ends, however often the program is killed.
    pub(crate) fn left_alone(&mut self, last: Moment) {
        if self.parked.is_some() || self.restarts >= RESTARTS_MAX {
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        // What was written by an earlier version does not tell when it was last heard of.
        self.parked = Some(self.step_began.or_later(last));
    }

    /// The node it is about: the one that it removes or heals, else the one that it makes.
    pub fn node(&self) -> Option<&NodeName> {
        self.machines().next().map(|machine| &machine.node)
    }

    /// The VM of [`Operation::node`], once known.
    pub fn vm(&self) -> Option<&VmId> {
        self.machines()
            .next()
            .and_then(|machine| machine.vm.as_ref())
    }

    /// Every machine that it may touch, the old one first. Of a rebuild both are one VM.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.old.iter().chain(self.new.iter())
    }

    /// How long it leaves its step alone from now on, if it does.
    pub(crate) fn pauses_for(&self, here: Moment) -> Option<Duration> {
        let left = self.pause.map(|pause| pause.left(here));
        left.filter(|left| !left.is_zero())
    }

    /// Which brakes hold its next call back. None once there is no way back, and none where
    /// nothing of the workload is touched: what undoes our own half-made machine takes nothing
    /// away.
    pub(crate) fn brakes(&self) -> Brakes {
        let forward = self.phase == Phase::Doing && self.old.is_some() && !self.committed;
        if forward {
            self.step.row().brakes
        } else {
            Brakes::None
        }
    }

    /// Whether it was called off and turns round at its next step: nothing more is to be sent of
    /// the action that is under way.
    pub fn is_recalled(&self) -> bool {
        self.cancelled.is_some()
            && self.phase == Phase::Doing
            && !self.committed
            && !advance::is_rebuilt(self)
    }

    /// Whether it makes a VM (and not just makes one anew).
    pub fn creates_vm(&self) -> bool {
        matches!(
            self.kind,
            OperationKind::Add | OperationKind::Heal(Rung::Replace)
        )
    }
}

impl Machine {
    /// A machine that is yet to be made.
    pub fn named(node: NodeName, operation: OperationId) -> Self {
        Self {
            node,
            uid: None,
            vm: None,
            created: None,
            operation: Some(operation),
            network: Some(operation),
            off: false,
            stands_on: Vec::new(),
        }
    }

    /// Its VM with its generation, once both are known.
    pub fn vm_ref(&self) -> Option<VmRef> {
        Some(VmRef {
            id: self.vm.clone()?,
            created: self.created?,
            operation: self.operation,
        })
    }

    /// Its node with its generation, once known.
    pub fn node_ref(&self) -> Option<NodeRef> {
        Some(NodeRef {
            name: self.node.clone(),
            uid: self.uid.clone()?,
        })
    }
}

impl Moment {
    /// The time that passed from `self` to `later`.
    pub fn until(self, later: Moment) -> Duration {
        if self.epoch == later.epoch {
            later.at.mono.since(self.at.mono)
        } else {
            later.at.wall.since(self.at.wall)
        }
    }

    /// The point in time that came `length` before.
    #[must_use]
    pub fn minus(self, length: Duration) -> Self {
        Self {
            at: self.at.minus(length),
            ..self
        }
    }

    /// The later of the two, by the wall clock if they are of different epochs.
    fn or_later(self, other: Moment) -> Self {
        let later = if self.epoch == other.epoch {
            self.at.mono < other.at.mono
        } else {
            self.at.wall < other.at.wall
        };
        if later { other } else { self }
    }

    /// Whether `self` is before `later`; one of an earlier epoch always is.
    pub fn is_before(self, later: Moment) -> bool {
        self.epoch < later.epoch || (self.epoch == later.epoch && self.at.mono < later.at.mono)
    }
}

impl Pause {
    /// How much of it is left.
    pub fn left(&self, here: Moment) -> Duration {
        self.length.saturating_sub(self.from.until(here))
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// All our marks for the VM that `operation` makes.
fn marks(operation: &Operation, context: &Context<'_>) -> BTreeMap<String, String> {
    use crate::action::mark;
    [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, context.cluster.to_owned()),
        (mark::POOL, operation.pool.to_string()),
        (mark::OPERATION, operation.id.to_string()),
        (mark::EPOCH, context.epoch.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
