//! librdkafka's mock cluster, and the agents that write to it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rhizome_connectors::kafka::KafkaOptions;
use rhizome_engine::time::Timestamp;

use crate::cpu::{Ledger, Owner};
use crate::fleet::{Fleet, INTERVAL};

const TOPIC: &str = "metrics";

/// The mock keeps some 5 MB a partition: 64 hold 1,200,000 records.
pub(crate) const PARTITIONS: usize = 64;

/// How long the producer waits for its records to be taken.
const PATIENCE: Duration = Duration::from_secs(120);

/// The broker and who writes to it.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    /// Gathers records to batches until it is flushed.
    producer: BaseProducer,
    /// Sends each at once, as agents do.
    prompt: BaseProducer,
    /// The next offset of each partition.
    ends: Vec<i64>,
    text: String,
}

impl Broker {
    /// Starts both and writes a record to each partition, so that all connections stand.
    pub(crate) fn start(ledger: &mut Ledger, at: Timestamp) -> Self {
        let cluster = MockCluster::new(1).expect("the mock cluster starts");
        let partitions = i32::try_from(PARTITIONS).expect("few partitions");
        cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
        let producer = |linger_ms| {
            ClientConfig::new()
                .set("bootstrap.servers", cluster.bootstrap_servers())
                .set("linger.ms", linger_ms)
                .set("queue.buffering.max.messages", "1000000")
                .create()
                .expect("a producer")
        };
        let mut broker = Self {
            producer: producer("100"),
            prompt: producer("0"),
            cluster,
            ends: vec![0; PARTITIONS],
            text: String::new(),
        };
        broker.write_live(at);
        ledger.claim(Owner::Stage);
        broker
    }

    /// Writes records of a node that no pool has, to each partition.
    pub(crate) fn write_live(&mut self, at: Timestamp) {
        let nobody = Fleet {
            names: vec!["nobody".to_owned(); PARTITIONS * INTERVAL],
        };
        for place in (0..nobody.size()).step_by(INTERVAL) {
            self.write(&nobody, place, at, 0.5);
        }
        self.flush();
    }

    /// The settings of both readers.
    pub(crate) fn options(&self, group: &str) -> KafkaOptions {
        KafkaOptions {
            brokers: vec![self.cluster.bootstrap_servers()],
            topics: vec![TOPIC.to_owned()],
            group: group.to_owned(),
            tls: None,
            sasl: None,
            receive_max_bytes: 16 << 20,
            // The mock does not wake a fetch that waits.
            librdkafka: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
        }
    }

    /// Writes the record of a node: always to the same partition, as by a key.
    pub(crate) fn write(&mut self, fleet: &Fleet, place: usize, at: Timestamp, cpu: f64) {
        self.send(|all| &all.producer, (fleet, place, at, cpu));
    }

    /// The same, and sends it at once.
    pub(crate) fn write_at_once(&mut self, fleet: &Fleet, place: usize, at: Timestamp, cpu: f64) {
        self.send(|all| &all.prompt, (fleet, place, at, cpu));
        self.prompt.poll(Duration::ZERO);
    }

    fn send(
        &mut self,
        by: fn(&Self) -> &BaseProducer,
        (fleet, place, at, cpu): (&Fleet, usize, Timestamp, f64),
    ) {
        let mut text = std::mem::take(&mut self.text);
        fleet.write(&mut text, place, at, cpu);
        let partition = place / INTERVAL % PARTITIONS;
        loop {
            let record = BaseRecord::<(), str>::to(TOPIC)
                .partition(i32::try_from(partition).unwrap_or(0))
                .timestamp(at.millis())
                .payload(&text);
            match by(self).send(record) {
                Ok(()) => break,
                // Its queue is full.
                Err(_) => {
                    by(self).poll(Duration::from_millis(10));
                }
            }
        }
        if let Some(end) = self.ends.get_mut(partition) {
            *end += 1;
        }
        self.text = text;
    }

    /// Waits until all is written; what has gathered is sent.
    pub(crate) fn flush(&self) {
        for producer in [&self.producer, &self.prompt] {
            producer.flush(PATIENCE).expect("the mock takes all");
        }
    }

    /// Partitions and their next offsets.
    pub(crate) fn ends(&self) -> Vec<(i32, i64)> {
        (0..).zip(self.ends.iter().copied()).collect()
    }

    /// How many records there are.
    pub(crate) fn written(&self) -> u64 {
        u64::try_from(self.ends.iter().sum::<i64>()).unwrap_or(0)
    }
}
