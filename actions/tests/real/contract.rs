//! The suite of requests that is played to both sides.
//!
//! It asks for what Rhizome asks for, and for what goes wrong with it: each refusal whose words
//! or status decide what Rhizome does next. It waits for states and never for a time.

mod actions;
mod network;
mod servers;

use std::sync::Arc;

use rhizome_engine::time::Timestamp;
use rhizome_standin::{Credentials, Flavor, Options, Quota, ScaledClock, Standin};
use serde_json::{Value, json};

use crate::real::servers::Openstack;
use crate::real::target::{Ask, Target};
use actions::actions;
use network::{attached, network};
use servers::{create, gone, lists, marks, no_host, refused_creates, server};

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
