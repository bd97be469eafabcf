//! What a load has gathered: errors, rules under construction, signals.
//!
//! `load.rs` makes a set of it when every file is through.

use std::sync::Arc;
use std::time::Duration;

use rhai::{FnPtr, Position};

use crate::decision::Rung;
use crate::window::{MetricSlot, WindowPlan};

use super::Signal;
use super::tree::{Condition, MAX_TREE, Number, SignalValue, Truth};

/// Errors kept of one file; a loop can make any number.
const MAX_ERRORS: usize = 50;
/// Rules of one file.
const MAX_RULES: usize = 200;
/// Signals of a set, and metrics among them. Each is kept for every node.
const MAX_SIGNALS: usize = 1_000;
const MAX_METRICS: usize = 200;

/// What is gathered while files are run.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// Of the file that is run.
    pub(super) errors: Vec<(Position, String)>,
    /// Of the file that is run.
    pub(super) rules: Vec<Draft>,
    /// Rules of the file that is run beyond the most, and where the first of them stands.
    beyond: Option<(Position, usize)>,
    /// Signals and conditions of the file that is run: where, and whether a rule uses it.
    made: Vec<(Position, bool)>,
    /// Windows that bodies of the file that is run read.
    pub(super) watched: Vec<(Arc<str>, Duration)>,
    /// Of all files.
    pub(super) signals: Vec<Signal>,
    /// Of all files.
    pub(super) plan: WindowPlan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DraftKind {
    ScaleUp,
    ScaleDown,
    Heal,
    OnAlert,
}

/// A rule under construction; each part with where it was set.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: DraftKind,
    /// The pool, or the alert's name.
    pub(super) of: String,
    pub(super) at: Position,
    pub(super) condition: Option<(DraftCondition, Position)>,
    pub(super) hold: Option<(Duration, Position)>,
    pub(super) cooldown: Option<(Duration, Position)>,
    pub(super) ladder: Option<(Vec<Rung>, Position)>,
    pub(super) body: Option<(FnPtr, Position)>,
    /// Whether the run ended, with an error, while it may not have been whole yet.
    pub(super) cut: bool,
}

#[derive(Debug)]
pub(super) enum DraftCondition {
    Tree(Arc<Truth>),
    Closure(FnPtr),
}

impl Draft {
    pub(super) fn new(kind: DraftKind, of: &str, at: Position) -> Self {
        Self {
            kind,
            of: of.to_owned(),
            at,
            condition: None,
            hold: None,
            cooldown: None,
            ladder: None,
            body: None,
            cut: false,
        }
    }
}

impl Loading {
    /// Forgets what belongs to one file alone.
    pub(super) fn next_file(&mut self) {
        self.errors.clear();
        self.rules.clear();
        self.beyond = None;
        self.made.clear();
        self.watched.clear();
    }

    pub(super) fn error(&mut self, at: Position, message: impl Into<String>) {
        let told = (at, message.into());
        if self.errors.len() < MAX_ERRORS && !self.errors.contains(&told) {
            self.errors.push(told);
        }
    }

    /// Reports a part of a rule that is set a second time.
    pub(super) fn once(&mut self, again: bool, part: &str, at: Position) {
        if again {
            let hint = if part == "when" {
                ": join the conditions with `and` or `or`"
            } else {
                ""
            };
            self.error(at, format!("the rule has a `.{part}` already{hint}"));
        }
    }

    pub(super) fn rule(&mut self, draft: Draft) -> usize {
        if self.rules.len() >= MAX_RULES {
            self.beyond.get_or_insert((draft.at, 0)).1 += 1;
            return usize::MAX;
        }
        self.rules.push(draft);
        self.rules.len() - 1
    }

    /// Says how many rules are too many, when the file has run.
    pub(super) fn tell_too_many(&mut self) {
        if let Some((at, beyond)) = self.beyond.take() {
            let count = MAX_RULES + beyond;
            self.error(
                at,
                format!(
                    "the file has {count} rules, and at most {MAX_RULES} may be: split it into \
                     several files"
                ),
            );
        }
    }

    pub(super) fn draft(&mut self, rule: usize) -> Option<&mut Draft> {
        self.rules.get_mut(rule)
    }

    pub(super) fn kind(&self, rule: usize) -> Option<DraftKind> {
        self.rules.get(rule).map(|draft| draft.kind)
    }

    /// A use of `signal`, which is written `label`.
    pub(super) fn signal(
        &mut self,
        at: Position,
        signal: Signal,
        label: String,
        flag: bool,
    ) -> SignalValue {
        match self.intern(signal) {
            Some(index) => self.value(at, super::host::number(index, label), flag, 1),
            None => {
                self.error(
                    at,
                    format!("more than {MAX_SIGNALS} signals or {MAX_METRICS} metrics"),
                );
                self.broken(at)
            }
        }
    }

    /// Stands for what was reported as an error.
    pub(super) fn broken(&mut self, at: Position) -> SignalValue {
        let value = self.value(at, Number::Broken, true, 1);
        self.used(value.made);
        value
    }

    /// Stands for a condition that was reported as an error.
    pub(super) fn broken_condition(&mut self, at: Position) -> Condition {
        let condition = self.condition(at, Truth::Broken, 1);
        self.used(condition.made);
        condition
    }

    pub(super) fn value(
        &mut self,
        at: Position,
        tree: Number,
        flag: bool,
        size: usize,
    ) -> SignalValue {
        let made = self.make(at);
        if size > MAX_TREE {
            self.error(at, format!("a condition of more than {MAX_TREE} parts"));
            self.used(made);
            return SignalValue {
                tree: Arc::new(Number::Broken),
                flag: true,
                size: 1,
                made,
            };
        }
        SignalValue {
            tree: Arc::new(tree),
            flag,
            size,
            made,
        }
    }

    pub(super) fn condition(&mut self, at: Position, tree: Truth, size: usize) -> Condition {
        let made = self.make(at);
        if size > MAX_TREE {
            self.error(at, format!("a condition of more than {MAX_TREE} parts"));
            self.used(made);
            return Condition {
                tree: Arc::new(Truth::Broken),
                size: 1,
                made,
            };
        }
        Condition {
            tree: Arc::new(tree),
            size,
            made,
        }
    }

    fn make(&mut self, at: Position) -> usize {
        self.made.push((at, false));
        self.made.len() - 1
    }

    /// Notes that something that was made became part of something else or of a rule.
    pub(super) fn used(&mut self, made: usize) {
        if let Some((_, used)) = self.made.get_mut(made) {
            *used = true;
        }
    }

    /// Where something was made that became part of nothing: a condition that `switch` or a
    /// short-circuit swallowed, or one that was forgotten.
    pub(super) fn unused(&self) -> Vec<Position> {
        let unused = self.made.iter().filter(|(_, used)| !used);
        unused.map(|(at, _)| *at).collect()
    }

    pub(super) fn watch(&mut self, metric: &str, window: Duration) {
        let watched = (Arc::from(metric), window);
        if self.watched.len() < MAX_SIGNALS && !self.watched.contains(&watched) {
            self.watched.push(watched);
        }
    }

    /// The place of `signal` among those of the set; none if there is no room for it.
    pub(super) fn intern(&mut self, mut signal: Signal) -> Option<u32> {
        if let Signal::Window {
            metric,
            name,
            window,
            ..
        } = &mut signal
        {
            *metric = self.metric(name)?;
            let (_, windows) = self.plan.metrics.get_mut(usize::from(metric.0))?;
            if !windows.contains(window) {
                windows.push(*window);
                windows.sort_unstable();
            }
        }
        let known = self.signals.iter().position(|known| *known == signal);
        let place = match known {
            Some(place) => place,
            None if self.signals.len() >= MAX_SIGNALS => return None,
            None => {
                self.signals.push(signal);
                self.signals.len() - 1
            }
        };
        u32::try_from(place).ok()
    }

    fn metric(&mut self, name: &str) -> Option<MetricSlot> {
        let metrics = &mut self.plan.metrics;
        let place = match metrics.iter().position(|(known, _)| known == name) {
            Some(place) => place,
            None if metrics.len() >= MAX_METRICS => return None,
            None => {
                metrics.push((name.to_owned(), Vec::new()));
                metrics.len() - 1
            }
        };
        u16::try_from(place).ok().map(MetricSlot)
    }
}
