//! Who gets into the cluster with a join token: the one machine that it was made for, and
//! neither its twin, nor a thief, nor another machine under a name that is taken.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use rhizome_engine::action::{ActionKind, Done, FailureKind};
use rhizome_engine::event::{Ready, ServerStatus};
use rhizome_engine::names::VmId;
use rhizome_standin::{Kind, Phase};
use serde_json::{Value, json};

use crate::field::{Field, action, create, create_token, node};

fn join(name: &str, vm: &VmId) -> ActionKind {
    ActionKind::ApproveJoin {
        node: name.into(),
        vm: vm.clone(),
    }
}

/// A VM with its own token, up to where it runs.
async fn made(field: &Field, number: u64, name: &str) -> VmId {
    field.act(&create_token(number, name)).await.unwrap();
    let Ok(Done::Created { vm }) = field.act(&create(number, name)).await else {
        panic!("not created");
    };
    field.server_is(vm.as_str(), ServerStatus::Active).await;
    vm
}

/// Every request for a certificate: its name, and whether it was approved.
fn requests(field: &Field) -> BTreeMap<String, bool> {
    field.standin.world(|world| {
        world
            .cluster
            .list(Kind::Csr)
            .map(|request| {
                let name = request["metadata"]["name"].as_str().unwrap().to_owned();
                let approved = request["status"]["conditions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|condition| condition["type"] == "Approved"));
                (name, approved)
            })
            .collect()
    })
}

/// The token of the first machine, as a thief would read it from its user data, asks for `node`.
async fn steal(field: &Field, node: &str) {
    let (id, secret) = field.standin.world(|world| {
        let secret = world.cluster.list(Kind::Secret).next().unwrap().clone();
        let read = |key: &str| {
            use base64::Engine as _;
            let text = secret["data"][key].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap();
            String::from_utf8(bytes).unwrap()
        };
        (read("token-id"), read("token-secret"))
    });
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": format!("stolen-{node}")},
        "spec": {"request": "bm9uc2Vuc2U=", "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"]}});
    let sent = reqwest::Client::new()
        .request(
            Method::POST,
            format!(
                "{}/apis/certificates.k8s.io/v1/certificatesigningrequests",
                field.standin.kubernetes_url()
            ),
        )
        .bearer_auth(format!("{id}.{secret}"))
        .body(request.to_string())
        .send();
    let answer = field.passing(sent).await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn a_machine_is_let_in_once_however_often_that_is_asked_for() {
    let field = Field::start().await;
    let vm = made(&field, 1, "w-1").await;
    let before = field.gate.asked().len();
    assert_eq!(field.done(1, join("w-1", &vm)).await, Done::Accepted);
    assert_eq!(field.gate.asked()[before..], ["approve_join"]);
    assert_eq!(field.done(1, join("w-1", &vm)).await, Done::Already);
    let joined = field.node_is("w-1", Ready::True).await;
    assert_eq!(joined.vm.as_ref(), Some(&vm));
    assert_eq!(field.done(1, join("w-1", &vm)).await, Done::Already);
    assert_eq!(
        requests(&field)
            .values()
            .filter(|approved| **approved)
            .count(),
        1
    );
}

#[tokio::test]
async fn of_a_machine_and_its_twin_neither_is_let_in_while_both_ask() {
    let field = Field::start().await;
    let vm = made(&field, 1, "w-1").await;
    // A create whose answer was lost has made a second one.
    field.standin.world(|world| {
        let mut twin = world.cloud.servers[vm.as_str()].clone();
        twin.id = "twin".to_owned();
        world.cloud.servers.insert(twin.id.clone(), twin);
    });
    field
        .until(|_| {
            let asked = field
                .standin
                .world(|world| world.cluster.list(Kind::Csr).count());
            (asked == 2).then_some(())
        })
        .await;
    let failure = field.act(&action(1, join("w-1", &vm))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("2 machines"), "{failure}");
    assert!(requests(&field).values().all(|approved| !approved));

    // With the twin gone, its request is left: still nobody can tell.
    field.standin.world(|world| world.remove_server("twin"));
    let failure = field.act(&action(1, join("w-1", &vm))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(node(&field.look().await, "w-1"), None);
}

#[tokio::test]
async fn a_twin_that_comes_late_waits_for_ever() {
    let field = Field::start().await;
    let vm = made(&field, 1, "w-1").await;
    field.let_in(1, "w-1", &vm).await;
    field.standin.world(|world| {
        let mut twin = world.cloud.servers[vm.as_str()].clone();
        twin.id = "twin".to_owned();
        world.cloud.servers.insert(twin.id.clone(), twin);
    });
    let joined = field.node_is("w-1", Ready::True).await;
    assert_eq!(joined.vm.as_ref(), Some(&vm));
    assert_eq!(field.done(1, join("w-1", &vm)).await, Done::Already);
    assert!(
        requests(&field)
            .values()
            .filter(|approved| **approved)
            .count()
            == 1
    );
}

#[tokio::test]
async fn a_stolen_token_makes_no_node() {
    let field = Field::start().await;
    let vm = made(&field, 1, "w-1").await;
    steal(&field, "another").await;
    let failure = field.act(&action(1, join("w-1", &vm))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(requests(&field).values().all(|approved| !approved));

    // Stolen after the machine was let in, it still makes none.
    let field = Field::start().await;
    let vm = made(&field, 2, "w-2").await;
    field.let_in(2, "w-2", &vm).await;
    steal(&field, "another").await;
    assert_eq!(field.done(2, join("w-2", &vm)).await, Done::Already);
    field.node_is("w-2", Ready::True).await;
    assert!(!requests(&field)["stolen-another"]);
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_taken_over() {
    let field = Field::start().await;
    let vm = made(&field, 1, "w-1").await;
    let other: Value = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w-1"},
        "spec": {"providerID": "openstack:///another"}, "status": {}});
    field
        .standin
        .world(|world| world.put_object(Kind::Node, other));
    let failure = field.act(&action(1, join("w-1", &vm))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("another"), "{failure}");
    let there = node(&field.look().await, "w-1").unwrap();
    assert_eq!(there.vm, Some("another".into()));
    // Its kubelet asks in vain.
    field
        .until(|_| {
            let phase = field
                .standin
                .world(|world| world.guests.get(vm.as_str()).unwrap().phase);
            (phase == Phase::Joining && !requests(&field).is_empty()).then_some(())
        })
        .await;
    assert!(requests(&field).values().all(|approved| !approved));
}

#[tokio::test]
async fn a_machine_that_never_asks_is_told_of_when_the_time_is_up() {
    let field = Field::start().await;
    let failure = field
        .act(&action(1, join("w-1", &"vm".into())))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    // A cluster that cannot be seen is no machine that does not ask.
    field.standin.world(|world| {
        world
            .cluster
            .set_right("list", "certificatesigningrequests", false)
    });
    let failure = field
        .act(&action(1, join("w-1", &"vm".into())))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
}

#[tokio::test]
async fn a_token_that_was_extended_lets_a_machine_in_after_its_first_time_was_over() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for extended in [true, false] {
        let field = Field::start().await;
        field.act(&create_token(1, "w-1")).await.unwrap();
        field.clock.advance(minutes(8));
        if extended {
            let ttl = minutes(20);
            assert_eq!(
                field.done(1, ActionKind::ExtendToken { ttl }).await,
                Done::Accepted
            );
        }
        field.clock.advance(minutes(10));
        let extend = ActionKind::ExtendToken { ttl: minutes(20) };
        let again = field.act(&action(1, extend)).await;
        if !extended {
            // It is gone, and is not made again: its machine could not know its secret.
            assert_eq!(again.unwrap_err().kind, FailureKind::NotFound);
            continue;
        }
        assert_eq!(again, Ok(Done::Accepted));
        let Ok(Done::Created { vm }) = field.act(&create(1, "w-1")).await else {
            panic!("not created");
        };
        field.server_is(vm.as_str(), ServerStatus::Active).await;
        field.let_in(1, "w-1", &vm).await;
        field.node_is("w-1", Ready::True).await;
    }
}
