//! The volumes of a node whose VM is off.

use rhizome_engine::action::{ActionKind, Done, taint};
use rhizome_engine::event::{Ready, ServerStatus};
use rhizome_standin::{Kind, checker};
use serde_json::json;

use crate::field::{Field, node};

fn attached(field: &Field) -> bool {
    field
        .standin
        .world(|world| world.cluster.list(Kind::VolumeAttachment).count() > 0)
}

#[tokio::test]
async fn the_volumes_of_a_fenced_node_detach_when_it_is_out_of_service() {
    let field = Field::start().await;
    let (vm, w1) = field.add(1, "w-1").await;
    field.standin.world(|world| {
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}});
        world.put_object(
            Kind::Pod,
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "db-0", "namespace": "default"},
                "spec": {"nodeName": "w-1", "volumes": [claim],
                    "containers": [{"name": "main", "image": "x"}]},
                "status": {"phase": "Running"}}),
        );
        world.put_object(
            Kind::VolumeAttachment,
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": "csi-1"},
                "spec": {"attacher": "a", "nodeName": "w-1",
                    "source": {"persistentVolumeName": "data"}},
                "status": {"attached": true}}),
        );
    });
    field
        .done(2, ActionKind::StopServer { vm: vm.clone() })
        .await;
    field.server_is(vm.id.as_str(), ServerStatus::Shutoff).await;
    field.node_is("w-1", Ready::Unknown).await;
    assert!(attached(&field), "its pod is there still");

    let out = ActionKind::OutOfService { node: w1.clone() };
    assert_eq!(field.done(2, out.clone()).await, Done::Accepted);
    assert_eq!(field.done(2, out).await, Done::Already);
    field.until(|_| (!attached(&field)).then_some(())).await;
    let is_out = |field: &Field| {
        let wire = field.standin.world(|world| {
            let node = world.cluster.get(Kind::Node, "", "w-1");
            node.cloned()
        });
        wire.unwrap().to_string().contains(taint::OUT_OF_SERVICE)
    };
    assert!(is_out(&field));
    let before = node(&field.look().await, "w-1").unwrap().taints.len();

    let back = ActionKind::InService { node: w1 };
    assert_eq!(field.done(2, back.clone()).await, Done::Accepted);
    assert_eq!(field.done(2, back).await, Done::Already);
    assert!(!is_out(&field));
    // What others say of the node stays.
    let after = node(&field.look().await, "w-1").unwrap().taints.len();
    assert!(after > 0 && after == before - 1, "{before}, {after}");
    let ledger = field.standin.ledger();
    assert_eq!(checker::out_of_service_after_its_server(&ledger), []);
}
