//! The Kubernetes API server as Rhizome and a kubelet use it, and the controllers behind it.
//!
//! `objects.rs` answers get, list, create, update, patch and delete for every kind alike;
//! `watch.rs` streams; `evict.rs` asks the budgets; `lifecycle.rs`, `scheduler.rs`,
//! `volumes.rs` and `workload.rs` are what the controller manager and the scheduler would do. Texts and times
//! are those seen on v1.36.3.

mod auth;
mod budget;
pub(crate) mod certificates;
mod evict;
mod kinds;
pub(crate) mod lifecycle;
pub(crate) mod notes;
mod objects;
mod patch;
pub(crate) mod pods;
mod rules;
mod scheduler;
mod select;
pub(crate) mod status;
pub(crate) mod store;
mod volumes;
pub(crate) mod watch;
mod workload;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use rhizome_engine::time::Timestamp;
use serde_json::{Value, json};

pub use kinds::Kind;
pub use workload::Workload;

use self::auth::{Cached, User};
use self::kinds::KINDS;
use self::lifecycle::Monitor;
use self::store::Store;
use crate::http::{Answer, Request};
use crate::ids::Ids;
use crate::json::text;
use crate::world::{World, seconds};

/// The cluster's objects and what its controllers remember.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) store: Store,
    /// Rights taken away: verb and resource, as `("patch", "nodes")`.
    pub denied: BTreeSet<(String, String)>,
    /// The controller manager is away: budgets are not refilled, nothing is tainted, evicted,
    /// replaced or collected.
    pub controller_manager_away: bool,
    /// The scheduler is away: pods stay pending.
    pub scheduler_away: bool,
    /// Work that keeps so many pods, by name.
    pub workloads: BTreeMap<String, Workload>,
    pub(crate) accepted: BTreeMap<String, Cached>,
    /// What was issued, and the node that it is for.
    pub(crate) certificates: BTreeMap<String, String>,
    pub(crate) monitor: Monitor,
}

impl Cluster {
    pub(crate) fn new(now: Timestamp, ids: &mut Ids) -> Self {
        let mut store = Store::default();
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            store.put(
                Kind::Namespace,
                json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "uid": ids.uuid(), "creationTimestamp": seconds(now)},
                    "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
            );
        }
        Self {
            store,
            denied: BTreeSet::new(),
            controller_manager_away: false,
            scheduler_away: false,
            workloads: BTreeMap::new(),
            accepted: BTreeMap::new(),
            certificates: BTreeMap::new(),
            monitor: Monitor::default(),
        }
    }

    /// An object as the API would show it.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.store.get(kind, namespace, name)
    }

    /// All objects of a kind.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.store.all(kind).map(AsRef::as_ref)
    }

    /// Forgets old versions: every watch that starts from one is told 410.
    pub fn compact(&mut self) {
        self.store.compact();
    }

    /// Takes a right away, or with `allowed` gives it back.
    pub fn set_right(&mut self, verb: &str, resource: &str, allowed: bool) {
        let right = (verb.to_owned(), resource.to_owned());
        if allowed {
            self.denied.remove(&right);
        } else {
            self.denied.insert(right);
        }
    }
}

impl World {
    /// Lets the controllers and the scheduler have their turn.
    pub(crate) fn step_cluster(&mut self) {
        if !self.cluster.controller_manager_away {
            self.clean_tokens();
            self.issue_certificates();
            self.step_nodes();
            self.step_workloads();
            self.collect_pods();
            self.detach_volumes();
            self.refresh_budgets();
        }
        if !self.cluster.scheduler_away {
            self.schedule();
        }
    }

    /// Makes or replaces an object as an operator would by other means; for tests and stories. An object without a uid gets one.
    pub fn put_object(&mut self, kind: Kind, mut object: Value) {
        let key = store::key_of(&object);
        if text(&object, "/metadata/uid").is_none() {
            let uid = self
                .cluster
                .store
                .get(kind, &key.0, &key.1)
                .and_then(|old| text(old, "/metadata/uid").map(str::to_owned))
                .unwrap_or_else(|| self.ids.uuid());
            crate::json::set(&mut object, "/metadata/uid", uid);
        }
        if text(&object, "/metadata/creationTimestamp").is_none() {
            crate::json::set(
                &mut object,
                "/metadata/creationTimestamp",
                seconds(self.now),
            );
        }
        self.cluster.store.put(kind, object);
    }

    /// Removes an object at once, whatever still holds on to it; for tests and stories.
    pub fn remove_object(&mut self, kind: Kind, namespace: &str, name: &str) {
        self.cluster.store.remove(kind, namespace, name);
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) sub: Option<String>,
}

impl Target {
    /// The store's key; the name must be known.
    pub(crate) fn key(&self) -> store::Key {
        (
            self.namespace.clone().unwrap_or_default(),
            self.name.clone().unwrap_or_default(),
        )
    }
}

/// Answers a request to the API server.
pub(crate) fn handle(world: &mut World, request: &Request) -> Answer {
    let path = request.path.trim_matches('/');
    let method = request.method.as_str();
    // Seen: a token that is none is refused even where none is needed.
    let user = match auth::authenticate(world, request) {
        Some(user) => user,
        None => return status::unauthorized(),
    };
    match (method, path) {
        ("GET", "livez" | "readyz" | "healthz") => return health(request, path),
        ("GET", "version") => return Answer::json(200, version()),
        _ => {}
    }
    let segments: Vec<&str> = path.split('/').collect();
    match (method, segments.as_slice()) {
        ("GET", ["api" | "apis", ..]) if discovery(request, &segments).is_some() => {
            discovery(request, &segments).unwrap_or_else(status::no_such_path)
        }
        (
            "POST",
            [
                "apis",
                "authorization.k8s.io",
                "v1",
                "selfsubjectaccessreviews",
            ],
        ) => auth::access_review(world, request, &user),
        (_, ["api", "v1", rest @ ..]) => on_kind(world, request, &user, "", rest),
        (_, ["apis", group, "v1", rest @ ..]) if KINDS.iter().any(|info| info.group == *group) => {
            on_kind(world, request, &user, group, rest)
        }
        _ if user == User::Rhizome => status::no_such_group(),
        _ => auth::no_right_to_path(request, &user),
    }
}

fn on_kind(
    world: &mut World,
    request: &Request,
    user: &User,
    group: &str,
    segments: &[&str],
) -> Answer {
    match target(group, segments) {
        Some(target) => objects::handle(world, request, user, &target),
        None => status::no_such_path(),
    }
}

fn target(group: &str, segments: &[&str]) -> Option<Target> {
    let owned = |text: &str| Some(crate::http::percent_decode(text));
    let (namespace, plural, rest) = match segments {
        // `namespaces/x/status` is no collection of a namespace's.
        ["namespaces", namespace, plural, rest @ ..] if Kind::find(group, plural).is_some() => {
            (owned(namespace), *plural, rest)
        }
        [plural, rest @ ..] => (None, *plural, rest),
        [] => return None,
    };
    let kind = Kind::find(group, plural)?;
    if namespace.is_some() && !kind.info().namespaced {
        return None;
    }
    let (name, sub) = match rest {
        [] => (None, None),
        [name] => (owned(name), None),
        [name, sub] => (owned(name), owned(sub)),
        _ => return None,
    };
    // A namespaced object has no address without its namespace.
    if name.is_some() && namespace.is_none() && kind.info().namespaced {
        return None;
    }
    Some(Target {
        kind,
        namespace,
        name,
        sub,
    })
}

fn health(request: &Request, what: &str) -> Answer {
    let checks = [
        "ping",
        "log",
        "etcd",
        "informer-sync",
        "poststarthook/rbac/bootstrap-roles",
    ];
    if !request.query.iter().any(|(key, _)| key == "verbose") {
        return Answer::text(200, "ok");
    }
    let mut text: String = checks
        .iter()
        .map(|name| format!("[+]{name} ok\n"))
        .collect();
    text.push_str(&format!("{what} check passed\n"));
    Answer::text(200, text)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26.8", "compiler": "gc", "platform": "linux/amd64",
    })
}

/// `/api`, `/apis`, `/api/v1` and `/apis/{group}/v1`.
fn discovery(request: &Request, segments: &[&str]) -> Option<Answer> {
    let groups: BTreeSet<&str> = KINDS
        .iter()
        .map(|info| info.group)
        .chain(["authorization.k8s.io"])
        .filter(|group| !group.is_empty())
        .collect();
    let body = match segments {
        ["api"] => {
            let host = request.base.trim_start_matches("http://");
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs":
                [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]})
        }
        ["apis"] => {
            let groups: Vec<Value> = groups
                .iter()
                .map(|group| {
                    let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
                    json!({"name": group, "versions": [version], "preferredVersion": version})
                })
                .collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", "v1"] => resources(""),
        ["apis", group, "v1"] if groups.contains(group) => resources(group),
        _ => return None,
    };
    Some(Answer::json(200, body))
}

fn resources(group: &str) -> Value {
    let verbs = [
        "create", "delete", "get", "list", "patch", "update", "watch",
    ];
    let list: Vec<Value> = KINDS
        .iter()
        .filter(|info| info.group == group)
        .map(|info| {
            json!({"name": info.plural, "singularName": info.singular,
                "namespaced": info.namespaced, "kind": info.name, "verbs": verbs})
        })
        .collect();
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}
