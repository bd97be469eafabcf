//! What the watches see, and that they notice when they see nothing.

use std::time::Duration;

use rhizome_actions::Seen;
use rhizome_engine::action::ActionKind;
use rhizome_engine::event::{Observation, Ready, ServerStatus, SourceName, SourceReport};
use rhizome_engine::time::Clock;
use rhizome_standin::{Api, Cure, Fault, Illness, Kind, Rule, Workload};

use crate::field::{Field, Watching};

fn node_ready(name: &str, ready: Ready) -> impl Fn(Seen) -> Option<()> {
    move |seen| {
        let nodes = match seen {
            Seen::Observation(Observation::Node(node)) => vec![node],
            Seen::Observation(Observation::Nodes { nodes, .. }) => nodes,
            _ => return None,
        };
        nodes
            .iter()
            .any(|node| node.name.as_str() == name && node.ready == ready)
            .then_some(())
    }
}

async fn report(
    watching: &mut Watching,
    field: &Field,
    source: SourceName,
    flowing: bool,
) -> SourceReport {
    watching
        .until(field, |seen| match seen {
            Seen::Source(report) if report.source == source && report.flowing == flowing => {
                Some(report)
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn the_watches_tell_a_whole_life() {
    let field = Field::start().await;
    let mut watching = field.watch();
    let (vm, node) = field.add(1, "w-1").await;
    let id = vm.id.clone();
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Servers {
                servers,
                complete: true,
                ..
            }) => servers
                .iter()
                .any(|one| one.id == id && one.status == ServerStatus::Active)
                .then_some(()),
            _ => None,
        })
        .await;
    watching.until(&field, node_ready("w-1", Ready::True)).await;
    let renewed = watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Lease { node, renewed }) => {
                (node.as_str() == "w-1").then_some(renewed)
            }
            _ => None,
        })
        .await;
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Lease { renewed: later, .. }) => {
                (later > renewed).then_some(())
            }
            _ => None,
        })
        .await;
    field.standin.world(|world| {
        let workload = Workload {
            replicas: 2,
            cpu_millis: 1_500,
            ..Workload::default()
        };
        world.set_workload("web", workload);
    });
    // One of them fits, the other waits for room.
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Pods {
                unschedulable,
                shapes,
                nodes,
            }) => (unschedulable.len() == 1
                && shapes
                    .iter()
                    .any(|shape| shape.requests.cpu_millis == 1_500)
                && nodes.values().any(|pods| pods.requests.cpu_millis >= 1_500))
            .then_some(()),
            _ => None,
        })
        .await;
    field
        .standin
        .world(|world| world.fall_ill("w-1", Illness::KubeletLost, Cure::Reboot));
    watching
        .until(&field, node_ready("w-1", Ready::Unknown))
        .await;
    field
        .done(2, ActionKind::DeleteServer { vm: vm.clone() })
        .await;
    watching
        .until(&field, |seen| {
            (seen == Seen::Observation(Observation::ServerGone(vm.id.clone()))).then_some(())
        })
        .await;
    field
        .done(2, ActionKind::DeleteNode { node: node.clone() })
        .await;
    let gone = Seen::Observation(Observation::NodeGone {
        name: node.name.clone(),
        uid: node.uid.clone(),
    });
    // The watch tells it at once; where a listing comes first, that lacks it.
    let unlisted = |seen: &Seen| match seen {
        Seen::Observation(Observation::Nodes { nodes, .. }) => {
            !nodes.iter().any(|listed| listed.name == node.name)
        }
        _ => false,
    };
    watching
        .until(&field, |seen| {
            (seen == gone || unlisted(&seen)).then_some(())
        })
        .await;
    watching.stop.cancel();
    field.passing(watching.task).await.unwrap();
}

#[tokio::test]
async fn keystone_away_is_told_as_not_flowing_and_so_is_its_return() {
    let field = Field::start().await;
    let mut watching = field.watch();
    let well = report(&mut watching, &field, SourceName::Openstack, true).await;
    assert_eq!((well.trouble.as_str(), well.lag), ("", Duration::ZERO));
    field.standin.faults(|faults| faults.keystone_down = true);
    // Nova keeps taking a token that it has seen, so the trouble begins with the next one.
    field.standin.faults(|faults| faults.nova_down = true);
    let ill = report(&mut watching, &field, SourceName::Openstack, false).await;
    assert!(!ill.trouble.is_empty());
    // The cluster is another source, and well.
    report(&mut watching, &field, SourceName::Kubernetes, true).await;
    field.standin.faults(|faults| faults.clear());
    report(&mut watching, &field, SourceName::Openstack, true).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_ends_the_flow_before_nova_refuses_it() {
    let field = Field::start().await;
    let mut watching = field.watch();
    report(&mut watching, &field, SourceName::Openstack, true).await;
    field.standin.faults(|faults| faults.keystone_down = true);
    // More than the life of a token. In one step, as a machine that slept.
    field.clock.advance(Duration::from_secs(3_700));
    let ill = report(&mut watching, &field, SourceName::Openstack, false).await;
    assert!(!ill.trouble.is_empty());
    field.standin.faults(|faults| faults.keystone_down = false);
    report(&mut watching, &field, SourceName::Openstack, true).await;
}

#[tokio::test]
async fn watches_that_fall_silent_are_seen_through() {
    let field = Field::start().await;
    field.add(1, "w-1").await;
    let mut watching = field.watch();
    watching.until(&field, node_ready("w-1", Ready::True)).await;
    field.standin.faults(|faults| faults.watches_silent = true);
    field
        .standin
        .world(|world| world.fall_ill("w-1", Illness::NotReady, Cure::Reboot));
    let before = field.clock.now().mono;
    watching
        .until(&field, node_ready("w-1", Ready::False))
        .await;
    let took = field.clock.now().mono.since(before);
    assert!(took <= Duration::from_secs(25), "{took:?}");
}

#[tokio::test]
async fn an_api_server_that_hangs_up_and_forgets_old_versions_is_followed_on() {
    let field = Field::start().await;
    field.add(1, "w-1").await;
    let mut watching = field.watch();
    watching.until(&field, node_ready("w-1", Ready::True)).await;
    field.standin.faults(|faults| faults.kube_down = true);
    let ill = report(&mut watching, &field, SourceName::Kubernetes, false).await;
    assert!(!ill.trouble.is_empty());
    field
        .standin
        .world(|world| world.fall_ill("w-1", Illness::NotReady, Cure::Reboot));
    field.clock.advance(Duration::from_secs(20));
    field.standin.world(|world| world.cluster.compact());
    field.standin.faults(|faults| faults.kube_down = false);
    watching
        .until(&field, node_ready("w-1", Ready::False))
        .await;
    report(&mut watching, &field, SourceName::Kubernetes, true).await;
    field.standin.world(|world| {
        world.recover("w-1");
        world.cluster.compact();
    });
    watching.until(&field, node_ready("w-1", Ready::True)).await;
}

#[tokio::test]
async fn a_cell_that_is_down_makes_the_list_incomplete_and_nothing_gone() {
    let field = Field::start().await;
    let (vm, _) = field.add(1, "w-1").await;
    let mut watching = field.watch();
    report(&mut watching, &field, SourceName::Openstack, true).await;
    field.standin.world(|world| {
        world.cloud.down_cells.insert(vm.id.as_str().to_owned());
    });
    let seen = field.look().await;
    assert!(
        matches!(
            seen.first(),
            Some(Observation::Servers {
                complete: false,
                ..
            })
        ),
        "{seen:?}"
    );
    let ill = report(&mut watching, &field, SourceName::Openstack, false).await;
    assert!(!ill.trouble.is_empty());
    field.standin.world(|world| world.cloud.down_cells.clear());
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::ServerGone(_)) => panic!("nothing is gone"),
            Seen::Observation(Observation::Servers {
                complete: true,
                servers,
                ..
            }) => (servers.len() == 1).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_list_that_is_short_without_saying_so_makes_nothing_gone() {
    let field = Field::start().await;
    let (first, _) = field.add(1, "w-1").await;
    let (second, _) = field.add(2, "w-2").await;
    let mut watching = field.watch();
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Servers { servers, .. }) => {
                (servers.len() == 2).then_some(())
            }
            _ => None,
        })
        .await;
    field.standin.fault(
        Rule::new("/compute/v2.1/servers/detail", Fault::PartialList(1))
            .on(Api::OpenStack)
            .times(1),
    );
    let short = watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::ServerGone(_)) => panic!("nothing is gone"),
            Seen::Observation(Observation::Servers { servers, .. }) if servers.len() == 1 => {
                servers.first().map(|one| one.id.clone())
            }
            _ => None,
        })
        .await;
    let missing = if short == first.id {
        second.id
    } else {
        first.id
    };
    watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::ServerGone(_)) => panic!("nothing is gone"),
            Seen::Observation(Observation::Server(server)) => (server.id == missing).then_some(()),
            _ => None,
        })
        .await;
    let secrets = field
        .standin
        .world(|world| world.cluster.list(Kind::Secret).count());
    assert_eq!(secrets, 2);
}
