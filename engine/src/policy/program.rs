//! A condition in the form in which it is evaluated: two flat lists and a root.
//!
//! Evaluation allocates nothing and never enters Rhai. It is three-valued after Kleene: what
//! depends on a missing value is unknown, and unknown never acts.

use std::sync::Arc;

use crate::decision::{Evidence, Observed};

use super::tree::{Arithmetic, Comparison, Number, SignalUse, Truth};
use super::{Signal, SignalReader, Verdict};

/// A flattened condition.
#[derive(Debug, Default)]
pub(super) struct Program {
    numbers: Vec<NumberOp>,
    truths: Vec<TruthOp>,
    /// Signals in the order of the text.
    uses: Vec<Use>,
}

/// One mention of a signal, for the evidence.
#[derive(Debug)]
struct Use {
    signal: SignalUse,
    bound: Option<f64>,
}

/// A signal against a constant, without which a condition cannot hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// Its place among the signals of the set.
    pub(crate) signal: u32,
    comparison: Comparison,
    bound: f64,
}

impl Need {
    /// Whether any value from `least` to `greatest` fulfils it.
    pub(crate) fn may_be(&self, (least, greatest): (f64, f64)) -> bool {
        match self.comparison {
            Comparison::Less | Comparison::LessOrEqual => self.comparison.holds(least, self.bound),
            Comparison::Greater | Comparison::GreaterOrEqual => {
                self.comparison.holds(greatest, self.bound)
            }
        }
    }
}

/// The place of a number or a truth in its list. Trees have at most `MAX_TREE` nodes.
type Place = u16;

#[derive(Debug, Clone, Copy)]
enum NumberOp {
    Constant(f64),
    Signal(u32),
    Arithmetic(Arithmetic, Place, Place),
    Negated(Place),
    None,
}

#[derive(Debug, Clone, Copy)]
enum TruthOp {
    /// A signal against a constant: nearly every question of nearly every policy.
    Threshold(u32, Comparison, f64),
    Compare(Comparison, Place, Place),
    And(Place, Place),
    Or(Place, Place),
    Not(Place),
    None,
}

impl Program {
    /// Flattens `tree`. Its last truth is the root.
    pub(super) fn new(tree: &Truth) -> Self {
        let mut program = Self::default();
        program.add_truth(tree);
        program
    }

    /// What the condition comes to.
    pub(super) fn verdict<R: SignalReader>(&self, signals: &[Signal], reader: &mut R) -> Verdict {
        let Some(root) = self.truths.len().checked_sub(1) else {
            return Verdict::Unknown;
        };
        let mut run = Run {
            program: self,
            signals,
            reader,
        };
        run.truth(u16::try_from(root).unwrap_or(Place::MAX))
    }

    /// What it cannot hold without, in the order of the text: the thresholds that `and` joins at
    /// its root.
    pub(super) fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        let root = self.truths.len().checked_sub(1);
        let mut left: Vec<_> = root.into_iter().collect();
        while let Some(op) = left.pop().and_then(|place| self.truths.get(place)) {
            match *op {
                TruthOp::Threshold(signal, comparison, bound) => needs.push(Need {
                    signal,
                    comparison,
                    bound,
                }),
                TruthOp::And(one, other) => left.extend([usize::from(other), usize::from(one)]),
                _ => {}
            }
        }
        needs
    }

    /// The values that it sees, in the order of the text.
    pub(super) fn evidence<R: SignalReader>(&self, signals: &[Signal], reader: &mut R) -> Evidence {
        let values = self.uses.iter().filter_map(|used| {
            let signal = signals.get(used.signal.index as usize)?;
            let reading = reader.read(used.signal.index, signal);
            Some(Observed {
                signal: Arc::clone(&used.signal.label),
                value: reading.value.filter(|value| value.is_finite()),
                coverage: matches!(signal, Signal::Window { .. }).then_some(reading.coverage),
                bound: used.bound,
            })
        });
        Evidence {
            values: values.collect(),
            ..Evidence::default()
        }
    }

    fn add_truth(&mut self, tree: &Truth) -> Place {
        let op = match tree {
            Truth::Compare(comparison, left, right) => self.comparison(*comparison, left, right),
            Truth::Flag(number) => {
                self.comparison(Comparison::Greater, number, &Number::Constant(0.0))
            }
            Truth::And(left, right) => {
                let left = self.add_truth(left);
                TruthOp::And(left, self.add_truth(right))
            }
            Truth::Or(left, right) => {
                let left = self.add_truth(left);
                TruthOp::Or(left, self.add_truth(right))
            }
            Truth::Not(inner) => TruthOp::Not(self.add_truth(inner)),
            Truth::Broken => TruthOp::None,
        };
        push(&mut self.truths, op)
    }

    fn comparison(&mut self, comparison: Comparison, left: &Number, right: &Number) -> TruthOp {
        let (signal, comparison, bound) = match (left, right) {
            (Number::Signal(signal), Number::Constant(bound)) => (signal, comparison, *bound),
            (Number::Constant(bound), Number::Signal(signal)) => {
                (signal, comparison.turned(), *bound)
            }
            _ => {
                let left = self.add_number(left);
                return TruthOp::Compare(comparison, left, self.add_number(right));
            }
        };
        self.uses.push(Use {
            signal: signal.clone(),
            bound: Some(bound),
        });
        TruthOp::Threshold(signal.index, comparison, bound)
    }

    fn add_number(&mut self, tree: &Number) -> Place {
        let op = match tree {
            Number::Constant(value) => NumberOp::Constant(*value),
            Number::Signal(signal) => {
                self.uses.push(Use {
                    signal: signal.clone(),
                    bound: None,
                });
                NumberOp::Signal(signal.index)
            }
            Number::Arithmetic(arithmetic, left, right) => {
                let left = self.add_number(left);
                NumberOp::Arithmetic(*arithmetic, left, self.add_number(right))
            }
            Number::Negated(inner) => NumberOp::Negated(self.add_number(inner)),
            Number::Broken => NumberOp::None,
        };
        push(&mut self.numbers, op)
    }
}

fn push<T>(list: &mut Vec<T>, op: T) -> Place {
    let place = u16::try_from(list.len()).unwrap_or(Place::MAX);
    list.push(op);
    place
}

struct Run<'a, R> {
    program: &'a Program,
    signals: &'a [Signal],
    reader: &'a mut R,
}

impl<R: SignalReader> Run<'_, R> {
    fn truth(&mut self, place: Place) -> Verdict {
        let Some(op) = self.program.truths.get(usize::from(place)) else {
            return Verdict::Unknown;
        };
        match *op {
            TruthOp::Threshold(signal, comparison, bound) => match self.signal(signal) {
                Some(value) => Verdict::of(comparison.holds(value, bound)),
                None => Verdict::Unknown,
            },
            TruthOp::Compare(comparison, left, right) => {
                match (self.number(left), self.number(right)) {
                    (Some(left), Some(right)) => Verdict::of(comparison.holds(left, right)),
                    _ => Verdict::Unknown,
                }
            }
            // The second side is not read when the first decides.
            TruthOp::And(left, right) => match self.truth(left) {
                Verdict::False => Verdict::False,
                Verdict::True => self.truth(right),
                Verdict::Unknown => match self.truth(right) {
                    Verdict::False => Verdict::False,
                    _ => Verdict::Unknown,
                },
            },
            TruthOp::Or(left, right) => match self.truth(left) {
                Verdict::True => Verdict::True,
                Verdict::False => self.truth(right),
                Verdict::Unknown => match self.truth(right) {
                    Verdict::True => Verdict::True,
                    _ => Verdict::Unknown,
                },
            },
            TruthOp::Not(inner) => match self.truth(inner) {
                Verdict::True => Verdict::False,
                Verdict::False => Verdict::True,
                Verdict::Unknown => Verdict::Unknown,
            },
            TruthOp::None => Verdict::Unknown,
        }
    }

    fn number(&mut self, place: Place) -> Option<f64> {
        let value = match *self.program.numbers.get(usize::from(place))? {
            NumberOp::Constant(value) => value,
            NumberOp::Signal(signal) => return self.signal(signal),
            NumberOp::Arithmetic(arithmetic, left, right) => {
                arithmetic.apply(self.number(left)?, self.number(right)?)
            }
            NumberOp::Negated(inner) => -self.number(inner)?,
            NumberOp::None => return None,
        };
        // INVARIANT: a value that is no finite number satisfies nothing (I29).
        value.is_finite().then_some(value)
    }

    fn signal(&mut self, index: u32) -> Option<f64> {
        let signal = self.signals.get(index as usize)?;
        let value = self.reader.value(index, signal);
        value.filter(|value| value.is_finite())
    }
}
