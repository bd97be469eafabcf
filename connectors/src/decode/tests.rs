//! What each sender writes and what becomes of it; the traps by name; and hostile input.

use std::collections::BTreeMap;
use std::time::Duration;

use rhizome_engine::event::{Form, SourceName};
use rhizome_engine::time::Timestamp;

use super::*;

/// `(node, time in ms, samples as "metric[part] form = value")`.
type Seen = (String, i64, Vec<String>);

fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Seen> {
    let mut batch = Batch::new(SourceName::Kafka, Timestamp(1));
    let records = decoder.decode(bytes, &mut batch);
    assert_eq!(records, batch.len());
    batch
        .records()
        .map(|record| {
            let samples = record.samples().map(|sample| {
                let part = match sample.part {
                    "" => String::new(),
                    part => format!("[{part}]"),
                };
                let form = match sample.form {
                    Form::Value => String::new(),
                    form => format!(" {form:?}"),
                };
                format!("{}{part}{form} = {}", sample.metric, sample.value)
            });
            let samples = samples.collect();
            (record.node().to_owned(), record.time().millis(), samples)
        })
        .collect()
}

fn seen(text: &str) -> Vec<Seen> {
    decode_all(&mut Decoder::default(), text.as_bytes())
}

/// The reasons of the complaints about `text`, and how many records were read all the same.
fn complaints(text: &str) -> (usize, Vec<(usize, BadReason, Scope)>) {
    let mut decoder = Decoder::default();
    let records = decode_all(&mut decoder, text.as_bytes()).len();
    let bad = decoder.bad().iter();
    (
        records,
        bad.map(|bad| (bad.index, bad.reason, bad.scope)).collect(),
    )
}

fn record(node: &str, time: i64, samples: &[&str]) -> Seen {
    let samples = samples.iter().map(|text| (*text).to_owned()).collect();
    (node.to_owned(), time, samples)
}

/// The payloads of a capture in kcat's envelope.
fn payloads(capture: &str) -> Vec<String> {
    let lines = capture.lines().map(|line| {
        let envelope: serde_json::Value = serde_json::from_str(line).unwrap();
        envelope["payload"].as_str().unwrap().to_owned()
    });
    lines.collect()
}

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../tests/samples/", $name))
    };
}

#[test]
fn own_record_is_a_heartbeat_with_what_it_brings() {
    let text = r#"{"node":"worker-1","time":1795333374.192,"cpu":0.82,"memory":0.4,
        "metrics":{"queue":17,"disk.used":1.5e9},"labels":{"pool":"workers"},"newer":[{}]}"#;
    assert_eq!(
        seen(text),
        [record(
            "worker-1",
            1_795_333_374_192,
            &[
                "cpu = 0.82",
                "memory = 0.4",
                "queue = 17",
                "disk.used = 1500000000"
            ],
        )]
    );
    assert_eq!(complaints(text), (1, vec![]));
    assert_eq!(
        seen(r#"{"time":1795333374,"node":"worker-1"}"#),
        [record("worker-1", 1_795_333_374_000, &[])]
    );
}

#[test]
fn the_unit_of_a_time_follows_from_its_size() {
    for time in [
        "1795333374.192",
        "1795333374192",
        "1795333374192.4",
        "1795333374192000",
        "1795333374192000000",
        "1795333374191999999.0",
        "\"2026-11-22T07:42:54.192Z\"",
        "\"2026-11-22T09:42:54.192+02:00\"",
    ] {
        let text = format!(r#"{{"node":"a","time":{time}}}"#);
        assert_eq!(seen(&text), [record("a", 1_795_333_374_192, &[])], "{time}");
    }
    for time in [
        "-1",
        "\"soon\"",
        "true",
        "[1]",
        "{}",
        "1e40",
        "99999999999999999999",
    ] {
        let text = format!(r#"{{"node":"a","time":{time}}}"#);
        assert_eq!(
            complaints(&text),
            (0, vec![(0, BadReason::BadTime, Scope::Record)]),
            "{time}"
        );
    }
}

#[test]
fn what_cannot_be_is_put_aside_and_never_zero() {
    use BadReason::{BadMetric, OutOfRange, WrongType};
    for (values, reason) in [
        (r#""cpu":82"#, OutOfRange),
        (r#""cpu":-0.1"#, OutOfRange),
        (r#""memory":1.01"#, OutOfRange),
        (r#""cpu":"NaN""#, WrongType),
        (r#""cpu":{"a":[1]}"#, WrongType),
        (r#""metrics":{"cpu":82}"#, OutOfRange),
        (r#""metrics":{"x":"1"}"#, WrongType),
        (r#""metrics":{"":1}"#, BadMetric),
        (r#""metrics":{"a\u001b[2J":1}"#, BadMetric),
    ] {
        let text = format!(r#"{{"node":"a","time":1,{values}}}"#);
        assert_eq!(seen(&text), [record("a", 1000, &[])], "{values}");
        assert_eq!(
            complaints(&text),
            (1, vec![(0, reason, Scope::Value)]),
            "{values}"
        );
    }
    let nothing = r#"{"node":"a","time":1,"cpu":null,"memory":null,"metrics":{"x":null}}"#;
    assert_eq!(seen(nothing), [record("a", 1000, &[])]);
    assert_eq!(complaints(nothing), (1, vec![]));
}

#[test]
fn a_bad_record_has_its_reason() {
    use BadReason::*;
    let long = format!(r#"{{"node":"{}","time":1}}"#, "a".repeat(MAX_NODE_NAME + 1));
    for (text, reason) in [
        (" \n ", Empty),
        (r#"{"time":1}"#, NoNode),
        (r#"{"node":null,"time":1}"#, NoNode),
        (r#"{"node":"","time":1}"#, BadNode),
        (r#"{"node":"a\nb","time":1}"#, BadNode),
        ("{\"node\":\"\\u001b[31mred\",\"time\":1}", BadNode),
        (&long, BadNode),
        (r#"{"node":7,"time":1}"#, WrongType),
        (r#"{"node":"a"}"#, NoTime),
        (r#"{"node":"a","node":"b","time":1}"#, Syntax),
        (r#"{"node":"a","time":1,"cpu":1e999}"#, Syntax),
        (r#"{"node":"a","time":1"#, Syntax),
        (r#"{}"#, UnknownFormat),
        (r#"[1]"#, WrongType),
        (r#"[[[[{"node":"a","time":1}]]]]"#, TooDeep),
        (r#"{"resourceMetrics":[{"resource":{}}]}"#, UnknownFormat),
        (r#"{"specversion":"1.0","id":"1"}"#, UnknownFormat),
        (
            "PUTVAL a/load/load interval=2.000 1795333429.466:7.70",
            UnknownFormat,
        ),
        ("a.load.load 7.6 1795333423", UnknownFormat),
        ("hello", Syntax),
        ("cpu,host=a usage_idle=1", NoTime),
        ("cpu,host=a usage_idle 1", Syntax),
        ("cpu,host usage_idle=1 1", Syntax),
        ("cpu,host=a usage_idle=nan 1", Syntax),
        ("cpu,host=a x=\"open 1", Syntax),
        ("cpu x=1 1", NoNode),
    ] {
        let (records, bad) = complaints(text);
        assert_eq!(records, 0, "{text}");
        assert_eq!(bad, [(0, reason, Scope::Record)], "{text}");
    }
    let mut decoder = Decoder::default();
    assert!(decode_all(&mut decoder, &[b'{'; MAX_BYTES + 1]).is_empty());
    assert_eq!(decoder.bad()[0].reason, TooLarge);
    assert!(decode_all(&mut decoder, b"\x0a\xff\xfe").is_empty());
    assert_eq!(decoder.bad()[0].reason, NotUtf8);
}

#[test]
fn one_bad_value_list_spoils_only_itself() {
    let good = r#"{"values":[1.5],"dstypes":["gauge"],"dsnames":["value"],"time":1,"interval":10.000,"host":"a","plugin":"x","plugin_instance":"","type":"y","type_instance":""}"#;
    let text = format!(r#"[{good},{{"values":[1],"plugin":"x","type":"y","host":"b"}},5,{good}]"#);
    assert_eq!(
        seen(&text),
        [
            record("a", 1000, &["x.y = 1.5"]),
            record("a", 1000, &["x.y = 1.5"])
        ]
    );
    assert_eq!(
        complaints(&text).1,
        [
            (1, BadReason::NoTime, Scope::Record),
            (2, BadReason::WrongType, Scope::Record)
        ]
    );
    // What was whole before the array was cut off stays.
    let cut = format!(r#"[{good},{{"values":[1"#);
    assert_eq!(
        complaints(&cut),
        (1, vec![(1, BadReason::Syntax, Scope::Record)])
    );
}

#[test]
fn ndjson_is_one_record_a_line_and_a_bad_line_costs_itself() {
    let text = "{\"node\":\"a\",\"time\":1}\nnonsense\n\n{\"node\":\"b\",\"time\":2}\r\n";
    assert_eq!(seen(text), [record("a", 1000, &[]), record("b", 2000, &[])]);
    assert_eq!(complaints(text).1, [(1, BadReason::Syntax, Scope::Record)]);
    let pretty = "{\n  \"node\": \"a\",\n  \"metrics\": {\n},\n  \"time\": 1\n}\n";
    assert_eq!(seen(pretty), [record("a", 1000, &[])]);
}

#[test]
fn collectd_defaults_are_rates_per_core_and_the_first_is_no_value() {
    let mut decoder = Decoder::default();
    let mut forms: BTreeMap<String, usize> = BTreeMap::new();
    let (mut records, mut empty) = (0, 0);
    for payload in payloads(sample!("collectd-write-kafka-defaults.kcat.jsonl")) {
        for (node, _, samples) in decode_all(&mut decoder, payload.as_bytes()) {
            assert_eq!(node, "k8s-node-2");
            records += 1;
            empty += usize::from(samples.is_empty());
            for sample in samples {
                let form = sample.split(" = ").next().unwrap().to_owned();
                *forms.entry(form).or_default() += 1;
            }
        }
        assert_eq!(decoder.bad(), []);
    }
    assert_eq!(records, 48);
    assert!(empty > 0, "the first values are null: heartbeats only");
    assert!(forms.contains_key("cpu[0/idle] CpuRate"), "{forms:?}");
    assert!(forms.contains_key("memory[used] MemoryBytes"), "{forms:?}");
    assert!(
        forms.contains_key("load.midterm") && forms.contains_key("uptime"),
        "{forms:?}"
    );
    assert!(
        !forms.keys().any(|form| form.contains("CpuCounter")),
        "{forms:?}"
    );
}

#[test]
fn collectd_percent_is_told_from_bytes() {
    let text = payloads(sample!("collectd-write-kafka-percent.kcat.jsonl")).join("\n");
    let all: Vec<String> = seen(&text).into_iter().flat_map(|(_, _, s)| s).collect();
    assert!(
        all.contains(&"cpu[/idle] CpuPercent = 0".to_owned()),
        "{all:?}"
    );
    assert!(all.contains(&"cpu[/system] CpuPercent = 14.0350877192982".to_owned()));
    assert!(all.contains(&"memory[used] MemoryBytes = 970420224".to_owned()));
    assert!(
        all.contains(&"memory = 0.038392175819147".to_owned()),
        "{all:?}"
    );
    assert!(
        all.contains(&"memory.percent.free = 76.3049983770924".to_owned()),
        "{all:?}"
    );
    assert_eq!(complaints(&text).1, []);
}

#[test]
fn collectd_counters_are_told_by_size_and_for_sure_by_the_option() {
    let text = payloads(sample!(
        "collectd-write-kafka-storerates-false-key-host.kcat.jsonl"
    ))
    .join("\n");
    let of = |decoder: &mut Decoder| -> Vec<String> {
        let all = decode_all(decoder, text.as_bytes()).into_iter();
        all.flat_map(|(_, _, samples)| samples).collect()
    };
    let by_size = of(&mut Decoder::default());
    assert!(
        by_size.contains(&"cpu[0/user] CpuCounter = 7128".to_owned()),
        "{by_size:?}"
    );
    assert!(
        by_size.contains(&"cpu[0/wait] CpuRate = 87".to_owned()),
        "{by_size:?}"
    );
    let by_option = of(&mut Decoder::new(DecodeOptions {
        collectd_counters: true,
        ..DecodeOptions::default()
    }));
    assert!(
        by_option.contains(&"cpu[0/wait] CpuCounter = 87".to_owned()),
        "{by_option:?}"
    );
    assert!(!by_option.iter().any(|sample| sample.contains("CpuRate")));
}

#[test]
fn collectd_says_how_often_it_reports() {
    let text = payloads(sample!("collectd-write-kafka-percent.kcat.jsonl")).remove(0);
    let mut batch = Batch::default();
    decode(text.as_bytes(), &DecodeOptions::default(), &mut batch).unwrap();
    let interval = batch.records().next().unwrap().interval();
    assert_eq!(interval, Some(Duration::from_secs(2)));
}

#[test]
fn collectds_other_formats_name_the_setting_to_change() {
    for capture in [
        sample!("collectd-write-kafka-graphite.kcat.jsonl"),
        sample!("collectd-write-kafka-command.kcat.jsonl"),
    ] {
        for payload in payloads(capture) {
            let error = decode(
                payload.as_bytes(),
                &DecodeOptions::default(),
                &mut Batch::default(),
            )
            .unwrap_err();
            assert_eq!(error.reason, BadReason::UnknownFormat, "{payload}");
            assert!(error.detail.contains("Format \"JSON\""), "{error}");
        }
    }
}

#[test]
fn telegraf_json_and_line_protocol_say_the_same() {
    let json = seen(sample!("telegraf.jsonl"));
    let line = seen(sample!("telegraf.influx"));
    for all in [&json, &line] {
        assert_eq!(
            (all[0].0.as_str(), all[0].1),
            ("k8s-node-1", 1_568_760_922_000)
        );
        assert_eq!(all[0].2[0], "cpu = 0.17620000000000005");
        assert!(
            all[0].2.contains(&"cpu.usage_user = 11.4".to_owned()),
            "{all:?}"
        );
        assert!(all[1].2[0].starts_with("memory = 0.1595"), "{all:?}");
        assert!(
            all[1].2.contains(&"mem.used = 3335778304".to_owned()),
            "{all:?}"
        );
    }
    assert!(json[2].2.contains(&"system.uptime = 1249632".to_owned()));
    let batch = format!(
        r#"{{"metrics":[{}]}}"#,
        sample!("telegraf.jsonl").trim().replace('\n', ",")
    );
    assert_eq!(seen(&batch), json);
    assert_eq!(complaints(&batch), (3, vec![]));
}

#[test]
fn telegraf_cores_are_kept_apart_from_the_total() {
    let text = "cpu,cpu=cpu0,host=a usage_idle=1 1000000000\ncpu,host=a usage_idle=1 1000000000";
    let all = seen(text);
    assert_eq!(all[0].2, ["cpu.cpu0.usage_idle = 1"]);
    assert_eq!(all[1].2, ["cpu.usage_idle = 1"]);
    // The first gather has no usage at all.
    assert_eq!(
        seen("cpu,cpu=cpu-total,host=a time_idle=1 1000000000")[0].2,
        ["cpu.time_idle = 1"]
    );
    // A busy machine's rounding is no fault.
    let busy = seen("cpu,cpu=cpu-total,host=a usage_idle=100.00000000000003 1000000000");
    assert_eq!(busy[0].2[0], "cpu = 0");
    let rows = seen("net,host=a,interface=eth0 bytes_recv=5i 1000000000");
    assert_eq!(rows[0].2, ["net.eth0.bytes_recv = 5"]);
}

#[test]
fn the_tag_that_names_the_node_can_be_chosen() {
    let mut decoder = Decoder::new(DecodeOptions {
        node_tag: "node".to_owned(),
        ..DecodeOptions::default()
    });
    let line = b"system,host=ip-10-0-0-1,node=worker-1 uptime=5i 1000000000";
    assert_eq!(decode_all(&mut decoder, line)[0].0, "worker-1");
    assert!(decode_all(&mut decoder, b"system,host=a uptime=5i 1000000000").is_empty());
    assert_eq!(decoder.bad()[0].reason, BadReason::NoNode);
}

#[test]
fn line_protocol_escapes_texts_and_flags() {
    let line = r#"my\ disk,host=a,path=/a\,b\=c used\ now=1.5,name="a \"quoted\", b",ok=t,n=-3i 1000000000"#;
    assert_eq!(
        seen(line),
        [record(
            "a",
            1_000_000_000_000,
            &["my disk.used now = 1.5", "my disk.n = -3"]
        )]
    );
    assert_eq!(complaints(line), (1, vec![]));
    assert_eq!(
        seen("# a comment\n\nm,host=a x=1e3,y=2u 1\n")[0].2,
        ["m.x = 1000", "m.y = 2"]
    );
    assert_eq!(
        complaints("m,host=a x=1e999 1"),
        (1, vec![(0, BadReason::OutOfRange, Scope::Value)])
    );
}

#[test]
fn samples_and_complaints_are_bounded() {
    let metrics: Vec<String> = (0..MAX_SAMPLES + 5)
        .map(|n| format!(r#""m{n}":1"#))
        .collect();
    let text = format!(
        r#"{{"node":"a","time":1,"metrics":{{{}}}}}"#,
        metrics.join(",")
    );
    assert_eq!(seen(&text)[0].2.len(), MAX_SAMPLES);
    assert_eq!(
        complaints(&text).1,
        [(0, BadReason::TooManySamples, Scope::Value)]
    );

    let mut decoder = Decoder::default();
    let many = format!("[{}5]", "5,".repeat(999));
    decode_all(&mut decoder, many.as_bytes());
    assert_eq!(
        (decoder.bad().len(), decoder.bad_total()),
        (BadRecord::MAX_KEPT, 1000)
    );
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for text in [
        "[".repeat(MAX_BYTES),
        r#"{"a":"#.repeat(100_000),
        r#"{"metrics":["#.repeat(50_000),
    ] {
        assert_eq!(complaints(&text).0, 0);
    }
}
