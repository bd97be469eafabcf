//! `rhizome standin`: what `docker-compose.yml` runs beside Rhizome, for people who want to watch.
//!
//! ```text
//!   cloud    stand-in cloud and cluster, and the work whose weight the machines feel
//!   guest    one machine: asks the cloud what it is, joins the cluster, and reports by a collectd
//!   secrets  a certificate and tokens for a Rhizome that is only tried
//! ```
//!
//! None of them knows Rhizome or a story; they speak to it, and it to them, as the real ones would.

mod cloud;
mod collectd;
mod guest;
mod secrets;

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rhizome_engine::time::Clock;
use rhizome_standin::Standin;

pub use cloud::{CloudArgs, serve};
pub use guest::{GuestArgs, play};
pub use secrets::{SecretsArgs, write};

/// Why one of them cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum StandinError {
    /// No port, no file, no program.
    #[error("{what}")]
    Io {
        /// What could not be done.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No producer.
    #[error("nothing can be published to Kafka")]
    Kafka(#[from] KafkaError),
    /// No client.
    #[error("no HTTP client can be made")]
    Http(#[from] reqwest::Error),
    /// No certificate.
    #[error("no certificate can be made: {0}")]
    Certificate(String),
}

impl StandinError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Lets the agents of the guests that `standin` plays publish to a topic, keyed by node, as real
/// ones do.
///
/// # Errors
///
/// Returns librdkafka's error for settings that it does not take.
pub fn publish(
    standin: &Standin,
    brokers: &str,
    topic: &str,
    clock: Arc<dyn Clock>,
) -> Result<(), KafkaError> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .set("reconnect.backoff.max.ms", "1000")
        .create()?;
    let topic = topic.to_owned();
    standin.deliver_to(move |node, record| {
        // A full queue is a lost record, as it is with a real agent.
        let record = BaseRecord::to(&topic)
            .key(node)
            .payload(&record)
            .timestamp(clock.now().wall.millis());
        let _ = producer.send(record);
    });
    Ok(())
}
