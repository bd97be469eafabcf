//! Nodes, leases and pods, as the engine knows them.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use rhizome_engine::action::{Failure, mark};
use rhizome_engine::event::{NodePods, NodeView, Observation, PodShape, Ready, Taint};
use rhizome_engine::names::{NodeName, VmId};
use rhizome_engine::time::Timestamp;

use super::pods::{self, Plan};
use super::{Kubernetes, KubernetesOptions};

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
        seen.push(self.of_pods(pods.iter()));
        Ok(seen)
    }

    /// What these pods, which are all there are, come to.
    pub(super) fn of_pods<'a>(&self, all: impl Iterator<Item = &'a Pod>) -> Observation {
        of_pods(all, self.clock.now().wall, &self.options)
    }

    /// Nodes and their leases.
    pub(super) async fn look_at_nodes(&self) -> Result<Vec<Observation>, Failure> {
        let at = self.clock.now().wall;
        let nodes = |node: Node| of_node(&node);
        let nodes = self.cluster.list_of("list_nodes", NODES, nodes).await?;
        let leases = |lease: Lease| of_lease(&lease);
        let leases = self.cluster.list_of("list_leases", LEASES, leases).await?;
        let mut seen = vec![Observation::Nodes { at, nodes }];
        seen.extend(leases);
        Ok(seen)
    }
}

/// A node; none if it lacks what every node has.
pub(super) fn of_node(node: &Node) -> Option<NodeView> {
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
        control_plane: node.metadata.labels.as_ref().is_some_and(is_control_plane),
        labels: node.metadata.labels.iter().flatten().collect(),
        annotations: node
            .metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _)| ANNOTATIONS.contains(&key.as_str()))
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
        taints: spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter(|taint| taint.effect != "PreferNoSchedule")
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: taint.effect.clone(),
            })
            .collect(),
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

/// All pods at once: those that wait for room, and what the others take of it. The same pods give
/// the same answer in whatever order they come.
fn of_pods<'a>(
    all: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
    options: &KubernetesOptions,
) -> Observation {
    let mut unschedulable = Vec::new();
    let mut nodes: BTreeMap<NodeName, NodePods> = BTreeMap::new();
    let mut counts: BTreeMap<PodShape, BTreeMap<NodeName, u32>> = BTreeMap::new();
    for pod in all {
        if let Some(view) = pods::waits_for_room(pod, now) {
            unschedulable.push(view);
            continue;
        }
        let Some(node) = pods::takes_room_on(pod) else {
            continue;
        };
        let on = nodes.entry(node.clone()).or_default();
        let asked = pods::requests(pod);
        on.requests = pods::sum(on.requests, asked);
        match pods::plan(pod, options) {
            Plan::Evict => {
                let alike = counts.entry(pods::shape(pod, asked)).or_default();
                *alike.entry(node).or_default() += 1;
            }
            Plan::Blocks(_) => on.held += 1,
            Plan::Leave | Plan::Wait => {}
        }
    }
    unschedulable.sort_by(|one, other| one.name.cmp(&other.name));
    let mut shapes = Vec::with_capacity(counts.len());
    for ((shape, alike), place) in counts.into_iter().zip(0..) {
        shapes.push(shape);
        for (node, count) in alike {
            nodes.entry(node).or_default().movable.push((place, count));
        }
    }
    Observation::Pods {
        unschedulable,
        shapes,
        nodes,
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
    use serde_json::{Value, json};

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
            "spec": {"providerID": "openstack:///8c6a", "unschedulable": true, "taints": [
                {"key": "gpu", "effect": "NoSchedule"},
                {"key": "old", "effect": "PreferNoSchedule"}]},
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
        assert_eq!(view.annotations.iter().count(), 1);
        assert_eq!(view.allocatable.pods, 110);
        assert_eq!(view.allocatable.memory_bytes, 4 << 30);

        assert_eq!(view.taints.len(), 1, "{:?}", view.taints);
        assert_eq!(view.taints[0].key, "gpu");

        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "w", "uid": "u",
            "labels": {"node-role.kubernetes.io/control-plane": ""}}}))
        .unwrap();
        let view = of_node(&bare).unwrap();
        assert_eq!(view.ready, Ready::Unknown);
        assert!(view.control_plane);
    }
    #[test]
    fn pods_are_told_by_their_shapes_in_whatever_order_they_come() {
        let pod = |name: &str, node: &str, cpu: &str, annotations: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n", "annotations": annotations,
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                        "name": "r", "uid": "u", "controller": true}]},
                "spec": {"nodeName": node, "nodeSelector": {"disk": "ssd"}, "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                        "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "gpu", "operator": "Exists"},
                    {"key": "zone", "value": "a", "effect": "NoSchedule"}],
                    "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
                "status": {"phase": "Running"},
            }))
            .unwrap()
        };
        let keep = json!({"karpenter.sh/do-not-disrupt": "true"});
        let mut pods = [
            pod("a", "w-1", "500m", json!({})),
            pod("b", "w-1", "500m", json!({})),
            pod("c", "w-2", "500m", json!({})),
            pod("d", "w-1", "2", json!({})),
            pod("e", "w-1", "1", keep),
        ];
        let options = KubernetesOptions {
            access: super::super::Access::InCluster,
            approval: super::super::Approval::Rhizome,
            evict_unmanaged: false,
            evict_local_storage: false,
        };
        let first = of_pods(pods.iter(), Timestamp(0), &options);
        pods.reverse();
        assert_eq!(of_pods(pods.iter(), Timestamp(0), &options), first);
        let Observation::Pods { shapes, nodes, .. } = first else {
            panic!("{first:?}")
        };
        let asked: Vec<_> = shapes.iter().map(|one| one.requests.cpu_millis).collect();
        assert_eq!(asked, [500, 2_000]);
        assert_eq!(shapes[0].node_selector["disk"], "ssd");
        let bears: Vec<_> = shapes[0]
            .tolerations
            .iter()
            .map(|one| {
                (
                    one.key.as_deref(),
                    one.value.as_deref(),
                    one.effect.as_deref(),
                )
            })
            .collect();
        let zone = (Some("zone"), Some("a"), Some("NoSchedule"));
        assert_eq!(bears, [(Some("gpu"), None, None), zone]);
        let on = &nodes[&NodeName::new("w-1")];
        assert_eq!(on.movable, [(0, 2), (1, 1)]);
        assert_eq!(
            (on.held, on.requests.pods, on.requests.cpu_millis),
            (1, 4, 4_000)
        );
        assert_eq!(nodes[&NodeName::new("w-2")].movable, [(0, 1)]);
    }
}
