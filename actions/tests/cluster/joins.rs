//! Who becomes a node of a real cluster: the one machine that a token was made for.

use std::time::Duration;

use rhizome_actions::kubernetes::Approval;
use rhizome_engine::action::{ActionKind, Done, FailureKind};
use rhizome_engine::event::Ready;
use rhizome_standin::kubelet::{Join, JoinError, Kubelet};
use serde_json::json;

use crate::cluster::place::{Ours, approve, number, until};

/// Lets a machine try, and waits until it has asked for its certificate.
async fn asks(
    ours: &Ours,
    number: u64,
    join: &Join,
    how_many: usize,
) -> tokio::task::JoinHandle<()> {
    let join = join.clone();
    let trying = tokio::spawn(async move {
        if let Ok(kubelet) = Kubelet::join(&join).await {
            let _alive = kubelet;
            std::future::pending::<()>().await;
        }
    });
    until("a request for a certificate", || {
        (ours.requests(number).len() == how_many).then_some(())
    })
    .await;
    trying
}

fn none_approved(ours: &Ours, number: u64) -> bool {
    ours.requests(number).values().all(|approved| !approved)
}

#[tokio::test]
async fn a_machine_joins_with_its_token_and_nobody_after_it() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-a").await;
    let (kubelet, let_in) = tokio::join!(Kubelet::join(&join), ours.done(mine, approve("join-a")));
    let _kubelet = kubelet.unwrap();
    assert_eq!(let_in, Done::Accepted);
    let node = ours.node_is("join-a", Ready::True).await;
    assert_eq!(node.vm, Some("vm-of-join-a".into()));
    assert_eq!(ours.done(mine, approve("join-a")).await, Done::Already);

    // A thief of the token asks for another node's certificate: he waits for ever.
    let stolen = Join {
        node: "join-another".to_owned(),
        ..join.clone()
    };
    let thief = asks(&ours, mine, &stolen, 2).await;
    assert_eq!(ours.done(mine, approve("join-a")).await, Done::Already);
    let approved = ours.requests(mine).values().filter(|one| **one).count();
    assert_eq!(approved, 1);

    // With the token gone he cannot even ask.
    assert_eq!(
        ours.done(mine, ActionKind::DeleteToken).await,
        Done::Accepted
    );
    assert_eq!(
        ours.done(mine, ActionKind::DeleteToken).await,
        Done::Already
    );
    let end = std::time::Instant::now() + crate::cluster::place::PATIENCE;
    loop {
        let late = tokio::time::timeout(Duration::from_secs(5), Kubelet::join(&stolen)).await;
        match late {
            Ok(Err(JoinError::NotTrusted(_) | JoinError::Refused { status: 401, .. })) => break,
            Ok(Ok(_)) => panic!("a deleted token let somebody in"),
            // What it was accepted for is remembered for ten seconds.
            _ => assert!(std::time::Instant::now() < end, "{late:?}"),
        }
    }
    thief.abort();
    assert!(ours.node("join-another").await.is_none());
    assert_eq!(ours.node("join-a").await.unwrap().ready, Ready::True);
}

#[tokio::test]
async fn a_stolen_token_that_asks_first_lets_nobody_in() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-b").await;
    let stolen = Join {
        node: "join-stolen".to_owned(),
        ..join
    };
    let thief = asks(&ours, mine, &stolen, 1).await;
    let failure = ours.within(60, mine, approve("join-b")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(
        failure.message.contains("system:node:join-stolen"),
        "{failure}"
    );
    assert!(none_approved(&ours, mine));
    thief.abort();
    assert!(ours.node("join-stolen").await.is_none());
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn of_two_machines_with_one_token_neither_is_let_in() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-c").await;
    let first = asks(&ours, mine, &join, 1).await;
    let twin = Join {
        provider_id: "openstack:///the-twin".to_owned(),
        ..join
    };
    let second = asks(&ours, mine, &twin, 2).await;
    let failure = ours.within(60, mine, approve("join-c")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(none_approved(&ours, mine));
    first.abort();
    second.abort();
    assert!(ours.node("join-c").await.is_none());
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_given_to_nobody() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    ours.place.apply(
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "join-d"},
        "spec": {"providerID": "openstack:///another"}}),
    );
    let join = ours.token(mine, "join-d").await;
    let trying = asks(&ours, mine, &join, 1).await;
    let failure = ours.within(60, mine, approve("join-d")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("taken"), "{failure}");
    assert!(none_approved(&ours, mine));
    trying.abort();
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn a_wrong_pin_or_a_wrong_secret_is_no_cluster_to_join() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-e").await;
    let pinned = Join {
        ca_cert_hashes: vec![format!("sha256:{}", "0".repeat(64))],
        ..join.clone()
    };
    let refused = Kubelet::join(&pinned).await.unwrap_err();
    assert!(
        matches!(refused, JoinError::NotTrusted("no pin is that of its CA")),
        "{refused}"
    );
    let (id, _) = join.token.split_once('.').unwrap();
    let wrong = Join {
        token: format!("{id}.0000000000000000"),
        ..join
    };
    let refused = Kubelet::join(&wrong).await.unwrap_err();
    assert!(matches!(refused, JoinError::NotTrusted(_)), "{refused}");
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn where_the_cluster_approves_a_machine_joins_without_us() {
    let Some(ours) = Ours::with(Approval::Cluster).await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-f").await;
    assert_eq!(ours.done(mine, approve("join-f")).await, Done::Already);
    let _kubelet = Kubelet::join(&join).await.unwrap();
    ours.node_is("join-f", Ready::True).await;
    ours.done(mine, ActionKind::DeleteToken).await;
}

#[tokio::test]
async fn a_token_is_extended_in_place_and_lets_its_machine_in() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let mine = number();
    let join = ours.token(mine, "join-g").await;
    let (id, secret) = join.token.split_once('.').unwrap();
    let name = format!("bootstrap-token-{id}");
    let kept = || {
        let data = ours.place.get(&["secret", &name, "-n", "kube-system"])["data"].clone();
        let read = |key: &str| {
            use base64::Engine as _;
            let text = data[key].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap();
            String::from_utf8(bytes).unwrap()
        };
        (read("expiration"), read("token-secret"))
    };
    let (before, _) = kept();
    let ttl = Duration::from_secs(2_400);
    let extend = ActionKind::ExtendToken { ttl };
    assert_eq!(ours.done(mine, extend.clone()).await, Done::Accepted);
    let (after, same) = kept();
    // Both are of one form, in which the later one is the greater text.
    assert!(after > before, "{before}, {after}");
    assert_eq!(same, secret);
    let (kubelet, let_in) = tokio::join!(Kubelet::join(&join), ours.done(mine, approve("join-g")));
    let _kubelet = kubelet.unwrap();
    assert_eq!(let_in, Done::Accepted);
    ours.node_is("join-g", Ready::True).await;
    ours.done(mine, ActionKind::DeleteToken).await;
    let gone = ours.within(60, mine, extend).await.unwrap_err();
    assert_eq!(gone.kind, FailureKind::NotFound, "{gone}");
}
