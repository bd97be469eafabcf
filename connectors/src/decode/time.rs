//! Event times: RFC 3339, or Unix time whose unit its size tells.

use rhizome_engine::time::Timestamp;

/// 2200-01-01 in milliseconds. Later is no clock that is merely wrong.
const END_MS: i64 = 7_258_118_400_000;

/// From these sizes on a number is read as ms, us and ns. Seconds reach the first in the year
/// 5138; milliseconds passed it in 1973, microseconds the second in 1973, and so on.
const MILLIS_FROM: f64 = 1e11;
const MICROS_FROM: f64 = 1e14;
const NANOS_FROM: f64 = 1e17;

/// The event time of a record as far as it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Time {
    /// None was given.
    #[default]
    Missing,
    /// This one.
    At(Timestamp),
    /// Something that is no time.
    Bad,
}

impl Time {
    /// Unix time in seconds, milliseconds, microseconds or nanoseconds, by its size.
    pub(crate) fn from_number(number: f64) -> Self {
        let millis = if number < MILLIS_FROM {
            number * 1e3
        } else if number < MICROS_FROM {
            number
        } else if number < NANOS_FROM {
            number / 1e3
        } else {
            number / 1e6
        };
        // NaN fails both comparisons.
        if millis >= 0.0 && millis < END_MS as f64 {
            Self::At(Timestamp(millis.round() as i64))
        } else {
            Self::Bad
        }
    }

    /// The same of a whole number, exactly.
    pub(crate) fn from_integer(number: i64) -> Self {
        if number as f64 >= NANOS_FROM {
            Self::checked(number / 1_000_000)
        } else {
            Self::from_number(number as f64)
        }
    }

    /// RFC 3339, any offset.
    pub(crate) fn from_text(text: &str) -> Self {
        text.parse::<jiff::Timestamp>()
            .map_or(Self::Bad, |at| Self::checked(at.as_millisecond()))
    }

    fn checked(millis: i64) -> Self {
        if (0..END_MS).contains(&millis) {
            Self::At(Timestamp(millis))
        } else {
            Self::Bad
        }
    }
}
