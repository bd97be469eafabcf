//! What was learnt of the nodes' cores and states as bytes and back, so that a restart need not
//! learn it again. Instants that were waiting are not kept: their parts lie before the positions
//! that the snapshot is of.
//!
//! Little-endian, one after the other for each node that has joins:
//!
//! ```text
//! node u32 (its number among the snapshot's), kinds u8, each:
//!   form u8, whether the agent sums over the cores u8,
//!   newest i64, steady u32, known parts u32,
//!   states u16, when each of them was last seen i64,
//!   cores u16, when each of them was last seen i64 (i64::MIN: not in the set)
//! ```

use super::instants::Instants;
use super::parts::Kind;
use super::{Joins, NodeJoins};
use crate::event::Form;
use crate::window::{NodeSlot, Reader, SnapshotError};

/// Kinds of parts, by their number in a snapshot.
const FORMS: [Form; 4] = [
    Form::CpuPercent,
    Form::CpuRate,
    Form::CpuCounter,
    Form::MemoryBytes,
];

/// A node has at most one set for each form and way to sum.
const KINDS: usize = 2 * FORMS.len();

impl Joins {
    /// What was learnt of `slots`, which are numbered from 0 on.
    pub fn snapshot(&self, slots: impl Iterator<Item = NodeSlot>) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, slot) in (0_u32..).zip(slots) {
            let joins = self.nodes.get(slot.0 as usize).and_then(Option::as_ref);
            let Some(joins) = joins else {
                continue;
            };
            out.extend(number.to_le_bytes());
            out.push(joins.len() as u8);
            for (kind, instants) in joins.iter() {
                let form = FORMS.iter().position(|form| *form == kind.form);
                out.push(form.unwrap_or_default() as u8);
                out.push(u8::from(kind.total));
                instants.keep(&mut out);
            }
        }
        out
    }

    /// Joins that know what a snapshot knew, its nodes by their numbers.
    ///
    /// # Errors
    ///
    /// Returns where the bytes are no such snapshot.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut nodes: Vec<Option<Box<NodeJoins>>> = Vec::new();
        let mut reader = Reader::new(bytes);
        while !reader.is_at_end() {
            let number = u32::from_le_bytes(reader.take()?) as usize;
            // In order, and of nodes that there can be in so many bytes of windows.
            if number < nodes.len() || number > MOST_NODES {
                return Err(reader.damaged());
            }
            let [kinds] = reader.take()?;
            if usize::from(kinds) > KINDS {
                return Err(reader.damaged());
            }
            let mut joins = NodeJoins::new();
            for _ in 0..kinds {
                let [form, total] = reader.take()?;
                let form = FORMS.get(usize::from(form)).copied();
                let kind = Kind {
                    form: form.ok_or_else(|| reader.damaged())?,
                    total: total > 0,
                };
                joins.push((kind, Instants::kept(&mut reader)?));
            }
            nodes.resize_with(number, || None);
            nodes.push(Some(Box::new(joins)));
        }
        Ok(Self { nodes })
    }
}

/// More nodes than any engine has: a damaged number must not take all the memory.
const MOST_NODES: usize = 1 << 22;
