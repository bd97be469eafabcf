//! What [`Status`](crate::status::Status) comes to in numbers, for `/metrics`: asked for every few
//! seconds, so it names no node and looks nothing up that is not counted already.
//! Reads; never decides.

use crate::cluster::PoolSlot;
use crate::engine::{Counters, Engine};
use crate::event::SourceReport;
use crate::names::PoolName;
use crate::time::Now;

/// The engine in numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overview {
    /// Whether the journal can be written.
    pub journal_well: bool,
    /// The pools.
    pub pools: Vec<PoolFigures>,
    /// The inputs.
    pub sources: Vec<SourceReport>,
    /// Brakes that hold.
    pub brakes: usize,
    /// Operations under way.
    pub operations: usize,
    /// What the engine counts of its own work.
    pub counters: Counters,
}

/// A pool in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFigures {
    /// Its name.
    pub name: PoolName,
    /// Nodes, in flight and silent ones counted.
    pub size: u32,
    /// Nodes that serve.
    pub ready: u32,
    /// The desired size, once known.
    pub desired: Option<u32>,
    /// Bounds.
    pub min: u32,
    /// Bounds.
    pub max: u32,
    /// Whether it, or everything, is paused.
    pub paused: bool,
}

impl Engine {
    /// The engine in numbers.
    pub fn overview(&self, now: Now) -> Overview {
        Overview {
            journal_well: self.world.brakes.journal_well,
            pools: self.pool_figures(now),
            sources: self.world.brakes.heard(now, &self.world.settings),
            brakes: self.state.brakes.len(),
            operations: self.state.operations.len(),
            counters: self.counters(),
        }
    }

    fn pool_figures(&self, now: Now) -> Vec<PoolFigures> {
        let sight = self.sight(now);
        let figures = |(slot, name): (PoolSlot, &PoolName)| {
            let settings = self.world.settings.pools.get(name)?;
            Some(PoolFigures {
                name: name.clone(),
                size: sight.size(slot),
                ready: sight.ready(slot),
                desired: self.state.desired.get(name).map(|(size, _)| *size),
                min: settings.min,
                max: settings.max,
                paused: self.state.pause_of(name).is_some(),
            })
        };
        self.world.cluster.pools().filter_map(figures).collect()
    }
}
