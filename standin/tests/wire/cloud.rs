//! Keystone and Nova, answer by answer as they were seen (Keystone 30, Nova 26.2).

use reqwest::Method;
use rhizome_standin::{Fault, NO_VALID_HOST, Options, Quota, Rule};
use serde_json::{Value, json};

use crate::{Bench, server};

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

#[tokio::test]
async fn below_2_26_a_tag_filter_is_ignored_and_every_server_comes_back() {
    let mut bench = Bench::start().await;
    bench.create("a", json!({"tags": ["mine"]})).await;
    bench.create("b", json!({})).await;
    for (microversion, count) in [("2.1", 2), ("2.25", 2), ("2.26", 1), ("2.93", 1)] {
        bench.microversion = microversion;
        let got = bench
            .nova(Method::GET, "/servers?tags=mine", None)
            .await
            .body;
        assert_eq!(
            got["servers"].as_array().unwrap().len(),
            count,
            "{microversion}"
        );
    }
    for (microversion, status) in [("2.74", 200), ("2.75", 400)] {
        bench.microversion = microversion;
        let got = bench.nova(Method::GET, "/servers?no-such=1", None).await;
        assert_eq!(got.status, status, "{microversion}");
    }
}

#[tokio::test]
async fn a_name_filter_is_a_regular_expression_that_may_match_anywhere() {
    let bench = Bench::start().await;
    for name in ["a2", "a22", "b"] {
        bench.create(name, json!({"metadata": {"k": name}})).await;
    }
    for (query, count) in [
        ("name=a2", 2),
        ("name=%5Ea2%24", 1),
        ("name=.", 3),
        ("metadata=%7B%22k%22%3A%22b%22%7D", 1),
        ("status=build", 3),
        ("status=ACTIVE", 0),
        // Of a user it is not heard.
        ("deleted=true", 3),
    ] {
        let got = bench
            .nova(Method::GET, &format!("/servers?{query}"), None)
            .await
            .body;
        assert_eq!(got["servers"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_that_link_to_the_next() {
    let bench = Bench::start().await;
    for number in 0..5 {
        bench.create(&format!("w{number}"), json!({})).await;
        bench.advance(1);
    }
    let mut names = Vec::new();
    let mut path = "/servers/detail?limit=2".to_owned();
    let mut pages = 0;
    loop {
        let got = bench.nova(Method::GET, &path, None).await.body;
        pages += 1;
        for server in got["servers"].as_array().unwrap() {
            names.push(server["name"].as_str().unwrap().to_owned());
        }
        let Some(link) = got["servers_links"][0]["href"].as_str() else {
            break;
        };
        assert_eq!(got["servers_links"][0]["rel"], json!("next"));
        path = link.split("/compute/v2.1").nth(1).unwrap().to_owned();
    }
    assert_eq!(
        (names, pages),
        (
            ["w4", "w3", "w2", "w1", "w0"].map(str::to_owned).to_vec(),
            3
        )
    );
    let got = bench
        .nova(Method::GET, "/servers?marker=nobody", None)
        .await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn a_delete_is_accepted_at_once_and_done_later() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({})).await;
    bench.advance(21);
    let path = format!("/servers/{id}");
    let before = "2026-11-22T07:43:10Z";
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 204);
    let got = bench.nova(Method::GET, &path, None).await.body;
    assert_eq!(got["server"]["OS-EXT-STS:task_state"], json!("deleting"));
    assert_eq!(got["server"]["status"], json!("ACTIVE"));
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 204);
    bench.advance(3);
    let got = bench.nova(Method::GET, &path, None).await;
    assert_eq!(got.status, 404);
    assert_eq!(
        got.body,
        json!({"itemNotFound": {"code": 404, "message": format!("Instance {id} could not be found.")}})
    );
    assert_eq!(bench.nova(Method::DELETE, &path, None).await.status, 404);
    let changed = bench
        .nova(
            Method::GET,
            &format!("/servers/detail?changes-since={before}"),
            None,
        )
        .await;
    assert_eq!(changed.body["servers"][0]["status"], json!("DELETED"));
}

#[tokio::test]
async fn a_delete_during_the_build_waits_for_its_end() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({})).await;
    bench.advance(5);
    assert_eq!(
        bench
            .nova(Method::DELETE, &format!("/servers/{id}"), None)
            .await
            .status,
        204
    );
    bench.advance(10);
    assert_eq!(bench.server_status(&id).await, "BUILD");
    bench.advance(10);
    assert_eq!(bench.server_status(&id).await, "-");
}

#[tokio::test]
async fn actions_go_through_their_states_and_wrong_states_are_refused() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({})).await;
    let path = format!("/servers/{id}/action");
    let soft = json!({"reboot": {"type": "SOFT"}});
    let hard = json!({"reboot": {"type": "HARD"}});
    let (stop, start) = (json!({"os-stop": null}), json!({"os-start": null}));
    let post = async |body: &Value| bench.nova(Method::POST, &path, Some(body.clone())).await;

    assert_eq!(post(&soft).await.status, 409, "in BUILD");
    assert_eq!(post(&stop).await.status, 409, "in BUILD");
    bench.advance(21);
    let refused = post(&start).await;
    assert_eq!(
        refused.body,
        json!({"conflictingRequest": {"code": 409, "message": format!("Cannot 'start' instance {id} while it is in vm_state active")}})
    );
    assert_eq!(post(&soft).await.status, 202);
    assert_eq!(bench.server_status(&id).await, "REBOOT");
    assert_eq!(post(&hard).await.status, 202, "hard may follow soft");
    assert_eq!(bench.server_status(&id).await, "HARD_REBOOT");
    let busy = post(&stop).await;
    assert!(
        busy.body["conflictingRequest"]["message"]
            .as_str()
            .unwrap()
            .ends_with("while it is in task_state rebooting_hard")
    );
    bench.advance(3);
    assert_eq!(bench.server_status(&id).await, "ACTIVE");
    assert_eq!(post(&stop).await.status, 202);
    bench.advance(3);
    assert_eq!(bench.server_status(&id).await, "SHUTOFF");
    assert_eq!(post(&soft).await.status, 409, "soft reboot of SHUTOFF");
    assert_eq!(post(&start).await.status, 202);
    bench.advance(3);
    assert_eq!(bench.server_status(&id).await, "ACTIVE");
    assert_eq!(post(&json!({"lock": null})).await.status, 202);
    assert_eq!(
        post(&stop).await.body["conflictingRequest"]["message"],
        json!(format!("Instance {id} is locked"))
    );
    assert_eq!(post(&json!({"dance": null})).await.status, 400);
}

#[tokio::test]
async fn a_rebuild_keeps_the_id_and_takes_new_user_data_from_2_57() {
    let mut bench = Bench::start().await;
    let id = bench
        .create("w", json!({"metadata": {"a": "1"}, "user_data": "aGk="}))
        .await;
    bench.advance(21);
    let path = format!("/servers/{id}/action");
    let body =
        json!({"rebuild": {"imageRef": crate::IMAGE, "user_data": "eW8=", "metadata": {"b": "2"}}});
    bench.microversion = "2.56";
    assert_eq!(
        bench
            .nova(Method::POST, &path, Some(body.clone()))
            .await
            .status,
        400
    );
    bench.microversion = "2.93";
    let got = bench.nova(Method::POST, &path, Some(body)).await;
    assert_eq!(got.status, 202);
    assert_eq!(got.body["server"]["id"], json!(id));
    assert_eq!(got.body["server"]["status"], json!("REBUILD"));
    assert!(got.body["server"]["adminPass"].is_string());
    bench.advance(3);
    let got = bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await
        .body;
    assert_eq!(got["server"]["status"], json!("ACTIVE"));
    assert_eq!(got["server"]["metadata"], json!({"b": "2"}));
    let kept = bench
        .standin
        .world(|world| world.cloud.servers[&id].user_data.clone());
    assert_eq!(kept.as_deref(), Some("eW8="));
}

#[tokio::test]
async fn a_rebuild_of_what_is_off_ends_off_and_a_start_brings_it_up() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({})).await;
    bench.advance(21);
    let path = format!("/servers/{id}/action");
    for (body, states) in [
        (
            json!({"os-stop": null}),
            vec![("ACTIVE", json!("powering-off")), ("SHUTOFF", Value::Null)],
        ),
        (
            json!({"rebuild": {"imageRef": crate::IMAGE}}),
            vec![
                ("REBUILD", json!("rebuilding")),
                ("ACTIVE", json!("powering-off")),
                ("SHUTOFF", Value::Null),
            ],
        ),
        (
            json!({"os-start": null}),
            vec![("SHUTOFF", json!("powering-on")), ("ACTIVE", Value::Null)],
        ),
    ] {
        let got = bench.nova(Method::POST, &path, Some(body)).await;
        assert_eq!(got.status, 202);
        for (status, task) in states {
            let path = format!("/servers/{id}");
            let server = bench.nova(Method::GET, &path, None).await.body;
            assert_eq!(server["server"]["status"], json!(status));
            assert_eq!(server["server"]["OS-EXT-STS:task_state"], task);
            bench.advance(2);
        }
    }
}

#[tokio::test]
async fn metadata_is_replaced_by_put_and_added_to_by_post() {
    let bench = Bench::start().await;
    let id = bench.create("w", json!({"metadata": {"a": "1"}})).await;
    let path = format!("/servers/{id}/metadata");
    let got = bench
        .nova(Method::POST, &path, Some(json!({"metadata": {"b": "2"}})))
        .await;
    assert_eq!(got.body, json!({"metadata": {"a": "1", "b": "2"}}));
    let got = bench
        .nova(Method::PUT, &path, Some(json!({"metadata": {"c": "3"}})))
        .await;
    assert_eq!(got.body, json!({"metadata": {"c": "3"}}));
    let item = format!("{path}/c");
    let got = bench
        .nova(Method::PUT, &item, Some(json!({"meta": {"c": "4"}})))
        .await;
    assert_eq!(got.body, json!({"meta": {"c": "4"}}));
    assert_eq!(bench.nova(Method::DELETE, &item, None).await.status, 204);
    assert_eq!(bench.nova(Method::GET, &item, None).await.status, 404);
    for status in [201, 204] {
        let got = bench
            .nova(Method::PUT, &format!("/servers/{id}/tags/t"), None)
            .await;
        assert_eq!(got.status, status);
    }
}

#[tokio::test]
async fn servers_of_a_cell_that_is_down_are_unknown_or_left_out() {
    let mut bench = Bench::start().await;
    let id = bench.create("a", json!({})).await;
    bench.create("b", json!({})).await;
    bench
        .standin
        .world(|world| world.cloud.down_cells.insert(id.clone()));
    let got = bench.nova(Method::GET, "/servers/detail", None).await.body;
    let statuses: Vec<&str> = got["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["status"].as_str().unwrap())
        .collect();
    assert!(
        statuses.contains(&"UNKNOWN") && statuses.len() == 2,
        "{statuses:?}"
    );
    bench.microversion = "2.68";
    let got = bench.nova(Method::GET, "/servers/detail", None).await.body;
    assert_eq!(got["servers"].as_array().unwrap().len(), 1);
    let got = bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await;
    assert_eq!(got.status, 500, "not 404: it is not gone");
}
