//! What happens to machines, and what the cloud and the cluster say of it.

use rhizome_engine::action::{ActionKind, Done};
use rhizome_engine::event::{Ready, ServerStatus};
use serde_json::json;

use crate::machines::place::{Place, Worker, place, until};

const SPACE: &str = "faults";

#[tokio::test]
async fn a_pulled_plug_a_hang_a_pulled_cable_and_a_reboot_are_seen_as_what_they_are() {
    let Some(place) = place().await else {
        return;
    };
    place.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}));
    let (plug, hang, cable) = tokio::join!(
        place.add("fault-plug"),
        place.add("fault-hang"),
        place.add("fault-cable"),
    );
    for worker in [&plug, &hang, &cable] {
        pod(&place, worker).await;
    }

    // A quick reboot is seen by nothing but the boot's own id: the node never leaves Ready.
    let before = place.boot_id(&plug);
    reboot(&place, &plug, false).await;
    until("another boot", || place.boot_id(&plug) != before).await;
    place.node_is(&plug.name, Ready::True).await;

    let before = [&plug, &hang, &cable].map(|worker| place.boot_id(worker));
    for (what, worker) in [("kill", &plug), ("freeze", &hang), ("cut", &cable)] {
        assert!(place.switch(what, worker, &[]).0, "{what}");
    }
    // Nova knows of the plug, and of nothing else.
    place.server_is(&plug.vm.id, ServerStatus::Shutoff).await;
    for worker in [&plug, &hang, &cable] {
        place.node_is(&worker.name, Ready::Unknown).await;
    }
    for worker in [&hang, &cable] {
        place.server_is(&worker.vm.id, ServerStatus::Active).await;
    }

    // A hard reboot is a way out of the first two; a cable needs but to be put back.
    reboot(&place, &plug, true).await;
    reboot(&place, &hang, true).await;
    assert!(place.switch("mend", &cable, &[]).0);
    for worker in [&plug, &hang, &cable] {
        place.node_is(&worker.name, Ready::True).await;
    }
    let after = [&plug, &hang, &cable].map(|worker| place.boot_id(worker));
    assert_ne!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    assert_eq!(before[2], after[2], "its machine never stopped");
    for worker in [&plug, &hang] {
        until("the pod to run again", || place.restarts(SPACE, worker) > 0).await;
    }
    assert_eq!(place.restarts(SPACE, &cable), 0);
    place.kubectl(&["delete", "namespace", SPACE, "--timeout=5m"]);
    for worker in [&plug, &hang, &cable] {
        place.remove(worker).await;
    }
}

/// A pod of its own for a node, running.
async fn pod(place: &Place, worker: &Worker) {
    place.apply(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": worker.name, "namespace": SPACE},
        "spec": {"nodeName": worker.name, "terminationGracePeriodSeconds": 1,
            // It stays when its node is not heard of.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "sleep", "image": "localhost/busybox:stable", "imagePullPolicy": "Never",
                "command": ["sleep", "1000000"]}]}}));
    until("the pod to run", || {
        let pods = place.pods_on(SPACE, worker);
        pods.iter().any(|pod| pod["status"]["phase"] == "Running")
    })
    .await;
}

/// By our action; back when the server is ACTIVE and nothing is under way.
async fn reboot(place: &Place, worker: &Worker, hard: bool) {
    let reboot = ActionKind::RebootServer {
        vm: worker.vm.clone(),
        hard,
    };
    assert_eq!(place.act(worker.number, reboot).await, Ok(Done::Accepted));
    place.server_is(&worker.vm.id, ServerStatus::Active).await;
}
