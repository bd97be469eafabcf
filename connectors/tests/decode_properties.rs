//! What holds for every input, tried on made-up ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

#[allow(
    unreachable_pub,
    reason = "public in the fuzz crate, whose file this is"
)]
#[path = "../../fuzz/src/connectors.rs"]
mod targets;

use std::collections::BTreeMap;

use proptest::prelude::*;
use rhizome_connectors::decode::Decoder;
use rhizome_engine::event::Batch;

const TARGETS: [fn(&[u8]); 3] = [targets::decode, targets::line_protocol, targets::alerts];

/// Text made of the pieces that the formats are made of, so that much of it nearly parses.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\n".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        Just("=".to_owned()),
        prop::sample::select(vec![
            "node",
            "time",
            "cpu",
            "memory",
            "metrics",
            "labels",
            "fields",
            "name",
            "tags",
            "timestamp",
            "values",
            "dsnames",
            "plugin",
            "type",
            "host",
            "interval",
            "alerts",
            "startsAt",
            "alertname",
            "firing",
        ])
        .prop_map(|key| format!("\"{key}\":")),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\"[a-z\\\\\u{1b}]{0,4}\"",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_target_fail(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for run in TARGETS {
            run(&data);
        }
    }

    #[test]
    fn nothing_that_nearly_parses_makes_a_target_fail(text in nearly()) {
        for run in TARGETS {
            run(text.as_bytes());
        }
    }

    #[test]
    fn an_own_record_comes_out_as_it_went_in(
        node in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,40}",
        millis in 100_000_000_000_i64..7_000_000_000_000,
        cpu in prop::option::of(0.0..=1.0_f64),
        memory in prop::option::of(0.0..=1.0_f64),
        metrics in prop::collection::btree_map("[a-z.\" äß\\\\]{1,20}", -1e12..1e12_f64, 0..8),
    ) {
        let text = serde_json::json!({
            "metrics": metrics, "memory": memory, "time": millis, "cpu": cpu, "node": node,
        })
        .to_string();
        let mut decoder = Decoder::default();
        let mut batch = Batch::default();
        prop_assert_eq!(decoder.decode(text.as_bytes(), &mut batch), 1);
        prop_assert_eq!(decoder.bad(), &[]);
        let record = batch.records().next().unwrap();
        prop_assert_eq!(record.node(), node);
        prop_assert_eq!(record.time().millis(), millis);
        let samples: BTreeMap<String, f64> =
            record.samples().map(|sample| (sample.metric.to_owned(), sample.value)).collect();
        let mut expected = metrics;
        expected.extend(cpu.map(|cpu| ("cpu".to_owned(), cpu)));
        expected.extend(memory.map(|memory| ("memory".to_owned(), memory)));
        prop_assert_eq!(samples.len(), expected.len());
        for (name, value) in &expected {
            // serde_json's reader is exact to the last but one place.
            prop_assert!((samples[name] - value).abs() <= value.abs() * 1e-15, "{}", name);
        }
    }

    #[test]
    fn line_protocol_comes_out_as_it_went_in(
        host in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,40}",
        field in "[a-z ,=]{1,20}",
        value in -1e12..1e12_f64,
        seconds in 1_000_000_000_i64..7_000_000_000,
    ) {
        let escaped: String = field
            .chars()
            .flat_map(|c| matches!(c, ' ' | ',' | '=').then_some('\\').into_iter().chain([c]))
            .collect();
        let text = format!("my,host={host} {escaped}={value} {seconds}000000000");
        let mut decoder = Decoder::default();
        let mut batch = Batch::default();
        prop_assert_eq!(decoder.decode(text.as_bytes(), &mut batch), 1);
        let record = batch.records().next().unwrap();
        prop_assert_eq!((record.node(), record.time().millis()), (host.as_str(), seconds * 1000));
        let samples: Vec<_> = record.samples().map(|s| (s.metric.to_owned(), s.value)).collect();
        prop_assert_eq!(samples, vec![(format!("my.{field}"), value)]);
    }
}
