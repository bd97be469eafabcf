//! Faults: each changes what a client sees or when the world changes, and the ledger knows.

use std::time::Duration;

use reqwest::Method;
use rhizome_engine::names::OperationId;
use rhizome_standin::{Api, Effect, Fault, Refusal, Rule};
use serde_json::json;

use crate::{Bench, server};

const SERVERS: &str = "/compute/v2.1/servers";
const OPERATION: OperationId = OperationId {
    journal: 0x0a1b_2c3d,
    number: 7,
};

fn marked(name: &str) -> serde_json::Value {
    server(
        name,
        json!({"metadata": {"rhizome-operation": OPERATION.to_string()}}),
    )
}

async fn count(bench: &Bench) -> usize {
    let got = bench.nova(Method::GET, "/servers", None).await.body;
    got["servers"].as_array().unwrap().len()
}

/// What the ledger says of the only create: its status, its effect, its fault.
fn create(bench: &Bench) -> (Option<u16>, Effect, Option<&'static str>) {
    let ledger = bench.standin.ledger();
    let creates: Vec<_> = ledger.creates_of(OPERATION).collect();
    assert_eq!(creates.len(), 1);
    (creates[0].status, creates[0].effect, creates[0].fault)
}

#[tokio::test]
async fn a_refusal_is_answered_and_nothing_is_done() {
    let bench = Bench::start().await;
    bench.standin.fault(
        Rule::new(SERVERS, Fault::Refuse(Refusal::nova_too_many(7)))
            .method("POST")
            .times(1),
    );
    let got = bench
        .nova(Method::POST, "/servers", Some(marked("w")))
        .await;
    assert_eq!((got.status, got.header("retry-after")), (429, Some("7")));
    assert!(got.body.get("overLimit").is_some());
    assert_eq!(count(&bench).await, 0);
    assert_eq!(create(&bench), (Some(429), Effect::None, Some("refuse")));
    assert_eq!(
        bench
            .nova(Method::POST, "/servers", Some(marked("w")))
            .await
            .status,
        202,
        "used up"
    );
}

#[tokio::test]
async fn a_connection_is_dropped_before_or_after_doing() {
    for (fault, servers, effect, name) in [
        (Fault::DropBefore, 0, Effect::None, "drop_before"),
        (Fault::DropAfter, 1, Effect::Done, "drop_after"),
    ] {
        let bench = Bench::start().await;
        bench
            .standin
            .fault(Rule::new(SERVERS, fault).method("POST").times(1));
        let error = bench
            .nova_request(Method::POST, "/servers", Some(marked("w")))
            .send()
            .await;
        assert!(error.is_err(), "{name}");
        assert_eq!(count(&bench).await, servers, "{name}");
        assert_eq!(create(&bench), (None, effect, Some(name)));
    }
}

#[tokio::test]
async fn done_but_answered_with_a_503() {
    let bench = Bench::start().await;
    bench
        .standin
        .fault(Rule::new(SERVERS, Fault::DoneBut(Refusal::nova(503, "away"))).method("POST"));
    let got = bench
        .nova(Method::POST, "/servers", Some(marked("w")))
        .await;
    assert_eq!(got.status, 503);
    assert_eq!(count(&bench).await, 1);
    assert_eq!(create(&bench), (Some(503), Effect::Done, Some("done_but")));
}

#[tokio::test]
async fn done_90_s_later() {
    let bench = Bench::start().await;
    bench
        .standin
        .fault(Rule::new(SERVERS, Fault::DoLate(Duration::from_secs(90), None)).method("POST"));
    let request = bench.nova_request(Method::POST, "/servers", Some(marked("w")));
    assert!(request.send().await.is_err());
    assert_eq!(create(&bench).1, Effect::Pending);
    bench.advance(89);
    assert_eq!(count(&bench).await, 0);
    bench.advance(2);
    // The late doer runs in a task of its own: wait for what it does.
    while count(&bench).await == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(create(&bench).1, Effect::DoneLate(_)));
}

#[tokio::test]
async fn a_client_that_gives_up_undoes_nothing() {
    let bench = Bench::start().await;
    bench
        .standin
        .fault(Rule::new(SERVERS, Fault::Delay(Duration::from_secs(20))).method("POST"));
    let request = bench.nova_request(Method::POST, "/servers", Some(marked("w")));
    let asking = tokio::spawn(request.send());
    while bench.standin.ledger().creates_of(OPERATION).count() == 0 {
        tokio::task::yield_now().await;
    }
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    bench.advance(21);
    while count(&bench).await == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn lists_that_are_partial_stale_cut_or_slow() {
    let bench = Bench::start().await;
    for name in ["a", "b", "c"] {
        bench.create(name, json!({})).await;
    }
    let stale = bench
        .standin
        .fault(Rule::new("/compute/**", Fault::Stale).method("GET"));
    bench.create("d", json!({})).await;
    assert_eq!(count(&bench).await, 3, "as it was");
    bench.standin.faults(|faults| faults.remove(stale));
    assert_eq!(count(&bench).await, 4);
    bench.standin.fault(
        Rule::new(SERVERS, Fault::PartialList(1))
            .method("GET")
            .times(1),
    );
    assert_eq!(count(&bench).await, 1);
    bench
        .standin
        .fault(Rule::new(SERVERS, Fault::CutBody).method("GET").times(1));
    let response = bench
        .nova_request(Method::GET, "/servers", None)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.text().await.is_err());
    bench.standin.fault(
        Rule::new(SERVERS, Fault::SlowBody(100, Duration::from_secs(1)))
            .method("GET")
            .times(1),
    );
    let mut response = bench
        .nova_request(Method::GET, "/servers", None)
        .send()
        .await
        .unwrap();
    let first = loop {
        tokio::select! {
            chunk = response.chunk() => break chunk.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(10)) => bench.advance(1),
        }
    };
    assert!(first.len() <= 100, "{}", first.len());
}

#[tokio::test]
async fn servers_that_never_get_done() {
    let bench = Bench::start().await;
    bench.standin.fault(
        Rule::new(SERVERS, Fault::BuildForever)
            .method("POST")
            .times(1),
    );
    let id = bench.create("w", json!({})).await;
    bench.advance(3_600);
    let status = bench
        .standin
        .world(|world| world.cloud.servers[&id].status());
    assert_eq!(status, "BUILD");
}

#[tokio::test]
async fn a_server_that_comes_up_without_an_address() {
    let bench = Bench::start().await;
    bench
        .standin
        .fault(Rule::new(SERVERS, Fault::NoAddress).method("POST").times(1));
    let id = bench.create("w", json!({})).await;
    bench.advance(600);
    let path = format!("/servers/{id}");
    let got = bench.nova(Method::GET, &path, None).await.body;
    assert_eq!(
        (&got["server"]["status"], &got["server"]["addresses"]),
        (&json!("ACTIVE"), &json!({}))
    );
    let nodes = bench.kube(Method::GET, "/api/v1/nodes", None).await.body;
    assert_eq!(nodes["items"], json!([]), "nobody hears of it");
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 204);
    bench.advance(3);
    assert_eq!(bench.nova(Method::GET, &path, None).await.status, 404);
}

#[tokio::test]
async fn a_delete_that_hangs_is_finished_by_a_second() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({})).await;
    bench.advance(21);
    let path = format!("/servers/{id}");
    bench.standin.fault(
        Rule::new("/compute/v2.1/servers/*", Fault::DeleteStuck)
            .method("DELETE")
            .times(1),
    );
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 204);
    bench.advance(600);
    let got = bench.nova(Method::GET, &path, None).await.body;
    assert_eq!(got["server"]["OS-EXT-STS:task_state"], json!("deleting"));
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 204);
    bench.advance(3);
    assert_eq!(bench.nova(Method::GET, &path, None).await.status, 404);
}

#[tokio::test]
async fn rules_let_some_pass_and_know_their_service() {
    let bench = Bench::start().await;
    let rule = Rule::new("**", Fault::Refuse(Refusal::flow_control(2)))
        .on(Api::Kubernetes)
        .skip(1)
        .times(1);
    bench.standin.fault(rule);
    assert_eq!(
        bench.kube(Method::GET, "/api/v1/nodes", None).await.status,
        200
    );
    let got = bench.kube(Method::GET, "/api/v1/nodes", None).await;
    assert_eq!((got.status, got.header("retry-after")), (429, Some("2")));
    assert_eq!(got.text, "Too many requests, please try again later.\n");
    assert_eq!(
        bench.kube(Method::GET, "/api/v1/nodes", None).await.status,
        200
    );
    assert_eq!(bench.nova(Method::GET, "/servers", None).await.status, 200);
}

#[tokio::test]
async fn the_ledger_knows_who_asked_for_what_and_for_which_operation() {
    let bench = Bench::start().await;
    let got = bench
        .nova(Method::POST, "/servers", Some(marked("w")))
        .await;
    let id = got.body["server"]["id"].as_str().unwrap().to_owned();
    bench.advance(21);
    bench
        .nova(Method::DELETE, &format!("/servers/{id}"), None)
        .await;
    bench
        .kube(
            Method::POST,
            "/api/v1/namespaces/default/pods?dryRun=All",
            Some(json!({"metadata": {"name": "p"}})),
        )
        .await;
    let ledger = bench.standin.ledger();
    let mutations: Vec<(&str, Option<OperationId>, Effect)> = ledger
        .mutations()
        .map(|entry| (entry.method.as_str(), entry.operation, entry.effect))
        .collect();
    assert_eq!(
        mutations,
        [
            ("POST", Some(OPERATION), Effect::Done),
            ("DELETE", Some(OPERATION), Effect::Done),
        ],
        "neither the login nor the dry run"
    );
    assert_eq!(
        ledger.servers_of(OPERATION).collect::<Vec<_>>(),
        [id.as_str()]
    );
}
