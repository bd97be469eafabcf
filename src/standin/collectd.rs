//! A machine's metrics agent: a real collectd, told by its socket how busy the machine is.
//!
//! Containers share the figures of their host's processor, so collectd's own would be those of
//! whoever watches. The stand-in says what the work weighs instead, and collectd sends that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::StandinError;

/// How often it sends, in seconds.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// How long its socket may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running collectd. Dropped, it is killed.
pub(super) struct Collectd {
    child: Child,
    node: String,
    socket: PathBuf,
}

impl Collectd {
    /// Starts the collectd of a node, which publishes to a topic.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        node: &str,
        brokers: &str,
        topic: &str,
    ) -> Result<Self, StandinError> {
        let socket = folder.join("collectd.sock");
        let file = folder.join("collectd.conf");
        let _ = std::fs::remove_file(&socket);
        std::fs::write(&file, configuration(folder, node, brokers, topic))
            .map_err(StandinError::io(format!("`{}`", file.display())))?;
        let child = Command::new(program)
            .arg("-f")
            .arg("-C")
            .arg(&file)
            .kill_on_drop(true)
            .spawn()
            .map_err(StandinError::io(format!("`{}`", program.display())))?;
        Ok(Self {
            child,
            node: node.to_owned(),
            socket,
        })
    }

    /// Whether it runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it how busy the machine is, as ratios.
    pub(super) async fn tell(&self, cpu: f64, memory: f64) {
        let told = tokio::time::timeout(PATIENCE, self.put(cpu, memory)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(node = self.node, "collectd does not listen yet");
        }
    }

    async fn put(&self, cpu: f64, memory: f64) -> std::io::Result<()> {
        let mut socket = UnixStream::connect(&self.socket).await?;
        let (node, interval) = (&self.node, INTERVAL.as_secs());
        let mut lines = String::new();
        for (name, value) in [
            ("cpu/percent-user", cpu * 100.0),
            ("cpu/percent-idle", 100.0 - cpu * 100.0),
            ("memory/percent-used", memory * 100.0),
        ] {
            lines.push_str(&format!(
                "PUTVAL \"{node}/{name}\" interval={interval} N:{value:.2}\n"
            ));
        }
        socket.write_all(lines.as_bytes()).await?;
        socket.shutdown().await?;
        // It answers each line; with the answers read, all of them were taken.
        let mut answers = Vec::new();
        socket.read_to_end(&mut answers).await?;
        Ok(())
    }
}

fn configuration(folder: &Path, node: &str, brokers: &str, topic: &str) -> String {
    let folder = folder.display();
    let interval = INTERVAL.as_secs();
    format!(
        r#"Hostname "{node}"
FQDNLookup false
Interval {interval}
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
PluginDir "/usr/lib/collectd"
TypesDB "/usr/share/collectd/types.db"
LoadPlugin load
LoadPlugin unixsock
<Plugin unixsock>
  SocketFile "{folder}/collectd.sock"
  SocketPerms "0600"
  DeleteSocket true
</Plugin>
LoadPlugin write_kafka
<Plugin write_kafka>
  Property "metadata.broker.list" "{brokers}"
  <Topic "{topic}">
    Format JSON
    Key "{node}"
  </Topic>
</Plugin>
"#
    )
}
