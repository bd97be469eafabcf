//! What is computed over the samples of a window, oldest first.
//!
//! Fixed-point values are summed as whole numbers: the sum is exact, so neither the order of
//! the additions nor the width of the machine's vectors shows in the answer.

use std::ops::Range;

use super::Stat;
use super::plan::Weights;
use super::series::{UNITS, float};

/// The weight 1 of `Stat::Ewma` as a whole number: the oldest weight in a window, a sixteenth,
/// is still told from its neighbours by a two-millionth.
const WEIGHT_UNITS: f64 = 16_777_216.0;

/// Up to this many of the largest samples are kept in sight for the 95th percentile; that is
/// enough for 160 samples. For more a copy is partly sorted.
const TOP: usize = 8;

/// Values of a series.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    /// In [`UNITS`].
    Fixed(&'a [i32]),
    /// As they came.
    Wide(&'a [f64]),
}

impl<'a> Column<'a> {
    pub(super) fn part(self, rows: Range<usize>) -> Column<'a> {
        match self {
            Self::Fixed(values) => Self::Fixed(values.get(rows).unwrap_or_default()),
            Self::Wide(values) => Self::Wide(values.get(rows).unwrap_or_default()),
        }
    }

    pub(super) fn value(self, at: usize) -> Option<f64> {
        match self {
            Self::Fixed(values) => values.get(at).map(|value| float(*value)),
            Self::Wide(values) => values.get(at).copied(),
        }
    }

    pub(super) fn collect(self, all: &mut Vec<f64>) {
        match self {
            Self::Fixed(values) => all.extend(values.iter().map(|value| float(*value))),
            Self::Wide(values) => all.extend_from_slice(values),
        }
    }
}

/// `stat` of `values` at `times`, oldest first; none if they are too few for it.
pub(super) fn value(
    stat: Stat,
    times: &[u16],
    values: Column<'_>,
    tick_ms: i64,
    weights: &Weights,
) -> Option<f64> {
    if stat == Stat::Count {
        return Some(times.len() as f64);
    }
    let newest = *times.last()?;
    let oldest = *times.first()?;
    let seconds = seconds(newest.wrapping_sub(oldest), tick_ms);
    let age = |time: &u16| newest.wrapping_sub(*time);
    let since = |time: &u16| time.wrapping_sub(oldest);
    match values {
        Column::Fixed(values) => match stat {
            Stat::Mean => Some(sum(values) as f64 / (values.len() as f64 * UNITS)),
            Stat::Max => values.iter().max().map(|value| float(*value)),
            Stat::Min => values.iter().min().map(|value| float(*value)),
            Stat::P95 => percentile(values, Ord::cmp).map(float),
            Stat::StdDev => Some(deviation(values) / UNITS),
            Stat::Ewma => Some(average(values, times.iter().map(age), weights)? / UNITS),
            Stat::Slope => Some(slope(values, times.iter().map(since), tick_ms)? / UNITS),
            Stat::Rate => {
                let increase = increase(values.iter().map(|value| i64::from(*value)))?;
                Some(increase as f64 / (UNITS * seconds?))
            }
            Stat::Last => values.last().map(|value| float(*value)),
            Stat::Count | Stat::Coverage => None,
        },
        Column::Wide(values) => wide(stat, values, times, weights, tick_ms),
    }
}

/// The smallest of `values` that at least 95 of 100 are not above, by `order`.
pub(super) fn percentile<T: Copy>(
    values: &[T],
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let from_top = values.len() - (values.len() * 95).div_ceil(100);
    if from_top >= TOP {
        let mut copy = values.to_vec();
        let rank = copy.len() - 1 - from_top;
        let (_, value, _) = copy.select_nth_unstable_by(rank, order);
        return Some(*value);
    }
    let mut top = [*values.first()?; TOP];
    let mut held = 0;
    for value in values {
        let above = |other: &T| order(value, other).is_gt();
        // Most samples are below all that are in sight.
        if held > from_top && !top.get(from_top).is_some_and(above) {
            continue;
        }
        let in_sight = top.get(..held).unwrap_or_default();
        let place = in_sight.iter().position(above).unwrap_or(held);
        held = (held + 1).min(TOP);
        if let Some(tail) = top.get_mut(place..held) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = *value;
            }
        }
    }
    top.get(from_top).copied()
}

fn sum(values: &[i32]) -> i64 {
    values.iter().map(|value| i64::from(*value)).sum()
}

/// Population standard deviation, in the unit of `values`.
fn deviation(values: &[i32]) -> f64 {
    let sum = i128::from(sum(values));
    // Squares of four values fit into 64 bits, and adding in 64 bits is much cheaper.
    let squares = values.chunks(4).map(|four| {
        let squares = four.iter().map(|value| {
            let value = u64::from(value.unsigned_abs());
            value * value
        });
        squares.fold(0_u64, u64::wrapping_add)
    });
    let squares: i128 = squares.map(i128::from).sum();
    let count = values.len() as f64;
    ((values.len() as i128 * squares - sum * sum) as f64).sqrt() / count
}

/// Mean with weights by age, in the unit of `values`.
fn average(values: &[i32], ages: impl Iterator<Item = u16>, weights: &Weights) -> Option<f64> {
    let mut total: i128 = 0;
    let mut weighed: i128 = 0;
    for (value, age) in values.iter().zip(ages) {
        let weight = (weights.of(age) * WEIGHT_UNITS) as i64;
        total += i128::from(weight);
        weighed += i128::from(weight * i64::from(*value));
    }
    let whole = weighed.checked_div(total)?;
    Some(whole as f64 + (weighed - whole * total) as f64 / total as f64)
}

/// Least-squares slope per second, in the unit of `values`.
fn slope(values: &[i32], times: impl Iterator<Item = u16>, tick_ms: i64) -> Option<f64> {
    let (mut of_times, mut of_squares, mut of_products) = (0_i64, 0_i64, 0_i64);
    for (value, time) in values.iter().zip(times) {
        let time = i64::from(time);
        of_times += time;
        of_squares += time * time;
        of_products += time * i64::from(*value);
    }
    let (of_times, of_values) = (i128::from(of_times), i128::from(sum(values)));
    let count = values.len() as i128;
    let run = count * i128::from(of_squares) - of_times * of_times;
    let rise = count * i128::from(of_products) - of_times * of_values;
    (run > 0).then(|| (rise * 1_000) as f64 / (run * i128::from(tick_ms)) as f64)
}

/// What a counter grew by. Where it falls it began anew at 0.
fn increase<T>(values: impl Iterator<Item = T>) -> Option<T>
where
    T: Copy + Default + PartialOrd + std::ops::Add<Output = T> + std::ops::Sub<Output = T>,
{
    let mut values = values;
    let mut last = values.next()?;
    let mut total = T::default();
    for value in values {
        total = total + if value < last { value } else { value - last };
        last = value;
    }
    Some(total)
}

/// The time that a rate is over; none if that is no time.
fn seconds(ticks: u16, tick_ms: i64) -> Option<f64> {
    (ticks > 0).then(|| (i64::from(ticks) * tick_ms) as f64 / 1e3)
}

/// The same of values that are kept as they came.
fn wide(stat: Stat, values: &[f64], times: &[u16], weights: &Weights, tick_ms: i64) -> Option<f64> {
    let newest = *times.last()?;
    let oldest = *times.first()?;
    let count = values.len() as f64;
    let max = values.iter().copied().reduce(f64::max)?;
    let min = values.iter().copied().reduce(f64::min)?;
    let mean = || (values.iter().map(|value| value / count).sum::<f64>()).clamp(min, max);
    match stat {
        Stat::Mean => Some(mean()),
        Stat::Max => Some(max),
        Stat::Min => Some(min),
        Stat::P95 => percentile(values, f64::total_cmp),
        Stat::StdDev => {
            let mean = mean();
            let squares = values.iter().map(|value| (value - mean) * (value - mean));
            Some((squares.sum::<f64>() / count).sqrt())
        }
        Stat::Ewma => {
            let weights = || times.iter().map(|t| weights.of(newest.wrapping_sub(*t)));
            let weighed: f64 = values.iter().zip(weights()).map(|(v, w)| v * w).sum();
            Some((weighed / weights().sum::<f64>()).clamp(min, max))
        }
        Stat::Slope => {
            let second = 1e3 / tick_ms as f64;
            let since = || {
                times
                    .iter()
                    .map(|t| f64::from(t.wrapping_sub(oldest)) / second)
            };
            let (mean, middle) = (mean(), since().sum::<f64>() / count);
            let run: f64 = since().map(|time| (time - middle) * (time - middle)).sum();
            let rises = values.iter().zip(since());
            let rise: f64 = rises.map(|(v, t)| (v - mean) * (t - middle)).sum();
            (run > 0.0).then(|| rise / run)
        }
        Stat::Rate => {
            let seconds = seconds(newest.wrapping_sub(oldest), tick_ms);
            Some(increase(values.iter().copied())? / seconds?)
        }
        Stat::Last => values.last().copied(),
        Stat::Count | Stat::Coverage => None,
    }
    .filter(|value| value.is_finite())
}
