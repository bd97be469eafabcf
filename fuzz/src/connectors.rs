//! Targets of the room `connectors`: what agents and alerting send.

use rhizome_connectors::alerts::{read_api_v2, read_webhook};
use rhizome_connectors::decode::{
    BadRecord, DecodeOptions, Decoder, MAX_METRIC_NAME, MAX_NODE_NAME, MAX_SAMPLES,
};
use rhizome_engine::event::{Batch, Form};
use rhizome_engine::time::Timestamp;

/// Whatever comes in, what goes on to the engine keeps its promises.
pub fn decode(data: &[u8]) {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let first = decoded(&mut decoder, data);
    // Nothing is left over from one input to the next.
    let again = decoded(&mut decoder, data);
    assert_eq!(first, again, "the same bytes gave other records");
}

fn decoded(decoder: &mut Decoder, data: &[u8]) -> Vec<String> {
    let mut batch = Batch::default();
    let records = decoder.decode(data, &mut batch);
    assert_eq!(records, batch.len());
    assert!(decoder.bad().len() <= BadRecord::MAX_KEPT.min(decoder.bad_total()));
    if records == 0 {
        assert!(
            !decoder.bad().is_empty() || is_quiet(data),
            "nothing read and nothing said"
        );
    }
    for bad in decoder.bad() {
        assert!(
            !bad.detail.chars().any(char::is_control),
            "{:?}",
            bad.detail
        );
    }
    let mut seen = Vec::new();
    for record in batch.records() {
        assert!(!record.node().is_empty() && record.node().len() <= MAX_NODE_NAME);
        assert!(record.node().is_ascii() && !record.node().contains(char::is_control));
        assert!(record.samples().count() <= MAX_SAMPLES);
        for sample in record.samples() {
            assert!(sample.value.is_finite());
            assert!(!sample.metric.is_empty() && sample.metric.len() <= MAX_METRIC_NAME);
            assert!(!sample.metric.contains(char::is_control));
            let ratio = matches!(sample.metric, "cpu" | "memory") && sample.form == Form::Value;
            assert!(!ratio || (0.0..=1.0).contains(&sample.value), "{sample:?}");
            assert_eq!(sample.form == Form::Value, sample.part.is_empty());
        }
        let samples: Vec<_> = record.samples().collect();
        seen.push(format!("{} {} {samples:?}", record.node(), record.time()));
    }
    seen
}

/// Input that says nothing: an empty array or batch, lines that are comments.
fn is_quiet(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let text = text.trim_start_matches('\u{feff}').trim();
    text.starts_with(['[', '{', '#'])
}

/// The same by way of line protocol only: what would be JSON is made a line of.
pub fn line_protocol(data: &[u8]) {
    let mut line = b"m".to_vec();
    line.extend_from_slice(data);
    decode(&line);
}

/// Bodies of webhooks are read or refused, and what is read is bounded.
pub fn alerts(data: &[u8]) {
    let bodies = [read_webhook(data), read_api_v2(data, Timestamp(0))];
    for body in bodies.into_iter().flatten() {
        assert!(body.alerts.len() + body.rejected.len() <= 1_000);
        for alert in body.alerts {
            assert!(!alert.name.is_empty());
            assert_eq!(alert.labels.get("alertname"), Some(&alert.name));
            assert!(!alert.summary.contains(char::is_control));
            assert!(
                !alert
                    .labels
                    .values()
                    .any(|value| value.contains(char::is_control))
            );
        }
    }
}
