//! The real services: brought up once for this process by `tests/servers/openstack/up`, and
//! stopped by it when the process ends, however it ends.
//!
//! Where they cannot be had the tests say so and count for nothing; with
//! `RHIZOME_REQUIRE_SERVERS=1` that is a failure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;

/// What the scripts say when a server cannot be had on this machine.
const CANNOT: i32 = 77;

/// Addresses, ids and credentials of the services that run.
pub struct Openstack(BTreeMap<String, String>);

impl Openstack {
    pub fn get(&self, name: &str) -> &str {
        &self.0[name]
    }
}

/// The services, fresh: what an earlier run left behind is forgotten.
pub async fn openstack() -> Option<&'static Openstack> {
    static OPENSTACK: OnceCell<Option<Openstack>> = OnceCell::const_new();
    let start = || async {
        let started = tokio::task::spawn_blocking(|| {
            let fresh = std::env::var_os("RHIZOME_SERVERS_KEEP").is_none();
            (!fresh || script("down", &["--wipe"])) && script("up", &[])
        });
        started.await.unwrap().then(|| Openstack(env()))
    };
    OPENSTACK.get_or_init(start).await.as_ref()
}

/// Runs one of the scripts. False if the services cannot be had.
fn script(name: &str, arguments: &[&str]) -> bool {
    let path = root().join("tests/servers/openstack").join(name);
    let output = Command::new(&path)
        .args(arguments)
        .env("RHIZOME_SERVERS_FOR", std::process::id().to_string())
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
    eprintln!("LEFT OUT, nothing was tested: {said}");
    false
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn env() -> BTreeMap<String, String> {
    let state = std::env::var_os("RHIZOME_SERVERS_DIR")
        .map_or_else(|| root().join("target/servers"), PathBuf::from);
    let text = std::fs::read_to_string(state.join("openstack/env")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
