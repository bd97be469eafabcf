//! Nodes and their leases: what Rhizome and a kubelet ask of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::side::Side;

/// A Node as a kubelet makes it, reporting well.
pub(crate) fn node(name: &str) -> Value {
    let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "kubelet is posting ready status", "lastHeartbeatTime": "2026-11-25T12:00:00Z",
        "lastTransitionTime": "2026-11-25T12:00:00Z"});
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "contract": name}},
        "spec": {},
        "status": {"capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}, "conditions": [condition]}})
}

/// Creates it, unnoted, and waits until the controllers have had their say.
pub(crate) async fn create(side: &Side, name: &str) -> Value {
    side.prepare(Method::POST, "/api/v1/nodes", "", node(name))
        .await;
    settled(side, name).await
}

async fn settled(side: &Side, name: &str) -> Value {
    side.until(&path(name), |_, node| {
        node["spec"]["taints"].is_null()
            && !node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"].is_null()
    })
    .await
}

fn path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

pub(crate) async fn changes(side: &mut Side) {
    let node_path = path("contract-a");
    side.ask("create", Method::POST, "/api/v1/nodes", node("contract-a"))
        .await;
    side.ask(
        "create again",
        Method::POST,
        "/api/v1/nodes",
        node("contract-a"),
    )
    .await;
    let now = settled(side, "contract-a").await;
    side.ask("get", Method::GET, &node_path, Value::Null).await;
    side.ask(
        "get another",
        Method::GET,
        &path("contract-none"),
        Value::Null,
    )
    .await;
    let guard = json!({"uid": now["metadata"]["uid"],
        "resourceVersion": now["metadata"]["resourceVersion"]});
    let mut guarded = json!({"metadata": guard, "spec": {"unschedulable": true}});
    side.ask_as(
        "cordon",
        Method::PATCH,
        &node_path,
        "merge-patch",
        guarded.clone(),
    )
    .await;
    let cordoned = |_: u16, node: &Value| !node["spec"]["taints"].is_null();
    side.until(&node_path, cordoned).await;
    side.ask("get it cordoned", Method::GET, &node_path, Value::Null)
        .await;
    side.ask_as(
        "cordon an old version",
        Method::PATCH,
        &node_path,
        "merge-patch",
        guarded.clone(),
    )
    .await;
    guarded["metadata"] = json!({"uid": "00000000-0000-0000-0000-000000000000"});
    side.ask_as(
        "cordon another uid",
        Method::PATCH,
        &node_path,
        "merge-patch",
        guarded,
    )
    .await;
    let uncordon = json!({"spec": {"unschedulable": null}});
    side.ask_as(
        "uncordon",
        Method::PATCH,
        &node_path,
        "merge-patch",
        uncordon,
    )
    .await;
    settled(side, "contract-a").await;
    let label = json!({"metadata": {"labels": {"role": "worker"}}});
    side.ask_as(
        "label",
        Method::PATCH,
        &node_path,
        "merge-patch",
        label.clone(),
    )
    .await;
    side.ask_as(
        "label again",
        Method::PATCH,
        &node_path,
        "merge-patch",
        label,
    )
    .await;
    let misspelt = json!({"spec": {"unschedulabel": true}});
    side.ask_as(
        "misspell",
        Method::PATCH,
        &node_path,
        "merge-patch",
        misspelt,
    )
    .await;
    let dry = format!("{node_path}?dryRun=All");
    let cordon = json!({"spec": {"unschedulable": true}});
    side.ask_as("cordon dryly", Method::PATCH, &dry, "merge-patch", cordon)
        .await;
    let vm = |id: &str| json!({"spec": {"providerID": id}});
    side.ask_as(
        "provider id",
        Method::PATCH,
        &node_path,
        "merge-patch",
        vm("openstack:///a"),
    )
    .await;
    side.ask_as(
        "another provider id",
        Method::PATCH,
        &node_path,
        "merge-patch",
        vm("openstack:///b"),
    )
    .await;
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service",
        "value": "nodeshutdown", "effect": "NoExecute"}]}});
    side.ask_as("taint", Method::PATCH, &node_path, "merge-patch", taint)
        .await;
    let untaint = json!({"spec": {"taints": null}});
    side.ask_as("untaint", Method::PATCH, &node_path, "merge-patch", untaint)
        .await;
    side.ask_as(
        "patch none",
        Method::PATCH,
        &path("contract-none"),
        "merge-patch",
        vm("x"),
    )
    .await;
}

pub(crate) async fn removal(side: &mut Side) {
    let node_path = path("contract-b");
    let node = create(side, "contract-b").await;
    let options = |uid: &Value| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    let another = json!("00000000-0000-0000-0000-000000000000");
    side.ask(
        "delete another uid",
        Method::DELETE,
        &node_path,
        options(&another),
    )
    .await;
    let dry = format!("{node_path}?dryRun=All");
    side.ask("delete dryly", Method::DELETE, &dry, Value::Null)
        .await;
    let mut dryly = options(&node["metadata"]["uid"]);
    dryly["dryRun"] = json!(["All"]);
    side.ask(
        "delete dryly, by the body",
        Method::DELETE,
        &node_path,
        dryly,
    )
    .await;
    side.ask(
        "delete",
        Method::DELETE,
        &node_path,
        options(&node["metadata"]["uid"]),
    )
    .await;
    side.ask(
        "delete again",
        Method::DELETE,
        &node_path,
        options(&node["metadata"]["uid"]),
    )
    .await;
    create(side, "contract-c").await;
    let held = json!({"metadata": {"finalizers": ["example.org/hold"]}});
    let node_path = path("contract-c");
    side.prepare(Method::PATCH, &node_path, "merge-patch", held)
        .await;
    side.ask(
        "delete one that is held",
        Method::DELETE,
        &node_path,
        Value::Null,
    )
    .await;
    side.ask("delete it again", Method::DELETE, &node_path, Value::Null)
        .await;
    let free = json!({"metadata": {"finalizers": null}});
    side.ask_as("let it go", Method::PATCH, &node_path, "merge-patch", free)
        .await;
    side.ask("get it", Method::GET, &node_path, Value::Null)
        .await;
    let node = create(side, "contract-e").await;
    let dry = format!("{}?dryRun=All", path("contract-e"));
    side.ask(
        "options in the body, and more in the query that nobody reads",
        Method::DELETE,
        &dry,
        options(&node["metadata"]["uid"]),
    )
    .await;
    side.ask("it is gone", Method::GET, &path("contract-e"), Value::Null)
        .await;
}

pub(crate) async fn leases(side: &mut Side) {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let node = create(side, "contract-d").await;
    let lease = |time: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "contract-d", "namespace": "kube-node-lease", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "contract-d", "uid": node["metadata"]["uid"]}]},
        "spec": {"holderIdentity": "contract-d", "leaseDurationSeconds": 40, "renewTime": time}})
    };
    let first = "2026-11-25T12:00:00.000000Z";
    let made = side.ask("create", Method::POST, LEASES, lease(first)).await;
    let own = format!("{LEASES}/contract-d");
    side.ask("get", Method::GET, &own, Value::Null).await;
    let mut next = lease("2026-11-25T12:00:10.000000Z");
    next["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    side.ask("renew", Method::PUT, &own, next.clone()).await;
    side.ask("renew an old version", Method::PUT, &own, next)
        .await;
    let chosen = format!("{LEASES}?fieldSelector=metadata.name%3Dcontract-d");
    side.ask("list", Method::GET, &chosen, Value::Null).await;
    side.prepare(Method::DELETE, &path("contract-d"), "", Value::Null)
        .await;
    side.until(&own, |status, _| status == 404).await;
    side.ask("it went with its node", Method::GET, &own, Value::Null)
        .await;
}
