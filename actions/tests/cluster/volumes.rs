//! The volumes of a node that is off, with the real attach-detach controller.
//!
//! There is no driver behind them: the controller makes and deletes attachments all the same, and
//! the test says in the driver's place that they are done.

use rhizome_engine::action::{ActionKind, Done, taint};
use serde_json::{Value, json};

use crate::cluster::drains::{running, space};
use crate::cluster::place::{Ours, number, until};

const DRIVER: &str = "volumes.rhizome.test";

/// A claim with its volume, bound to each other.
async fn claim(ours: &Ours, space: &str) {
    ours.place
        .apply(&json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": space},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "csi": {"driver": DRIVER, "volumeHandle": space},
            "claimRef": {"namespace": space, "name": "data"}}}));
    ours.place
        .apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": space},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": space,
            "resources": {"requests": {"storage": "1Gi"}}}}));
    until("the claim to be bound", || {
        let claim = ours.place.get(&["pvc", "data", "-n", space]);
        (claim["status"]["phase"] == "Bound").then_some(())
    })
    .await;
}

/// The attachment to the node, if there is one.
fn attachment(ours: &Ours, node: &str) -> Option<Value> {
    let all = ours.place.get(&["volumeattachments"]);
    let items = all["items"].as_array().unwrap();
    items
        .iter()
        .find(|one| one["spec"]["nodeName"] == node)
        .cloned()
}

/// Writes a status in the place of whoever should.
fn report(ours: &Ours, what: &[&str], status: &Value) {
    let patch = json!({"status": status}).to_string();
    let rest = ["--subresource=status", "-p", &patch];
    let (verb, form) = (["patch"], ["--type=merge"]);
    ours.place
        .kubectl(&[verb.as_slice(), what, form.as_slice(), rest.as_slice()].concat());
}

#[tokio::test]
async fn the_volumes_of_a_fenced_node_detach_when_it_is_out_of_service() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (kubelet, node) = ours.add(number(), "volume-a").await;
    let managed = "volumes.kubernetes.io/controller-managed-attach-detach=true";
    ours.place
        .kubectl(&["annotate", "node", "volume-a", managed]);
    space(&ours, "volume-a").await;
    claim(&ours, "volume-a").await;
    ours.place.apply(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "db-0", "namespace": "volume-a"},
        "spec": {"nodeName": "volume-a", "containers": [{"name": "c", "image": "none"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}));
    running(&ours, "volume-a", 1).await;
    let made = until("the attachment", || attachment(&ours, "volume-a")).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    report(
        &ours,
        &["volumeattachment", name],
        &json!({"attached": true}),
    );
    // A pod of which no container is said to run counts as ended as soon as it is deleted.
    let runs = json!([{"name": "c", "image": "none", "imageID": "", "restartCount": 0,
        "ready": true, "state": {"running": {}}}]);
    report(
        &ours,
        &["pod", "db-0", "-n", "volume-a"],
        &json!({"containerStatuses": runs}),
    );
    // In use, as a kubelet reports: only six minutes, or the word of who fenced it, detach it then.
    let used = format!("kubernetes.io/csi/{DRIVER}^volume-a");
    report(
        &ours,
        &["node", "volume-a"],
        &json!({"volumesInUse": [used]}),
    );

    // The machine goes off, and the cluster has noticed.
    drop(kubelet);
    let ill = json!([{"type": "Ready", "status": "False", "reason": "KubeletNotReady",
        "message": "off"}]);
    report(&ours, &["node", "volume-a"], &json!({"conditions": ill}));
    let pod = ours.place.get(&["pod", "db-0", "-n", "volume-a"]);
    assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    assert!(attachment(&ours, "volume-a").is_some());

    let mine = number();
    let out = ActionKind::OutOfService { node: node.clone() };
    assert_eq!(ours.done(mine, out.clone()).await, Done::Accepted);
    assert_eq!(ours.done(mine, out).await, Done::Already);
    until("the volume to be detached", || {
        attachment(&ours, "volume-a").is_none().then_some(())
    })
    .await;
    let pods = ours.place.get(&["pods", "-n", "volume-a"]);
    assert_eq!(pods["items"].as_array().unwrap().len(), 0, "{pods}");

    let back = ActionKind::InService { node };
    assert_eq!(ours.done(mine, back.clone()).await, Done::Accepted);
    assert_eq!(ours.done(mine, back).await, Done::Already);
    let seen = ours.node("volume-a").await.unwrap();
    let is_out = |one: &rhizome_engine::event::Taint| one.key == taint::OUT_OF_SERVICE;
    assert!(!seen.taints.iter().any(is_out), "{seen:?}");
    // What the cluster itself says of the node stays.
    assert!(!seen.taints.is_empty(), "{seen:?}");
}
