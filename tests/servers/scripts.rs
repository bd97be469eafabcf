//! The scripts beside this file, for tests of any package: they include it as a module.
//!
//! A server that a script brought up is stopped when this process ends, however it ends.
//! Where one cannot be had the tests say so and count for nothing; with
//! `RHIZOME_REQUIRE_SERVERS=1` that is a failure.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the scripts say when a server cannot be had on this machine.
const CANNOT: i32 = 77;

/// Runs `tests/servers/<server>/<script>` with these settings. False if the server cannot be
/// had.
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
    left_out(&said);
    false
}

/// What a server wrote down about itself: addresses and files.
pub(crate) fn env(server: &str) -> BTreeMap<String, String> {
    let state = std::env::var_os("RHIZOME_SERVERS_DIR")
        .map_or_else(|| root().join("target/servers"), PathBuf::from);
    let text = std::fs::read_to_string(state.join(server).join("env")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Says that a test could not do its work. Not by `eprintln`: the harness would keep that to
/// itself, as the test passes.
pub(crate) fn left_out(why: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "LEFT OUT, nothing was tested: {why}").unwrap();
}

/// Where the repository is, from whichever package this is built in.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package
        .ancestors()
        .find(|folder| folder.join("tests/servers").is_dir());
    root.expect("the folder of the servers").to_owned()
}
