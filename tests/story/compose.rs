//! `docker-compose.yml` as a person brings it up: `rhizome doctor` finds nothing wrong, a machine is
//! added when the work grows, one whose plug is pulled is replaced, and an alert that a real
//! Alertmanager sends is heard.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rhizome::api::StatusReport;
use rhizome::clock::RealClock;
use rhizome_engine::decision::{Decision, Reason, Refusal};
use rhizome_engine::event::Ready;
use rhizome_engine::time::Clock;
use serde_json::Value;

use crate::{forks, passed, say, scripts};

/// How long any one chapter may take: each takes two or three minutes on a quiet machine.
/// Machines boot beside it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How often it is looked: each look starts a program in a container.
const LOOK: Duration = Duration::from_secs(3);

/// The stack; taken down with this.
struct Stack {
    compose: String,
    /// Held as long as it is up.
    _alone: File,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.run(&["logs", "--no-color", "--tail", "60"]);
            say(&format!("compose failed: {}", said(&logs)));
        }
        scripts::run("compose", "down", &[], &[]);
        scripts::run("docker", "down", &[], &[]);
    }
}

impl Stack {
    /// Brought up from nothing; none where it cannot be had.
    fn up() -> Option<Self> {
        // Whoever cannot have it need not wait for his turn.
        if !scripts::run("docker", "up", &[], &[]) {
            return None;
        }
        let alone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compose.lock");
        let alone = File::create(alone).unwrap();
        alone.lock().unwrap();
        scripts::run("compose", "up", &["--fresh"], &[]).then(|| Self {
            compose: scripts::env("compose")["compose"].clone(),
            _alone: alone,
        })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut compose = Command::new(&self.compose);
        forks::output(compose.args(arguments)).unwrap()
    }

    /// What it says, if it goes well.
    fn compose(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command of Rhizome's shows, asked as a person would.
    fn rhizome(&self, arguments: &[&str]) -> String {
        let exec = ["exec", "-T", "rhizome", "rhizome"];
        self.compose(&[&exec, arguments].concat())
    }

    /// What Rhizome shows of itself; nothing while it does not answer.
    fn status(&self) -> Option<StatusReport> {
        let output = self.run(&[
            "exec", "-T", "rhizome", "rhizome", "status", "--output", "json",
        ]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until `seen` finds what it looks for.
    fn until<T>(&self, what: &str, seen: impl Fn(&StatusReport) -> Option<T>) -> T {
        let clock = RealClock::new();
        let (begin, mut status) = (clock.now().mono, None);
        while passed(&clock, begin) < PATIENCE {
            status = self.status().or(status);
            if let Some(found) = status.as_ref().and_then(&seen) {
                say(&format!("compose: {what}"));
                return found;
            }
            std::thread::sleep(LOOK);
        }
        panic!("this did not happen: {what}\n{status:#?}");
    }

    /// The node that a container is, by its own log.
    fn node_of(&self, container: &str) -> String {
        let log = self.compose(&["logs", "--no-color", container]);
        log.lines()
            .filter_map(|line| {
                line.split_once(" is up node=\"")
                    .or_else(|| line.split_once(" is up node="))
            })
            .filter_map(|(_, node)| node.split(|c: char| c == '"' || c.is_whitespace()).next())
            .next_back()
            .unwrap_or_else(|| panic!("{container} is no machine:\n{log}"))
            .to_owned()
    }
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// The nodes of the pool that are Ready and heard.
fn serving(status: &StatusReport) -> BTreeSet<String> {
    let pools = status.engine.pools.iter();
    pools
        .flat_map(|pool| &pool.nodes)
        .filter(|node| node.ready == Some(Ready::True) && node.heard.is_some())
        .map(|node| node.name.to_string())
        .collect()
}

/// The decision to heal a node: of all, a heal alone has witnesses.
fn heal(status: &StatusReport, node: &str) -> Option<Decision> {
    let mut decisions = status.engine.decisions.iter();
    let about = |one: &&Decision| {
        let named = one.node.as_ref().is_some_and(|it| it.as_str() == node);
        named && !one.evidence.witnesses.is_empty()
    };
    decisions.find(about).cloned()
}

/// That a heal of a node was refused because one witness alone says that it is ill.
fn one_witness(status: &StatusReport, node: &str) -> Option<Refusal> {
    let mut refusals = status.engine.refusals.iter();
    let about = |one: &&Refusal| {
        let named = one.node.as_ref().is_some_and(|it| it.as_str() == node);
        named && one.reason == Reason::OneWitness
    };
    refusals.find(about).cloned()
}

/// Sends an alert about a node, as a rule of Prometheus would.
fn alert(stack: &Stack, node: &str) {
    let node = format!("node={node}");
    stack.compose(&[
        "exec",
        "-T",
        "alertmanager",
        "amtool",
        "--alertmanager.url=http://127.0.0.1:9093",
        "alert",
        "add",
        "alertname=NodeDiskFailing",
        &node,
        "--annotation=summary=its disk fails",
    ]);
}

#[test]
fn the_stack_that_people_watch_grows_with_the_work_and_heals() {
    let Some(stack) = Stack::up() else {
        return;
    };
    let first = stack.until("three machines serve", |status| {
        let serving = serving(status);
        (serving.len() >= 3).then_some(serving)
    });
    let found: Value =
        serde_json::from_str(&stack.rhizome(&["doctor", "--output", "json"])).unwrap();
    assert_eq!(found["ok"], true, "{found:#}");

    let added = stack.until("the work grew, and a machine was added", |status| {
        serving(status).difference(&first).next().cloned()
    });
    let lost = stack.node_of("worker-2");
    assert!(first.contains(&lost), "{first:?}, {added}, {lost}");
    stack.compose(&["kill", "worker-2"]);
    let heal = stack.until("it was seen that a machine is dead", |status| {
        heal(status, &lost)
    });
    let witnesses = &heal.evidence.witnesses;
    assert!(witnesses.len() >= 2, "{heal:?}");
    let healed = stack.until("the dead machine was replaced", |status| {
        let serving = serving(status);
        let fresh = serving
            .iter()
            .any(|node| !first.contains(node) && *node != added);
        (fresh && !serving.contains(&lost)).then_some(serving)
    });
    assert!(healed.len() >= 3, "{healed:?}");

    let well = stack.node_of("worker-1");
    alert(&stack, &well);
    let refused = stack.until("the alert was heard, and is one witness", |status| {
        one_witness(status, &well)
    });
    assert!(refused.detail.contains("alert"), "{refused:?}");
    stack.rhizome(&["health"]);
}
