//! Where everything is, how fast it goes, and what a worker is told at its first boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::collectd::SOCKET;
use crate::world::{Pace, Place};

pub(super) fn place(
    env: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
    pool: String,
    token: String,
) -> Place {
    Place {
        cluster_name: format!("story-of-{pool}"),
        topic: pool.clone(),
        template: Some(template(&broker["also"], &pool)),
        pool,
        keystone: env["keystone"].clone(),
        login: format!(
            "application_credential: {{ id: {}, secret: {{ file: openstack-secret }} }}",
            env["credential_id"]
        ),
        secret: env["credential_secret"].clone(),
        cluster: format!("https://{}", env["endpoint"]),
        ca: Some(PathBuf::from(&env["ca"])),
        token,
        endpoint: env["endpoint"].clone(),
        pin: env["ca_hash"].clone(),
        image: env["image"].clone(),
        flavor: env["flavor_medium"].clone(),
        network: env["demo_network"].clone(),
        broker: broker["plain"].clone(),
    }
}

/// As on the stand-ins, but for machines that boot. Who is silent, and whose lease is overdue, is
/// as it is shipped: all of this shares two cores perhaps.
pub(super) fn pace() -> Pace {
    Pace {
        look: Duration::from_secs(1),
        window: "15s",
        hold: "5s",
        cooldown: "15s",
        silent: "30s",
        lease_grace: "40s",
        rung: "120s",
        rung_in_vain: "60s",
        poll: "2s",
        calm: "10s",
        settle: "30s",
        kafka_away: Duration::from_secs(120),
        quiet: Duration::from_secs(45),
    }
}

/// What is shipped, and collectd beside it: its heartbeat is the load, its cpu what is put into its
/// socket.
fn template(broker: &str, topic: &str) -> String {
    let files = format!(
        r#"- path: /etc/collectd/collectd.conf
  content: |
    Hostname "<{{ node }}>"
    FQDNLookup false
    Interval 1
    LoadPlugin syslog
    LoadPlugin load
    LoadPlugin unixsock
    <Plugin unixsock>
      SocketFile "{SOCKET}"
      SocketPerms "0600"
      DeleteSocket true
    </Plugin>
    LoadPlugin write_kafka
    <Plugin write_kafka>
      Property "metadata.broker.list" "{broker}"
      Property "reconnect.backoff.max.ms" "1000"
      <Topic "{topic}">
        Format JSON
      </Topic>
    </Plugin>
runcmd:
- [systemctl, enable, --now, --no-block, collectd]
"#
    );
    rhizome_actions::KUBEADM_JOIN.replace("runcmd:\n", &files)
}
