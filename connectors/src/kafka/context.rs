//! What librdkafka calls back, put aside for the consumer's thread.
//!
//! Rebalances are only noted here and carried out by the thread's own loop, which asks the
//! broker for positions first. Errors are noted and counted: while no broker can be reached
//! the callback comes twenty times a second, so nothing is logged from here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::settings;
use super::stats::KafkaStats;

/// Errors kept until the loop looks at them; older ones are only counted.
const ERRORS_KEPT: usize = 32;

/// Partitions came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// These are ours from now on.
    Assigned(Vec<(Arc<str>, i32)>),
    /// These are not ours any more.
    Revoked(Vec<(Arc<str>, i32)>),
}

/// The context of the consumer.
#[derive(Debug)]
pub(super) struct Context {
    changes: Mutex<VecDeque<Change>>,
    errors: Mutex<VecDeque<(RDKafkaErrorCode, String)>>,
    /// Nobody will look at `changes` any more.
    closing: AtomicBool,
    stats: Arc<KafkaStats>,
}

impl Context {
    pub(super) fn new(stats: Arc<KafkaStats>) -> Self {
        Self {
            changes: Mutex::default(),
            errors: Mutex::default(),
            closing: AtomicBool::new(false),
            stats,
        }
    }

    /// The next rebalance to carry out.
    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// The errors noted since the last call, with librdkafka's words.
    pub(super) fn take_errors(&self) -> VecDeque<(RDKafkaErrorCode, String)> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on partitions are given back at once: the loop has ended.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn note(&self, code: RDKafkaErrorCode, text: &str) {
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        self.stats.count_error(code);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back((code, settings::in_our_words(text)));
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "librdkafka: {text}");
            }
            // What it calls errors here come through `error` too, and are rate-limited there.
            RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Notice => tracing::info!(facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "librdkafka: {text}");
            }
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            // librdkafka waits for this call before it closes. That it fails for partitions
            // never taken is of no interest any more.
            let _ = consumer.unassign();
            return;
        }
        let names = list
            .elements()
            .iter()
            .map(|element| (Arc::from(element.topic()), element.partition()))
            .collect();
        let change = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Change::Assigned(names)
        } else {
            Change::Revoked(names)
        };
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result.as_ref().map_err(KafkaError::rdkafka_error_code) {
            // Nothing was stored since the last commit.
            Ok(()) | Err(Some(RDKafkaErrorCode::NoOffset) | None) => {}
            Err(Some(code)) => self.note(code, "committing offsets failed"),
        }
    }
}
