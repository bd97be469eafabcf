//! The samples of one metric, a series per node: kept sorted, thinned and no longer than needed.
//!
//! ```text
//!  first            newest
//!    v                v
//!  ..[p s s s s s s s s]..      p: the newest sample before the longest window, for coverage
//! ```
//!
//! What a series holds depends on the samples that were pushed and on the last `now`, never on
//! their order. What is made of it is in `stat.rs`.

use std::time::Duration;

use super::columns::{Class, Held, Series, calm, copy, full_tick, make_room, older, prepare};
use super::coverage::LOOKBACK;
use super::plan::{Pane, Spec, WindowSpec};
use super::stat::{self, Column};
use super::{FUTURE_BOUND, Pushed, Reading, Sample, Stat, coverage, grow};
use crate::time::Timestamp;

/// One metric of all nodes.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) spec: Spec,
    series: Vec<Series>,
    /// By [`Series::class`]; each holds twice the rows of the one before.
    classes: Vec<Class>,
    /// The pane of the last push. Reads are of the same one almost always, which spares each of
    /// them a division.
    pane: Pane,
}

/// The samples of a series, oldest first.
pub(super) struct View<'a> {
    pub(super) newest: i64,
    pub(super) interval: u16,
    /// As in [`Series`]; counted anew when a view is taken over.
    pub(super) calm: u16,
    pub(super) times: &'a [u16],
    pub(super) values: Column<'a>,
}

impl Metric {
    pub(super) fn new(spec: Spec, nodes: usize) -> Self {
        let mut series = Vec::new();
        series.reserve_exact(nodes);
        series.resize(nodes, Series::default());
        Self {
            classes: vec![Class::new(spec.rows)],
            pane: spec.pane_of(Timestamp(0)),
            spec,
            series,
        }
    }

    /// The same samples, read by the windows of `spec`, whose layout is the same.
    pub(super) fn with(self, spec: Spec) -> Self {
        Self {
            pane: spec.pane_of(Timestamp(0)),
            spec,
            ..self
        }
    }

    /// Room for one node more.
    pub(super) fn add(&mut self) {
        grow(&mut self.series);
        self.series.push(Series::default());
    }

    /// Forgets the samples of a node.
    pub(super) fn clear(&mut self, node: usize) {
        if let Some(series) = self.series.get_mut(node) {
            if let Some(class) = self.classes.get_mut(usize::from(series.class)) {
                class.give(*series);
            }
            *series = Series::default();
        }
    }

    pub(super) fn push(&mut self, node: usize, sample: Sample, now: Timestamp) -> Pushed {
        let Some(series) = self.series.get_mut(node) else {
            return Pushed::Refused;
        };
        if !sample.value.is_finite() {
            return Pushed::Refused;
        }
        if !self.pane.holds(now) {
            self.pane = self.spec.pane_of(now);
        }
        let start = self.pane.tick - self.spec.longest * self.spec.pane;
        let horizon = start - ticks(LOOKBACK, &self.spec);
        let tick = self.spec.tick_of(sample.time);
        if tick < horizon {
            return Pushed::Late;
        }
        prepare(series, &mut self.classes, sample.value);
        let Some(class) = self.classes.get_mut(usize::from(series.class)) else {
            return Pushed::Refused;
        };
        let ahead = self.spec.tick_of(now.plus(FUTURE_BOUND));
        if series.len > 0 && series.newest > ahead {
            class.cut_after(series, ahead);
        }
        class.evict(series, start, horizon);
        series.stretch(sample.value);
        let mut put = Put {
            series,
            class,
            spec: &self.spec,
            start,
        };
        let pushed = put.put(tick, sample);
        if usize::from(series.first) + usize::from(series.len) == class.rows {
            make_room(series, &mut self.classes, self.spec.max_rows);
        }
        pushed
    }

    /// What `stat` over window number `window` comes to.
    pub(super) fn read(
        &self,
        node: usize,
        stat: Stat,
        window: usize,
        now: Timestamp,
    ) -> Option<Reading> {
        let whole = self.view(node)?;
        let window = self.spec.windows.get(window)?;
        let end = self.running(now);
        let (from, to) = whole.range(window, &self.spec, end);
        let gaps = coverage::Gaps {
            spec: &self.spec,
            view: &whole,
            end,
        };
        let coverage = gaps.coverage(window.panes, from, to);
        let times = whole.times.get(from..to).unwrap_or_default();
        let values = whole.values.part(from..to);
        let value = match stat {
            Stat::Coverage => Some(coverage),
            _ => stat::value(stat, times, values, self.spec.tick, &window.weights),
        };
        Some(Reading { value, coverage })
    }

    /// The value of [`Metric::read`] without its coverage.
    pub(super) fn value(
        &self,
        node: usize,
        stat: Stat,
        window: usize,
        now: Timestamp,
    ) -> Option<f64> {
        if stat == Stat::Coverage {
            return self.read(node, stat, window, now)?.value;
        }
        let whole = self.view(node)?;
        let window = self.spec.windows.get(window)?;
        let (from, to) = whole.range(window, &self.spec, self.running(now));
        let times = whole.times.get(from..to).unwrap_or_default();
        let values = whole.values.part(from..to);
        stat::value(stat, times, values, self.spec.tick, &window.weights)
    }

    /// Adds the values in window number `window` to `all`.
    pub(super) fn collect(&self, node: usize, window: usize, now: Timestamp, all: &mut Vec<f64>) {
        if let (Some(view), Some(window)) = (self.view(node), self.spec.windows.get(window)) {
            let end = self.running(now);
            let from = view.at(end - window.panes * self.spec.pane);
            view.values
                .part(from..view.at(end + self.spec.pane))
                .collect(all);
        }
    }

    /// The first tick of the pane that runs at `now`.
    pub(super) fn running(&self, now: Timestamp) -> i64 {
        if self.pane.holds(now) {
            return self.pane.tick;
        }
        self.spec.pane_of(now).tick
    }

    pub(super) fn series(&self, node: usize) -> Option<&Series> {
        self.series.get(node)
    }

    /// The samples of a node, if there is such a node.
    pub(super) fn view(&self, node: usize) -> Option<View<'_>> {
        let series = self.series.get(node)?;
        let class = self.classes.get(usize::from(series.class))?;
        let rows = series.rows();
        let (times, values) = match series.held {
            Held::Nothing => (&[][..], Column::Fixed(&[])),
            Held::Fixed => (
                class.times.block(series.times),
                Column::Fixed(class.fixed.block(series.values)),
            ),
            Held::Wide => (
                class.times.block(series.times),
                Column::Wide(class.wide.block(series.values)),
            ),
        };
        Some(View {
            newest: series.newest,
            interval: series.interval,
            calm: series.calm,
            times: times.get(rows.clone()).unwrap_or_default(),
            values: values.part(rows),
        })
    }

    /// Takes over the samples of `view`, oldest first and of the same layout.
    pub(super) fn adopt(&mut self, node: usize, view: &View<'_>) {
        let Some(series) = self.series.get_mut(node).filter(|_| !view.times.is_empty()) else {
            return;
        };
        let mut index = 0;
        loop {
            if index == self.classes.len() {
                let rows = self.spec.rows << index;
                self.classes.push(Class::new(rows.min(self.spec.max_rows)));
            }
            if self
                .classes
                .get(index)
                .is_none_or(|c| view.times.len() < c.rows || c.rows >= self.spec.max_rows)
            {
                break;
            }
            index += 1;
        }
        let Some(class) = self.classes.get_mut(index) else {
            return;
        };
        series.class = u8::try_from(index).unwrap_or(u8::MAX);
        series.newest = view.newest;
        series.interval = view.interval;
        series.calm = calm(view.times, self.spec.calm);
        series.len = u16::try_from(view.times.len().min(class.rows)).unwrap_or(u16::MAX);
        series.times = class.times.take();
        copy(class.times.block_mut(series.times), view.times);
        match view.values {
            Column::Fixed(values) => {
                series.held = Held::Fixed;
                series.values = class.fixed.take();
                copy(class.fixed.block_mut(series.values), values);
                class.measure(series);
            }
            Column::Wide(values) => {
                series.held = Held::Wide;
                series.values = class.wide.take();
                copy(class.wide.block_mut(series.values), values);
            }
        }
        if usize::from(series.len) == class.rows {
            make_room(series, &mut self.classes, self.spec.max_rows);
        }
    }

    /// The same samples under another layout.
    pub(super) fn relaid(self, spec: Spec) -> Self {
        let nodes = self.series.len();
        let mut new = Metric::new(spec, nodes);
        for node in 0..nodes {
            if let Some(view) = self.view(node) {
                new.replay(node, &view, self.spec.tick, self.spec.crowd);
            }
        }
        new
    }

    /// Takes over the samples of `view`, which was laid out with other lengths of a tick and of
    /// what shares one sample.
    pub(super) fn replay(&mut self, node: usize, view: &View<'_>, tick: i64, crowd: i64) {
        if (tick, crowd) == (self.spec.tick, self.spec.crowd) {
            return self.adopt(node, view);
        }
        // The clock is not known here. It shows no less than this, so that nothing is dropped
        // that a window could still need; what is too old goes at the next push.
        let now = Timestamp(view.newest.saturating_mul(tick)).minus(FUTURE_BOUND);
        let interval = coverage::told(view.interval);
        for (at, value) in view.samples() {
            let sample = Sample {
                time: Timestamp(at.saturating_mul(tick)),
                value,
                interval,
            };
            self.push(node, sample, now);
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.classes.iter().map(|class| {
            class.times.bytes() + class.fixed.bytes() + class.wide.bytes() + size_of::<Class>()
        });
        columns.sum::<usize>() + self.series.capacity() * size_of::<Series>()
    }
}

/// A sample on its way into a series that has room for it.
struct Put<'a> {
    series: &'a mut Series,
    class: &'a mut Class,
    spec: &'a Spec,
    start: i64,
}

impl Put<'_> {
    fn put(&mut self, tick: i64, sample: Sample) -> Pushed {
        let interval = coverage::kept(sample.interval);
        let ahead = tick - self.series.newest;
        if self.series.len == 0 || ahead >= self.spec.crowd {
            return self.append(tick, sample.value, interval);
        }
        if ahead == 0 {
            self.series.interval = self.series.interval.max(interval);
        }
        let at = self.class.place(self.series, tick);
        let len = usize::from(self.series.len);
        if at < len {
            let next = self.class.tick(self.series, at);
            if next == tick {
                self.class.raise(self.series, at, sample.value);
                return Pushed::Duplicate;
            }
            if self.crowded(next, tick) {
                return Pushed::Crowded;
            }
        }
        if at > 0 && self.crowded(self.class.tick(self.series, at - 1), tick) {
            self.class.set(self.series, at - 1, tick, sample.value);
            if at < len {
                self.class.recount(self.series, self.spec.calm);
                return Pushed::Taken;
            }
            self.series.newest = tick;
            self.series.interval = interval;
            let follows = at > 1 && tick - self.class.tick(self.series, at - 2) <= self.spec.calm;
            if !follows {
                self.series.calm = 1;
            }
            return Pushed::Taken;
        }
        if at == len {
            return self.append(tick, sample.value, interval);
        }
        // Before the longest window the newest sample alone is of use.
        if at == 0 && self.class.tick(self.series, 0) < self.start {
            return Pushed::Late;
        }
        self.class.insert(self.series, at, tick, sample.value);
        if at == 1 && tick < self.start {
            self.series.first += 1;
            self.series.len -= 1;
        }
        self.class.recount(self.series, self.spec.calm);
        Pushed::Taken
    }

    fn append(&mut self, tick: i64, value: f64, interval: u16) -> Pushed {
        let follows = self.series.len > 0 && tick - self.series.newest <= self.spec.calm;
        self.series.calm = if follows {
            self.series.calm.saturating_add(1)
        } else {
            1
        };
        self.series.newest = tick;
        self.series.interval = interval;
        let at = usize::from(self.series.len);
        self.series.len += 1;
        self.class.set(self.series, at, tick, value);
        Pushed::Taken
    }

    /// Whether two ticks share the second that holds one sample.
    fn crowded(&self, one: i64, other: i64) -> bool {
        (one - other).abs() < self.spec.crowd
            && one.div_euclid(self.spec.crowd) == other.div_euclid(self.spec.crowd)
    }
}

impl View<'_> {
    /// How many samples are older than `tick`.
    pub(super) fn at(&self, tick: i64) -> usize {
        if tick > self.newest {
            return self.times.len();
        }
        older(self.times, self.newest, tick)
    }

    /// The samples of a window, while the pane runs that begins with `end`.
    pub(super) fn range(&self, window: &WindowSpec, spec: &Spec, end: i64) -> (usize, usize) {
        let from = self.start(end - window.panes * spec.pane, window.panes);
        (from, self.at(end + spec.pane))
    }

    /// The same for the first tick of a window. An agent that reports once in a pane has a sample
    /// in each of them and one in the running one, so that there is nothing to search.
    fn start(&self, tick: i64, panes: i64) -> usize {
        let panes = usize::try_from(panes).unwrap_or(usize::MAX);
        let guess = self.times.len().saturating_sub(panes).saturating_sub(1);
        let before = guess.checked_sub(1).and_then(|before| self.tick(before));
        match (before, self.tick(guess)) {
            (Some(before), Some(first)) if before < tick && tick <= first => guess,
            _ => self.at(tick),
        }
    }

    /// The tick of sample number `at`.
    pub(super) fn tick(&self, at: usize) -> Option<i64> {
        let time = self.times.get(at)?;
        Some(full_tick(self.newest, *time))
    }

    /// Ticks and values, oldest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = (i64, f64)> {
        (0..self.times.len()).filter_map(|at| Some((self.tick(at)?, self.values.value(at)?)))
    }
}

/// A length in ticks.
fn ticks(length: Duration, spec: &Spec) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX) / spec.tick
}
