//! Pauses that are left in a file or in the cluster (I39), beside those that operators order.
//!
//! They are state and not configuration: a pause stands over a restart, and over a source that
//! is not looked at any more, until it is seen to be gone. Where nobody can tell whether one was
//! left, what stood goes on standing and nothing is taken away: a brake holds until it can be
//! read again.

use super::Engine;
use crate::event::{PauseReport, PauseSource};
use crate::guard::Change;
use crate::journal::{Brake, Record, State};
use crate::names::PoolName;
use crate::time::Now;

impl Engine {
    /// Takes in what was found where a pause can be left.
    pub(super) fn pause_report(&mut self, now: Now, report: PauseReport) {
        let PauseReport { source, seen } = report;
        let pause = match seen {
            Ok(pause) => pause,
            Err(trouble) => return self.pause_unread(now, source, true, trouble),
        };
        let detail = format!("{} can be read again", source.words());
        self.pause_unread(now, source, false, detail);
        let stands = self.state.standing.get(&source).map(|(_, pause)| pause);
        if stands == pause.as_ref() {
            return;
        }
        self.emit(Record::Pause {
            source,
            pause,
            at: now,
        });
        self.replan();
    }

    fn pause_unread(&mut self, now: Now, source: PauseSource, on: bool, detail: String) {
        let brake = Brake::Pause(source);
        if self.state.brakes.contains_key(&brake) != on {
            self.brake(now, Change { brake, on, detail });
        }
    }

    /// An operator's word ends the pauses that nobody looks for any more: their source was taken
    /// out of the configuration, so nothing else ever would.
    pub(crate) fn lift_unread(&mut self, now: Now, pool: Option<&PoolName>) {
        let read = &self.world.settings.pause_sources;
        let left: Vec<_> = self
            .state
            .standing
            .iter()
            .filter(|(source, _)| !read.contains(source))
            .map(|(source, (_, pause))| (*source, pause.clone()))
            .collect();
        for (source, mut pause) in left {
            if let Some(pool) = pool
                && !pause.pools.remove(pool)
            {
                continue;
            }
            let over = pool.is_none() || pause.pools.is_empty();
            self.emit(Record::Pause {
                source,
                pause: (!over).then_some(pause),
                at: now,
            });
        }
    }

    /// What an operator is told who ends a pause: that another one stands.
    pub(crate) fn resumed(&self, pool: &Option<PoolName>) -> String {
        let scope = pool.as_ref().map_or("everything", PoolName::as_str);
        let standing = self.state.standing.iter();
        let others: Vec<_> = standing
            .filter(|(_, (_, pause))| pool.as_ref().is_none_or(|pool| pause.covers(pool)))
            .map(|(source, (_, pause))| {
                format!("{} still pauses {}", source.words(), pause.scope())
            })
            .collect();
        if others.is_empty() {
            return format!("resumed {scope}");
        }
        format!(
            "resumed {scope}, but {}: remove it there",
            others.join(" and ")
        )
    }
}

impl State {
    /// Why nothing of the pool may be changed, if so.
    pub fn pause_of(&self, pool: &PoolName) -> Option<String> {
        if self.paused.contains(&None) {
            return Some("everything is paused by an operator".to_owned());
        }
        if self.paused.contains(&Some(pool.clone())) {
            return Some(format!("{pool} is paused by an operator"));
        }
        let mut standing = self.standing.iter();
        let (source, (_, pause)) = standing.find(|(_, (_, pause))| pause.covers(pool))?;
        let scope = if pause.pools.is_empty() {
            "everything"
        } else {
            pool.as_str()
        };
        let (by, why) = (source.words(), &pause.why);
        Some(format!("{scope} is paused by {by}: {why}"))
    }
}
