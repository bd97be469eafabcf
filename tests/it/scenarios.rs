//! Every `.scenario` file of the repository comes out as it says.
//!
//! `UPDATE_EXPECT=1 cargo test scenarios`, or `rhizome test --update FILE`, rewrites what stands
//! under `expect`; read that diff as code.

use std::path::Path;

use rhizome::scenario;

use crate::support::on_engine_stack;

/// Fewer files than this, and they were not found.
const FILES_MIN: usize = 40;

#[test]
fn scenarios_come_out_as_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/scenarios", "policies"].map(|folder| root.join(folder));
    let files = scenario::files(&folders).unwrap();
    assert!(
        files.len() >= FILES_MIN,
        "scenarios were not found: {files:?}"
    );
    let run = move || files.iter().filter_map(|file| check(file)).collect();
    let failures: Vec<String> = on_engine_stack(run);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Plays one file; says what differs.
fn check(file: &Path) -> Option<String> {
    let name = file.display();
    let outcome = match scenario::play_file(file) {
        Ok(outcome) => outcome,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    if outcome.is_met() {
        return None;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        outcome.accept(file).unwrap();
        return None;
    }
    let (expected, came) = (&outcome.expected, &outcome.came);
    Some(format!(
        "{name}: `cargo run -- test {name}` says where\n  expected: {expected:#?}\n  happened: {came:#?}"
    ))
}
