//! Which alerts came before: a bounded memory, oldest out first.

use std::collections::{HashSet, VecDeque};

use rhizome_engine::event::Alert;
use sha2::{Digest, Sha256};

/// Alerts that are remembered. One forgotten too early comes to the engine twice, where its
/// cooldown and the operation under way hold it; 320 kB are cheap.
const REMEMBERED: usize = 10_000;

/// A hash of fingerprint, start and status: as long for a hostile fingerprint as for another.
pub(super) type Key = [u8; 32];

#[derive(Debug, Default)]
pub(super) struct Seen {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Seen {
    pub(super) fn key(alert: &Alert) -> Key {
        let mut hash = Sha256::new();
        hash.update(alert.fingerprint.as_bytes());
        hash.update([0, u8::from(alert.firing)]);
        hash.update(alert.starts_at.millis().to_le_bytes());
        hash.finalize().into()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn insert(&mut self, key: Key) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut seen = Seen::default();
        let key = |n: usize| -> Key { Sha256::digest(n.to_le_bytes()).into() };
        for n in 0..=REMEMBERED {
            seen.insert(key(n));
            seen.insert(key(n));
        }
        assert_eq!(
            (seen.keys.len(), seen.order.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(!seen.contains(&key(0)));
        assert!(seen.contains(&key(1)) && seen.contains(&key(REMEMBERED)));
    }
}
