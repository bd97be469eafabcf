//! What the controller manager does about nodes: silence, taints, and the pods of dead nodes.
//!
//! ```text
//!   last renewal ──50 s──▶ conditions Unknown, taint NoSchedule
//!                ──▶ taint NoExecute (one node every 10 s; none while 55 % are silent)
//!                ──300 s──▶ its pods are marked; nobody ends them
//!   back again: Ready by its kubelet, taints off
//!   taint out-of-service ──▶ its pods are marked at once, and ended while it is not Ready
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::pods::{self, condition, is_ready};
use super::store::{Key, is_deleting, key_of};
use crate::json::{array, integer, items, set, text, text_or_empty};
use crate::ledger::Fact;
use crate::world::{STEP, World, micros, parse_time};

/// `--node-monitor-grace-period`.
const GRACE: Duration = Duration::from_secs(50);

/// Grace of a Node whose kubelet never spoke (seen: 63 s).
const NEVER_GRACE: Duration = Duration::from_secs(60);

/// `--node-monitor-period`, in milliseconds.
const MONITOR_PERIOD_MS: i64 = 5_000;

/// Time between two nodes' NoExecute taints (`--node-eviction-rate` 0.1).
const EVICTION_INTERVAL: Duration = Duration::from_secs(10);

/// `--unhealthy-zone-threshold`, in percent, and the least number of silent nodes for it.
const UNHEALTHY_PERCENT: usize = 55;
const UNHEALTHY_LEAST: usize = 3;

/// The conditions that a kubelet reports.
pub(crate) const CONDITIONS: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What the controllers remember of nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Monitor {
    /// The renewal last seen of each node, and when it was seen to change.
    seen: BTreeMap<String, (String, Timestamp)>,
    /// When NoExecute was last put on.
    last_eviction: Option<Timestamp>,
    /// When each node got NoExecute.
    no_execute: BTreeMap<String, Timestamp>,
    /// Nodes that pods name and that are not there, and since when.
    pub(super) missing: BTreeMap<String, Timestamp>,
    /// Attachments that no pod uses, and since when.
    pub(super) unused: BTreeMap<Key, Timestamp>,
    /// Nodes whose readiness the ledger knows.
    ready: BTreeSet<String>,
}

impl World {
    /// Lets the node controllers have their turn.
    pub(super) fn step_nodes(&mut self) {
        self.see_renewals();
        self.annotate_nodes();
        let period = self.now.millis().rem_euclid(MONITOR_PERIOD_MS);
        if period < i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX) {
            self.mark_silent();
        }
        self.taint_nodes();
        self.evict_from_silent();
        self.note_readiness();
    }

    /// Notes which Leases were renewed. What counts is when the change was seen, not the
    /// time in the Lease: a node's clock may be wrong.
    fn see_renewals(&mut self) {
        let now = self.now;
        let names: Vec<String> = self.node_names();
        self.cluster
            .monitor
            .seen
            .retain(|name, _| names.contains(name));
        for name in names {
            let renewal = self
                .cluster
                .store
                .get(Kind::Lease, "kube-node-lease", &name)
                .and_then(|lease| text(lease, "/spec/renewTime"))
                .unwrap_or_default()
                .to_owned();
            let seen = self.cluster.monitor.seen.entry(name);
            seen.and_modify(|(last, at)| {
                if *last != renewal {
                    (*last, *at) = (renewal.clone(), now);
                }
            })
            .or_insert((renewal, now));
        }
    }

    /// The controller of the time that a kubelet may keep secrets; in small clusters none.
    fn annotate_nodes(&mut self) {
        const TTL: &str = "/metadata/annotations/node.alpha.kubernetes.io~1ttl";
        let new: Vec<Key> = self
            .cluster
            .list(Kind::Node)
            .filter(|node| text(node, TTL).is_none())
            .map(key_of)
            .collect();
        for key in new {
            self.cluster
                .store
                .update(Kind::Node, &key, |node| set(node, TTL, "0"));
        }
    }

    fn node_names(&self) -> Vec<String> {
        self.cluster
            .list(Kind::Node)
            .map(|node| text_or_empty(node, "/metadata/name").to_owned())
            .collect()
    }

    /// Sets the conditions of silent nodes to Unknown, and makes their pods unready.
    fn mark_silent(&mut self) {
        let now = self.now;
        for name in self.node_names() {
            let key = (String::new(), name.clone());
            let Some(node) = self.cluster.store.get(Kind::Node, "", &name) else {
                continue;
            };
            let silent_for = match self.cluster.monitor.seen.get(&name) {
                Some((_, at)) => now.since(*at),
                None => Duration::ZERO,
            };
            let spoke = condition(node, "Ready").is_some();
            let grace = if spoke { GRACE } else { NEVER_GRACE };
            if silent_for < grace || condition(node, "Ready") == Some("Unknown") {
                continue;
            }
            let (reason, message) = if spoke {
                ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            } else {
                (
                    "NodeStatusNeverUpdated",
                    "Kubelet never posted node status.",
                )
            };
            self.cluster.store.update(Kind::Node, &key, |node| {
                for kind in CONDITIONS {
                    pods::set_condition(node, now, kind, "Unknown", reason, message);
                }
            });
            for key in self.pods_on(&name) {
                self.cluster.store.update(Kind::Pod, &key, |pod| {
                    if is_ready(pod) {
                        pods::set_condition(pod, now, "Ready", "False", "", "");
                    }
                });
            }
        }
    }

    /// Keeps each node's taints in step with its conditions and its cordon.
    fn taint_nodes(&mut self) {
        let now = self.now;
        for name in self.node_names() {
            let key = (String::new(), name.clone());
            let Some(node) = self.cluster.store.get(Kind::Node, "", &name) else {
                continue;
            };
            let ready = condition(node, "Ready");
            let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
            let unknown = ready == Some("Unknown");
            let unready = ready == Some("False");
            if !unknown && !unready {
                self.cluster.monitor.no_execute.remove(&name);
            }
            let wanted = [
                (UNSCHEDULABLE, "NoSchedule", cordoned),
                (UNREACHABLE, "NoSchedule", unknown),
                (NOT_READY, "NoSchedule", unready),
                // NoExecute comes in its turn; here it only goes.
                (
                    UNREACHABLE,
                    "NoExecute",
                    unknown && has_taint(node, UNREACHABLE, "NoExecute"),
                ),
                (
                    NOT_READY,
                    "NoExecute",
                    unready && has_taint(node, NOT_READY, "NoExecute"),
                ),
            ];
            // Most turns change nothing; then nothing is copied either.
            if wanted
                .iter()
                .all(|(taint, effect, wanted)| has_taint(node, taint, effect) == *wanted)
            {
                continue;
            }
            self.cluster.store.update(Kind::Node, &key, |node| {
                for (taint, effect, wanted) in wanted {
                    set_taint(node, now, taint, effect, wanted);
                }
            });
        }
    }

    /// Puts NoExecute on silent nodes, one at a time, and marks their pods when their
    /// toleration has run out.
    fn evict_from_silent(&mut self) {
        let now = self.now;
        let nodes: Vec<(String, bool)> = self
            .cluster
            .list(Kind::Node)
            .map(|node| {
                let name = text_or_empty(node, "/metadata/name").to_owned();
                (
                    name,
                    matches!(condition(node, "Ready"), Some("Unknown" | "False")),
                )
            })
            .collect();
        let silent = nodes.iter().filter(|(_, silent)| *silent).count();
        let too_many = silent >= UNHEALTHY_LEAST && silent * 100 >= nodes.len() * UNHEALTHY_PERCENT;
        let all = silent == nodes.len();
        let waiting = nodes
            .iter()
            .find(|(name, silent)| *silent && !self.cluster.monitor.no_execute.contains_key(name));
        let may = self
            .cluster
            .monitor
            .last_eviction
            .is_none_or(|last| now.since(last) >= EVICTION_INTERVAL);
        if let Some((name, _)) = waiting
            && may
            && !too_many
            && !all
        {
            self.cluster.monitor.last_eviction = Some(now);
            self.cluster.monitor.no_execute.insert(name.clone(), now);
            let key = (String::new(), name.clone());
            self.cluster.store.update(Kind::Node, &key, |node| {
                let taint = match condition(node, "Ready") {
                    Some("False") => NOT_READY,
                    _ => UNREACHABLE,
                };
                set_taint(node, now, taint, "NoExecute", true);
            });
        }
        let since: Vec<(String, Timestamp)> = self
            .cluster
            .monitor
            .no_execute
            .iter()
            .map(|(name, at)| (name.clone(), *at))
            .collect();
        for (node, since) in since {
            self.mark_untolerating(&node, UNREACHABLE, now.since(since));
        }
        // Whoever is not said to bear this is marked at once, whatever the node's condition.
        let out: Vec<String> = self
            .cluster
            .list(Kind::Node)
            .filter(|node| is_out_of_service(node))
            .map(|node| text_or_empty(node, "/metadata/name").to_owned())
            .collect();
        for node in out {
            self.mark_untolerating(&node, OUT_OF_SERVICE, Duration::ZERO);
        }
    }

    fn mark_untolerating(&mut self, node: &str, taint: &str, tainted_for: Duration) {
        let now = self.now;
        for key in self.pods_on(node) {
            let Some(pod) = self.cluster.store.get(Kind::Pod, &key.0, &key.1) else {
                continue;
            };
            if is_deleting(pod) || tolerates_for(pod, taint).is_none_or(|time| tainted_for < time) {
                continue;
            }
            self.cluster.store.update(Kind::Pod, &key, |pod| {
                pods::set_condition(
                    pod,
                    now,
                    "DisruptionTarget",
                    "True",
                    "DeletionByTaintManager",
                    "Taint manager: deleting due to NoExecute taint",
                );
            });
            pods::delete(self, &key, None);
        }
    }

    /// The pods bound to a node.
    pub(crate) fn pods_on(&self, node: &str) -> Vec<Key> {
        self.cluster
            .list(Kind::Pod)
            .filter(|pod| text(pod, "/spec/nodeName") == Some(node))
            .map(key_of)
            .collect()
    }

    /// Tells the ledger whose readiness changed.
    fn note_readiness(&mut self) {
        let ready: BTreeSet<String> = self
            .cluster
            .list(Kind::Node)
            .filter(|node| is_ready(node))
            .map(|node| text_or_empty(node, "/metadata/name").to_owned())
            .collect();
        let before = std::mem::replace(&mut self.cluster.monitor.ready, ready.clone());
        for node in ready.difference(&before) {
            self.note(Fact::NodeReady { node: node.clone() });
        }
        for node in before.difference(&ready) {
            self.note(Fact::NodeUnready { node: node.clone() });
        }
    }

    /// Writes a node's Lease anew, as its kubelet does every 10 s.
    pub(crate) fn renew_lease(&mut self, node: &str) {
        let Some(uid) = self
            .cluster
            .store
            .get(Kind::Node, "", node)
            .and_then(|node| text(node, "/metadata/uid"))
            .map(str::to_owned)
        else {
            return;
        };
        let renewal = micros(self.now);
        let key = ("kube-node-lease".to_owned(), node.to_owned());
        let known = self.cluster.store.update(Kind::Lease, &key, |lease| {
            set(lease, "/spec/renewTime", renewal.clone());
        });
        if !known {
            self.put_object(
                Kind::Lease,
                json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": node, "namespace": "kube-node-lease", "ownerReferences":
                        [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]},
                    "spec": {"holderIdentity": node, "leaseDurationSeconds": 40,
                        "renewTime": renewal}}),
            );
        }
    }

    /// When a node's Lease was last renewed.
    pub fn last_renewal(&self, node: &str) -> Option<Timestamp> {
        let lease = self.cluster.get(Kind::Lease, "kube-node-lease", node)?;
        parse_time(text(lease, "/spec/renewTime")?)
    }
}

/// How long a pod bears NoExecute by this taint; none for ever.
fn tolerates_for(pod: &Value, taint: &str) -> Option<Duration> {
    let toleration = items(pod, "/spec/tolerations").find(|toleration| {
        text(toleration, "/key").is_none_or(|key| key.is_empty() || key == taint)
            && text(toleration, "/effect").is_none_or(|effect| effect == "NoExecute")
    });
    match toleration {
        None => Some(Duration::ZERO),
        Some(toleration) => integer(toleration, "/tolerationSeconds")
            .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}

/// Whether the node is said to be out of service.
pub(crate) fn is_out_of_service(node: &Value) -> bool {
    has_taint(node, OUT_OF_SERVICE, "NoExecute")
}

fn has_taint(node: &Value, key: &str, effect: &str) -> bool {
    items(node, "/spec/taints").any(|taint| is_taint(taint, key, effect))
}

fn is_taint(taint: &Value, key: &str, effect: &str) -> bool {
    text(taint, "/key") == Some(key) && text(taint, "/effect") == Some(effect)
}

fn set_taint(node: &mut Value, now: Timestamp, key: &str, effect: &str, wanted: bool) {
    if has_taint(node, key, effect) == wanted {
        return;
    }
    let taints = array(node, "/spec/taints");
    if wanted {
        taints.push(json!({"key": key, "effect": effect, "timeAdded": crate::world::seconds(now)}));
    } else {
        taints.retain(|taint| !is_taint(taint, key, effect));
    }
    if taints.is_empty() {
        crate::json::remove(node, "/spec/taints");
    }
}
