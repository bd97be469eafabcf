//! Two VMs of one name, names that come and go, lists that shrink.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::action::mark;
use crate::event::{Labels, NodeView, Observation, Ready, Requests, ServerStatus, ServerView};
use crate::settings::{Limits, PoolSettings};
use crate::time::{Now, Timestamp};
use crate::window::WindowPlan;

const NOW: Now = crate::lab::BEGIN;

struct Seen {
    cluster: Cluster,
    windows: Windows,
    kept: BTreeMap<NodeName, NodeSlot>,
    changes: Vec<Change>,
    known: Known,
}

impl Seen {
    fn new() -> Self {
        let settings = Settings {
            cluster: "lab".to_owned(),
            pools: BTreeMap::from([(PoolName::new("workers"), PoolSettings::default())]),
            limits: Limits::default(),
            lateness: Duration::from_secs(600),
            heartbeat_sources: Vec::new(),
            pause_sources: Vec::new(),
        };
        Self {
            cluster: Cluster::new(&settings),
            windows: Windows::new(&WindowPlan::default(), settings.lateness),
            kept: BTreeMap::new(),
            changes: Vec::new(),
            known: Known {
                heard: true,
                ..Known::default()
            },
        }
    }

    fn observe(&mut self, after: u64, observation: Observation) {
        let mut slots = Slots {
            windows: &mut self.windows,
            kept: &mut self.kept,
            changes: &mut self.changes,
        };
        let now = NOW.plus(Duration::from_secs(after));
        self.cluster
            .observe(now, observation, &self.known, &mut slots);
    }

    fn list(&mut self, after: u64, servers: Vec<ServerView>) {
        self.observe(
            after,
            Observation::Servers {
                at: NOW.wall,
                complete: true,
                servers,
            },
        );
    }
}

fn server(id: &str, name: &str, created: u64) -> ServerView {
    let marks = [
        (mark::OWNER, mark::OWNER_VALUE),
        (mark::CLUSTER, "lab"),
        (mark::POOL, "workers"),
    ];
    ServerView {
        id: VmId::new(id),
        name: name.to_owned(),
        status: ServerStatus::Active,
        task_state: None,
        created: NOW.wall.plus(Duration::from_secs(created)),
        metadata: marks.into_iter().collect(),
        addresses: Vec::new(),
        fault: None,
        zone: None,
        host_id: None,
    }
}

#[test]
fn two_vms_of_one_name_are_two_vms() {
    let mut seen = Seen::new();
    let pool = PoolSlot(0);
    seen.list(0, vec![server("b", "w1", 2), server("a", "w1", 1)]);
    let created = |seen: &Seen, id: &str| {
        let server = seen.cluster.server(&VmId::new(id));
        server.map(|server| server.created.since(NOW.wall).as_secs())
    };
    assert_eq!(created(&seen, "a"), Some(1));
    assert_eq!(created(&seen, "b"), Some(2), "each is told by its id");
    assert_eq!(seen.cluster.twins(pool), 1);
    assert_eq!(seen.cluster.in_pool(pool).len(), 1);
    // The younger twin goes: the one that stays is still there.
    seen.observe(1, Observation::ServerGone(VmId::new("b")));
    assert_eq!(created(&seen, "a"), Some(1));
    let member = seen.cluster.find("w1").unwrap();
    assert_eq!(member.server.as_ref().unwrap().id, VmId::new("a"));
    assert_eq!(seen.cluster.twins(pool), 0);
    // And in the other order, by a listing.
    seen.list(2, vec![server("a", "w1", 1), server("b", "w1", 2)]);
    seen.list(3, vec![server("b", "w1", 2)]);
    let member = seen.cluster.find("w1").unwrap();
    assert_eq!(member.server.as_ref().unwrap().id, VmId::new("b"));
}

#[test]
fn a_renamed_vm_keeps_its_place() {
    let mut seen = Seen::new();
    seen.list(0, vec![server("a", "w1", 1)]);
    let slot = seen.cluster.slot("w1");
    seen.list(1, vec![server("a", "other", 1)]);
    assert_eq!(seen.cluster.slot("w1"), slot);
    assert_eq!(seen.cluster.slot("other"), None);
}

#[test]
fn a_list_that_shrank_loses_nothing_until_it_is_believed() {
    let many = |count: usize| -> Vec<_> {
        (0..count)
            .map(|number| server(&format!("v{number}"), &format!("w{number}"), 1))
            .collect()
    };
    // Rows: known, listed, lost at once, lost after half a minute of the same list.
    for (known, listed, at_once, later) in [
        (10, 9, 1, 1),
        (10, 8, 2, 2),
        (10, 7, 0, 3),
        (1, 0, 0, 1),
        (6, 0, 0, 6),
        (0, 0, 0, 0),
    ] {
        let mut seen = Seen::new();
        seen.list(0, many(known));
        let lost = |seen: &Seen| known - seen.cluster.in_pool(PoolSlot(0)).len();
        seen.list(10, many(listed));
        assert_eq!(lost(&seen), at_once, "{known} to {listed}");
        seen.list(39, many(listed));
        assert_eq!(lost(&seen), at_once, "{known} to {listed}: too soon");
        seen.list(40, many(listed));
        assert_eq!(lost(&seen), later, "{known} to {listed}: believed");
    }
}

#[test]
fn silence_that_cannot_be_heard_agrees_with_no_list() {
    let both = || vec![server("a", "w1", 1), server("b", "w2", 1)];
    // Rows: whether agents are heard, what the list that is repeated holds, who is left.
    for (heard, listed, left) in [(true, 0, 0), (false, 0, 2), (false, 1, 1)] {
        let mut seen = Seen::new();
        seen.known.heard = heard;
        seen.list(0, both());
        for after in [10, 50, 90] {
            seen.list(after, both().into_iter().take(listed).collect());
        }
        assert_eq!(
            seen.cluster.in_pool(PoolSlot(0)).len(),
            left,
            "{heard}, {listed}"
        );
    }
}

#[test]
fn the_journal_says_what_the_first_list_must_hold() {
    let mut seen = Seen::new();
    let owned = ["a", "b", "c"].map(VmId::new);
    seen.cluster.expect(owned);
    seen.list(0, Vec::new());
    assert_eq!(seen.cluster.servers().asked(), None);
    assert!(seen.cluster.servers().doubt().is_some());
    seen.list(10, vec![server("a", "w1", 1), server("b", "w2", 1)]);
    assert!(seen.cluster.servers().asked().is_some(), "one may be lost");
}

#[test]
fn a_name_that_goes_leaves_nothing_behind() {
    let mut seen = Seen::new();
    for round in 0..50u64 {
        let id = format!("v{round}");
        seen.observe(round, Observation::Server(server(&id, &id, round)));
        seen.observe(round, Observation::ServerGone(VmId::new(id)));
    }
    assert_eq!(seen.cluster.members().count(), 0);
    assert!(seen.windows.add_node().0 <= 1, "slots are used again");
    for number in 0..100 {
        seen.cluster.count_unknown(&format!("n{number}"));
    }
    let (count, names) = seen.cluster.unknown();
    assert_eq!((count, names.len()), (100, UNKNOWN_NAMES_KEPT));
}

#[test]
fn a_lease_is_judged_by_whether_it_changes_and_never_by_its_time() {
    let grace = Duration::from_secs(40);
    let hour = Duration::from_secs(3600);
    // The kubelet's clock is an hour behind, right, or an hour ahead.
    for clock in [NOW.wall.minus(hour), NOW.wall, NOW.wall.plus(hour)] {
        let mut seen = Seen::new();
        seen.observe(0, Observation::Node(node("w1", Ready::True)));
        let lease = |after: u64| Observation::Lease {
            node: NodeName::new("w1"),
            renewed: clock.plus(Duration::from_secs(after)),
        };
        // Rows: seconds after the start, the lease that is told then, how long overdue.
        let rows = [
            (0, Some(0), None),
            (40, None, None),
            (41, None, Some(41)),
            (50, Some(10), None),
            // The same one listed again is no renewal.
            (80, Some(10), None),
            (91, Some(10), Some(41)),
            // A clock that was set back while it lives.
            (92, Some(5), None),
        ];
        for (after, told, overdue) in rows {
            if let Some(told) = told {
                seen.observe(after, lease(told));
            }
            let now = NOW.plus(Duration::from_secs(after)).mono;
            let member = seen.cluster.find("w1").unwrap();
            let ill = member.not_ready_for(now, grace);
            assert_eq!(ill, overdue.map(Duration::from_secs), "after {after} s");
        }
    }
}

#[test]
fn unready_is_counted_from_when_it_was_seen_and_not_from_what_the_node_says() {
    let mut seen = Seen::new();
    let at = |after: u64| NOW.plus(Duration::from_secs(after)).mono;
    let ill = |seen: &Seen, after| {
        let member = seen.cluster.find("w1").unwrap();
        member.not_ready_for(at(after), Duration::from_secs(40))
    };
    seen.observe(0, Observation::Node(node("w1", Ready::True)));
    assert_eq!(ill(&seen, 10), None);
    seen.observe(20, Observation::Node(node("w1", Ready::Unknown)));
    seen.observe(50, Observation::Node(node("w1", Ready::Unknown)));
    assert_eq!(ill(&seen, 60), Some(Duration::from_secs(40)));
    seen.observe(70, Observation::Node(node("w1", Ready::True)));
    assert_eq!(ill(&seen, 70), None);
}

/// A node that says it has been as it is since 1970.
fn node(name: &str, ready: Ready) -> NodeView {
    NodeView {
        name: NodeName::new(name),
        uid: format!("uid-{name}"),
        vm: None,
        labels: Labels::default(),
        annotations: Labels::default(),
        created: NOW.wall,
        ready,
        ready_since: Timestamp(0),
        unschedulable: false,
        control_plane: false,
        taints: Vec::new(),
        allocatable: Requests::default(),
    }
}

/// A worker as kubeadm makes it, with the pool's label on it.
fn worker(name: &str) -> NodeView {
    let labels = [
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        (mark::POOL, "workers"),
    ];
    NodeView {
        labels: labels.into_iter().collect(),
        ..node(name, Ready::True)
    }
}

#[test]
fn nodes_of_one_shape_have_their_labels_together_but_for_their_own_name() {
    let mut seen = Seen::new();
    let placed = |seen: &Seen, name: &str| {
        let node = seen.cluster.find(name).unwrap().node.as_ref().unwrap();
        Arc::clone(&node.placement)
    };
    for name in ["w1", "w2", "w3"] {
        seen.observe(0, Observation::Node(worker(name)));
    }
    let (one, other) = (placed(&seen, "w1"), placed(&seen, "w2"));
    assert!(Arc::ptr_eq(&one, &other));
    let label = |key| (one.label(key, "w1"), other.label(key, "w2"));
    assert_eq!(label("kubernetes.io/os"), (Some("linux"), Some("linux")));
    assert_eq!(label("kubernetes.io/hostname"), (Some("w1"), Some("w2")));
    assert_eq!(label("kubernetes.io"), (None, None));

    // Another label is another shape, and the first is kept for those that still have it.
    let mut gpu = worker("w2");
    gpu.labels.extend([("gpu", "yes")]);
    seen.observe(1, Observation::Node(gpu.clone()));
    assert_eq!(placed(&seen, "w2").label("gpu", "w2"), Some("yes"));
    assert!(Arc::ptr_eq(&placed(&seen, "w1"), &placed(&seen, "w3")));
    assert_eq!(seen.cluster.placements.len(), 2);

    // A taint is one too, and so is a Node made anew under the name.
    let taint = crate::event::Taint {
        key: "gpu".to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    };
    gpu.taints.push(taint);
    gpu.uid = "another".to_owned();
    seen.observe(2, Observation::Node(gpu));
    assert_eq!(placed(&seen, "w2").taints().len(), 1);
    assert_eq!(seen.cluster.placements.len(), 2);

    // What nobody has any more is gone, however the nodes went.
    for (name, after) in [("w1", 3), ("w2", 3), ("w3", 4)] {
        let uid = if name == "w2" {
            "another"
        } else {
            &format!("uid-{name}")
        };
        let gone = Observation::NodeGone {
            name: NodeName::new(name),
            uid: uid.to_owned(),
        };
        seen.observe(after, gone);
        assert!(seen.cluster.find(name).is_none());
    }
    assert_eq!(seen.cluster.placements.len(), 0);
}

/// A fleet has one for each of its nodes.
#[test]
fn a_member_takes_no_more_room_than_it_did() {
    assert_eq!(size_of::<Node>(), 120);
    assert_eq!(size_of::<Option<Member>>(), 304);
}
