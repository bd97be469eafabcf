//! Labels and taints of nodes: what pods are placed by.
//!
//! The nodes of a pool have the same ones but for their own name, so they are kept once for all
//! that have them, and go with the last of these.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{NodeView, Taint};

/// A key, and its value; one that is the node's own name is none here.
type Label = (Box<str>, Option<Box<str>>);

/// What pods are placed by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// In the order of their keys.
    labels: Box<[Label]>,
    /// What keeps pods off that do not bear it.
    taints: Box<[Taint]>,
}

impl Placement {
    /// That of a node.
    pub fn of(view: &NodeView) -> Self {
        Self {
            labels: labels_of(view)
                .map(|(key, value)| (key.into(), value.map(Box::from)))
                .collect(),
            taints: view.taints.as_slice().into(),
        }
    }

    /// Whether the node still has it.
    pub(super) fn is_of(&self, view: &NodeView) -> bool {
        let own = self.labels.iter();
        own.map(|(key, value)| (&**key, value.as_deref()))
            .eq(labels_of(view))
            && *self.taints == *view.taints
    }

    /// What keeps pods off.
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }

    /// The value of a label, of the node of this name.
    pub fn label<'a>(&'a self, key: &str, name: &'a str) -> Option<&'a str> {
        let place = self.labels.binary_search_by(|(own, _)| (**own).cmp(key));
        let (_, value) = self.labels.get(place.ok()?)?;
        Some(value.as_deref().unwrap_or(name))
    }
}

/// The labels in the order of their keys, without the values that are the node's own name.
fn labels_of(view: &NodeView) -> impl Iterator<Item = (&str, Option<&str>)> {
    let name = view.name.as_str();
    let named = move |value: &&str| *value != name;
    let labels = view.labels.iter();
    labels.map(move |(key, value)| (key, Some(value).filter(named)))
}

/// Those that nodes have, and how many nodes have each.
#[derive(Debug, Default)]
pub(super) struct Placements {
    kept: BTreeMap<Arc<Placement>, usize>,
}

impl Placements {
    /// That of a node which had `before`, or had none.
    pub(super) fn share(
        &mut self,
        before: Option<&Arc<Placement>>,
        view: &NodeView,
    ) -> Arc<Placement> {
        if let Some(before) = before.filter(|before| before.is_of(view)) {
            return Arc::clone(before);
        }
        let placement = Arc::new(Placement::of(view));
        let kept = self.kept.get_key_value(&placement);
        let shared = kept.map_or(placement, |(kept, _)| Arc::clone(kept));
        *self.kept.entry(Arc::clone(&shared)).or_default() += 1;
        if let Some(before) = before {
            self.let_go(before);
        }
        shared
    }

    /// A node has it no more.
    pub(super) fn let_go(&mut self, placement: &Arc<Placement>) {
        if let Some(count) = self.kept.get_mut(placement) {
            *count -= 1;
            if *count == 0 {
                self.kept.remove(placement);
            }
        }
    }

    /// How many different ones there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}
