//! How many of each pool serve.
//!
//! Counted as nodes become Ready and VMs run, so that nobody looks at each member to tell a body
//! how many there are.

use super::{Cluster, Member, PoolSlot};

/// See the head of the file. By pool slot.
#[derive(Debug)]
pub(super) struct Serving(Vec<Count>);

/// Whether a pool is of Kubernetes is for the settings to say: both are counted.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    ready: u32,
    running: u32,
}

impl Serving {
    pub(super) fn new(pools: usize) -> Self {
        Self(vec![Count::default(); pools])
    }

    /// The member is in its pool as it is from now on.
    pub(super) fn enter(&mut self, member: &Member) {
        if let Some(count) = self.of(member) {
            count.ready += u32::from(member.serves(true));
            count.running += u32::from(member.serves(false));
        }
    }

    /// It is about to be another, or in another pool.
    pub(super) fn leave(&mut self, member: &Member) {
        if let Some(count) = self.of(member) {
            let (ready, running) = (member.serves(true), member.serves(false));
            count.ready = count.ready.saturating_sub(u32::from(ready));
            count.running = count.running.saturating_sub(u32::from(running));
        }
    }

    fn of(&mut self, member: &Member) -> Option<&mut Count> {
        self.0.get_mut(usize::from(member.pool?.0))
    }
}

impl Cluster {
    /// How many members of the pool serve: are Ready, or run in a pool outside Kubernetes.
    pub(crate) fn serving(&self, pool: PoolSlot, kubernetes: bool) -> u32 {
        let count = self.serving.0.get(usize::from(pool.0)).copied();
        let Count { ready, running } = count.unwrap_or_default();
        let serving = if kubernetes { ready } else { running };
        debug_assert_eq!(
            serving as usize,
            self.pool(pool).filter(|one| one.serves(kubernetes)).count(),
            "counted as they come and go"
        );
        serving
    }
}
