//! What the Kafka connector counts. Plain numbers; `src/metrics/inputs.rs` shows them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::types::RDKafkaErrorCode;

/// Counters since the start, written by the consumer's thread and read by anyone.
#[derive(Debug, Default)]
pub struct KafkaStats {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refill: AtomicU64,
    pub(super) bad: AtomicU64,
    pub(super) rebalances: AtomicU64,
    pub(super) partitions: AtomicU64,
    pub(super) lag_ms: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) poisoned: AtomicU64,
    pub(super) recreated: AtomicU64,
    pub(super) stale_acks: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaFigures {
    /// Records read.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Those of them that only refilled windows.
    pub refill: u64,
    /// Those that could not be decoded.
    pub bad: u64,
    /// Assignments and revocations.
    pub rebalances: u64,
    /// Partitions held.
    pub partitions: u64,
    /// Age of the oldest record not yet read, in milliseconds.
    pub lag_ms: u64,
    /// Offsets that were deleted before they were read.
    pub lost: u64,
    /// Records not read because they are older than every window.
    pub skipped: u64,
    /// Offsets passed over because their batch cannot be unpacked.
    pub poisoned: u64,
    /// Topics that were found to be others of the same name, or cut off.
    pub recreated: u64,
    /// Positions acknowledged too late: the partition was lost meanwhile.
    pub stale_acks: u64,
    /// Errors of librdkafka by the name of their code.
    pub errors: BTreeMap<String, u64>,
}

impl KafkaStats {
    /// The counters now.
    pub fn figures(&self) -> KafkaFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KafkaFigures {
            records: read(&self.records),
            bytes: read(&self.bytes),
            refill: read(&self.refill),
            bad: read(&self.bad),
            rebalances: read(&self.rebalances),
            partitions: read(&self.partitions),
            lag_ms: read(&self.lag_ms),
            lost: read(&self.lost),
            skipped: read(&self.skipped),
            poisoned: read(&self.poisoned),
            recreated: read(&self.recreated),
            stale_acks: read(&self.stale_acks),
            errors: self
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    pub(super) fn count_error(&self, code: RDKafkaErrorCode) {
        // The codes are a closed set, so the map is bounded by it.
        *self
            .errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(format!("{code:?}"))
            .or_default() += 1;
    }
}

pub(super) fn add(counter: &AtomicU64, by: i64) {
    counter.fetch_add(u64::try_from(by).unwrap_or(0), Ordering::Relaxed);
}

pub(super) fn add_size(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
}
