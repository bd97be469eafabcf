//! The rules at work: which conditions hold since when, and what they propose while they do.
//!
//! A node's rules are looked at when a record of it came and when a timer says so; a pool's
//! after a batch and at each tick. A body is entered when its condition has held for long
//! enough and then now and again while it goes on to hold, never per record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::cluster::{Cluster, PoolSlot};
use crate::names::PoolName;
use crate::policy::{PolicyError, PolicySet, PoolFacts, RuleKind, Signal};
use crate::signals::{Memo, Sight};
use crate::time::{Monotonic, Now, Timestamp};
use crate::window::NodeSlot;
use asked::Asked;
use bodies::Asking;
use sums::Sums;

mod asked;
mod bodies;
mod nodes;
mod pools;
mod screen;
mod spans;
mod standing;
mod sums;
mod timers;

pub use bodies::Deadline;
pub(crate) use bodies::Watch;
pub(crate) use standing::{Fresh, NodeKey};

use screen::Screen;
use spans::Question;
use standing::Standing;

/// The rules and how far each has come.
#[derive(Debug)]
pub(crate) struct Rules {
    policies: Arc<PolicySet>,
    /// By pool slot: the places of its rules in the set.
    node_rules: Vec<Vec<usize>>,
    pool_rules: Vec<Vec<usize>>,
    /// By pool slot: what rules out the rules of a node.
    screens: Vec<Screen>,
    /// By rule: what rules it out, if it is a pool's.
    questions: Vec<Vec<Question>>,
    /// By node slot: the pool by whose rules no condition held when it was last looked at.
    calm: Vec<Option<PoolSlot>>,
    /// Rules that were not ruled out, for its memory only.
    left: Vec<usize>,
    /// By rule: the node or pool slots for which the condition holds, and since when. Few in a
    /// healthy fleet, and only looked up.
    since: Vec<Holds>,
    /// INVARIANT: what stands for a node is of a rule whose condition holds for it, by `since`.
    nodes: BTreeMap<NodeKey, Standing>,
    pools: BTreeMap<(PoolSlot, usize), Standing>,
    asked: Vec<Asked>,
    looked: Vec<u64>,
    timers: BTreeMap<u64, Vec<NodeSlot>>,
    silences: Vec<Duration>,
    pool_looked: Vec<Option<Monotonic>>,
    sums: Sums,
    memo: Memo,
    failures: Vec<PolicyError>,
    bodies: u64,
    /// What stands and did not when this was last asked, or was proposed anew.
    fresh: Fresh,
}

impl Rules {
    pub(crate) fn new(policies: Arc<PolicySet>, pools: &[PoolName]) -> Self {
        let of_pool = |wanted: fn(&RuleKind) -> Option<&PoolName>| -> Vec<Vec<usize>> {
            pools
                .iter()
                .map(|pool| {
                    policies
                        .rules()
                        .iter()
                        .enumerate()
                        .filter(|(_, rule)| wanted(&rule.kind) == Some(pool))
                        .map(|(place, _)| place)
                        .collect()
                })
                .collect()
        };
        let mut silences: Vec<_> = policies
            .signals()
            .iter()
            .filter_map(|signal| match signal {
                Signal::Silent(length) => Some(*length),
                _ => None,
            })
            .collect();
        silences.sort_unstable();
        silences.dedup();
        let node_rules = of_pool(healed);
        let screens = node_rules.iter();
        Self {
            screens: screens.map(|rules| Screen::new(&policies, rules)).collect(),
            questions: questions(&policies),
            calm: Vec::new(),
            left: Vec::new(),
            node_rules,
            pool_rules: of_pool(scaled),
            since: vec![Holds::default(); policies.rules().len()],
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            asked: Vec::new(),
            looked: Vec::new(),
            timers: BTreeMap::new(),
            silences,
            pool_looked: vec![None; pools.len()],
            sums: Sums::new(pools.len()),
            memo: Memo::default(),
            failures: Vec::new(),
            bodies: 0,
            fresh: Fresh::default(),
            policies,
        }
    }

    /// Another set in place of the running one. What held so far goes on to hold for a rule of
    /// the same file, pool and condition, wherever it now stands; for others it has to hold anew.
    pub(crate) fn replace(&mut self, policies: Arc<PolicySet>, pools: &[PoolName], now: Monotonic) {
        let old = std::mem::replace(self, Self::new(policies, pools));
        self.bodies = old.bodies;
        let mut kept: BTreeMap<Identity, Vec<Holds>> = BTreeMap::new();
        for (place, holds) in old.since.into_iter().enumerate().rev() {
            if let Some(identity) = identity(&old.policies, place) {
                kept.entry(identity).or_default().push(holds);
            }
        }
        let mut due = Vec::new();
        for (place, since) in self.since.iter_mut().enumerate() {
            let same = identity(&self.policies, place);
            let holds = same.and_then(|identity| kept.get_mut(&identity)?.pop());
            let rule = self.policies.rules().get(place);
            let (Some(holds), Some(rule)) = (holds, rule) else {
                continue;
            };
            *since = holds;
            if healed(&rule.kind).is_some() {
                let ends = since
                    .iter()
                    .map(|(slot, kept)| (*slot, kept.since.plus(rule.hold).0));
                due.extend(ends);
            }
        }
        for slot in 0..old.looked.len() {
            self.joined(NodeSlot(u32::try_from(slot).unwrap_or(u32::MAX)), now);
        }
        due.sort_unstable();
        for (slot, at) in due {
            self.arm(at, NodeSlot(slot));
        }
    }

    pub(crate) fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// The places of the rules that look at each node of the pool.
    pub(crate) fn of_nodes(&self, pool: PoolSlot) -> &[usize] {
        self.node_rules
            .get(usize::from(pool.0))
            .map_or(&[], Vec::as_slice)
    }

    /// The places of the rules that look at the pool.
    pub(crate) fn of_pool(&self, pool: PoolSlot) -> &[usize] {
        self.pool_rules
            .get(usize::from(pool.0))
            .map_or(&[], Vec::as_slice)
    }

    /// For how long a rule's condition has held for a node or pool.
    pub(crate) fn held_for(&self, rule: usize, place: usize, now: Monotonic) -> Option<Duration> {
        let kept = self.since.get(rule)?.get(&key(place))?;
        Some(now.since(kept.since))
    }

    /// How often a body was entered.
    pub(crate) fn bodies(&self) -> u64 {
        self.bodies
    }

    /// Failures of scripts since the last call.
    pub(crate) fn take_failures(&mut self) -> Vec<PolicyError> {
        std::mem::take(&mut self.failures)
    }

    /// A name got this slot.
    pub(crate) fn joined(&mut self, slot: NodeSlot, now: Monotonic) {
        let place = slot.0 as usize;
        if self.looked.len() <= place {
            self.looked.resize(place + 1, 0);
            // What may have been kept of an earlier set says otherwise.
            self.calm.resize(place + 1, None);
        }
        self.arm(now.0, slot);
    }

    /// The name of this slot is gone.
    pub(crate) fn left(&mut self, slot: NodeSlot) {
        for since in &mut self.since {
            since.remove(&slot.0);
        }
        self.nodes.retain(|(other, _), _| *other != slot);
    }

    /// Something was done to the node of this slot: what held of it has to hold anew.
    pub(crate) fn treated(&mut self, slot: NodeSlot) {
        self.left(slot);
    }

    /// A record changed the windows of a node.
    pub(crate) fn changed(&mut self, cluster: &Cluster, slot: NodeSlot) {
        if let Some(pool) = cluster.member(slot).and_then(|member| member.pool) {
            let members = cluster.in_pool(pool).len();
            self.sums.changed(pool, slot, members);
        }
    }

    /// Everything that holds has to hold anew: after blindness no timer goes on from before.
    pub(crate) fn restart_holds(&mut self) {
        self.since.iter_mut().for_each(Holds::clear);
        self.nodes.clear();
        self.pools.clear();
    }

    /// The same for the nodes of one pool: after a storm every node's timers start at zero.
    pub(crate) fn restart_node_holds(&mut self, pool: PoolSlot) {
        let places = self.of_nodes(pool).to_vec();
        for place in &places {
            if let Some(since) = self.since.get_mut(*place) {
                since.clear();
            }
        }
        self.nodes.retain(|(_, place), _| !places.contains(place));
    }

    fn held(&mut self, rule: usize, place: usize, holds: bool, now: Now, hold: Duration) -> Held {
        let Some(since) = self.since.get_mut(rule) else {
            return Held::No;
        };
        let place = key(place);
        if !holds {
            let held = !since.is_empty() && since.remove(&place).is_some();
            return if held { Held::Ends } else { Held::No };
        }
        let begins = !since.contains_key(&place);
        let kept = since.entry(place).or_insert(Hold {
            since: now.mono,
            asks: None,
        });
        if now.mono.since(kept.since) >= hold {
            Held::Yes(*kept.asks.get_or_insert(now.wall))
        } else if begins {
            Held::Begins(kept.since.plus(hold).0)
        } else {
            Held::NotYet
        }
    }
}

/// By node or pool slot: how long a condition holds.
type Holds = hashbrown::HashMap<u32, Hold, FixedState>;

/// A condition that holds.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Monotonic,
    /// Since when it has held for long enough that its rule asks for something.
    asks: Option<Timestamp>,
}

fn key(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// What makes a rule of one set the same as one of another: its file, what it is about and what
/// it asks. Where it stands in its file does not.
type Identity = (String, String, String);

fn identity(policies: &PolicySet, place: usize) -> Option<Identity> {
    let rule = policies.rules().get(place)?;
    let (file, _) = rule.id.as_str().rsplit_once(':')?;
    let about = match &rule.kind {
        RuleKind::ScaleUp(pool) => format!("up {pool}"),
        RuleKind::ScaleDown(pool) => format!("down {pool}"),
        RuleKind::Heal { pool, .. } => format!("heal {pool}"),
        RuleKind::OnAlert(_) => return None,
    };
    Some((file.to_owned(), about, policies.condition(place)?))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    /// It does no more.
    Ends,
    /// From now on; the hold is over then.
    Begins(u64),
    NotYet,
    /// Long enough, since then.
    Yes(Timestamp),
}

fn healed(kind: &RuleKind) -> Option<&PoolName> {
    match kind {
        RuleKind::Heal { pool, .. } => Some(pool),
        _ => None,
    }
}

fn scaled(kind: &RuleKind) -> Option<&PoolName> {
    match kind {
        RuleKind::ScaleUp(pool) | RuleKind::ScaleDown(pool) => Some(pool),
        _ => None,
    }
}

/// What rules out the rules of pools, by rule.
fn questions(policies: &PolicySet) -> Vec<Vec<Question>> {
    let rules = policies.rules().iter().enumerate();
    let of_rule = rules.map(|(place, rule)| match scaled(&rule.kind) {
        Some(_) => Question::all(policies, place),
        None => Vec::new(),
    });
    of_rule.collect()
}

pub(crate) fn facts(sight: Sight<'_>, pool: PoolSlot) -> PoolFacts {
    let settings = sight.pool_settings(pool);
    PoolFacts {
        name: sight
            .cluster
            .pool_name(pool)
            .cloned()
            .unwrap_or_else(|| PoolName::new("")),
        size: sight.size(pool),
        ready: sight.ready(pool),
        min: settings.map_or(0, |settings| settings.min),
        max: settings.map_or(0, |settings| settings.max),
    }
}

#[cfg(test)]
mod tests;
