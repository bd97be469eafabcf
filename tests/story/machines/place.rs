//! Where everything is, how fast it goes, and what a worker is told at its first boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{LOAD, TOPIC};
use crate::world::{Pace, Place};

pub(super) fn place(
    env: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
    token: String,
) -> Place {
    Place {
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
        template: Some(template(&broker["also"])),
        broker: broker["plain"].clone(),
        topic: TOPIC.to_owned(),
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
        rung: rung(),
        poll: "2s",
        calm: "10s",
        settle: "30s",
        kafka_away: Duration::from_secs(120),
        quiet: Duration::from_secs(45),
    }
}

/// A reboot that helps has to be over by then, and one that does not is waited for in vain. Of the
/// courses that `cargo test` tells, one alone has a reboot, and it does not help; but a rung's time goes on while a restart of the
/// program makes its stop wait for sight (30 s here), so it has to be longer than that.
fn rung() -> &'static str {
    if std::env::var_os("RHIZOME_STORY").is_some() {
        "180s"
    } else {
        "60s"
    }
}

/// What is shipped, and collectd beside it: its heartbeat is the load, its cpu what it is told.
fn template(broker: &str) -> String {
    let files = format!(
        r#"- path: /usr/local/bin/story-load
  permissions: "0755"
  content: |
    #!/bin/sh
    while sleep 1; do
      read busy <{LOAD} || continue
      echo "PUTVAL \"$COLLECTD_HOSTNAME/cpu/percent-user\" interval=1 N:$busy"
      echo "PUTVAL \"$COLLECTD_HOSTNAME/cpu/percent-idle\" interval=1 N:$((100 - busy))"
    done
- path: /etc/collectd/collectd.conf
  content: |
    Hostname "<{{ node }}>"
    FQDNLookup false
    Interval 1
    LoadPlugin syslog
    LoadPlugin load
    LoadPlugin exec
    <Plugin exec>
      Exec "nobody" "/usr/local/bin/story-load"
    </Plugin>
    LoadPlugin write_kafka
    <Plugin write_kafka>
      Property "metadata.broker.list" "{broker}"
      Property "reconnect.backoff.max.ms" "1000"
      <Topic "{TOPIC}">
        Format JSON
      </Topic>
    </Plugin>
runcmd:
- [systemctl, enable, --now, --no-block, collectd]
"#
    );
    rhizome_actions::KUBEADM_JOIN.replace("runcmd:\n", &files)
}
