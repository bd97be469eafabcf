//! Joins what agents send in parts to `cpu` and `memory` ratios, per node.
//!
//! collectd sends a value for each state of each core, and each state of the memory, in a
//! record of its own: in any order, on any partition, some twice and some late. What belongs
//! together is called an instant here. This file decides nothing; `engine.rs` hands it the
//! samples whose [`Form`] is not a finished value and pushes what comes out into the windows.
//!
//! - **An instant** is the parts whose event times are within [`TOLERANCE`] of each other (a third
//!   of the reporting interval, if that is shorter): one reading of an agent is spread over some
//!   10 ms, and the next is a second or more away. It has the time of its newest part.
//! - **It comes out once, when it is whole**, because half an instant is a wrong value that the
//!   larger-wins rule for duplicates would keep. Whole is what has every state of every core that
//!   the node has been seen to send. That set is learned: nothing comes out before
//!   [`LEARN`] instants have added nothing to it ([`LEARN_WITH_HOLES`] if the numbers of the cores
//!   have holes), and after a silence of a minute it is learned anew, for a VM may come back with
//!   more cores. Instants that wait for this come out when it is known. A core that appears
//!   while its node runs may be missed by the one instant in which it is first seen.
//! - **The order does not show**: the sums are of whole numbers, and what comes out depends on
//!   the parts alone, as long as they arrive within the bound on waiting instants.
//! - **`cpu`** is 1 less the mean over the cores of the idle share: of `CpuPercent`, idle / 100 (or
//!   100 less `active`); of `CpuRate`, idle / the sum of all states, or / 100 where only idle is
//!   sent; of `CpuCounter`, the same of what the counters grew by since the instant before. That
//!   must not be further back than one and a half intervals, and no counter may have fallen: a
//!   machine that booted gives no value for its first instant.
//! - **`memory`** is used / the sum of all states.
//!
//! A node that sends no parts costs a pointer here.

use std::time::Duration;

use crate::event::Form;
use crate::time::Timestamp;
use crate::window::NodeSlot;
use instants::Instants;
use parts::{Kind, Part};

mod instants;
mod parts;
mod snapshot;
#[cfg(test)]
mod tests;

pub use instants::{CORES, LEARN, LEARN_WITH_HOLES, TOLERANCE, WAITING, WAITING_CELLS};

/// One part as a record carries it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartSample<'a> {
    /// What the number means; never [`Form::Value`].
    pub form: Form,
    /// Which part, by `form`: `core/state` or the state.
    pub part: &'a str,
    /// When it was measured.
    pub time: Timestamp,
    /// The number.
    pub value: f64,
    /// How often the agent says that it reports.
    pub interval: Option<Duration>,
}

/// A ratio that came out of parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Joined {
    /// `cpu` or `memory`.
    pub metric: &'static str,
    /// The time of the instant.
    pub time: Timestamp,
    /// 0..=1.
    pub value: f64,
    /// As the part that made it whole told.
    pub interval: Option<Duration>,
}

/// The joins of all nodes.
#[derive(Debug, Default)]
pub struct Joins {
    /// By [`NodeSlot`].
    nodes: Vec<Option<Box<NodeJoins>>>,
}

/// The joins of a node, at most one for each [`Kind`].
type NodeJoins = Vec<(Kind, Instants)>;

impl Joins {
    /// Takes in a part of a node and adds to `out` what it completes, oldest first. Parts that
    /// have no meaning here, such as a state of no name known, are passed over.
    pub fn push(&mut self, slot: NodeSlot, sample: PartSample<'_>, out: &mut Vec<Joined>) {
        let Some(part) = Part::of(&sample) else {
            return;
        };
        let node = slot.0 as usize;
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, || None);
        }
        let Some(place) = self.nodes.get_mut(node) else {
            return;
        };
        let joins = place.get_or_insert_default();
        if !joins.iter().any(|(kind, _)| *kind == part.kind) {
            joins.push((part.kind, Instants::default()));
        }
        let Some((kind, instants)) = joins.iter_mut().find(|(kind, _)| *kind == part.kind) else {
            return;
        };
        instants.push(*kind, &part, |time, value| {
            out.push(Joined {
                metric: kind.metric(),
                time: Timestamp(time),
                value,
                interval: sample.interval,
            });
        });
    }

    /// Forgets what is known of a node.
    pub fn remove_node(&mut self, slot: NodeSlot) {
        if let Some(node) = self.nodes.get_mut(slot.0 as usize) {
            *node = None;
        }
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        let joins = self.nodes.iter().flatten().map(|joins| {
            let sets = joins.iter().map(|(_, instants)| instants.bytes());
            sets.sum::<usize>() + joins.capacity() * size_of::<(Kind, Instants)>()
        });
        joins.sum::<usize>() + self.nodes.capacity() * size_of::<usize>()
    }
}
