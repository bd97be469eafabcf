//! Whether a listing can be believed: a list that shrank without our doing is partial.

use std::time::Duration;

use crate::settings::Limits;
use crate::time::Now;

/// How well a kind of thing has been listed.
///
/// A list that is not whole, or empty, or smaller by more than a share and by two than the
/// last good one, loses nothing: what it lacks is kept until two listings in a row, far enough
/// apart, lack it (I13). The second source that I13 asks for is the guard's to weigh: while the
/// doubt lasts nothing destructive is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    drop_share: f64,
    confirm: Duration,
    read: Option<Now>,
    doubt: Option<Now>,
    doubted: (usize, usize),
}

impl Inventory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            drop_share: limits.inventory_drop,
            confirm: limits.inventory_confirm,
            read: None,
            doubt: None,
            doubted: (0, 0),
        }
    }

    /// When the last believable listing was taken in, in this run.
    pub fn read(&self) -> Option<Now> {
        self.read
    }

    /// Since when listings are doubted, and what the last one held against what was known.
    pub fn doubt(&self) -> Option<(Now, usize, usize)> {
        let (listed, known) = self.doubted;
        self.doubt.map(|since| (since, listed, known))
    }

    /// Takes in a listing and says whether what it lacks is gone.
    pub(super) fn seen(
        &mut self,
        now: Now,
        complete: bool,
        known: usize,
        listed: usize,
        removed: usize,
    ) -> bool {
        let missing = known.saturating_sub(listed).saturating_sub(removed);
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of machines are far below 2^52"
        )]
        let shrank = missing >= 2 && missing as f64 > self.drop_share * known as f64;
        let emptied = listed == 0 && known > removed && known > 0;
        if complete && !shrank && !emptied {
            self.read = Some(now);
            self.doubt = None;
            return true;
        }
        self.doubted = (listed, known);
        let since = *self.doubt.get_or_insert(now);
        if complete && now.mono.since(since.mono) >= self.confirm {
            self.read = Some(now);
            self.doubt = None;
            return true;
        }
        if !complete {
            // A partial list proves nothing, however often it comes.
            self.doubt = Some(now);
        }
        false
    }
}
