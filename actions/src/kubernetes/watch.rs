//! The watches of nodes, leases and pods, and a probe that does not believe in their silence.
//!
//! An open watch proves nothing: an API server that shuts down keeps it open for a minute
//! without a word. So nodes and leases are listed anew every few seconds whatever the watches
//! say; that list is the truth, and a watch that did not bring what it shows is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use rhizome_engine::cluster::Uid;
use rhizome_engine::event::{NodeView, Observation, SourceName, SourceReport};
use rhizome_engine::names::NodeName;
use rhizome_engine::time::{BoxFuture, Monotonic};
use tokio::sync::mpsc;

use super::Kubernetes;
use super::errors::told;
use super::observe::{of_lease, of_node};
use crate::Seen;

/// How often nodes and leases are listed, and the source is reported on.
const PROBE_EVERY: Duration = SourceReport::EVERY;
/// How often changes of pods are told: one report covers all pods, so not per change.
const PODS_EVERY: Duration = Duration::from_secs(1);
/// How long one watch call runs, in real time; five seconds more, and kube takes the
/// connection for dead.
const WATCH_SECONDS: u32 = 60;
/// Probes in a row that a watch may lag behind before it is started again: one may fall in the
/// middle of a change.
const LAGGING_PROBES: u32 = 2;

type Stream<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// The three watches.
struct Streams {
    nodes: Stream<Node>,
    leases: Stream<Lease>,
    pods: Stream<Pod>,
}

/// What the watches have brought so far.
#[derive(Default)]
struct Known {
    nodes: BTreeMap<NodeName, Shown>,
    /// Names seen since a watch of nodes began anew, until its end: what is missing then is gone.
    relisted: BTreeSet<NodeName>,
    pods: BTreeMap<String, Pod>,
    relisted_pods: BTreeMap<String, Pod>,
    pods_changed: bool,
    lagging: u32,
}

/// What was told of a node last. The engine has all of it, and here is asked only whether it is
/// another now.
#[derive(PartialEq)]
struct Shown {
    uid: Uid,
    /// Of the whole view. Should two have the same, the second is told by the next list.
    hash: u64,
}

impl From<&NodeView> for Shown {
    fn from(view: &NodeView) -> Self {
        let mut hasher = DefaultHasher::new();
        view.hash(&mut hasher);
        Self {
            uid: view.uid.as_str().into(),
            hash: hasher.finish(),
        }
    }
}

impl Kubernetes {
    /// Watches until nobody listens. May be dropped at any point.
    pub(super) async fn watch_all(&self, out: mpsc::Sender<Seen>) {
        let mut streams = self.streams();
        let mut known = Known::default();
        let mut last_good = self.clock.now().mono;
        let mut flowing = true;
        // The first probe comes at once.
        let mut probe: BoxFuture<'static, ()> = Box::pin(std::future::ready(()));
        let mut pods = self.clock.sleep(PODS_EVERY);
        loop {
            let mut seen = Vec::new();
            tokio::select! {
                () = &mut probe => {
                    let restart =
                        self.probe(&mut known, &mut seen, &mut last_good, &mut flowing).await;
                    if restart {
                        tracing::warn!("the watches lag behind the lists and are started again");
                        streams = self.streams();
                    }
                    probe = self.clock.sleep(PROBE_EVERY);
                }
                () = &mut pods => {
                    if std::mem::take(&mut known.pods_changed) {
                        seen.push(Seen::Observation(self.of_pods(known.pods.values())));
                    }
                    pods = self.clock.sleep(PODS_EVERY);
                }
                Some(event) = streams.nodes.next() => known.node_event(event, &mut seen),
                Some(event) = streams.leases.next() => lease_event(event, &mut seen),
                Some(event) = streams.pods.next() => known.pod_event(event),
            }
            for seen in seen {
                if out.send(seen).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Lists nodes and leases, tells them and how well that went; true if the watches lag.
    async fn probe(
        &self,
        known: &mut Known,
        seen: &mut Vec<Seen>,
        last_good: &mut Monotonic,
        was_flowing: &mut bool,
    ) -> bool {
        let (trouble, restart) = match self.look_at_nodes().await {
            Ok(observed) => {
                *last_good = self.clock.now().mono;
                let restart = known.compare(&observed, seen);
                seen.extend(observed.into_iter().map(Seen::Observation));
                (String::new(), restart)
            }
            Err(failure) => (failure.message, false),
        };
        let flowing = trouble.is_empty();
        match (*was_flowing, flowing) {
            (true, false) => tracing::warn!(%trouble, "kubernetes cannot be seen well"),
            (false, true) => tracing::info!("kubernetes is seen again"),
            _ => {}
        }
        *was_flowing = flowing;
        seen.push(Seen::Source(SourceReport {
            source: SourceName::Kubernetes,
            flowing,
            lag: self.clock.now().mono.since(*last_good),
            refilled: true,
            trouble,
        }));
        restart
    }

    fn streams(&self) -> Streams {
        let client = self.cluster.watcher_client();
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let leases = Api::namespaced(client.clone(), "kube-node-lease");
        Streams {
            nodes: watcher(Api::all(client.clone()), config.clone())
                .default_backoff()
                .boxed(),
            leases: watcher(leases, config.clone()).default_backoff().boxed(),
            pods: watcher(Api::all(client), config)
                .modify(trim)
                .default_backoff()
                .boxed(),
        }
    }
}

impl Known {
    /// Holds what the watch of nodes brought against the list, tells which nodes gave way to
    /// another of their name, and says whether the watch lags.
    fn compare(&mut self, observed: &[Observation], seen: &mut Vec<Seen>) -> bool {
        let Some(Observation::Nodes { nodes, .. }) = observed.first() else {
            return false;
        };
        let listed: BTreeMap<&NodeName, Shown> =
            nodes.iter().map(|node| (&node.name, node.into())).collect();
        let replaced: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|(name, shown)| listed.get(name).is_some_and(|now| now.uid != shown.uid))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &replaced {
            self.node_gone(name, seen);
        }
        let gone = self.nodes.keys().any(|name| !listed.contains_key(name));
        let missed = listed
            .iter()
            .any(|(name, now)| self.nodes.get(*name) != Some(now));
        // That they are gone is not told one by one: the list is, and the engine does not believe
        // one that is empty or much smaller than it was (a lagging replica sends such lists).
        // From here on the list is what is known, so the next probe finds only what the watch
        // has missed since this one.
        self.nodes.retain(|name, _| listed.contains_key(name));
        for (name, now) in listed {
            self.show(name, now);
        }
        self.lagging = if missed || gone || !replaced.is_empty() {
            self.lagging + 1
        } else {
            0
        };
        let restart = self.lagging >= LAGGING_PROBES;
        if restart {
            self.lagging = 0;
        }
        restart
    }

    /// Keeps what is told of a node from now on, and gives back what was before. A name that stays
    /// is a text of its own: one out of a list would hold fast the memory around it.
    fn show(&mut self, name: &NodeName, now: Shown) -> Option<Shown> {
        if let Some(kept) = self.nodes.get_mut(name) {
            return Some(std::mem::replace(kept, now));
        }
        self.nodes.insert(NodeName::new(name.as_str()), now)
    }

    fn node_gone(&mut self, name: &NodeName, seen: &mut Vec<Seen>) {
        if let Some((name, shown)) = self.nodes.remove_entry(name) {
            seen.push(gone(name, &shown));
        }
    }

    fn node_shown(&mut self, node: &Node, seen: &mut Vec<Seen>) {
        let Some(view) = of_node(node) else { return };
        let now = Shown::from(&view);
        let again = self.nodes.get(&view.name) == Some(&now);
        let before = self.show(&view.name, now);
        // The kubelet writes its status often; most of it says nothing new.
        if again {
            return;
        }
        if let Some(before) = before.filter(|before| before.uid != *view.uid) {
            seen.push(gone(view.name.clone(), &before));
        }
        seen.push(Seen::Observation(Observation::Node(view)));
    }

    fn node_event(&mut self, event: Result<Event<Node>, watcher::Error>, seen: &mut Vec<Seen>) {
        match event {
            Ok(Event::Init) => self.relisted.clear(),
            Ok(Event::InitApply(node)) => {
                self.relisted
                    .extend(node.metadata.name.as_deref().map(NodeName::new));
                self.node_shown(&node, seen);
            }
            Ok(Event::Apply(node)) => self.node_shown(&node, seen),
            // What is missing now is for the next probe's list to tell, as above.
            Ok(Event::InitDone) => {
                let relisted = std::mem::take(&mut self.relisted);
                self.nodes.retain(|name, _| relisted.contains(name));
            }
            Ok(Event::Delete(node)) => {
                let uid = node.metadata.uid.as_deref();
                let name = NodeName::new(node.metadata.name.as_deref().unwrap_or_default());
                // Not one that has taken the name meanwhile.
                let shown = self.nodes.get(&name).map(|shown| &shown.uid);
                if uid.zip(shown).is_some_and(|(uid, shown)| *shown == *uid) {
                    self.node_gone(&name, seen);
                }
            }
            Err(error) => {
                tracing::debug!(error = told(&error), "the watch of nodes was interrupted")
            }
        }
    }

    fn pod_event(&mut self, event: Result<Event<Pod>, watcher::Error>) {
        let key = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        match event {
            Ok(Event::Init) => self.relisted_pods.clear(),
            Ok(Event::InitApply(pod)) => {
                self.relisted_pods.insert(key(&pod), pod);
            }
            Ok(Event::InitDone) => {
                self.pods = std::mem::take(&mut self.relisted_pods);
                self.pods_changed = true;
            }
            Ok(Event::Apply(pod)) => {
                self.pods.insert(key(&pod), pod);
                self.pods_changed = true;
            }
            Ok(Event::Delete(pod)) => {
                self.pods.remove(&key(&pod));
                self.pods_changed = true;
            }
            Err(error) => {
                tracing::debug!(error = told(&error), "the watch of pods was interrupted")
            }
        }
    }
}

fn gone(name: NodeName, shown: &Shown) -> Seen {
    Seen::Observation(Observation::NodeGone {
        name,
        uid: shown.uid.to_string(),
    })
}

/// Drops what nobody asks for and what may be a secret: a pod is held for as long as it lives.
fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = pod.spec.as_mut() {
        for container in spec.containers.iter_mut() {
            container.env = None;
            container.args = None;
        }
    }
}

fn lease_event(event: Result<Event<Lease>, watcher::Error>, seen: &mut Vec<Seen>) {
    match event {
        Ok(Event::InitApply(lease) | Event::Apply(lease)) => {
            seen.extend(of_lease(&lease).map(Seen::Observation));
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(error = told(&error), "the watch of leases was interrupted"),
    }
}
