//! One reader held against the other: what is read here comes out as `json.rs` reads it.

use proptest::prelude::*;
use rhizome_engine::event::{Batch, SourceName};
use rhizome_engine::time::Timestamp;

use super::super::bad::BadList;
use super::super::{DecodeOptions, json};
use super::*;

/// What came of a text: the batch and the complaints, as text; nothing if it was not read.
fn outcome(
    text: &str,
    read: impl FnOnce(&str, &mut Scratch, &mut Sink<'_>) -> bool,
) -> Option<String> {
    let mut batch = Batch::new(SourceName::Kafka, Timestamp(0));
    let mut bad = BadList::default();
    let mut scratch = Scratch::default();
    let mut sink = Sink::new(&mut batch, &mut bad);
    let read = read(text, &mut scratch, &mut sink);
    let records = sink.records();
    let what = format!("{records} {batch:?} {:?}", bad.kept());
    if !read {
        let untouched = Batch::new(SourceName::Kafka, Timestamp(0));
        assert_eq!(
            what,
            format!("0 {untouched:?} []"),
            "nothing was taken of {text}"
        );
    }
    read.then_some(what)
}

fn here(text: &str) -> Option<String> {
    outcome(text, read)
}

fn there(text: &str) -> Option<String> {
    outcome(text, |text, scratch, sink| {
        json::decode(text, &DecodeOptions::default(), scratch, sink);
        true
    })
}

#[test]
fn an_agents_record_is_read_here() {
    for text in [
        r#"{"node":"w1","time":1795333374192,"cpu":0.4312,"memory":0.5,"metrics":{"load1":1.27,"net.rx":152331},"labels":{"zone":"az-1"}}"#,
        r#"{"node": "w1", "time": 1795333374, "cpu": 1, "memory": 0}"#,
        r#"{"time":"2026-11-22T12:00:00Z","node":"w1"}"#,
        r#"{"time":1795333374.192,"node":"w1","metrics":{},"labels":{}}"#,
        r#"{"node":"w1","time":1795333374192000000,"metrics":{"t":-3.25,"":1,"cpu":7}}"#,
        r#"{"node":"no name","time":1,"cpu":82}"#,
        r#"{"node":"w1","time":-5,"cpu":2.0}"#,
        "{\"node\":\"w1\",\r\n\t\"time\":1795333374}",
        r#"{"node":"größer","time":1795333374,"metrics":{"größe":0.1}}"#,
    ] {
        let what = here(text);
        assert!(what.is_some(), "{text}");
        assert_eq!(what, there(text), "{text}");
    }
}

#[test]
fn what_is_unusual_is_left_alone() {
    for text in [
        r#"{"node":"w1"}"#,
        r#"{"node":"w1","time":1,"time":1}"#,
        r#"{"node":"w1","time":1,"metrics":{},"metrics":{}}"#,
        r#"{"node":"w1","timestamp":1}"#,
        r#"{"node":"w1","time":1,"host":"w1"}"#,
        r#"{"node":"w\u0031","time":1}"#,
        "{\"node\":\"w\n1\",\"time\":1}",
        r#"{"node":"w1","time":1,"cpu":null}"#,
        r#"{"node":"w1","time":1,"cpu":1e-1}"#,
        r#"{"node":"w1","time":1,"cpu":-0}"#,
        r#"{"node":"w1","time":1,"cpu":-0.0}"#,
        r#"{"node":"w1","time":1,"cpu":01}"#,
        r#"{"node":"w1","time":1,"cpu":.5}"#,
        r#"{"node":"w1","time":1,"cpu":1.}"#,
        r#"{"node":"w1","time":1,"cpu":+1}"#,
        r#"{"node":"w1","time":1,"cpu":0.12345678901234567890}"#,
        r#"{"node":"w1","time":1,"cpu":9999999999999999999}"#,
        r#"{"node":"w1","time":1,"labels":{"a":1}}"#,
        r#"{"node":"w1","time":1,}"#,
        r#"{"node":"w1","time":1} x"#,
        r#"{"node":"w1","time":1}{"#,
        r#"{"node":"w1","time":1"#,
        "{}",
        "{",
    ] {
        assert_eq!(here(text), None, "{text}");
    }
}

/// A number in any of the ways to write one.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,20}",
        "-?[0-9]{1,12}\\.[0-9]{1,12}",
        "0\\.[0-9]{1,18}",
        "-?[0-9]\\.[0-9]e-?[0-9]{1,2}",
        Just("null".to_owned()),
    ]
}

fn pair() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["cpu", "memory", "time", "name", "interval"]);
    let map = prop::collection::vec(("[a-z.]{0,6}", number()), 0..4).prop_map(|fields| {
        let fields = fields
            .iter()
            .map(|(name, value)| format!("\"{name}\" :{value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    });
    prop_oneof![
        (key, number()).prop_map(|(key, value)| format!("\"{key}\":{value}")),
        "[a-z0-9-]{0,9}".prop_map(|node| format!("\"node\": \"{node}\"")),
        map.prop_map(|map| format!("\"metrics\":{map}")),
        "[ -~]{0,9}".prop_map(|value| format!("\"labels\":{{\"a\":\"{value}\"}}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_read_here_is_what_is_read_there(
        pairs in prop::collection::vec(pair(), 0..6),
        time in number(),
    ) {
        let text = format!("{{\"node\":\"w1\",\"time\":{time},{}}}", pairs.join(","));
        if let Some(what) = here(&text) {
            prop_assert_eq!(Some(what), there(&text), "{}", text);
        }
    }

    #[test]
    fn every_number_comes_out_the_same(value in number()) {
        let text = format!("{{\"node\":\"w1\",\"time\":1,\"metrics\":{{\"m\":{value}}}}}");
        if let Some(what) = here(&text) {
            prop_assert_eq!(Some(what), there(&text), "{}", text);
        }
    }
}
