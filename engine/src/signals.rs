//! What a condition or a body reads, of one node or of one pool.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{Cluster, Member, PoolSlot};
use crate::event::{Ready, Requests, ServerStatus};
use crate::guard::Suspects;
use crate::policy::{Signal, SignalReader};
use crate::settings::Settings;
use crate::time::Now;
use crate::window::{NodeSlot, Reading, Windows};

/// Everything that signals are read from, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) now: Now,
    pub(crate) cluster: &'a Cluster,
    pub(crate) windows: &'a Windows,
    pub(crate) settings: &'a Settings,
    /// Since when the inputs that heartbeats come by have been flowing without a break;
    /// nothing while they do not.
    pub(crate) flowing_since: Option<Now>,
    /// From when silence and illness are counted at the earliest.
    pub(crate) calm: &'a Calm,
    /// Who may be silent or ill.
    pub(crate) suspects: &'a Suspects,
    /// What is being made, by pool slot.
    pub(crate) in_flight: &'a [InFlight],
}

/// What is being made for a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InFlight {
    /// VMs that are not listed yet.
    pub(crate) unlisted: u32,
    /// Nodes whose replacement counts beside them: each pair will be one.
    pub(crate) replaced: u32,
    /// Nodes that will add to the pool's room and do not serve yet.
    pub(crate) coming: u32,
}

/// When the last storm of each pool ended, and when the clock was last stepped, in this run:
/// after either every node's timers start at zero (I11).
#[derive(Debug, Default)]
pub(crate) struct Calm {
    clock: Option<Now>,
    storms: BTreeMap<PoolSlot, Now>,
}

impl Calm {
    /// The clocks have parted now.
    pub(crate) fn clock_stepped(&mut self, now: Now) {
        self.clock = Some(now);
    }

    /// The pool's storm is over now.
    pub(crate) fn storm_over(&mut self, pool: PoolSlot, now: Now) {
        self.storms.insert(pool, now);
    }

    fn since(&self, pool: Option<PoolSlot>) -> Option<Now> {
        let storm = pool.and_then(|pool| self.storms.get(&pool)).copied();
        let both = storm.into_iter().chain(self.clock);
        both.max_by_key(|from| from.mono)
    }
}

/// Reads for one node.
pub(crate) struct NodeReader<'a> {
    pub(crate) sight: Sight<'a>,
    pub(crate) slot: NodeSlot,
}

/// Reads for one pool.
pub(crate) struct PoolReader<'a> {
    pub(crate) sight: Sight<'a>,
    pub(crate) pool: PoolSlot,
}

impl Sight<'_> {
    /// How long the member's agent has been silent while its input flows.
    ///
    /// Nothing while the input cannot be heard: then silence says nothing of the node. The
    /// count begins at the last sign of life, at the member's first sight, or when the flow
    /// began again, whichever is latest (I11, I12: timers restart at zero).
    pub(crate) fn silence(&self, slot: NodeSlot, member: &Member) -> Option<Duration> {
        let flowing = self.flowing_since?;
        let heard = self.windows.last_heard(slot).unwrap_or_default();
        let from = heard.max(flowing.wall).max(member.born());
        Some(self.since_calm(member, self.now.wall.since(from)))
    }

    /// A length of silence or illness, counted from the end of the pool's last storm at most.
    fn since_calm(&self, member: &Member, length: Duration) -> Duration {
        match self.calm.since(member.pool) {
            Some(from) => length.min(self.now.mono.since(from.mono)),
            None => length,
        }
    }

    /// Nodes of the pool, in flight and silent ones counted; a node and its replacement are one.
    pub(crate) fn size(&self, pool: PoolSlot) -> u32 {
        let replaced = self.in_flight(pool).replaced;
        self.vms(pool).saturating_sub(replaced)
    }

    /// VMs of the pool, in flight and silent ones counted (I1).
    pub(crate) fn vms(&self, pool: PoolSlot) -> u32 {
        let in_flight = self.in_flight(pool).unlisted;
        let members = u32::try_from(self.cluster.in_pool(pool).len()).unwrap_or(u32::MAX);
        members.saturating_add(in_flight)
    }

    fn in_flight(&self, pool: PoolSlot) -> InFlight {
        self.in_flight
            .get(usize::from(pool.0))
            .copied()
            .unwrap_or_default()
    }

    /// Nodes of the pool that serve.
    pub(crate) fn ready(&self, pool: PoolSlot) -> u32 {
        let kubernetes = self.pool_settings(pool).is_none_or(|pool| pool.kubernetes);
        self.cluster.serving(pool, kubernetes)
    }

    pub(crate) fn pool_settings(&self, pool: PoolSlot) -> Option<&crate::settings::PoolSettings> {
        self.settings.pools.get(self.cluster.pool_name(pool)?)
    }

    fn node_flag(&self, signal: &Signal, slot: NodeSlot, member: &Member) -> Option<bool> {
        match signal {
            Signal::Silent(length) => Some(self.silence(slot, member)? >= *length),
            Signal::NotReady(length) => {
                member.node.as_ref()?;
                let grace = self.settings.limits.lease_grace;
                let ill = member.not_ready_for(self.now.mono, grace);
                let ill = ill.map(|ill| self.since_calm(member, ill));
                Some(ill.is_some_and(|ill| ill >= *length))
            }
            Signal::VmStatus(status) => {
                Some(status_word(&member.server.as_ref()?.status) == status.as_str())
            }
            _ => None,
        }
    }

    /// Whether the pool's pods would fit, by their requests, on one node less.
    fn fits_on_fewer(&self, pool: PoolSlot) -> Option<bool> {
        let mut room = Requests::default();
        let mut asked = Requests::default();
        let mut largest = Requests::default();
        let mut nodes = 0u32;
        for member in self.cluster.pool(pool) {
            let Some(node) = member
                .node
                .as_ref()
                .filter(|node| node.ready == Ready::True)
            else {
                continue;
            };
            nodes += 1;
            add(&mut room, node.allocatable);
            add(&mut asked, self.cluster.requests(&member.name)?);
            largest.cpu_millis = largest.cpu_millis.max(node.allocatable.cpu_millis);
            largest.memory_bytes = largest.memory_bytes.max(node.allocatable.memory_bytes);
            largest.pods = largest.pods.max(node.allocatable.pods);
        }
        Some(
            nodes >= 2
                && asked.cpu_millis + largest.cpu_millis <= room.cpu_millis
                && asked.memory_bytes + largest.memory_bytes <= room.memory_bytes
                && asked.pods + largest.pods <= room.pods,
        )
    }

    /// Pods that wait for room which a node of this pool could give, less those that fit on the
    /// nodes which are on their way. What a node will have to give is not known before the first
    /// one: then one that is on its way is waited for.
    fn unschedulable(&self, pool: PoolSlot) -> u32 {
        let Some(settings) = self.pool_settings(pool) else {
            return 0;
        };
        let capacity = self.capacity(pool, settings.node_capacity);
        let fits = |pod: &&crate::event::PodView| {
            let labels = pod
                .node_selector
                .iter()
                .all(|(key, value)| settings.labels.get(key) == Some(value));
            let room = capacity.is_none_or(|capacity| {
                pod.requests.cpu_millis <= capacity.cpu_millis
                    && pod.requests.memory_bytes <= capacity.memory_bytes
            });
            labels && room
        };
        let waiting = self.cluster.unschedulable().iter().filter(fits);
        let coming = self.in_flight(pool).coming;
        let left = match capacity {
            Some(capacity) => left_over(waiting, capacity, coming),
            None if coming > 0 => 0,
            None => waiting.count(),
        };
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn capacity(&self, pool: PoolSlot, told: Requests) -> Option<Requests> {
        if told != Requests::default() {
            return Some(told);
        }
        self.cluster
            .pool(pool)
            .find_map(|member| member.node.as_ref())
            .map(|node| node.allocatable)
    }
}

impl SignalReader for NodeReader<'_> {
    fn read(&mut self, _index: u32, signal: &Signal) -> Reading {
        let Some(member) = self.sight.cluster.member(self.slot) else {
            return Reading::default();
        };
        match signal {
            Signal::Window {
                metric,
                stat,
                window,
                ..
            } => self
                .sight
                .windows
                .read(self.slot, *metric, *stat, *window, self.sight.now.wall),
            Signal::Silent(_) | Signal::NotReady(_) | Signal::VmStatus(_) => {
                flag(self.sight.node_flag(signal, self.slot, member))
            }
            Signal::UnschedulablePods | Signal::FitsOnFewer | Signal::Size | Signal::ReadyNodes => {
                member.pool.map_or(Reading::default(), |pool| {
                    PoolReader {
                        sight: self.sight,
                        pool,
                    }
                    .read(0, signal)
                })
            }
        }
    }

    fn value(&mut self, index: u32, signal: &Signal) -> Option<f64> {
        match signal {
            Signal::Window {
                metric,
                stat,
                window,
                ..
            } => self
                .sight
                .windows
                .value(self.slot, *metric, *stat, *window, self.sight.now.wall),
            _ => self.read(index, signal).value,
        }
    }
}

/// Readings that are made once for all the rules that look at a node in one moment.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Which moment it is.
    moment: u64,
    /// By signal: the moment it was read in, and the value.
    values: Vec<(u64, Option<f64>)>,
}

impl Memo {
    /// Another moment, or another node.
    pub(crate) fn begin(&mut self) {
        self.moment += 1;
    }
}

/// Reads for one node, each signal once.
pub(crate) struct MemoReader<'a> {
    pub(crate) reader: NodeReader<'a>,
    pub(crate) memo: &'a mut Memo,
}

impl SignalReader for MemoReader<'_> {
    fn read(&mut self, index: u32, signal: &Signal) -> Reading {
        self.reader.read(index, signal)
    }

    fn value(&mut self, index: u32, signal: &Signal) -> Option<f64> {
        let Memo { moment, values } = self.memo;
        let place = index as usize;
        if values.len() <= place {
            values.resize(place + 1, (0, None));
        }
        let kept = values.get_mut(place)?;
        if kept.0 != *moment {
            *kept = (*moment, self.reader.value(index, signal));
        }
        kept.1
    }
}

impl SignalReader for PoolReader<'_> {
    fn read(&mut self, _index: u32, signal: &Signal) -> Reading {
        let sight = &self.sight;
        match signal {
            Signal::Window {
                metric,
                stat,
                window,
                ..
            } => sight.windows.read_pool(
                sight.cluster.in_pool(self.pool),
                *metric,
                *stat,
                *window,
                sight.now.wall,
            ),
            Signal::Silent(_) | Signal::NotReady(_) | Signal::VmStatus(_) => {
                let mut count = 0u32;
                for slot in sight.cluster.in_pool(self.pool) {
                    let Some(member) = sight.cluster.member(*slot) else {
                        continue;
                    };
                    match sight.node_flag(signal, *slot, member) {
                        Some(true) => count += 1,
                        Some(false) => {}
                        None if matches!(signal, Signal::Silent(_)) => return Reading::default(),
                        None => {}
                    }
                }
                number(Some(count))
            }
            Signal::UnschedulablePods => number(Some(sight.unschedulable(self.pool))),
            Signal::FitsOnFewer => flag(sight.fits_on_fewer(self.pool)),
            Signal::Size => number(Some(sight.size(self.pool))),
            Signal::ReadyNodes => number(Some(sight.ready(self.pool))),
        }
    }
}

/// Nova's word for a status.
pub(crate) fn status_word(status: &ServerStatus) -> &str {
    match status {
        ServerStatus::Build => "BUILD",
        ServerStatus::Active => "ACTIVE",
        ServerStatus::Shutoff => "SHUTOFF",
        ServerStatus::Reboot => "REBOOT",
        ServerStatus::Rebuild => "REBUILD",
        ServerStatus::Error => "ERROR",
        ServerStatus::Deleted => "DELETED",
        ServerStatus::Unknown => "UNKNOWN",
        ServerStatus::Other(word) => word,
    }
}

/// How many of the pods find no room on `nodes` new ones, each put on the first where it fits.
fn left_over<'a>(
    pods: impl Iterator<Item = &'a crate::event::PodView>,
    capacity: Requests,
    nodes: u32,
) -> usize {
    // How many pods a node takes may not be told.
    let most = if capacity.pods == 0 {
        u32::MAX
    } else {
        capacity.pods
    };
    let room = Requests {
        pods: most,
        ..capacity
    };
    let mut rooms = vec![room; nodes as usize];
    let mut taken = |asked: &Requests| {
        let fits = |room: &&mut Requests| {
            room.cpu_millis >= asked.cpu_millis
                && room.memory_bytes >= asked.memory_bytes
                && room.pods > 0
        };
        let Some(room) = rooms.iter_mut().find(fits) else {
            return false;
        };
        room.cpu_millis -= asked.cpu_millis;
        room.memory_bytes -= asked.memory_bytes;
        room.pods -= 1;
        true
    };
    pods.filter(|pod| !taken(&pod.requests)).count()
}

fn add(sum: &mut Requests, more: Requests) {
    sum.cpu_millis = sum.cpu_millis.saturating_add(more.cpu_millis);
    sum.memory_bytes = sum.memory_bytes.saturating_add(more.memory_bytes);
    sum.pods = sum.pods.saturating_add(more.pods);
}

fn flag(value: Option<bool>) -> Reading {
    number(value.map(u32::from))
}

/// A fact that is either known whole or not at all.
fn number(value: Option<u32>) -> Reading {
    Reading {
        value: value.map(f64::from),
        coverage: if value.is_some() { 1.0 } else { 0.0 },
    }
}

#[cfg(test)]
mod tests;
