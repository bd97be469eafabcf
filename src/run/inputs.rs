//! Where input comes in: Kafka, the collector, alerts, and the API beside them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rhizome_connectors::Inlet;
use rhizome_connectors::alerts::Alerts;
use rhizome_connectors::auth::{
    AuthOptions, BasicOptions, BearerOptions, Right as MayDo, SecretSource,
};
use rhizome_connectors::deadletter::{DeadLetterOptions, DeadLetters};
use rhizome_connectors::decode::{DecodeOptions, Decoder};
use rhizome_connectors::http::Collector;
use rhizome_connectors::kafka::{
    Decoding, KafkaConnector, KafkaOptions, KafkaParts, KafkaSasl, KafkaStartError, KafkaTls,
    SaslMechanism,
};
use rhizome_connectors::listen::{ListenError, ListenOptions, Listener, TlsOptions};
use rhizome_engine::names::PoolName;
use rhizome_engine::time::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::api::{self, Api};
use crate::config::{KafkaConfig, Loaded, Mechanism, Right, Secret, SecretError, Without};
use crate::exit::Exit;
use crate::gate::ProgramGate;
use crate::handle::EngineHandle;
use crate::metrics::{InputCounts, Metrics};
use crate::policies::Policies;

/// Bytes of the dead-letter file before it is put aside. Two are kept.
const DEAD_LETTER_BYTES: u64 = 16 << 20;

/// Why input cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaStartError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No thread for the dead letters.
    #[error(
        "cannot start the thread that keeps dead letters: give this user or container more threads"
    )]
    Thread(#[source] std::io::Error),
}

impl InputsError {
    /// How the program ends for it. What another program holds, or the system does not give
    /// now, may be had at the next start.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Kafka(KafkaStartError::Thread(_)) | Self::Thread(_) => Exit::Failed,
            Self::Listen(ListenError::Bind { source, .. })
                if source.kind() != std::io::ErrorKind::PermissionDenied =>
            {
                Exit::Failed
            }
            Self::Kafka(_) | Self::Listen(_) | Self::Secret(_) => Exit::Config,
        }
    }
}

/// What the inputs are made of.
pub(super) struct Parts<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) inlet: Inlet,
    pub(super) positions: BTreeMap<(String, i32), i64>,
    pub(super) refill: Duration,
    pub(super) state: PathBuf,
    pub(super) handle: EngineHandle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) policies: Arc<Policies>,
    pub(super) gate: Arc<ProgramGate>,
    pub(super) dry_run: bool,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// The inputs, open.
pub(super) struct Inputs {
    address: SocketAddr,
    api: Api,
    kafka: Option<KafkaConnector>,
}

impl Inputs {
    pub(super) async fn start(parts: Parts<'_>) -> Result<Self, InputsError> {
        let letters = DeadLetterOptions {
            path: parts.state.join("dead-letters.jsonl"),
            max_bytes: DEAD_LETTER_BYTES,
        };
        let (letters, _) = DeadLetters::start(letters).map_err(InputsError::Thread)?;
        let listener = Listener::bind(listen_options(parts.loaded)).await?;
        let address = listener
            .address()
            .unwrap_or(parts.loaded.config.listen.address.0);
        let collector = Collector::new(
            parts.inlet.clone(),
            Arc::clone(&parts.clock),
            DecodeOptions::default(),
            letters.clone(),
        );
        let alerts = Alerts::new(parts.inlet.clone(), Arc::clone(&parts.clock));
        let mut counts = InputCounts {
            dead_letters: letters.counts(),
            collector: collector.counts(),
            alerts: alerts.counts(),
            kafka: None,
        };
        let pools = parts.loaded.config.pools.keys().map(PoolName::new);
        let api = Api::new(api::Parts {
            engine: parts.handle,
            gate: parts.gate,
            policies: parts.policies,
            metrics: Arc::clone(&parts.metrics),
            clock: Arc::clone(&parts.clock),
            pools: pools.collect(),
            state: parts.state,
            dry_run: parts.dry_run,
        });
        let router = collector
            .router()
            .merge(alerts.router())
            .merge(api.router());
        parts
            .tasks
            .spawn(listener.serve(router, parts.stop.clone()));
        let kafka = match &parts.loaded.config.kafka {
            Some(config) => Some(KafkaConnector::start(KafkaParts {
                options: kafka_options(config, parts.loaded, parts.dry_run),
                refill: parts.refill,
                snapshot: parts.positions,
                clock: parts.clock,
                inlet: parts.inlet,
                records: Box::new(Decoding {
                    decoder: Decoder::new(DecodeOptions::default()),
                    dead_letters: letters,
                }),
            })?),
            None => {
                let stop = parts.stop.clone();
                parts
                    .tasks
                    .spawn(async move { collector.keep_reporting(stop).await });
                None
            }
        };
        counts.kafka = kafka.as_ref().map(KafkaConnector::stats);
        parts.metrics.set_inputs(counts);
        Ok(Self {
            address,
            api,
            kafka,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/readyz` says no.
    pub(super) fn close(&self) {
        self.api.stop();
    }

    pub(super) async fn stop(self) {
        let Some(kafka) = self.kafka else { return };
        match tokio::task::spawn_blocking(move || kafka.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => error!(error = %stopped, "Kafka had stopped before"),
            Err(panicked) => error!(error = %panicked, "the Kafka thread had panicked"),
        }
    }
}

fn listen_options(loaded: &Loaded) -> ListenOptions {
    let config = &loaded.config.listen;
    let bearer = config.tokens.iter().map(|token| BearerOptions {
        who: token.name.clone(),
        secret: source(&token.token, loaded),
        may: token.may.iter().map(may).collect(),
    });
    let basic = config.users.iter().map(|user| BasicOptions {
        user: user.name.clone(),
        secret: source(&user.password, loaded),
        may: user.may.iter().map(may).collect(),
    });
    ListenOptions {
        address: config.address.0,
        tls: config.tls.as_ref().map(|tls| TlsOptions {
            certificate: loaded.folder.join(&tls.cert),
            key: loaded.folder.join(&tls.key),
        }),
        auth: AuthOptions {
            bearer: bearer.collect(),
            basic: basic.collect(),
        },
        without_tls: config.without.contains(&Without::Tls),
        without_auth: config.without.contains(&Without::Authentication),
        ..ListenOptions::default()
    }
}

fn source(secret: &Secret, loaded: &Loaded) -> SecretSource {
    match secret {
        Secret::File(path) => SecretSource::File(loaded.folder.join(path)),
        Secret::Env(name) => SecretSource::Env(name.clone()),
    }
}

fn may(right: &Right) -> MayDo {
    match right {
        Right::Ingest => MayDo::Ingest,
        Right::Alert => MayDo::Alert,
        Right::Read => MayDo::Read,
        Right::Operate => MayDo::Operate,
    }
}

/// What the connector is set up with.
pub(crate) fn kafka_options(config: &KafkaConfig, loaded: &Loaded, dry_run: bool) -> KafkaOptions {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| loaded.folder.join(path));
    let sasl = config.sasl.as_ref().map(|sasl| KafkaSasl {
        mechanism: match sasl.mechanism {
            Mechanism::Plain => SaslMechanism::Plain,
            Mechanism::ScramSha256 => SaslMechanism::ScramSha256,
            Mechanism::ScramSha512 => SaslMechanism::ScramSha512,
        },
        user: sasl.user.clone(),
        password: source(&sasl.password, loaded),
    });
    KafkaOptions {
        brokers: config.brokers.clone(),
        topics: config.topics.clone(),
        // In the real run's group it would take partitions from it, and commit in its name what
        // nobody acted on.
        group: if dry_run {
            format!("{}-dry-run", config.group)
        } else {
            config.group.clone()
        },
        tls: config.tls.as_ref().map(|tls| KafkaTls {
            ca: path(&tls.ca),
            cert: path(&tls.cert),
            key: path(&tls.key),
            key_password: tls
                .key_password
                .as_ref()
                .map(|password| source(password, loaded)),
        }),
        sasl,
        receive_max_bytes: config.receive_max_bytes,
        librdkafka: config.librdkafka.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_dry_run_reads_in_a_group_of_its_own() {
        let config = config::parse("example.yaml", config::EXAMPLE).unwrap();
        let loaded = Loaded {
            config,
            folder: PathBuf::new(),
        };
        let kafka = loaded.config.kafka.as_ref().unwrap();
        let group = |dry_run| kafka_options(kafka, &loaded, dry_run).group;
        assert_eq!(group(false), "rhizome");
        assert_eq!(group(true), "rhizome-dry-run");
    }
}
