//! Pods: which may be evicted, which wait for room, and what they ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{self, Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use rhizome_engine::event::{PodShape, PodView, Requests, Toleration};
use rhizome_engine::names::NodeName;
use rhizome_engine::time::{Timestamp, parse_duration};

use super::KubernetesOptions;
use super::quantity::{millis, units};

/// Annotation of a pod that only mirrors a file on its node: evicting it changes nothing.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The users' word on scale-downs (cluster-autoscaler).
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Local volumes that may be lost (cluster-autoscaler).
const SAFE_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// The users' word on any voluntary disruption (karpenter).
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// How old a pod must be before it counts as a need for nodes (cluster-autoscaler).
const SCALE_UP_DELAY: &str = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay";

/// Taints of nodes that are not Ready, which the server lets every pod bear for five minutes.
const UNREADY_TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// What a drain does with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// It stays: it belongs to the node, or has ended.
    Leave,
    /// It is going already.
    Wait,
    /// It is to be evicted.
    Evict,
    /// It stands in the way of the drain, for this reason.
    Blocks(String),
}

/// `namespace/name`.
pub(super) fn name(pod: &Pod) -> String {
    format!(
        "{}/{}",
        pod.metadata.namespace.as_deref().unwrap_or("default"),
        pod.metadata.name.as_deref().unwrap_or_default()
    )
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

/// The kind of the controller that would make the pod again.
fn controller(pod: &Pod) -> Option<&str> {
    pod.metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.kind.as_str())
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// What a drain does with the pod: kubectl's filters in kubectl's order, and the annotations
/// that users have set for other autoscalers.
pub(super) fn plan(pod: &Pod, options: &KubernetesOptions) -> Plan {
    if has_ended(pod) || annotation(pod, MIRROR).is_some() {
        return Plan::Leave;
    }
    if controller(pod) == Some("DaemonSet") {
        return Plan::Leave;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Plan::Wait;
    }
    let safe = annotation(pod, SAFE_TO_EVICT);
    if safe == Some("false") {
        return Plan::Blocks(format!("its annotation `{SAFE_TO_EVICT}` is `false`"));
    }
    if annotation(pod, DO_NOT_DISRUPT) == Some("true") {
        return Plan::Blocks(format!("its annotation `{DO_NOT_DISRUPT}` is `true`"));
    }
    // "Safe to evict" is the user's word that what follows may be lost.
    if safe == Some("true") {
        return Plan::Evict;
    }
    if controller(pod).is_none() && !options.evict_unmanaged {
        return Plan::Blocks("no controller would make it again".to_owned());
    }
    match local_volume(pod) {
        Some(volume) if !options.evict_local_storage => {
            Plan::Blocks(format!("its local volume `{volume}` would be lost"))
        }
        _ => Plan::Evict,
    }
}

/// A volume on the node's disk that the user has not given up.
fn local_volume(pod: &Pod) -> Option<&str> {
    let given_up: Vec<&str> = annotation(pod, SAFE_VOLUMES)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .collect();
    pod.spec
        .as_ref()?
        .volumes
        .as_ref()?
        .iter()
        .filter(|volume| volume.empty_dir.is_some())
        .map(|volume| volume.name.as_str())
        .find(|volume| !given_up.contains(volume))
}

/// The pod as one that waits for room, if it does.
///
/// It does not if it is held back by a gate, if others are being moved out for it (it has a
/// nominated node), or if it belongs to one node (DaemonSet): no new node helps those.
pub(super) fn waits_for_room(pod: &Pod, now: Timestamp) -> Option<PodView> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref()?;
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    if gated
        || phase(pod) != "Pending"
        || spec.node_name.is_some()
        || status.nominated_node_name.is_some()
        || pod.metadata.deletion_timestamp.is_some()
        || controller(pod) == Some("DaemonSet")
    {
        return None;
    }
    let condition = status.conditions.as_ref()?.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let created = time(pod.metadata.creation_timestamp.as_ref())?;
    let delay = annotation(pod, SCALE_UP_DELAY)
        .and_then(|text| parse_duration(text).ok())
        .unwrap_or(Duration::ZERO);
    if now.since(created) < delay {
        return None;
    }
    Some(PodView {
        name: name(pod),
        since: time(condition.last_transition_time.as_ref()).unwrap_or(created),
        requests: requests(pod),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
    })
}

/// The node that the pod takes room on, if it does.
pub(super) fn takes_room_on(pod: &Pod) -> Option<NodeName> {
    let node = pod.spec.as_ref()?.node_name.as_ref()?;
    (!has_ended(pod)).then(|| NodeName::new(node))
}

/// What the scheduler would look at to place the pod, which asks for `requests`, elsewhere.
pub(super) fn shape(pod: &Pod, requests: Requests) -> PodShape {
    let spec = pod.spec.as_ref();
    let mut tolerations: Vec<Toleration> = spec
        .and_then(|spec| spec.tolerations.as_ref())
        .into_iter()
        .flatten()
        .filter_map(toleration)
        .collect();
    tolerations.sort();
    PodShape {
        requests,
        node_selector: spec
            .and_then(|spec| spec.node_selector.clone())
            .unwrap_or_default(),
        tolerations,
    }
}

/// A toleration that can decide where a pod may go.
///
/// Those that the server gives every pod, for nodes that are not Ready, cannot: no pod is placed
/// on such a node here.
fn toleration(told: &v1::Toleration) -> Option<Toleration> {
    let unready = |key: &str| UNREADY_TAINTS.contains(&key);
    let key = told.key.clone().filter(|key| !key.is_empty());
    if key.as_deref().is_some_and(unready) {
        return None;
    }
    let value = match told.operator.as_deref() {
        Some("Exists") => None,
        None | Some("" | "Equal") => Some(told.value.clone().unwrap_or_default()),
        // An operator of a later version: it bears nothing that we could tell.
        Some(_) => return None,
    };
    Some(Toleration {
        key,
        value,
        effect: told.effect.clone().filter(|effect| !effect.is_empty()),
    })
}

/// A point in time of the API.
pub(super) fn time(
    time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
) -> Option<Timestamp> {
    time.map(|time| Timestamp(time.0.as_millisecond()))
}

/// What the scheduler counts for the pod.
///
/// The containers run together, with the sidecars (init containers that are restarted for
/// ever); the other init containers run one by one before, beside the sidecars started so
/// far. What is said for the pod as a whole takes the place of that. The overhead comes on top.
pub(super) fn requests(pod: &Pod) -> Requests {
    let Some(spec) = pod.spec.as_ref() else {
        return Requests::default();
    };
    let mut sidecars = Requests::default();
    let mut starting = Requests::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sum(sidecars, own);
            starting = most(starting, sidecars);
        } else {
            starting = most(starting, sum(sidecars, own));
        }
    }
    let running = spec.containers.iter().map(of_container).fold(sidecars, sum);
    let mut total = most(running, starting);
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(cpu) = whole.and_then(|whole| whole.get("cpu")) {
        total.cpu_millis = millis(cpu);
    }
    if let Some(memory) = whole.and_then(|whole| whole.get("memory")) {
        total.memory_bytes = units(memory);
    }
    total = sum(total, of_list(spec.overhead.as_ref()));
    Requests { pods: 1, ..total }
}

fn of_container(container: &Container) -> Requests {
    of_list(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// Cpu, memory and pods out of a list of resources.
pub(super) fn of_list(list: Option<&BTreeMap<String, Quantity>>) -> Requests {
    let get = |key: &str| list.and_then(|list| list.get(key));
    Requests {
        cpu_millis: get("cpu").map_or(0, millis),
        memory_bytes: get("memory").map_or(0, units),
        pods: get("pods").map_or(0, |pods| u32::try_from(units(pods)).unwrap_or(u32::MAX)),
    }
}

/// Both together.
pub(super) fn sum(one: Requests, other: Requests) -> Requests {
    Requests {
        cpu_millis: one.cpu_millis.saturating_add(other.cpu_millis),
        memory_bytes: one.memory_bytes.saturating_add(other.memory_bytes),
        pods: one.pods.saturating_add(other.pods),
    }
}

/// The greater of each.
fn most(one: Requests, other: Requests) -> Requests {
    Requests {
        cpu_millis: one.cpu_millis.max(other.cpu_millis),
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        pods: one.pods.max(other.pods),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl Fn(&mut Value)) -> Pod {
        let mut wire = json!({
            "metadata": {"name": "p", "namespace": "n", "annotations": {},
                "creationTimestamp": "2026-11-22T07:42:54Z",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                    "uid": "u", "controller": true}]},
            "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": "Running"},
        });
        change(&mut wire);
        serde_json::from_value(wire).unwrap()
    }

    fn options() -> KubernetesOptions {
        KubernetesOptions {
            access: super::super::Access::InCluster,
            approval: super::super::Approval::Rhizome,
            evict_unmanaged: false,
            evict_local_storage: false,
        }
    }

    fn waiting(change: impl Fn(&mut Value)) -> Pod {
        pod(|p| {
            p["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
                "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": "2026-11-22T07:43:00Z"}]});
            change(p);
        })
    }

    #[test]
    fn each_kind_of_pod_has_its_plan() {
        type Change = fn(&mut Value);
        let rows: [(&str, Change, &str); 13] = [
            ("managed", |_| {}, "evict"),
            (
                "ended",
                |p| p["status"]["phase"] = json!("Succeeded"),
                "leave",
            ),
            (
                "mirror",
                |p| p["metadata"]["annotations"][MIRROR] = json!("x"),
                "leave",
            ),
            (
                "daemon",
                |p| p["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet"),
                "leave",
            ),
            (
                "terminating",
                |p| p["metadata"]["deletionTimestamp"] = json!("2026-11-22T07:43:54Z"),
                "wait",
            ),
            (
                "not safe",
                |p| p["metadata"]["annotations"][SAFE_TO_EVICT] = json!("false"),
                "blocks",
            ),
            (
                "do not disrupt",
                |p| p["metadata"]["annotations"][DO_NOT_DISRUPT] = json!("true"),
                "blocks",
            ),
            (
                "disrupt",
                |p| p["metadata"]["annotations"][DO_NOT_DISRUPT] = json!("false"),
                "evict",
            ),
            (
                "unmanaged",
                |p| p["metadata"]["ownerReferences"] = json!([]),
                "blocks",
            ),
            (
                "owned but not controlled",
                |p| p["metadata"]["ownerReferences"][0]["controller"] = json!(false),
                "blocks",
            ),
            (
                "local data",
                |p| p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]),
                "blocks",
            ),
            (
                "local data given up",
                |p| {
                    p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
                    p["metadata"]["annotations"][SAFE_VOLUMES] = json!("w, v");
                },
                "evict",
            ),
            (
                "unmanaged but safe",
                |p| {
                    p["metadata"]["ownerReferences"] = json!([]);
                    p["metadata"]["annotations"][SAFE_TO_EVICT] = json!("true");
                },
                "evict",
            ),
        ];
        for (name, change, wanted) in rows {
            let got = match plan(&pod(change), &options()) {
                Plan::Leave => "leave",
                Plan::Wait => "wait",
                Plan::Evict => "evict",
                Plan::Blocks(_) => "blocks",
            };
            assert_eq!(got, wanted, "{name}");
        }
        let lenient = KubernetesOptions {
            evict_unmanaged: true,
            evict_local_storage: true,
            ..options()
        };
        let bare = pod(|p| {
            p["metadata"]["ownerReferences"] = json!([]);
            p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        });
        assert_eq!(plan(&bare, &lenient), Plan::Evict);
    }

    #[test]
    fn only_a_pod_that_a_new_node_could_help_waits_for_room() {
        type Change = fn(&mut Value);
        let now = Timestamp(1_795_333_374_000 + 60_000);
        let rows: [(&str, Change, bool); 9] = [
            ("unschedulable", |_| {}, true),
            (
                "gated",
                |p| p["status"]["conditions"][0]["reason"] = json!("SchedulingGated"),
                false,
            ),
            (
                "a gate left",
                |p| p["spec"]["schedulingGates"] = json!([{"name": "g"}]),
                false,
            ),
            (
                "preempting",
                |p| p["status"]["nominatedNodeName"] = json!("w-1"),
                false,
            ),
            ("bound", |p| p["spec"]["nodeName"] = json!("w-1"), false),
            (
                "going",
                |p| p["metadata"]["deletionTimestamp"] = json!("2026-11-22T07:43:54Z"),
                false,
            ),
            (
                "daemon",
                |p| p["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet"),
                false,
            ),
            (
                "delayed",
                |p| p["metadata"]["annotations"][SCALE_UP_DELAY] = json!("61s"),
                false,
            ),
            (
                "delay over",
                |p| p["metadata"]["annotations"][SCALE_UP_DELAY] = json!("59s"),
                true,
            ),
        ];
        for (name, change, wanted) in rows {
            assert_eq!(
                waits_for_room(&waiting(change), now).is_some(),
                wanted,
                "{name}"
            );
        }
        let view = waits_for_room(&waiting(|_| {}), now).unwrap();
        assert_eq!(view.since.to_string(), "2026-11-22T07:43:00.000Z");
    }

    #[test]
    fn requests_are_counted_as_the_scheduler_counts_them() {
        let cpu = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Mi"}});
        let all = pod(|p| {
            p["spec"] = json!({
                "containers": [{"name": "a", "resources": cpu("100m")}, {"name": "b", "resources": cpu("200m")}],
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": cpu("50m")},
                    {"name": "i", "resources": cpu("700m")}],
                "overhead": {"cpu": "10m"}});
        });
        let wanted = Requests {
            cpu_millis: 760,
            memory_bytes: 3 << 20,
            pods: 1,
        };
        assert_eq!(requests(&all), wanted);
        let whole = pod(|p| {
            p["spec"] = json!({"containers": [{"name": "a", "resources": cpu("100m")}],
                "resources": {"requests": {"cpu": "2"}}});
        });
        assert_eq!(requests(&whole).cpu_millis, 2000);
    }
}
