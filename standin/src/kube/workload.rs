//! Work for the nodes: so many pods of one shape, replaced when they go, as a ReplicaSet
//! keeps them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::pods;
use super::store::{Key, is_deleting, key_of};
use crate::json::{items, text, text_or_empty};
use crate::world::{World, seconds};

/// Pods of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// How many pods there are to be.
    pub replicas: u32,
    /// What each asks for: thousandths of a core.
    pub cpu_millis: u32,
    /// What each asks for: MiB of memory.
    pub memory_mib: u32,
    /// Its pods' labels; `app` with its name is added.
    pub labels: BTreeMap<String, String>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            replicas: 1,
            cpu_millis: 100,
            memory_mib: 128,
            labels: BTreeMap::new(),
        }
    }
}

impl World {
    /// Sets a workload, or with no replicas lets it end.
    pub fn set_workload(&mut self, name: &str, workload: Workload) {
        self.cluster.workloads.insert(name.to_owned(), workload);
    }

    /// Makes pods that are missing and deletes those too many.
    pub(super) fn step_workloads(&mut self) {
        let workloads = self.cluster.workloads.clone();
        for (name, workload) in &workloads {
            let wanted = workload.replicas as usize;
            let have: Vec<(Key, String)> = self
                .cluster
                .list(Kind::Pod)
                .filter(|pod| owner(pod) == Some(name) && !is_deleting(pod))
                .filter(|pod| {
                    !matches!(text_or_empty(pod, "/status/phase"), "Failed" | "Succeeded")
                })
                .map(|pod| {
                    let node = text_or_empty(pod, "/spec/nodeName").to_owned();
                    (key_of(pod), node)
                })
                .collect();
            for _ in have.len()..wanted {
                self.make_pod(name, workload);
            }
            // Pods without a node first, as a ReplicaSet does.
            let mut by_use = have;
            by_use.sort_by(|a, b| a.1.cmp(&b.1));
            let surplus = by_use.len().saturating_sub(wanted);
            for (key, _) in by_use.into_iter().take(surplus) {
                pods::delete(self, &key, None);
            }
        }
    }

    fn make_pod(&mut self, name: &str, workload: &Workload) {
        let end = self.ids.letters(5);
        let mut labels = workload.labels.clone();
        labels.insert("app".to_owned(), name.to_owned());
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-{end}"), "namespace": workload.namespace,
                "generateName": format!("{name}-"), "uid": self.ids.uuid(),
                "creationTimestamp": seconds(self.now), "labels": labels,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name,
                    "uid": "5c5c5a0e-0000-4000-8000-000000000001", "controller": true,
                    "blockOwnerDeletion": true}],
            },
            "spec": {"containers": [{"name": "main", "image": "registry.example/app:1",
                "resources": {"requests": {"cpu": format!("{}m", workload.cpu_millis),
                    "memory": format!("{}Mi", workload.memory_mib)}}}]},
        });
        pods::prepare(&mut pod);
        self.cluster.store.put(Kind::Pod, pod);
    }

    /// How many pods the controllers of these pods want.
    pub(super) fn scale_of<'a>(&self, pods: impl Iterator<Item = &'a Value>) -> i64 {
        let mut owners: BTreeMap<String, i64> = BTreeMap::new();
        for pod in pods {
            *owners
                .entry(owner(pod).unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        owners
            .into_iter()
            .map(|(name, seen)| match self.cluster.workloads.get(&name) {
                Some(workload) => i64::from(workload.replicas),
                None => seen,
            })
            .sum()
    }
}

fn owner(pod: &Value) -> Option<&str> {
    items(pod, "/metadata/ownerReferences")
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .and_then(|owner| text(owner, "/name"))
}
