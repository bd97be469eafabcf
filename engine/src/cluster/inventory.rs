//! Whether a listing can be believed: a list that shrank without our doing is partial.

use std::time::Duration;

use crate::settings::Limits;
use crate::time::Now;

/// How well a kind of thing has been listed.
///
/// A list that is not whole, or empty, or smaller by more than a share and by two than the
/// last good one, loses nothing: what it lacks is kept until two listings in a row, far enough
/// apart, lack it, and no second source shows signs of life of what they lack (I13).
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    drop_share: f64,
    confirm: Duration,
    read: Option<Now>,
    doubt: Option<Now>,
    doubted: (usize, usize),
}

/// A listing, as it is weighed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// Whether it says itself that it is whole.
    pub(super) complete: bool,
    /// How many it holds.
    pub(super) listed: usize,
    /// How many were known before, without those that are being taken away.
    pub(super) known: usize,
    /// How many of these it lacks.
    pub(super) missing: usize,
    /// Whether another source shows one of those alive.
    pub(super) contradicted: bool,
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
    pub(super) fn seen(&mut self, now: Now, listing: &Listing) -> bool {
        let Listing { known, missing, .. } = *listing;
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of machines are far below 2^52"
        )]
        let shrank = missing >= 2 && missing as f64 > self.drop_share * known as f64;
        let emptied = listing.listed == 0 && missing > 0;
        if listing.complete && !shrank && !emptied {
            self.read = Some(now);
            self.doubt = None;
            return true;
        }
        self.doubted = (listing.listed, known);
        let since = *self.doubt.get_or_insert(now);
        let believable = listing.complete && !listing.contradicted;
        if believable && now.mono.since(since.mono) >= self.confirm {
            self.read = Some(now);
            self.doubt = None;
            return true;
        }
        if !believable {
            // A partial list, or one that another source contradicts, proves nothing however
            // often it comes.
            self.doubt = Some(now);
        }
        false
    }
}
