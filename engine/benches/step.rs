//! What a record costs in the whole engine, at 1,000, 10,000 and 100,000 nodes.
//!
//! Run with `cargo bench -p rhizome-engine --bench step`; `-- 1000 10000` for some sizes only.
//! What is counted is the time that this thread had on a processor, as the kernel says
//! (`/proc/thread-self/schedstat`), because the machine is shared. Compare ratios of one run.
//! Each size runs in a process of its own, so that its memory is its own too. A sweep is all that
//! ten seconds bring: every node's record, the ticks, and the beginning of a pane. The cheapest of
//! the sweeps is told, and beside it the middle one: a busy machine only adds.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark is no API, prints its table, and stops when its policy does not load"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::action::mark;
use rhizome_engine::engine::{Engine, Output};
use rhizome_engine::event::{
    Batch, Form, Input, Labels, NodeView, Observation, Ready, Requests, ServerStatus, ServerView,
    SourceName, SourceReport,
};
use rhizome_engine::journal::{Record, State};
use rhizome_engine::names::OperationId;
use rhizome_engine::policy::{PolicySet, SourceFile};
use rhizome_engine::settings::{Limits, PoolSettings, Settings};
use rhizome_engine::time::{Monotonic, Now, Timestamp};

const POOLS: usize = 40;
/// Every node reports once in this long.
const INTERVAL: Duration = Duration::from_secs(10);
/// The fleet's records come in so many batches an interval: 100 ms of Kafka each.
const BATCHES: usize = 100;
/// Sweeps that fill the windows: the longest of a quarter of an hour is whole.
const WARM: usize = 90;
/// Records that are measured at least, and sweeps.
const RECORDS: usize = 300_000;
const SWEEPS: usize = 9;
/// Of a busy fleet one node in so many is hot, in turns of so many sweeps.
const HOT: usize = 25;
const TURN: usize = 12;
/// Ticks that are measured by themselves: too few for anybody to count as silent.
const TICKS: u64 = 10;
/// What agents send beside, and no policy names.
const UNNAMED: [&str; 5] = ["load1", "disk.used", "net.rx", "net.tx", "uptime"];
const SILENCE: Duration = Duration::from_secs(30);
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// The ten rules of the workload, and absence, for one pool.
const RULES: &str = r#"
    heal(POOL).when(mean("cpu", "1m") > 0.97).then(|node| node.reboot("r1"));
    heal(POOL).when(max("cpu", "5m") >= 0.999).for_at_least("5m").then(|node| node.reboot("r2"));
    heal(POOL).when(p95("cpu", "5m") > 0.97).then(|node| node.reboot("r3"));
    scale_down(POOL).when(mean("cpu", "15m") < 0.1 and mean("cpu", "5m") < 0.1)
        .for_at_least("10m");
    heal(POOL).when(mean("memory", "1m") > 0.97).then(|node| node.reboot("r5"));
    heal(POOL).when(slope("cpu", "5m") > 0.01).for_at_least("5m").then(|node| node.reboot("r6"));
    heal(POOL).when(mean("cpu", "1m") < 0.0001).then(|node| node.reboot("r7"));
    heal(POOL).when(ewma("cpu", "5m") > 0.97).then(|node| node.reboot("r8"));
    scale_up(POOL).when(mean("cpu", "1m") > 0.8).then(|pool| pool.add(1, "r9"));
    heal(POOL).when(stddev("cpu", "15m") > 0.45).then(|node| node.reboot("r10"));
    heal(POOL).when(silent("30s")).ladder(["reboot", "replace"]);
"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(size) = arguments.iter().find_map(|one| one.strip_prefix("--size=")) {
        let busy = arguments.iter().any(|one| one == "--busy");
        measure(size.parse().expect("a number of nodes"), busy);
        return;
    }
    let mut sizes: Vec<usize> = arguments
        .iter()
        .filter_map(|one| one.parse().ok())
        .collect();
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    println!(
        "| nodes | fleet | ns/record | middle | us/tick | entered Rhai | B/node | of it windows \
         | snapshot ms | restore ms | first listing ms | B/node kept | silence early/late ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for size in sizes {
        for fleet in ["", "--busy"] {
            let program = std::env::current_exe().expect("this program has a path");
            let mut child = Command::new(program);
            child.arg(format!("--size={size}")).stdout(Stdio::inherit());
            child.args(Some(fleet).filter(|fleet| !fleet.is_empty()));
            // What is given back goes back at once, so that the resident set is what is held.
            child.env("MALLOC_TRIM_THRESHOLD_", "0");
            child.env("MALLOC_MMAP_THRESHOLD_", "65536");
            assert!(child.status().expect("the measurement runs").success());
        }
    }
}

/// One line of the table.
fn measure(size: usize, busy: bool) {
    let mut fleet = Fleet::new(size, busy);
    for _ in 0..WARM {
        fleet.sweep();
    }
    let resident = resident_kib().saturating_sub(fleet.own_kib);
    let windows = fleet.engine.windows_bytes();
    let (records, bodies) = (
        fleet.engine.counters().records,
        fleet.engine.counters().bodies,
    );
    let mut sweeps: Vec<u64> = (0..SWEEPS.max(RECORDS / size))
        .map(|_| fleet.sweep() / size as u64)
        .collect();
    sweeps.sort_unstable();
    let records = fleet.engine.counters().records - records;
    let bodies = fleet.engine.counters().bodies - bodies;
    let ticks = fleet.ticks();
    let (early, late) = if busy { (0, 0) } else { fleet.silence_error() };
    let before = cpu_ns();
    let snapshot = fleet.engine.windows_snapshot();
    let snapshot_ns = cpu_ns() - before;
    let mut second = Fleet::unseen(size, fleet.now);
    let before = cpu_ns();
    let restored = second
        .engine
        .restore_windows(&snapshot)
        .expect("it is restored");
    let restore_ns = cpu_ns() - before;
    assert_eq!(restored, size);
    let before = cpu_ns();
    second.observe(size);
    let observe_ns = cpu_ns() - before;
    println!(
        "| {size} | {} | {} | {} | {} | {:.3} % | {} | {} | {:.1} | {:.1} | {:.1} | {} | {} |",
        if busy { "busy" } else { "calm" },
        sweeps.first().copied().unwrap_or_default(),
        sweeps.get(sweeps.len() / 2).copied().unwrap_or_default(),
        ticks / TICKS / 1_000,
        100.0 * bodies as f64 / records as f64,
        resident * 1_024 / size as u64,
        windows / size,
        snapshot_ns as f64 / 1e6,
        restore_ns as f64 / 1e6,
        observe_ns as f64 / 1e6,
        snapshot.len() / size,
        if busy {
            "-".to_owned()
        } else {
            format!("{early}/{late}")
        },
    );
}

/// An engine and the nodes that report to it.
struct Fleet {
    engine: Engine,
    names: Vec<String>,
    /// One interval's batches, used again and again.
    batches: Vec<Batch>,
    now: Now,
    random: u64,
    /// Whether some nodes cross what the rules ask for, and one pool does.
    busy: bool,
    sweeps: usize,
    /// The resident set with all that is this program's own, before anything was observed.
    own_kib: u64,
    silent: Option<usize>,
    /// When the first decision about the silent node came.
    noticed: Option<Monotonic>,
}

impl Fleet {
    fn new(size: usize, busy: bool) -> Self {
        let start = Now {
            wall: Timestamp(1_795_333_374_000),
            mono: Monotonic(1_000),
        };
        let mut fleet = Self::unseen(size, start);
        fleet.busy = busy;
        let mut batches = std::mem::take(&mut fleet.batches);
        for (part, batch) in batches.iter_mut().enumerate() {
            fleet.fill(batch, part, start);
        }
        fleet.batches = batches;
        fleet.own_kib = resident_kib();
        fleet.observe(size);
        fleet
    }

    /// Before anything of the nodes was seen.
    fn unseen(size: usize, now: Now) -> Self {
        let pools: BTreeMap<_, _> = (0..POOLS)
            .map(|pool| (pool_name(pool).as_str().into(), pool_settings(size)))
            .collect();
        let settings = Settings {
            cluster: "bench".to_owned(),
            pools,
            limits: Limits::default(),
            lateness: Duration::from_secs(20 * 60),
            heartbeat_sources: vec![SourceName::Kafka],
            pause_sources: Vec::new(),
        };
        Self {
            engine: Engine::new(settings, policies(), [journaled(size)], 1, "bench", now),
            names: (0..size).map(node_name).collect(),
            batches: vec![Batch::new(SourceName::Kafka, now.wall); BATCHES],
            now,
            random: 0x9e37_79b9_7f4a_7c15,
            busy: false,
            sweeps: 0,
            own_kib: 0,
            silent: None,
            noticed: None,
        }
    }

    fn observe(&mut self, size: usize) {
        self.report();
        let at = self.now.wall;
        let servers = (0..size).map(|place| server(place, at)).collect();
        let complete = true;
        let servers = Observation::Servers {
            at,
            complete,
            servers,
        };
        self.engine.step(self.now, Input::Observation(servers));
        let nodes = (0..size).map(|place| node(place, at)).collect();
        let nodes = Observation::Nodes { at, nodes };
        self.engine.step(self.now, Input::Observation(nodes));
    }

    /// Says that all is heard well, as the connectors do every few seconds.
    fn report(&mut self) {
        for source in [
            SourceName::Kafka,
            SourceName::Openstack,
            SourceName::Kubernetes,
        ] {
            let report = SourceReport {
                source,
                flowing: true,
                lag: Duration::ZERO,
                refilled: true,
                trouble: String::new(),
            };
            self.engine.step(self.now, Input::Source(report));
        }
    }

    /// One interval: each node reports once. Says what it cost, in nanoseconds.
    fn sweep(&mut self) -> u64 {
        self.report();
        let mut batches = std::mem::take(&mut self.batches);
        let times: Vec<Now> = (0_u32..)
            .zip(&batches)
            .map(|(part, _)| self.now.plus(INTERVAL / 100 * part))
            .collect();
        for (part, (batch, now)) in batches.iter_mut().zip(&times).enumerate() {
            self.fill(batch, part, *now);
        }
        let before = cpu_ns();
        for (batch, now) in batches.iter().zip(&times) {
            let out = self.engine.step_batches(*now, [batch]);
            self.note(*now, &out);
        }
        let spent = cpu_ns() - before;
        self.batches = batches;
        self.now = self.now.plus(INTERVAL);
        self.sweeps += 1;
        spent
    }

    /// What the ticks cost by themselves, when nothing comes in.
    fn ticks(&mut self) -> u64 {
        self.report();
        let before = cpu_ns();
        for _ in 0..TICKS {
            self.now = self.now.plus(Duration::from_secs(1));
            self.engine.step(self.now, Input::Tick);
        }
        cpu_ns() - before
    }

    /// The records of one part of the fleet.
    fn fill(&mut self, batch: &mut Batch, part: usize, now: Now) {
        batch.clear();
        batch.arrival = now.wall;
        for place in (part..self.names.len()).step_by(BATCHES) {
            let (cpu, memory) = (self.draw(), self.draw());
            let name = self.names.get(place).filter(|_| self.silent != Some(place));
            let Some(name) = name else {
                continue;
            };
            // Around a level of its own, up and down by a tenth.
            let mut level = 0.2 + 0.5 * (place % 97) as f64 / 97.0;
            if self.busy && self.is_hot(place) {
                level = 1.1;
            }
            batch.push_record(name, now.wall, Some(INTERVAL));
            for (metric, value) in [("cpu", cpu), ("memory", memory)] {
                let value = (level + 0.2 * (value - 0.5)).clamp(0.0, 1.0);
                batch.push_sample(metric, "", Form::Value, value);
            }
            for metric in UNNAMED {
                batch.push_sample(metric, "", Form::Value, memory);
            }
        }
    }

    /// Whether a node of a busy fleet is far above what the rules ask for: one pool always, and of
    /// the others some nodes in turns.
    fn is_hot(&self, place: usize) -> bool {
        let turn = self.sweeps / TURN;
        place.is_multiple_of(POOLS) || (place / POOLS + turn).is_multiple_of(HOT)
    }

    /// Notes when the engine first decides on the silent node, or says why it does not.
    fn note(&mut self, now: Now, out: &Output) {
        let Some(name) = self.silent.and_then(|place| self.names.get(place)) else {
            return;
        };
        let about = out.records.iter().any(|record| match record {
            Record::Refusal { refusal } => refusal
                .node
                .as_ref()
                .is_some_and(|node| node.as_str() == name),
            Record::Decision { decision } => format!("{decision:?}").contains(name.as_str()),
            _ => false,
        });
        if about && self.noticed.is_none() {
            self.noticed = Some(now.mono);
        }
    }

    /// How much too early or too late a silence of 30 s is noticed, in milliseconds.
    ///
    /// The others go on to report. The engine is stepped every 100 ms by their batches, and
    /// when it asked to be.
    fn silence_error(&mut self) -> (u64, u64) {
        let place = self.names.len() / 2 / BATCHES * BATCHES;
        let heard = self.now.mono.0;
        self.sweep();
        let due = heard + u64::try_from(SILENCE.as_millis()).unwrap_or_default();
        self.silent = Some(place);
        for _ in 0..4 {
            self.sweep();
        }
        let noticed = self.noticed.map_or(u64::MAX, |at| at.0);
        (due.saturating_sub(noticed), noticed.saturating_sub(due))
    }

    /// The same numbers on every run: xorshift.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn policies() -> Arc<PolicySet> {
    let files: Vec<SourceFile> = (0..POOLS)
        .map(|pool| SourceFile {
            name: format!("{}.rhai", pool_name(pool)),
            text: RULES.replace("POOL", &format!("{:?}", pool_name(pool))),
        })
        .collect();
    Arc::new(PolicySet::load(&files).expect("the policies load"))
}

fn pool_settings(size: usize) -> PoolSettings {
    let members = u32::try_from(size / POOLS).unwrap_or(u32::MAX);
    PoolSettings {
        min: members,
        max: members + 10,
        ..PoolSettings::default()
    }
}

fn pool_name(pool: usize) -> String {
    format!("pool-{pool:02}")
}

fn node_name(place: usize) -> String {
    format!("{}-node-{place:06}.example.net", pool_name(place % POOLS))
}

fn vm_id(place: usize) -> String {
    format!("{place:08x}-1c1c-4b3f-9c57-6f1a5d3c8e90")
}

/// A journal in which all nodes are of our own making.
fn journaled(size: usize) -> Record {
    let owned = (0..size).map(|place| {
        let number = place as u64 + 1;
        (
            vm_id(place).as_str().into(),
            OperationId { journal: 1, number },
        )
    });
    Record::Snapshot {
        state: Box::new(State {
            owned: owned.collect(),
            ..State::default()
        }),
    }
}

fn server(place: usize, at: Timestamp) -> ServerView {
    let metadata = [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, "bench".to_owned()),
        (mark::POOL, pool_name(place % POOLS)),
        (mark::OPERATION, format!("op-00000001-{}", place + 1)),
    ];
    ServerView {
        id: vm_id(place).as_str().into(),
        name: node_name(place),
        status: ServerStatus::Active,
        task_state: None,
        created: at.minus(Duration::from_secs(86_400)),
        metadata: metadata.into_iter().collect(),
        addresses: Vec::new(),
        fault: None,
        zone: Some("nova".to_owned()),
        host_id: None,
    }
}

/// What a worker is labelled with by its kubelet, by the cloud's controller, and by us.
fn labels(place: usize) -> Labels {
    let labels = [
        ("beta.kubernetes.io/arch", "amd64".to_owned()),
        ("beta.kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", "amd64".to_owned()),
        ("kubernetes.io/hostname", node_name(place)),
        ("kubernetes.io/os", "linux".to_owned()),
        ("node.kubernetes.io/instance-type", "m1.large".to_owned()),
        ("topology.kubernetes.io/region", "RegionOne".to_owned()),
        ("topology.kubernetes.io/zone", "nova".to_owned()),
        (mark::POOL, pool_name(place % POOLS)),
    ];
    labels.into_iter().collect()
}

fn node(place: usize, at: Timestamp) -> NodeView {
    let created = at.minus(Duration::from_secs(86_000));
    NodeView {
        name: node_name(place).as_str().into(),
        uid: format!("{place:08x}-8d1e-4c0a-8b7f-2f6a9e3d1c40"),
        vm: Some(vm_id(place).as_str().into()),
        labels: labels(place),
        annotations: Labels::default(),
        created,
        ready: Ready::True,
        ready_since: created,
        unschedulable: false,
        control_plane: false,
        taints: Vec::new(),
        allocatable: Requests {
            cpu_millis: 4_000,
            memory_bytes: 8 << 30,
            pods: 110,
        },
    }
}

/// Nanoseconds that this thread has had on a processor.
///
/// The kernel brings the number up to date when a thread is scheduled: so it offers to wait.
fn cpu_ns() -> u64 {
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says it");
    let first = text
        .split_whitespace()
        .next()
        .and_then(|one| one.parse().ok());
    first.expect("the first number of schedstat")
}

/// KiB of memory that this process really has.
fn resident_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux says it");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the resident set")
}
