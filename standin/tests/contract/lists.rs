//! Health, lists by pages, and watches.

use reqwest::Method;
use serde_json::{Value, json};

use crate::side::Side;

pub(crate) async fn health(side: &mut Side) {
    side.log_in("");
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        side.ask(path, Method::GET, path, Value::Null).await;
    }
    side.ask(
        "a path without a right",
        Method::GET,
        "/nothing",
        Value::Null,
    )
    .await;
    side.ask(
        "nodes without a right",
        Method::GET,
        "/api/v1/nodes",
        Value::Null,
    )
    .await;
    side.log_in("nonsense");
    side.ask(
        "a token that is none",
        Method::GET,
        "/api/v1/nodes",
        Value::Null,
    )
    .await;
    side.ask("health with it", Method::GET, "/readyz", Value::Null)
        .await;
}

async fn three_configmaps(side: &Side, namespace: &str) -> String {
    let space = json!({"metadata": {"name": namespace}});
    side.prepare(Method::POST, "/api/v1/namespaces", "", space)
        .await;
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    for name in ["one", "three", "two"] {
        let map =
            json!({"metadata": {"name": name, "labels": {"contract": "yes"}}, "data": {"a": "b"}});
        side.prepare(Method::POST, &maps, "", map).await;
    }
    maps
}

pub(crate) async fn pages(side: &mut Side) {
    let maps = three_configmaps(side, "contract-pages").await;
    let chosen = format!("{maps}?labelSelector=contract%3Dyes");
    side.ask("all", Method::GET, &chosen, Value::Null).await;
    let first = side
        .ask(
            "two",
            Method::GET,
            &format!("{chosen}&limit=2"),
            Value::Null,
        )
        .await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let token = token
        .replace('+', "%2B")
        .replace('=', "%3D")
        .replace('/', "%2F");
    side.ask(
        "the rest",
        Method::GET,
        &format!("{chosen}&limit=2&continue={token}"),
        Value::Null,
    )
    .await;
    side.ask(
        "from the cache",
        Method::GET,
        &format!("{chosen}&limit=2&resourceVersion=0"),
        Value::Null,
    )
    .await;
    side.ask(
        "none of them",
        Method::GET,
        &format!("{maps}?labelSelector=contract%3Dno"),
        Value::Null,
    )
    .await;
    side.ask(
        "by name",
        Method::GET,
        &format!("{maps}?fieldSelector=metadata.name%3Done"),
        Value::Null,
    )
    .await;
    side.ask(
        "a version to come",
        Method::GET,
        &format!("{chosen}&resourceVersion=99999999"),
        Value::Null,
    )
    .await;
    side.ask(
        "a kind that is none",
        Method::GET,
        "/api/v1/nothings",
        Value::Null,
    )
    .await;
    side.ask(
        "a group that is none",
        Method::GET,
        "/apis/nothing.org/v1/nothings",
        Value::Null,
    )
    .await;
}

pub(crate) async fn watches(side: &mut Side) {
    let maps = three_configmaps(side, "contract-watches").await;
    let chosen = format!("{maps}?labelSelector=contract%3Dyes");
    let list = side.prepare(Method::GET, &chosen, "", Value::Null).await;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let change = json!({"data": {"a": "c"}});
    let one = format!("{maps}/one");
    side.prepare(Method::PATCH, &one, "merge-patch", change)
        .await;
    let unlabel = json!({"metadata": {"labels": null}});
    side.prepare(Method::PATCH, &one, "merge-patch", unlabel)
        .await;
    side.prepare(Method::DELETE, &format!("{maps}/two"), "", Value::Null)
        .await;
    let watch = format!("{chosen}&watch=true&timeoutSeconds=2&resourceVersion={version}");
    side.ask("what happened since", Method::GET, &watch, Value::Null)
        .await;
    let all = format!("{chosen}&watch=true&timeoutSeconds=2");
    side.ask("from the beginning", Method::GET, &all, Value::Null)
        .await;
    let old = format!("{chosen}&watch=true&timeoutSeconds=2&resourceVersion=nonsense");
    side.ask("from nonsense", Method::GET, &old, Value::Null)
        .await;
}
