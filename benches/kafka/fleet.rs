//! The fleet: its nodes, their records, the rules, and what cloud and cluster show of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::action::mark;
use rhizome_engine::event::{
    Labels, NodeView, Observation, Ready, Requests, ServerStatus, ServerView, SourceName,
    SourceReport,
};
use rhizome_engine::journal::{Record, State};
use rhizome_engine::names::OperationId;
use rhizome_engine::policy::{PolicySet, SourceFile};
use rhizome_engine::settings::{Limits, PoolSettings, Settings};
use rhizome_engine::time::Timestamp;

pub(crate) const POOLS: usize = 40;

/// Every node reports once in so many seconds.
pub(crate) const INTERVAL: usize = 10;

/// A node is busy for so many seconds at a time, one slot in [`BUSY_ONE_IN`].
const BUSY_SLOT: u64 = 120;
const BUSY_ONE_IN: u64 = 50;

/// The ten rules of the workload, and absence, for one pool. The generator makes the first and
/// the third come true, and the second when a spike is asked for.
const RULES: &str = r#"
    heal(POOL).when(mean("cpu", "1m") > 0.97).then(|node| node.reboot("r1"));
    heal(POOL).when(max("cpu", "5m") >= 0.9995).then(|node| node.reboot("r2"));
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

/// So many nodes in [`POOLS`] pools.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) names: Vec<String>,
}

impl Fleet {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            names: (0..size).map(node_name).collect(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.names.len()
    }

    /// The values of a node at a time.
    pub(crate) fn values(place: usize, at: Timestamp) -> (f64, f64) {
        let second = u64::try_from(at.millis() / 1_000).unwrap_or(0);
        let noise = |salt: u64| {
            let mixed = mix(place as u64 ^ second.rotate_left(20) ^ salt.rotate_left(50));
            (mixed >> 11) as f64 / (1_u64 << 53) as f64
        };
        // Around a level of its own, up and down by a tenth.
        let level = 0.2 + 0.5 * (place % 97) as f64 / 97.0;
        let seed = place as u64 ^ (second / BUSY_SLOT).rotate_left(32);
        let busy = mix(seed).is_multiple_of(BUSY_ONE_IN);
        let cpu = if busy {
            0.985 + 0.01 * noise(1)
        } else {
            level + 0.2 * (noise(1) - 0.5)
        };
        (cpu, level + 0.2 * (noise(2) - 0.5))
    }

    /// Writes the record of a node: Rhizome's own JSON, some 240 bytes.
    pub(crate) fn write(&self, out: &mut String, place: usize, at: Timestamp, cpu: f64) {
        let (_, memory) = Self::values(place, at);
        let millis = at.millis();
        out.clear();
        let name = self
            .names
            .get(place)
            .map(String::as_str)
            .unwrap_or_default();
        let written = write!(
            out,
            r#"{{"node":"{name}","time":{millis},"cpu":{cpu:.4},"memory":{memory:.4},"metrics":{{"load1":{:.2},"disk.used":0.{},"net.rx":{},"net.tx":{},"uptime":{}}},"labels":{{"zone":"az-{}","agent":"1.4.2"}}}}"#,
            cpu * 8.0,
            100 + place % 800,
            place * 1_531 % 1_000_003,
            place * 733 % 500_009,
            millis / 1_000 % 8_640_000,
            place % 3,
        );
        written.expect("a string takes all");
    }

    /// What cloud and cluster list.
    pub(crate) fn listings(&self, at: Timestamp) -> [Observation; 2] {
        let servers = (0..self.size()).map(|place| server(place, at)).collect();
        let nodes = (0..self.size()).map(|place| node(place, at, Ready::True));
        [
            Observation::Servers {
                at,
                complete: true,
                servers,
            },
            Observation::Nodes {
                at,
                nodes: nodes.collect(),
            },
        ]
    }

    /// A journal in which all nodes are of our own making.
    pub(crate) fn journaled(&self) -> Record {
        let owned = (0..self.size()).map(|place| (vm_id(place).as_str().into(), operation(place)));
        Record::Snapshot {
            state: Box::new(State {
                owned: owned.collect(),
                ..State::default()
            }),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let members = u32::try_from(self.size() / POOLS).unwrap_or(u32::MAX);
        let pool = PoolSettings {
            min: members,
            max: members + 10,
            ..PoolSettings::default()
        };
        let pools = (0..POOLS).map(|slot| (pool_name(slot).as_str().into(), pool.clone()));
        Settings {
            cluster: "bench".to_owned(),
            pools: pools.collect(),
            limits: Limits {
                // Hundreds of heals are to begin within seconds, which is what these forbid.
                operations: 10_000,
                budget_share: 0.9,
                storm_share: 0.9,
                ..Limits::default()
            },
            lateness: Duration::from_secs(20 * 60),
            heartbeat_sources: vec![SourceName::Kafka],
            pause_sources: Vec::new(),
        }
    }
}

/// The policies of all pools.
pub(crate) fn policies() -> Arc<PolicySet> {
    let files: Vec<SourceFile> = (0..POOLS)
        .map(|pool| SourceFile {
            name: format!("{}.rhai", pool_name(pool)),
            text: RULES.replace("POOL", &format!("{:?}", pool_name(pool))),
        })
        .collect();
    Arc::new(PolicySet::load(&files).expect("the policies load"))
}

/// Cloud and cluster are heard well, as their executors say every few seconds.
pub(crate) fn reports() -> [SourceReport; 2] {
    [SourceName::Openstack, SourceName::Kubernetes].map(|source| SourceReport {
        source,
        flowing: true,
        lag: Duration::ZERO,
        refilled: true,
        trouble: String::new(),
    })
}

pub(crate) fn vm_id(place: usize) -> String {
    format!("{place:08x}-1c1c-4b3f-9c57-6f1a5d3c8e90")
}

/// The node that a VM is, by its id.
pub(crate) fn place_of(vm: &str) -> Option<usize> {
    usize::from_str_radix(vm.split('-').next()?, 16).ok()
}

/// A node as the cluster shows it.
pub(crate) fn node(place: usize, at: Timestamp, ready: Ready) -> NodeView {
    let created = at.minus(Duration::from_secs(86_000));
    let ready_since = match ready {
        Ready::True => created,
        Ready::False | Ready::Unknown => at.minus(Duration::from_secs(600)),
    };
    NodeView {
        name: node_name(place).as_str().into(),
        uid: format!("uid-{place}"),
        vm: Some(vm_id(place).as_str().into()),
        labels: Labels::default(),
        annotations: Labels::default(),
        created,
        ready,
        ready_since,
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

fn pool_name(pool: usize) -> String {
    format!("pool-{pool:02}")
}

fn node_name(place: usize) -> String {
    format!("{}-node-{place:06}.example.net", pool_name(place % POOLS))
}

fn operation(place: usize) -> OperationId {
    OperationId {
        journal: 1,
        number: place as u64 + 1,
    }
}

fn server(place: usize, at: Timestamp) -> ServerView {
    let metadata = [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, "bench".to_owned()),
        (mark::POOL, pool_name(place % POOLS)),
        (mark::OPERATION, operation(place).to_string()),
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

/// Numbers that look random and are the same on every run: splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
