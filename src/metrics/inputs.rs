//! What the inputs count: what came, and what of it was put aside, passed over or pushed back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rhizome_connectors::deadletter::DeadLetterCounts;
use rhizome_connectors::kafka::{KafkaFigures, KafkaStats};
use rhizome_connectors::{alerts, http};

use super::{Counts, labels};

/// Where the inputs count. Only read here.
#[derive(Debug)]
pub struct InputCounts {
    /// What could not be read, by reason.
    pub dead_letters: Arc<DeadLetterCounts>,
    /// What came by the collector.
    pub collector: Arc<http::Counts>,
    /// What came by the webhooks of alerts.
    pub alerts: Arc<alerts::Counts>,
    /// What came by Kafka, if it is configured.
    pub kafka: Option<Arc<KafkaStats>>,
}

impl InputCounts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let bad = self.dead_letters.by_reason();
        registry.register(
            "bad_records",
            "Records, and values of records, that were put aside, by reason",
            family(
                "reason",
                bad.map(|(reason, count)| (reason.as_str(), count)),
            ),
        );
        registry.register(
            "dead_letters_lost",
            "Dead letters that were not kept: too many at once, or the disk refused",
            ConstCounter::new(self.dead_letters.lost()),
        );
        let (collector, alerts) = (&self.collector, &self.alerts);
        registry.register(
            "collector_records",
            "Records that were posted and handed to the engine",
            ConstCounter::new(read(&collector.accepted)),
        );
        registry.register(
            "collector_bad_records",
            "Those of the bad records, and values, that came by the collector",
            ConstCounter::new(read(&collector.rejected)),
        );
        let outcomes = [
            ("accepted", &alerts.accepted),
            ("duplicate", &alerts.duplicates),
            ("rejected", &alerts.rejected),
            ("truncated", &alerts.truncated),
        ];
        registry.register(
            "alerts",
            "What became of alerts; `truncated` are those that the sender left out",
            family("outcome", outcomes.map(|(name, count)| (name, read(count)))),
        );
        let sources = [
            ("collector", &collector.pushed_back),
            ("alerts", &alerts.pushed_back),
        ];
        registry.register(
            "posts_pushed_back",
            "Posts that were answered with 503, to be sent again",
            family("source", sources.map(|(name, count)| (name, read(count)))),
        );
        if let Some(kafka) = &self.kafka {
            register_kafka(registry, &kafka.figures());
        }
    }
}

fn register_kafka(registry: &mut Registry, figures: &KafkaFigures) {
    let counts = [
        ("kafka_records", "Records read", figures.records),
        ("kafka_bytes", "Bytes of their payloads", figures.bytes),
        (
            "kafka_refill_records",
            "Those of them that only refilled windows",
            figures.refill,
        ),
        (
            "kafka_bad_records",
            "Those of the bad records, and values, that came by Kafka; batches that cannot be unpacked are poisoned offsets",
            figures.bad,
        ),
        (
            "kafka_lost_offsets",
            "Offsets that were deleted before they were read",
            figures.lost,
        ),
        (
            "kafka_skipped_records",
            "Records that were not read, as they are older than every window",
            figures.skipped,
        ),
        (
            "kafka_poisoned_offsets",
            "Offsets that were passed over, as their batch cannot be unpacked",
            figures.poisoned,
        ),
        (
            "kafka_recreated_topics",
            "Topics that were found to be others of the same name, or cut off",
            figures.recreated,
        ),
        (
            "kafka_stale_acks",
            "Positions that were acknowledged after their partition was lost",
            figures.stale_acks,
        ),
        (
            "kafka_rebalances",
            "Assignments and revocations of partitions",
            figures.rebalances,
        ),
    ];
    for (name, help, value) in counts {
        registry.register(name, help, ConstCounter::new(value));
    }
    let errors = figures.errors.iter();
    registry.register(
        "kafka_errors",
        "Errors of librdkafka, by code",
        family("code", errors.map(|(code, count)| (code.as_str(), *count))),
    );
    registry.register(
        "kafka_partitions",
        "Partitions that are held",
        ConstGauge::new(i64::try_from(figures.partitions).unwrap_or(i64::MAX)),
    );
}

fn family<'a>(key: &'static str, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Counts {
    let family = Counts::default();
    for (value, count) in counts {
        family.get_or_create(&labels([(key, value)])).inc_by(count);
    }
    family
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
