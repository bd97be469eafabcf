//! What becomes of pods: their defaults, their conditions, their end.

use std::time::Duration;

use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::lifecycle::is_out_of_service;
use super::store::{Key, is_deleting, key_of};
use crate::json::{array, integer, items, set, text, text_or_empty};
use crate::world::{World, parse_time, seconds};

/// How long a pod's Node must be gone before the pod is collected.
const QUARANTINE: Duration = Duration::from_secs(40);

/// How often pods are collected, in milliseconds of the clock.
const COLLECT_INTERVAL_MS: i64 = 20_000;

/// The grace of a pod that names none.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Fields of a pod's spec that the server writes when they are not said.
const POD_DEFAULTS: [(&str, &str); 6] = [
    ("dnsPolicy", "ClusterFirst"),
    ("preemptionPolicy", "PreemptLowerPriority"),
    ("restartPolicy", "Always"),
    ("schedulerName", "default-scheduler"),
    ("serviceAccount", "default"),
    ("serviceAccountName", "default"),
];

/// The same of a container.
const CONTAINER_DEFAULTS: [(&str, &str); 3] = [
    ("imagePullPolicy", "Always"),
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
];

/// The server's defaults of a new pod.
pub(super) fn prepare(pod: &mut Value) {
    set(pod, "/status/phase", "Pending");
    set(pod, "/metadata/generation", 1);
    let mut fill = |path: &str, value: Value| {
        if pod.pointer(path).is_none() {
            set(pod, path, value);
        }
    };
    for (field, value) in POD_DEFAULTS {
        fill(&format!("/spec/{field}"), json!(value));
    }
    fill("/spec/enableServiceLinks", json!(true));
    fill("/spec/priority", json!(0));
    fill("/spec/securityContext", json!({}));
    fill(
        "/spec/terminationGracePeriodSeconds",
        json!(DEFAULT_GRACE_SECONDS),
    );
    let mut asks = false;
    for container in array(pod, "/spec/containers") {
        for (field, value) in CONTAINER_DEFAULTS {
            if container.get(field).is_none() {
                set(container, &format!("/{field}"), value);
            }
        }
        asks |= container.pointer("/resources/requests").is_some();
        if container.get("resources").is_none() {
            set(container, "/resources", json!({}));
        }
    }
    set(
        pod,
        "/status/qosClass",
        if asks { "Burstable" } else { "BestEffort" },
    );
    let tolerations = array(pod, "/spec/tolerations");
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        if !tolerations
            .iter()
            .any(|have| text(have, "/key") == Some(key) || text(have, "/key").is_none())
        {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}),
            );
        }
    }
}

/// Sets a condition of a pod or a node; its transition time moves only with its status.
pub(crate) fn set_condition(
    object: &mut Value,
    now: Timestamp,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) {
    let conditions = array(object, "/status/conditions");
    let old = conditions
        .iter()
        .position(|condition| text(condition, "/type") == Some(kind));
    let mut new = json!({"type": kind, "status": status, "lastTransitionTime": seconds(now)});
    if !reason.is_empty() {
        set(&mut new, "/reason", reason);
        set(&mut new, "/message", message);
    }
    match old.and_then(|place| conditions.get_mut(place)) {
        Some(old) => {
            if text(old, "/status") == Some(status)
                && let Some(since) = old.get("lastTransitionTime").cloned()
            {
                set(&mut new, "/lastTransitionTime", since);
            }
            if let Some(beat) = old.get("lastHeartbeatTime").cloned() {
                set(&mut new, "/lastHeartbeatTime", beat);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// The status of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    items(object, "/status/conditions")
        .find(|condition| text(condition, "/type") == Some(kind))
        .and_then(|condition| text(condition, "/status"))
}

/// Whether a pod (or a node) is ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    condition(object, "Ready") == Some("True")
}

/// Deletes a pod: at once if no kubelet has it or no grace is given, else by its kubelet.
pub(crate) fn delete(world: &mut World, key: &Key, grace: Option<i64>) {
    let Some(pod) = world.cluster.store.get(Kind::Pod, &key.0, &key.1) else {
        return;
    };
    let grace = grace
        .or_else(|| integer(pod, "/spec/terminationGracePeriodSeconds"))
        .unwrap_or(DEFAULT_GRACE_SECONDS);
    let bound = text(pod, "/spec/nodeName").is_some();
    let ended = matches!(text_or_empty(pod, "/status/phase"), "Succeeded" | "Failed");
    let grace = if bound && !ended { grace.max(0) } else { 0 };
    let held = items(pod, "/metadata/finalizers").next().is_some();
    if grace == 0 && !held {
        world.cluster.store.remove(Kind::Pod, &key.0, &key.1);
        return;
    }
    // A second delete may shorten the grace, never lengthen it.
    let shorter =
        integer(pod, "/metadata/deletionGracePeriodSeconds").is_none_or(|before| grace < before);
    if shorter {
        let end = world
            .now
            .plus(Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
        world.cluster.store.update(Kind::Pod, key, |pod| {
            let first = text(pod, "/metadata/deletionTimestamp").is_none();
            set(pod, "/metadata/deletionTimestamp", seconds(end));
            set(pod, "/metadata/deletionGracePeriodSeconds", grace);
            if first {
                let generation = integer(pod, "/metadata/generation").unwrap_or(1);
                set(pod, "/metadata/generation", generation + 1);
            }
        });
    }
}

/// A pod that was deleted at once, as the answer shows it.
pub(super) fn ended(now: Timestamp, mut pod: Value) -> Value {
    if text(&pod, "/metadata/deletionTimestamp").is_none() {
        set(&mut pod, "/metadata/deletionTimestamp", seconds(now));
    }
    set(&mut pod, "/metadata/deletionGracePeriodSeconds", 0);
    pod
}

impl World {
    /// Collects pods whose Node is gone, and those of a node that is tainted out-of-service.
    pub(super) fn collect_pods(&mut self) {
        let now = self.now;
        let nodes: Vec<String> = self
            .cluster
            .list(Kind::Node)
            .map(|node| text_or_empty(node, "/metadata/name").to_owned())
            .collect();
        let gone: Vec<String> = self
            .cluster
            .list(Kind::Pod)
            .filter_map(|pod| text(pod, "/spec/nodeName"))
            .filter(|name| !nodes.iter().any(|node| node == name))
            .map(str::to_owned)
            .collect();
        let missing = &mut self.cluster.monitor.missing;
        missing.retain(|name, _| gone.contains(name));
        for name in gone {
            missing.entry(name).or_insert(now);
        }
        if now.millis().rem_euclid(COLLECT_INTERVAL_MS)
            >= i64::try_from(crate::world::STEP.as_millis()).unwrap_or(i64::MAX)
        {
            return;
        }
        let out_of_service: Vec<String> = self
            .cluster
            .list(Kind::Node)
            .filter(|node| !is_ready(node) && is_out_of_service(node))
            .map(|node| text_or_empty(node, "/metadata/name").to_owned())
            .collect();
        let quarantined = &self.cluster.monitor.missing;
        let ends: Vec<Key> = self
            .cluster
            .list(Kind::Pod)
            .filter(|pod| {
                let node = text_or_empty(pod, "/spec/nodeName");
                let orphan = quarantined
                    .get(node)
                    .is_some_and(|since| now.since(*since) >= QUARANTINE);
                orphan || (is_deleting(pod) && out_of_service.iter().any(|name| name == node))
            })
            .map(key_of)
            .collect();
        for key in ends {
            delete(self, &key, Some(0));
        }
    }

    /// Removes bootstrap tokens that have expired, as the token cleaner does.
    pub(super) fn clean_tokens(&mut self) {
        let now = self.now;
        let expired: Vec<Key> = self
            .cluster
            .list(Kind::Secret)
            .filter(|secret| text(secret, "/type") == Some("bootstrap.kubernetes.io/token"))
            .filter(|secret| {
                text(secret, "/data/expiration").is_some_and(|encoded| {
                    super::objects::decode(encoded)
                        .and_then(|text| parse_time(&text))
                        .is_none_or(|at| at <= now)
                })
            })
            .map(key_of)
            .collect();
        for key in expired {
            self.cluster.store.remove(Kind::Secret, &key.0, &key.1);
        }
    }
}
