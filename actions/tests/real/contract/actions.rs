//! What is done to a server that there is.

use serde_json::json;

use super::UNKNOWN;
use crate::real::target::Target;

pub(super) async fn actions(t: &mut Target, id: &str) {
    let path = format!("/servers/{id}/action");
    let get = format!("/servers/{id}");
    t.nova(
        "a soft reboot",
        "2.46",
        "POST",
        &path,
        Some(json!({"reboot": {"type": "SOFT"}})),
    )
    .await;
    t.settle(id, "ACTIVE").await;
    t.nova(
        "a hard reboot",
        "2.46",
        "POST",
        &path,
        Some(json!({"reboot": {"type": "HARD"}})),
    )
    .await;
    t.settle(id, "ACTIVE").await;
    t.nova(
        "a start of what runs",
        "2.46",
        "POST",
        &path,
        Some(json!({"os-start": null})),
    )
    .await;
    t.nova(
        "a stop",
        "2.46",
        "POST",
        &path,
        Some(json!({"os-stop": null})),
    )
    .await;
    t.settle(id, "SHUTOFF").await;
    t.nova("a server that is off", "2.69", "GET", &get, None)
        .await;
    t.nova(
        "a soft reboot of what is off",
        "2.46",
        "POST",
        &path,
        Some(json!({"reboot": {"type": "SOFT"}})),
    )
    .await;
    t.nova(
        "a stop of what is off",
        "2.46",
        "POST",
        &path,
        Some(json!({"os-stop": null})),
    )
    .await;
    t.nova(
        "a start",
        "2.46",
        "POST",
        &path,
        Some(json!({"os-start": null})),
    )
    .await;
    t.settle(id, "ACTIVE").await;
    t.nova("a lock", "2.46", "POST", &path, Some(json!({"lock": null})))
        .await;
    t.nova(
        "a stop of what is locked",
        "2.46",
        "POST",
        &path,
        Some(json!({"os-stop": null})),
    )
    .await;
    t.settle(id, "ACTIVE").await;
    t.nova(
        "an unlock",
        "2.46",
        "POST",
        &path,
        Some(json!({"unlock": null})),
    )
    .await;
    let image = t.image.clone();
    let rebuild = json!({"rebuild": {"imageRef": image, "metadata": {"rhizome-operation": "op-2"},
        "user_data": "I2Nsb3VkLWNvbmZpZwo="}});
    t.nova(
        "a rebuild with user data, too early",
        "2.56",
        "POST",
        &path,
        Some(rebuild.clone()),
    )
    .await;
    t.nova(
        "a rebuild from an unknown image",
        "2.57",
        "POST",
        &path,
        Some(json!({"rebuild": {"imageRef": UNKNOWN}})),
    )
    .await;
    t.nova("a rebuild", "2.57", "POST", &path, Some(rebuild))
        .await;
    t.settle(id, "ACTIVE").await;
    t.nova("a rebuilt server", "2.69", "GET", &get, None).await;
    rebuild_of_what_is_off(t, id).await;
    for (what, body) in [
        ("a reboot of no kind", json!({"reboot": {"type": "WARM"}})),
        ("an action that is none", json!({"dance": null})),
        ("two actions", json!({"os-stop": null, "os-start": null})),
        ("no action", json!({})),
        (
            "a state by a user",
            json!({"os-resetState": {"state": "error"}}),
        ),
    ] {
        t.nova(what, "2.46", "POST", &path, Some(body)).await;
    }
    t.nova("the hosts, as a user", "2.53", "GET", "/os-services", None)
        .await;
}

/// What was off is off again when it is rebuilt, and has to be started.
async fn rebuild_of_what_is_off(t: &mut Target, id: &str) {
    let (get, act) = (format!("/servers/{id}"), format!("/servers/{id}/action"));
    let image = t.image.clone();
    for (what, body, then) in [
        (
            "a stop before a rebuild",
            json!({"os-stop": null}),
            "SHUTOFF",
        ),
        (
            "a rebuild of what is off",
            json!({"rebuild": {"imageRef": image}}),
            "SHUTOFF",
        ),
        ("a start after it", json!({"os-start": null}), "ACTIVE"),
    ] {
        t.nova(what, "2.57", "POST", &act, Some(body)).await;
        t.settle(id, then).await;
        t.nova(&format!("{what}, done"), "2.69", "GET", &get, None)
            .await;
    }
}
