//! Watches of the real API server that end badly: silent, broken off, and Gone.

use std::sync::Arc;
use std::time::Duration;

use rhizome_actions::kubernetes::Kubernetes;
use rhizome_actions::{Executor, Seen};
use rhizome_engine::event::{NodeView, Observation, SourceName};
use rhizome_standin::{Fault, Relay, Rule};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::place::{Ours, PATIENCE, Place};

/// A watch of ours that runs, and what it tells.
struct Watching {
    seen: mpsc::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Watching {
    fn start(kubernetes: Arc<Kubernetes>) -> Self {
        let (sender, seen) = mpsc::channel(1_000);
        let stop = CancellationToken::new();
        let task = tokio::spawn(async move { kubernetes.watch(sender, stop).await });
        Self { seen, task }
    }

    /// Waits until something of that kind is told.
    async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Seen) -> Option<T>) -> T {
        self.within(PATIENCE, wanted)
            .await
            .unwrap_or_else(|| panic!("it was never told: {what}"))
    }

    async fn within<T>(
        &mut self,
        time: Duration,
        wanted: impl Fn(&Seen) -> Option<T>,
    ) -> Option<T> {
        let look = async {
            loop {
                let seen = self.seen.recv().await.unwrap();
                if let Some(found) = wanted(&seen) {
                    return found;
                }
            }
        };
        tokio::time::timeout(time, look).await.ok()
    }

    /// Waits until the cluster is seen well, or is not; what is said of it.
    async fn flows(&mut self, wanted: bool) -> String {
        self.until("a report of the cluster", |seen| match seen {
            Seen::Source(report) if report.source == SourceName::Kubernetes => {
                (report.flowing == wanted).then(|| report.trouble.clone())
            }
            _ => None,
        })
        .await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Told by the watch alone: the lists tell of all nodes at once.
fn by_the_watch(name: &'static str) -> impl Fn(&Seen) -> Option<NodeView> {
    move |seen| match seen {
        Seen::Observation(Observation::Node(node)) if node.name.as_str() == name => {
            Some(node.clone())
        }
        _ => None,
    }
}

/// Told by a list: whether the node is in it.
fn listed(name: &'static str, there: bool) -> impl Fn(&Seen) -> Option<()> {
    move |seen| match seen {
        Seen::Observation(Observation::Nodes { nodes, .. }) => {
            let found = nodes.iter().any(|node| node.name.as_str() == name);
            (found == there).then_some(())
        }
        _ => None,
    }
}

fn make(place: &Place, name: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    place.apply(&node);
}

/// Changes the node until the watch tells of it: a list may come first, and then it does not.
async fn told_of_changes(place: &Place, watching: &mut Watching, name: &'static str) {
    for turn in 0..10 {
        let label = format!("turn=at-{turn}");
        place.kubectl(&["label", "node", name, "--overwrite", &label]);
        let soon = Duration::from_secs(6);
        if watching.within(soon, by_the_watch(name)).await.is_some() {
            return;
        }
    }
    panic!("the watch tells of no change");
}

/// How many watches of nodes were begun through the relay.
fn begun(relay: &Relay) -> usize {
    let ledger = relay.ledger();
    let watches = |entry: &&rhizome_standin::Entry| {
        entry.is("GET", "/api/v1/nodes") && entry.query.contains("watch=")
    };
    ledger.requests.iter().filter(watches).count()
}

#[tokio::test]
async fn a_watch_that_is_open_and_silent_is_found_out_and_begun_anew() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (relay, kubernetes) = ours.place.relayed().await;
    let mut watching = Watching::start(kubernetes);
    make(ours.place, "silent-a");
    watching.until("the node", by_the_watch("silent-a")).await;
    let before = begun(&relay);
    relay.faults(|faults| faults.watches_silent = true);
    make(ours.place, "silent-b");
    // The connection stands and nothing comes; the lists are not taken in by that.
    watching.until("the list", listed("silent-b", true)).await;
    for turn in 0..10 {
        if begun(&relay) > before {
            break;
        }
        let label = format!("lag=at-{turn}");
        ours.place
            .kubectl(&["label", "node", "silent-b", "--overwrite", &label]);
        watching.until("a list", listed("silent-b", true)).await;
    }
    assert!(begun(&relay) > before, "the watch was never begun anew");
    relay.faults(|faults| faults.watches_silent = false);
    told_of_changes(ours.place, &mut watching, "silent-b").await;
    ours.place
        .kubectl(&["delete", "node", "silent-a", "silent-b"]);
}

#[tokio::test]
async fn an_api_server_that_takes_questions_and_answers_none_is_blindness() {
    let Some(ours) = Ours::start().await else {
        return;
    };
    let (relay, kubernetes) = ours.place.relayed().await;
    let mut watching = Watching::start(kubernetes);
    watching.flows(true).await;
    let rule = relay
        .fault(Rule::new("/api/v1/nodes", Fault::Hang).method("GET"))
        .unwrap();
    let trouble = watching.flows(false).await;
    assert!(trouble.contains("no answer within 20 s"), "{trouble}");
    relay.faults(|faults| faults.remove(rule));
    watching.flows(true).await;
}

#[tokio::test]
async fn a_watch_that_is_gone_is_begun_from_a_list_and_misses_nothing() {
    let Some((place, _alone)) = Ours::alone().await else {
        return;
    };
    let (relay, kubernetes) = place.relayed().await;
    make(place, "gone-a");
    let mut watching = Watching::start(kubernetes);
    watching.until("the node", by_the_watch("gone-a")).await;
    let known = place.version();

    relay.faults(|faults| faults.kube_down = true);
    watching.flows(false).await;
    make(place, "gone-b");
    place.kubectl(&["delete", "node", "gone-a"]);
    place.compact();
    // One that just began has no memory of its own of what was before, and etcd has none left.
    place.restart();
    assert_eq!(asked_from(place, &known)["code"], 410);

    relay.faults(|faults| faults.kube_down = false);
    watching
        .until("what was made", by_the_watch("gone-b"))
        .await;
    watching
        .until("what is gone", listed("gone-a", false))
        .await;
    told_of_changes(place, &mut watching, "gone-b").await;
    place.kubectl(&["delete", "node", "gone-b"]);
}

/// What a watch from this version is told first.
fn asked_from(place: &Place, version: &str) -> Value {
    let path = format!("/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion={version}");
    let said = place.kubectl(&["get", "--raw", &path]);
    let first = said.lines().next().unwrap_or_default();
    serde_json::from_str::<Value>(first).unwrap()["object"].clone()
}
