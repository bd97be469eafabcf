//! A machine in a container: it asks the stand-in cloud each second what it is, and is that.
//!
//! ```text
//!   nothing ──▶ a server boots on it ──▶ collectd starts, the kubelet joins ──▶ it serves
//!      ▲                                                                          │
//!      └────────────── the server was deleted, or has lost its power ◀────────────┘
//! ```
//!
//! Killed, it is a machine whose plug was pulled: node lease and metrics fall silent at once, and
//! the cloud knows of nothing. What it has on its disk, its certificate, is kept by the cloud, so a
//! container that is started again soon is a machine that was rebooted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhizome_standin::kubelet::{Join, JoinError, Kubelet};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::StandinError;
use super::collectd::{Collectd, INTERVAL};

/// How often it asks what it is.
const ASK: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after a failure it tries again to join.
const AGAIN: Duration = Duration::from_secs(3);

/// What can be said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct GuestArgs {
    /// What this machine's host is called
    #[arg(long, env = "HOSTNAME")]
    pub name: String,
    /// The stand-in cloud
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    pub cloud: String,
    /// The stand-in cluster
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub kubernetes: String,
    /// Where its agent publishes
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// The topic that it publishes to
    #[arg(long, default_value = "metrics")]
    pub topic: String,
    /// The agent
    #[arg(long, default_value = "/usr/sbin/collectd")]
    pub collectd: PathBuf,
    /// A folder for the agent's files
    #[arg(long, default_value = "/tmp")]
    pub folder: PathBuf,
}

/// What the cloud says that this is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Shown {
    server: Option<String>,
    /// None while it has no power.
    boot: Option<u32>,
    disk: u64,
    node: String,
    provider_id: String,
    token: Option<String>,
    certificate: Option<String>,
    cpu: f64,
    memory: f64,
}

/// The machine while it runs.
struct Running {
    shown: Shown,
    collectd: Collectd,
    kubelet: JoinHandle<()>,
    /// What is on its disk.
    certificate: Arc<Mutex<Option<String>>>,
    told: Option<Instant>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

/// Plays the machine until `stopped`.
///
/// # Errors
///
/// Returns why it cannot be played.
pub async fn play(args: &GuestArgs, stopped: impl Future<Output = ()>) -> Result<(), StandinError> {
    let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let mut running: Option<Running> = None;
    let mut turns = tokio::time::interval(ASK);
    let mut reached = true;
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(()),
            _ = turns.tick() => {}
        }
        match ask(&http, args, running.as_ref()).await {
            Ok(shown) => {
                reached = true;
                turn(args, &mut running, shown).await?;
            }
            // A machine goes on when it cannot reach the cloud.
            Err(error) if reached => {
                reached = false;
                tracing::warn!(%error, cloud = args.cloud, "the cloud does not answer");
            }
            Err(_) => {}
        }
    }
}

async fn ask(
    http: &reqwest::Client,
    args: &GuestArgs,
    running: Option<&Running>,
) -> Result<Shown, reqwest::Error> {
    let said = match running {
        Some(running) => serde_json::json!({
            "server": running.shown.server, "disk": running.shown.disk,
            "certificate": *running.certificate.lock().unwrap_or_else(PoisonError::into_inner),
        }),
        None => serde_json::json!({}),
    };
    let url = format!("{}/hosts/{}", args.cloud, args.name);
    let answer = http.post(url).json(&said).send().await?;
    answer.error_for_status()?.json().await
}

/// Follows what the cloud says: starts, goes on, or stops.
async fn turn(
    args: &GuestArgs,
    running: &mut Option<Running>,
    shown: Shown,
) -> Result<(), StandinError> {
    let same = running.as_ref().is_some_and(|running| {
        let was = &running.shown;
        (&was.server, was.boot, was.disk) == (&shown.server, shown.boot, shown.disk)
    });
    if !same {
        if let Some(off) = running.take() {
            tracing::info!(node = off.shown.node, "{} is off", args.name);
        }
        if shown.server.is_some() && shown.boot.is_some() {
            tracing::info!(node = shown.node, "{} is up", args.name);
            *running = Some(Running::start(args, shown.clone())?);
        }
    }
    if let Some(running) = running {
        running.go_on(args, &shown).await?;
    }
    Ok(())
}

impl Running {
    fn start(args: &GuestArgs, shown: Shown) -> Result<Self, StandinError> {
        let certificate = Arc::new(Mutex::new(shown.certificate.clone()));
        let join = Join {
            endpoint: args.kubernetes.clone(),
            token: shown.token.clone().unwrap_or_default(),
            ca_cert_hashes: Vec::new(),
            node: shown.node.clone(),
            provider_id: shown.provider_id.clone(),
        };
        let kubelet = tokio::spawn(live(join, Arc::clone(&certificate)));
        Ok(Self {
            collectd: agent(args, &shown.node)?,
            shown,
            kubelet,
            certificate,
            told: None,
        })
    }

    async fn go_on(&mut self, args: &GuestArgs, shown: &Shown) -> Result<(), StandinError> {
        if !self.collectd.runs() {
            tracing::warn!(
                node = self.shown.node,
                "collectd has ended: it is started again"
            );
            self.collectd = agent(args, &self.shown.node)?;
        }
        if self.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
            self.told = Some(Instant::now());
            self.collectd.tell(shown.cpu, shown.memory).await;
        }
        Ok(())
    }
}

fn agent(args: &GuestArgs, node: &str) -> Result<Collectd, StandinError> {
    Collectd::start(
        &args.collectd,
        &args.folder,
        node,
        &args.brokers,
        &args.topic,
    )
}

/// Joins, and lives until it is aborted.
async fn live(join: Join, disk: Arc<Mutex<Option<String>>>) {
    loop {
        let held = disk.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match Kubelet::join_stand_in(&join, held).await {
            Ok((kubelet, certificate)) => {
                *disk.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
                tracing::info!(node = join.node, "joined the cluster");
                std::future::pending::<()>().await;
                drop(kubelet);
            }
            // Whoever decides on machines has to see that this one is none.
            Err(error @ (JoinError::Denied | JoinError::NameTaken(_))) => {
                tracing::warn!(%error, node = join.node, "it does not join");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, node = join.node, "it has not joined yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
