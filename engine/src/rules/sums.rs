//! A pool's windows by difference: what a node's record changes is taken out of the pool's sum
//! and put in anew, so that nobody reads every member to judge a pool.
//!
//! What comes out is to the last bit what [`Windows::read_pool`](crate::window::Windows::read_pool)
//! says, because both add whole numbers. A pane that begins, or a member that comes or goes,
//! has the pool read as a whole once.

use std::time::Duration;

use crate::cluster::PoolSlot;
use crate::policy::{Signal, SignalReader};
use crate::signals::{PoolReader, Sight};
use crate::window::{ExactSum, MetricSlot, NodeSlot, Part, Reading, Span, Stat};

/// Changes of a pool that are kept for sums that are read seldom, before each of its members.
/// More than its members are dearer to follow than the pool is to read.
const CHANGES_KEPT: usize = 64;

/// The sums of all pools.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) pools: Vec<PoolSums>,
    /// By signal and node slot: what the node has in its pool's sum; not a number if nothing.
    shares: Vec<Vec<f64>>,
    /// The same of its pool's span.
    pub(super) parts: Vec<Vec<Part>>,
}

#[derive(Debug, Default)]
pub(super) struct PoolSums {
    /// Nodes whose windows have changed, the newest last; one may be in it more than once.
    pub(super) changed: Vec<NodeSlot>,
    /// Of the signals that were read, the few there are.
    sums: Vec<Kept<ExactSum>>,
    /// Of those that were asked for their span.
    pub(super) spans: Vec<Kept<Span>>,
    /// Whether a signal was read that no sum is kept of.
    dear: bool,
}

/// What a sum was made of. If any of it is another now, so is all of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Basis {
    pane: i64,
    members: u64,
}

/// What is kept of a pool for a signal.
#[derive(Debug)]
pub(super) struct Kept<T> {
    signal: u32,
    basis: Option<Basis>,
    /// How many of `changed` are in it.
    followed: usize,
    pub(super) total: T,
}

/// A signal over a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) metric: MetricSlot,
    pub(super) stat: Stat,
    pub(super) window: Duration,
}

impl Basis {
    pub(super) fn of(sight: Sight<'_>, pool: PoolSlot, metric: MetricSlot) -> Option<Self> {
        Some(Self {
            pane: sight.windows.pane(metric, sight.now.wall)?,
            members: sight.cluster.changes_of(pool),
        })
    }
}

/// A total over the nodes of a pool, kept by difference.
pub(super) trait Total: Default {
    /// What a node has in it.
    type Share: Copy;
    /// That of a node which has nothing in it.
    const NOTHING: Self::Share;

    fn put_in(&mut self, share: Self::Share);
    fn take_out(&mut self, share: Self::Share);
}

impl Total for ExactSum {
    type Share = f64;
    const NOTHING: f64 = f64::NAN;

    fn put_in(&mut self, share: f64) {
        if !share.is_nan() {
            self.add(share);
        }
    }

    fn take_out(&mut self, share: f64) {
        if !share.is_nan() {
            self.remove(share);
        }
    }
}

impl Total for Span {
    type Share = Part;
    const NOTHING: Part = Part::Nothing;

    fn put_in(&mut self, share: Part) {
        self.add(share);
    }

    fn take_out(&mut self, share: Part) {
        self.remove(share);
    }
}

impl<T: Default> Kept<T> {
    /// What is kept for the signal, which may be nothing yet.
    pub(super) fn of(all: &mut Vec<Self>, signal: u32) -> Option<&mut Self> {
        let at = match all.iter().position(|kept| kept.signal == signal) {
            Some(at) => at,
            None => {
                all.push(Self {
                    signal,
                    basis: None,
                    followed: 0,
                    total: T::default(),
                });
                all.len() - 1
            }
        };
        all.get_mut(at)
    }
}

impl<T: Total> Kept<T> {
    /// Takes in what has changed since; all of the members if what it was made of is another now.
    ///
    /// `shares` is what each node has in it, by node slot.
    pub(super) fn follow(
        &mut self,
        basis: Basis,
        members: &[NodeSlot],
        changed: &[NodeSlot],
        shares: &mut Vec<T::Share>,
        share: impl Fn(NodeSlot) -> T::Share,
    ) {
        if self.basis == Some(basis) {
            for slot in changed.get(self.followed..).unwrap_or_default() {
                if let Some(kept) = shares.get_mut(slot.0 as usize) {
                    let new = share(*slot);
                    self.total.take_out(std::mem::replace(kept, new));
                    self.total.put_in(new);
                }
            }
        } else {
            self.total = T::default();
            // They are in order.
            let slots = members.last().map_or(0, |last| last.0 as usize + 1);
            if shares.len() < slots {
                shares.resize(slots, T::NOTHING);
            }
            for slot in members {
                let new = share(*slot);
                self.total.put_in(new);
                if let Some(kept) = shares.get_mut(slot.0 as usize) {
                    *kept = new;
                }
            }
            self.basis = Some(basis);
        }
        self.followed = changed.len();
    }

    /// What was noted as changed is forgotten: who did not follow it has to begin anew.
    fn forget(&mut self, noted: usize) {
        if self.followed < noted {
            self.basis = None;
        }
        self.followed = 0;
    }
}

impl Sums {
    pub(super) fn new(pools: usize) -> Self {
        Self {
            pools: (0..pools).map(|_| PoolSums::default()).collect(),
            shares: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// The windows of a node of the pool have changed.
    pub(super) fn changed(&mut self, pool: PoolSlot, slot: NodeSlot, members: usize) {
        let Some(of_pool) = self.pools.get_mut(usize::from(pool.0)) else {
            return;
        };
        let noted = of_pool.changed.len();
        let sums = of_pool.sums.iter().map(|sum| sum.followed);
        let spans = of_pool.spans.iter().map(|span| span.followed);
        let Some(furthest) = sums.chain(spans).max() else {
            return;
        };
        if furthest < noted && of_pool.changed.last() == Some(&slot) {
            return;
        }
        if noted >= members.max(CHANGES_KEPT) {
            of_pool.sums.iter_mut().for_each(|sum| sum.forget(noted));
            of_pool.spans.iter_mut().for_each(|span| span.forget(noted));
            of_pool.changed.clear();
        }
        of_pool.changed.push(slot);
    }

    /// Whether judging the pool means to look at all its members.
    pub(super) fn is_dear(&self, pool: PoolSlot) -> bool {
        self.pools
            .get(usize::from(pool.0))
            .is_some_and(|pool| pool.dear)
    }

    fn read(&mut self, sight: Sight<'_>, pool: PoolSlot, signal: u32, asked: Asked) -> Option<f64> {
        let basis = Basis::of(sight, pool, asked.metric)?;
        let of_pool = self.pools.get_mut(usize::from(pool.0))?;
        let members = sight.cluster.in_pool(pool);
        let sum = Kept::of(&mut of_pool.sums, signal)?;
        let shares = of_signal(&mut self.shares, signal)?;
        sum.follow(basis, members, &of_pool.changed, shares, |slot| {
            share(sight, slot, asked)
        });
        let total = sum.total.sum()?;
        Some(match asked.stat {
            Stat::Count => total,
            Stat::Coverage => total / members.len().max(1) as f64,
            _ if sum.total.count() == 0 => f64::NAN,
            _ => total / f64::from(sum.total.count()),
        })
    }
}

/// What is kept of each node for a signal.
pub(super) fn of_signal<S>(all: &mut Vec<Vec<S>>, signal: u32) -> Option<&mut Vec<S>> {
    let place = signal as usize;
    if all.len() <= place {
        all.resize_with(place + 1, Vec::new);
    }
    all.get_mut(place)
}

/// What a node adds to the sum; not a number if nothing.
fn share(sight: Sight<'_>, slot: NodeSlot, asked: Asked) -> f64 {
    let Asked {
        metric,
        stat,
        window,
    } = asked;
    let value = sight
        .windows
        .value(slot, metric, stat, window, sight.now.wall);
    value.unwrap_or(f64::NAN)
}

/// Reads a pool as [`PoolReader`] does, and its windows by difference.
pub(super) struct SumReader<'a> {
    pub(super) reader: PoolReader<'a>,
    pub(super) sums: &'a mut Sums,
}

impl SignalReader for SumReader<'_> {
    fn read(&mut self, index: u32, signal: &Signal) -> Reading {
        self.reader.read(index, signal)
    }

    fn value(&mut self, index: u32, signal: &Signal) -> Option<f64> {
        let PoolReader { sight, pool } = self.reader;
        match signal {
            Signal::Window {
                metric,
                stat:
                    stat @ (Stat::Mean
                    | Stat::StdDev
                    | Stat::Ewma
                    | Stat::Slope
                    | Stat::Rate
                    | Stat::Count
                    | Stat::Last
                    | Stat::Coverage),
                window,
                ..
            } => {
                let asked = Asked {
                    metric: *metric,
                    stat: *stat,
                    window: *window,
                };
                match self.sums.read(sight, pool, index, asked) {
                    Some(value) => (!value.is_nan()).then_some(value),
                    // A value that is too large for a sum, or no such window.
                    None => self.reader.read(index, signal).value,
                }
            }
            Signal::Size | Signal::ReadyNodes => self.reader.read(index, signal).value,
            _ => {
                if let Some(of_pool) = self.sums.pools.get_mut(usize::from(pool.0)) {
                    of_pool.dear = true;
                }
                self.reader.read(index, signal).value
            }
        }
    }
}

#[cfg(test)]
mod tests;
