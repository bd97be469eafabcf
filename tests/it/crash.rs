//! Killed at every record of the journal, in the model world and through the real file.
//!
//! For each record of a scenario's journal: the program is killed when just that much is on
//! the disk, with what it had sent in that moment done or not done; it is started again on
//! what the journal holds, and in the end the world must be the one that it would have been.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rhizome::journal::{FILE, Journal};
use rhizome::scenario::{self, Rehearsal, Scenario};
use rhizome_engine::journal::Record;
use rhizome_engine::policy::SourceFile;
use rhizome_engine::time::Timestamp;

use crate::support::{folder, on_engine_stack};

/// Short courses of each kind: an addition, a removal, a reboot, a replacement that fences
/// first, one of a node that still serves, and a rebuild.
const SCENARIOS: [(&str, &str); 4] = [
    (
        "up and down",
        "policy scale.rhai\npool workers min=2 max=4 stabilization=1m\nnodes workers: w1 w2\n\
         run_on 15m\n\
         series every 10s\n  cpu{pool=\"workers\"}: 0.4x40 0.95x40\n\
         events\n  13m scale workers 3\n  16m scale workers 2\n",
    ),
    (
        "heal",
        "policy heal.rhai\npool workers min=3 max=8\nnodes workers: w1 w2 w3 w4 w5 w6\n\
         run_on 14m\n\
         series every 10s\n  cpu{pool=\"workers\"}: 0.4x60\n\
         events\n  6m break w3\n",
    ),
    (
        "replace what serves",
        "policy heal.rhai\npool workers min=3 max=8\nnodes workers: w1 w2 w3\n\
         run_on 14m\n\
         series every 10s\n  cpu{pool=\"workers\"}: 0.4x36\n\
         events\n  6m replace w2\n",
    ),
    (
        "rebuild",
        "policy rebuild.rhai\npool workers min=3 max=8\nnodes workers: w1 w2 w3 w4 w5 w6\n\
         run_on 14m\n\
         series every 10s\n  cpu{pool=\"workers\"}: 0.4x60\n\
         events\n  6m die w3\n",
    ),
];

/// What must be the same however it was interrupted.
#[derive(Debug, PartialEq, Eq)]
struct End {
    machines: usize,
    serving: usize,
    joined: usize,
    cordoned: usize,
    operations: usize,
    duplicates: usize,
    orphans: usize,
    ports: usize,
}

fn end_of(rehearsal: &Rehearsal<'_>) -> End {
    let facts = rehearsal.machines();
    let state = rehearsal.engine().state();
    let mut marks: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.there) {
        let mark = fact.operation.as_deref().unwrap_or_default();
        *marks.entry(mark).or_default() += 1;
    }
    End {
        machines: facts.iter().filter(|fact| fact.there).count(),
        serving: facts.iter().filter(|fact| fact.serves).count(),
        joined: facts.iter().filter(|fact| fact.joined).count(),
        cordoned: facts.iter().filter(|fact| fact.cordoned).count(),
        operations: state.operations.len(),
        duplicates: marks.values().filter(|count| **count > 1).count(),
        orphans: facts
            .iter()
            .filter(|fact| fact.there && !state.owned.contains_key(&fact.vm))
            .count(),
        ports: rehearsal.ports_left().len(),
    }
}

fn run_to_the_end(rehearsal: &mut Rehearsal<'_>) {
    while rehearsal.second() {}
}

/// Plays until `records` records are written, then starts again on what `reopen` makes of them.
fn killed_at(
    scenario: &Scenario,
    policies: &[SourceFile],
    records: usize,
    done: bool,
    reopen: &dyn Fn(&[Record]) -> Vec<Record>,
) -> End {
    let mut rehearsal = Rehearsal::new(scenario, policies).unwrap();
    rehearsal.cut_at(records, done);
    while !rehearsal.is_cut() && rehearsal.second() {}
    assert!(rehearsal.is_cut(), "record {records} was never written");
    assert_eq!(rehearsal.journal().len(), records);
    let before = rehearsal.journal().to_vec();
    let reopened = reopen(&before);
    let cooled = cooldowns(&before);
    rehearsal.start_again(reopened);
    for (rule, at) in cooled {
        let state = rehearsal.engine().state();
        let kept = state
            .cooldowns
            .iter()
            .any(|((id, _), then)| id.as_str() == rule && then.wall == at);
        assert!(kept, "the cooldown of {rule} is forgotten");
    }
    run_to_the_end(&mut rehearsal);
    end_of(&rehearsal)
}

/// When each rule acted last, by the records.
fn cooldowns(records: &[Record]) -> BTreeMap<String, Timestamp> {
    let acted = records.iter().filter_map(|record| match record {
        Record::Cooldown { rule, at, .. } => Some((rule.to_string(), at.wall)),
        _ => None,
    });
    acted.collect()
}

#[test]
fn killed_at_every_record_the_world_comes_out_the_same() {
    on_engine_stack(|| {
        let mut points = 0;
        for (name, text) in SCENARIOS {
            let scenario = scenario::parse(text).unwrap();
            let policies = scenario::policies_of(&scenario, &folder()).unwrap();
            let mut whole = Rehearsal::new(&scenario, &policies).unwrap();
            run_to_the_end(&mut whole);
            let wanted = end_of(&whole);
            assert_eq!(
                (
                    wanted.operations,
                    wanted.duplicates,
                    wanted.orphans,
                    wanted.ports
                ),
                (0, 0, 0, 0),
                "{name}"
            );
            assert!(whole.journal().len() > 20, "{name} hardly does anything");
            // The snapshot of the beginning is there before the program is.
            for records in 2..=whole.journal().len() {
                let last = &whole.journal()[records - 1];
                let sends = matches!(last, Record::Intent { .. });
                for done in [true, false] {
                    if !done && !sends {
                        // Nothing is on its way: both are the same.
                        continue;
                    }
                    let end = killed_at(&scenario, &policies, records, done, &<[Record]>::to_vec);
                    assert_eq!(
                        end, wanted,
                        "{name}: killed after record {records} (done: {done}): {last:?}"
                    );
                    points += 1;
                }
            }
        }
        assert!(points >= 100, "only {points} crash points");
    });
}

#[test]
fn the_same_through_the_real_file_cut_at_records_and_inside_them() {
    on_engine_stack(|| {
        let (name, text) = SCENARIOS[1];
        let scenario = scenario::parse(text).unwrap();
        let policies = scenario::policies_of(&scenario, &folder()).unwrap();
        let mut whole = Rehearsal::new(&scenario, &policies).unwrap();
        run_to_the_end(&mut whole);
        let wanted = end_of(&whole);
        let all = whole.journal().to_vec();
        for (records, next) in all.iter().enumerate().skip(2) {
            for torn in [records % 2, 9] {
                let next = next.clone();
                let reopen = move |kept: &[Record]| through_a_file(kept, &next, torn);
                let end = killed_at(&scenario, &policies, records, true, &reopen);
                assert_eq!(end, wanted, "{name}: record {records}, cut by {torn}");
            }
        }
    });
}

/// Writes the records to a real journal; if `torn`, the next one as well, with so many bytes
/// of its end missing. What is read back are the whole ones.
fn through_a_file(kept: &[Record], next: &Record, torn: usize) -> Vec<Record> {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp(0);
    let mut opened = Journal::open(folder.path(), now).unwrap();
    opened.journal.append(kept).unwrap();
    if torn > 0 {
        opened.journal.append(std::slice::from_ref(next)).unwrap();
    }
    drop(opened);
    cut(&folder.path().join(FILE), torn);
    let again = Journal::open(folder.path(), now).unwrap();
    assert_eq!(again.torn > 0, torn > 1, "a torn record is cut off");
    let whole = if torn == 1 {
        kept.len() + 1
    } else {
        kept.len()
    };
    assert_eq!(again.records.len(), whole, "cut by {torn}");
    again.records[..kept.len()].to_vec()
}

fn cut(file: &Path, bytes: usize) {
    let text = fs::read(file).unwrap();
    fs::write(file, &text[..text.len() - bytes]).unwrap();
}
