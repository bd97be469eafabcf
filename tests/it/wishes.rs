//! Operators and a running program: every order by the real command, and what it comes to.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome_engine::journal::Record;
use rhizome_standin::{Fact, Fault, Kind, Refusal, Rule, Workload};
use serde_json::json;

use crate::harness::{IDLE, Setup, Site, said};

/// Longer than what is refused waits before it is tried again: the first pause and the gate's.
const TRIED_AGAIN: Duration = Duration::from_secs(6);

/// How many servers were ever asked for.
fn creates(site: &Site) -> usize {
    let ledger = site.standin.ledger();
    let asked = |entry: &&rhizome_standin::Entry| entry.is("POST", "/compute/v2.1/servers");
    ledger.mutations().filter(asked).count()
}

/// Refused for that reason, if perhaps for another one first: on a busy machine an agent may
/// just not have been heard.
fn refused(site: &Site, arguments: &[&str], with: &str) {
    site.wait(&format!("{arguments:?} to be refused: {with}"), |site| {
        let (code, text) = said(&site.rhizome(arguments));
        assert_eq!(code, 1, "{arguments:?}: {text}");
        text.contains(with).then_some(())
    });
}

/// Granted, if perhaps not at once: right after a start the guard may still say no.
fn granted(site: &Site, arguments: &[&str]) {
    site.wait(&format!("{arguments:?} to be granted"), |site| {
        (said(&site.rhizome(arguments)).0 == 0).then_some(())
    });
}

#[test]
fn a_pause_holds_at_once_and_over_a_kill_until_it_is_taken_off() {
    let mut site = Site::settled(Setup::default());
    site.order(&["pause", "workers", "--why", "upgrade"]);
    refused(&site, &["scale", "workers", "2", "--why", "load"], "paused");
    assert!(site.pool().paused);
    assert!(site.order(&["status"]).contains("paused"));

    site.kill();
    site.start(&[]);
    let paused = site.wait("the pool", |site| {
        site.try_status()?
            .engine
            .pools
            .first()
            .map(|pool| pool.paused)
    });
    assert!(paused, "a pause is state, and outlives the process");
    refused(&site, &["scale", "workers", "2", "--why", "load"], "paused");
    assert_eq!(creates(&site), 1, "nothing was asked for meanwhile");

    site.order(&["resume", "workers", "--why", "done"]);
    granted(&site, &["scale", "workers", "2", "--why", "load"]);
    site.wait_settled(2);
}

#[test]
fn a_pause_in_the_middle_of_an_addition_parks_it_and_a_resume_ends_it() {
    let site = Site::settled(Setup::default());
    // It is in its middle for as long as its node cannot be labelled.
    let busy = Rule::new("/api/v1/nodes/*", Fault::Refuse(Refusal::flow_control(1)));
    let busy = site.standin.fault(busy.method("PATCH"));
    site.order(&["scale", "workers", "2", "--why", "load"]);
    site.wait("its label to be refused", |site| {
        let ledger = site.standin.ledger();
        let refused = ledger.mutations().any(|entry| entry.fault.is_some());
        refused.then_some(())
    });
    site.order(&["pause", "--why", "stop everything"]);
    site.standin.faults(|faults| faults.remove(busy));
    site.wait("what was sent to be answered", |site| {
        let records = site.records();
        let count = |is: fn(&&Record) -> bool| records.iter().filter(is).count();
        let intents = count(|record| matches!(record, Record::Intent { .. }));
        let outcomes = count(|record| matches!(record, Record::Outcome { .. }));
        (intents == outcomes).then_some(())
    });
    let changes = |site: &Site| site.standin.ledger().mutations().count();
    let (before, paused) = (changes(&site), site.status().engine.at);
    site.wait("the time of another try to pass", |site| {
        let now = site.try_status()?.engine.at;
        (now.since(paused) >= TRIED_AGAIN).then_some(())
    });
    assert_eq!(
        changes(&site),
        before,
        "changes were asked for in the pause"
    );
    let parked = site.status().engine.operations;
    assert!(
        parked[0].waits.contains("paused"),
        "it is parked: {parked:?}"
    );
    site.order(&["resume", "--why", "go on"]);
    site.wait_settled(2);
}

#[test]
fn the_same_key_twice_is_one_wish() {
    let site = Site::settled(Setup::default());
    let order = ["scale", "workers", "2", "--why", "load", "--key", "k1"];
    let first = site.order(&order);
    assert!(first.contains("add workers-"), "{first}");
    assert_eq!(
        site.order(&order),
        first,
        "told the same, and nothing more done"
    );
    site.wait_settled(2);
    site.order(&order);
    let wishes = site.records().into_iter().filter(
        |record| matches!(record, Record::Wish { key, who, .. } if key == "k1" && who.contains("ann")),
    );
    assert_eq!(wishes.count(), 1);
    assert_eq!(creates(&site), 2, "the minimum's and one more");
}

#[test]
fn a_protected_node_is_kept_and_one_in_maintenance_left_alone() {
    let site = Site::settled(Setup {
        min: 2,
        ..Setup::default()
    });
    let names: Vec<String> = site
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    let (one, other) = (names[0].as_str(), names[1].as_str());
    site.order(&["protect", one, "--why", "it holds a disk"]);
    site.wait("the protection to be seen", |site| {
        site.nodes()
            .iter()
            .any(|node| node.name.as_str() == one && node.protected)
            .then_some(())
    });
    refused(&site, &["replace", one, "--why", "old"], "protected");
    site.order(&["maintenance", other, "--for", "1h", "--why", "a new disk"]);
    refused(&site, &["replace", other, "--why", "old"], "maintenance");

    site.order(&["protect", one, "--off", "--why", "moved"]);
    site.order(&["maintenance", other, "--for", "0s", "--why", "done"]);
    granted(&site, &["replace", one, "--why", "old"]);
    site.wait("the old node to be gone", |site| {
        let nodes = site.try_status()?.engine.pools.into_iter().next()?.nodes;
        nodes
            .iter()
            .all(|node| node.name.as_str() != one)
            .then_some(())
    });
    site.wait_settled(2);
    let why = site.order(&["why", one]);
    assert!(
        why.contains("protected") && why.contains("asked to replace"),
        "{why}"
    );
    refused(
        &site,
        &["replace", "nobody", "--why", "old"],
        "there is no node `nobody`",
    );
}

#[test]
fn a_cancelled_addition_leaves_nothing_behind() {
    let site = Site::settled(Setup::default());
    let forever = Rule::new("/compute/v2.1/servers", Fault::BuildForever);
    site.standin.fault(forever.method("POST").times(1));
    site.order(&["scale", "workers", "2", "--why", "load"]);
    let operation = site.wait("the VM that never builds", |site| {
        let operations = site.try_status()?.engine.operations;
        let one = operations.first()?;
        (one.step == "wait_active").then(|| one.id.to_string())
    });
    assert!(site.order(&["status"]).contains(&operation));
    // Else what was wished for would be begun anew.
    site.order(&["scale", "workers", "1", "--why", "never mind"]);
    site.order(&["cancel", &operation, "--why", "never mind"]);
    site.wait_settled(1);
    let pool = site.order(&["why", "workers", "--pool"]);
    assert!(
        pool.contains("asked for 2 nodes") && pool.contains("cancelled"),
        "{pool}"
    );
}

#[test]
fn a_cancelled_removal_ends_the_drain_that_is_under_way_and_evicts_nobody() {
    let site = Site::settled(Setup {
        min: 2,
        max: 3,
        ..Setup::default()
    });
    granted(&site, &["scale", "workers", "3", "--why", "load"]);
    site.wait_settled(3);
    // The drain would wait for its budget for as long as it may: longer than this test waits.
    site.standin.world(|world| {
        let replicas = 6;
        world.set_workload(
            "web",
            Workload {
                replicas,
                ..Workload::default()
            },
        );
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default", "generation": 1},
            "spec": {"minAvailable": replicas, "selector": {"matchLabels": {"app": "web"}}}});
        world.put_object(Kind::Budget, budget);
    });
    site.wait("pods on each node", |site| {
        let nodes: BTreeSet<String> = site.standin.world(|world| {
            let pods = world.cluster.list(Kind::Pod);
            let running = pods.filter(|pod| pod["status"]["phase"] == "Running");
            let nodes = running.filter_map(|pod| pod["spec"]["nodeName"].as_str());
            nodes.map(str::to_owned).collect()
        });
        (nodes.len() == 3).then_some(())
    });
    granted(&site, &["scale", "workers", "2", "--why", "less load"]);
    let (operation, node) = site.wait("a drain", |site| {
        let operations = site.try_status()?.engine.operations;
        let one = operations.first().filter(|one| one.step == "drain")?;
        Some((one.id.to_string(), one.node.clone()?.to_string()))
    });
    site.order(&["cancel", &operation, "--why", "never mind"]);
    site.wait("the removal to be undone", |site| {
        let engine = site.try_status()?.engine;
        let nodes = &engine.pools.first()?.nodes;
        let cordoned = nodes.iter().any(|node| node.cordoned);
        (engine.operations.is_empty() && !cordoned).then_some(())
    });
    let said = site.order(&["why", &node]);
    assert!(said.contains("its operation was called off"), "{said}");
    let ledger = site.standin.ledger();
    let evicted = |(_, fact): &&(_, Fact)| matches!(fact, Fact::Evicted { .. });
    assert_eq!(ledger.facts.iter().filter(evicted).count(), 0);
    assert_eq!(site.standin.world(|world| world.cloud.servers.len()), 3);
}

/// How much of its window the rule's mean is made of.
fn covered(site: &Site) -> Option<f64> {
    let (_, text) = site.get("/v1/why?pool=workers", None);
    let why: rhizome::api::WhyReport = serde_json::from_str(&text).ok()?;
    let rule = why.now?.rules.into_iter().next()?;
    rule.evidence.values.first()?.coverage
}

#[test]
fn a_bad_edit_of_a_policy_is_refused_with_its_place_and_a_good_one_keeps_the_windows() {
    // Long enough that a window that begins anew can be told from one that was kept.
    let policy = IDLE.replace("\"2s\") >", "\"20s\") >");
    let site = Site::settled(Setup {
        policies: vec![("idle.rhai", policy.clone())],
        ..Setup::default()
    });
    site.wait("a window to fill", |site| {
        covered(site).filter(|share| *share >= 0.8)
    });
    let running = site.status().engine.policies;

    site.put("policies/idle.rhai", &policy.replace("mean(", "maen("));
    let told = site.wait("the bad edit to be refused", |site| {
        site.try_status()?.policies_refused
    });
    assert!(
        told.contains("idle.rhai:2:") && told.contains('^'),
        "{told}"
    );
    assert_eq!(
        site.status().engine.policies,
        running,
        "the old one goes on"
    );
    let said = site.order(&["status"]);
    assert!(said.contains("idle.rhai:2:"), "{said}");
    let line = site.wait("the refusal to be logged", |site| {
        let log = site.log();
        let mut lines = log.lines();
        lines
            .find(|line| line.contains("is refused"))
            .map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = line.to_string();
    assert!(
        text.contains("idle.rhai:2:") && text.contains('^'),
        "{text}"
    );

    site.put("policies/idle.rhai", &policy.replace("0.99", "0.98"));
    let (edited, share) = site.wait("the good edit to run", |site| {
        let edited = site.try_status()?.engine.policies;
        (edited != running).then(|| (edited, covered(site).unwrap_or_default()))
    });
    assert!(share >= 0.4, "the window was kept: {share}");
    assert_eq!(site.status().policies_refused, None);
    site.wait("it to be journaled", |site| {
        let records = site.records();
        let last = records.iter().rev().find_map(|record| match record {
            Record::Policies { hash, .. } => Some(hash.clone()),
            _ => None,
        });
        (last? == edited).then_some(())
    });
}
