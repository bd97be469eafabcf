use std::sync::Mutex;

use axum::body::Body;
use axum::http::Request;
use rhizome_connectors::auth::Who;
use rhizome_connectors::delivery;
use rhizome_engine::action::{Action, ActionKey, ActionKind};
use rhizome_engine::decision::Reason;
use rhizome_engine::event::{OperatorRequest, Wish};
use rhizome_engine::journal::Record;
use rhizome_engine::names::OperationId;
use rhizome_engine::overview::Overview;
use rhizome_engine::settings::Limits;
use rhizome_engine::time::{Now, Timestamp};
use rhizome_engine::{Answer, Counters};
use tower::ServiceExt;

use super::*;
use crate::clock::RealClock;
use crate::handle::{Call, handle};

/// What the engine in these tests answers to a wish.
type Engine = fn(&OperatorRequest) -> Answer;

struct Served {
    api: Api,
    gate: Arc<ProgramGate>,
    wishes: Arc<Mutex<Vec<OperatorRequest>>>,
    _folder: tempfile::TempDir,
}

fn status_of(journal_well: bool) -> Status {
    Status {
        at: Timestamp(1000),
        cluster: "test".to_owned(),
        epoch: 1,
        started: Timestamp(0),
        journal_well,
        policies: "p".to_owned(),
        pools: Vec::new(),
        sources: Vec::new(),
        brakes: Vec::new(),
        pauses: Vec::new(),
        operations: Vec::new(),
        decisions: Vec::new(),
        refusals: Vec::new(),
        unknown_records: 0,
        unknown_names: Vec::new(),
        unclaimed: Vec::new(),
    }
}

/// The endpoints before an engine that answers on a thread of its own, or is gone.
fn serve(engine: Option<Engine>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.rhai"), "// nothing").unwrap();
    let (inlet, outlet) = delivery::channel(4);
    let (engine_handle, calls) = handle(inlet);
    let wishes = Arc::new(Mutex::new(Vec::new()));
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let gate = ProgramGate::new(Arc::clone(&clock), &Limits::default(), false);
    gate.set_journal_well(true);
    if let Some(engine) = engine {
        let (wishes, gate) = (Arc::clone(&wishes), Arc::clone(&gate));
        std::thread::spawn(move || {
            let _outlet = outlet;
            while let Ok(call) = calls.recv() {
                match call {
                    Call::Status(reply) => drop(reply.send(Box::new(status_of(true)))),
                    Call::Overview(reply) => drop(reply.send(Overview {
                        journal_well: true,
                        ..Overview::default()
                    })),
                    Call::Why(_, reply) => drop(reply.send(None)),
                    Call::Counters(reply) => drop(reply.send(Counters::default())),
                    Call::Operator(request, reply) => {
                        if matches!(request.wish, Wish::Pause { .. }) {
                            assert!(held(&gate), "a pause bites before the engine has its turn");
                        }
                        let answer = engine(&request);
                        wishes.lock().unwrap().push(request);
                        let _ = reply.send(answer);
                    }
                }
            }
        });
    }
    let api = Api::new(Parts {
        engine: engine_handle,
        gate: Arc::clone(&gate),
        policies: Policies::load(folder.path()).unwrap(),
        metrics: Arc::new(Metrics::default()),
        clock,
        pools: [PoolName::new("workers")].into(),
        state: folder.path().to_owned(),
        dry_run: false,
    });
    Served {
        api,
        gate,
        wishes,
        _folder: folder,
    }
}

fn granted(_: &OperatorRequest) -> Answer {
    Answer::Granted("done".to_owned())
}

/// Whether the gate holds a call of the pool `workers` back.
fn held(gate: &Arc<ProgramGate>) -> bool {
    let action = Action {
        key: ActionKey {
            operation: OperationId {
                journal: 1,
                number: 1,
            },
            sequence: 0,
        },
        epoch: 1,
        pool: PoolName::new("workers"),
        expires: Timestamp(i64::MAX),
        timeout: Duration::from_secs(60),
        kind: ActionKind::DeleteToken,
    };
    gate.for_action().pass(&action, "call").is_err()
}

impl Served {
    async fn ask(&self, who: Who, mut request: Request<Body>) -> (u16, String) {
        request.extensions_mut().insert(who);
        let answer = self.api.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.ask(Who::anybody(), request).await
    }

    async fn order(&self, verb: &str, body: &str) -> (u16, String) {
        let request = Request::post(format!("/v1/{verb}"))
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.ask(Who::anybody(), request).await
    }
}

#[tokio::test]
async fn probes_status_and_metrics_are_answered() {
    let served = serve(Some(granted));
    for path in ["/livez", "/readyz"] {
        assert_eq!(served.get(path).await, (200, "ok\n".to_owned()));
    }
    let (status, body) = served.get("/v1/status").await;
    let report: StatusReport = serde_json::from_str(&body).unwrap();
    assert_eq!((status, report.engine.cluster.as_str()), (200, "test"));
    let (status, body) = served.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("rhizome_journal_well 1\n"), "{body}");
    assert!(body.contains("rhizome_records_total 0\n"), "{body}");
    served.api.stop();
    assert_eq!(served.get("/readyz").await.0, 503);
    assert_eq!(
        served.get("/livez").await.0,
        200,
        "stopping is no reason to be killed"
    );
}

#[tokio::test]
async fn an_engine_that_is_gone_is_said_and_metrics_go_on() {
    let served = serve(None);
    assert_eq!(served.get("/livez").await.0, 503);
    assert_eq!(served.get("/v1/status").await.0, 503);
    assert_eq!(served.get("/metrics").await.0, 200);
    let (status, body) = served.order("resume", r#"{"why": "test"}"#).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn a_pause_holds_calls_back_at_once_and_a_resume_once_it_is_journaled() {
    let served = serve(Some(granted));
    assert!(!held(&served.gate));
    let (status, body) = served
        .order("pause", r#"{"pool": "workers", "why": "upgrade"}"#)
        .await;
    assert_eq!(status, 200, "{body}");
    assert!(held(&served.gate));
    assert_eq!(
        served
            .order("resume", r#"{"pool": "workers", "why": "done"}"#)
            .await
            .0,
        200
    );
    // The answer may be late, and a newer pause may hold by then: what lifts one is its record.
    assert!(held(&served.gate));
    let wish = served.wishes.lock().unwrap().pop().unwrap();
    served.gate.follow(&Record::Wish {
        at: Now::default(),
        key: wish.key,
        who: wish.who,
        why: wish.why,
        wish: wish.wish,
    });
    assert!(!held(&served.gate));
}

#[tokio::test]
async fn a_pause_holds_even_if_the_engine_is_gone() {
    let served = serve(None);
    assert_eq!(served.order("pause", r#"{"why": "fire"}"#).await.0, 503);
    assert!(held(&served.gate));
}

#[tokio::test]
async fn orders_become_wishes_with_key_who_and_why() {
    let served = serve(Some(granted));
    let body = r#"{"key": "k1", "who": "ann\u001b[31m", "why": " load test ", "pool": "workers", "size": 4}"#;
    let request = Request::post("/v1/scale").body(Body::from(body)).unwrap();
    let operators = Who::new("operators", &[Right::Operate]);
    assert_eq!(served.ask(operators, request).await.0, 200);
    let wishes = served.wishes.lock().unwrap();
    assert_eq!(
        wishes[0],
        OperatorRequest {
            key: "k1".to_owned(),
            who: "operators (ann [31m)".to_owned(),
            why: "load test".to_owned(),
            wish: Wish::Scale {
                pool: PoolName::new("workers"),
                size: 4
            },
        }
    );
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_with_what_to_do() {
    let served = serve(Some(granted));
    let cases = [
        (
            "scale",
            r#"{"why": "x", "pool": "workers"}"#,
            "`scale` needs `size`",
        ),
        ("scale", r#"{"pool": "workers", "size": 3}"#, "say `why`"),
        (
            "scale",
            r#"{"why": "x", "pool": "workers", "size": -3}"#,
            "the body is no order",
        ),
        ("replace", r#"{"why": "x"}"#, "`replace` needs `node`"),
        (
            "cancel",
            r#"{"why": "x", "operation": "7"}"#,
            "is not the id of an operation",
        ),
        (
            "maintenance",
            r#"{"why": "x", "node": "a", "for": "ever"}"#,
            "is not a duration",
        ),
        (
            "maintenance",
            r#"{"why": "x", "node": "a", "for": "30d"}"#,
            "`7d` long at most",
        ),
        (
            "pause",
            r#"{"why": "x", "pool": "wrokers"}"#,
            "there are: `workers`",
        ),
        ("explode", r#"{"why": "x"}"#, "`explode` is no order"),
        (
            "pause",
            r#"{"why": "x", "pol": "workers"}"#,
            "unknown field `pol`",
        ),
        ("pause", "", "the body is no order"),
    ];
    for (verb, body, why) in cases {
        let (status, answer) = served.order(verb, body).await;
        assert_eq!(status, 400, "{verb} {body}: {answer}");
        assert!(answer.contains(why), "{verb} {body}: {answer}");
    }
    assert!(served.wishes.lock().unwrap().is_empty());
    assert!(!held(&served.gate), "an order that is none closes no gate");
}

#[tokio::test]
async fn a_refusal_of_the_engine_has_its_reason() {
    let served = serve(Some(|request| match &request.wish {
        Wish::Scale { .. } => Answer::Refused(Reason::AtMaximum, "3 of 3".to_owned()),
        _ => Answer::Refused(Reason::Unknown, "there is no node `x`".to_owned()),
    }));
    let (status, body) = served
        .order("scale", r#"{"why": "x", "pool": "workers", "size": 9}"#)
        .await;
    let answer: OrderAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, answer.reason.as_deref()),
        (409, Some("at_maximum"))
    );
    assert!(!answer.granted && answer.text == "3 of 3");
    assert_eq!(
        served
            .order("replace", r#"{"why": "x", "node": "x"}"#)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn who_may_only_send_events_may_neither_read_nor_order() {
    let served = serve(Some(granted));
    let agents = Who::new("agents", &[Right::Ingest]);
    for (method, path) in [
        ("GET", "/v1/status"),
        ("GET", "/metrics"),
        ("POST", "/v1/pause"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(r#"{"why": "x"}"#))
            .unwrap();
        let (status, body) = served.ask(agents.clone(), request).await;
        assert_eq!(status, 403, "{path}: {body}");
    }
    assert!(!held(&served.gate));
    let probe = Request::get("/livez").body(Body::empty()).unwrap();
    assert_eq!(
        served.ask(agents, probe).await.0,
        200,
        "a probe takes no right"
    );
}

#[tokio::test]
async fn why_of_what_was_never_there_is_not_found() {
    let served = serve(Some(granted));
    let (status, body) = served.get("/v1/why?node=nobody").await;
    assert_eq!(status, 404);
    assert!(body.contains("there is no node `nobody`"), "{body}");
    for query in ["", "?node=a&pool=b", "?node=a&since=ever"] {
        assert_eq!(
            served.get(&format!("/v1/why{query}")).await.0,
            400,
            "{query}"
        );
    }
}
