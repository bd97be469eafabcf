//! Bootstrap tokens: how they are made, what their holders may, and how a certificate is got.

use reqwest::Method;
use serde_json::{Value, json};

use crate::side::Side;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const SECRET: &str = "f395accd246ae52d";

/// A token of a group for which nothing is approved by itself.
fn token(id: &str, group: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "stringData": {"token-id": id, "token-secret": SECRET, "expiration": "2099-01-01T00:00:00Z",
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": group}})
}

pub(crate) async fn secrets(side: &mut Side) {
    let own = format!("{SECRETS}/bootstrap-token-aaaaaa");
    let group = "system:bootstrappers:rhizome";
    side.ask("create", Method::POST, SECRETS, token("aaaaaa", group))
        .await;
    side.ask(
        "create again",
        Method::POST,
        SECRETS,
        token("aaaaaa", group),
    )
    .await;
    side.ask("get", Method::GET, &own, Value::Null).await;
    let longer = json!({"stringData": {"expiration": "2099-01-01T00:20:00Z"}});
    side.ask_as("extend", Method::PATCH, &own, "merge-patch", longer)
        .await;
    side.ask("delete", Method::DELETE, &own, Value::Null).await;
    side.ask("delete again", Method::DELETE, &own, Value::Null)
        .await;
    let past = json!({"stringData": {"expiration": "2001-01-01T00:00:00Z"}});
    side.prepare(Method::POST, SECRETS, "", token("bbbbbb", group))
        .await;
    let own = format!("{SECRETS}/bootstrap-token-bbbbbb");
    side.prepare(Method::PATCH, &own, "merge-patch", past).await;
    side.until(&own, |status, _| status == 404).await;
    side.ask(
        "an expired one is cleaned away",
        Method::GET,
        &own,
        Value::Null,
    )
    .await;
}

pub(crate) async fn rights(side: &mut Side) {
    let group = "system:bootstrappers:kubeadm:default-node-token";
    side.prepare(Method::POST, SECRETS, "", token("cccccc", group))
        .await;
    let admin = side.log_in(&format!("cccccc.{SECRET}"));
    side.until("/api/v1/nodes/contract-none", |status, _| status == 404)
        .await;
    for (what, path) in [
        ("a node by name", "/api/v1/nodes/contract-none"),
        ("all nodes", "/api/v1/nodes"),
        ("secrets", SECRETS),
        ("cluster-info", CLUSTER_INFO),
        (
            "requests",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests?labelSelector=none",
        ),
    ] {
        side.ask(what, Method::GET, path, Value::Null).await;
    }
    let node = crate::nodes::node("contract-none");
    side.ask("make a node", Method::POST, "/api/v1/nodes", node)
        .await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "nodes"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    side.ask("may it", Method::POST, path, review).await;
    side.log_in(&format!("cccccc.{}", SECRET.replace('f', "e")));
    side.ask("another secret", Method::GET, "/api/v1/nodes", Value::Null)
        .await;
    side.log_in(&admin);
    let gone = format!("{SECRETS}/bootstrap-token-cccccc");
    side.prepare(Method::DELETE, &gone, "", Value::Null).await;
    side.log_in(&format!("cccccc.{SECRET}"));
    side.until("/api/v1/nodes/contract-none", |status, _| status == 401)
        .await;
    side.ask(
        "after it was deleted",
        Method::GET,
        "/api/v1/nodes",
        Value::Null,
    )
    .await;
}

/// A request for the certificate of `contract-n` (a P-256 key), in PEM, in base64 as the API wants it.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIeU1JR2FBZ0VBTURneEZUQVRCZ05WQkFvTURITjVjM1JsYlRwdWIyUmxjekVmTUIwR0ExVUVBd3dXYzNsegpkR1Z0T201dlpHVTZZMjl1ZEhKaFkzUXRiakJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEwSUFCSXlpClovOHpoT2wvOWdJRThhSE0yR29PS1dXUjk1ekZ1NmtqMmhrUy9uMi9FMWpXMDBQbXY3QTJteHdnbDBXRXBUTU4KUDZEcTcvZ0RMcXFNdGUwdVNYV2dBREFLQmdncWhrak9QUVFEQWdOSEFEQkVBaUJHMDlUcDNGcU40MVhyc3BONApyOU1BR2tpVHpvdGx4bXJlTjNnbFgwUjVQUUlnRlRLZmp3T3QxWDZXOXlFRHc0VDgyZ1FoS1krSmc3Y0lVd3JlCjRSSmM0Vnc9Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

pub(crate) async fn certificates(side: &mut Side) {
    let group = "system:bootstrappers:rhizome";
    side.prepare(Method::POST, SECRETS, "", token("dddddd", group))
        .await;
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "contract-n"},
        "spec": {"request": REQUEST, "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"]}});
    let admin = side.log_in(&format!("dddddd.{SECRET}"));
    side.until(CSRS, |status, _| status == 200).await;
    side.ask("ask for one", Method::POST, CSRS, request.clone())
        .await;
    side.ask("ask again", Method::POST, CSRS, request.clone())
        .await;
    side.log_in(&admin);
    let own = format!("{CSRS}/contract-n");
    let mut now = side.ask("it waits", Method::GET, &own, Value::Null).await;
    now["status"]["conditions"] = json!([{"type": "Approved", "status": "True",
        "reason": "RhizomeApproved", "message": "it is the one"}]);
    let approval = format!("{own}/approval");
    side.ask("approve", Method::PUT, &approval, now.clone())
        .await;
    side.ask("approve an old version", Method::PUT, &approval, now)
        .await;
    side.until(&own, |_, csr| !csr["status"]["certificate"].is_null())
        .await;
    side.ask("it is issued", Method::GET, &own, Value::Null)
        .await;
    side.ask("delete", Method::DELETE, &own, Value::Null).await;
    let mut wrong = request;
    wrong["spec"]["signerName"] = json!("nonsense");
    side.ask("a signer that is none", Method::POST, CSRS, wrong)
        .await;
}
