//! Attached volumes, and when they are let go.

use reqwest::Method;
use rhizome_standin::{Cure, Illness, Kind};
use serde_json::json;

use crate::Bench;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A node with a pod that has a claim, and its volume attached.
async fn with_a_volume() -> Bench {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    bench.add_node("w2", "bbbbbb").await;
    let pod = json!({"metadata": {"name": "db-0"},
        "spec": {"nodeName": "w1", "containers": [{"name": "c", "image": "x"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    bench.kube(Method::POST, PODS, Some(pod)).await;
    let attachment = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
        "metadata": {"name": "csi-1"}, "spec": {"attacher": "a", "nodeName": "w1",
            "source": {"persistentVolumeName": "data"}}});
    let path = "/apis/storage.k8s.io/v1/volumeattachments";
    let made = bench.kube(Method::POST, path, Some(attachment)).await;
    assert_eq!(made.status, 201, "{made:?}");
    bench.advance(600);
    assert!(is_attached(&bench), "its pod runs");
    bench
}

fn is_attached(bench: &Bench) -> bool {
    bench.standin.world(|world| {
        let one = world.cluster.get(Kind::VolumeAttachment, "", "csi-1");
        one.is_some()
    })
}

async fn force_delete(bench: &Bench) {
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    bench
        .kube(Method::DELETE, &format!("{PODS}/db-0"), Some(now))
        .await;
}

async fn out_of_service(bench: &Bench) {
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service",
        "value": "nodeshutdown", "effect": "NoExecute"}]}});
    bench
        .patch("/api/v1/nodes/w1", "strategic-merge-patch", taint)
        .await;
}

fn die(bench: &Bench) {
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.advance(70);
}

#[tokio::test]
async fn a_volume_goes_with_its_pod_where_the_kubelet_says_so() {
    let bench = with_a_volume().await;
    force_delete(&bench).await;
    bench.advance(1);
    assert!(!is_attached(&bench));
}

#[tokio::test]
async fn a_volume_of_a_dead_node_goes_six_minutes_after_its_pod() {
    let bench = with_a_volume().await;
    die(&bench);
    force_delete(&bench).await;
    bench.advance(355);
    assert!(is_attached(&bench));
    bench.advance(10);
    assert!(!is_attached(&bench));
}

#[tokio::test]
async fn a_volume_of_a_node_out_of_service_goes_with_its_pod_at_the_next_collection() {
    let bench = with_a_volume().await;
    die(&bench);
    out_of_service(&bench).await;
    bench.advance(1);
    let pod = bench.kube(Method::GET, &format!("{PODS}/db-0"), None).await;
    assert!(
        pod.body["metadata"]["deletionTimestamp"].is_string(),
        "it is marked at once: {pod:?}"
    );
    bench.advance(22);
    let pod = bench.kube(Method::GET, &format!("{PODS}/db-0"), None).await;
    assert_eq!(pod.status, 404);
    assert!(!is_attached(&bench));
}
