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

use super::coverage::LOOKBACK;
use super::plan::{Pane, Spec};
use super::slab::Slab;
use super::stat::{self, Column};
use super::{FUTURE_BOUND, Pushed, Reading, Sample, Stat, coverage, grow};
use crate::time::Timestamp;

/// Fixed-point units in 1. Ten millionths hold every ratio with seven decimals exactly, so that
/// the mean of samples of 0.9 is 0.9 and not a little less.
pub(super) const UNITS: f64 = 1e7;

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

/// Columns of equal length.
#[derive(Debug)]
struct Class {
    rows: usize,
    times: Slab<u16>,
    fixed: Slab<i32>,
    wide: Slab<f64>,
}

/// Where the samples of one node are.
#[derive(Debug, Clone, Copy, Default)]
struct Series {
    /// Tick of the newest sample. The others' ticks are the nearest before it that end in
    /// their 16 bits.
    newest: i64,
    times: u32,
    values: u32,
    first: u16,
    len: u16,
    class: u8,
    held: Held,
    /// What the newest sample said of its agent's reporting interval; 0 for nothing.
    interval: u16,
    /// Of the newest samples, how many follow each other within [`Spec::calm`]. Where a window
    /// lies in them nothing is missing, and nobody need look.
    calm: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Held {
    /// No blocks yet.
    #[default]
    Nothing,
    /// Values as `i32` of [`UNITS`].
    Fixed,
    /// Values as they came.
    Wide,
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
        let from = whole.start(end - window.panes * self.spec.pane, window.panes);
        let to = whole.at(end + self.spec.pane);
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
    fn running(&self, now: Timestamp) -> i64 {
        if self.pane.holds(now) {
            return self.pane.tick;
        }
        self.spec.pane_of(now).tick
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

impl Class {
    fn new(rows: usize) -> Self {
        Self {
            rows,
            times: Slab::new(rows),
            fixed: Slab::new(rows),
            wide: Slab::new(rows),
        }
    }

    /// Takes the blocks of `series` back.
    fn give(&mut self, series: Series) {
        match series.held {
            Held::Nothing => return,
            Held::Fixed => self.fixed.give(series.values),
            Held::Wide => self.wide.give(series.values),
        }
        self.times.give(series.times);
    }

    /// The tick of sample number `at`.
    fn tick(&self, series: &Series, at: usize) -> i64 {
        let times = self.times.block(series.times);
        let time = times.get(usize::from(series.first) + at).copied();
        full_tick(series.newest, time.unwrap_or_default())
    }

    /// How many samples are older than `tick`.
    fn place(&self, series: &Series, tick: i64) -> usize {
        let times = self.times.block(series.times).get(series.rows());
        older(times.unwrap_or_default(), series.newest, tick)
    }

    fn set(&mut self, series: &Series, at: usize, tick: i64, value: f64) {
        let row = usize::from(series.first) + at;
        if let Some(place) = self.times.block_mut(series.times).get_mut(row) {
            *place = tick as u16;
        }
        self.set_value(series, row, value);
    }

    fn set_value(&mut self, series: &Series, row: usize, value: f64) {
        if series.held == Held::Wide {
            if let Some(place) = self.wide.block_mut(series.values).get_mut(row) {
                *place = value;
            }
        } else if let Some(place) = self.fixed.block_mut(series.values).get_mut(row) {
            *place = fixed(value).unwrap_or_default();
        }
    }

    /// Of two values for one time the larger stays.
    fn raise(&mut self, series: &Series, at: usize, value: f64) {
        let row = usize::from(series.first) + at;
        let held = match series.held {
            Held::Wide => self.wide.block(series.values).get(row).copied(),
            _ => self.fixed.block(series.values).get(row).map(|v| float(*v)),
        };
        if held.is_none_or(|held| value > held) {
            self.set_value(series, row, value);
        }
    }

    /// Counts the calm samples after a change that was not at the end.
    fn recount(&self, series: &mut Series, bound: i64) {
        let times = self.times.block(series.times).get(series.rows());
        series.calm = calm(times.unwrap_or_default(), bound);
    }

    fn insert(&mut self, series: &mut Series, at: usize, tick: i64, value: f64) {
        let rows = series.rows();
        let (from, to) = (rows.start + at, rows.end);
        shift(self.times.block_mut(series.times), from, to);
        match series.held {
            Held::Wide => shift(self.wide.block_mut(series.values), from, to),
            _ => shift(self.fixed.block_mut(series.values), from, to),
        }
        series.len += 1;
        self.set(series, at, tick, value);
    }

    /// Drops what no window that ends from now on can see, but for one sample before it.
    fn evict(&self, series: &mut Series, start: i64, horizon: i64) {
        while series.len > 1 && self.tick(series, 1) < start {
            series.first += 1;
            series.len -= 1;
        }
        if series.len > 0 && self.tick(series, 0) < horizon {
            series.first += 1;
            series.len -= 1;
        }
        if series.len == 0 {
            series.first = 0;
        }
    }

    /// Drops what is newer than `bound`: the clock has been set back.
    fn cut_after(&self, series: &mut Series, bound: i64) {
        let len = self.place(series, bound + 1);
        if let Some(last) = len.checked_sub(1) {
            series.newest = self.tick(series, last);
        }
        series.len = u16::try_from(len).unwrap_or(series.len);
        series.calm = series.len.min(1);
    }

    /// Moves the samples to the front of their blocks.
    fn pack(&mut self, series: &mut Series) {
        let rows = series.rows();
        self.times
            .block_mut(series.times)
            .copy_within(rows.clone(), 0);
        match series.held {
            Held::Wide => self.wide.block_mut(series.values).copy_within(rows, 0),
            _ => self.fixed.block_mut(series.values).copy_within(rows, 0),
        }
        series.first = 0;
    }
}

impl Series {
    fn rows(&self) -> std::ops::Range<usize> {
        let first = usize::from(self.first);
        first..first + usize::from(self.len)
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

/// Gives `series` blocks that can hold `value`.
fn prepare(series: &mut Series, classes: &mut [Class], value: f64) {
    let Some(class) = classes.get_mut(usize::from(series.class)) else {
        return;
    };
    match (series.held, fixed(value)) {
        (Held::Nothing, Some(_)) => {
            series.held = Held::Fixed;
            series.times = class.times.take();
            series.values = class.fixed.take();
        }
        (Held::Nothing, None) => {
            series.held = Held::Wide;
            series.times = class.times.take();
            series.values = class.wide.take();
        }
        (Held::Fixed, None) => {
            let wide = class.wide.take();
            let held = class.fixed.block(series.values);
            for (to, from) in class.wide.block_mut(wide).iter_mut().zip(held) {
                *to = float(*from);
            }
            class.fixed.give(series.values);
            series.values = wide;
            series.held = Held::Wide;
        }
        (Held::Fixed, Some(_)) | (Held::Wide, _) => {}
    }
}

/// Moves a full column to the front of its block, or to a larger block if it all but fills it.
fn make_room(series: &mut Series, classes: &mut Vec<Class>, max_rows: usize) {
    let index = usize::from(series.class);
    let Some(class) = classes.get_mut(index) else {
        return;
    };
    class.pack(series);
    let slack = class.rows - usize::from(series.len);
    if slack > class.rows / 48 || class.rows >= max_rows {
        if slack == 0 {
            // Thinning keeps a series below this; the oldest sample gives way all the same.
            series.first = 1;
            series.len -= 1;
            class.pack(series);
        }
        return;
    }
    let rows = (class.rows * 2).min(max_rows);
    if classes.len() == index + 1 {
        classes.push(Class::new(rows));
    }
    let (Some(index), Some((small, large))) = (
        u8::try_from(index + 1).ok(),
        classes.split_at_mut_checked(index + 1),
    ) else {
        return;
    };
    let (Some(small), Some(large)) = (small.last_mut(), large.first_mut()) else {
        return;
    };
    let old = *series;
    series.class = index;
    series.times = large.times.take();
    copy(
        large.times.block_mut(series.times),
        small.times.block(old.times),
    );
    if series.held == Held::Wide {
        series.values = large.wide.take();
        copy(
            large.wide.block_mut(series.values),
            small.wide.block(old.values),
        );
    } else {
        series.values = large.fixed.take();
        copy(
            large.fixed.block_mut(series.values),
            small.fixed.block(old.values),
        );
    }
    small.give(old);
}

/// `value` in [`UNITS`], unless it is out of their range or would lose more than a thousandth
/// of itself.
pub(super) fn fixed(value: f64) -> Option<i32> {
    let scaled = value * UNITS;
    let rounded = (scaled + 0.5_f64.copysign(scaled)).trunc();
    let loss = (rounded - scaled).abs();
    (rounded.abs() <= f64::from(i32::MAX) && loss * 1e3 <= scaled.abs()).then_some(rounded as i32)
}

/// A value kept in [`UNITS`].
pub(super) fn float(units: i32) -> f64 {
    f64::from(units) / UNITS
}

/// A length in ticks.
fn ticks(length: Duration, spec: &Spec) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX) / spec.tick
}

/// The latest tick up to `newest` that ends in the 16 bits of `time`.
fn full_tick(newest: i64, time: u16) -> i64 {
    newest - i64::from((newest as u16).wrapping_sub(time))
}

/// How many of `times` are older than `tick`.
fn older(times: &[u16], newest: i64, tick: i64) -> usize {
    let Ok(age) = u16::try_from((newest - tick).max(-1)) else {
        // Newer than all of them, or older than any can be.
        return if tick > newest { times.len() } else { 0 };
    };
    let newest = newest as u16;
    times.partition_point(|time| newest.wrapping_sub(*time) > age)
}

/// How many of the newest of `times` follow each other within `bound` ticks.
fn calm(times: &[u16], bound: i64) -> u16 {
    let pairs = times.iter().rev().zip(times.iter().rev().skip(1));
    let follow = pairs.take_while(|(next, one)| i64::from(next.wrapping_sub(**one)) <= bound);
    u16::try_from(follow.count() + times.len().min(1)).unwrap_or(u16::MAX)
}

/// Moves rows `from..to` up by one.
fn shift<T: Copy>(column: &mut [T], from: usize, to: usize) {
    if to < column.len() {
        column.copy_within(from..to, from + 1);
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
