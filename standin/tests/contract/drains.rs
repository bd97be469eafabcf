//! Pods on their way out: evictions, budgets, deletions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::nodes;
use crate::side::Side;

/// A namespace with a node of its own to run pods on. The namespace's pods.
async fn room(side: &Side, name: &str) -> String {
    let space = json!({"metadata": {"name": name}});
    side.prepare(Method::POST, "/api/v1/namespaces", "", space)
        .await;
    nodes::create(side, name).await;
    side.ready_for_pods(name).await;
    format!("/api/v1/namespaces/{name}/pods")
}

fn pod(name: &str, node: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "none"}]}})
}

/// A pod that runs and is ready, as its kubelet would report.
async fn running(side: &Side, pods: &str, name: &str, node: &str, app: &str) -> Value {
    side.prepare(Method::POST, pods, "", pod(name, node, app))
        .await;
    let status = json!({"status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}});
    let path = format!("{pods}/{name}/status");
    side.prepare(Method::PATCH, &path, "merge-patch", status)
        .await
}

async fn budget(side: &Side, space: &str, name: &str, spec: Value) {
    let budgets = format!("/apis/policy/v1/namespaces/{space}/poddisruptionbudgets");
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name}, "spec": spec});
    side.prepare(Method::POST, &budgets, "", budget).await;
}

async fn observed(side: &Side, space: &str, name: &str, healthy: u64) {
    let path = format!("/apis/policy/v1/namespaces/{space}/poddisruptionbudgets/{name}");
    side.until(&path, |_, budget| {
        budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
            && budget["status"]["currentHealthy"] == healthy
    })
    .await;
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}})
}

async fn evict(side: &mut Side, what: &str, pods: &str, name: &str, body: Value) {
    let path = format!("{pods}/{name}/eviction");
    side.ask(what, Method::POST, &path, body).await;
}

pub(crate) async fn evictions(side: &mut Side) {
    let space = "contract-evictions";
    let pods = &room(side, space).await;
    running(side, pods, "free", space, "free").await;
    let mut another = eviction("free");
    another["deleteOptions"] =
        json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    evict(side, "another uid", pods, "free", another).await;
    evict(side, "another name", pods, "free", eviction("other")).await;
    let mut dry = eviction("free");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    evict(side, "dryly", pods, "free", dry).await;
    side.ask("it runs", Method::GET, &format!("{pods}/free"), Value::Null)
        .await;
    evict(side, "evict", pods, "free", eviction("free")).await;
    side.ask("it goes", Method::GET, &format!("{pods}/free"), Value::Null)
        .await;
    evict(side, "evict again", pods, "free", eviction("free")).await;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    side.ask(
        "its kubelet ends it",
        Method::DELETE,
        &format!("{pods}/free"),
        now,
    )
    .await;
    evict(
        side,
        "evict one that is gone",
        pods,
        "free",
        eviction("free"),
    )
    .await;
    let mut mirror = pod("waits", space, "waits");
    mirror["spec"]["nodeName"] = Value::Null;
    mirror["spec"]["nodeSelector"] = json!({"contract": "nowhere"});
    side.prepare(Method::POST, pods, "", mirror).await;
    evict(side, "one that waits", pods, "waits", eviction("waits")).await;
    side.ask(
        "it is gone",
        Method::GET,
        &format!("{pods}/waits"),
        Value::Null,
    )
    .await;
}

pub(crate) async fn budgets(side: &mut Side) {
    let space = "contract-budgets";
    let pods = &room(side, space).await;
    for name in ["b-1", "b-2"] {
        running(side, pods, name, space, "b").await;
    }
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    let two = json!({"minAvailable": 2, "selector": selector("b")});
    budget(side, space, "both", two).await;
    observed(side, space, "both", 2).await;
    let path = format!("/apis/policy/v1/namespaces/{space}/poddisruptionbudgets/both");
    side.ask("a budget", Method::GET, &path, Value::Null).await;
    evict(side, "against it", pods, "b-1", eviction("b-1")).await;
    let mut dry = eviction("b-1");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    evict(side, "against it, dryly", pods, "b-1", dry).await;
    let one = json!({"spec": {"minAvailable": 1}});
    side.prepare(Method::PATCH, &path, "merge-patch", one).await;
    side.until(&path, |_, budget| {
        budget["status"]["disruptionsAllowed"] == 1
    })
    .await;
    evict(side, "within it", pods, "b-1", eviction("b-1")).await;
    observed(side, space, "both", 1).await;
    evict(side, "another", pods, "b-2", eviction("b-2")).await;
    running(side, pods, "c-1", space, "c").await;
    for name in ["first", "second"] {
        let spec = json!({"maxUnavailable": 1, "selector": selector("c")});
        budget(side, space, name, spec).await;
    }
    evict(side, "under two budgets", pods, "c-1", eviction("c-1")).await;
    running(side, pods, "d-1", space, "d").await;
    let naked = json!({"maxUnavailable": 1, "selector": selector("d")});
    budget(side, space, "naked", naked).await;
    observed(side, space, "naked", 1).await;
    evict(side, "without a controller", pods, "d-1", eviction("d-1")).await;
}

pub(crate) async fn deletions(side: &mut Side) {
    let space = "contract-deletions";
    let pods = &room(side, space).await;
    side.ask("create", Method::POST, pods, pod("p", space, "p"))
        .await;
    let running = json!({"status": {"phase": "Running"}});
    let path = format!("{pods}/p");
    side.ask_as(
        "runs",
        Method::PATCH,
        &format!("{path}/status"),
        "merge-patch",
        running,
    )
    .await;
    let by_node = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{space}");
    side.ask("list by node", Method::GET, &by_node, Value::Null)
        .await;
    let grace = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 60});
    side.ask("delete", Method::DELETE, &path, grace).await;
    let shorter = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5});
    side.ask("sooner", Method::DELETE, &path, shorter).await;
    let longer = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 90});
    side.ask("later", Method::DELETE, &path, longer).await;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    side.ask("now", Method::DELETE, &path, now).await;
    side.ask("again", Method::DELETE, &path, Value::Null).await;
}
