//! What comes in: batches, observations, alerts, policies. Each into its place.

use std::sync::Arc;

use super::{AHEAD, Engine, World};
use crate::cluster::{Change, Known, PoolSlot, Slots};
use crate::event::{Batch, Observation};
use crate::journal::Record;
use crate::policy::PolicySet;
use crate::time::Now;
use crate::window::NodeSlot;

/// Nodes that a record of the batch at hand came of, each once, in the order of the first.
#[derive(Debug, Default)]
pub(super) struct Touched {
    slots: Vec<NodeSlot>,
    /// By node slot, 64 in a word.
    marks: Vec<u64>,
}

impl Touched {
    fn insert(&mut self, slot: NodeSlot) {
        let (word, bit) = (slot.0 as usize / 64, 1 << (slot.0 % 64));
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        if let Some(marks) = self.marks.get_mut(word)
            && *marks & bit == 0
        {
            *marks |= bit;
            self.slots.push(slot);
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = NodeSlot> + use<'_> {
        let Self { slots, marks } = self;
        slots.drain(..).inspect(|slot| {
            // All marks of a word are of slots that are drained as well.
            if let Some(marks) = marks.get_mut(slot.0 as usize / 64) {
                *marks = 0;
            }
        })
    }
}

impl Engine {
    /// Takes in what came together, and looks once at the nodes and pools that it is about.
    pub(super) fn batches<'a>(&mut self, now: Now, batches: impl IntoIterator<Item = &'a Batch>) {
        let mut live = false;
        for batch in batches {
            self.take_batch(now, batch);
            live |= !batch.refill;
        }
        if live {
            self.look_at_touched(now);
        }
    }

    fn take_batch(&mut self, now: Now, batch: &Batch) {
        let mut shortest = None;
        let mut slots = std::mem::take(&mut self.slots);
        let cluster = &self.world.cluster;
        slots.clear();
        slots.extend(batch.records().map(|record| cluster.slot(record.node())));
        for (place, (record, slot)) in batch.records().zip(&slots).enumerate() {
            if place % AHEAD == 0 {
                self.ask_ahead(slots.get(place..).unwrap_or_default());
            }
            self.counters.records += 1;
            let Some(slot) = *slot else {
                self.world.cluster.count_unknown(record.node());
                self.counters.unknown += 1;
                continue;
            };
            if self.take_record(now, slot, record, batch.refill) {
                self.rules.changed(&self.world.cluster, slot);
            }
            if !batch.refill {
                self.touched.insert(slot);
                let interval = self.world.windows.interval(slot);
                shortest = shortest.into_iter().chain(interval).min();
            }
        }
        self.slots = slots;
        if !batch.refill && !batch.is_empty() {
            let World {
                brakes, settings, ..
            } = &mut self.world;
            brakes.delivered(now, settings, batch.source, shortest);
        }
    }

    fn look_at_touched(&mut self, now: Now) {
        let mut touched = std::mem::take(&mut self.touched);
        let sight = self.world.sight(now);
        for slot in touched.drain() {
            let pool = self.rules.record(sight, slot, &self.watch);
            if let Some(pool) = pool
                && let Some(flag) = self.touched_pools.get_mut(usize::from(pool.0))
            {
                *flag = true;
            }
        }
        self.touched = touched;
        self.look_at_touched_pools(now);
    }

    fn look_at_touched_pools(&mut self, now: Now) {
        for slot in 0..self.pool_count() {
            let pool = PoolSlot(slot);
            let touched = self
                .touched_pools
                .get(usize::from(slot))
                .copied()
                .unwrap_or_default();
            let members = self.world.cluster.in_pool(pool).len();
            if touched && self.rules.pool_is_due(pool, members, now.mono) {
                if let Some(flag) = self.touched_pools.get_mut(usize::from(slot)) {
                    *flag = false;
                }
                let sight = self.world.sight(now);
                self.rules.look_at_pool(sight, pool, &self.watch);
            }
        }
    }

    pub(super) fn observation(&mut self, now: Now, observation: Observation) {
        let lists_vms = matches!(observation, Observation::Servers { .. });
        self.see(now, observation);
        if lists_vms {
            self.set_aside(now);
        }
        self.count_in_flight();
        self.drive(now);
    }

    /// Takes in what was observed, and lets windows and rules follow.
    pub(crate) fn see(&mut self, now: Now, observation: Observation) {
        if let Observation::Ports(ports) = observation {
            self.see_ports(now, ports);
            return;
        }
        let known = match observation {
            Observation::Servers { .. } | Observation::ServerGone(_) => Known {
                leaving: self.leaving(),
                heard: self.sight(now).flowing_since.is_some(),
            },
            Observation::Nodes { .. } => Known {
                heard: self.sight(now).flowing_since.is_some(),
                ..Known::default()
            },
            _ => Known::default(),
        };
        let mut changes = std::mem::take(&mut self.changes);
        let mut slots = Slots {
            windows: &mut self.world.windows,
            kept: &mut self.kept,
            changes: &mut changes,
        };
        self.world
            .cluster
            .observe(now, observation, &known, &mut slots);
        for change in changes.drain(..) {
            let (Change::Seen(slot)
            | Change::Joined(slot)
            | Change::Left(slot)
            | Change::Moved(slot)) = change;
            self.world.watch(slot);
            self.rules.unsettle(slot);
            match change {
                Change::Seen(_) => {}
                Change::Joined(slot) => self.rules.joined(slot, now.mono),
                Change::Left(slot) => {
                    self.rules.left(slot);
                    self.joins.remove_node(slot);
                }
                Change::Moved(slot) => {
                    // INVARIANT: nothing stands of a rule of the pool that it left.
                    self.rules.left(slot);
                    self.rules.joined(slot, now.mono);
                }
            }
        }
        self.changes = changes;
    }

    pub(super) fn alert(&mut self, now: Now, alert: &crate::event::Alert) {
        if let Some(node) = self.world.brakes.alert(now, &self.world.cluster, alert) {
            self.unsettle_node(&node);
        }
        if alert.firing {
            let sight = self.world.sight(now);
            self.rules.alert(sight, alert, &self.watch);
        } else {
            self.rules.alert_over(alert);
        }
        self.replan = true;
    }

    pub(super) fn policies(&mut self, now: Now, policies: Arc<PolicySet>) {
        let pools: Vec<_> = self.world.settings.pools.keys().cloned().collect();
        self.world.windows.replan(policies.plan());
        self.places.forget();
        self.rules.replace(policies, &pools, now.mono);
        self.note_policies(now);
    }

    pub(super) fn note_policies(&mut self, now: Now) {
        let policies = self.rules.policies();
        let widest = policies
            .plan()
            .metrics
            .iter()
            .flat_map(|(_, windows)| windows)
            .max();
        let widest = widest.copied().unwrap_or_default();
        let hash = policies.hash().to_owned();
        self.world.brakes.set_widest(widest);
        if self.state.policies != hash {
            self.emit(Record::Policies { hash, at: now });
        }
    }

    pub(super) fn journal_health(&mut self, now: Now, well: bool) {
        if self.world.brakes.journal_well != well {
            self.world.brakes.journal_well = well;
            self.tell_what_holds(now);
        }
    }
}
