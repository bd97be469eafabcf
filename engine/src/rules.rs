//! The rules at work: which conditions hold since when, and what they propose while they do.
//!
//! A node's rules are looked at when a record of it came and when a timer says so; a pool's
//! after a batch and at each tick. A body is entered when its condition has held for long
//! enough and then now and again while it goes on to hold, never per record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::PoolSlot;
use crate::decision::{Ask, Direction, Evidence, Origin, Proposal, Witness};
use crate::event::Alert;
use crate::names::{NodeName, PoolName, RuleId};
use crate::policy::{
    BodyAsk, Interrupt, PolicyError, PolicySet, PoolFacts, RuleKind, Signal, SignalReader, Subject,
    Verdict,
};
use crate::signals::{NodeReader, PoolReader, Sight};
use crate::time::Monotonic;
use crate::window::NodeSlot;

/// A body is entered again this long after the last time while its condition holds, so that a
/// proposal follows the values without a script being run per record.
const BODY_AGAIN: Duration = Duration::from_secs(60);

/// A node that nothing was heard of is looked at again after this long: its lease, its VM and
/// its coverage change without a record of it.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Timers are kept in slices of this many milliseconds: a hundredth of ten seconds, the
/// shortest silence that makes sense with agents that report every few seconds.
const SLICE_MS: u64 = 100;

/// Most proposals of alerts that wait to be granted. An alert storm fills it, and what does not
/// fit is dropped; as a witness the alert counts all the same.
const ASKED_MAX: usize = 1_000;

/// What an alert proposes stands while it fires, for a second witness may come later than the
/// alert, which is told once. No longer than this, for the end of an alert may get lost:
/// Alertmanager's own default until it repeats one.
const ALERT_STANDS: Duration = Duration::from_secs(4 * 3600);

/// Ends a script that runs for too long. Handed in by the caller, since the engine has no
/// clock; replay hands in none, so that its answers never depend on the machine.
pub trait Deadline: Send + Sync {
    /// A script begins now.
    fn begin(&self);

    /// Whether the script that began last has had its time.
    fn passed(&self) -> bool;
}

/// A deadline as scripts are asked by it.
#[derive(Clone)]
pub(crate) struct Watch {
    deadline: Option<Arc<dyn Deadline>>,
    interrupt: Interrupt,
}

impl Watch {
    pub(crate) fn new(deadline: Arc<dyn Deadline>) -> Self {
        let asked = Arc::clone(&deadline);
        Self {
            deadline: Some(deadline),
            interrupt: Interrupt::new(move || asked.passed()),
        }
    }

    /// Lets every script run until its limit of operations ends it.
    pub(crate) fn never() -> Self {
        Self {
            deadline: None,
            interrupt: Interrupt::never(),
        }
    }

    fn begin(&self) -> &Interrupt {
        if let Some(deadline) = &self.deadline {
            deadline.begin();
        }
        &self.interrupt
    }
}

/// What a rule wants while its condition holds.
#[derive(Debug)]
struct Standing {
    proposals: Vec<Proposal>,
    ran: Monotonic,
}

/// A proposal that is made once and stands until it is granted or too old.
#[derive(Debug)]
struct Asked {
    proposal: Proposal,
    until: Monotonic,
    /// The fingerprint of the alert that asks; an operator's wish has none.
    alert: Option<String>,
}

/// The rules and how far each has come.
#[derive(Debug)]
pub(crate) struct Rules {
    policies: Arc<PolicySet>,
    /// By pool slot: the places of its rules in the set.
    node_rules: Vec<Vec<usize>>,
    pool_rules: Vec<Vec<usize>>,
    /// By rule and node or pool slot: when the condition began to hold; 0 while it does not.
    since: Vec<Vec<u64>>,
    nodes: BTreeMap<(NodeSlot, usize), Standing>,
    pools: BTreeMap<(PoolSlot, usize), Standing>,
    asked: Vec<Asked>,
    looked: Vec<u64>,
    timers: BTreeMap<u64, Vec<NodeSlot>>,
    silences: Vec<Duration>,
    pool_looked: Vec<Option<Monotonic>>,
    failures: Vec<PolicyError>,
    bodies: u64,
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
        Self {
            node_rules: of_pool(healed),
            pool_rules: of_pool(scaled),
            since: vec![Vec::new(); policies.rules().len()],
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            asked: Vec::new(),
            looked: Vec::new(),
            timers: BTreeMap::new(),
            silences,
            pool_looked: vec![None; pools.len()],
            failures: Vec::new(),
            bodies: 0,
            policies,
        }
    }

    /// Another set in place of the running one. What held so far has to hold anew.
    pub(crate) fn replace(&mut self, policies: Arc<PolicySet>, pools: &[PoolName], now: Monotonic) {
        let nodes = self.looked.len();
        let bodies = self.bodies;
        *self = Self::new(policies, pools);
        self.bodies = bodies;
        for slot in 0..nodes {
            self.joined(NodeSlot(u32::try_from(slot).unwrap_or(u32::MAX)), now);
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
        let since = *self.since.get(rule)?.get(place)?;
        (since > 0).then(|| now.since(Monotonic(since)))
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
        }
        self.arm(now.0, slot);
    }

    /// The name of this slot is gone.
    pub(crate) fn left(&mut self, slot: NodeSlot) {
        for since in &mut self.since {
            if let Some(since) = since.get_mut(slot.0 as usize) {
                *since = 0;
            }
        }
        self.nodes.retain(|(other, _), _| *other != slot);
    }

    /// Something was done to the node of this slot: what held of it has to hold anew.
    pub(crate) fn treated(&mut self, slot: NodeSlot) {
        self.left(slot);
    }

    /// When a timer runs out next.
    pub(crate) fn wake_at(&self) -> Option<Monotonic> {
        let (slice, _) = self.timers.first_key_value()?;
        Some(Monotonic((slice + 1).saturating_mul(SLICE_MS)))
    }

    /// Looks at the nodes whose timers have run out.
    pub(crate) fn timers(&mut self, sight: Sight<'_>, watch: &Watch) {
        while let Some(entry) = self.timers.first_entry() {
            if (entry.key() + 1).saturating_mul(SLICE_MS) > sight.now.mono.0 {
                return;
            }
            let mut slots = entry.remove();
            // One timer for each node, however often it was set: each is set anew below.
            slots.sort_unstable();
            slots.dedup();
            for slot in slots {
                let looked = self.looked(slot);
                let due = self.due(sight, slot);
                if due.is_some_and(|due| due > sight.now.mono.0) && looked > 0 {
                    // Heard of since: the timer goes on from the last sign of life.
                    self.arm(due.unwrap_or_default(), slot);
                } else {
                    self.look_at_node(sight, slot, watch);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn timer_count(&self) -> usize {
        self.timers.values().map(Vec::len).sum()
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

    /// Evaluates the rules of a node that a record came of. Its timer stays as it is.
    pub(crate) fn record(&mut self, sight: Sight<'_>, slot: NodeSlot, watch: &Watch) {
        if let Some(looked) = self.looked.get_mut(slot.0 as usize) {
            *looked = sight.now.mono.0.max(1);
        }
        let Some(member) = sight.cluster.member(slot) else {
            return;
        };
        let Some(pool) = member.pool else { return };
        let policies = Arc::clone(&self.policies);
        let mut reader = NodeReader { sight, slot };
        let count = self.node_rules.get(usize::from(pool.0)).map_or(0, Vec::len);
        for index in 0..count {
            let place = self
                .node_rules
                .get(usize::from(pool.0))
                .and_then(|r| r.get(index));
            let Some((place, rule)) =
                place.and_then(|place| Some((*place, policies.rules().get(*place)?)))
            else {
                continue;
            };
            let holds = if rule.native {
                policies.verdict(place, &mut reader) == Verdict::True
            } else {
                let subject = Subject::Node {
                    name: member.name.clone(),
                    pool: facts(sight, pool),
                };
                self.closure_holds(place, &subject, &mut reader, watch)
            };
            let held = self.held(place, slot.0 as usize, holds, sight.now.mono, rule.hold);
            match held {
                Held::No => {
                    if !self.nodes.is_empty() {
                        self.nodes.remove(&(slot, place));
                    }
                }
                // Set once, not with each record of the hold.
                Held::Begins(due) => self.arm(due, slot),
                Held::NotYet => {}
                Held::Yes => {
                    let again = self
                        .nodes
                        .get(&(slot, place))
                        .is_none_or(|standing| sight.now.mono.since(standing.ran) >= BODY_AGAIN);
                    if again {
                        let subject = Subject::Node {
                            name: member.name.clone(),
                            pool: facts(sight, pool),
                        };
                        let proposals = self.propose(place, &subject, &mut reader, watch);
                        self.nodes.insert(
                            (slot, place),
                            Standing {
                                proposals,
                                ran: sight.now.mono,
                            },
                        );
                    }
                }
            }
        }
    }

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

    /// Runs the rules of an alert that fires.
    pub(crate) fn alert(&mut self, sight: Sight<'_>, alert: &Alert, watch: &Watch) {
        let policies = Arc::clone(&self.policies);
        for (place, rule) in policies.rules().iter().enumerate() {
            if !matches!(&rule.kind, RuleKind::OnAlert(name) if *name == alert.name) {
                continue;
            }
            let subject = Subject::Alert(alert.clone());
            for proposal in self.propose(place, &subject, &mut NoSignals, watch) {
                self.stand(Asked {
                    proposal,
                    until: sight.now.mono.plus(ALERT_STANDS),
                    alert: Some(alert.fingerprint.clone()),
                });
            }
        }
    }

    /// An alert fires no longer: nothing is done on its word any more.
    pub(crate) fn alert_over(&mut self, alert: &Alert) {
        self.asked
            .retain(|asked| asked.alert.as_ref() != Some(&alert.fingerprint));
    }

    /// Takes in a proposal that stands until it is granted or `until`.
    pub(crate) fn ask(&mut self, proposal: Proposal, until: Monotonic) {
        self.stand(Asked {
            proposal,
            until,
            alert: None,
        });
    }

    fn stand(&mut self, new: Asked) {
        self.answered(&new.proposal);
        if self.asked.len() < ASKED_MAX {
            self.asked.push(new);
        }
    }

    /// The proposal was granted, or will never be: it need not be asked again.
    pub(crate) fn answered(&mut self, proposal: &Proposal) {
        let same = |asked: &Asked| {
            asked.proposal.origin == proposal.origin && asked.proposal.ask == proposal.ask
        };
        self.asked.retain(|asked| !same(asked));
    }

    /// Every proposal that stands, in a fixed order: operators' and alerts', nodes', pools'.
    pub(crate) fn standing(&mut self, now: Monotonic) -> Vec<Proposal> {
        self.asked.retain(|asked| asked.until > now);
        let asked = self.asked.iter().map(|asked| &asked.proposal);
        let nodes = self.nodes.values().flat_map(|standing| &standing.proposals);
        let pools = self.pools.values().flat_map(|standing| &standing.proposals);
        asked.chain(nodes).chain(pools).cloned().collect()
    }

    /// Whether anything stands.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asked.is_empty() && self.nodes.is_empty() && self.pools.is_empty()
    }

    /// Everything that holds has to hold anew: after blindness no timer goes on from before.
    pub(crate) fn restart_holds(&mut self) {
        for since in &mut self.since {
            since.fill(0);
        }
        self.nodes.clear();
        self.pools.clear();
    }

    /// The same for the nodes of one pool: after a storm every node's timers start at zero.
    pub(crate) fn restart_node_holds(&mut self, pool: PoolSlot) {
        let places = self.of_nodes(pool).to_vec();
        for place in &places {
            if let Some(since) = self.since.get_mut(*place) {
                since.fill(0);
            }
        }
        self.nodes.retain(|(_, place), _| !places.contains(place));
    }

    /// Asks a condition that is a closure. One that fails does not hold.
    fn closure_holds<R: SignalReader>(
        &mut self,
        place: usize,
        subject: &Subject,
        reader: &mut R,
        watch: &Watch,
    ) -> bool {
        self.bodies += 1;
        let policies = Arc::clone(&self.policies);
        match policies.run_condition(place, subject, reader, watch.begin()) {
            Ok(verdict) => verdict == Verdict::True,
            Err(error) => {
                self.failures.push(error);
                false
            }
        }
    }

    fn propose<R: SignalReader>(
        &mut self,
        place: usize,
        subject: &Subject,
        reader: &mut R,
        watch: &Watch,
    ) -> Vec<Proposal> {
        let policies = Arc::clone(&self.policies);
        let Some(rule) = policies.rules().get(place) else {
            return Vec::new();
        };
        self.bodies += 1;
        let asks = match policies.run_body(place, subject, reader, watch.begin()) {
            Ok(asks) => asks,
            Err(error) => {
                self.failures.push(error);
                return Vec::new();
            }
        };
        if let Some(other) = asks.iter().find_map(|ask| other_node(subject, ask)) {
            self.failures.push(not_seen(&rule.id, other));
            return Vec::new();
        }
        let mut evidence = policies.evidence(place, reader);
        evidence.policy = policies.hash().chars().take(12).collect();
        let direction = match rule.kind {
            RuleKind::ScaleUp(_) => Direction::Up,
            RuleKind::ScaleDown(_) => Direction::Down,
            RuleKind::Heal { .. } | RuleKind::OnAlert(_) => Direction::Either,
        };
        let witness = witness_of(&rule.kind, &evidence);
        asks.into_iter()
            .map(|ask| {
                let (ask, why) = match ask {
                    BodyAsk::Resize { pool, to, why } => (
                        Ask::Resize {
                            pool,
                            to,
                            direction,
                        },
                        why,
                    ),
                    BodyAsk::Heal { node, ladder, why } => (
                        Ask::Heal {
                            node,
                            ladder,
                            witness,
                        },
                        why,
                    ),
                };
                Proposal {
                    origin: Origin::Rule(rule.id.clone()),
                    ask,
                    why,
                    evidence: evidence.clone(),
                }
            })
            .collect()
    }

    fn held(
        &mut self,
        rule: usize,
        place: usize,
        holds: bool,
        now: Monotonic,
        hold: Duration,
    ) -> Held {
        let Some(since) = self.since.get_mut(rule) else {
            return Held::No;
        };
        if since.len() <= place {
            if !holds {
                return Held::No;
            }
            since.resize(place + 1, 0);
        }
        let Some(since) = since.get_mut(place) else {
            return Held::No;
        };
        if !holds {
            *since = 0;
            return Held::No;
        }
        let begins = *since == 0;
        if begins {
            *since = now.0.max(1);
        }
        if now.since(Monotonic(*since)) >= hold {
            Held::Yes
        } else if begins {
            Held::Begins(Monotonic(*since).plus(hold).0)
        } else {
            Held::NotYet
        }
    }

    fn looked(&self, slot: NodeSlot) -> u64 {
        self.looked
            .get(slot.0 as usize)
            .copied()
            .unwrap_or_default()
    }

    /// When the node has to be looked at next if no record of it comes.
    fn due(&self, sight: Sight<'_>, slot: NodeSlot) -> Option<u64> {
        let member = sight.cluster.member(slot)?;
        let again = Monotonic(self.looked(slot)).plus(LOOK_AGAIN);
        let silent = sight.silence(slot, member).and_then(|silence| {
            // The first length that had not been reached when the node was last looked at: one
            // reached since is due at once.
            let unlooked = sight.now.mono.since(Monotonic(self.looked(slot)));
            let at_look = silence.saturating_sub(unlooked);
            let next = self.silences.iter().find(|length| **length > at_look)?;
            Some(sight.now.mono.plus(next.saturating_sub(silence)))
        });
        Some(silent.map_or(again, |silent| silent.min(again)).0)
    }

    fn arm(&mut self, due: u64, slot: NodeSlot) {
        self.timers.entry(due / SLICE_MS).or_default().push(slot);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    /// From now on; the hold is over then.
    Begins(u64),
    NotYet,
    Yes,
}

/// An alert's body reads no signals of its own.
struct NoSignals;

impl SignalReader for NoSignals {
    fn read(&mut self, _index: u32, _signal: &Signal) -> crate::window::Reading {
        crate::window::Reading::default()
    }
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

/// The node that a body wants healed although its rule did not look at it. What an alert's body
/// names is the alert's word.
fn other_node<'a>(subject: &Subject, ask: &'a BodyAsk) -> Option<&'a NodeName> {
    let BodyAsk::Heal { node, .. } = ask else {
        return None;
    };
    match subject {
        Subject::Alert(_) => None,
        Subject::Node { name, .. } => (name != node).then_some(node),
        Subject::Pool(_) => Some(node),
    }
}

fn not_seen(rule: &RuleId, node: &NodeName) -> PolicyError {
    let (file, line) = rule
        .as_str()
        .rsplit_once(':')
        .unwrap_or((rule.as_str(), ""));
    PolicyError {
        file: file.to_owned(),
        line: line.parse().unwrap_or_default(),
        column: 0,
        message: format!(
            "the body wants `{node}` healed, which its rule did not look at: what the rule saw is \
             no witness of it. Heal the node that the body is given, or write a rule that looks \
             at `{node}`"
        ),
    }
}

/// Which witness a rule is, by what its condition reads.
fn witness_of(kind: &RuleKind, evidence: &Evidence) -> Witness {
    if matches!(kind, RuleKind::OnAlert(_)) {
        return Witness::Alert;
    }
    if !matches!(kind, RuleKind::Heal { .. }) {
        // What a pool's rule read is not about the node that its body names.
        return Witness::Metrics;
    }
    let said: BTreeSet<_> = evidence
        .values
        .iter()
        .filter(|value| value.value.is_some_and(|value| value > 0.0))
        .filter_map(|value| match value.signal.split('(').next() {
            Some("silent") => Some(Witness::Heartbeat),
            Some("not_ready") => Some(Witness::Kubernetes),
            Some("vm_status") => Some(Witness::Nova),
            _ => None,
        })
        .collect();
    // Of a condition that reads several, the first in the order of `Witness` that speaks now
    // counts: it is one rule and so one witness. One that was read and says nothing, as in
    // `silent("60s") or not_ready("60s")`, is none. What else it read is asked of the cluster.
    said.into_iter().next().unwrap_or(Witness::Metrics)
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
