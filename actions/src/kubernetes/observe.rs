//! Nodes, leases and pods, as the engine knows them.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use rhizome_engine::action::{Failure, mark};
use rhizome_engine::event::{NodeView, Observation, Ready, Requests};
use rhizome_engine::names::{NodeName, VmId};
use rhizome_engine::time::Timestamp;

use super::Kubernetes;
use super::pods;

/// Where all nodes are.
pub(super) const NODES: &str = "/api/v1/nodes";
/// Where nodes renew their leases.
pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// Where all pods are.
pub(super) const PODS: &str = "/api/v1/pods";
/// Annotations by which users keep others from a node; the engine honours them.
const ANNOTATIONS: [&str; 3] = [
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "karpenter.sh/do-not-disrupt",
    mark::DO_NOT_TOUCH,
];
/// Labels of nodes of the control plane, today's and that of before 1.20.
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

impl Kubernetes {
    /// Everything there is, by listings. They are consistent reads: no `resourceVersion=0`,
    /// which a lagging replica may answer from what it knew an hour ago.
    pub(super) async fn look(&self) -> Result<Vec<Observation>, Failure> {
        let mut seen = self.look_at_nodes().await?;
        let pods: Vec<Pod> = self.cluster.list("list_pods", PODS).await?;
        seen.push(of_pods(pods.iter(), self.clock.now().wall));
        Ok(seen)
    }

    /// Nodes and their leases.
    pub(super) async fn look_at_nodes(&self) -> Result<Vec<Observation>, Failure> {
        let at = self.clock.now().wall;
        let nodes: Vec<Node> = self.cluster.list("list_nodes", NODES).await?;
        let leases: Vec<Lease> = self.cluster.list("list_leases", LEASES).await?;
        let mut seen = vec![Observation::Nodes {
            at,
            nodes: nodes.iter().filter_map(of_node).collect(),
        }];
        seen.extend(leases.iter().filter_map(of_lease));
        Ok(seen)
    }
}

/// A node; none if it lacks what every node has.
pub(super) fn of_node(node: &Node) -> Option<NodeView> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let created = pods::time(node.metadata.creation_timestamp.as_ref()).unwrap_or_default();
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let condition = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|one| one.type_ == "Ready"));
    Some(NodeView {
        name: NodeName::new(node.metadata.name.as_ref()?),
        uid: node.metadata.uid.clone()?,
        vm: spec
            .and_then(|spec| spec.provider_id.as_deref())
            .and_then(vm_of),
        control_plane: is_control_plane(&labels),
        labels,
        annotations: node
            .metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _)| ANNOTATIONS.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        created,
        // A node without conditions has never been heard from.
        ready: match condition.map(|condition| condition.status.as_str()) {
            Some("True") => Ready::True,
            Some("False") => Ready::False,
            _ => Ready::Unknown,
        },
        ready_since: condition
            .and_then(|condition| pods::time(condition.last_transition_time.as_ref()))
            .unwrap_or(created),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: pods::of_list(status.and_then(|status| status.allocatable.as_ref())),
    })
}

/// A lease that has been renewed at least once.
pub(super) fn of_lease(lease: &Lease) -> Option<Observation> {
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(Observation::Lease {
        node: NodeName::new(lease.metadata.name.as_ref()?),
        renewed: Timestamp(renewed.0.as_millisecond()),
    })
}

/// All pods at once: those that wait for room, and what the others take of it.
pub(super) fn of_pods<'a>(all: impl Iterator<Item = &'a Pod>, now: Timestamp) -> Observation {
    let mut unschedulable = Vec::new();
    let mut requests: BTreeMap<NodeName, Requests> = BTreeMap::new();
    for pod in all {
        if let Some(view) = pods::waits_for_room(pod, now) {
            unschedulable.push(view);
        } else if let Some(node) = pods::takes_room_on(pod) {
            let total = requests.entry(node).or_default();
            *total = pods::sum(*total, pods::requests(pod));
        }
    }
    unschedulable.sort_by(|one, other| one.name.cmp(&other.name));
    Observation::Pods {
        unschedulable,
        requests,
    }
}

/// Whether the labels are those of a node of the control plane.
pub(super) fn is_control_plane(labels: &BTreeMap<String, String>) -> bool {
    CONTROL_PLANE
        .iter()
        .any(|label| labels.contains_key(*label))
}

/// The VM that a node says it runs on.
pub(super) fn vm_of_node(node: &Node) -> Option<VmId> {
    vm_of(node.spec.as_ref()?.provider_id.as_deref()?)
}

/// The VM in a provider id: `openstack:///<id>` or, by region, `openstack://<region>/<id>`; a
/// bare `/<id>` too, as the cloud provider of OpenStack accepts it.
fn vm_of(provider_id: &str) -> Option<VmId> {
    let rest = provider_id
        .strip_prefix("openstack://")
        .unwrap_or(provider_id);
    let (region, id) = rest.split_once('/')?;
    let bare = rest.len() == provider_id.len() && !region.is_empty();
    (!bare && !id.is_empty() && !id.contains('/')).then(|| VmId::new(id))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provider_id_names_its_vm() {
        for (text, wanted) in [
            ("openstack:///8c6a", Some("8c6a")),
            ("openstack://RegionOne/8c6a", Some("8c6a")),
            ("/8c6a", Some("8c6a")),
            ("8c6a", None),
            ("openstack:///", None),
            ("openstack://a/b/c", None),
            ("aws:///eu-1/i-0", None),
            ("kind://docker/kind/w", None),
            ("", None),
        ] {
            assert_eq!(vm_of(text).as_ref().map(VmId::as_str), wanted, "{text}");
        }
    }

    #[test]
    fn a_node_is_read_as_the_api_writes_it() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "w-1", "uid": "u", "creationTimestamp": "2026-11-22T07:42:54Z",
                "labels": {"rhizome-pool": "workers"},
                "annotations": {"karpenter.sh/do-not-disrupt": "true", "other": "x"}},
            "spec": {"providerID": "openstack:///8c6a", "unschedulable": true},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
                "conditions": [{"type": "MemoryPressure", "status": "False"},
                    {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-11-22T08:00:00Z"}]},
        }))
        .unwrap();
        let view = of_node(&node).unwrap();
        assert_eq!(view.ready, Ready::Unknown);
        assert_eq!(view.ready_since.to_string(), "2026-11-22T08:00:00.000Z");
        assert_eq!(view.vm, Some("8c6a".into()));
        assert!(view.unschedulable && !view.control_plane);
        assert_eq!(view.annotations.len(), 1);
        assert_eq!(view.allocatable.pods, 110);
        assert_eq!(view.allocatable.memory_bytes, 4 << 30);

        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "w", "uid": "u",
            "labels": {"node-role.kubernetes.io/control-plane": ""}}}))
        .unwrap();
        let view = of_node(&bare).unwrap();
        assert_eq!(view.ready, Ready::Unknown);
        assert!(view.control_plane);
    }
}
