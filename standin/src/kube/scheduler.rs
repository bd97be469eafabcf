//! A small scheduler: pods go to Ready, schedulable nodes with room, or are told why not.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::Kind;
use super::pods::{condition, set_condition};
use super::store::{is_deleting, key_of};
use crate::json::{items, set, text, text_or_empty};
use crate::world::World;

/// Cores and memory that are asked for or free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Thousandths of a core.
    pub(crate) cpu_millis: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) pods: i64,
}

impl World {
    /// Binds the pods that wait, the oldest first.
    pub(super) fn schedule(&mut self) {
        let mut waiting: Vec<(String, super::store::Key)> = self
            .cluster
            .list(Kind::Pod)
            .filter(|pod| text(pod, "/spec/nodeName").is_none() && !is_deleting(pod))
            .map(|pod| {
                let created = text_or_empty(pod, "/metadata/creationTimestamp").to_owned();
                (created, key_of(pod))
            })
            .collect();
        if waiting.is_empty() {
            return;
        }
        waiting.sort();
        let mut free = self.free_room();
        for (_, key) in waiting {
            self.schedule_pod(&key, &mut free);
        }
    }

    fn schedule_pod(&mut self, key: &super::store::Key, free: &mut BTreeMap<String, Room>) {
        let Some(pod) = self.cluster.store.get(Kind::Pod, &key.0, &key.1) else {
            return;
        };
        let now = self.now;
        if items(pod, "/spec/schedulingGates").next().is_some() {
            self.cluster.store.update(Kind::Pod, key, |pod| {
                set_condition(
                    pod,
                    now,
                    "PodScheduled",
                    "False",
                    "SchedulingGated",
                    "Scheduling is blocked due to non-empty scheduling gates",
                );
            });
            return;
        }
        let wants = requests(pod);
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut best: Option<(&str, Room)> = None;
        let mut nodes = 0;
        for node in self.cluster.list(Kind::Node) {
            nodes += 1;
            let name = text_or_empty(node, "/metadata/name");
            let room = free.get(name).copied().unwrap_or_default();
            match unfit(node, pod, wants, room) {
                Some(reason) => *reasons.entry(reason).or_default() += 1,
                // The emptiest node, so that pods spread.
                None if best.is_none_or(|(_, most)| room.cpu_millis > most.cpu_millis) => {
                    best = Some((name, room));
                }
                None => {}
            }
        }
        let best = best.map(|(name, room)| (name.to_owned(), room));
        match best {
            Some((node, room)) => {
                free.insert(
                    node.clone(),
                    Room {
                        cpu_millis: room.cpu_millis - wants.cpu_millis,
                        memory_bytes: room.memory_bytes - wants.memory_bytes,
                        pods: room.pods - 1,
                    },
                );
                self.cluster.store.update(Kind::Pod, key, |pod| {
                    set(pod, "/spec/nodeName", node);
                    set_condition(pod, now, "PodScheduled", "True", "", "");
                });
            }
            None => {
                let message = explain(nodes, &reasons);
                self.cluster.store.update(Kind::Pod, key, |pod| {
                    set_condition(pod, now, "PodScheduled", "False", "Unschedulable", &message);
                });
            }
        }
    }

    /// What is free on each node.
    fn free_room(&self) -> BTreeMap<String, Room> {
        let mut free: BTreeMap<String, Room> = self
            .cluster
            .list(Kind::Node)
            .map(|node| {
                let at = |name: &str| text_or_empty(node, &format!("/status/allocatable/{name}"));
                let room = Room {
                    cpu_millis: cpu_millis(at("cpu")),
                    memory_bytes: memory_bytes(at("memory")),
                    pods: memory_bytes(at("pods")),
                };
                (text_or_empty(node, "/metadata/name").to_owned(), room)
            })
            .collect();
        for pod in self.cluster.list(Kind::Pod) {
            let ended = matches!(text_or_empty(pod, "/status/phase"), "Succeeded" | "Failed");
            let node = text_or_empty(pod, "/spec/nodeName");
            if let Some(room) = free.get_mut(node).filter(|_| !ended) {
                let used = requests(pod);
                room.cpu_millis -= used.cpu_millis;
                room.memory_bytes -= used.memory_bytes;
                room.pods -= 1;
            }
        }
        free
    }
}

/// Why a pod cannot run on a node, in the scheduler's words.
fn unfit(node: &Value, pod: &Value, wants: Room, room: Room) -> Option<String> {
    let tolerates = |key: &str, value: &str, effect: &str| {
        items(pod, "/spec/tolerations").any(|toleration| {
            let all = text(toleration, "/operator") == Some("Exists");
            let key_fits = match text(toleration, "/key") {
                None | Some("") => all,
                Some(wanted) => {
                    wanted == key && (all || text_or_empty(toleration, "/value") == value)
                }
            };
            let effect_fits = text(toleration, "/effect").is_none_or(|wanted| wanted == effect);
            key_fits && effect_fits
        })
    };
    let unschedulable = "node.kubernetes.io/unschedulable";
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
        && !tolerates(unschedulable, "", "NoSchedule")
    {
        return Some("node(s) were unschedulable".to_owned());
    }
    let tainted = items(node, "/spec/taints").any(|taint| {
        let effect = text_or_empty(taint, "/effect");
        effect != "PreferNoSchedule"
            && !tolerates(
                text_or_empty(taint, "/key"),
                text_or_empty(taint, "/value"),
                effect,
            )
    });
    if tainted {
        return Some("node(s) had untolerated taint(s)".to_owned());
    }
    let labels = node.pointer("/metadata/labels");
    let selected = pod
        .pointer("/spec/nodeSelector")
        .and_then(Value::as_object)
        .is_none_or(|wanted| {
            wanted
                .iter()
                .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        });
    if !selected {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    // A node that never reported has no room to offer; one that is ill is tainted besides.
    if condition(node, "Ready").is_none() && room.pods <= 0 {
        return Some("Too many pods".to_owned());
    }
    if room.cpu_millis < wants.cpu_millis {
        return Some("Insufficient cpu".to_owned());
    }
    if room.memory_bytes < wants.memory_bytes {
        return Some("Insufficient memory".to_owned());
    }
    (room.pods < 1).then(|| "Too many pods".to_owned())
}

fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let list: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    format!(
        "0/{nodes} nodes are available: {}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {nodes} Preemption is not helpful for scheduling.",
        list.join(", ")
    )
}

/// What a pod asks for.
pub(crate) fn requests(pod: &Value) -> Room {
    items(pod, "/spec/containers").fold(Room::default(), |sum, container| {
        let at = |name: &str| text_or_empty(container, &format!("/resources/requests/{name}"));
        Room {
            cpu_millis: sum.cpu_millis + cpu_millis(at("cpu")),
            memory_bytes: sum.memory_bytes + memory_bytes(at("memory")),
            pods: 1,
        }
    })
}

/// Thousandths of a core in a quantity such as `100m`, `2` or `0.5`; 0 for none.
fn cpu_millis(quantity: &str) -> i64 {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().unwrap_or(0),
        None => (quantity.parse::<f64>().unwrap_or(0.0) * 1_000.0) as i64,
    }
}

/// Bytes (or pieces) in a quantity such as `512Mi`, `2G` or `110`; 0 for none.
fn memory_bytes(quantity: &str) -> i64 {
    const UNITS: [(&str, i64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("", 1),
    ];
    UNITS
        .iter()
        .find_map(|(unit, size)| {
            let number: i64 = quantity.strip_suffix(unit)?.parse().ok()?;
            Some(number.saturating_mul(*size))
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read() {
        assert_eq!(cpu_millis("100m"), 100);
        assert_eq!(cpu_millis("2"), 2_000);
        assert_eq!(cpu_millis("0.5"), 500);
        assert_eq!(cpu_millis(""), 0);
        assert_eq!(memory_bytes("512Mi"), 512 << 20);
        assert_eq!(memory_bytes("2G"), 2_000_000_000);
        assert_eq!(memory_bytes("110"), 110);
    }

    #[test]
    fn a_pod_does_not_go_where_it_cannot() {
        let room = Room {
            cpu_millis: 1_000,
            memory_bytes: 1 << 30,
            pods: 10,
        };
        let node = json!({"metadata": {"labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
        let fits = |pod: Value| unfit(&node, &pod, requests(&pod), room);
        assert_eq!(
            fits(json!({})).as_deref(),
            Some("node(s) had untolerated taint(s)")
        );
        let toleration = json!([{"key": "gpu", "operator": "Equal", "value": "yes"}]);
        assert_eq!(fits(json!({"spec": {"tolerations": toleration}})), None);
        assert_eq!(
            fits(json!({"spec": {"tolerations": toleration, "nodeSelector": {"disk": "hdd"}}}))
                .as_deref(),
            Some("node(s) didn't match Pod's node affinity/selector")
        );
        assert_eq!(
            fits(json!({"spec": {"tolerations": toleration,
                "containers": [{"resources": {"requests": {"cpu": "1001m"}}}]}}))
            .as_deref(),
            Some("Insufficient cpu")
        );
    }
}
