//! What a pool's windows lie within at most, by difference: most conditions of a pool do not hold
//! by far, and then nobody need know more.
//!
//! To keep a span costs a fraction of keeping the sum: what a node adds to it stands beside where
//! its samples are ([`Windows::part`](crate::window::Windows::part)), and none of them is read. A
//! sum that nobody asks for meanwhile has the pool read as a whole when somebody does.

use super::sums::{Asked, Basis, Kept, Sums, of_signal};
use crate::cluster::PoolSlot;
use crate::policy::{Need, PolicySet, Signal};
use crate::signals::Sight;
use crate::window::Stat;

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
        let parts = of_signal(&mut self.parts, signal)?;
        let members = sight.cluster.in_pool(pool);
        let Asked { metric, window, .. } = asked;
        span.follow(basis, members, &of_pool.changed, parts, |slot| {
            sight.windows.part(slot, metric, window, sight.now.wall)
        });
        span.total.mean()
    }
}
