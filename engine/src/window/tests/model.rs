//! The naive model: every sample ever taken in a list, everything computed anew at each reading,
//! written from the definition at the head of `window.rs` and from nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Reading, Sample, Stat, Timestamp};

#[derive(Debug)]
pub(super) struct Model {
    /// All in milliseconds.
    pane: i64,
    tick: i64,
    longest: i64,
    lateness: i64,
    samples: Vec<Sample>,
}

impl Model {
    pub(super) fn new(seconds: &[u64], lateness: Duration) -> Self {
        let shortest = *seconds.iter().min().unwrap();
        let longest = i64::try_from(*seconds.iter().max().unwrap() * 1_000).unwrap();
        let pane = match (shortest, longest) {
            (1, 86_400_000..) => 2_000,
            (10.., _) => 10_000,
            (5.., _) => 5_000,
            (2.., _) => 2_000,
            _ => 1_000,
        };
        let tick = match longest {
            30_000_001.. => 2_000,
            6_000_001.. => 500,
            1_020_001.. => 100,
            _ => 20,
        };
        Self {
            pane,
            tick,
            longest,
            lateness: i64::try_from(lateness.as_millis()).unwrap(),
            samples: Vec::new(),
        }
    }

    /// Whether the sample is not refused.
    pub(super) fn push(&mut self, sample: Sample, now: Timestamp) -> bool {
        let age = now.millis() - sample.time.millis();
        let taken = age <= self.lateness && age >= -60_000;
        if taken {
            self.samples.push(sample);
        }
        taken
    }

    /// The largest value in sight, or 1: what errors are to be compared with.
    pub(super) fn scale(&self) -> f64 {
        let values = self.samples.iter().map(|sample| sample.value.abs());
        values.fold(1.0, f64::max)
    }

    pub(super) fn read(&self, stat: Stat, window: Duration, now: Timestamp) -> Reading {
        let window = i64::try_from(window.as_millis()).unwrap();
        let all = self.thinned();
        let end = now.millis().div_euclid(self.pane) * self.pane;
        let start_of = |length: i64| end - (length + self.pane - 1) / self.pane * self.pane;
        let start = start_of(window);
        let seen: Vec<(i64, f64)> = all.range(start..end + self.pane).map(copied).collect();
        let coverage = self.coverage(&all, start, end, start_of(self.longest));
        let value = match stat {
            Stat::Coverage => Some(coverage),
            stat => value(stat, &seen, window as f64 / 4.0),
        };
        Reading { value, coverage }
    }

    /// By tick: of equal ticks the larger value, of a second the newest.
    fn thinned(&self) -> BTreeMap<i64, f64> {
        let mut by_tick = BTreeMap::new();
        for sample in &self.samples {
            let tick = sample.time.millis().div_euclid(self.tick) * self.tick;
            let held = by_tick.entry(tick).or_insert(sample.value);
            *held = sample.value.max(*held);
        }
        let crowd = self.tick.max(1_000);
        let by_second: BTreeMap<i64, (i64, f64)> = by_tick
            .into_iter()
            .map(|(tick, value)| (tick.div_euclid(crowd), (tick, value)))
            .collect();
        by_second.into_values().collect()
    }

    fn coverage(&self, all: &BTreeMap<i64, f64>, start: i64, end: i64, oldest: i64) -> f64 {
        let told = self
            .samples
            .iter()
            .map(|sample| {
                let tick = sample.time.millis().div_euclid(self.tick);
                let told = sample.interval.map_or(0, |it| it.as_millis() as i64);
                (tick, told.min(120_000))
            })
            .max()
            .map_or(0, |(_, told)| told);
        let interval = if told > 0 {
            told
        } else {
            self.spacing(all, oldest, end)
        };
        // Reaches are kept in ticks, like all times.
        let reach = |length: i64| length / self.tick * 5 / 4 * self.tick;
        let reach = reach(interval.max(self.pane));
        let panes = (end - start) / self.pane;
        let covered = (1..=panes)
            .map(|n| start + n * self.pane)
            .filter(|pane_end| all.range(pane_end - reach..*pane_end).next().is_some());
        covered.count() as f64 / panes as f64
    }

    fn spacing(&self, all: &BTreeMap<i64, f64>, oldest: i64, end: i64) -> i64 {
        let before = all.range(oldest - 150_000..oldest).next_back();
        let inside = all.range(oldest..end + self.pane);
        let times: Vec<i64> = before
            .into_iter()
            .chain(inside)
            .map(|(time, _)| *time)
            .collect();
        let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        gaps.get(1).copied().unwrap_or(0).min(120_000)
    }
}

fn copied((time, value): (&i64, &f64)) -> (i64, f64) {
    (*time, *value)
}

fn value(stat: Stat, seen: &[(i64, f64)], half_life: f64) -> Option<f64> {
    let values = || seen.iter().map(|(_, value)| *value);
    let count = seen.len() as f64;
    if stat == Stat::Count {
        return Some(count);
    }
    let (first, _) = *seen.first()?;
    let (newest, last) = *seen.last()?;
    let mean = values().sum::<f64>() / count;
    let seconds = || seen.iter().map(|(time, _)| (time - first) as f64 / 1e3);
    match stat {
        Stat::Mean => Some(mean),
        Stat::Max => values().reduce(f64::max),
        Stat::Min => values().reduce(f64::min),
        Stat::P95 => {
            let mut sorted: Vec<f64> = values().collect();
            sorted.sort_by(f64::total_cmp);
            Some(sorted[(0.95 * count).ceil() as usize - 1])
        }
        Stat::StdDev => Some((values().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()),
        Stat::Ewma => {
            let weights = || {
                let ages = seen.iter().map(|(time, _)| (newest - time) as f64);
                ages.map(|age| 0.5_f64.powf(age / half_life))
            };
            let weighed: f64 = values().zip(weights()).map(|(v, w)| v * w).sum();
            Some(weighed / weights().sum::<f64>())
        }
        Stat::Slope => {
            let middle = seconds().sum::<f64>() / count;
            let run: f64 = seconds().map(|t| (t - middle).powi(2)).sum();
            let rise: f64 = seconds()
                .zip(values())
                .map(|(t, v)| (t - middle) * (v - mean))
                .sum();
            (seen.len() > 1).then(|| rise / run)
        }
        Stat::Rate => {
            // A value that falls by less than what is kept of it has not begun anew.
            let kept = |value: f64| match value.abs() {
                ..214.7 => (value * 1e7).round() / 1e7,
                _ => value,
            };
            let pairs = seen
                .windows(2)
                .map(|pair| (kept(pair[0].1), kept(pair[1].1)));
            let grown: f64 = pairs.map(|(a, b)| if b < a { b } else { b - a }).sum();
            (seen.len() > 1).then(|| grown / ((newest - first) as f64 / 1e3))
        }
        Stat::Last => Some(last),
        Stat::Count | Stat::Coverage => None,
    }
}
