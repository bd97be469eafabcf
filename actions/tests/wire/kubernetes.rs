//! The wire between us and the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{
    Log, OPERATION, Reply, Request, Scripted, TestClock, TestGate, action, json, text, until,
};
use rhizome_actions::kubernetes::{Access, Approval, Kubernetes, KubernetesOptions};
use rhizome_actions::{Executor, JoinToken, Seen, TokenVault};
use rhizome_engine::action::{Action, ActionKind, Done, FailureKind, NodeRef};
use rhizome_engine::event::{Observation, Ready, SourceReport};
use rhizome_engine::time::Clock;
use secrecy::ExposeSecret;
use serde_json::{Value, json as value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const BEARER: &str = "the-bearer-token-that-must-not-be-shown";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

struct Bench {
    kubernetes: Kubernetes,
    clock: Arc<TestClock>,
    vault: Arc<TokenVault>,
}

async fn bench(url: &str) -> Bench {
    rhizome_actions::install_crypto_provider();
    let clock = TestClock::new();
    let vault = Arc::new(TokenVault::new());
    let options = KubernetesOptions {
        access: Access::Url {
            url: url.to_owned(),
            token: Some(BEARER.to_owned().into()),
            ca_file: None,
        },
        approval: Approval::Rhizome,
        evict_unmanaged: false,
        evict_local_storage: false,
    };
    let kubernetes = Kubernetes::new(options, clock.clone(), vault.clone())
        .await
        .unwrap();
    Bench {
        kubernetes,
        clock,
        vault,
    }
}

fn status(code: u16, message: &str) -> Reply {
    json(
        code,
        value!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "message": message}),
    )
}

fn node(uid: &str) -> Value {
    value!({"kind": "Node", "apiVersion": "v1",
        "metadata": {"name": "w-1", "uid": uid, "resourceVersion": "7", "labels": {"a": "b"}},
        "spec": {}, "status": {}})
}

fn pod(name: &str) -> Value {
    value!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
            "uid": "r", "controller": true}]},
        "spec": {"nodeName": "w-1", "containers": [{"name": "c"}]}, "status": {"phase": "Running"}})
}

fn list(items: &[Value]) -> Reply {
    json(
        200,
        value!({"kind": "List", "metadata": {"resourceVersion": "9"}, "items": items}),
    )
}

fn target() -> NodeRef {
    NodeRef {
        name: "w-1".into(),
        uid: "u".to_owned(),
    }
}

fn cordon() -> Action {
    action(ActionKind::Cordon { node: target() })
}

fn drain() -> Action {
    action(ActionKind::Drain { node: target() })
}

fn create_token() -> Action {
    action(ActionKind::CreateToken {
        node: "w-1".into(),
        ttl: Duration::from_secs(1200),
    })
}

/// Every action that changes something.
fn all() -> Vec<Action> {
    let labels: BTreeMap<String, String> = [("role".to_owned(), "worker".to_owned())].into();
    vec![
        create_token(),
        action(ActionKind::DeleteToken),
        cordon(),
        action(ActionKind::Uncordon { node: target() }),
        action(ActionKind::LabelNode {
            node: target(),
            labels,
        }),
        drain(),
        action(ActionKind::OutOfService { node: target() }),
        action(ActionKind::InService { node: target() }),
        action(ActionKind::DeleteNode { node: target() }),
    ]
}

/// A node with these pods, until each has been evicted as `evict` says.
async fn with_pods(
    pods: Vec<Value>,
    evict: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Scripted {
    let left = Mutex::new(pods);
    Scripted::start(move |request| match request.method.as_str() {
        "GET" if request.path.starts_with("/api/v1/nodes/") => json(200, node("u")),
        "GET" if request.path == "/readyz" => text(200, "ok"),
        "GET" => list(&left.lock().unwrap()),
        _ => {
            let reply = evict(request);
            if matches!(&reply, Reply::Answer(201, _, _, body) if body.contains("Success")) {
                left.lock().unwrap().retain(|pod| {
                    !request.path.ends_with(&format!(
                        "/{}/eviction",
                        pod["metadata"]["name"].as_str().unwrap()
                    ))
                });
            }
            reply
        }
    })
    .await
}

fn evicted() -> Reply {
    json(
        201,
        value!({"kind": "Status", "status": "Success", "code": 201}),
    )
}

fn budget() -> Reply {
    json(
        429,
        value!({"kind": "Status", "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "details": {"causes": [{"reason": "DisruptionBudget",
            "message": "The disruption budget bb needs 2 healthy pods and has 2 currently"}]}}),
    )
}

#[tokio::test]
async fn a_token_is_made_for_one_operation_and_its_secret_kept_in_memory_alone() {
    let log = Log::capture();
    let server = Scripted::start(|_| json(201, value!({"kind": "Secret"}))).await;
    let bench = bench(&server.url).await;
    let done = bench
        .kubernetes
        .execute(&create_token(), TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Accepted));
    let token = bench.vault.get(OPERATION, bench.clock.now().wall).unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.line(), format!("POST {SECRETS}"));
    assert_eq!(request.headers["authorization"], format!("Bearer {BEARER}"));
    let body = request.json();
    assert_eq!(body["type"], "bootstrap.kubernetes.io/token");
    assert_eq!(
        body["metadata"]["name"],
        format!("bootstrap-token-{}", JoinToken::id_of(OPERATION))
    );
    let data = &body["stringData"];
    assert_eq!(data["token-secret"], token.secret().expose_secret());
    assert_eq!(data["expiration"], "2026-11-22T08:02:54Z");
    assert_eq!(data["usage-bootstrap-signing"], "true");
    let shown = format!("{}{:?}", log.text(), bench.vault);
    assert!(
        log.text().contains("calling kubernetes"),
        "the log was not captured"
    );
    for secret in [BEARER, token.secret().expose_secret()] {
        assert!(!shown.contains(secret), "`{secret}` is shown");
    }
}

#[tokio::test]
async fn a_token_that_is_there_already_is_made_anew_each_call_by_its_own_pass() {
    let posts = AtomicU32::new(0);
    let server = Scripted::start(move |request| match request.method.as_str() {
        "POST" if posts.fetch_add(1, Ordering::SeqCst) == 0 => status(409, "already exists"),
        "POST" => json(201, value!({})),
        _ => json(200, value!({"kind": "Status", "status": "Success"})),
    })
    .await;
    let bench = bench(&server.url).await;
    let gate = TestGate::open();
    let done = bench
        .kubernetes
        .execute(&create_token(), gate.clone())
        .await;
    assert_eq!(done, Ok(Done::Accepted));
    assert_eq!(
        gate.asked(),
        ["create_secret", "delete_secret", "create_secret"]
    );
    let id = JoinToken::id_of(OPERATION);
    let post = format!("POST {SECRETS}");
    let delete = format!("DELETE {SECRETS}/bootstrap-token-{id}");
    assert_eq!(server.mutations(), [post.clone(), delete, post]);
}

#[tokio::test]
async fn a_token_whose_making_was_not_confirmed_is_not_handed_out() {
    for (name, kind) in [
        ("drop", FailureKind::Unknown),
        ("422", FailureKind::Refused),
    ] {
        let server = Scripted::start(move |request| match name {
            "drop" => Reply::Drop,
            // The API may repeat what it was sent.
            _ => status(422, &format!("invalid: {}", request.body)),
        })
        .await;
        let bench = bench(&server.url).await;
        let failure = bench
            .kubernetes
            .execute(&create_token(), TestGate::open())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, kind, "{name}");
        assert!(bench.vault.get(OPERATION, bench.clock.now().wall).is_none());
        let sent = server.requests()[0].json();
        if let Some(secret) = sent["stringData"]["token-secret"].as_str() {
            assert!(!failure.message.contains(secret), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_token_is_extended_without_its_secret() {
    let server = Scripted::start(|_| json(200, value!({"kind": "Secret"}))).await;
    let bench = bench(&server.url).await;
    let ttl = std::time::Duration::from_secs(1_200);
    let extend = action(ActionKind::ExtendToken { ttl });
    let done = bench.kubernetes.execute(&extend, TestGate::open()).await;
    assert_eq!(
        done,
        Ok(Done::Accepted),
        "nothing is kept of it, as after a restart"
    );
    let sent = server.requests().pop().unwrap();
    let id = JoinToken::id_of(OPERATION);
    assert_eq!(sent.line(), format!("PATCH {SECRETS}/bootstrap-token-{id}"));
    let wanted = value!({"stringData": {"expiration": "2026-11-22T08:02:54Z"}});
    assert_eq!(sent.json(), wanted);
}

#[tokio::test]
async fn deleting_a_token_or_a_node_that_is_gone_is_success() {
    let server = Scripted::start(|_| status(404, "not found")).await;
    let bench = bench(&server.url).await;
    for kind in [
        ActionKind::DeleteToken,
        ActionKind::DeleteNode { node: target() },
    ] {
        let done = bench
            .kubernetes
            .execute(&action(kind), TestGate::open())
            .await;
        assert_eq!(done, Ok(Done::Already));
    }
}

#[tokio::test]
async fn a_cordon_is_guarded_by_uid_and_version_and_made_anew_after_a_conflict() {
    let patches = AtomicU32::new(0);
    let server = Scripted::start(move |request| match request.method.as_str() {
        "GET" => json(200, node("u")),
        _ if patches.fetch_add(1, Ordering::SeqCst) == 0 => status(409, "modified"),
        _ => json(200, node("u")),
    })
    .await;
    let bench = bench(&server.url).await;
    let gate = TestGate::open();
    let done = bench.kubernetes.execute(&cordon(), gate.clone()).await;
    assert_eq!(done, Ok(Done::Accepted));
    assert_eq!(gate.asked(), ["cordon", "cordon"]);
    let requests = server.requests();
    let patch = requests.last().unwrap();
    assert_eq!(patch.line(), "PATCH /api/v1/nodes/w-1");
    assert_eq!(
        patch.headers["content-type"],
        "application/merge-patch+json"
    );
    assert_eq!(
        patch.json(),
        value!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"unschedulable": true}})
    );
}

#[tokio::test]
async fn what_is_so_already_is_not_asked_for() {
    let server = Scripted::start(|_| {
        let mut wire = node("u");
        wire["metadata"]["labels"]["role"] = value!("worker");
        json(200, wire)
    })
    .await;
    let bench = bench(&server.url).await;
    for action in all().into_iter().filter(|action| {
        matches!(
            action.kind,
            ActionKind::Uncordon { .. }
                | ActionKind::LabelNode { .. }
                | ActionKind::InService { .. }
        )
    }) {
        let done = bench.kubernetes.execute(&action, TestGate::open()).await;
        assert_eq!(done, Ok(Done::Already));
    }
    assert!(server.mutations().is_empty());
}

#[tokio::test]
async fn a_node_that_is_not_the_one_that_was_decided_on_is_left_alone() {
    type Spoil = fn(&mut Value);
    let rows: [(&str, Spoil); 3] = [
        ("another uid", |n| n["metadata"]["uid"] = value!("v")),
        ("do not touch", |n| {
            n["metadata"]["labels"]["rhizome-do-not-touch"] = value!("");
        }),
        ("control plane", |n| {
            n["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = value!("");
        }),
    ];
    for (name, spoil) in rows {
        let server = Scripted::start(move |_| {
            let mut wire = node("u");
            spoil(&mut wire);
            json(200, wire)
        })
        .await;
        let bench = bench(&server.url).await;
        for action in all().into_iter().skip(2) {
            let gate = TestGate::open();
            let failure = bench
                .kubernetes
                .execute(&action, gate.clone())
                .await
                .unwrap_err();
            assert_eq!(failure.kind, FailureKind::NotOwned, "{name}");
            assert!(server.mutations().is_empty() && gate.asked().is_empty());
        }
    }
}

#[tokio::test]
async fn a_node_is_deleted_by_its_uid() {
    let server = Scripted::start(|request| match request.method.as_str() {
        "GET" => json(200, node("u")),
        _ => json(200, value!({"kind": "Status", "status": "Success"})),
    })
    .await;
    let bench = bench(&server.url).await;
    let delete = action(ActionKind::DeleteNode { node: target() });
    let done = bench.kubernetes.execute(&delete, TestGate::open()).await;
    assert_eq!(done, Ok(Done::Accepted));
    let requests = server.requests();
    assert_eq!(
        requests.last().unwrap().json()["preconditions"],
        value!({"uid": "u"})
    );

    let taken = Scripted::start(|request| match request.method.as_str() {
        "GET" => json(200, node("u")),
        _ => status(409, "the UID in the precondition does not match"),
    })
    .await;
    let failure = self::bench(&taken.url)
        .await
        .kubernetes
        .execute(&delete, TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotOwned);
}

#[tokio::test]
async fn a_shut_gate_sends_nothing() {
    let server = with_pods(vec![pod("p")], |_| evicted()).await;
    let bench = bench(&server.url).await;
    for action in all() {
        // There is nothing to uncordon, and nothing out of service.
        if matches!(
            action.kind,
            ActionKind::Uncordon { .. } | ActionKind::InService { .. }
        ) {
            continue;
        }
        let failure = bench
            .kubernetes
            .execute(&action, TestGate::shut())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Gate, "{}", action.kind.name());
    }
    assert!(server.mutations().is_empty());
}

#[tokio::test]
async fn a_drain_evicts_by_uid_what_may_go_and_leaves_what_belongs_to_the_node() {
    let mut daemon = pod("daemon");
    daemon["metadata"]["ownerReferences"][0]["kind"] = value!("DaemonSet");
    let mut mirror = pod("mirror");
    mirror["metadata"]["annotations"] = value!({"kubernetes.io/config.mirror": "x"});
    let server = with_pods(vec![pod("a"), daemon, mirror, pod("b")], |_| evicted()).await;
    let bench = bench(&server.url).await;
    let gate = TestGate::open();
    let done = bench.kubernetes.execute(&drain(), gate.clone()).await;
    assert_eq!(done, Ok(Done::Drained { evicted: 2 }));
    assert_eq!(gate.asked(), ["evict", "evict"]);
    assert_eq!(
        server.mutations(),
        [
            "POST /api/v1/namespaces/n/pods/a/eviction",
            "POST /api/v1/namespaces/n/pods/b/eviction"
        ]
    );
    let requests = server.requests();
    let sent = requests
        .iter()
        .find(|request| request.method == "POST")
        .unwrap()
        .json();
    assert_eq!(
        sent["deleteOptions"],
        value!({"preconditions": {"uid": "uid-a"}})
    );
    assert!(
        requests
            .iter()
            .any(|request| request.path.contains("fieldSelector=spec.nodeName%3Dw-1"))
    );
}

#[tokio::test]
async fn a_drain_waits_for_a_budget_and_names_it_when_its_time_is_up() {
    let refusals = AtomicU32::new(0);
    let server = with_pods(vec![pod("a")], move |_| {
        if refusals.fetch_add(1, Ordering::SeqCst) < 3 {
            budget()
        } else {
            evicted()
        }
    })
    .await;
    let bench_one = bench(&server.url).await;
    let before = bench_one.clock.now();
    let done = bench_one
        .kubernetes
        .execute(&drain(), TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Drained { evicted: 1 }));
    let waited = bench_one.clock.now().mono.since(before.mono);
    assert!(waited >= Duration::from_secs(15), "{waited:?}");

    let stuck = with_pods(vec![pod("a")], |_| budget()).await;
    let bench_two = bench(&stuck.url).await;
    let before = bench_two.clock.now();
    let failure = bench_two
        .kubernetes
        .execute(&drain(), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("budget bb"), "{failure}");
    assert!(failure.message.contains("n/a"), "{failure}");
    assert!(bench_two.clock.now().mono.since(before.mono) <= Duration::from_secs(600));
}

#[tokio::test]
async fn a_drain_backs_off_when_the_server_has_too_much_to_do() {
    let asked = AtomicU32::new(0);
    let server = with_pods(vec![pod("a"), pod("b")], move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            Reply::Answer(
                429,
                "text/plain",
                vec![("retry-after", "7".to_owned())],
                "Too many requests, please try again later.\n".to_owned(),
            )
        } else {
            evicted()
        }
    })
    .await;
    let bench = bench(&server.url).await;
    let before = bench.clock.now();
    let done = bench.kubernetes.execute(&drain(), TestGate::open()).await;
    assert_eq!(done, Ok(Done::Drained { evicted: 2 }));
    assert!(bench.clock.now().mono.since(before.mono) >= Duration::from_secs(7));
    // One refusal, then both: the second was not asked for while the server was busy.
    assert_eq!(server.mutations().len(), 3);
}

#[tokio::test]
async fn what_can_never_be_evicted_blocks_the_drain_before_anything_is_evicted() {
    let mut unsafe_pod = pod("keep");
    unsafe_pod["metadata"]["annotations"] =
        value!({"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"});
    let mut held = pod("keep");
    held["metadata"]["annotations"] = value!({"karpenter.sh/do-not-disrupt": "true"});
    let mut bare = pod("keep");
    bare["metadata"]["ownerReferences"] = value!([]);
    for blocker in [unsafe_pod, held, bare] {
        let server = with_pods(vec![pod("a"), blocker], |_| evicted()).await;
        let failure = bench(&server.url)
            .await
            .kubernetes
            .execute(&drain(), TestGate::open())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Blocked);
        assert!(failure.message.contains("n/keep"), "{failure}");
        assert!(server.mutations().is_empty());
    }
    let two = with_pods(vec![pod("a")], |_| {
        status(
            500,
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )
    })
    .await;
    let failure = bench(&two.url)
        .await
        .kubernetes
        .execute(&drain(), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Blocked);
    assert_eq!(two.mutations().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_to_an_eviction_is_looked_at_and_the_gate_ends_a_drain() {
    let asked = AtomicU32::new(0);
    let lost = with_pods(vec![pod("a")], move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            Reply::Drop
        } else {
            evicted()
        }
    })
    .await;
    let done = bench(&lost.url)
        .await
        .kubernetes
        .execute(&drain(), TestGate::open())
        .await;
    assert_eq!(done, Ok(Done::Drained { evicted: 1 }));

    let paused = with_pods(vec![pod("a"), pod("b")], |_| evicted()).await;
    let failure = bench(&paused.url)
        .await
        .kubernetes
        .execute(&drain(), TestGate::after(1))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Gate);
    assert_eq!(paused.mutations().len(), 1);
}

#[tokio::test]
async fn a_403_is_final_only_when_the_server_is_ready() {
    for (ready, kind) in [
        (500, FailureKind::Retry { after: None }),
        (200, FailureKind::Refused),
    ] {
        let server = Scripted::start(move |request| match request.path.as_str() {
            "/readyz" => text(ready, ""),
            _ => status(403, "nodes \"w-1\" is forbidden"),
        })
        .await;
        let failure = bench(&server.url)
            .await
            .kubernetes
            .execute(&cordon(), TestGate::open())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, kind, "readyz {ready}");
    }
}

#[tokio::test]
async fn with_nobody_listening_nothing_was_sent_and_a_lost_answer_is_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = bench(&url)
        .await
        .kubernetes
        .execute(&create_token(), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retry { after: None });

    let server = Scripted::start(|request| match request.method.as_str() {
        "GET" => json(200, node("u")),
        _ => Reply::Drop,
    })
    .await;
    let lost = bench(&server.url)
        .await
        .kubernetes
        .execute(&cordon(), TestGate::open())
        .await
        .unwrap_err();
    assert_eq!(lost.kind, FailureKind::Unknown);
    assert_eq!(server.mutations().len(), 1);
}

/// Lists and watches: what is there by phase; a watch never says anything.
fn silent_watches(phase: Arc<Mutex<&'static str>>) -> impl Fn(&Request) -> Reply {
    move |request| {
        if request.path.contains("watch=true") {
            return Reply::Hang;
        }
        let phase = *phase.lock().unwrap();
        if phase == "away" {
            return status(503, "etcd is away");
        }
        if request.path.contains("/nodes") {
            let mut one = node("u");
            one["metadata"]["resourceVersion"] = value!("7");
            let ready = if phase == "ill" { "False" } else { "True" };
            one["status"] = value!({"conditions": [{"type": "Ready", "status": ready}]});
            let there: &[Value] = if phase == "gone" { &[] } else { &[one] };
            list(there)
        } else if request.path.contains("/leases") {
            list(&[
                value!({"metadata": {"name": "w-1", "namespace": "kube-node-lease"},
                "spec": {"renewTime": "2026-11-22T07:45:09.439120Z"}}),
            ])
        } else {
            let mut waiting = pod("p");
            waiting["spec"]["nodeName"] = Value::Null;
            waiting["metadata"]["creationTimestamp"] = value!("2026-11-22T07:42:54Z");
            waiting["status"] = value!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
            list(&[waiting, pod("q")])
        }
    }
}

#[tokio::test]
async fn a_silent_watch_hides_nothing_because_the_probe_looks_for_itself() {
    let phase = Arc::new(Mutex::new("well"));
    let server = Scripted::start(silent_watches(phase.clone())).await;
    let bench = bench(&server.url).await;
    let (out, mut seen) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let watch = bench.kubernetes.watch(out, stop.clone());
    let script = async {
        let ready = |wanted: Ready| {
            move |seen: &Seen| {
                matches!(seen, Seen::Observation(Observation::Nodes { nodes, .. })
                    if nodes.iter().any(|node| node.ready == wanted))
            }
        };
        let flows = |wanted: bool| move |seen: &Seen| matches!(seen, Seen::Source(SourceReport { flowing, .. }) if *flowing == wanted);
        until(&mut seen, ready(Ready::True)).await;
        until(&mut seen, |seen| {
            matches!(seen, Seen::Observation(Observation::Lease { .. }))
        })
        .await;
        until(&mut seen, flows(true)).await;
        until(&mut seen, |seen| {
            matches!(seen, Seen::Observation(Observation::Pods { unschedulable, nodes, .. })
                if unschedulable.len() == 1 && nodes.len() == 1)
        })
        .await;
        *phase.lock().unwrap() = "ill";
        until(&mut seen, ready(Ready::False)).await;
        *phase.lock().unwrap() = "away";
        until(&mut seen, flows(false)).await;
        *phase.lock().unwrap() = "gone";
        // The list tells it, and whether to believe an empty one is not decided here: no node is
        // said to be gone for its sake.
        loop {
            match seen.recv().await.unwrap() {
                Seen::Observation(Observation::Nodes { nodes, .. }) if nodes.is_empty() => break,
                Seen::Observation(Observation::NodeGone { name, .. }) => {
                    panic!("`{name}` is said to be gone by a list that lacks it")
                }
                _ => {}
            }
        }
        stop.cancel();
        while seen.recv().await.is_some() {}
    };
    tokio::join!(watch, script);
}

#[tokio::test]
async fn a_look_tells_everything_or_fails() {
    let phase = Arc::new(Mutex::new("well"));
    let server = Scripted::start(silent_watches(phase.clone())).await;
    let bench = bench(&server.url).await;
    let seen = bench.kubernetes.observe().await.unwrap();
    assert!(matches!(
        seen.as_slice(),
        [
            Observation::Nodes { .. },
            Observation::Lease { .. },
            Observation::Pods { .. }
        ]
    ));
    *phase.lock().unwrap() = "away";
    let failure = bench.kubernetes.observe().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry { after: None });
}

#[tokio::test]
async fn a_watch_ends_at_once_although_an_answer_hangs() {
    let server = Scripted::start(|_| Reply::Hang).await;
    let bench = bench(&server.url).await;
    let (out, _seen) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let hang = async {
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(bench.kubernetes.watch(out, stop.clone()), hang);
}
