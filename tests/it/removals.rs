//! A cloud and a cluster that fail in the middle of a removal, or show what is no more: the whole program
//! and the real calls.

use rhizome_engine::journal::Record;
use rhizome_standin::{Api, Fault, Kind, Refusal, Rule};
use serde_json::json;

use crate::harness::{Setup, Site};

const SERVERS: &str = "/compute/v2.1/servers";

/// A site of two machines, one of which may go.
fn two() -> Site {
    let site = Site::settled(Setup::default());
    site.order(&["scale", "workers", "2", "--why", "test"]);
    site.wait_settled(2);
    site
}

fn delete(fault: Fault) -> Rule {
    Rule::new(&format!("{SERVERS}/*"), fault)
        .on(Api::OpenStack)
        .method("DELETE")
}

/// How many requests were done by this method on such a path.
fn done(site: &Site, method: &str, path: &str) -> usize {
    let ledger = site.standin.ledger();
    let of = |entry: &&rhizome_standin::Entry| entry.is(method, path) && entry.was_done();
    ledger.mutations().filter(of).count()
}

/// How often the servers were listed.
fn polls(site: &Site) -> usize {
    let ledger = site.standin.ledger();
    let of = |entry: &&rhizome_standin::Entry| entry.path.ends_with("/servers/detail");
    ledger.requests.iter().filter(of).count()
}

/// Waits until a request has met the fault of that name.
fn met(site: &Site, name: &str) {
    site.wait("the fault to be met", |site| {
        let ledger = site.standin.ledger();
        let met = |entry: &rhizome_standin::Entry| entry.fault == Some(name);
        ledger.requests.iter().any(met).then_some(())
    });
}

#[test]
fn a_delete_that_nova_refuses_for_a_task_under_way_is_asked_for_again() {
    let site = two();
    let message = "Cannot 'delete' instance while it is in task_state rebooting";
    let busy = Fault::Refuse(Refusal::nova(409, message));
    site.standin.fault(delete(busy).times(2));
    site.order(&["scale", "workers", "1", "--why", "test"]);
    met(&site, "refuse");
    site.wait_settled(1);
}

#[test]
fn while_a_delete_is_stuck_the_node_stays_and_when_it_is_over_all_of_it_goes() {
    let site = two();
    site.standin.fault(delete(Fault::DeleteStuck));
    site.order(&["scale", "workers", "1", "--why", "test"]);
    met(&site, "delete_stuck");
    let seen = polls(&site);
    site.wait("the server to be looked at again and again", |site| {
        (polls(site) > seen + 5).then_some(())
    });
    let nodes = site
        .standin
        .world(|world| world.cluster.list(Kind::Node).count());
    assert_eq!(nodes, 2, "the Node of a server that is there stays");
    assert_eq!(site.status().engine.operations.len(), 1, "it goes on");
    // An administrator takes the server away.
    site.standin.world(|world| {
        let stuck = world.cloud.servers.values();
        let stuck = stuck.filter(|server| server.task == Some(rhizome_standin::Task::Deleting));
        let id = stuck.map(|server| server.id.clone()).next().unwrap();
        world.cloud.servers.remove(&id);
    });
    site.wait_settled(1);
}

#[test]
fn a_list_of_what_was_makes_no_second_server_and_ends_nothing() {
    let site = Site::settled(Setup::default());
    let stale = Rule::new(&format!("{SERVERS}/detail"), Fault::Stale).on(Api::OpenStack);
    site.standin.fault(stale.clone().times(2));
    site.order(&["scale", "workers", "2", "--why", "test"]);
    met(&site, "stale");
    site.wait_settled(2);
    assert_eq!(done(&site, "POST", SERVERS), 2, "one for each");
    site.standin.fault(stale.times(2));
    site.order(&["scale", "workers", "1", "--why", "test"]);
    site.wait_settled(1);
    assert_eq!(
        done(&site, "POST", SERVERS),
        2,
        "and none for what was seen to be gone"
    );
}

#[test]
fn a_node_that_a_finalizer_keeps_counts_for_nothing_and_goes_when_it_may() {
    let site = two();
    let names: Vec<_> = site
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    let finalizers = |world: &mut rhizome_standin::World, keep: bool| {
        for name in &names {
            let Some(mut node) = world.cluster.get(Kind::Node, "", name).cloned() else {
                continue;
            };
            node["metadata"]["finalizers"] = if keep {
                json!(["example.org/wait"])
            } else {
                json!([])
            };
            world.put_object(Kind::Node, node);
        }
    };
    site.standin.world(|world| finalizers(world, true));
    site.order(&["scale", "workers", "1", "--why", "test"]);
    site.wait("the server to be gone and the Node to be deleted", |site| {
        let going = site.standin.world(|world| {
            let mut nodes = world.cluster.list(Kind::Node);
            nodes.any(|node| node["metadata"]["deletionTimestamp"].is_string())
        });
        let status = site.try_status()?.engine;
        (going && status.operations.is_empty()).then_some(())
    });
    site.wait("the pool to be of one", |site| {
        (site.pool().size == 1).then_some(())
    });
    site.standin.world(|world| finalizers(world, false));
    site.wait_settled(1);
}

#[test]
fn a_server_that_somebody_renames_is_still_the_one_of_its_node() {
    let site = two();
    site.standin.world(|world| {
        for (place, server) in world.cloud.servers.values_mut().enumerate() {
            server.name = format!("renamed-{place}");
        }
    });
    let decided = |site: &Site| {
        let of = |record: &Record| matches!(record, Record::Operation { .. });
        site.records().iter().filter(|record| of(record)).count()
    };
    let (before, seen) = (decided(&site), polls(&site));
    site.wait("the new names to be seen", |site| {
        (polls(site) > seen + 5).then_some(())
    });
    assert_eq!(decided(&site), before, "nothing follows from a name");
    assert_eq!(site.pool().size, 2);
    site.order(&["scale", "workers", "1", "--why", "test"]);
    site.wait_settled(1);
}
