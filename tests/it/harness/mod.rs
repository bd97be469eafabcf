//! A site to try the program at: stand-ins, agents that post to the collector, a configuration
//! file, and the real binary as a child that can be stopped, killed and started again.
//!
//! Everything goes at the pace of the wall, since the binary does: the stand-ins are quick
//! instead, and the guard's waits are made short under `limits.override`, as an operator could.
//! Tests wait for states, never for times.

mod accounts;
mod files;
mod program;
mod webhook;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rhizome::api::StatusReport;
use rhizome::clock::RealClock;
use rhizome::journal::FILE;
use rhizome::journal::format;
use rhizome_engine::journal::Record;
use rhizome_engine::status::{NodeStatus, PoolStatus};
use rhizome_engine::time::{Clock, Monotonic};
use rhizome_standin::checker::{Bounds, at_the_end};
use rhizome_standin::{Options, Standin};
use tokio::runtime::Runtime;

pub(crate) use files::{IDLE, Setup, token};
use program::Running;
use webhook::Webhook;

/// The one pool of every site.
pub(crate) const POOL: &str = "workers";

/// How long anything is waited for. Whole courses take seconds; a machine that builds and runs
/// other tests meanwhile gets more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often each agent speaks.
const BEAT: Duration = Duration::from_millis(500);

/// Stand-ins and a program.
pub(crate) struct Site {
    pub(crate) standin: Standin,
    folder: tempfile::TempDir,
    runtime: Runtime,
    http: reqwest::Client,
    running: Option<Running>,
    webhook: Webhook,
    /// Where the agents post; nowhere while the program is down.
    collector: Arc<Mutex<Option<Collector>>>,
    setup: Setup,
}

/// Where agents post, and the token that they show.
#[derive(Debug, Clone)]
struct Collector {
    url: String,
    token: Option<String>,
}

impl Site {
    /// Sets the stand-ins and the files up. Nothing of Rhizome runs yet.
    pub(crate) fn new(setup: Setup) -> Self {
        rhizome_actions::install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let standin = runtime.block_on(Standin::start(quick(), clock())).unwrap();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let collector = Arc::default();
        speak(&standin, &runtime, &http, &collector);
        let webhook = runtime.block_on(Webhook::start());
        let folder = tempfile::tempdir().unwrap();
        files::write(folder.path(), &setup, &standin, &webhook.url);
        Self {
            standin,
            folder,
            runtime,
            http,
            running: None,
            webhook,
            collector,
            setup,
        }
    }

    /// The same with the program running, and its pool at its minimum.
    pub(crate) fn settled(setup: Setup) -> Self {
        let mut site = Self::new(setup);
        site.start(&[]);
        site.wait_settled(site.setup.min);
        site
    }

    /// Starts the binary and waits until it is ready.
    pub(crate) fn start(&mut self, more: &[&str]) {
        assert!(self.running.is_none(), "it runs already");
        let running = Running::start(self.folder.path(), more);
        *lock(&self.collector) = Some(Collector {
            url: format!("{}/v1/events", running.server),
            token: self.setup.token("agents"),
        });
        self.running = Some(running);
        self.wait("the program to be ready", |site| {
            (site.get("/readyz", None).0 == 200).then_some(())
        });
    }

    /// SIGKILL, and everything the process held is gone.
    pub(crate) fn kill(&mut self) {
        *lock(&self.collector) = None;
        self.running.take().unwrap().kill();
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        *lock(&self.collector) = None;
        self.running.take().unwrap().terminate()
    }

    /// Where the running program listens.
    pub(crate) fn server(&self) -> String {
        self.running.as_ref().unwrap().server.clone()
    }

    /// A file of the site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside and gives it its name, as an editor or a deployment does.
    pub(crate) fn put(&self, name: &str, text: &str) {
        files::put(&self.path(name), text);
    }

    /// Everything that the program logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path(program::LOG)).unwrap_or_default()
    }

    /// Every notification that was posted, in its order.
    pub(crate) fn posts(&self) -> Vec<serde_json::Value> {
        self.webhook.posts()
    }

    /// Whether the webhook answers what is posted from now on.
    pub(crate) fn webhook_answers(&self, answers: bool) {
        self.webhook.answers(answers);
    }

    /// Runs a command against the program.
    pub(crate) fn rhizome(&self, arguments: &[&str]) -> Output {
        self.command(arguments, &self.server()).output().unwrap()
    }

    /// The command, to be run beside.
    pub(crate) fn command(&self, arguments: &[&str], server: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
        command
            .args(arguments)
            .env("RHIZOME_SERVER", server)
            .env("USER", "ann")
            .env_remove("RHIZOME_TOKEN_FILE");
        command
    }

    /// Runs an order that must be granted; gives what it says.
    pub(crate) fn order(&self, arguments: &[&str]) -> String {
        let (code, text) = said(&self.rhizome(arguments));
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    /// Asks the program over HTTP; gives the code and the body. Code 0 is no answer.
    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        self.send(self.http.get(self.url(path)), token)
    }

    /// The same with a body.
    pub(crate) fn post(&self, path: &str, body: &str, token: Option<&str>) -> (u16, String) {
        self.send(self.http.post(self.url(path)).body(body.to_owned()), token)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server())
    }

    fn send(&self, mut request: reqwest::RequestBuilder, token: Option<&str>) -> (u16, String) {
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.runtime.block_on(async {
            match request.send().await {
                Ok(answer) => (
                    answer.status().as_u16(),
                    answer.text().await.unwrap_or_default(),
                ),
                Err(error) => (0, error.to_string()),
            }
        })
    }

    /// `/v1/status`, if the program answers.
    pub(crate) fn try_status(&self) -> Option<StatusReport> {
        let (_, body) = self.get("/v1/status", self.setup.token("readers").as_deref());
        serde_json::from_str(&body).ok()
    }

    pub(crate) fn status(&self) -> StatusReport {
        self.wait("status", Self::try_status)
    }

    pub(crate) fn pool(&self) -> PoolStatus {
        self.status().engine.pools.remove(0)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeStatus> {
        self.pool().nodes
    }

    /// The journal's records as they are on the disk now; a torn end is left out.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records_in("state")
    }

    /// The same of another folder.
    pub(crate) fn records_in(&self, folder: &str) -> Vec<Record> {
        let path = self.path(folder).join(FILE);
        let bytes = std::fs::read(path).unwrap_or_default();
        format::read(&bytes).map_or_else(|_| Vec::new(), |contents| contents.records)
    }

    /// How many there are, cheaply: a line each after the first.
    pub(crate) fn record_count(&self) -> usize {
        let path = self.path("state").join(FILE);
        let bytes = std::fs::read(path).unwrap_or_default();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        lines.saturating_sub(1)
    }

    /// Looks until there is something, and fails with what is known when that takes too long.
    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut(&Self) -> Option<T>) -> T {
        self.wait_each(LOOK, what, look)
    }

    /// The same, looking as often as is said.
    pub(crate) fn wait_each<T>(
        &self,
        often: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let clock = RealClock::new();
        let began = clock.now().mono;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if passed(&clock, began) > PATIENCE {
                let status = self.running.as_ref().and_then(|_| self.try_status());
                let log = self.log();
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                panic!(
                    "waited in vain for {what}: {status:#?}\n{}",
                    tail.join("\n")
                );
            }
            std::thread::sleep(often);
        }
    }

    /// Waits until so many machines serve and nothing is under way or left behind.
    pub(crate) fn wait_settled(&self, size: usize) {
        let bounds = self.bounds();
        self.wait(&format!("{size} machines and nothing else"), |site| {
            let (servers, broken) = site
                .standin
                .world(|world| (world.cloud.servers.len(), at_the_end(world, &bounds)));
            if servers != size || !broken.is_empty() {
                return None;
            }
            let status = site.try_status()?.engine;
            let pool = status.pools.first()?;
            let wanted = u32::try_from(size).ok()?;
            (status.operations.is_empty() && pool.size == wanted && pool.ready == wanted)
                .then_some(())
        });
        self.assert_clean();
    }

    /// Every invariant of the stand-ins' checker, as once everything is over.
    pub(crate) fn assert_clean(&self) {
        let bounds = self.bounds();
        let broken = self.standin.world(|world| at_the_end(world, &bounds));
        let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// What the journal and the ledger do not agree on, once everything is over.
    pub(crate) fn unaccounted(&self) -> Vec<String> {
        let records = self.records();
        self.standin
            .world(|world| accounts::unaccounted(&records, &world.ledger))
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            most: BTreeMap::from([(POOL.to_owned(), self.setup.max + 1)]),
            // The caps are taken off in the configuration: one site sees many removals.
            velocity: Vec::new(),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }
}

/// A command's exit code, and everything that it said.
pub(crate) fn said(output: &Output) -> (i32, String) {
    let bytes = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// `rhizome journal verify` of a folder's journal: the exit code and what it says.
pub(crate) fn verify(state: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rhizome"))
        .args(["journal", "verify"])
        .arg(state.join(FILE))
        .output()
        .unwrap();
    said(&output)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock::new())
}

fn passed(clock: &RealClock, since: Monotonic) -> Duration {
    clock.now().mono.since(since)
}

/// Stand-ins whose machines are there within a second.
fn quick() -> Options {
    let millis = Duration::from_millis;
    Options {
        build_time: millis(300),
        action_time: millis(200),
        delete_time: millis(200),
        boot_time: millis(300),
        ready_time: millis(200),
        lease_renew_time: millis(500),
        pod_stop_time: millis(100),
        power_sync_time: Duration::from_secs(5),
        agent_interval: BEAT,
        ..Options::default()
    }
}

/// The guests' agents post to the collector, and lose what nobody takes, as real ones do.
fn speak(
    standin: &Standin,
    runtime: &Runtime,
    http: &reqwest::Client,
    collector: &Arc<Mutex<Option<Collector>>>,
) {
    let (out, mut records) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    standin.deliver_to(move |_, record| {
        let _ = out.send(record);
    });
    let (http, collector) = (http.clone(), Arc::clone(collector));
    runtime.spawn(async move {
        while let Some(mut body) = records.recv().await {
            body.push(b'\n');
            while let Ok(more) = records.try_recv() {
                body.extend(more);
                body.push(b'\n');
            }
            let Some(to) = lock(&collector).clone() else {
                continue;
            };
            let mut request = http.post(to.url).body(body);
            if let Some(token) = to.token {
                request = request.bearer_auth(token);
            }
            let _ = request.send().await;
        }
    });
}
