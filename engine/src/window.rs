//! Sliding windows over event time, per node and metric: the samples, and what is computed
//! over them. It decides nothing and knows no rules; `engine.rs` pushes into it and reads from
//! it for the conditions of the policies.
//!
//! # What a window is
//!
//! The naive model in the tests is written from this section alone.
//!
//! - **Ticks.** Event times are kept to a tick: 20 ms if the metric's longest window is at most
//!   17 minutes, more for longer ones (100 ms for an hour, 500 ms for six, 2 s for a day). Two times in one
//!   tick are one time.
//! - **Values** are kept as whole ten-millionths if they lie within ±214.7 and lose no more than
//!   a thousandth of themselves by it. The first value of a node and metric that does not fit
//!   (bytes, counters) makes that series keep all further ones as `f64`, exactly, at 10 bytes a
//!   sample instead of 6. So a ratio is off by at most 5e-8, and not at all if it has up to seven
//!   decimals; of such values, sums and means are exact too. `Stat::Ewma` is off by less than
//!   1e-6 of the values' range beside that, for its weights are whole numbers.
//! - **Panes** are 10 s long, anchored at the epoch; 5, 2 or 1 s if the shortest window is shorter.
//!   A window of length L at `now` is the last whole panes that together cover L, and the
//!   running one, which holds `now`. It sees the samples whose event time is in these panes.
//! - **Refused** are samples more than [`FUTURE_BOUND`] ahead of `now`, those older than the
//!   lateness bound, those older than every window, and values that are not finite.
//! - **Duplicates** have the same node, metric and tick: the larger value wins.
//! - **Crowding.** A second (or tick, if longer) of one node and metric holds one sample, the
//!   newest. This bounds what an agent that sends faster can cost.
//! - **Coverage** is the share of the whole panes that are covered; the running one may yet be
//!   empty. A pane is covered if a sample lies within five quarters of the reporting interval
//!   before its end, or of a pane's length if that is longer. The interval is what the node's
//!   newest sample of this metric told, at most [`MAX_INTERVAL`]; without that the second smallest
//!   spacing of the samples in the metric's longest window, of which there must be three. A sample
//!   just before the window covers too, as an agent that reports each minute needs.
//! - **Of a pool**, mean, last, ewma, slope, rate and standard deviation are the mean of the
//!   nodes' values, max and min are over the nodes, p95 is over all samples of all nodes, count is
//!   the sum, and coverage is the mean over all members, silent ones counting 0.
//!
//! So a reading depends on which samples were pushed and on `now`, never on their order.

use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use pace::Pace;
use plan::Spec;
use series::Metric;

mod ahead;
mod bounds;
mod columns;
mod coverage;
mod exact;
mod pace;
mod plan;
mod series;
mod slab;
mod snapshot;
mod stat;
#[cfg(test)]
mod tests;

pub(crate) use bounds::{Part, Span};
pub use coverage::MAX_INTERVAL;
pub(crate) use exact::ExactSum;
pub use plan::{FUTURE_BOUND, MAX_WINDOW};
pub(crate) use snapshot::Reader;
pub use snapshot::SnapshotError;

/// The hash of metric names is the same in every run; they come from the operator's policies
/// and are only looked up, so that no sender can choose them to collide.
const SEED: u64 = 0;

/// Stands in [`Windows::heard`] for a slot without a node.
const NO_NODE: i64 = i64::MIN;

/// Stands in [`Windows::heard`] for a node that was not heard yet.
const NEVER: i64 = i64::MIN + 1;

/// A node's place in the engine's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSlot(pub u32);

/// A metric's place in the plan of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricSlot(pub u16);

/// What is computed over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stat {
    /// Arithmetic mean of the samples.
    Mean,
    /// Largest sample.
    Max,
    /// Smallest sample.
    Min,
    /// 95th percentile of the samples, nearest rank.
    P95,
    /// Population standard deviation of the samples.
    StdDev,
    /// Mean with weights that halve every half-life, here the window's length over four.
    Ewma,
    /// Least-squares slope, per second.
    Slope,
    /// Increase of a counter per second, resets taken into account.
    Rate,
    /// Number of samples.
    Count,
    /// The newest sample.
    Last,
    /// Share of the window's whole panes that are covered, 0..=1.
    Coverage,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// The value; none if the window holds too little for it. Missing is not zero.
    pub value: Option<f64>,
    /// Share of the window's whole panes that are covered by samples, 0..=1.
    pub coverage: f64,
}

/// The metrics and windows that the policies name, and so what is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowPlan {
    /// Metric names with the windows asked of each; the place is the [`MetricSlot`].
    pub metrics: Vec<(String, Vec<Duration>)>,
}

/// One value of one metric of one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub time: Timestamp,
    /// The value; what is not finite is refused.
    pub value: f64,
    /// How often the agent says that it reports, if it says so.
    pub interval: Option<Duration>,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in.
    Taken,
    /// One of the same node, metric and time was in: the larger value stays.
    Duplicate,
    /// Too old for the lateness bound, or for every window.
    Late,
    /// Too far ahead of the clock.
    Future,
    /// A newer one of the same second is in.
    Crowded,
    /// Not a finite number, or no such node or metric.
    Refused,
}

/// The windows of all nodes and metrics.
#[derive(Debug)]
pub struct Windows {
    grid: Grid,
    lateness: Duration,
    /// By [`MetricSlot`].
    metrics: Vec<Metric>,
    slots: HashMap<String, MetricSlot, FixedState>,
    /// Event time of the last sign of life in milliseconds, by [`NodeSlot`].
    heard: Vec<i64>,
    /// By [`NodeSlot`].
    paces: Vec<Pace>,
    free: Vec<NodeSlot>,
}

/// The panes: their length in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    pane: i64,
}

impl Windows {
    /// Windows for `plan`, without a node. Samples older than `lateness` are not taken.
    pub fn new(plan: &WindowPlan, lateness: Duration) -> Self {
        let mut windows = Self {
            grid: Grid {
                pane: plan::pane(plan),
            },
            lateness,
            metrics: Vec::new(),
            slots: HashMap::with_hasher(FixedState::with_seed(SEED)),
            heard: Vec::new(),
            paces: Vec::new(),
            free: Vec::new(),
        };
        windows.replan(plan);
        windows
    }

    /// Follows a new plan. A metric that stays keeps its samples, also when its windows change:
    /// a longer one then fills up, and its coverage says so. Metric slots are the new plan's.
    pub fn replan(&mut self, plan: &WindowPlan) {
        self.grid = Grid {
            pane: plan::pane(plan),
        };
        let old_slots = std::mem::replace(
            &mut self.slots,
            HashMap::with_hasher(FixedState::with_seed(SEED)),
        );
        let mut old: Vec<Option<Metric>> = self.metrics.drain(..).map(Some).collect();
        for (index, (name, windows)) in plan.metrics.iter().enumerate() {
            let spec = Spec::new(windows, self.grid);
            let kept = old_slots
                .get(name)
                .and_then(|slot| old.get_mut(usize::from(slot.0))?.take());
            self.metrics.push(match kept {
                Some(metric) if metric.spec.same_layout(&spec) => metric.with(spec),
                Some(metric) => metric.relaid(spec),
                None => Metric::new(spec, self.heard.len()),
            });
            let slot = MetricSlot(u16::try_from(index).unwrap_or(u16::MAX));
            self.slots.insert(name.clone(), slot);
        }
    }

    /// The slot of a metric that the plan names.
    pub fn metric_slot(&self, name: &str) -> Option<MetricSlot> {
        self.slots.get(name).copied()
    }

    /// A slot for a new node: one that was removed, if there is, else the next.
    pub fn add_node(&mut self) -> NodeSlot {
        if let Some(slot) = self.free.pop() {
            if let Some(heard) = self.heard.get_mut(slot.0 as usize) {
                *heard = NEVER;
            }
            if let Some(pace) = self.paces.get_mut(slot.0 as usize) {
                *pace = Pace::default();
            }
            return slot;
        }
        let slot = NodeSlot(u32::try_from(self.heard.len()).unwrap_or(u32::MAX));
        grow(&mut self.heard);
        self.heard.push(NEVER);
        grow(&mut self.paces);
        self.paces.push(Pace::default());
        for metric in &mut self.metrics {
            metric.add();
        }
        slot
    }

    /// Forgets a node and all its samples; its slot will be another's.
    pub fn remove_node(&mut self, slot: NodeSlot) {
        let Some(heard) = self.heard.get_mut(slot.0 as usize) else {
            return;
        };
        if *heard == NO_NODE {
            return;
        }
        *heard = NO_NODE;
        for metric in &mut self.metrics {
            metric.clear(slot.0 as usize);
        }
        self.free.push(slot);
    }

    /// Notes a sign of life with event time `time`. One ahead of the clock counts as of `now`,
    /// so that a fast clock does not make a node immortal.
    pub fn heard(&mut self, slot: NodeSlot, time: Timestamp, now: Timestamp) {
        if let Some(heard) = self.heard.get_mut(slot.0 as usize)
            && *heard != NO_NODE
        {
            *heard = (*heard).max(time.min(now).millis());
        }
    }

    /// Notes how often the node's agent reports, by a record of event time `time` that is yet to
    /// be [`heard`](Self::heard). Says whether it is more often than was known.
    pub(crate) fn paced(
        &mut self,
        slot: NodeSlot,
        time: Timestamp,
        interval: Option<Duration>,
        now: Timestamp,
    ) -> bool {
        let last = self.last_heard(slot);
        let Some(pace) = self.paces.get_mut(slot.0 as usize) else {
            return false;
        };
        let before = pace.interval();
        pace.note(last, time.min(now), interval);
        before > pace.interval()
    }

    /// How often the node's agent reports, as its records tell it.
    pub(crate) fn interval(&self, slot: NodeSlot) -> Option<Duration> {
        self.paces.get(slot.0 as usize)?.interval()
    }

    /// The event time of the node's last sign of life.
    pub fn last_heard(&self, slot: NodeSlot) -> Option<Timestamp> {
        let heard = *self.heard.get(slot.0 as usize)?;
        (heard > NEVER).then_some(Timestamp(heard))
    }

    /// Takes in a sample.
    pub fn push(
        &mut self,
        slot: NodeSlot,
        metric: MetricSlot,
        sample: Sample,
        now: Timestamp,
    ) -> Pushed {
        if sample.time < now.minus(self.lateness) {
            return Pushed::Late;
        }
        self.refill(slot, metric, sample, now)
    }

    /// Takes in a sample without regard to the lateness bound: one that is read again after a
    /// start and decides nothing.
    pub fn refill(
        &mut self,
        slot: NodeSlot,
        metric: MetricSlot,
        sample: Sample,
        now: Timestamp,
    ) -> Pushed {
        if sample.time > now.plus(FUTURE_BOUND) {
            return Pushed::Future;
        }
        let node = slot.0 as usize;
        let lives = self.heard.get(node).is_some_and(|heard| *heard != NO_NODE);
        match self.metrics.get_mut(usize::from(metric.0)) {
            Some(metric) if lives => metric.push(node, sample, now),
            _ => Pushed::Refused,
        }
    }

    /// Reads `stat` over the window of a node that ends `now`. A window that the plan does not
    /// name reads as nothing.
    pub fn read(
        &self,
        slot: NodeSlot,
        metric: MetricSlot,
        stat: Stat,
        window: Duration,
        now: Timestamp,
    ) -> Reading {
        let Some((metric, window)) = self.window(metric, window) else {
            return Reading::default();
        };
        metric
            .read(slot.0 as usize, stat, window, now)
            .unwrap_or_default()
    }

    /// The value of [`Windows::read`] without its coverage, which costs as much again.
    pub(crate) fn value(
        &self,
        slot: NodeSlot,
        metric: MetricSlot,
        stat: Stat,
        window: Duration,
        now: Timestamp,
    ) -> Option<f64> {
        let (metric, window) = self.window(metric, window)?;
        metric.value(slot.0 as usize, stat, window, now)
    }

    /// What [`Windows::value`] lies within if there is one; nothing if that is not known cheaply.
    pub(crate) fn bounds(
        &self,
        slot: NodeSlot,
        metric: MetricSlot,
        stat: Stat,
        window: Duration,
        now: Timestamp,
    ) -> Option<(f64, f64)> {
        let (metric, window) = self.window(metric, window)?;
        let window = metric.spec.windows.get(window)?;
        metric.bounds(slot.0 as usize, stat, window, now)
    }

    /// What a node adds to its pool's [`Span`] over a window.
    pub(crate) fn part(
        &self,
        slot: NodeSlot,
        metric: MetricSlot,
        window: Duration,
        now: Timestamp,
    ) -> Part {
        let part = || {
            let (metric, window) = self.window(metric, window)?;
            let window = metric.spec.windows.get(window)?;
            Some(metric.part(slot.0 as usize, window, now))
        };
        part().unwrap_or_default()
    }

    /// Which pane of a metric runs at `now`. In one pane a reading changes only with a sample.
    pub(crate) fn pane(&self, metric: MetricSlot, now: Timestamp) -> Option<i64> {
        Some(self.metrics.get(usize::from(metric.0))?.running(now))
    }

    /// Reads `stat` over the windows of a pool's nodes; the module says how they are put
    /// together.
    pub fn read_pool(
        &self,
        slots: &[NodeSlot],
        metric: MetricSlot,
        stat: Stat,
        window: Duration,
        now: Timestamp,
    ) -> Reading {
        let Some((metric, window)) = self.window(metric, window) else {
            return Reading::default();
        };
        let of_node = match stat {
            // Its samples are gathered below.
            Stat::P95 => Stat::Coverage,
            stat => stat,
        };
        let mut coverage = 0.0;
        let mut values = Vec::with_capacity(slots.len());
        let mut exact = ExactSum::default();
        for slot in slots {
            let reading = metric.read(slot.0 as usize, of_node, window, now);
            let reading = reading.unwrap_or_default();
            coverage += reading.coverage;
            values.extend(reading.value);
            reading.value.into_iter().for_each(|value| exact.add(value));
        }
        let members = slots.len().max(1) as f64;
        let count = values.len() as f64;
        let sum = exact.sum().unwrap_or_else(|| values.iter().sum());
        let value = match stat {
            Stat::P95 => {
                let mut samples = Vec::new();
                for slot in slots {
                    metric.collect(slot.0 as usize, window, now, &mut samples);
                }
                stat::percentile_wide(&samples)
            }
            Stat::Max => values.into_iter().reduce(f64::max),
            Stat::Min => values.into_iter().reduce(f64::min),
            Stat::Count => Some(sum),
            Stat::Coverage => Some(sum / members),
            Stat::Mean | Stat::StdDev | Stat::Ewma | Stat::Slope | Stat::Rate | Stat::Last => {
                (!values.is_empty()).then(|| sum / count)
            }
        };
        Reading {
            value,
            coverage: coverage / members,
        }
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        let names: usize = self.slots.keys().map(String::capacity).sum();
        self.metrics.iter().map(Metric::bytes).sum::<usize>()
            + self.heard.capacity() * size_of::<i64>()
            + self.paces.capacity() * size_of::<Pace>()
            + self.free.capacity() * size_of::<NodeSlot>()
            + self.slots.allocation_size()
            + names
    }

    fn window(&self, metric: MetricSlot, length: Duration) -> Option<(&Metric, usize)> {
        let metric = self.metrics.get(usize::from(metric.0))?;
        Some((metric, metric.spec.window(length)?))
    }
}

/// Makes room for one more without doubling: with 100,000 nodes half of a doubled vector would
/// be more than many a window.
pub(crate) fn grow<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(64));
    }
}
