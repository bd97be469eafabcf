//! The program as its operators have it: a folder with its configuration and policies, the real
//! binary started from it, its API and its journal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, MutexGuard, PoisonError};

use rhizome::api::StatusReport;
use rhizome::journal::{FILE, format};
use rhizome_engine::journal::Record;
use tokio::runtime::Runtime;

use crate::forks;
use crate::program::Running;
use crate::stage::Ladder;
use crate::trap::{Program, Trap};
use crate::world::{Pace, Place};

/// The bounds of the pool.
pub(crate) const MIN: usize = 2;
pub(crate) const MAX: usize = 3;

/// The program's lines that are told when the story does not go on.
const TAIL: usize = 60;

/// A folder, and the program that runs on it.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pool: String,
    runtime: Runtime,
    http: reqwest::Client,
    program: Program,
}

impl Site {
    /// Writes the files. Nothing runs yet.
    pub(crate) fn new(place: &Place, pace: &Pace, ladder: Ladder) -> Self {
        rhizome_actions::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), place, pace, ladder);
        Self {
            folder,
            pool: place.pool.clone(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            http: reqwest::Client::builder()
                .timeout(std::time::Duration::from_secs(10))
                .build()
                .unwrap(),
            program: Program::default(),
        }
    }

    /// Starts the binary.
    pub(crate) fn start(&mut self) {
        assert!(!self.runs(), "it runs already");
        let running = forks::begin(|| Running::start(self.folder.path(), &[]));
        *self.running() = Some(running);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let running = self.running().take();
        running.unwrap().kill();
    }

    /// SIGKILL by itself, once so many records are in the journal.
    pub(crate) fn kill_after(&self, records: usize) -> Trap {
        Trap::set(Arc::clone(&self.program), self.journal(), records)
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let running = self.running().take();
        running.unwrap().terminate()
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.running().is_some()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    fn server(&self) -> Option<String> {
        self.running()
            .as_ref()
            .map(|running| running.server.clone())
    }

    /// What the program shows of itself, if it answers.
    pub(crate) fn status(&self) -> Option<StatusReport> {
        let url = format!("{}/v1/status", self.server()?);
        self.runtime.block_on(async {
            let answer = self.http.get(url).send().await.ok()?;
            let body = answer.text().await.ok()?;
            serde_json::from_str(&body).ok()
        })
    }

    /// Runs a command against the program: its exit code, and all that it says.
    pub(crate) fn rhizome(&self, arguments: &[&str]) -> (i32, String) {
        let mut rhizome = Command::new(env!("CARGO_BIN_EXE_rhizome"));
        rhizome
            .args(arguments)
            .env("RHIZOME_SERVER", self.server().unwrap_or_default())
            .env("USER", "ann")
            .env_remove("RHIZOME_TOKEN_FILE");
        let output = forks::output(&mut rhizome).unwrap();
        let bytes = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// `rhizome journal verify`: what is wrong with the journal.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let path = self.journal();
        match self.rhizome(&["journal", "verify", &path.to_string_lossy()]) {
            (0, _) => Ok(()),
            (_, text) => Err(text),
        }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("state").join(FILE)
    }

    /// The journal's records as they are on the disk now; a torn end is left out.
    pub(crate) fn records(&self) -> Vec<Record> {
        let bytes = std::fs::read(self.journal()).unwrap_or_default();
        format::read(&bytes).map_or_else(|_| Vec::new(), |contents| contents.records)
    }

    /// How many there are, cheaply.
    pub(crate) fn record_count(&self) -> usize {
        count_records(&self.journal())
    }

    /// What an operator would look at when nothing goes on.
    pub(crate) fn tell(&self) -> String {
        let log = self.folder.path().join(crate::program::LOG);
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let tail = |lines: Vec<String>| {
            let from = lines.len().saturating_sub(TAIL);
            lines[from..].join("\n")
        };
        let log = tail(log.lines().map(str::to_owned).collect());
        let records = self.records();
        let records = records.iter().filter_map(|record| {
            let text = serde_json::to_string(record).ok()?;
            Some(text.chars().take(600).collect())
        });
        let mut why = String::new();
        if self.runs() {
            why = self.rhizome(&["why", &self.pool, "--pool"]).1;
            for node in self.status().iter().flat_map(|status| &status.engine.pools) {
                for node in &node.nodes {
                    why.push_str(&self.rhizome(&["why", node.name.as_str()]).1);
                }
            }
        }
        format!(
            "---- all of it in {}\n---- status\n{:#?}\n---- why\n{why}\n---- journal\n{}\n---- log\n{log}",
            self.folder.path().display(),
            self.status(),
            tail(records.collect())
        )
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let running = self.running().take();
        if let Some(running) = running {
            running.kill();
        }
        if std::thread::panicking() {
            // Whoever looks for the reason wants all of it.
            self.folder.disable_cleanup(true);
        }
    }
}

/// How many records a journal has: a line each after the first.
pub(crate) fn count_records(journal: &Path) -> usize {
    let bytes = std::fs::read(journal).unwrap_or_default();
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    lines.saturating_sub(1)
}

fn write(folder: &Path, place: &Place, pace: &Pace, ladder: Ladder) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    std::fs::create_dir(folder.join("policies")).unwrap();
    write("policies/story.rhai", &policy(&place.pool, pace, ladder));
    write("openstack-secret", &place.secret);
    write("kubeconfig", &kubeconfig(place));
    if let Some(template) = &place.template {
        write("user-data.yaml", template);
    }
    write(
        "rhizome.yaml",
        &configuration(place, pace, ladder.timeout(pace)),
    );
}

/// What the operators want: usage near 60 %, and whoever falls silent healed by the ladder.
fn policy(pool: &str, pace: &Pace, ladder: Ladder) -> String {
    let Pace {
        window,
        hold,
        cooldown,
        silent,
        ..
    } = pace;
    let rungs = ladder.rungs();
    format!(
        r#"scale_up("{pool}")
    .when(mean("cpu", "{window}") > 0.75)
    .for_at_least("{hold}")
    .cooldown("{cooldown}")
    .then(|pool| pool.resize_to(pool.target("cpu", "{window}", 0.60), "busy"));

scale_down("{pool}")
    .when(mean("cpu", "{window}") < 0.33 and covered("cpu", "{window}") and fits_on_fewer())
    .for_at_least("{hold}")
    .cooldown("{cooldown}");

heal("{pool}")
    .when(silent("{silent}"))
    .ladder({rungs});
"#
    )
}

fn kubeconfig(place: &Place) -> String {
    let ca = place.ca.as_ref().map_or_else(String::new, |ca| {
        format!(", certificate-authority: \"{}\"", ca.display())
    });
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: story\n\
         clusters: [{{name: story, cluster: {{server: \"{}\"{ca}}}}}]\n\
         users: [{{name: story, user: {{token: {}}}}}]\n\
         contexts: [{{name: story, context: {{cluster: story, user: story}}}}]\n",
        place.cluster, place.token
    )
}

fn configuration(place: &Place, pace: &Pace, rung: &str) -> String {
    let template = place
        .template
        .as_ref()
        .map_or("", |_| "\n    user_data: user-data.yaml");
    let Pace {
        lease_grace,
        poll,
        calm,
        settle,
        hold,
        ..
    } = pace;
    let Place {
        pool,
        cluster_name,
        image,
        flavor,
        network,
        broker,
        topic,
        keystone,
        login,
        endpoint,
        pin,
        ..
    } = place;
    format!(
        r#"cluster: {cluster_name}
state: state
policies: policies
pools:
  {pool}:
    min: {MIN}
    max: {MAX}
    image: "{image}"
    flavor: "{flavor}"
    networks: ["{network}"]
    labels: {{ example.org/pool: {pool} }}
    rung_timeout: {rung}
    stabilization: {hold}{template}
kafka:
  brokers: ["{broker}"]
  topics: ["{topic}"]
  group: {cluster_name}
listen:
  address: "127.0.0.1:0"
openstack:
  auth_url: {keystone}
  {login}
  poll: {poll}
kubernetes:
  kubeconfig: kubeconfig
  join: {{ endpoint: "{endpoint}", ca_cert_hashes: ["{pin}"] }}
limits:
  # The waits for a cloud of production, at the pace of this one; and the caps, for a story that
  # takes more machines away than a day of production does.
  override:
    settle: {settle}
    settle_again: {calm}
    inventory_confirm: {calm}
    lease_grace: {lease_grace}
    sight_hold: {calm}
    storm_cooldown: {calm}
    removals_per_minute_pool: 1000
    removals_per_ten_minutes: 1000
log: {{ level: info, format: json }}
"#
    )
}
