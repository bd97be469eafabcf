//! What operators build while a policy file is run: trees of signals, as Rhai values.
//!
//! Nothing is evaluated here. `program.rs` flattens a tree once its rule is complete.

use std::sync::Arc;

/// The largest tree of one rule, in nodes.
///
/// A condition that a person reads has a dozen. The bound keeps the recursion over a tree, and
/// the stack that it takes, small whatever a loop in a policy builds.
pub(super) const MAX_TREE: usize = 256;

/// A number that is known when the condition is evaluated.
#[derive(Debug)]
pub(super) enum Number {
    Constant(f64),
    Signal(SignalUse),
    Arithmetic(Arithmetic, Arc<Number>, Arc<Number>),
    Negated(Arc<Number>),
    /// Stands for what was reported as an error; the file is refused.
    Broken,
}

/// One place where a condition names a signal.
#[derive(Debug, Clone)]
pub(super) struct SignalUse {
    /// Its place among the signals of the set.
    pub(super) index: u32,
    /// As the policy writes it.
    pub(super) label: Arc<str>,
}

/// True, false or unknown when the condition is evaluated.
#[derive(Debug)]
pub(super) enum Truth {
    Compare(Comparison, Arc<Number>, Arc<Number>),
    And(Arc<Truth>, Arc<Truth>),
    Or(Arc<Truth>, Arc<Truth>),
    Not(Arc<Truth>),
    /// A signal that is itself a yes or no, such as `silent("60s")`: more than zero.
    Flag(Arc<Number>),
    /// Stands for what was reported as an error; the file is refused.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A signal, or a sum of signals, as a Rhai value.
#[derive(Debug, Clone)]
pub(super) struct SignalValue {
    pub(super) tree: Arc<Number>,
    /// Whether it may stand where a condition is wanted.
    pub(super) flag: bool,
    pub(super) size: usize,
    /// Its place in the list of what was made and must be used.
    pub(super) made: usize,
}

/// A condition as a Rhai value.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) tree: Arc<Truth>,
    pub(super) size: usize,
    /// Its place in the list of what was made and must be used.
    pub(super) made: usize,
}

/// A condition as one text: two of one text ask the same, in whichever set they are.
impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Compare(comparison, left, right) => {
                write!(f, "({left} {} {right})", comparison.symbol())
            }
            Self::And(left, right) => write!(f, "({left} and {right})"),
            Self::Or(left, right) => write!(f, "({left} or {right})"),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::Flag(number) => write!(f, "{number}"),
            Self::Broken => f.write_str("broken"),
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::Signal(signal) => f.write_str(&signal.label),
            Self::Arithmetic(arithmetic, left, right) => {
                write!(f, "({left} {arithmetic:?} {right})")
            }
            Self::Negated(inner) => write!(f, "-{inner}"),
            Self::Broken => f.write_str("broken"),
        }
    }
}

impl Comparison {
    /// The same question with its sides changed over.
    pub(super) fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// The question that is answered yes where this one is answered no.
    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// Whether it holds between two finite numbers.
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Arithmetic {
    pub(super) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
        }
    }
}
