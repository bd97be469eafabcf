//! What the journal holds about a node or a pool: the past of `why`.
//!
//! It reads the files that the engine's thread writes, without a lock: a line that is just
//! being written looks torn and is left out.

use std::collections::BTreeSet;
use std::path::Path;

use rhizome_engine::event::{Target, Wish};
use rhizome_engine::journal::{Brake, Record};
use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::{FILE, PREVIOUS_FILE, format};

/// A record of the past of a node or pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The record; of several alike in a row, the last.
    #[serde(flatten)]
    pub record: Record,
    /// How many alike came in a row.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
}

impl From<Record> for Told {
    fn from(record: Record) -> Self {
        Self { record, times: 1 }
    }
}

fn once() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_once(times: &u32) -> bool {
    *times == 1
}

/// The last `most` records about `target` since a time, oldest first.
///
/// A wish that is made again and again (a script that retries) is told once, with how often:
/// else it would push out what matters.
/// A file that cannot be read is no history; the engine says so if it is the journal.
pub(super) fn read(
    folder: &Path,
    target: &Target,
    since: Option<Timestamp>,
    most: usize,
) -> Vec<Told> {
    let mut found: Vec<Told> = Vec::new();
    let mut operations = BTreeSet::new();
    for file in [PREVIOUS_FILE, FILE] {
        let Ok(bytes) = std::fs::read(folder.join(file)) else {
            continue;
        };
        let contents = match format::read(&bytes) {
            Ok(contents) => contents,
            Err(error) => {
                tracing::warn!(file, %error, "`why` cannot read the journal");
                continue;
            }
        };
        for record in contents.records {
            if about(&record, target, &mut operations)
                && since.is_none_or(|since| at(&record).is_none_or(|at| at >= since))
            {
                add(&mut found, record);
            }
        }
    }
    let superfluous = found.len().saturating_sub(most);
    found.drain(..superfluous);
    found
}

fn add(found: &mut Vec<Told>, record: Record) {
    match found.last_mut() {
        Some(last) if is_the_same_wish(&last.record, &record) => {
            last.record = record;
            last.times = last.times.saturating_add(1);
        }
        _ => found.push(record.into()),
    }
}

/// Whether a wish is the other made again: by the same person, for the same reason.
fn is_the_same_wish(earlier: &Record, later: &Record) -> bool {
    let wished = |record: &Record| match record {
        Record::Wish { who, why, wish, .. } => Some((who.clone(), why.clone(), wish.clone())),
        _ => None,
    };
    wished(earlier).is_some_and(|earlier| wished(later) == Some(earlier))
}

/// Those of the records that are about the target.
pub(crate) fn about_target(records: Vec<Record>, target: &Target) -> Vec<Record> {
    let mut operations = BTreeSet::new();
    let about = |record: &Record| about(record, target, &mut operations);
    records.into_iter().filter(about).collect()
}

/// Whether a record is about the target. Remembers the operations that are, for their actions.
fn about(record: &Record, target: &Target, operations: &mut BTreeSet<OperationId>) -> bool {
    let is = |pool, node| match target {
        Target::Pool(name) => pool == Some(name),
        Target::Node(name) => node == Some(name),
    };
    match record {
        Record::Decision { decision } => {
            let about = is(Some(&decision.pool), decision.node.as_ref());
            operations.extend(decision.operation.filter(|_| about));
            about
        }
        Record::Refusal { refusal } => is(Some(&refusal.pool), refusal.node.as_ref()),
        Record::Operation { operation } => {
            let about = is(Some(&operation.pool), operation.node());
            if about {
                operations.insert(operation.id);
            }
            about
        }
        Record::Intent { action, .. } => operations.contains(&action.key.operation),
        Record::Outcome { key, .. } => operations.contains(&key.operation),
        Record::Desired { pool, .. }
        | Record::Cooldown { pool, .. }
        | Record::Circuit { pool, .. } => is(Some(pool), None),
        Record::Rung { node, .. } => is(None, Some(node)),
        Record::Adopted { pool, node, .. } => is(Some(pool), Some(node)),
        Record::Wish { wish, .. } => match wish {
            Wish::Pause { pool } | Wish::Resume { pool } => {
                pool.is_none() || is(pool.as_ref(), None)
            }
            Wish::Scale { pool, .. } => is(Some(pool), None),
            Wish::Replace { node } | Wish::Protect { node, .. } => is(None, Some(node)),
            Wish::Cancel { operation } => operations.contains(operation),
            Wish::Adopt { target: one } | Wish::Maintenance { target: one, .. } => one == target,
        },
        // Whose end it is, its record does not say.
        Record::Pause { pause, .. } => match (pause, target) {
            (Some(pause), Target::Pool(pool)) => pause.covers(pool),
            _ => true,
        },
        // What stops everything stops this one.
        Record::Brake { brake, .. } => match brake {
            Brake::Storm(pool) => is(Some(pool), None),
            Brake::Domain(_)
            | Brake::Blind(_)
            | Brake::Inventory(_)
            | Brake::Clock
            | Brake::Pause(_) => true,
        },
        Record::Epoch { .. }
        | Record::Policies { .. }
        | Record::Pool { .. }
        | Record::Snapshot { .. } => false,
    }
}

/// Whether a record is about every node and pool alike.
pub(super) fn of_all(record: &Record) -> bool {
    matches!(
        record,
        Record::Brake {
            brake: Brake::Domain(_)
                | Brake::Blind(_)
                | Brake::Inventory(_)
                | Brake::Clock
                | Brake::Pause(_),
            ..
        } | Record::Wish {
            wish: Wish::Pause { pool: None } | Wish::Resume { pool: None },
            ..
        } | Record::Pause { .. }
    )
}

/// When a record was made; nothing for a snapshot.
pub(crate) fn at(record: &Record) -> Option<Timestamp> {
    match record {
        Record::Decision { decision } => Some(decision.at),
        Record::Refusal { refusal } => Some(refusal.at),
        Record::Operation { operation } => Some(operation.step_began.at.wall),
        Record::Epoch { at, .. }
        | Record::Intent { at, .. }
        | Record::Outcome { at, .. }
        | Record::Desired { at, .. }
        | Record::Cooldown { at, .. }
        | Record::Rung { at, .. }
        | Record::Wish { at, .. }
        | Record::Pause { at, .. }
        | Record::Brake { at, .. }
        | Record::Circuit { at, .. }
        | Record::Adopted { at, .. }
        | Record::Pool { at, .. }
        | Record::Policies { at, .. } => Some(at.wall),
        Record::Snapshot { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use rhizome_engine::decision::{Origin, Rung};
    use rhizome_engine::event::SourceName;
    use rhizome_engine::names::{NodeName, PoolName};
    use rhizome_engine::time::{Monotonic, Now};

    use super::*;
    use crate::journal::Journal;

    fn now(second: i64) -> Now {
        Now {
            wall: Timestamp(second * 1000),
            mono: Monotonic(0),
        }
    }

    fn desired(pool: &str, second: i64) -> Record {
        Record::Desired {
            pool: PoolName::new(pool),
            size: 1,
            origin: Origin::Bounds,
            at: now(second),
        }
    }

    fn rung(node: &str, second: i64) -> Record {
        Record::Rung {
            node: NodeName::new(node),
            rung: Rung::Reboot,
            at: now(second),
        }
    }

    #[test]
    fn the_history_goes_over_a_compaction_and_is_of_one_target() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), Timestamp(0)).unwrap().journal;
        journal
            .append(&[desired("a", 1), desired("b", 2), rung("a-1", 3)])
            .unwrap();
        let state = Box::default();
        journal.compact(&Record::Snapshot { state }).unwrap();
        journal.append(&[desired("a", 4), rung("b-1", 5)]).unwrap();
        let pool = Target::Pool(PoolName::new("a"));
        let read = |target: &Target, since, most| -> Vec<Record> {
            let told = super::read(folder.path(), target, since, most);
            told.into_iter().map(|told| told.record).collect()
        };
        assert_eq!(read(&pool, None, 9), [desired("a", 1), desired("a", 4)]);
        assert_eq!(read(&pool, None, 1), [desired("a", 4)]);
        assert_eq!(read(&pool, Some(Timestamp(2000)), 9), [desired("a", 4)]);
        let node = Target::Node(NodeName::new("a-1"));
        assert_eq!(read(&node, None, 9), [rung("a-1", 3)]);
        assert_eq!(read(&Target::Node(NodeName::new("no")), None, 9), []);
    }

    #[test]
    fn what_stops_everything_names_nobody() {
        let brake = |brake| Record::Brake {
            brake,
            on: true,
            detail: String::new(),
            at: now(1),
        };
        let blind = brake(Brake::Blind(SourceName::Kafka));
        let storm = brake(Brake::Storm(PoolName::new("a")));
        assert!(of_all(&blind));
        assert!(!of_all(&storm));
        assert!(!of_all(&desired("a", 1)));
        let nobody = Target::Node(NodeName::new("no"));
        assert_eq!(about_target(vec![blind.clone(), storm], &nobody), [blind]);
    }

    #[test]
    fn a_wish_made_again_and_again_is_told_once() {
        let wish = |who: &str, second| Record::Wish {
            at: now(second),
            key: second.to_string(),
            who: who.to_owned(),
            why: "old".to_owned(),
            wish: Wish::Replace {
                node: NodeName::new("a-1"),
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), Timestamp(0)).unwrap().journal;
        let mut wishes = vec![rung("a-1", 0)];
        wishes.extend((1..=300).map(|second| wish("ann", second)));
        wishes.push(wish("bob", 301));
        journal.append(&wishes).unwrap();
        let told = read(folder.path(), &Target::Node(NodeName::new("a-1")), None, 9);
        let times: Vec<u32> = told.iter().map(|told| told.times).collect();
        assert_eq!(times, [1, 300, 1]);
        assert_eq!(told[1].record, wish("ann", 300), "the last of them");
        let json = serde_json::to_value(&told[1]).unwrap();
        assert_eq!(
            (&json["record"], &json["times"]),
            (&"wish".into(), &300.into())
        );
        assert_eq!(serde_json::from_value::<Told>(json).unwrap(), told[1]);
        assert_eq!(serde_json::to_value(&told[0]).unwrap().get("times"), None);
    }
}
