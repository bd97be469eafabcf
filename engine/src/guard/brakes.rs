//! The brakes: what holds destructive acts back until its cause has been gone for long enough.
//!
//! That a brake holds is journaled, so a restart does not take it off. What is kept here beside
//! is how well each source can be heard (`brakes/hearing.rs`), and the alerts that fire.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock_drift;
use crate::cluster::Cluster;
use crate::event::{Alert, SourceName};
use crate::journal::{Brake, State};
use crate::names::NodeName;
use crate::settings::Settings;
use crate::signals::Sight;
use crate::time::{Monotonic, Now, show_duration};

mod hearing;
mod storms;

use hearing::{Delivery, Hearing};

/// Labels of an alert that name a node, the first that is there counts. `instance` carries a
/// port, which is cut off.
const NODE_LABELS: [&str; 4] = ["node", "hostname", "host", "instance"];

/// Most alerts kept as firing for one node; more of them say nothing more.
const ALERTS_PER_NODE: usize = 16;

/// A firing alert is a witness for this long. Its end can be lost (we were down, Alertmanager
/// was), and what was so an hour ago says nothing of a node that falls silent now.
const ALERT_COUNTS: Duration = Duration::from_secs(3600);

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
    /// Whether the windows came back at the start with no gap up to it.
    kept: bool,
    sources: BTreeMap<SourceName, Hearing>,
    deliveries: BTreeMap<SourceName, Delivery>,
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
            kept: false,
            sources: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            alerts: BTreeMap::new(),
            calm: BTreeMap::new(),
        }
    }

    /// The widest window that a policy reads: sight is back when one of it has passed.
    pub(crate) fn set_widest(&mut self, widest: Duration) {
        self.widest = widest;
    }

    /// The windows of the run before came back, and hold all up to this start.
    pub(crate) fn windows_kept(&mut self) {
        self.kept = true;
    }

    /// Takes in an alert: a node whose alert fires has one witness more. A resolved alert takes
    /// that away again and proves nothing else. The node, if it names one.
    pub(crate) fn alert(&mut self, now: Now, cluster: &Cluster, alert: &Alert) -> Option<NodeName> {
        let name = node_of(cluster, alert)?;
        let alerts = self.alerts.entry(name.clone()).or_default();
        if !alert.firing {
            alerts.remove(&alert.fingerprint);
        } else if alerts.len() < ALERTS_PER_NODE {
            alerts.insert(alert.fingerprint.clone(), now.mono);
        }
        if alerts.is_empty() {
            self.alerts.remove(&name);
        }
        Some(name)
    }

    pub(crate) fn alerted(&self, node: &NodeName) -> bool {
        self.alerts.contains_key(node)
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
        self.update_domains(sight, state, &mut changes);
        forget_pauses(sight.settings, state, &mut changes);
        changes
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
                None if on && inventory.asked().is_some() => changes.push(Change {
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
                show_duration(drift)
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
}

/// A brake for a pause that could not be read goes with the wish to read it: its source was taken
/// out of the configuration.
fn forget_pauses(settings: &Settings, state: &State, changes: &mut Vec<Change>) {
    for brake in state.brakes.keys() {
        if let Brake::Pause(source) = brake
            && !settings.pause_sources.contains(source)
        {
            changes.push(Change {
                brake: brake.clone(),
                on: false,
                detail: format!("{} is not looked at any more", source.words()),
            });
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
