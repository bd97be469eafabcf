//! The rules of nodes at work.

use std::sync::Arc;
use std::time::Duration;

use super::timers::SLICE_MS;
use super::{Asking, Held, Rules, Standing, Watch, facts};
use crate::cluster::{Member, PoolSlot};
use crate::policy::{Subject, Verdict};
use crate::signals::{MemoReader, NodeReader, Sight};
use crate::window::NodeSlot;

/// A body is entered again this long after the last time while its condition holds, so that a
/// proposal follows the values without a script being run per record.
const BODY_AGAIN: Duration = Duration::from_secs(60);

/// A node that is looked at.
#[derive(Clone, Copy)]
struct Looked<'a> {
    sight: Sight<'a>,
    slot: NodeSlot,
    member: &'a Member,
    pool: PoolSlot,
    watch: &'a Watch,
}

impl Looked<'_> {
    fn subject(&self) -> Subject {
        Subject::Node {
            name: self.member.name.clone(),
            pool: facts(self.sight, self.pool),
        }
    }
}

impl Rules {
    /// Reads a word of what is kept of the node, so that it is near when it is needed.
    pub(crate) fn ask_ahead(&self, slot: NodeSlot) -> i64 {
        let calm = self.calm.get(slot.0 as usize).is_some_and(Option::is_some);
        self.looked(slot).cast_signed() ^ i64::from(calm)
    }

    /// Evaluates the rules of a node. Its timer is set anew if it has none in the near future.
    pub(crate) fn look_at_node(&mut self, sight: Sight<'_>, slot: NodeSlot, watch: &Watch) {
        self.record(sight, slot, watch);
        if sight.cluster.member(slot).is_some()
            && let Some(due) = self.due(sight, slot)
        {
            self.arm(due.max(sight.now.mono.0 + SLICE_MS), slot);
        }
    }

    /// Evaluates the rules of a node that a record came of, and says in which pool it is. Its timer
    /// stays as it is.
    pub(crate) fn record(
        &mut self,
        sight: Sight<'_>,
        slot: NodeSlot,
        watch: &Watch,
    ) -> Option<PoolSlot> {
        if let Some(looked) = self.looked.get_mut(slot.0 as usize) {
            *looked = sight.now.mono.0.max(1);
        }
        let member = sight.cluster.member(slot)?;
        let pool = member.pool?;
        let mut left = std::mem::take(&mut self.left);
        self.may_hold(sight, (slot, member), pool, &mut left);
        if !left.is_empty() {
            let looked = Looked {
                sight,
                slot,
                member,
                pool,
                watch,
            };
            let holds = self.judge(looked, &left);
            if let Some(calm) = self.calm.get_mut(slot.0 as usize) {
                *calm = (!holds).then_some(pool);
            }
        }
        self.left = left;
        Some(pool)
    }

    /// The places of the node's rules that may hold, written to `left`: all of them while one has
    /// held, since what ceases to hold has to be noted.
    fn may_hold(
        &self,
        sight: Sight<'_>,
        (slot, member): (NodeSlot, &Member),
        pool: PoolSlot,
        left: &mut Vec<usize>,
    ) {
        left.clear();
        let rules = self.of_nodes(pool);
        match self.screens.get(usize::from(pool.0)) {
            Some(screen) if self.calm.get(slot.0 as usize) == Some(&Some(pool)) => {
                screen.pass(sight, (slot, member), rules, left);
            }
            _ => left.extend(rules),
        }
        if cfg!(test) {
            let mut reader = NodeReader { sight, slot };
            for place in rules.iter().filter(|place| !left.contains(place)) {
                let verdict = self.policies.verdict(*place, &mut reader);
                assert_ne!(verdict, Verdict::True, "rule {place} was ruled out");
                let held = self
                    .since
                    .get(*place)
                    .map(|since| since.contains_key(&slot.0));
                assert_eq!(held, Some(false), "rule {place} held and was ruled out");
            }
        }
    }

    /// Evaluates these rules of a node. Says whether the condition of any holds.
    fn judge(&mut self, looked: Looked<'_>, places: &[usize]) -> bool {
        let Looked {
            sight, slot, watch, ..
        } = looked;
        let policies = Arc::clone(&self.policies);
        let mut memo = std::mem::take(&mut self.memo);
        memo.begin();
        let mut reader = MemoReader {
            reader: NodeReader { sight, slot },
            memo: &mut memo,
        };
        let mut any = false;
        for place in places {
            let place = *place;
            let Some(rule) = policies.rules().get(place) else {
                continue;
            };
            let holds = if rule.native {
                policies.verdict(place, &mut reader) == Verdict::True
            } else {
                self.closure_holds(place, &looked.subject(), &mut reader, watch)
            };
            any |= holds;
            match self.held(place, slot.0 as usize, holds, sight.now, rule.hold) {
                Held::No | Held::NotYet => {}
                Held::Ends => {
                    self.nodes.remove(&(slot, place));
                }
                // Set once, not with each record of the hold.
                Held::Begins(due) => self.arm(due, slot),
                Held::Yes(since) => {
                    let standing = self.nodes.get(&(slot, place));
                    let again = standing
                        .is_none_or(|standing| sight.now.mono.since(standing.ran()) >= BODY_AGAIN);
                    if again {
                        let subject = looked.subject();
                        let asking = Asking::again(since, sight.now.wall);
                        let proposals = self.propose(place, &subject, &mut reader, watch, asking);
                        self.fresh.of_node(slot, &proposals);
                        let standing = Standing::new(proposals, sight.now.mono, None);
                        self.nodes.insert((slot, place), standing);
                    }
                }
            }
        }
        self.memo = memo;
        any
    }
}
