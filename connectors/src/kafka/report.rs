//! How well Kafka can be heard, in words and as a [`SourceReport`].
//!
//! Neither noise nor silence of librdkafka says how the broker is: while nothing can be
//! reached its error callback comes twenty times a second or not at all. So "connected" means
//! that the brokers answered the last regular look at the ends, and not long ago.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode;
use rhizome_engine::event::{SourceName, SourceReport};
use rhizome_engine::time::{Monotonic, Now};

use super::partitions::Partitions;

/// A report goes out at least this often, changed or not (`SourceReport`'s contract).
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A partition that is not at its end must have moved within this long.
const STALL: Duration = Duration::from_secs(10);

/// An answer older than this proves nothing. Looks are two seconds apart and may take three.
const ANSWER_GOOD: Duration = Duration::from_secs(20);

/// What an operator must have a chance to see stays in the report for this long.
const NOTE_SHOWN: Duration = Duration::from_secs(300);

/// Notes kept at once; a topic of many partitions can bring as many at a time.
const NOTES_KEPT: usize = 8;

/// One log line for each kind of error in this time.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// What is known about the connection, and what was reported of it.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    answered: Option<Monotonic>,
    /// The last error that no answer has followed yet.
    error: Option<String>,
    /// Why a broker's certificate is refused.
    tls: Option<String>,
    /// Topics that cannot be read, and why.
    topics: BTreeMap<String, String>,
    notes: Vec<(Monotonic, String)>,
    logged: BTreeMap<i32, (Monotonic, u64)>,
    last: Option<(Monotonic, SourceReport)>,
}

impl Reporter {
    /// The brokers answered a look.
    pub(super) fn answered(&mut self, now: Monotonic, assigned: bool) {
        self.answered = Some(now);
        self.tls = None;
        // Without an assignment an error may come only once and still hold (no right to read
        // the group): it stays.
        if assigned {
            self.error = None;
        }
    }

    /// The brokers did not answer.
    pub(super) fn unanswered(&mut self, text: &str) {
        self.answered = None;
        self.error.get_or_insert_with(|| text.to_owned());
    }

    /// Why a broker's certificate is refused: librdkafka has one text for all reasons.
    pub(super) fn explain(&mut self, reason: String) {
        self.tls = Some(reason);
    }

    /// Which topics cannot be read.
    pub(super) fn topics(&mut self, topics: BTreeMap<String, String>) {
        self.topics = topics;
    }

    /// librdkafka reported an error. Logs it, unless it did so a moment ago.
    pub(super) fn error(&mut self, code: RDKafkaErrorCode, text: &str, now: Monotonic) {
        let (logged, count) = self
            .logged
            .get(&(code as i32))
            .copied()
            .unwrap_or((Monotonic(0), 0));
        if count == 0 || now.since(logged) >= LOG_EVERY {
            tracing::warn!(error = ?code, repeated = count, "kafka: {text}");
            self.logged.insert(code as i32, (now, 1));
        } else {
            self.logged.insert(code as i32, (logged, count + 1));
        }
        match code {
            // It says only that every broker is gone, and comes last: keep the better words.
            RDKafkaErrorCode::AllBrokersDown => {
                self.answered = None;
                self.error.get_or_insert_with(|| text.to_owned());
            }
            _ => self.error = Some(text.to_owned()),
        }
    }

    /// Something that a person must hear of.
    pub(super) fn note(&mut self, text: String, now: Monotonic) {
        tracing::warn!("kafka: {text}");
        self.notes.retain(|(_, noted)| *noted != text);
        if self.notes.len() == NOTES_KEPT {
            self.notes.remove(0);
        }
        self.notes.push((now, text));
    }

    /// The report to send, if it is time for one.
    pub(super) fn due(&mut self, partitions: &Partitions, now: Now) -> Option<SourceReport> {
        let report = self.report(partitions, now);
        let told = self.last.as_ref().is_some_and(|(at, last)| {
            let same = (last.flowing, last.refilled, &last.trouble)
                == (report.flowing, report.refilled, &report.trouble);
            same && now.mono.since(*at) < REPORT_EVERY
        });
        if told {
            return None;
        }
        self.last = Some((now.mono, report.clone()));
        Some(report)
    }

    /// The last report: this connector has ended.
    pub(super) fn ended(&self, why: &str) -> SourceReport {
        SourceReport {
            source: SourceName::Kafka,
            flowing: false,
            lag: Duration::ZERO,
            refilled: false,
            trouble: why.to_owned(),
        }
    }

    fn report(&mut self, partitions: &Partitions, now: Now) -> SourceReport {
        self.notes
            .retain(|(at, _)| now.mono.since(*at) < NOTE_SHOWN);
        let connected = self
            .answered
            .is_some_and(|at| now.mono.since(at) <= ANSWER_GOOD);
        let progress = partitions.progress(now, STALL);
        SourceReport {
            source: SourceName::Kafka,
            flowing: connected && progress.flowing && self.topics.is_empty(),
            lag: progress.lag,
            refilled: progress.refilled,
            trouble: self.trouble(partitions, connected),
        }
    }

    fn trouble(&self, partitions: &Partitions, connected: bool) -> String {
        let mut parts = Vec::new();
        if let Some(error) = self.tls.as_ref().or(self.error.as_ref()) {
            parts.push(error.clone());
        } else if !connected {
            parts.push("no broker has answered yet".to_owned());
        } else if partitions.is_empty() {
            parts.push("no partition is assigned to us".to_owned());
        }
        for (topic, why) in &self.topics {
            parts.push(format!("topic `{topic}`: {why}"));
        }
        for held in partitions.iter().filter(|held| !held.trouble.is_empty()) {
            parts.push(format!(
                "{} [{}]: {}",
                held.topic, held.partition, held.trouble
            ));
        }
        parts.extend(self.notes.iter().map(|(_, text)| text.clone()));
        parts.join("; ")
    }
}
