//! A cloud that fails in the middle of an addition: the whole program and the real calls.
//!
//! However the answer is lost, late or bad, the machine that was wanted is there at the end,
//! once, and nothing else is.

use std::time::Duration;

use rhizome_standin::{Api, Fault, NO_VALID_HOST, Refusal, Rule};

use crate::harness::{Setup, Site};

const SERVERS: &str = "/compute/v2.1/servers";

/// The next create of a server meets the fault.
fn create(fault: Fault) -> Rule {
    Rule::new(SERVERS, fault)
        .on(Api::OpenStack)
        .method("POST")
        .times(1)
}

/// A site where an addition meets the fault and ends well; it is looked at once more.
fn added_in_spite_of(fault: Fault) -> Site {
    added_at(Setup::default(), fault)
}

fn added_at(setup: Setup, fault: Fault) -> Site {
    let site = Site::settled(Setup {
        decision_expiry: "10s",
        ..setup
    });
    let name = fault.name();
    site.standin.fault(create(fault));
    site.order(&["scale", "workers", "2", "--why", name]);
    site.wait("the fault to be met", |site| met(site, name).then_some(()));
    site.wait_settled(2);
    site
}

fn met(site: &Site, name: &str) -> bool {
    let ledger = site.standin.ledger();
    ledger
        .requests
        .iter()
        .any(|entry| entry.fault == Some(name))
}

/// How many creates were asked for, and how many of them came to be.
fn creates(site: &Site) -> (usize, usize) {
    let ledger = site.standin.ledger();
    let asked: Vec<_> = ledger
        .mutations()
        .filter(|entry| entry.is("POST", SERVERS))
        .collect();
    let done = asked.iter().filter(|entry| entry.was_done()).count();
    (asked.len(), done)
}

#[test]
fn an_answer_that_is_lost_makes_no_second_server() {
    let site = added_in_spite_of(Fault::DropAfter);
    assert_eq!(
        creates(&site),
        (2, 2),
        "the minimum, and the one that was found"
    );
}

#[test]
fn a_create_that_is_done_late_makes_no_second_server() {
    let site = added_in_spite_of(Fault::DoLate(Duration::from_secs(1), None));
    assert_eq!(creates(&site), (2, 2), "it was given time and found");
}

#[test]
fn an_error_of_the_cloud_is_looked_into_before_it_is_asked_again() {
    let error = Refusal::nova(500, "Unexpected API Error.");
    let site = added_in_spite_of(Fault::Refuse(error));
    assert_eq!(
        creates(&site),
        (3, 2),
        "not found twice, so asked once more"
    );
}

#[test]
fn a_cloud_that_is_asked_too_often_is_asked_again_when_it_says() {
    let site = added_in_spite_of(Fault::Refuse(Refusal::nova_too_many(2)));
    assert_eq!(creates(&site), (3, 2));
    let ledger = site.standin.ledger();
    let at: Vec<_> = ledger
        .mutations()
        .filter(|entry| entry.is("POST", SERVERS))
        .map(|entry| entry.at)
        .collect();
    assert!(at[2].since(at[1]) >= Duration::from_secs(2), "{at:?}");
}

#[test]
fn a_server_that_fails_to_build_is_taken_away_and_another_made() {
    let site = added_in_spite_of(Fault::BuildFails(NO_VALID_HOST));
    assert_eq!(creates(&site), (3, 3), "the one in ERROR is gone");
    told(&site, "the VM is in ERROR: No valid host was found.");
}

#[test]
fn a_server_that_stays_in_build_is_taken_away_and_another_made() {
    let site = added_at(impatient(), Fault::BuildForever);
    told(&site, "BUILD without end: the VM is not ACTIVE after 15s");
}

#[test]
fn a_server_without_an_address_is_taken_away_and_another_made() {
    let site = added_at(impatient(), Fault::NoAddress);
    let name = "ACTIVE without an address: the VM has none after 15s";
    told(&site, name);
}

/// Where a VM that does not come up is given up soon, and still long after a good one is there.
fn impatient() -> Setup {
    Setup {
        build_timeout: "15s",
        ..Setup::default()
    }
}

/// What became of the VM is told by its name, by `why` and in the log, with its notice.
fn told(site: &Site, name: &str) {
    let why = site.order(&["why", "workers", "--pool"]);
    assert!(why.contains(name), "{why}");
    let log = site.log();
    let noticed = |line: &str| line.contains("ended: ") && line.contains(name);
    assert!(log.lines().any(noticed), "{log}");
}

#[test]
fn keystone_may_be_down_in_the_middle_of_an_addition() {
    let site = Site::settled(Setup::default());
    site.standin.faults(|faults| faults.keystone_down = true);
    // A token that Nova does not take any more sends the client to Keystone, which is away.
    let refused = Fault::Refuse(Refusal::nova_unauthorized());
    let again = site
        .standin
        .fault(Rule::new("/compute/**", refused).on(Api::OpenStack));
    site.order(&["scale", "workers", "2", "--why", "test"]);
    site.wait("the cloud to be known as away", |site| {
        let sources = site.try_status()?.engine.sources;
        let openstack = sources
            .iter()
            .find(|one| one.source.as_str() == "openstack")?;
        (!openstack.flowing).then_some(())
    });
    assert_eq!(creates(&site).1, 1, "nothing came to be meanwhile");
    site.standin.faults(|faults| {
        faults.remove(again);
        faults.keystone_down = false;
    });
    site.wait_settled(2);
}
