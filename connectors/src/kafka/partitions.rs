//! Where each partition is read from, from which record on it may decide, and how far it is.
//!
//! Pure: no clock and no broker, so that every case has a row in a table. `kafka.rs` asks the
//! broker, hands what it found to [`plan`], and moves [`Partitions`] on record by record.
//!
//! ```text
//!  low          floor             committed        live_from             high
//!   |  too old    |     refill        |                |    live           |
//!   |  (skipped)  |  fills windows    |  backlog: live, by its event time  |
//! ```
//!
//! The floor is the first record younger than the widest window and the lateness bound; what
//! lies before it can reach no window. Records before `live_from` refill windows and open no
//! edge.

use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::time::{Monotonic, Now, Timestamp};

use super::poison::Poison;

/// What the broker and the snapshot say about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// First offset that is still there.
    pub(super) low: i64,
    /// The offset that is written next.
    pub(super) high: i64,
    /// Decided up to here, by our last commit.
    pub(super) committed: Option<i64>,
    /// The id that the topic had at that commit.
    pub(super) committed_topic_id: Option<String>,
    /// The id that the topic has now, if the cluster tells.
    pub(super) topic_id: Option<String>,
    /// First record young enough for a window.
    pub(super) floor: Floor,
    /// The windows hold all before here, by a snapshot.
    pub(super) snapshot: Option<i64>,
}

/// The answer to "the first record from this time on".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floor {
    /// This one.
    At(i64),
    /// All records are older.
    AllOlder,
    /// The cluster cannot look offsets up by time: the whole partition is read.
    Unknown,
}

/// Where to begin, and what is strange about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// First record to read.
    pub(super) start: i64,
    /// First record that may decide.
    pub(super) live_from: i64,
    /// Whether `live_from` is committed already.
    pub(super) committed: bool,
    /// Records older than every window that are not read.
    pub(super) skipped: i64,
    /// What an operator must hear of.
    pub(super) surprise: Option<Surprise>,
}

/// Something about a partition that an operator must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Surprise {
    /// Records were deleted before they were decided on.
    Lost {
        /// How many offsets.
        records: i64,
    },
    /// The position lies beyond the end: truncated, or another topic of that name.
    BeyondEnd {
        /// The position.
        position: i64,
        /// The end.
        high: i64,
    },
    /// The topic was deleted, and another took its name.
    Recreated,
}

impl Found {
    /// Adds what we know of it ourselves from before it was taken away: all up to there is in
    /// the windows, and decided as far as it was acknowledged, be the commit lost.
    pub(super) fn recall(&mut self, left: &Partition) {
        if left.topic_id != self.topic_id || left.stored > self.high {
            return;
        }
        if self.committed_topic_id.is_none() || self.committed_topic_id == left.topic_id {
            self.committed = self.committed.max(Some(left.stored));
        }
        self.snapshot = self.snapshot.max(Some(left.next));
    }
}

/// Decides where to begin.
pub(super) fn plan(found: &Found) -> Plan {
    let Found { low, high, .. } = *found;
    let other_topic = matches!(
        (&found.committed_topic_id, &found.topic_id),
        (Some(then), Some(now)) if then != now
    );
    let floor = match found.floor {
        Floor::At(offset) => offset.clamp(low, high),
        Floor::AllOlder => high,
        Floor::Unknown => low,
    };
    let (committed, surprise) = match found.committed {
        Some(_) if other_topic => (None, Some(Surprise::Recreated)),
        Some(position) if position > high => (None, Some(Surprise::BeyondEnd { position, high })),
        Some(position) if position < low => (
            Some(low),
            Some(Surprise::Lost {
                records: low - position,
            }),
        ),
        committed => (committed, None),
    };
    // Never decided on before: all that is there now is a backlog, and nothing is decided
    // from a backlog as if it were now.
    let decided = committed.unwrap_or(high);
    let live_from = decided.max(floor);
    let snapshot = found
        .snapshot
        .filter(|at| !other_topic && (low..=high).contains(at));
    let start = snapshot.map_or(floor, |at| at.max(floor)).min(live_from);
    Plan {
        start,
        live_from,
        committed: found.committed == Some(live_from) && surprise.is_none(),
        skipped: (live_from.min(floor) - decided).max(0),
        surprise,
    }
}

/// One assigned partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The assignment under which it is read: acks of an earlier one are dropped.
    pub(super) assignment: u64,
    /// Next offset to read.
    pub(super) next: i64,
    /// First offset that may decide.
    pub(super) live_from: i64,
    /// Highest offset stored for the commit.
    pub(super) stored: i64,
    /// Whether anything came since it was assigned or moved.
    pub(super) heard: bool,
    /// The end, when it was last asked for.
    pub(super) high: Option<i64>,
    /// When `next` last moved on.
    pub(super) moved: Monotonic,
    /// When the record read last was produced, or when reading began.
    pub(super) last_time: Timestamp,
    /// The topic's id, if the cluster tells.
    pub(super) topic_id: Option<String>,
    /// What stands in the way of reading on; empty when nothing does.
    pub(super) trouble: String,
    /// A batch that cannot be unpacked and is being passed over.
    pub(super) poison: Option<Poison>,
}

impl Partition {
    pub(super) fn name(&self) -> (Arc<str>, i32) {
        (Arc::clone(&self.topic), self.partition)
    }

    /// All before `next` is read.
    pub(super) fn reach(&mut self, next: i64, now: Now) {
        if next > self.next {
            self.next = next;
            self.moved = now.mono;
        }
    }

    /// `offset` and what follows is to be read again, be the end of the partition seen. A
    /// search for the end of a bad batch begins anew.
    pub(super) fn go_back(&mut self, offset: i64) {
        self.next = self.next.min(offset);
        self.poison = None;
    }
}

/// The assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    list: Vec<Partition>,
    assignment: u64,
}

/// How far all partitions together are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Every partition is at its end or moving.
    pub(super) flowing: bool,
    /// Nothing before `live_from` is left to read.
    pub(super) refilled: bool,
    /// Age of the oldest record not yet read.
    pub(super) lag: Duration,
}

/// What becomes of an acknowledged position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acked {
    /// It is to be stored, with the topic's id beside it.
    Store(Option<String>),
    /// More than that is stored already.
    Behind,
    /// The partition is not ours any more, or was given to us anew since.
    Lost,
}

impl Partitions {
    /// The number of the current assignment; it grows with every change.
    pub(super) fn assignment(&self) -> u64 {
        self.assignment
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.list.iter_mut()
    }

    /// Its place, for [`Partitions::at`]; good until the next assignment changes it.
    pub(super) fn place(&self, topic: &str, partition: i32) -> Option<usize> {
        self.list
            .iter()
            .position(|held| held.partition == partition && &*held.topic == topic)
    }

    pub(super) fn at(&mut self, place: usize) -> Option<&mut Partition> {
        self.list.get_mut(place)
    }

    pub(super) fn get(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.place(topic, partition)
            .and_then(|place| self.at(place))
    }

    /// Takes a partition in, or moves one that is held, under a new assignment.
    pub(super) fn begin(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        plan: &Plan,
        topic_id: Option<String>,
        now: Now,
    ) {
        self.end(topic, partition);
        self.list.push(Partition {
            topic: Arc::clone(topic),
            partition,
            assignment: self.assignment,
            next: plan.start,
            live_from: plan.live_from,
            stored: plan.live_from,
            heard: false,
            high: None,
            moved: now.mono,
            last_time: now.wall,
            topic_id,
            trouble: String::new(),
            poison: None,
        });
    }

    /// Lets a partition go. Acks that are still under way for it will be dropped.
    pub(super) fn end(&mut self, topic: &str, partition: i32) {
        self.assignment += 1;
        self.list
            .retain(|held| held.partition != partition || &*held.topic != topic);
    }

    /// What an ack allows: nothing of a lost partition, nothing backwards. Records before
    /// `live_from` decide nothing, so acks of them store nothing either.
    pub(super) fn acknowledge(
        &mut self,
        topic: &str,
        partition: i32,
        next: i64,
        assignment: u64,
    ) -> Acked {
        match self.get(topic, partition) {
            Some(held) if held.assignment > assignment => Acked::Lost,
            None => Acked::Lost,
            Some(held) if next <= held.stored => Acked::Behind,
            Some(held) => {
                held.stored = next;
                Acked::Store(held.topic_id.clone())
            }
        }
    }

    /// How far they are, `now`; a partition that stands still before its end for longer than
    /// `stall` does not flow.
    pub(super) fn progress(&self, now: Now, stall: Duration) -> Progress {
        let mut progress = Progress {
            flowing: !self.list.is_empty(),
            refilled: !self.list.is_empty(),
            lag: Duration::ZERO,
        };
        for held in &self.list {
            let at_end = held.high.is_some_and(|high| held.next >= high);
            let moving = held.heard && now.mono.since(held.moved) <= stall;
            progress.flowing &= held.trouble.is_empty() && (at_end || moving);
            progress.refilled &= held.next >= held.live_from;
            if !at_end {
                progress.lag = progress.lag.max(now.wall.since(held.last_time));
            }
        }
        progress
    }

    /// The topics and partitions, for look-ups.
    pub(super) fn names(&self) -> Vec<(Arc<str>, i32)> {
        self.list
            .iter()
            .map(|held| (Arc::clone(&held.topic), held.partition))
            .collect()
    }
}

#[cfg(test)]
#[path = "partitions/tests.rs"]
mod tests;
