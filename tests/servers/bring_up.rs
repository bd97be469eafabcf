//! Brings a server of this folder up for the tests of one process, and knows where it is.
//!
//! Test binaries take this file in by `#[path]`. The scripts stop what they started when the
//! process ends, however it ends. Where a server cannot be had the test says so and counts for
//! nothing; with `RHIZOME_REQUIRE_SERVERS=1` that is a failure.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "help for tests, used in part by each; a test that meets what it does not expect must fail"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the scripts say when a server cannot be had on this machine.
const CANNOT: i32 = 77;

/// Starts the server with nothing of an earlier run in it. What its `env` file says, or none
/// if it cannot be had.
pub(crate) fn fresh(server: &str, settings: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let up = run(server, "down", &["--wipe"], &[]) && run(server, "up", &[], settings);
    up.then(|| env(server))
}

/// Runs one of the server's scripts. False if the server cannot be had.
pub(crate) fn run(
    server: &str,
    script: &str,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> bool {
    let path = root().join("tests/servers").join(server).join(script);
    let output = Command::new(&path)
        .args(arguments)
        .env("RHIZOME_SERVERS_FOR", std::process::id().to_string())
        .envs(settings.iter().copied())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if output.status.success() {
        return true;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let required = std::env::var("RHIZOME_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(
        output.status.code() == Some(CANNOT) && !required,
        "{} failed: {said}",
        path.display()
    );
    // Not by `eprintln`: the harness would keep that to itself, as the test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "LEFT OUT, nothing was tested: {said}").unwrap();
    false
}

/// The top of the repository, of whose packages one is being tested.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let up = package.join("..");
    if package.join("tests/servers").exists() {
        package.to_path_buf()
    } else {
        up
    }
}

fn env(server: &str) -> BTreeMap<String, String> {
    let state = std::env::var_os("RHIZOME_SERVERS_DIR")
        .map_or_else(|| root().join("target/servers"), PathBuf::from);
    let text = std::fs::read_to_string(state.join(server).join("env")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
