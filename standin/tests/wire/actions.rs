//! What is done to servers that there are.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Bench;

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
