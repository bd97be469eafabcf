//! What happened lately, for `status` and `why`.

use std::collections::VecDeque;

use crate::decision::{Decision, Refusal};

/// Decisions, and refusals, that are remembered; the journal has them all.
const KEPT: usize = 256;

/// The last decisions and the last refusals, each for themselves: many refusals push no decision out.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    decisions: VecDeque<Decision>,
    refusals: VecDeque<Refusal>,
}

impl Recent {
    pub(super) fn decided(&mut self, decision: &Decision) {
        push(&mut self.decisions, decision.clone());
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        push(&mut self.refusals, refusal.clone());
    }

    /// The newest first.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().rev()
    }

    /// The newest first.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().rev()
    }
}

fn push<T>(kept: &mut VecDeque<T>, one: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(one);
}
