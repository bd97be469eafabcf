//! Rules that cannot hold for a node, told without reading what they ask.
//!
//! Most rules hold for few nodes. What the values of a node lie within at most
//! ([`Windows::bounds`](crate::window::Windows::bounds)) rules most of them out for a hundredth of
//! what the values themselves cost, and the questions of a pool lie side by side in memory.
//!
//! INVARIANT: the verdict on a rule that is ruled out is not true. In this package's tests each is
//! asked all the same.

use std::time::Duration;

use crate::cluster::Member;
use crate::policy::{Need, PolicySet, Signal};
use crate::signals::Sight;
use crate::window::{MetricSlot, NodeSlot, Stat};

/// The questions that rule out the rules of one pool's nodes, in the order of the rules.
#[derive(Debug, Default)]
pub(super) struct Screen(Vec<Question>);

#[derive(Debug)]
struct Question {
    /// The rule's place among those of the pool.
    rule: usize,
    need: Need,
    of: Of,
}

/// What is asked of the node.
#[derive(Debug, Clone, Copy)]
enum Of {
    Window(MetricSlot, Stat, Duration),
    Silence(Duration),
}

impl Screen {
    /// The questions of these rules.
    pub(super) fn new(policies: &PolicySet, rules: &[usize]) -> Self {
        let questions = rules.iter().enumerate().flat_map(|(rule, place)| {
            let needs = policies.needs(*place).into_iter();
            needs.filter_map(move |need| {
                let of = match policies.signals().get(need.signal as usize)? {
                    Signal::Window {
                        metric,
                        stat,
                        window,
                        ..
                    } => Of::Window(*metric, *stat, *window),
                    Signal::Silent(length) => Of::Silence(*length),
                    _ => return None,
                };
                Some(Question { rule, need, of })
            })
        });
        Self(questions.collect())
    }

    /// The places of those of `rules` that may hold for the node, written to `left`.
    pub(super) fn pass(
        &self,
        sight: Sight<'_>,
        (slot, member): (NodeSlot, &Member),
        rules: &[usize],
        left: &mut Vec<usize>,
    ) {
        let mut questions = self.0.iter().peekable();
        for (rule, place) in rules.iter().enumerate() {
            let mut out = false;
            while let Some(question) = questions.next_if(|question| question.rule == rule) {
                out = out || question.is_answered_no(sight, slot, member);
            }
            if !out {
                left.push(*place);
            }
        }
    }
}

impl Question {
    fn is_answered_no(&self, sight: Sight<'_>, slot: NodeSlot, member: &Member) -> bool {
        let bounds = match self.of {
            Of::Window(metric, stat, window) => {
                sight
                    .windows
                    .bounds(slot, metric, stat, window, sight.now.wall)
            }
            Of::Silence(length) => {
                let silence = sight.silence(slot, member);
                silence.map(|silence| {
                    let silent = f64::from(u8::from(silence >= length));
                    (silent, silent)
                })
            }
        };
        bounds.is_some_and(|bounds| !self.need.may_be(bounds))
    }
}
