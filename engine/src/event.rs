//! Everything that can come in: samples, alerts, what was observed, what an operator wishes.
//!
//! Event time (when it happened) is kept apart from arrival time (when it reached us): rules
//! use the first. The walk goes on in `cluster.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{ActionKey, ActionResult};
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::policy::PolicySet;
use crate::time::Timestamp;

mod labels;
mod pause;
mod pods;

pub use labels::Labels;
pub use pause::{PauseReport, PauseSource, StandingPause};
pub use pods::{NodePods, PodShape, Taint, Toleration};

/// One input to `Engine::step`.
#[derive(Debug, Clone)]
pub enum Input {
    /// Samples and heartbeats, as one connector handed them over.
    Batch(Batch),
    /// An alert that was routed to us. One witness, never two.
    Alert(Alert),
    /// What an executor saw in the cloud or in the cluster.
    Observation(Observation),
    /// How well an input can be heard just now.
    Source(SourceReport),
    /// What an operator wishes. It goes through planner and guard like any other proposal.
    Operator(OperatorRequest),
    /// Whether a pause stands where one can be left: in a file or in the cluster.
    Pause(PauseReport),
    /// How an action ended, or that its end is unknown.
    Outcome(ActionKey, ActionResult),
    /// A new set of policies in place of the running one. Windows are kept.
    Policies(Arc<PolicySet>),
    /// Whether the journal can be written. While it cannot, nothing is acted on.
    JournalHealth(bool),
    /// Nothing but the passing of time.
    Tick,
}

/// What a number in a record means before it is joined to a ratio.
///
/// Agents that send parts (a cpu state of one core, a memory state in bytes) are joined per
/// node by the engine, because the parts of one instant arrive in separate records and on
/// separate partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Form {
    /// The finished value of the metric: `cpu` and `memory` as ratios 0..=1, others as sent.
    Value,
    /// Share of one core's time in one state, in percent; `part` is `core/state`.
    CpuPercent,
    /// Jiffies a second of one core in one state; `part` is `core/state`.
    CpuRate,
    /// Jiffies of one core in one state since boot, ever growing; `part` is `core/state`.
    CpuCounter,
    /// Bytes of memory in one state; `part` is the state.
    MemoryBytes,
}

/// One number of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRef<'a> {
    /// The metric, as policies name it.
    pub metric: &'a str,
    /// Which part of it, by [`Form`]; empty for a finished value.
    pub part: &'a str,
    /// What the number means.
    pub form: Form,
    /// The number. Never NaN or infinite: such values are refused by `decode`.
    pub value: f64,
}

/// One record: a heartbeat of its node, with any number of samples taken at one time.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    batch: &'a Batch,
    record: &'a Record,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    node: Span,
    time: Timestamp,
    interval_ms: u32,
    first: u32,
    samples: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    metric: Span,
    part: Span,
    form: Form,
    value: f64,
}

/// Records that one connector hands over at once, in flat arrays that are reused.
///
/// A batch and not a record is the unit, so that nothing is allocated, sent or awaited per
/// record. Names stay text here: the engine looks them up once and knows slots from then on.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The input it came by, such as `kafka` or `collector`.
    pub source: SourceName,
    /// When it reached us.
    pub arrival: Timestamp,
    /// Whether it refills windows after a start: then it opens no edge and decides nothing.
    pub refill: bool,
    text: String,
    records: Vec<Record>,
    samples: Vec<Sample>,
}

impl Batch {
    /// An empty batch of `source` that arrived at `arrival`.
    pub fn new(source: SourceName, arrival: Timestamp) -> Self {
        Self {
            source,
            arrival,
            ..Self::default()
        }
    }

    /// Begins a record of `node` at event time `time`; samples pushed next belong to it.
    ///
    /// `interval` is how often the agent says that it reports, if it says so.
    pub fn push_record(&mut self, node: &str, time: Timestamp, interval: Option<Duration>) {
        let node = self.push_text(node);
        self.records.push(Record {
            node,
            time,
            interval_ms: interval.map_or(0, |interval| {
                u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
            }),
            first: u32::try_from(self.samples.len()).unwrap_or(u32::MAX),
            samples: 0,
        });
    }

    /// Adds a sample to the record begun last. Without one it does nothing.
    pub fn push_sample(&mut self, metric: &str, part: &str, form: Form, value: f64) {
        let metric = self.push_text(metric);
        let part = self.push_text(part);
        if let Some(record) = self.records.last_mut() {
            record.samples += 1;
            self.samples.push(Sample {
                metric,
                part,
                form,
                value,
            });
        }
    }

    /// Takes back the record begun last with its samples, when the rest of it proves bad.
    pub fn pop_record(&mut self) {
        if let Some(record) = self.records.pop() {
            self.samples.truncate(record.first as usize);
            self.text.truncate(record.node.start as usize);
        }
    }

    /// The records in the order they were pushed.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.records.iter().map(|record| RecordRef {
            batch: self,
            record,
        })
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.records.clear();
        self.samples.clear();
    }

    fn push_text(&mut self, text: &str) -> Span {
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        Span {
            start,
            len: u32::try_from(text.len()).unwrap_or(u32::MAX),
        }
    }

    fn text(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.text
            .get(start..start + span.len as usize)
            .unwrap_or_default()
    }
}

impl<'a> RecordRef<'a> {
    /// The node that spoke.
    pub fn node(&self) -> &'a str {
        self.batch.text(self.record.node)
    }

    /// When it was measured.
    pub fn time(&self) -> Timestamp {
        self.record.time
    }

    /// How often the agent says that it reports.
    pub fn interval(&self) -> Option<Duration> {
        (self.record.interval_ms > 0)
            .then(|| Duration::from_millis(u64::from(self.record.interval_ms)))
    }

    /// The numbers of the record; none in a bare heartbeat.
    pub fn samples(&self) -> impl Iterator<Item = SampleRef<'a>> + use<'a> {
        let batch = self.batch;
        let first = self.record.first as usize;
        batch
            .samples
            .get(first..first + self.record.samples as usize)
            .unwrap_or_default()
            .iter()
            .map(move |sample| SampleRef {
                metric: batch.text(sample.metric),
                part: batch.text(sample.part),
                form: sample.form,
                value: sample.value,
            })
    }
}

/// The name of an input, from a closed set per run: `kafka`, `collector`, `alerts`,
/// `openstack`, `kubernetes`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SourceName {
    /// The metrics topics.
    #[default]
    Kafka,
    /// `POST /v1/events`.
    Collector,
    /// `POST /v1/alerts`.
    Alerts,
    /// The cloud's own answers.
    Openstack,
    /// The cluster's own answers.
    Kubernetes,
}

impl SourceName {
    /// As it is written in logs, metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Collector => "collector",
            Self::Alerts => "alerts",
            Self::Openstack => "openstack",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// How well an input can be heard. Sent when it changes and at least every ten seconds.
///
/// A source that is not reported on for 30 s counts as not heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Which input.
    pub source: SourceName,
    /// Whether it demonstrably flows: connected, assigned, every partition moving on or at its
    /// end, the last listing whole.
    pub flowing: bool,
    /// How far it is behind its end: the age of the oldest record not yet read.
    pub lag: Duration,
    /// Whether what lies before the committed position has been read again after a start. Never
    /// of a source that keeps nothing that could be.
    pub refilled: bool,
    /// What is wrong, for a person to read; empty when nothing is.
    pub trouble: String,
}

impl SourceReport {
    /// A source reports at least this often, changed or not. `limits.source_timeout` has to be
    /// longer, or a source that is well cannot be heard between two of its reports.
    pub const EVERY: Duration = Duration::from_secs(10);
}

/// An alert, after de-duplication by fingerprint, start and status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The label `alertname`.
    pub name: String,
    /// Whether it fires; a resolved alert is no proof of health.
    pub firing: bool,
    /// All labels, `alertname` too.
    pub labels: BTreeMap<String, String>,
    /// The annotation `summary`, or else `description`, or nothing.
    pub summary: String,
    /// Alertmanager's fingerprint of the label set.
    pub fingerprint: String,
    /// When it began to fire.
    pub starts_at: Timestamp,
}

/// What an executor saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// Every VM of ours that the cloud listed.
    Servers {
        /// When the listing was asked for.
        at: Timestamp,
        /// False if a page failed or a row came back as unknown: not in the list is then not gone.
        complete: bool,
        /// The VMs.
        servers: Vec<ServerView>,
    },
    /// One VM, asked for by id.
    Server(ServerView),
    /// The cloud answered 404 for this id.
    ServerGone(VmId),
    /// Every node that the cluster listed.
    Nodes {
        /// When the listing was asked for.
        at: Timestamp,
        /// The nodes.
        nodes: Vec<NodeView>,
    },
    /// One node changed.
    Node(NodeView),
    /// A node was deleted.
    NodeGone {
        /// Its name.
        name: NodeName,
        /// Its uid, so that a second node of the name is not taken for the first.
        uid: String,
    },
    /// A node renewed its lease.
    Lease {
        /// The node.
        node: NodeName,
        /// `spec.renewTime`.
        renewed: Timestamp,
    },
    /// Pods that the scheduler cannot place, and those that take room on each node.
    Pods {
        /// Pods with `PodScheduled=False`, reason `Unschedulable`, and no nominated node.
        unschedulable: Vec<PodView>,
        /// The shapes of the pods that can be moved, each once and in their order.
        shapes: Vec<PodShape>,
        /// What runs on each node.
        nodes: BTreeMap<NodeName, NodePods>,
    },
    /// Every operation that has ports or floating addresses in the cloud.
    Ports(Vec<PortsView>),
}

/// Ports and floating addresses that were made for a VM of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsView {
    /// The operation that made them.
    pub operation: OperationId,
    /// The pool that it made them for.
    pub pool: PoolName,
    /// The name of the VM that they were made for.
    pub node: NodeName,
}

/// A pod that waits for room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    /// `namespace/name`.
    pub name: String,
    /// Since when it is unschedulable.
    pub since: Timestamp,
    /// What it asks for.
    pub requests: Requests,
    /// `spec.nodeSelector`: a pool whose labels differ cannot help it.
    pub node_selector: BTreeMap<String, String>,
}

/// An amount of cpu and memory, asked for or to be had.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
pub struct Requests {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// How many pods.
    pub pods: u32,
}

/// A VM as the cloud shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its id.
    pub id: VmId,
    /// Its name, which is also its node's.
    pub name: String,
    /// Nova's status.
    pub status: ServerStatus,
    /// `OS-EXT-STS:task_state`: what is under way.
    pub task_state: Option<String>,
    /// When it was created: with the id, its generation.
    pub created: Timestamp,
    /// Its metadata, our marks among it.
    pub metadata: Labels,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// `fault.message` of a server in ERROR.
    pub fault: Option<String>,
    /// Availability zone, a failure domain.
    pub zone: Option<String>,
    /// Nova's opaque `hostId`: equal for two VMs of one hypervisor.
    pub host_id: Option<String>,
}

/// Nova's status of a server. A word not listed here is kept and fails nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerStatus {
    /// Being made.
    Build,
    /// Running.
    Active,
    /// Off.
    Shutoff,
    /// Rebooting, softly or hard.
    Reboot,
    /// Being rebuilt.
    Rebuild,
    /// Failed.
    Error,
    /// Deleted, still shown.
    Deleted,
    /// Its cell is down: not gone, not known.
    Unknown,
    /// Any other.
    Other(Box<str>),
}

/// A node as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Its uid: with the name, its generation.
    pub uid: String,
    /// The VM in `spec.providerID`.
    pub vm: Option<VmId>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations that matter to us (`do-not-disrupt`, `scale-down-disabled`).
    pub annotations: Labels,
    /// When it was created.
    pub created: Timestamp,
    /// The condition `Ready`.
    pub ready: Ready,
    /// When `ready` last changed.
    pub ready_since: Timestamp,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// Whether it is of the control plane: never ours to touch without the operator's word.
    pub control_plane: bool,
    /// What keeps pods off it that do not bear it.
    pub taints: Vec<Taint>,
    /// What it has to give.
    pub allocatable: Requests,
}

/// The condition `Ready` of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ready {
    /// Reports well.
    True,
    /// Reports ill.
    False,
    /// The cluster has not heard from it.
    Unknown,
}

/// What an operator wishes, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorRequest {
    /// The idempotency key that the client sent: the same key twice is one wish.
    pub key: String,
    /// Who asked, as authenticated or as the client says on loopback.
    pub who: String,
    /// Why, in the operator's words.
    pub why: String,
    /// What.
    pub wish: Wish,
}

/// The wishes there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "wish")]
pub enum Wish {
    /// No mutating call from now on, for one pool or for all.
    Pause {
        /// The pool, or all.
        pool: Option<PoolName>,
    },
    /// The end of a pause.
    Resume {
        /// The pool, or all.
        pool: Option<PoolName>,
    },
    /// This many nodes in the pool, within its bounds.
    Scale {
        /// The pool.
        pool: PoolName,
        /// How many.
        size: u32,
    },
    /// A new VM for this node.
    Replace {
        /// The node.
        node: NodeName,
    },
    /// Stop an operation at its next step and undo what can be undone.
    Cancel {
        /// Which.
        operation: OperationId,
    },
    /// Never touch this node, or touch it again.
    Protect {
        /// The node.
        node: NodeName,
        /// False takes the protection off.
        on: bool,
    },
    /// Take VMs with our marks that the journal does not know under management.
    Adopt {
        /// One node, or all of a pool.
        target: Target,
    },
    /// Leave a node or a pool alone for a while.
    Maintenance {
        /// Node or pool.
        target: Target,
        /// For how long from now; zero ends it.
        length: Duration,
    },
}

/// A node or a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One node.
    Node(NodeName),
    /// One pool.
    Pool(PoolName),
}
