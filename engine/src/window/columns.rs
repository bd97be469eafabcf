//! Where the samples are: columns of times and values in slabs, a block of each per series.
//!
//! These are the moves on the columns. Which sample goes where is decided in `series.rs`.

use super::bounds::Bounds;
use super::slab::Slab;

/// Fixed-point units in 1. Ten millionths hold every ratio with seven decimals exactly, so that
/// the mean of samples of 0.9 is 0.9 and not a little less.
pub(super) const UNITS: f64 = 1e7;

/// Columns of equal length.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) rows: usize,
    pub(super) times: Slab<u16>,
    pub(super) fixed: Slab<i32>,
    pub(super) wide: Slab<f64>,
}

/// Where the samples of one node are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Series {
    /// Tick of the newest sample. The others' ticks are the nearest before it that end in
    /// their 16 bits.
    pub(super) newest: i64,
    pub(super) times: u32,
    pub(super) values: u32,
    pub(super) first: u16,
    pub(super) len: u16,
    pub(super) class: u8,
    pub(super) held: Held,
    /// What the newest sample said of its agent's reporting interval; 0 for nothing.
    pub(super) interval: u16,
    /// Of the newest samples, how many follow each other within [`Spec::calm`]. Where a window
    /// lies in them nothing is missing, and nobody need look.
    pub(super) calm: u16,
    /// What all fixed values lie within, by their upper halves.
    pub(super) bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Held {
    /// No blocks yet.
    #[default]
    Nothing,
    /// Values as `i32` of [`UNITS`].
    Fixed,
    /// Values as they came.
    Wide,
}

impl Class {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows,
            times: Slab::new(rows),
            fixed: Slab::new(rows),
            wide: Slab::new(rows),
        }
    }

    /// Takes the blocks of `series` back.
    pub(super) fn give(&mut self, series: Series) {
        match series.held {
            Held::Nothing => return,
            Held::Fixed => self.fixed.give(series.values),
            Held::Wide => self.wide.give(series.values),
        }
        self.times.give(series.times);
    }

    /// The tick of sample number `at`.
    pub(super) fn tick(&self, series: &Series, at: usize) -> i64 {
        let times = self.times.block(series.times);
        let time = times.get(usize::from(series.first) + at).copied();
        full_tick(series.newest, time.unwrap_or_default())
    }

    /// How many samples are older than `tick`.
    pub(super) fn place(&self, series: &Series, tick: i64) -> usize {
        let times = self.times.block(series.times).get(series.rows());
        older(times.unwrap_or_default(), series.newest, tick)
    }

    pub(super) fn set(&mut self, series: &Series, at: usize, tick: i64, value: f64) {
        let row = usize::from(series.first) + at;
        if let Some(place) = self.times.block_mut(series.times).get_mut(row) {
            *place = tick as u16;
        }
        self.set_value(series, row, value);
    }

    pub(super) fn set_value(&mut self, series: &Series, row: usize, value: f64) {
        if series.held == Held::Wide {
            if let Some(place) = self.wide.block_mut(series.values).get_mut(row) {
                *place = value;
            }
        } else if let Some(place) = self.fixed.block_mut(series.values).get_mut(row) {
            *place = fixed(value).unwrap_or_default();
        }
    }

    /// Of two values for one time the larger stays.
    pub(super) fn raise(&mut self, series: &Series, at: usize, value: f64) {
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
    pub(super) fn recount(&self, series: &mut Series, bound: i64) {
        let times = self.times.block(series.times).get(series.rows());
        series.calm = calm(times.unwrap_or_default(), bound);
    }

    pub(super) fn insert(&mut self, series: &mut Series, at: usize, tick: i64, value: f64) {
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
    pub(super) fn evict(&self, series: &mut Series, start: i64, horizon: i64) {
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
    pub(super) fn cut_after(&self, series: &mut Series, bound: i64) {
        let len = self.place(series, bound + 1);
        if let Some(last) = len.checked_sub(1) {
            series.newest = self.tick(series, last);
        }
        series.len = u16::try_from(len).unwrap_or(series.len);
        series.calm = series.len.min(1);
    }

    /// Takes what the values lie within anew: what is gone does not stretch it any more.
    pub(super) fn measure(&self, series: &mut Series) {
        if series.held == Held::Fixed {
            let values = self.fixed.block(series.values).get(series.rows());
            series.bounds = Bounds::of(values.unwrap_or_default());
        }
    }

    /// Moves the samples to the front of their blocks.
    pub(super) fn pack(&mut self, series: &mut Series) {
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
    /// Takes note of a value that may come in, while the samples are fixed.
    pub(super) fn stretch(&mut self, value: f64) {
        if let (Held::Fixed, Some(units)) = (self.held, fixed(value)) {
            if self.len == 0 {
                self.bounds = Bounds::default();
            }
            self.bounds.stretch(units);
        }
    }

    pub(super) fn rows(&self) -> std::ops::Range<usize> {
        let first = usize::from(self.first);
        first..first + usize::from(self.len)
    }
}

/// Gives `series` blocks that can hold `value`.
pub(super) fn prepare(series: &mut Series, classes: &mut [Class], value: f64) {
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
pub(super) fn make_room(series: &mut Series, classes: &mut Vec<Class>, max_rows: usize) {
    let index = usize::from(series.class);
    let Some(class) = classes.get_mut(index) else {
        return;
    };
    class.pack(series);
    class.measure(series);
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

/// The latest tick up to `newest` that ends in the 16 bits of `time`.
pub(super) fn full_tick(newest: i64, time: u16) -> i64 {
    newest - i64::from((newest as u16).wrapping_sub(time))
}

/// How many of `times` are older than `tick`.
pub(super) fn older(times: &[u16], newest: i64, tick: i64) -> usize {
    let Ok(age) = u16::try_from((newest - tick).max(-1)) else {
        // Newer than all of them, or older than any can be.
        return if tick > newest { times.len() } else { 0 };
    };
    let newest = newest as u16;
    times.partition_point(|time| newest.wrapping_sub(*time) > age)
}

/// How many of the newest of `times` follow each other within `bound` ticks.
pub(super) fn calm(times: &[u16], bound: i64) -> u16 {
    let pairs = times.iter().rev().zip(times.iter().rev().skip(1));
    let follow = pairs.take_while(|(next, one)| i64::from(next.wrapping_sub(**one)) <= bound);
    u16::try_from(follow.count() + times.len().min(1)).unwrap_or(u16::MAX)
}

/// Moves rows `from..to` up by one.
pub(super) fn shift<T: Copy>(column: &mut [T], from: usize, to: usize) {
    if to < column.len() {
        column.copy_within(from..to, from + 1);
    }
}

pub(super) fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
