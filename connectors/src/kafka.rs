//! Reads the metrics topics: records in, batches with their positions out.
//!
//! One thread reads ([`reader`](self)), decodes and hands over through the bounded channel;
//! a second one only asks the brokers where the ends are. librdkafka does the rest on threads
//! of its own. What comes next for a sample is `decode`, then the engine's thread.
//!
//! - **Positions** are stored for the commit only when the program acknowledges a delivery,
//!   that is when what it led to is journaled. The committed offset means "decided up to
//!   here". An ack of a partition that was lost meanwhile is dropped.
//! - **Start.** Each assigned partition is read from one widest window back (or from a
//!   snapshot's position). What lies before the committed offset is delivered with
//!   `Batch::refill`, and so is all that was there before a first commit: see
//!   [`partitions`](self).
//! - **Back-pressure.** While the channel is full, nothing is taken from librdkafka, which
//!   then stops fetching at its own bounds; the consumer stays in the group all the same.
//! - **Nothing here is fatal** but being fenced by another member with the same static id.
//!   Errors are counted by code, reported in words, and healed from.
//!
//! A cluster that cannot look offsets up by time (librdkafka's mock cluster) is read from the
//! beginning of each partition.

mod assign;
mod bare;
mod batch;
mod context;
mod examine;
mod lookup;
mod options;
mod partitions;
mod poison;
mod reader;
mod report;
mod settings;
mod stats;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rhizome_engine::event::{Batch, SourceName};
use rhizome_engine::time::{Clock, Timestamp};

pub use self::bare::BareConsumer;
pub use self::examine::{ExamineError, Examined, Trouble, examine};
pub use self::options::{
    KafkaOptions, KafkaSasl, KafkaTls, OptionsError, SaslMechanism, check_topic,
};
pub use self::settings::{SettingError, check_setting, is_secret};
pub use self::stats::{KafkaFigures, KafkaStats};
use crate::deadletter::{DeadLetters, Origin};
use crate::decode::Decoder;
use crate::delivery::{Acknowledge, Inlet, Position};

/// What becomes of records: read into a batch, or kept as bad.
pub trait Records: Send {
    /// Reads one record's payload (empty if it is null) into the batch. Returns how much of
    /// it was bad; the batch holds the rest.
    fn read(&mut self, payload: &[u8], batch: &mut Batch) -> usize;

    /// Keeps what was bad in the record read last.
    fn keep(&mut self, at: Timestamp, origin: Origin, payload: &[u8]);

    /// Keeps note of `count` offsets from `origin` on that cannot be unpacked.
    fn passed_over(&mut self, at: Timestamp, origin: Origin, count: i64);
}

/// The decoder of all formats, and the dead letters.
#[derive(Debug)]
pub struct Decoding {
    /// Reads.
    pub decoder: Decoder,
    /// Keeps.
    pub dead_letters: DeadLetters,
}

impl Records for Decoding {
    fn read(&mut self, payload: &[u8], batch: &mut Batch) -> usize {
        self.decoder.decode(payload, batch);
        self.decoder.bad_total()
    }

    fn keep(&mut self, at: Timestamp, origin: Origin, payload: &[u8]) {
        self.dead_letters
            .note(at, SourceName::Kafka, Some(origin), &self.decoder, payload);
    }

    fn passed_over(&mut self, at: Timestamp, origin: Origin, count: i64) {
        // Never negative: it is how far the position went on.
        let count = count.max(0).unsigned_abs();
        self.dead_letters
            .note_unpackable(at, SourceName::Kafka, origin, count);
    }
}

/// Everything a connector is made of.
pub struct KafkaParts {
    /// Settings.
    pub options: KafkaOptions,
    /// Widest window of the policies plus the lateness bound: older records reach no window.
    pub refill: Duration,
    /// Up to where a snapshot's windows hold each partition, by topic and partition.
    pub snapshot: BTreeMap<(String, i32), i64>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The way to the engine.
    pub inlet: Inlet,
    /// What becomes of records.
    pub records: Box<dyn Records>,
}

/// A running connector.
pub struct KafkaConnector {
    stop: Arc<AtomicBool>,
    stats: Arc<KafkaStats>,
    thread: Option<JoinHandle<Result<(), KafkaStopped>>>,
}

/// Why the connector could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KafkaStartError {
    /// A setting is wrong.
    #[error("in the settings of `kafka`")]
    Options(#[from] OptionsError),
    /// librdkafka refuses the settings as a whole.
    #[error("the settings of `kafka` do not go together: {0}")]
    Client(#[source] KafkaError),
    /// The system gives no thread.
    #[error("cannot start a thread for Kafka: give this user or container more threads")]
    Thread(#[source] std::io::Error),
}

/// Why the connector ended by itself. Nothing else ends it but [`KafkaConnector::stop`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaStopped {
    /// Another program took our place.
    #[error(
        "another member of the group uses the same `group.instance.id`: give each program its own, then start again ({0})"
    )]
    Fenced(String),
    /// librdkafka gave up for good.
    #[error("librdkafka has given up: start again ({0})")]
    Fatal(String),
    /// The engine's thread is gone.
    #[error("the engine has stopped")]
    Engine,
    /// It panicked, or librdkafka could not give what it needs.
    #[error("the Kafka thread failed: {0}")]
    Failed(String),
}

impl KafkaConnector {
    /// Starts to read. Whether a broker answers is told by reports, not here.
    ///
    /// # Errors
    ///
    /// Returns [`KafkaStartError`] if the settings cannot be used.
    pub fn start(parts: KafkaParts) -> Result<Self, KafkaStartError> {
        let stats = Arc::new(KafkaStats::default());
        let mut config = parts.options.client_config()?;
        config.set_log_level(RDKafkaLogLevel::Notice);
        let context = context::Context::new(Arc::clone(&stats));
        let consumer: BaseConsumer<_> = config
            .create_with_context(context)
            .map_err(KafkaStartError::Client)?;
        let topics: Vec<&str> = parts.options.topics.iter().map(String::as_str).collect();
        consumer
            .subscribe(&topics)
            .map_err(KafkaStartError::Client)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, acks) = channel();
        let shared = reader::Shared {
            consumer: Arc::new(consumer),
            stats: Arc::clone(&stats),
            stop: Arc::clone(&stop),
            acknowledge: Arc::new(Acks(sender)),
        };
        let thread = std::thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || reader::run(parts, shared, acks))
            .map_err(KafkaStartError::Thread)?;
        Ok(Self {
            stop,
            stats,
            thread: Some(thread),
        })
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<KafkaStats> {
        Arc::clone(&self.stats)
    }

    /// Whether its thread has ended.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops reading, commits what was acknowledged, leaves the group.
    ///
    /// It waits for that: some 0.1 s, or some seconds while no broker answers.
    ///
    /// # Errors
    ///
    /// Returns why it had ended by itself before, if it had.
    pub fn stop(mut self) -> Result<(), KafkaStopped> {
        self.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            Some(Err(_)) => Err(KafkaStopped::Failed("it panicked".to_owned())),
            None => Ok(()),
        }
    }
}

impl Drop for KafkaConnector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl fmt::Debug for KafkaConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConnector")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// The way of acks to the consumer's thread. What waits there is bounded by the deliveries
/// that the channel holds.
#[derive(Debug)]
struct Acks(Sender<reader::Acked>);

impl Acknowledge for Acks {
    fn acknowledge(&self, positions: &[Position], assignment: u64) {
        // Without a receiver the consumer has ended: the records are read again.
        let _ = self.0.send(reader::Acked {
            positions: positions.to_vec(),
            assignment,
        });
    }
}
