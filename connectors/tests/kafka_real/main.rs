//! The Kafka connector against a real Apache Kafka, fed by a real collectd and by ourselves.
//!
//! Each test is named after what was done, as the table of librdkafka's behaviour in
//! ARCHITECTURE.md lists it. Each has topics and groups of its own; those that stop the broker
//! run alone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests: they say what they expect, and write records of the past"
)]

mod group;
mod security;
#[path = "../support/mod.rs"]
mod support;
mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use rhizome_connectors::decode::Decoder;
use rhizome_engine::event::Batch;
use support::servers::{Collectd, kafka, kafka_alone};
use support::{PATIENCE, Reader, options, producer, texts, write};

fn set(texts: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    texts.into_iter().collect()
}

#[test]
fn broker_stopped_cleanly_then_sigkilled_loses_and_doubles_nothing() {
    let Some((kafka, _alone)) = kafka_alone() else {
        return;
    };
    let topic = "outage";
    kafka.create(topic, 2);
    let producer = producer(kafka.plain(), &[("enable.idempotence", "true")]);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    let mut sent = 0;
    let mut send = |count: usize| {
        for number in sent..sent + count {
            let record = BaseRecord::<(), String>::to(topic);
            let text = format!("r-{number}");
            let record = record.partition(i32::from(number % 2 == 0)).payload(&text);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.poll(Duration::ZERO);
        sent += count;
        sent
    };
    let total = send(1_000);
    reader.until_records(total);
    for kill in [false, true] {
        send(500);
        if kill {
            kafka.kill();
        } else {
            kafka.stop();
        }
        reader.until("it does not flow", |reader| {
            !reader.reports.last().unwrap().flowing
        });
        assert!(!reader.reports.last().unwrap().trouble.is_empty());
        let total = send(500);
        kafka.start();
        producer.flush(PATIENCE).unwrap();
        reader.until_records(total);
        reader.until_flowing();
    }
    assert_eq!(set(reader.live()), set(texts("r", sent)), "nothing lost");
    assert_eq!(reader.texts().len(), sent, "nothing twice");
    reader.stop().unwrap();

    let mut again = Reader::start(options(kafka.plain(), &[topic], topic));
    again.until_flowing();
    assert_eq!(again.refilled().len(), sent, "all was committed");
    assert!(again.live().is_empty());
    again.stop().unwrap();
}

#[test]
fn collectd_is_read_across_an_outage_of_the_broker() {
    let Some((kafka, _alone)) = kafka_alone() else {
        return;
    };
    let topic = "collectd";
    kafka.create(topic, 3);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    let Some(mut collectd) = Collectd::start(kafka, topic) else {
        return;
    };
    let value = |number: i32| f64::from(number) + 0.25;
    for number in 0..40 {
        collectd.put("worker-9", "cpu/percent-user", value(number));
    }
    kafka.kill();
    for number in 40..80 {
        collectd.put("worker-9", "cpu/percent-user", value(number));
    }
    kafka.start();
    for number in 80..100 {
        collectd.put("worker-9", "cpu/percent-user", value(number));
    }
    let has = |reader: &Reader, number: i32| {
        let values = format!("\"values\":[{}]", value(number));
        reader
            .records
            .iter()
            .any(|(text, _)| text.contains("\"host\":\"worker-9\"") && text.contains(&values))
    };
    reader.until("every value of worker-9 is there", |reader| {
        (0..100).all(|number| has(reader, number))
    });
    let own = reader.texts().iter().any(|text| {
        text.contains("\"host\":\"collectd-1\"") && text.contains("\"plugin\":\"memory\"")
    });
    assert!(own, "what it measured itself");
    let mut decoder = Decoder::default();
    for text in reader.texts() {
        let mut batch = Batch::default();
        assert!(decoder.decode(text.as_bytes(), &mut batch) > 0, "{text}");
        assert_eq!(decoder.bad(), [], "{text}");
    }
    collectd.stop();
    reader.until_flowing();
    reader.stop().unwrap();
}

#[test]
fn all_five_codecs_and_a_record_of_5_mb_are_read() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "codecs";
    kafka.create_with(topic, 1, &[("max.message.bytes", "8000000")]);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = producer(
            kafka.plain(),
            &[("compression.codec", codec), ("linger.ms", "50")],
        );
        expected.extend(texts(codec, 100));
        write(&producer, topic, 0, &texts(codec, 100));
    }
    let large = producer(kafka.plain(), &[("message.max.bytes", "8000000")]);
    expected.push("x".repeat(5_000_000));
    write(&large, topic, 0, &expected[500..]);
    reader.until_records(501);
    assert!(reader.texts() == expected, "all of them, in order");
    reader.stop().unwrap();
}
