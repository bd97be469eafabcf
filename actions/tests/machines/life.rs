//! A node's whole life: made, put to use, drained under a budget, and gone from both sides.

use std::time::Duration;

use rhizome_engine::action::{ActionKind, Done, FailureKind};
use serde_json::{Value, json};

use crate::machines::place::{Place, TAINT, Worker, place, until};

const SPACE: &str = "life";

/// A program that answers, and is ready once it does; grace as its users want it.
fn deployment(replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": SPACE},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 2,
                "nodeSelector": {"life": "yes"},
                "containers": [{"name": "web", "image": "localhost/busybox:stable", "imagePullPolicy": "Never",
                    "command": ["httpd", "-f", "-p", "8080", "-h", "/etc"],
                    "readinessProbe": {"periodSeconds": 1, "httpGet": {"port": 8080, "path": "/passwd"}}}]}}}})
}

fn budget(least: u32) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep", "namespace": SPACE},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}}})
}

/// Waits until so many of the pods are ready, and the budget has counted them.
async fn available(place: &Place, how_many: u64) {
    until("the pods to be ready", || {
        let deployment = place.get(&["deployment", "web", "-n", SPACE]);
        deployment["status"]["availableReplicas"].as_u64() == Some(how_many)
    })
    .await;
}

/// Puts the budget in place, and waits until it has counted.
async fn budgeted(place: &Place, least: u32, healthy: u64) {
    place.apply(&budget(least));
    until("the budget to count", || {
        let budget = place.get(&["poddisruptionbudget", "keep", "-n", SPACE]);
        budget["status"]["currentHealthy"].as_u64() == Some(healthy)
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
    })
    .await;
}

async fn label(place: &Place, worker: &Worker) {
    let label = ActionKind::LabelNode {
        node: worker.node.clone(),
        labels: [("life".to_owned(), "yes".to_owned())].into(),
    };
    assert_eq!(place.act(worker.number, label).await, Ok(Done::Accepted));
}

#[tokio::test]
async fn a_node_is_made_serves_is_drained_under_its_budget_and_is_gone() {
    let Some(place) = place().await else {
        return;
    };
    let first = place.add("life-1").await;
    // cloud-init has done all that the template says: the token is not left lying about.
    until("cloud-init to be done", || {
        let (done, _) = place.switch(
            "sh",
            &first,
            &["test", "!", "-e", "/etc/kubernetes/join.yaml"],
        );
        done
    })
    .await;
    let taints = &place.get(&["node", &first.name])["spec"]["taints"];
    let taint =
        json!({"key": "example.org/pool", "value": "workers", "effect": "PreferNoSchedule"});
    assert!(
        taints.as_array().is_some_and(|all| all.contains(&taint)),
        "not {TAINT}: {taints}"
    );
    place.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}));
    label(&place, &first).await;
    place.apply(&deployment(2));
    available(&place, 2).await;
    assert_eq!(place.pods_on(SPACE, &first).len(), 2);

    // A budget that cannot give way stops the drain, and is named.
    budgeted(&place, 2, 2).await;
    let cordon = ActionKind::Cordon {
        node: first.node.clone(),
    };
    assert_eq!(place.act(first.number, cordon).await, Ok(Done::Accepted));
    let drain = ActionKind::Drain {
        node: first.node.clone(),
    };
    let limit = Duration::from_secs(10);
    let failure = place.within(limit, first.number, drain.clone()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    assert!(failure.message.contains("keep"), "{failure}");
    available(&place, 2).await;

    // With another node to go to they leave one after the other, and one always answers.
    let second = place.add("life-2").await;
    label(&place, &second).await;
    budgeted(&place, 1, 2).await;
    let drained = place.act(first.number, drain).await;
    assert_eq!(drained, Ok(Done::Drained { evicted: 2 }));
    available(&place, 2).await;
    assert_eq!(place.pods_on(SPACE, &second).len(), 2);
    assert!(place.pods_on(SPACE, &first).is_empty());

    place.remove(&first).await;
    place.kubectl(&["delete", "namespace", SPACE, "--timeout=5m"]);
    place.remove(&second).await;
}
