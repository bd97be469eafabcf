//! Storms: too many of a pool, of a zone or of a hypervisor at once.

use super::{Brakes, Change};
use crate::guard::{Guard, allowed_ill};
use crate::journal::{Brake, State};
use crate::signals::Sight;
use crate::time::show_duration;

impl Brakes {
    /// I10 for pools: more than a share of one is silent or ill.
    pub(super) fn update_storms(
        &mut self,
        sight: Sight<'_>,
        state: &State,
        changes: &mut Vec<Change>,
    ) {
        for (pool, name) in sight.cluster.pools() {
            let Some(settings) = sight.pool_settings(pool) else {
                continue;
            };
            let guard = Guard {
                sight,
                state,
                brakes: self,
            };
            let ill = guard.ill(pool, settings).len();
            let size = sight.cluster.in_pool(pool).len();
            let allowed = allowed_ill(size, sight.settings.limits.storm_share);
            let brake = Brake::Storm(name.clone());
            if ill > allowed {
                let text = format!(
                    "{ill} of {size} in {name} are silent or ill at once, {allowed} may be"
                );
                changes.extend(self.close(state, brake, text));
            } else {
                let what = format!("{ill} of {size}");
                changes.extend(self.open_after_calm(sight, state, brake, &what));
            }
        }
    }

    /// I10 for what fails together: half of a zone or hypervisor is, in whichever pools.
    pub(super) fn update_domains(
        &mut self,
        sight: Sight<'_>,
        state: &State,
        changes: &mut Vec<Change>,
    ) {
        let guard = Guard {
            sight,
            state,
            brakes: self,
        };
        let ill = guard.ill_domains();
        let over = |brake: &&Brake| match brake {
            Brake::Domain(domain) => ill.iter().all(|one| one.domain != *domain),
            _ => false,
        };
        for brake in state.brakes.keys().filter(over) {
            let what = "fewer than half";
            changes.extend(self.open_after_calm(sight, state, brake.clone(), what));
        }
        for one in ill {
            let text = one.to_string();
            changes.extend(self.close(state, Brake::Domain(one.domain), text));
        }
    }

    fn close(&mut self, state: &State, brake: Brake, detail: String) -> Option<Change> {
        self.calm.remove(&brake);
        let is_open = !state.brakes.contains_key(&brake);
        is_open.then_some(Change {
            brake,
            on: true,
            detail,
        })
    }

    /// I11: a storm is over when it has been calm for a while, and not at the first good second.
    fn open_after_calm(
        &mut self,
        sight: Sight<'_>,
        state: &State,
        brake: Brake,
        what: &str,
    ) -> Option<Change> {
        if !state.brakes.contains_key(&brake) {
            return None;
        }
        let since = *self.calm.entry(brake.clone()).or_insert(sight.now);
        let calm = sight.now.mono.since(since.mono);
        if calm < sight.settings.limits.storm_cooldown {
            return None;
        }
        self.calm.remove(&brake);
        Some(Change {
            brake,
            on: false,
            detail: format!("{what} for {}", show_duration(calm)),
        })
    }
}
