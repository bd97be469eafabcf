//! The program, put together as `src/run.rs` does, with the stage in place of cloud and cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rhizome::engine_thread::{Core, STACK_BYTES, Stop};
use rhizome::gate::ProgramGate;
use rhizome::handle::{EngineHandle, handle};
use rhizome::journal::Journal;
use rhizome::metrics::Metrics;
use rhizome::run::acting::{Acting, act};
use rhizome::windows::WindowsFile;
use rhizome_connectors::deadletter::{DeadLetterOptions, DeadLetters};
use rhizome_connectors::decode::{DecodeOptions, Decoder};
use rhizome_connectors::delivery::{CHANNEL_DELIVERIES, channel};
use rhizome_connectors::kafka::{Decoding, KafkaConnector, KafkaOptions, KafkaParts, KafkaStats};
use rhizome_connectors::{Delivery, Inlet};
use rhizome_engine::event::Input;
use rhizome_engine::time::Clock;
use rhizome_engine::{Counters, Engine};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::StepClock;
use crate::cpu;
use crate::fleet::{self, Fleet};
use crate::timing::{Hand, Timed, Timing};

/// Deals with everything that is not a record.
const SPARE_MS: Duration = Duration::from_millis(1);

/// Between two records by which the source flows.
const LIVE: Duration = Duration::from_millis(50);

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the program is made of here.
pub(crate) struct Parts<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) options: KafkaOptions,
    pub(crate) clock: &'a Arc<StepClock>,
    pub(crate) state: &'a Path,
    pub(crate) runtime: &'a Runtime,
    pub(crate) timing: &'a Arc<Timing>,
}

/// What a start took, in processor time and on the wall.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

/// The parts of a start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    /// Journal read, checked, written anew and synced; state added up.
    pub(crate) journal: Took,
    /// Windows read, checked, taken in.
    pub(crate) windows: Took,
    /// Nodes whose windows came back.
    pub(crate) restored: usize,
}

/// The program, running.
pub(crate) struct Ours {
    pub(crate) handle: EngineHandle,
    pub(crate) inlet: Inlet,
    pub(crate) start: Start,
    stats: Arc<KafkaStats>,
    metrics: Arc<Metrics>,
    connector: KafkaConnector,
    engine: JoinHandle<()>,
    stop: Arc<Stop>,
    cancel: CancellationToken,
}

impl Ours {
    /// Starts everything; Kafka begins to be read at once.
    pub(crate) fn start(parts: Parts<'_>) -> Self {
        let Parts {
            fleet,
            options,
            clock,
            state,
            runtime,
            timing,
        } = parts;
        let as_clock: Arc<dyn Clock> = Arc::<StepClock>::clone(clock);
        let settings = fleet.settings();
        let limits = settings.limits.clone();
        let policies = fleet::policies();

        let mut start = Start::default();
        let (journal, mut engine) = timed(&mut start.journal, || {
            let opened = Journal::open(state, clock.now().wall).expect("the journal opens");
            let (mut journal, mut records) = (opened.journal, opened.records);
            if records.is_empty() {
                records.push(fleet.journaled());
                journal.append(&records).expect("the journal is written");
            }
            let version = env!("CARGO_PKG_VERSION");
            let engine = Engine::new(settings, policies, records, 1, version, clock.now());
            (journal, engine)
        });
        let windows = WindowsFile::new(state);
        let (restored, positions) = timed(&mut start.windows, || match windows.read() {
            None => (0, BTreeMap::new()),
            Some((bytes, positions)) => {
                let nodes = engine.restore_windows(&bytes);
                (nodes.expect("the windows fit"), positions)
            }
        });
        start.restored = restored;

        let refill = engine.refill_length();
        let (inlet, outlet) = channel(CHANNEL_DELIVERIES);
        let (engine_handle, calls) = handle(inlet.clone());
        let gate = ProgramGate::new(Arc::clone(&as_clock), &limits, false);
        let metrics = Arc::new(Metrics::default());
        let (actions_out, actions_in) = mpsc::unbounded_channel();
        let (notices, _) = mpsc::unbounded_channel();
        let (counted, noticed) = (Arc::clone(&metrics), Arc::clone(timing));
        let core = Core {
            engine,
            journal,
            outlet,
            calls,
            clock: Arc::clone(&as_clock),
            gate: Arc::clone(&gate),
            actions: actions_out,
            notices,
            told: vec![
                Box::new(move |record| counted.follow(record)),
                Box::new(rhizome::tell::log),
                Box::new(move |record| noticed.told(record)),
            ],
            windows: Some(rhizome::windows::Keeper::start(windows).expect("a thread is to be had")),
        };
        let stop = Arc::new(Stop::default());
        let stopping = Arc::clone(&stop);
        let engine = std::thread::Builder::new()
            .name("engine".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || core.run(&stopping))
            .expect("a thread is to be had");
        let cancel = CancellationToken::new();
        let acting = Acting {
            executor: Arc::new(Hand(Arc::clone(timing))),
            gate,
            clock: Arc::clone(&as_clock),
            inlet: inlet.clone(),
            tasks: TaskTracker::new(),
        };
        runtime.spawn(act(acting, actions_in, cancel.clone()));
        let connector = KafkaConnector::start(KafkaParts {
            options,
            refill,
            snapshot: positions,
            clock: as_clock,
            inlet: inlet.clone(),
            records: Box::new(Timed {
                inner: decoding(state),
                timing: Arc::clone(timing),
            }),
        })
        .expect("the connector starts");
        Self {
            handle: engine_handle,
            inlet,
            start,
            stats: connector.stats(),
            metrics,
            connector,
            engine,
            stop,
            cancel,
        }
    }

    /// Records that were read and decoded.
    pub(crate) fn read(&self) -> u64 {
        self.stats.figures().records
    }

    /// What the engine counts; it has done all that was handed over before, or nearly.
    pub(crate) fn counters(&self, runtime: &Runtime) -> Counters {
        runtime
            .block_on(self.handle.counters())
            .expect("it answers")
    }

    /// What the program asks for every five seconds, for its metrics.
    pub(crate) fn show(&self, runtime: &Runtime) {
        let overview = runtime.block_on(self.handle.overview());
        self.metrics.set_engine(overview.expect("it answers"));
    }

    /// Hands something over that is no record.
    pub(crate) fn hand_over(&self, input: Input) {
        self.inlet
            .send(Delivery::new(input))
            .expect("the engine runs");
    }

    /// Waits until Kafka flows, with something written before each look.
    pub(crate) fn until_flowing(&self, runtime: &Runtime, mut write: impl FnMut()) {
        until("Kafka flows", || {
            write();
            std::thread::sleep(LIVE);
            let status = runtime.block_on(self.handle.status()).expect("it answers");
            status
                .sources
                .iter()
                .any(|report| report.source.as_str() == "kafka" && report.flowing)
        });
    }

    /// Stops as the program does: positions are committed, windows are kept.
    pub(crate) fn stop(self) {
        self.stop.draining.store(true, Ordering::Release);
        self.cancel.cancel();
        self.connector.stop().expect("Kafka had no trouble");
        self.stop.now.store(true, Ordering::Release);
        self.engine.join().expect("the engine had no trouble");
    }
}

/// Waits for something.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(SPARE_MS);
    }
}

fn timed<T>(took: &mut Took, work: impl FnOnce() -> T) -> T {
    let (cpu, wall) = (cpu::mine(), Instant::now());
    let result = work();
    *took = Took {
        cpu: Duration::from_nanos(cpu::mine() - cpu),
        wall: wall.elapsed(),
    };
    result
}

fn decoding(state: &Path) -> Decoding {
    let options = DeadLetterOptions {
        path: state.join("dead-letters.jsonl"),
        max_bytes: 1 << 20,
    };
    let (dead_letters, _) = DeadLetters::start(options).expect("the file is writable");
    Decoding {
        decoder: Decoder::new(DecodeOptions::default()),
        dead_letters,
    }
}
