//! What a pool's windows lie within at most, by difference: most conditions of a pool do not hold
//! by far, and then nobody need know more.
//!
//! To keep a span costs a fraction of keeping the sum: what a node adds to it stands beside where
//! its samples are ([`Windows::part`](crate::window::Windows::part)), and none of them is read. A
//! sum that nobody asks for meanwhile has the pool read as a whole when somebody does.

use super::sums::{Asked, Basis, Kept, Sums};
use crate::cluster::PoolSlot;
use crate::policy::{Need, PolicySet, Signal};
use crate::signals::Sight;
use crate::window::{NodeSlot, Part, Stat};

/// What rules out a rule of a pool.
#[derive(Debug)]
pub(super) struct Question {
    need: Need,
    asked: Asked,
}

impl Question {
    /// The questions of a rule.
    pub(super) fn all(policies: &PolicySet, rule: usize) -> Vec<Self> {
        let needs = policies.needs(rule).into_iter();
        let questions = needs.filter_map(|need| {
            match policies.signals().get(need.signal as usize)? {
                Signal::Window {
                    metric,
                    // Of these the pool's is the mean of what the nodes have, and that of a node
                    // lies within its samples.
                    stat: stat @ (Stat::Mean | Stat::Last | Stat::Ewma),
                    window,
                    ..
                } => Some(Self {
                    need,
                    asked: Asked {
                        metric: *metric,
                        stat: *stat,
                        window: *window,
                    },
                }),
                _ => None,
            }
        });
        questions.collect()
    }

    /// Whether the rule cannot hold for the pool.
    pub(super) fn rules_out(&self, sums: &mut Sums, sight: Sight<'_>, pool: PoolSlot) -> bool {
        let span = sums.span(sight, pool, self.need.signal, self.asked);
        span.is_some_and(|span| !self.need.may_be(span))
    }
}

impl Sums {
    /// What the signal's value lies within, if there is one and that is known.
    pub(super) fn span(
        &mut self,
        sight: Sight<'_>,
        pool: PoolSlot,
        signal: u32,
        asked: Asked,
    ) -> Option<(f64, f64)> {
        let basis = Basis::of(sight, pool, asked.metric)?;
        let of_pool = self.pools.get_mut(usize::from(pool.0))?;
        let span = Kept::of(&mut of_pool.spans, signal)?;
        let place = signal as usize;
        if self.parts.len() <= place {
            self.parts.resize_with(place + 1, Vec::new);
        }
        let parts = self.parts.get_mut(place)?;
        let part = |slot: NodeSlot| {
            let Asked { metric, window, .. } = asked;
            sight.windows.part(slot, metric, window, sight.now.wall)
        };
        if span.basis == Some(basis) {
            for slot in of_pool.changed.get(span.followed..).unwrap_or_default() {
                if let Some(kept) = parts.get_mut(slot.0 as usize) {
                    let new = part(*slot);
                    span.total.remove(std::mem::replace(kept, new));
                    span.total.add(new);
                }
            }
        } else {
            span.total = Default::default();
            let members = sight.cluster.in_pool(pool);
            // They are in order.
            let slots = members.last().map_or(0, |last| last.0 as usize + 1);
            if parts.len() < slots {
                parts.resize(slots, Part::Nothing);
            }
            for slot in members {
                let new = part(*slot);
                span.total.add(new);
                if let Some(kept) = parts.get_mut(slot.0 as usize) {
                    *kept = new;
                }
            }
            span.basis = Some(basis);
        }
        span.followed = of_pool.changed.len();
        span.total.mean()
    }
}
