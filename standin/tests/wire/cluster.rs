//! The API server, answer by answer as they were seen on v1.36.3.

use reqwest::Method;
use rhizome_standin::{Fact, Fate};
use serde_json::json;

use crate::Bench;
use crate::pods::{PODS, pod};

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
