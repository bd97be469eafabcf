//! The checker: a course that keeps every invariant, and for each invariant one that breaks it.

use std::time::Duration;

use reqwest::Method;
use rhizome_engine::names::OperationId;
use rhizome_standin::checker::{self, Bounds};
use serde_json::{Value, json};

use crate::{Bench, user_data};

fn bounds() -> Bounds {
    Bounds {
        most: [("workers".to_owned(), 3)].into(),
        velocity: vec![(Duration::from_secs(60), 1), (Duration::from_secs(600), 5)],
    }
}

fn marks(number: u64) -> Value {
    let operation = OperationId { journal: 1, number };
    json!({"rhizome-owner": "rhizome", "rhizome-pool": "workers",
        "rhizome-operation": operation.to_string()})
}

async fn owned(bench: &Bench, name: &str, number: u64) -> String {
    let token = bench.bootstrap_token("aaaaaa", 3_600).await;
    let body = json!({"metadata": marks(number), "user_data": user_data(&token, name)});
    let id = bench.create(name, body).await;
    bench.advance(60);
    bench.node(name).await;
    let secret = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaaa";
    bench.kube(Method::DELETE, secret, None).await;
    id
}

async fn delete(bench: &Bench, id: &str, look: bool) {
    let path = format!("/servers/{id}");
    if look {
        bench.nova(Method::GET, &path, None).await;
    }
    bench.nova(Method::DELETE, &path, None).await;
}

/// The names of the invariants that are broken, each once.
fn broken(bench: &Bench) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = bench
        .standin
        .world(|world| checker::at_the_end(world, &bounds()))
        .into_iter()
        .map(|violation| violation.invariant)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test]
async fn a_proper_course_breaks_nothing() {
    let bench = Bench::start().await;
    let id = owned(&bench, "w1", 1).await;
    owned(&bench, "w2", 2).await;
    bench
        .patch(
            "/api/v1/nodes/w1",
            "merge-patch",
            json!({"spec": {"unschedulable": true}}),
        )
        .await;
    assert_eq!(broken(&bench), ["no_orphan_cordons"]);
    delete(&bench, &id, true).await;
    bench.advance(5);
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    assert_eq!(broken(&bench), Vec::<&str>::new());
}

#[tokio::test]
async fn a_delete_without_a_look_and_too_fast() {
    let bench = Bench::start().await;
    let (a, b) = (owned(&bench, "w1", 1).await, owned(&bench, "w2", 2).await);
    delete(&bench, &a, false).await;
    assert_eq!(broken(&bench), ["deletes_after_a_read"]);
    delete(&bench, &b, true).await;
    assert_eq!(broken(&bench), ["deletes_after_a_read", "velocity"]);
    let bench = Bench::start().await;
    let id = owned(&bench, "w1", 1).await;
    bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await;
    bench.advance(11);
    delete(&bench, &id, false).await;
    assert_eq!(
        broken(&bench),
        ["deletes_after_a_read"],
        "the look is too old"
    );
}

#[tokio::test]
async fn what_is_not_ours_is_touched() {
    for (metadata, fine) in [
        (json!({}), false),
        (
            json!({"rhizome-owner": "rhizome", "rhizome-do-not-touch": "1"}),
            false,
        ),
        (json!({"rhizome-owner": "rhizome"}), true),
    ] {
        let bench = Bench::start().await;
        let id = bench.create("w", json!({"metadata": metadata})).await;
        bench.advance(21);
        let stop = json!({"os-stop": null});
        bench
            .nova(Method::POST, &format!("/servers/{id}/action"), Some(stop))
            .await;
        let touched = broken(&bench).contains(&"touches_only_its_own");
        assert_eq!(touched, !fine, "{metadata}");
    }
}

#[tokio::test]
async fn a_pool_that_grows_past_its_bound() {
    let bench = Bench::start().await;
    for number in 1..=4 {
        owned(&bench, &format!("w{number}"), number).await;
        assert_eq!(
            broken(&bench).contains(&"pool_size"),
            number > 3,
            "{number}"
        );
    }
}

#[tokio::test]
async fn an_operation_that_makes_and_joins_two() {
    let bench = Bench::start().await;
    owned(&bench, "w1", 1).await;
    bench.create("w1b", json!({"metadata": marks(1)})).await;
    assert_eq!(broken(&bench), ["no_duplicates", "no_orphan_servers"]);
    let bench = Bench::start().await;
    owned(&bench, "w1", 1).await;
    owned(&bench, "w2", 1).await;
    assert_eq!(
        broken(&bench),
        ["no_duplicates", "one_joined_server_per_operation"]
    );
}

#[tokio::test]
async fn a_node_deleted_before_its_server_and_a_token_left_behind() {
    let bench = Bench::start().await;
    owned(&bench, "w1", 1).await;
    bench.kube(Method::DELETE, "/api/v1/nodes/w1", None).await;
    assert_eq!(
        broken(&bench),
        ["no_orphan_servers", "node_deleted_after_its_server"]
    );
    bench.bootstrap_token("bbbbbb", 600).await;
    assert!(broken(&bench).contains(&"no_orphan_tokens"));
}

#[tokio::test]
async fn a_node_out_of_service_whose_server_runs() {
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service",
        "value": "nodeshutdown", "effect": "NoExecute"}]}});
    for off in [false, true] {
        let bench = Bench::start().await;
        let id = owned(&bench, "w1", 1).await;
        if off {
            let stop = json!({"os-stop": null});
            let path = format!("/servers/{id}/action");
            bench.nova(Method::POST, &path, Some(stop)).await;
            bench.advance(60);
        }
        bench
            .patch("/api/v1/nodes/w1", "merge-patch", taint.clone())
            .await;
        let wanted: &[&str] = match off {
            true => &[],
            false => &[
                "no_running_server_out_of_service",
                "out_of_service_after_its_server",
            ],
        };
        let broken = broken(&bench).into_iter();
        let of_it: Vec<_> = broken
            .filter(|name| name.contains("out_of_service"))
            .collect();
        assert_eq!(of_it, wanted, "off: {off}");
    }
}
