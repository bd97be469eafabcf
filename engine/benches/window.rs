//! What a record costs in the windows: `cargo bench -p rhizome-engine --bench window`.
//!
//! Nodes are taken in turn, as records of a fleet arrive, so that with many nodes each is
//! cold in the caches. Two metrics, windows of 1, 5 and 15 minutes, a record every 10 s.

use std::time::Duration;

use divan::{Bencher, black_box};
use rhizome_engine::time::Timestamp;
use rhizome_engine::window::{MetricSlot, NodeSlot, Sample, Stat, WindowPlan, Windows};

const NODES: [u32; 3] = [1_000, 10_000, 100_000];
const CPU: MetricSlot = MetricSlot(0);
const MEMORY: MetricSlot = MetricSlot(1);

/// What ten rules in the manner of `policies/` read on each record.
const RULES: [(MetricSlot, Stat, u64); 10] = [
    (CPU, Stat::Mean, 1),
    (CPU, Stat::Max, 5),
    (CPU, Stat::P95, 5),
    (CPU, Stat::Mean, 15),
    (CPU, Stat::Mean, 5),
    (MEMORY, Stat::Mean, 1),
    (CPU, Stat::Slope, 5),
    (CPU, Stat::Mean, 1),
    (CPU, Stat::Ewma, 5),
    (CPU, Stat::StdDev, 15),
];

fn main() {
    divan::main();
}

struct Fleet {
    windows: Windows,
    nodes: u32,
    next: u32,
    round: i64,
}

impl Fleet {
    /// A fleet whose windows are full.
    fn new(nodes: u32) -> Self {
        let mut fleet = Self {
            windows: Windows::new(&plan(), Duration::from_mins(10)),
            nodes,
            next: 0,
            round: 0,
        };
        for _ in 0..nodes {
            fleet.windows.add_node();
        }
        for _ in 0..96 * nodes {
            fleet.push();
        }
        fleet
    }

    /// The next record.
    fn push(&mut self) -> (NodeSlot, Timestamp) {
        let node = NodeSlot(self.next);
        let offset = i64::from(self.next) * 10_000 / i64::from(self.nodes);
        let now = Timestamp(1_700_000_000_000 + self.round * 10_000 + offset);
        let noise = u64::from(self.next)
            .wrapping_mul(0x9E37_79B9)
            .wrapping_add(self.round as u64);
        let value = (noise.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 44) as f64 / (1 << 20) as f64;
        self.windows.heard(node, now, now);
        for metric in [CPU, MEMORY] {
            let sample = Sample {
                time: now,
                value,
                interval: None,
            };
            self.windows.push(node, metric, sample, now);
        }
        self.next += 1;
        if self.next == self.nodes {
            self.next = 0;
            self.round += 1;
        }
        (node, now)
    }
}

fn plan() -> WindowPlan {
    let windows = || [1, 5, 15].map(Duration::from_mins).to_vec();
    WindowPlan {
        metrics: vec![
            ("cpu".to_owned(), windows()),
            ("memory".to_owned(), windows()),
        ],
    }
}

#[divan::bench(args = NODES)]
fn push_a_record_of_two(bencher: Bencher<'_, '_>, nodes: u32) {
    let mut fleet = Fleet::new(nodes);
    bencher.bench_local(|| fleet.push());
}

#[divan::bench(args = NODES, sample_size = 1_000)]
fn push_a_record_and_read_ten_rules(bencher: Bencher<'_, '_>, nodes: u32) {
    let mut fleet = Fleet::new(nodes);
    bencher.bench_local(|| {
        let (node, now) = fleet.push();
        for (metric, stat, minutes) in RULES {
            let window = Duration::from_mins(minutes);
            black_box(fleet.windows.read(node, metric, stat, window, now));
        }
    });
}

#[divan::bench(args = [
    (Stat::Mean, 1), (Stat::Mean, 15), (Stat::Max, 5), (Stat::P95, 5), (Stat::P95, 15),
    (Stat::StdDev, 15), (Stat::Ewma, 15), (Stat::Slope, 15), (Stat::Rate, 15), (Stat::Count, 15),
])]
fn read_one(bencher: Bencher<'_, '_>, (stat, minutes): (Stat, u64)) {
    let mut fleet = Fleet::new(1_000);
    let (node, now) = fleet.push();
    let window = Duration::from_mins(minutes);
    bencher.bench_local(|| fleet.windows.read(black_box(node), CPU, stat, window, now));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn restore_100k_nodes(bencher: Bencher<'_, '_>) {
    let fleet = Fleet::new(100_000);
    let names: Vec<String> = (0..100_000).map(|n| format!("worker-{n:06}")).collect();
    let name_of = |slot: NodeSlot| names.get(slot.0 as usize).map(String::as_str);
    let bytes = fleet.windows.snapshot(name_of);
    bencher.bench_local(|| Windows::restore(&plan(), Duration::from_mins(10), &bytes));
}
