//! Whole courses: a node is added and removed, healed and rebuilt; and what is not ours is
//! left alone.

use std::collections::BTreeMap;

use rhizome_engine::action::{ActionKind, Done, FailureKind, mark};
use rhizome_engine::event::{Observation, Ready, ServerStatus};
use rhizome_engine::time::Timestamp;
use rhizome_standin::{Cure, Fact, Fate, Illness, Kind};

use crate::field::{Field, action, create, create_token, marks, node, operation, server, vm_ref};

#[tokio::test]
async fn a_node_is_added_and_removed_and_every_step_may_be_taken_twice() {
    let field = Field::start().await;
    // A token made twice is one token, and the second secret is the one that holds.
    for _ in 0..2 {
        assert_eq!(field.act(&create_token(1, "w-1")).await, Ok(Done::Accepted));
    }
    let first = field.act(&create(1, "w-1")).await;
    let Ok(Done::Created { vm }) = &first else {
        panic!("{first:?}");
    };
    assert_eq!(field.act(&create(1, "w-1")).await, first);
    let active = field.server_is(vm.as_str(), ServerStatus::Active).await;
    field.let_in(1, "w-1", vm).await;
    assert_eq!(active.name, "w-1");
    assert_eq!(active.metadata, marks(1).into_iter().collect());
    let joined = field.node_is("w-1", Ready::True).await;
    assert_eq!(
        joined.vm.as_ref(),
        Some(vm),
        "the provider id is the server's"
    );
    assert!(!joined.control_plane);

    let vm = vm_ref(&active, 1);
    let node_ref = crate::field::node_ref(&joined);
    let labels = BTreeMap::from([(mark::POOL.to_owned(), "workers".to_owned())]);
    let label = ActionKind::LabelNode {
        node: node_ref.clone(),
        labels: labels.clone(),
    };
    assert_eq!(field.done(1, label.clone()).await, Done::Accepted);
    assert_eq!(field.done(1, label).await, Done::Already);
    assert_eq!(field.done(1, ActionKind::DeleteToken).await, Done::Accepted);
    assert_eq!(field.done(1, ActionKind::DeleteToken).await, Done::Already);
    let secrets = field
        .standin
        .world(|world| world.cluster.list(Kind::Secret).count());
    assert_eq!(secrets, 0);

    let cordon = ActionKind::Cordon {
        node: node_ref.clone(),
    };
    assert_eq!(field.done(2, cordon.clone()).await, Done::Accepted);
    assert_eq!(field.done(2, cordon).await, Done::Already);
    let seen = field.node_is("w-1", Ready::True).await;
    assert!(seen.unschedulable);
    assert_eq!(seen.labels.get(mark::POOL), Some("workers"));
    let drain = ActionKind::Drain {
        node: node_ref.clone(),
    };
    for _ in 0..2 {
        let drained = field.done(2, drain.clone()).await;
        assert_eq!(drained, Done::Drained { evicted: 0 });
    }
    let delete = ActionKind::DeleteServer { vm: vm.clone() };
    assert_eq!(field.done(2, delete.clone()).await, Done::Accepted);
    field
        .until(|seen| server(seen, vm.id.as_str()).is_none().then_some(()))
        .await;
    assert_eq!(field.done(2, delete).await, Done::Already);
    let delete_node = ActionKind::DeleteNode { node: node_ref };
    assert_eq!(field.done(2, delete_node.clone()).await, Done::Accepted);
    assert_eq!(field.done(2, delete_node).await, Done::Already);
    assert!(node(&field.look().await, "w-1").is_none());

    let ledger = field.standin.ledger();
    assert_eq!(ledger.servers_of(operation(1)).count(), 1);
    let fates: Vec<Fate> = ledger
        .facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::NodeDeleted { fate, .. } => Some(*fate),
            _ => None,
        })
        .collect();
    assert_eq!(fates, [Fate::Gone]);
}

#[tokio::test]
async fn a_cordon_is_undone_once() {
    let field = Field::start().await;
    let (_, node) = field.add(1, "w-1").await;
    let uncordon = ActionKind::Uncordon { node: node.clone() };
    assert_eq!(field.done(2, uncordon.clone()).await, Done::Already);
    field.done(2, ActionKind::Cordon { node }).await;
    assert_eq!(field.done(2, uncordon.clone()).await, Done::Accepted);
    assert_eq!(field.done(2, uncordon).await, Done::Already);
    assert!(!field.node_is("w-1", Ready::True).await.unschedulable);
}

#[tokio::test]
async fn a_hung_node_comes_back_by_a_reboot() {
    for hard in [false, true] {
        let field = Field::start().await;
        let (vm, before) = field.add(1, "w-1").await;
        field
            .standin
            .world(|world| world.fall_ill("w-1", Illness::Hung, Cure::Reboot));
        field.node_is("w-1", Ready::Unknown).await;
        let reboot = ActionKind::RebootServer {
            vm: vm.clone(),
            hard,
        };
        assert_eq!(field.done(2, reboot.clone()).await, Done::Accepted);
        let wanted = field.until(|seen| server(seen, vm.id.as_str())).await;
        assert!(
            matches!(
                wanted.status,
                ServerStatus::Reboot | ServerStatus::Active | ServerStatus::Other(_)
            ),
            "{wanted:?}"
        );
        let again = field.node_is("w-1", Ready::True).await;
        assert_eq!(again.uid, before.uid, "the same node, hard: {hard}");
        assert_eq!(again.vm, Some(vm.id));
    }
}

#[tokio::test]
async fn a_reboot_asked_for_while_one_is_under_way_breaks_nothing() {
    let field = Field::start().await;
    let (vm, _) = field.add(1, "w-1").await;
    let reboot = ActionKind::RebootServer {
        vm: vm.clone(),
        hard: false,
    };
    assert_eq!(field.done(2, reboot.clone()).await, Done::Accepted);
    match field.act(&action(2, reboot)).await {
        // Soon enough, Nova refuses it as long as the first is under way.
        Err(failure) => assert!(
            matches!(failure.kind, FailureKind::Retry { .. }),
            "{failure:?}"
        ),
        Ok(done) => assert_eq!(done, Done::Accepted),
    }
    field.server_is(vm.id.as_str(), ServerStatus::Active).await;
    field.node_is("w-1", Ready::True).await;
}

#[tokio::test]
async fn a_fence_stops_a_server_and_a_second_one_finds_it_stopped() {
    let field = Field::start().await;
    let (vm, node) = field.add(1, "w-1").await;
    let stop = ActionKind::StopServer { vm: vm.clone() };
    assert_eq!(field.done(2, stop.clone()).await, Done::Accepted);
    field.server_is(vm.id.as_str(), ServerStatus::Shutoff).await;
    assert_eq!(field.done(2, stop).await, Done::Already);
    field.node_is("w-1", Ready::Unknown).await;
    field.done(2, ActionKind::DeleteNode { node }).await;
    let off = field.standin.ledger().facts.iter().any(|(_, fact)| {
        matches!(
            fact,
            Fact::NodeDeleted {
                fate: Fate::Off,
                ..
            }
        )
    });
    assert!(off, "the node went after its server was off");
}

#[tokio::test]
async fn a_rebuilt_server_keeps_its_id_and_joins_by_a_new_token() {
    let field = Field::start().await;
    let (vm, old) = field.add(1, "w-1").await;
    field.done(1, ActionKind::DeleteToken).await;
    // What somebody else wrote into the metadata survives.
    field.standin.world(|world| {
        let server = world.cloud.servers.get_mut(vm.id.as_str()).unwrap();
        server
            .metadata
            .insert("theirs".to_owned(), "kept".to_owned());
    });
    let rebuild = ActionKind::RebuildServer {
        vm: vm.clone(),
        node: "w-1".into(),
        metadata: marks(2),
    };
    let failure = field.act(&action(2, rebuild.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NeedsToken, "{failure}");
    // Fenced first, as the rung does it.
    let stop = ActionKind::StopServer { vm: vm.clone() };
    assert_eq!(field.done(2, stop).await, Done::Accepted);
    field.server_is(vm.id.as_str(), ServerStatus::Shutoff).await;
    field
        .done(2, ActionKind::DeleteNode { node: old.clone() })
        .await;
    field.act(&create_token(2, "w-1")).await.unwrap();
    assert_eq!(field.done(2, rebuild.clone()).await, Done::Accepted);
    // Its mark is ours by now: the same action again finds that it has been done.
    assert_eq!(field.done(2, rebuild).await, Done::Already);
    // Made anew, and off again, as it was.
    let rebuilt = field.server_is(vm.id.as_str(), ServerStatus::Shutoff).await;
    let start = ActionKind::StartServer {
        vm: vm_ref(&rebuilt, 2),
    };
    assert_eq!(field.done(2, start).await, Done::Accepted);
    let rebuilt = field.server_is(vm.id.as_str(), ServerStatus::Active).await;
    assert_eq!(rebuilt.created, vm.created);
    assert_eq!(rebuilt.metadata.get("theirs"), Some("kept"));
    assert_eq!(
        rebuilt.metadata.get(mark::OPERATION),
        Some(&*operation(2).to_string())
    );
    field.let_in(2, "w-1", &vm.id).await;
    let joined = field.node_is("w-1", Ready::True).await;
    assert_ne!(joined.uid, old.uid);
    assert_eq!(joined.vm, Some(vm.id));
}

#[tokio::test]
async fn what_is_not_the_one_that_was_decided_on_is_left_alone() {
    let field = Field::start().await;
    let (vm, node) = field.add(1, "w-1").await;
    let sent = field.mutations();
    let table: [(&str, &str, Option<&str>); 6] = [
        ("no owner", mark::OWNER, None),
        ("another owner", mark::OWNER, Some("someone")),
        ("another cluster", mark::CLUSTER, Some("green")),
        ("another pool", mark::POOL, Some("batch")),
        ("another operation", mark::OPERATION, Some("op-a1b2c3d4-9")),
        ("left alone by wish", mark::DO_NOT_TOUCH, Some("")),
    ];
    let on_the_server = |vm: rhizome_engine::action::VmRef| {
        [
            ActionKind::RebootServer {
                vm: vm.clone(),
                hard: true,
            },
            ActionKind::StopServer { vm: vm.clone() },
            ActionKind::DeleteServer { vm },
        ]
    };
    for (what, key, value) in table {
        field.standin.world(|world| {
            let server = world.cloud.servers.get_mut(vm.id.as_str()).unwrap();
            server.metadata = marks(1);
            match value {
                Some(value) => server.metadata.insert(key.to_owned(), value.to_owned()),
                None => server.metadata.remove(key),
            };
        });
        for kind in on_the_server(vm.clone()) {
            let failure = field.act(&action(2, kind)).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::NotOwned, "{what}: {failure}");
        }
    }
    field.standin.world(|world| {
        world
            .cloud
            .servers
            .get_mut(vm.id.as_str())
            .unwrap()
            .metadata = marks(1);
    });
    let mut another = vm.clone();
    another.created = Timestamp(vm.created.millis() - 1_000);
    for kind in on_the_server(another) {
        let failure = field.act(&action(2, kind)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotOwned, "{failure}");
    }
    let mut second = node.clone();
    second.uid = "another".to_owned();
    for kind in [
        ActionKind::Cordon {
            node: second.clone(),
        },
        ActionKind::Drain {
            node: second.clone(),
        },
        ActionKind::DeleteNode { node: second },
    ] {
        let failure = field.act(&action(2, kind)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotOwned, "{failure}");
    }
    assert_eq!(field.mutations(), sent, "nothing was sent");
    assert_eq!(
        field
            .server_is(vm.id.as_str(), ServerStatus::Active)
            .await
            .id,
        vm.id
    );
    assert!(matches!(
        field.look().await.first(),
        Some(Observation::Servers { complete: true, .. })
    ));
}
