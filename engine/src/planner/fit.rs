//! Whether the pods of a node would find room elsewhere: who can be missed.
//!
//! The pods that a drain would evict are placed, the largest first, each on the first of the other
//! nodes that has room and takes it: the emptiest first, as the scheduler spreads. What they ask
//! of cpu and memory, how many pods a node takes, node selectors and taints are looked at;
//! affinities, topology spread, host ports, places of volumes and other resources are not. So it
//! is an order in which nodes are tried, and no promise.
//!
//! The same nodes and pods give the same answer, in whatever order they were observed.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Node, Placement};
use crate::event::{PodShape, Requests};
use crate::names::NodeName;

/// Candidates that are looked at for one removal, those that would be missed least first. A
/// removal takes one node, and is weighed again once a second while it is refused.
pub(super) const CANDIDATES_MAX: usize = 32;

/// Pods of one candidate that are placed. A kubelet takes 110 unless it is told otherwise, and the
/// large clouds tell it 250: whoever runs more counts as one whose pods do not fit.
const PODS_MAX: u32 = 256;

/// Nodes on which they are placed, the emptiest. The pods of one node that do not fit on so many
/// are too large for any of them.
const ROOMS_MAX: usize = 512;

/// What is free on a node, and who is let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room<'a> {
    name: &'a NodeName,
    placement: &'a Placement,
    free: Requests,
}

/// The room on all nodes that serve and take new pods, but for those that an operation is about.
/// None if the pods were never seen.
pub(super) fn rooms<'a>(cluster: &'a Cluster, busy: &BTreeSet<&NodeName>) -> Option<Vec<Room<'a>>> {
    let mut rooms = Vec::new();
    for (_, member) in cluster.members() {
        let taken = cluster.requests(&member.name)?;
        let serves = |node: &&Node| member.is_ready() && !node.cordoned;
        let Some(node) = member.node.as_ref().filter(serves) else {
            continue;
        };
        if !busy.contains(&member.name) {
            let has = node.allocatable;
            rooms.push(Room {
                name: &member.name,
                placement: &node.placement,
                free: Requests {
                    cpu_millis: has.cpu_millis.saturating_sub(taken.cpu_millis),
                    memory_bytes: has.memory_bytes.saturating_sub(taken.memory_bytes),
                    pods: has.pods.saturating_sub(taken.pods),
                },
            });
        }
    }
    rooms.sort_by(|one, other| (other.free, one.name).cmp(&(one.free, other.name)));
    rooms.truncate(ROOMS_MAX);
    Some(rooms)
}

/// Whether the pods of `name` that can be moved would fit on the other nodes.
pub(super) fn fits_elsewhere(cluster: &Cluster, name: &NodeName, rooms: &[Room<'_>]) -> bool {
    let mut others: Vec<_> = rooms
        .iter()
        .filter(|room| room.name != name)
        .copied()
        .collect();
    place(cluster.movable(name).collect(), &mut others)
}

/// Places the pods, as many as fit, and takes their room. Whether all of them did.
fn place(mut pods: Vec<(&PodShape, u32)>, rooms: &mut [Room<'_>]) -> bool {
    let all: u32 = pods.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n));
    if all > PODS_MAX {
        return false;
    }
    pods.sort_by(|(one, _), (other, _)| other.requests.cmp(&one.requests).then(one.cmp(other)));
    let mut whole = true;
    for (shape, count) in pods {
        let mut left = count;
        for room in rooms.iter_mut() {
            if left == 0 {
                break;
            }
            let here = room.takes(shape).min(left);
            room.fill(shape.requests, here);
            left -= here;
        }
        whole &= left == 0;
    }
    whole
}

impl Room<'_> {
    /// How many pods of the shape it takes.
    fn takes(&self, shape: &PodShape) -> u32 {
        let asked = shape.requests;
        // Who asks for nothing always has room for it.
        let times = |free: u64, asked: u64| free.checked_div(asked).unwrap_or(u64::MAX);
        let many = times(self.free.cpu_millis, asked.cpu_millis)
            .min(times(self.free.memory_bytes, asked.memory_bytes))
            .min(u64::from(self.free.pods));
        if many == 0 || !self.lets_in(shape) {
            return 0;
        }
        u32::try_from(many).unwrap_or(u32::MAX)
    }

    /// Whether the node has the labels that the pod asks for, and the pod bears the node's taints.
    fn lets_in(&self, shape: &PodShape) -> bool {
        let (has, name) = (self.placement, self.name.as_str());
        let selected = |(key, value): (&String, &String)| has.label(key, name) == Some(value);
        let bears = |taint| shape.tolerations.iter().any(|one| one.bears(taint));
        shape.node_selector.iter().all(selected) && has.taints().iter().all(bears)
    }

    fn fill(&mut self, asked: Requests, count: u32) {
        let taken = |asked: u64| asked.saturating_mul(u64::from(count));
        let free = self.free;
        self.free = Requests {
            cpu_millis: free.cpu_millis.saturating_sub(taken(asked.cpu_millis)),
            memory_bytes: free.memory_bytes.saturating_sub(taken(asked.memory_bytes)),
            pods: free.pods.saturating_sub(count),
        };
    }
}

#[cfg(test)]
mod tests;
