//! The cluster's objects, their versions and the log of changes that watches read.
//!
//! One counter gives every change its version, as etcd's revision does. A watch is a reader
//! of the log with a place in it; there is nothing to broadcast and nobody to fall behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::kinds::Kind;
use crate::json::{set, text, text_or_empty};

/// Changes kept for watches; older ones are compacted away, and a watch from there is told
/// 410, as by a real server (whose watch cache holds hundreds to some thousands).
const MAX_LOG: usize = 10_000;

/// Namespace and name; the namespace is empty for what has none.
pub(crate) type Key = (String, String);

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) old: Option<Arc<Value>>,
    /// None: deleted.
    pub(crate) new: Option<Arc<Value>>,
}

/// All objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    version: u64,
    /// Watches from before this version are told that it is too old.
    compacted: u64,
    objects: BTreeMap<Kind, BTreeMap<Key, Arc<Value>>>,
    log: VecDeque<Change>,
}

impl Store {
    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version from which a watch may start.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets the log: watches from before are told 410.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    /// The object of that name.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.objects.get(&kind)?.get(&key).map(Arc::as_ref)
    }

    /// All objects of a kind, by namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Value>> {
        self.objects
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The keys of all objects of a kind, for loops that change them.
    pub(crate) fn keys(&self, kind: Kind) -> Vec<Key> {
        self.objects
            .get(&kind)
            .map(|objects| objects.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Puts an object in, in place of one of its name, under a new version.
    pub(crate) fn put(&mut self, kind: Kind, mut object: Value) -> Arc<Value> {
        self.version += 1;
        set(
            &mut object,
            "/metadata/resourceVersion",
            self.version.to_string(),
        );
        let key = key_of(&object);
        let object = Arc::new(object);
        let old = self
            .objects
            .entry(kind)
            .or_default()
            .insert(key, Arc::clone(&object));
        self.record(kind, old, Some(Arc::clone(&object)));
        object
    }

    /// Changes an object; one that comes out the same keeps its version. A finalized object
    /// whose last finalizer goes is removed.
    ///
    /// Says whether there is such an object.
    pub(crate) fn update(
        &mut self,
        kind: Kind,
        (namespace, name): &Key,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(old) = self.get(kind, namespace, name) else {
            return false;
        };
        let mut new = old.clone();
        change(&mut new);
        if new != *old {
            let put = self.put(kind, new);
            if is_finished(kind, &put) {
                self.remove(kind, namespace, name);
            }
        }
        true
    }

    /// Takes an object away for good.
    pub(crate) fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (namespace.to_owned(), name.to_owned());
        let old = self.objects.get_mut(&kind)?.remove(&key)?;
        self.version += 1;
        self.record(kind, Some(Arc::clone(&old)), None);
        Some(old)
    }

    fn record(&mut self, kind: Kind, old: Option<Arc<Value>>, new: Option<Arc<Value>>) {
        if self.log.len() >= MAX_LOG
            && let Some(first) = self.log.pop_front()
        {
            self.compacted = first.version;
        }
        self.log.push_back(Change {
            version: self.version,
            kind,
            old,
            new,
        });
    }

    /// The changes of a kind after a version.
    pub(crate) fn changes_after(&self, kind: Kind, version: u64) -> impl Iterator<Item = &Change> {
        let start = self.log.partition_point(|change| change.version <= version);
        self.log
            .range(start..)
            .filter(move |change| change.kind == kind)
    }
}

/// Namespace and name of an object.
pub(crate) fn key_of(object: &Value) -> Key {
    (
        text_or_empty(object, "/metadata/namespace").to_owned(),
        text_or_empty(object, "/metadata/name").to_owned(),
    )
}

/// Whether an object's deletion was asked for.
pub(crate) fn is_deleting(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

/// Whether nothing holds an object any more whose deletion was asked for.
fn is_finished(kind: Kind, object: &Value) -> bool {
    let held = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|finalizers| !finalizers.is_empty());
    // A pod also waits for its kubelet, which deletes it with a grace of nothing.
    let kubelet = kind == Kind::Pod
        && crate::json::integer(object, "/metadata/deletionGracePeriodSeconds") != Some(0);
    is_deleting(object) && !held && !kubelet
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_that_changes_nothing_keeps_the_version() {
        let mut store = Store::default();
        store.put(Kind::Node, json!({"metadata": {"name": "n"}}));
        let key = (String::new(), "n".to_owned());
        let before = store.version();
        assert!(store.update(Kind::Node, &key, |_| {}));
        assert_eq!(store.version(), before);
        store.update(Kind::Node, &key, |node| {
            set(node, "/spec/unschedulable", true);
        });
        assert_eq!(store.version(), before + 1);
        assert_eq!(store.changes_after(Kind::Node, before).count(), 1);
        assert_eq!(store.changes_after(Kind::Pod, 0).count(), 0);
    }

    #[test]
    fn a_finalizer_holds_an_object_until_it_goes() {
        let mut store = Store::default();
        store.put(
            Kind::Node,
            json!({"metadata": {"name": "n", "finalizers": ["x"], "deletionTimestamp": "t"}}),
        );
        let key = (String::new(), "n".to_owned());
        store.update(Kind::Node, &key, |node| set(node, "/spec/a", 1));
        assert!(store.get(Kind::Node, "", "n").is_some());
        store.update(Kind::Node, &key, |node| {
            set(node, "/metadata/finalizers", Vec::<Value>::new());
        });
        assert!(store.get(Kind::Node, "", "n").is_none());
    }

    #[test]
    fn the_log_is_bounded_and_says_from_where_it_is_whole() {
        let mut store = Store::default();
        for number in 0..=MAX_LOG {
            store.put(
                Kind::Event,
                json!({"metadata": {"name": number.to_string()}}),
            );
        }
        assert_eq!(store.compacted(), 1);
        assert_eq!(store.changes_after(Kind::Event, 1).count(), MAX_LOG);
    }
}
