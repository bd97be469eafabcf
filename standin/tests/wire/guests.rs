//! Guests: they join with their token, renew, fall ill, come back, and publish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use rhizome_engine::time::Timestamp;
use rhizome_standin::{Cure, Fact, Illness, Phase};
use serde_json::{Value, json};

use crate::{Bench, user_data};

#[tokio::test]
async fn a_server_with_a_good_token_becomes_a_ready_node() {
    let bench = Bench::start().await;
    let id = bench.add_node("w1", "aaaaaa").await;
    let node = bench.node("w1").await;
    assert_eq!(
        node["spec"]["providerID"],
        json!(format!("openstack:///{id}"))
    );
    assert_eq!(node["spec"].get("taints"), None, "ready: no taint left");
    let lease = bench
        .kube(
            Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1",
            None,
        )
        .await
        .body;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], json!(40));
    assert_eq!(lease["spec"]["holderIdentity"], json!("w1"));
    let first = lease["spec"]["renewTime"].as_str().unwrap().to_owned();
    bench.advance(11);
    let lease = bench
        .kube(
            Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1",
            None,
        )
        .await
        .body;
    assert_ne!(lease["spec"]["renewTime"].as_str().unwrap(), first);
}

#[tokio::test]
async fn a_bad_a_late_and_a_missing_token_join_nothing() {
    let bench = Bench::start().await;
    let expired = bench.bootstrap_token("aaaaaa", 30).await;
    for (name, data) in [
        ("bad", user_data("zzzzzz.f395accd246ae52d", "bad")),
        ("late", user_data(&expired, "late")),
        ("none", "aGk=".to_owned()),
    ] {
        bench.create(name, json!({"user_data": data})).await;
    }
    bench.advance(500);
    let nodes = bench.kube(Method::GET, "/api/v1/nodes", None).await.body;
    assert_eq!(nodes["items"], json!([]));
    bench.standin.world(|world| {
        assert!(
            world
                .guests
                .iter()
                .all(|guest| guest.phase == Phase::NotJoined)
        );
    });
}

#[tokio::test]
async fn a_silent_node_becomes_unknown_after_its_grace_and_comes_back() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    bench.add_node("w2", "bbbbbb").await;
    assert!(
        bench
            .standin
            .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Reboot))
    );
    bench.advance(40);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("True")
    );
    bench.advance(26);
    let node = bench.node("w1").await;
    let ready = node["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready")
        .unwrap();
    assert_eq!(ready["status"], json!("Unknown"));
    assert_eq!(ready["reason"], json!("NodeStatusUnknown"));
    assert_eq!(
        ready["message"],
        json!("Kubelet stopped posting node status.")
    );
    let taints: Vec<(&Value, &Value)> = node["spec"]["taints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (&t["key"], &t["effect"]))
        .collect();
    let key = json!("node.kubernetes.io/unreachable");
    assert_eq!(
        taints,
        [(&key, &json!("NoSchedule")), (&key, &json!("NoExecute"))]
    );
    assert_eq!(
        bench.node_condition("w2", "Ready").await.as_deref(),
        Some("True")
    );
    bench.standin.world(|world| world.recover("w1"));
    bench.advance(12);
    let node = bench.node("w1").await;
    assert_eq!(crate::condition(&node, "Ready"), Some("True"));
    assert_eq!(node["spec"].get("taints"), None);
}

#[tokio::test]
async fn what_a_reboot_cures_and_what_it_does_not() {
    let bench = Bench::start().await;
    let id = bench.add_node("w1", "aaaaaa").await;
    let path = format!("/servers/{id}/action");
    let hard = json!({"reboot": {"type": "HARD"}});
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Reboot));
    bench.advance(70);
    assert_eq!(
        bench.server_status(&id).await,
        "ACTIVE",
        "Nova sees nothing"
    );
    assert_eq!(
        bench
            .nova(Method::POST, &path, Some(hard.clone()))
            .await
            .status,
        202
    );
    bench.advance(50);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("True")
    );

    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.nova(Method::POST, &path, Some(hard)).await;
    bench.advance(120);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("Unknown")
    );
}

#[tokio::test]
async fn a_crash_is_seen_by_nova_in_its_own_time_and_a_stop_at_once() {
    let bench = Bench::start().await;
    let id = bench.add_node("w1", "aaaaaa").await;
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Crashed, Cure::Reboot));
    bench.advance(599);
    assert_eq!(bench.server_status(&id).await, "ACTIVE");
    bench.advance(2);
    assert_eq!(bench.server_status(&id).await, "SHUTOFF");
    // It boots again when it is started, with the certificate that it has.
    let start = json!({"os-start": null});
    bench
        .nova(Method::POST, &format!("/servers/{id}/action"), Some(start))
        .await;
    bench.advance(50);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("True")
    );
}

#[tokio::test]
async fn a_deleted_node_comes_back_only_when_its_kubelet_starts_again() {
    let bench = Bench::start().await;
    let id = bench.add_node("w1", "aaaaaa").await;
    let uid = bench.node("w1").await["metadata"]["uid"].clone();
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    bench
        .kube(
            Method::DELETE,
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaaa",
            None,
        )
        .await;
    bench.advance(60);
    assert_eq!(
        bench
            .kube(Method::GET, "/api/v1/nodes/w1", None)
            .await
            .status,
        404
    );
    let path = format!("/servers/{id}/action");
    bench
        .nova(
            Method::POST,
            &path,
            Some(json!({"reboot": {"type": "SOFT"}})),
        )
        .await;
    bench.advance(50);
    let node = bench.node("w1").await;
    assert_eq!(
        crate::condition(&node, "Ready"),
        Some("True"),
        "no token, yet it is back"
    );
    assert_ne!(node["metadata"]["uid"], uid);
}

#[tokio::test]
async fn a_rebuilt_server_needs_a_new_token() {
    let bench = Bench::start().await;
    let id = bench.add_node("w1", "aaaaaa").await;
    bench
        .kube(
            Method::DELETE,
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaaa",
            None,
        )
        .await;
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    let token = bench.bootstrap_token("bbbbbb", 600).await;
    let path = format!("/servers/{id}/action");
    let rebuild = |data: String| json!({"rebuild": {"imageRef": crate::IMAGE, "user_data": data}});
    let old = rebuild(user_data("aaaaaa.f395accd246ae52d", "w1"));
    bench.nova(Method::POST, &path, Some(old)).await;
    bench.advance(60);
    assert_eq!(
        bench
            .kube(Method::GET, "/api/v1/nodes/w1", None)
            .await
            .status,
        404
    );
    bench
        .nova(Method::POST, &path, Some(rebuild(user_data(&token, "w1"))))
        .await;
    bench.advance(60);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("True")
    );
}

#[tokio::test]
async fn a_second_vm_of_the_same_name_takes_an_unready_node_over() {
    let bench = Bench::start().await;
    let first = bench.add_node("w1", "aaaaaa").await;
    let uid = bench.node("w1").await["metadata"]["uid"].clone();
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"spec": {"unschedulable": true}}),
        )
        .await;
    bench
        .nova(Method::DELETE, &format!("/servers/{first}"), None)
        .await;
    bench.advance(70);
    bench.add_node("w1", "bbbbbb").await;
    let node = bench.node("w1").await;
    assert_eq!(node["metadata"]["uid"], uid);
    assert_eq!(
        node["spec"]["providerID"],
        json!(format!("openstack:///{first}")),
        "the old VM's"
    );
    assert_eq!(node["spec"]["unschedulable"], json!(true));
    let took_over = bench.standin.ledger().facts.iter().any(|(_, fact)| {
        matches!(
            fact,
            Fact::NodeJoined {
                took_over: true,
                ..
            }
        )
    });
    assert!(took_over);
}

#[tokio::test]
async fn agents_publish_the_use_of_the_work_that_is_there() {
    let bench = Bench::start().await;
    let records: Arc<Mutex<Vec<(Timestamp, Value)>>> = Arc::default();
    let kept = Arc::clone(&records);
    bench.standin.deliver_to(move |node, record| {
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["node"], json!(node));
        let at: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
        kept.lock()
            .unwrap()
            .push((Timestamp(at.as_millisecond()), record));
    });
    bench.add_node("w1", "aaaaaa").await;
    bench.standin.world(|world| world.set_demand(1.6));
    bench.advance(60);
    bench.standin.world(|_| ());
    let of = |node: &str, since: Timestamp| -> Vec<f64> {
        records
            .lock()
            .unwrap()
            .iter()
            .filter(|(at, record)| record["node"] == node && *at > since)
            .map(|(_, record)| record["cpu"].as_f64().unwrap())
            .collect()
    };
    let now = bench.standin.world(|world| world.now());
    let alone = of("w1", now.minus(Duration::from_secs(30)));
    assert!(
        alone.len() >= 3 && alone.iter().all(|cpu| (0.75..0.86).contains(cpu)),
        "{alone:?}"
    );
    // A second node takes half of it.
    bench.add_node("w2", "bbbbbb").await;
    bench.advance(30);
    let now = bench.standin.world(|world| world.now());
    let shared = of("w1", now.minus(Duration::from_secs(20)));
    assert!(
        !shared.is_empty() && shared.iter().all(|cpu| (0.38..0.48).contains(cpu)),
        "{shared:?}"
    );
    // One whose agent is lost says nothing; the other agent goes on.
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::AgentLost, Cure::Reboot));
    let now = bench.standin.world(|world| world.now());
    bench.advance(30);
    bench.standin.world(|_| ());
    assert_eq!(of("w1", now).len(), 0);
    assert_eq!(of("w2", now).len(), 3);
    assert_eq!(
        bench.node_condition("w1", "Ready").await.as_deref(),
        Some("True")
    );
}

#[tokio::test]
async fn the_same_requests_at_the_same_times_make_the_same_world() {
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let bench = Bench::start().await;
        let id = bench.add_node("w1", "aaaaaa").await;
        bench
            .standin
            .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Reboot));
        bench.advance(100);
        let node = bench.node("w1").await;
        worlds.push((id, node, bench.standin.ledger().facts));
    }
    assert_eq!(worlds[0], worlds[1]);
}
