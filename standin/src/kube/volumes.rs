//! What the attach-detach controller does about volumes that are attached: they go when no pod
//! uses them any more, at once or after a while.
//!
//! Claims and the volumes behind them are not kept here. An attachment counts as in use while any
//! pod on its node has a claim.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome_engine::time::Timestamp;
use serde_json::Value;

use super::kinds::Kind;
use super::lifecycle::is_out_of_service;
use super::pods::is_ready;
use super::store::{Key, key_of};
use crate::json::{items, text, text_or_empty};
use crate::world::World;

/// How long an attachment that nobody uses stays on a node that does not say that it let go of it
/// (seen: 6 min 0.2 s).
const FORCED_DETACH: Duration = Duration::from_secs(360);

impl World {
    /// Lets attachments go that no pod uses: at once from a node that is Ready or out of service.
    pub(super) fn detach_volumes(&mut self) {
        let now = self.now;
        let attached: Vec<(Key, String)> = self
            .cluster
            .list(Kind::VolumeAttachment)
            .map(|one| (key_of(one), text_or_empty(one, "/spec/nodeName").to_owned()))
            .collect();
        let keys: BTreeSet<Key> = attached.iter().map(|(key, _)| key.clone()).collect();
        self.cluster
            .monitor
            .unused
            .retain(|key, _| keys.contains(key));
        for (key, node) in attached {
            if self.uses_volumes(&node) {
                self.cluster.monitor.unused.remove(&key);
                continue;
            }
            let since = *self
                .cluster
                .monitor
                .unused
                .entry(key.clone())
                .or_insert(now);
            if self.lets_go(&node, since) {
                self.cluster
                    .store
                    .remove(Kind::VolumeAttachment, &key.0, &key.1);
            }
        }
    }

    fn uses_volumes(&self, node: &str) -> bool {
        let claims = |pod: &Value| {
            items(pod, "/spec/volumes").any(|one| one.get("persistentVolumeClaim").is_some())
        };
        let mut pods = self.cluster.list(Kind::Pod);
        pods.any(|pod| text(pod, "/spec/nodeName") == Some(node) && claims(pod))
    }

    fn lets_go(&self, node: &str, unused_since: Timestamp) -> bool {
        let node = self.cluster.store.get(Kind::Node, "", node);
        node.is_some_and(|node| is_ready(node) || is_out_of_service(node))
            || self.now.since(unused_since) >= FORCED_DETACH
    }
}
