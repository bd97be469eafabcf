//! What came of a course, and what is not as it was.

use std::collections::BTreeSet;

use rhizome_engine::decision::Rung;
use rhizome_engine::journal::Record;
use rhizome_engine::remediation::{Ending, OperationKind, Phase};

use crate::world::{Node, Truth};

/// Operations that were carried to their end, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) rebooted: usize,
    pub(crate) rebuilt: usize,
    pub(crate) replaced: usize,
    pub(crate) swept: usize,
}

/// What was there before us and is not as it was.
pub(crate) fn foreign_wrong(before: &Truth, now: &Truth) -> Vec<String> {
    let servers = before
        .servers
        .iter()
        .filter(|(id, server)| now.servers.get(*id) != Some(server))
        .map(|(id, server)| format!("{server:?} was not ours, and is {:?}", now.servers.get(id)));
    let nodes = before
        .nodes
        .iter()
        .filter(|(name, node)| {
            let same = |other: &Node| other.uid == node.uid && !other.cordoned;
            !now.nodes.get(*name).is_some_and(same)
        })
        .map(|(name, _)| format!("{name} was not ours, and is {:?}", now.nodes.get(name)));
    servers.chain(nodes).collect()
}

/// What is there now and was not before.
pub(crate) fn left(now: &[String], before: &[String], what: &str) -> Vec<String> {
    let new = now.iter().filter(|one| !before.contains(one));
    new.map(|one| format!("{what} {one} is left")).collect()
}

/// The operations that ended as decided.
pub(crate) fn came_of(records: &[Record]) -> Came {
    let mut came = Came::default();
    let mut seen = BTreeSet::new();
    for record in records {
        let Record::Operation { operation } = record else {
            continue;
        };
        let done = matches!(
            &operation.phase,
            Phase::Over {
                ending: Ending::Done
            }
        );
        if !done || !seen.insert(operation.id) {
            continue;
        }
        match operation.kind {
            OperationKind::Add => came.added += 1,
            OperationKind::Remove => came.removed += 1,
            OperationKind::Heal(Rung::Reboot) => came.rebooted += 1,
            OperationKind::Heal(Rung::Rebuild) => came.rebuilt += 1,
            OperationKind::Heal(Rung::Replace) => came.replaced += 1,
            OperationKind::Sweep(_) => came.swept += 1,
        }
    }
    came
}
