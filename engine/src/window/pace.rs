//! How often a node's agent reports, as its records tell it: a silence is judged by it.

use std::time::Duration;

use super::coverage::{kept, told};
use crate::time::Timestamp;

/// Records closer than this are of one report: collectd sends a record for each value.
const ONE_REPORT: Duration = Duration::from_secs(1);

/// Intervals after which what was told once is not believed any more, unless it is told again.
const BELIEVED: i64 = 3;

/// What the records of one node told of their rhythm; lengths in units of 10 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// The shortest interval that was told lately; 0 for none. Agents read some values seldom,
    /// and their rhythm is that of the most frequent ones.
    pub(super) told: u16,
    /// How far apart the last three reports came, newest first; 0 for not known.
    pub(super) gaps: [u16; 2],
    /// The second at which `told` was last told, in the last 16 bits of it: whether that was
    /// minutes ago is all that is asked.
    pub(super) at: u16,
}

impl Pace {
    /// Takes in a record of event time `time`; `last` is that of the newest before.
    pub(super) fn note(
        &mut self,
        last: Option<Timestamp>,
        time: Timestamp,
        interval: Option<Duration>,
    ) {
        let second = time.millis().div_euclid(1_000) as u16;
        let ago = i64::from(second.wrapping_sub(self.at));
        let interval = kept(interval);
        // A record that comes late tells nothing new.
        let newest = last.is_none_or(|last| last <= time);
        let lapsed = ago * 100 >= i64::from(self.told) * BELIEVED;
        if interval > 0 && newest && (interval <= self.told || lapsed) {
            self.told = interval;
            self.at = second;
        }
        if let Some(gap) = last.map(|last| time.since(last))
            && gap >= ONE_REPORT
        {
            let [newer, _] = self.gaps;
            self.gaps = [kept(Some(gap)), newer];
        }
    }

    /// How often the agent reports: what it told, else the smaller of the last two gaps, so that
    /// one lost record or an outage does not make an agent slow.
    pub(super) fn interval(self) -> Option<Duration> {
        let [newer, older] = self.gaps;
        told(self.told).or_else(|| told(newer.min(older)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace after records at seconds, each with the interval that it tells in seconds.
    fn pace(records: &[(i64, u64)]) -> Option<u64> {
        let mut pace = Pace::default();
        let mut last = None;
        for (second, interval) in records {
            let time = Timestamp(1_767_225_600_000 + second * 1_000);
            let interval = (*interval > 0).then(|| Duration::from_secs(*interval));
            pace.note(last, time, interval);
            last = last.max(Some(time));
        }
        pace.interval().map(|interval| interval.as_secs())
    }

    #[test]
    fn the_pace_is_what_is_told_or_else_what_is_seen() {
        for (name, records, wanted) in [
            ("nothing yet", &[][..], None),
            ("one record", &[(0, 0)], None),
            ("two may be an outage apart", &[(0, 0), (600, 0)], None),
            ("told", &[(0, 60)], Some(60)),
            ("seen", &[(0, 0), (60, 0), (120, 0)], Some(60)),
            ("one lost", &[(0, 0), (60, 0), (120, 0), (240, 0)], Some(60)),
            (
                "parts of a report",
                &[(0, 0), (0, 0), (60, 0), (60, 0), (120, 0), (120, 0)],
                Some(60),
            ),
            (
                "late ones say nothing",
                &[(0, 0), (60, 0), (120, 0), (70, 0), (75, 0)],
                Some(60),
            ),
            (
                "seldom values beside",
                &[(0, 10), (5, 300), (10, 10), (11, 300)],
                Some(10),
            ),
            (
                "set to report less often",
                &[(0, 10), (60, 60), (120, 60)],
                Some(60),
            ),
            ("set to report more often", &[(0, 60), (60, 10)], Some(10)),
            ("an hour is not believed", &[(0, 3_600)], Some(120)),
        ] {
            assert_eq!(pace(records), wanted, "{name}");
        }
    }
}
