//! The suite of requests that is played to both sides.
//!
//! It asks for what Rhizome asks for, and for what goes wrong with it: each refusal whose words
//! or status decide what Rhizome does next. It waits for states and never for a time.

use std::sync::Arc;

use rhizome_engine::time::Timestamp;
use rhizome_standin::{Credentials, Flavor, Options, Quota, ScaledClock, Standin};
use serde_json::{Value, json};

use crate::servers::Openstack;
use crate::target::{Ask, Target};

/// How much faster than the wall's the stand-in's clock goes.
const SPEED: f64 = 20.0;
/// 2026-11-22T07:42:54Z.
const START: Timestamp = Timestamp(1_795_333_374_000);
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

/// What the stand-in answers.
pub async fn on_standin() -> String {
    let size = |id: &str, name: &str, ram_mib, disk_gib| Flavor {
        id: id.to_owned(),
        name: name.to_owned(),
        vcpus: 1,
        ram_mib,
        disk_gib,
    };
    let options = Options {
        credentials: Credentials {
            username: "contract".to_owned(),
            password: "rhizome-test".to_owned(),
            project: "contract".to_owned(),
            ..Credentials::default()
        },
        flavors: vec![
            size("2138ce6e-84fb-4979-acdf-6372b4645ee8", "small", 512, 1),
            size("27891406-c28c-4d82-a34f-f5f044691313", "medium", 1024, 1),
            size(
                "a8113432-534a-4b9a-9b1f-a330477f8695",
                "too.big",
                512,
                99_999,
            ),
        ],
        quota: Quota {
            instances: 10,
            cores: 20,
            ram_mib: 51_200,
            ..Quota::default()
        },
        network_name: "contract".to_owned(),
        ..Options::default()
    };
    let (image, _) = options.images.first_key_value().unwrap();
    let (image, flavors) = (image.clone(), options.flavors.clone());
    let network = options.networks[0].clone();
    let clock = Arc::new(ScaledClock::new(START, SPEED));
    let standin = Standin::start(options, clock).await.unwrap();
    let credentials = standin.credentials().clone();
    let mut target = Target::new(&standin.openstack_url());
    target.user = credentials.username;
    target.password = credentials.password;
    target.project = credentials.project;
    target.credential = (
        credentials.application_credential_id,
        credentials.application_credential_secret,
    );
    target.image = image;
    target.flavor = flavors[0].id.clone();
    target.flavor_too_big = flavors[2].id.clone();
    target.network_id = network;
    target.public = Options::default().floating_network;
    play(target).await
}

/// What the real services answer.
pub async fn on_real(openstack: &Openstack) -> String {
    let mut target = Target::new(openstack.get("keystone"));
    target.user = "contract".to_owned();
    target.password = openstack.get("password").to_owned();
    target.project = "contract".to_owned();
    target.credential = (
        openstack.get("credential_id").to_owned(),
        openstack.get("credential_secret").to_owned(),
    );
    target.image = openstack.get("image").to_owned();
    target.flavor = openstack.get("flavor_small").to_owned();
    target.flavor_too_big = openstack.get("flavor_too_big").to_owned();
    target.network_id = openstack.get("contract_network").to_owned();
    target.public = openstack.get("public").to_owned();
    play(target).await
}

async fn play(mut target: Target) -> String {
    let t = &mut target;
    for (value, name) in [
        (t.image.clone(), "image id"),
        (t.flavor.clone(), "small"),
        (t.flavor_too_big.clone(), "too big"),
        (t.network_id.clone(), "network id"),
        (t.public.clone(), "public id"),
        (t.credential.0.clone(), "credential"),
    ] {
        t.name(&value, name);
    }
    t.log_in().await;
    keystone(t).await;
    versions(t).await;
    refused_creates(t).await;
    let first = create(t).await;
    lists(t, &first).await;
    marks(t, &first).await;
    actions(t, &first).await;
    no_host(t).await;
    gone(t, &first).await;
    groups(t).await;
    let port = network(t).await;
    attached(t, &port).await;
    limits(t).await;
    target.transcript.trim_start().to_owned() + "\n"
}

async fn keystone(t: &mut Target) {
    let tokens = format!("{}/v3/auth/tokens", t.keystone);
    let get = |url: String| Ask {
        method: "GET",
        url,
        ..Ask::default()
    };
    let post = |body: Value| Ask {
        method: "POST",
        url: tokens.clone(),
        token: Some(""),
        body: Some(body),
        ..Ask::default()
    };
    t.ask("keystone's versions", get(format!("{}/", t.keystone)))
        .await;
    t.ask("keystone v3", get(format!("{}/v3", t.keystone)))
        .await;
    let (user, password, project) = (t.user.clone(), t.password.clone(), t.project.clone());
    t.ask(
        "a token by password",
        post(t.password_login(&user, &password, &project)),
    )
    .await;
    t.ask(
        "a wrong password",
        post(t.password_login(&user, "wrong", &project)),
    )
    .await;
    t.ask(
        "an unknown user",
        post(t.password_login("nobody", &password, &project)),
    )
    .await;
    t.ask(
        "a project that is not ours",
        post(t.password_login(&user, &password, "nothing")),
    )
    .await;
    let mut unscoped = t.password_login(&user, &password, &project);
    unscoped["auth"]["scope"] = json!("unscoped");
    t.ask("a token without a scope", post(unscoped)).await;
    let credential = |id: &str, secret: &str| {
        json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": id, "secret": secret}}}})
    };
    let (id, secret) = t.credential.clone();
    t.ask(
        "a wrong secret of a credential",
        post(credential(&id, "wrong")),
    )
    .await;
    t.ask(
        "an unknown credential",
        post(credential("0123456789abcdef0123456789abcdef", &secret)),
    )
    .await;
    let mut scoped = credential(&id, &secret);
    scoped["auth"]["scope"] = json!({"project": {"name": project, "domain": {"name": "Default"}}});
    t.ask("a credential with a scope", post(scoped)).await;
    t.ask("no json", post(json!("{"))).await;
    let bad = Ask {
        token: Some("bad"),
        ..get(format!("{}/v3/auth/catalog", t.keystone))
    };
    t.ask("a bad token", bad).await;
}

async fn versions(t: &mut Target) {
    let root = t.compute.trim_end_matches("/v2.1").to_owned();
    let servers = format!("{}/servers", t.compute);
    let get = |url: &str| Ask {
        method: "GET",
        url: url.to_owned(),
        ..Ask::default()
    };
    t.ask("nova's versions", get(&format!("{root}/"))).await;
    t.ask(
        "nova v2.1, without a token",
        Ask {
            token: Some(""),
            ..get(&format!("{}/", t.compute))
        },
    )
    .await;
    t.ask(
        "no token",
        Ask {
            token: Some(""),
            ..get(&servers)
        },
    )
    .await;
    t.ask(
        "a bad token for nova",
        Ask {
            token: Some("bad"),
            ..get(&servers)
        },
    )
    .await;
    t.ask("no microversion", get(&servers)).await;
    for version in ["2.69", "2.999", "1.0", "two", "2"] {
        t.ask(
            "a microversion",
            Ask {
                version: Some(version),
                ..get(&servers)
            },
        )
        .await;
    }
}

fn server(t: &Target, name: &str) -> Value {
    json!({"name": name, "imageRef": t.image, "flavorRef": t.flavor,
        "networks": [{"uuid": t.network_id}],
        "metadata": {"rhizome-owner": "rhizome", "rhizome-operation": "op-1"}})
}

async fn refused_creates(t: &mut Target) {
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

async fn create(t: &mut Target) -> String {
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

async fn lists(t: &mut Target, first: &str) {
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

async fn marks(t: &mut Target, id: &str) {
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

async fn actions(t: &mut Target, id: &str) {
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

async fn no_host(t: &mut Target) {
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

async fn gone(t: &mut Target, id: &str) {
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

async fn limits(t: &mut Target) {
    for (what, path) in [
        ("limits", "/limits"),
        ("flavors", "/flavors"),
        ("flavors in full", "/flavors/detail"),
        ("a flavor that is none", "/flavors/nothing"),
        ("nothing there in nova", "/nothing"),
    ] {
        t.nova(what, "2.57", "GET", path, None).await;
    }
    let flavor = format!("/flavors/{}", t.flavor);
    t.nova("a flavor", "2.57", "GET", &flavor, None).await;
    t.nova("a newer flavor", "2.93", "GET", &flavor, None).await;
    let mut many = server(t, "w");
    many["min_count"] = json!(11);
    t.nova(
        "more than the quota",
        "2.57",
        "POST",
        "/servers",
        Some(json!({"server": many})),
    )
    .await;
}

async fn groups(t: &mut Target) {
    let group = json!({"server_group": {"name": "apart", "policy": "anti-affinity"}});
    let made = t
        .nova(
            "a server group",
            "2.64",
            "POST",
            "/os-server-groups",
            Some(group),
        )
        .await;
    let id = made["server_group"]["id"].as_str().unwrap().to_owned();
    let path = format!("/os-server-groups/{id}");
    t.nova("a group", "2.64", "GET", &path, None).await;
    t.nova("all groups", "2.64", "GET", "/os-server-groups", None)
        .await;
    t.nova("a group less", "2.64", "DELETE", &path, None).await;
    t.nova("a group that is gone", "2.64", "GET", &path, None)
        .await;
    let hinted = json!({"server": server(t, "w-1"), "os:scheduler_hints": {"group": UNKNOWN}});
    t.nova(
        "a create in a group that is none",
        "2.64",
        "POST",
        "/servers",
        Some(hinted),
    )
    .await;
}

async fn network(t: &mut Target) -> String {
    let (network, public) = (t.network_id.clone(), t.public.clone());
    let port = |more: Value| {
        let mut port = json!({"network_id": network, "name": "w-1", "description": "op-1"});
        port.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Some(json!({"port": port}))
    };
    let versions = Ask {
        method: "GET",
        url: format!("{}/", t.network),
        token: Some(""),
        ..Ask::default()
    };
    t.ask("neutron's versions, without a token", versions).await;
    let made = t.neutron("a port", "POST", "/ports", port(json!({}))).await;
    let id = made["port"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "port");
    let tagged = t
        .neutron(
            "tags in a create are thrown away",
            "POST",
            "/ports",
            port(json!({"tags": ["t"], "name": "w-2", "description": "op-2"})),
        )
        .await;
    let second = tagged["port"]["id"].as_str().unwrap().to_owned();
    t.name(&second, "second port");
    for (what, more) in [
        (
            "a port of an unknown network",
            json!({"network_id": UNKNOWN}),
        ),
        (
            "a port of an unknown group",
            json!({"security_groups": [UNKNOWN]}),
        ),
        ("a port with a field that is none", json!({"nothing": 1})),
    ] {
        t.neutron(what, "POST", "/ports", port(more)).await;
    }
    for (what, path) in [
        ("ports by their description", "/ports?description=op-1"),
        ("ports by a field that is none", "/ports?nothing=1"),
        (
            "ports with a few fields",
            "/ports?description=op-1&fields=id&fields=name&fields=description",
        ),
        (
            "ports by names, one of them nobody's",
            "/ports?name=w-1&name=w-9&fields=name",
        ),
        (
            "ports by a tag that was thrown away",
            "/ports?tags=t&fields=id",
        ),
        ("no ports", "/ports?description=op-3"),
        ("a port that is none", "/ports/nothing"),
        (
            "security groups by name",
            "/security-groups?name=nodes&fields=id&fields=name",
        ),
        ("nothing there in neutron", "/nothing"),
    ] {
        t.neutron(what, "GET", path, None).await;
    }
    let ask = Ask {
        method: "GET",
        url: format!("{}/v2.0/ports", t.network),
        token: Some("bad"),
        ..Ask::default()
    };
    t.ask("a bad token for neutron", ask).await;
    t.neutron("a port less", "DELETE", &format!("/ports/{second}"), None)
        .await;
    t.neutron(
        "a port less that is none",
        "DELETE",
        &format!("/ports/{second}"),
        None,
    )
    .await;
    let floating = |network: &str, port: &str| {
        Some(json!({"floatingip":
            {"floating_network_id": network, "port_id": port, "description": "op-1"}}))
    };
    for (what, network, port) in [
        (
            "a floating address of an unknown network",
            UNKNOWN,
            id.as_str(),
        ),
        (
            "a floating address for a port that is none",
            public.as_str(),
            UNKNOWN,
        ),
        ("a floating address", public.as_str(), id.as_str()),
        ("a second one for the port", public.as_str(), id.as_str()),
    ] {
        t.neutron(what, "POST", "/floatingips", floating(network, port))
            .await;
    }
    id
}

async fn attached(t: &mut Target, port: &str) {
    let mut body = server(t, "w-1");
    body["networks"] = json!([{"port": port}]);
    let made = t
        .nova(
            "a create with a port",
            "2.57",
            "POST",
            "/servers",
            Some(json!({"server": body})),
        )
        .await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "with a port");
    t.settle(&id, "ACTIVE").await;
    t.nova(
        "a server with a port",
        "2.69",
        "GET",
        &format!("/servers/{id}"),
        None,
    )
    .await;
    t.nova(
        "a port that is in use",
        "2.57",
        "POST",
        "/servers",
        Some(json!({"server": body})),
    )
    .await;
    let path = format!("/ports/{port}");
    t.neutron("a port in use", "GET", &path, None).await;
    let of_server = format!("/ports?device_id={id}&fields=id&fields=device_id");
    t.neutron("the ports of a server", "GET", &of_server, None)
        .await;
    let found = t
        .neutron(
            "its floating address",
            "GET",
            "/floatingips?description=op-1",
            None,
        )
        .await;
    let address = found["floatingips"][0]["id"].as_str().unwrap().to_owned();
    t.name(&address, "floating address");
    t.nova(
        "a delete of its server",
        "2.46",
        "DELETE",
        &format!("/servers/{id}"),
        None,
    )
    .await;
    t.settle(&id, "gone").await;
    t.neutron("a port outlives its server", "GET", &path, None)
        .await;
    t.neutron(
        "a floating address outlives it too",
        "GET",
        "/floatingips?description=op-1",
        None,
    )
    .await;
    let floating = format!("/floatingips/{address}");
    for (what, method, path) in [
        ("a floating address less", "DELETE", &floating),
        ("a floating address less that is none", "DELETE", &floating),
        ("the port less", "DELETE", &path),
        ("the port is gone", "GET", &path),
    ] {
        t.neutron(what, method, path, None).await;
    }
    let ask = Ask {
        method: "GET",
        url: format!("{}/v2.0/quotas/{}/details.json", t.network, t.project_id),
        ..Ask::default()
    };
    t.ask("the quota", ask).await;
}
