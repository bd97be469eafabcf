//! The scripts beside this file, for tests of any package: they include it as a module.
//!
//! A server that a script brought up is stopped when this process ends, however it ends.
//! Where one cannot be had the tests say so, and are counted at the end of the run
//! (`standin/tests/without_servers.rs`); with `RHIZOME_REQUIRE_SERVERS=1` that is a failure.
//! `RHIZOME_SERVERS=none` leaves them all out, for a run of a minute. `RHIZOME_SERVERS_KEEP=1`
//! leaves those that a test brings up as they are when it ends, for the next try.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the scripts say when a server cannot be had on this machine.
const CANNOT: i32 = 77;

/// A server that all tests of this process share: the first that needs it brings it up.
pub(crate) struct Shared<T> {
    server: &'static str,
    it: OnceLock<Option<T>>,
}

#[allow(dead_code, reason = "not every test binary shares a server")]
impl<T> Shared<T> {
    pub(crate) const fn new(server: &'static str) -> Self {
        Self {
            server,
            it: OnceLock::new(),
        }
    }

    /// The server; if it cannot be had, the test that asks counts as left out.
    pub(crate) fn get(&self, start: impl FnOnce() -> Option<T>) -> Option<&T> {
        let it = self.it.get_or_init(start).as_ref();
        if it.is_none() {
            count(self.server);
        }
        it
    }
}

/// Runs `tests/servers/<server>/<script>` with these settings. False if the server cannot be
/// had.
pub(crate) fn run(
    server: &str,
    script: &str,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> bool {
    let required = std::env::var("RHIZOME_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    if !required && std::env::var("RHIZOME_SERVERS").is_ok_and(|value| value == "none") {
        left_out(server, "RHIZOME_SERVERS=none");
        return false;
    }
    let path = root().join("tests/servers").join(server).join(script);
    let mut command = Command::new(&path);
    command.args(arguments).envs(settings.iter().copied());
    if std::env::var_os("RHIZOME_SERVERS_KEEP").is_none() {
        command.env("RHIZOME_SERVERS_FOR", std::process::id().to_string());
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if output.status.success() {
        return true;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(CANNOT) && !required,
        "{} failed: {said}",
        path.display()
    );
    left_out(server, &said);
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

/// Says that a test could not do its work, and counts it. Not by `eprintln`: the harness would
/// keep that to itself, as the test passes.
pub(crate) fn left_out(what: &str, why: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "LEFT OUT, nothing was tested: {what}: {why}").unwrap();
    count(what);
}

/// Notes that the test of this thread was left out.
fn count(what: &str) {
    let path = noted();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let test = std::thread::current();
    let test = test.name().unwrap_or_default().to_owned();
    let binary = std::env::current_exe().unwrap();
    let binary = binary.file_name().unwrap().to_string_lossy().into_owned();
    let mut notes = std::fs::OpenOptions::new();
    let mut notes = notes.create(true).append(true).open(path).unwrap();
    // One write, so that no other test writes in its middle.
    notes
        .write_all(format!("{what} {binary} {test}\n").as_bytes())
        .unwrap();
}

/// Where the tests that are left out are noted: for this run of `cargo test`, whose child each
/// test binary is, and no other.
pub(crate) fn noted() -> PathBuf {
    let cargo = std::os::unix::process::parent_id();
    // A number is used again; the 22nd field is when its process began.
    let began = std::fs::read_to_string(format!("/proc/{cargo}/stat")).unwrap_or_default();
    let began = began.rsplit(')').next().unwrap_or_default();
    let began = began.split_whitespace().nth(19).unwrap_or("0");
    root().join(format!("target/left-out/{cargo}-{began}"))
}

/// Where the repository is, from whichever package this is built in.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package
        .ancestors()
        .find(|folder| folder.join("tests/servers").is_dir());
    root.expect("the folder of the servers").to_owned()
}
