//! When a node is looked at though no record of it came.

use std::time::Duration;

use super::{Rules, Watch};
use crate::engine::AHEAD;
use crate::signals::Sight;
use crate::time::Monotonic;
use crate::window::NodeSlot;

/// A node that nothing was heard of is looked at again after this long: its lease, its VM and
/// its coverage change without a record of it.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Timers are kept in slices of this many milliseconds: a hundredth of ten seconds, the
/// shortest silence that makes sense with agents that report every few seconds.
pub(super) const SLICE_MS: u64 = 100;

/// Reads what tells when these nodes are due (`engine/ahead.rs`).
fn ask_ahead(sight: Sight<'_>, looked: &[u64], slots: impl Iterator<Item = NodeSlot>) {
    let words = slots.map(|slot| {
        let born = sight
            .cluster
            .member(slot)
            .map(|member| member.born().millis());
        let heard = sight.windows.last_heard(slot).unwrap_or_default().millis();
        let looked = looked.get(slot.0 as usize).copied().unwrap_or_default();
        born.unwrap_or_default() ^ heard ^ looked.cast_signed()
    });
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word));
}

impl Rules {
    /// When a timer runs out next.
    pub(crate) fn wake_at(&self) -> Option<Monotonic> {
        let (slice, _) = self.timers.first_key_value()?;
        Some(Monotonic((slice + 1).saturating_mul(SLICE_MS)))
    }

    /// Looks at the nodes whose timers have run out.
    pub(crate) fn timers(&mut self, sight: Sight<'_>, watch: &Watch) {
        while let Some(entry) = self.timers.first_entry() {
            if (entry.key() + 1).saturating_mul(SLICE_MS) > sight.now.mono.0 {
                return;
            }
            let mut slots = entry.remove();
            // One timer for each node, however often it was set: each is set anew below.
            slots.sort_unstable();
            slots.dedup();
            for (place, slot) in slots.iter().copied().enumerate() {
                if place % AHEAD == 0 {
                    let next = slots.iter().skip(place).take(AHEAD);
                    ask_ahead(sight, &self.looked, next.copied());
                }
                let looked = self.looked(slot);
                let due = self.due(sight, slot);
                if due.is_some_and(|due| due > sight.now.mono.0) && looked > 0 {
                    // Heard of since: the timer goes on from the last sign of life.
                    self.arm(due.unwrap_or_default(), slot);
                } else {
                    self.look_at_node(sight, slot, watch);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn timer_count(&self) -> usize {
        self.timers.values().map(Vec::len).sum()
    }

    pub(super) fn looked(&self, slot: NodeSlot) -> u64 {
        self.looked
            .get(slot.0 as usize)
            .copied()
            .unwrap_or_default()
    }

    /// When the node has to be looked at next if no record of it comes.
    pub(super) fn due(&self, sight: Sight<'_>, slot: NodeSlot) -> Option<u64> {
        let member = sight.cluster.member(slot)?;
        let again = Monotonic(self.looked(slot)).plus(LOOK_AGAIN);
        let silent = sight.silence(slot, member).and_then(|silence| {
            // The first length that had not been reached when the node was last looked at: one
            // reached since is due at once.
            let unlooked = sight.now.mono.since(Monotonic(self.looked(slot)));
            let at_look = silence.saturating_sub(unlooked);
            let next = self.silences.iter().find(|length| **length > at_look)?;
            Some(sight.now.mono.plus(next.saturating_sub(silence)))
        });
        Some(silent.map_or(again, |silent| silent.min(again)).0)
    }

    pub(super) fn arm(&mut self, due: u64, slot: NodeSlot) {
        self.timers.entry(due / SLICE_MS).or_default().push(slot);
    }
}
