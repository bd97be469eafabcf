//! What is doubtful in policies that load: rules that can never act, or that undo each other.
//!
//! A condition is taken apart into its alternatives, and each alternative into bounds on single
//! signals. Comparisons of sums are passed over: a finding is certain or it is not made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rhai::Position;

use crate::names::PoolName;
use crate::time::format_duration;
use crate::window::Stat;

use super::error::Finding;
use super::load::{Loaded, Parts};
use super::tree::{Comparison, Number, Truth};
use super::{Rule, RuleKind, Signal, vocabulary};

/// What a VM takes at the least until it is a Ready node and its agent has spoken: it boots, pulls images and
/// asks to join. With less between two looks a rule answers one rise of the load twice.
const PROVISIONING: Duration = Duration::from_secs(120);

/// Alternatives that a condition is taken apart into; one with more is passed over.
const MAX_ALTERNATIVES: usize = 64;

/// Everything doubtful, in the order of the rules. Without `pools` their names are not checked.
pub(super) fn check(loaded: &Loaded, pools: Option<&[PoolName]>) -> Vec<Finding> {
    let mut check = Check {
        loaded,
        findings: Vec::new(),
    };
    let rules: Vec<(&Rule, &Parts)> = loaded.rules.iter().zip(&loaded.parts).collect();
    for (place, (rule, parts)) in rules.iter().enumerate() {
        if let Some(pools) = pools {
            check.pool(rule, parts, pools);
        }
        check.never_or_always(parts);
        check.cooldown(rule, parts);
        check.coverage(rule, parts);
        for other in rules.iter().skip(place + 1) {
            check.hysteresis((rule, parts), *other);
        }
    }
    check.findings
}

/// A bound on one signal.
#[derive(Debug, Clone)]
struct Atom {
    signal: u32,
    label: Arc<str>,
    comparison: Comparison,
    bound: f64,
}

/// The values that a signal may have.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f64,
    low_open: bool,
    high: f64,
    high_open: bool,
}

impl Range {
    const ALL: Self = Self {
        low: f64::NEG_INFINITY,
        low_open: true,
        high: f64::INFINITY,
        high_open: true,
    };

    fn closed(low: f64, high: f64) -> Self {
        Self {
            low,
            low_open: false,
            high,
            high_open: high.is_infinite(),
        }
    }

    fn of(comparison: Comparison, bound: f64) -> Self {
        match comparison {
            Comparison::Less | Comparison::LessOrEqual => Self {
                high: bound,
                high_open: comparison == Comparison::Less,
                ..Self::ALL
            },
            Comparison::Greater | Comparison::GreaterOrEqual => Self {
                low: bound,
                low_open: comparison == Comparison::Greater,
                ..Self::ALL
            },
        }
    }

    fn and(self, other: Self) -> Self {
        let (low, low_open) = match self.low.total_cmp(&other.low) {
            std::cmp::Ordering::Less => (other.low, other.low_open),
            std::cmp::Ordering::Greater => (self.low, self.low_open),
            std::cmp::Ordering::Equal => (self.low, self.low_open || other.low_open),
        };
        let (high, high_open) = match self.high.total_cmp(&other.high) {
            std::cmp::Ordering::Less => (self.high, self.high_open),
            std::cmp::Ordering::Greater => (other.high, other.high_open),
            std::cmp::Ordering::Equal => (self.high, self.high_open || other.high_open),
        };
        Self {
            low,
            low_open,
            high,
            high_open,
        }
    }

    fn is_empty(self) -> bool {
        self.low > self.high || (self.low >= self.high && (self.low_open || self.high_open))
    }

    /// A value within, for a person to see.
    fn witness(self) -> f64 {
        match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => f64::midpoint(self.low, self.high),
            (true, false) => self.low + 1.0,
            (false, true) => self.high - 1.0,
            (false, false) => 0.0,
        }
    }
}

/// The values that a signal can have at all.
fn natural(signal: &Signal) -> Range {
    let ratio = Range::closed(0.0, 1.0);
    let positive = Range::closed(0.0, f64::INFINITY);
    match signal {
        Signal::Window { name, stat, .. } => match stat {
            Stat::Coverage => ratio,
            Stat::StdDev | Stat::Count | Stat::Rate => positive,
            Stat::Slope => Range::ALL,
            _ if matches!(&**name, "cpu" | "memory") => ratio,
            _ => Range::ALL,
        },
        _ => positive,
    }
}

/// The alternatives of `tree`, each a list of bounds that must all hold; none if they are too
/// many.
fn alternatives(tree: &Truth, negated: bool) -> Option<Vec<Vec<Atom>>> {
    let found = match (tree, negated) {
        (Truth::Not(inner), _) => return alternatives(inner, !negated),
        (Truth::And(left, right), false) | (Truth::Or(left, right), true) => {
            let left = alternatives(left, negated)?;
            let right = alternatives(right, negated)?;
            let joined = left.iter().flat_map(|one| {
                right
                    .iter()
                    .map(move |other| one.iter().chain(other).cloned().collect())
            });
            joined.take(MAX_ALTERNATIVES + 1).collect()
        }
        (Truth::Or(left, right), false) | (Truth::And(left, right), true) => {
            let mut found = alternatives(left, negated)?;
            found.extend(alternatives(right, negated)?);
            found
        }
        (Truth::Compare(comparison, left, right), _) => {
            vec![atoms(*comparison, left, right, negated)]
        }
        (Truth::Flag(number), _) => vec![atoms(
            Comparison::Greater,
            number,
            &Number::Constant(0.0),
            negated,
        )],
        (Truth::Broken, _) => vec![Vec::new()],
    };
    (found.len() <= MAX_ALTERNATIVES).then_some(found)
}

fn atoms(comparison: Comparison, left: &Number, right: &Number, negated: bool) -> Vec<Atom> {
    let (signal, comparison, bound) = match (left, right) {
        (Number::Signal(signal), Number::Constant(bound)) => (signal, comparison, *bound),
        (Number::Constant(bound), Number::Signal(signal)) => (signal, comparison.turned(), *bound),
        _ => return Vec::new(),
    };
    vec![Atom {
        signal: signal.index,
        label: Arc::clone(&signal.label),
        comparison: if negated {
            comparison.opposite()
        } else {
            comparison
        },
        bound,
    }]
}

/// A statistic of a metric, whatever the window: what two rules must leave a gap between.
type Measure<'a> = (&'a str, Stat);

struct Check<'a> {
    loaded: &'a Loaded,
    findings: Vec<Finding>,
}

impl<'a> Check<'a> {
    fn find(&mut self, parts: &Parts, at: Position, message: String) {
        self.findings.push(Finding {
            file: parts.file.clone(),
            line: at.line().unwrap_or(0),
            column: at.position().unwrap_or(0),
            message,
        });
    }

    fn pool(&mut self, rule: &Rule, parts: &Parts, pools: &[PoolName]) {
        let Some(pool) = pool_of(rule) else { return };
        if pools.contains(pool) {
            return;
        }
        let names = pools.iter().map(PoolName::as_str);
        let hint = vocabulary::nearest(pool.as_str(), names).map_or_else(
            || "add it to the configuration, or name one that is there".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        self.find(parts, parts.at, format!("no pool `{pool}`: {hint}"));
    }

    fn never_or_always(&mut self, parts: &Parts) {
        let Some(tree) = &parts.tree else { return };
        if let Some(conflict) = self.impossible(tree, false) {
            let message = format!("this condition can never hold: {conflict}");
            self.find(parts, parts.asked_at, message);
        } else if self.impossible(tree, true).is_some() {
            let message = "this condition holds whenever there is data: it asks nothing".to_owned();
            self.find(parts, parts.asked_at, message);
        }
    }

    /// Why no alternative of `tree` can hold, if none can.
    fn impossible(&self, tree: &Truth, negated: bool) -> Option<String> {
        let mut why = None;
        for alternative in alternatives(tree, negated)? {
            let conflict = self.conflict(&alternative)?;
            why.get_or_insert(conflict);
        }
        why
    }

    fn conflict(&self, alternative: &[Atom]) -> Option<String> {
        let mut ranges: BTreeMap<u32, Range> = BTreeMap::new();
        for atom in alternative {
            let signal = self.loaded.signals.get(atom.signal as usize)?;
            let range = ranges.entry(atom.signal).or_insert_with(|| natural(signal));
            *range = range.and(Range::of(atom.comparison, atom.bound));
            if range.is_empty() {
                let same = alternative
                    .iter()
                    .filter(|other| other.signal == atom.signal);
                let asked: Vec<String> = same
                    .map(|other| format!("{} {}", other.comparison.symbol(), other.bound))
                    .collect();
                return Some(format!(
                    "`{}` would have to be {}",
                    atom.label,
                    asked.join(" and ")
                ));
            }
        }
        None
    }

    fn cooldown(&mut self, rule: &Rule, parts: &Parts) {
        let scales = matches!(rule.kind, RuleKind::ScaleUp(_) | RuleKind::ScaleDown(_));
        if scales && rule.cooldown == Duration::ZERO {
            let message = "the rule has no cooldown: it acts again before the last change shows; \
                           add `.cooldown(\"3m\")`";
            self.find(parts, parts.at, message.to_owned());
        } else if rule.cooldown > Duration::ZERO && rule.cooldown < rule.hold {
            let message = format!(
                "the cooldown `{}` is shorter than the hold `{}` and so never felt: make it longer",
                format_duration(rule.cooldown),
                format_duration(rule.hold)
            );
            self.find(parts, parts.cooldown_at, message);
        } else if matches!(rule.kind, RuleKind::ScaleUp(_)) && rule.cooldown < PROVISIONING {
            let message = format!(
                "the cooldown `{}` is shorter than a machine takes to be made and to join, {} at the \
                 least: the rule asks for more before the last one serves; make it longer",
                format_duration(rule.cooldown),
                format_duration(PROVISIONING)
            );
            self.find(parts, parts.cooldown_at, message);
        }
    }

    /// A rule that takes away must not act on thin data (I12, I30). The guard refuses then, too;
    /// the policy should say so.
    fn coverage(&mut self, rule: &Rule, parts: &Parts) {
        if !matches!(rule.kind, RuleKind::ScaleDown(_) | RuleKind::Heal { .. }) {
            return;
        }
        let Some(tree) = &parts.tree else { return };
        let mut used = Vec::new();
        signals_of(tree, &mut used);
        let windows: Vec<(&str, Stat, Duration)> = used
            .iter()
            .filter_map(|index| match self.loaded.signals.get(*index as usize)? {
                Signal::Window {
                    name, stat, window, ..
                } => Some((&**name, *stat, *window)),
                _ => None,
            })
            .collect();
        let uncovered = windows.iter().find(|(metric, stat, _)| {
            let covered = |other: &&(&str, Stat, Duration)| other.0 == *metric;
            let stats: Vec<Stat> = windows.iter().filter(covered).map(|(_, s, _)| *s).collect();
            *stat != Stat::Coverage && !stats.contains(&Stat::Coverage)
        });
        if let Some((metric, _, window)) = uncovered {
            let message = format!(
                "the rule takes away and does not ask whether `{metric}` is covered: add `and \
                 covered({metric:?}, {:?})`",
                format_duration(*window)
            );
            self.find(parts, parts.asked_at, message);
        }
    }

    fn hysteresis(&mut self, one: (&Rule, &Parts), other: (&Rule, &Parts)) {
        let (up, down) = match (&one.0.kind, &other.0.kind) {
            (RuleKind::ScaleUp(a), RuleKind::ScaleDown(b)) if a == b => (one, other),
            (RuleKind::ScaleDown(a), RuleKind::ScaleUp(b)) if a == b => (other, one),
            _ => return,
        };
        let (Some(up_tree), Some(down_tree)) = (&up.1.tree, &down.1.tree) else {
            return;
        };
        let (Some(ups), Some(downs)) =
            (alternatives(up_tree, false), alternatives(down_tree, false))
        else {
            return;
        };
        let overlap = ups
            .iter()
            .flat_map(|up| downs.iter().map(move |down| (up, down)))
            .find_map(|(up, down)| self.overlap(up, down));
        if let Some((label, value)) = overlap {
            let place = format!("{}:{}", up.1.file, up.1.at.line().unwrap_or(0));
            let message = format!(
                "no gap to the scale_up rule at {place}: at `{label}` = {value} the pool goes up \
                 and down in turn; move the thresholds apart"
            );
            self.find(down.1, down.1.asked_at, message);
        }
    }

    /// A value of a shared measure at which both alternatives hold, or between which and the
    /// next there is no gap, unless another shared measure keeps them apart.
    fn overlap(&self, up: &[Atom], down: &[Atom]) -> Option<(Arc<str>, f64)> {
        let up_ranges = self.measures(up);
        let down_ranges = self.measures(down);
        let mut shared = None;
        for (measure, (label, range)) in &up_ranges {
            let Some((_, other)) = down_ranges.get(measure) else {
                continue;
            };
            // Thresholds that touch leave no gap either: close both ends before comparing.
            let both = range.and(*other);
            let closed = Range {
                low_open: false,
                high_open: false,
                ..both
            };
            if closed.is_empty() {
                return None;
            }
            shared.get_or_insert((Arc::clone(label), both.witness()));
        }
        shared
    }

    fn measures(&self, atoms: &[Atom]) -> BTreeMap<(&'a str, Stat), (Arc<str>, Range)> {
        let mut ranges: BTreeMap<Measure<'a>, (Arc<str>, Range)> = BTreeMap::new();
        for atom in atoms {
            let Some(signal @ Signal::Window { name, stat, .. }) =
                self.loaded.signals.get(atom.signal as usize)
            else {
                continue;
            };
            // How well a window is covered says nothing about which way to go.
            if *stat == Stat::Coverage {
                continue;
            }
            let (_, range) = ranges
                .entry((&**name, *stat))
                .or_insert_with(|| (Arc::clone(&atom.label), natural(signal)));
            *range = range.and(Range::of(atom.comparison, atom.bound));
        }
        ranges
    }
}

fn pool_of(rule: &Rule) -> Option<&PoolName> {
    match &rule.kind {
        RuleKind::ScaleUp(pool) | RuleKind::ScaleDown(pool) | RuleKind::Heal { pool, .. } => {
            Some(pool)
        }
        RuleKind::OnAlert(_) => None,
    }
}

fn signals_of(tree: &Truth, found: &mut Vec<u32>) {
    match tree {
        Truth::Compare(_, left, right) => {
            numbers_of(left, found);
            numbers_of(right, found);
        }
        Truth::And(left, right) | Truth::Or(left, right) => {
            signals_of(left, found);
            signals_of(right, found);
        }
        Truth::Not(inner) => signals_of(inner, found),
        Truth::Flag(number) => numbers_of(number, found),
        Truth::Broken => {}
    }
}

fn numbers_of(tree: &Number, found: &mut Vec<u32>) {
    match tree {
        Number::Signal(signal) => found.push(signal.index),
        Number::Arithmetic(_, left, right) => {
            numbers_of(left, found);
            numbers_of(right, found);
        }
        Number::Negated(inner) => numbers_of(inner, found),
        Number::Constant(_) | Number::Broken => {}
    }
}
