//! The rules of pools at work.

use std::sync::Arc;
use std::time::Duration;

use super::sums::SumReader;
use super::{Asking, Held, Rules, Standing, Watch, facts};
use crate::cluster::PoolSlot;
use crate::policy::{Subject, Verdict};
use crate::signals::{PoolReader, Sight};
use crate::time::Monotonic;

/// A pool's body is entered again this long after the last time while its condition holds,
/// however many batches come meanwhile. As often as the engine ticks.
const BODY_OF_POOL_AGAIN: Duration = Duration::from_secs(1);

impl Rules {
    /// Whether a pool may be looked at again now: at once, but large pools of which a rule reads
    /// each member so seldom that doing so takes a small share of the time (20 us a member,
    /// and as many times more as there are pools that want the same). A tick looks at each
    /// whatever this says.
    pub(crate) fn pool_is_due(&self, pool: PoolSlot, members: usize, now: Monotonic) -> bool {
        if !self.sums.is_dear(pool) {
            return true;
        }
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
        let Some(rules) = self.pool_rules.get_mut(usize::from(pool.0)) else {
            return;
        };
        let rules = std::mem::take(rules);
        let policies = Arc::clone(&self.policies);
        let mut sums = std::mem::take(&mut self.sums);
        for place in rules.iter().copied() {
            let Some(rule) = policies.rules().get(place) else {
                continue;
            };
            let out = self.questions.get(place).is_some_and(|questions| {
                let mut questions = questions.iter();
                questions.any(|question| question.rules_out(&mut sums, sight, pool))
            });
            let mut reader = SumReader {
                reader: PoolReader { sight, pool },
                sums: &mut sums,
            };
            if cfg!(test) && out {
                let verdict = policies.verdict(place, &mut reader.reader);
                assert_ne!(verdict, Verdict::True, "rule {place} was ruled out");
            }
            let holds = !out && policies.verdict(place, &mut reader) == Verdict::True;
            let held = self.held(place, usize::from(pool.0), holds, sight.now, rule.hold);
            let Held::Yes(since) = held else {
                self.pools.remove(&(pool, place));
                continue;
            };
            if self.runs_again(pool, place, sight) {
                let facts = facts(sight, pool);
                let size = Some(facts.size);
                let subject = Subject::Pool(facts);
                let asking = Asking::again(since, sight.now.wall);
                let proposals = self.propose(place, &subject, &mut reader, watch, asking);
                let standing = Standing::new(proposals, sight.now.mono, size);
                self.fresh.of_all();
                self.pools.insert((pool, place), standing);
            }
        }
        self.sums = sums;
        if let Some(kept) = self.pool_rules.get_mut(usize::from(pool.0)) {
            *kept = rules;
        }
    }

    /// Whether the body of a rule that holds is entered: with the second, and at once when the
    /// size is another, since that is what most bodies go by.
    fn runs_again(&self, pool: PoolSlot, place: usize, sight: Sight<'_>) -> bool {
        self.pools.get(&(pool, place)).is_none_or(|standing| {
            sight.now.mono.since(standing.ran()) >= BODY_OF_POOL_AGAIN
                || standing.size() != Some(sight.size(pool))
        })
    }
}
