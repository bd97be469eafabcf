//! Drains of real nodes: real budgets, a real scheduler, real replacements.

use rhizome_engine::action::{ActionKind, Done, FailureKind, NodeRef};
use serde_json::{Value, json};

use crate::cluster::place::{Ours, number, until};

/// Pods of a Deployment on one node.
fn deployment(space: &str, node: &str, replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": space},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 3,
                "containers": [{"name": "c", "image": "none"}]}}}})
}

/// A pod that nobody would make again.
fn pod(space: &str, node: &str, name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "none"}]}});
    change(&mut pod);
    pod
}

fn budget(space: &str, name: &str, app: &str, least: u32) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": space},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": app}}}})
}

/// A namespace in which pods can be made.
pub async fn space(ours: &Ours, name: &str) {
    ours.place
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    until("the namespace's account", || {
        let all = ours.place.get(&["serviceaccounts", "-n", name]);
        (!all["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
}

pub async fn running(ours: &Ours, space: &str, how_many: usize) {
    until("the pods to run", || {
        let all = ours
            .place
            .get(&["pods", "-n", space, "--field-selector=status.phase=Running"]);
        (all["items"].as_array().unwrap().len() == how_many).then_some(())
    })
    .await;
}

/// The budget has counted so many healthy pods.
async fn counted(ours: &Ours, space: &str, name: &str, healthy: u32) {
    until("the budget to count", || {
        let budget = ours.place.get(&["poddisruptionbudget", name, "-n", space]);
        (budget["status"]["currentHealthy"] == healthy
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"])
            .then_some(())
    })
    .await;
}

fn drain(node: &NodeRef) -> ActionKind {
    ActionKind::Drain { node: node.clone() }
}

#[tokio::test]
async fn a_budget_is_waited_for_and_named_and_let_go_the_drain_ends() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let (_kubelet, node) = ours.add(mine, "drain-a").await;
    space(&ours, "drain-a").await;
    ours.place.apply(&deployment("drain-a", "drain-a", 2));
    running(&ours, "drain-a", 2).await;
    ours.place.apply(&budget("drain-a", "keep", "web", 2));
    counted(&ours, "drain-a", "keep", 2).await;
    ours.done(mine, ActionKind::Cordon { node: node.clone() })
        .await;
    let failure = ours.within(8, mine, drain(&node)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    assert!(
        failure
            .message
            .contains("disruption budget keep needs 2 healthy pods"),
        "{failure}"
    );
    // Both are there still, and none is on its way out.
    running(&ours, "drain-a", 2).await;

    ours.place.apply(&budget("drain-a", "keep", "web", 0));
    assert_eq!(
        ours.done(mine, drain(&node)).await,
        Done::Drained { evicted: 2 }
    );
    // What replaces them does not come back to a cordoned node.
    let left = ours.place.get(&[
        "pods",
        "-n",
        "drain-a",
        "--field-selector=spec.nodeName=drain-a",
    ]);
    assert_eq!(left["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn two_budgets_on_a_pod_stop_the_drain() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (_kubelet, node) = ours.add(number(), "drain-b").await;
    space(&ours, "drain-b").await;
    ours.place.apply(&pod("drain-b", "drain-b", "p", |_| {}));
    running(&ours, "drain-b", 1).await;
    for name in ["first", "second"] {
        ours.place.apply(&budget("drain-b", name, "p", 0));
        counted(&ours, "drain-b", name, 1).await;
    }
    let failure = ours.within(60, number(), drain(&node)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Blocked, "{failure}");
    assert!(failure.message.contains("drain-b/p"), "{failure}");
}

#[tokio::test]
async fn what_users_forbid_and_what_would_be_lost_stops_the_drain() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (_kubelet, node) = ours.add(number(), "drain-c").await;
    space(&ours, "drain-c").await;
    let annotate = |pod: &mut Value, key: &str, value: &str| {
        pod["metadata"]["annotations"] = json!({key: value});
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, &str); 4] = [
        (
            "unsafe",
            &|pod| {
                annotate(
                    pod,
                    "cluster-autoscaler.kubernetes.io/safe-to-evict",
                    "false",
                )
            },
            "safe-to-evict",
        ),
        (
            "kept",
            &|pod| annotate(pod, "karpenter.sh/do-not-disrupt", "true"),
            "do-not-disrupt",
        ),
        (
            "alone",
            &|pod| annotate(pod, "none", "none"),
            "no controller",
        ),
        (
            "mirror",
            &|pod| annotate(pod, "kubernetes.io/config.mirror", "x"),
            "",
        ),
    ];
    for (name, change, word) in cases {
        ours.place.apply(&pod("drain-c", "drain-c", name, change));
        running(&ours, "drain-c", 1).await;
        let result = ours.within(60, number(), drain(&node)).await;
        if word.is_empty() {
            assert_eq!(result, Ok(Done::Drained { evicted: 0 }), "{name}");
        } else {
            let failure = result.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Blocked, "{name}: {failure}");
            assert!(failure.message.contains(word), "{name}: {failure}");
        }
        ours.place
            .kubectl(&["delete", "pod", name, "-n", "drain-c", "--wait=false"]);
        // Its kubelet lives on this thread, and must have its turn to end it.
        until("the pod to be gone", || {
            let all = ours.place.get(&["pods", "-n", "drain-c"]);
            all["items"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_pod_keeps_its_own_grace() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (kubelet, node) = ours.add(number(), "drain-d").await;
    space(&ours, "drain-d").await;
    ours.place.apply(&pod("drain-d", "drain-d", "p", |pod| {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(77);
    }));
    running(&ours, "drain-d", 1).await;
    // Nobody ends it any more: it goes on being Terminating, and the drain does not force it.
    drop(kubelet);
    let failure = ours.within(6, number(), drain(&node)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    let pod = ours.place.get(&["pod", "p", "-n", "drain-d"]);
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 77);
}

/// Changes what a Deployment makes its pods of.
fn template(mut deployment: Value, change: impl Fn(&mut Value)) -> Value {
    change(&mut deployment["spec"]["template"]);
    deployment
}

/// The pods of a namespace on a node: their uids, by the kind of their controller.
fn pods_by_owner(ours: &Ours, space: &str) -> Vec<(String, String)> {
    let all = ours.place.get(&["pods", "-n", space]);
    let items = all["items"].as_array().unwrap().iter();
    let mut pods: Vec<_> = items
        .map(|pod| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let owner = &pod["metadata"]["ownerReferences"][0]["kind"];
            (text(owner), text(&pod["metadata"]["uid"]))
        })
        .collect();
    pods.sort();
    pods
}

#[tokio::test]
async fn a_daemon_sets_pod_and_one_that_has_ended_stay() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let (_kubelet, node) = ours.add(mine, "drain-e").await;
    space(&ours, "drain-e").await;
    let labels = json!({"app": "agent"});
    ours.place
        .apply(&json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "agent", "namespace": "drain-e"},
            "spec": {"selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": "drain-e"},
                    "terminationGracePeriodSeconds": 1,
                    // Local data of a pod that stays is not lost.
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "containers": [{"name": "c", "image": "none"}]}}}}));
    ours.place.apply(&deployment("drain-e", "drain-e", 2));
    running(&ours, "drain-e", 3).await;
    // One that has ended needs nobody's word, and nobody would make it again.
    let ended = pod("drain-e", "drain-e", "job", |pod| {
        pod["metadata"]["annotations"] = json!({});
    });
    ours.place.apply(&ended);
    running(&ours, "drain-e", 4).await;
    let over = json!({"status": {"phase": "Succeeded"}}).to_string();
    let patch = [
        "patch",
        "pod",
        "job",
        "-n",
        "drain-e",
        "--subresource=status",
    ];
    ours.place
        .kubectl(&[patch.as_slice(), &["--type=merge", "-p", &over]].concat());
    running(&ours, "drain-e", 3).await;
    let daemon = |ours: &Ours| {
        let pods = pods_by_owner(ours, "drain-e").into_iter();
        pods.filter(|(owner, _)| owner == "DaemonSet")
            .collect::<Vec<_>>()
    };
    let before = daemon(&ours);
    assert_eq!(before.len(), 1, "{before:?}");

    ours.done(mine, ActionKind::Cordon { node: node.clone() })
        .await;
    assert_eq!(
        ours.done(mine, drain(&node)).await,
        Done::Drained { evicted: 2 }
    );
    assert_eq!(daemon(&ours), before, "the same pod");
    let job = ours.place.get(&["pod", "job", "-n", "drain-e"]);
    assert!(job["metadata"]["deletionTimestamp"].is_null(), "{job}");
}

#[tokio::test]
async fn data_in_an_empty_dir_stops_the_drain_until_its_user_gives_it_up() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let (_kubelet, node) = ours.add(mine, "drain-f").await;
    space(&ours, "drain-f").await;
    let with_data = |given_up: &str| {
        template(deployment("drain-f", "drain-f", 1), |template| {
            template["spec"]["volumes"] = json!([{"name": "cache", "emptyDir": {}}]);
            template["metadata"]["annotations"] =
                json!({"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": given_up});
        })
    };
    ours.place.apply(&with_data("another"));
    running(&ours, "drain-f", 1).await;
    let failure = ours.within(60, mine, drain(&node)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Blocked, "{failure}");
    assert!(
        failure.message.contains("local volume `cache`"),
        "{failure}"
    );
    let kept = pods_by_owner(&ours, "drain-f");
    running(&ours, "drain-f", 1).await;
    assert_eq!(pods_by_owner(&ours, "drain-f"), kept, "none was evicted");

    // On the pod itself: another template would make another pod.
    let pod = ours.place.get(&["pods", "-n", "drain-f"]);
    let name = pod["items"][0]["metadata"]["name"].as_str().unwrap();
    let given_up = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes=other,cache";
    ours.place.kubectl(&[
        "annotate",
        "--overwrite",
        "pod",
        name,
        "-n",
        "drain-f",
        given_up,
    ]);
    ours.done(mine, ActionKind::Cordon { node: node.clone() })
        .await;
    assert_eq!(
        ours.done(mine, drain(&node)).await,
        Done::Drained { evicted: 1 }
    );
}

#[tokio::test]
async fn one_pod_that_may_not_go_keeps_the_others_from_being_evicted() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let (_kubelet, node) = ours.add(mine, "drain-g").await;
    space(&ours, "drain-g").await;
    ours.place.apply(&deployment("drain-g", "drain-g", 2));
    ours.place.apply(&pod("drain-g", "drain-g", "kept", |pod| {
        pod["metadata"]["annotations"] = json!({"karpenter.sh/do-not-disrupt": "true"});
    }));
    running(&ours, "drain-g", 3).await;
    let before = pods_by_owner(&ours, "drain-g");
    let failure = ours.within(60, mine, drain(&node)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Blocked, "{failure}");
    assert!(failure.message.contains("drain-g/kept"), "{failure}");
    assert_eq!(pods_by_owner(&ours, "drain-g"), before);
    let going = ours.place.get(&["pods", "-n", "drain-g"]);
    let items = going["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .all(|pod| pod["metadata"]["deletionTimestamp"].is_null()),
        "{going}"
    );
}
