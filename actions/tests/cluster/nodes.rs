//! What is done to nodes, with the rights of the manifest and no more.

use std::collections::BTreeMap;

use rhizome_actions::{Executor, Seen};
use rhizome_engine::action::{ActionKind, Done, FailureKind, NodeRef};
use rhizome_engine::event::{Observation, Ready, SourceReport};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::place::{Ours, number};

#[tokio::test]
async fn a_node_is_cordoned_labelled_and_removed_and_each_may_be_done_twice() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let (kubelet, node) = ours.add(mine, "node-a").await;
    let labels: BTreeMap<String, String> = [
        ("rhizome-pool".to_owned(), "workers".to_owned()),
        // A node may not say that of itself.
        ("node-role.kubernetes.io/worker".to_owned(), String::new()),
    ]
    .into();
    for kind in [
        ActionKind::LabelNode {
            node: node.clone(),
            labels,
        },
        ActionKind::Cordon { node: node.clone() },
        ActionKind::Uncordon { node: node.clone() },
    ] {
        assert_eq!(
            ours.done(mine, kind.clone()).await,
            Done::Accepted,
            "{kind:?}"
        );
        assert_eq!(
            ours.done(mine, kind.clone()).await,
            Done::Already,
            "{kind:?}"
        );
    }
    let seen = ours.node("node-a").await.unwrap();
    assert!(!seen.unschedulable);
    assert_eq!(seen.labels.get("rhizome-pool"), Some("workers"));

    let another = NodeRef {
        uid: "another".to_owned(),
        ..node.clone()
    };
    let failure = ours
        .within(60, mine, ActionKind::DeleteNode { node: another })
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotOwned, "{failure}");
    drop(kubelet);
    let delete = ActionKind::DeleteNode { node };
    assert_eq!(ours.done(mine, delete.clone()).await, Done::Accepted);
    assert_eq!(ours.done(mine, delete).await, Done::Already);
    assert!(ours.node("node-a").await.is_none());
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn the_watches_see_a_node_come_and_its_signs_of_life() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (sender, mut seen) = mpsc::channel(1_000);
    let stop = CancellationToken::new();
    let (kubernetes, stopped) = (ours.kubernetes.clone(), stop.clone());
    let watching = tokio::spawn(async move { kubernetes.watch(sender, stopped).await });
    let (_kubelet, node) = ours.add(number(), "node-b").await;
    let (mut ready, mut lease, mut flows) = (false, false, false);
    let end = tokio::time::Instant::now() + crate::cluster::place::PATIENCE;
    while !(ready && lease && flows) {
        match tokio::time::timeout_at(end, seen.recv())
            .await
            .unwrap()
            .unwrap()
        {
            Seen::Observation(Observation::Node(view)) => {
                ready |= view.name == node.name && view.ready == Ready::True;
            }
            Seen::Observation(Observation::Nodes { nodes, .. }) => {
                ready |= nodes
                    .iter()
                    .any(|one| one.name == node.name && one.ready == Ready::True);
            }
            Seen::Observation(Observation::Lease { node: of, .. }) => lease |= of == node.name,
            Seen::Source(SourceReport { flowing, .. }) => flows |= flowing,
            Seen::Observation(_) => {}
        }
    }
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn the_account_may_not_do_what_it_need_not() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let as_us = "--as=system:serviceaccount:rhizome:rhizome";
    // kubectl answers `no` with exit code 1, so the whole list is asked for.
    let may = ours.place.kubectl(&[
        "auth",
        "can-i",
        "--list",
        "--no-headers",
        "-n",
        "kube-system",
        as_us,
    ]);
    let rights: Vec<Vec<&str>> = may
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let secrets = may
        .lines()
        .find(|line| line.starts_with("secrets "))
        .unwrap();
    for verb in ["get", "list", "watch", "update", "*"] {
        let verbs = secrets.rsplit_once('[').unwrap().1.trim_end_matches(']');
        assert!(!verbs.split(' ').any(|one| one == verb), "{secrets}");
    }
    for line in &rights {
        let resource = line.first().copied().unwrap_or_default();
        assert!(!resource.starts_with('*'), "{line:?}");
        assert!(
            resource != "pods"
                || !may
                    .lines()
                    .any(|one| one.starts_with("pods ") && one.contains("delete")),
            "it evicts, and deletes no pod"
        );
    }
}

#[tokio::test]
async fn a_pause_is_read_where_the_manifest_allows_it_and_nothing_else_is() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let map = ours.config_map("rhizome", "rhizome-pause").await;
    assert_eq!(map.read().await, Ok(None));
    ours.place
        .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "rhizome", "name": "rhizome-pause"},
        "data": {"why": "upgrade"}}));
    let kept = map.read().await.unwrap().unwrap();
    assert_eq!(kept.data["why"], "upgrade");
    assert!(kept.manager.starts_with("kubectl"), "{kept:?}");
    ours.place
        .kubectl(&["delete", "configmap", "rhizome-pause", "-n", "rhizome"]);
    assert_eq!(map.read().await, Ok(None));
    let other = ours.config_map("kube-public", "kube-root-ca.crt").await;
    let refused = other.read().await.unwrap_err();
    assert!(refused.message.contains("RBAC"), "{refused:?}");
}
