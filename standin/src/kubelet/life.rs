//! The Node, its Lease and its pods, with the node's own certificate.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::{Api, Join, JoinError};
use crate::json::{items, text, text_or_empty};
use crate::world::{micros, seconds};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// How often a kubelet renews its Lease.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often it looks at its pods; a real one watches.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Makes the Node, or takes over the one that is there, as a kubelet does. Its uid.
pub(super) async fn register(api: &Api, join: &Join) -> Result<String, JoinError> {
    let size = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": join.node, "labels": {"kubernetes.io/hostname": join.node,
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
        "spec": {"providerID": join.provider_id},
        "status": {"capacity": size, "allocatable": size, "conditions": conditions()}});
    let (status, mut answer) = api.ask(Method::POST, "/api/v1/nodes", &node).await?;
    if status == StatusCode::CONFLICT {
        let path = format!("/api/v1/nodes/{}/status", join.node);
        let report = json!({"status": {"conditions": conditions()}});
        answer = api
            .insist("its node's status", Method::PATCH, &path, &report)
            .await?;
    } else if !status.is_success() {
        return Err(super::refused("its node", status, &answer));
    }
    let uid = text_or_empty(&answer, "/metadata/uid").to_owned();
    renew(api, &join.node, &uid).await?;
    Ok(uid)
}

fn conditions() -> Value {
    let now = seconds(now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status"
        ),
    ])
}

/// Renews the Lease and runs pods, for ever. What fails is tried again at the next turn.
pub(super) async fn live(api: &Api, node: &str, uid: &str) {
    let mut turns = tokio::time::interval(LOOK_EVERY);
    let mut renewed = tokio::time::Instant::now();
    loop {
        turns.tick().await;
        if renewed.elapsed() >= RENEW_EVERY {
            renewed = tokio::time::Instant::now();
            if let Err(error) = renew(api, node, uid).await {
                tracing::debug!(%error, node, "lease not renewed");
            }
        }
        if let Err(error) = run_pods(api, node).await {
            tracing::debug!(%error, node, "pods not looked after");
        }
    }
}

async fn renew(api: &Api, node: &str, uid: &str) -> Result<(), JoinError> {
    let spec =
        json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": micros(now())});
    let path = format!("{LEASES}/{node}");
    let (status, _) = api
        .ask(Method::PATCH, &path, &json!({"spec": spec}))
        .await?;
    if status == StatusCode::NOT_FOUND {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": node, "namespace": "kube-node-lease", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]},
            "spec": spec});
        api.insist("its lease", Method::POST, LEASES, &lease)
            .await?;
    }
    Ok(())
}

/// Starts what waits and ends what is on its way out.
async fn run_pods(api: &Api, node: &str) -> Result<(), JoinError> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let pods = api
        .insist("its pods", Method::GET, &path, &Value::Null)
        .await?;
    for pod in items(&pods, "/items") {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            text_or_empty(pod, "/metadata/namespace"),
            text_or_empty(pod, "/metadata/name")
        );
        if text(pod, "/metadata/deletionTimestamp").is_some() {
            let end = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": text(pod, "/metadata/uid")}});
            api.ask(Method::DELETE, &path, &end).await?;
        } else if text(pod, "/status/phase") == Some("Pending") {
            let now = seconds(now());
            let conditions: Vec<Value> = ["Initialized", "ContainersReady", "Ready"]
                .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
                .into();
            let status =
                json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}});
            api.ask(Method::PATCH, &format!("{path}/status"), &status)
                .await?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a guest of a real cluster lives by the wall's clock"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
