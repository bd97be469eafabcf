//! What a post is answered, over a real socket.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::testing::StillClock;
use super::*;
use crate::auth::Who;
use crate::delivery::{Outlet, channel};

fn collector(deliveries: usize) -> (Collector, Outlet) {
    let (inlet, outlet) = channel(deliveries);
    let collector = Collector::new(
        inlet,
        Arc::new(StillClock),
        DecodeOptions::default(),
        DeadLetters::counting(),
    );
    (collector, outlet)
}

async fn send(collector: &Collector, gzip: bool, body: Vec<u8>) -> (u16, serde_json::Value) {
    let mut request = Request::post("/v1/events").header("content-length", body.len());
    if gzip {
        request = request.header("content-encoding", "gzip");
    }
    let mut request = request.body(axum::body::Body::from(body)).unwrap();
    request.extensions_mut().insert(Who::anybody());
    let answer = collector.router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    if status == 503 {
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn nodes(outlet: &Outlet) -> Vec<String> {
    match outlet.try_receive().unwrap().input {
        Input::Batch(batch) => batch.records().map(|r| r.node().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

/// `gzip`'s own output, so that what is read is what others write.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let plain = plain.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&plain).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[tokio::test]
async fn every_form_of_a_post_is_taken() {
    let (collector, outlet) = collector(8);
    let own = |node: &str| format!(r#"{{"node":"{node}","time":1795333374}}"#);
    for (body, expected) in [
        (own("a"), vec!["a"]),
        (format!("[{},{}]", own("a"), own("b")), vec!["a", "b"]),
        (format!("{}\n{}\n", own("a"), own("b")), vec!["a", "b"]),
        ("cpu,host=c usage_idle=1 1795333374".to_owned(), vec!["c"]),
        (
            r#"{"metrics":[{"fields":{"x":1},"name":"m","tags":{"host":"d"},"timestamp":1795333374}]}"#
                .to_owned(),
            vec!["d"],
        ),
    ] {
        for zipped in [false, true] {
            let bytes = body.clone().into_bytes();
            let bytes = if zipped { gzip(&bytes) } else { bytes };
            let (status, answer) = send(&collector, zipped, bytes).await;
            assert_eq!(status, 202, "{body} {answer}");
            assert_eq!(answer["accepted"], expected.len());
            assert_eq!(nodes(&outlet), expected);
        }
    }
}

#[tokio::test]
async fn the_answer_says_what_was_wrong_record_by_record() {
    let (collector, outlet) = collector(8);
    let body = r#"[{"node":"a","time":1,"cpu":82},{"time":1},{"node":"b","time":1}]"#;
    let (status, answer) = send(&collector, false, body.into()).await;
    assert_eq!(
        (status, &answer["accepted"], &answer["complaints"]),
        (202, &2.into(), &2.into())
    );
    assert_eq!(answer["rejected"][0]["index"], 1);
    assert_eq!(answer["rejected"][0]["reason"], "no_node");
    assert_eq!(answer["dropped_values"][0]["index"], 0);
    assert_eq!(answer["dropped_values"][0]["reason"], "out_of_range");
    assert_eq!(nodes(&outlet), ["a", "b"]);
    let (status, answer) = send(&collector, false, "nonsense".into()).await;
    assert_eq!(
        (status, &answer["rejected"][0]["reason"]),
        (400, &"syntax".into())
    );
    assert_eq!(send(&collector, false, vec![]).await.0, 400);
}

#[tokio::test]
async fn a_full_queue_pushes_back_and_keeps_nothing() {
    let (collector, outlet) = collector(1);
    let body = br#"[{"node":"a","time":1},{"node":"b"}]"#.to_vec();
    assert_eq!(send(&collector, false, body.clone()).await.0, 202);
    assert_eq!(send(&collector, false, body.clone()).await.0, 503);
    // What is sent again later is complained about once, then.
    assert_eq!(collector.counts().rejected.load(Ordering::Relaxed), 1);
    assert_eq!(nodes(&outlet), ["a"]);
    assert_eq!(send(&collector, false, body.clone()).await.0, 202);
    drop(outlet);
    assert_eq!(send(&collector, false, body).await.0, 503);
}

#[tokio::test]
async fn bodies_are_bounded_as_sent_and_unpacked() {
    let (collector, _outlet) = collector(1);
    let large = vec![b' '; MAX_BODY + 1];
    assert_eq!(send(&collector, false, large).await.0, 413);
    let bomb = gzip(&vec![b' '; MAX_UNPACKED + 1]);
    assert!(bomb.len() < MAX_BODY / 10);
    assert_eq!(send(&collector, true, bomb).await.0, 413);
    assert_eq!(
        send(&collector, true, b"no gzip at all".to_vec()).await.0,
        400
    );
}

#[tokio::test]
async fn more_posts_than_fit_in_memory_are_pushed_back() {
    let (collector, _outlet) = collector(1);
    let all = collector
        .0
        .posts
        .acquire_many(MAX_POSTS as u32)
        .await
        .unwrap();
    let body = br#"{"node":"a","time":1}"#.to_vec();
    assert_eq!(send(&collector, false, body.clone()).await.0, 503);
    drop(all);
    assert_eq!(send(&collector, false, body).await.0, 202);
}

#[tokio::test]
async fn it_reports_as_long_as_it_runs() {
    let (collector, outlet) = collector(8);
    let report = collector.report();
    assert!(report.flowing && !report.refilled && report.trouble.is_empty());
    let stop = CancellationToken::new();
    stop.cancel();
    collector.keep_reporting(stop).await;
    assert!(matches!(outlet.try_receive().unwrap().input, Input::Source(sent) if sent == report));
}

#[tokio::test]
async fn nobody_posts_past_the_listener() {
    let (collector, outlet) = collector(1);
    for who in [None, Some(Who::new("reader", &[Right::Read]))] {
        let body = axum::body::Body::from(r#"{"node":"a","time":1}"#);
        let mut request = Request::post("/v1/events").body(body).unwrap();
        request
            .extensions_mut()
            .extend(who.map_or_else(Default::default, |who| {
                let mut extensions = axum::http::Extensions::new();
                extensions.insert(who);
                extensions
            }));
        let answer = collector.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    assert!(outlet.try_receive().is_err());
}
