//! Servers that come to be, are listed and marked, and those that do not.

use serde_json::{Value, json};

use super::UNKNOWN;
use crate::real::target::Target;

pub(super) fn server(t: &Target, name: &str) -> Value {
    json!({"name": name, "imageRef": t.image, "flavorRef": t.flavor,
        "networks": [{"uuid": t.network_id}],
        "metadata": {"rhizome-owner": "rhizome", "rhizome-operation": "op-1"}})
}

pub(super) async fn refused_creates(t: &mut Target) {
    let rows: Vec<(&str, &str, &str, Value)> = vec![
        ("an unknown image", "2.57", "imageRef", json!(UNKNOWN)),
        ("an unknown flavor", "2.57", "flavorRef", json!(UNKNOWN)),
        (
            "an unknown network",
            "2.57",
            "networks",
            json!([{"uuid": UNKNOWN}]),
        ),
        (
            "an unknown port",
            "2.57",
            "networks",
            json!([{"port": UNKNOWN}]),
        ),
        ("no networks", "2.57", "networks", Value::Null),
        (
            "an unknown zone",
            "2.57",
            "availability_zone",
            json!("nowhere"),
        ),
        ("an unknown key", "2.57", "key_name", json!("no-such-key")),
        (
            "an unknown group",
            "2.57",
            "security_groups",
            json!([{"name": UNKNOWN}]),
        ),
        ("tags too early", "2.51", "tags", json!(["a"])),
        ("a tag that is none", "2.57", "tags", json!(["a/b"])),
        (
            "user data that is too long",
            "2.57",
            "user_data",
            json!("A".repeat(65_536)),
        ),
        (
            "metadata that is no text",
            "2.57",
            "metadata",
            json!({"a": 7}),
        ),
        (
            "metadata that is too long",
            "2.57",
            "metadata",
            json!({"a": "A".repeat(256)}),
        ),
        ("a field that is none", "2.57", "nothing", json!(true)),
        ("no name", "2.57", "name", json!("")),
    ];
    for (what, version, field, value) in rows {
        let mut body = server(t, "w-1");
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(field)),
            value => body[field] = value,
        }
        t.nova(
            what,
            version,
            "POST",
            "/servers",
            Some(json!({"server": body})),
        )
        .await;
    }
    t.nova(
        "no server in it",
        "2.57",
        "POST",
        "/servers",
        Some(json!({})),
    )
    .await;
    t.nova(
        "no json for nova",
        "2.57",
        "POST",
        "/servers",
        Some(json!("{")),
    )
    .await;
}

pub(super) async fn create(t: &mut Target) -> String {
    let mut body = server(t, "w-1");
    body["tags"] = json!(["op-1"]);
    body["user_data"] = json!("I2Nsb3VkLWNvbmZpZwo=");
    let made = t
        .nova(
            "a create",
            "2.57",
            "POST",
            "/servers",
            Some(json!({"server": body})),
        )
        .await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "first");
    t.settle(&id, "ACTIVE").await;
    let path = format!("/servers/{id}");
    for version in ["2.1", "2.26", "2.47", "2.69", "2.93"] {
        t.nova("an ACTIVE server", version, "GET", &path, None)
            .await;
    }
    id
}

pub(super) async fn lists(t: &mut Target, first: &str) {
    let body = json!({"server": server(t, "v-2")});
    let made = t
        .nova(
            "the same mark once more is another server",
            "2.57",
            "POST",
            "/servers",
            Some(body),
        )
        .await;
    let second = made["server"]["id"].as_str().unwrap().to_owned();
    t.name(&second, "second");
    t.settle(&second, "ACTIVE").await;
    for (what, version, path) in [
        ("all servers", "2.69", "/servers/detail"),
        ("all servers in short", "2.69", "/servers"),
        ("a first page", "2.69", "/servers?limit=1"),
        (
            "a first page of the long ones",
            "2.1",
            "/servers/detail?limit=1",
        ),
        (
            "a name is a pattern that may stand anywhere",
            "2.69",
            "/servers?name=-1",
        ),
        (
            "by metadata",
            "2.69",
            "/servers?metadata=%7B%22rhizome-operation%22%3A%22op-1%22%7D",
        ),
        ("tags are ignored below 2.26", "2.25", "/servers?tags=op-1"),
        ("tags", "2.26", "/servers?tags=op-1"),
        (
            "a parameter that is none is ignored",
            "2.74",
            "/servers?nothing=1",
        ),
        (
            "a parameter that is none is refused",
            "2.75",
            "/servers?nothing=1",
        ),
        ("a marker that is none", "2.69", "/servers?marker=nothing"),
        ("a limit that is none", "2.69", "/servers?limit=many"),
        ("a limit of nothing", "2.69", "/servers?limit=0"),
        (
            "the deleted ones, as a user",
            "2.69",
            "/servers?deleted=true",
        ),
        ("by status", "2.69", "/servers?status=active"),
    ] {
        t.nova(what, version, "GET", path, None).await;
    }
    let next = format!("/servers?limit=1&marker={second}");
    t.nova("the second page", "2.69", "GET", &next, None).await;
    let next = format!("/servers?limit=1&marker={first}");
    t.nova("a page after the last", "2.69", "GET", &next, None)
        .await;
    t.nova(
        "a delete",
        "2.46",
        "DELETE",
        &format!("/servers/{second}"),
        None,
    )
    .await;
    t.settle(&second, "gone").await;
}

pub(super) async fn marks(t: &mut Target, id: &str) {
    let path = format!("/servers/{id}");
    let (metadata, tags) = (format!("{path}/metadata"), format!("{path}/tags"));
    for (what, method, path, body) in [
        ("its metadata", "GET", metadata.clone(), None),
        (
            "more metadata",
            "POST",
            metadata.clone(),
            Some(json!({"metadata": {"a": "b"}})),
        ),
        ("one of them", "GET", format!("{metadata}/a"), None),
        ("one that is none", "GET", format!("{metadata}/z"), None),
        (
            "one of them anew",
            "PUT",
            format!("{metadata}/a"),
            Some(json!({"meta": {"a": "c"}})),
        ),
        (
            "another than its address says",
            "PUT",
            format!("{metadata}/a"),
            Some(json!({"meta": {"b": "c"}})),
        ),
        ("one less", "DELETE", format!("{metadata}/a"), None),
        (
            "one less that is none",
            "DELETE",
            format!("{metadata}/a"),
            None,
        ),
        ("its tags", "GET", tags.clone(), None),
        ("a tag", "PUT", format!("{tags}/t1"), None),
        ("the same tag", "PUT", format!("{tags}/t1"), None),
        ("whether it has a tag", "GET", format!("{tags}/t1"), None),
        ("a tag less", "DELETE", format!("{tags}/t1"), None),
        (
            "a tag less that is none",
            "DELETE",
            format!("{tags}/t1"),
            None,
        ),
        (
            "a new name",
            "PUT",
            path.clone(),
            Some(json!({"server": {"name": "renamed"}})),
        ),
    ] {
        t.nova(what, "2.69", method, &path, body).await;
    }
}

pub(super) async fn no_host(t: &mut Target) {
    let mut body = server(t, "big");
    body["flavorRef"] = json!(t.flavor_too_big);
    let made = t
        .nova(
            "a create for which there is no host",
            "2.57",
            "POST",
            "/servers",
            Some(json!({"server": body})),
        )
        .await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "big one");
    t.settle(&id, "ERROR").await;
    let (path, action) = (format!("/servers/{id}"), format!("/servers/{id}/action"));
    t.nova("a server in ERROR", "2.69", "GET", &path, None)
        .await;
    t.nova(
        "why is not told in a list",
        "2.69",
        "GET",
        "/servers/detail?status=ERROR",
        None,
    )
    .await;
    for (what, body) in [
        (
            "a hard reboot of what was never built",
            json!({"reboot": {"type": "HARD"}}),
        ),
        (
            "a rebuild of what was never built",
            json!({"rebuild": {"imageRef": t.image}}),
        ),
        ("a start of what was never built", json!({"os-start": null})),
    ] {
        t.nova(what, "2.57", "POST", &action, Some(body)).await;
    }
    t.nova("a delete of it", "2.46", "DELETE", &path, None)
        .await;
    t.settle(&id, "gone").await;
}

pub(super) async fn gone(t: &mut Target, id: &str) {
    let path = format!("/servers/{id}");
    t.nova("a delete of the first", "2.46", "DELETE", &path, None)
        .await;
    t.settle(id, "gone").await;
    t.nova("a server that is gone", "2.69", "GET", &path, None)
        .await;
    t.nova("a delete of what is gone", "2.46", "DELETE", &path, None)
        .await;
    let reboot = Some(json!({"reboot": {"type": "SOFT"}}));
    t.nova(
        "a reboot of what is gone",
        "2.46",
        "POST",
        &format!("{path}/action"),
        reboot,
    )
    .await;
    t.nova(
        "a server that never was",
        "2.69",
        "GET",
        &format!("/servers/{UNKNOWN}"),
        None,
    )
    .await;
    t.nova("no servers", "2.69", "GET", "/servers/detail", None)
        .await;
}
