//! What the next records will need is asked for ahead, of many nodes at once.
//!
//! In a large fleet all that is known of a node lies outside of the processor's caches when a record
//! of it comes. Taken record by record each word would be waited for in turn; a processor waits
//! for many at a time if nothing hangs on the one before. So one word of each line is read here, and
//! what comes of it is of no account.

use super::{Engine, World};
use crate::window::NodeSlot;

/// Records that are asked for together: enough to wait for all that a processor can ask for at a
/// time, few enough that the first is still in its nearest cache when the last one has come.
pub(crate) const AHEAD: usize = 32;

impl Engine {
    /// Reads what the first [`AHEAD`] of these nodes will need.
    pub(super) fn ask_ahead(&self, slots: &[Option<NodeSlot>]) {
        let World {
            cluster, windows, ..
        } = &self.world;
        let ahead = || slots.iter().take(AHEAD).flatten().copied();
        let mut sum = 0;
        for slot in ahead() {
            let member = cluster.member(slot);
            sum ^= member.map_or(0, |member| member.born().millis());
            sum ^= windows.ask_ahead(slot) ^ self.rules.ask_ahead(slot);
        }
        // Where the samples are stands in what was read above.
        for slot in ahead() {
            sum ^= windows.ask_samples_ahead(slot);
        }
        std::hint::black_box(sum);
    }
}
