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
    asked: Option<Now>,
    doubt: Option<Now>,
    doubted: (usize, usize),
}

/// A listing, as it is weighed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// When it was asked for: what came to be since is not in it.
    pub(super) asked: Now,
    /// Whether it says itself that it is whole.
    pub(super) complete: bool,
    /// How many it holds.
    pub(super) listed: usize,
    /// How many were known before, without those that are being taken away.
    pub(super) known: usize,
    /// How many of these it lacks.
    pub(super) missing: usize,
    /// Whether another source shows one of those alive, or none can be asked about several.
    pub(super) contradicted: bool,
}

impl Inventory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            drop_share: limits.inventory_drop,
            confirm: limits.inventory_confirm,
            asked: None,
            doubt: None,
            doubted: (0, 0),
        }
    }

    /// When the last believable listing of this run was asked for.
    ///
    /// It is not when it was taken in: a VM that was made while a list was on its way is not in
    /// that list, and not gone.
    pub fn asked(&self) -> Option<Now> {
        self.asked
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
            self.asked = Some(listing.asked);
            self.doubt = None;
            return true;
        }
        self.doubted = (listing.listed, known);
        let since = *self.doubt.get_or_insert(now);
        let believable = listing.complete && !listing.contradicted;
        if believable && now.mono.since(since.mono) >= self.confirm {
            self.asked = Some(listing.asked);
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
