//! What an examination finds: for `rhizome doctor`, and for whoever reads it.

use std::time::Duration;

use jiff::fmt::rfc2822;
use rhizome_engine::time::{Timestamp, format_duration};
use serde::Serialize;

/// From here on a difference of the clocks is told: HTTP's dates are of whole seconds, and a
/// slow answer is a second old.
const SKEW_TOLD: Duration = Duration::from_secs(5);
/// From here on it is wrong: half of what a lease may be old (`lease_grace`, 40 s).
const SKEW_WRONG: Duration = Duration::from_secs(20);

/// How well a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How well it is.
    pub health: Health,
    /// What was seen. No secret, nor any part of one.
    pub said: String,
    /// What to do about it; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(what: &str, said: String) -> Self {
        Self {
            what: what.to_owned(),
            health: Health::Ok,
            said,
            advice: String::new(),
        }
    }

    /// It works, and may not for long: this is what to do.
    pub fn warning(what: &str, said: String, advice: &str) -> Self {
        Self {
            health: Health::Warning,
            ..Self::bad(what, said, advice)
        }
    }

    /// It does not work, and this is what to do.
    pub fn bad(what: &str, said: String, advice: &str) -> Self {
        Self {
            what: what.to_owned(),
            health: Health::Bad,
            said,
            advice: advice.to_owned(),
        }
    }
}

/// Our clock and that of a service, by the `Date` of its answer.
pub(crate) fn clocks(ours: Timestamp, date: &str) -> Option<Finding> {
    let theirs = rfc2822::parse(date).ok()?.timestamp();
    Some(skew(ours, Timestamp(theirs.as_millisecond())))
}

fn skew(ours: Timestamp, theirs: Timestamp) -> Finding {
    let apart = ours.since(theirs).max(theirs.since(ours));
    let said = format!("{} apart", format_duration(apart));
    let advice = "set both by NTP: leases and tokens are judged by the clock";
    if apart >= SKEW_WRONG {
        Finding::bad("clocks", said, advice)
    } else if apart >= SKEW_TOLD {
        Finding::warning("clocks", said, advice)
    } else {
        Finding::ok("clocks", said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_whichever_is_ahead() {
        for (ours, theirs, health) in [
            (0, 1_000, Health::Ok),
            (0, 6_000, Health::Warning),
            (6_000, 0, Health::Warning),
            (0, 20_000, Health::Bad),
            (20_000, 0, Health::Bad),
        ] {
            let found = skew(Timestamp(ours), Timestamp(theirs));
            assert_eq!(found.health, health, "{ours} {theirs}");
        }
    }
}
