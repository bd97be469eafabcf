//! The instants of one kind of one node: gathered, known to be whole, and made a ratio.
//!
//! ```text
//!  first part          every part of the set       value out
//!  ----------> waiting ----------> whole ----------> done
//!                 |       set known?  (counters: and the instant before is here)
//!                 +--> dropped, oldest first, when too many wait
//! ```

use std::time::Duration;

use super::parts::{FULL, Kind, Part};
use crate::event::Form;

mod kept;

/// Cores that a node may have. A core with a higher number is passed over.
pub const CORES: usize = 1_024;

/// How far apart the parts of one instant may be. In what collectd really sent they are 10 ms
/// apart at most; a machine under load takes longer.
pub const TOLERANCE: Duration = Duration::from_millis(300);

/// Instants that must add no part to the set before it is taken for whole, and times that as many
/// parts as the set has must come. With records spread over the partitions at random, one
/// that stands still hides a part of every instant, and hides the same part three times
/// running only rarely.
pub const LEARN: usize = 3;

/// The same where a core's number is missing. Then it is more likely that its parts are.
pub const LEARN_WITH_HOLES: usize = 12;

/// Instants that may wait for their last parts: at one in 10 s, those of ten minutes, which is
/// how late a part may be.
pub const WAITING: usize = 60;

/// Cores in all waiting instants (24 bytes each), so that large machines cost no more.
pub const WAITING_CELLS: usize = 4_096;

/// Instants that came out and are remembered, so that a part sent again opens none anew.
/// One that is sent again as a whole after that comes out again with the same time and value,
/// which the windows know for a duplicate.
const DONE: usize = 32;

/// Whole instants of counters that are kept for the difference to their neighbours.
const COUNTED: usize = 8;

/// A silence after which the set is learned anew, unless three intervals are longer.
const SILENCE: i64 = 60_000;

/// A part that was in no instant for this long is no part any more, unless ten intervals are
/// longer.
const FORGET: i64 = 120_000;

/// The interval to go by when the agent tells none.
const INTERVAL: i64 = 40_000;

/// `USER_HZ` is 100.
const MILLIS_PER_JIFFY: u64 = 10;

/// States `user` and `system`: where they are sent, all are.
const USER_AND_SYSTEM: u16 = 0b110;

/// The set of a memory that tells of nothing but what is used: of how much is not known.
const USED_ALONE: u16 = 1;

/// What one core has in one instant.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// The state that the ratio is of: idle or used.
    marked: u64,
    /// The sum of all states.
    total: u64,
    states: u16,
}

#[derive(Debug)]
struct Instant {
    /// The time of the part that came first: what the others are compared with.
    anchor: i64,
    /// The time of the newest part.
    time: i64,
    parts: usize,
    /// By core.
    cells: Vec<Cell>,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Instants {
    /// In order of time.
    waiting: Vec<Instant>,
    /// Times of instants that came out, oldest first.
    done: Vec<i64>,
    /// Whole instants of counters, in order of time.
    counted: Vec<Instant>,
    /// By core, when it was last seen; none if it is not in the set.
    cores: Vec<Option<i64>>,
    /// By state, the same.
    states: [Option<i64>; 16],
    /// Anchor of the newest instant, once there is one.
    newest: Option<i64>,
    /// Cores in the set.
    members: usize,
    /// Instants begun since the set last grew.
    steady: usize,
    /// Parts that came since then.
    known_parts: usize,
}

impl Instants {
    pub(super) fn push(&mut self, kind: Kind, part: &Part, mut out: impl FnMut(i64, f64)) {
        let tolerance = tolerance(part.interval);
        let near = |time: i64| (time - part.time).abs() <= tolerance;
        if self.done.iter().any(|time| near(*time)) {
            return;
        }
        let at = match self.waiting.iter().position(|it| near(it.anchor)) {
            Some(at) => at,
            None => match self.open(part) {
                Some(at) => at,
                None => return,
            },
        };
        self.learn(part);
        let Some(instant) = self.waiting.get_mut(at) else {
            return;
        };
        instant.take(part);
        if !self.known() {
            return;
        }
        // Usually this instant alone can have become whole, but when the set has just become
        // known, or has shrunk, others may have waited for that.
        let (cores, states) = (&self.cores, self.state_set());
        let parts = self.members * states.count_ones() as usize;
        let whole = |it: &mut Instant| it.parts >= parts && it.has_all(cores, states);
        let whole: Vec<Instant> = self.waiting.extract_if(.., whole).collect();
        for instant in whole {
            self.finish(kind, instant, states, part.interval, &mut out);
        }
    }

    /// Begins an instant with `part`; none if it is older than all that may wait.
    fn open(&mut self, part: &Part) -> Option<usize> {
        let silence = SILENCE.max(part.interval.saturating_mul(3));
        let forget = FORGET.max(part.interval.saturating_mul(10));
        self.steady += 1;
        if let Some(newest) = self.newest.filter(|newest| part.time > *newest) {
            self.forget(newest.saturating_sub(forget));
            if part.time.saturating_sub(newest) > silence {
                self.begin_to_learn();
            }
        }
        self.newest = self.newest.max(Some(part.time));
        let cores = self.cores.len().max(part.core + 1);
        let bound = (WAITING_CELLS / cores).clamp(2, WAITING);
        let mut at = self.waiting.partition_point(|it| it.anchor < part.time);
        while self.waiting.len() >= bound {
            if at == 0 {
                return None;
            }
            self.waiting.remove(0);
            at -= 1;
        }
        let instant = Instant {
            anchor: part.time,
            time: part.time,
            parts: 0,
            cells: Vec::with_capacity(cores),
        };
        self.waiting.insert(at, instant);
        Some(at)
    }

    /// Adds the part to the set, or notes that it is still sent.
    fn learn(&mut self, part: &Part) {
        if self.cores.len() <= part.core {
            self.cores.resize(part.core + 1, None);
        }
        let core = self.cores.get_mut(part.core);
        let state = self.states.get_mut(part.state.trailing_zeros() as usize);
        let (Some(core), Some(state)) = (core, state) else {
            return;
        };
        let (new_core, new_state) = (core.is_none(), state.is_none());
        *core = (*core).max(Some(part.time));
        *state = (*state).max(Some(part.time));
        self.members += usize::from(new_core);
        if new_core || new_state {
            self.begin_to_learn();
        }
        self.known_parts += 1;
    }

    fn begin_to_learn(&mut self) {
        self.steady = 0;
        self.known_parts = 0;
    }

    /// Takes out of the set what was last seen before `gone`.
    fn forget(&mut self, gone: i64) {
        for seen in self.cores.iter_mut().chain(&mut self.states) {
            *seen = seen.filter(|seen| *seen >= gone);
        }
        while self.cores.last().is_some_and(Option::is_none) {
            self.cores.pop();
        }
        self.members = self.cores.iter().flatten().count();
    }

    /// Whether the set is taken for whole.
    fn known(&self) -> bool {
        let holes = self.members < self.cores.len();
        let times = if holes { LEARN_WITH_HOLES } else { LEARN };
        let parts = self.members * self.state_set().count_ones() as usize;
        self.steady >= times && self.known_parts >= times * parts
    }

    fn state_set(&self) -> u16 {
        let states = self.states.iter().zip(0..);
        states.fold(0, |set, (seen, bit)| set | u16::from(seen.is_some()) << bit)
    }

    /// Makes a value of a whole instant.
    fn finish(
        &mut self,
        kind: Kind,
        instant: Instant,
        states: u16,
        interval: i64,
        out: &mut impl FnMut(i64, f64),
    ) {
        let at = self.done.partition_point(|time| *time < instant.time);
        self.done.insert(at, instant.time);
        if self.done.len() > DONE {
            self.done.remove(0);
        }
        if kind.form != Form::CpuCounter {
            if let Some(value) = self.ratio(kind, &instant.cells, states, FULL) {
                out(instant.time, value);
            }
            return;
        }
        let at = self.counted.partition_point(|it| it.time < instant.time);
        self.counted.insert(at, instant);
        let interval = if interval > 0 { interval } else { INTERVAL };
        // The new one is the later of one pair and the earlier of the next.
        let pairs = self
            .counted
            .windows(2)
            .take(at + 1)
            .skip(at.saturating_sub(1));
        for pair in pairs {
            if let [before, after] = pair
                && let Ok(took) = u64::try_from(after.time - before.time)
                && after.time - before.time <= interval.saturating_mul(3) / 2
                && let Some(growth) = after.growth(before)
                && let Some(value) = self.ratio(kind, &growth, states, took / MILLIS_PER_JIFFY)
            {
                out(after.time, value);
            }
        }
        if self.counted.len() > COUNTED {
            self.counted.remove(0);
        }
    }

    /// The ratio of what is in `cells`; `full` is what a core has in all if its states do not tell.
    fn ratio(&self, kind: Kind, cells: &[Cell], states: u16, full: u64) -> Option<f64> {
        if kind.form == Form::MemoryBytes {
            let memory = cells.first()?;
            let told = states & USED_ALONE != states && memory.total > 0;
            return (told && states & 1 == 1).then(|| memory.marked as f64 / memory.total as f64);
        }
        if states & 1 == 0 {
            return None;
        }
        let mut busy = 0.0;
        for (cell, _) in cells
            .iter()
            .zip(&self.cores)
            .filter(|(_, seen)| seen.is_some())
        {
            let all = if states & USER_AND_SYSTEM == USER_AND_SYSTEM {
                cell.total
            } else {
                full
            };
            if all == 0 {
                return None;
            }
            busy += all.saturating_sub(cell.marked) as f64 / all as f64;
        }
        (self.members > 0).then(|| busy / self.members as f64)
    }

    pub(super) fn bytes(&self) -> usize {
        let instants = self.waiting.iter().chain(&self.counted);
        let cells: usize = instants.map(|it| it.cells.capacity()).sum();
        cells * size_of::<Cell>()
            + (self.waiting.capacity() + self.counted.capacity()) * size_of::<Instant>()
            + self.cores.capacity() * size_of::<Option<i64>>()
            + self.done.capacity() * size_of::<i64>()
    }
}

impl Instant {
    /// Takes a part in. One that is in already is a duplicate and carries the same value.
    fn take(&mut self, part: &Part) {
        if self.cells.len() <= part.core {
            self.cells.resize(part.core + 1, Cell::default());
        }
        let Some(cell) = self.cells.get_mut(part.core) else {
            return;
        };
        if cell.states & part.state != 0 {
            return;
        }
        cell.states |= part.state;
        cell.total = cell.total.saturating_add(part.value);
        if part.state == 1 {
            cell.marked = part.value;
        }
        self.parts += 1;
        self.time = self.time.max(part.time);
    }

    /// Whether each core of the set has each state of the set.
    fn has_all(&self, cores: &[Option<i64>], states: u16) -> bool {
        let has = |core: usize| {
            let cell = self.cells.get(core);
            cell.is_some_and(|cell| cell.states & states == states)
        };
        let mut set = cores.iter().enumerate().filter(|(_, seen)| seen.is_some());
        set.all(|(core, _)| has(core))
    }

    /// What the counters grew by since `before`; none if one fell.
    fn growth(&self, before: &Instant) -> Option<Vec<Cell>> {
        if self.cells.len() != before.cells.len() {
            return None;
        }
        let cells = self.cells.iter().zip(&before.cells).map(|(now, then)| {
            (now.states == then.states).then_some(Cell {
                marked: now.marked.checked_sub(then.marked)?,
                total: now.total.checked_sub(then.total)?,
                states: now.states,
            })
        });
        cells.collect()
    }
}

/// How far apart the parts of one instant may be, in milliseconds.
fn tolerance(interval: i64) -> i64 {
    let most = i64::try_from(TOLERANCE.as_millis()).unwrap_or(i64::MAX);
    if interval > 0 {
        most.min(interval / 3)
    } else {
        most
    }
}
