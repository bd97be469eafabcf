//! Points in time and lengths of time, as the engine is handed them.
//!
//! The engine has no clock. Every `step` is told the time as a pair: the wall clock, on
//! which event times run, and a monotonic clock, on which durations run (cooldowns, hold
//! times, deadlines). When the two part company, destructive acts freeze.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the wall clock: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A point on a clock that never steps: milliseconds since an arbitrary start.
///
/// It means nothing outside of one run; what must outlive a run is journaled with both.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Monotonic(pub u64);

/// The time as `step` is told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock.
    pub mono: Monotonic,
}

impl Timestamp {
    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The time that passed from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `self` moved on by `by`, saturating at the ends of the scale.
    #[must_use]
    pub fn plus(self, by: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// `self` moved back by `by`, saturating at the ends of the scale.
    #[must_use]
    pub fn minus(self, by: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl Monotonic {
    /// Where each run's clock begins: thirty years in, so that what the journal tells of the
    /// time before the start has a place before it. A clock that began at zero would make a
    /// rung of yesterday look as if it had been begun just now.
    pub const BEGIN: Monotonic = Monotonic(1 << 40);

    /// The time that passed from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved on by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Monotonic {
        Monotonic(
            self.0
                .saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl Now {
    /// Both clocks moved on by `by`, as time does when nobody steps the wall clock.
    #[must_use]
    pub fn plus(self, by: Duration) -> Now {
        Now {
            wall: self.wall.plus(by),
            mono: self.mono.plus(by),
        }
    }

    /// Both clocks moved back by `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Now {
        let ago = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Now {
            wall: self.wall.minus(by),
            mono: Monotonic(self.mono.0.saturating_sub(ago)),
        }
    }

    /// When it was `wall`, told on both clocks; no later than `self`.
    #[must_use]
    pub fn at(self, wall: Timestamp) -> Now {
        let ago = u64::try_from(self.wall.since(wall).as_millis()).unwrap_or(u64::MAX);
        Now {
            wall: wall.min(self.wall),
            mono: Monotonic(self.mono.0.saturating_sub(ago)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A future that can be put into a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the rooms around the engine read the time and wait for it.
///
/// The engine itself never holds one. It is declared here, without an implementation,
/// because every room that waits needs the same one: `rhizome demo` and the simulation run
/// the whole program on a clock that goes faster than the wall's.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Now;

    /// How long `duration` on this clock is on the wall: shorter on a clock that goes faster.
    fn real(&self, duration: Duration) -> Duration {
        duration
    }

    /// Waits until `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a duration: write a whole number and a unit, as in `90s`, `5m`, `2h` or `1m30s`"
)]
pub struct DurationError {
    /// The text as it was written.
    pub text: String,
}

/// Reads `250ms`, `90s`, `5m`, `2h`, `7d` and joined forms such as `1m30s`.
///
/// # Errors
///
/// Returns [`DurationError`] for anything else: a bare number, a unit twice or out of order,
/// a length of zero parts, or more than a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    const MAX_MILLIS: u64 = 100 * 365 * 86_400_000;
    let error = || DurationError {
        text: text.to_owned(),
    };
    let mut rest = text.trim();
    let mut next_unit = 0;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| error())?;
        let place = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .filter(|place| *place >= next_unit)
            .ok_or_else(error)?;
        let (_, millis) = UNITS.get(place).ok_or_else(error)?;
        total = number
            .checked_mul(*millis)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MAX_MILLIS)
            .ok_or_else(error)?;
        next_unit = place + 1;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration whole, the way [`parse_duration`] reads it: `1m30s`, `250ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        let count = millis / size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis %= size;
        }
    }
    text
}

/// Writes a measured duration for people, rounded down to what matters: milliseconds below a
/// second, then whole seconds, from an hour on minutes, from a day on hours.
pub fn show_duration(duration: Duration) -> String {
    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;
    let step = match duration.as_secs() {
        0 => return format_duration(duration),
        1..HOUR => 1,
        HOUR..DAY => 60,
        _ => HOUR,
    };
    format_duration(Duration::from_secs(duration.as_secs() / step * step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_shown_by_what_matters() {
        for (millis, shown) in [
            (0, "0s"),
            (412, "412ms"),
            (16_012, "16s"),
            (160_999, "2m40s"),
            (3_661_000, "1h1m"),
            (90_061_000, "1d1h"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn durations_are_read_and_written_back() {
        for text in ["250ms", "90s", "5m", "2h", "7d", "1m30s", "1d2h3m4s5ms"] {
            let read = parse_duration(text).unwrap();
            assert_eq!(
                parse_duration(&format_duration(read)).unwrap(),
                read,
                "{text}"
            );
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "5x",
            "5m5m",
            "5s5m",
            "-5m",
            "1.5m",
            "99999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timestamp_is_shown_as_rfc_3339() {
        assert_eq!(
            Timestamp(1_795_333_374_192).to_string(),
            "2026-11-22T07:42:54.192Z"
        );
    }
}
