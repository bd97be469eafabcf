//! The queue against librdkafka's mock cluster: which way records come.

use rdkafka::ClientConfig;
use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;

use super::*;

/// How long one poll of the consumer's own queue waits for a record that went astray.
const TURN: Duration = Duration::from_millis(200);

/// Turns before the test fails: two minutes.
const TURNS: u32 = 600;

/// Records written to the topic.
const RECORDS: i64 = 10;

type Queued = BatchQueue<DefaultConsumerContext>;

fn consumer(brokers: &str) -> Arc<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "g")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    Arc::new(consumer)
}

fn written(brokers: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    for _ in 0..RECORDS {
        let record = BaseRecord::<(), str>::to("t").partition(0).payload("r");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(TURN * TURNS).unwrap();
}

fn list(offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(offset))
        .unwrap();
    list
}

/// Reads up to the last record while the consumer's own queue is polled, as slow as a busy
/// machine would be: a read comes only when the poll before it had time to take a record.
fn offsets(queue: &mut Queued) -> Vec<i64> {
    let mut offsets = Vec::new();
    for _ in 0..TURNS {
        if offsets.last() == Some(&(RECORDS - 1)) {
            return offsets;
        }
        let stray = queue.consumer.poll(TURN);
        assert!(stray.is_none(), "came by the consumer's queue: {stray:?}");
        queue.forward("t", 0);
        queue.read(100, Duration::ZERO);
        offsets.extend(queue.messages().map(|message| message.offset()));
    }
    panic!("in vain: read only {offsets:?}");
}

#[test]
fn nothing_comes_by_the_consumers_own_queue_however_late_the_first_read() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    written(&brokers);
    let mut queue = BatchQueue::new(consumer(&brokers)).unwrap();
    queue.assign(&list(0)).unwrap();
    assert_eq!(offsets(&mut queue), (0..RECORDS).collect::<Vec<_>>());

    // Nor after a move, which takes the forwarding off.
    for from in [7, 2, 0] {
        queue.consumer.incremental_unassign(&list(from)).unwrap();
        queue.assign(&list(from)).unwrap();
        assert_eq!(offsets(&mut queue), (from..RECORDS).collect::<Vec<_>>());
    }
}
