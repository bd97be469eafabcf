//! Policies: Rhai files whose top level registers rules.
//!
//! A rule is a condition and a body. The condition is data: running the file once builds a
//! native expression tree, which Rust evaluates. The body is Rhai and runs when the condition
//! has held. A policy can only propose.

use std::sync::Arc;
use std::time::Duration;

use crate::decision::{Evidence, Rung};
use crate::event::Alert;
use crate::names::{NodeName, PoolName, RuleId};
use crate::window::{MetricSlot, Reading, Stat, WindowPlan};

/// One policy file as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name as messages show it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Something that a condition can read.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// `mean("cpu", "5m")` and its like: over a node, or over the nodes of a pool.
    Window {
        /// Which metric.
        metric: MetricSlot,
        /// Its name.
        name: Arc<str>,
        /// What of it.
        stat: Stat,
        /// The window's length.
        window: Duration,
    },
    /// `silent("60s")`: 1 if the node's agent was not heard for this long while its input
    /// flows, else 0. Of a pool: how many nodes are.
    Silent(Duration),
    /// `unschedulable_pods()`: pods that wait for room which this pool could give.
    UnschedulablePods,
    /// `fits_on_fewer()`: 1 if the pods' requests fit on one node less, else 0; none if unknown.
    FitsOnFewer,
    /// `size()`: nodes of the pool, in flight and silent ones counted.
    Size,
    /// `ready_nodes()`: Ready nodes of the pool.
    ReadyNodes,
    /// `not_ready("60s")`: 1 if the node's Ready condition has been false or unknown, or its
    /// lease overdue, for this long, else 0. Of a pool: how many nodes are.
    NotReady(Duration),
    /// `vm_status("ERROR")`: 1 if Nova says this of the node's VM, else 0. Of a pool: how many.
    VmStatus(String),
}

/// Reads signals for one node or one pool.
pub trait SignalReader {
    /// The signal's value now. `index` is its place in [`PolicySet::signals`].
    fn read(&mut self, index: u32, signal: &Signal) -> Reading;
}

/// What a condition comes to. Missing data makes it unknown, which never acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleKind {
    /// `scale_up(pool)`.
    ScaleUp(PoolName),
    /// `scale_down(pool)`.
    ScaleDown(PoolName),
    /// `heal(pool)`.
    Heal {
        /// The pool.
        pool: PoolName,
        /// The rungs, gentlest first.
        ladder: Vec<Rung>,
    },
    /// `on_alert(name)`.
    OnAlert(String),
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// File and line.
    pub id: RuleId,
    /// What it is about.
    pub kind: RuleKind,
    /// How long the condition must hold before the rule acts.
    pub hold: Duration,
    /// Quiet time after it acted, per pool.
    pub cooldown: Duration,
    /// Whether Rust evaluates the condition without entering Rhai.
    pub native: bool,
}

/// What a body sees of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolFacts {
    /// Its name.
    pub name: PoolName,
    /// Nodes, in flight and silent ones counted.
    pub size: u32,
    /// Ready nodes.
    pub ready: u32,
    /// Bounds.
    pub min: u32,
    /// Bounds.
    pub max: u32,
}

/// What a body sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A pool, of a scale rule.
    Pool(PoolFacts),
    /// A node, of a heal rule.
    Node {
        /// Its name.
        name: NodeName,
        /// Its pool.
        pool: PoolFacts,
    },
    /// An alert, of an alert rule.
    Alert(Alert),
}

/// What a body proposes.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyAsk {
    /// `pool.resize_to(n, why)`.
    Resize {
        /// The pool.
        pool: PoolName,
        /// How many nodes.
        to: i64,
        /// Why.
        why: String,
    },
    /// `node.heal(why)`, `node.reboot(why)`, `node.rebuild(why)`, `node.replace(why)`.
    Heal {
        /// The node.
        node: NodeName,
        /// The rungs.
        ladder: Vec<Rung>,
        /// Why.
        why: String,
    },
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// From 1; 0 if not known.
    pub line: usize,
    /// From 1; 0 if not known.
    pub column: usize,
    /// In words: what, and what to do.
    pub message: String,
}

/// The rules of all policy files, loaded together.
#[derive(Debug, Default)]
pub struct PolicySet {
    rules: Vec<Rule>,
    signals: Vec<Signal>,
    plan: WindowPlan,
    hash: String,
}

impl PolicySet {
    /// Runs the top level of each file once and takes the rules it registers.
    ///
    /// # Errors
    ///
    /// Returns every error of every file; then nothing of it is taken.
    pub fn load(files: &[SourceFile]) -> Result<Self, Vec<PolicyError>> {
        let _ = files;
        Ok(Self::default())
    }

    /// The rules, in the order of files and lines.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Every signal that a condition reads, each once.
    pub fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// The windows to keep.
    pub fn plan(&self) -> &WindowPlan {
        &self.plan
    }

    /// SHA-256 of names and texts, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Evaluates the condition of rule number `rule`.
    pub fn verdict<R: SignalReader>(&self, rule: usize, reader: &mut R) -> Verdict {
        let _ = (rule, reader);
        Verdict::Unknown
    }

    /// The values that the condition of rule number `rule` sees.
    pub fn evidence<R: SignalReader>(&self, rule: usize, reader: &mut R) -> Evidence {
        let _ = (rule, reader);
        Evidence::default()
    }

    /// Runs the body of rule number `rule`; without a body, what its kind does by itself.
    ///
    /// `interrupt` is asked now and then and ends the script when it says so; replay hands in
    /// one that never does.
    ///
    /// # Errors
    ///
    /// Returns where the script failed or was ended; then it proposes nothing.
    pub fn run_body<R: SignalReader>(
        &self,
        rule: usize,
        subject: &Subject,
        reader: &mut R,
        interrupt: &dyn Fn() -> bool,
    ) -> Result<Vec<BodyAsk>, PolicyError> {
        let _ = (rule, subject, reader, interrupt);
        Ok(Vec::new())
    }
}
