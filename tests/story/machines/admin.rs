//! kubectl, as one who may do everything: what an operator of the cluster does, and the accounts.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::forks;

/// How long an account's token holds.
const LONG: &str = "24h";

/// What it says, good or bad.
pub(crate) fn kubectl(env: &BTreeMap<String, String>, arguments: &[&str]) -> String {
    let mut kubectl = Command::new(&env["kubectl"]);
    kubectl
        .args(["--kubeconfig", &env["kubeconfig"]])
        .args(arguments);
    let output = forks::output(&mut kubectl).unwrap();
    let bytes = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Makes what is described, in place of what there is.
pub(crate) fn apply(env: &BTreeMap<String, String>, object: &Value) {
    let mut kubectl = Command::new(&env["kubectl"]);
    kubectl.args(["--kubeconfig", &env["kubeconfig"]]);
    forks::begin(|| crate::kubectl::apply(&mut kubectl, object));
}

/// So many pods of a pool that do nothing, and a budget by which so many must stay healthy.
pub(crate) fn work(pool: &str, pods: usize, healthy: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment",
         "metadata": {"name": pool, "namespace": "default"},
         "spec": {"replicas": pods, "selector": {"matchLabels": {"app": pool}},
            "template": {"metadata": {"labels": {"app": pool}},
                "spec": {"terminationGracePeriodSeconds": 1, "tolerations": moves_soon(),
                    "nodeSelector": {"example.org/pool": pool},
                    "containers": [{"name": "main", "image": "localhost/busybox:stable",
                        "imagePullPolicy": "IfNotPresent", "command": ["sleep", "86400"],
                        "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}}]}}}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
         "metadata": {"name": pool, "namespace": "default"},
         "spec": {"minAvailable": healthy, "selector": {"matchLabels": {"app": pool}}}}]})
}

/// A pod's tolerations: it goes elsewhere as soon as its node is given up, and not after minutes.
fn moves_soon() -> Value {
    let tolerated = |taint: &str| {
        json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 5})
    };
    json!([tolerated("not-ready"), tolerated("unreachable")])
}

/// Rhizome's account, with the rights that are shipped.
pub(crate) fn service_account(env: &BTreeMap<String, String>) -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml");
    kubectl(env, &["apply", "-f", &manifest.to_string_lossy()]);
    token(env, "rhizome", "rhizome")
}

/// An account that may do everything: ours, to look and to put pods to work.
pub(crate) fn everything(env: &BTreeMap<String, String>) -> String {
    apply(
        env,
        &json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": "story", "namespace": "default"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": "story"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "cluster-admin"},
         "subjects": [{"kind": "ServiceAccount", "name": "story", "namespace": "default"}]}]}),
    );
    token(env, "story", "default")
}

/// A token of an account, for longer than any story takes.
fn token(env: &BTreeMap<String, String>, account: &str, namespace: &str) -> String {
    let create = [
        "create",
        "token",
        account,
        "-n",
        namespace,
        "--duration",
        LONG,
    ];
    let said = kubectl(env, &create);
    assert_eq!(said.split('.').count(), 3, "{said}");
    said
}

/// Takes away what a world had in the cluster.
pub(crate) fn leave(pool: &str, env: &BTreeMap<String, String>) {
    let of_the_pool = format!("example.org/pool={pool}");
    for what in [
        &["deployment,pdb", pool, "--ignore-not-found"][..],
        &["nodes", "--selector", &of_the_pool],
    ] {
        kubectl(env, &[&["delete"], what].concat());
    }
}

/// Takes away what an earlier story left: it would be told of as the world that was there before.
pub(crate) fn clear(env: &BTreeMap<String, String>) {
    let no_master = "!node-role.kubernetes.io/control-plane";
    for what in [
        &["deployment,pdb", "-n", "default", "--all"][..],
        &["nodes", "--selector", no_master],
        &["csr", "--all"],
        &[
            "secrets",
            "-n",
            "kube-system",
            "--field-selector",
            "type=bootstrap.kubernetes.io/token",
        ],
    ] {
        kubectl(env, &[&["delete"], what].concat());
    }
}
