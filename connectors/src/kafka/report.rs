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

use super::lookup::Name;
use super::partitions::Partitions;

/// A report goes out at least this often, changed or not.
const REPORT_EVERY: Duration = SourceReport::EVERY;

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
    /// Partitions that are ours and of which nobody has told yet where to begin, in words.
    waiting: Vec<String>,
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

    /// Which partitions are ours and cannot be begun yet: what they hold is not heard.
    pub(super) fn waiting<'a>(&mut self, names: impl IntoIterator<Item = &'a Name>) {
        let words = names
            .into_iter()
            .map(|(topic, partition)| format!("{topic} [{partition}]: not begun yet"));
        self.waiting = words.take(NOTES_KEPT).collect();
        // They take turns in being tried: that is no news.
        self.waiting.sort_unstable();
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
            flowing: connected
                && progress.flowing
                && self.topics.is_empty()
                && self.waiting.is_empty(),
            lag: progress.lag,
            refilled: progress.refilled && self.waiting.is_empty(),
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
        parts.extend(self.waiting.iter().cloned());
        parts.extend(self.notes.iter().map(|(_, text)| text.clone()));
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::partitions::Plan;

    fn at(mono: u64) -> Now {
        Now {
            mono: Monotonic(mono),
            ..Now::default()
        }
    }

    /// One partition that is read to its end.
    fn at_end() -> Partitions {
        let mut partitions = Partitions::default();
        let plan = Plan {
            start: 0,
            live_from: 0,
            committed: true,
            skipped: 0,
            surprise: None,
        };
        partitions.begin(&"t".into(), 0, &plan, None, at(0));
        partitions.get("t", 0).unwrap().high = Some(0);
        partitions
    }

    #[test]
    fn a_partition_that_cannot_be_begun_keeps_the_whole_from_flowing() {
        let (partitions, mut reporter) = (at_end(), Reporter::default());
        reporter.answered(Monotonic(0), true);
        assert!(reporter.report(&partitions, at(0)).flowing);
        let name: Name = ("metrics".into(), 1);
        reporter.waiting([&name]);
        let report = reporter.report(&partitions, at(0));
        assert!(!report.flowing && !report.refilled);
        assert_eq!(report.trouble, "metrics [1]: not begun yet");
        reporter.waiting([]);
        assert!(reporter.report(&partitions, at(0)).flowing);
    }

    #[test]
    fn it_flows_only_while_the_brokers_answer() {
        let partitions = at_end();
        let mut reporter = Reporter::default();
        assert!(
            !reporter.report(&partitions, at(0)).flowing,
            "no answer yet"
        );
        reporter.answered(Monotonic(0), true);
        assert!(reporter.report(&partitions, at(0)).flowing);
        assert!(!reporter.report(&partitions, at(20_001)).flowing, "silence");
        reporter.answered(Monotonic(30_000), true);
        assert!(reporter.report(&partitions, at(30_000)).flowing);
        reporter.error(RDKafkaErrorCode::AllBrokersDown, "gone", Monotonic(30_001));
        let report = reporter.report(&partitions, at(30_001));
        assert!(!report.flowing);
        assert_eq!(report.trouble, "gone");
        reporter.answered(Monotonic(30_002), true);
        let report = reporter.report(&partitions, at(30_002));
        assert!(report.flowing && report.trouble.is_empty());
    }

    #[test]
    fn noise_alone_says_nothing_about_the_flow() {
        let partitions = at_end();
        let mut reporter = Reporter::default();
        reporter.answered(Monotonic(0), true);
        reporter.error(RDKafkaErrorCode::Resolve, "no such host", Monotonic(1));
        assert!(reporter.report(&partitions, at(2)).flowing);
    }

    #[test]
    fn an_error_that_comes_once_is_shown_while_nothing_is_assigned() {
        let partitions = Partitions::default();
        let mut reporter = Reporter::default();
        let code = RDKafkaErrorCode::GroupAuthorizationFailed;
        reporter.error(code, "no right to read the group", Monotonic(0));
        reporter.answered(Monotonic(1), false);
        let report = reporter.report(&partitions, at(1));
        assert_eq!(report.trouble, "no right to read the group");
        assert!(!report.flowing && !report.refilled);
    }

    #[test]
    fn a_topic_that_cannot_be_read_stops_the_flow_and_is_named() {
        let partitions = at_end();
        let mut reporter = Reporter::default();
        reporter.answered(Monotonic(0), true);
        reporter.topics(BTreeMap::from([("late".into(), "unknown".into())]));
        let report = reporter.report(&partitions, at(0));
        assert!(!report.flowing);
        assert_eq!(report.trouble, "topic `late`: unknown");
    }

    #[test]
    fn a_report_is_due_when_it_changes_and_every_ten_seconds() {
        let partitions = at_end();
        let mut reporter = Reporter::default();
        reporter.answered(Monotonic(0), true);
        assert!(reporter.due(&partitions, at(0)).is_some());
        assert!(reporter.due(&partitions, at(9_999)).is_none());
        assert!(reporter.due(&partitions, at(10_000)).is_some());
        reporter.note("50 records were deleted".into(), Monotonic(10_001));
        reporter.note("50 records were deleted".into(), Monotonic(10_002));
        let report = reporter.due(&partitions, at(10_002)).unwrap();
        assert_eq!(report.trouble, "50 records were deleted");
        reporter.answered(Monotonic(310_002), true);
        let report = reporter.due(&partitions, at(310_002)).unwrap();
        assert_eq!(report.trouble, "", "shown long enough");
    }
}
