//! Watches, read raw and through kube-rs.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Bench;

/// One watch, line by line.
struct Lines {
    response: reqwest::Response,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(bench: &Bench, query: &str) -> Self {
        let path = format!("/api/v1/nodes?watch=true{query}");
        let response = bench
            .kube_request(Method::GET, &path, None)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        Self {
            response,
            rest: Vec::new(),
        }
    }

    /// The next line; nothing when the stream has ended cleanly.
    async fn next(&mut self) -> Result<Option<Value>, reqwest::Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line).ok());
            }
            match self.response.chunk().await? {
                Some(chunk) => self.rest.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    async fn kind(&mut self) -> String {
        let line = self.next().await.unwrap().unwrap();
        line["type"].as_str().unwrap().to_owned()
    }
}

fn named(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

#[tokio::test]
async fn a_watch_shows_what_there_is_and_then_each_change() {
    let bench = Bench::start().await;
    bench
        .kube(Method::POST, "/api/v1/nodes", Some(named("n1")))
        .await;
    let query =
        "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&bench, query).await;
    assert_eq!(lines.kind().await, "ADDED");
    let bookmark = lines.next().await.unwrap().unwrap();
    assert_eq!(bookmark["type"], json!("BOOKMARK"));
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    bench
        .patch(
            "/api/v1/nodes/n1",
            "merge-patch",
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(lines.kind().await, "MODIFIED");
    bench.kube(Method::DELETE, "/api/v1/nodes/n1", None).await;
    assert_eq!(lines.kind().await, "DELETED");
}

#[tokio::test]
async fn an_object_that_leaves_the_selection_is_deleted_to_the_watch() {
    let bench = Bench::start().await;
    bench
        .kube(Method::POST, "/api/v1/nodes", Some(named("n1")))
        .await;
    let mut lines = Lines::open(&bench, "&labelSelector=pool%3Da").await;
    for (pool, event) in [("a", "ADDED"), ("b", "DELETED")] {
        bench
            .patch(
                "/api/v1/nodes/n1",
                "merge-patch",
                json!({"metadata": {"labels": {"pool": pool}}}),
            )
            .await;
        assert_eq!(lines.kind().await, event);
    }
}

#[tokio::test]
async fn a_watch_from_a_compacted_version_is_told_410_in_a_line() {
    let bench = Bench::start().await;
    bench
        .kube(Method::POST, "/api/v1/nodes", Some(named("n1")))
        .await;
    bench.standin.world(|world| world.cluster.compact());
    let mut lines = Lines::open(&bench, "&resourceVersion=1").await;
    let line = lines.next().await.unwrap().unwrap();
    assert_eq!(line["type"], json!("ERROR"));
    assert_eq!(
        (&line["object"]["code"], &line["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert!(
        line["object"]["message"]
            .as_str()
            .unwrap()
            .starts_with("too old resource version: 1 (")
    );
    assert!(lines.next().await.unwrap().is_none(), "and the stream ends");
}

#[tokio::test]
async fn a_watch_ends_at_its_time_and_a_quiet_one_gets_bookmarks() {
    let bench = Bench::start().await;
    let mut lines = Lines::open(&bench, "&allowWatchBookmarks=true&timeoutSeconds=100").await;
    bench.advance(61);
    assert_eq!(lines.kind().await, "BOOKMARK");
    bench.advance(50);
    assert!(lines.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_silent_watch_says_nothing_and_goes_on_afterwards() {
    let bench = Bench::start().await;
    let mut lines = Lines::open(&bench, "").await;
    bench.standin.faults(|faults| faults.watches_silent = true);
    bench
        .kube(Method::POST, "/api/v1/nodes", Some(named("n1")))
        .await;
    let silence = tokio::time::timeout(Duration::from_millis(200), lines.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    bench.standin.faults(|faults| faults.watches_silent = false);
    assert_eq!(lines.kind().await, "ADDED");
}

#[tokio::test]
async fn when_the_api_server_dies_open_watches_break() {
    let bench = Bench::start().await;
    let mut lines = Lines::open(&bench, "").await;
    bench.standin.faults(|faults| faults.kube_down = true);
    assert!(lines.next().await.is_err());
    assert!(
        bench
            .kube_request(Method::GET, "/readyz", None)
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn kube_rs_lists_watches_patches_evicts_and_deletes() {
    let bench = Bench::start().await;
    bench.add_node("w1", "aaaaaa").await;
    let client = bench.kube_client();
    let nodes: Api<Node> = Api::all(client.clone());
    let list = nodes.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let node = list.items.into_iter().next().unwrap();
    assert!(
        node.spec
            .unwrap()
            .provider_id
            .unwrap()
            .starts_with("openstack:///")
    );

    let mut seen = watcher(nodes.clone(), watcher::Config::default()).boxed();
    loop {
        if let watcher::Event::InitDone = seen.try_next().await.unwrap().unwrap() {
            break;
        }
    }
    nodes.cordon("w1").await.unwrap();
    loop {
        if let watcher::Event::Apply(node) = seen.try_next().await.unwrap().unwrap()
            && node.spec.unwrap().unschedulable == Some(true)
        {
            break;
        }
    }
    let label = json!({"metadata": {"labels": {"rhizome-pool": "workers"}}});
    nodes
        .patch("w1", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    nodes.uncordon("w1").await.unwrap();

    bench
        .standin
        .world(|world| world.set_workload("web", rhizome_standin::Workload::default()));
    bench.advance(3);
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let on_node = ListParams::default().fields("spec.nodeName=w1");
    let pod = pods.list(&on_node).await.unwrap().items.remove(0);
    let name = pod.metadata.name.unwrap();
    let evicted = pods.evict(&name, &EvictParams::default()).await.unwrap();
    assert_eq!(evicted.code, 201);

    let wrong = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("other".to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match nodes.delete("w1", &wrong).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"))
        }
        other => panic!("{other:?}"),
    }
    assert!(
        nodes
            .delete("w1", &DeleteParams::default())
            .await
            .unwrap()
            .is_right()
    );
    assert!(nodes.get_opt("w1").await.unwrap().is_none());
}
