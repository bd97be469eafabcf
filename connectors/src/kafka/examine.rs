//! Whether the brokers take us, and what they say of the topics and the group: for `doctor`.
//!
//! It signs in as the connector does, with the same settings, and only asks. It joins no
//! group, fetches no record and commits nothing. That we may read a topic is therefore not
//! seen, only that we may see it: the brokers tell the first by a fetch alone.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;

use super::context::Context;
use super::lookup::{self, Name};
use super::{KafkaOptions, KafkaStartError, tls};

/// How long librdkafka is given to say what it has put aside.
const SERVED: Duration = Duration::from_millis(100);

/// Errors looked at for the reason of a silence: twenty come in a second at most.
const ERRORS_LOOKED_AT: usize = 32;

/// What the brokers said.
#[derive(Debug)]
pub struct Examined {
    /// Each topic with how many partitions it has, or what is wrong with it.
    pub topics: Vec<(String, Result<usize, Trouble>)>,
    /// Whether the group's offsets may be looked at. Not asked without a topic that is well.
    pub group: Option<Result<(), Trouble>>,
}

/// What is wrong with a topic or the group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is none of that name, or we may not even see it.
    #[error("the brokers know none of that name")]
    Unknown,
    /// We lack a right.
    #[error("we have no right to it")]
    Forbidden,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The settings cannot be used.
    #[error(transparent)]
    Start(#[from] KafkaStartError),
    /// No broker takes us; librdkafka's or our own words for it.
    #[error("{0}")]
    Refused(String),
}

/// Asks the brokers. Each question takes no longer than `within`, and the first that nobody
/// answers is the last.
///
/// # Errors
///
/// Returns [`ExamineError`] if no broker could be asked.
pub fn examine(options: &KafkaOptions, within: Duration) -> Result<Examined, ExamineError> {
    let mut config = options.client_config().map_err(KafkaStartError::Options)?;
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer<_> = config
        .create_with_context(Context::new(Arc::default()))
        .map_err(KafkaStartError::Client)?;
    let mut names: Vec<Name> = Vec::new();
    let mut topics = Vec::new();
    for topic in &options.topics {
        let metadata = match consumer.fetch_metadata(Some(topic), within) {
            Ok(metadata) => metadata,
            Err(error) => return Err(ExamineError::Refused(why(&consumer, options, &error))),
        };
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = match found.map(|found| (found.error(), found.partitions())) {
            None => Err(Trouble::Unknown),
            Some((Some(error), _)) => Err(Trouble::of(error.into(), None)),
            Some((None, partitions)) => {
                let shared: Arc<str> = Arc::from(topic.as_str());
                names.extend(partitions.iter().map(|one| (Arc::clone(&shared), one.id())));
                Ok(partitions.len())
            }
        };
        topics.push((topic.clone(), found));
    }
    let group = (!names.is_empty()).then(|| group(&consumer, &names, within));
    Ok(Examined { topics, group })
}

/// Whether we may see what the group has committed. Who may not is told so only beside the
/// answer, which then never comes.
fn group(
    consumer: &BaseConsumer<Context>,
    names: &[Name],
    within: Duration,
) -> Result<(), Trouble> {
    let committed = lookup::list(names, Offset::Invalid)
        .and_then(|list| consumer.committed_offsets(list, within));
    let Err(error) = committed else {
        return Ok(());
    };
    let (code, text) = complaint(consumer).unwrap_or_else(|| {
        let code = error.rdkafka_error_code();
        (code.unwrap_or(RDKafkaErrorCode::Unknown), error.to_string())
    });
    Err(Trouble::of(code, Some(text)))
}

/// Why no broker takes us, in the best words there are.
fn why(consumer: &BaseConsumer<Context>, options: &KafkaOptions, error: &KafkaError) -> String {
    let refusal = |tls| {
        let mut brokers = options.brokers.iter();
        brokers.find_map(|broker| tls::refusal(broker, tls))
    };
    let certificate = options.tls.as_ref().and_then(refusal);
    certificate
        .or_else(|| complaint(consumer).map(|(_, text)| text))
        .unwrap_or_else(|| error.to_string())
}

/// The last error that librdkafka told, but that all brokers are away: it says no reason.
fn complaint(consumer: &BaseConsumer<Context>) -> Option<(RDKafkaErrorCode, String)> {
    // Nothing is assigned, so nothing but errors can come: one a turn, and to the context too,
    // with better words.
    let mut turns = 0..ERRORS_LOOKED_AT;
    while turns.next().is_some() && consumer.poll(SERVED).is_some() {}
    let mut errors = consumer.context().take_errors();
    let last = errors.pop_back()?;
    let reason = |(code, _): &(RDKafkaErrorCode, String)| *code != RDKafkaErrorCode::AllBrokersDown;
    if reason(&last) {
        return Some(last);
    }
    Some(errors.into_iter().rev().find(reason).unwrap_or(last))
}

impl Trouble {
    fn of(code: RDKafkaErrorCode, text: Option<String>) -> Self {
        match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                Self::Unknown
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => Self::Forbidden,
            code => Self::Other(text.unwrap_or_else(|| code.to_string())),
        }
    }
}
