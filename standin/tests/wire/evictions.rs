//! Evictions, and the budgets that refuse them.

use reqwest::Method;
use rhizome_standin::Workload;
use serde_json::json;

use crate::Bench;
use crate::pods::{BUDGETS, PODS, budget, evict, eviction, pod, with_two_pods};

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
