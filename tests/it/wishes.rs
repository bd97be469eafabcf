//! Operators and a running program: every order by the real command, and what it comes to.

use std::time::Duration;

use rhizome::clock::RealClock;
use rhizome_engine::journal::Record;
use rhizome_engine::time::Clock;

use crate::harness::{IDLE, Setup, Site, said};

/// A pause that is answered holds at once; the answer itself may take this long (I39).
const PAUSE_WITHIN: Duration = Duration::from_secs(1);

/// How many servers were ever asked for.
fn creates(site: &Site) -> usize {
    let ledger = site.standin.ledger();
    let asked = |entry: &&rhizome_standin::Entry| entry.is("POST", "/compute/v2.1/servers");
    ledger.mutations().filter(asked).count()
}

fn refused(site: &Site, arguments: &[&str], with: &str) {
    let (code, text) = said(&site.rhizome(arguments));
    assert_eq!(code, 1, "{arguments:?}: {text}");
    assert!(text.contains(with), "{arguments:?}: {text}");
}

#[test]
fn a_pause_holds_at_once_and_over_a_kill_until_it_is_taken_off() {
    let mut site = Site::settled(Setup::default());
    let clock = RealClock::new();
    let before = clock.now().mono;
    site.order(&["pause", "workers", "--why", "upgrade"]);
    let took = clock.now().mono.since(before);
    // The command itself starts within this too; on a loaded machine that is most of it.
    assert!(took < PAUSE_WITHIN * 5, "the pause took {took:?}");
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
    site.order(&["scale", "workers", "2", "--why", "load"]);
    site.wait_settled(2);
}

#[test]
fn a_pause_in_the_middle_of_an_addition_parks_it_and_a_resume_ends_it() {
    let site = Site::settled(Setup::default());
    site.order(&["scale", "workers", "2", "--why", "load"]);
    site.order(&["pause", "--why", "stop everything"]);
    let before = site.standin.ledger().mutations().count();
    site.wait("the machine to be up", |site| {
        let ready = site.try_status()?.engine.pools.first()?.ready;
        (ready == 2).then_some(())
    });
    let meanwhile = site.standin.ledger().mutations().count() - before;
    assert!(
        meanwhile == 0,
        "{meanwhile} changes were asked for while paused"
    );
    assert!(!site.status().engine.operations.is_empty(), "it is parked");
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
    site.wait("the replacement to be granted", |site| {
        (said(&site.rhizome(&["replace", one, "--why", "old"])).0 == 0).then_some(())
    });
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
    let forever = rhizome_standin::Rule::new(
        "/compute/v2.1/servers",
        rhizome_standin::Fault::BuildForever,
    );
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
fn a_bad_edit_of_a_policy_is_refused_with_its_place_and_a_good_one_keeps_the_windows() {
    let site = Site::settled(Setup::default());
    let covered = |site: &Site| {
        let (_, text) = site.get("/v1/why?pool=workers", None);
        let why: rhizome::api::WhyReport = serde_json::from_str(&text).ok()?;
        let rule = why.now?.rules.into_iter().next()?;
        let mean = rule.evidence.values.first()?.clone();
        mean.coverage.filter(|share| *share >= 0.5)
    };
    site.wait("a window to fill", covered);
    let running = site.status().engine.policies;

    let bad = IDLE.replace("mean(", "maen(");
    site.put("policies/idle.rhai", &bad);
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
    let log = site.log();
    let line = log.lines().find(|line| line.contains("is refused"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    let text = line.to_string();
    assert!(
        text.contains("idle.rhai:2:") && text.contains('^'),
        "{text}"
    );

    let good = IDLE.replace("0.99", "0.98");
    site.put("policies/idle.rhai", &good);
    site.wait("the good edit to run", |site| {
        (site.try_status()?.engine.policies != running).then_some(())
    });
    assert_eq!(site.status().policies_refused, None);
    assert!(covered(&site).is_some(), "the window is as full as it was");
    let records = site.records();
    let last = records.iter().rev().find_map(|record| match record {
        Record::Policies { hash, .. } => Some(hash.clone()),
        _ => None,
    });
    assert_eq!(
        last,
        Some(site.status().engine.policies),
        "and it is journaled"
    );
}
