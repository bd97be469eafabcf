//! The rules of pools at work.

use std::sync::Arc;
use std::time::Duration;

use super::{Held, Rules, Standing, Watch, facts};
use crate::cluster::PoolSlot;
use crate::policy::{Subject, Verdict};
use crate::signals::{PoolReader, Sight};
use crate::time::Monotonic;

impl Rules {
    /// Whether a pool may be looked at again now: small pools at once, large ones so seldom
    /// that reading the members of all pools takes a small share of the time (20 us a member,
    /// and as many times more as there are pools that want the same). A tick looks at each
    /// whatever this says.
    pub(crate) fn pool_is_due(&self, pool: PoolSlot, members: usize, now: Monotonic) -> bool {
        let pause = Duration::from_millis((members * self.pool_rules.len()) as u64 / 50);
        self.pool_looked
            .get(usize::from(pool.0))
            .copied()
            .flatten()
            .is_none_or(|looked| now.since(looked) >= pause)
    }

    /// Evaluates the rules of a pool.
    pub(crate) fn look_at_pool(&mut self, sight: Sight<'_>, pool: PoolSlot, watch: &Watch) {
        if let Some(looked) = self.pool_looked.get_mut(usize::from(pool.0)) {
            *looked = Some(sight.now.mono);
        }
        let policies = Arc::clone(&self.policies);
        let places = self
            .pool_rules
            .get(usize::from(pool.0))
            .cloned()
            .unwrap_or_default();
        let mut reader = PoolReader { sight, pool };
        for place in places {
            let Some(rule) = policies.rules().get(place) else {
                continue;
            };
            let holds = policies.verdict(place, &mut reader) == Verdict::True;
            let held = self.held(place, usize::from(pool.0), holds, sight.now.mono, rule.hold);
            if held == Held::Yes {
                let subject = Subject::Pool(facts(sight, pool));
                let proposals = self.propose(place, &subject, &mut reader, watch);
                let ran = sight.now.mono;
                self.pools
                    .insert((pool, place), Standing { proposals, ran });
            } else {
                self.pools.remove(&(pool, place));
            }
        }
    }
}
