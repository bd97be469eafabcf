//! The stage: an embedded broker, stand-ins, agents, and the program started from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rhizome_engine::journal::Record;
use rhizome_engine::status::Status;
use rhizome_engine::time::Clock;
use rhizome_standin::{Cure, Illness, Options as StandinOptions, Standin};

use crate::config::{self, ConfigError};
use crate::run::{Options, Program, StartError};
use crate::standin::publish;

/// The topic of the demo's metrics.
const TOPIC: &str = "metrics";

/// Partitions of it: enough to see that records of all of them meet.
const PARTITIONS: i32 = 4;

/// The one broker of the embedded cluster.
const BROKER: i32 = 1;

const SCALE: &str = include_str!("policies/scale.rhai");
const HEAL: &str = include_str!("policies/heal.rhai");

/// Why the stage cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No folder, or no port.
    #[error("the demo's files or ports cannot be had")]
    Io(#[from] std::io::Error),
    /// No embedded broker.
    #[error("the embedded broker does not start: {0}")]
    Kafka(#[from] KafkaError),
    /// The configuration that the demo writes.
    #[error("the demo's configuration is refused:\n{0}")]
    Config(#[from] ConfigError),
    /// The program.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Everything that runs.
pub(super) struct Stage {
    program: Program,
    standin: Standin,
    kafka: MockCluster<'static, DefaultProducerContext>,
    folder: Folder,
}

/// A folder of our own, gone with the demo.
struct Folder(PathBuf);

impl Stage {
    /// Sets everything up; what the program journals comes out of the receiver.
    pub(super) async fn set_up(
        policies: Option<&Path>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Receiver<Record>), StageError> {
        let folder = Folder::new()?;
        let kafka = MockCluster::new(1)?;
        kafka.create_topic(TOPIC, PARTITIONS, 1)?;
        let standin = Standin::start(StandinOptions::default(), Arc::clone(clock)).await?;
        publish(
            &standin,
            &kafka.bootstrap_servers(),
            TOPIC,
            Arc::clone(clock),
        )?;
        write_files(&folder.0, policies, &standin, &kafka.bootstrap_servers())?;
        let loaded = config::load(&folder.0.join("rhizome.yaml"))?;
        let (tell, told) = channel();
        let options = Options {
            dry_run: false,
            clock: Arc::clone(clock),
            told: vec![Box::new(move |record: &Record| {
                // The demo may be over already.
                let _ = tell.send(record.clone());
            })],
        };
        let program = Program::start(&loaded, options).await?;
        let stage = Self {
            program,
            standin,
            kafka,
            folder,
        };
        Ok((stage, told))
    }

    /// Sets how many cores the work keeps busy.
    pub(super) fn set_demand(&self, cores: f64) {
        self.standin.world(|world| world.set_demand(cores));
    }

    /// Pulls the plug of a node for good. Says which.
    pub(super) fn kill_one(&self) -> Option<String> {
        self.standin.world(|world| {
            let node = world
                .guests
                .iter()
                .filter(|guest| guest.agent_speaks())
                .map(|guest| guest.node.clone())
                .min()?;
            world
                .fall_ill(&node, Illness::Hung, Cure::Nothing)
                .then_some(node)
        })
    }

    /// Stalls the broker, or lets it go on.
    pub(super) fn stall(&self, stalled: bool) {
        let switched = if stalled {
            self.kafka.broker_down(BROKER)
        } else {
            self.kafka.broker_up(BROKER)
        };
        if let Err(error) = switched {
            tracing::warn!(%error, "the embedded broker does not follow");
        }
    }

    /// What the program shows of itself.
    pub(super) async fn status(&self) -> Option<Status> {
        self.program.handle().status().await.ok()
    }

    /// Stops everything.
    pub(super) async fn take_down(self) {
        self.program.stop().await;
        self.standin.stop().await;
        drop(self.folder);
    }
}

fn write_files(
    folder: &Path,
    policies: Option<&Path>,
    standin: &Standin,
    brokers: &str,
) -> std::io::Result<()> {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    std::fs::create_dir_all(folder.join("policies"))?;
    match policies {
        Some(own) => {
            for entry in std::fs::read_dir(own)? {
                let path = entry?.path();
                if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                    std::fs::copy(&path, folder.join("policies").join(name))?;
                }
            }
        }
        None => {
            write("policies/scale.rhai", SCALE)?;
            write("policies/heal.rhai", HEAL)?;
        }
    }
    let credentials = standin.credentials();
    write("openstack-password", &credentials.password)?;
    let cluster = standin.kubernetes_url();
    write(
        "kubeconfig",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: demo\n\
             clusters: [{{name: demo, cluster: {{server: \"{cluster}\"}}}}]\n\
             users: [{{name: demo, user: {{token: {}}}}}]\n\
             contexts: [{{name: demo, context: {{cluster: demo, user: demo}}}}]\n",
            credentials.kubernetes_token
        ),
    )?;
    let options = StandinOptions::default();
    let image = options.images.keys().next().cloned().unwrap_or_default();
    let network = options.networks.first().cloned().unwrap_or_default();
    let endpoint = cluster.trim_start_matches("http://");
    let pin = format!("sha256:{}", "0".repeat(64));
    write(
        "rhizome.yaml",
        &format!(
            "cluster: demo\n\
             state: state\n\
             policies: policies\n\
             pools:\n\
            \x20 workers:\n\
            \x20   min: 2\n\
            \x20   max: 4\n\
            \x20   image: {image}\n\
            \x20   flavor: \"3\"\n\
            \x20   networks: [{network}]\n\
             kafka:\n\
            \x20 brokers: [\"{brokers}\"]\n\
            \x20 topics: [{TOPIC}]\n\
            \x20 group: rhizome-demo\n\
            \x20 librdkafka: {{ fetch.wait.max.ms: \"10\" }}\n\
             listen: {{ address: \"127.0.0.1:0\" }}\n\
             openstack:\n\
            \x20 auth_url: {}/v3\n\
            \x20 password: {{ user: {}, password: {{ file: openstack-password }}, project: {} }}\n\
             kubernetes:\n\
            \x20 kubeconfig: kubeconfig\n\
            \x20 join: {{ endpoint: \"{endpoint}\", ca_cert_hashes: [\"{pin}\"] }}\n",
            standin.openstack_url(),
            credentials.username,
            credentials.project,
        ),
    )
}

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("rhizome-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
