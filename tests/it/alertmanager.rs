//! A real Alertmanager: it takes alerts by its API, groups, repeats and resolves them, and
//! posts them to `/v1/alerts` of the running program with a bearer token. A node is replaced
//! when a second witness agrees while its alert fires.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use rhizome::clock::RealClock;
use rhizome_engine::decision::{Reason, Witness};
use rhizome_engine::journal::Record;
use rhizome_engine::time::Clock;
use rhizome_standin::{Cure, Illness};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Setup, Site};
use crate::scripts;

const POLICY: &str = "on_alert(\"NodeDiskFailing\")\n    .cooldown(\"30m\")\n    .then(|alert| node(alert.label(\"node\")).replace(alert.summary));\n";

/// An alert that is not ended by whoever sent it ends then: long after this test.
const LASTS: Duration = Duration::from_secs(3_600);

/// Between Alertmanager and the program: hands each post on, and keeps what was answered.
#[derive(Clone)]
struct Tap {
    to: String,
    http: reqwest::Client,
    /// What was posted, the status of the answer, and the answer.
    seen: Arc<Mutex<Vec<(Value, u16, Value)>>>,
}

async fn hand_on(State(tap): State<Tap>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let mut request = tap.http.post(&tap.to).body(body.clone());
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request = request.header(header::AUTHORIZATION, token);
    }
    let Ok(answer) = request.send().await else {
        return (StatusCode::BAD_GATEWAY, String::new());
    };
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let post = serde_json::from_slice(&body).unwrap_or_default();
    let said = serde_json::from_str(&text).unwrap_or_default();
    tap.seen.lock().unwrap().push((post, status.as_u16(), said));
    (status, text)
}

impl Tap {
    /// Listens; gives where.
    fn open(runtime: &Runtime, site: &Site) -> (Self, String) {
        let tap = Self {
            to: format!("{}/v1/alerts", site.server()),
            http: reqwest::Client::new(),
            seen: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/alerts", post(hand_on))
            .with_state(tap.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let url = format!("http://{}/v1/alerts", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        (tap, url)
    }

    /// How many alerts were answered for in all, by the name in the answer.
    fn answered(&self, name: &str) -> u64 {
        let seen = self.seen.lock().unwrap();
        let counts = seen.iter().map(|(_, _, said)| said[name].as_u64());
        counts.map(Option::unwrap_or_default).sum()
    }
}

/// The Alertmanager, by its API v2.
struct Alertmanager<'a> {
    runtime: &'a Runtime,
    http: reqwest::Client,
    url: String,
}

impl Alertmanager<'_> {
    fn tell(&self, node: &str, lasts: Duration) {
        let now = RealClock::new().now().wall;
        let alert = json!({
            "labels": {"alertname": "NodeDiskFailing", "node": node, "severity": "critical"},
            "annotations": {"summary": format!("the disk of {node} fails")},
            "endsAt": now.plus(lasts).to_string(),
        });
        let request = self.http.post(format!("{}/api/v2/alerts", self.url));
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(json!([alert]).to_string());
        let answer = self.runtime.block_on(request.send()).unwrap();
        assert_eq!(answer.status(), 200, "Alertmanager takes the alert");
    }

    fn fires(&self, node: &str) {
        self.tell(node, LASTS);
    }

    fn ends(&self, node: &str) {
        self.tell(node, Duration::ZERO);
    }
}

fn wait_refused(site: &Site, node: &str) {
    site.wait(&format!("one witness to be too few for {node}"), |site| {
        let refused = site.records().into_iter().any(|record| {
            matches!(record, Record::Refusal { refusal }
                if refusal.reason == Reason::OneWitness
                    && refusal.node.as_ref().is_some_and(|one| one.as_str() == node)
                    && refusal.evidence.witnesses == [Witness::Alert])
        });
        refused.then_some(())
    });
}

/// Who agreed on each node that is healed.
fn decided(site: &Site) -> Vec<(String, BTreeSet<Witness>)> {
    let records = site.records().into_iter();
    let heals = records.filter_map(|record| match record {
        Record::Decision { decision } if !decision.evidence.witnesses.is_empty() => Some((
            decision.node.map(|node| node.to_string())?,
            decision.evidence.witnesses.into_iter().collect(),
        )),
        _ => None,
    });
    heals.collect()
}

fn wait_ready(site: &Site, count: u32) {
    site.wait(&format!("{count} nodes to be ready"), |site| {
        let pool = site.try_status()?.engine.pools.into_iter().next()?;
        (pool.ready == count).then_some(())
    });
}

#[test]
fn a_real_alertmanager_fires_repeats_and_resolves_and_a_second_witness_decides() {
    let site = Site::settled(Setup {
        min: 3,
        max: 4,
        tokens: true,
        policies: vec![("disks.rhai", POLICY.to_owned())],
        ..Setup::default()
    });
    let runtime = Runtime::new().unwrap();
    let (tap, url) = Tap::open(&runtime, &site);
    let token = site.path("alerts.token");
    let settings = [
        ("ALERTS_URL", url.as_str()),
        ("ALERTS_TOKEN_FILE", token.to_str().unwrap()),
    ];
    if !scripts::run("alertmanager", "up", &[], &settings) {
        return;
    }
    let alertmanager = Alertmanager {
        runtime: &runtime,
        http: reqwest::Client::new(),
        url: scripts::env("alertmanager")["url"].clone(),
    };
    let nodes = site.nodes();
    let (failing, passing) = (nodes[0].name.as_str(), nodes[1].name.as_str());

    // Fired, and told again for as long as it fires: the engine hears of it once.
    alertmanager.fires(failing);
    wait_refused(&site, failing);
    site.wait("the alert to be told again", |_| {
        (tap.answered("duplicates") >= 2).then_some(())
    });
    assert_eq!(tap.answered("accepted"), 1);

    // Another of the same name comes in one group with it, and is the new one of the two.
    alertmanager.fires(passing);
    wait_refused(&site, passing);
    assert_eq!(tap.answered("accepted"), 2);
    let grouped = tap.seen.lock().unwrap().iter().any(|(post, ..)| {
        post["alerts"].as_array().is_some_and(|all| all.len() == 2)
            && post["groupLabels"] == json!({"alertname": "NodeDiskFailing"})
    });
    assert!(grouped, "{:?}", tap.seen.lock().unwrap());

    // Resolved: it is no witness any more, whatever else is said of its node.
    alertmanager.ends(passing);
    site.wait("the end of the alert to be told", |_| {
        (tap.answered("accepted") >= 3).then_some(())
    });
    let fall_ill = |node: &str| {
        let ill = |world: &mut rhizome_standin::World| {
            world.fall_ill(node, Illness::NotReady, Cure::Nothing)
        };
        assert!(site.standin.world(ill));
    };
    fall_ill(passing);
    wait_ready(&site, 2);
    site.standin.world(|world| world.recover(passing));
    wait_ready(&site, 3);
    assert_eq!(decided(&site), [], "nobody was healed on that");

    // The alert that still fires is joined by a second witness.
    fall_ill(failing);
    let healed = site.wait("two witnesses to decide", |site| decided(site).pop());
    let both = BTreeSet::from([Witness::Kubernetes, Witness::Alert]);
    assert_eq!(healed, (failing.to_owned(), both));
    site.wait_settled(3);
    assert_eq!(decided(&site), [healed], "and nothing else was healed");
    let refused = tap
        .seen
        .lock()
        .unwrap()
        .iter()
        .any(|(_, code, _)| *code != 200);
    assert!(!refused, "the bearer token opens the webhook");
    assert!(scripts::run("alertmanager", "down", &[], &[]));
}
