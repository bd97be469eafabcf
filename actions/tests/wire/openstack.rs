//! The wire between us and OpenStack: what is sent, and what each answer leads to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{
    Log, OPERATION, Reply, Request, Scripted, TestClock, TestGate, action, json, text, until,
};
use rhizome_actions::openstack::{Credentials, Interface, Machine, Openstack, OpenstackOptions};
use rhizome_actions::{
    DryRun, Executor, JoinOptions, JoinToken, KUBEADM_JOIN, Seen, TokenVault, UserData,
};
use rhizome_engine::action::{ActionKind, Done, FailureKind, VmRef, mark};
use rhizome_engine::event::{Observation, ServerStatus, SourceReport};
use rhizome_engine::time::{Clock, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json as value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CREATED: Timestamp = Timestamp(1_795_333_374_000);
const TOKEN: &str = "gAAAAABqTheTokenThatMustNotBeShown";
const PASSWORD: &str = "the-password-that-must-not-be-shown";

fn marks(operation: &str) -> BTreeMap<String, String> {
    [
        (mark::OWNER, "rhizome"),
        (mark::CLUSTER, "blue"),
        (mark::POOL, "workers"),
        (mark::OPERATION, operation),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn server(id: &str, status: &str) -> Value {
    value!({"id": id, "name": "w-1", "status": status, "created": "2026-11-22T07:42:54Z",
        "metadata": marks(&OPERATION.to_string()), "OS-EXT-STS:task_state": null, "addresses": {}})
}

/// Keystone's answer, with the catalog pointing back at the server that was asked.
fn keystone(request: &Request, life_seconds: u64) -> Reply {
    keystone_with(request, life_seconds, &[])
}

/// The same, with further services: each by its type and the path of its API.
fn keystone_with(request: &Request, life_seconds: u64, others: &[(&str, &str)]) -> Reply {
    let host = &request.headers["host"];
    let expires =
        jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(life_seconds as i64);
    let mut body = value!({"token": {"issued_at": "1970-01-01T00:00:00Z", "expires_at": expires.to_string(),
        "project": {"id": "p1"}, "catalog": [{"type": "compute", "name": "nova", "endpoints": [
            {"interface": "public", "region_id": "other", "region": "other", "url": "http://127.0.0.1:1/"},
            {"interface": "internal", "region_id": "RegionOne", "url": "http://127.0.0.1:1/"},
            {"interface": "public", "region_id": "RegionOne", "region": "RegionOne",
             "url": format!("http://{host}/v2.1/")}]}]}});
    let catalog = body["token"]["catalog"].as_array_mut().unwrap();
    catalog.extend(others.iter().map(|(kind, path)| {
        value!({"type": kind, "endpoints": [{"interface": "public", "region_id": "RegionOne",
            "url": format!("http://{host}{path}")}]})
    }));
    Reply::Answer(
        201,
        "application/json",
        vec![("x-subject-token", TOKEN.to_owned())],
        body.to_string(),
    )
}

/// A server whose Keystone is well, and whose Nova does what `nova` says.
pub async fn cloud(nova: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request| match request.path.as_str() {
        "/v3/auth/tokens" => keystone(request, 3600),
        _ => nova(request),
    })
    .await
}

/// The same, with a Neutron beside the Nova, its paths beginning with `/v2.0/`.
pub async fn cloud_with_network(
    services: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |request| match request.path.as_str() {
        "/v3/auth/tokens" => keystone_with(request, 3600, &[("network", "/v2.0")]),
        _ => services(request),
    })
    .await
}

pub struct Bench {
    pub openstack: Openstack,
    clock: Arc<TestClock>,
    vault: Arc<TokenVault>,
}

fn bench(url: &str) -> Bench {
    bench_with(url, |machine| machine)
}

/// With machines that differ from the usual ones.
pub fn bench_with(url: &str, differing: impl FnOnce(Machine) -> Machine) -> Bench {
    rhizome_actions::install_crypto_provider();
    let join = JoinOptions {
        endpoint: "10.0.0.10:6443".to_owned(),
        ca_cert_hashes: vec!["sha256:ab".to_owned()],
        taints: Vec::new(),
    };
    let machine = Machine {
        image: "image".to_owned(),
        flavors: vec!["flavor".to_owned()],
        networks: vec!["network".into()],
        security_groups: vec!["group".to_owned()],
        user_data: Some(Arc::new(UserData::new(KUBEADM_JOIN, join, true).unwrap())),
        ..Machine::default()
    };
    let options = OpenstackOptions {
        auth_url: url.to_owned(),
        credentials: Credentials::Password {
            username: "u".into(),
            user_domain: "Default".into(),
            password: PASSWORD.to_owned().into(),
            project: "p".into(),
            project_domain: "Default".into(),
        },
        region: Some("RegionOne".to_owned()),
        interface: Interface::Public,
        ca_file: None,
        cluster: "blue".to_owned(),
        poll: Duration::from_secs(10),
        machines: [("workers".into(), differing(machine))].into(),
    };
    let clock = TestClock::new();
    let vault = Arc::new(TokenVault::new());
    let openstack = Openstack::new(options, clock.clone(), vault.clone()).unwrap();
    Bench {
        openstack,
        clock,
        vault,
    }
}

impl Bench {
    /// With the operation's join token in the vault.
    pub fn with_token(self) -> (Self, JoinToken) {
        let expires = self.clock.now().wall.plus(Duration::from_secs(1200));
        let token = JoinToken::new(OPERATION, expires);
        self.vault.put(OPERATION, token.clone());
        (self, token)
    }
}

fn vm() -> VmRef {
    VmRef {
        id: "a".into(),
        created: CREATED,
        operation: Some(OPERATION),
    }
}

pub fn create() -> ActionKind {
    ActionKind::CreateServer {
        node: "w-1".into(),
        metadata: marks(&OPERATION.to_string()),
    }
}

/// Every action that changes an existing server.
fn changes() -> Vec<ActionKind> {
    vec![
        ActionKind::RebootServer {
            vm: vm(),
            hard: true,
        },
        ActionKind::StopServer { vm: vm() },
        ActionKind::DeleteServer { vm: vm() },
        ActionKind::RebuildServer {
            vm: vm(),
            node: "w-1".into(),
            metadata: marks(&OPERATION.to_string()),
        },
    ]
}

pub fn empty_list() -> Reply {
    json(200, value!({"servers": []}))
}

#[tokio::test]
async fn a_server_is_created_once_with_its_marks_and_its_token() {
    let cloud = cloud(|request| match request.method.as_str() {
        "POST" => json(202, value!({"server": {"id": "a", "adminPass": "x"}})),
        _ => empty_list(),
    })
    .await;
    let (bench, token) = bench(&cloud.url).with_token();
    let gate = TestGate::open();
    let done = bench
        .openstack
        .execute(&action(create()), gate.clone())
        .await;
    assert_eq!(done, Ok(Done::Created { vm: "a".into() }));
    assert_eq!(gate.asked(), ["create_server"]);
    let requests = cloud.requests();
    let post = requests.last().unwrap();
    assert_eq!(post.line(), "POST /v2.1/servers");
    assert_eq!(post.headers["openstack-api-version"], "compute 2.57");
    assert_eq!(post.headers["x-auth-token"], TOKEN);
    let body = &post.json()["server"];
    assert_eq!(body["metadata"][mark::OPERATION], OPERATION.to_string());
    assert_eq!(body["networks"], value!([{"uuid": "network"}]));
    let user_data = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        body["user_data"].as_str().unwrap(),
    )
    .unwrap();
    let user_data = String::from_utf8(user_data).unwrap();
    assert!(user_data.contains(token.text().expose_secret()));
    // All calls of one action carry one id, and the listing can show what a down cell holds.
    let list = requests
        .iter()
        .find(|request| request.method == "GET")
        .unwrap();
    assert_eq!(list.headers["openstack-api-version"], "compute 2.69");
    assert_eq!(
        list.headers["x-openstack-request-id"],
        post.headers["x-openstack-request-id"]
    );
    assert!(post.headers["x-openstack-request-id"].starts_with("req-"));
}

#[tokio::test]
async fn a_server_is_created_in_its_pools_group_and_with_its_key_if_it_names_them() {
    for (group, key) in [(None, None), (Some("group-1"), Some("ops"))] {
        let cloud = cloud(|request| match request.method.as_str() {
            "POST" => json(202, value!({"server": {"id": "a"}})),
            _ => empty_list(),
        })
        .await;
        let named = |machine| Machine {
            server_group: group.map(str::to_owned),
            key_name: key.map(str::to_owned),
            ..machine
        };
        let (bench, _) = bench_with(&cloud.url, named).with_token();
        bench
            .openstack
            .execute(&action(create()), TestGate::open())
            .await
            .unwrap();
        let body = cloud.requests().pop().unwrap().json();
        let hints = group.map(|group| value!({"group": group}));
        assert_eq!(body.get("os:scheduler_hints"), hints.as_ref());
        let key = key.map(Value::from);
        assert_eq!(body["server"].get("key_name"), key.as_ref());
    }
}

#[tokio::test]
async fn a_server_that_is_there_already_is_not_created_again() {
    let cloud = cloud(|_| json(200, value!({"servers": [server("a", "BUILD")]}))).await;
    let (bench, _) = bench(&cloud.url).with_token();
    let done = bench
        .openstack
        .execute(&action(create()), TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Created { vm: "a".into() }));
    assert!(cloud.mutations().is_empty());
}

#[tokio::test]
async fn with_an_incomplete_list_nothing_is_created() {
    let cloud = cloud(|_| json(200, value!({"servers": [{"id": "x", "status": "UNKNOWN"}]}))).await;
    let (bench, _) = bench(&cloud.url).with_token();
    let failure = bench
        .openstack
        .execute(&action(create()), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
    assert!(cloud.mutations().is_empty());
}

#[tokio::test]
async fn without_the_tokens_secret_the_token_is_to_be_made_anew() {
    let cloud = cloud(|_| empty_list()).await;
    let bench = bench(&cloud.url);
    let failure = bench
        .openstack
        .execute(&action(create()), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NeedsToken);
    assert!(cloud.mutations().is_empty());
}

#[tokio::test]
async fn a_lost_answer_of_a_create_is_unknown_and_is_not_asked_for_again() {
    for (name, reply) in [
        ("dropped", None),
        (
            "500",
            Some((500, r#"{"computeFault":{"code":500,"message":"x"}}"#)),
        ),
        ("503", Some((503, ""))),
        ("accepted without an id", Some((202, "{}"))),
    ] {
        let cloud = cloud(move |request| match (request.method.as_str(), reply) {
            ("POST", None) => Reply::Drop,
            ("POST", Some((status, body))) => text(status, body),
            _ => empty_list(),
        })
        .await;
        let (bench, _) = bench(&cloud.url).with_token();
        let failure = bench
            .openstack
            .execute(&action(create()), TestGate::open())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unknown, "{name}");
        assert_eq!(cloud.mutations(), ["POST /v2.1/servers"], "{name}");
    }
}

#[tokio::test]
async fn a_create_that_is_not_answered_in_time_is_unknown() {
    let cloud = cloud(|request| match request.method.as_str() {
        "POST" => Reply::Hang,
        _ => empty_list(),
    })
    .await;
    let (bench, _) = bench(&cloud.url).with_token();
    let create = action(create());
    let run = bench.openstack.execute(&create, TestGate::open());
    let deadline = async {
        while cloud.mutations().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Duration::from_secs(600));
    };
    let (result, ()) = tokio::join!(run, deadline);
    assert_eq!(result.unwrap_err().kind, FailureKind::Unknown);
}

#[tokio::test]
async fn with_nobody_listening_nothing_was_sent_and_it_may_be_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let bench = bench(&url);
    let stop = action(ActionKind::StopServer { vm: vm() });
    let failure = bench
        .openstack
        .execute(&stop, TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
}

#[tokio::test]
async fn a_start_is_asked_for_unless_the_server_runs_already() {
    // Rows: what the server is when it is read, and what is under way; whether it is asked for.
    for (status, task, asked) in [
        ("SHUTOFF", Value::Null, true),
        ("ACTIVE", Value::Null, false),
        ("ACTIVE", value!("powering-off"), true),
    ] {
        let cloud = cloud(move |request| match request.method.as_str() {
            "GET" => {
                let mut wire = server("a", status);
                wire["OS-EXT-STS:task_state"] = task.clone();
                json(200, value!({"server": wire}))
            }
            _ => text(202, ""),
        })
        .await;
        let (bench, _) = bench(&cloud.url).with_token();
        let start = action(ActionKind::StartServer { vm: vm() });
        let done = bench.openstack.execute(&start, TestGate::open()).await;
        let wanted = if asked { Done::Accepted } else { Done::Already };
        assert_eq!(done, Ok(wanted), "{status}");
        let last = cloud.requests().pop().unwrap();
        if asked {
            assert_eq!(last.line(), "POST /v2.1/servers/a/action");
            assert_eq!(last.json(), value!({"os-start": null}));
        } else {
            assert_eq!(last.line(), "GET /v2.1/servers/a");
        }
    }
}

#[tokio::test]
async fn each_change_reads_the_server_just_before_and_sends_what_nova_expects() {
    let bodies = [
        (
            "POST /v2.1/servers/a/action",
            value!({"reboot": {"type": "HARD"}}),
        ),
        ("POST /v2.1/servers/a/action", value!({"os-stop": null})),
        ("DELETE /v2.1/servers/a", Value::Null),
        ("POST /v2.1/servers/a/action", value!({"rebuild": {}})),
    ];
    for (kind, (line, body)) in changes().into_iter().zip(bodies) {
        let cloud = cloud(|request| match request.method.as_str() {
            "GET" => {
                let mut wire = server("a", "ACTIVE");
                wire["metadata"]["theirs"] = value!("kept");
                json(200, value!({"server": wire}))
            }
            _ => text(202, ""),
        })
        .await;
        let (bench, _) = bench(&cloud.url).with_token();
        let done = bench
            .openstack
            .execute(&action(kind), TestGate::open())
            .await;
        assert_eq!(done, Ok(Done::Accepted), "{line}");
        let requests = cloud.requests();
        let [.., get, change] = requests.as_slice() else {
            panic!("too few requests")
        };
        assert_eq!(get.line(), "GET /v2.1/servers/a");
        assert_eq!(change.line(), line);
        let sent = change.json();
        if let Some(rebuild) = sent.get("rebuild") {
            assert_eq!(rebuild["metadata"]["theirs"], "kept");
            assert_eq!(rebuild["imageRef"], "image");
            assert!(rebuild["user_data"].is_string());
        } else {
            assert_eq!(sent, body);
        }
    }
}

#[tokio::test]
async fn what_is_not_the_server_that_was_decided_on_is_left_alone() {
    type Spoil = fn(&mut Value);
    let rows: [(&str, Spoil); 8] = [
        ("no owner", |s| s["metadata"] = value!({})),
        ("another owner", |s| {
            s["metadata"][mark::OWNER] = value!("me")
        }),
        ("another cluster", |s| {
            s["metadata"][mark::CLUSTER] = value!("green")
        }),
        ("another pool", |s| {
            s["metadata"][mark::POOL] = value!("masters")
        }),
        ("another operation", |s| {
            s["metadata"][mark::OPERATION] = value!("op-a1b2c3d4-18");
        }),
        ("an operation nobody can read", |s| {
            s["metadata"][mark::OPERATION] = value!("?");
        }),
        ("another generation", |s| {
            s["created"] = value!("2026-11-22T07:42:55Z")
        }),
        ("do not touch", |s| {
            s["metadata"][mark::DO_NOT_TOUCH] = value!("")
        }),
    ];
    for (name, spoil) in rows {
        for kind in changes() {
            let cloud = cloud(move |_| {
                let mut wire = server("a", "ACTIVE");
                spoil(&mut wire);
                json(200, value!({"server": wire}))
            })
            .await;
            let (bench, _) = bench(&cloud.url).with_token();
            let gate = TestGate::open();
            let failure = bench
                .openstack
                .execute(&action(kind.clone()), gate.clone())
                .await
                .unwrap_err();
            assert_eq!(
                failure.kind,
                FailureKind::NotOwned,
                "{name}, {}",
                kind.name()
            );
            assert!(cloud.mutations().is_empty(), "{name}");
            assert!(gate.asked().is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_shut_gate_sends_nothing() {
    for kind in changes().into_iter().chain([create()]) {
        let cloud = cloud(|request| {
            if request.path.starts_with("/v2.1/servers/detail") {
                empty_list()
            } else {
                json(200, value!({"server": server("a", "ACTIVE")}))
            }
        })
        .await;
        let (bench, _) = bench(&cloud.url).with_token();
        let failure = bench
            .openstack
            .execute(&action(kind.clone()), TestGate::shut())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Gate, "{}", kind.name());
        assert!(cloud.mutations().is_empty(), "{}", kind.name());
    }
}

#[tokio::test]
async fn a_dry_run_looks_and_calls_nothing() {
    let cloud = cloud(|_| json(200, value!({"servers": [server("a", "ACTIVE")]}))).await;
    let (bench, _) = bench(&cloud.url).with_token();
    let dry = DryRun::new(Arc::new(bench.openstack));
    let gate = TestGate::open();
    for kind in changes().into_iter().chain([create()]) {
        assert_eq!(
            dry.execute(&action(kind), gate.clone()).await,
            Ok(Done::Dry)
        );
    }
    assert!(cloud.requests().is_empty() && gate.asked().is_empty());
    let found = dry
        .execute(&action(ActionKind::FindServer), gate)
        .await
        .unwrap();
    assert!(matches!(found, Done::Found { servers, complete: true } if servers.len() == 1));
    assert_eq!(dry.observe().await.unwrap().len(), 1);
}

#[tokio::test]
async fn gone_already_is_success_for_a_delete_but_only_if_nova_says_so() {
    let delete = || action(ActionKind::DeleteServer { vm: vm() });
    let novas = r#"{"itemNotFound":{"code":404,"message":"Instance a could not be found."}}"#;
    let cloud_one = cloud(move |_| text(404, novas)).await;
    let done = bench(&cloud_one.url)
        .openstack
        .execute(&delete(), TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Already));

    let proxy = cloud(|_| text(404, "<html>404</html>")).await;
    let failure = bench(&proxy.url)
        .openstack
        .execute(&delete(), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
    assert!(proxy.mutations().is_empty());

    let stop = action(ActionKind::StopServer { vm: vm() });
    let failure = bench(&cloud_one.url)
        .openstack
        .execute(&stop, TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
}

#[tokio::test]
async fn a_server_that_is_off_is_not_stopped_again() {
    let cloud = cloud(|_| json(200, value!({"server": server("a", "SHUTOFF")}))).await;
    let stop = action(ActionKind::StopServer { vm: vm() });
    let done = bench(&cloud.url)
        .openstack
        .execute(&stop, TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Already));
    assert!(cloud.mutations().is_empty());
}

#[tokio::test]
async fn pages_are_followed_and_only_our_servers_are_ours() {
    let cloud = cloud(|request| {
        if request.path.contains("marker=m") {
            let mut foreign = server("c", "ACTIVE");
            foreign["metadata"][mark::CLUSTER] = value!("green");
            json(200, value!({"servers": [server("b", "SUSPENDED"), foreign]}))
        } else {
            json(200, value!({"servers": [server("a", "ACTIVE")], "servers_links": [
                {"rel": "next", "href": "https://elsewhere/v2.1/servers/detail?limit=500&marker=m"}]}))
        }
    })
    .await;
    let seen = bench(&cloud.url).openstack.observe().await.unwrap();
    let [
        Observation::Servers {
            complete, servers, ..
        },
    ] = seen.as_slice()
    else {
        panic!("{seen:?}")
    };
    assert!(*complete);
    let got: Vec<(&str, &ServerStatus)> = servers
        .iter()
        .map(|server| (server.id.as_str(), &server.status))
        .collect();
    let suspended = ServerStatus::Other("SUSPENDED".into());
    assert_eq!(got, [("a", &ServerStatus::Active), ("b", &suspended)]);
}

#[tokio::test]
async fn a_page_that_fails_makes_the_list_incomplete_and_the_first_fails_it() {
    let cloud_one = cloud(|request| {
        if request.path.contains("marker") {
            text(500, "")
        } else {
            json(
                200,
                value!({"servers": [server("a", "ACTIVE")],
                "servers_links": [{"rel": "next", "href": "http://x?marker=m"}]}),
            )
        }
    })
    .await;
    let seen = bench(&cloud_one.url).openstack.observe().await.unwrap();
    assert!(matches!(
        seen.as_slice(),
        [Observation::Servers {
            complete: false,
            ..
        }]
    ));
    let failing = cloud(|_| text(503, "")).await;
    assert!(bench(&failing.url).openstack.observe().await.is_err());
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_once_when_it_is_refused() {
    let issued = Arc::new(AtomicU32::new(0));
    let refuse = Arc::new(AtomicU32::new(0));
    let (count, refusals) = (issued.clone(), refuse.clone());
    let cloud = Scripted::start(move |request| {
        if request.path == "/v3/auth/tokens" {
            count.fetch_add(1, Ordering::SeqCst);
            return keystone(request, 100);
        }
        let left = refusals.load(Ordering::SeqCst);
        if left > 0 {
            refusals.store(left - 1, Ordering::SeqCst);
            return json(401, value!({"error": {"code": 401, "message": "no"}}));
        }
        match request.method.as_str() {
            "GET" => json(200, value!({"server": server("a", "ACTIVE")})),
            _ => text(202, ""),
        }
    })
    .await;
    let bench = bench(&cloud.url);
    let reboot = action(ActionKind::RebootServer {
        vm: vm(),
        hard: false,
    });
    let gate = TestGate::open();
    let run = || bench.openstack.execute(&reboot, gate.clone());
    run().await.unwrap();
    run().await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    bench.clock.advance(Duration::from_secs(91));
    run().await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    refuse.store(1, Ordering::SeqCst);
    run().await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 3);
    // Refused for good: given up after one renewal, not asked for without end.
    refuse.store(100, Ordering::SeqCst);
    let failure = run().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
    assert_eq!(refuse.load(Ordering::SeqCst), 98);
}

#[tokio::test]
async fn a_refused_token_in_the_middle_of_a_change_passes_the_gate_again() {
    let refused = Arc::new(AtomicU32::new(0));
    let cloud = cloud(move |request| match request.method.as_str() {
        "GET" => json(200, value!({"server": server("a", "ACTIVE")})),
        _ if refused.fetch_add(1, Ordering::SeqCst) == 0 => text(401, ""),
        _ => text(202, ""),
    })
    .await;
    let gate = TestGate::after(1);
    let reboot = action(ActionKind::RebootServer {
        vm: vm(),
        hard: false,
    });
    let failure = bench(&cloud.url)
        .openstack
        .execute(&reboot, gate.clone())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Gate);
    assert_eq!(gate.asked().len(), 2);
    assert_eq!(cloud.mutations().len(), 1);
}

#[tokio::test]
async fn what_keystone_refuses_is_told_with_what_to_do() {
    let rows: [(&str, u16, &str, FailureKind, &str); 4] = [
        (
            "wrong password",
            401,
            r#"{"error":{"code":401,"message":"requires authentication"}}"#,
            FailureKind::Retry { after: None },
            "check them",
        ),
        (
            "credential deleted",
            404,
            r#"{"error":{"code":404,"message":"Could not find"}}"#,
            FailureKind::Retry { after: None },
            "application credential",
        ),
        (
            "keystone away",
            503,
            "",
            FailureKind::Retry { after: None },
            "503",
        ),
        (
            "unscoped",
            201,
            r#"{"token":{"expires_at":"2026-11-22T08:42:54Z"}}"#,
            FailureKind::Refused,
            "catalog",
        ),
    ];
    for (name, status, body, kind, words) in rows {
        let cloud = Scripted::start(move |_| {
            Reply::Answer(
                status,
                "application/json",
                vec![("x-subject-token", TOKEN.to_owned())],
                body.to_owned(),
            )
        })
        .await;
        let failure = bench(&cloud.url).openstack.observe().await.unwrap_err();
        assert_eq!(failure.kind, kind, "{name}");
        assert!(failure.message.contains(words), "{name}: {failure}");
    }
}

#[tokio::test]
async fn an_application_credential_asks_for_no_scope() {
    let cloud = cloud(|_| empty_list()).await;
    let clock = TestClock::new();
    let options = OpenstackOptions {
        auth_url: format!("{}/v3/", cloud.url),
        credentials: Credentials::ApplicationCredential {
            id: "id".to_owned(),
            secret: PASSWORD.to_owned().into(),
        },
        region: None,
        interface: Interface::Public,
        ca_file: None,
        cluster: "blue".to_owned(),
        poll: Duration::from_secs(10),
        machines: BTreeMap::new(),
    };
    assert!(!format!("{options:?}").contains(PASSWORD));
    rhizome_actions::install_crypto_provider();
    let openstack = Openstack::new(options, clock, Arc::new(TokenVault::new())).unwrap();
    // Its first endpoint leads nowhere, which only shows that the region is not asked for.
    let _ = openstack.observe().await;
    let request = &cloud.requests()[0];
    assert_eq!(request.line(), "POST /v3/auth/tokens");
    assert_eq!(
        request.json()["auth"],
        value!({"identity": {"methods": ["application_credential"],
            "application_credential": {"id": "id", "secret": PASSWORD}}})
    );
}

#[tokio::test]
async fn the_watch_asks_by_id_for_what_is_no_longer_listed_and_says_how_well_it_sees() {
    let phase = Arc::new(Mutex::new("there"));
    let now = phase.clone();
    let cloud = cloud(move |request| {
        let phase = *now.lock().unwrap();
        let detail = request.path.contains("detail");
        match phase {
            "away" => text(503, ""),
            "there" if detail => json(200, value!({"servers": [server("a", "ACTIVE")]})),
            _ if detail => empty_list(),
            "gone" => text(404, r#"{"itemNotFound":{"code":404,"message":"no"}}"#),
            _ => json(200, value!({"server": server("a", "SHUTOFF")})),
        }
    })
    .await;
    let bench = bench(&cloud.url);
    let (out, mut seen) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let watch = bench.openstack.watch(out, stop.clone());
    let script = async {
        let flows = |flowing: bool| move |seen: &Seen| matches!(seen, Seen::Source(SourceReport { flowing: f, .. }) if *f == flowing);
        until(&mut seen, flows(true)).await;
        *phase.lock().unwrap() = "away";
        let report = until(&mut seen, flows(false)).await;
        assert!(matches!(report, Seen::Source(report) if report.trouble.contains("503")));
        *phase.lock().unwrap() = "unlisted";
        until(&mut seen, |seen| {
            matches!(seen, Seen::Observation(Observation::Server(view))
                if view.status == ServerStatus::Shutoff)
        })
        .await;
        *phase.lock().unwrap() = "gone";
        until(&mut seen, |seen| {
            matches!(seen, Seen::Observation(Observation::ServerGone(id)) if id.as_str() == "a")
        })
        .await;
        stop.cancel();
        // Whoever listens late must not hold the watch up for ever.
        while seen.recv().await.is_some() {}
    };
    tokio::join!(watch, script);
}

#[tokio::test]
async fn no_secret_is_logged_or_told_whatever_nova_echoes() {
    let log = Log::capture();
    let cloud = cloud(|request| match request.method.as_str() {
        "POST" => {
            let echo = format!(
                "Invalid input: {} with X-Auth-Token: {TOKEN}, 'adminPass': 'hunter2'",
                request.json()["server"]
            );
            json(400, value!({"badRequest": {"code": 400, "message": echo}}))
        }
        _ => empty_list(),
    })
    .await;
    let (bench, token) = bench(&cloud.url).with_token();
    let failure = bench
        .openstack
        .execute(&action(create()), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("Invalid input"));
    let requests = cloud.requests();
    let user_data = requests.last().unwrap().json()["server"]["user_data"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = format!("{}\n{failure}\n{failure:?}\n{:?}", log.text(), bench.vault);
    assert!(
        log.text().contains("calling openstack"),
        "the log was not captured"
    );
    for secret in [
        TOKEN,
        PASSWORD,
        "hunter2",
        token.secret().expose_secret(),
        &user_data,
    ] {
        assert!(!shown.contains(secret), "`{secret}` is shown");
    }
}

#[tokio::test]
async fn a_call_can_be_followed_by_its_request_ids() {
    let log = Log::capture();
    let cloud = cloud(|request| match request.method.as_str() {
        "GET" => json(200, value!({"server": server("a", "ACTIVE")})),
        _ => json(400, value!({"badRequest": {"code": 400, "message": "no"}})),
    })
    .await;
    let stop = action(ActionKind::StopServer { vm: vm() });
    let bench = bench(&cloud.url);
    let failure = bench
        .openstack
        .execute(&stop, TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(
        failure.message,
        "stop_server: answered 400 (request req-theirs): no"
    );
    let requests = cloud.requests();
    let ours = &requests.last().unwrap().headers["x-openstack-request-id"];
    let text = log.text();
    let line = text
        .lines()
        .find(|line| line.contains("openstack answered") && line.contains("stop_server"))
        .unwrap();
    for part in [
        "DEBUG",
        "method=POST",
        "path=\"/v2.1/servers/a/action\"",
        "status=400",
        "request_id=\"req-theirs\"",
        &format!("global_request_id=\"{ours}\""),
    ] {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
}

#[tokio::test]
async fn a_watch_ends_at_once_although_an_answer_hangs() {
    let cloud = cloud(|_| Reply::Hang).await;
    let bench = bench(&cloud.url);
    let (out, _seen) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let hang = async {
        while cloud.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(bench.openstack.watch(out, stop.clone()), hang);
}
