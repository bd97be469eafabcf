//! How much of a window was reported on.
//!
//! An agent that reports every 30 s leaves two of three panes empty and is whole all the same.
//! So a pane is covered if a sample lies within five quarters of the reporting interval before
//! its end: with one sample an interval each pane is, with one lost some are not, and a quarter
//! is what jitter may take.

use std::time::Duration;

use super::plan::Spec;
use super::series::View;

/// The longest reporting interval that is believed. An agent that tells of an hour would else
/// be covered for an hour after its death.
pub const MAX_INTERVAL: Duration = Duration::from_secs(120);

/// How far before a pane's end a sample may cover it: [`MAX_INTERVAL`] and a quarter.
pub(super) const LOOKBACK: Duration = Duration::from_secs(150);

/// What a reporting interval is kept in, in milliseconds.
const UNIT: u16 = 10;

/// A reporting interval as it is kept; 0 for none.
pub(super) fn kept(interval: Option<Duration>) -> u16 {
    let millis = interval.map_or(0, |it| it.min(MAX_INTERVAL).as_millis());
    u16::try_from(millis / u128::from(UNIT)).unwrap_or(u16::MAX)
}

/// The reporting interval that is kept as `units`.
pub(super) fn told(units: u16) -> Option<Duration> {
    (units > 0).then(|| Duration::from_millis(u64::from(units) * u64::from(UNIT)))
}

/// The samples of a series as seen at one time.
pub(super) struct Gaps<'a> {
    pub(super) spec: &'a Spec,
    pub(super) view: &'a View<'a>,
    /// The first tick of the running pane.
    pub(super) end: i64,
}

impl Gaps<'_> {
    /// The share of the `panes` whole panes before the running one that are covered. The
    /// samples from `from` to before `to` are in these panes or in the running one.
    pub(super) fn coverage(&self, panes: i64, from: usize, to: usize) -> f64 {
        if panes <= 0 {
            return 0.0;
        }
        if self.is_calm(from, to) {
            return 1.0;
        }
        let mut interval = i64::from(self.view.interval);
        if interval > 0 {
            interval = interval * i64::from(UNIT) / self.spec.tick;
        }
        let mut missed = self.missed(self.reach(interval), panes, from, to);
        if missed == 0 {
            return 1.0;
        }
        // Only when panes are missed does it matter how often a silent agent reports.
        if interval == 0 {
            missed = self.missed(self.reach(self.spacing(to)), panes, from, to);
        }
        (panes - missed) as f64 / panes as f64
    }

    /// Whether the samples from the one before the window to the running pane are known to follow
    /// each other closely enough for every interval.
    fn is_calm(&self, from: usize, to: usize) -> bool {
        let calm = usize::from(self.view.calm);
        let before = self.view.times.len().checked_sub(calm);
        let last = to.checked_sub(1).and_then(|last| self.view.tick(last));
        from > 0
            && before.is_none_or(|first| first < from)
            && last.is_some_and(|last| last + self.spec.calm >= self.end)
    }

    /// How far before a pane's end a sample covers it, in ticks.
    fn reach(&self, interval: i64) -> i64 {
        (interval * 5 / 4).max(self.spec.calm)
    }

    /// How many panes have no sample within `reach` before their end.
    fn missed(&self, reach: i64, panes: i64, from: usize, to: usize) -> i64 {
        let start = self.end - panes * self.spec.pane;
        let before = from.checked_sub(1);
        // Pane ends up to here are covered by the samples so far.
        let mut covered = before
            .and_then(|at| self.view.tick(at))
            .map_or(start, |tick| tick + reach);
        let times = self
            .view
            .times
            .get(before.unwrap_or(from)..to)
            .unwrap_or_default();
        let ends_between = |covered: i64, tick: i64| {
            let (after, until) = (covered.max(start), tick.min(self.end));
            let nth = |tick: i64| (tick - start) / self.spec.pane;
            if until > after {
                nth(until) - nth(after)
            } else {
                0
            }
        };
        let mut missed = 0;
        if wide_gap(times, reach) || before.is_none() {
            for at in from..to {
                let tick = self.view.tick(at).unwrap_or(start);
                missed += ends_between(covered, tick);
                covered = tick + reach;
            }
        } else if let Some(last) = to.checked_sub(1).and_then(|at| self.view.tick(at)) {
            covered = last + reach;
        }
        missed + ends_between(covered, self.end)
    }

    /// How often the agent seems to report: the second smallest spacing in the longest window.
    ///
    /// The smallest alone would be a restart of the agent; a larger one would take an agent
    /// that loses every second record for one that reports half as often.
    fn spacing(&self, to: usize) -> i64 {
        let start = self.end - self.spec.longest * self.spec.pane;
        let lookback = i64::try_from(LOOKBACK.as_millis()).unwrap_or(0) / self.spec.tick;
        let mut from = self.view.at(start);
        if let Some(before) = from.checked_sub(1)
            && self
                .view
                .tick(before)
                .is_some_and(|tick| tick >= start - lookback)
        {
            from = before;
        }
        let times = self.view.times.get(from..to).unwrap_or_default();
        let (mut least, mut second) = (u16::MAX, u16::MAX);
        for (one, next) in times.iter().zip(times.iter().skip(1)) {
            let gap = next.wrapping_sub(*one);
            second = second.min(gap.max(least));
            least = least.min(gap);
        }
        if second == u16::MAX {
            return 0;
        }
        let longest = i64::try_from(MAX_INTERVAL.as_millis()).unwrap_or(0) / self.spec.tick;
        i64::from(second).min(longest)
    }
}

/// Whether two neighbours are further apart than `reach`. Without a branch, so that it is done
/// many at a time.
fn wide_gap(times: &[u16], reach: i64) -> bool {
    let reach = u16::try_from(reach).unwrap_or(u16::MAX);
    let later = times.get(1..).unwrap_or_default();
    times.iter().zip(later).fold(false, |wide, (one, next)| {
        wide | (next.wrapping_sub(*one) > reach)
    })
}
