//! Getting past a batch that cannot be unpacked, without losing the records after it.
//!
//! librdkafka reports such a batch twice a second for ever and stays in front of it. It names
//! the first offset of the batch, not the last. So the end is searched: leap over it in
//! growing steps until something else answers, then halve the distance. The broker gives back
//! the whole batch that holds an offset, so each attempt answers "still the same batch" or
//! "beyond it".
//!
//! Pure: `kafka.rs` moves the position and reports what came.

/// Reports of one batch before it is passed over. The first can be a transfer that was cut
/// short; three come within two seconds.
const REPEATS: u32 = 3;

/// The search for the end of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Poison {
    /// First offset of the batch.
    base: i64,
    /// How often it was reported before the search began.
    repeats: u32,
    /// The offset that is tried just now; none before the search began.
    trying: Option<i64>,
    /// Highest offset known to lie in the batch.
    bad: i64,
    /// Lowest offset known to lie beyond it.
    good: Option<i64>,
    step: i64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: librdkafka tries again by itself.
    Wait,
    /// Go to this offset and see what comes.
    Try(i64),
    /// The batch ends before this offset: read on from here.
    Resume(i64),
}

impl Poison {
    /// The batch that begins at `base` was reported for the first time.
    pub(super) fn new(base: i64) -> Self {
        Self {
            base,
            repeats: 1,
            trying: None,
            bad: base,
            good: None,
            step: 1,
        }
    }

    /// First offset of the batch.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// Whether an attempt is under way: what comes meanwhile is not to be delivered.
    pub(super) fn searching(&self) -> bool {
        self.trying.is_some()
    }

    /// A batch was reported that begins at `base`; the partition ends at `high`.
    pub(super) fn failed(&mut self, base: i64, high: i64) -> Next {
        match self.trying {
            None if base != self.base => {
                *self = Self::new(base);
                Next::Wait
            }
            None => {
                self.repeats += 1;
                if self.repeats < REPEATS {
                    return Next::Wait;
                }
                self.next(high)
            }
            Some(trying) if base == self.base => {
                self.bad = self.bad.max(trying);
                self.next(high)
            }
            Some(trying) => {
                // Another batch of that kind, behind this one.
                self.beyond(base.min(trying), high)
            }
        }
    }

    /// The attempt brought a record, or the end of the partition.
    pub(super) fn passed(&mut self, high: i64) -> Next {
        match self.trying {
            Some(trying) => self.beyond(trying, high),
            None => Next::Wait,
        }
    }

    fn beyond(&mut self, offset: i64, high: i64) -> Next {
        let offset = offset.max(self.bad + 1);
        self.good = Some(self.good.map_or(offset, |good| good.min(offset)));
        self.next(high)
    }

    fn next(&mut self, high: i64) -> Next {
        let leap = self.bad.saturating_add(self.step);
        if self.good.is_none() && leap >= high {
            // The end itself is beyond every batch; nothing would answer there.
            self.good = Some(high.max(self.bad + 1));
        }
        let offset = match self.good {
            None => {
                self.step = self.step.saturating_mul(2);
                leap
            }
            Some(good) if good <= self.bad + 1 => return Next::Resume(good),
            Some(good) => self.bad + (good - self.bad) / 2,
        };
        self.trying = Some(offset);
        Next::Try(offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays the broker: batches given by their first offsets, those that are bad, the end.
    fn resume(first: &[i64], bad: &[bool], high: i64, at: usize) -> (i64, u32) {
        let mut poison = Poison::new(first[at]);
        let mut next = poison.failed(first[at], high);
        let mut tries = 0;
        loop {
            match next {
                Next::Wait => next = poison.failed(first[at], high),
                Next::Resume(offset) => return (offset, tries),
                Next::Try(offset) => {
                    tries += 1;
                    let holds = first.partition_point(|start| *start <= offset) - 1;
                    assert!(offset > first[at] && offset < high, "{offset} in {first:?}");
                    next = if bad[holds] {
                        poison.failed(first[holds], high)
                    } else {
                        poison.passed(high)
                    };
                }
            }
        }
    }

    #[test]
    fn one_report_moves_nothing_and_the_third_does() {
        let mut poison = Poison::new(4);
        assert!(!poison.searching());
        assert_eq!(poison.failed(4, 100), Next::Wait);
        assert_eq!(poison.failed(4, 100), Next::Try(5));
        assert!(poison.searching());
    }

    #[test]
    fn a_report_of_another_batch_begins_anew() {
        let mut poison = Poison::new(4);
        assert_eq!(poison.failed(9, 100), Next::Wait);
        assert_eq!(poison.base(), 9);
        assert_eq!(poison.failed(9, 100), Next::Wait);
        assert_eq!(poison.failed(9, 100), Next::Try(10));
    }

    #[test]
    fn the_last_batch_of_a_partition_is_passed_to_the_end() {
        assert_eq!(resume(&[0, 4], &[false, true], 5, 1), (5, 0));
        assert_eq!(resume(&[0, 4], &[false, true], 104, 1).0, 104);
    }

    proptest! {
        #[test]
        fn the_search_ends_at_the_first_offset_after_the_batch(
            lengths in prop::collection::vec((1_i64..3_000, any::<bool>()), 1..8),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(lengths.len());
            let mut first = vec![];
            let mut bad = vec![];
            let mut high = 0;
            for (place, (length, is_bad)) in lengths.iter().enumerate() {
                first.push(high);
                bad.push(*is_bad || place == at);
                high += length;
            }
            let end = first.get(at + 1).copied().unwrap_or(high);
            let (offset, tries) = resume(&first, &bad, high, at);
            prop_assert_eq!(offset, end);
            prop_assert!(tries <= 2 * 13, "{} tries", tries);
        }
    }
}
