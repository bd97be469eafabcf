//! What runs on the nodes, as far as it matters when one of them is to be emptied.
//!
//! Pods of one Deployment are alike, so they are told as shapes and how many of each: a cluster of
//! thousands of pods has some dozens of shapes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Requests;

/// What runs on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodePods {
    /// What all its pods ask for together.
    pub requests: Requests,
    /// The pods that a drain would evict: the place of their shape in the list of shapes that it
    /// came with, and how many there are of it.
    pub movable: Vec<(u32, u32)>,
    /// Pods that no drain may evict, by their users' word or because they would be lost.
    pub held: u32,
}

/// What the scheduler looks at before it places a pod, as far as it is followed here.
///
/// Not told: affinities, topology spread, host ports, where volumes are, and whatever is asked for
/// beside cpu and memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodShape {
    /// What one pod asks for; its `pods` is 1.
    pub requests: Requests,
    /// `spec.nodeSelector`: the labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// The taints that it bears.
    pub tolerations: Vec<Toleration>,
}

/// A taint of a node that keeps pods off it (`NoSchedule` and `NoExecute`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty if it has none.
    pub value: String,
    /// `NoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Taints that a pod bears.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Toleration {
    /// Their key; none for every key.
    pub key: Option<String>,
    /// Their value; none for every value (`operator: Exists`).
    pub value: Option<String>,
    /// Their effect; none for every effect.
    pub effect: Option<String>,
}

impl Toleration {
    /// Whether it bears the taint.
    pub fn bears(&self, taint: &Taint) -> bool {
        let is = |wanted: &Option<String>, has: &String| wanted.as_ref().is_none_or(|w| w == has);
        is(&self.key, &taint.key)
            && is(&self.value, &taint.value)
            && is(&self.effect, &taint.effect)
    }
}
