//! The steps of each decision, and which is next.

use serde::{Deserialize, Serialize};

use crate::decision::Rung;
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::time::Now;

/// A course of steps under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it is.
    pub kind: OperationKind,
    /// The pool.
    pub pool: PoolName,
    /// The node that it makes, removes or heals.
    pub node: NodeName,
    /// Its VM, once known.
    pub vm: Option<VmId>,
    /// The step it stands at: a name out of the table of its kind.
    pub step: String,
    /// When it began.
    pub began: Now,
    /// When the step began.
    pub step_began: Now,
    /// The number of the next action.
    pub sequence: u32,
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
}
