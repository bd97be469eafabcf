//! Where the catalog names no version: what is asked, and where the calls go then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rhizome_actions::openstack::{Credentials, Interface, Openstack, OpenstackOptions};
use rhizome_actions::{Executor, TokenVault};
use rhizome_engine::action::FailureKind;
use serde_json::{Value, json as value};

use crate::common::{Reply, Request, Scripted, TestClock, json, text};

const TOKEN: &str = "gAAAAABqTheTokenThatOnlyAServiceSees";

/// A cloud whose catalog gives `compute` as the compute service's path; `documents` answers what
/// is no list of servers.
async fn cloud(
    compute: &'static str,
    documents: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |request| match request.path.as_str() {
        "/v3/auth/tokens" => token(request, compute),
        path if path.contains("/servers/detail") => json(200, value!({"servers": []})),
        _ => documents(request),
    })
    .await
}

/// Keystone's answer: a token of a minute.
fn token(request: &Request, compute: &str) -> Reply {
    let url = format!("http://{}{compute}", request.headers["host"]);
    let body = value!({"token": {
        "issued_at": "2026-11-26T00:00:00Z", "expires_at": "2026-11-26T00:01:00Z",
        "project": {"id": "abc", "name": "p"},
        "catalog": [{"type": "compute", "endpoints": [
            {"interface": "public", "region_id": "RegionOne", "url": url}]}]}});
    let headers = vec![("x-subject-token", TOKEN.to_owned())];
    Reply::Answer(201, "application/json", headers, body.to_string())
}

fn openstack(cloud: &Scripted) -> (Openstack, Arc<TestClock>) {
    rhizome_actions::install_crypto_provider();
    let options = OpenstackOptions {
        auth_url: cloud.url.clone(),
        credentials: Credentials::ApplicationCredential {
            id: "id".to_owned(),
            secret: "secret".to_owned().into(),
        },
        region: None,
        interface: Interface::Public,
        ca_file: None,
        cluster: "blue".to_owned(),
        poll: Duration::from_secs(10),
        machines: [].into(),
    };
    let clock = TestClock::new();
    let openstack = Openstack::new(options, clock.clone(), Arc::new(TokenVault::new()));
    (openstack.unwrap(), clock)
}

/// A version as Nova lists it.
fn version(id: &str, status: &str, href: &str) -> Value {
    value!({"id": id, "status": status, "version": "", "min_version": "",
        "links": [{"rel": "describedby", "href": "http://docs.openstack.org/"},
            {"rel": "self", "href": href}]})
}

/// As Zed's Nova answers at its root (`tests/real/openstack.txt`).
fn zed(root: &str) -> Value {
    value!({"versions": [
        version("v2.0", "SUPPORTED", &format!("{root}/v2/")),
        version("v2.1", "CURRENT", &format!("{root}/v2.1/"))]})
}

/// The paths that were asked, Keystone's left out.
fn asked(cloud: &Scripted) -> Vec<String> {
    let requests = cloud.requests();
    let paths = requests.iter().filter(|one| one.method == "GET");
    paths
        .map(|one| one.path.split('?').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_calls_go_where_the_document_leads() {
    let own = |path: &str| {
        let path = path.to_owned();
        move |request: &Request| format!("http://{}{path}", request.headers["host"])
    };
    let inside = |_: &Request| "http://10.0.0.5:8774".to_owned();
    type Root = Box<dyn Fn(&Request) -> String + Send + Sync>;
    // The catalog's path, where the document says it is, what is asked for it, where servers are.
    let rows: [(&'static str, Root, &[&str], &str); 7] = [
        ("", Box::new(own("")), &["/"], "/v2.1"),
        (
            "/compute",
            Box::new(own("/compute")),
            &["/compute"],
            "/compute/v2.1",
        ),
        (
            "/compute/",
            Box::new(own("/nova")),
            &["/compute/"],
            "/nova/v2.1",
        ),
        ("/compute", Box::new(inside), &["/compute"], "/compute/v2.1"),
        (
            "/compute/v2",
            Box::new(inside),
            &["/compute/"],
            "/compute/v2.1",
        ),
        ("/v2/abc", Box::new(own("")), &["/"], "/v2.1/abc"),
        (
            "/compute/v2.1/abc",
            Box::new(inside),
            &[],
            "/compute/v2.1/abc",
        ),
    ];
    for (catalog, root, documents, servers) in rows {
        let cloud = cloud(catalog, move |request| json(200, zed(&root(request)))).await;
        let (openstack, _) = openstack(&cloud);
        openstack.observe().await.unwrap();
        let mut wanted: Vec<String> = documents.iter().map(|&path| path.to_owned()).collect();
        wanted.push(format!("{servers}/servers/detail"));
        assert_eq!(asked(&cloud), wanted, "{catalog}");
        for request in cloud.requests() {
            let shown = request.headers.contains_key("x-auth-token");
            let called = request.path.contains("/servers");
            assert_eq!(shown, called, "the token is for calls alone: {request:?}");
        }
    }
}

#[tokio::test]
async fn of_what_is_offered_the_highest_that_will_do_is_taken() {
    let offered = value!({"versions": {"values": [
        version("v2.1", "SUPPORTED", "v2.1/"),
        {"id": "v2.8", "status": "CURRENT"},
        version("v2.3", "deprecated", "v2.3/"),
        version("v2.9", "EXPERIMENTAL", "v2.9/"),
        version("v3.0", "CURRENT", "v3/"),
        version("v2.0", "stable", "v2/"),
        version("two", "CURRENT", "two/")]}});
    // 300, as Keystone and Glance answer.
    let cloud = cloud("/compute", move |_| json(300, offered.clone())).await;
    openstack(&cloud).0.observe().await.unwrap();
    assert_eq!(asked(&cloud), ["/compute", "/compute/v2.3/servers/detail"]);
}

#[tokio::test]
async fn a_document_is_asked_for_once_and_not_with_each_token() {
    let cloud = cloud("/compute", |_| json(200, zed("http://inside"))).await;
    let (openstack, clock) = openstack(&cloud);
    for _ in 0..3 {
        openstack.observe().await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let logins = cloud
        .requests()
        .iter()
        .filter(|one| one.method == "POST")
        .count();
    assert_eq!(logins, 3, "each look had a token of its own");
    let documents = asked(&cloud)
        .iter()
        .filter(|path| *path == "/compute")
        .count();
    assert_eq!(documents, 1);
}

#[tokio::test]
async fn a_document_for_those_who_are_known_is_asked_for_with_the_token() {
    let cloud = cloud("/compute", |request| {
        match request.headers.get("x-auth-token").map(String::as_str) {
            Some(TOKEN) => json(200, zed("http://inside")),
            _ => json(
                401,
                value!({"error": {"code": 401, "message": "who are you?"}}),
            ),
        }
    })
    .await;
    openstack(&cloud).0.observe().await.unwrap();
    let wanted = ["/compute", "/compute", "/compute/v2.1/servers/detail"];
    assert_eq!(asked(&cloud), wanted);
}

#[tokio::test]
async fn a_proxy_that_knows_the_address_with_a_slash_only_is_asked_so() {
    let cloud = cloud("/compute", |request| match request.path.as_str() {
        "/compute/" => json(200, zed("http://inside")),
        _ => text(301, "moved"),
    })
    .await;
    openstack(&cloud).0.observe().await.unwrap();
    let wanted = ["/compute", "/compute/", "/compute/v2.1/servers/detail"];
    assert_eq!(asked(&cloud), wanted);
}

#[tokio::test]
async fn where_nobody_has_a_document_the_catalogs_address_is_used_as_it_is() {
    for nothing in [
        json as fn(u16, Value) -> Reply,
        |_, _| text(200, "<html>welcome</html>"),
        |_, _| json(200, value!([])),
    ] {
        let cloud = cloud("/compute/", move |_| nothing(404, value!({"error": 404}))).await;
        openstack(&cloud).0.observe().await.unwrap();
        assert_eq!(asked(&cloud), ["/compute/", "/compute/servers/detail"]);
    }
}

#[tokio::test]
async fn a_service_too_old_is_told_with_what_it_offers() {
    let old = value!({"versions": [version("v2.0", "CURRENT", "http://inside/v2/")]});
    let cloud = cloud("/compute", move |_| json(200, old.clone())).await;
    let failure = openstack(&cloud).0.observe().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
    assert!(
        failure.message.contains("offers v2.0") && failure.message.contains("needs v2.1"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_service_that_is_not_well_is_asked_again_and_nothing_is_guessed() {
    let ill = Arc::new(AtomicU32::new(1));
    let left = Arc::clone(&ill);
    let cloud = cloud("/compute", move |_| {
        if left.swap(0, Ordering::SeqCst) > 0 {
            return json(503, value!({"error": {"code": 503, "message": "starting"}}));
        }
        json(200, zed("http://inside"))
    })
    .await;
    let (openstack, _) = openstack(&cloud);
    let failure = openstack.observe().await.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Retry { .. }),
        "{failure}"
    );
    assert_eq!(asked(&cloud), ["/compute"]);
    openstack.observe().await.unwrap();
    assert_eq!(ill.load(Ordering::SeqCst), 0);
    assert_eq!(
        asked(&cloud).last().unwrap(),
        "/compute/v2.1/servers/detail"
    );
}
