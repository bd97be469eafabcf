//! Policies: Rhai files whose top level registers rules.
//!
//! A rule is a condition and a body. The condition is data: running the file once builds a
//! native expression tree, which Rust evaluates. The body is Rhai and runs when the condition
//! has held. A policy can only propose.

mod body;
mod check;
mod draft;
mod error;
mod host;
mod lexer;
mod load;
mod operators;
mod profile;
mod program;
mod run;
mod scan;
mod tree;
mod vocabulary;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod operator_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::decision::{Evidence, Rung};
use crate::event::Alert;
use crate::names::{NodeName, PoolName, RuleId};
use crate::window::{MetricSlot, Reading, Stat, WindowPlan};

use load::{Asked, Loaded};

pub use error::{Finding, PolicyError};
pub(crate) use program::Need;

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

    /// The value alone, which is all that a verdict asks for and may be cheaper to tell.
    fn value(&mut self, index: u32, signal: &Signal) -> Option<f64> {
        self.read(index, signal).value
    }
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
    /// Whether Rust evaluates the condition without entering Rhai. Else it is a closure, for
    /// [`PolicySet::run_condition`].
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

/// Asked now and then while a script runs; ends it by saying so.
///
/// It lives as long as the scripts that it may end, so it cannot borrow: the engine's thread
/// hands in a deadline, replay one that never comes.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn Fn() -> bool + Send + Sync>);

impl Interrupt {
    /// Ends a script once `is_due` says so.
    pub fn new(is_due: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_due))
    }

    /// Never ends a script; the limit on operations does.
    pub fn never() -> Self {
        Self::new(|| false)
    }

    fn is_due(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupt")
    }
}

/// The rules of all policy files, loaded together.
#[derive(Debug, Default)]
pub struct PolicySet {
    loaded: Loaded,
}

impl PolicySet {
    /// Runs the top level of each file once and takes the rules it registers.
    ///
    /// The caller's thread needs a stack of 16 MiB: the limits on scripts are made for it.
    ///
    /// # Errors
    ///
    /// Returns every error of every file; then nothing of it is taken.
    pub fn load(files: &[SourceFile]) -> Result<Self, Vec<PolicyError>> {
        Self::load_within(files, &Interrupt::never())
    }

    /// [`PolicySet::load`] with a deadline over all files.
    ///
    /// A program that takes an operator's edits while it runs sets one: the limit on operations
    /// alone lets a hostile file take seconds, since one call on an array is one operation.
    ///
    /// # Errors
    ///
    /// Returns every error of every file; then nothing of it is taken.
    pub fn load_within(
        files: &[SourceFile],
        interrupt: &Interrupt,
    ) -> Result<Self, Vec<PolicyError>> {
        load::load(files, interrupt).map(|loaded| Self { loaded })
    }

    /// The rules, in the order of files and lines.
    pub fn rules(&self) -> &[Rule] {
        &self.loaded.rules
    }

    /// The rule of this id.
    pub(crate) fn rule(&self, id: &RuleId) -> Option<&Rule> {
        self.loaded.rules.get(*self.loaded.places.get(id)?)
    }

    /// Every signal that a condition or a body reads, each once.
    pub fn signals(&self) -> &[Signal] {
        &self.loaded.signals
    }

    /// The windows to keep.
    pub fn plan(&self) -> &WindowPlan {
        &self.loaded.plan
    }

    /// SHA-256 of names and texts, in hex.
    pub fn hash(&self) -> &str {
        &self.loaded.hash
    }

    /// The beginning of [`Self::hash`], as evidence has it.
    pub(crate) fn short_hash(&self) -> Arc<str> {
        Arc::clone(&self.loaded.short_hash)
    }

    /// What rule number `rule` asks, as one text that does not depend on the other rules. A
    /// closure's is not known.
    pub(crate) fn condition(&self, rule: usize) -> Option<String> {
        let tree = self.loaded.parts.get(rule)?.tree.as_ref()?;
        Some(tree.to_string())
    }

    /// Evaluates the condition of rule number `rule`, without allocating or entering Rhai.
    ///
    /// An alert rule has no condition: true. A rule that is not [`Rule::native`] is unknown
    /// here; [`PolicySet::run_condition`] asks its closure.
    pub fn verdict<R: SignalReader>(&self, rule: usize, reader: &mut R) -> Verdict {
        match self.loaded.parts.get(rule).map(|parts| &parts.asked) {
            Some(Asked::Native(program)) => program.verdict(&self.loaded.signals, reader),
            Some(Asked::Always) => Verdict::True,
            Some(Asked::Closure(_)) | None => Verdict::Unknown,
        }
    }

    /// What rule number `rule` cannot hold without, as far as its condition tells at a glance.
    pub(crate) fn needs(&self, rule: usize) -> Vec<Need> {
        match self.loaded.parts.get(rule).map(|parts| &parts.asked) {
            Some(Asked::Native(program)) => program.needs(),
            Some(Asked::Always | Asked::Closure(_)) | None => Vec::new(),
        }
    }

    /// The values that the condition of rule number `rule` sees, in the order of its text; of a
    /// closure, the windows that it may read.
    pub fn evidence<R: SignalReader>(&self, rule: usize, reader: &mut R) -> Evidence {
        match self.loaded.parts.get(rule).map(|parts| &parts.asked) {
            Some(Asked::Native(program)) => program.evidence(&self.loaded.signals, reader),
            Some(Asked::Closure(script)) => run::evidence(&self.loaded, script, reader),
            Some(Asked::Always) | None => Evidence::default(),
        }
    }

    /// Evaluates any rule's condition, by its closure if it has one.
    ///
    /// # Errors
    ///
    /// Returns where the closure failed or was ended; a value that is missing is no error and
    /// makes it unknown.
    pub fn run_condition<R: SignalReader>(
        &self,
        rule: usize,
        subject: &Subject,
        reader: &mut R,
        interrupt: &Interrupt,
    ) -> Result<Verdict, PolicyError> {
        match self.loaded.parts.get(rule).map(|parts| &parts.asked) {
            Some(Asked::Closure(_)) => {
                run::condition(&self.loaded, rule, subject, reader, interrupt)
            }
            _ => Ok(self.verdict(rule, reader)),
        }
    }

    /// Runs the body of rule number `rule`; without a body, what its kind does by itself.
    ///
    /// `interrupt` is asked now and then and ends the script when it says so; replay hands in
    /// [`Interrupt::never`].
    ///
    /// # Errors
    ///
    /// Returns where the script failed or was ended; then it proposes nothing.
    pub fn run_body<R: SignalReader>(
        &self,
        rule: usize,
        subject: &Subject,
        reader: &mut R,
        interrupt: &Interrupt,
    ) -> Result<Vec<BodyAsk>, PolicyError> {
        run::body(&self.loaded, rule, subject, reader, interrupt)
    }

    /// What is doubtful though it loads: rules that can never act, rules that undo each other,
    /// names of pools that are not among `pools` (none given: not checked).
    pub fn check(&self, pools: Option<&[PoolName]>) -> Vec<Finding> {
        check::check(&self.loaded, pools)
    }

    /// Takes what scripts printed since it was last taken: capped lines, without control
    /// characters.
    pub fn take_printed(&self) -> Vec<String> {
        let scripts = self.loaded.scripts.as_ref();
        scripts.map_or_else(Vec::new, |scripts| {
            std::mem::take(&mut scripts.host.state().printed)
        })
    }
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}
