//! Scripts at work: closures that are asked and bodies that propose.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Rules;
use crate::decision::{Ask, Direction, Evidence, Origin, Proposal, Witness};
use crate::names::{NodeName, RuleId};
use crate::policy::{BodyAsk, Interrupt, PolicyError, RuleKind, SignalReader, Subject, Verdict};
use crate::time::Timestamp;

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

    pub(super) fn begin(&self) -> &Interrupt {
        if let Some(deadline) = &self.deadline {
            deadline.begin();
        }
        &self.interrupt
    }
}

/// How long a body asks already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    since: Timestamp,
    entered: Option<Timestamp>,
}

impl Asking {
    /// It asks since then and is entered again now.
    pub(super) fn again(since: Timestamp, now: Timestamp) -> Self {
        Self {
            since,
            entered: Some(now),
        }
    }

    /// It is entered now and not again.
    pub(super) fn once(now: Timestamp) -> Self {
        Self {
            since: now,
            entered: None,
        }
    }
}

impl Rules {
    /// Asks a condition that is a closure. One that fails does not hold.
    pub(super) fn closure_holds<R: SignalReader>(
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

    pub(super) fn propose<R: SignalReader>(
        &mut self,
        place: usize,
        subject: &Subject,
        reader: &mut R,
        watch: &Watch,
        asking: Asking,
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
        evidence.policy = policies.short_hash();
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
                    since: Some(asking.since),
                    entered: asking.entered,
                }
            })
            .collect()
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
