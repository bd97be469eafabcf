//! A consumer that reads and does nothing else: what the benchmark divides by.
//!
//! It has the settings of the connector and the same batch read, and no group, no positions,
//! no reports, no channel. `benches/kafka` of the program is its one user: unsafe code is in
//! `batch.rs` alone, so its read cannot be made there.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::batch::{BatchQueue, Body};
use super::reader::MAX_RECORDS;
use super::{KafkaOptions, KafkaStartError};

/// Reads partitions of one topic from given offsets on.
pub struct BareConsumer {
    queue: BatchQueue<DefaultConsumerContext>,
    consumer: Arc<BaseConsumer>,
}

impl BareConsumer {
    /// Begins to read the first topic of `options`, each partition from its offset on.
    ///
    /// It must be used on the thread that made it.
    ///
    /// # Errors
    ///
    /// Returns [`KafkaStartError`] if the settings cannot be used.
    pub fn start(options: &KafkaOptions, from: &[(i32, i64)]) -> Result<Self, KafkaStartError> {
        let mut config = options.client_config()?;
        // Nothing is to be committed, and nobody asks where the ends are.
        config.set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "false");
        let consumer: BaseConsumer = config.create().map_err(KafkaStartError::Client)?;
        let consumer = Arc::new(consumer);
        let queue = BatchQueue::new(Arc::clone(&consumer)).ok_or_else(|| {
            let why = "librdkafka gives no queue".to_owned();
            KafkaStartError::Client(KafkaError::ClientCreation(why))
        })?;
        let mut list = TopicPartitionList::new();
        for topic in options.topics.iter().take(1) {
            for (partition, offset) in from {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(KafkaStartError::Client)?;
            }
        }
        queue.assign(&list).map_err(KafkaStartError::Client)?;
        Ok(Self { queue, consumer })
    }

    /// Reads what is there, waiting for the first at most for `wait`, and hands each payload to
    /// `each`. Returns how many there were.
    pub fn read(&mut self, wait: Duration, mut each: impl FnMut(&[u8])) -> u64 {
        if self.queue.read(MAX_RECORDS, wait) == 0 {
            // Errors and log lines lie on the consumer's own queue; nobody wants them here.
            drop(self.consumer.poll(Duration::ZERO));
            return 0;
        }
        let mut records = 0;
        for message in self.queue.messages() {
            if let Body::Record(payload) = message.body() {
                each(payload.unwrap_or_default());
                records += 1;
            }
        }
        self.queue.release();
        records
    }
}

impl std::fmt::Debug for BareConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareConsumer").finish_non_exhaustive()
    }
}
