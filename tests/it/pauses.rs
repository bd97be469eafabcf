//! Pauses that are left in a file or in a ConfigMap (I39), by the real program.

use rhizome_engine::journal::Record;
use rhizome_standin::{Fault, Kind, Refusal, Rule};
use serde_json::json;

use crate::harness::{Setup, Site, said};

const MAP: &str = "/api/v1/namespaces/rhizome/configmaps/rhizome-pause";

fn setup() -> Setup {
    Setup {
        pause: true,
        ..Setup::default()
    }
}

fn creates(site: &Site) -> usize {
    let ledger = site.standin.ledger();
    let asked = |entry: &&rhizome_standin::Entry| entry.is("POST", "/compute/v2.1/servers");
    ledger.mutations().filter(asked).count()
}

fn wait_paused(site: &Site, paused: bool) {
    site.wait(&format!("`paused` to be {paused}"), |site| {
        let pools = site.try_status()?.engine.pools;
        (pools.first()?.paused == paused).then_some(())
    });
}

/// An order that the pause refuses.
fn refused(site: &Site) {
    let (code, text) = said(&site.rhizome(&["scale", "workers", "2", "--why", "load"]));
    assert!(code == 1 && text.contains("paused"), "{code}: {text}");
}

/// Asks until it is granted: right after a start the guard may still say no.
fn granted(site: &Site) {
    let order = ["scale", "workers", "2", "--why", "load"];
    site.wait("a scale to be granted", |site| {
        (said(&site.rhizome(&order)).0 == 0).then_some(())
    });
}

#[test]
fn a_file_that_is_there_before_the_first_start_lets_no_machine_be_made() {
    let mut site = Site::new(setup());
    site.put("pause", "# not yet\n");
    site.start(&[]);
    let refusal = site.wait("the first machine to be refused", |site| {
        site.try_status()?.engine.refusals.into_iter().next()
    });
    assert!(refusal.detail.contains("not yet"), "{refusal:?}");
    assert_eq!(creates(&site), 0);
    std::fs::remove_file(site.path("pause")).unwrap();
    site.wait_settled(1);
}

#[test]
fn a_pause_by_a_file_holds_over_a_kill_until_the_file_is_gone() {
    let mut site = Site::settled(setup());
    site.put("pause", "workers # upgrade\n");
    wait_paused(&site, true);
    refused(&site);
    let status = site.order(&["status"]);
    assert!(status.contains("the pause file pauses workers"), "{status}");
    assert!(status.contains("upgrade"), "{status}");
    let resumed = site.order(&["resume", "--why", "go on"]);
    assert!(resumed.contains("the pause file still pauses"), "{resumed}");

    site.kill();
    site.start(&[]);
    wait_paused(&site, true);
    refused(&site);
    assert_eq!(creates(&site), 1, "nothing was asked for meanwhile");

    // Taken away while nobody looks.
    site.kill();
    std::fs::remove_file(site.path("pause")).unwrap();
    site.start(&[]);
    wait_paused(&site, false);
    granted(&site);
    site.wait_settled(2);
    let told: Vec<_> = site
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Pause { pause, .. } => Some(pause.map(|pause| pause.why)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Some("upgrade".to_owned()), None], "journaled");
    let why = site.order(&["why", "workers", "--pool"]);
    assert!(why.contains("the pause of the pause file is over"), "{why}");
}

#[test]
fn a_pause_by_a_config_map_holds_and_what_cannot_be_read_takes_nothing_away() {
    let site = Site::settled(setup());
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "rhizome", "name": "rhizome-pause"},
        "data": {"who": "ann", "why": "the floor is wet"}});
    site.standin
        .world(|world| world.put_object(Kind::ConfigMap, map));
    wait_paused(&site, true);
    refused(&site);
    let status = site.order(&["status"]);
    assert!(status.contains("ConfigMap pauses everything"), "{status}");
    assert!(status.contains("ann") && status.contains("wet"), "{status}");
    site.standin
        .world(|world| world.remove_object(Kind::ConfigMap, "rhizome", "rhizome-pause"));
    wait_paused(&site, false);

    let forbidden = Refusal::kubernetes(403, "Forbidden", "configmaps is forbidden");
    let rule = site.standin.fault(Rule::new(MAP, Fault::Refuse(forbidden)));
    let node = site.nodes().remove(0).name.to_string();
    site.wait("a brake for what cannot be read", |site| {
        let brakes = site.try_status()?.engine.brakes;
        brakes
            .iter()
            .any(|brake| brake.brake == "pause config_map")
            .then_some(())
    });
    let (code, text) = said(&site.rhizome(&["replace", &node, "--why", "old"]));
    assert!(code == 1 && text.contains("paused"), "{code}: {text}");
    assert!(text.contains("rhizome/rhizome-pause"), "{text}");
    granted(&site);
    site.wait_settled(2);
    site.standin.faults(|faults| faults.remove(rule));
    site.wait("the brake to let go", |site| {
        site.try_status()?.engine.brakes.is_empty().then_some(())
    });
}
