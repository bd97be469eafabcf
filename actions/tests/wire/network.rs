//! The wire between us and Neutron: its lists are read to their end, or not at all.

use rhizome_actions::openstack::Machine;
use rhizome_actions::{Executor, Seen};
use rhizome_engine::action::{Done, FailureKind};
use rhizome_engine::event::Observation;
use serde_json::{Value, json as value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{OPERATION, Reply, Request, TestGate, action, json, text, until};
use crate::openstack::{bench_with, cloud_with_network, create, empty_list};

/// A page of a list, and the marker of the next if there is one.
fn page(kind: &str, rows: Value, next: Option<&str>) -> Reply {
    let mut body = value!({kind: rows});
    if let Some(marker) = next {
        let href = format!("https://elsewhere/v2.0/{kind}?limit=1&marker={marker}");
        body[format!("{kind}_links")] = value!([{"rel": "next", "href": href}]);
    }
    json(200, body)
}

fn own_ports(machine: Machine) -> Machine {
    Machine {
        own_ports: true,
        security_groups: vec!["a group".to_owned()],
        ..machine
    }
}

fn is_list(request: &Request, kind: &str) -> bool {
    request.method == "GET" && request.path.starts_with(&format!("/v2.0/{kind}?"))
}

#[tokio::test]
async fn a_port_on_a_later_page_is_seen() {
    let cloud = cloud_with_network(|request| match request.path.as_str() {
        path if path.starts_with("/v2.0/ports") && path.contains("marker=p1") => {
            let ours = format!("rhizome:blue:workers:{OPERATION}");
            page(
                "ports",
                value!([{"id": "p2", "name": "w-1", "description": ours}]),
                None,
            )
        }
        path if path.starts_with("/v2.0/ports") => page(
            "ports",
            value!([{"id": "p1", "name": "theirs"}]),
            Some("p1"),
        ),
        path if path.starts_with("/v2.0/floatingips") => page("floatingips", value!([]), None),
        _ => empty_list(),
    })
    .await;
    let bench = bench_with(&cloud.url, own_ports);
    let (out, mut seen) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let look = async {
        let ports = until(&mut seen, |seen| {
            matches!(seen, Seen::Observation(Observation::Ports(_)))
        });
        let Seen::Observation(Observation::Ports(ports)) = ports.await else {
            panic!("no ports");
        };
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].operation, OPERATION);
        stop.cancel();
        while seen.recv().await.is_some() {}
    };
    tokio::join!(bench.openstack.watch(out, stop.clone()), look);
}

#[tokio::test]
async fn a_security_group_is_asked_for_by_its_name() {
    let cloud = cloud_with_network(|request| match request.method.as_str() {
        "POST" if request.path == "/v2.0/ports" => json(201, value!({"port": {"id": "p1"}})),
        "POST" => json(202, value!({"server": {"id": "a"}})),
        _ if is_list(request, "ports") => page("ports", value!([]), None),
        // As one that gives no more than a page of all would not have it.
        _ if request.path.contains("name=a%20group") => page(
            "security_groups",
            value!([{"id": "g1", "name": "a group"}]),
            None,
        ),
        _ if is_list(request, "security-groups") => page("security_groups", value!([]), None),
        _ => empty_list(),
    })
    .await;
    let (bench, _) = bench_with(&cloud.url, own_ports).with_token();
    let create = action(create());
    let done = bench.openstack.execute(&create, TestGate::open());
    assert_eq!(done.await, Ok(Done::Created { vm: "a".into() }));
    let requests = cloud.requests();
    let port = requests
        .iter()
        .find(|request| request.line() == "POST /v2.0/ports")
        .unwrap();
    assert_eq!(port.json()["port"]["security_groups"], value!(["g1"]));
}

#[tokio::test]
async fn on_a_list_that_cannot_be_read_to_its_end_nothing_is_made() {
    type Later = fn() -> Reply;
    let rows: [(&str, Later, &str); 2] = [
        ("a page that fails", || text(503, ""), "503"),
        (
            "pages that go round",
            || page("ports", value!([]), Some("p1")),
            "circle",
        ),
    ];
    for (name, later, words) in rows {
        let cloud = cloud_with_network(move |request| {
            if !is_list(request, "ports") {
                empty_list()
            } else if request.path.contains("marker=p1") {
                later()
            } else {
                page("ports", value!([]), Some("p1"))
            }
        })
        .await;
        let (bench, _) = bench_with(&cloud.url, own_ports).with_token();
        let failure = bench
            .openstack
            .execute(&action(create()), TestGate::open())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Retry { after: None }, "{name}");
        assert!(failure.message.contains(words), "{name}: {failure}");
        assert!(cloud.mutations().is_empty(), "{name}");
    }
}
