//! Answers that are lost, late or wrong: what is done is found again, and done once.

use std::time::Duration;

use rhizome_engine::action::{ActionKind, Done, FailureKind, mark};
use rhizome_engine::event::{Ready, ServerStatus};
use rhizome_standin::{Fault, Kind, Refusal, Rule};

use crate::field::{Field, action, create, create_token, operation, server};

const SERVERS: &str = "/compute/v2.1/servers";

/// A create that is met by `fault`: what is told of it, and what a look finds afterwards.
async fn create_met_by(fault: Fault) -> (Field, FailureKind, usize) {
    let field = Field::start().await;
    field.act(&create_token(1, "w-1")).await.unwrap();
    field
        .standin
        .fault(Rule::new(SERVERS, fault).method("POST").times(1));
    let failure = field.act(&create(1, "w-1")).await.unwrap_err();
    let found = found(&field).await;
    (field, failure.kind, found)
}

/// How many servers a look by the operation's mark finds.
async fn found(field: &Field) -> usize {
    match field.done(1, ActionKind::FindServer).await {
        Done::Found { servers, complete } => {
            assert!(complete);
            servers.len()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_found_and_not_made_again() {
    let table = [
        ("dropped before", Fault::DropBefore, 0),
        ("dropped after", Fault::DropAfter, 1),
        ("never answered", Fault::HangDone, 1),
        (
            "done, and said to have failed",
            Fault::DoneBut(Refusal::nova(500, "Unexpected API Error.")),
            1,
        ),
        (
            "done, and a proxy gave up on it",
            Fault::DoneBut(Refusal {
                text: Some("<html>".to_owned()),
                ..Refusal::nova(504, "")
            }),
            1,
        ),
    ];
    for (what, fault, there) in table {
        let (field, kind, found) = create_met_by(fault).await;
        assert_eq!(kind, FailureKind::Unknown, "{what}");
        assert_eq!(found, there, "{what}");
        let again = field.act(&create(1, "w-1")).await;
        let Ok(Done::Created { vm }) = again else {
            panic!("{what}: {again:?}");
        };
        field.server_is(vm.as_str(), ServerStatus::Active).await;
        field.let_in(1, "w-1", &vm).await;
        field.node_is("w-1", Ready::True).await;
        let ledger = field.standin.ledger();
        let made: Vec<&str> = ledger.servers_of(operation(1)).collect();
        assert_eq!(made, [vm.as_str()], "{what}: exactly one");
    }
}

#[tokio::test]
async fn a_create_that_happens_late_is_found_when_it_has_happened() {
    let late = Duration::from_secs(30);
    let (field, kind, at_once) = create_met_by(Fault::DoLate(late, None)).await;
    assert_eq!((kind, at_once), (FailureKind::Unknown, 0));
    field
        .until(|seen| {
            let servers = seen.iter().any(|one| {
                matches!(one,
                rhizome_engine::event::Observation::Servers { servers, .. } if servers.len() == 1)
            });
            servers.then_some(())
        })
        .await;
    assert_eq!(found(&field).await, 1);
}

#[tokio::test]
async fn a_create_that_is_refused_did_not_happen() {
    let table = [
        (Refusal::quota_exceeded(), FailureKind::NoCapacity),
        (
            Refusal::nova_too_many(7),
            FailureKind::Retry {
                after: Some(Duration::from_secs(7)),
            },
        ),
        (
            Refusal::nova(400, "Invalid imageRef provided."),
            FailureKind::Refused,
        ),
    ];
    for (refusal, wanted) in table {
        let status = refusal.status;
        let (field, kind, found) = create_met_by(Fault::Refuse(refusal)).await;
        assert_eq!((kind, found), (wanted, 0), "{status}");
        assert!(matches!(
            field.act(&create(1, "w-1")).await,
            Ok(Done::Created { .. })
        ));
    }
}

#[tokio::test]
async fn a_create_is_not_made_on_a_list_that_is_not_whole() {
    let field = Field::start().await;
    field.act(&create_token(1, "w-1")).await.unwrap();
    let Ok(Done::Created { vm }) = field.act(&create(1, "w-1")).await else {
        panic!("not created");
    };
    field.standin.world(|world| {
        world.cloud.down_cells.insert(vm.as_str().to_owned());
    });
    let looked = field.done(1, ActionKind::FindServer).await;
    assert!(
        matches!(
            looked,
            Done::Found {
                complete: false,
                ..
            }
        ),
        "{looked:?}"
    );
    let failure = field.act(&create(1, "w-1")).await.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Retry { .. }),
        "{failure:?}"
    );
    let ledger = field.standin.ledger();
    assert_eq!(ledger.servers_of(operation(1)).count(), 1);
}

#[tokio::test]
async fn a_token_whose_answer_is_lost_is_made_anew_and_lets_the_machine_in() {
    let field = Field::start().await;
    field.standin.fault(
        Rule::new("/api/v1/namespaces/kube-system/secrets", Fault::DropAfter)
            .method("POST")
            .times(1),
    );
    let failure = field.act(&create_token(1, "w-1")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    let needs = field.act(&create(1, "w-1")).await.unwrap_err();
    assert_eq!(needs.kind, FailureKind::NeedsToken, "{needs}");
    field.add(1, "w-1").await;
    let secrets = field
        .standin
        .world(|world| world.cluster.list(Kind::Secret).count());
    assert_eq!(secrets, 1);
}

#[tokio::test]
async fn a_delete_whose_answer_is_lost_is_asked_for_again_until_it_is_gone() {
    let field = Field::start().await;
    let (vm, node) = field.add(1, "w-1").await;
    field.standin.fault(
        Rule::new(&format!("{SERVERS}/*"), Fault::DropAfter)
            .method("DELETE")
            .times(1),
    );
    let delete = ActionKind::DeleteServer { vm: vm.clone() };
    let failure = field.act(&action(2, delete.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    field
        .until(|seen| server(seen, vm.id.as_str()).is_none().then_some(()))
        .await;
    assert_eq!(field.done(2, delete).await, Done::Already);

    field.standin.fault(
        Rule::new("/api/v1/nodes/*", Fault::DropAfter)
            .method("DELETE")
            .times(1),
    );
    let delete = ActionKind::DeleteNode { node };
    let failure = field.act(&action(2, delete.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    assert_eq!(field.done(2, delete).await, Done::Already);
}

#[tokio::test]
async fn a_rebuild_whose_answer_is_lost_is_not_done_a_second_time() {
    let field = Field::start().await;
    let (vm, _) = field.add(1, "w-1").await;
    field.act(&create_token(2, "w-1")).await.unwrap();
    field.standin.fault(
        Rule::new(&format!("{SERVERS}/*/action"), Fault::DropAfter)
            .method("POST")
            .times(1),
    );
    let rebuild = ActionKind::RebuildServer {
        vm: vm.clone(),
        node: "w-1".into(),
        metadata: crate::field::marks(2),
    };
    let failure = field.act(&action(2, rebuild.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    let sent = field.mutations();
    assert_eq!(field.done(2, rebuild).await, Done::Already);
    assert_eq!(field.mutations(), sent, "asked for once");
    let server = field.server_is(vm.id.as_str(), ServerStatus::Active).await;
    assert_eq!(
        server.metadata.get(mark::OPERATION),
        Some(&*operation(2).to_string())
    );
}

#[tokio::test]
async fn while_keystone_is_away_nothing_is_sent_and_afterwards_all_goes_on() {
    let field = Field::start().await;
    field.act(&create_token(1, "w-1")).await.unwrap();
    field.standin.faults(|faults| faults.keystone_down = true);
    let sent = field.mutations();
    let failure = field.act(&create(1, "w-1")).await.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Retry { .. }),
        "{failure:?}"
    );
    assert_eq!(field.mutations(), sent);
    field.standin.faults(|faults| faults.keystone_down = false);
    assert!(matches!(
        field.act(&create(1, "w-1")).await,
        Ok(Done::Created { .. })
    ));
}
