//! Brakes that close and open, and what follows from it: hold times begin anew.

use super::{Engine, World};
use crate::journal::{Brake, Record};
use crate::signals::Sight;
use crate::time::Now;

impl Engine {
    pub(super) fn update_brakes(&mut self, now: Now) {
        let (suspects, facts) = self.world.suspects();
        suspects.review(facts);
        let World {
            settings,
            cluster,
            windows,
            brakes,
            calm,
            suspects,
            in_flight,
        } = &mut self.world;
        let sight = Sight {
            now,
            cluster,
            windows,
            settings,
            flowing_since: brakes.flowing_since(settings),
            calm,
            suspects,
            in_flight,
        };
        for change in brakes.update(sight, &self.state) {
            self.brake(now, change);
        }
        let flowing = self.world.brakes.flowing_since(&self.world.settings);
        if std::mem::replace(&mut self.flowed, flowing) != flowing {
            // Blind, or back from it: what held so far has to hold anew.
            self.rules.restart_holds();
        }
    }

    /// A brake closed or opened: journaled, and made known.
    pub(super) fn brake(&mut self, now: Now, change: crate::guard::Change) {
        let cluster = &self.world.cluster;
        let shaken: Vec<_> = match &change.brake {
            Brake::Storm(pool) => cluster.pool_slot(pool).into_iter().collect(),
            // Whoever was in it may have moved since: every pool begins anew.
            Brake::Domain(_) => cluster.pools().map(|(slot, _)| slot).collect(),
            Brake::Blind(_) | Brake::Inventory(_) | Brake::Clock | Brake::Pause(_) => Vec::new(),
        };
        for slot in shaken.into_iter().filter(|_| !change.on) {
            self.world.calm.storm_over(slot, now);
            self.rules.restart_node_holds(slot);
        }
        self.emit(Record::Brake {
            brake: change.brake,
            on: change.on,
            at: now,
            detail: change.detail,
        });
        self.tell_what_holds(now);
    }

    /// Nothing may be judged by a wall clock that has just been stepped.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let World {
            brakes, settings, ..
        } = &mut self.world;
        let Some(parted) = brakes.watch_clock(now, settings) else {
            return;
        };
        self.world.calm.clock_stepped(now);
        self.rules.restart_holds();
        if !self.state.brakes.contains_key(&Brake::Clock) {
            self.brake(now, parted);
        }
    }
}
