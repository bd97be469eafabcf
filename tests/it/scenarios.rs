//! Every `.scenario` file of the repository comes out as it says.
//!
//! `UPDATE_EXPECT=1 cargo test scenarios` rewrites what stands under `expect`; read that diff as
//! code.

use std::fs;
use std::path::{Path, PathBuf};

use rhizome::scenario;

use crate::support::{on_engine_stack, policies_of};

/// Fewer files than this, and they were not found.
const FILES_MIN: usize = 2;

#[test]
fn scenarios_come_out_as_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/scenarios", "policies"] {
        files.extend(scenario_files(&root.join(folder)));
    }
    assert!(
        files.len() >= FILES_MIN,
        "scenarios were not found: {files:?}"
    );
    let run = move || files.iter().filter_map(|file| check(file)).collect();
    let failures: Vec<String> = on_engine_stack(run);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn scenario_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "scenario"))
        .collect();
    files.sort();
    files
}

/// Plays one file; says what differs.
fn check(file: &Path) -> Option<String> {
    let name = file.display();
    let text = fs::read_to_string(file).unwrap();
    let scenario = match scenario::parse(&text) {
        Ok(scenario) => scenario,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let folder = file.parent().unwrap();
    let policies = policies_of(&scenario, folder);
    let lines = match scenario::play(&scenario, &policies) {
        Ok(lines) => lines,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    if lines == scenario.expected {
        return None;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(file, scenario::with_expected(&text, &lines)).unwrap();
        return None;
    }
    let longest = scenario.expected.len().max(lines.len());
    let at = (0..longest)
        .find(|at| scenario.expected.get(*at) != lines.get(*at))
        .unwrap_or_default();
    let line = |lines: &[String]| {
        lines
            .get(at)
            .cloned()
            .unwrap_or_else(|| "nothing".to_owned())
    };
    Some(format!(
        "{name}: line {} under `expect`:\n  expected: {}\n  happened: {}",
        at + 1,
        line(&scenario.expected),
        line(&lines)
    ))
}
