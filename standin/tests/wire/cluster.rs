//! The API server, answer by answer as they were seen on v1.36.3.

use reqwest::Method;
use rhizome_standin::{Cure, Fact, Fate, Illness, Kind, Workload};
use serde_json::{Value, json};

use crate::Bench;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn budget(name: &str, min_available: u32) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": "web"}}}})
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"}})
}

async fn evict(bench: &Bench, name: &str) -> crate::Got {
    let path = format!("{PODS}/{name}/eviction");
    bench.kube(Method::POST, &path, Some(eviction(name))).await
}

/// A node with two running pods of one app.
async fn with_two_pods() -> Bench {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    for name in ["a", "b"] {
        bench
            .kube(Method::POST, PODS, Some(pod(name, "100m")))
            .await;
    }
    bench.advance(2);
    let a = bench
        .kube(Method::GET, &format!("{PODS}/a"), None)
        .await
        .body;
    assert_eq!(
        (&a["status"]["phase"], &a["spec"]["nodeName"]),
        (&json!("Running"), &json!("w1"))
    );
    bench
}

#[tokio::test]
async fn health_and_version_are_open_to_anyone_and_the_rest_is_not() {
    let bench = Bench::start().await;
    let base = bench.standin.kubernetes_url();
    for path in ["livez", "readyz", "healthz"] {
        let got = bench.send(bench.client.get(format!("{base}/{path}"))).await;
        assert_eq!((got.status, got.text.as_str()), (200, "ok"));
    }
    let got = bench
        .send(bench.client.get(format!("{base}/version")))
        .await;
    assert_eq!(got.body["gitVersion"], json!("v1.36.3"));
    let got = bench
        .send(bench.client.get(format!("{base}/api/v1/nodes")))
        .await;
    assert_eq!(got.status, 403);
    assert_eq!(
        got.body["message"],
        json!(
            "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
        )
    );
    let got = bench
        .send(
            bench
                .client
                .get(format!("{base}/api/v1/nodes"))
                .bearer_auth("no"),
        )
        .await;
    assert_eq!(
        got.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
    );
    let groups = bench.kube(Method::GET, "/apis", None).await.body;
    assert_eq!(groups["kind"], json!("APIGroupList"));
}

#[tokio::test]
async fn a_right_taken_away_is_a_403_before_existence_is_looked_at() {
    let bench = Bench::start().await;
    let review = |verb: &str| {
        let body = json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "nodes"}}});
        bench.kube(
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            Some(body),
        )
    };
    assert_eq!(review("patch").await.body["status"]["allowed"], json!(true));
    bench
        .standin
        .world(|world| world.cluster.set_right("patch", "nodes", false));
    assert_eq!(
        review("patch").await.body["status"],
        json!({"allowed": false})
    );
    let got = bench
        .patch("/api/v1/nodes/fake-a", "merge-patch", json!({}))
        .await;
    assert_eq!(got.status, 403);
    assert_eq!(
        got.body["message"],
        json!(
            "nodes \"fake-a\" is forbidden: User \"system:serviceaccount:kube-system:rhizome\" cannot patch resource \"nodes\" in API group \"\" at the cluster scope"
        )
    );
}

#[tokio::test]
async fn a_node_is_patched_in_three_ways_and_a_cordon_twice_changes_nothing() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    let path = "/api/v1/nodes/w1";
    let cordon = json!({"spec": {"unschedulable": true}});
    let first = bench
        .patch(path, "strategic-merge-patch", cordon.clone())
        .await;
    assert_eq!(
        (first.status, &first.body["spec"]["unschedulable"]),
        (200, &json!(true))
    );
    let again = bench.patch(path, "merge-patch", cordon).await;
    assert_eq!(
        again.body["metadata"]["resourceVersion"],
        first.body["metadata"]["resourceVersion"]
    );
    bench.advance(1);
    let node = bench.node("w1").await;
    assert_eq!(
        node["spec"]["taints"][0]["key"],
        json!("node.kubernetes.io/unschedulable")
    );
    let label = json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}]);
    let got = bench.patch(path, "json-patch", label).await;
    assert_eq!(got.body["metadata"]["labels"]["x"], json!("y"));
    bench
        .patch(
            path,
            "merge-patch",
            json!({"spec": {"unschedulable": false}}),
        )
        .await;
    bench.advance(1);
    let node = bench.node("w1").await;
    assert_eq!(
        (
            node["spec"].get("unschedulable"),
            node["spec"].get("taints")
        ),
        (None, None)
    );
    let misspelt = json!({"spec": {"unschedulabel": true}});
    let got = bench
        .patch(
            &format!("{path}?fieldValidation=Strict"),
            "merge-patch",
            misspelt.clone(),
        )
        .await;
    assert_eq!(got.status, 422);
    let got = bench
        .patch(&format!("{path}?dryRun=All"), "merge-patch", misspelt)
        .await;
    assert_eq!(
        got.header("warning"),
        Some("299 - \"unknown field \\\"spec.unschedulabel\\\"\"")
    );
}

#[tokio::test]
async fn changes_to_a_node_that_are_refused() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    for (patch, status, reason) in [
        (
            json!({"metadata": {"resourceVersion": "1"}}),
            409,
            "Conflict",
        ),
        (json!({"metadata": {"uid": "other"}}), 422, "Invalid"),
        (
            json!({"spec": {"providerID": "openstack:///x"}}),
            422,
            "Invalid",
        ),
    ] {
        let got = bench
            .patch("/api/v1/nodes/w1", "merge-patch", patch.clone())
            .await;
        assert_eq!(
            (got.status, got.body["reason"].as_str()),
            (status, Some(reason)),
            "{patch}"
        );
    }
    let got = bench
        .patch("/api/v1/nodes/w1", "apply-patch", json!({}))
        .await;
    assert_eq!(got.status, 415);
    let got = bench
        .patch("/api/v1/nodes/none", "merge-patch", json!({}))
        .await;
    assert_eq!(
        (got.status, &got.body["message"]),
        (404, &json!("nodes \"none\" not found"))
    );
}

#[tokio::test]
async fn a_node_is_deleted_only_under_the_uid_that_was_meant() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    let delete = |uid: &str, dry: bool| {
        let mut body =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        if dry {
            body["dryRun"] = json!(["All"]);
        }
        bench.kube(Method::DELETE, "/api/v1/nodes/w1", Some(body))
    };
    let uid = bench.node("w1").await["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(delete("other", false).await.status, 409);
    assert_eq!(delete(&uid, true).await.status, 200);
    assert_eq!(
        bench.node("w1").await["metadata"]["uid"],
        json!(uid),
        "a dry run changes nothing"
    );
    let got = delete(&uid, false).await;
    assert_eq!((got.status, &got.body["status"]), (200, &json!("Success")));
    assert_eq!(delete(&uid, false).await.status, 404);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1";
    assert_eq!(
        bench.kube(Method::GET, lease, None).await.status,
        404,
        "its owner is gone"
    );
    let fates: Vec<Fate> = bench
        .standin
        .ledger()
        .facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::NodeDeleted { fate, .. } => Some(*fate),
            _ => None,
        })
        .collect();
    assert_eq!(fates, [Fate::Running]);
}

#[tokio::test]
async fn a_finalizer_holds_a_node_until_it_goes() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"metadata": {"finalizers": ["x/y"]}}),
        )
        .await;
    for _ in 0..2 {
        let got = bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
        assert_eq!(got.status, 200);
        assert!(got.body["metadata"]["deletionTimestamp"].is_string());
    }
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(
        bench
            .kube(Method::GET, "/api/v1/nodes/w1", None)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn an_eviction_spends_the_budget_and_then_is_refused() {
    let bench = with_two_pods().await;
    bench
        .kube(Method::POST, BUDGETS, Some(budget("bb", 1)))
        .await;
    let stale = evict(&bench, "a").await;
    assert_eq!(
        (stale.status, stale.header("retry-after")),
        (429, Some("10"))
    );
    assert_eq!(stale.body["details"]["retryAfterSeconds"], json!(10));
    assert_eq!(
        stale.body["details"]["causes"][0]["message"],
        json!("The disruption budget bb is still being processed by the server.")
    );
    bench.advance(1);
    let done = evict(&bench, "a").await;
    assert_eq!(done.status, 201);
    assert_eq!(
        done.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
    );
    let shown = bench
        .kube(Method::GET, &format!("{PODS}/a"), None)
        .await
        .body;
    assert!(shown["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(crate::condition(&shown, "DisruptionTarget"), Some("True"));
    bench.advance(2);
    assert_eq!(
        bench
            .kube(Method::GET, &format!("{PODS}/a"), None)
            .await
            .status,
        404
    );
    let refused = evict(&bench, "b").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, None));
    assert_eq!(refused.body["reason"], json!("TooManyRequests"));
    assert_eq!(
        refused.body["message"],
        json!("Cannot evict pod as it would violate the pod's disruption budget.")
    );
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget bb needs 1 healthy pods and has 1 currently"}])
    );
    assert_eq!(refused.body["details"].get("retryAfterSeconds"), None);
}

#[tokio::test]
async fn two_evictions_at_once_do_not_overshoot() {
    let bench = with_two_pods().await;
    bench
        .kube(Method::POST, BUDGETS, Some(budget("bb", 1)))
        .await;
    bench.advance(1);
    let (a, b) = tokio::join!(evict(&bench, "a"), evict(&bench, "b"));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 429]);
}

#[tokio::test]
async fn two_budgets_on_one_pod_are_a_500_without_a_reason() {
    let bench = with_two_pods().await;
    for name in ["b1", "b2"] {
        bench
            .kube(Method::POST, BUDGETS, Some(budget(name, 0)))
            .await;
    }
    bench.advance(1);
    let got = evict(&bench, "a").await;
    assert_eq!((got.status, got.body.get("reason")), (500, None));
    assert_eq!(
        got.body["message"],
        json!(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    );
}

#[tokio::test]
async fn evictions_that_ask_no_budget_or_name_another_pod() {
    let bench = with_two_pods().await;
    bench
        .kube(Method::POST, BUDGETS, Some(budget("bb", 2)))
        .await;
    bench
        .kube(Method::POST, PODS, Some(pod("pending", "100")))
        .await;
    bench.advance(1);
    assert_eq!(evict(&bench, "pending").await.status, 201, "a pending pod");
    assert_eq!(evict(&bench, "nobody").await.status, 404);
    let path = format!("{PODS}/a/eviction");
    let got = bench.kube(Method::POST, &path, Some(eviction("b"))).await;
    assert_eq!(
        (got.status, &got.body["message"]),
        (
            400,
            &json!("name in URL does not match name in Eviction object")
        )
    );
    let mut body = eviction("a");
    body["deleteOptions"] = json!({"preconditions": {"uid": "other"}});
    assert_eq!(
        bench.kube(Method::POST, &path, Some(body)).await.status,
        409
    );
    assert_eq!(evict(&bench, "a").await.status, 429);
    let got = bench
        .kube(
            Method::POST,
            &format!("{path}?dryRun=All"),
            Some(eviction("a")),
        )
        .await;
    assert_eq!(
        got.status, 429,
        "a dry run is refused where the real one would be"
    );
}

#[tokio::test]
async fn a_budget_is_never_refilled_while_the_controller_manager_is_away() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    let web = |replicas| Workload {
        replicas,
        ..Workload::default()
    };
    bench
        .standin
        .world(|world| world.set_workload("web", web(2)));
    bench
        .kube(Method::POST, BUDGETS, Some(budget("bb", 1)))
        .await;
    bench.advance(3);
    bench
        .standin
        .world(|world| world.cluster.controller_manager_away = true);
    let pods = bench.kube(Method::GET, PODS, None).await.body;
    let name = |at: usize| {
        pods["items"][at]["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(evict(&bench, &name(0)).await.status, 201);
    bench.advance(60);
    let got = evict(&bench, &name(1)).await;
    assert_eq!((got.status, got.header("retry-after")), (429, None));
    assert_eq!(
        got.body["details"]["causes"][0]["message"],
        json!("The disruption budget bb does not allow evicting pods currently")
    );
    bench
        .standin
        .world(|world| world.cluster.controller_manager_away = false);
    bench.advance(3);
    assert_eq!(
        evict(&bench, &name(1)).await.status,
        201,
        "replaced and refilled"
    );
}

#[tokio::test]
async fn a_pod_without_room_says_so_in_the_schedulers_words() {
    let bench = Bench::start().await;
    let unschedulable = async || {
        let pod = bench
            .kube(Method::GET, &format!("{PODS}/big"), None)
            .await
            .body;
        let condition = pod["status"]["conditions"][0].clone();
        (
            condition["reason"].as_str().unwrap().to_owned(),
            condition["message"].as_str().unwrap().to_owned(),
        )
    };
    bench
        .kube(Method::POST, PODS, Some(pod("big", "100")))
        .await;
    bench.advance(1);
    assert_eq!(
        unschedulable().await.1,
        "no nodes available to schedule pods"
    );
    bench.add_node("w1", "aaaaaa").await;
    let (reason, message) = unschedulable().await;
    assert_eq!(reason, "Unschedulable");
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"spec": {"unschedulable": true}}),
        )
        .await;
    bench.advance(1);
    assert!(
        unschedulable()
            .await
            .1
            .contains("1 node(s) were unschedulable")
    );
    let mut gated = pod("gated", "1m");
    gated["spec"]["schedulingGates"] = json!([{"name": "g"}]);
    bench.kube(Method::POST, PODS, Some(gated)).await;
    bench.advance(1);
    let got = bench
        .kube(Method::GET, &format!("{PODS}/gated"), None)
        .await
        .body;
    assert_eq!(
        got["status"]["conditions"][0]["reason"],
        json!("SchedulingGated")
    );
}

#[tokio::test]
async fn a_dead_nodes_pods_are_marked_after_300_s_and_stay_for_ever() {
    let bench = with_two_pods().await;
    bench.add_node("w2", "bbbbbb").await;
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.advance(340);
    let pod = async || bench.kube(Method::GET, &format!("{PODS}/a"), None).await;
    assert_eq!(pod().await.body["metadata"].get("deletionTimestamp"), None);
    bench.advance(30);
    let marked = pod().await.body;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["status"]["phase"], json!("Running"));
    bench.advance(3_600);
    assert_eq!(pod().await.status, 200, "nobody ends it");
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    bench.advance(61);
    assert_eq!(pod().await.status, 404, "collected with its node");
}

#[tokio::test]
async fn when_most_of_a_zone_is_silent_nothing_is_evicted() {
    let bench = Bench::start().await;
    for (name, token) in [
        ("w1", "aaaaaa"),
        ("w2", "bbbbbb"),
        ("w3", "cccccc"),
        ("w4", "dddddd"),
    ] {
        bench.add_node(name, token).await;
    }
    for name in ["w1", "w2", "w3"] {
        bench
            .standin
            .world(|world| world.fall_ill(name, Illness::Hung, Cure::Nothing));
    }
    bench.advance(200);
    let nodes = bench.kube(Method::GET, "/api/v1/nodes", None).await.body;
    let count = |effect: &str| {
        nodes["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| {
                node["spec"]["taints"]
                    .as_array()
                    .is_some_and(|taints| taints.iter().any(|t| t["effect"] == effect))
            })
            .count()
    };
    assert_eq!(count("NoSchedule"), 3);
    assert!(
        count("NoExecute") <= 2,
        "one or two were faster than the next look"
    );
}

#[tokio::test]
async fn a_token_authenticates_until_10_s_after_its_secret_is_gone() {
    let bench = Bench::start().await;
    let token = bench.bootstrap_token("aaaaaa", 600).await;
    let url = format!("{}/api/v1/nodes/none", bench.standin.kubernetes_url());
    let get = async || {
        bench
            .send(bench.client.get(&url).bearer_auth(&token))
            .await
            .status
    };
    assert_eq!(get().await, 404, "it may look a node up");
    let secret = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaaa";
    let shown = bench.kube(Method::GET, secret, None).await.body;
    assert_eq!(shown["data"]["token-id"], json!("YWFhYWFh"));
    assert_eq!(shown.get("stringData"), None);
    assert_eq!(bench.kube(Method::DELETE, secret, None).await.status, 200);
    bench.advance(9);
    assert_eq!(get().await, 404, "still remembered");
    bench.advance(2);
    assert_eq!(get().await, 401);
    bench.bootstrap_token("bbbbbb", 5).await;
    bench.advance(6);
    let gone = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-bbbbbb";
    assert_eq!(
        bench.kube(Method::GET, gone, None).await.status,
        404,
        "cleaned when expired"
    );
}

#[tokio::test]
async fn the_same_name_twice_is_a_409_and_events_and_csrs_are_kept() {
    let bench = Bench::start().await;
    bench.bootstrap_token("aaaaaa", 600).await;
    let again = json!({"metadata": {"name": "bootstrap-token-aaaaaa"}});
    let got = bench
        .kube(
            Method::POST,
            "/api/v1/namespaces/kube-system/secrets",
            Some(again),
        )
        .await;
    assert_eq!(
        (got.status, &got.body["reason"]),
        (409, &json!("AlreadyExists"))
    );
    let event =
        json!({"metadata": {"generateName": "rhizome-"}, "reason": "Cordoned", "type": "Normal"});
    let got = bench
        .kube(
            Method::POST,
            "/api/v1/namespaces/default/events",
            Some(event),
        )
        .await;
    assert_eq!(got.status, 201);
    assert!(
        got.body["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("rhizome-")
    );
    let csr = json!({"metadata": {"name": "c1"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet"}});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    bench.kube(Method::POST, path, Some(csr)).await;
    let got = bench.kube(Method::GET, path, None).await.body;
    assert_eq!(
        got["items"][0]["status"],
        json!({}),
        "ours is not approved by itself"
    );
}

#[tokio::test]
async fn lists_page_select_and_refuse_versions_from_the_future() {
    let bench = Bench::start().await;
    for number in 0..5 {
        bench
            .kube(Method::POST, PODS, Some(pod(&format!("p{number}"), "1m")))
            .await;
    }
    let page = bench
        .kube(Method::GET, &format!("{PODS}?limit=2"), None)
        .await
        .body;
    assert_eq!(page["metadata"]["remainingItemCount"], json!(3));
    assert_eq!(page["items"][0].get("kind"), None);
    let token = page["metadata"]["continue"]
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let next = format!("{PODS}?limit=2&continue={token}");
    let page = bench.kube(Method::GET, &next, None).await.body;
    assert_eq!(page["items"][0]["metadata"]["name"], json!("p2"));
    let cached = bench
        .kube(
            Method::GET,
            &format!("{PODS}?limit=2&resourceVersion=0"),
            None,
        )
        .await
        .body;
    assert_eq!(
        cached["items"].as_array().unwrap().len(),
        5,
        "the cache ignores the limit"
    );
    let got = bench
        .kube(
            Method::GET,
            &format!("{PODS}?resourceVersion=99999999"),
            None,
        )
        .await;
    assert_eq!(
        (got.status, &got.body["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
    for query in [
        "fieldSelector=status.phase%3DPending",
        "labelSelector=app%3Dweb",
    ] {
        let got = bench
            .kube(Method::GET, &format!("/api/v1/pods?{query}"), None)
            .await
            .body;
        assert_eq!(got["items"].as_array().unwrap().len(), 5, "{query}");
    }
    bench.standin.world(|world| world.cluster.compact());
    bench.kube(Method::POST, PODS, Some(pod("p9", "1m"))).await;
    bench.standin.world(|world| world.cluster.compact());
    let got = bench.kube(Method::GET, &next, None).await;
    assert_eq!((got.status, &got.body["reason"]), (410, &json!("Expired")));
}

#[tokio::test]
async fn out_of_service_ends_the_pods_of_a_dead_node() {
    let bench = with_two_pods().await;
    bench.add_node("w2", "bbbbbb").await;
    bench
        .standin
        .world(|world| world.fall_ill("w1", Illness::Hung, Cure::Nothing));
    bench.advance(60);
    bench.kube(Method::DELETE, &format!("{PODS}/a"), None).await;
    bench.advance(100);
    assert_eq!(
        bench
            .kube(Method::GET, &format!("{PODS}/a"), None)
            .await
            .status,
        200
    );
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]}});
    bench
        .patch("/api/v1/nodes/w1", "strategic-merge-patch", taint)
        .await;
    bench.advance(21);
    assert_eq!(
        bench
            .kube(Method::GET, &format!("{PODS}/a"), None)
            .await
            .status,
        404
    );
    assert!(
        bench
            .standin
            .world(|world| world.cluster.get(Kind::Node, "", "w1").is_some())
    );
}
