//! What asks for a human and holds: told when it begins, when it is over, and again after a start.
//!
//! Nothing of it is told at an edge, so nothing is told on and never off: what holds is read off
//! the state, and held against what was told last. What merely happened, such as an operation that
//! failed, is told where it happens ([`NoticeKind::is_event`](crate::notice::NoticeKind::is_event)).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Engine;
use crate::event::SourceName;
use crate::journal::Brake;
use crate::names::{NodeName, PoolName};
use crate::notice::{Notice, NoticeKind};
use crate::time::{Monotonic, Now};

/// A ladder is over once nothing was refused for it for so long. For a while the reason may be
/// another, as when its rule cools.
const LADDER_OVER: Duration = Duration::from_secs(120);

/// What a notice is about: with it, its end is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Matter {
    kind: NoticeKind,
    pool: Option<PoolName>,
    subject: Option<String>,
}

/// What was told, and what only this run knows of what holds.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    told: BTreeMap<Matter, String>,
    /// Nodes on which every rung was tried: what their refusal said, and when it last did.
    ladders: BTreeMap<(PoolName, NodeName), (String, Monotonic)>,
}

impl Attention {
    /// A heal was refused because nothing is left to try.
    pub(super) fn ladder(&mut self, now: Now, pool: &PoolName, node: &NodeName, why: &str) {
        let ladders = self.ladders.entry((pool.clone(), node.clone()));
        ladders
            .and_modify(|(_, last)| *last = now.mono)
            .or_insert_with(|| (why.to_owned(), now.mono));
    }
}

impl Engine {
    /// Tells what has begun to hold since the last time, and what is over.
    pub(super) fn tell_what_holds(&mut self, now: Now) {
        self.attention
            .ladders
            .retain(|_, (_, last)| now.mono.since(*last) < LADDER_OVER);
        let holds = self.what_holds();
        let before = std::mem::replace(&mut self.attention.told, holds.clone());
        for (matter, text) in &holds {
            if !before.contains_key(matter) {
                self.tell(now, matter.clone(), true, text.clone());
            }
        }
        for (matter, text) in before {
            if !holds.contains_key(&matter) {
                self.tell(now, matter, false, format!("over: {text}"));
            }
        }
    }

    fn what_holds(&self) -> BTreeMap<Matter, String> {
        let mut holds = BTreeMap::new();
        let mut add = |kind, pool: Option<&PoolName>, subject: Option<String>, text: String| {
            let pool = pool.cloned();
            holds.insert(
                Matter {
                    kind,
                    pool,
                    subject,
                },
                text,
            );
        };
        let brakes = self.state.brakes.iter();
        for (brake, (_, why)) in brakes.filter(|(brake, _)| self.is_looked_at(brake)) {
            let (pool, subject) = about(brake);
            add(NoticeKind::of(brake), pool, subject, why.clone());
        }
        if !self.world.brakes.journal_well {
            let text = "the journal cannot be written: nothing is acted on until it can";
            add(NoticeKind::Journal, None, None, text.to_owned());
        }
        let most = self.world.settings.limits.circuit_failures;
        for (pool, (failures, _)) in &self.state.circuits {
            if *failures >= most && self.world.settings.pools.contains_key(pool) {
                let text = format!("{failures} failures in a row in {pool}: the circuit is open");
                add(NoticeKind::Circuit, Some(pool), None, text);
            }
        }
        for operation in self.state.operations.values() {
            if let Some(text) = self.stuck(operation) {
                let subject = Some(operation.id.to_string());
                add(NoticeKind::Operation, Some(&operation.pool), subject, text);
            }
        }
        for ((pool, node), (why, _)) in &self.attention.ladders {
            let subject = Some(node.to_string());
            add(
                NoticeKind::LadderExhausted,
                Some(pool),
                subject,
                why.clone(),
            );
        }
        holds
    }

    /// Whether anything would ever open the brake: one of a pool or a source that was taken out of
    /// the configuration is not looked at any more, and holds nothing.
    fn is_looked_at(&self, brake: &Brake) -> bool {
        let settings = &self.world.settings;
        match brake {
            Brake::Storm(pool) => settings.pools.contains_key(pool),
            Brake::Blind(SourceName::Kubernetes) | Brake::Inventory(SourceName::Kubernetes) => {
                settings.pools.values().any(|pool| pool.kubernetes)
            }
            Brake::Blind(source) => {
                *source == SourceName::Openstack || settings.heartbeat_sources.contains(source)
            }
            Brake::Domain(_) | Brake::Inventory(_) | Brake::Clock | Brake::Pause(_) => true,
        }
    }

    fn tell(&mut self, now: Now, matter: Matter, on: bool, text: String) {
        let Matter {
            kind,
            pool,
            subject,
        } = matter;
        self.out.notices.push(Notice {
            at: now.wall,
            kind,
            on,
            pool,
            subject,
            text,
        });
    }
}

/// The pool or what else the brake holds in.
fn about(brake: &Brake) -> (Option<&PoolName>, Option<String>) {
    match brake {
        Brake::Storm(pool) => (Some(pool), None),
        Brake::Domain(domain) => (None, Some(domain.to_string())),
        Brake::Blind(source) | Brake::Inventory(source) => (None, Some(source.as_str().to_owned())),
        Brake::Clock => (None, None),
        Brake::Pause(source) => (None, Some(source.words().to_owned())),
    }
}

#[cfg(test)]
mod tests;
