//! Pods: where they run, and what becomes of those of a node that is dead.

use reqwest::Method;
use rhizome_standin::{Cure, Illness, Kind};
use serde_json::{Value, json};

use crate::Bench;

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

pub(crate) fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

pub(crate) fn budget(name: &str, min_available: u32) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": "web"}}}})
}

pub(crate) fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"}})
}

pub(crate) async fn evict(bench: &Bench, name: &str) -> crate::Got {
    let path = format!("{PODS}/{name}/eviction");
    bench.kube(Method::POST, &path, Some(eviction(name))).await
}

/// A node with two running pods of one app.
pub(crate) async fn with_two_pods() -> Bench {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    for name in ["a", "b"] {
        bench
            .kube(Method::POST, PODS, Some(pod(name, "100m")))
            .await;
    }
    bench.advance(2);
    let a = bench
        .kube(Method::GET, &format!("{PODS}/a"), None)
        .await
        .body;
    assert_eq!(
        (&a["status"]["phase"], &a["spec"]["nodeName"]),
        (&json!("Running"), &json!("w1"))
    );
    bench
}

#[tokio::test]
async fn a_pod_without_room_says_so_in_the_schedulers_words() {
    let bench = Bench::start().await;
    let unschedulable = async || {
        let pod = bench
            .kube(Method::GET, &format!("{PODS}/big"), None)
            .await
            .body;
        let condition = pod["status"]["conditions"][0].clone();
        (
            condition["reason"].as_str().unwrap().to_owned(),
            condition["message"].as_str().unwrap().to_owned(),
        )
    };
    bench
        .kube(Method::POST, PODS, Some(pod("big", "100")))
        .await;
    bench.advance(1);
    assert_eq!(
        unschedulable().await.1,
        "no nodes available to schedule pods"
    );
    bench.add_node("w1", "aaaaaa").await;
    let (reason, message) = unschedulable().await;
    assert_eq!(reason, "Unschedulable");
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"spec": {"unschedulable": true}}),
        )
        .await;
    bench.advance(1);
    assert!(
        unschedulable()
            .await
            .1
            .contains("1 node(s) were unschedulable")
    );
    let mut gated = pod("gated", "1m");
    gated["spec"]["schedulingGates"] = json!([{"name": "g"}]);
    bench.kube(Method::POST, PODS, Some(gated)).await;
    bench.advance(1);
    let got = bench
        .kube(Method::GET, &format!("{PODS}/gated"), None)
        .await
        .body;
    assert_eq!(
        got["status"]["conditions"][0]["reason"],
        json!("SchedulingGated")
    );
}

#[tokio::test]
async fn a_dead_nodes_pods_are_marked_after_300_s_and_stay_for_ever() {
    let bench = with_two_pods().await;
    bench.add_node("w2", "bbbbbb").await;
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.advance(340);
    let pod = async || bench.kube(Method::GET, &format!("{PODS}/a"), None).await;
    assert_eq!(pod().await.body["metadata"].get("deletionTimestamp"), None);
    bench.advance(30);
    let marked = pod().await.body;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["status"]["phase"], json!("Running"));
    bench.advance(3_600);
    assert_eq!(pod().await.status, 200, "nobody ends it");
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    bench.advance(61);
    assert_eq!(pod().await.status, 404, "collected with its node");
}

#[tokio::test]
async fn when_most_of_a_zone_is_silent_nothing_is_evicted() {
    let bench = Bench::start().await;
    for (name, token) in [
        ("w1", "aaaaaa"),
        ("w2", "bbbbbb"),
        ("w3", "cccccc"),
        ("w4", "dddddd"),
    ] {
        bench.add_node(name, token).await;
    }
    for name in ["w1", "w2", "w3"] {
        bench
            .standin
            .world(|world| world.fall_ill(name, Illness::Hung, Cure::Nothing));
    }
    bench.advance(200);
    let nodes = bench.kube(Method::GET, "/api/v1/nodes", None).await.body;
    let count = |effect: &str| {
        nodes["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| {
                node["spec"]["taints"]
                    .as_array()
                    .is_some_and(|taints| taints.iter().any(|t| t["effect"] == effect))
            })
            .count()
    };
    assert_eq!(count("NoSchedule"), 3);
    assert!(
        count("NoExecute") <= 2,
        "one or two were faster than the next look"
    );
}

#[tokio::test]
async fn out_of_service_ends_the_pods_of_a_dead_node() {
    let bench = with_two_pods().await;
    bench.add_node("w2", "bbbbbb").await;
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.advance(60);
    bench.kube(Method::DELETE, &format!("{PODS}/a"), None).await;
    bench.advance(100);
    assert_eq!(
        bench
            .kube(Method::GET, &format!("{PODS}/a"), None)
            .await
            .status,
        200
    );
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]}});
    bench
        .patch("/api/v1/nodes/w1", "strategic-merge-patch", taint)
        .await;
    bench.advance(21);
    assert_eq!(
        bench
            .kube(Method::GET, &format!("{PODS}/a"), None)
            .await
            .status,
        404
    );
    assert!(
        bench
            .standin
            .world(|world| world.cluster.get(Kind::Node, "", "w1").is_some())
    );
}
