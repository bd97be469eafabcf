//! Watches: a reader of the store's log that writes one line for each change.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::kinds::Kind;
use super::select::Selector;
use super::status;
use super::store::Change;
use crate::front::Front;
use crate::http::{Answer, Broken, Content, Request};
use crate::json::set;
use crate::world::World;

/// How often a quiet watch gets a bookmark (seen: about every 60 s).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How long a watch lives that names no end (the API server: 30 to 60 minutes, at random).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1_800);

/// A watch as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct WatchRequest {
    kind: Kind,
    selector: Selector,
    /// None: from now on, after showing what there is.
    from: Option<u64>,
    initial_events: bool,
    bookmarks: bool,
    timeout: Duration,
}

impl WatchRequest {
    pub(super) fn read(request: &Request, kind: Kind, selector: Selector) -> Self {
        let initial_events = request.flag("sendInitialEvents");
        let from = request
            .parameter("resourceVersion")
            .and_then(|version| version.parse().ok())
            .filter(|version| *version > 0 && !initial_events);
        Self {
            kind,
            selector,
            from,
            initial_events,
            bookmarks: request.flag("allowWatchBookmarks"),
            timeout: request
                .parameter("timeoutSeconds")
                .and_then(|seconds| seconds.parse().ok())
                .filter(|seconds| *seconds > 0)
                .map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        }
    }

    pub(super) fn answer(self) -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            content: Content::Watch(Box::new(self)),
            content_type: None,
            effect: false,
        }
    }

    /// What there is when the watch begins, and its place in the log; or its end, if the log
    /// does not go back that far.
    fn begin(&self, world: &World) -> (Vec<Bytes>, Option<u64>) {
        let store = &world.cluster.store;
        let Some(from) = self.from else {
            let mut lines: Vec<Bytes> = world
                .cluster
                .list(self.kind)
                .filter(|object| self.selector.takes(object))
                .map(|object| line("ADDED", object))
                .collect();
            if self.initial_events && self.bookmarks {
                let mut bookmark = self.bookmark(store.version());
                set(
                    &mut bookmark,
                    "/metadata/annotations",
                    json!({"k8s.io/initial-events-end": "true"}),
                );
                lines.push(line("BOOKMARK", &bookmark));
            }
            return (lines, Some(store.version()));
        };
        // What happened between that version and now comes first.
        self.go_on(world, from)
    }

    fn bookmark(&self, version: u64) -> Value {
        let info = self.kind.info();
        json!({"kind": info.name, "apiVersion": info.api_version(),
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null}})
    }

    /// The lines of the changes after a place in the log, and the place after them; no place
    /// if the log was compacted past it.
    fn go_on(&self, world: &World, from: u64) -> (Vec<Bytes>, Option<u64>) {
        let store = &world.cluster.store;
        if from < store.compacted() {
            let message = format!("too old resource version: {from} ({})", store.compacted());
            return (
                vec![line("ERROR", &status::body(410, "Expired", &message))],
                None,
            );
        }
        let lines = store
            .changes_after(self.kind, from)
            .filter_map(|change| self.show(change))
            .collect();
        (lines, Some(store.version()))
    }

    /// A change as this watch sees it: an object that leaves its selection is deleted to it.
    fn show(&self, change: &Change) -> Option<Bytes> {
        let taken = |object: &Option<Arc<Value>>| {
            object
                .as_ref()
                .filter(|object| self.selector.takes(object))
                .cloned()
        };
        match (taken(&change.old), taken(&change.new)) {
            (None, None) => None,
            (None, Some(new)) => Some(line("ADDED", &new)),
            (Some(_), Some(new)) => Some(line("MODIFIED", &new)),
            (Some(old), None) => {
                // As it was when it was last in the selection, under the change's version.
                let mut last = old.as_ref().clone();
                set(
                    &mut last,
                    "/metadata/resourceVersion",
                    change.version.to_string(),
                );
                Some(line("DELETED", &last))
            }
        }
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": event, "object": object}).to_string();
    text.push('\n');
    Bytes::from(text)
}

/// Writes a watch's lines until it ends, its reader goes, or the API server does.
pub(crate) async fn run(
    front: Arc<Front>,
    watch: WatchRequest,
    out: mpsc::Sender<Result<Bytes, Broken>>,
) {
    let mut changed = front.changes();
    let clock = front.clock();
    let mut end = clock.sleep(watch.timeout);
    let mut bookmark = clock.sleep(BOOKMARK_INTERVAL);
    let (mut lines, mut place) = front.with(|world, _| watch.begin(world));
    loop {
        for line in lines.drain(..) {
            if out.send(Ok(line)).await.is_err() {
                return;
            }
        }
        let Some(from) = place else { return };
        let mut due = false;
        tokio::select! {
            () = front.stop.cancelled() => return,
            () = out.closed() => return,
            () = &mut end => return,
            () = &mut bookmark => due = true,
            more = changed.changed() => if more.is_err() { return },
        }
        let (silent, down) = front.with(|_, faults| (faults.watches_silent, faults.kube_down));
        if down {
            // The reader learns that it is broken off; if it is gone already, all the better.
            let _ = out.send(Err(Broken)).await;
            return;
        }
        if due {
            bookmark = clock.sleep(BOOKMARK_INTERVAL);
        }
        if silent {
            continue;
        }
        (lines, place) = front.with(|world, _| watch.go_on(world, from));
        if due && watch.bookmarks && lines.is_empty() && place.is_some() {
            lines.push(line("BOOKMARK", &watch.bookmark(from)));
        }
    }
}
