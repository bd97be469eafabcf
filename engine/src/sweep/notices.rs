//! What a sweep leaves to a human, told when it begins and when it is over.

use std::collections::BTreeMap;

use super::Orphan;
use crate::engine::Engine;
use crate::names::{NodeName, PoolName};
use crate::notice::{Notice, NoticeKind};
use crate::time::Now;

impl Engine {
    /// Says how many VMs of each pool wait for an operator's word, when that changes.
    pub(super) fn tell_unadopted(&mut self, now: Now, orphans: &[Orphan]) {
        let mut waiting: BTreeMap<PoolName, usize> = BTreeMap::new();
        for orphan in orphans.iter().filter(|orphan| orphan.kept.is_some()) {
            if let Some(pool) = self.world.cluster.pool_name(orphan.pool) {
                *waiting.entry(pool.clone()).or_default() += 1;
            }
        }
        let before = std::mem::replace(&mut self.sweep.told, waiting.clone());
        for (pool, count) in &waiting {
            if before.get(pool) != Some(count) {
                let text = format!(
                    "{count} VMs of {pool} carry our marks and the journal does not know them: \
                     they count, and are not touched until `rhizome adopt` says so"
                );
                let pool = Some(pool.clone());
                self.notice(now, NoticeKind::NotAdopted, true, pool, text);
            }
        }
        for pool in before
            .into_keys()
            .filter(|pool| !waiting.contains_key(pool))
        {
            let text = format!("the journal knows every VM of {pool}");
            self.notice(now, NoticeKind::NotAdopted, false, Some(pool), text);
        }
    }

    /// I26: not in the cloud's lists, and alive. One of the two is wrong, and a human has to say.
    pub(super) fn tell_missing(&mut self, now: Now) {
        let mut alive = BTreeMap::new();
        let mut begun = Vec::new();
        for (slot, member) in self.widows() {
            let Some(life) = self.life(now, slot, member) else {
                continue;
            };
            let (node, pool) = (&member.name, member.pool);
            let pool = pool.and_then(|pool| self.world.cluster.pool_name(pool).cloned());
            if !self.sweep.missing.contains_key(node) {
                let text = format!(
                    "the cloud does not show the VM of {node}, and {life}: nothing is deleted"
                );
                begun.push((node.clone(), pool.clone(), text));
            }
            alive.insert(node.clone(), pool);
        }
        for (node, pool, text) in begun {
            self.missing_notice(now, true, node, pool, text);
        }
        let before = std::mem::replace(&mut self.sweep.missing, alive);
        for (node, pool) in before {
            if !self.sweep.missing.contains_key(&node) {
                let text = format!("over: the cloud did not show the VM of {node}, which lived");
                self.missing_notice(now, false, node, pool, text);
            }
        }
    }

    fn missing_notice(
        &mut self,
        now: Now,
        on: bool,
        node: NodeName,
        pool: Option<PoolName>,
        text: String,
    ) {
        self.out.notices.push(Notice {
            at: now.wall,
            kind: NoticeKind::VmMissing,
            on,
            pool,
            subject: Some(node.to_string()),
            text,
        });
    }
}
