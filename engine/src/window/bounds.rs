//! What the values of a window lie within at most, told without a look at the samples.
//!
//! Most conditions do not hold most of the time, and by far: a CPU that was not above a half all
//! the while has no percentile, mean or average above 0.97. To know that much costs a hundredth of
//! what the value itself does.
//!
//! INVARIANT: what [`Metric::value`] says lies within what [`Metric::bounds`] says. Bounds may be
//! wider than they need be, by what is older than the window and by the lower halves.

use super::Stat;
use super::columns::{Held, UNITS, float};
use super::plan::{Spec, WindowSpec};
use super::series::{Metric, View};
use crate::time::Timestamp;

/// Least and greatest of fixed values, each by its upper half: the lower one is taken for 0 and
/// for all ones. Of a ratio that is a hundredth at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    least: i16,
    greatest: i16,
}

impl Default for Bounds {
    /// Of no value.
    fn default() -> Self {
        Self {
            least: i16::MAX,
            greatest: i16::MIN,
        }
    }
}

impl Bounds {
    /// Of all these.
    pub(super) fn of(values: &[i32]) -> Self {
        let least = values.iter().copied().min().map_or(i16::MAX, upper);
        let greatest = values.iter().copied().max().map_or(i16::MIN, upper);
        Self { least, greatest }
    }

    /// With one more.
    pub(super) fn stretch(&mut self, units: i32) {
        self.least = self.least.min(upper(units));
        self.greatest = self.greatest.max(upper(units));
    }

    fn values(self) -> (f64, f64) {
        let (least, greatest) = (i32::from(self.least), i32::from(self.greatest));
        (float(least << 16), float(greatest << 16 | 0xffff))
    }
}

/// What a node adds to the span of its pool ([`Span`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Part {
    /// Nothing: it has no sample in the window.
    #[default]
    Nothing,
    /// Its samples in the window lie within this.
    Within(Bounds),
    /// That is not known cheaply.
    Unknown,
}

/// What the mean of the nodes' values lies within, by adding and taking away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    least: i64,
    greatest: i64,
    count: u32,
    unknown: u32,
}

impl Span {
    /// Adds what a node has.
    pub(crate) fn add(&mut self, part: Part) {
        match part {
            Part::Nothing => {}
            Part::Within(bounds) => {
                self.least += i64::from(bounds.least);
                self.greatest += i64::from(bounds.greatest);
                self.count += 1;
            }
            Part::Unknown => self.unknown += 1,
        }
    }

    /// Takes out what was added.
    pub(crate) fn remove(&mut self, part: Part) {
        match part {
            Part::Nothing => {}
            Part::Within(bounds) => {
                self.least -= i64::from(bounds.least);
                self.greatest -= i64::from(bounds.greatest);
                self.count = self.count.saturating_sub(1);
            }
            Part::Unknown => self.unknown = self.unknown.saturating_sub(1),
        }
    }

    /// What the mean lies within; nothing if that is not known, or there is none.
    pub(crate) fn mean(&self) -> Option<(f64, f64)> {
        if self.count == 0 || self.unknown > 0 {
            return None;
        }
        let units = f64::from(self.count) * UNITS;
        let least = (self.least << 16) as f64 / units;
        let greatest = ((self.greatest + i64::from(self.count)) << 16) as f64 / units;
        // More than any rounding.
        let margin = (least.abs() + greatest.abs() + 1.0) * 1e-9;
        Some((least - margin, greatest + margin))
    }
}

fn upper(units: i32) -> i16 {
    (units >> 16) as i16
}

impl Metric {
    /// What [`Metric::value`] lies within if there is one; nothing if that is not known cheaply.
    pub(super) fn bounds(
        &self,
        node: usize,
        stat: Stat,
        window: &WindowSpec,
        now: Timestamp,
    ) -> Option<(f64, f64)> {
        let series = self.series(node)?;
        if series.held != Held::Fixed || series.len == 0 {
            return None;
        }
        let (least, greatest) = series.bounds.values();
        match stat {
            Stat::Mean | Stat::Max | Stat::Min | Stat::P95 | Stat::Ewma | Stat::Last => {
                Some((least, greatest))
            }
            // At most half of the range; half a millionth more makes up for any rounding.
            Stat::StdDev => Some((0.0, (greatest - least) * 0.500_001)),
            Stat::Slope => {
                let view = self.view(node)?;
                let steepest = steepest(&view, window, &self.spec, self.running(now))?;
                let steepest = (greatest - least) * steepest;
                Some((-steepest, steepest))
            }
            Stat::Rate | Stat::Count | Stat::Coverage => None,
        }
    }

    /// What a node adds to the span of its pool.
    pub(super) fn part(&self, node: usize, window: &WindowSpec, now: Timestamp) -> Part {
        let Some(series) = self.series(node).filter(|series| series.len > 0) else {
            return Part::Nothing;
        };
        let end = self.running(now);
        if series.newest < end - window.panes * self.spec.pane {
            Part::Nothing
        } else if series.newest < end + self.spec.pane && series.held == Held::Fixed {
            Part::Within(series.bounds)
        } else {
            Part::Unknown
        }
    }
}

/// The steepest slope that samples at these times can have if their values lie within 1 of each
/// other, per second; nothing if any.
///
/// A slope is at most the deviation of the values, a half, over that of the times. The two times at
/// the ends alone make the times' variance the square of their distance over twice their number.
fn steepest(view: &View<'_>, window: &WindowSpec, spec: &Spec, end: i64) -> Option<f64> {
    let (from, to) = view.range(window, spec, end);
    let first = view.tick(from)?;
    let last = view.tick(to.checked_sub(1)?)?;
    let seconds = ((last - first) * spec.tick) as f64 / 1e3;
    let count = (to - from) as f64;
    // A millionth more makes up for any rounding.
    (seconds > 0.0).then(|| 0.500_001 * (2.0 * count).sqrt() / seconds)
}
