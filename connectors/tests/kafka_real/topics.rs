//! What can happen to topics and to what is in them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::producer::{BaseRecord, Producer};

use crate::set;
use crate::support::servers::kafka;
use crate::support::{self, PATIENCE, Reader, options, producer, texts, write};

#[test]
fn subscribe_to_an_unknown_topic_is_reported_until_it_is_created() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    kafka.create("there", 1);
    let mut reader = Reader::start(options(kafka.plain(), &["there", "late"], "late"));
    reader.until_trouble("topic `late`");
    reader.until("the other topic is assigned", |reader| {
        reader.figures().partitions == 1
    });
    assert!(!reader.reports.last().unwrap().flowing, "half is not heard");
    kafka.create("late", 1);
    write(&producer(kafka.plain(), &[]), "late", 0, &texts("a", 5));
    reader.until_records(5);
    reader.until_flowing();
    reader.stop().unwrap();
}

#[test]
fn partitions_added_are_read_from_their_beginning() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "grows";
    kafka.create(topic, 1);
    let producer = producer(kafka.plain(), &[]);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    write(&producer, topic, 0, &texts("first", 100));
    kafka.grow(topic, 3);
    // Written before the consumer can know of them.
    let mut expected = texts("first", 100);
    for partition in 1..3 {
        let more = texts(&format!("more{partition}"), 100);
        write(
            &support::producer(kafka.plain(), &[]),
            topic,
            partition,
            &more,
        );
        expected.extend(more);
    }
    reader.until_records(300);
    assert_eq!(set(reader.texts()), set(expected));
    assert_eq!(reader.records.len(), 300);
    reader.until_flowing();
    reader.stop().unwrap();
}

#[test]
fn committed_offset_below_the_low_watermark_is_reported_as_loss() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "retention";
    kafka.create(topic, 1);
    let producer = producer(kafka.plain(), &[]);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    write(&producer, topic, 0, &texts("a", 10));
    reader.until_records(10);
    reader.stop().unwrap();
    write(&producer, topic, 0, &texts("b", 90));
    kafka.delete_records(topic, 60);

    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_trouble("50 records of retention [0] were deleted");
    reader.until_records(40);
    assert_eq!(reader.live(), texts("b", 90)[50..]);
    assert_eq!(reader.figures().lost, 50);
    reader.until_flowing();
    reader.stop().unwrap();

    // Low = high: an empty partition with a high offset.
    kafka.delete_records(topic, 100);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    write(&producer, topic, 0, &texts("c", 1));
    reader.until_records(1);
    assert_eq!(reader.live(), ["c-0"]);
    reader.stop().unwrap();
}

#[test]
fn topic_deleted_and_recreated_shorter_or_longer_is_known_and_only_refills() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    for (topic, length) in [("shorter", 30), ("longer", 150)] {
        kafka.create(topic, 1);
        let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
        reader.until_flowing();
        write(&producer(kafka.plain(), &[]), topic, 0, &texts("old", 100));
        reader.until_records(100);
        kafka.delete(topic);
        kafka.create(topic, 1);
        write(
            &producer(kafka.plain(), &[]),
            topic,
            0,
            &texts("new", length),
        );
        reader.until("all of the new topic was read", |reader| {
            set(reader.texts()).is_superset(&set(texts("new", length)))
        });
        reader.until_flowing();
        // If the deletion is seen in time, the partition is taken away and comes anew.
        let figures = reader.figures();
        assert!(
            figures.recreated > 0 || figures.rebalances > 1,
            "{figures:?}"
        );
        write(&producer(kafka.plain(), &[]), topic, 0, &texts("live", 3));
        reader.until("the new topic is live", |reader| {
            set(reader.live()).is_superset(&set(texts("live", 3)))
        });
        reader.stop().unwrap();
    }
}

#[test]
fn a_batch_that_decompresses_beyond_the_limit_is_passed_over_and_nothing_else() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "bomb";
    kafka.create(topic, 1);
    let mut small = options(kafka.plain(), &[topic], topic);
    small.receive_max_bytes = 1_000_000;
    let mut reader = Reader::start(small);
    reader.until_flowing();
    let plain = producer(kafka.plain(), &[]);
    write(&plain, topic, 0, &texts("before", 4));
    let bomb = producer(
        kafka.plain(),
        &[
            ("compression.codec", "zstd"),
            ("message.max.bytes", "8000000"),
            ("batch.size", "8000000"),
            ("linger.ms", "500"),
        ],
    );
    write(&bomb, topic, 0, &vec!["0".repeat(800_000); 5]);
    write(&plain, topic, 0, &texts("after", 20));
    reader.until_records(24);
    let mut expected = texts("before", 4);
    expected.extend(texts("after", 20));
    assert_eq!(reader.texts(), expected);
    assert_eq!(reader.figures().poisoned, 5);
    // However the producer cut them into batches, the runs join up.
    let buried = reader.buried.lock().unwrap().clone();
    let end = buried.iter().fold(4, |at, (_, offset, count, _)| {
        assert_eq!(*offset, at);
        at + count
    });
    assert_eq!(end, 9);
    reader.until_flowing();
    reader.stop().unwrap();
}

#[test]
fn an_lz4_batch_corrupted_on_disk_is_passed_over_and_nothing_else() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "corrupt";
    kafka.create(topic, 1);
    let plain = producer(kafka.plain(), &[]);
    let lz4 = producer(
        kafka.plain(),
        &[("compression.codec", "lz4"), ("linger.ms", "200")],
    );
    write(&plain, topic, 0, &texts("before", 10));
    write(&lz4, topic, 0, &texts("damaged", 100));
    write(&plain, topic, 0, &texts("after", 10));
    damage(&format!("{}/{topic}-0", kafka.get("data")), 10);
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_records(20);
    let mut expected = texts("before", 10);
    expected.extend(texts("after", 10));
    assert_eq!(reader.texts(), expected);
    assert_eq!(reader.figures().poisoned, 100);
    reader.until_flowing();
    reader.stop().unwrap();
}

/// Spoils the middle of the batch that begins at `offset`, as a bad disk would.
fn damage(partition: &str, offset: i64) {
    let path = format!("{partition}/00000000000000000000.log");
    let mut log = std::fs::read(&path).unwrap();
    let mut at = 0;
    loop {
        let base = i64::from_be_bytes(log[at..at + 8].try_into().unwrap());
        let length = i32::from_be_bytes(log[at + 8..at + 12].try_into().unwrap());
        let end = at + 12 + usize::try_from(length).unwrap();
        if base == offset {
            let middle = (at + 61 + end) / 2;
            log[middle..middle + 8].fill(0xff);
            log[at + 61..at + 65].fill(0);
            std::fs::write(&path, log).unwrap();
            return;
        }
        at = end;
    }
}

#[test]
fn records_older_than_the_widest_window_are_not_read() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "old";
    kafka.create(topic, 1);
    let producer = producer(kafka.plain(), &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago =
        |seconds: u64| i64::try_from((now - Duration::from_secs(seconds)).as_millis()).unwrap();
    let write_at = |text: &str, time: i64| {
        let record = BaseRecord::<(), str>::to(topic).partition(0);
        let record = record.payload(text).timestamp(time);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    write_at("two hours", ago(7_200));
    write_at("ten minutes", ago(600));
    let start = || {
        let refill = Duration::from_secs(3_600);
        Reader::start_with(options(kafka.plain(), &[topic], topic), refill, 64)
    };
    let mut reader = start();
    reader.until_flowing();
    assert_eq!(reader.refilled(), ["ten minutes"]);
    reader.stop().unwrap();

    // A backlog of two hours: what no window can take is passed over, the rest is live.
    write_at("long ago", ago(5_000));
    write_at("just now", ago(1));
    let mut reader = start();
    reader.until_flowing();
    assert_eq!(reader.texts().last().unwrap(), "just now");
    assert_eq!(reader.live().last().unwrap(), "just now");
    reader.stop().unwrap();
}

#[test]
fn markers_of_transactions_do_not_keep_a_partition_from_its_end() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "transactions";
    kafka.create(topic, 1);
    let producer = producer(kafka.plain(), &[("transactional.id", topic)]);
    producer.init_transactions(PATIENCE).unwrap();
    for (text, commit) in [("kept", true), ("aborted", false)] {
        producer.begin_transaction().unwrap();
        write(&producer, topic, 0, &[text.to_owned()]);
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let mut reader = Reader::start(options(kafka.plain(), &[topic], topic));
    reader.until_flowing();
    assert_eq!(reader.texts(), ["kept"]);
    reader.stop().unwrap();
}
