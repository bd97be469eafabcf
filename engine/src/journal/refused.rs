//! The refusals that were told last, and when: what keeps the journal from being told the same again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decision::{Origin, Refusal, RefusalKey, Told};
use crate::names::{NodeName, PoolName};

/// Refusals kept at most: three rules on each of 20,000 nodes, some 4 MB. Nodes that others delete leave
/// theirs behind; one that is forgotten is journaled once more if it still stands.
const REFUSED_KEPT: usize = 65_536;

/// The refusals that were told last, by whose asking for what, and of which node.
///
/// One rule may ask for the same of thousands of nodes, so what these have in common is there once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Refused {
    told: BTreeMap<Asked, BTreeMap<Option<NodeName>, Told>>,
    count: usize,
}

/// A pool, and who asks for what there.
type Asked = (PoolName, String);

impl Refused {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was told last under this key.
    pub(crate) fn get(&self, key: &RefusalKey) -> Option<Told> {
        self.told.get(&key.asked)?.get(&key.node).copied()
    }

    /// Notes what is told. Of too many the oldest are forgotten.
    pub(super) fn tell(&mut self, refusal: &Refusal) {
        let key = refusal.key();
        let told = Told::after(self.get(&key), refusal);
        self.insert(key, told);
        if self.count > REFUSED_KEPT {
            self.forget_oldest();
        }
    }

    fn insert(&mut self, key: RefusalKey, told: Told) {
        let nodes = self.told.entry(key.asked).or_default();
        if nodes.insert(key.node, told).is_none() {
            self.count += 1;
        }
    }

    /// Forgets a quarter: it is looked through seldom.
    fn forget_oldest(&mut self) {
        let all = self.told.values().flat_map(BTreeMap::values);
        let mut times: Vec<_> = all.map(|told| told.at).collect();
        let quarter = times.len() / 4;
        let (before, until, _) = times.select_nth_unstable(quarter);
        let until = *until;
        // Of those that were told at the same time, so many.
        let mut ties = before.iter().filter(|at| **at == until).count();
        self.told.retain(|_, nodes| {
            nodes.retain(|_, told| {
                let tied = told.at == until && ties > 0;
                ties -= usize::from(tied);
                !tied && told.at >= until
            });
            !nodes.is_empty()
        });
        self.count = self.told.values().map(BTreeMap::len).sum();
    }

    /// What `origin` asked for of the pool or of this node is granted.
    pub(super) fn grant(&mut self, pool: &PoolName, node: Option<&NodeName>, origin: &Origin) {
        let by = Refusal::prefix(origin);
        // Keys that begin alike follow each other.
        let from = (pool.clone(), by.clone());
        let of = |(of, asked): &&Asked| of == pool && asked.starts_with(&by);
        let asked = self.told.range(from..).map(|(asked, _)| asked);
        let granted: Vec<_> = asked.take_while(of).cloned().collect();
        let node = node.cloned();
        for asked in granted {
            if let Entry::Occupied(mut entry) = self.told.entry(asked) {
                self.count -= usize::from(entry.get_mut().remove(&node).is_some());
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
    }

    /// Nothing more is said of this node.
    pub(super) fn forget_node(&mut self, node: &NodeName) {
        let node = Some(node.clone());
        self.told.retain(|_, nodes| {
            self.count -= usize::from(nodes.remove(&node).is_some());
            !nodes.is_empty()
        });
    }

    /// What `origin` asked for anywhere is said anew the next time.
    pub(super) fn forget_origin(&mut self, origin: &Origin) {
        let by = Refusal::prefix(origin);
        self.told.retain(|(_, asked), nodes| {
            let its = asked.starts_with(&by);
            self.count -= if its { nodes.len() } else { 0 };
            !its
        });
    }
}

/// In snapshots, a list of pairs: the pool, the node and what was asked for; and what was told.
impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.told.iter().flat_map(|((pool, asked), nodes)| {
            let of_node = move |(node, told)| ((pool, node, asked), told);
            nodes.iter().map(of_node)
        });
        serializer.collect_seq(pairs)
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Pair = ((PoolName, Option<NodeName>, String), Told);
        let mut refused = Self::default();
        for ((pool, node, asked), told) in Vec::<Pair>::deserialize(deserializer)? {
            let asked = (pool, asked);
            refused.insert(RefusalKey { asked, node }, told);
        }
        Ok(refused)
    }
}
