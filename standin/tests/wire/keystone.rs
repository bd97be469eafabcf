//! Keystone: versions, tokens, and what becomes of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Bench;

#[tokio::test]
async fn keystone_shows_its_versions_and_a_catalogue() {
    let bench = Bench::start().await;
    let root = bench.keystone(Method::GET, "/", None).await;
    assert_eq!(root.status, 300);
    let version = &root.body["versions"]["values"][0];
    assert_eq!(
        (&version["id"], &version["status"]),
        (&json!("v3.14"), &json!("stable"))
    );
    let v3 = bench.keystone(Method::GET, "/v3", None).await;
    assert_eq!(
        (v3.status, &v3.body["version"]["id"]),
        (200, &json!("v3.14"))
    );
    assert!(
        v3.header("x-openstack-request-id")
            .unwrap()
            .starts_with("req-")
    );
    let catalog = bench.keystone(Method::GET, "/v3/auth/catalog", None).await;
    let compute = catalog.body["catalog"]
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["type"] == "compute")
        .unwrap();
    let url = format!("{}/compute/v2.1", bench.standin.openstack_url());
    assert_eq!(compute["endpoints"][0]["url"], json!(url));
}

#[tokio::test]
async fn a_token_comes_in_a_header_and_its_body_says_who_and_until_when() {
    let bench = Bench::start().await;
    let login = |user: Value, scope: Option<Value>| {
        let mut body =
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
        if let Some(scope) = scope {
            body["auth"]["scope"] = scope;
        }
        bench.keystone(Method::POST, "/v3/auth/tokens", Some(body))
    };
    let user = json!({"name": "scaler", "domain": {"id": "default"}, "password": "pw"});
    let project = json!({"project": {"name": "demo", "domain": {"id": "default"}}});
    let got = login(user.clone(), Some(project)).await;
    assert_eq!(got.status, 201);
    assert_eq!(got.header("x-subject-token").unwrap().len(), 183);
    let token = &got.body["token"];
    assert_eq!(token["methods"], json!(["password"]));
    assert_eq!(token["expires_at"], json!("2026-11-22T08:42:54.000000Z"));
    assert_eq!(token["project"]["name"], json!("demo"));
    assert!(token["catalog"].is_array());

    let unscoped = login(user, None).await;
    assert_eq!(unscoped.status, 201);
    assert!(unscoped.body["token"].get("catalog").is_none());

    let wrong = json!({"name": "scaler", "domain": {"id": "default"}, "password": "no"});
    let refused = login(wrong, None).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.body,
        json!({"error": {"code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication."}})
    );
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Keystone uri=")
    );
}

#[tokio::test]
async fn an_application_credential_may_ask_for_no_scope_and_is_404_once_deleted() {
    let bench = Bench::start().await;
    let credentials = bench.standin.credentials().clone();
    let mut body = json!({"auth": {"identity": {"methods": ["application_credential"],
        "application_credential": {"id": credentials.application_credential_id,
            "secret": credentials.application_credential_secret}}}});
    let got = bench
        .keystone(Method::POST, "/v3/auth/tokens", Some(body.clone()))
        .await;
    assert_eq!(
        got.body["token"]["application_credential"]["restricted"],
        json!(true)
    );

    body["auth"]["scope"] = json!({"project": {"id": "x"}});
    let got = bench
        .keystone(Method::POST, "/v3/auth/tokens", Some(body.clone()))
        .await;
    assert_eq!(got.status, 401);
    assert_eq!(
        got.body["error"]["message"],
        json!(
            "Error authenticating with application credential: Application credentials cannot request a scope."
        )
    );

    body["auth"].as_object_mut().unwrap().remove("scope");
    bench
        .standin
        .world(|world| world.cloud.application_credential_alive = false);
    let got = bench
        .keystone(Method::POST, "/v3/auth/tokens", Some(body))
        .await;
    assert_eq!(got.status, 404);
    // Tokens made with it die with it.
    assert_eq!(bench.nova(Method::GET, "/servers", None).await.status, 401);
}

#[tokio::test]
async fn a_token_dies_at_its_time() {
    let mut bench = Bench::start().await;
    bench.advance(3_599);
    assert_eq!(bench.nova(Method::GET, "/servers", None).await.status, 200);
    bench.advance(2);
    let got = bench.nova(Method::GET, "/servers", None).await;
    assert_eq!(got.status, 401);
    assert_eq!(
        got.body,
        json!({"error": {"code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication."}})
    );
    bench.token = bench.log_in().await;
    assert_eq!(bench.nova(Method::GET, "/servers", None).await.status, 200);
}

#[tokio::test]
async fn while_keystone_is_away_nova_goes_on_for_tokens_that_it_knows() {
    let mut bench = Bench::start().await;
    let fresh = bench.log_in().await;
    bench.nova(Method::GET, "/servers", None).await;
    bench.standin.faults(|faults| faults.keystone_down = true);
    assert_eq!(bench.nova(Method::GET, "/servers", None).await.status, 200);
    bench.token = fresh;
    let got = bench.nova(Method::GET, "/servers", None).await;
    assert_eq!(got.status, 503);
    assert!(got.body.get("serviceUnavailable").is_some());
}
