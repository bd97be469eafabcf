//! What is computed over the samples of a window, oldest first.
//!
//! Fixed-point values are summed as whole numbers: the sum is exact, so neither the order of
//! the additions nor the width of the machine's vectors shows in the answer.

use std::ops::Range;

use super::Stat;
use super::columns::{UNITS, float};
use super::plan::Weights;

/// Values below this have squares of 52 bits.
const SMALL: u32 = 1 << 26;

/// Up to this many distinct values from the top are found by a pass over the samples for each,
/// which the machine does many at a time; enough for a window of 160 samples. For more a
/// copy is partly sorted.
const PASSES: usize = 8;

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
            Stat::P95 => percentile(values).map(float),
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

/// The smallest of `values` that at least 95 of 100 are not above.
fn percentile(values: &[i32]) -> Option<i32> {
    let mut above = above_percentile(values.len());
    if above >= PASSES {
        return select(values, above, Ord::cmp);
    }
    let mut largest = values.iter().copied().max()?;
    loop {
        let as_large = values.iter().filter(|value| **value == largest).count();
        if as_large > above {
            return Some(largest);
        }
        above -= as_large;
        // Without a branch: what is not below the last one is as small as can be.
        let below = |value: &i32| if *value < largest { *value } else { i32::MIN };
        largest = values.iter().map(below).max()?;
    }
}

/// The same of floating values.
pub(super) fn percentile_wide(values: &[f64]) -> Option<f64> {
    select(values, above_percentile(values.len()), f64::total_cmp)
}

/// How many of `count` samples are above the 95th percentile, by nearest rank.
fn above_percentile(count: usize) -> usize {
    count - (count * 95).div_ceil(100)
}

/// The value that `above` of the others come after by `order`.
fn select<T: Copy>(
    values: &[T],
    above: usize,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let rank = values.len().checked_sub(1 + above)?;
    let mut copy = values.to_vec();
    let (_, value, _) = copy.select_nth_unstable_by(rank, order);
    Some(*value)
}

fn sum(values: &[i32]) -> i64 {
    values.iter().map(|value| i64::from(*value)).sum()
}

/// Population standard deviation, in the unit of `values`.
fn deviation(values: &[i32]) -> f64 {
    let sum = i128::from(sum(values));
    let square = |value: &i32| u64::from(value.unsigned_abs()) * u64::from(value.unsigned_abs());
    let bits = values
        .iter()
        .fold(0, |bits, value| bits | value.unsigned_abs());
    let squares: i128 = if bits < SMALL && values.len() < 1 << 10 {
        // Of values up to 6.7, such as ratios, 64 bits hold the sum, which is much cheaper.
        i128::from(values.iter().map(square).sum::<u64>())
    } else {
        values.iter().map(|value| i128::from(square(value))).sum()
    };
    let count = values.len() as i128;
    float_of(count * squares - sum * sum).sqrt() / count as f64
}

/// A whole number as a float. Most fit into 64 bits, of which machines have an instruction.
fn float_of(whole: i128) -> f64 {
    i64::try_from(whole).map_or(whole as f64, |whole| whole as f64)
}

/// Mean with weights by age, in the unit of `values`.
fn average(values: &[i32], ages: impl Iterator<Item = u16>, weights: &Weights) -> Option<f64> {
    let mut total: i128 = 0;
    let mut weighed: i128 = 0;
    let (mut some, mut some_weighed) = (0_i64, 0_i64);
    for (count, (value, age)) in values.iter().zip(ages).enumerate() {
        let weight = i64::from(weights.of(age));
        some += weight;
        some_weighed += weight * i64::from(*value);
        // A product has 55 bits, so that 64 bits hold the sum of 128 of them.
        if count % 128 == 127 {
            total += i128::from(std::mem::take(&mut some));
            weighed += i128::from(std::mem::take(&mut some_weighed));
        }
    }
    total += i128::from(some);
    weighed += i128::from(some_weighed);
    if let (Ok(total), Ok(weighed)) = (i64::try_from(total), i64::try_from(weighed)) {
        // The same in 64 bits, where a division costs a tenth.
        let whole = weighed.checked_div(total)?;
        return Some(whole as f64 + (weighed - whole * total) as f64 / total as f64);
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
    (run > 0).then(|| float_of(rise * 1_000) / float_of(run * i128::from(tick_ms)))
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
        Stat::P95 => percentile_wide(values),
        Stat::StdDev => {
            let mean = mean();
            let squares = values.iter().map(|value| (value - mean) * (value - mean));
            Some((squares.sum::<f64>() / count).sqrt())
        }
        Stat::Ewma => {
            let age = |time: &u16| newest.wrapping_sub(*time);
            let weights = || times.iter().map(|t| f64::from(weights.of(age(t))));
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
