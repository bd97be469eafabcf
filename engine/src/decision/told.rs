//! Refusals that were told: when the same is told again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Proposal, Reason, Refusal};
use crate::time::Timestamp;

/// What is asked for anew is told anew, but no sooner than this after it was told last, and after twice as
/// long each further time, up to [`TOLD_AGAIN_MAX`]: a value that goes up and down across a threshold
/// would fill the journal.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// An hour: whoever looks in the morning still sees that it went on all night.
const TOLD_AGAIN_MAX: Duration = Duration::from_secs(3600);

/// What was not told for so long is told as if for the first time.
const TOLD_FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// A refusal that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ToldBefore")]
pub struct Told {
    /// For which reason.
    pub reason: Reason,
    /// When, the last time.
    pub at: Timestamp,
    /// How often in a row.
    pub times: u32,
}

/// As snapshots have it: those of an earlier version say no more than the reason.
#[derive(Deserialize)]
#[serde(untagged)]
enum ToldBefore {
    At {
        reason: Reason,
        at: Timestamp,
        times: u32,
    },
    Once(Reason),
}

impl From<ToldBefore> for Told {
    fn from(told: ToldBefore) -> Self {
        let (reason, at, times) = match told {
            ToldBefore::At { reason, at, times } => (reason, at, times),
            ToldBefore::Once(reason) => (reason, Timestamp::default(), 1),
        };
        Self { reason, at, times }
    }
}

impl Told {
    /// It is told now, after what was told of the same before.
    pub(crate) fn after(before: Option<Self>, refusal: &Refusal) -> Self {
        let again = before.filter(|told| {
            told.reason == refusal.reason && refusal.at.since(told.at) < TOLD_FORGOTTEN
        });
        Self {
            reason: refusal.reason,
            at: refusal.at,
            times: again.map_or(0, |told| told.times).saturating_add(1),
        }
    }

    /// Whether nothing need be said of the refusal of what is asked for, for this reason.
    pub(crate) fn covers(self, reason: Reason, asked: Option<&Proposal>, now: Timestamp) -> bool {
        if self.reason != reason {
            return false;
        }
        // The clock was put back: what is told now tells when it is.
        if self.at > now.plus(TOLD_AGAIN) {
            return false;
        }
        let Some((asked, since)) = asked.and_then(|asked| Some((asked, asked.since?))) else {
            return true;
        };
        // What a body proposed is told as of when it was entered: between two times it may not be looked at.
        let asked = asked.entered.unwrap_or(now);
        let anew = since > self.at && since <= now;
        !anew || asked < self.at.plus(told_again_after(self.times))
    }
}

/// How long after it was told so many times in a row a refusal may be told again.
pub fn told_again_after(times: u32) -> Duration {
    let doublings = 1_u32
        .checked_shl(times.saturating_sub(1))
        .unwrap_or(u32::MAX);
    TOLD_AGAIN.saturating_mul(doublings).min(TOLD_AGAIN_MAX)
}

#[cfg(test)]
mod tests;
