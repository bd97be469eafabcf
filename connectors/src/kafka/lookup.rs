//! Questions to the brokers that take a while: where a partition begins and ends, what is
//! committed, where a time lies, which topic this is.
//!
//! Each is one request per broker for all partitions together. Those of an assignment are
//! asked on the consumer's thread, which has nothing else to do then; the regular look at the
//! ends ([`Watch`]) has a thread of its own, because an answer can wait behind a fetch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rhizome_engine::time::Timestamp;

use super::batch;
use super::context::Context;
use super::options::KafkaOptions;
use super::partitions::{Floor, Found};
use super::tls;

/// A partition of a topic.
pub(super) type Name = (Arc<str>, i32);

/// Topic ids, or why a topic has none.
pub(super) type TopicIds = BTreeMap<String, Result<String, RDKafkaErrorCode>>;

/// How long one question may take. A broker that answers at all does so within a fetch wait
/// (100 ms) and a pause of its own; the end of the program waits for this.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// Looks without asking for topic ids after a cluster did not tell them: five minutes, at one
/// look in two seconds.
const MUTE_LOOKS: u32 = 150;

/// How long such a cluster is waited for when it is asked once more.
const MUTE_WAIT: Duration = Duration::from_millis(200);

/// Timestamps with a meaning of their own in the protocol's ListOffsets.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// The earliest time there is for a record, to find out whether times can be looked up.
const FIRST_TIME: i64 = 1;

/// Offsets by partition; a partition that failed has its error.
type Offsets = BTreeMap<Name, Result<Offset, KafkaError>>;

/// All that [`super::partitions::plan`] wants to know of these partitions.
///
/// `since` is the time of the floor; `snapshot` says up to where windows are known.
pub(super) fn starts(
    consumer: &BaseConsumer<Context>,
    names: &[Name],
    since: Timestamp,
    snapshot: &BTreeMap<(String, i32), i64>,
) -> KafkaResult<BTreeMap<Name, Found>> {
    let committed = consumer.committed_offsets(list(names, Offset::Invalid)?, ANSWER_WAIT)?;
    let lows = by_time(consumer, names, EARLIEST)?;
    let highs = by_time(consumer, names, LATEST)?;
    let floors = by_time(consumer, names, since.millis().max(FIRST_TIME))?;
    let firsts = by_time(consumer, names, FIRST_TIME)?;
    let ids = batch::topic_ids(consumer, &topics(names), ANSWER_WAIT).unwrap_or_default();
    let mut found = BTreeMap::new();
    for name in names {
        let (topic, partition) = name;
        let low = number(&lows, name)?.unwrap_or(0);
        let high = number(&highs, name)?.unwrap_or(low);
        let floor = match (number(&floors, name)?, number(&firsts, name)?) {
            (Some(offset), _) => Floor::At(offset),
            (None, Some(_)) => Floor::AllOlder,
            // Not even the first record is found by its time, though there is one.
            (None, None) if low < high => Floor::Unknown,
            (None, None) => Floor::AllOlder,
        };
        let committed = committed.find_partition(topic, *partition);
        let position = committed
            .as_ref()
            .and_then(|element| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
        found.insert(
            name.clone(),
            Found {
                low,
                high,
                committed: position,
                committed_topic_id: committed
                    .map(|element| element.metadata().to_owned())
                    .filter(|id| !id.is_empty()),
                topic_id: ids.get(&**topic).and_then(|id| id.clone().ok()),
                floor,
                snapshot: snapshot.get(&(topic.to_string(), *partition)).copied(),
            },
        );
    }
    Ok(found)
}

/// First and next offset of one partition.
pub(super) fn bounds(consumer: &BaseConsumer<Context>, name: &Name) -> KafkaResult<(i64, i64)> {
    let names = std::slice::from_ref(name);
    let low = number(&by_time(consumer, names, EARLIEST)?, name)?.unwrap_or(0);
    let high = number(&by_time(consumer, names, LATEST)?, name)?.unwrap_or(low);
    Ok((low, high))
}

/// The id of a topic, if the cluster tells.
pub(super) fn topic_id(consumer: &BaseConsumer<Context>, topic: &str) -> Option<String> {
    batch::topic_ids(consumer, &[topic.to_owned()], ANSWER_WAIT)?
        .remove(topic)?
        .ok()
}

/// A list of partitions, all with the same offset.
pub(super) fn list(names: &[Name], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(names.len());
    for (topic, partition) in names {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

fn topics(names: &[Name]) -> Vec<String> {
    let mut topics: Vec<String> = names.iter().map(|(topic, _)| topic.to_string()).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// The first offset at or after a time, for each partition.
fn by_time(consumer: &BaseConsumer<Context>, names: &[Name], time: i64) -> KafkaResult<Offsets> {
    let answer = consumer.offsets_for_times(list(names, Offset::from_raw(time))?, ANSWER_WAIT)?;
    Ok(answer
        .elements()
        .iter()
        .map(|element| {
            let name = (Arc::from(element.topic()), element.partition());
            (name, element.error().map(|()| element.offset()))
        })
        .collect())
}

fn number(offsets: &Offsets, name: &Name) -> KafkaResult<Option<i64>> {
    match offsets.get(name) {
        Some(Ok(Offset::Offset(offset))) => Ok(Some(*offset)),
        Some(Ok(Offset::Beginning)) => Ok(Some(0)),
        Some(Err(error)) => Err(error.clone()),
        _ => Ok(None),
    }
}

/// Asks for the ends of the assigned partitions and the ids of the topics, on its own thread.
pub(super) struct Watch {
    questions: Option<SyncSender<Question>>,
    answers: Receiver<Seen>,
    asked: bool,
    thread: Option<JoinHandle<()>>,
}

/// What one look is for.
#[derive(Debug)]
pub(super) struct Question {
    /// The partitions whose ends are asked for.
    pub(super) names: Vec<Name>,
    /// Whether to find out why a broker's certificate is refused.
    pub(super) explain_tls: bool,
}

/// The answer to one look.
#[derive(Debug)]
pub(super) struct Seen {
    /// Why a broker's certificate is refused, if that was asked and is so.
    pub(super) tls: Option<String>,
    /// The end of each partition, or why it is not known; an error if no broker answered.
    pub(super) ends: Result<BTreeMap<Name, Result<i64, String>>, String>,
    /// The topics' ids, if the cluster tells them.
    pub(super) ids: Option<TopicIds>,
}

impl Watch {
    /// Begins to watch the topics of `options`.
    pub(super) fn start(
        consumer: Arc<BaseConsumer<Context>>,
        options: KafkaOptions,
    ) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel::<Question>(1);
        let (answer, answers) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("kafka-watch".to_owned())
            .spawn(move || {
                let mut mute: u32 = 0;
                let mut wait = ANSWER_WAIT;
                while let Ok(question) = asked.recv() {
                    let seen = look(&consumer, &options, &question, (mute == 0).then_some(wait));
                    if seen.ends.is_err() {
                        batch::name_brokers(&consumer, &options.brokers);
                    }
                    // A cluster that tells its ends and no ids (librdkafka's mock) would cost
                    // each look the whole wait for them.
                    (mute, wait) = match (&seen.ends, &seen.ids) {
                        (Ok(_), None) if mute == 0 => (MUTE_LOOKS, MUTE_WAIT),
                        (_, Some(_)) => (0, ANSWER_WAIT),
                        _ => (mute.saturating_sub(1), wait),
                    };
                    if answer.send(seen).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            questions: Some(questions),
            answers,
            asked: false,
            thread: Some(thread),
        })
    }

    /// Asks, unless an answer is still to come.
    pub(super) fn ask(&mut self, question: Question) {
        if let Some(questions) = self.questions.as_ref().filter(|_| !self.asked) {
            self.asked = questions.try_send(question).is_ok();
        }
    }

    /// Whether an answer is still to come.
    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    /// The answer, once it is there.
    pub(super) fn answer(&mut self) -> Option<Seen> {
        match self.answers.try_recv() {
            Ok(seen) => {
                self.asked = false;
                Some(seen)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

impl Drop for Watch {
    /// Waits for the look that is under way, so that the consumer is nobody else's after.
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(
    consumer: &BaseConsumer<Context>,
    options: &KafkaOptions,
    question: &Question,
    ask_ids: Option<Duration>,
) -> Seen {
    let (topics, names) = (options.topics.as_slice(), question.names.as_slice());
    let tls = options
        .tls
        .as_ref()
        .filter(|_| question.explain_tls)
        .and_then(|tls| {
            options
                .brokers
                .iter()
                .find_map(|broker| tls::refusal(broker, tls))
        });
    let ids = ask_ids.and_then(|wait| batch::topic_ids(consumer, topics, wait));
    let ends = if names.is_empty() {
        // Nothing is assigned: that the cluster answers is all there is to know.
        match (
            &ids,
            consumer.fetch_metadata(topics.first().map(String::as_str), ANSWER_WAIT),
        ) {
            (None, Err(error)) => Err(error.to_string()),
            _ => Ok(BTreeMap::new()),
        }
    } else {
        by_time(consumer, names, LATEST)
            .map(|offsets| {
                offsets
                    .into_iter()
                    .map(|(name, offset)| {
                        let end = match offset {
                            Ok(Offset::Offset(end)) => Ok(end),
                            Ok(Offset::Beginning) => Ok(0),
                            Ok(other) => Err(format!("unexpected end {other:?}")),
                            Err(error) => Err(error.to_string()),
                        };
                        (name, end)
                    })
                    .collect()
            })
            .map_err(|error| error.to_string())
    };
    Seen { tls, ends, ids }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::super::stats::KafkaStats;
    use super::*;

    /// Looks before the test fails; each that nobody answers takes some seconds.
    const LOOKS: u32 = 20;

    #[test]
    fn brokers_that_the_client_knows_no_more_are_found_again() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let options = KafkaOptions {
            brokers: vec![cluster.bootstrap_servers()],
            topics: vec!["t".to_owned()],
            group: "g".to_owned(),
            tls: None,
            sasl: None,
            receive_max_bytes: 16 << 20,
            librdkafka: BTreeMap::new(),
        };
        let mut config = options.client_config().unwrap();
        // As if it had forgotten the others.
        config.set("bootstrap.servers", "127.0.0.1:1");
        let context = Context::new(Arc::new(KafkaStats::default()));
        let consumer: BaseConsumer<_> = config.create_with_context(context).unwrap();
        let mut watch = Watch::start(Arc::new(consumer), options).unwrap();
        assert!(seen(&mut watch).ends.is_err(), "nobody is there yet");
        assert!((0..LOOKS).any(|_| seen(&mut watch).ends.is_ok()));
    }

    fn seen(watch: &mut Watch) -> Seen {
        watch.ask(Question {
            names: Vec::new(),
            explain_tls: false,
        });
        watch.asked = false;
        watch.answers.recv().unwrap()
    }
}
