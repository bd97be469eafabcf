//! Nova: microversions, and how servers come to be.

use reqwest::Method;
use rhizome_standin::{Fault, NO_VALID_HOST, Options, Quota, Rule};
use serde_json::{Value, json};

use crate::{Bench, server};

#[tokio::test]
async fn nova_refuses_microversions_that_it_does_not_have() {
    let mut bench = Bench::start().await;
    let discovery = bench.keystone(Method::GET, "/compute/", None).await;
    let current = &discovery.body["versions"][1];
    assert_eq!(
        (
            &current["status"],
            &current["min_version"],
            &current["version"]
        ),
        (&json!("CURRENT"), &json!("2.1"), &json!("2.93"))
    );
    bench.microversion = "2.999";
    let got = bench.nova(Method::GET, "/servers", None).await;
    assert_eq!(got.status, 406);
    assert_eq!(
        got.body,
        json!({"computeFault": {"code": 406, "message": "Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.93."}})
    );
    bench.microversion = "two";
    let got = bench.nova(Method::GET, "/servers", None).await;
    assert_eq!(
        (got.status, got.body.get("badRequest").is_some()),
        (400, true)
    );
    bench.microversion = "";
    let got = bench.nova(Method::GET, "/servers", None).await;
    assert_eq!(got.header("openstack-api-version"), Some("compute 2.1"));
}

#[tokio::test]
async fn a_server_is_built_and_its_marks_come_back() {
    let bench = Bench::start().await;
    let body = server(
        "w1",
        json!({"metadata": {"rhizome-owner": "rhizome"}, "tags": ["a", "b"], "user_data": "aGk="}),
    );
    let got = bench.nova(Method::POST, "/servers", Some(body)).await;
    assert_eq!(got.status, 202);
    let created = &got.body["server"];
    let mut keys: Vec<&String> = created.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "OS-DCF:diskConfig",
            "adminPass",
            "id",
            "links",
            "security_groups"
        ]
    );
    let id = created["id"].as_str().unwrap();
    assert!(got.header("location").unwrap().ends_with(id));

    let path = format!("/servers/{id}");
    let new = bench.nova(Method::GET, &path, None).await.body;
    assert_eq!(new["server"]["status"], json!("BUILD"));
    assert_eq!(new["server"]["OS-EXT-STS:task_state"], json!("scheduling"));
    assert_eq!(new["server"]["hostId"], json!(""));
    assert_eq!(new["server"]["addresses"], json!({}));

    bench.advance(21);
    let built = bench.nova(Method::GET, &path, None).await.body;
    let built = &built["server"];
    assert_eq!(built["status"], json!("ACTIVE"));
    assert_eq!(built["OS-EXT-STS:task_state"], Value::Null);
    assert_eq!(built["OS-EXT-STS:power_state"], json!(1));
    assert_eq!(built["metadata"], json!({"rhizome-owner": "rhizome"}));
    assert_eq!(built["tags"], json!(["a", "b"]));
    assert_eq!(built["flavor"]["original_name"], json!("m1.medium"));
    assert_eq!(built["created"], json!("2026-11-22T07:42:54Z"));
    assert!(built["addresses"]["private"][0]["addr"].is_string());
    assert!(
        built.get("OS-EXT-SRV-ATTR:user_data").is_none(),
        "only an admin sees it"
    );
}

#[tokio::test]
async fn an_admin_sees_user_data_and_may_reset_states() {
    let mut bench = Bench::start().await;
    let id = bench.create("w1", json!({"user_data": "aGk="})).await;
    bench.advance(21);
    let reset = json!({"os-resetState": {"state": "error"}});
    let path = format!("/servers/{id}/action");
    let got = bench.nova(Method::POST, &path, Some(reset.clone())).await;
    assert_eq!(got.status, 403);
    bench.token = bench.log_in_as_admin().await;
    let shown = bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await
        .body;
    assert_eq!(shown["server"]["OS-EXT-SRV-ATTR:user_data"], json!("aGk="));
    assert_eq!(shown["server"]["host_status"], json!("UP"));
    assert_eq!(
        bench.nova(Method::POST, &path, Some(reset)).await.status,
        202
    );
    let shown = bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await
        .body;
    assert_eq!(shown["server"]["status"], json!("ERROR"));
    assert_eq!(shown["server"].get("fault"), None);
}

#[tokio::test]
async fn the_same_create_twice_makes_two_servers() {
    let bench = Bench::start().await;
    let (a, b) = (
        bench.create("w", json!({})).await,
        bench.create("w", json!({})).await,
    );
    assert_ne!(a, b);
    let list = bench.nova(Method::GET, "/servers", None).await.body;
    assert_eq!(list["servers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn creates_that_nova_refuses() {
    let mut bench = Bench::start().await;
    let unknown = "0".repeat(8);
    for (microversion, more, status, words) in [
        (
            "2.1",
            json!({"tags": ["a"]}),
            400,
            "Additional properties are not allowed ('tags' was unexpected)",
        ),
        ("2.93", json!({"wrong": 1}), 400, "('wrong' was unexpected)"),
        (
            "2.93",
            json!({"flavorRef": unknown}),
            400,
            "could not be found",
        ),
        (
            "2.93",
            json!({"imageRef": unknown}),
            400,
            "Can not find requested image",
        ),
        (
            "2.93",
            json!({"networks": [{"uuid": unknown}]}),
            400,
            "could not be found",
        ),
        (
            "2.93",
            json!({"user_data": "A".repeat(65_536)}),
            400,
            "is too long",
        ),
        (
            "2.93",
            json!({"metadata": {"n": 1}}),
            400,
            "is not of type 'string'",
        ),
        ("2.93", json!({"tags": ["a/b"]}), 400, "does not match"),
    ] {
        bench.microversion = microversion;
        let got = bench
            .nova(Method::POST, "/servers", Some(server("w", more.clone())))
            .await;
        assert_eq!(got.status, status, "{more}");
        let message = got.body["badRequest"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    let mut body = server("w", json!({}));
    body["server"].as_object_mut().unwrap().remove("networks");
    for (microversion, status) in [("2.36", 202), ("2.37", 400)] {
        bench.microversion = microversion;
        let got = bench
            .nova(Method::POST, "/servers", Some(body.clone()))
            .await;
        assert_eq!(got.status, status, "networks at {microversion}");
    }
}

#[tokio::test]
async fn a_quota_is_a_403_and_counts_servers_in_error() {
    let bench = Bench::with(Options {
        quota: Quota {
            instances: 2,
            cores: 100,
            ram_mib: 100_000,
            ..Quota::default()
        },
        ..Options::default()
    })
    .await;
    bench.standin.fault(
        Rule::new("/compute/v2.1/servers", Fault::BuildFails(NO_VALID_HOST))
            .method("POST")
            .times(1),
    );
    let failed = bench.create("a", json!({})).await;
    bench.create("b", json!({})).await;
    bench.advance(21);
    let got = bench
        .nova(Method::GET, &format!("/servers/{failed}"), None)
        .await
        .body;
    assert_eq!(got["server"]["status"], json!("ERROR"));
    assert_eq!(
        got["server"]["fault"]["message"],
        json!("No valid host was found. ")
    );
    assert_eq!(got["server"]["fault"]["code"], json!(500));
    let got = bench
        .nova(Method::POST, "/servers", Some(server("c", json!({}))))
        .await;
    assert_eq!(got.status, 403);
    assert_eq!(
        got.body,
        json!({"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"}})
    );
    let limits = bench.nova(Method::GET, "/limits", None).await.body;
    assert_eq!(limits["limits"]["absolute"]["totalInstancesUsed"], json!(2));
    // One that was never built cannot be rebooted or rebuilt: only deleted.
    let path = format!("/servers/{failed}/action");
    let hard = json!({"reboot": {"type": "HARD"}});
    assert_eq!(
        bench.nova(Method::POST, &path, Some(hard)).await.status,
        409
    );
}
