//! What the Kafka tests share: a connector whose deliveries are looked at one by one.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    reason = "help for tests, used in part by each test binary; tests run on the real clock"
)]

#[path = "../../../tests/servers/scripts.rs"]
pub mod scripts;
pub mod servers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rhizome_connectors::deadletter::Origin;
use rhizome_connectors::delivery::{Ack, Outlet, Position, channel};
use rhizome_connectors::kafka::{KafkaConnector, KafkaOptions, KafkaParts, KafkaStopped, Records};
use rhizome_engine::event::{Batch, Form, Input, SourceReport};
use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Now, Timestamp};

/// How long a test waits for a state before it fails. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The wall's own clock.
pub struct WallClock(Instant);

impl Default for WallClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for WallClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Now {
            wall: Timestamp(wall.as_millis().try_into().unwrap()),
            mono: Monotonic(self.0.elapsed().as_millis().try_into().unwrap()),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A record as it was delivered: its payload, and whether it only refilled.
pub type Record = (String, bool);

/// Topic, first offset, count and reason of what was passed over.
pub type Buried = (String, i64, i64, String);

/// A running connector and what came out of it.
pub struct Reader {
    pub connector: Option<KafkaConnector>,
    pub outlet: Outlet,
    /// Acknowledge each delivery as it comes.
    pub acknowledge: bool,
    pub records: Vec<Record>,
    pub acks: Vec<Ack>,
    pub positions: Vec<Position>,
    pub reports: Vec<SourceReport>,
    pub buried: Arc<Mutex<Vec<Buried>>>,
}

/// Takes the text of a record for the name of its node.
struct Plain {
    grave: Arc<Mutex<Vec<Buried>>>,
    bad: &'static str,
}

impl Records for Plain {
    fn read(&mut self, payload: &[u8], batch: &mut Batch) -> usize {
        self.bad = match std::str::from_utf8(payload) {
            Ok("") => "empty",
            Ok("bad") => "it says so itself",
            Err(_) => "no text",
            Ok(text) => {
                batch.push_record(text, Timestamp(0), None);
                batch.push_sample("cpu", "", Form::Value, 0.5);
                return 0;
            }
        };
        1
    }

    fn keep(&mut self, _at: Timestamp, origin: Origin, _payload: &[u8]) {
        self.bury(&origin, 1, self.bad);
    }

    fn passed_over(&mut self, _at: Timestamp, origin: Origin, count: i64) {
        self.bury(&origin, count, "unpackable");
    }
}

impl Plain {
    fn bury(&self, origin: &Origin, count: i64, why: &str) {
        let buried = (
            origin.topic.to_string(),
            origin.offset,
            count,
            why.to_owned(),
        );
        self.grave.lock().unwrap().push(buried);
    }
}

/// Options for `topics` at `brokers` in `group`.
pub fn options(brokers: &str, topics: &[&str], group: &str) -> KafkaOptions {
    KafkaOptions {
        brokers: vec![brokers.to_owned()],
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        group: group.to_owned(),
        tls: None,
        sasl: None,
        receive_max_bytes: 16 * 1024 * 1024,
        librdkafka: BTreeMap::new(),
    }
}

/// Looks again until it is so, or fails with what was `wanted`.
pub fn again_until(wanted: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {wanted}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Reader {
    /// Starts one that acknowledges at once.
    pub fn start(options: KafkaOptions) -> Self {
        Self::start_with(options, Duration::from_secs(3_600), 64)
    }

    /// Starts one that refills `refill` far back, over a channel of `room` deliveries.
    pub fn start_with(options: KafkaOptions, refill: Duration, room: usize) -> Self {
        let (inlet, outlet) = channel(room);
        let buried = Arc::new(Mutex::new(Vec::new()));
        let parts = KafkaParts {
            options,
            refill,
            snapshot: BTreeMap::new(),
            clock: Arc::new(WallClock::default()),
            inlet,
            records: Box::new(Plain {
                grave: Arc::clone(&buried),
                bad: "",
            }),
        };
        Self {
            connector: Some(KafkaConnector::start(parts).unwrap()),
            outlet,
            acknowledge: true,
            records: Vec::new(),
            acks: Vec::new(),
            positions: Vec::new(),
            reports: Vec::new(),
            buried,
        }
    }

    /// Takes deliveries until `done` says so, or fails with what was `wanted`.
    pub fn until(&mut self, wanted: &str, mut done: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain until {wanted}; {} records, last report {:?}, {:?}",
                self.records.len(),
                self.reports.last(),
                self.connector.as_ref().map(|c| c.stats().figures()),
            );
            if let Ok(delivery) = self.outlet.receive(Duration::from_millis(50)) {
                match delivery.input {
                    Input::Batch(batch) => {
                        self.records.extend(
                            batch
                                .records()
                                .map(|record| (record.node().to_owned(), batch.refill)),
                        );
                    }
                    Input::Source(report) => self.reports.push(report),
                    other => panic!("unexpected {other:?}"),
                }
                match delivery.ack {
                    Some(ack) if self.acknowledge => {
                        self.positions.extend(ack.positions.clone());
                        ack.done();
                    }
                    Some(ack) => self.acks.push(ack),
                    None => {}
                }
            }
        }
    }

    pub fn until_records(&mut self, count: usize) {
        self.until(&format!("there are {count} records"), |reader| {
            reader.records.len() >= count
        });
    }

    pub fn until_flowing(&mut self) {
        self.reports.clear();
        self.until("it flows", |reader| {
            reader
                .reports
                .last()
                .is_some_and(|report| report.flowing && report.refilled)
        });
    }

    /// Until the last report is one of trouble that names `text`.
    pub fn until_trouble(&mut self, text: &str) {
        self.until(&format!("`{text}` is reported"), |reader| {
            reader
                .reports
                .last()
                .is_some_and(|report| report.trouble.contains(text))
        });
    }

    pub fn figures(&self) -> rhizome_connectors::kafka::KafkaFigures {
        self.connector.as_ref().unwrap().stats().figures()
    }

    pub fn texts(&self) -> Vec<String> {
        self.records.iter().map(|(text, _)| text.clone()).collect()
    }

    pub fn live(&self) -> Vec<String> {
        let live = self.records.iter().filter(|(_, refill)| !refill);
        live.map(|(text, _)| text.clone()).collect()
    }

    pub fn refilled(&self) -> Vec<String> {
        let refilled = self.records.iter().filter(|(_, refill)| *refill);
        refilled.map(|(text, _)| text.clone()).collect()
    }

    /// Stops it; what was acknowledged is committed then.
    pub fn stop(&mut self) -> Result<(), KafkaStopped> {
        self.connector.take().unwrap().stop()
    }
}

/// A producer that is told the rest of its settings.
pub fn producer(brokers: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config.set("topic.metadata.refresh.interval.ms", "1000");
    config.set("reconnect.backoff.max.ms", "500");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Writes texts to a partition and waits until the broker has them.
pub fn write(producer: &BaseProducer, topic: &str, partition: i32, texts: &[String]) {
    for text in texts {
        let record = BaseRecord::<(), String>::to(topic)
            .partition(partition)
            .payload(text);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// `count` texts that begin with `word`.
pub fn texts(word: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{word}-{number}"))
        .collect()
}
