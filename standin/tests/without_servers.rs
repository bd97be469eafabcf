//! Says at the end of `cargo test` how many tests were left out for want of a server. Of all test
//! binaries this one comes last, by its package's name and its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test binary"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

#[allow(dead_code, reason = "it brings no server up")]
#[path = "../../tests/servers/scripts.rs"]
mod scripts;

/// The tests of each server, each once however often it was noted.
fn counted(notes: &str) -> BTreeMap<&str, usize> {
    let tests: BTreeSet<&str> = notes.lines().collect();
    let mut counts = BTreeMap::new();
    for test in tests {
        let server = test.split(' ').next().unwrap_or_default();
        *counts.entry(server).or_default() += 1;
    }
    counts
}

#[test]
fn what_was_left_out_is_said() {
    let path = scripts::noted();
    let Ok(notes) = std::fs::read_to_string(&path) else {
        return;
    };
    let counts = counted(&notes);
    let all: usize = counts.values().sum();
    let of_each: Vec<_> = counts
        .iter()
        .map(|(server, count)| format!("{server} {count}"))
        .collect();
    let mut stderr = std::io::stderr();
    writeln!(
        stderr,
        "LEFT OUT in all: {all} tests, for want of a server: {}",
        of_each.join(", ")
    )
    .unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_test_that_was_noted_twice_is_one() {
    let notes = "kafka a one\nkafka a two\nkafka a one\nopenstack b one\n";
    assert_eq!(
        counted(notes),
        BTreeMap::from([("kafka", 2), ("openstack", 1)])
    );
}
