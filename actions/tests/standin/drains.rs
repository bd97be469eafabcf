//! Drains: what waits, what stands in the way, what stays.

use std::sync::Arc;
use std::time::Duration;

use rhizome_actions::{Executor, Gate, Pass};
use rhizome_engine::action::{Action, ActionKind, Done, Failure, FailureKind, NodeRef};
use rhizome_engine::time::{Clock, Monotonic};
use rhizome_standin::{Fact, Kind, ManualClock, Workload};
use serde_json::{Value, json};

use crate::field::{Field, action};

/// A pod on `w-1`, with these annotations, made by that kind of controller or by none.
fn pod(name: &str, annotations: Value, controller: Option<&str>) -> Value {
    let owners: Vec<Value> = controller
        .iter()
        .map(|kind| {
            json!({"apiVersion": "apps/v1", "kind": kind, "name": "it", "controller": true,
                "uid": "5c5c5a0e-0000-4000-8000-000000000002"})
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations,
            "ownerReferences": owners},
        "spec": {"nodeName": "w-1", "containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running"},
    })
}

/// Two nodes with a workload of four pods, of which so many must stay healthy.
async fn with_work(healthy: u32) -> (Field, NodeRef) {
    let field = Field::start().await;
    let (_, node) = field.add(1, "w-1").await;
    field.standin.world(|world| {
        world.set_workload(
            "web",
            Workload {
                replicas: 4,
                ..Workload::default()
            },
        );
        world.put_object(Kind::Budget, budget(healthy));
    });
    field
        .until(|_| (on(&field, "w-1").len() == 4).then_some(()))
        .await;
    field.add(2, "w-2").await;
    (field, node)
}

fn budget(healthy: u32) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default", "generation": 1},
        "spec": {"minAvailable": healthy, "selector": {"matchLabels": {"app": "web"}}}})
}

/// The running pods of the workload on a node.
fn on(field: &Field, node: &str) -> Vec<String> {
    field.standin.world(|world| {
        world
            .cluster
            .list(Kind::Pod)
            .filter(|pod| pod["spec"]["nodeName"] == node)
            .filter(|pod| pod["metadata"]["labels"]["app"] == "web")
            .filter(|pod| pod["status"]["phase"] == "Running")
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    })
}

fn evicted(field: &Field) -> usize {
    let ledger = field.standin.ledger();
    let evicted = |fact: &&Fact| matches!(fact, Fact::Evicted { .. });
    ledger
        .facts
        .iter()
        .map(|(_, fact)| fact)
        .filter(evicted)
        .count()
}

#[tokio::test]
async fn a_drain_waits_for_the_budget_and_leaves_what_belongs_to_the_node() {
    let (field, node) = with_work(4).await;
    field.standin.world(|world| {
        world.put_object(Kind::Pod, pod("agent", json!({}), Some("DaemonSet")));
        let mirror = json!({"kubernetes.io/config.mirror": "x"});
        world.put_object(Kind::Pod, pod("proxy", mirror, None));
    });
    field
        .done(3, ActionKind::Cordon { node: node.clone() })
        .await;
    let began = field.clock.now().mono;
    let blocked_until = began.plus(Duration::from_secs(40));
    // The budget gives way after a while, as when an operator sees why a drain does not end.
    let opens = async {
        field.clock.sleep(Duration::from_secs(40)).await;
        assert_eq!(evicted(&field), 0, "the budget held");
        let mut wider = budget(3);
        wider["metadata"]["generation"] = json!(2);
        field
            .standin
            .world(|world| world.put_object(Kind::Budget, wider));
    };
    let drain = action(3, ActionKind::Drain { node: node.clone() });
    let both = async {
        tokio::join!(
            rhizome_actions::Executor::execute(field.services.as_ref(), &drain, field.gate.clone()),
            opens
        )
    };
    let (drained, ()) = field.passing(both).await;
    assert_eq!(drained, Ok(Done::Drained { evicted: 4 }));
    assert!(field.clock.now().mono > blocked_until);
    assert_eq!(on(&field, "w-1").len(), 0);
    for name in ["agent", "proxy"] {
        let there = field
            .standin
            .world(|world| world.cluster.get(Kind::Pod, "default", name).is_some());
        assert!(there, "{name} stays");
    }
    field
        .until(|_| (on(&field, "w-2").len() == 4).then_some(()))
        .await;
    // A second time there is nothing to do.
    let again = field.done(3, ActionKind::Drain { node }).await;
    assert_eq!(again, Done::Drained { evicted: 0 });
    assert_eq!(evicted(&field), 4);
}

#[tokio::test]
async fn a_budget_that_never_gives_way_ends_the_drain_by_its_time_and_is_named() {
    let (field, node) = with_work(4).await;
    field
        .done(3, ActionKind::Cordon { node: node.clone() })
        .await;
    let mut drain = action(3, ActionKind::Drain { node });
    drain.timeout = Duration::from_secs(60);
    let began = field.clock.now().mono;
    let failure = field.act(&drain).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    assert!(failure.message.contains("web"), "{failure}");
    assert!(field.clock.now().mono.since(began) <= Duration::from_secs(65));
    assert_eq!(evicted(&field), 0);
    assert_eq!(on(&field, "w-1").len(), 4);
}

/// A gate that lets everything through, and takes it back at some time.
struct Recalling {
    clock: ManualClock,
    from: Monotonic,
}

impl Gate for Recalling {
    fn pass(&self, action: &Action, _: &'static str) -> Result<Pass, Failure> {
        self.goes_on(action).map(|()| Pass::granted())
    }

    fn goes_on(&self, _: &Action) -> Result<(), Failure> {
        if self.clock.now().mono < self.from {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Gate, "it was called off"))
    }
}

#[tokio::test]
async fn a_drain_that_is_called_off_ends_at_its_next_look_and_evicts_no_more() {
    let (field, node) = with_work(4).await;
    field
        .done(3, ActionKind::Cordon { node: node.clone() })
        .await;
    let gate = Arc::new(Recalling {
        clock: field.clock.clone(),
        from: field.clock.now().mono.plus(Duration::from_secs(30)),
    });
    let drain = action(3, ActionKind::Drain { node });
    let work = field.services.execute(&drain, gate.clone());
    let failure = field.passing(work).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Gate, "{failure}");
    assert_eq!(evicted(&field), 0);
    assert_eq!(on(&field, "w-1").len(), 4);
}

#[tokio::test]
async fn a_pod_that_nobody_would_make_again_stands_in_the_way_before_anything_is_evicted() {
    let no = json!({"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"});
    for (name, annotations, controller) in [
        ("bare", json!({}), None),
        ("pinned", no, Some("ReplicaSet")),
    ] {
        let (field, node) = with_work(0).await;
        field.standin.world(|world| {
            world.put_object(Kind::Pod, pod(name, annotations, controller));
        });
        field
            .done(3, ActionKind::Cordon { node: node.clone() })
            .await;
        let drain = action(3, ActionKind::Drain { node });
        let failure = field.act(&drain).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Blocked, "{failure}");
        assert!(failure.message.contains(name), "{failure}");
        assert_eq!(evicted(&field), 0, "nothing was moved in vain");
    }
}
