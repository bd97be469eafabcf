//! The Kafka connector against librdkafka's own mock cluster: what it can show, quickly.
//!
//! What only a real broker shows is in `kafka_real.rs`. The mock cluster cannot look offsets
//! up by time, so every start here reads whole partitions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: they say what they expect"
)]

mod support;

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaRespErr;
use rhizome_connectors::kafka::{KafkaTls, Trouble, examine};
use support::{PATIENCE, Reader, again_until, options, producer, texts, write};

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, String) {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    (cluster, brokers)
}

#[test]
fn offsets_are_committed_only_when_they_are_acknowledged() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 2, 1).unwrap();
    let producer = producer(&brokers, &[]);
    let mut first = Reader::start(options(&brokers, &["metrics"], "g"));
    first.acknowledge = false;
    first.until_flowing();
    write(&producer, "metrics", 0, &texts("a", 50));
    write(&producer, "metrics", 1, &texts("b", 50));
    first.until_records(100);
    assert_eq!(first.live().len(), 100);
    first.stop().unwrap();

    let mut second = Reader::start(options(&brokers, &["metrics"], "g"));
    second.until_records(100);
    assert_eq!(second.live().len(), 100, "nothing was acknowledged");
    second.until_flowing();
    second.stop().unwrap();

    let mut third = Reader::start(options(&brokers, &["metrics"], "g"));
    third.until_flowing();
    assert_eq!(third.refilled().len(), 100, "all of it is decided");
    assert!(third.live().is_empty());
    write(&producer, "metrics", 0, &texts("c", 1));
    third.until_records(101);
    assert_eq!(third.live(), ["c-0"]);
    third.stop().unwrap();
}

#[test]
fn an_ack_that_comes_after_the_connector_stopped_does_no_harm() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let mut reader = Reader::start(options(&brokers, &["metrics"], "g"));
    reader.acknowledge = false;
    reader.until_flowing();
    write(&producer(&brokers, &[]), "metrics", 0, &texts("a", 1));
    reader.until_records(1);
    reader.stop().unwrap();
    reader.acks.pop().unwrap().done();
}

#[test]
fn what_was_there_before_the_first_commit_only_refills() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let producer = producer(&brokers, &[]);
    write(&producer, "metrics", 0, &texts("old", 30));
    let mut reader = Reader::start(options(&brokers, &["metrics"], "g"));
    reader.until_flowing();
    assert_eq!(reader.refilled(), texts("old", 30));
    write(&producer, "metrics", 0, &texts("new", 3));
    reader.until_records(33);
    assert_eq!(reader.live(), texts("new", 3));
    reader.stop().unwrap();
}

#[test]
fn a_record_with_null_payload_or_empty_payload_or_bad_text_is_counted_and_stops_nothing() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let mut reader = Reader::start(options(&brokers, &["metrics"], "g"));
    reader.until_flowing();
    let producer = producer(&brokers, &[]);
    write(&producer, "metrics", 0, &texts("a", 1));
    let null = BaseRecord::<(), ()>::to("metrics").partition(0);
    producer.send(null).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    write(
        &producer,
        "metrics",
        0,
        &[String::new(), "bad".into(), "z".into()],
    );
    reader.until_records(2);
    assert_eq!(reader.texts(), ["a-0", "z"]);
    let buried = reader.buried.lock().unwrap().clone();
    assert_eq!(
        buried,
        [
            ("metrics".into(), 1, 1, "empty".into()),
            ("metrics".into(), 2, 1, "empty".into()),
            ("metrics".into(), 3, 1, "it says so itself".into()),
        ]
    );
    assert_eq!(reader.figures().bad, 3);
    assert_eq!(reader.positions.last().unwrap().next, 5);
    reader.stop().unwrap();
}

#[test]
fn subscribe_to_an_unknown_topic_is_reported_until_it_is_created() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("other", 1, 1).unwrap();
    // The mock makes a topic as soon as it is asked for, so it is told to say no.
    cluster
        .topic_error(
            "late",
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        )
        .unwrap();
    let mut reader = Reader::start(options(&brokers, &["late"], "g"));
    reader.until_trouble("late");
    assert!(reader.reports.iter().all(|report| !report.flowing));
    cluster
        .topic_error("late", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    reader.until_flowing();
    write(&producer(&brokers, &[]), "late", 0, &texts("a", 5));
    reader.until_records(5);
    reader.stop().unwrap();
}

#[test]
fn what_the_brokers_say_of_topics_and_group_is_looked_at_without_joining() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 3, 1).unwrap();
    for (topic, error) in [
        (
            "late",
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        ),
        (
            "secret",
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        ),
    ] {
        cluster.topic_error(topic, error).unwrap();
    }
    let asked = options(&brokers, &["metrics", "late", "secret"], "g");
    let examined = examine(&asked, PATIENCE).unwrap();
    assert_eq!(
        examined.topics,
        [
            ("metrics".to_owned(), Ok(3)),
            ("late".to_owned(), Err(Trouble::Unknown)),
            ("secret".to_owned(), Err(Trouble::Forbidden)),
        ]
    );
    assert_eq!(examined.group, Some(Ok(())));
}

#[test]
fn whoever_is_no_broker_is_told_apart() {
    let (_cluster, brokers) = cluster();
    let mut asked = options(&brokers, &["metrics"], "g");
    asked.tls = Some(KafkaTls::default());
    // No mere silence: on a machine that is busy it takes more than one look.
    again_until("SSL is named", || {
        let error = examine(&asked, Duration::from_secs(2)).unwrap_err();
        error.to_string().contains("SSL")
    });
}

#[test]
fn a_full_channel_holds_the_consumer_back_and_loses_nothing() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let mut reader = Reader::start_with(
        options(&brokers, &["metrics"], "g"),
        std::time::Duration::from_secs(60),
        1,
    );
    reader.until_flowing();
    let producer = producer(&brokers, &[]);
    write(&producer, "metrics", 0, &texts("a", 5_000));
    // Nobody takes anything: one delivery waits in the channel, and at most two more behind.
    let begin = reader.figures().records;
    write(&producer, "metrics", 0, &texts("b", 5_000));
    assert!(reader.figures().records - begin <= 3_000);
    reader.until_records(10_000);
    let mut expected = texts("a", 5_000);
    expected.extend(texts("b", 5_000));
    assert_eq!(reader.texts(), expected, "in order, each once");
    reader.stop().unwrap();
}

#[test]
fn a_broker_that_goes_away_is_told_at_once_and_so_is_its_return() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let mut reader = Reader::start(options(&brokers, &["metrics"], "g"));
    reader.until_flowing();
    cluster.broker_down(1).unwrap();
    reader.until("it does not flow", |reader| {
        !reader.reports.last().unwrap().flowing
    });
    assert!(!reader.reports.last().unwrap().trouble.is_empty());
    cluster.broker_up(1).unwrap();
    reader.until_flowing();
    write(&producer(&brokers, &[]), "metrics", 0, &texts("a", 5));
    reader.until_records(5);
    assert!(!reader.figures().errors.is_empty());
    reader.stop().unwrap();
}

/// Fault B3: the others flow on, but the whole is not called flowing.
#[test]
fn b3_one_partition_without_a_leader_is_reported_and_holds_up_no_other() {
    let (cluster, brokers) = cluster();
    cluster.create_topic("metrics", 2, 1).unwrap();
    cluster.partition_leader("metrics", 1, None).unwrap();
    let mut reader = Reader::start(options(&brokers, &["metrics"], "g"));
    reader.until("the other partition is read", |reader| {
        reader.figures().partitions == 1
    });
    write(&producer(&brokers, &[]), "metrics", 0, &texts("a", 5));
    reader.until_records(5);
    assert!(reader.reports.iter().all(|report| !report.flowing));
    cluster.partition_leader("metrics", 1, Some(1)).unwrap();
    reader.until_flowing();
    write(&producer(&brokers, &[]), "metrics", 1, &texts("b", 5));
    reader.until_records(10);
    reader.stop().unwrap();
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_connected() {
    let mut bad = options("127.0.0.1:1", &["metrics"], "g");
    bad.librdkafka
        .insert("enable.auto.offset.store".into(), "true".into());
    let text = bad.check().unwrap_err().to_string();
    assert!(text.contains("enable.auto.offset.store"), "{text}");
}

/// The one file with `unsafe` in it: nothing it reads is gone, and nothing it gets is kept.
#[test]
fn the_batch_read_is_clean_under_valgrind() {
    let test =
        "a_record_with_null_payload_or_empty_payload_or_bad_text_is_counted_and_stops_nothing";
    let run = std::process::Command::new("valgrind")
        .args(["--error-exitcode=9", "--leak-check=full"])
        .args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=none"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .output();
    let Ok(run) = run else {
        support::scripts::left_out("valgrind", "it is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    assert!(said.contains("ERROR SUMMARY: 0 errors"), "{said}");
    // The `rdkafka` crate itself loses one handle for each client that it makes.
    let ours = said
        .split("== \n")
        .filter(|block| block.contains("definitely lost in"))
        .find(|block| !block.contains("rdkafka::client::Client"));
    assert_eq!(ours, None, "{said}");
}
