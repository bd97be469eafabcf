//! Captured bodies, what is new in them, and what the sender is told.

use axum::body::Body as HttpBody;
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;
use crate::auth::Who;
use crate::delivery::{Outlet, channel};
use crate::http::testing::StillClock;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(
            "../../tests/samples/alertmanager-webhook-v4-",
            $name,
            ".json"
        ))
    };
}

fn webhook(deliveries: usize) -> (Alerts, Outlet) {
    let (inlet, outlet) = channel(deliveries);
    (Alerts::new(inlet, Arc::new(StillClock)), outlet)
}

async fn send(alerts: &Alerts, path: &str, body: &str) -> (u16, String) {
    let mut request = Request::post(path)
        .body(HttpBody::from(body.to_owned()))
        .unwrap();
    request.extensions_mut().insert(Who::anybody());
    let answer = alerts.router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn received(outlet: &Outlet) -> Vec<(String, bool, String)> {
    std::iter::from_fn(|| outlet.try_receive().ok())
        .map(|delivery| match delivery.input {
            Input::Alert(alert) => (alert.name, alert.firing, alert.labels["node"].clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_captured_alert_is_read_whole() {
    let body = read_webhook(sample!("firing").as_bytes()).unwrap();
    let [alert] = &body.alerts[..] else {
        panic!("{body:?}")
    };
    assert_eq!(alert.name, "NodeMemoryLow");
    assert!(alert.firing);
    assert_eq!(alert.labels["node"], "k8s-node-1");
    assert_eq!(alert.summary, "memory 94.51% available on k8s-node-1");
    assert_eq!(alert.fingerprint, "3bf30131a0595208");
    assert_eq!(alert.starts_at.to_string(), "2026-11-22T07:45:09.439Z");
    assert_eq!((body.rejected, body.truncated), (vec![], 0));
}

#[test]
fn a_resolved_alert_is_kept_as_one_that_fires_no_more() {
    for text in [
        sample!("resolved"),
        sample!("resolved-because-target-vanished"),
    ] {
        let body = read_webhook(text.as_bytes()).unwrap();
        assert_eq!(
            body.alerts
                .iter()
                .map(|alert| alert.firing)
                .collect::<Vec<_>>(),
            [false]
        );
    }
}

#[test]
fn grafanas_webhook_is_read_too() {
    let body = read_webhook(
        br#"{"receiver":"r","status":"firing","state":"alerting","orgId":1,"title":"t","message":"m",
        "version":"1","groupKey":"{}","truncatedAlerts":2,"alerts":[{"status":"firing",
        "labels":{"alertname":"High","node":"a"},"annotations":{"description":"it\u001b[2J is"},
        "startsAt":"2026-11-22T09:45:09.439+02:00","endsAt":"0001-01-01T00:00:00Z",
        "values":{"A":1.5},"silenceURL":"x","imageURL":"","fingerprint":"57c6d9296de2ad39"}]}"#,
    )
    .unwrap();
    assert_eq!(body.truncated, 2);
    assert_eq!(
        body.alerts[0].starts_at.to_string(),
        "2026-11-22T07:45:09.439Z"
    );
    assert_eq!(body.alerts[0].summary, "it [2J is");
}

#[test]
fn a_bad_alert_costs_itself_and_says_why() {
    let good =
        r#"{"status":"firing","labels":{"alertname":"A"},"startsAt":"2026-11-22T07:45:09Z"}"#;
    let bad = [
        r#"{"status":"firing","labels":{},"startsAt":"2026-11-22T07:45:09Z"}"#,
        r#"{"status":"firing","labels":{"alertname":"A"}}"#,
        r#"{"status":"broken","labels":{"alertname":"A"},"startsAt":"2026-11-22T07:45:09Z"}"#,
        r#"{"status":"firing","labels":{"alertname":"A\u001b"},"startsAt":"2026-11-22T07:45:09Z"}"#,
        r#"{"status":"firing","labels":{"alertname":"A"},"startsAt":"soon"}"#,
        "7",
    ];
    let text = format!(r#"{{"alerts":[{},{good}]}}"#, bad.join(","));
    let body = read_webhook(text.as_bytes()).unwrap();
    assert_eq!(body.alerts.len(), 1);
    let places: Vec<usize> = body.rejected.iter().map(|bad| bad.index).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 5], "{:?}", body.rejected);
    for text in ["", "[]", "{}", r#"{"alerts":7}"#] {
        assert!(read_webhook(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_body_of_too_many_alerts_is_cut_and_says_so() {
    let one = r#"{"status":"firing","labels":{"alertname":"A"},"startsAt":"2026-11-22T07:45:09Z"}"#;
    let text = format!(
        r#"{{"alerts":[{}]}}"#,
        vec![one; body::MAX_ALERTS + 3].join(",")
    );
    let body = read_webhook(text.as_bytes()).unwrap();
    assert_eq!((body.alerts.len(), body.truncated), (body::MAX_ALERTS, 3));
}

#[tokio::test]
async fn a_group_sent_again_brings_only_what_is_new() {
    let (alerts, outlet) = webhook(8);
    let firing = sample!("firing-two-alerts");
    assert_eq!(send(&alerts, "/v1/alerts", firing).await.0, 200);
    assert_eq!(
        received(&outlet),
        [
            ("NodeDown".into(), true, "k8s-node-2".into()),
            ("NodeDown".into(), true, "k8s-node-1".into())
        ]
    );
    let (status, answer) = send(&alerts, "/v1/alerts", firing).await;
    assert_eq!((status, received(&outlet)), (200, vec![]));
    assert!(answer.contains(r#""duplicates":2"#), "{answer}");
    // The same fingerprint with another start is another alert, and resolved another status.
    send(&alerts, "/v1/alerts", sample!("resolved")).await;
    assert_eq!(
        received(&outlet),
        [("NodeDown".into(), false, "k8s-node-2".into())]
    );
}

#[tokio::test]
async fn what_is_pushed_back_is_taken_when_it_comes_again() {
    let (alerts, outlet) = webhook(1);
    let firing = sample!("firing-two-alerts");
    // Never 429: Alertmanager drops on any 4xx.
    assert_eq!(send(&alerts, "/v1/alerts", firing).await.0, 503);
    assert_eq!(received(&outlet).len(), 1);
    assert_eq!(send(&alerts, "/v1/alerts", firing).await.0, 200);
    assert_eq!(
        received(&outlet),
        [("NodeDown".into(), true, "k8s-node-1".into())]
    );
    assert_eq!(alerts.counts().accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_no_later_try_can_mend_is_answered_with_400() {
    let (alerts, _outlet) = webhook(1);
    for body in ["nonsense", r#"{"alerts":[{"status":"firing"}]}"#] {
        assert_eq!(send(&alerts, "/v1/alerts", body).await.0, 400, "{body}");
    }
    assert_eq!(send(&alerts, "/v1/alerts", r#"{"alerts":[]}"#).await.0, 200);
    assert_eq!(alerts.counts().rejected.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn prometheus_may_send_straight_to_us() {
    let (alerts, outlet) = webhook(8);
    let labels = r#""labels":{"alertname":"Down","node":"a"},"startsAt":"2026-11-22T07:45:09Z""#;
    let later = format!(r#"[{{{labels},"endsAt":"2999-01-01T00:00:00Z","generatorURL":"x"}}]"#);
    let moved = format!(r#"[{{{labels},"endsAt":"2999-01-01T00:01:00Z"}}]"#);
    let ended = format!(r#"[{{{labels},"endsAt":"2026-11-22T07:46:09Z"}}]"#);
    for body in [&later, &moved, &ended] {
        assert_eq!(send(&alerts, "/api/v2/alerts", body).await.0, 200);
    }
    assert_eq!(
        received(&outlet),
        [
            ("Down".into(), true, "a".into()),
            ("Down".into(), false, "a".into())
        ]
    );
}
