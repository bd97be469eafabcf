//! What is kept of a set over a restart; the layout is told in `join/snapshot.rs`.

use super::{CORES, Instants};
use crate::window::{Reader, SnapshotError};

/// Stands for a core that is not in the set, and for no instant yet.
const NEVER: i64 = i64::MIN;

impl Instants {
    /// Adds what was learnt to `out`.
    pub(in crate::join) fn keep(&self, out: &mut Vec<u8>) {
        out.extend(self.newest.unwrap_or(NEVER).to_le_bytes());
        for count in [self.steady, self.known_parts] {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            out.extend(count.to_le_bytes());
        }
        out.extend(self.state_set().to_le_bytes());
        let states = self.states.iter().flatten();
        out.extend(states.flat_map(|seen| seen.to_le_bytes()));
        let cores = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        out.extend(cores.to_le_bytes());
        let cores = self.cores.iter().take(usize::from(cores));
        out.extend(cores.flat_map(|seen| seen.unwrap_or(NEVER).to_le_bytes()));
    }

    /// A set that knows what was kept.
    pub(in crate::join) fn kept(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let seen = |time: i64| (time != NEVER).then_some(time);
        let newest = seen(i64::from_le_bytes(reader.take()?));
        let steady = u32::from_le_bytes(reader.take()?) as usize;
        let known_parts = u32::from_le_bytes(reader.take()?) as usize;
        let set = u16::from_le_bytes(reader.take()?);
        let mut states = [None; 16];
        for (bit, state) in states.iter_mut().enumerate() {
            if set >> bit & 1 == 1 {
                *state = Some(i64::from_le_bytes(reader.take()?));
            }
        }
        let count = usize::from(u16::from_le_bytes(reader.take()?));
        if count > CORES {
            return Err(reader.damaged());
        }
        let mut cores = Vec::new();
        for _ in 0..count {
            cores.push(seen(i64::from_le_bytes(reader.take()?)));
        }
        Ok(Self {
            members: cores.iter().flatten().count(),
            newest,
            steady,
            known_parts,
            states,
            cores,
            ..Self::default()
        })
    }
}
