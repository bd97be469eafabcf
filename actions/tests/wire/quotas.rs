//! Quotas: seen before a server is asked for, and told by a doctor.

use rhizome_actions::openstack::Machine;
use rhizome_actions::{Executor, Finding, Health};
use rhizome_engine::action::FailureKind;
use serde_json::{Value, json as value};

use crate::common::{Reply, Request, Scripted, TestGate, action, json, text};
use crate::openstack::{bench_with, cloud, cloud_with_network, create, empty_list};

/// What a Nova answers whose server groups take five members, and one of which has so many.
fn nova(request: &Request, members: usize) -> Reply {
    match request.path.as_str() {
        "/v2.1/limits" => json(
            200,
            value!({"limits": {"absolute": {"maxServerGroupMembers": 5}}}),
        ),
        "/v2.1/flavors/flavor" => json(200, value!({"flavor": {"vcpus": 1, "ram": 1024}})),
        "/v2.1/os-server-groups/group-1" => {
            let members: Vec<_> = (0..members).map(|number| number.to_string()).collect();
            json(200, value!({"server_group": {"members": members}}))
        }
        path if path.starts_with("/v2.1/os-server-groups/") => json(
            404,
            value!({"itemNotFound": {"code": 404, "message": "no group"}}),
        ),
        _ => empty_list(),
    }
}

fn in_group(machine: Machine) -> Machine {
    Machine {
        server_group: Some("group-1".to_owned()),
        ..machine
    }
}

/// What a doctor finds about `what`, for a pool that may come to three machines.
async fn examined(
    cloud: &Scripted,
    differing: impl FnOnce(Machine) -> Machine,
    what: &[&str],
) -> Vec<Finding> {
    let bench = bench_with(&cloud.url, differing);
    let most = [("workers".into(), 3)].into();
    let mut found = bench.openstack.examine("the test", &most).await;
    found.retain(|one| what.contains(&one.what.as_str()));
    found
}

#[tokio::test]
async fn a_server_group_that_is_full_is_seen_before_a_server_is_asked_for() {
    let full = cloud(|request| nova(request, 5)).await;
    let (bench, _) = bench_with(&full.url, in_group).with_token();
    let failure = bench
        .openstack
        .execute(&action(create()), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoCapacity, "{failure}");
    let words = "members of the server group";
    assert!(failure.message.contains(words), "{failure}");
    assert!(full.mutations().is_empty());
}

#[tokio::test]
async fn a_doctor_holds_the_server_group_against_what_the_pool_may_come_to() {
    let named = |id: &'static str| {
        move |machine| Machine {
            server_group: Some(id.to_owned()),
            ..machine
        }
    };
    for (group, members, health, words) in [
        ("group-1", 2, Health::Ok, "members of the server group"),
        ("group-1", 3, Health::Warning, "1 too many"),
        ("group-2", 0, Health::Bad, "no server group `group-2`"),
    ] {
        let cloud = cloud(move |request| nova(request, members)).await;
        let found = examined(&cloud, named(group), &["quota", "server group"]).await;
        let [found] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(found.health, health, "{group} {members}: {found:?}");
        assert!(found.said.contains(words), "{group} {members}: {found:?}");
    }
}

#[tokio::test]
async fn a_doctor_tells_a_network_service_that_cannot_be_asked() {
    fn full() -> Reply {
        let quota = |used: u32| value!({"used": used, "limit": 10});
        let quota: Value = value!({"port": quota(9), "floatingip": quota(9)});
        json(200, value!({"quota": quota}))
    }
    let denied = || {
        json(
            403,
            value!({"NeutronError": {"type": "PolicyNotAuthorized", "message": "no", "detail": ""}}),
        )
    };
    type Answers = fn() -> Reply;
    type Told = (&'static str, Health);
    let away: Answers = || text(503, "");
    let none: Answers = || json(200, value!({"ports": []}));
    let quota = ("quota", Health::Warning);
    let doubt = ("network", Health::Warning);
    let ill = ("network", Health::Bad);
    // Rows: what is said of the quotas and of the ports, whether they are ours; what is found.
    let rows: [(&str, Answers, Answers, bool, Told, &str); 6] = [
        ("seen", full, none, true, quota, "2 too many"),
        ("away", away, away, true, ill, "answered 503"),
        ("theirs", away, away, false, doubt, "answered 503"),
        ("no right", denied, denied, true, ill, "answered 403"),
        ("not told", denied, none, true, quota, "does not tell"),
        ("no quotas", away, none, false, quota, "does not tell"),
    ];
    for (name, quotas, ports, own_ports, wanted, words) in rows {
        let cloud = cloud_with_network(move |request| match request.path.as_str() {
            "/v2.0/quotas/p1/details.json" => quotas(),
            path if path.starts_with("/v2.0/ports") => ports(),
            _ => nova(request, 0),
        })
        .await;
        let machine = |machine| Machine {
            own_ports,
            ..machine
        };
        let found = examined(&cloud, machine, &["quota", "network"]).await;
        let [found] = found.as_slice() else {
            panic!("{name}: {found:?}");
        };
        let got = (found.what.as_str(), found.health);
        assert_eq!(got, wanted, "{name}: {found:?}");
        assert!(found.said.contains(words), "{name}: {found:?}");
        assert!(!found.advice.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_doctor_tells_a_catalog_without_a_network_service() {
    let public = Some("public".to_owned());
    for (floating_network, health) in [(None, Health::Warning), (public, Health::Bad)] {
        let machine = |machine| Machine {
            floating_network,
            ..machine
        };
        let cloud = cloud(|request| nova(request, 0)).await;
        let found = examined(&cloud, machine, &["quota", "network"]).await;
        let [found] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!((found.what.as_str(), found.health), ("network", health));
        assert!(found.said.contains("no network service"), "{found:?}");
    }
}
