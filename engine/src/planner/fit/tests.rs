//! What fits where, case by case; and that no room is given twice, in whatever order things come.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Known, Slots};
use crate::event::{Labels, NodePods, NodeView, Observation, Ready, Taint, Toleration};
use crate::lab::BEGIN;
use crate::settings::{Limits, Settings};
use crate::window::{WindowPlan, Windows};

/// A node with room for so much.
fn node(name: &str, cpu_millis: u64) -> NodeView {
    NodeView {
        name: NodeName::new(name),
        uid: format!("uid-{name}"),
        vm: None,
        labels: Labels::default(),
        annotations: Labels::default(),
        created: BEGIN.wall,
        ready: Ready::True,
        ready_since: BEGIN.wall,
        unschedulable: false,
        control_plane: false,
        taints: Vec::new(),
        allocatable: Requests {
            cpu_millis,
            memory_bytes: 8 << 30,
            pods: 20,
        },
    }
}

fn shape(cpu_millis: u64) -> PodShape {
    PodShape {
        requests: Requests {
            cpu_millis,
            memory_bytes: 1 << 20,
            pods: 1,
        },
        node_selector: BTreeMap::new(),
        tolerations: Vec::new(),
    }
}

fn taint() -> Taint {
    Taint {
        key: "gpu".to_owned(),
        value: "yes".to_owned(),
        effect: "NoSchedule".to_owned(),
    }
}

/// The cluster as observed: the nodes, and on each so many pods of these shapes.
fn cluster(nodes: Vec<NodeView>, pods: &[(&str, PodShape, u32)]) -> Cluster {
    let mut shapes = Vec::new();
    let mut on: BTreeMap<NodeName, NodePods> = BTreeMap::new();
    for ((name, shape, count), place) in pods.iter().zip(0..) {
        let on = on.entry(NodeName::new(name)).or_default();
        on.movable.push((place, *count));
        on.requests.cpu_millis += shape.requests.cpu_millis * u64::from(*count);
        on.requests.memory_bytes += shape.requests.memory_bytes * u64::from(*count);
        on.requests.pods += count;
        shapes.push(shape.clone());
    }
    observed([
        Observation::Nodes {
            at: BEGIN.wall,
            nodes,
        },
        Observation::Pods {
            unschedulable: Vec::new(),
            shapes,
            nodes: on,
        },
    ])
}

fn observed(observations: impl IntoIterator<Item = Observation>) -> Cluster {
    let settings = Settings {
        cluster: "lab".to_owned(),
        pools: BTreeMap::new(),
        limits: Limits::default(),
        lateness: Duration::from_secs(600),
        heartbeat_sources: Vec::new(),
        pause_sources: Vec::new(),
    };
    let mut cluster = Cluster::new(&settings);
    let mut windows = Windows::new(&WindowPlan::default(), settings.lateness);
    for observation in observations {
        let mut slots = Slots {
            windows: &mut windows,
            kept: &mut BTreeMap::new(),
            changes: &mut Vec::new(),
        };
        cluster.observe(BEGIN, observation, &Known::default(), &mut slots);
    }
    cluster
}

/// Whether the pods of `w1` fit on the others.
fn fits(cluster: &Cluster, busy: &[&str]) -> bool {
    let busy: Vec<_> = busy.iter().copied().map(NodeName::new).collect();
    let rooms = rooms(cluster, &busy.iter().collect()).unwrap();
    fits_elsewhere(cluster, &NodeName::new("w1"), &rooms)
}

#[test]
fn what_fits_elsewhere_case_by_case() {
    type Change = fn(&mut NodeView, &mut PodShape);
    // A pod of two cores on w1, and w2 with four of which one is taken.
    let rows: [(&str, Change, bool); 12] = [
        ("it fits", |_, _| {}, true),
        ("just", |_, pod| pod.requests.cpu_millis = 3_000, true),
        ("not quite", |_, pod| pod.requests.cpu_millis = 3_001, false),
        (
            "memory",
            |_, pod| pod.requests.memory_bytes = 8 << 30,
            false,
        ),
        ("too many pods", |w2, _| w2.allocatable.pods = 1, false),
        ("cordoned", |w2, _| w2.unschedulable = true, false),
        ("not Ready", |w2, _| w2.ready = Ready::Unknown, false),
        (
            "another label is asked for",
            |w2, pod| {
                w2.labels.extend([("disk", "hdd")]);
                pod.node_selector
                    .insert("disk".to_owned(), "ssd".to_owned());
            },
            false,
        ),
        (
            "that label is asked for",
            |w2, pod| {
                w2.labels.extend([("arch", "arm"), ("disk", "ssd")]);
                pod.node_selector
                    .insert("disk".to_owned(), "ssd".to_owned());
            },
            true,
        ),
        ("tainted", |w2, _| w2.taints = vec![taint()], false),
        (
            "tainted, and it bears that",
            |w2, pod| {
                w2.taints = vec![taint()];
                pod.tolerations = vec![Toleration {
                    key: Some("gpu".to_owned()),
                    value: None,
                    effect: None,
                }];
            },
            true,
        ),
        (
            "tainted, and it bears another",
            |w2, pod| {
                w2.taints = vec![taint()];
                pod.tolerations = vec![Toleration {
                    key: Some("gpu".to_owned()),
                    value: Some("no".to_owned()),
                    effect: None,
                }];
            },
            false,
        ),
    ];
    for (name, change, wanted) in rows {
        let (mut w2, mut pod) = (node("w2", 4_000), shape(2_000));
        change(&mut w2, &mut pod);
        let pods = [("w1", pod, 1), ("w2", shape(1_000), 1)];
        let seen = cluster(vec![node("w1", 4_000), w2], &pods);
        assert_eq!(fits(&seen, &[]), wanted, "{name}");
    }
}

#[test]
fn room_is_given_once_and_neither_its_own_nor_that_of_a_node_that_goes() {
    let three = || vec![node("w1", 9_000), node("w2", 4_000), node("w3", 4_000)];
    // Five pods of 1.5 cores: two on each of the others, and no third.
    let seen = cluster(three(), &[("w1", shape(1_500), 5)]);
    assert!(!fits(&seen, &[]));
    let seen = cluster(three(), &[("w1", shape(1_500), 4)]);
    assert!(fits(&seen, &[]));
    assert!(!fits(&seen, &["w3"]), "w3 is being removed");
    // The largest first: the small one would else take the room of the large one.
    let mixed = [("w1", shape(500), 1), ("w1", shape(4_000), 2)];
    let seen = cluster(three(), &mixed);
    assert!(!fits(&seen, &[]));
    let mixed = [
        ("w1", shape(100), 1),
        ("w1", shape(4_000), 1),
        ("w1", shape(3_900), 1),
    ];
    let seen = cluster(three(), &mixed);
    assert!(fits(&seen, &[]));
    // Nothing to move always fits; more pods than are looked at never do.
    assert!(fits(&cluster(vec![node("w1", 9_000)], &[]), &[]));
    for (count, wanted) in [(PODS_MAX, true), (PODS_MAX + 1, false)] {
        let mut large = three();
        large[1].allocatable.pods = 1_000;
        let many = cluster(large, &[("w1", shape(0), count)]);
        assert_eq!(fits(&many, &[]), wanted, "{count}");
    }
}

#[test]
fn before_the_pods_are_seen_nothing_is_said() {
    let seen = observed([Observation::Node(node("w1", 4_000))]);
    assert!(rooms(&seen, &BTreeSet::new()).is_none());
}

/// Nodes by their cores, and pods by their place and cores.
fn world() -> impl Strategy<Value = (Vec<u64>, Vec<(usize, u64, u32)>)> {
    let nodes = prop::collection::vec(0_u64..6_000, 1..7);
    let pods = prop::collection::vec((0_usize..7, 0_u64..3_000, 1_u32..4), 0..12);
    (nodes, pods)
}

proptest! {
    #[test]
    fn no_room_is_given_twice((nodes, pods) in world()) {
        let names: Vec<_> = (0..nodes.len()).map(|place| format!("n{place}")).collect();
        let views = names.iter().zip(&nodes).map(|(name, cpu)| node(name, *cpu)).collect();
        let seen = cluster(views, &[]);
        let mut others = rooms(&seen, &BTreeSet::new()).unwrap();
        let before: Vec<_> = others.iter().map(|room| room.free).collect();
        let shapes: Vec<_> = pods.iter().map(|(_, cpu, count)| (shape(*cpu), *count)).collect();
        let whole = place(shapes.iter().map(|(one, count)| (one, *count)).collect(), &mut others);
        let (mut cpu, mut count) = (0, 0);
        for (room, had) in others.iter().zip(before) {
            prop_assert!(room.free.cpu_millis <= had.cpu_millis && room.free.pods <= had.pods);
            cpu += had.cpu_millis - room.free.cpu_millis;
            count += had.pods - room.free.pods;
        }
        let asked = |of: fn(&(PodShape, u32)) -> u64| shapes.iter().map(of).sum::<u64>();
        let all = asked(|(_, count)| u64::from(*count));
        let all_cpu = asked(|(one, count)| one.requests.cpu_millis * u64::from(*count));
        // Had a room been overfilled, less would be taken than was placed.
        prop_assert!(u64::from(count) <= all && cpu <= all_cpu);
        prop_assert_eq!(whole, u64::from(count) == all);
        prop_assert!(!whole || cpu == all_cpu);
    }

    #[test]
    fn the_order_in_which_things_are_seen_does_not_matter((nodes, pods) in world(), turn in 0_usize..7) {
        let names: Vec<_> = (0..nodes.len()).map(|place| format!("w{}", place + 1)).collect();
        let mut views: Vec<_> = names.iter().zip(&nodes).map(|(name, cpu)| node(name, *cpu)).collect();
        let mut on: Vec<_> = pods
            .iter()
            .map(|(place, cpu, count)| (names[place % names.len()].as_str(), shape(*cpu), *count))
            .collect();
        let first = fits(&cluster(views.clone(), &on), &[]);
        let turn = turn % views.len();
        views.rotate_left(turn);
        views.reverse();
        on.reverse();
        prop_assert_eq!(first, fits(&cluster(views, &on), &[]));
    }
}
