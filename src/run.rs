//! The main loop, put together: connectors, engine, journal, executors, and who asks and is
//! told.
//!
//! ```text
//! kafka, collector, alerts ----+
//! openstack, kubernetes -------+--> engine's thread --> journal --> actions --> executors
//! outcomes of actions ---------+        |                                          |
//! operators, by the API -------+        +--> metrics, log, notifications           |
//!        ^                                                                          |
//!        +--------------------------------------------------------------------------+
//! ```
//!
//! [`Program::start`] does everything that can fail before the first input is taken; after it
//! nothing but a stop ends the program. One part that goes away stops no other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rhizome_actions::{Executor, Seen};
use rhizome_connectors::delivery::{CHANNEL_DELIVERIES, SendError, channel};
use rhizome_connectors::{Delivery, Inlet};
use rhizome_engine::action::Action;
use rhizome_engine::event::Input;
use rhizome_engine::time::Clock;
use rhizome_engine::{Engine, notice::Notice};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::config::Loaded;
use crate::engine_thread::{Core, STACK_BYTES, Stop, Told};
use crate::exit::Exit;
use crate::gate::ProgramGate;
use crate::handle::{EngineHandle, handle};
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::policies::{Change, LoadError, Policies};
use crate::windows::{Keeper, WindowsFile};

pub mod acting;
mod dry_run;
pub(crate) mod inputs;
mod pauses;
pub(crate) mod services;
mod stopping;

use acting::{Acting, act, send};
use pauses::Pauses;
pub use services::ServicesError;

/// Observations that may wait for the engine.
const SEEN_WAITING: usize = 256;

/// How often the engine is asked for what metrics show.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// What is not in the configuration.
pub struct Options {
    /// Decides, journals and explains, and calls nothing that changes anything.
    pub dry_run: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Told of every record that was journaled, beside metrics and log.
    pub told: Vec<Told>,
}

/// The program, running.
pub struct Program {
    /// Where it listens.
    address: SocketAddr,
    handle: EngineHandle,
    inlet: Inlet,
    gate: Arc<ProgramGate>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    stop_engine: Arc<Stop>,
    actions: TaskTracker,
    tasks: TaskTracker,
    engine: JoinHandle<()>,
    inputs: inputs::Inputs,
}

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The policies.
    #[error(transparent)]
    Policies(#[from] LoadError),
    /// Cloud or cluster.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// Kafka or the listener.
    #[error(transparent)]
    Inputs(#[from] inputs::InputsError),
    /// The state folder.
    #[error("the state folder `{}` cannot be made", path.display())]
    State {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No thread.
    #[error("cannot start the engine's threads: give this user or container more of them")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// How the program ends for it: what an operator has to mend in the configuration is told
    /// apart, so that a supervisor does not start it again and again.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Policies(_) | Self::Services(_) => Exit::Config,
            Self::Inputs(error) => error.exit(),
            Self::Journal(_) | Self::State { .. } | Self::Thread(_) => Exit::Failed,
        }
    }
}

impl Program {
    /// Starts everything.
    ///
    /// # Errors
    ///
    /// Returns the first thing that cannot be had; nothing runs then.
    pub async fn start(loaded: &Loaded, options: Options) -> Result<Self, StartError> {
        let config = &loaded.config;
        let clock = options.clock;
        let state = loaded.folder.join(&config.state);
        std::fs::create_dir_all(&state).map_err(|source| StartError::State {
            path: state.clone(),
            source,
        })?;
        let state = if options.dry_run {
            dry_run::folder(&state, clock.now().wall)?
        } else {
            state
        };
        let opened = Journal::open(&state, clock.now().wall)?;
        if opened.torn > 0 {
            warn!(
                bytes = opened.torn,
                "a torn record was cut off the journal's end"
            );
        }
        let policies = Policies::load(&loaded.folder.join(&config.policies))?;
        let executor = services::executor(loaded, options.dry_run, &clock).await?;

        let settings = config.settings();
        let limits = settings.limits.clone();
        let mut engine = Engine::new(
            settings,
            policies.current(),
            opened.records,
            rand::random_range(1..=u32::MAX),
            env!("CARGO_PKG_VERSION"),
            clock.now(),
        );
        let windows = WindowsFile::new(&state);
        let positions = restore_windows(&windows, &mut engine);
        let refill = engine.refill_length();

        let (inlet, outlet) = channel(CHANNEL_DELIVERIES);
        let (engine_handle, calls) = handle(inlet.clone());
        let gate = ProgramGate::new(Arc::clone(&clock), &limits, options.dry_run);
        let pauses = Pauses::new(loaded, Arc::clone(&gate), Arc::clone(&clock)).await;
        let pauses = pauses.map_err(ServicesError::from)?;
        pauses.first(&inlet).await;
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let parts = inputs::Parts {
            loaded,
            clock: Arc::clone(&clock),
            inlet: inlet.clone(),
            positions,
            refill,
            state,
            handle: engine_handle.clone(),
            metrics: Arc::clone(&metrics),
            policies: Arc::clone(&policies),
            gate: Arc::clone(&gate),
            dry_run: options.dry_run,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        // Whatever may be missing is looked for before the engine runs and acts.
        let notifier = notifier(loaded, &metrics, &clock)?;
        let inputs = inputs::Inputs::start(parts).await?;
        pauses.watch(&inlet, &stop, &tasks);

        let (actions_out, actions_in) = mpsc::unbounded_channel();
        let (notices_out, notices_in) = mpsc::unbounded_channel();
        let mut told = options.told;
        let counted = Arc::clone(&metrics);
        told.push(Box::new(move |record| counted.follow(record)));
        told.push(Box::new(crate::tell::log));
        let core = Core {
            engine,
            journal: opened.journal,
            outlet,
            calls,
            clock: Arc::clone(&clock),
            gate: Arc::clone(&gate),
            actions: actions_out,
            notices: notices_out,
            told,
            windows: Some(Keeper::start(windows).map_err(StartError::Thread)?),
        };
        let stop_engine = Arc::new(Stop::default());
        let stopping = Arc::clone(&stop_engine);
        let engine = std::thread::Builder::new()
            .name("engine".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || core.run(&stopping))
            .map_err(StartError::Thread)?;

        let program = Self {
            address: inputs.address(),
            handle: engine_handle,
            inlet,
            gate,
            metrics,
            clock,
            stop,
            stop_engine,
            actions: TaskTracker::new(),
            tasks,
            engine,
            inputs,
        };
        program.spawn_loops(notifier, &executor, &policies, actions_in, notices_in);
        info!(address = %program.address, dry_run = options.dry_run, "rhizome runs");
        Ok(program)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For questions and wishes.
    pub fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// Whether the engine's thread has ended by itself, which it never should.
    pub fn ended(&self) -> bool {
        self.engine.is_finished()
    }

    fn spawn_loops(
        &self,
        notifier: Notifier,
        executor: &Arc<dyn Executor>,
        policies: &Arc<Policies>,
        actions: mpsc::UnboundedReceiver<Action>,
        notices: mpsc::UnboundedReceiver<Notice>,
    ) {
        self.tasks
            .spawn(act(self.acting(executor), actions, self.stop.clone()));
        self.tasks.spawn(notify(notifier, notices));
        let (seen_out, seen_in) = mpsc::channel(SEEN_WAITING);
        let watched = Arc::clone(executor);
        let stop = self.stop.clone();
        self.tasks
            .spawn(async move { watched.watch(seen_out, stop).await });
        self.tasks.spawn(take_in(self.inlet.clone(), seen_in));
        let (changes_out, changes_in) = mpsc::channel(1);
        let watch =
            Arc::clone(policies).watch(Arc::clone(&self.clock), changes_out, self.stop.clone());
        self.tasks.spawn(watch);
        let metrics = Arc::clone(&self.metrics);
        self.tasks
            .spawn(reload(self.inlet.clone(), metrics, changes_in));
        self.tasks.spawn(show(
            self.handle.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.clock),
            self.stop.clone(),
        ));
    }

    fn acting(&self, executor: &Arc<dyn Executor>) -> Acting {
        Acting {
            executor: Arc::clone(executor),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            inlet: self.inlet.clone(),
            tasks: self.actions.clone(),
        }
    }
}

fn notifier(
    loaded: &Loaded,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<Notifier, StartError> {
    let notifier = Notifier::new(&loaded.config.cluster, Arc::clone(metrics));
    let Some(webhook) = services::webhook(loaded)? else {
        return Ok(notifier);
    };
    Ok(notifier.with_webhook(webhook, reqwest::Client::new(), Arc::clone(clock)))
}

async fn notify(notifier: Notifier, mut notices: mpsc::UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        notifier.tell(&notice);
    }
    // The engine has ended: nobody can send another.
    notifier.close().await;
}

async fn take_in(inlet: Inlet, mut seen: mpsc::Receiver<Seen>) {
    while let Some(seen) = seen.recv().await {
        let input = match seen {
            Seen::Observation(observation) => Input::Observation(observation),
            Seen::Source(report) => Input::Source(report),
        };
        match inlet.try_send(Delivery::new(input)) {
            Ok(()) => {}
            Err(SendError::Full(delivery)) => send(&inlet, delivery.input).await,
            Err(SendError::Stopped(_)) => return,
        }
    }
}

async fn reload(inlet: Inlet, metrics: Arc<Metrics>, mut changes: mpsc::Receiver<Change>) {
    while let Some(change) = changes.recv().await {
        match change {
            Change::Loaded(set) => {
                metrics.reloaded("loaded");
                info!(hash = %set.hash(), "the policies were read again and run from now on");
                send(&inlet, Input::Policies(set)).await;
            }
            Change::Refused(why) => {
                metrics.reloaded("refused");
                error!("a change of the policies is refused, those from before go on:\n{why}");
            }
        }
    }
}

async fn show(
    handle: EngineHandle,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    loop {
        if let Ok(overview) = handle.overview().await {
            metrics.set_engine(overview);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(METRICS_EVERY) => {}
        }
    }
}

fn restore_windows(file: &WindowsFile, engine: &mut Engine) -> BTreeMap<(String, i32), i64> {
    let Some((bytes, positions)) = file.read() else {
        return BTreeMap::new();
    };
    match engine.restore_windows(&bytes) {
        Ok(nodes) => {
            info!(nodes, "the windows of the last run are back");
            positions
        }
        Err(error) => {
            warn!(%error, "the kept windows do not fit: they are filled anew");
            BTreeMap::new()
        }
    }
}
