//! When a record was in hand, when its action began, and when a silence was noticed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rhizome_actions::{Executor, Gate, Seen};
use rhizome_connectors::deadletter::Origin;
use rhizome_connectors::kafka::{Decoding, Records};
use rhizome_engine::action::{Action, ActionKind, ActionResult, Done, Failure};
use rhizome_engine::event::{Batch, Observation};
use rhizome_engine::journal::Record;
use rhizome_engine::time::{Clock, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::StepClock;
use crate::fleet;

/// What the record of a spike has in it, and no other.
const SPIKE: &[u8] = br#""cpu":1.0000,"#;

/// Shared by all who see a record on its way.
pub(crate) struct Timing {
    clock: Arc<StepClock>,
    /// Looked for only while they are sent: the search costs as much as decoding.
    spikes: AtomicBool,
    in_hand: Mutex<BTreeMap<usize, Instant>>,
    began: Mutex<Vec<Duration>>,
    /// The last record of each node that fell silent, and when the silence was noticed.
    silent: Mutex<BTreeMap<String, (Timestamp, Option<Timestamp>)>>,
}

/// Decodes, and notes when a spike was in hand.
pub(crate) struct Timed {
    pub(crate) inner: Decoding,
    pub(crate) timing: Arc<Timing>,
}

/// The executor: notes that it was called.
pub(crate) struct Hand(pub(crate) Arc<Timing>);

impl Timing {
    pub(crate) fn new(clock: Arc<StepClock>) -> Self {
        Self {
            clock,
            spikes: AtomicBool::new(false),
            in_hand: Mutex::default(),
            began: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// Looks for spikes, or no longer.
    pub(crate) fn watch_spikes(&self, on: bool) {
        self.spikes.store(on, Ordering::Relaxed);
    }

    /// From `last` on nothing more comes from this node.
    pub(crate) fn falls_silent(&self, node: &str, last: Timestamp) {
        lock(&self.silent).insert(node.to_owned(), (last, None));
    }

    /// From record in hand to executor's call, of each spike.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        lock(&self.began).clone()
    }

    /// How long each silence had lasted when it was noticed, as far as they were.
    pub(crate) fn silences(&self) -> Vec<Duration> {
        let silent = lock(&self.silent);
        let noticed = silent.values().filter_map(|(last, noticed)| {
            let noticed = (*noticed)?;
            Some(noticed.since(*last))
        });
        noticed.collect()
    }

    /// Follows what was journaled: the first word about a silent node's silence counts.
    pub(crate) fn told(&self, record: &Record) {
        let Record::Refusal { refusal } = record else {
            return;
        };
        let mut values = refusal.evidence.values.iter();
        let (Some(node), true) = (
            &refusal.node,
            values.any(|value| value.signal.starts_with("silent")),
        ) else {
            return;
        };
        if let Some((_, noticed)) = lock(&self.silent).get_mut(node.as_str()) {
            noticed.get_or_insert(self.clock.now().wall);
        }
    }

    fn in_hand(&self, payload: &[u8]) {
        let now = Instant::now();
        if !payload.windows(SPIKE.len()).any(|part| part == SPIKE) {
            return;
        }
        let text = String::from_utf8_lossy(payload);
        let number = text.split("-node-").nth(1).and_then(|rest| rest.get(..6));
        if let Some(place) = number.and_then(|number| number.parse().ok()) {
            lock(&self.in_hand).insert(place, now);
        }
    }

    fn begins(&self, action: &Action) {
        let now = Instant::now();
        let ActionKind::RebootServer { vm, .. } = &action.kind else {
            return;
        };
        let place = fleet::place_of(vm.id.as_str());
        if let Some(in_hand) = place.and_then(|place| lock(&self.in_hand).remove(&place)) {
            lock(&self.began).push(now - in_hand);
        }
    }
}

impl Records for Timed {
    fn read(&mut self, payload: &[u8], batch: &mut Batch) -> usize {
        if self.timing.spikes.load(Ordering::Relaxed) {
            self.timing.in_hand(payload);
        }
        self.inner.read(payload, batch)
    }

    fn keep(&mut self, at: Timestamp, origin: Origin, payload: &[u8]) {
        self.inner.keep(at, origin, payload);
    }

    fn passed_over(&mut self, at: Timestamp, origin: Origin, count: i64) {
        self.inner.passed_over(at, origin, count);
    }
}

#[async_trait]
impl Executor for Hand {
    async fn execute(&self, action: &Action, _gate: Arc<dyn Gate>) -> ActionResult {
        self.0.begins(action);
        Ok(Done::Accepted)
    }

    async fn observe(&self) -> Result<Vec<Observation>, Failure> {
        Ok(Vec::new())
    }

    async fn watch(&self, _out: mpsc::Sender<Seen>, stop: CancellationToken) {
        stop.cancelled().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
