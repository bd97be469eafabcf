//! The real binary as a child process.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::time::Clock;

use super::{LOOK, PATIENCE, passed};

/// Where all starts of a site log.
pub(super) const LOG: &str = "rhizome.log";

/// A program that runs.
pub(super) struct Running {
    child: Child,
    /// Where it listens.
    pub(super) server: String,
}

impl Running {
    /// Starts it on the folder's `rhizome.yaml` and waits until it says where it listens.
    pub(super) fn start(folder: &Path, more: &[&str]) -> Self {
        let path = folder.join(LOG);
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        let before = log.metadata().unwrap().len();
        let child = Command::new(env!("CARGO_BIN_EXE_rhizome"))
            .arg("run")
            .arg("--config")
            .arg(folder.join("rhizome.yaml"))
            .args(more)
            .env_remove("RUST_LOG")
            .env_remove("RHIZOME_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self {
            child,
            server: String::new(),
        };
        let clock = RealClock::new();
        let began = clock.now().mono;
        loop {
            let text = std::fs::read(&path).unwrap_or_default();
            let from = usize::try_from(before).unwrap();
            let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
            if let Some(address) = text.lines().find_map(address) {
                running.server = format!("http://{address}");
                return running;
            }
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("the program ended with {status}:\n{text}");
            }
            assert!(
                passed(&clock, began) < PATIENCE,
                "it does not listen:\n{text}"
            );
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL, and no more: who was killed has to be waited for.
    pub(super) fn strike(&mut self) {
        self.child.kill().unwrap();
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) {
        self.strike();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit code.
    pub(super) fn terminate(mut self) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let clock = RealClock::new();
        let began = clock.now().mono;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(passed(&clock, began) < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn address(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["message"] == "rhizome runs").then(|| line["address"].as_str().map(str::to_owned))?
}
