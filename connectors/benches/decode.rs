//! What decoding costs, beside R: the same bytes by serde_json into a typed struct, dropped.
//!
//! `cargo bench -p rhizome-connectors --bench decode`. Compare lines of one run only.
#![allow(missing_docs, reason = "a benchmark has no readers of its interface")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use rhizome_connectors::decode::Decoder;
use rhizome_engine::event::Batch;
use serde::Deserialize;

/// Records of one pass, as many as a batch from Kafka has.
const RECORDS: usize = 1_000;

fn main() {
    divan::main();
}

/// Some 200 bytes, as an agent of ours sends every ten seconds.
fn own() -> Vec<String> {
    let record = |n: usize| {
        format!(
            r#"{{"node":"worker-{n:05}","time":{},"cpu":0.{},"memory":0.{},"metrics":{{"load1":1.{n},"disk.used":{},"net.rx":{}}},"labels":{{"zone":"az-{}","agent":"1.4.2"}}}}"#,
            1_795_333_374_192_u64 + n as u64,
            100 + n % 900,
            200 + n % 700,
            n * 4_096,
            n * 1_500,
            n % 3,
        )
    };
    (0..RECORDS).map(record).collect()
}

fn collectd() -> Vec<String> {
    let record = |n: usize| {
        format!(
            r#"[{{"values":[{}.25],"dstypes":["gauge"],"dsnames":["value"],"time":1795333374.192,"interval":10.000,"host":"worker-{n:05}","plugin":"cpu","plugin_instance":"","type":"percent","type_instance":"idle"}}]"#,
            n % 100
        )
    };
    (0..RECORDS).map(record).collect()
}

fn telegraf_line() -> Vec<String> {
    let record = |n: usize| {
        format!(
            "cpu,cpu=cpu-total,host=worker-{n:05} usage_idle={}.38,usage_iowait=0,usage_system=4.15,usage_user=11.4 1795333374192000000\n",
            n % 100
        )
    };
    (0..RECORDS).map(record).collect()
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read and dropped: that is what R measures")]
struct Typed<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    time: f64,
    cpu: Option<f64>,
    memory: Option<f64>,
    #[serde(borrow, default)]
    metrics: BTreeMap<Cow<'a, str>, f64>,
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[divan::bench]
fn r_typed_struct(bencher: Bencher<'_, '_>) {
    let records = own();
    bencher.counter(ItemsCount::new(RECORDS)).bench(|| {
        for record in &records {
            let typed: Result<Typed<'_>, _> = serde_json::from_slice(record.as_bytes());
            assert!(black_box(typed).is_ok());
        }
    });
}

fn decode_all(bencher: Bencher<'_, '_>, records: &[String]) {
    let mut decoder = Decoder::default();
    let mut batch = Batch::default();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        batch.clear();
        for record in records {
            decoder.decode(record.as_bytes(), &mut batch);
        }
        assert_eq!(black_box(&batch).len(), RECORDS);
    });
}

#[divan::bench]
fn own_json(bencher: Bencher<'_, '_>) {
    decode_all(bencher, &own());
}

#[divan::bench]
fn collectd_json(bencher: Bencher<'_, '_>) {
    decode_all(bencher, &collectd());
}

#[divan::bench]
fn line_protocol(bencher: Bencher<'_, '_>) {
    decode_all(bencher, &telegraf_line());
}
