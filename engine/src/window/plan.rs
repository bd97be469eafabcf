//! How a plan of windows is laid out in time: pane, ticks, rows and weights.
//!
//! Everything here follows from the plan alone, once per load of the policies.

use std::time::Duration;

use super::coverage::LOOKBACK;
use super::{Grid, WindowPlan};
use crate::time::Timestamp;

/// How far ahead of the clock an event time may be (I28): clocks of a fleet differ by less.
pub const FUTURE_BOUND: Duration = Duration::from_secs(60);

/// The longest window. With panes of 10 s it has 60,480 of them, which times of 16 bits reach;
/// what asks for more is kept this long.
pub const MAX_WINDOW: Duration = Duration::from_hours(7 * 24);

/// Lengths of a pane, in milliseconds.
const PANES: [i64; 4] = [10_000, 5_000, 2_000, 1_000];

/// Lengths of a tick, in milliseconds. Each divides 10 s, and those above 1 s are panes too.
const TICKS: [i64; 9] = [20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Ticks from the oldest sample kept to the newest. Under 2^16, because times are 16 bits.
const MAX_TICKS: i64 = 65_000;

/// A second holds one sample of a series. Agents report every 2 to 60 s; one that reports
/// faster would only make its windows dearer, not better.
const CROWD: i64 = 1_000;

/// The cadence that room is made for at once: one sample in 10 s. Others outgrow it.
const CADENCE: i64 = 10_000;

/// Rows beyond one per [`CADENCE`] of the longest window: the running pane's, the one before
/// the window, the one that comes, and two that spare moving the column at every push.
const SPARE_ROWS: i64 = 5;

/// Half-lives of the weights of `Stat::Ewma` in a window.
const HALF_LIVES: f64 = 4.0;

/// One window of a metric.
#[derive(Debug)]
pub(super) struct WindowSpec {
    pub(super) length: Duration,
    /// Whole panes that cover the length.
    pub(super) panes: i64,
    pub(super) weights: Weights,
}

/// A metric's windows in ticks.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) windows: Vec<WindowSpec>,
    /// Panes of the longest window.
    pub(super) longest: i64,
    /// Milliseconds in a tick.
    pub(super) tick: i64,
    /// Ticks in a pane.
    pub(super) pane: i64,
    /// How far before a pane's end a sample covers it, whatever its agent's interval.
    pub(super) calm: i64,
    /// Ticks that share one sample.
    pub(super) crowd: i64,
    /// Rows of a series to begin with, and at most.
    pub(super) rows: usize,
    pub(super) max_rows: usize,
}

/// One pane: a span of the wall clock and its first tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pane {
    /// Milliseconds since the epoch.
    start: i64,
    /// Milliseconds.
    length: i64,
    pub(super) tick: i64,
}

impl Pane {
    /// Whether `now` is in it.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        (0..self.length).contains(&now.millis().saturating_sub(self.start))
    }
}

/// Powers of one half by age in ticks, as a product of two looked-up factors.
#[derive(Debug)]
pub(super) struct Weights {
    coarse: Box<[u64; 256]>,
    fine: Box<[u64; 256]>,
}

/// The factors' 1, as a whole number.
const FACTOR: f64 = 1_073_741_824.0;

/// The weights' 1: the oldest weight in a window, a sixteenth, is still told from its
/// neighbours by a two-millionth. A weight is a product of factors shifted down to it.
#[cfg(test)]
const WEIGHT: f64 = 16_777_216.0;
const SHIFT: u32 = 36;

/// The length of a pane that `plan` needs, in milliseconds: the longest that is no longer than
/// the shortest window and of which the longest window has not too many.
pub(super) fn pane(plan: &WindowPlan) -> i64 {
    let lengths = || plan.metrics.iter().flat_map(|(_, windows)| windows);
    let shortest = lengths().min().map_or(i64::MAX, |length| millis(*length));
    let longest = lengths().max().map_or(0, |length| millis(*length));
    let fits = |pane: i64| (longest + reach(pane)) / pane < MAX_TICKS;
    let wanted = PANES.into_iter().find(|pane| *pane <= shortest);
    let wanted = wanted.unwrap_or(1_000);
    PANES
        .into_iter()
        .rev()
        .find(|pane| *pane >= wanted && fits(*pane))
        .unwrap_or(10_000)
}

impl Spec {
    /// The layout of `windows` on panes of `grid`.
    pub(super) fn new(windows: &[Duration], grid: Grid) -> Self {
        let pane = grid.pane;
        let panes = |length: Duration| (millis(length) + pane - 1) / pane;
        let longest = windows.iter().map(|length| panes(*length)).max();
        let longest = longest.unwrap_or(0);
        let span = longest * pane + reach(pane);
        let tick = TICKS
            .into_iter()
            .find(|tick| pane % tick == 0 && span / tick <= MAX_TICKS)
            .unwrap_or(pane);
        let crowd = CROWD.max(tick);
        let rows = longest * pane / CADENCE + SPARE_ROWS;
        // A 32nd more than can be needed, so that a full column is not moved at every push.
        let max_rows = ((span / crowd + 2) * 33 / 32 + 2).max(rows);
        let rows_of = |rows: i64| usize::from(u16::try_from(rows).unwrap_or(u16::MAX));
        Self {
            windows: windows
                .iter()
                .map(|length| WindowSpec {
                    length: *length,
                    panes: panes(*length),
                    weights: Weights::new(millis(*length) as f64 / HALF_LIVES / tick as f64),
                })
                .collect(),
            longest,
            tick,
            pane: pane / tick,
            calm: pane / tick * 5 / 4,
            crowd: crowd / tick,
            rows: rows_of(rows),
            max_rows: rows_of(max_rows),
        }
    }

    /// The tick of a point in time.
    pub(super) fn tick_of(&self, time: Timestamp) -> i64 {
        time.millis().div_euclid(self.tick)
    }

    /// The pane that holds `now`.
    pub(super) fn pane_of(&self, now: Timestamp) -> Pane {
        let length = self.tick * self.pane;
        let number = now.millis().div_euclid(length);
        Pane {
            start: number * length,
            length,
            tick: number * self.pane,
        }
    }

    /// The number of the window of this length.
    pub(super) fn window(&self, length: Duration) -> Option<usize> {
        self.windows.iter().position(|spec| spec.length == length)
    }

    /// Whether a series laid out by `self` can stay as it is under `other`.
    pub(super) fn same_layout(&self, other: &Self) -> bool {
        self.tick == other.tick
            && self.crowd == other.crowd
            && self.calm == other.calm
            && self.rows == other.rows
            && self.max_rows == other.max_rows
    }
}

impl Weights {
    fn new(half_life: f64) -> Self {
        let factors = |step: f64| {
            let factor = |i: usize| (half_to(i as f64 * step) * FACTOR + 0.5) as u64;
            Box::new(std::array::from_fn(factor))
        };
        Self {
            coarse: factors(256.0 / half_life),
            fine: factors(1.0 / half_life),
        }
    }

    /// One half to the power of `age` ticks in half-lives, as a whole number of 25 bits.
    #[expect(
        clippy::indexing_slicing,
        reason = "a byte is an index into 256 factors"
    )]
    pub(super) fn of(&self, age: u16) -> u32 {
        let [coarse, fine] = age.to_be_bytes();
        let (coarse, fine) = (
            self.coarse[usize::from(coarse)],
            self.fine[usize::from(fine)],
        );
        ((coarse * fine) >> SHIFT) as u32
    }
}

/// One half to the power of `x`, for `x` of 0 and up.
///
/// The standard library's `exp2` may differ from machine to machine in its last bit, and the
/// same inputs must give the same bytes everywhere. This uses nothing but sums and products.
fn half_to(x: f64) -> f64 {
    if x > 1_000.0 {
        return 0.0;
    }
    let whole = x.trunc();
    let power = -(x - whole) * std::f64::consts::LN_2;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..20 {
        term *= power / f64::from(n);
        sum += term;
    }
    (0..whole as u32).fold(sum, |value, _| value * 0.5)
}

/// Time beside the longest window that its samples may lie in: the running pane, what may be
/// ahead of the clock, and what is looked back at for coverage.
fn reach(pane: i64) -> i64 {
    pane + millis(FUTURE_BOUND) + millis(LOOKBACK)
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.min(MAX_WINDOW).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seconds: &[u64]) -> WindowPlan {
        let windows = seconds.iter().map(|s| Duration::from_secs(*s)).collect();
        WindowPlan {
            metrics: vec![("cpu".to_owned(), windows)],
        }
    }

    #[test]
    fn the_pane_is_ten_seconds_or_what_the_shortest_window_needs() {
        for (windows, wanted) in [
            (&[60, 300, 900][..], 10_000),
            (&[15, 900], 10_000),
            (&[10], 10_000),
            (&[7, 900], 5_000),
            (&[3], 2_000),
            (&[1], 1_000),
            (&[0], 1_000),
            (&[], 10_000),
            // A day in panes of a second would need more times than 16 bits tell apart.
            (&[1, 86_400], 2_000),
            (&[1, 7 * 86_400], 10_000),
            (&[60, 400 * 86_400], 10_000),
        ] {
            assert_eq!(pane(&plan(windows)), wanted, "{windows:?}");
        }
    }

    #[test]
    fn ticks_reach_over_every_plan() {
        for seconds in [
            1,
            2,
            5,
            10,
            60,
            900,
            3_600,
            86_400,
            7 * 86_400,
            400 * 86_400,
        ] {
            for shortest in [1, 7, 60] {
                let plan = plan(&[shortest.min(seconds), seconds]);
                let grid = Grid { pane: pane(&plan) };
                let spec = Spec::new(&plan.metrics[0].1, grid);
                let span = spec.longest * grid.pane + reach(grid.pane);
                assert!(span / spec.tick < 1 << 16, "{seconds} s: {span} ms");
                assert_eq!(spec.pane * spec.tick, grid.pane);
                assert_eq!(spec.pane % spec.crowd, 0);
                assert!(spec.rows <= spec.max_rows);
            }
        }
    }

    #[test]
    fn fifteen_minutes_take_95_rows_of_20_ms_ticks() {
        let spec = Spec::new(&[Duration::from_mins(15)], Grid { pane: 10_000 });
        assert_eq!((spec.rows, spec.tick, spec.crowd), (95, 20, 50));
    }

    #[test]
    fn weights_halve_every_half_life() {
        let weights = Weights::new(1_000.0);
        for (age, wanted) in [(0, 1.0), (1_000, 0.5), (2_000, 0.25), (4_000, 0.0625)] {
            let weight = f64::from(weights.of(age)) / WEIGHT;
            assert!((weight - wanted).abs() < 1e-7, "{age}");
        }
        for age in [1, 255, 256, 257, 12_345, 65_535] {
            let wanted = (-f64::from(age) / 1_000.0).exp2();
            let weight = f64::from(weights.of(age)) / WEIGHT;
            assert!((weight - wanted).abs() < 1e-7, "{age}");
        }
        assert_eq!(half_to(1e9), 0.0);
    }
}
