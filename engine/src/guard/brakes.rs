//! The brakes: what holds destructive acts back until its cause has been gone for long enough.
//!
//! That a brake holds is journaled, so a restart does not take it off. What is kept here beside
//! is how well each source can be heard, and the alerts that fire.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Guard, Refused, allowed_ill, clock_drift, refuse};
use crate::cluster::Cluster;
use crate::decision::Reason;
use crate::event::{Alert, SourceName, SourceReport};
use crate::journal::{Brake, State};
use crate::names::NodeName;
use crate::settings::Settings;
use crate::signals::Sight;
use crate::time::{Monotonic, Now, format_duration};

/// Labels of an alert that name a node, the first that is there counts. `instance` carries a
/// port, which is cut off.
const NODE_LABELS: [&str; 4] = ["node", "hostname", "host", "instance"];

/// Most alerts kept as firing for one node; more of them say nothing more.
const ALERTS_PER_NODE: usize = 16;

/// A firing alert is a witness for this long. Its end can be lost (we were down, Alertmanager
/// was), and what was so an hour ago says nothing of a node that falls silent now.
const ALERT_COUNTS: Duration = Duration::from_secs(3600);

/// How well a source can be heard.
#[derive(Debug, Clone)]
struct Hearing {
    report: SourceReport,
    at: Now,
    flowing_since: Option<Now>,
    returned: Option<Now>,
}

/// A brake that closed or opened, to be journaled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) brake: Brake,
    pub(crate) on: bool,
    pub(crate) detail: String,
}

/// What the guard keeps between two looks.
#[derive(Debug)]
pub(crate) struct Brakes {
    /// Whether the journal can be written.
    pub(crate) journal_well: bool,
    started: Now,
    clock: Now,
    clock_parted: Option<Now>,
    widest: Duration,
    sources: BTreeMap<SourceName, Hearing>,
    /// By node and fingerprint: when it last came.
    alerts: BTreeMap<NodeName, BTreeMap<String, Monotonic>>,
    calm: BTreeMap<Brake, Now>,
}

impl Brakes {
    pub(crate) fn new(started: Now) -> Self {
        Self {
            journal_well: true,
            started,
            clock: started,
            clock_parted: None,
            widest: Duration::ZERO,
            sources: BTreeMap::new(),
            alerts: BTreeMap::new(),
            calm: BTreeMap::new(),
        }
    }

    /// The widest window that a policy reads: sight is back when one of it has passed.
    pub(crate) fn set_widest(&mut self, widest: Duration) {
        self.widest = widest;
    }

    /// Takes in how well a source can be heard.
    pub(crate) fn report(&mut self, now: Now, settings: &Settings, report: SourceReport) {
        let good = report.flowing && report.lag <= settings.limits.max_lag;
        let before = self.sources.get(&report.source);
        // Heard after a silence that nobody looked at meanwhile, as when the process stood still:
        // it was not heard all the same.
        let was = before
            .filter(|hearing| !self.is_stale(hearing, now, settings))
            .and_then(|hearing| hearing.flowing_since);
        let flowing_since = good.then(|| was.unwrap_or(now));
        let returned = match (before, was, flowing_since) {
            (Some(_), None, Some(_)) => Some(now),
            (before, _, _) => before.and_then(|hearing| hearing.returned),
        };
        self.sources.insert(
            report.source,
            Hearing {
                report,
                at: now,
                flowing_since,
                returned,
            },
        );
    }

    /// Takes in an alert: a node whose alert fires has one witness more. A resolved alert takes
    /// that away again and proves nothing else.
    pub(crate) fn alert(&mut self, now: Now, cluster: &Cluster, alert: &Alert) {
        let Some(name) = node_of(cluster, alert) else {
            return;
        };
        let alerts = self.alerts.entry(name.clone()).or_default();
        if !alert.firing {
            alerts.remove(&alert.fingerprint);
        } else if alerts.len() < ALERTS_PER_NODE {
            alerts.insert(alert.fingerprint.clone(), now.mono);
        }
        if alerts.is_empty() {
            self.alerts.remove(&name);
        }
    }

    pub(crate) fn alerted(&self, node: &NodeName) -> bool {
        self.alerts.contains_key(node)
    }

    /// What was reported last of each source.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &SourceReport> {
        self.sources.values().map(|hearing| &hearing.report)
    }

    /// Since when all the inputs that heartbeats come by have been flowing without a break.
    pub(crate) fn flowing_since(&self, settings: &Settings) -> Option<Now> {
        let mut latest = self.started;
        for source in &settings.heartbeat_sources {
            let since = self.sources.get(source)?.flowing_since?;
            if since.mono > latest.mono {
                latest = since;
            }
        }
        Some(latest)
    }

    /// Whether a source can be heard just now.
    pub(super) fn hears(
        &self,
        source: SourceName,
        now: Now,
        settings: &Settings,
    ) -> Result<(), Refused> {
        let Some(hearing) = self.sources.get(&source) else {
            let name = source.as_str();
            return refuse(
                Reason::StartUp,
                format!("nothing was heard by {name} since the start"),
            );
        };
        if hearing.flowing_since.is_none() || self.is_stale(hearing, now, settings) {
            return refuse(Reason::Blind, self.trouble(hearing, now, settings));
        }
        Ok(())
    }

    /// Whether a source can be heard, and has been for long enough after it could not. The
    /// journal knows of a return in an earlier run, so that a restart does not shorten it.
    pub(super) fn sees(
        &self,
        source: SourceName,
        now: Now,
        settings: &Settings,
        state: &State,
    ) -> Result<(), Refused> {
        self.hears(source, now, settings)?;
        let name = source.as_str();
        if let Some((_, why)) = state.brakes.get(&Brake::Blind(source)) {
            return refuse(Reason::Blind, why.clone());
        }
        let hold = settings.limits.sight_hold.max(self.widest);
        let here = self
            .sources
            .get(&source)
            .and_then(|hearing| hearing.returned);
        let returned = here
            .into_iter()
            .chain(state.returned.get(&source).copied())
            .max_by_key(|returned| returned.mono);
        if let Some(returned) = returned {
            let seen = now.mono.since(returned.mono);
            if seen < hold {
                return refuse(
                    Reason::SightReturning,
                    format!(
                        "{name} came back {} ago, {} must pass",
                        format_duration(seen),
                        format_duration(hold)
                    ),
                );
            }
        }
        Ok(())
    }

    /// I14: the windows have been filled again, or one whole window has passed since the start.
    pub(super) fn windows_full(&self, now: Now) -> Result<(), Refused> {
        let up = now.mono.since(self.started.mono);
        let refilled = self.sources.values().all(|hearing| hearing.report.refilled);
        if refilled || up >= self.widest {
            return Ok(());
        }
        refuse(
            Reason::StartUp,
            format!(
                "started {} ago, the widest window of {} is not filled yet",
                format_duration(up),
                format_duration(self.widest)
            ),
        )
    }

    fn is_stale(&self, hearing: &Hearing, now: Now, settings: &Settings) -> bool {
        now.mono.since(hearing.at.mono) > settings.limits.source_timeout
    }

    fn trouble(&self, hearing: &Hearing, now: Now, settings: &Settings) -> String {
        let report = &hearing.report;
        let name = report.source.as_str();
        if self.is_stale(hearing, now, settings) {
            let age = now.mono.since(hearing.at.mono);
            return format!(
                "nothing was reported of {name} for {}",
                format_duration(age)
            );
        }
        if report.flowing {
            return format!("{name} lags by {}", format_duration(report.lag));
        }
        format!("{name} cannot be heard: {}", report.trouble)
    }

    /// Looks at every brake and says which closed or opened.
    pub(crate) fn update(&mut self, sight: Sight<'_>, state: &State) -> Vec<Change> {
        // A name that is gone from the inventory takes its alerts with it.
        self.alerts.retain(|node, alerts| {
            alerts.retain(|_, came| sight.now.mono.since(*came) < ALERT_COUNTS);
            !alerts.is_empty() && sight.cluster.find(node.as_str()).is_some()
        });
        let mut changes = Vec::new();
        self.update_sources(sight, state, &mut changes);
        self.update_inventories(sight, state, &mut changes);
        self.update_clock(sight, state, &mut changes);
        self.update_storms(sight, state, &mut changes);
        changes
    }

    fn update_sources(&mut self, sight: Sight<'_>, state: &State, changes: &mut Vec<Change>) {
        let now = sight.now;
        let mut blind = Vec::new();
        for (source, hearing) in &mut self.sources {
            let stale = now.mono.since(hearing.at.mono) > sight.settings.limits.source_timeout;
            if stale {
                hearing.flowing_since = None;
            }
            blind.push((*source, hearing.flowing_since.is_none()));
        }
        for (source, blind) in blind {
            let brake = Brake::Blind(source);
            let on = state.brakes.contains_key(&brake);
            if blind == on {
                continue;
            }
            let detail = match self.sources.get(&source) {
                Some(hearing) if blind => self.trouble(hearing, now, sight.settings),
                _ => format!("{} is heard again", source.as_str()),
            };
            changes.push(Change {
                brake,
                on: blind,
                detail,
            });
        }
    }

    fn update_inventories(&mut self, sight: Sight<'_>, state: &State, changes: &mut Vec<Change>) {
        let listings = [
            (SourceName::Openstack, "VMs", sight.cluster.servers()),
            (SourceName::Kubernetes, "nodes", sight.cluster.nodes()),
        ];
        for (source, what, inventory) in listings {
            let brake = Brake::Inventory(source);
            let on = state.brakes.contains_key(&brake);
            match inventory.doubt() {
                Some((_, listed, known)) if !on => changes.push(Change {
                    brake,
                    on: true,
                    detail: format!(
                        "a list of {listed} {what} where {known} were known: partial until two agree"
                    ),
                }),
                None if on && inventory.read().is_some() => changes.push(Change {
                    brake,
                    on: false,
                    detail: format!("the list of {what} is believed again"),
                }),
                _ => {}
            }
        }
    }

    /// Looks whether the clocks have parted. At the head of each step, before anything is
    /// judged by the wall clock.
    pub(crate) fn watch_clock(&mut self, now: Now, settings: &Settings) -> Option<Change> {
        let drift = clock_drift(self.clock, now);
        if drift <= settings.limits.clock_bound {
            return None;
        }
        self.clock = now;
        self.clock_parted = Some(now);
        Some(Change {
            brake: Brake::Clock,
            on: true,
            detail: format!(
                "wall and monotonic clock parted by {}",
                format_duration(drift)
            ),
        })
    }

    fn update_clock(&mut self, sight: Sight<'_>, state: &State, changes: &mut Vec<Change>) {
        if !state.brakes.contains_key(&Brake::Clock) {
            return;
        }
        let parted = *self.clock_parted.get_or_insert(sight.now);
        if sight.now.mono.since(parted.mono) >= sight.settings.limits.sight_hold {
            self.clock_parted = None;
            changes.push(Change {
                brake: Brake::Clock,
                on: false,
                detail: "the clocks have gone together since".to_owned(),
            });
        }
    }

    fn update_storms(&mut self, sight: Sight<'_>, state: &State, changes: &mut Vec<Change>) {
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
            let on = state.brakes.contains_key(&brake);
            if ill > allowed {
                self.calm.remove(&brake);
                if !on {
                    changes.push(Change {
                        brake,
                        on: true,
                        detail: format!(
                            "{ill} of {size} in {name} are silent or ill at once, {allowed} may be"
                        ),
                    });
                }
            } else if on {
                let since = *self.calm.entry(brake.clone()).or_insert(sight.now);
                let calm = sight.now.mono.since(since.mono);
                if calm >= sight.settings.limits.storm_cooldown {
                    self.calm.remove(&brake);
                    changes.push(Change {
                        brake,
                        on: false,
                        detail: format!("{ill} of {size} for {}", format_duration(calm)),
                    });
                }
            }
        }
    }
}

/// The node that an alert is about, if it names one in the inventory.
pub(crate) fn node_of(cluster: &Cluster, alert: &Alert) -> Option<NodeName> {
    let label = NODE_LABELS
        .iter()
        .find_map(|label| alert.labels.get(*label))?;
    let bare = label
        .rsplit_once(':')
        .map_or(label.as_str(), |(name, _)| name);
    cluster
        .find(label)
        .or_else(|| cluster.find(bare))
        .map(|member| member.name.clone())
}
