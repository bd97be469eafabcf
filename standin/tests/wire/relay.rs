//! A relay does to what passes through it what a stand-in does by itself: one table, both played.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use rhizome_standin::{Api, Effect, Fault, Ledger, Real, Refusal, Relay, Rule};
use serde_json::{Value, json};

use crate::{Bench, server};

const SERVERS: &str = "/compute/v2.1/servers";

/// What a client and the ledger saw of one create, and how many servers there are then.
type Seen = (
    Option<u16>,
    usize,
    Option<u16>,
    Effect,
    Option<&'static str>,
);

/// A stand-in with a relay before it.
async fn relayed() -> (Bench, Relay) {
    let bench = Bench::start().await;
    let openstack = bench.standin.openstack_url();
    let real = Real {
        keystone: format!("{openstack}/v3"),
        compute: format!("{openstack}/compute/v2.1"),
        network: format!("{openstack}/network"),
        kubernetes: bench.standin.kubernetes_url(),
        ca: Vec::new(),
    };
    let relay = Relay::start(&real, Arc::new(bench.clock.clone()));
    (bench, relay.await.unwrap())
}

/// Asks for a server at this address; none is no whole answer.
async fn create(bench: &Bench, url: &str) -> Option<u16> {
    let body = server("w", json!({}));
    let asked = bench
        .client
        .post(format!("{url}{SERVERS}"))
        .header("x-auth-token", &bench.token)
        .header("openstack-api-version", "compute 2.93")
        .json(&body);
    let response = asked.send().await.ok()?;
    let status = response.status().as_u16();
    response.text().await.ok()?;
    Some(status)
}

fn seen(bench: &Bench, told: Option<u16>, ledger: &Ledger) -> Seen {
    let asked = |entry: &&rhizome_standin::Entry| entry.is("POST", SERVERS);
    let entry = ledger.requests.iter().find(asked).unwrap();
    let servers = bench.standin.world(|world| world.cloud.servers.len());
    (told, servers, entry.status, entry.effect, entry.fault)
}

fn rule(fault: &Fault) -> Rule {
    let rule = Rule::new(SERVERS, fault.clone()).on(Api::OpenStack);
    rule.method("POST").times(1)
}

#[tokio::test]
async fn a_fault_is_the_same_before_a_service_and_in_a_stand_in() {
    let table = [
        Fault::Refuse(Refusal::nova_too_many(7)),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::DoneBut(Refusal::nova(503, "away")),
        Fault::CutBody,
    ];
    for fault in table {
        let alone = Bench::start().await;
        alone.standin.fault(rule(&fault));
        let told = create(&alone, &alone.standin.openstack_url()).await;
        let wanted = seen(&alone, told, &alone.standin.ledger());
        let (bench, relay) = relayed().await;
        relay.fault(rule(&fault)).unwrap();
        let told = create(&bench, &relay.openstack_url()).await;
        assert_eq!(seen(&bench, told, &relay.ledger()), wanted);
        let again = create(&bench, &relay.openstack_url()).await;
        assert_eq!(again, Some(202), "used up");
    }
}

#[tokio::test]
async fn a_token_is_withdrawn_at_keystone_and_the_request_made_with_it_later() {
    let withdrawn = Fault::Withdrawn(Duration::from_secs(7));
    let asked = async |bench: &Bench, url: String| {
        let asked = create(bench, &url);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                told = &mut asked => return told,
                () = tokio::time::sleep(Duration::from_millis(1)) => bench.advance(1),
            }
        }
    };
    let alone = Bench::start().await;
    alone.standin.fault(rule(&withdrawn));
    assert_eq!(
        asked(&alone, alone.standin.openstack_url()).await,
        Some(401)
    );
    let (bench, relay) = relayed().await;
    relay.fault(rule(&withdrawn)).unwrap();
    assert_eq!(asked(&bench, relay.openstack_url()).await, Some(401));
}

#[tokio::test]
async fn what_is_done_late_is_done_late_by_the_service() {
    let (bench, relay) = relayed().await;
    let late = Fault::DoLate(Duration::from_secs(90), None);
    relay.fault(rule(&late)).unwrap();
    assert_eq!(create(&bench, &relay.openstack_url()).await, None);
    let servers = || bench.standin.world(|world| world.cloud.servers.len());
    bench.advance(89);
    assert_eq!(servers(), 0);
    bench.advance(2);
    while servers() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_only_a_world_can_do_is_not_taken() {
    let (_bench, relay) = relayed().await;
    assert_eq!(relay.fault(rule(&Fault::BuildForever)), None);
}

#[tokio::test]
async fn addresses_lead_through_the_relay_and_lists_are_cut_on_the_way() {
    let (bench, relay) = relayed().await;
    for name in ["a", "b"] {
        bench.create(name, json!({})).await;
    }
    let url = relay.openstack_url();
    let get = async |path: &str| -> Value {
        let asked = bench.client.get(format!("{url}{path}"));
        let asked = asked.header("x-auth-token", &bench.token);
        bench.send(asked).await.body
    };
    let first = get("/compute/v2.1/servers?limit=1").await;
    let next = first["servers_links"][0]["href"].as_str().unwrap();
    assert!(next.starts_with(&format!("{url}/compute/v2.1/")), "{next}");
    let short = Rule::new(SERVERS, Fault::PartialList(1)).method("GET");
    relay.fault(short.times(1)).unwrap();
    let count = |list: Value| list["servers"].as_array().unwrap().len();
    assert_eq!(count(get(SERVERS).await), 1);
    assert_eq!(count(get(SERVERS).await), 2);
}

#[tokio::test]
async fn a_watch_passes_is_silent_and_is_broken_off() {
    let (bench, relay) = relayed().await;
    let make = async |name: &str| {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        let made = bench.kube(Method::POST, "/api/v1/nodes", Some(node)).await;
        assert_eq!(made.status, 201, "{made:?}");
    };
    let token = &bench.standin.credentials().kubernetes_token;
    let url = format!("{}/api/v1/nodes?watch=true", relay.kubernetes_url());
    let asked = bench.client.get(url).bearer_auth(token);
    let mut watch = asked.send().await.unwrap();
    make("w1").await;
    let line = watch.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&line).contains("w1"));
    relay.faults(|faults| faults.watches_silent = true);
    make("w2").await;
    let silence = tokio::time::timeout(Duration::from_millis(200), watch.chunk());
    assert!(silence.await.is_err(), "it is open and says nothing");
    relay.faults(|faults| faults.watches_silent = false);
    let line = watch.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&line).contains("w2"));
    relay.faults(|faults| faults.kube_down = true);
    assert!(watch.chunk().await.is_err(), "broken off");
}
