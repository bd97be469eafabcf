//! The files of a site: configuration, policies, secrets.

use std::path::Path;

use rhizome_standin::{Options, Standin};

use super::POOL;

/// What sites differ in.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The policies: name and text.
    pub(crate) policies: Vec<(&'static str, String)>,
    /// Whether it knows `agents`, `alerts`, `readers` and `operators` by a token each.
    pub(crate) tokens: bool,
    /// How long a decision is good for, and how long a pool is left alone after a failure.
    pub(crate) decision_expiry: &'static str,
    /// Whether it looks for a pause in the file `pause` and in the ConfigMap `rhizome/rhizome-pause`.
    pub(crate) pause: bool,
    /// How long a VM may take to run and have an address.
    pub(crate) build_timeout: &'static str,
}

/// A policy that never has a reason to act: what happens is the operator's.
pub(crate) const IDLE: &str = "scale_up(\"workers\")\n    .when(mean(\"cpu\", \"2s\") > 0.99)\n    .for_at_least(\"2s\")\n    .cooldown(\"5m\");\n";

impl Default for Setup {
    fn default() -> Self {
        Self {
            min: 1,
            max: 3,
            policies: vec![("idle.rhai", IDLE.to_owned())],
            tokens: false,
            decision_expiry: "2m",
            pause: false,
            build_timeout: "20m",
        }
    }
}

impl Setup {
    /// The token of that name, if tokens are asked for.
    pub(super) fn token(&self, name: &str) -> Option<String> {
        self.tokens.then(|| token(name))
    }
}

/// The secret of a token of that name.
pub(crate) fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

/// Gives a text its name once it is whole.
pub(super) fn put(path: &Path, text: &str) {
    let mut beside = path.to_owned();
    beside.set_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

pub(super) fn write(folder: &Path, setup: &Setup, standin: &Standin, webhook: &str) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    std::fs::create_dir(folder.join("policies")).unwrap();
    for (name, text) in &setup.policies {
        write(&format!("policies/{name}"), text);
    }
    let credentials = standin.credentials();
    write("openstack-password", &credentials.password);
    write("kubeconfig", &kubeconfig(standin));
    for name in ["agents", "alerts", "readers", "operators"] {
        write(&format!("{name}.token"), &token(name));
    }
    write("rhizome.yaml", &configuration(setup, standin, webhook));
}

fn kubeconfig(standin: &Standin) -> String {
    let (cluster, token) = (
        standin.kubernetes_url(),
        &standin.credentials().kubernetes_token,
    );
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"{cluster}\"}}}}]\n\
         users: [{{name: test, user: {{token: {token}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}

fn configuration(setup: &Setup, standin: &Standin, webhook: &str) -> String {
    let options = Options::default();
    let image = options.images.keys().next().unwrap();
    let network = options.networks.first().unwrap();
    let credentials = standin.credentials();
    let cluster = standin.kubernetes_url();
    let endpoint = cluster.trim_start_matches("http://");
    let pin = format!("sha256:{}", "0".repeat(64));
    let (min, max) = (setup.min, setup.max);
    let tokens = if setup.tokens {
        "\x20 tokens:\n\
         \x20   - { name: agents, token: { file: agents.token }, may: [ingest] }\n\
         \x20   - { name: alerts, token: { file: alerts.token }, may: [alert] }\n\
         \x20   - { name: readers, token: { file: readers.token }, may: [read] }\n\
         \x20   - { name: operators, token: { file: operators.token }, may: [operate] }\n"
    } else {
        ""
    };
    let pause = if setup.pause {
        "pause: { file: pause, config_map: rhizome/rhizome-pause }\n"
    } else {
        ""
    };
    format!(
        r#"cluster: test
state: state
policies: policies
pools:
  {POOL}:
    min: {min}
    max: {max}
    image: {image}
    flavor: "3"
    networks: [{network}]
    labels: {{ example.org/pool: {POOL} }}
    build_timeout: {build}
listen:
  address: "127.0.0.1:0"
{tokens}openstack:
  auth_url: {keystone}/v3
  password: {{ user: {user}, password: {{ file: openstack-password }}, project: {project} }}
  poll: 1s
kubernetes:
  kubeconfig: kubeconfig
  join: {{ endpoint: "{endpoint}", ca_cert_hashes: ["{pin}"] }}
limits:
  # The waits of a real cloud, at the pace of a stand-in; the caps, for one test's removals.
  override:
    settle: 3s
    settle_again: 1s
    inventory_confirm: 1s
    lease_grace: 2s
    sight_hold: 1s
    storm_cooldown: 1s
    storm_share: 1.0
    budget_share: 1.0
    removals_per_minute_pool: 1000
    removals_per_ten_minutes: 1000
    decision_expiry: {expiry}
notifications: {{ webhook: "{webhook}" }}
{pause}log: {{ level: info, format: json }}
"#,
        keystone = standin.openstack_url(),
        expiry = setup.decision_expiry,
        build = setup.build_timeout,
        user = credentials.username,
        project = credentials.project,
    )
}
