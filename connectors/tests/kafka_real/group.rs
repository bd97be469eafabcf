//! What can happen between members of the group.

use rhizome_connectors::kafka::KafkaStopped;

use crate::set;
use crate::support::servers::kafka;
use crate::support::{Reader, options, producer, texts, write};

#[test]
fn a_second_member_joins_and_leaves_and_every_record_is_decided_once() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "shared";
    kafka.create(topic, 4);
    let producer = producer(kafka.plain(), &[]);
    let mut a = Reader::start(options(kafka.plain(), &[topic], topic));
    a.until_flowing();
    let mut b = Reader::start(options(kafka.plain(), &[topic], topic));
    b.until("each has two", |b| {
        // A gives up its two only while somebody looks after it, too.
        while let Ok(delivery) = a.outlet.try_receive() {
            drop(delivery);
        }
        a.figures().partitions == 2 && b.figures().partitions == 2
    });
    for partition in 0..4 {
        write(
            &producer,
            topic,
            partition,
            &texts(&format!("p{partition}"), 25),
        );
    }
    a.until_records(50);
    b.until_records(50);
    let mut all = a.live();
    all.extend(b.live());
    assert_eq!(all.len(), 100);
    assert_eq!(set(all).len(), 100, "each once");
    b.stop().unwrap();
    a.records.clear();
    a.until("all four are back", |a| a.figures().partitions == 4);
    a.until_flowing();
    assert!(a.live().is_empty(), "what b decided is not decided again");
    assert_eq!(a.refilled().len(), 50, "its windows are filled from b's");
    a.stop().unwrap();
}

#[test]
fn static_membership_ends_the_older_of_two_with_the_same_id() {
    let Some((kafka, _calm)) = kafka() else {
        return;
    };
    let topic = "fenced";
    kafka.create(topic, 1);
    let mut both = options(kafka.plain(), &[topic], topic);
    both.librdkafka
        .insert("group.instance.id".into(), "one".into());
    let mut older = Reader::start(both.clone());
    older.until_flowing();
    let mut newer = Reader::start(both);
    newer.until_flowing();
    older.until("the older has ended", |older| {
        older.connector.as_ref().unwrap().ended()
    });
    older.until_trouble("group.instance.id");
    assert!(matches!(older.stop(), Err(KafkaStopped::Fenced(_))));
    newer.stop().unwrap();
}
